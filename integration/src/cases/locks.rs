//! Programs of a machine ask for locks, which netbe does not give.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::failure::{During, Failure};
use crate::guest;
use crate::lab::Lab;
use crate::process::Program;
use crate::scene::{Scene, mac};
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[Case::new("client locks", locks)];

/// Linux's client asks for locks where it mounted without `nolock`: its programs are told at once that
/// there are none, and with `nolock` they have them.
fn locks(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    scene.environment("guest", include_str!("../../guest/locks.sh"))?;
    let root = site.root("guest");
    guest::furnish_debian(&lab.cache, &root, PACKAGES)?;
    install(&scene.directory, &root)?;
    site.machine("alone", &mac(1), "guest")?;
    site.run("create scratch")?;
    site.run("sharenfs --maproot root --network 10.77.0.0/24 scratch")?;
    let server = site.serve()?;
    scene.boots("alone", Firmware::Bios, "guest")?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// Builds the guest's program and puts it onto its root.
fn install(directory: &Path, root: &Path) -> Result<(), Failure> {
    let source = directory.join("locks.c");
    fs::write(&source, include_str!("../../guest/locks.c")).during(source.display())?;
    Program::new("gcc")
        .words("-std=gnu11 -O2 -Wall -Wextra -Werror -static -o")
        .arg(root.join("lab/locks"))
        .arg(&source)
        .run(Duration::from_secs(60))
        .map(drop)
}

/// What of Debian the guest's kernel needs to ask for locks at all.
const PACKAGES: &str = "netbase,nfs-common,rpcbind";

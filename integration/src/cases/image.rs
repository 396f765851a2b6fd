//! A real FreeBSD boots to its login, from an image that the user names: none can be had here, and none may
//! be shipped.

use std::env;
use std::fs;
use std::os::unix;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::process::Program;
use crate::scene::{Scene, mac, with_log};
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[
    Case::new("freebsd image by BIOS", bios).long(),
    Case::new("freebsd image by UEFI", uefi).long(),
];

fn bios(lab: &Lab) -> Result<Outcome, Failure> {
    boots(lab, Firmware::Bios)
}

fn uefi(lab: &Lab) -> Result<Outcome, Failure> {
    boots(lab, Firmware::Uefi)
}

/// The image is installed, checked, and booted with netbe's defaults until it asks who wants to log in.
fn boots(lab: &Lab, firmware: Firmware) -> Result<Outcome, Failure> {
    let Some(image) = env::var_os(IMAGE) else {
        return Ok(Outcome::Skipped(format!(
            "{IMAGE} names no FreeBSD root, which is a directory or a tar archive with /boot in it"
        )));
    };
    let scene = Scene::new(lab)?;
    let site = scene.site();
    let archive = archive(Path::new(&image), &scene.directory)?;
    let install = format!("install -o tar -l flat head -p {}", archive.display());
    site.netbe(&install).run(INSTALL_LIMIT)?;
    let verdict = site.run("check head")?;
    let fields: Vec<_> = verdict.lines().last().unwrap_or_default().split_whitespace().collect();
    ensure(fields == ["head", "FreeBSD", "boots", "boots"], || verdict.clone())?;
    site.machine("desk", &mac(1), "head")?;
    site.run("machine set --serial desk")?;
    let server = site.serve()?;
    let mut machine = scene.switch_on("desk", firmware, 1)?;
    let login = wait_for("its login prompt", LOGIN_LIMIT, || {
        machine.still_on()?;
        Ok(machine.said().contains("login:").then_some(()))
    });
    login.map_err(|failure| machine.explain(with_log(&site, failure)))?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// The image as an archive: a directory is packed, an archive is taken as it is.
fn archive(image: &Path, directory: &Path) -> Result<PathBuf, Failure> {
    let archive = directory.join("image.tar");
    let image = fs::canonicalize(image).during(format!("{IMAGE}={}", image.display()))?;
    if image.is_dir() {
        let tar = Program::new("tar").arg("--numeric-owner").arg("-C").arg(&image);
        tar.arg("-cf").arg(&archive).arg(".").run(INSTALL_LIMIT)?;
    } else {
        unix::fs::symlink(&image, &archive).during(archive.display())?;
    }
    Ok(archive)
}

/// The variable that names the image.
const IMAGE: &str = "NETBE_FREEBSD_IMAGE";

/// How long an image may take to be packed, and to be unpacked.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// How long a loader's thousands of small reads and a whole system's start may take without KVM.
const LOGIN_LIMIT: Duration = Duration::from_secs(1200);

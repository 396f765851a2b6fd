//! A boot environment of several file systems, as one tree and each by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::process::{Program, tail};
use crate::proof::{proof, token};
use crate::scene::{BOOT_LIMIT, Scene, mac, with_log};
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[Case::new("boot joined and split", joined_and_split)];

/// A machine lives on a root of three file systems as on one while netbe is killed and starts again;
/// then it boots anew and mounts each by the fstab that netbe writes.
fn joined_and_split(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let program = scene.directory.join("netbe");
    let root = scene.site().root("guest");
    write_program(&program, lab.netbe()?, &scene.directory, &root)?;
    let scene = scene.with_netbe(program);
    let site = scene.site();
    site.run("create -l linux guest")?;
    lab.parts()?.furnish(&root, include_str!("../../guest/joined.sh"))?;
    for disk in ["home", "log"] {
        let image = scene.directory.join(format!("{disk}.img"));
        let file = fs::File::create(&image).during(image.display())?;
        file.set_len(32 << 20).during(image.display())?;
        Program::new("mkfs.ext4").arg("-q").arg(&image).run(Duration::from_secs(60))?;
    }
    site.machine("nested", &mac(1), "guest")?;
    let mut server = site.serve()?;
    let boot = |what: &str| -> Result<_, Failure> {
        let token = token(&root, "nested")?;
        Ok((token, scene.switch_on(what, Firmware::Bios, 1)?))
    };
    let ended = |token: &_, failure| -> Result<(), Failure> {
        let result: Result<(), Failure> = failure;
        result.and_then(|()| proof(&root, token, "nested")).map_err(|failure| {
            let log = tail(&root.join("lab/log"), 20);
            with_log(&site, failure.retold(|words| format!("{words}\nthe task said:\n{log}")))
        })
    };

    let (shown, mut machine) = boot("joined")?;
    let ready = wait_for("the guest to be ready", BOOT_LIMIT, || {
        machine.still_on()?;
        Ok(fs::exists(root.join("lab/phase")).unwrap_or_default().then_some(()))
    });
    ended_early(&root, ready).map_err(|failure| machine.explain(with_log(&site, failure)))?;
    server.kill();
    server = site.serve()?;
    let off = machine.wait_until_off(BOOT_LIMIT).map(drop);
    ended(&shown, off)?;

    site.run("machine set --view split nested")?;
    let fstab = site.run("show fstab --machine nested guest")?;
    ensure(fstab.lines().any(|line| line.contains("/be/guest/var/log")), || fstab.clone())?;
    fs::write(root.join("etc/fstab"), &fstab).during("etc/fstab")?;
    fs::write(root.join("lab/task"), include_str!("../../guest/split.sh")).during("lab/task")?;
    let (shown, mut machine) = boot("split")?;
    let off = machine.wait_until_off(BOOT_LIMIT).map(drop);
    ended(&shown, off)?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// What the guest's task said, if it ended before it was ready.
fn ended_early(root: &Path, result: Result<(), Failure>) -> Result<(), Failure> {
    let log = || tail(&root.join("lab/log"), 20);
    result.map_err(|failure| failure.retold(|words| format!("{words}\nthe task said:\n{}", log())))
}

/// Puts netbe with its disks where a program can be called by its path alone.
fn write_program(path: &Path, netbe: &Path, disks: &Path, below: &Path) -> Result<(), Failure> {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let (netbe, disks, below) = (quoted(netbe), quoted(disks), quoted(below));
    let head = format!("#!/bin/sh\nexport NETBE={netbe} DISKS={disks} BELOW={below}\n");
    let script = include_str!("../../guest/disks.sh");
    fs::write(path, head + script).during(path.display())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).during(path.display())
}

//! Empty machines boot from netbe, and leave a marker on their roots.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::chain::{self, Chain};
use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::process::{Program, tail};
use crate::proof::{proof, token};
use crate::scene::{BOOT_LIMIT, Scene, mac, with_log};
use crate::server::{Server, Site};
use crate::suite::{Case, Outcome};
use crate::vm::{Firmware, Machine};

pub(super) const CASES: &[Case] = &[
    Case::new("boot BIOS", |lab| alone(lab, &chain::BIOS)),
    Case::new("boot UEFI", |lab| alone(lab, &chain::UEFI)),
    Case::new("boot UEFI HTTP", |lab| alone(lab, &chain::UEFI_HTTP)),
    Case::new("boot pxelinux", |lab| alone(lab, &chain::PXELINUX)),
    Case::new("boot lpxelinux", |lab| alone(lab, &chain::LPXELINUX)),
    Case::new("boot GRUB UEFI", |lab| alone(lab, &chain::GRUB)),
    Case::new("boot shim and GRUB", |lab| alone(lab, &chain::SHIM)),
    Case::new("boot GRUB BIOS", |lab| alone(lab, &chain::GRUB_BIOS)),
    Case::new("boot four machines at once", four).machines(),
    Case::new("boot and kill the server", killed),
];

/// One machine boots: firmware, loader, kernel and root all come from netbe.
fn alone(lab: &Lab, chain: &Chain) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    scene.environment("guest", "test -c /dev/console")?;
    chain.machine(lab, &scene.site(), "alone", &mac(1), "guest")?;
    let capture = scene.capture("")?;
    let server = scene.site().serve()?;
    scene.boots("alone", chain.firmware, "guest")?;
    server.stop()?;
    capture.check()?;
    Ok(Outcome::Passed)
}

/// Four machines boot at the same time, each from a clone of its own.
fn four(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    scene.environment("golden", "test -c /dev/console")?;
    let names = ["north", "east", "south", "west"];
    let mut tokens = Vec::new();
    for (number, name) in (1..).zip(names) {
        site.run(&format!("clone golden {name}"))?;
        site.machine(name, &mac(number), name)?;
        tokens.push(token(&site.root(name), name)?);
    }
    let capture = scene.capture("")?;
    let server = site.serve()?;
    let mut machines = Vec::new();
    for (number, name) in (1..).zip(names) {
        // Both kinds of firmware at once.
        let firmware = if number % 2 == 0 { Firmware::Uefi } else { Firmware::Bios };
        machines.push(scene.switch_on(name, firmware, number)?);
    }
    for machine in &mut machines {
        machine.wait_until_off(BOOT_LIMIT).map_err(|failure| with_log(&site, failure))?;
    }
    for ((name, token), machine) in names.iter().zip(&tokens).zip(&machines) {
        proof(&site.root(name), token, name).map_err(|failure| machine.explain(failure))?;
    }
    server.stop()?;
    capture.check()?;
    Ok(Outcome::Passed)
}

/// netbe is killed while the guest writes, and again while it reads; every file is intact.
fn killed(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    scene.environment("guest", include_str!("../../guest/traffic.sh"))?;
    site.machine("survivor", &mac(1), "guest")?;
    let root = site.root("guest");
    let token = token(&root, "survivor")?;
    // The files themselves would make a capture of half a gigabyte.
    let capture = scene.capture("not tcp port 2049")?;
    let server = site.serve()?;
    let mut machine = scene.switch_on("survivor", Firmware::Bios, 1)?;
    let server = kill_meanwhile(&site, &root, &mut machine, server)?;
    machine.wait_until_off(BOOT_LIMIT).map_err(|failure| with_log(&site, failure))?;
    proof(&root, &token, "survivor").map_err(|failure| {
        let log = tail(&root.join("lab/log"), 20);
        machine.explain(Failure::said(format!("{failure}\nthe guest's task said:\n{log}")))
    })?;
    server.stop()?;
    traffic_is_intact(&root)?;
    capture.check()?;
    Ok(Outcome::Passed)
}

/// Kills netbe by SIGKILL while the guest of `machine` writes and reads, and starts it again each
/// time; gives the one that runs in the end.
pub(crate) fn kill_meanwhile(
    site: &Site<'_>,
    root: &Path,
    machine: &mut Machine,
    mut server: Server,
) -> Result<Server, Failure> {
    for moment in MOMENTS {
        let result = wait_for(&format!("the guest to {moment}"), BOOT_LIMIT, || {
            machine.still_on()?;
            let phase = fs::read_to_string(root.join("lab/phase")).unwrap_or_default();
            Ok((progress(&phase) >= progress(moment)).then_some(phase))
        });
        let phase = result.map_err(|failure| machine.explain(with_log(site, failure)))?;
        ensure(progress(&phase) < Some((DONE, 0)), || {
            format!("the guest was done before netbe could be killed in {moment}")
        })?;
        server.kill();
        server = site.serve()?;
    }
    Ok(server)
}

/// Removes what an earlier boot of the same root wrote, so that nothing is taken for this boot's.
pub(crate) fn forget_traffic(root: &Path) -> Result<(), Failure> {
    for name in ["lab/phase", "lab/sums", "lab/marker"] {
        match fs::remove_file(root.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).during(name);
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Compares what lies on the server's disk with the guest's checksums; gives the number of files.
///
/// The guest compares through NFS.
pub(crate) fn traffic_is_intact(root: &Path) -> Result<u32, Failure> {
    Program::new("md5sum")
        .words("--check --quiet --strict sums")
        .directory(&root.join("lab"))
        .run(Duration::from_secs(120))?;
    let sums = fs::read_to_string(root.join("lab/sums")).during("lab/sums")?;
    ensure(sums.lines().count() == 12, || format!("the guest wrote other files:\n{sums}"))?;
    Ok(12)
}

/// How far a guest is that tells its phase, as in `write 3`; nothing until it has begun.
fn progress(phase: &str) -> Option<(u8, u8)> {
    let mut words = phase.split_whitespace();
    let step = match words.next()? {
        "write" => 0,
        "read" => 1,
        "done" => DONE,
        _other => return None,
    };
    Some((step, words.next().unwrap_or("0").parse().ok()?))
}

/// When netbe is killed, in the words of `guest/traffic.sh`.
const MOMENTS: [&str; KILLS as usize] = ["write 3", "write 8", "read 2", "read 6"];
/// How often that is.
pub(crate) const KILLS: u32 = 4;
/// The step of a guest that has done everything.
const DONE: u8 = 2;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn phases_follow_each_other() {
        let phases = ["", "write 3", "write 11", "read 0", "read 6", "done\n"];
        assert!(phases.map(progress).is_sorted_by(|one, next| one < next));
    }
}

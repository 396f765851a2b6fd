//! Machines boot with the initial RAM disk that netbe makes for an environment.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::SERVER;
use crate::process::Program;
use crate::proof::{proof, token};
use crate::scene::{BOOT_LIMIT, Scene, mac, with_log};
use crate::server::Site;
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[
    Case::new("initramfs mounts every data set by itself", split),
    Case::new("initramfs keeps changes to a read-only root in memory", overlay),
    Case::new("initramfs says that its root is missing, and waits for it", missing),
];

/// The machine mounts its root and each data set of it, and what it writes arrives in them.
fn split(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create -l linux guest")?;
    let task = "grep -q ' /var/log nfs rw,' /proc/mounts && grep -q ' /home nfs rw,' /proc/mounts \
        && echo here >/home/guest && test -f /run/net-eth0.conf";
    furnish(lab, &site, task)?;
    site.machine("alone", &mac(1), "guest")?;
    site.run("machine set --view split alone")?;
    let root = site.root("guest");
    let server = site.serve()?;
    scene.boots("alone", Firmware::Bios, "guest")?;
    let written = fs::read_to_string(root.join("home/guest")).during("home/guest")?;
    ensure(written == "here\n", || format!("the guest wrote {written:?}"))?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// The machine writes all over a root that nobody may write to, and not a byte of it changes.
fn overlay(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create guest")?;
    let task = "grep -q ' / overlay rw,' /proc/mounts && echo changed >/etc/os-release \
        && rm /lab/removed && mkdir /etc/new && echo 'the root can be changed' >/dev/console";
    furnish(lab, &site, task)?;
    let root = site.root("guest");
    fs::write(root.join("lab/removed"), "").during("lab/removed")?;
    site.machine("alone", &mac(1), "guest")?;
    site.run("machine set --ro alone")?;
    let token = token(&root, "alone")?;
    let before = inventory(&root)?;
    let server = site.serve()?;
    let mut machine = scene.switch_on("alone", Firmware::Uefi, 1)?;
    machine.wait_until_off(BOOT_LIMIT).map_err(|failure| with_log(&site, failure))?;
    // Its marker is in its memory, and on the console.
    let said = machine.said();
    for words in ["the root can be changed", &format!("token={token}"), "task=0"] {
        ensure(said.contains(words), || format!("the guest did not say {words:?}"))
            .map_err(|failure| machine.explain(with_log(&site, failure)))?;
    }
    let after = inventory(&root)?;
    ensure(after == before, || format!("the root was changed:\n{before}\nis now\n{after}"))?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// The machine is sent to a root that does not exist: it says so on its console, and boots once
/// somebody has made it.
fn missing(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create guest")?;
    furnish(lab, &site, "true")?;
    site.machine("alone", &mac(1), "guest")?;
    let mut set = site.netbe("machine set alone --cmdline");
    set = set.arg(format!("console=ttyS0 nfsroot={SERVER}:/be/later"));
    set.run(Duration::from_secs(120))?;
    let server = site.serve()?;
    let mut machine = scene.switch_on("alone", Firmware::Bios, 1)?;
    let sentence =
        format!("netbe: cannot mount {SERVER}:/be/later: the server does not export that path");
    wait_for("the sentence on the console", BOOT_LIMIT, || {
        machine.still_on()?;
        Ok(machine.said().contains(&sentence).then_some(()))
    })
    .map_err(|failure| machine.explain(with_log(&site, failure)))?;
    site.run("clone guest later")?;
    let token = token(&site.root("later"), "alone")?;
    site.run("sharenfs --machine alone --maproot root later")?;
    machine.wait_until_off(BOOT_LIMIT).map_err(|failure| with_log(&site, failure))?;
    proof(&site.root("later"), &token, "alone")
        .map_err(|failure| machine.explain(with_log(&site, failure)))?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// Makes the environment `guest` one that boots with netbe's RAM disk only.
fn furnish(lab: &Lab, site: &Site<'_>, task: &str) -> Result<(), Failure> {
    let (root, parts) = (site.root("guest"), lab.parts()?);
    parts.furnish(&root, task)?;
    fs::remove_file(root.join("boot/initrd.img")).during("boot/initrd.img")?;
    parts.furnish_modules(&root)?;
    site.run("install --initramfs guest")?;
    Ok(())
}

/// Every file below a directory with what a guest could change of it.
fn inventory(root: &Path) -> Result<String, Failure> {
    let list = Program::new("find").words("-printf %p|%y|%m|%s|%T@|%C@|%l\\n").directory(root);
    let list = list.run(Duration::from_secs(60))?;
    let mut lines: Vec<&str> = list.lines().filter(|line| !line.contains("/modules/")).collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

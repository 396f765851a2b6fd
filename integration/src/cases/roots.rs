//! Machines with roots of their own: made while they boot, upgraded, and put back.

use std::fs;
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::proof::{proof, token};
use crate::scene::{BOOT_LIMIT, Scene, mac, with_log};
use crate::server::Site;
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[
    Case::new("roots upgraded and put back", upgraded),
    Case::new("roots that are fresh at every boot", fresh),
];

/// A machine writes into a root of its own, boots the template's next version once with what it wrote,
/// is back with its old root at the boot after, and then kept on the new one.
fn upgraded(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create -l linux head")?;
    site.run("set data=home head")?;
    lab.parts()?.furnish(&site.root("head"), &format!("{TASK} && echo data >>/home/desk"))?;
    write(&site, "head", "etc/motd", "first\nsecond\nthird\n")?;
    site.run(&format!("machine add --mac {} --cmdline console=ttyS0 desk", mac(1)))?;
    site.run("sharepxe --machine desk --root own head")?;
    let server = site.serve()?;
    let boot = |environment: &str| scene.boots("desk", Firmware::Bios, environment);
    boot("desk-head")?;
    is(&site, "desk-head", "etc/motd", "first\nsecond\nthird\nwritten by desk\n")?;

    site.run("clone head next")?;
    write(&site, "next", "etc/motd", "first, of the next version\nsecond\nthird\n")?;
    write(&site, "next", "etc/os-release", "NAME=next\n")?;
    let plan = site.run("upgrade desk next")?;
    ensure(plan.contains("merge     /etc/motd\n"), || {
        format!("the upgrade was shown as:\n{plan}")
    })?;
    boot("desk-next")?;
    is(&site, "desk-next", "etc/os-release", "NAME=next\n")?;
    let merged = "first, of the next version\nsecond\nthird\nwritten by desk\nwritten by desk\n";
    is(&site, "desk-next", "etc/motd", merged)?;

    // Nobody has said that it is to stay there.
    boot("desk-head")?;
    site.run("activate desk desk-next")?;
    boot("desk-next")?;
    site.run("activate desk desk-head")?;
    boot("desk-head")?;
    // Its data were the same in all five boots, and in none of its roots.
    is(&site, "desk-data", "home/desk", &"data\n".repeat(5))?;
    for root in ["desk-head", "desk-next"] {
        let own = site.root(root).join("home/desk");
        ensure(!own.exists(), || format!("{} is there", own.display()))?;
    }
    server.stop()?;
    Ok(Outcome::Passed)
}

/// A machine gets a new root at each boot, while its loader waits: what it wrote before is gone.
fn fresh(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    // A root that was written to before fails the task.
    scene.environment("head", &format!("test ! -e /etc/motd && {TASK}"))?;
    site.run(&format!("machine add --mac {} --cmdline console=ttyS0 desk", mac(1)))?;
    site.run("sharepxe --machine desk --root fresh head")?;
    let token = token(&site.root("head"), "desk")?;
    let server = site.serve()?;
    // The second is made before the first is destroyed, and so gets another name.
    for (number, firmware, name, gone) in [
        (1, Firmware::Bios, "desk-head", "desk-head-2"),
        (2, Firmware::Uefi, "desk-head-2", "desk-head"),
    ] {
        let (title, limit) = (format!("desk{number}"), BOOT_LIMIT);
        let mut machine = scene.switch_on(&title, firmware, 1)?;
        machine.wait_until_off(limit).map_err(|failure| with_log(&site, failure))?;
        proof(&site.root(name), &token, "desk")
            .map_err(|failure| machine.explain(with_log(&site, failure)))?;
        // The machine was asked for up to ten seconds whether it lives, and may be unknown for a minute.
        wait_for(&format!("{gone} is gone after boot {number}"), Duration::from_secs(90), || {
            Ok((!site.root(gone).exists()).then_some(()))
        })
        .map_err(|failure| with_log(&site, failure))?;
    }
    ensure(!site.root("head").join("lab/marker").exists(), || {
        "the machine wrote into its template".to_owned()
    })?;
    server.stop()?;
    Ok(Outcome::Passed)
}

fn write(site: &Site<'_>, environment: &str, path: &str, text: &str) -> Result<(), Failure> {
    fs::write(site.root(environment).join(path), text).during(path)
}

fn is(site: &Site<'_>, environment: &str, path: &str, text: &str) -> Result<(), Failure> {
    let found = fs::read_to_string(site.root(environment).join(path)).during(path)?;
    ensure(found == text, || format!("{path} of {environment} is {found:?}"))
}

/// What the guest does.
const TASK: &str = "echo 'written by desk' >>/etc/motd";

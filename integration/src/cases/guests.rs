//! Guests that netbe itself starts in QEMU: `bootnfs` and `bootpxe`.

use std::fs;
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::lab::Lab;
use crate::net::BRIDGE;
use crate::process::tail;
use crate::proof::{proof, token};
use crate::scene::{BOOT_LIMIT, Scene, mac, with_log};
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("boot a guest by bootnfs", |lab| guest(lab, "bootnfs", "")),
    Case::new("boot a guest by bootpxe, BIOS", |lab| guest(lab, "bootpxe", "")),
    Case::new("boot a guest by bootpxe in a bridge, with its console here", bridged),
    Case::new("boot a guest by bootpxe, UEFI", |lab| guest(lab, "bootpxe", " --firmware uefi")),
];

/// Root says a bridge and nothing else, on a host with another network: netbe makes the guest's interface, of
/// which nothing is left, and the system talks to the terminal.
fn bridged(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    scene.network.server.ip("link add other0 type bridge")?;
    scene.network.server.ip("address add 192.0.2.1/24 dev other0")?;
    scene.network.server.ip("link set other0 up")?;
    let site = scene.site();
    scene.environment("guest", "test -c /dev/console")?;
    let add = site.netbe("machine add --environment guest --mac").arg(mac(1));
    let add = add.args(["--cmdline", "no_timer_check panic=-1", "alone"]);
    add.run(Duration::from_secs(120))?;
    let words = format!("bootpxe --serial --machine alone --bridge {BRIDGE} --memory 512 guest");
    let said = boots(&scene, &words)?;
    for words in ["alone boots guest", "Linux version ", "console=ttyS0,115200"] {
        ensure(said.contains(words), || format!("the terminal has no {words:?}: {said}"))?;
    }
    let links = scene.network.server.program("ip").words("-o link show type tun");
    let links = links.run(Duration::from_secs(20))?;
    ensure(links.is_empty(), || format!("there is left: {links}"))?;
    Ok(Outcome::Passed)
}

/// netbe starts the guest of a named machine, which leaves its marker on its root.
fn guest(lab: &Lab, verb: &str, options: &str) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    scene.environment("guest", "test -c /dev/console")?;
    site.machine("alone", &mac(1), "guest")?;
    scene.network.tap("tap-alone")?;
    let words = format!("{verb} --machine alone --tap tap-alone --memory 512{options} guest");
    boots(&scene, &words)?;
    Ok(Outcome::Passed)
}

/// Runs the guest of the machine `alone` beside a server until it has proven its root, and gives what it said.
fn boots(scene: &Scene<'_>, words: &str) -> Result<String, Failure> {
    let site = scene.site();
    let server = site.serve()?;
    let token = token(&site.root("guest"), "alone")?;
    let log = scene.directory.join("guest.log");
    let mut running = site.netbe(words).start(&log)?;
    let explain = |failure| {
        with_log(&site, failure)
            .retold(|said| format!("netbe {words}: {said}\nthe guest:\n{}", tail(&log, 25)))
    };
    let status = running.wait(BOOT_LIMIT).map_err(explain)?;
    ensure(status.success(), || status.to_string()).map_err(explain)?;
    proof(&site.root("guest"), &token, "alone").map_err(explain)?;
    server.stop()?;
    let said = fs::read(&log).during(log.display())?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

//! Guests that netbe itself starts in QEMU: `bootnfs` and `bootpxe`.

use crate::failure::{Failure, ensure};
use crate::lab::Lab;
use crate::process::tail;
use crate::proof::{proof, token};
use crate::scene::{BOOT_LIMIT, Scene, mac, with_log};
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("boot a guest by bootnfs", |lab| guest(lab, "bootnfs", "")),
    Case::new("boot a guest by bootpxe, BIOS", |lab| guest(lab, "bootpxe", "")),
    Case::new("boot a guest by bootpxe, UEFI", |lab| guest(lab, "bootpxe", " --firmware uefi")),
];

/// netbe starts the guest of a named machine, which leaves its marker on its root.
fn guest(lab: &Lab, verb: &str, options: &str) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    scene.environment("guest", "test -c /dev/console")?;
    site.machine("alone", &mac(1), "guest")?;
    let server = site.serve()?;
    let token = token(&site.root("guest"), "alone")?;
    scene.network.tap("tap-alone")?;
    let words = format!("{verb} --machine alone --tap tap-alone --memory 512{options} guest");
    let log = scene.directory.join("guest.log");
    let mut running = site.netbe(&words).start(&log)?;
    let explain = |failure| {
        with_log(&site, failure)
            .retold(|said| format!("netbe {words}: {said}\nthe guest:\n{}", tail(&log, 25)))
    };
    let status = running.wait(BOOT_LIMIT).map_err(explain)?;
    ensure(status.success(), || status.to_string()).map_err(explain)?;
    proof(&site.root("guest"), &token, "alone").map_err(explain)?;
    server.stop()?;
    Ok(Outcome::Passed)
}

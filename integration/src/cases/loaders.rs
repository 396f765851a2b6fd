//! Real firmware fetches FreeBSD's loader out of its boot environment and starts it.
//!
//! No release of FreeBSD is at hand: programs that the same firmware starts lie under the names of its
//! loaders. What the loader does then is played from recordings, in netbe's session tests.

use std::fs;
use std::path::Path;

use crate::capture::Capture;
use crate::cases::boots::{BOOT_LIMIT, mac, switch_on, with_log};
use crate::failure::{During, Failure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::Network;
use crate::packages;
use crate::server::Site;
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[
    Case { name: "boot FreeBSD's loader, BIOS", run: bios },
    Case { name: "boot FreeBSD's loader, UEFI", run: uefi },
];

/// An iPXE ROM gets `pxeboot`, and takes no disk out of the root path.
fn bios(lab: &Lab) -> Result<Outcome, Failure> {
    let program = Path::new("/usr/lib/PXELINUX/pxelinux.0");
    loader(lab, Firmware::Bios, "pxeboot", program, "PXELINUX")
}

/// The firmware's PXE client gets `loader.efi`.
fn uefi(lab: &Lab) -> Result<Outcome, Failure> {
    let package = packages::unpacked(&lab.cache, "grub-efi-amd64-signed")?;
    let program = package.join("usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed");
    loader(lab, Firmware::Uefi, "loader.efi", &program, "GRUB")
}

/// A machine of this firmware starts the `program` that lies under the name of FreeBSD's loader, and
/// that says `word`.
fn loader(
    lab: &Lab,
    firmware: Firmware,
    name: &str,
    program: &Path,
    word: &str,
) -> Result<Outcome, Failure> {
    let directory = lab.directory(&format!("boot {name}"))?;
    let network = Network::new()?;
    let site = Site::new(lab.netbe()?, &network, &directory);
    site.run("create freebsd")?;
    let boot = site.root("freebsd").join("boot");
    fs::create_dir_all(boot.join("kernel")).during(boot.display())?;
    fs::write(boot.join("kernel/kernel"), "none").during(boot.display())?;
    fs::copy(program, boot.join(name)).during(program.display())?;
    site.machine("beastie", &mac(1), "freebsd")?;
    let capture = Capture::begin(&network, &directory, "")?;
    let server = site.serve()?;
    let mut machine = switch_on(&network, &directory, "beastie", firmware, 1)?;
    let got = format!("beastie: got {name} (");
    wait_for(&format!("{name} to run"), BOOT_LIMIT, || {
        machine.still_on()?;
        let log = fs::read_to_string(site.log()).during(site.log().display())?;
        Ok((log.contains(&got) && machine.said().contains(word)).then_some(()))
    })
    .map_err(|failure| machine.explain(with_log(&site, failure)))?;
    drop(machine);
    server.stop()?;
    capture.check()?;
    Ok(Outcome::Passed)
}

//! Real firmware fetches FreeBSD's loader out of its boot environment and starts it.
//!
//! No release of FreeBSD is at hand: programs that the same firmware starts lie under the names of its
//! loaders. What the loader does then is played from recordings, in netbe's session tests.

use std::fs;
use std::path::PathBuf;

use crate::failure::{During, Failure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::packages;
use crate::scene::{BOOT_LIMIT, Scene, mac, with_log};
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[
    Case::new("boot FreeBSD's loader, BIOS", bios),
    Case::new("boot FreeBSD's loader, UEFI", uefi),
];

/// An iPXE ROM gets `pxeboot`, and takes no disk out of the root path.
fn bios(lab: &Lab) -> Result<Outcome, Failure> {
    boot(lab, &PXEBOOT)
}

/// The firmware's PXE client gets `loader.efi`.
fn uefi(lab: &Lab) -> Result<Outcome, Failure> {
    boot(lab, &LOADER_EFI)
}

fn boot(lab: &Lab, loader: &Loader) -> Result<Outcome, Failure> {
    let name = loader.name;
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create freebsd")?;
    let boot = site.root("freebsd").join("boot");
    fs::create_dir_all(boot.join("kernel")).during(boot.display())?;
    fs::write(boot.join("kernel/kernel"), "none").during(boot.display())?;
    let program = loader.program(lab)?;
    fs::copy(&program, boot.join(name)).during(program.display())?;
    loader.is_started(&scene, "freebsd")?;
    Ok(Outcome::Passed)
}

/// A loader of FreeBSD's, and the program that stands in for it.
#[derive(Debug)]
pub(super) struct Loader {
    /// Its name in `/boot`.
    pub(super) name: &'static str,
    firmware: Firmware,
    /// The package that has the program, unless it is installed.
    package: Option<&'static str>,
    file: &'static str,
    /// What the program says.
    word: &'static str,
}

impl Loader {
    /// Where the program is.
    pub(super) fn program(&self, lab: &Lab) -> Result<PathBuf, Failure> {
        let root = match self.package {
            Some(package) => packages::unpacked(&lab.cache, package)?,
            None => PathBuf::from("/"),
        };
        Ok(root.join(self.file))
    }

    /// A machine of its firmware fetches it out of an environment and starts it.
    pub(super) fn is_started(&self, scene: &Scene<'_>, environment: &str) -> Result<(), Failure> {
        let (name, site) = (self.name, scene.site());
        site.machine("beastie", &mac(1), environment)?;
        let capture = scene.capture("")?;
        let server = site.serve()?;
        let mut machine = scene.switch_on("beastie", self.firmware, 1)?;
        let got = format!("beastie: got {name} (");
        wait_for(&format!("{name} to run"), BOOT_LIMIT, || {
            machine.still_on()?;
            let log = fs::read_to_string(site.log()).during(site.log().display())?;
            Ok((log.contains(&got) && machine.said().contains(self.word)).then_some(()))
        })
        .map_err(|failure| machine.explain(with_log(&site, failure)))?;
        drop(machine);
        server.stop()?;
        capture.check()
    }
}

/// For BIOS.
pub(super) const PXEBOOT: Loader = Loader {
    name: "pxeboot",
    firmware: Firmware::Bios,
    package: None,
    file: "usr/lib/PXELINUX/pxelinux.0",
    word: "PXELINUX",
};
/// For UEFI.
pub(super) const LOADER_EFI: Loader = Loader {
    name: "loader.efi",
    firmware: Firmware::Uefi,
    package: Some("grub-efi-amd64-signed"),
    file: "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
    word: "GRUB",
};

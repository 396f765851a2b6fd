//! Chains: the ways from firmware to a running system that machines boot by.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::failure::{During, Failure};
use crate::lab::Lab;
use crate::packages;
use crate::process::Program;
use crate::server::Site;
use crate::vm::Firmware;

/// A way from firmware to a running system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What happens, stage by stage.
    pub(crate) stages: &'static str,
    /// What the machine starts with.
    pub(crate) firmware: Firmware,
    /// The machine's `--loader`, unless netbe chooses it.
    loader: Option<&'static str>,
    /// What the boot environment's `/boot` gets beside its kernel: packages that are unpacked, never
    /// installed, and their files.
    files: &'static [(&'static str, &'static str)],
    /// Whether grub-mknetdir puts GRUB and its modules there.
    modules: bool,
}

impl Chain {
    /// The chain of that name.
    pub(crate) fn find(name: &str) -> Result<&'static Self, Failure> {
        ALL.into_iter().find(|chain| chain.name == name).ok_or_else(|| {
            Failure::said(format!("no chain is {name:?}; `cargo lab boot --list` names them all"))
        })
    }

    /// Makes a machine that boots an environment by this chain, and the environment ready for it.
    pub(crate) fn machine(
        &self,
        lab: &Lab,
        site: &Site<'_>,
        name: &str,
        mac: &str,
        environment: &str,
    ) -> Result<(), Failure> {
        for (package, file) in self.files {
            let source = packages::unpacked(&lab.cache, package)?.join(file);
            let name = Path::new(file).file_name().unwrap_or_default();
            let target = site.root(environment).join("boot").join(name);
            fs::copy(&source, &target).during(source.display())?;
        }
        if self.modules {
            Program::new("grub-mknetdir")
                .arg("--net-directory")
                .arg(site.root(environment))
                .words("--subdir /boot/grub -d /usr/lib/grub/i386-pc")
                .run(Duration::from_secs(120))?;
        }
        site.machine(name, mac, environment)?;
        if let Some(loader) = self.loader {
            site.run(&format!("machine set --loader {loader} {name}"))?;
        }
        Ok(())
    }
}

/// All chains, by name.
pub(crate) const ALL: [&Chain; 8] =
    [&BIOS, &UEFI, &UEFI_HTTP, &PXELINUX, &LPXELINUX, &GRUB, &SHIM, &GRUB_BIOS];

/// iPXE is the network card's ROM.
pub(crate) const BIOS: Chain = Chain {
    name: "bios",
    stages: "BIOS, iPXE as the card's ROM, script and kernel by HTTP",
    firmware: Firmware::Bios,
    loader: None,
    files: &[],
    modules: false,
};
/// The firmware's PXE client loads iPXE.
pub(crate) const UEFI: Chain = Chain {
    name: "uefi",
    stages: "UEFI's PXE, iPXE by TFTP, script and kernel by HTTP",
    firmware: Firmware::Uefi,
    loader: None,
    files: &[],
    modules: false,
};
/// The firmware's HTTP client loads iPXE.
pub(crate) const UEFI_HTTP: Chain = Chain {
    name: "uefi-http",
    stages: "UEFI's HTTP boot, iPXE, script and kernel by HTTP",
    firmware: Firmware::UefiHttp,
    loader: None,
    files: &[],
    modules: false,
};
/// SYSLINUX with everything by TFTP; the card's ROM loads it.
pub(crate) const PXELINUX: Chain = Chain {
    name: "pxelinux",
    stages: "BIOS, pxelinux, configuration and kernel by TFTP",
    firmware: Firmware::Bios,
    loader: Some("pxelinux"),
    files: &[],
    modules: false,
};
/// SYSLINUX with its kernel by HTTP; the card's ROM loads it.
pub(crate) const LPXELINUX: Chain = Chain {
    name: "lpxelinux",
    stages: "BIOS, lpxelinux and its configuration by TFTP, kernel by HTTP",
    firmware: Firmware::Bios,
    loader: Some("lpxelinux"),
    files: &[],
    modules: false,
};
/// The firmware's PXE client loads Debian's signed GRUB.
pub(crate) const GRUB: Chain = Chain {
    name: "grub",
    stages: "UEFI's PXE, signed GRUB, its configuration and kernel by TFTP",
    firmware: Firmware::Uefi,
    loader: Some("grub"),
    files: &[SIGNED_GRUB],
    modules: false,
};
/// The firmware's PXE client loads Debian's signed shim, which loads the signed GRUB.
pub(crate) const SHIM: Chain = Chain {
    name: "shim",
    stages: "UEFI's PXE, signed shim and GRUB, configuration and kernel by TFTP",
    firmware: Firmware::Uefi,
    loader: Some("shim"),
    files: &[("shim-signed", "usr/lib/shim/shimx64.efi.signed"), SIGNED_GRUB],
    modules: false,
};
/// GRUB with its modules in the boot environment; the card's ROM loads it.
pub(crate) const GRUB_BIOS: Chain = Chain {
    name: "grub-bios",
    stages: "BIOS, GRUB, its modules and its configuration by TFTP, kernel by HTTP",
    firmware: Firmware::Bios,
    loader: Some("grub"),
    files: &[],
    modules: true,
};

/// It is unpacked, because a package that is installed would change how the host itself boots.
const SIGNED_GRUB: (&str, &str) =
    ("grub-efi-amd64-signed", "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed");

#[cfg(test)]
mod test {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_chain_is_found_by_a_name_of_its_own() {
        let names: BTreeSet<&str> = ALL.iter().map(|chain| chain.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert_eq!(Chain::find("uefi").unwrap().firmware, Firmware::Uefi);
    }

    #[test]
    fn a_chain_that_nobody_knows_is_refused() {
        let failure = Chain::find("token-ring").unwrap_err().to_string();
        assert!(failure.contains("`cargo lab boot --list` names them all"), "{failure}");
    }
}

//! Chains: the ways from firmware to a running system that machines boot by.

use std::fs;
use std::path::Path;

use crate::failure::{During, Failure};
use crate::lab::Lab;
use crate::packages;
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
        site.machine(name, mac, environment)?;
        if let Some(loader) = self.loader {
            site.run(&format!("machine set --loader {loader} {name}"))?;
        }
        Ok(())
    }
}

/// All chains, by name.
pub(crate) const ALL: [&Chain; 3] = [&BIOS, &UEFI, &UEFI_HTTP];

/// iPXE is the network card's ROM.
pub(crate) const BIOS: Chain = Chain {
    name: "bios",
    stages: "BIOS, iPXE as the card's ROM, script and kernel by HTTP",
    firmware: Firmware::Bios,
    loader: None,
    files: &[],
};
/// The firmware's PXE client loads iPXE.
pub(crate) const UEFI: Chain = Chain {
    name: "uefi",
    stages: "UEFI's PXE, iPXE by TFTP, script and kernel by HTTP",
    firmware: Firmware::Uefi,
    loader: None,
    files: &[],
};
/// The firmware's HTTP client loads iPXE.
pub(crate) const UEFI_HTTP: Chain = Chain {
    name: "uefi-http",
    stages: "UEFI's HTTP boot, iPXE, script and kernel by HTTP",
    firmware: Firmware::UefiHttp,
    loader: None,
    files: &[],
};

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

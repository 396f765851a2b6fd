//! Loaders: which file each firmware needs, and where on the host they lie.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Arch;

/// A program that firmware loads from the network.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Loader {
    /// The name by which firmware asks for it.
    pub name: String,
    /// Where its bytes are.
    pub place: Place,
}

/// Where a loader's bytes are.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the boot environment, by its path there.
    Environment(String),
    /// On the host, in the loader search path.
    Host(PathBuf),
}

/// The names of iPXE for a firmware, best first; empty when there is none.
///
/// `snponly.efi` drives the network card by the firmware's own driver and so works wherever the
/// firmware could load it; `ipxe.efi` brings drivers, which lag behind new cards.
#[must_use]
pub const fn ipxe_names(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::BIOS => &["undionly.kpxe", "undionly.kkpxe", "ipxe.pxe"],
        Arch::UEFI_IA32 => &["snponly-i386.efi", "ipxe-i386.efi", "ipxe.efi-i386"],
        // Architecture 8 is seen in the wild from x64 firmware.
        Arch::UEFI_X64 | Arch::UEFI_EBC | Arch::UEFI_X64_HTTP | Arch(0x08 | 0x11) => {
            &["snponly.efi", "ipxe.efi", "snponly.efi-x86_64", "ipxe.efi-x86_64"]
        }
        Arch::UEFI_ARM32 => &["snponly-arm32.efi", "ipxe-arm32.efi"],
        Arch::UEFI_ARM64 | Arch::UEFI_ARM64_HTTP => {
            &["snponly-arm64.efi", "ipxe-arm64.efi", "ipxe.efi-arm64"]
        }
        Arch(_) => &[],
    }
}

/// FreeBSD's own loader for a firmware, by its path in the environment.
#[must_use]
pub const fn freebsd_path(arch: Arch) -> &'static str {
    match arch {
        Arch::BIOS => "/boot/pxeboot",
        Arch::UEFI_IA32 => "/boot/loader_ia32.efi",
        Arch(_) => "/boot/loader.efi",
    }
}

/// Every name that [`ipxe_names`] knows.
pub fn all_ipxe_names() -> impl Iterator<Item = &'static str> {
    let arches = [Arch::BIOS, Arch::UEFI_IA32, Arch::UEFI_X64, Arch::UEFI_ARM32, Arch::UEFI_ARM64];
    arches.into_iter().flat_map(ipxe_names).copied()
}

/// The folders of the host that loaders are looked for in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HostLoaders(Vec<PathBuf>);

impl HostLoaders {
    /// Looks for loaders in `folders`; the first folder that has one wins.
    #[must_use]
    pub fn search<P: Into<PathBuf>>(folders: impl IntoIterator<Item = P>) -> Self {
        Self(folders.into_iter().map(Into::into).collect())
    }

    /// Where the loader of that name is now: a package that was missed is there once it has been
    /// installed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<PathBuf> {
        let mut paths = self.0.iter().map(|folder| folder.join(name));
        paths.find(|path| path.is_file())
    }
}

/// Where distributions put iPXE: Debian, Fedora, Arch, FreeBSD's port; `/boot` of Debian's package
/// last.
pub const SEARCH_PATH: [&str; 5] = [
    "/usr/lib/ipxe",
    "/usr/share/ipxe",
    "/usr/share/ipxe/x86_64",
    "/usr/local/share/ipxe",
    "/boot",
];

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_first_folder_that_has_a_loader_wins() {
        let scratch = tempfile::tempdir().unwrap();
        let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
        for (folder, name) in [(&one, "ipxe.efi"), (&two, "ipxe.efi"), (&two, "undionly.kpxe")] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join(name), b"x").unwrap();
        }
        let found = HostLoaders::search([&one, &two]);
        assert_eq!(found.get("ipxe.efi"), Some(one.join("ipxe.efi")));
        assert_eq!(found.get("undionly.kpxe"), Some(two.join("undionly.kpxe")));
        assert_eq!(found.get("snponly.efi"), None);
    }

    #[test]
    fn a_loader_that_is_installed_later_is_found() {
        let scratch = tempfile::tempdir().unwrap();
        let host = HostLoaders::search([scratch.path()]);
        assert_eq!(host.get("snponly.efi"), None);
        std::fs::write(scratch.path().join("snponly.efi"), b"x").unwrap();
        assert_eq!(host.get("snponly.efi"), Some(scratch.path().join("snponly.efi")));
    }

    #[test]
    fn an_architecture_without_ipxe_has_no_names() {
        assert!(ipxe_names(Arch(0x1f)).is_empty());
    }
}

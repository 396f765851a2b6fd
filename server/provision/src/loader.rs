//! Loaders: which file each firmware needs, and where on the host they lie.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A processor architecture and firmware as in DHCP option 93 (RFC 4578 §2.1, IANA registry).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Arch(pub u16);

impl Arch {
    /// x86 BIOS.
    pub const BIOS: Self = Self(0x00);
    /// 32-bit x86 UEFI.
    pub const UEFI_IA32: Self = Self(0x06);
    /// x64 UEFI.
    pub const UEFI_X64: Self = Self(0x07);
    /// EBC, which x64 UEFI firmware sends by an old mistake.
    pub const UEFI_EBC: Self = Self(0x09);
    /// 32-bit ARM UEFI.
    pub const UEFI_ARM32: Self = Self(0x0a);
    /// 64-bit ARM UEFI.
    pub const UEFI_ARM64: Self = Self(0x0b);
    /// x64 UEFI by HTTP.
    pub const UEFI_X64_HTTP: Self = Self(0x10);
    /// 64-bit ARM UEFI by HTTP.
    pub const UEFI_ARM64_HTTP: Self = Self(0x13);
}

/// The program that loads a machine's kernel.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LoaderChoice {
    /// What suits the system: iPXE for Linux, FreeBSD's own loader for FreeBSD.
    #[default]
    Auto,
    /// iPXE, also before FreeBSD's loader.
    Ipxe,
    /// SYSLINUX for BIOS, everything by TFTP.
    Pxelinux,
    /// SYSLINUX for BIOS, the kernel by HTTP.
    Lpxelinux,
    /// GRUB, for BIOS and UEFI.
    Grub,
    /// A signed shim and the signed GRUB behind it, for UEFI with Secure Boot.
    Shim,
}

impl LoaderChoice {
    /// Whether it is the default.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl fmt::Display for LoaderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Ipxe => "ipxe",
            Self::Pxelinux => "pxelinux",
            Self::Lpxelinux => "lpxelinux",
            Self::Grub => "grub",
            Self::Shim => "shim",
        })
    }
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

/// Whether a file of this name is iPXE, for whatever firmware.
#[must_use]
pub fn is_ipxe(name: &str) -> bool {
    let known = [Arch::BIOS, Arch::UEFI_IA32, Arch::UEFI_X64, Arch::UEFI_ARM32, Arch::UEFI_ARM64];
    known.into_iter().any(|arch| ipxe_names(arch).contains(&name))
}

/// A file that a chosen loader consists of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// The name by which it is asked for.
    pub name: &'static str,
    /// The names under which it may lie in a folder, best first.
    pub files: &'static [&'static str],
    /// What an administrator does who has none.
    pub remedy: &'static str,
}

/// The files of a loader that was chosen for a machine, for its firmware: first what the firmware
/// loads. Empty when that loader does not start from that firmware, and for iPXE, see [`ipxe_names`].
#[must_use]
pub const fn chosen_parts(choice: LoaderChoice, arch: Arch) -> &'static [Part] {
    match (choice, arch) {
        (LoaderChoice::Pxelinux, Arch::BIOS) => &[PXELINUX, LDLINUX],
        (LoaderChoice::Lpxelinux, Arch::BIOS) => &[LPXELINUX, LDLINUX],
        (LoaderChoice::Grub, Arch::BIOS) => &[GRUB_BIOS],
        (LoaderChoice::Grub, Arch::UEFI_X64 | Arch::UEFI_EBC | Arch(0x08)) => &[GRUB_X64],
        (LoaderChoice::Grub, Arch::UEFI_ARM64) => &[GRUB_ARM64],
        (LoaderChoice::Shim, Arch::UEFI_X64 | Arch::UEFI_EBC | Arch(0x08)) => &[SHIM_X64, GRUB_X64],
        (LoaderChoice::Shim, Arch::UEFI_ARM64) => &[SHIM_ARM64, GRUB_ARM64],
        (
            LoaderChoice::Auto
            | LoaderChoice::Ipxe
            | LoaderChoice::Pxelinux
            | LoaderChoice::Lpxelinux
            | LoaderChoice::Grub
            | LoaderChoice::Shim,
            Arch(_),
        ) => &[],
    }
}

const PXELINUX: Part =
    Part { name: "pxelinux.0", files: &["pxelinux.0"], remedy: "install the package pxelinux" };
const LPXELINUX: Part =
    Part { name: "lpxelinux.0", files: &["lpxelinux.0"], remedy: "install the package pxelinux" };
const LDLINUX: Part = Part {
    name: "ldlinux.c32",
    files: &["ldlinux.c32"],
    remedy: "install the package syslinux-common",
};
/// GRUB's core for BIOS asks for its modules beside itself.
const GRUB_BIOS: Part = Part {
    name: "boot/grub/i386-pc/core.0",
    files: &["grub/i386-pc/core.0"],
    remedy: "install the package grub-pc-bin, then run grub-mknetdir with the boot environment's \
             root as its --net-directory",
};
/// The name is the one by which shim asks for it.
const GRUB_X64: Part = Part {
    name: "grubx64.efi",
    files: &["grubnetx64.efi.signed", "grubnetx64.efi", "grub/x86_64-efi/core.efi"],
    remedy: "install the package grub-efi-amd64-signed",
};
const GRUB_ARM64: Part = Part {
    name: "grubaa64.efi",
    files: &["grubnetaa64.efi.signed", "grubnetaa64.efi", "grub/arm64-efi/core.efi"],
    remedy: "install the package grub-efi-arm64-signed",
};
const SHIM_X64: Part = Part {
    name: "shimx64.efi",
    files: &["shimx64.efi.signed", "shimx64.efi"],
    remedy: "install the package shim-signed",
};
const SHIM_ARM64: Part = Part {
    name: "shimaa64.efi",
    files: &["shimaa64.efi.signed", "shimaa64.efi"],
    remedy: "install the package shim-signed",
};

/// FreeBSD's own loader for a firmware, by its path in the environment.
#[must_use]
pub const fn freebsd_path(arch: Arch) -> &'static str {
    match arch {
        Arch::BIOS => "/boot/pxeboot",
        Arch::UEFI_IA32 => "/boot/loader_ia32.efi",
        Arch(_) => "/boot/loader.efi",
    }
}

/// The names of FreeBSD's own loaders in an environment's `/boot`.
pub const FREEBSD: [&str; 3] = ["pxeboot", "loader.efi", "loader_ia32.efi"];

/// Every name that a loader's file may have in a folder.
pub fn all_names() -> impl Iterator<Item = &'static str> {
    let arches = [Arch::BIOS, Arch::UEFI_IA32, Arch::UEFI_X64, Arch::UEFI_ARM32, Arch::UEFI_ARM64];
    let parts =
        [PXELINUX, LPXELINUX, LDLINUX, GRUB_BIOS, GRUB_X64, GRUB_ARM64, SHIM_X64, SHIM_ARM64];
    let chosen = parts.into_iter().flat_map(|part| part.files);
    arches.into_iter().flat_map(ipxe_names).chain(chosen).copied()
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

    /// The names of all that are there now.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let there = all_names().filter(|name| self.get(name).is_some());
        there.map(str::to_owned).collect()
    }
}

/// Where distributions put loaders: iPXE of Debian, Fedora, Arch and FreeBSD's port; SYSLINUX of the
/// same; Debian's signed GRUB and shim; `/boot` of Debian's package of iPXE last.
pub const SEARCH_PATH: [&str; 14] = [
    "/usr/lib/ipxe",
    "/usr/share/ipxe",
    "/usr/share/ipxe/x86_64",
    "/usr/local/share/ipxe",
    "/usr/lib/PXELINUX",
    "/usr/lib/syslinux/modules/bios",
    "/usr/share/syslinux",
    "/usr/lib/syslinux/bios",
    "/usr/local/share/syslinux/bios/core",
    "/usr/local/share/syslinux/bios/com32/elflink/ldlinux",
    "/usr/lib/grub/x86_64-efi-signed",
    "/usr/lib/grub/arm64-efi-signed",
    "/usr/lib/shim",
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
    fn a_chosen_loader_starts_from_some_firmware_only() {
        let first = |choice, arch| chosen_parts(choice, arch).first().map(|part| part.name);
        assert_eq!(first(LoaderChoice::Lpxelinux, Arch::BIOS), Some("lpxelinux.0"));
        assert_eq!(first(LoaderChoice::Lpxelinux, Arch::UEFI_X64), None);
        assert_eq!(first(LoaderChoice::Shim, Arch::UEFI_X64), Some("shimx64.efi"));
        assert_eq!(first(LoaderChoice::Shim, Arch::BIOS), None);
        assert_eq!(first(LoaderChoice::Grub, Arch::UEFI_X64_HTTP), None);
    }

    #[test]
    fn an_architecture_without_ipxe_has_no_names() {
        assert!(ipxe_names(Arch(0x1f)).is_empty());
    }
}

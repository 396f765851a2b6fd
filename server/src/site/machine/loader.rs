//! Which loader an administrator chose for a machine, and how FreeBSD's own fetches its files.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

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

/// How FreeBSD's loader fetches its kernel and all other files.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LoaderProtocol {
    /// By NFS, or by TFTP where the boot environment's loader was built without NFS.
    #[default]
    Auto,
    /// By NFS.
    Nfs,
    /// By TFTP: its root path is `tftp://SERVER/be/NAME`.
    Tftp,
    /// By HTTP: UEFI's HTTP boot loads `loader.efi`, which goes on from the same URL.
    Http,
}

impl LoaderProtocol {
    /// Whether it is the default.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

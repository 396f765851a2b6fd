//! What kind of program asks for an address: firmware, a loader, a kernel or a running system.

use std::fmt;

pub use provision::loader::Arch;
use serde::{Deserialize, Serialize};

/// What asks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum Client {
    /// A PXE ROM or UEFI's PXE client: class `PXEClient`; wants a boot file by TFTP.
    Pxe(Arch),
    /// UEFI's HTTP boot: class `HTTPClient`; wants an absolute URL.
    Http(Arch),
    /// iPXE: user class `iPXE` or option 175; wants a script by HTTP.
    Ipxe(Arch),
    /// FreeBSD's loader: class exactly `PXEClient`, user class `FreeBSD` if it sends one.
    FreeBsdLoader,
    /// A FreeBSD kernel with `BOOTP`: class `FreeBSD:machine:release`.
    FreeBsdKernel,
    /// Everything else: a running system or an initial RAM disk.
    Ordinary,
}

impl Client {
    /// Whether a DISCOVER of it can be the first sign of a machine that was switched on.
    #[must_use]
    pub const fn is_firmware(self) -> bool {
        matches!(self, Self::Pxe(_) | Self::Http(_) | Self::Ipxe(_))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let firmware = |arch: Arch| match arch {
            Arch::BIOS => "BIOS",
            Arch::UEFI_IA32 => "32-bit UEFI",
            Arch::UEFI_ARM32 => "32-bit ARM UEFI",
            Arch::UEFI_ARM64 | Arch::UEFI_ARM64_HTTP => "ARM UEFI",
            Arch::UEFI_X64 | Arch::UEFI_EBC | Arch::UEFI_X64_HTTP => "UEFI",
            Arch(_) => "other firmware",
        };
        match self {
            Self::Pxe(arch) => write!(f, "{} PXE", firmware(*arch)),
            Self::Http(arch) => write!(f, "{} HTTP boot", firmware(*arch)),
            Self::Ipxe(arch) => write!(f, "iPXE ({})", firmware(*arch)),
            Self::FreeBsdLoader => f.write_str("FreeBSD's loader"),
            Self::FreeBsdKernel => f.write_str("FreeBSD's kernel"),
            Self::Ordinary => f.write_str("an operating system"),
        }
    }
}

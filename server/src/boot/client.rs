//! What kind of program asks for an address: firmware, a loader, a kernel or a running system.

use std::fmt;

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

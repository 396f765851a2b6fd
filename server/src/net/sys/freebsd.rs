//! FreeBSD.

use std::ffi::c_ulong;

use nix::libc;

pub(crate) mod arp;
pub(crate) mod datagram;
pub(crate) mod link;
pub(crate) mod memory;
pub(crate) mod pages;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod route;
pub(crate) mod tap;
pub(crate) mod tcp;
pub(crate) mod transfer;

/// `_IOWR('i', 51, struct ifreq)`: both ways, the argument's size, the group, the number. libc has it
/// for Linux alone.
pub(super) const SIOCGIFMTU: c_ulong =
    0xc000_0000 | ((size_of::<libc::ifreq>() as c_ulong) << 16) | ((b'i' as c_ulong) << 8) | 51;

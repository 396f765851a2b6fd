//! An interface for a guest of this host: bhyve has its own, which `netbe bootpxe` makes by ifconfig(8).

use std::io;
use std::os::fd::OwnedFd;

/// No interface is made here for QEMU.
///
/// # Errors
///
/// Always.
pub(crate) fn join(_bridge: &str) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether an interface is a bridge, by its name.
pub(crate) fn is_bridge(name: &str) -> bool {
    name.starts_with("bridge")
}

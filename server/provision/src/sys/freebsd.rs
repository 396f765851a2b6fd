//! FreeBSD: Capsicum. A worker reaches what its descriptors lead to, and nothing else: no path, no
//! socket, no program (capsicum(4)). It stays the superuser for those files.
#![allow(unsafe_code, reason = "cap_enter(2) has no safe interface")]

use std::io;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::worker::Privilege;

/// The program that runs.
///
/// # Errors
///
/// The system does not tell.
#[cfg(not(test))]
pub fn program() -> io::Result<std::path::PathBuf> {
    std::env::current_exe()
}

/// Gives up for ever what a worker does not need.
///
/// Fails with the kernel's error; a kernel without capability mode leaves the worker as it is.
pub(crate) fn confine(_privilege: Privilege) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // SAFETY: it takes no argument.
    if unsafe { libc::cap_enter() } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        error => Err(error),
    }
}

/// Does nothing: all processes of FreeBSD have the same mounts.
pub fn own_mounts() -> io::Result<()> {
    Ok(())
}

/// Does nothing: FreeBSD has no part of the superuser's privilege that can be given up, and quotas
/// there hold for the owner of a file. Capability mode would take every path and every new socket from a
/// server. Gives whether calls are filtered: they are not.
pub fn confine_server() -> io::Result<bool> {
    Ok(false)
}

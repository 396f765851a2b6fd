//! Processes of this host by their number, which another one may have later (proc_pid_stat(5)).

use std::fs;
use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::net::sys::start;

/// When a process was started, in words that no other of the same number has; `None` if there is none, or it
/// has ended and nobody has asked how.
///
/// # Errors
///
/// It cannot be found out, also not that there is none.
pub(crate) fn started(pid: i32) -> io::Result<Option<String>> {
    let path = format!("/proc/{pid}/stat");
    let stat = match fs::read_to_string(&path) {
        Ok(stat) => stat,
        // One that ends while it is read is ESRCH.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let odd = || io::Error::other(format!("{path} is not as the kernel writes it"));
    // The name before the parenthesis may have anything in it.
    let (_, rest) = stat.rsplit_once(')').ok_or_else(odd)?;
    let mut fields = rest.split_whitespace();
    let state = fields.next().ok_or_else(odd)?;
    // Field 22 of all; the state is the third.
    let ticks = fields.nth(18).ok_or_else(odd)?;
    if matches!(state, "Z" | "X") {
        return Ok(None);
    }
    let ticks = ticks.parse().map_err(|_| odd())?;
    // They are counted from the start of the host, and what is written down may be older than that.
    Ok(Some(start::words(&boot()?, ticks)))
}

/// Which run of the host this is, in a word that no other run has (random(4)).
pub(crate) fn boot() -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(boot.trim().to_owned())
}

/// How long ago this host was started.
pub(crate) fn uptime() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}

/// Sends a signal to the process that was started then, and to no other that has its number now; says
/// whether it was there.
pub(crate) fn signal(pid: i32, begun: &str, signal: Signal) -> io::Result<bool> {
    let Some(id) = Pid::from_raw(pid) else { return Ok(false) };
    let opened = match pidfd_open(id, PidfdFlags::empty()) {
        Ok(opened) => opened,
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    // The descriptor stays that of one process.
    if started(pid)?.as_deref() != Some(begun) {
        return Ok(false);
    }
    match pidfd_send_signal(&opened, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

//! Processes of this host by their number, which another one may have later (proc_pid_stat(5)).

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// When a process was started, in words that no other of the same number has; `None` if there is none, or it
/// has ended and nobody has asked how.
pub(crate) fn started(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the parenthesis may have anything in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    // Field 22 of all; the state is the third.
    let ticks = fields.nth(18)?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // They are counted from the start of the host, and what is written down may be older than that.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{} {ticks}", boot.trim()))
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
    if started(pid).as_deref() != Some(begun) {
        return Ok(false);
    }
    match pidfd_send_signal(&opened, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

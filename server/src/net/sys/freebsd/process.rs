//! Processes of this host by their number, which another one may have later.

use std::io;
use std::time::Duration;

use child::{Call, Limit};
use nix::time::{ClockId, clock_gettime};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// When a process was started, in words that no other of the same number has; `None` if there is none, or it
/// has ended and nobody has asked how (ps(1)).
///
/// # Errors
///
/// It cannot be found out, also not that there is none.
pub(crate) fn started(pid: i32) -> io::Result<Option<String>> {
    let Some(id) = Pid::from_raw(pid) else { return Ok(None) };
    // ps(1) ends alike for a process that is not there and for what it could not find out; kill(2) does not.
    let is_there = || test_kill_process(id) != Err(Errno::SRCH);
    if !is_there() {
        return Ok(None);
    }
    let call = Call::new("ps", Limit::Within(Duration::from_secs(10)));
    let call = call.option("-o", "state=").option("-o", "lstart=").option("-p", pid.to_string());
    let said = match call.run() {
        Ok(said) => said,
        // It may have ended just now.
        Err(_) if !is_there() => return Ok(None),
        Err(error) => return Err(io::Error::other(error)),
    };
    let said = String::from_utf8_lossy(&said);
    let Some((state, begun)) = said.trim().split_once(char::is_whitespace) else {
        return Err(io::Error::other(format!("ps(1) said {said:?} of process {pid}")));
    };
    let begun = begun.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok((!state.starts_with('Z')).then_some(begun))
}

/// How long ago this host was started (clock_gettime(2)).
pub(crate) fn uptime() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_UPTIME)?.into())
}

/// Sends a signal to the process that was started then, and to no other that has its number now; says
/// whether it was there.
pub(crate) fn signal(pid: i32, begun: &str, signal: Signal) -> io::Result<bool> {
    let Some(id) = Pid::from_raw(pid) else { return Ok(false) };
    if started(pid)?.as_deref() != Some(begun) {
        return Ok(false);
    }
    match kill_process(id, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

//! Processes of this host by their number, which another one may have later.

use std::io;
use std::time::Duration;

use child::{Call, Limit};
use rustix::process::{Pid, Signal, kill_process};

/// When a process was started, in words that no other of the same number has; `None` if there is none, or it
/// has ended and nobody has asked how (ps(1)).
pub(crate) fn started(pid: i32) -> Option<String> {
    let call = Call::new("ps", Limit::Within(Duration::from_secs(10)));
    let call = call.option("-o", "state=").option("-o", "lstart=").option("-p", pid.to_string());
    let said = call.run().ok()?;
    let said = String::from_utf8(said).ok()?;
    let (state, begun) = said.trim().split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| begun.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Sends a signal to the process that was started then, and to no other that has its number now; says
/// whether it was there.
pub(crate) fn signal(pid: i32, begun: &str, signal: Signal) -> io::Result<bool> {
    let Some(id) = Pid::from_raw(pid) else { return Ok(false) };
    if started(pid).as_deref() != Some(begun) {
        return Ok(false);
    }
    match kill_process(id, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

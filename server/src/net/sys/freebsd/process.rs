//! Processes of this host by their number, which another one may have later.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::{size_of, zeroed};
use std::ptr;
use std::time::Duration;

use child::{Call, Limit};
use nix::libc;
use nix::time::{ClockId, clock_gettime};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::net::sys::start;

/// When a process was started, in words that no other of the same number has; `None` if there is none, or it
/// has ended and nobody has asked how.
///
/// # Errors
///
/// It cannot be found out, also not that there is none.
pub(crate) fn started(pid: i32) -> io::Result<Option<String>> {
    for _ in 0..READS {
        let host = boot_time()?;
        let Some(process) = look(pid)? else { return Ok(None) };
        // The clock may be set between.
        if boot_time()? == host {
            return Ok(Some(start::words(&boot()?, start::since(host, process))));
        }
    }
    Err(io::Error::other("the clock is being set all the time"))
}

/// How long ago this host was started (clock_gettime(2)).
pub(crate) fn uptime() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_UPTIME)?.into())
}

/// Which run of the host this is, in a word that no other run has (`kern.boot_id`, from FreeBSD 13 on).
pub(crate) fn boot() -> io::Result<String> {
    let mut id = [0_u8; 16];
    let mut len = id.len();
    let into = id.as_mut_ptr().cast::<c_void>();
    #[expect(unsafe_code, reason = "no crate of ours wraps sysctlbyname(3)")]
    // SAFETY: the name ends in a NUL; `into` points to `len` bytes that outlive the call, and the kernel writes no
    // more than those; nothing is set, so the new value may be null.
    let result =
        unsafe { libc::sysctlbyname(c"kern.boot_id".as_ptr(), into, &raw mut len, ptr::null(), 0) };
    match result {
        0 if len == id.len() => Ok(id.iter().map(|byte| format!("{byte:02x}")).collect()),
        0 => Err(odd("kern.boot_id")),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal to the process that was started then, and to no other that has its number now; says
/// whether it was there.
///
/// # Errors
///
/// The system refuses, or it cannot be told whether it is that process.
pub(crate) fn signal(pid: i32, begun: &str, signal: Signal) -> io::Result<bool> {
    let Some(id) = Pid::from_raw(pid) else { return Ok(false) };
    let Some(now) = started(pid)? else { return Ok(false) };
    if !start::tells(begun) {
        // An earlier version wrote this down.
        if local(pid)? != begun {
            return Err(io::Error::other(format!(
                "it cannot be told whether process {pid} is what netbe started before its upgrade: end it with \
                 `kill {pid}` if it is"
            )));
        }
    } else if now != begun {
        return Ok(false);
    }
    match kill_process(id, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The time of the clock at which a process began, as the kernel says it now (`kern.proc.pid`); `None` if there is
/// none, or it has ended and nobody has asked how.
fn look(pid: i32) -> io::Result<Option<start::Time>> {
    let name = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, pid];
    #[expect(unsafe_code, reason = "all of its fields are integers, arrays of them and pointers")]
    // SAFETY: zero is a value of all of these.
    let mut process: libc::kinfo_proc = unsafe { zeroed() };
    let filled = match read(&name, &mut process) {
        Ok(filled) => filled,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    if !filled || usize::try_from(process.ki_structsize) != Ok(size_of::<libc::kinfo_proc>()) {
        return Err(odd("kern.proc.pid"));
    }
    // Numbers beyond those of processes are threads' (sys/kern/kern_proc.c, `pget`).
    if process.ki_pid != pid || process.ki_stat == libc::SZOMB {
        return Ok(None);
    }
    Ok(Some(time(process.ki_start)))
}

/// The time of the clock at which the host was started, by the clock as it is set now (`kern.boottime`).
fn boot_time() -> io::Result<start::Time> {
    let mut host = libc::timeval { tv_sec: 0, tv_usec: 0 };
    if !read(&[libc::CTL_KERN, libc::KERN_BOOTTIME], &mut host)? {
        return Err(odd("kern.boottime"));
    }
    Ok(time(host))
}

const fn time(time: libc::timeval) -> start::Time {
    (time.tv_sec, time.tv_usec)
}

/// Reads what the kernel has under a name (sysctl(3)); says whether all of it was written.
fn read<T: Copy>(name: &[c_int], into: &mut T) -> io::Result<bool> {
    let mut len = size_of::<T>();
    let parts = u32::try_from(name.len()).map_err(io::Error::other)?;
    let into = ptr::from_mut(into).cast::<c_void>();
    #[expect(unsafe_code, reason = "no crate of ours wraps sysctl(3)")]
    // SAFETY: `name` has that many parts; `into` points to `len` bytes that outlive the call, and the kernel writes no
    // more than those, for types of its own whose fields have no value that is not one; nothing is set, so the new
    // value may be null.
    let result = unsafe { libc::sysctl(name.as_ptr(), parts, into, &raw mut len, ptr::null(), 0) };
    if result == 0 { Ok(len == size_of::<T>()) } else { Err(io::Error::last_os_error()) }
}

/// When a process was started, as earlier versions wrote it down: in the local time of whoever asks (ps(1)).
fn local(pid: i32) -> io::Result<String> {
    let call = Call::new("ps", Limit::Within(Duration::from_secs(10)));
    let call = call.option("-o", "lstart=").option("-p", pid.to_string());
    let said = call.run().map_err(io::Error::other)?;
    let said = String::from_utf8_lossy(&said);
    Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn odd(name: &str) -> io::Error {
    io::Error::other(format!("{name} is not as this program knows it"))
}

/// How often the times are read until the clock is not set between.
const READS: u32 = 5;

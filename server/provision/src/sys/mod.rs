//! What each system gives to keep a process from more than it needs, and of signals.
#![allow(unsafe_code, reason = "sigaction(2) has no safe interface")]

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "freebsd")]
use freebsd as host;
#[cfg(target_os = "linux")]
use linux as host;

pub(crate) use host::confine;
#[cfg(not(test))]
pub use host::program;
pub use host::{confine_server, own_mounts};

/// Whether this process ignores a signal, as the program that started it may have decided.
pub(crate) fn is_ignored(signal: i32) -> bool {
    let mut present = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action nothing is changed; the present one is written whole on success.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), present.as_mut_ptr()) == 0
            && present.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

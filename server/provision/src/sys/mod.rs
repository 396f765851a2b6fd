//! What each system gives to keep a process from more than it needs.

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "freebsd")]
use freebsd as host;
#[cfg(target_os = "linux")]
use linux as host;

pub(crate) use host::confine;
pub use host::confine_server;
#[cfg(not(test))]
pub(crate) use host::program;

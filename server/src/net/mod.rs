//! The network as the kernel gives it: interfaces, sockets, and ONC RPC on them.
//!
//! Nothing here knows a boot environment. What differs between Linux and FreeBSD is in [`sys`].

pub mod datagram;
#[cfg(any(target_os = "freebsd", test))]
pub(crate) mod frame;
pub mod interface;
mod mac;
pub(crate) mod neighbour;
pub mod rpc;
pub(crate) mod sys;

pub use mac::{Mac, MacError};

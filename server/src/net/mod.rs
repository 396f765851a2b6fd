//! The network as the kernel gives it: interfaces, sockets, and ONC RPC on them.
//!
//! Nothing here knows a boot environment. What differs between Linux and FreeBSD is in [`sys`].

pub(crate) mod arp;
pub mod datagram;
mod frame;
pub mod interface;
pub(crate) mod link;
mod mac;
pub(crate) mod neighbour;
pub mod rpc;
pub(crate) mod sys;
pub(crate) mod wake;

pub use mac::{Mac, MacError};

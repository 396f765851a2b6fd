//! Linux.

pub(crate) mod datagram;
pub(crate) mod transfer;

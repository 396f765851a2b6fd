//! Linux.

pub(crate) mod datagram;

//! FreeBSD.

pub(crate) mod datagram;

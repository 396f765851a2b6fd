//! The table of neighbours (arp(4)), which has no bound: ENOBUFS there is about the queue of an interface.

use std::net::IpAddr;

/// There are none.
pub(crate) const fn bounds() -> Option<(u64, u64)> {
    None
}

/// The table has no bound, so that it is never full.
pub(crate) const fn times_full() -> Option<u64> {
    None
}

/// An entry is made for every address that something is sent to.
pub(crate) const fn is_missing(_address: IpAddr) -> bool {
    false
}

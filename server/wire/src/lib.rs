//! Wire formats: bytes to values and back.
//!
//! No I/O, no clock, no allocation by a length that only a peer claims. Every decoder can fail and
//! none can panic.

pub mod codec;
pub mod dhcp4;
pub mod mount3;
pub mod nfs3;
pub mod nlm;
pub mod portmap2;
pub mod record;
pub mod rpc;
pub mod tftp;
pub mod xdr;

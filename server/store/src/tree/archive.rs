//! A tree as a pax archive, with everything that [`copy`](super::copy()) keeps but sockets.
//!
//! Directories come before what is in them. An archive that goes on from another tree leaves out what is equal
//! in both; of what it has instead, a global header says the name that goes (`NETBE.remove`), and a directory
//! that was there has the record `NETBE.kept`. Whoever reads archives alone passes over both.

mod read;
mod records;
mod write;

pub(crate) use read::apply;
pub(crate) use write::write;

/// The record of a directory that is there already.
const KEPT: &str = "NETBE.kept";
/// The record of a name that goes.
const REMOVE: &str = "NETBE.remove";

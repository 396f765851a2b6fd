//! A tree as a stream of bytes, with everything that [`copy`](super::copy()) keeps.
//!
//! A record is a tag of one byte, a path below the root, and what belongs to it; numbers are
//! big-endian. Directories come before what is in them (`D`) and are finished after it (`M`),
//! because every entry changes their times. `F` is a file with the ranges of it that are no holes,
//! `S` a symbolic link, `N` a device, FIFO or socket, `L` another name of a file that came before,
//! `R` a removal, and `E` the end. A stream that goes on from another tree leaves out what is equal
//! in both.

mod read;
mod write;

pub(crate) use read::apply;
pub(crate) use write::write;

/// Longest range of a file in bytes.
const CHUNK: usize = 128 << 10;

//! Host files by kernel file handle.
//!
//! [`HostTree`] serves a directory of the host as a [`vfs::Tree`]; [`Inside`] is the one door through
//! which the host itself enters a boot environment. Both take for granted that a hostile root in a
//! guest arranged everything in it: symbolic links lead out, FIFOs wait to be opened, names are
//! swapped in between. This crate is the only place with `unsafe`, all of it in `sys`.

mod attr;
mod beacons;
mod closer;
mod descriptors;
mod errno;
mod flags;
mod inside;
mod remembered;
mod resident;
mod stripes;
mod sys;
mod tree;
#[cfg(any(target_os = "freebsd", test))]
mod walk;

pub use descriptors::{Descriptors, open_files_limit, raise_open_files_limit};
pub use flags::Flags;
pub use inside::{Attributes, Entry, EntryKind, Extended, Inside, InsideError, Special};
pub use sys::too_old;
pub use tree::{HostTree, HostTreeError, Options};

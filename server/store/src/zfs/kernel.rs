//! What the kernel is asked to change of data sets: by libzfs_core where netbe is built with it
//! (feature `libzfs`), else by zfs(8).

#[cfg(feature = "libzfs")]
mod library;
#[cfg_attr(feature = "libzfs", expect(dead_code, reason = "the library does the rest itself"))]
mod programs;

#[cfg(feature = "libzfs")]
pub(super) use library::{clone, create, rename, run, snapshot};
#[cfg(not(feature = "libzfs"))]
pub(super) use programs::{clone, create, rename, run, snapshot};

/// Properties by name, as zfs(8) takes them.
pub(super) type Settings = Vec<(String, String)>;

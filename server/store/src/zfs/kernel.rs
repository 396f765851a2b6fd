//! What the kernel is asked to change of data sets: by libzfs_core where netbe is built with it
//! (feature `libzfs`), else by zfs(8). Channel programs always go by zfs(8).

#[cfg(feature = "libzfs")]
mod library;
#[cfg_attr(feature = "libzfs", expect(dead_code, reason = "the library does the rest itself"))]
mod programs;

#[cfg(feature = "libzfs")]
pub(super) use library::{clone, create, rename, snapshot};
pub(super) use programs::run;
#[cfg(not(feature = "libzfs"))]
pub(super) use programs::{clone, create, rename, snapshot};

/// Properties by name, as zfs(8) takes them.
pub(super) type Settings = Vec<(String, String)>;

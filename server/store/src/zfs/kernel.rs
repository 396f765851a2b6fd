//! What the kernel is asked to change of data sets.

mod programs;

pub(super) use programs::{clone, create, rename, run, snapshot};

/// Properties by name, as zfs(8) takes them.
pub(super) type Settings = Vec<(String, String)>;

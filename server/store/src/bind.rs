//! Trees that are shown at a second place.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::at;
use crate::{InUse, StoreError, sys};

/// Shows the tree of an open directory at `target`: without devices and setuid programs.
pub(crate) fn mount(tree: &OwnedFd, target: &Path, read_only: bool) -> Result<(), StoreError> {
    sys::bind(tree, target, read_only).map_err(at("mount on", target))
}

/// What is shown of what is below a directory: its path from there, and where.
pub(crate) fn mounts(dir: &OwnedFd) -> Result<Vec<(PathBuf, PathBuf)>, StoreError> {
    sys::bound(dir).map_err(at("read", Path::new(sys::MOUNT_TABLE)))
}

/// Shows a tree there no longer.
pub(crate) fn unmount(target: &Path, in_use: InUse) -> Result<(), StoreError> {
    sys::unbind(target, in_use).map_err(at("unmount", target))
}

//! The contract of every tree, for directories of the host. Opening files by handle needs root.
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use fixtures::contract::Subject;
use hostfs::{Descriptors, HostTree, HostTreeError, Options};
use tempfile::TempDir;
use vfs::{SyncMode, Tree};

/// A tree in a scratch directory.
struct Scratch {
    tree: HostTree,
    _dir: TempDir,
}

impl Subject for Scratch {
    fn tree(&self) -> &dyn Tree {
        &self.tree
    }
}

fn scratch(below: &Path, sync: SyncMode) -> Option<Scratch> {
    let dir = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in(below)
        .unwrap();
    let options = Options { sync, descriptors: Descriptors::new(64).into(), ..Options::default() };
    match HostTree::open(dir.path(), options) {
        Ok(tree) => Some(Scratch { tree, _dir: dir }),
        Err(error @ (HostTreeError::Privilege | HostTreeError::NoHandles)) => {
            eprintln!("skipped: {}: {error}", below.display());
            None
        }
        Err(error) => panic!("{}: {error}", below.display()),
    }
}

mod on_disk {
    use super::{SyncMode, scratch};

    fixtures::contract!(|| scratch(&std::env::temp_dir(), SyncMode::Disabled));
}

#[cfg(target_os = "linux")]
mod in_memory {
    use super::{Path, SyncMode, scratch};

    fixtures::contract!(|| scratch(Path::new("/dev/shm"), SyncMode::Standard));
}

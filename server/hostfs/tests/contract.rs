//! The contract of every tree, for directories of the host. Opening files by handle needs root.
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use fixtures::contract::Subject;
use hostfs::{Descriptors, HostTree, HostTreeError, Metadata, Options};
use tempfile::TempDir;
use vfs::Tree;

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

fn scratch(below: &Path, metadata: Metadata) -> Option<Scratch> {
    let dir = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in(below)
        .unwrap();
    let options =
        Options { metadata, descriptors: Descriptors::new(64).into(), ..Options::default() };
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
    use super::{Metadata, scratch};

    fixtures::contract!(|| scratch(&std::env::temp_dir(), Metadata::Lazy));
}

#[cfg(target_os = "linux")]
mod in_memory {
    use super::{Metadata, Path, scratch};

    fixtures::contract!(|| scratch(Path::new("/dev/shm"), Metadata::Synced));
}

//! A store of directories: plain ones on any file system, or subvolumes of btrfs.
//!
//! ```text
//! store/                  0700: whoever may enter could run the setuid programs of guests
//!   lock                  held while something appears or vanishes
//!   locks/head            held by a command that works on head
//!   be/head/              a root, as its machine sees it
//!   be/.work-…/           what a command is putting together or taking apart, by its intent
//!   be/.spare/            empty: one of those, when there is no room to make it
//!   journal/              intents: what commands are doing, to be undone or completed if they are killed
//!   meta/head.toml        what is written down about it, out of its guest's reach
//!   snap/UUID/monday/     a snapshot of the environment with that UUID: its tree, and what is
//!                         written down about it
//! ```
//!
//! An environment is there when it has both a tree and metadata. The tree is renamed into place
//! last when one is made, and out of place first when one is destroyed. How a tree is made, copied and
//! sent is its [`Fabric`]'s. A snapshot of plain directories is a copy, whose files share their blocks
//! with the environment's where the file system can (XFS, btrfs).

mod back_end;
mod fabric;
mod intents;
mod metadata;
mod natives;
mod query;
mod snapshots;
mod work;

use std::ffi::CStr;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fchmod, fstat, fsync, mkdirat};
use rustix::io::Errno;

pub(crate) use fabric::{Fabric, Frozen, Plain};

use crate::back_end::Side;
use crate::error::at;
use crate::journal::Journal;
use crate::tree::{self, open_dir};
use crate::workspace::Workspace;
use crate::{EnvironmentName, Layout, StoreError};

/// An open store of directories.
#[derive(Debug)]
pub(crate) struct Directory {
    fabric: &'static dyn Fabric,
    path: PathBuf,
    top: OwnedFd,
    trees: OwnedFd,
    meta: OwnedFd,
    snaps: OwnedFd,
    locks: PathBuf,
}

impl Directory {
    /// Opens a store that exists.
    pub(crate) fn open(path: &Path, fabric: &'static dyn Fabric) -> Result<Self, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Err(StoreError::Missing(path.to_owned())),
            Err(Errno::NOTDIR) => return Err(StoreError::Foreign(path.to_owned())),
            Err(error) => return Err(at("open", path)(error)),
        };
        let part = |name: &str| match open_dir(&top, name) {
            Ok(dir) => Ok(dir),
            Err(Errno::NOENT) => Err(unfinished(&top, path)),
            Err(error) => Err(at("open", &path.join(name))(error)),
        };
        let (trees, meta) = (part(TREES)?, part(META)?);
        let mode = Mode::from_raw_mode(fstat(&top).map_err(at("look at", path))?.st_mode);
        if mode.intersects(Mode::RWXG | Mode::RWXO) {
            return Err(StoreError::Open(path.to_owned()));
        }
        fabric.check(&top, path)?;
        // Stores from the time before there were snapshots and locks have neither.
        for name in [LOCKS, SNAPSHOTS] {
            make(&top, path, name)?;
        }
        Workspace::keep_spare(trees.as_fd());
        if let Ok(journal) = Journal::open(path.join(JOURNAL)) {
            journal.keep_spare();
        }
        let (snaps, locks) = (part(SNAPSHOTS)?, path.join(LOCKS));
        Ok(Self { fabric, path: path.to_owned(), top, trees, meta, snaps, locks })
    }

    /// Opens a store; where nothing is yet, or an empty directory, makes one.
    pub(crate) fn establish(path: &Path, fabric: &'static dyn Fabric) -> Result<Self, StoreError> {
        match Self::open(path, fabric) {
            Err(StoreError::Missing(_)) => {}
            other => return other,
        }
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700).create(path).map_err(at("make", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(path, flags, Mode::empty()).map_err(at("open", path))?;
        fabric.check(&top, path)?;
        fchmod(&top, Mode::RWXU).map_err(at("close", path))?;
        for name in [TREES, META, SNAPSHOTS, LOCKS] {
            make(&top, path, name)?;
        }
        fsync(&top).map_err(at("write", path))?;
        Self::open(path, fabric)
    }

    /// The directory of an environment's tree.
    fn root_path(&self, name: &EnvironmentName) -> PathBuf {
        self.path.join(TREES).join(name.as_str())
    }

    /// Opens an environment's tree.
    fn open_root(&self, name: &EnvironmentName) -> Result<OwnedFd, StoreError> {
        match open_dir(&self.trees, name.as_str()) {
            Ok(root) => Ok(root),
            Err(Errno::NOENT) => Err(StoreError::NoEnvironment(name.clone())),
            Err(error) => Err(at("open", &self.root_path(name))(error)),
        }
    }

    /// Opens the tree of an environment or of a snapshot, and tells its path for messages.
    fn open_tree(&self, tree: Side<'_>) -> Result<(OwnedFd, PathBuf), StoreError> {
        let name = tree.locked.name();
        Ok(match tree.snapshot {
            None => (self.open_root(name)?, self.root_path(name)),
            Some(snapshot) => {
                (self.open_snapshot(name, snapshot)?, PathBuf::from(tree.point().to_string()))
            }
        })
    }

    /// Refuses what cannot be taken away whole, before anything is touched.
    fn inspect(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        let path = self.root_path(name);
        self.fabric.inspect(&self.open_root(name)?, &path)?;
        match tree::obstacle(&self.trees, name.as_str()).map_err(at("look at", &path))? {
            Some(obstacle) => Err(StoreError::Obstacle { path, obstacle }),
            None => Ok(()),
        }
    }

    /// Makes the directories of a layout in an empty tree.
    fn build(&self, tree: &OwnedFd, layout: Layout, path: &Path) -> Result<(), StoreError> {
        fchmod(tree, Mode::from_raw_mode(0o755)).map_err(at("make", path))?;
        for directory in layout.directories() {
            let path = path.join(directory.path);
            if directory.mounted {
                self.fabric.make_dataset(tree, directory.path).map_err(at("make", &path))?;
            } else {
                mkdirat(tree, directory.path, Mode::RWXU).map_err(at("make", &path))?;
            }
            let dir = open_dir(tree, directory.path).map_err(at("open", &path))?;
            fchmod(&dir, mode(directory.mode)).map_err(at("make", &path))?;
        }
        Ok(())
    }
}

/// Makes a part of the store, if it is not there.
fn make(top: &OwnedFd, path: &Path, name: &str) -> Result<(), StoreError> {
    match mkdirat(top, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(at("make", &path.join(name))(error)),
    }
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(rustix::fs::RawMode::try_from(bits).unwrap_or_default())
}

/// Why a directory without the parts of a store is none: it is empty, or it is something else.
fn unfinished(top: &OwnedFd, path: &Path) -> StoreError {
    let ours = |name: &CStr| {
        [TREES, META, SNAPSHOTS, LOCKS, LOCK, JOURNAL]
            .iter()
            .any(|part| name.to_bytes() == part.as_bytes())
    };
    let foreign = rustix::fs::Dir::read_from(top).is_ok_and(|dir| {
        dir.flatten().any(|entry| {
            let name = entry.file_name();
            name != c"." && name != c".." && name != c"lost+found" && !ours(name)
        })
    });
    if foreign {
        StoreError::Foreign(path.to_owned())
    } else {
        StoreError::Missing(path.to_owned())
    }
}

#[cfg(test)]
mod test;

const TREES: &str = "be";
const JOURNAL: &str = "journal";
const META: &str = "meta";
const SNAPSHOTS: &str = "snap";
const LOCK: &str = "lock";
const LOCKS: &str = "locks";
/// In a workspace and in a snapshot: the tree.
const TREE: &str = "tree";
/// In a workspace: a copy that becomes a snapshot's tree.
const COPY: &str = "copy";

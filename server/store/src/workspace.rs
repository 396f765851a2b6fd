//! Hidden directories in which environments are put together and taken apart.
//!
//! Each is of one intent, whose record is there before it and goes after it: so whoever settles that
//! knows which one to clear away, and nothing is ever removed because of its name alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, mkdirat, renameat, unlinkat};
use rustix::io::Errno;
use uuid::Uuid;

use crate::StoreError;
use crate::error::at;
use crate::tree::{open_dir, remove_contents};

/// A directory of one intent in the store, on the same file system as the trees.
#[derive(Debug)]
pub(crate) struct Workspace {
    name: String,
    path: PathBuf,
    dir: OwnedFd,
}

impl Workspace {
    /// Makes that of an intent.
    pub(crate) fn create(
        trees: BorrowedFd<'_>,
        path: &Path,
        intent: Uuid,
    ) -> Result<Self, StoreError> {
        let name = format!("{PREFIX}{intent}");
        let path = path.join(&name);
        match mkdirat(trees, &name, Mode::RWXU) {
            Ok(()) => {}
            Err(full @ (Errno::NOSPC | Errno::DQUOT)) => {
                renameat(trees, SPARE, trees, &name).map_err(|_| at("make", &path)(full))?;
            }
            Err(error) => return Err(at("make", &path)(error)),
        }
        let dir = open_dir(trees, &name).map_err(at("open", &path))?;
        Ok(Self { name, path, dir })
    }

    /// Finds that of an intent, if it has one.
    pub(crate) fn find(
        trees: BorrowedFd<'_>,
        path: &Path,
        intent: Uuid,
    ) -> Result<Option<Self>, StoreError> {
        let name = format!("{PREFIX}{intent}");
        let path = path.join(&name);
        match open_dir(trees, &name) {
            Ok(dir) => Ok(Some(Self { name, path, dir })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(at("open", &path)(error)),
        }
    }

    /// The intent that a name in the directory of trees belongs to, if it is that of a workspace.
    pub(crate) fn intent(name: &str) -> Option<Uuid> {
        name.strip_prefix(PREFIX)?.parse().ok()
    }

    /// Makes an empty directory that becomes a workspace when there is no room for one, so that a full
    /// file system still lets environments be destroyed. Where it cannot be made, there is none.
    pub(crate) fn keep_spare(trees: BorrowedFd<'_>) {
        let _ = mkdirat(trees, SPARE, Mode::RWXU);
    }

    /// The directory.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Its path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it and opens it.
    pub(crate) fn make_dir(&self, name: &str) -> Result<OwnedFd, StoreError> {
        let path = self.path.join(name);
        mkdirat(&self.dir, name, Mode::RWXU).map_err(at("make", &path))?;
        open_dir(&self.dir, name).map_err(at("open", &path))
    }

    /// Removes a directory of it with everything in it.
    pub(crate) fn remove_dir(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path.join(name);
        remove_contents(open_dir(&self.dir, name).map_err(at("open", &path))?, &path)?;
        unlinkat(&self.dir, name, AtFlags::REMOVEDIR).map_err(at("remove", &path))
    }

    /// Removes it with everything in it. The empty directory becomes the spare one: what is freed just
    /// now need not be room yet (ext4 waits for its journal).
    pub(crate) fn remove(self, trees: BorrowedFd<'_>) -> Result<(), StoreError> {
        remove_contents(&self.dir, &self.path)?;
        match renameat(trees, &self.name, trees, SPARE) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(_) => {
                unlinkat(trees, &self.name, AtFlags::REMOVEDIR).map_err(at("remove", &self.path))
            }
        }
    }
}

/// No environment's name begins with a full stop.
const PREFIX: &str = ".work-";
/// An empty directory for when there is no room.
const SPARE: &str = ".spare";

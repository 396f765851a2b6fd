//! Hidden directories in which environments are put together and taken apart.
//!
//! A command may be killed at any instant. What it was doing is in a directory that only it has
//! locked; the kernel unlocks it with the process, and the next command finds it and clears it away.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;
use uuid::Uuid;

use crate::error::at;
use crate::tree::{each_name, open_dir, remove_contents};
use crate::{EnvironmentName, StoreError};

/// A directory of this process in the store, on the same file system as the trees.
#[derive(Debug)]
pub(crate) struct Workspace {
    name: String,
    path: PathBuf,
    dir: OwnedFd,
}

impl Workspace {
    /// Makes one. The store must be locked, so that nobody takes it for a leftover meanwhile.
    pub(crate) fn create(trees: BorrowedFd<'_>, path: &Path) -> Result<Self, StoreError> {
        let name = format!("{PREFIX}{}", Uuid::new_v4());
        let path = path.join(&name);
        mkdirat(trees, &name, Mode::RWXU).map_err(at("make", &path))?;
        let dir = open_dir(trees, &name).map_err(at("open", &path))?;
        flock(&dir, FlockOperation::NonBlockingLockExclusive).map_err(at("lock", &path))?;
        Ok(Self { name, path, dir })
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

    /// Notes down which environments are about to appear or to vanish, so that the metadata of each
    /// goes with its tree if only one of the two is done.
    ///
    /// Each is the name of an empty file: that needs no block, and a full file system still lets
    /// environments be destroyed.
    pub(crate) fn announce(&self, names: &[&EnvironmentName]) -> Result<(), StoreError> {
        for name in names {
            let file = format!("{ANNOUNCED}{name}");
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            openat(&self.dir, &file, flags, Mode::RUSR | Mode::WUSR)
                .map_err(at("make", &self.path.join(&file)))?;
        }
        Ok(())
    }

    /// Removes it with everything in it.
    pub(crate) fn remove(self, trees: BorrowedFd<'_>) -> Result<(), StoreError> {
        remove_contents(&self.dir, &self.path)?;
        unlinkat(trees, &self.name, AtFlags::REMOVEDIR).map_err(at("remove", &self.path))
    }

    /// Takes over a workspace that a dead process left; `None` if its process lives.
    pub(crate) fn adopt(
        trees: BorrowedFd<'_>,
        path: &Path,
        name: &str,
    ) -> Result<Option<Self>, StoreError> {
        let path = path.join(name);
        let dir = match open_dir(trees, name) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(at("open", &path)(error)),
        };
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(at("lock", &path)(error)),
        }
        // Its process may have removed it between the two calls.
        let stat = statat(trees, name, AtFlags::SYMLINK_NOFOLLOW);
        Ok(stat.is_ok().then(|| Self { name: name.to_owned(), path, dir }))
    }

    /// The environments that its process announced, if it came that far.
    pub(crate) fn announced(&self) -> Result<Vec<EnvironmentName>, StoreError> {
        let mut found = Vec::new();
        each_name(&self.dir, &self.path, |file| {
            let name = file.to_str().ok().and_then(|file| file.strip_prefix(ANNOUNCED));
            found.extend(name.and_then(|name| name.parse::<EnvironmentName>().ok()));
            Ok(())
        })?;
        Ok(found)
    }

    /// Whether a name in the directory of trees is that of a workspace.
    pub(crate) fn is_name(name: &str) -> bool {
        name.starts_with(PREFIX)
    }
}

/// No environment's name begins with a full stop.
const PREFIX: &str = ".work-";
/// In a workspace: how the names of files begin that announce an environment.
const ANNOUNCED: &str = "announced-";

//! Hidden directories in which environments are put together and taken apart.
//!
//! A command may be killed at any instant. What it was doing is in a directory that only it has
//! locked; the kernel unlocks it with the process, and the next command finds it and clears it away.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use uuid::Uuid;

use crate::error::at;
use crate::tree::{each_name, open_dir, remove_contents};
use crate::{EnvironmentName, StoreError, fault};

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
        match mkdirat(trees, &name, Mode::RWXU) {
            Ok(()) => {}
            Err(full @ (Errno::NOSPC | Errno::DQUOT)) => {
                renameat(trees, SPARE, trees, &name).map_err(|_| at("make", &path)(full))?;
            }
            Err(error) => return Err(at("make", &path)(error)),
        }
        let dir = open_dir(trees, &name).map_err(at("open", &path))?;
        flock(&dir, FlockOperation::NonBlockingLockExclusive).map_err(at("lock", &path))?;
        Ok(Self { name, path, dir })
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

    /// Notes down whose snapshots go with the tree of the environments that are announced: those of the
    /// environment with this UUID.
    pub(crate) fn announce_snapshots(&self, uuid: Uuid) -> Result<(), StoreError> {
        let file = format!("{SNAPSHOTS_OF}{uuid}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let made = openat(&self.dir, &file, flags, Mode::RUSR | Mode::WUSR);
        made.map(drop).map_err(at("make", &self.path.join(&file)))
    }

    /// Removes it with everything in it. The empty directory becomes the spare one: what is freed just
    /// now need not be room yet (ext4 waits for its journal).
    pub(crate) fn remove(self, trees: BorrowedFd<'_>) -> Result<(), StoreError> {
        self.forget()?;
        remove_contents(&self.dir, &self.path)?;
        // Whoever takes the spare one locks it.
        flock(&self.dir, FlockOperation::Unlock).map_err(at("remove", &self.path))?;
        match renameat(trees, &self.name, trees, SPARE) {
            // Nothing was in it any more for another command that took it for a leftover.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(_) => {
                unlinkat(trees, &self.name, AtFlags::REMOVEDIR).map_err(at("remove", &self.path))
            }
        }
    }

    /// Removes what says what follows, and all notes about environments, so that what cannot be removed of the
    /// rest is never taken for what is still to be done. The notes about snapshots go before those
    /// about environments, by which it is known whether the snapshots may go.
    fn forget(&self) -> Result<(), StoreError> {
        let mut notes = vec![SEQUEL.to_owned()];
        for prefix in [SNAPSHOTS_OF, ANNOUNCED] {
            each_name(&self.dir, &self.path, |file| {
                let note = file.to_str().ok().filter(|file| file.starts_with(prefix));
                notes.extend(note.map(str::to_owned));
                Ok(())
            })?;
        }
        for note in notes {
            match unlinkat(&self.dir, &note, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => fault::point(),
                Err(error) => return Err(at("remove", &self.path.join(note))(error)),
            }
        }
        Ok(())
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
        self.noted(ANNOUNCED)
    }

    /// The UUIDs of the environments whose snapshots it announced.
    pub(crate) fn announced_snapshots(&self) -> Result<Vec<Uuid>, StoreError> {
        self.noted(SNAPSHOTS_OF)
    }

    /// What follows `prefix` in the names of its files.
    fn noted<T: FromStr>(&self, prefix: &str) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        each_name(&self.dir, &self.path, |file| {
            let noted = file.to_str().ok().and_then(|file| file.strip_prefix(prefix));
            found.extend(noted.and_then(|noted| noted.parse::<T>().ok()));
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
/// An empty directory for when there is no room.
const SPARE: &str = ".spare";
/// In a workspace: what follows from what was done in it.
pub(crate) const SEQUEL: &str = "sequel";
/// In a workspace: how the names of files begin that announce an environment.
const ANNOUNCED: &str = "announced-";
/// In a workspace: how the names of files begin that announce the snapshots of an environment.
const SNAPSHOTS_OF: &str = "snapshots-of-";

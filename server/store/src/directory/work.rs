//! How trees appear and vanish whole, and how what killed commands left is cleared away.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fsync, openat, statat};
use rustix::io::Errno;
use uuid::Uuid;

use super::sequel::Sequel;
use super::{Directory, LOCK, TREE, TREES};
use crate::back_end::BackEnd;
use crate::error::at;
use crate::tree::{open_dir, relocate};
use crate::workspace::Workspace;
use crate::{Environment, EnvironmentName, SnapshotName, StoreError, fault, sys};

impl Directory {
    /// Begins to make an environment, in a workspace of its own.
    pub(super) fn begin(&self, name: &EnvironmentName) -> Result<Workspace, StoreError> {
        let lock = self.lock()?;
        self.free(name)?;
        self.workspace(&lock)
    }

    /// Makes a workspace. With the lock, nobody takes it for a leftover meanwhile.
    pub(super) fn workspace(&self, _: &Lock) -> Result<Workspace, StoreError> {
        Workspace::create(self.trees.as_fd(), &self.path.join(TREES))
    }

    /// Makes the tree in a workspace appear as an environment: from one instant to the next.
    pub(super) fn publish(
        &self,
        work: &Workspace,
        environment: &Environment,
    ) -> Result<(), StoreError> {
        self.publish_with(work, environment, || Ok(()))
    }

    /// The same, with something else that has to be there before it.
    pub(super) fn publish_with(
        &self,
        work: &Workspace,
        environment: &Environment,
        before: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // Whoever finds it after a loss of power finds it whole.
        sys::synchronize(work.dir()).map_err(at("write", work.path()))?;
        let lock = self.lock()?;
        self.free(&environment.name)?;
        fault::point();
        work.announce(&[&environment.name])?;
        before()?;
        fault::point();
        self.write_metadata(&lock, environment)?;
        fault::point();
        let root = self.root(&environment.name);
        relocate(work.dir(), TREE, self.trees.as_fd(), environment.name.as_str())
            .map_err(at("make", &root))?;
        fault::point();
        fsync(&self.trees).map_err(at("write", &root))
    }

    /// Lets the tree in a workspace and an environment's change places. With that, the snapshot in the
    /// workspace appears, if it `appears`, and those that are to vanish do.
    pub(super) fn replace(
        &self,
        work: &Workspace,
        environment: &Environment,
        appears: Option<&SnapshotName>,
        vanish: &[SnapshotName],
    ) -> Result<(), StoreError> {
        let (name, root) = (&environment.name, self.root(&environment.name));
        let new = open_dir(work.dir(), TREE).map_err(at("open", work.path()))?;
        let sequel = Sequel::Tree {
            environment: name.to_string(),
            uuid: environment.uuid,
            tree: self.number(&new, name)?,
            appears: appears.map(ToString::to_string),
            vanish: vanish.iter().map(ToString::to_string).collect(),
        };
        self.prepare(work, &sequel)?;
        sys::synchronize(work.dir()).map_err(at("write", work.path()))?;
        let lock = self.lock()?;
        work.announce(&[name])?;
        fault::point();
        let exchanged = sys::exchange(work.dir(), TREE, self.trees.as_fd(), name.as_str());
        if !exchanged.map_err(at("replace", &root))? {
            // Between these two there is none; who finds it so puts the old one back.
            work.announce(&[name])?;
            let trees = self.trees.as_fd();
            relocate(trees, name.as_str(), work.dir(), OLD).map_err(at("replace", &root))?;
            fault::point();
            relocate(work.dir(), TREE, trees, name.as_str()).map_err(at("replace", &root))?;
        }
        fault::point();
        fsync(&self.trees).map_err(at("write", &root))?;
        self.follow(&lock, work)
    }

    /// What tells a tree from all others that are there.
    pub(super) fn number(&self, tree: &OwnedFd, name: &EnvironmentName) -> Result<u64, StoreError> {
        self.fabric.number(tree).map_err(at("look at", &self.root(name)))
    }

    /// Removes the workspace; of two errors the first is told.
    pub(super) fn end<T>(
        &self,
        work: Workspace,
        made: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if made.is_err() {
            // A verb that failed between two steps is put right as if it had been killed there.
            let lock = self.lock()?;
            self.recover(&lock, &work)?;
        }
        fault::point();
        let removed = work.remove(self.trees.as_fd());
        let made = made?;
        removed?;
        Ok(made)
    }

    /// Refuses a name that is in use.
    pub(super) fn free(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        match self.get(name) {
            Err(StoreError::NoEnvironment(_)) => {}
            Ok(_) | Err(StoreError::Broken { .. }) => {
                return Err(StoreError::Exists(name.clone()));
            }
            Err(error) => return Err(error),
        }
        match statat(&self.trees, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Ok(_) => Err(StoreError::Unknown(self.root(name))),
            Err(error) => Err(at("look at", &self.root(name))(error)),
        }
    }

    pub(super) fn has_tree(&self, name: &EnvironmentName) -> Result<bool, StoreError> {
        match statat(&self.trees, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(at("look at", &self.root(name))(error)),
        }
    }

    /// Completes or undoes what killed commands left, and clears it away. What cannot be cleared away is
    /// tried again by the next command, and stops only those that are about an environment `name` of which
    /// it is not known whether it is there.
    pub(super) fn clear(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        let lock = &self.lock()?;
        let path = self.path.join(TREES);
        let mut left = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.trees).map_err(at("list", &path))? {
            let entry = entry.map_err(at("list", &path))?;
            let name = entry.file_name().to_str().unwrap_or_default();
            if Workspace::is_name(name) {
                left.push(name.to_owned());
            }
        }
        for left in left {
            let Some(work) = Workspace::adopt(self.trees.as_fd(), &path, &left)? else { continue };
            let path = work.path().to_owned();
            let concerned = work.announced()?.contains(name);
            match self.recover(lock, &work) {
                Err(error) if concerned => return Err(error),
                Err(error) => tell(&path, &error),
                Ok(()) => {
                    work.remove(self.trees.as_fd()).unwrap_or_else(|error| tell(&path, &error));
                }
            }
        }
        Ok(())
    }

    /// Finishes or undoes what was announced in a workspace and not done.
    fn recover(&self, lock: &Lock, work: &Workspace) -> Result<(), StoreError> {
        let announced = work.announced()?;
        for name in &announced {
            if self.has_tree(name)? {
                continue;
            }
            match relocate(work.dir(), OLD, self.trees.as_fd(), name.as_str()) {
                Ok(()) => {}
                Err(Errno::NOENT) => self.forget(name)?,
                Err(error) => return Err(at("put back", &self.root(name))(error)),
            }
        }
        for uuid in work.announced_snapshots()? {
            // Snapshots go only with a tree that is known to be gone.
            let stays = announced.iter().map(|name| self.may_be(name, uuid));
            let stays = stays.collect::<Result<Vec<_>, _>>()?;
            if !stays.is_empty() && !stays.contains(&true) {
                self.detach_snapshots(work, uuid)?;
            }
        }
        self.follow(lock, work)
    }

    /// Whether there is an environment with this name and, as far as it is known, this UUID.
    fn may_be(&self, name: &EnvironmentName, uuid: Uuid) -> Result<bool, StoreError> {
        Ok(self.has_tree(name)? && self.uuid(name)?.is_none_or(|known| known == uuid))
    }

    /// Waits until no other command lets environments appear or vanish. Nobody has it for long.
    pub(super) fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.path.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            openat(&self.top, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(at("lock", &path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(at("lock", &path))?;
        Ok(Lock { _file: file })
    }
}

/// Tells what a killed command left and this one could not clear away.
fn tell(path: &Path, error: &StoreError) {
    tracing::warn!(path = %path.display(), %error, "is left by a command that did not come to its end");
}

/// Held while environments appear and vanish; released when dropped or when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: OwnedFd,
}

/// In a workspace: the tree that another is put in the place of.
const OLD: &str = "old";

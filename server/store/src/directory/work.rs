//! How trees appear and vanish whole.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fsync, openat, renameat, statat,
};
use rustix::io::Errno;

use super::intents::Step;
use super::{Directory, LOCK, TREE, TREES};
use crate::error::at;
use crate::journal::{Concerned, Holders, Intent, Open};
use crate::tree::{open_dir, relocate};
use crate::workspace::Workspace;
use crate::{Environment, EnvironmentName, Snapshot, SnapshotName, StoreError, fault, sys};

/// What a verb is doing: its record and its workspace. Dropped before its end it is undone, or completed
/// where it cannot be undone any more.
#[derive(Debug)]
#[must_use]
pub(super) struct Work<'a> {
    open: Open<'a, Step>,
    pub(super) space: Workspace,
}

impl Work<'_> {
    /// All that is to follow was done; what is left in the workspace goes.
    pub(super) fn end(mut self) -> Result<(), StoreError> {
        fault::point();
        self.open.settle()
    }
}

impl Directory {
    /// Writes down what is to be done when a verb does not come to its end.
    pub(super) fn intend(
        &self,
        verb: &str,
        environments: Vec<Concerned>,
        steps: Vec<Step>,
    ) -> Result<Open<'_, Step>, StoreError> {
        let intent = Intent::new(verb, environments, steps);
        self.journal()?.begin(self, intent, Holders::Programs)
    }

    /// The same, with a workspace.
    pub(super) fn work(
        &self,
        verb: &str,
        environments: Vec<Concerned>,
        steps: Vec<Step>,
    ) -> Result<Work<'_>, StoreError> {
        let open = self.intend(verb, environments, steps)?;
        let space = Workspace::create(self.trees.as_fd(), &self.path.join(TREES), open.uuid())?;
        Ok(Work { open, space })
    }

    /// Begins to make an environment.
    pub(super) fn begin(
        &self,
        verb: &str,
        new: &Environment,
        mut more: Vec<Step>,
    ) -> Result<Work<'_>, StoreError> {
        self.free(&new.name)?;
        more.insert(0, Step::forget(&new.name, Some(new.uuid)));
        self.work(verb, vec![new.into()], more)
    }

    /// Destroys an environment. Broken metadata must not keep anybody from getting rid of it.
    pub(super) fn remove(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        if !self.has_tree(name)? {
            return Err(StoreError::NoEnvironment(name.clone()));
        }
        self.inspect(name)?;
        let uuid = self.uuid(name)?;
        let concerned = uuid.map(|uuid| Concerned { name: name.to_string(), uuid });
        let steps = [Some(Step::forget(name, uuid)), uuid.map(|uuid| Step::snapshots(name, uuid))];
        let steps = steps.into_iter().flatten().collect();
        let work = self.work("destroy", concerned.into_iter().collect(), steps)?;
        {
            let _lock = self.lock()?;
            let path = self.root_path(name);
            let explain = || at("destroy", &path);
            renameat(&self.trees, name.as_str(), work.space.dir(), TREE).map_err(explain())?;
            fault::point();
            fsync(&self.trees).map_err(explain())?;
        }
        // From here on it is gone, and what follows is done by whoever finds it.
        work.end()
    }

    /// Makes a clone of a snapshot's tree without a workspace; false where its fabric cannot.
    pub(super) fn clone_at_once(
        &self,
        from: &OwnedFd,
        new: &Environment,
    ) -> Result<bool, StoreError> {
        let root = self.root_path(&new.name);
        if !self.fabric.appears(from).map_err(at("look at", &root))? {
            return Ok(false);
        }
        let steps = vec![Step::forget(&new.name, Some(new.uuid))];
        let intent = Intent::new("clone", vec![new.into()], steps);
        let mut open = self.journal()?.begin_making(self, intent)?;
        {
            let lock = self.lock()?;
            self.free(&new.name)?;
            fault::point();
            self.put_metadata(&lock, new)?;
            fault::point();
            let (trees, name) = (self.trees.as_fd(), new.name.as_str());
            self.fabric.appear(from, trees, name).map_err(at("make", &root))?;
        }
        fault::point();
        open.settle()?;
        Ok(true)
    }

    /// Makes the tree in a workspace appear as an environment: from one instant to the next.
    pub(super) fn publish(
        &self,
        work: Work<'_>,
        environment: &Environment,
    ) -> Result<(), StoreError> {
        self.publish_with(work, environment, |_| Ok(()))
    }

    /// The same, with something else that has to be there before it.
    pub(super) fn publish_with(
        &self,
        work: Work<'_>,
        environment: &Environment,
        before: impl FnOnce(&Workspace) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let space = &work.space;
        self.prepare_metadata(space, environment)?;
        // Whoever finds it after a loss of power finds it whole.
        sys::synchronize(space.dir()).map_err(at("write", space.path()))?;
        let root = self.root_path(&environment.name);
        {
            let lock = self.lock()?;
            self.free(&environment.name)?;
            fault::point();
            before(space)?;
            fault::point();
            self.place_metadata(&lock, space, environment)?;
            fault::point();
            relocate(space.dir(), TREE, self.trees.as_fd(), environment.name.as_str())
                .map_err(at("make", &root))?;
            fault::point();
        }
        // What is written down about it first: without that it is not there. The rest its end brings to the disk.
        fsync(&self.meta).map_err(at("write", &root))?;
        work.end()
    }

    /// Lets the tree in a workspace and an environment's change places. With that, the snapshot in the
    /// workspace appears, if it `appears`, and those that are to vanish do.
    pub(super) fn replace(
        &self,
        mut work: Work<'_>,
        environment: &Environment,
        appears: Option<&SnapshotName>,
        vanish: &[Snapshot],
    ) -> Result<(), StoreError> {
        let (name, root) = (&environment.name, self.root_path(&environment.name));
        let space = &work.space;
        let new = open_dir(space.dir(), TREE).map_err(at("open", space.path()))?;
        self.fabric.carry(&self.open_root(name)?, &new, &root)?;
        let replace = Step::Replace {
            name: name.to_string(),
            uuid: environment.uuid,
            tree: self.number(&new, name)?,
            appears: appears.map(ToString::to_string),
            vanish: vanish.iter().map(|one| (one.name.to_string(), one.uuid)).collect(),
        };
        sys::synchronize(space.dir()).map_err(at("write", space.path()))?;
        work.open.turn(vec![replace])?;
        {
            let _lock = self.lock()?;
            fault::point();
            let (space, trees) = (&work.space, self.trees.as_fd());
            let exchanged = sys::exchange(space.dir(), TREE, trees, name.as_str());
            if !exchanged.map_err(at("replace", &root))? {
                // Between these two there is none; who finds it so puts the old one back.
                relocate(trees, name.as_str(), space.dir(), OLD).map_err(at("replace", &root))?;
                fault::point();
                relocate(space.dir(), TREE, trees, name.as_str()).map_err(at("replace", &root))?;
            }
            fault::point();
            fsync(&self.trees).map_err(at("write", &root))?;
        }
        work.end()
    }

    /// What tells a tree from all others that are there.
    pub(super) fn number(&self, tree: &OwnedFd, name: &EnvironmentName) -> Result<u64, StoreError> {
        self.fabric.number(tree).map_err(at("look at", &self.root_path(name)))
    }

    /// Refuses a name that is in use.
    pub(super) fn free(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        match self.record(name) {
            Err(StoreError::NoEnvironment(_)) => {}
            Ok(_) | Err(StoreError::Broken { .. }) => {
                return Err(StoreError::Exists(name.clone()));
            }
            Err(error) => return Err(error),
        }
        match statat(&self.trees, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Ok(_) => Err(StoreError::Unknown(self.root_path(name))),
            Err(error) => Err(at("look at", &self.root_path(name))(error)),
        }
    }

    pub(super) fn has_tree(&self, name: &EnvironmentName) -> Result<bool, StoreError> {
        match statat(&self.trees, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(at("look at", &self.root_path(name))(error)),
        }
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

/// Held while environments appear and vanish; released when dropped or when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: OwnedFd,
}

/// In a workspace: the tree that another is put in the place of.
pub(super) const OLD: &str = "old";

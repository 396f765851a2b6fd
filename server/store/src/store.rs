//! The store as everybody else sees it: what is common to all kinds of stores.
//!
//! Each verb is checked, takes its locks, is noted in the history, and then handed to the back end.

mod decide;
mod draft;
mod locking;
mod read;
mod split;
mod transfer;
mod would;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

pub use draft::Draft;
pub use read::{Doomed, Footprint};
pub use split::{Pair, Update};

use crate::back_end::{BackEnd, Capabilities, Extent, Side};
use crate::directory::{Directory, Plain};
use crate::draft::note_return;
use crate::journal::Tries;
use crate::lock::{Hold, Locks};
use crate::locked::Locked;
use crate::subvolume::Subvolumes;
use crate::zfs::Zfs;
use crate::{
    Environment, EnvironmentName, ExportSettings, History, Layout, Location, Origin, Pending,
    Point, Role, SettingError, Snapshot, SnapshotName, StoreError, Timestamp,
};

/// An open store of boot environments.
///
/// Several processes may have it open at once: what one of them does appears to the others from one
/// instant to the next. A verb locks the environments that it names; one that meets another at work
/// on the same waits for a while, and then says who that is.
#[derive(Debug)]
pub struct Store {
    back_end: Box<dyn BackEnd>,
    locks: Locks,
    history: History,
}

impl Store {
    /// Opens a store that exists. The state directory keeps its history, and what a store that is no
    /// directory itself has to keep somewhere.
    ///
    /// Refuses one whose directory other users may enter: they could run the setuid programs of
    /// guests.
    pub fn open(location: &Location, state: &Path) -> Result<Self, StoreError> {
        Self::of(
            match location {
                Location::Btrfs(path) => Box::new(Directory::open(path, &Subvolumes)?),
                Location::Directory(path) => Box::new(Directory::open(path, &Plain)?),
                Location::Zfs(dataset) => Box::new(Zfs::open(dataset, state)?),
            },
            state,
        )
    }

    /// Opens a store, and makes one first where there is nothing or an empty directory.
    pub fn establish(location: &Location, state: &Path) -> Result<Self, StoreError> {
        Self::of(
            match location {
                Location::Btrfs(path) => Box::new(Directory::establish(path, &Subvolumes)?),
                Location::Directory(path) => Box::new(Directory::establish(path, &Plain)?),
                Location::Zfs(dataset) => Box::new(Zfs::establish(dataset, state)?),
            },
            state,
        )
    }

    /// The same store, whose reads fail when it is told to.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn with_faults(self, faults: std::sync::Arc<crate::Faults>) -> Self {
        Self { back_end: Box::new(crate::faults::Faulty::new(self.back_end, faults)), ..self }
    }

    fn of(back_end: Box<dyn BackEnd>, state: &Path) -> Result<Self, StoreError> {
        let locks = Locks::new(LOCK_TIMEOUT);
        Ok(Self { back_end, locks, history: History::in_state(state) })
    }

    /// Sets how long a verb waits for another one that works on the same: 10 seconds at first.
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.locks.set_timeout(timeout);
        self
    }

    /// Keeps others from an environment, or from a name that is to be given to one, for as long as
    /// several verbs of this store need it. Without that each verb locks what it names for itself.
    pub fn hold(&self, name: &EnvironmentName) -> Result<Hold<'_>, StoreError> {
        self.locks.hold(&self.back_end.locks()?, name)
    }

    /// A directory for locks of what is made in this store: one for all who use it, whatever state
    /// directory they have.
    pub fn locks(&self) -> Result<PathBuf, StoreError> {
        // No environment's name begins with a full stop.
        Ok(self.back_end.locks()?.join(".roots"))
    }

    /// Undoes or completes what killed verbs left, as each verb that changes something does first; also
    /// of an environment that the caller holds.
    pub fn recover(&self, held: Option<&EnvironmentName>) -> Result<(), StoreError> {
        self.back_end.settle(held, Tries::Few).map(drop)
    }

    /// What verbs left that did not come to their end. Nothing is changed.
    pub fn pending(&self) -> Result<Vec<Pending>, StoreError> {
        self.back_end.settle(None, Tries::None)
    }

    /// Tries once more to undo or to complete what was left of an environment, or all that was left; gives
    /// what stays.
    pub fn settle(&self, name: Option<&EnvironmentName>) -> Result<Vec<Pending>, StoreError> {
        let about: Vec<&str> = name.map(EnvironmentName::as_str).into_iter().collect();
        self.noted("settle", &about, || {
            let folder = self.back_end.locks()?;
            let _alone = name.map(|name| self.locks.change(&folder, name)).transpose()?;
            self.back_end.settle(name, Tries::Once)
        })
    }

    /// What this kind of store can do that others cannot.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.back_end.capabilities()
    }

    /// Creates a boot environment with nothing in it but the directories of its layout.
    pub fn create(
        &self,
        name: &EnvironmentName,
        layout: Layout,
    ) -> Result<Environment, StoreError> {
        self.create_as(name, layout, Uuid::new_v4(), |_| Ok(()))
    }

    fn create_as(
        &self,
        name: &EnvironmentName,
        layout: Layout,
        uuid: Uuid,
        prepare: impl FnOnce(&mut Environment) -> Result<(), SettingError>,
    ) -> Result<Environment, StoreError> {
        self.noted("create", &[layout.as_str(), name.as_str()], || {
            let _alone = self.claim(name)?;
            let mut new = Environment {
                name: name.clone(),
                uuid,
                created: now(),
                origin: None,
                layout,
                datasets: layout.datasets(),
                role: Role::Environment,
                settings: crate::Settings::default(),
                export: ExportSettings::default(),
            };
            prepare(&mut new)?;
            self.back_end.create(&new)?;
            Ok(new)
        })
    }

    /// Clones a boot environment or a snapshot of it, with all that a system can have in its files:
    /// owners, modes, times, extended attributes, hard links, device nodes and holes. Blocks are
    /// shared where the store can.
    ///
    /// The clone has a UUID of its own and is not shared. Without a snapshot, a source that is being
    /// written to is cloned as [`Capabilities::instant_snapshots`] says.
    pub fn clone_environment(
        &self,
        source: &Point,
        name: &EnvironmentName,
    ) -> Result<Environment, StoreError> {
        self.clone_as(source, name, Uuid::new_v4(), |_| Ok(()))
    }

    fn clone_as(
        &self,
        source: &Point,
        name: &EnvironmentName,
        uuid: Uuid,
        prepare: impl FnOnce(&mut Environment) -> Result<(), SettingError>,
    ) -> Result<Environment, StoreError> {
        self.noted("clone", &[&source.to_string(), name.as_str()], || {
            // What is left of the source cannot be settled while it is read.
            self.back_end.settle(None, Tries::Few)?;
            let kept = self.kept(&source.environment)?;
            let origin = self.back_end.record(&kept)?;
            self.refuse_half(&origin)?;
            // Whether the snapshot is there, the back end sees when it uses it.
            let _alone = self.claim_beside(&kept, name)?;
            let mut new = Environment {
                name: name.clone(),
                uuid,
                created: now(),
                origin: Some(Origin {
                    name: origin.name,
                    uuid: origin.uuid,
                    snapshot: source.snapshot.clone(),
                }),
                layout: origin.layout,
                datasets: origin.datasets,
                role: Role::Environment,
                settings: origin.settings,
                // Whoever shares one does not share every copy that is made of it.
                export: ExportSettings::default(),
            };
            prepare(&mut new)?;
            let from = Side { locked: &kept, snapshot: source.snapshot.as_ref() };
            self.back_end.clone_tree(from, Extent::Whole, &new)
        })
    }

    /// Gives a boot environment another name. Its UUID stays, and with it every handle of a machine
    /// that runs from it.
    pub fn rename(&self, name: &EnvironmentName, new: &EnvironmentName) -> Result<(), StoreError> {
        self.noted("rename", &[name.as_str(), new.as_str()], || {
            let alone = self.alone(name)?;
            self.back_end.record(&alone)?;
            let _new = self.claim_beside(&alone, new)?;
            self.back_end.rename(&alone, new)
        })
    }

    /// Turns around the dependence between a clone and what it was cloned from, so that the latter
    /// can be destroyed.
    pub fn promote(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        self.noted("promote", &[name.as_str()], || {
            let alone = self.alone(name)?;
            let clone = alone.read(&*self.back_end)?;
            let origin = clone.environment.origin.as_ref().map(|origin| origin.uuid);
            let listed = self.back_end.list()?.environments;
            let origin = listed.into_iter().find(|known| Some(known.uuid) == origin);
            let found = origin.ok_or_else(|| StoreError::NoOrigin(name.clone()))?;
            let origin = self.alone(&found.name)?;
            let origin = origin.read(&*self.back_end)?;
            if origin.environment.uuid != found.uuid {
                return Err(StoreError::Busy { what: found.name.to_string(), holder: None });
            }
            self.back_end.promote(&clone, &origin)
        })
    }

    /// Destroys a boot environment with its snapshots. It is gone at once; an error after that
    /// concerns only the space that its files take, which the next command frees.
    ///
    /// One that others depend on is refused, and so are immutable files and mounted file systems in
    /// it, before anything is touched.
    pub fn destroy(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        self.noted("destroy", &[name.as_str()], || {
            self.mend(name, |alone| {
                self.doomed(alone)?;
                self.back_end.destroy(alone, None)
            })
        })
    }

    /// The snapshots that go with an environment, if it may be destroyed.
    fn doomed(&self, locked: &Locked) -> Result<Vec<Snapshot>, StoreError> {
        let name = locked.name();
        let snapshots = match self.back_end.snapshots_of(locked) {
            // Broken metadata must not keep anybody from getting rid of it.
            Err(StoreError::Broken { .. }) => Vec::new(),
            other => other?,
        };
        self.refuse_mounted(locked, |_| true)?;
        let clones = snapshots.iter().flat_map(|snapshot| &snapshot.clones);
        let names: Vec<_> = clones.filter(|clone| *clone != name).cloned().collect();
        if !names.is_empty() {
            return Err(StoreError::Dependants { what: name.to_string(), names });
        }
        Ok(snapshots)
    }

    /// Refuses a snapshot that may not be destroyed.
    fn doomed_snapshot(&self, locked: &Locked, snapshot: &SnapshotName) -> Result<(), StoreError> {
        let names = self.find(locked, snapshot)?.clones;
        if !names.is_empty() {
            let what = Point::snapshot(locked.name(), snapshot).to_string();
            return Err(StoreError::Dependants { what, names });
        }
        self.refuse_mounted(locked, |point| point.snapshot.as_ref() == Some(snapshot))
    }

    /// Makes a snapshot of a boot environment's whole tree.
    pub fn snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<Snapshot, StoreError> {
        let point = Point::snapshot(name, snapshot);
        self.noted("snapshot", &[&point.to_string()], || {
            self.accept(snapshot.as_str())?;
            let alone = self.alone(name)?;
            self.back_end.record(&alone)?;
            self.refuse_snapshot(&alone, snapshot)?;
            self.back_end.snapshot(&alone, snapshot)
        })
    }

    /// Destroys a snapshot. One that clones depend on is refused.
    pub fn destroy_snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<(), StoreError> {
        let point = Point::snapshot(name, snapshot);
        self.noted("destroy", &[&point.to_string()], || {
            let alone = self.alone(name)?;
            self.doomed_snapshot(&alone, snapshot)?;
            self.back_end.destroy(&alone, Some(snapshot))
        })
    }

    /// Makes a boot environment's tree that of one of its snapshots. What was decided about it stays,
    /// and so does its UUID; files that a machine has open in it are gone for it.
    pub fn rollback(
        &self,
        name: &EnvironmentName,
        to: &SnapshotName,
        newer: Newer,
    ) -> Result<(), StoreError> {
        let point = Point::snapshot(name, to);
        self.noted("rollback", &[&point.to_string()], || {
            self.mend(name, |alone| self.go_back(alone, to, newer))
        })
    }

    fn go_back(&self, locked: &Locked, to: &SnapshotName, newer: Newer) -> Result<(), StoreError> {
        let newest_first = self.newer(locked, to, newer)?;
        note_return(&*self.back_end, locked, &newest_first)?;
        self.back_end.rollback(locked, to, &newest_first)
    }

    /// The snapshots that go with a return to one, the newest first; refused where that is.
    fn newer(
        &self,
        locked: &Locked,
        to: &SnapshotName,
        newer: Newer,
    ) -> Result<Vec<SnapshotName>, StoreError> {
        let point = Point::snapshot(locked.name(), to);
        let snapshots = self.back_end.snapshots_of(locked)?;
        if !snapshots.iter().any(|snapshot| snapshot.name == *to) {
            return Err(StoreError::NoSnapshot(point));
        }
        let since = snapshots.into_iter().skip_while(|snapshot| snapshot.name != *to).skip(1);
        let since: Vec<Snapshot> = since.collect();
        let names: Vec<_> = since.iter().flat_map(|snapshot| snapshot.clones.clone()).collect();
        if !names.is_empty() {
            let what = format!("what came after {point}");
            return Err(StoreError::Dependants { what, names });
        }
        // What the store made by itself nobody misses.
        let wanted = since.iter().filter(|snapshot| !snapshot.automatic);
        let wanted: Vec<_> = wanted.map(|snapshot| snapshot.name.clone()).collect();
        if newer == Newer::Refuse && !wanted.is_empty() {
            return Err(StoreError::Newer { point, snapshots: wanted });
        }
        self.refuse_mounted(locked, |point| {
            let snapshot = point.snapshot.as_ref();
            snapshot.is_none_or(|snapshot| since.iter().any(|gone| gone.name == *snapshot))
        })?;
        Ok(since.into_iter().rev().map(|snapshot| snapshot.name).collect())
    }

    /// Shows a boot environment's tree, or a snapshot's, at an empty directory too: without devices
    /// and setuid programs, and a snapshot read-only.
    pub fn mount(&self, point: &Point, target: &Path) -> Result<(), StoreError> {
        let arguments = [&*point.to_string(), &*target.to_string_lossy()];
        self.noted("mount", &arguments, || {
            let kept = self.kept(&point.environment)?;
            self.back_end.record(&kept)?;
            if let Some(snapshot) = &point.snapshot {
                self.find(&kept, snapshot)?;
            }
            refuse_target(target)?;
            let tree = Side { locked: &kept, snapshot: point.snapshot.as_ref() };
            self.back_end.mount(tree, target)
        })
    }

    /// Undoes every mount of a boot environment and of its snapshots, or only that at `target`; says
    /// where they were.
    pub fn unmount(
        &self,
        name: &EnvironmentName,
        target: Option<&Path>,
        in_use: InUse,
    ) -> Result<Vec<PathBuf>, StoreError> {
        let _kept = self.kept(name)?;
        let mounts = self.would_unmount(name, target)?;
        let at = target.map(Path::to_string_lossy);
        let arguments: Vec<&str> = std::iter::once(name.as_str()).chain(at.as_deref()).collect();
        self.noted("unmount", &arguments, || {
            for at in &mounts {
                self.back_end.unmount(at, in_use)?;
            }
            Ok(mounts)
        })
    }

    /// Unmounts a boot environment of which the caller has closed everything, so that others can
    /// destroy it or roll it back.
    pub fn release(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        self.back_end.release(Some(name))
    }

    /// Unmounts all boot environments, of which the caller has closed everything, so that what they
    /// are kept in can be taken away. Some kinds of store cannot: [`StoreError::Unsupported`].
    pub fn detach(&self) -> Result<(), StoreError> {
        self.back_end.release(None)
    }
}

/// What is to become of snapshots that are newer than the one that is rolled back to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Newer {
    /// They go.
    Destroy,
    /// They stay, and nothing is rolled back.
    Refuse,
}

/// What is to become of data sets that a receiver has and a sender has no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lacking {
    /// They go.
    Destroy,
    /// They stay, and nothing is received.
    Refuse,
}

/// What is to become of a mount in which programs have files open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InUse {
    /// It goes. On Linux these programs keep what they have open until they close it; on FreeBSD it is
    /// taken from them.
    Detach,
    /// It stays.
    Refuse,
}

/// What is in a store.
#[derive(Debug, Default)]
pub struct Listing {
    /// The boot environments, sorted by name.
    pub environments: Vec<Environment>,
    /// Why others cannot be shown: one broken metadata file must not hide all the rest.
    pub unreadable: Vec<Unreadable>,
}

/// An environment that is there and cannot be read, in whole or in part.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unreadable {
    /// Its name.
    pub name: EnvironmentName,
    /// Why.
    #[source]
    pub error: StoreError,
}

/// Refuses to mount anything where something is.
fn refuse_target(target: &Path) -> Result<(), StoreError> {
    let empty = std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    if empty && target.is_absolute() {
        return Ok(());
    }
    Err(StoreError::MountTarget(target.to_owned()))
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// How long a verb waits for another one that works on the same.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

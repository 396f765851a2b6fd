//! The store as everybody else sees it: what is common to all kinds of stores.
//!
//! Each verb is checked, takes its locks, is noted in the history, and then handed to the back end.

mod draft;
mod split;
mod transfer;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use uuid::Uuid;

pub use draft::Draft;

use crate::back_end::{BackEnd, Capabilities, Part};
use crate::directory::{Directory, Plain};
use crate::journal::Tries;
use crate::lock::{Held, Hold, Locks};
use crate::progress::{Unit, Work};
use crate::stream::StreamError;
use crate::subvolume::Subvolumes;
use crate::zfs::Zfs;
use crate::{
    Change, Concerned, Decision, Environment, EnvironmentName, ExportSettings, History, Layout,
    Location, NativeChange, NativeValue, Origin, Pending, Point, Role, SettingError, Snapshot,
    SnapshotName, Space, StoreError, Survey, Timestamp,
};

pub use split::{Pair, Update};

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

    /// All boot environments, sorted by name.
    pub fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = self.back_end.list()?;
        name_origins(listing.environments.iter_mut());
        Ok(listing)
    }

    /// The same, with what they take as far as the store knows without looking at their files.
    pub fn list_with_space(&self) -> Result<(Listing, HashMap<Uuid, Space>), StoreError> {
        let (mut listing, spaces) = self.back_end.list_with_space()?;
        name_origins(listing.environments.iter_mut());
        Ok((listing, spaces))
    }

    /// All boot environments with their snapshots and what space they take. In a store of plain
    /// directories every file is looked at for that.
    pub fn survey(&self) -> Result<Survey, StoreError> {
        let mut survey = self.back_end.survey()?;
        name_origins(survey.holdings.iter_mut().map(|holding| &mut holding.environment));
        Ok(survey)
    }

    /// One boot environment.
    pub fn get(&self, name: &EnvironmentName) -> Result<Environment, StoreError> {
        self.back_end.get(name)
    }

    /// The data sets of a boot environment that ZFS shares over NFS by itself (`sharenfs` of
    /// zfsprops(7)), beside what netbe serves.
    pub fn shared_by_itself(&self, name: &EnvironmentName) -> Result<Vec<String>, StoreError> {
        self.back_end.shared_by_itself(name)
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
            let _kept = self.kept(&source.environment)?;
            let origin = self.back_end.get(&source.environment)?;
            self.refuse_half(&origin)?;
            // Whether the name is taken and the snapshot is there, the back end sees when it uses them.
            self.accept(name.as_str())?;
            if source.environment == *name {
                return Err(StoreError::Exists(name.clone()));
            }
            let _alone = self.alone(name)?;
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
            self.back_end.clone_environment(source, &new)
        })
    }

    /// Gives a boot environment another name. Its UUID stays, and with it every handle of a machine
    /// that runs from it.
    pub fn rename(&self, name: &EnvironmentName, new: &EnvironmentName) -> Result<(), StoreError> {
        self.noted("rename", &[name.as_str(), new.as_str()], || {
            let _alone = self.alone(name)?;
            self.back_end.get(name)?;
            let _new = self.claim_beside(name, new)?;
            self.back_end.rename(name, new)
        })
    }

    /// Turns around the dependence between a clone and what it was cloned from, so that the latter
    /// can be destroyed.
    pub fn promote(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        self.noted("promote", &[name.as_str()], || {
            let _alone = self.alone(name)?;
            let clone = self.back_end.get(name)?;
            let origin = clone.origin.as_ref().map(|origin| origin.uuid);
            let listed = self.back_end.list()?.environments;
            let origin = listed.into_iter().find(|known| Some(known.uuid) == origin);
            let found = origin.ok_or_else(|| StoreError::NoOrigin(name.clone()))?;
            let _origin = self.alone(&found.name)?;
            // What it was before it was locked may be written nowhere any more.
            let origin = self.back_end.get(&found.name)?;
            if origin.uuid != found.uuid {
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
            self.mend(name, || {
                self.doomed(name)?;
                self.back_end.destroy(name)
            })
        })
    }

    /// What destroying a boot environment or a snapshot would take away: the environment and then its
    /// snapshots, oldest first. Refused where that would be, as far as it can be known without touching
    /// anything: the kernel may still say that files are in use.
    pub fn would_destroy(&self, point: &Point) -> Result<Vec<Point>, StoreError> {
        let name = &point.environment;
        let _kept = self.kept(name)?;
        if let Some(snapshot) = &point.snapshot {
            self.doomed_snapshot(name, snapshot)?;
            return Ok(vec![point.clone()]);
        }
        let snapshots = self.doomed(name)?.into_iter();
        let snapshots = snapshots.map(|snapshot| Point::snapshot(name, &snapshot.name));
        Ok(std::iter::once(point.clone()).chain(snapshots).collect())
    }

    /// The snapshots that go with an environment, if it may be destroyed.
    fn doomed(&self, name: &EnvironmentName) -> Result<Vec<Snapshot>, StoreError> {
        let snapshots = match self.back_end.snapshots(name) {
            // Broken metadata must not keep anybody from getting rid of it.
            Err(StoreError::Broken { .. }) => Vec::new(),
            other => other?,
        };
        self.refuse_mounted(name, |_| true)?;
        let clones = snapshots.iter().flat_map(|snapshot| &snapshot.clones);
        let names: Vec<_> = clones.filter(|clone| *clone != name).cloned().collect();
        if !names.is_empty() {
            return Err(StoreError::Dependants { what: name.to_string(), names });
        }
        Ok(snapshots)
    }

    /// Refuses a snapshot that may not be destroyed.
    fn doomed_snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<(), StoreError> {
        let names = self.find(name, snapshot)?.clones;
        if !names.is_empty() {
            let what = Point::snapshot(name, snapshot).to_string();
            return Err(StoreError::Dependants { what, names });
        }
        self.refuse_mounted(name, |point| point.snapshot.as_ref() == Some(snapshot))
    }

    /// The snapshots of a boot environment, oldest first.
    pub fn snapshots(&self, name: &EnvironmentName) -> Result<Vec<Snapshot>, StoreError> {
        self.back_end.snapshots(name)
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
            let _alone = self.alone(name)?;
            self.back_end.get(name)?;
            self.refuse_snapshot(name, snapshot)?;
            self.back_end.snapshot(name, snapshot)
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
            let _alone = self.alone(name)?;
            self.doomed_snapshot(name, snapshot)?;
            self.back_end.destroy_snapshot(name, snapshot)
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
            self.mend(name, || self.go_back(&point, to, newer))
        })
    }

    fn go_back(&self, point: &Point, to: &SnapshotName, newer: Newer) -> Result<(), StoreError> {
        let name = &point.environment;
        self.find(name, to)?;
        let snapshots = self.back_end.snapshots(name)?;
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
            return Err(StoreError::Newer { point: point.clone(), snapshots: wanted });
        }
        self.refuse_mounted(name, |point| {
            let snapshot = point.snapshot.as_ref();
            snapshot.is_none_or(|snapshot| since.iter().any(|gone| gone.name == *snapshot))
        })?;
        let newest_first = since.into_iter().rev().map(|snapshot| snapshot.name);
        self.back_end.rollback(name, to, &newest_first.collect::<Vec<_>>())
    }

    /// What differs in `new` from `old`, sorted by path.
    pub fn diff(&self, old: &Point, new: &Point) -> Result<Vec<Change>, StoreError> {
        let _kept = self.keep(&old.environment, &new.environment)?;
        for point in [old, new] {
            self.back_end.get(&point.environment)?;
            if let Some(snapshot) = &point.snapshot {
                self.find(&point.environment, snapshot)?;
            }
        }
        self.back_end.diff(old, new)
    }

    /// The newest snapshot of a boot environment, if the tree is as it was when that was made.
    pub fn newest_unchanged(&self, name: &EnvironmentName) -> Result<Option<Snapshot>, StoreError> {
        let _kept = self.kept(name)?;
        let Some(newest) = self.back_end.snapshots(name)?.pop() else { return Ok(None) };
        Ok(self.back_end.is_unchanged(name, &newest)?.then_some(newest))
    }

    /// Shows a boot environment's tree, or a snapshot's, at an empty directory too: without devices
    /// and setuid programs, and a snapshot read-only.
    pub fn mount(&self, point: &Point, target: &Path) -> Result<(), StoreError> {
        let arguments = [&*point.to_string(), &*target.to_string_lossy()];
        self.noted("mount", &arguments, || {
            let _kept = self.kept(&point.environment)?;
            self.back_end.get(&point.environment)?;
            if let Some(snapshot) = &point.snapshot {
                self.find(&point.environment, snapshot)?;
            }
            let empty = std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
            if !empty || !target.is_absolute() {
                return Err(StoreError::MountTarget(target.to_owned()));
            }
            self.back_end.mount(point, target)
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
        self.back_end.get(name)?;
        let mut mounts = self.back_end.mounts(name)?;
        mounts.retain(|(_, at)| target.is_none_or(|target| at == target));
        let mounts: Vec<PathBuf> = mounts.into_iter().map(|(_, at)| at).collect();
        if mounts.is_empty() {
            return Err(StoreError::NotMounted(name.clone(), target.map(Path::to_owned)));
        }
        let at = target.map(Path::to_string_lossy);
        let arguments: Vec<&str> = std::iter::once(name.as_str()).chain(at.as_deref()).collect();
        self.noted("unmount", &arguments, || {
            for at in &mounts {
                self.back_end.unmount(name, at, in_use)?;
            }
            Ok(mounts)
        })
    }

    /// Decides anew how a boot environment is shared.
    pub fn set_export(
        &self,
        name: &EnvironmentName,
        export: ExportSettings,
    ) -> Result<Environment, StoreError> {
        self.change_export(name, |kept| *kept = export)
    }

    /// Changes how a boot environment is shared: what `change` leaves alone stays as it is.
    pub fn change_export(
        &self,
        name: &EnvironmentName,
        change: impl FnOnce(&mut ExportSettings),
    ) -> Result<Environment, StoreError> {
        self.change("sharenfs", name, &[], |environment| {
            change(&mut environment.export);
            Ok(())
        })
    }

    /// Writes down several decisions about a boot environment at one instant: all of them, or none where
    /// one is refused.
    pub fn decide(
        &self,
        name: &EnvironmentName,
        decisions: &[Decision],
    ) -> Result<Environment, StoreError> {
        let told: Vec<String> = decisions.iter().map(ToString::to_string).collect();
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        let natives = last_changes(decisions);
        self.change_with("set", name, &told, &natives, |environment| {
            if decisions.iter().any(|decision| matches!(decision, Decision::Role(_))) {
                self.refuse_half(environment)?;
            }
            decide_all(environment, decisions)
        })
    }

    /// Says what a boot environment is for.
    pub fn set_role(&self, name: &EnvironmentName, role: Role) -> Result<Environment, StoreError> {
        self.decide(name, &[Decision::Role(role)])
    }

    /// Writes down a setting of a boot environment, or takes it away.
    pub fn set(
        &self,
        name: &EnvironmentName,
        key: &str,
        value: Option<&str>,
    ) -> Result<Environment, StoreError> {
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        self.decide(name, &[Decision::Setting { key, value }])
    }

    /// Says whether a data set of a boot environment stays with the machine when its boot environment
    /// changes.
    pub fn mark_data(
        &self,
        name: &EnvironmentName,
        dataset: &str,
        data: bool,
    ) -> Result<Environment, StoreError> {
        self.decide(name, &[Decision::Data { dataset: dataset.to_owned(), data }])
    }

    /// The properties of the file system that can be set of a boot environment here, as they are.
    pub fn natives(&self, name: &EnvironmentName) -> Result<Vec<NativeValue>, StoreError> {
        self.back_end.get(name)?;
        self.back_end.natives(name)
    }

    /// Where a boot environment's root is on this host: for messages and for programs such as
    /// bhyveload(8) that take a path. What is below it belongs to a guest.
    #[must_use]
    pub fn root(&self, name: &EnvironmentName) -> PathBuf {
        self.back_end.root(name)
    }

    /// Opens the root directory of a boot environment, to be read and searched.
    pub fn open_root(&self, name: &EnvironmentName) -> Result<OwnedFd, StoreError> {
        self.back_end.open_root(name)
    }

    /// Opens the file systems that a boot environment consists of: the root first, every parent before
    /// its children; only those that can be served now. A data set that is no file system of its own
    /// lies in its parent's and is none of them.
    pub fn open_parts(&self, name: &EnvironmentName) -> Result<Vec<Part>, StoreError> {
        self.back_end.open_parts(name)
    }

    /// Unmounts a boot environment of which the caller has closed everything, so that others can
    /// destroy it or roll it back.
    pub fn release(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        self.back_end.release(name)
    }

    /// Looks whether what the store is made of is there and answers: [`StoreError::Away`] or
    /// [`StoreError::Stalled`] if not. Takes some seconds at most, whatever state that is in.
    pub fn present(&self) -> Result<(), StoreError> {
        self.back_end.present()
    }

    /// Unmounts all boot environments, of which the caller has closed everything, so that what they
    /// are kept in can be taken away. Some kinds of store cannot: [`StoreError::Unsupported`].
    pub fn detach(&self) -> Result<(), StoreError> {
        self.back_end.detach()
    }

    /// Notes a verb in the history, does it, and notes how it ended.
    fn noted<T>(
        &self,
        verb: &str,
        arguments: &[&str],
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let entry = self.history.begin(verb, arguments);
        let about = arguments.last().copied().unwrap_or_default();
        let _work = Work::begin(|| format!("{verb} {about}"), Unit::Nothing, None);
        let outcome = work().map_err(|error| explained(about, error));
        entry.end(&outcome);
        outcome
    }

    fn change(
        &self,
        verb: &str,
        name: &EnvironmentName,
        told: &[&str],
        change: impl FnOnce(&mut Environment) -> Result<(), StoreError>,
    ) -> Result<Environment, StoreError> {
        self.change_with(verb, name, told, &[], change)
    }

    fn change_with(
        &self,
        verb: &str,
        name: &EnvironmentName,
        told: &[&str],
        natives: &[NativeChange],
        change: impl FnOnce(&mut Environment) -> Result<(), StoreError>,
    ) -> Result<Environment, StoreError> {
        let arguments: Vec<&str> = told.iter().copied().chain([name.as_str()]).collect();
        self.noted(verb, &arguments, || {
            let _alone = self.alone(name)?;
            let mut environment = self.back_end.get(name)?;
            change(&mut environment)?;
            match natives {
                [] => self.back_end.write(&environment)?,
                changes => self.back_end.write_with(&environment, changes)?,
            }
            Ok(environment)
        })
    }

    /// Keeps others from changing an environment.
    fn kept(&self, name: &EnvironmentName) -> Result<Kept<'_>, StoreError> {
        Ok(self.known(name, self.locks.read(&self.back_end.locks()?, name)?))
    }

    /// Locks an environment that is to be changed. What it is looked at for after that is what stands.
    fn alone(&self, name: &EnvironmentName) -> Result<Kept<'_>, StoreError> {
        let (alone, pending) = self.settled(name)?;
        if pending.is_empty() {
            return Ok(alone);
        }
        let uuid = match self.back_end.get(name) {
            Ok(environment) => Some(environment.uuid),
            // By its name alone it cannot be told from others that had it.
            Err(StoreError::NoEnvironment(_)) => return Ok(alone),
            Err(_) => None,
        };
        let concerns = |known: &Concerned| match uuid {
            Some(uuid) => known.uuid == uuid,
            None => known.name == name.as_str(),
        };
        match pending.into_iter().find(|one| one.environments.iter().any(concerns)) {
            Some(Pending { verb, error, .. }) => Err(StoreError::Unsettled {
                name: name.clone(),
                verb,
                why: error.unwrap_or_default(),
            }),
            None => Ok(alone),
        }
    }

    /// The same for a verb by which a person puts an environment right that could not be settled. After
    /// it nothing may be left to be done.
    fn mend(
        &self,
        name: &EnvironmentName,
        verb: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (_alone, pending) = self.settled(name)?;
        verb()?;
        if !pending.is_empty() {
            // What stays is shown.
            let _ = self.back_end.settle(Some(name), Tries::Once);
        }
        Ok(())
    }

    fn settled(&self, name: &EnvironmentName) -> Result<(Kept<'_>, Vec<Pending>), StoreError> {
        let held = self.locks.change(&self.back_end.locks()?, name)?;
        let pending = self.back_end.settle(Some(name), Tries::Few)?;
        Ok((self.known(name, held), pending))
    }

    /// Tells the back end of a lock.
    fn known(&self, name: &EnvironmentName, held: Held) -> Kept<'_> {
        self.back_end.begin(name);
        Kept { back_end: &*self.back_end, name: name.clone(), _held: held }
    }

    /// Locks a name that is to be given to a new environment.
    fn claim(&self, name: &EnvironmentName) -> Result<Kept<'_>, StoreError> {
        self.accept(name.as_str())?;
        let held = self.alone(name)?;
        if self.back_end.is_taken(name)? {
            return Err(StoreError::Exists(name.clone()));
        }
        Ok(held)
    }

    /// The same while another environment is locked, which may be that of the name.
    fn claim_beside(
        &self,
        locked: &EnvironmentName,
        name: &EnvironmentName,
    ) -> Result<Kept<'_>, StoreError> {
        if locked == name { Err(StoreError::Exists(name.clone())) } else { self.claim(name) }
    }

    /// Locks two environments, which may be one, against changes.
    fn keep(
        &self,
        one: &EnvironmentName,
        other: &EnvironmentName,
    ) -> Result<[Kept<'_>; 2], StoreError> {
        Ok([self.kept(one)?, self.kept(other)?])
    }

    /// Refuses a name that the back end cannot have.
    fn accept(&self, name: &str) -> Result<(), StoreError> {
        match self.back_end.refuses(name) {
            Some(reason) => Err(StoreError::Name { name: name.to_owned(), reason }),
            None => Ok(()),
        }
    }

    /// Refuses to take a tree away that somebody looks at elsewhere.
    fn refuse_mounted(
        &self,
        name: &EnvironmentName,
        goes: impl Fn(&Point) -> bool,
    ) -> Result<(), StoreError> {
        match self.back_end.mounts(name)?.into_iter().find(|(point, _)| goes(point)) {
            Some((point, at)) => Err(StoreError::Mounted { point, at }),
            None => Ok(()),
        }
    }

    /// Refuses the name of a snapshot that there is.
    fn refuse_snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<(), StoreError> {
        match self.find(name, snapshot) {
            Err(StoreError::NoSnapshot(_)) => Ok(()),
            Ok(_) => Err(StoreError::SnapshotExists(Point::snapshot(name, snapshot))),
            Err(error) => Err(error),
        }
    }

    fn find(&self, name: &EnvironmentName, wanted: &SnapshotName) -> Result<Snapshot, StoreError> {
        let snapshots = self.back_end.snapshots(name)?;
        let found = snapshots.into_iter().find(|snapshot| snapshot.name == *wanted);
        found.ok_or_else(|| StoreError::NoSnapshot(Point::snapshot(name, wanted)))
    }
}

/// A lock on an environment, of which the back end knows.
#[derive(Debug)]
#[must_use]
struct Kept<'a> {
    back_end: &'a dyn BackEnd,
    name: EnvironmentName,
    _held: Held,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.back_end.end(&self.name);
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

/// Decides all of this about an environment.
fn decide_all(environment: &mut Environment, decisions: &[Decision]) -> Result<(), StoreError> {
    for decision in decisions {
        match decision {
            // Not written down by netbe.
            Decision::Native(_) => {}
            Decision::Role(role) => environment.role = *role,
            Decision::Data { dataset, data } => {
                let name = environment.name.clone();
                let mut sets = environment.datasets.iter_mut();
                let set = sets.find(|set| set.path() == dataset && set.mounted());
                let none = || StoreError::NoDataset { name, dataset: dataset.clone() };
                let set = set.ok_or_else(none)?;
                *set = set.clone().with_data(*data);
            }
            Decision::Setting { key, value } => {
                environment.settings.set(key, value.as_deref())?;
            }
        }
    }
    Ok(())
}

/// Changes of native properties: of each property the last, as with settings.
fn last_changes(decisions: &[Decision]) -> Vec<NativeChange> {
    let mut last = Vec::<NativeChange>::new();
    for decision in decisions {
        let Decision::Native(change) = decision else { continue };
        last.retain(|earlier| earlier.property != change.property);
        last.push(change.clone());
    }
    last
}

/// Gives origins the names that they have now; one that is gone keeps the name that it had.
fn name_origins<'a>(environments: impl Iterator<Item = &'a mut Environment>) {
    let environments: Vec<_> = environments.collect();
    let named = |known: &&mut Environment| (known.uuid, known.name.clone());
    let names: HashMap<Uuid, EnvironmentName> = environments.iter().map(named).collect();
    for origin in environments.into_iter().filter_map(|environment| environment.origin.as_mut()) {
        if let Some(name) = names.get(&origin.uuid) {
            origin.name = name.clone();
        }
    }
}

/// Tells apart, in one place for all back ends, what the system says in the same words.
fn explained(about: &str, error: StoreError) -> StoreError {
    let StoreError::Io { action, path, error } = error else { return error };
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    if matches!(number, Some(Errno::NOSPC | Errno::DQUOT)) {
        return StoreError::Full { what: about.to_owned() };
    }
    if number == Some(Errno::BUSY) {
        return StoreError::Busy { what: path.display().to_string(), holder: None };
    }
    match error.downcast::<StreamError>() {
        Ok(error) => error.into(),
        Err(error) => StoreError::Io { action, path, error },
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// How long a verb waits for another one that works on the same.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

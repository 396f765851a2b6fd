//! What a kind of store can do.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::draft::{OpenIntent, Step};
use crate::journal::Tries;
use crate::locked::{Current, Locked};
use crate::name::NameRules;
use crate::progress::Work;
use crate::query::{Answer, Fact, Found, Query};
use crate::tree::Until;
use crate::{
    Change, Concerned, Environment, EnvironmentName, InUse, Lacking, Listing, NativeChange,
    Pending, Point, Snapshot, SnapshotName, StoreError,
};

/// A kind of store: plain directories, btrfs subvolumes, ZFS data sets.
///
/// It holds no policy. Before any verb here is called, [`Store`](crate::Store) has checked names against
/// the rules for them, locked every environment that is named (shared for what is read, alone for what is
/// changed or made), checked that what must be there is, noted the beginning in the history, and had
/// [`BackEnd::settle`] called. What other programs can change meanwhile a back end checks itself, and that
/// a name is free that something is to get. Each verb is done whole or not at all, whenever its process is
/// killed.
pub(crate) trait BackEnd: Debug + Send + Sync {
    /// What it can do that others cannot.
    fn capabilities(&self) -> Capabilities;

    /// A directory for lock files that is its owner's alone and exists: one for all that use the store,
    /// wherever they keep their state.
    fn locks(&self) -> Result<PathBuf, StoreError>;

    /// Completes or undoes what killed verbs left, and gives what is still left. The caller has the
    /// environment `name` locked; others are locked meanwhile, or left alone if somebody has them.
    fn settle(
        &self,
        name: Option<&EnvironmentName>,
        tries: Tries,
    ) -> Result<Vec<Pending>, StoreError>;

    /// Writes down what is to be done when the verbs that make or fill these environments do not come to
    /// their end. The caller has them locked.
    fn draft(
        &self,
        verb: &str,
        environments: Vec<Concerned>,
        steps: Vec<Step>,
    ) -> Result<Box<dyn OpenIntent + '_>, StoreError>;

    /// Answers a question about environments. One that is asked about by its name is there, or that is
    /// the error; of all, those that cannot be told of hide no others.
    fn query(&self, query: &Query<'_>) -> Result<Answer, StoreError>;

    /// Makes an environment with the directories of its layout and nothing else.
    fn create(&self, new: &Environment) -> Result<(), StoreError>;

    /// Makes `new` from the tree of an environment, or of a snapshot of it. Returns it with the snapshot
    /// that it came from, where one had to be made for it.
    fn clone_tree(
        &self,
        source: Side<'_>,
        extent: Extent,
        new: &Environment,
    ) -> Result<Environment, StoreError>;

    /// Changes properties of the file system, and writes down what was decided about an environment: its
    /// role, its settings, how it is shared, which of its data sets stay with the machine. Both at one
    /// instant, or none of it.
    fn write(&self, decided: &Current<'_>, natives: &[NativeChange]) -> Result<(), StoreError>;

    /// Refuses changes of properties of the file system that [`BackEnd::write`] would refuse, as far as that
    /// can be known without changing anything.
    fn check_natives(
        &self,
        name: &EnvironmentName,
        natives: &[NativeChange],
    ) -> Result<(), StoreError>;

    /// Gives an environment another name.
    fn rename(&self, locked: &Locked, new: &EnvironmentName) -> Result<(), StoreError>;

    /// Turns the dependence between `clone` and the environment that it was cloned from around.
    ///
    /// The clone's origin becomes its former origin's, and the former origin's becomes the clone.
    fn promote(&self, clone: &Current<'_>, origin: &Current<'_>) -> Result<(), StoreError>;

    /// Destroys an environment with its snapshots, though its metadata be broken; or only a snapshot, which
    /// no clone depends on.
    fn destroy(&self, locked: &Locked, snapshot: Option<&SnapshotName>) -> Result<(), StoreError>;

    /// Makes a snapshot of the whole tree.
    fn snapshot(&self, locked: &Locked, snapshot: &SnapshotName) -> Result<Snapshot, StoreError>;

    /// Makes the tree that of a snapshot, and destroys the snapshots that are newer: `newer`, the
    /// newest first, none of which has clones. What was decided about the environment stays.
    fn rollback(
        &self,
        locked: &Locked,
        to: &SnapshotName,
        newer: &[SnapshotName],
    ) -> Result<(), StoreError>;

    /// What differs in a tree from an older one, sorted by path: each is that of an environment, or of a
    /// snapshot of it.
    fn diff(&self, old: Side<'_>, new: Side<'_>, until: Until) -> Result<Vec<Change>, StoreError>;

    /// Where an environment's root is on this host.
    fn root(&self, name: &EnvironmentName) -> PathBuf;

    /// Opens file systems of an environment, the root first; mounts what has to be. Any number of calls do
    /// no more than one.
    fn open(&self, name: &EnvironmentName, wanted: Wanted) -> Result<Vec<Part>, StoreError>;

    /// Unmounts an environment of which the server has closed everything, so that others can work on it; or
    /// all of them, so that what they are kept in can be taken away.
    fn release(&self, name: Option<&EnvironmentName>) -> Result<(), StoreError>;

    /// Whether this kind of store can be released as a whole: else [`StoreError::Unsupported`].
    fn check_release(&self) -> Result<(), StoreError>;

    /// Shows a tree at `target` too, a directory that is there: without devices and setuid programs,
    /// and a snapshot read-only.
    fn mount(&self, tree: Side<'_>, target: &Path) -> Result<(), StoreError>;

    /// Undoes one of those mounts.
    fn unmount(&self, at: &Path, in_use: InUse) -> Result<(), StoreError>;

    /// Writes a snapshot, or only what is new in it since another one.
    fn send(&self, departure: &Departure<'_>, out: &mut dyn Write) -> Result<(), StoreError>;

    /// Takes in what [`BackEnd::send`] wrote.
    ///
    /// `from` ends only when all of it has come and every checksum was right: whatever arrived is
    /// shown to others only after that. An error of `from` leaves nothing.
    fn receive(&self, arrival: &Arrival<'_>, from: &mut dyn Read) -> Result<(), StoreError>;
}

/// Questions that are asked often.
impl dyn BackEnd + '_ {
    /// All environments, sorted by name, and why others cannot be shown.
    pub(crate) fn list(&self) -> Result<Listing, StoreError> {
        let Answer { found, unreadable } = self.query(&Query::all(&[Fact::Record]))?;
        let environments = found.into_iter().filter_map(|one| one.record).collect();
        Ok(Listing { environments, unreadable })
    }

    /// What is written down about one environment.
    pub(crate) fn get(&self, name: &EnvironmentName) -> Result<Environment, StoreError> {
        recorded(self.one(name, &Query::named(name, &[Fact::Record]))?)
    }

    /// The same, of one that is locked.
    pub(crate) fn record(&self, locked: &Locked) -> Result<Environment, StoreError> {
        recorded(self.one(locked.name(), &Query::locked(locked, &[Fact::Record]))?)
    }

    /// The snapshots of an environment that is locked, oldest first.
    pub(crate) fn snapshots_of(&self, locked: &Locked) -> Result<Vec<Snapshot>, StoreError> {
        let found = self.one(locked.name(), &Query::locked(locked, &[Fact::Snapshots]))?;
        Ok(found.snapshots.into_iter().map(|(snapshot, _)| snapshot).collect())
    }

    /// The answer to a question about one environment.
    pub(crate) fn one(
        &self,
        name: &EnvironmentName,
        query: &Query<'_>,
    ) -> Result<Found, StoreError> {
        let found = self.query(query)?.found.into_iter().next();
        found.ok_or_else(|| StoreError::NoEnvironment(name.clone()))
    }

    /// Opens an environment's root directory, to be read and searched.
    pub(crate) fn open_root(&self, name: &EnvironmentName) -> Result<OwnedFd, StoreError> {
        let root = self.open(name, Wanted::Root)?.into_iter().next();
        root.map(|part| part.root).ok_or_else(|| StoreError::NoEnvironment(name.clone()))
    }
}

fn recorded(found: Found) -> Result<Environment, StoreError> {
    found.record.ok_or(StoreError::NoEnvironment(found.name))
}

/// What one kind of store can do and others cannot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capabilities {
    /// A clone depends on the snapshot that it was made from, which cannot be destroyed before it,
    /// and to promote a clone moves the snapshots up to that one to it.
    pub clones_depend: bool,
    /// A snapshot is of one instant. Without, a tree that is being written to is copied file by file.
    pub instant_snapshots: bool,
    /// The data sets of a layout are file systems of their own.
    pub nested: bool,
    /// The data sets of an environment lie below [`Store::root`](crate::Store::root) for every program of the host,
    /// without anybody mounting them.
    pub in_place: bool,
    /// The file system has a property `sync`, by which it decides what fsync(2) and the like do.
    pub syncs: bool,
    /// The name of the format that it sends and receives.
    pub(crate) format: &'static str,
    /// What environments and snapshots can be called.
    pub(crate) names: NameRules,
}

/// How much of a tree is cloned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Extent {
    /// Its root file system alone: where another one begins, the clone has a directory with whatever that
    /// hides.
    Root,
    /// All of it.
    Whole,
}

/// What of an environment is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wanted {
    /// The file systems that can be served now.
    Parts,
    /// Its root.
    Root,
    /// All file systems, or none where one of them cannot be opened now.
    Whole,
}

/// A tree: that of an environment, or of a snapshot of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side<'a> {
    pub(crate) locked: &'a Locked,
    pub(crate) snapshot: Option<&'a SnapshotName>,
}

impl Side<'_> {
    /// What it is called.
    pub(crate) fn point(&self) -> Point {
        Point { environment: self.locked.name().clone(), snapshot: self.snapshot.cloned() }
    }
}

/// One file system of a boot environment.
#[derive(Debug)]
pub struct Part {
    /// Where it is below the root, without slashes at either end: `usr/home`. Empty for the root.
    pub path: String,
    /// Its root directory, to be read and searched.
    pub root: OwnedFd,
}

/// What is sent.
#[derive(Debug)]
pub(crate) struct Departure<'a> {
    pub(crate) locked: &'a Locked,
    pub(crate) snapshot: &'a SnapshotName,
    /// An older snapshot, which the receiver has.
    pub(crate) base: Option<&'a SnapshotName>,
    /// Is told how many bytes it will be, where that is cheap to know.
    pub(crate) work: &'a Work,
}

/// What is received.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    /// The lock of what is to be made or, after a base, is there.
    pub(crate) locked: &'a Locked,
    /// What is to be written down about it.
    pub(crate) environment: Environment,
    /// The snapshot that it will have.
    pub(crate) snapshot: Snapshot,
    /// The environment's newest snapshot, which the stream begins at. A tree that differs from it is
    /// refused ([`StoreError::Modified`]).
    pub(crate) base: Option<SnapshotName>,
    /// What becomes of data sets that the sender has no more.
    pub(crate) lacking: Lacking,
}

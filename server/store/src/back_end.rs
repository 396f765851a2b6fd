//! What a kind of store can do.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::draft::{OpenIntent, Step};
use crate::journal::Tries;
use crate::{
    Change, Concerned, Environment, EnvironmentName, Holding, InUse, Lacking, Listing,
    NativeChange, NativeValue, Pending, Point, Snapshot, SnapshotName, Space, StoreError, Survey,
};

/// A kind of store: plain directories, btrfs subvolumes, ZFS data sets.
///
/// It holds no policy. Before any method here is called, [`Store`](crate::Store) has checked names
/// against [`BackEnd::refuses`], locked every environment that is named (shared for what is read,
/// alone for what is changed or made), checked that what must be there is and what must not is not,
/// noted the beginning in the history, and had [`BackEnd::settle`] called. What other programs can
/// change meanwhile a back end checks itself. Each verb is done whole or not at all, whenever its
/// process is killed.
pub(crate) trait BackEnd: Debug + Send + Sync {
    /// What it can do that others cannot.
    fn capabilities(&self) -> Capabilities;

    /// Why a name of an environment or of a snapshot cannot be used here, as a clause; `None` if it
    /// can.
    fn refuses(&self, name: &str) -> Option<&'static str>;

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

    /// A verb of this process has locked an environment: until [`BackEnd::end`] what is asked about it
    /// more than once may be answered from memory, unless one of the methods here has changed it.
    fn begin(&self, _name: &EnvironmentName) {}

    /// The verb is about to unlock it.
    fn end(&self, _name: &EnvironmentName) {}

    /// Whether a name is taken: by an environment, be it broken, or by something that is none.
    fn is_taken(&self, name: &EnvironmentName) -> Result<bool, StoreError> {
        match self.get(name) {
            Ok(_) | Err(StoreError::Broken { .. }) => Ok(true),
            Err(StoreError::NoEnvironment(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All environments, sorted by name, and why others cannot be shown.
    fn list(&self) -> Result<Listing, StoreError>;

    /// The same, with the space of each as far as it is known without looking at files, by UUID.
    fn list_with_space(&self) -> Result<(Listing, HashMap<Uuid, Space>), StoreError>;

    /// One environment.
    fn get(&self, name: &EnvironmentName) -> Result<Environment, StoreError>;

    /// The data sets of an environment that the file system shares by itself beside netbe.
    fn shared_by_itself(&self, _name: &EnvironmentName) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// Makes an environment with the directories of its layout and nothing else.
    fn create(&self, new: &Environment) -> Result<(), StoreError>;

    /// Makes `new` from the tree of `source`. Returns it with the snapshot that it came from, where
    /// one had to be made for it.
    fn clone_environment(
        &self,
        source: &Point,
        new: &Environment,
    ) -> Result<Environment, StoreError>;

    /// Makes `new` of the root file system of `source` alone, as it is now: where another one begins,
    /// it has a directory with whatever that hides.
    fn clone_root(&self, source: &EnvironmentName, new: &Environment) -> Result<(), StoreError>;

    /// Writes down what was decided about an environment, at one instant: its role, its settings,
    /// how it is shared, which of its data sets stay with the machine.
    fn write(&self, environment: &Environment) -> Result<(), StoreError>;

    /// The properties of the file system that can be set of an environment, as they are.
    fn natives(&self, _name: &EnvironmentName) -> Result<Vec<NativeValue>, StoreError> {
        Ok(Vec::new())
    }

    /// Changes properties of the file system and does what [`BackEnd::write`] does: both, or none of it.
    fn write_with(
        &self,
        environment: &Environment,
        changes: &[NativeChange],
    ) -> Result<(), StoreError>;

    /// Gives an environment another name.
    fn rename(&self, name: &EnvironmentName, new: &EnvironmentName) -> Result<(), StoreError>;

    /// Turns the dependence between `clone` and the environment that it was cloned from around.
    ///
    /// The clone's origin becomes its former origin's, and the former origin's becomes the clone.
    fn promote(&self, clone: &Environment, origin: &Environment) -> Result<(), StoreError>;

    /// Destroys an environment with its snapshots. It works for one whose metadata is broken too.
    fn destroy(&self, name: &EnvironmentName) -> Result<(), StoreError>;

    /// The snapshots of an environment, oldest first.
    fn snapshots(&self, name: &EnvironmentName) -> Result<Vec<Snapshot>, StoreError>;

    /// Makes a snapshot of the whole tree.
    fn snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<Snapshot, StoreError>;

    /// Destroys a snapshot that no clone depends on.
    fn destroy_snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<(), StoreError>;

    /// Makes the tree that of a snapshot, and destroys the snapshots that are newer: `newer`, the
    /// newest first, none of which has clones. What was decided about the environment stays.
    fn rollback(
        &self,
        name: &EnvironmentName,
        to: &SnapshotName,
        newer: &[SnapshotName],
    ) -> Result<(), StoreError>;

    /// What an environment takes.
    fn space(&self, name: &EnvironmentName) -> Result<Space, StoreError>;

    /// What a snapshot takes.
    fn snapshot_space(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<Space, StoreError>;

    /// Everything at once.
    fn survey(&self) -> Result<Survey, StoreError> {
        let Listing { environments, unreadable } = self.list()?;
        let mut unreadable: Vec<_> = unreadable.into_iter().map(|one| one.error).collect();
        let mut holdings = Vec::new();
        for environment in environments {
            let name = environment.name.clone();
            let held = || {
                let snapshots = self.snapshots(&name)?.into_iter().map(|snapshot| {
                    let space = self.snapshot_space(&name, &snapshot.name)?;
                    Ok((snapshot, space))
                });
                let snapshots = snapshots.collect::<Result<_, StoreError>>()?;
                Ok(Holding { environment, space: self.space(&name)?, snapshots })
            };
            match held() {
                Ok(holding) => holdings.push(holding),
                // Destroyed since it was listed.
                Err(StoreError::NoEnvironment(_) | StoreError::NoSnapshot(_)) => {}
                Err(error) => unreadable.push(error),
            }
        }
        Ok(Survey { holdings, unreadable })
    }

    /// What differs in `new` from `old`, sorted by path.
    fn diff(&self, old: &Point, new: &Point) -> Result<Vec<Change>, StoreError>;

    /// Whether the tree is as it was when `snapshot` was made, which is its newest. Files are read only
    /// where nothing else tells.
    fn is_unchanged(&self, name: &EnvironmentName, snapshot: &Snapshot)
    -> Result<bool, StoreError>;

    /// Where an environment's root is on this host.
    fn root(&self, name: &EnvironmentName) -> PathBuf;

    /// Opens an environment's root directory, to be read and searched.
    fn open_root(&self, name: &EnvironmentName) -> Result<OwnedFd, StoreError>;

    /// Opens the file systems of an environment that can be served now; mounts what has to be. Any
    /// number of calls do no more than one.
    fn open_parts(&self, name: &EnvironmentName) -> Result<Vec<Part>, StoreError>;

    /// The same, but refused where one of them cannot be opened now.
    fn open_whole(&self, name: &EnvironmentName) -> Result<Vec<Part>, StoreError> {
        self.open_parts(name)
    }

    /// Looks whether what the store is made of is there and answers: [`StoreError::Away`] or
    /// [`StoreError::Stalled`] if not.
    fn present(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Unmounts everything, of which the server has closed all.
    fn detach(&self) -> Result<(), StoreError> {
        Err(StoreError::Unsupported(
            "only a store on ZFS can be released while the server runs: stop the server meanwhile",
        ))
    }

    /// Unmounts an environment that the server has closed, so that others can work on it.
    fn release(&self, _name: &EnvironmentName) -> Result<(), StoreError> {
        Ok(())
    }

    /// Shows a tree at `target` too, a directory that is there: without devices and setuid programs,
    /// and a snapshot read-only.
    fn mount(&self, point: &Point, target: &Path) -> Result<(), StoreError>;

    /// Which of an environment and its snapshots are mounted by [`BackEnd::mount`], and where. Their
    /// metadata may be broken.
    fn mounts(&self, name: &EnvironmentName) -> Result<Vec<(Point, PathBuf)>, StoreError>;

    /// Undoes one of those mounts.
    fn unmount(&self, name: &EnvironmentName, at: &Path, in_use: InUse) -> Result<(), StoreError>;

    /// The name of the format that it sends and receives.
    fn format(&self) -> &'static str;

    /// How many bytes [`BackEnd::send`] will write, where that is cheap to know.
    fn expected(
        &self,
        _name: &EnvironmentName,
        _snapshot: &SnapshotName,
        _base: Option<&SnapshotName>,
    ) -> Option<u64> {
        None
    }

    /// Writes a snapshot, or only what is new in it since the snapshot `base`.
    fn send(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
        base: Option<&SnapshotName>,
        out: &mut dyn Write,
    ) -> Result<(), StoreError>;

    /// Takes in what [`BackEnd::send`] wrote.
    ///
    /// `from` ends only when all of it has come and every checksum was right: whatever arrived is
    /// shown to others only after that. An error of `from` leaves nothing.
    fn receive(&self, arrival: &Arrival, from: &mut dyn Read) -> Result<(), StoreError>;
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
}

/// One file system of a boot environment.
#[derive(Debug)]
pub struct Part {
    /// Where it is below the root, without slashes at either end: `usr/home`. Empty for the root.
    pub path: String,
    /// Its root directory, to be read and searched.
    pub root: OwnedFd,
}

/// What is received.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The environment that is to be made or, after a base, is there.
    pub(crate) environment: Environment,
    /// The snapshot that it will have.
    pub(crate) snapshot: Snapshot,
    /// The environment's newest snapshot, which the stream begins at. A tree that differs from it is
    /// refused ([`StoreError::Modified`]).
    pub(crate) base: Option<SnapshotName>,
    /// What becomes of data sets that the sender has no more.
    pub(crate) lacking: Lacking,
}

//! What is told of boot environments without changing any.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use uuid::Uuid;

use super::Store;
use crate::back_end::{Part, Side, Wanted};
use crate::query::{Fact, Query};
use crate::sync;
use crate::tree::Until;
use crate::{
    Change, Environment, EnvironmentName, Holding, Listing, NativeValue, Point, Snapshot, Space,
    StoreError, Survey, SyncMode,
};

/// What an environment takes, and where it is seen.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    /// What it takes; nothing is known where the store does not count.
    pub space: Space,
    /// Where it and its snapshots are mounted.
    pub mounts: Vec<(Point, PathBuf)>,
}

impl Store {
    /// All boot environments, sorted by name.
    pub fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = self.back_end.list()?;
        name_origins(listing.environments.iter_mut());
        Ok(listing)
    }

    /// The same, with what they take as far as the store knows without looking at their files, and with
    /// where they and their snapshots are mounted by [`Store::mount`].
    pub fn list_with_footprints(&self) -> Result<(Listing, HashMap<Uuid, Footprint>), StoreError> {
        let facts = &[Fact::Record, Fact::CountedSpace, Fact::Mounts];
        let answer = self.back_end.query(&Query::all(facts))?;
        let mut listing = Listing { environments: Vec::new(), unreadable: answer.unreadable };
        let mut known = HashMap::new();
        for found in answer.found {
            let Some(environment) = found.record else { continue };
            let footprint =
                Footprint { space: found.space.unwrap_or_default(), mounts: found.mounts };
            known.insert(environment.uuid, footprint);
            listing.environments.push(environment);
        }
        name_origins(listing.environments.iter_mut());
        Ok((listing, known))
    }

    /// All boot environments with their snapshots and what space they take. In a store of plain
    /// directories every file is looked at for that.
    pub fn survey(&self) -> Result<Survey, StoreError> {
        let query = Query::all(&[Fact::Record, Fact::Snapshots, Fact::Space]);
        let answer = self.back_end.query(&query)?;
        let held = answer.found.into_iter().filter_map(|found| {
            let (environment, space) = found.record.zip(found.space)?;
            Some(Holding { environment, space, snapshots: found.snapshots })
        });
        let mut holdings: Vec<Holding> = held.collect();
        name_origins(holdings.iter_mut().map(|holding| &mut holding.environment));
        let unreadable = answer.unreadable.into_iter().map(|one| one.error).collect();
        Ok(Survey { holdings, unreadable })
    }

    /// One boot environment.
    pub fn get(&self, name: &EnvironmentName) -> Result<Environment, StoreError> {
        self.back_end.get(name)
    }

    /// The data sets of a boot environment that ZFS shares over NFS by itself (`sharenfs` of
    /// zfsprops(7)), beside what netbe serves.
    pub fn shared_by_itself(&self, name: &EnvironmentName) -> Result<Vec<String>, StoreError> {
        Ok(self.back_end.one(name, &Query::named(name, &[Fact::Shares]))?.shares)
    }

    /// The properties of the file system that can be set of a boot environment here, as they are.
    pub fn natives(&self, name: &EnvironmentName) -> Result<Vec<NativeValue>, StoreError> {
        let query = Query::named(name, &[Fact::Record, Fact::Natives]);
        let found = self.back_end.one(name, &query)?;
        let mut natives = found.natives;
        if !self.capabilities().syncs {
            natives.extend(found.record.as_ref().and_then(sync::shown));
        }
        Ok(natives)
    }

    /// What is on stable storage when a change of an environment's files is answered, as far as that is not
    /// for its file system to decide.
    #[must_use]
    pub fn sync(&self, environment: &Environment) -> SyncMode {
        if self.capabilities().syncs { SyncMode::Standard } else { SyncMode::written(environment) }
    }

    /// The snapshots of a boot environment, oldest first.
    pub fn snapshots(&self, name: &EnvironmentName) -> Result<Vec<Snapshot>, StoreError> {
        let found = self.back_end.one(name, &Query::named(name, &[Fact::Snapshots]))?;
        Ok(found.snapshots.into_iter().map(|(snapshot, _)| snapshot).collect())
    }

    /// The newest snapshot of a boot environment, if the tree is as it was when that was made.
    pub fn newest_unchanged(&self, name: &EnvironmentName) -> Result<Option<Snapshot>, StoreError> {
        let kept = self.kept(name)?;
        let query = Query::locked(&kept, &[Fact::Snapshots, Fact::Unchanged]);
        let mut found = self.back_end.one(name, &query)?;
        let newest = found.snapshots.pop().map(|(snapshot, _)| snapshot);
        Ok(newest.filter(|_| found.unchanged))
    }

    /// What differs in `new` from `old`, sorted by path.
    pub fn diff(&self, old: &Point, new: &Point) -> Result<Vec<Change>, StoreError> {
        self.compare(old, new, Until::End)
    }

    /// Whether nothing differs in two trees. They are looked at no further than to the first difference.
    pub fn is_same(&self, old: &Point, new: &Point) -> Result<bool, StoreError> {
        Ok(self.compare(old, new, Until::Difference)?.is_empty())
    }

    fn compare(&self, old: &Point, new: &Point, until: Until) -> Result<Vec<Change>, StoreError> {
        let older = self.kept(&old.environment)?;
        let other = match old.environment == new.environment {
            true => None,
            false => Some(self.kept(&new.environment)?),
        };
        let newer = other.as_ref().unwrap_or(&older);
        let [old, new] = [(&older, old), (newer, new)]
            .map(|(locked, point)| Side { locked, snapshot: point.snapshot.as_ref() });
        for side in [old, new] {
            self.back_end.record(side.locked)?;
            if let Some(snapshot) = side.snapshot {
                self.find(side.locked, snapshot)?;
            }
        }
        self.back_end.diff(old, new, until)
    }

    /// What destroying a boot environment or a snapshot would take away. Refused where that would be, as far as it
    /// can be known without touching anything: the kernel may still say that files are in use.
    pub fn would_destroy(&self, point: &Point) -> Result<Doomed, StoreError> {
        let name = &point.environment;
        let kept = self.kept(name)?;
        if let Some(snapshot) = &point.snapshot {
            self.doomed_snapshot(&kept, snapshot)?;
            return Ok(Doomed { points: vec![point.clone()], parts: Vec::new() });
        }
        let snapshots = self.doomed(&kept)?.into_iter();
        let snapshots = snapshots.map(|snapshot| Point::snapshot(name, &snapshot.name));
        let points = std::iter::once(point.clone()).chain(snapshots).collect();
        let found = self.back_end.query(&Query::locked(&kept, &[Fact::Parts]))?.found;
        Ok(Doomed { points, parts: found.into_iter().flat_map(|found| found.parts).collect() })
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
        self.back_end.open(name, Wanted::Parts)
    }

    /// Looks whether what the store is made of is there and answers: [`StoreError::Away`] or
    /// [`StoreError::Stalled`] if not. Takes some seconds at most, whatever state that is in.
    pub fn present(&self) -> Result<(), StoreError> {
        self.back_end.query(&Query::store()).map(drop)
    }
}

/// What goes when a boot environment or a snapshot is destroyed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Doomed {
    /// The environment, and its snapshots, oldest first; or the snapshot.
    pub points: Vec<Point>,
    /// What else goes. Of a ZFS store: data sets and volumes below the environment's root, and snapshots, whoever made
    /// them, by their names there. Of a store on btrfs: the subvolumes in the environment, by their paths on this host.
    pub parts: Vec<String>,
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

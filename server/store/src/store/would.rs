//! What verbs would do, or why they would be refused, as far as that can be known without touching
//! anything.

use std::path::{Path, PathBuf};

use super::{Newer, Store};
use crate::query::{Fact, Query};
use crate::{EnvironmentName, Point, SnapshotName, StoreError};

impl Store {
    /// Whether an environment of that name could be made.
    pub fn would_create(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        self.accept(name.as_str())?;
        match self.get(name) {
            Err(StoreError::NoEnvironment(_)) => Ok(()),
            Ok(_) | Err(StoreError::Broken { .. }) => Err(StoreError::Exists(name.clone())),
            Err(error) => Err(error),
        }
    }

    /// Whether a tree could be cloned under that name.
    pub fn would_clone(&self, source: &Point, name: &EnvironmentName) -> Result<(), StoreError> {
        let kept = self.kept(&source.environment)?;
        self.refuse_half(&self.back_end.record(&kept)?)?;
        if let Some(snapshot) = &source.snapshot {
            self.find(&kept, snapshot)?;
        }
        self.would_create(name)
    }

    /// Whether a store of this kind can be detached: else [`StoreError::Unsupported`].
    pub fn would_detach(&self) -> Result<(), StoreError> {
        self.back_end.check_release()
    }

    /// Whether an environment could be given that name.
    pub fn would_rename(
        &self,
        name: &EnvironmentName,
        new: &EnvironmentName,
    ) -> Result<(), StoreError> {
        let kept = self.kept(name)?;
        self.back_end.record(&kept)?;
        self.would_create(new)
    }

    /// What would depend on a clone from then on: what it was cloned from.
    pub fn would_promote(&self, name: &EnvironmentName) -> Result<EnvironmentName, StoreError> {
        let origin = self.get(name)?.origin.map(|origin| origin.uuid);
        let listed = self.back_end.list()?.environments;
        let found = listed.into_iter().find(|known| Some(known.uuid) == origin);
        found.map(|found| found.name).ok_or_else(|| StoreError::NoOrigin(name.clone()))
    }

    /// Whether a snapshot of that name could be made.
    pub fn would_snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<(), StoreError> {
        self.accept(snapshot.as_str())?;
        let kept = self.kept(name)?;
        self.back_end.record(&kept)?;
        self.refuse_snapshot(&kept, snapshot)
    }

    /// The snapshots that would go, the newest first.
    pub fn would_roll_back(
        &self,
        name: &EnvironmentName,
        to: &SnapshotName,
        newer: Newer,
    ) -> Result<Vec<Point>, StoreError> {
        let gone = self.newer(&self.kept(name)?, to, newer)?.into_iter();
        Ok(gone.map(|snapshot| Point::snapshot(name, &snapshot)).collect())
    }

    /// Whether a tree could be mounted there; at a new directory, if none is named.
    pub fn would_mount(&self, point: &Point, target: Option<&Path>) -> Result<(), StoreError> {
        let kept = self.kept(&point.environment)?;
        self.back_end.record(&kept)?;
        if let Some(snapshot) = &point.snapshot {
            self.find(&kept, snapshot)?;
        }
        target.map_or(Ok(()), super::refuse_target)
    }

    /// Where a tree would be unmounted: everywhere, or only at `target`.
    pub fn would_unmount(
        &self,
        name: &EnvironmentName,
        target: Option<&Path>,
    ) -> Result<Vec<PathBuf>, StoreError> {
        let kept = self.kept(name)?;
        let query = Query::locked(&kept, &[Fact::Record, Fact::Mounts]);
        let mut mounts = self.back_end.one(name, &query)?.mounts;
        mounts.retain(|(_, at)| target.is_none_or(|target| at == target));
        if mounts.is_empty() {
            return Err(StoreError::NotMounted(name.clone(), target.map(Path::to_owned)));
        }
        Ok(mounts.into_iter().map(|(_, at)| at).collect())
    }
}

//! Snapshots of whole trees: taken, listed, destroyed, and gone back to.

use std::time::{Duration, UNIX_EPOCH};

use super::command::{Failure, Refusal, Task};
use super::listing::{self, Depth, SnapshotRow};
use super::{Zfs, program, properties, told};
use crate::back_end::BackEnd;
use crate::{EnvironmentName, Point, Snapshot, SnapshotName, StoreError, Timestamp};

impl Zfs {
    /// The snapshots of an environment's root, oldest first.
    pub(super) fn snapshots_of(&self, name: &EnvironmentName) -> Result<Vec<Snapshot>, StoreError> {
        let rows = self.rows(name, Depth::One)?;
        Ok(rows.iter().filter_map(|row| self.snapshot_of(row)).collect())
    }

    /// Makes a snapshot of a whole tree.
    pub(super) fn take_snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<Snapshot, StoreError> {
        let point = || Point { environment: name.clone(), snapshot: Some(snapshot.clone()) };
        let full = format!("{}@{snapshot}", self.full(name.as_str()));
        Task::zfs("snapshot").args(["-r", &full]).run().map_err(|failure| {
            if failure.refusal == Refusal::Exists {
                StoreError::SnapshotExists(point())
            } else {
                told(failure, &format!("make the snapshot {}", point()))
            }
        })?;
        let made = self.snapshots_of(name)?.into_iter().find(|made| made.name == *snapshot);
        made.ok_or_else(|| StoreError::NoSnapshot(point()))
    }

    /// Destroys a snapshot of a whole tree.
    pub(super) fn remove_snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<(), StoreError> {
        self.tree(name)?;
        let full = format!("{}@{snapshot}", self.full(name.as_str()));
        Task::zfs("destroy").args(["-r", &full]).run().map(|_silence| ()).map_err(|failure| {
            let environment = name.clone();
            let point = Point { environment, snapshot: Some(snapshot.clone()) };
            if failure.refusal == Refusal::Missing {
                StoreError::NoSnapshot(point)
            } else {
                told(failure, &format!("destroy {point}"))
            }
        })
    }

    /// Makes a whole tree what it was at a snapshot, at one instant; the snapshots `newer` go.
    pub(super) fn go_back(
        &self,
        name: &EnvironmentName,
        to: &SnapshotName,
        newer: &[SnapshotName],
    ) -> Result<(), StoreError> {
        let tree = self.tree(name)?;
        let task = format!("roll back to {name}@{to}");
        let refused = |said: String| StoreError::Tool { program: "zfs", task: task.clone(), said };
        let rows = self.rows(name, Depth::All)?;
        let mut later = Vec::new();
        for set in tree.sets() {
            let own = rows.iter().filter(|row| row.dataset == set.name);
            let Some(aim) = own.clone().find(|row| row.snapshot == to.as_str()) else {
                return Err(refused(format!("{} was made after it: destroy that first", set.name)));
            };
            for row in own.filter(|row| row.transaction > aim.transaction) {
                // Only what was named may go.
                if !newer.iter().any(|named| named.as_str() == row.snapshot) {
                    let row = format!("{}@{}", row.dataset, row.snapshot);
                    return Err(refused(format!("{row} is newer: destroy it first")));
                }
                later.push((row.transaction, format!("{}@{}", row.dataset, row.snapshot)));
            }
        }
        self.spare(name)?;
        self.release(name)?;
        later.sort_by(|a, b| b.cmp(a));
        let later: Vec<String> = later.into_iter().map(|(_, snapshot)| snapshot).collect();
        let sets: Vec<&str> = tree.sets().map(|set| set.name.as_str()).collect();
        program::rollback(&self.pool()?.name, &later, &sets).map_err(|failure| told(failure, &task))
    }

    /// The snapshots of an environment as ZFS lists them: of its root, or of its whole tree.
    pub(super) fn rows(
        &self,
        name: &EnvironmentName,
        depth: Depth,
    ) -> Result<Vec<SnapshotRow>, StoreError> {
        match listing::snapshots(&self.full(name.as_str()), depth) {
            Ok(rows) => Ok(rows),
            Err(Failure { refusal: Refusal::Missing, .. }) => {
                // It, or its whole pool.
                self.pool_now()?;
                Err(StoreError::NoEnvironment(name.clone()))
            }
            Err(failure) => Err(told(failure, &format!("list the snapshots of {name}"))),
        }
    }

    /// What a snapshot of a root is to everybody else.
    pub(super) fn snapshot_of(&self, row: &SnapshotRow) -> Option<Snapshot> {
        let environment = |clone: &String| {
            clone.strip_prefix(&self.dataset)?.strip_prefix('/')?.parse::<EnvironmentName>().ok()
        };
        Some(Snapshot {
            name: row.snapshot.parse().ok()?,
            uuid: properties::snapshot_identity(row.guid),
            created: Timestamp::from(UNIX_EPOCH + Duration::from_secs(row.creation)),
            automatic: row.deferred,
            clones: row.clones.iter().filter_map(environment).collect(),
        })
    }
}

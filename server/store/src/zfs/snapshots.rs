//! Snapshots of whole trees: taken, listed, destroyed, and gone back to.

use std::time::{Duration, UNIX_EPOCH};

use super::command::{Failure, Refusal};
use super::listing::{self, Depth, SnapshotRow};
use super::{Seen, Zfs, kernel, program, properties, told};
use crate::locked::Locked;
use crate::{EnvironmentName, Point, Snapshot, SnapshotName, StoreError, Timestamp};

impl Zfs {
    /// The snapshots of an environment's root, oldest first.
    pub(super) fn snapshots_of(
        &self,
        name: &EnvironmentName,
        seen: &Seen,
    ) -> Result<Vec<Snapshot>, StoreError> {
        let root = self.full(name.as_str());
        let rows = match seen.seen_rows() {
            Some(rows) => rows.into_iter().filter(|row| row.dataset == root).collect(),
            None => self.listed(name, Depth::Children)?,
        };
        Ok(rows.iter().filter_map(|row| self.snapshot_of(row)).collect())
    }

    /// Makes a snapshot of a whole tree.
    pub(super) fn take_snapshot(
        &self,
        locked: &Locked,
        snapshot: &SnapshotName,
    ) -> Result<Snapshot, StoreError> {
        let (name, tree) = (locked.name(), self.tree_of(locked)?);
        let point = || Point { environment: name.clone(), snapshot: Some(snapshot.clone()) };
        let explain = |failure: Failure| {
            if failure.refusal == Refusal::Exists {
                StoreError::SnapshotExists(point())
            } else {
                told(failure, &format!("make the snapshot {}", point()))
            }
        };
        locked.seen().forget();
        let all = tree.sets().map(|set| format!("{}@{snapshot}", set.name));
        kernel::snapshot(&all.collect::<Vec<_>>()).map_err(explain)?;
        let made = listing::snapshot(&format!("{}@{snapshot}", self.full(name.as_str())));
        let made = made.map_err(explain)?.and_then(|row| self.snapshot_of(&row));
        made.ok_or_else(|| StoreError::NoSnapshot(point()))
    }

    /// Destroys a snapshot of a whole tree.
    pub(super) fn remove_snapshot(
        &self,
        locked: &Locked,
        snapshot: &SnapshotName,
    ) -> Result<(), StoreError> {
        let name = locked.name();
        self.tree_of(locked)?;
        let rows = self.rows_of(locked)?;
        let all = rows.iter().filter(|row| row.snapshot == snapshot.as_str());
        let all: Vec<String> = all.map(SnapshotRow::full).collect();
        let environment = name.clone();
        let point = Point { environment, snapshot: Some(snapshot.clone()) };
        if all.is_empty() {
            return Err(StoreError::NoSnapshot(point));
        }
        locked.seen().forget();
        program::destroy(self.pool_name(), &all).map_err(|failure| {
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
        locked: &Locked,
        to: &SnapshotName,
        newer: &[SnapshotName],
    ) -> Result<(), StoreError> {
        let (name, tree) = (locked.name(), self.tree_of(locked)?);
        let task = format!("roll back to {name}@{to}");
        let refused = |said: String| StoreError::Tool { program: "zfs", task: task.clone(), said };
        locked.seen().forget();
        // Asked now: what somebody else made meanwhile would be gone back to instead.
        let rows = self.rows_of(locked)?;
        let mut later = Vec::new();
        for set in tree.sets() {
            let own = rows.iter().filter(|row| row.dataset == set.name);
            let Some(aim) = own.clone().find(|row| row.snapshot == to.as_str()) else {
                return Err(refused(format!("{} was made after it: destroy that first", set.name)));
            };
            for row in own.filter(|row| row.transaction > aim.transaction) {
                // Only what was named may go.
                if !newer.iter().any(|named| named.as_str() == row.snapshot) {
                    return Err(refused(format!("{} is newer: destroy it first", row.full())));
                }
                later.push((row.transaction, row.full()));
            }
        }
        self.spare(name)?;
        self.hide(name)?;
        later.sort_by(|a, b| b.cmp(a));
        let later: Vec<String> = later.into_iter().map(|(_, snapshot)| snapshot).collect();
        let sets: Vec<&str> = tree.sets().map(|set| set.name.as_str()).collect();
        locked.seen().forget();
        program::rollback(self.pool_name(), &later, &sets).map_err(|failure| told(failure, &task))
    }

    /// The snapshots of the whole tree of an environment that is locked.
    pub(super) fn rows_of(&self, locked: &Locked) -> Result<Vec<SnapshotRow>, StoreError> {
        self.rows(locked.name(), locked.seen())
    }

    /// The snapshots of the whole tree of an environment of which this was seen.
    pub(super) fn rows(
        &self,
        name: &EnvironmentName,
        seen: &Seen,
    ) -> Result<Vec<SnapshotRow>, StoreError> {
        seen.rows(|| self.listed(name, Depth::All))
    }

    fn listed(&self, name: &EnvironmentName, depth: Depth) -> Result<Vec<SnapshotRow>, StoreError> {
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
            more_clones: row.more_clones,
        })
    }
}

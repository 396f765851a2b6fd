//! What a store on ZFS tells about its environments.

use std::collections::BTreeMap;

use super::listing::{self, DataSet, Depth, SnapshotRow};
use super::tree::Tree;
use super::{Seen, Zfs, kernel, told, tree};
use crate::query::{Answer, Fact, Found, Of, Query};
use crate::tree::Until;
use crate::{EnvironmentName, Snapshot, SnapshotName, Space, StoreError, Unreadable};

impl Zfs {
    pub(super) fn answer(&self, query: &Query<'_>) -> Result<Answer, StoreError> {
        match query.of {
            Of::All => self.answer_of_all(query),
            Of::Locked(locked) => Ok(self.find(locked.name(), locked.seen(), query)?.into()),
            Of::Named(name) => Ok(self.find(name, &Seen::default(), query)?.into()),
            Of::None => self.pool_now().map(|_pool| Answer::default()),
        }
    }

    /// Asks ZFS once for all environments, and once for all of their snapshots.
    fn answer_of_all(&self, query: &Query<'_>) -> Result<Answer, StoreError> {
        let (forest, mut answer, mut rows) = (self.forest()?, Answer::default(), Vec::new());
        if query.asks(Fact::Snapshots) {
            rows = listing::snapshots(&self.dataset, Depth::All).map_err(|failure| {
                told(failure, &format!("list the snapshots of {}", self.dataset))
            })?;
        }
        let rows = by_data_set(&rows);
        for (name, tree) in forest.trees() {
            let find = || {
                let mut found = Found::new(name.clone());
                if query.asks(Fact::Record) {
                    found.record = Some(forest.environment(name, tree, &|| self.pool())?);
                }
                tell(&mut found, tree, query);
                found.snapshots = self.snapshots_in(tree, &rows);
                self.ask(&mut found, &Seen::default(), query)?;
                Ok(found)
            };
            match find() {
                Ok(found) => answer.found.push(found),
                Err(error) => answer.unreadable.push(Unreadable { name: name.clone(), error }),
            }
            // It is there, but its files are not: whoever serves it looks again.
            let waits = tree.waits().map(|error| Unreadable { name: name.clone(), error });
            answer.unreadable.extend(waits);
        }
        Ok(answer)
    }

    /// Asks for one environment, and of that for what is asked alone.
    fn find(
        &self,
        name: &EnvironmentName,
        seen: &Seen,
        query: &Query<'_>,
    ) -> Result<Found, StoreError> {
        let mut found = Found::new(name.clone());
        let of_tree = [Fact::Record, Fact::CountedSpace, Fact::Shares, Fact::Space];
        if of_tree.into_iter().any(|fact| query.asks(fact)) {
            let tree = self.tree(name, seen)?;
            if query.asks(Fact::Record) {
                let origin = tree.origin(&self.dataset, &|| self.pool())?;
                found.record = Some(tree.environment(name, &|| self.pool(), origin)?);
            }
            tell(&mut found, &tree, query);
        }
        if query.asks(Fact::Snapshots) && query.asks(Fact::Space) {
            let rows = self.rows(name, seen)?;
            found.snapshots = self.snapshots_in(&self.tree(name, seen)?, &by_data_set(&rows));
        } else if query.asks(Fact::Snapshots) {
            let snapshots = self.snapshots_of(name, seen)?.into_iter();
            found.snapshots = snapshots.map(|snapshot| (snapshot, Space::default())).collect();
        }
        self.ask(&mut found, seen, query)?;
        Ok(found)
    }

    /// Asks for what is told by nothing else.
    fn ask(&self, found: &mut Found, seen: &Seen, query: &Query<'_>) -> Result<(), StoreError> {
        if query.asks(Fact::Mounts) {
            found.mounts = self.mounts_of(&found.name)?;
        }
        if query.asks(Fact::Natives) {
            found.natives = self.natives_of(&found.name)?;
        }
        if query.asks(Fact::Parts) {
            let root = self.full(found.name.as_str());
            let parts = listing::everything(&root)
                .map_err(|failure| told(failure, &format!("look at {}", found.name)))?;
            // The root and its snapshots are told as the environment and its.
            let is_told = |rest: &str| {
                let snapshot = rest.strip_prefix('@');
                rest.is_empty() || snapshot.is_some_and(|name| name.parse::<SnapshotName>().is_ok())
            };
            let is_part =
                |name: &String| name.strip_prefix(&root).is_some_and(|rest| !is_told(rest));
            found.parts = parts.into_iter().filter(is_part).collect();
            found.parts.sort();
        }
        if query.asks(Fact::Unchanged)
            && let Some((newest, _)) = found.snapshots.last()
        {
            found.unchanged = self.is_unchanged(&found.name, seen, &newest.name)?;
        }
        Ok(())
    }

    /// The snapshots of a tree among these, and what each takes.
    fn snapshots_in(&self, tree: &Tree, rows: &ByDataSet<'_>) -> Vec<(Snapshot, Space)> {
        let of = |name: &str| rows.get(name).into_iter().flatten().copied();
        let all: Vec<&SnapshotRow> = tree.sets().flat_map(|set| of(&set.name)).collect();
        let roots = of(&tree.root.name);
        let snapshots = roots.filter_map(|root| {
            let same = all.iter().filter(|row| row.snapshot == root.snapshot).copied();
            Some((self.snapshot_of(root)?, tree::snapshot_space(same)))
        });
        snapshots.collect()
    }

    /// Whether a tree is as it was when its newest snapshot was made.
    fn is_unchanged(
        &self,
        name: &EnvironmentName,
        seen: &Seen,
        snapshot: &SnapshotName,
    ) -> Result<bool, StoreError> {
        // `written` counts what is on the disk, and a snapshot of the root alone leaves data sets out.
        kernel::sync(self.pool_name())
            .map_err(|failure| told(failure, &format!("bring the pool of {name} to its disks")))?;
        seen.forget();
        let (tree, rows) = (self.tree(name, seen)?, self.rows(name, seen)?);
        let newest = |set: &DataSet| {
            let row = rows.iter().rfind(|row| row.dataset == set.name);
            row.is_some_and(|row| row.snapshot == snapshot.as_str())
        };
        if tree.sets().all(|set| set.written == 0 && newest(set)) {
            return Ok(true);
        }
        // Times of access are written too.
        let sides = [Some(snapshot), None].map(|snapshot| (name, seen, snapshot));
        Ok(self.compare(sides[0], sides[1], Until::Difference)?.is_empty())
    }
}

/// Snapshots by the names of their data sets, in the order in which they were listed.
type ByDataSet<'r> = BTreeMap<&'r str, Vec<&'r SnapshotRow>>;

fn by_data_set(rows: &[SnapshotRow]) -> ByDataSet<'_> {
    let mut by = ByDataSet::new();
    for row in rows {
        by.entry(row.dataset.as_str()).or_default().push(row);
    }
    by
}

/// Says of an environment what its data sets tell.
fn tell(found: &mut Found, tree: &Tree, query: &Query<'_>) {
    if query.asks(Fact::CountedSpace) || query.asks(Fact::Space) {
        found.space = Some(tree.space());
    }
    if query.asks(Fact::Shares) {
        let shared = tree.sets().filter(|set| set.is_shared());
        found.shares = shared.map(|set| set.name.clone()).collect();
    }
}

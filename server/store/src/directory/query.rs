//! What a store of directories tells about its environments.

use std::path::PathBuf;

use super::{Directory, META, metadata, snapshots};
use crate::error::at;
use crate::query::{Answer, Fact, Found, Of, Query};
use crate::{
    Environment, EnvironmentName, Point, Snapshot, Space, StoreError, Unreadable, bind, tree,
};

impl Directory {
    pub(super) fn answer(&self, query: &Query<'_>) -> Result<Answer, StoreError> {
        match query.of {
            Of::All => self.answer_of_all(query),
            Of::Locked(locked) => Ok(self.find(locked.name(), query, self.counts(query))?.into()),
            Of::Named(name) => Ok(self.find(name, query, self.counts(query))?.into()),
            Of::None => Ok(Answer::default()),
        }
    }

    fn answer_of_all(&self, query: &Query<'_>) -> Result<Answer, StoreError> {
        let (mut answer, counts) = (Answer::default(), self.counts(query));
        let path = self.path.join(META);
        for entry in rustix::fs::Dir::read_from(&self.meta).map_err(at("list", &path))? {
            let entry = entry.map_err(at("list", &path))?;
            let Some(name) = metadata::environment_name(entry.file_name()) else { continue };
            match self.find(&name, query, counts) {
                Ok(found) => answer.found.push(found),
                // Half of one that is being made or destroyed, or was when its command was killed; or
                // destroyed since it was listed.
                Err(StoreError::NoEnvironment(_) | StoreError::NoSnapshot(_)) => {}
                Err(error) => answer.unreadable.push(Unreadable { name, error }),
            }
        }
        answer.found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(answer)
    }

    /// What is asked about an environment, of which the file system `counts` what it takes.
    fn find(
        &self,
        name: &EnvironmentName,
        query: &Query<'_>,
        counts: bool,
    ) -> Result<Found, StoreError> {
        let mut found = Found::new(name.clone());
        if query.asks(Fact::Record) {
            found.record = Some(self.record(name)?);
        }
        if query.asks(Fact::Mounts) {
            found.mounts = self.mounts(name)?;
        }
        if query.asks(Fact::Natives) {
            found.natives = self.fabric.natives(&self.open_root(name)?, &self.root_path(name))?;
        }
        if query.asks(Fact::Parts) && self.has_tree(name)? {
            let root = self.root_path(name);
            let nested = self.fabric.nested(&self.open_root(name)?).map_err(at("list", &root))?;
            found.parts = nested.iter().map(|path| root.join(path).display().to_string()).collect();
            found.parts.sort();
        }
        if query.asks(Fact::Snapshots) {
            let snapshots = self.snapshots(name)?.into_iter();
            found.snapshots = snapshots.map(|snapshot| (snapshot, Space::default())).collect();
        }
        if counts {
            // One that is being changed just now has no figure.
            found.space = self.space(name).ok();
        }
        if query.asks(Fact::Space) {
            for (snapshot, space) in &mut found.snapshots {
                *space = self.snapshot_space(name, snapshot)?;
            }
            let own = self.space(name)?;
            let all = found.snapshots.iter().map(|(_, space)| space.used);
            let add = |sum: Option<u64>, more: Option<u64>| Some(sum? + more?);
            let used = all.fold(own.used, add);
            found.space = Some(Space { used, exclusive: used.or(own.exclusive), ..own });
        }
        if query.asks(Fact::Unchanged)
            && let Some((newest, _)) = found.snapshots.last()
        {
            let copy = self.open_snapshot(name, &newest.name)?;
            found.unchanged = tree::unchanged(&copy, self.open_root(name)?, newest.created)?;
        }
        Ok(found)
    }

    /// What is written down about an environment, if it has a tree.
    pub(super) fn record(&self, name: &EnvironmentName) -> Result<Environment, StoreError> {
        if !self.has_tree(name)? {
            return Err(StoreError::NoEnvironment(name.clone()));
        }
        self.read_metadata(name)
    }

    /// The snapshots of an environment, oldest first.
    pub(super) fn snapshots(&self, name: &EnvironmentName) -> Result<Vec<Snapshot>, StoreError> {
        Ok(self.recorded(name)?.into_iter().map(|(_, snapshot)| snapshot).collect())
    }

    fn counts(&self, query: &Query<'_>) -> bool {
        query.asks(Fact::CountedSpace) && self.fabric.counts(&self.top)
    }

    /// What a tree takes without its snapshots.
    fn space(&self, name: &EnvironmentName) -> Result<Space, StoreError> {
        self.fabric.space(&self.top, &self.open_root(name)?, &self.root_path(name))
    }

    fn snapshot_space(
        &self,
        name: &EnvironmentName,
        snapshot: &Snapshot,
    ) -> Result<Space, StoreError> {
        let path = PathBuf::from(Point::snapshot(name, &snapshot.name).to_string());
        self.fabric.space(&self.top, &self.open_snapshot(name, &snapshot.name)?, &path)
    }

    fn mounts(&self, name: &EnvironmentName) -> Result<Vec<(Point, PathBuf)>, StoreError> {
        let mut found = bind::mounts(&self.trees)?;
        found.retain(|(below, _)| below.as_os_str() == name.as_str());
        let live = found.into_iter().map(|(_, at)| (Point::from(name.clone()), at));
        let uuid = match self.record(name) {
            // What is not known to be a snapshot was not mounted as one.
            Err(StoreError::Broken { .. }) => return Ok(live.collect()),
            environment => environment?.uuid,
        };
        let frozen = bind::mounts(&self.snaps)?.into_iter().filter_map(|(below, at)| {
            Some((Point::snapshot(name, &snapshots::at_path(&below, uuid)?), at))
        });
        Ok(live.chain(frozen).collect())
    }
}

//! How verbs lock what they name, and what they look at before they begin.

use super::Store;
use crate::journal::Tries;
use crate::locked::Locked;
use crate::progress::{Unit, Work};
use crate::query::{Fact, Query};
use crate::{Concerned, EnvironmentName, Pending, Point, Snapshot, SnapshotName, StoreError};

impl Store {
    /// Notes a verb in the history, does it, and notes how it ended.
    pub(super) fn noted<T>(
        &self,
        verb: &str,
        arguments: &[&str],
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let entry = self.history.begin(verb, arguments);
        let about = arguments.last().copied().unwrap_or_default();
        let _work = Work::begin(|| format!("{verb} {about}"), Unit::Nothing, None);
        let outcome = work().map_err(|error| error.explained(about));
        entry.end(&outcome);
        outcome
    }

    /// Keeps others from changing an environment.
    pub(super) fn kept(&self, name: &EnvironmentName) -> Result<Locked, StoreError> {
        Ok(Locked::new(name.clone(), self.locks.read(&self.back_end.locks()?, name)?))
    }

    /// Locks an environment that is to be changed. What it is looked at for after that is what stands.
    pub(super) fn alone(&self, name: &EnvironmentName) -> Result<Locked, StoreError> {
        let (alone, pending) = self.settled(name)?;
        if pending.is_empty() {
            return Ok(alone);
        }
        let uuid = match self.back_end.record(&alone) {
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
    pub(super) fn mend(
        &self,
        name: &EnvironmentName,
        verb: impl FnOnce(&Locked) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (alone, pending) = self.settled(name)?;
        verb(&alone)?;
        if !pending.is_empty() {
            // What stays is shown.
            let _ = self.back_end.settle(Some(name), Tries::Once);
        }
        Ok(())
    }

    fn settled(&self, name: &EnvironmentName) -> Result<(Locked, Vec<Pending>), StoreError> {
        let held = self.locks.change(&self.back_end.locks()?, name)?;
        let pending = self.back_end.settle(Some(name), Tries::Few)?;
        Ok((Locked::new(name.clone(), held), pending))
    }

    /// Locks a name that is to be given to a new environment. Whether it is free the back end sees when it
    /// uses it.
    pub(super) fn claim(&self, name: &EnvironmentName) -> Result<Locked, StoreError> {
        self.accept(name.as_str())?;
        self.alone(name)
    }

    /// The same while another environment is locked, which may be that of the name.
    pub(super) fn claim_beside(
        &self,
        locked: &Locked,
        name: &EnvironmentName,
    ) -> Result<Locked, StoreError> {
        self.accept(name.as_str())?;
        if locked.name() == name {
            return Err(StoreError::Exists(name.clone()));
        }
        self.alone(name)
    }

    /// Refuses a name that the back end cannot have.
    pub(super) fn accept(&self, name: &str) -> Result<(), StoreError> {
        match self.back_end.capabilities().names.refuse(name) {
            Some(reason) => Err(StoreError::Name { name: name.to_owned(), reason }),
            None => Ok(()),
        }
    }

    /// Refuses to take a tree away that somebody looks at elsewhere.
    pub(super) fn refuse_mounted(
        &self,
        locked: &Locked,
        goes: impl Fn(&Point) -> bool,
    ) -> Result<(), StoreError> {
        let query = Query::locked(locked, &[Fact::Mounts]);
        let mounts = self.back_end.one(locked.name(), &query)?.mounts;
        match mounts.into_iter().find(|(point, _)| goes(point)) {
            Some((point, at)) => Err(StoreError::Mounted { point, at }),
            None => Ok(()),
        }
    }

    /// Refuses the name of a snapshot that there is.
    pub(super) fn refuse_snapshot(
        &self,
        locked: &Locked,
        snapshot: &SnapshotName,
    ) -> Result<(), StoreError> {
        match self.find(locked, snapshot) {
            Err(StoreError::NoSnapshot(_)) => Ok(()),
            Ok(_) => Err(StoreError::SnapshotExists(Point::snapshot(locked.name(), snapshot))),
            Err(error) => Err(error),
        }
    }

    /// A snapshot of an environment that is locked.
    pub(super) fn find(
        &self,
        locked: &Locked,
        wanted: &SnapshotName,
    ) -> Result<Snapshot, StoreError> {
        let snapshots = self.back_end.snapshots_of(locked)?;
        let found = snapshots.into_iter().find(|snapshot| snapshot.name == *wanted);
        found.ok_or_else(|| StoreError::NoSnapshot(Point::snapshot(locked.name(), wanted)))
    }
}

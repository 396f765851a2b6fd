//! New names of boot environments, and what is assigned by name.
//!
//! The store and the assignments change one after the other. Before the store changes, it is noted
//! down which environment gets another name, so that after a kill between the two whoever reads
//! assignments next can see by its UUID what it is called now, and have them follow.

use serde::{Deserialize, Serialize};
use store::{EnvironmentName, Location, Store, StoreError};
use uuid::Uuid;

use super::MachineError;
use super::roster::{self, read};
use crate::site::state::{Kind, State, StateDir, StateError};

/// An environment that gets another name.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Renaming {
    store: String,
    uuid: Uuid,
    old: String,
}

/// Renames a boot environment, and has what is assigned it follow. The caller holds the state.
pub fn rename(
    state: &StateDir,
    location: &Location,
    store: &Store,
    name: &EnvironmentName,
    new: &EnvironmentName,
) -> Result<(), RenameError> {
    let renaming = Renaming::begin(state, location, store, name)?;
    let renamed = store.rename(name, new);
    // A verb that failed may have come far enough.
    let followed = renaming.finish(state, store);
    renamed?;
    followed
}

/// Finishes what a killed command began, if one did; waits for one that lives.
///
/// What cannot be finished now, because the store is away, is tried again the next time, and only
/// told in the log: whoever asks about machines is to hear of them nevertheless.
pub fn finish_renaming(state: &StateDir) -> Result<(), StateError> {
    if state.load(Kind::Site, RECORD)?.is_none() {
        return Ok(());
    }
    let _alone = state.hold()?;
    if let Some(record) = state.load(Kind::Site, RECORD)?
        && let Err(error) = resume(state, &record)
    {
        tracing::warn!(
            "a boot environment was renamed, and its machines cannot follow yet: {error}"
        );
    }
    Ok(())
}

fn resume(state: &StateDir, record: &[u8]) -> Result<(), RenameError> {
    let renaming: Renaming = read(record)?;
    let nonsense = |error: store::LocationError| MachineError::Syntax(error.to_string());
    let location = renaming.store.parse::<Location>().map_err(nonsense)?;
    renaming.finish(state, &Store::open(&location, state.path())?)
}

impl Renaming {
    /// Notes down that an environment is about to get another name.
    fn begin(
        state: &StateDir,
        location: &Location,
        store: &Store,
        name: &EnvironmentName,
    ) -> Result<Self, RenameError> {
        let (uuid, old) = (store.get(name)?.uuid, name.as_str().to_owned());
        let renaming = Self { store: location.to_string(), uuid, old };
        let record = toml::to_string(&renaming);
        let record = record.map_err(|error| MachineError::Syntax(error.to_string()))?;
        state.store(Kind::Site, RECORD, record.as_bytes())?;
        Ok(renaming)
    }

    /// Has what is assigned go to the name that the environment has now.
    fn finish(&self, state: &StateDir, store: &Store) -> Result<(), RenameError> {
        let listing = store.list()?;
        match listing.environments.iter().find(|environment| environment.uuid == self.uuid) {
            Some(environment) => roster::follow(state, &self.old, environment.name.as_str())?,
            None => {
                // It was destroyed, or is one of those that cannot be read just now.
                if let Some(error) = listing.unreadable.into_iter().next() {
                    return Err(error.error.into());
                }
            }
        }
        state.remove(Kind::Site, RECORD)?;
        Ok(())
    }
}

/// Why an environment did not get another name, or its machines did not follow.
#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    /// The assignments.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The record of an environment that gets another name.
const RECORD: &str = "renaming.toml";

#[cfg(test)]
mod test {
    use store::Layout;
    use tempfile::TempDir;

    use super::*;
    use crate::site::machine::{Machine, Roster, store as store_machine, store_default};

    /// A site whose machines `a` and `b`, and all others, boot `head`.
    struct Bench {
        _scratch: TempDir,
        state: StateDir,
        location: Location,
        store: Store,
    }

    impl Bench {
        fn new() -> Self {
            let scratch = tempfile::tempdir().unwrap();
            let state = StateDir::open(&scratch.path().join("state")).unwrap();
            let location = Location::Directory(scratch.path().join("store"));
            let store = Store::establish(&location, state.path()).unwrap();
            store.create(&name("head"), Layout::Flat).unwrap();
            let bench = Self { _scratch: scratch, state, location, store };
            bench.assign("a", "head");
            bench.assign("b", "head");
            store_default(&bench.state, Some("head")).unwrap();
            bench
        }

        fn assign(&self, machine: &str, environment: &str) {
            let environment = Some(environment.to_owned());
            let record = Machine { environment, ..Machine::default() };
            store_machine(&self.state, &machine.parse().unwrap(), &record).unwrap();
        }

        fn begin(&self) {
            Renaming::begin(&self.state, &self.location, &self.store, &name("head")).unwrap();
        }

        /// What `a`, `b` and all others boot.
        fn assigned(&self) -> [String; 3] {
            let roster = Roster::of_site(&self.state).unwrap();
            let of = |machine: &str| {
                let entry = roster.get(&machine.parse().unwrap()).unwrap();
                entry.machine.environment.clone().unwrap()
            };
            [of("a"), of("b"), roster.default_environment().unwrap().to_owned()]
        }

        fn is_settled(&self) -> bool {
            self.state.load(Kind::Site, RECORD).unwrap().is_none()
        }
    }

    fn name(text: &str) -> EnvironmentName {
        text.parse().unwrap()
    }

    #[test]
    fn what_boots_an_environment_boots_it_by_its_new_name() {
        let bench = Bench::new();
        bench.assign("b", "other");
        let Bench { state, location, store, .. } = &bench;
        rename(state, location, store, &name("head"), &name("new")).unwrap();
        assert_eq!(bench.assigned(), ["new", "other", "new"]);
        assert!(bench.is_settled());
    }

    #[test]
    fn what_is_not_renamed_is_booted_as_before() {
        let bench = Bench::new();
        bench.store.create(&name("taken"), Layout::Flat).unwrap();
        let Bench { state, location, store, .. } = &bench;
        let refused = rename(state, location, store, &name("head"), &name("taken"));
        assert!(matches!(refused, Err(RenameError::Store(StoreError::Exists(_)))), "{refused:?}");
        assert_eq!(bench.assigned(), ["head"; 3]);
        assert!(bench.is_settled());
    }

    #[test]
    fn machines_follow_after_a_kill_once_the_store_has_the_new_name() {
        let bench = Bench::new();
        bench.begin();
        bench.store.rename(&name("head"), &name("new")).unwrap();
        // One had followed already.
        bench.assign("a", "new");
        finish_renaming(&bench.state).unwrap();
        assert_eq!(bench.assigned(), ["new"; 3]);
        assert!(bench.is_settled());
    }

    #[test]
    fn machines_stay_after_a_kill_before_the_store_has_the_new_name() {
        let bench = Bench::new();
        bench.begin();
        finish_renaming(&bench.state).unwrap();
        assert_eq!(bench.assigned(), ["head"; 3]);
        assert!(bench.is_settled());
    }

    #[test]
    fn a_store_that_is_away_is_asked_again_later() {
        let bench = Bench::new();
        bench.begin();
        bench.store.rename(&name("head"), &name("new")).unwrap();
        let Location::Directory(path) = &bench.location else { panic!() };
        let away = path.with_extension("away");
        std::fs::rename(path, &away).unwrap();
        finish_renaming(&bench.state).unwrap();
        assert_eq!(bench.assigned(), ["head"; 3]);
        std::fs::rename(&away, path).unwrap();
        finish_renaming(&bench.state).unwrap();
        assert_eq!(bench.assigned(), ["new"; 3]);
    }
}

//! New names of boot environments, and what is assigned by name.
//!
//! The store and the assignments change one after the other. Before the store changes, an intent in the
//! state's own journal says which environment gets another name, so that after a kill between the two
//! whoever reads assignments next can see by its UUID what it is called now, and have them follow.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::{
    Concerned, EnvironmentName, Holders, Intent, Journal, Keeper, Location, Open, Pending, Store,
    StoreError, Tries,
};
use uuid::Uuid;

use super::MachineError;
use super::roster::{self, read};
use crate::site::state::{Kind, State, StateDir, StateError};

/// What is to be done when a command that renames does not come to its end.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Step {
    /// What is assigned by the old name goes to the name that the environment has now.
    Follow { store: String, uuid: Uuid, old: String },
}

/// Renames a boot environment, and has what is assigned it follow. The caller holds the state.
pub fn rename(
    state: &StateDir,
    location: &Location,
    store: &Store,
    name: &EnvironmentName,
    new: &EnvironmentName,
) -> Result<(), RenameError> {
    let assignments = Assignments(state);
    let mut open = begin(&assignments, location, store, name)?;
    let renamed = store.rename(name, new);
    // A verb that failed may have come far enough.
    let followed = open.settle();
    renamed?;
    Ok(followed?)
}

/// Finishes what a killed command began, if one did; waits for one that lives.
///
/// What cannot be finished now, because the store is away, is tried again the next time, and only
/// told in the log: whoever asks about machines is to hear of them nevertheless.
pub fn finish_renaming(state: &StateDir) -> Result<(), StateError> {
    let error = match settle_renaming(state, Tries::Few) {
        Ok(pending) => pending.into_iter().find_map(|pending| pending.error),
        Err(RenameError::State(error)) => return Err(error),
        Err(error) => Some(error.to_string()),
    };
    if let Some(error) = error {
        tracing::warn!(
            "a boot environment was renamed, and its machines cannot follow yet: {error}; \
             when that is right, run `netbe settle`"
        );
    }
    Ok(())
}

/// Whether a state directory may have anything of a command that renames. Does not make it.
#[must_use]
pub fn has_renaming(state: &Path) -> bool {
    state.join(JOURNAL).exists() || state.join(EARLIER).exists()
}

/// The same, tried as `tries` says; gives what stays.
pub fn settle_renaming(state: &StateDir, tries: Tries) -> Result<Vec<Pending>, RenameError> {
    if tries != Tries::None {
        settle_earlier(state)?;
    }
    let folder = folder(state);
    // Most often nothing was ever renamed, and then nothing is made.
    if !folder.exists() || Journal::open(folder.clone())?.uuids()?.is_empty() {
        return Ok(Vec::new());
    }
    let _alone = if tries == Tries::None { None } else { Some(state.hold()?) };
    let locks = folder.join(LOCKS);
    fs::create_dir_all(&locks).map_err(|error| StateError::Io { path: locks.clone(), error })?;
    Ok(Journal::open(folder)?.sweep(&Assignments(state), &locks, None, tries)?)
}

/// Notes down that an environment is about to get another name.
fn begin<'a>(
    assignments: &'a Assignments<'a>,
    location: &Location,
    store: &Store,
    name: &EnvironmentName,
) -> Result<Open<'a, Step>, RenameError> {
    let (uuid, old) = (store.get(name)?.uuid, name.to_string());
    let concerned = Concerned { name: old.clone(), uuid };
    let follow = Step::Follow { store: location.to_string(), uuid, old };
    let intent = Intent::new("rename", vec![concerned], vec![follow]);
    let journal = Journal::open(folder(assignments.0))?;
    Ok(journal.begin(assignments, intent, Holders::Programs)?)
}

/// What machines and the site boot, which follows.
#[derive(Debug)]
struct Assignments<'a>(&'a StateDir);

impl Assignments<'_> {
    /// What an environment is called now, unless it was destroyed.
    fn name(&self, location: &str, uuid: Uuid) -> Result<Option<EnvironmentName>, StoreError> {
        let location = location.parse::<Location>().map_err(|error| self.failed(error))?;
        let listing = Store::open(&location, self.0.path())?.list()?;
        let found = listing.environments.into_iter().find(|known| known.uuid == uuid);
        match (found, listing.unreadable.into_iter().next()) {
            (Some(found), _) => Ok(Some(found.name)),
            (None, None) => Ok(None),
            // It may be one of those that cannot be read just now.
            (None, Some(unreadable)) => Err(unreadable.error),
        }
    }

    fn failed(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        let (action, path) = ("have the machines follow in", self.0.path().to_owned());
        StoreError::Io { action, path, error: io::Error::other(error) }
    }

    fn follow(&self, Step::Follow { store, uuid, old }: &Step) -> Result<(), StoreError> {
        let Some(name) = self.name(store, *uuid)? else { return Ok(()) };
        roster::follow(self.0, old, name.as_str()).map_err(|error| self.failed(error))
    }
}

impl Keeper<Step> for Assignments<'_> {
    /// A store that is away is asked again however often.
    fn stands(&self, intent: &Intent<Step>) -> Result<bool, StoreError> {
        for Step::Follow { store, uuid, .. } in &intent.steps {
            self.name(store, *uuid)?;
        }
        Ok(true)
    }

    fn settle(&self, intent: &Intent<Step>) -> Result<(), StoreError> {
        intent.steps.iter().try_for_each(|step| self.follow(step))
    }
}

/// Does once what an earlier release noted down in a file of its own.
fn settle_earlier(state: &StateDir) -> Result<(), RenameError> {
    #[derive(Deserialize)]
    struct Earlier {
        store: String,
        uuid: Uuid,
        old: String,
    }
    if state.load(Kind::Site, EARLIER)?.is_none() {
        return Ok(());
    }
    let _alone = state.hold()?;
    if let Some(record) = state.load(Kind::Site, EARLIER)? {
        let Earlier { store, uuid, old } = read(&record)?;
        Assignments(state).follow(&Step::Follow { store, uuid, old })?;
        state.remove(Kind::Site, EARLIER)?;
    }
    Ok(())
}

fn folder(state: &StateDir) -> PathBuf {
    state.path().join(JOURNAL)
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

const JOURNAL: &str = "journal";
/// In the folder of the journal: locks of the environments that its intents are about.
const LOCKS: &str = "locks";
/// Where an earlier release noted down an environment that got another name.
const EARLIER: &str = "renaming.toml";

#[cfg(test)]
mod test {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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
            let killed = catch_unwind(AssertUnwindSafe(|| {
                let assignments = Assignments(&self.state);
                let head = name("head");
                let _open = begin(&assignments, &self.location, &self.store, &head).unwrap();
                resume_unwind(Box::new("killed"))
            }));
            assert!(killed.is_err());
            assert_eq!(settle_renaming(&self.state, Tries::None).unwrap().len(), 1);
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
            settle_renaming(&self.state, Tries::None).unwrap().is_empty()
                && self.state.load(Kind::Site, EARLIER).unwrap().is_none()
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
        fs::rename(path, &away).unwrap();
        for _ in 0..7 {
            finish_renaming(&bench.state).unwrap();
        }
        assert_eq!(bench.assigned(), ["head"; 3]);
        assert!(!bench.is_settled());
        fs::rename(&away, path).unwrap();
        finish_renaming(&bench.state).unwrap();
        assert_eq!(bench.assigned(), ["new"; 3]);
    }

    #[test]
    fn what_an_earlier_release_noted_down_is_done_once() {
        let bench = Bench::new();
        let uuid = bench.store.get(&name("head")).unwrap().uuid;
        let record = format!("store = \"{}\"\nuuid = \"{uuid}\"\nold = \"head\"\n", bench.location);
        bench.state.store(Kind::Site, EARLIER, record.as_bytes()).unwrap();
        bench.store.rename(&name("head"), &name("new")).unwrap();
        finish_renaming(&bench.state).unwrap();
        assert_eq!(bench.assigned(), ["new"; 3]);
        assert!(bench.is_settled());
    }
}

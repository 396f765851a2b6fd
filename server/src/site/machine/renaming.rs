//! New names of boot environments and of machines, and what goes by them.
//!
//! The store and the assignments change one after the other. Before the store changes, an intent in the
//! state's own journal says which environment gets another name, so that after a kill between the two
//! whoever reads assignments next can see by its UUID what it is called now, and have them follow. A machine's
//! new name is completed then, whatever of it was done: its record, its roots, its boots.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::{
    Concerned, EnvironmentName, Holders, Intent, Journal, Keeper, Location, Open, Pending, Store,
    StoreError, Tries,
};
use uuid::Uuid;

use super::roster::{self, read};
use super::{MachineError, MachineName};
use crate::boot;
use crate::console;
use crate::site::state::{Kind, State, StateDir, StateError};
use provision::roots;

/// What is to be done when a command that renames does not come to its end.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Step {
    /// What is assigned by the old name goes to the name that the environment has now.
    Follow { store: String, uuid: Uuid, old: String },
    /// A machine is called by its new name, and so are its roots in the store, if there is one, and its boots.
    Machine { store: Option<String>, old: MachineName, new: MachineName },
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

/// Renames a machine, with its roots and boots. The caller holds the state, and has looked that there is one
/// of the old name and none of the new.
pub fn rename_machine(
    state: &StateDir,
    location: Option<&Location>,
    old: &MachineName,
    new: &MachineName,
) -> Result<(), RenameError> {
    let assignments = Assignments(state);
    let mut open = begin_machine(&assignments, location, old, new)?;
    Ok(open.settle()?)
}

/// Notes down that a machine is about to get another name.
fn begin_machine<'a>(
    assignments: &'a Assignments<'a>,
    location: Option<&Location>,
    old: &MachineName,
    new: &MachineName,
) -> Result<Open<'a, Step>, RenameError> {
    let store = location.map(ToString::to_string);
    let step = Step::Machine { store, old: old.clone(), new: new.clone() };
    let intent = Intent::new("machine rename", Vec::new(), vec![step]);
    let journal = Journal::open(folder(assignments.0))?;
    Ok(journal.begin(assignments, intent, Holders::Programs)?)
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
            "a boot environment was renamed, but its machines still have its old name: {error}; correct \
             that, then run `netbe settle`"
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
        let listing = self.open(location)?.list()?;
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

    fn complete(&self, step: &Step) -> Result<(), StoreError> {
        match step {
            Step::Follow { store, uuid, old } => {
                let Some(name) = self.name(store, *uuid)? else { return Ok(()) };
                roster::follow(self.0, old, name.as_str()).map_err(|error| self.failed(error))
            }
            Step::Machine { store, old, new } => self.rename_machine(store.as_deref(), old, new),
        }
    }

    fn open(&self, location: &str) -> Result<Store, StoreError> {
        let location = location.parse::<Location>().map_err(|error| self.failed(error))?;
        Store::open(&location, self.0.path())
    }

    fn rename_machine(
        &self,
        store: Option<&str>,
        old: &MachineName,
        new: &MachineName,
    ) -> Result<(), StoreError> {
        let renamed = self.0.rename(Kind::Machine, old.as_str(), new.as_str());
        renamed.map_err(|error| self.failed(error))?;
        console::rename(self.0.path(), old.as_str(), new.as_str())
            .map_err(|error| self.failed(error))?;
        if let Some(store) = store {
            let store = self.open(store)?;
            let listing = store.list()?;
            for environment in &listing.environments {
                roots::rename_machine(&store, environment, old.as_str(), new.as_str())?;
            }
            if let Some(unreadable) = listing.unreadable.into_iter().next() {
                // It may be one of the machine's.
                return Err(unreadable.error);
            }
        }
        match self.0.claim() {
            Ok(_alone) => boot::rename_boots(self.0, old, new).map_err(|error| self.failed(error)),
            // The server that runs has them, and sees the new name with the machines.
            Err(StateError::Claimed { .. }) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }
}

impl Keeper<Step> for Assignments<'_> {
    /// A store that is away is asked again however often.
    fn stands(&self, intent: &Intent<Step>) -> Result<bool, StoreError> {
        for step in &intent.steps {
            match step {
                Step::Follow { store, uuid, .. } => drop(self.name(store, *uuid)?),
                Step::Machine { store, .. } => {
                    store.as_deref().map(|store| self.open(store)).transpose()?;
                }
            }
        }
        Ok(true)
    }

    fn settle(&self, intent: &Intent<Step>) -> Result<(), StoreError> {
        intent.steps.iter().try_for_each(|step| self.complete(step))
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
        let Earlier { store, uuid, old } = read(&record, state, EARLIER)?;
        Assignments(state).complete(&Step::Follow { store, uuid, old })?;
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

/// Forgets what was being renamed in a state that another takes the place of.
///
/// # Errors
///
/// A file cannot be removed.
pub fn forget_renaming(state: &Path) -> io::Result<()> {
    let absent = |done: io::Result<()>| match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    absent(fs::remove_file(state.join(EARLIER)))?;
    absent(fs::remove_dir_all(state.join(JOURNAL)))
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

    /// What names the machine: its record, its roots, and who may use what.
    fn named(bench: &Bench) -> Vec<String> {
        let roster = Roster::of_site(&bench.state).unwrap();
        let machines = roster.iter().map(|(name, _)| name.to_string());
        let listed = bench.store.list().unwrap().environments;
        let roots = listed.iter().map(|known| {
            let settings: Vec<_> =
                known.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{} {} {}", known.name, settings.join(","), known.export.machines.join(","))
        });
        machines.chain(roots).collect()
    }

    /// A site whose machine `a` has a root and data of its own, and may use a third environment.
    fn with_roots() -> Bench {
        let bench = Bench::new();
        let root = |name: &str, key: &str| {
            bench.store.create(&self::name(name), Layout::Flat).unwrap();
            bench.store.set_role(&self::name(name), store::Role::Client).unwrap();
            bench.store.set(&self::name(name), key, Some("a")).unwrap();
        };
        root("a-head", "machine");
        root("a-data", "data-of");
        let share = |export: &mut store::ExportSettings| {
            export.shared = true;
            export.machines = vec!["a".to_owned(), "b".to_owned()];
        };
        bench.store.change_export(&name("head"), share).unwrap();
        bench
    }

    const RENAMED: [&str; 5] = ["b", "c", "a-data data-of=c ", "a-head machine=c ", "head  c,b"];

    fn machine(text: &str) -> MachineName {
        text.parse().unwrap()
    }

    #[test]
    fn a_machine_takes_its_roots_along_to_its_new_name() {
        let bench = with_roots();
        let Bench { state, location, .. } = &bench;
        rename_machine(state, Some(location), &machine("a"), &machine("c")).unwrap();
        assert_eq!(named(&bench), RENAMED);
        assert!(bench.is_settled());
    }

    #[test]
    fn a_machine_has_its_new_name_whenever_the_command_was_killed() {
        for done in 0..3 {
            let bench = with_roots();
            let killed = catch_unwind(AssertUnwindSafe(|| {
                let assignments = Assignments(&bench.state);
                let (old, new) = (machine("a"), machine("c"));
                let _open = begin_machine(&assignments, Some(&bench.location), &old, &new).unwrap();
                if done > 0 {
                    assert!(bench.state.rename(Kind::Machine, "a", "c").unwrap());
                }
                if done > 1 {
                    bench.store.set(&name("a-head"), "machine", Some("c")).unwrap();
                }
                resume_unwind(Box::new("killed"))
            }));
            assert!(killed.is_err());
            finish_renaming(&bench.state).unwrap();
            assert_eq!(named(&bench), RENAMED, "{done}");
            assert!(bench.is_settled());
            // Once more changes nothing.
            finish_renaming(&bench.state).unwrap();
            assert_eq!(named(&bench), RENAMED);
        }
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

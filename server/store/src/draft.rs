//! What is left to be done of environments that several verbs make or fill, when their process is gone.
//!
//! Such an environment is marked with the intent that it is of. The write that takes the mark away is the
//! instant from which it is whole: before it the environment goes, or gets back what it had; after it
//! nothing of it does. So nothing is destroyed but what has the name, the UUID and the mark that the
//! record of the intent says.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::back_end::BackEnd;
use crate::journal::{Concerned, Holders, Intent, Journal, Keeper, Open};
use crate::locked::{Current, Locked};
use crate::query::{Fact, Query};
use crate::{
    Environment, Point, Role, SettingError, Snapshot, SnapshotName, StoreError, fault, tree,
};

/// Something that is undone or completed, in any kind of store.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Step {
    /// An environment that was being made goes.
    Discard { name: String, uuid: Uuid },
    /// An environment that was being filled gets back the tree of the intent's snapshot, and its role. The
    /// snapshot goes, whether it was filled or not.
    Empty {
        name: String,
        uuid: Uuid,
        role: String,
        /// Whether the snapshot is known to have been made: without it the tree is not what it was.
        #[serde(default)]
        kept: bool,
    },
    /// An environment that was being made becomes what it is to be.
    Finish { name: String, uuid: Uuid, role: String, settings: Vec<(String, String)> },
}

/// An intent that is open, whatever else its kind of store writes down.
pub(crate) trait OpenIntent: Debug {
    /// Its identity.
    fn uuid(&self) -> Uuid;

    /// Exchanges the steps, at one instant.
    fn turn(&mut self, steps: Vec<Step>) -> Result<(), StoreError>;

    /// Does the steps; what fails stays for the next verb.
    fn settle(&mut self) -> Result<(), StoreError>;
}

impl<S: Debug + From<Step> + Serialize> OpenIntent for Open<'_, S> {
    fn uuid(&self) -> Uuid {
        Open::uuid(self)
    }

    fn turn(&mut self, steps: Vec<Step>) -> Result<(), StoreError> {
        Open::turn(self, steps.into_iter().map(S::from).collect())
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        Open::settle(self)
    }
}

/// Writes an intent down that is to be held by its process alone.
pub(crate) fn begin<'a, S: Debug + From<Step> + Serialize + 'a>(
    journal: Journal,
    keeper: &'a dyn Keeper<S>,
    verb: &str,
    environments: Vec<Concerned>,
    steps: Vec<Step>,
) -> Result<Box<dyn OpenIntent + 'a>, StoreError> {
    let intent = Intent::new(verb, environments, steps.into_iter().map(S::from).collect());
    Ok(Box::new(journal.begin(keeper, intent, Holders::Process)?))
}

/// Says that an environment is of an intent: as its `key`, one of [`MARKS`].
pub(crate) fn mark(
    environment: &mut Environment,
    key: &str,
    intent: Uuid,
) -> Result<(), SettingError> {
    environment.role = Role::Off;
    environment.settings.set(key, Some(&intent.to_string()))
}

/// Takes the marks away.
pub(crate) fn unmark(environment: &mut Environment) -> Result<(), SettingError> {
    MARKS.iter().try_for_each(|key| environment.settings.set(key, None))
}

/// Takes note that an environment is about to go back to a tree without these snapshots: if it is being filled,
/// and one of them is from before that, it is whole then.
pub(crate) fn note_return(
    back_end: &dyn BackEnd,
    locked: &Locked,
    gone: &[SnapshotName],
) -> Result<(), StoreError> {
    let Ok(mut found) = locked.read(back_end) else { return Ok(()) };
    let filled = found.environment.settings.value(INSTALLING);
    let Some(intent) = filled.and_then(|intent| intent.parse().ok()) else { return Ok(()) };
    if gone.contains(&snapshot_of(intent)?) {
        found.environment.settings.set(RETURNING, Some(&intent.to_string()))?;
        back_end.write(&found, &[])?;
        fault::point();
    }
    Ok(())
}

/// The snapshot that an intent keeps the tree in that it changes.
pub(crate) fn snapshot_of(intent: Uuid) -> Result<SnapshotName, StoreError> {
    let name = format!("netbe-{intent}");
    name.parse().map_err(|_| StoreError::Name { name, reason: "it is not a name" })
}

/// Does a step, whatever of it was done before.
pub(crate) fn take(back_end: &dyn BackEnd, intent: Uuid, step: &Step) -> Result<(), StoreError> {
    let (Step::Discard { name, uuid }
    | Step::Empty { name, uuid, .. }
    | Step::Finish { name, uuid, .. }) = step;
    let Ok(name) = name.parse() else { return Ok(()) };
    let locked = Locked::by_intent(name);
    // One of its name that cannot be read may be it.
    let mut found = match locked.read(back_end) {
        Ok(found) if found.environment.uuid == *uuid => found,
        Ok(_) | Err(StoreError::NoEnvironment(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_ours = is_of(&found.environment, intent);
    match step {
        Step::Discard { .. } if is_ours => discard(back_end, &locked),
        Step::Empty { role, kept, .. } => empty(back_end, intent, found, (role, *kept)),
        Step::Finish { role, settings, .. } if is_ours => {
            let environment = &mut found.environment;
            unmark(environment)?;
            environment.role = role.parse().unwrap_or(Role::Off);
            for (key, value) in settings {
                environment.settings.set(key, Some(value))?;
            }
            back_end.write(&found, &[])?;
            fault::point();
            back_end.release(Some(locked.name()))
        }
        Step::Discard { .. } | Step::Finish { .. } => Ok(()),
    }
}

fn is_of(environment: &Environment, intent: Uuid) -> bool {
    let intent = intent.to_string();
    MARKS.iter().any(|key| environment.settings.value(key) == Some(&intent))
}

fn discard(back_end: &dyn BackEnd, locked: &Locked) -> Result<(), StoreError> {
    let name = locked.name();
    let mounts = back_end.one(name, &Query::locked(locked, &[Fact::Mounts]))?.mounts;
    if let Some((point, at)) = mounts.into_iter().next() {
        return Err(StoreError::Mounted { point, at });
    }
    back_end.release(Some(name))?;
    match back_end.destroy(locked, None) {
        // What it was made of has files that nobody may change, and this copy of them is not wanted.
        Err(StoreError::Obstacle { .. }) => {
            tree::unprotect(&back_end.open_root(name)?, &back_end.root(name))?;
            back_end.destroy(locked, None)
        }
        destroyed => destroyed,
    }
}

fn empty(
    back_end: &dyn BackEnd,
    intent: Uuid,
    mut found: Current<'_>,
    (role, kept): (&str, bool),
) -> Result<(), StoreError> {
    let (locked, before) = (found.locked(), snapshot_of(intent)?);
    let snapshots = back_end.snapshots_of(locked)?;
    let place = snapshots.iter().position(|snapshot| snapshot.name == before);
    if is_of(&found.environment, intent) {
        if let Some(place) = place {
            // These somebody else made.
            let newer = snapshots.iter().skip(place + 1);
            let (automatic, made): (Vec<_>, Vec<_>) = newer.partition(|one| one.automatic);
            let names = |of: Vec<&Snapshot>| of.into_iter().map(|one| one.name.clone()).collect();
            if !made.is_empty() {
                let point = Point::snapshot(locked.name(), &before);
                return Err(StoreError::Newer { point, snapshots: names(made) });
            }
            back_end.release(Some(locked.name()))?;
            let mut newest_first: Vec<_> = names(automatic);
            newest_first.reverse();
            back_end.rollback(locked, &before, &newest_first)?;
            fault::point();
        } else if kept && found.environment.settings.value(RETURNING) != Some(&intent.to_string()) {
            return Err(StoreError::Lost(Point::snapshot(locked.name(), &before)));
        }
        let environment = &mut found.environment;
        unmark(environment)?;
        environment.role = role.parse().unwrap_or(Role::Off);
        back_end.write(&found, &[])?;
        fault::point();
    }
    if place.is_some() { back_end.destroy(locked, Some(&before)) } else { Ok(()) }
}

/// The setting that says of which intent an environment is that is being made: it is nobody's yet.
pub(crate) const DRAFT: &str = "draft";
/// The setting that says of which intent an environment is that is being filled.
pub(crate) const INSTALLING: &str = "installing";
/// The setting that says of which intent an environment is that a person has go back to what it was before it
/// was filled: with the snapshot from before that, all is gone that was half.
pub(crate) const RETURNING: &str = "returning";
pub(crate) const MARKS: [&str; 3] = [DRAFT, INSTALLING, RETURNING];

//! What is left to be done of verbs that did not come to their end.
//!
//! Records of intents lie in the host's folder for what runs ([`RUNTIME`]), by the name of the pool and the
//! identity of the store's data set: a pool is imported on one host only, whatever state directories there are. What outlasts a
//! start of the host, or goes with the pool to another one, stands in a user property of the store's data
//! set too, which changes in one transaction: `netbe.intent:UUID`. A clone of a snapshot needs none: it is
//! put together as `.work-UUID`, and its `netbe:uuid` says the same, unless it has nothing of its own yet.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::command::{Failure, Refusal, Task};
use super::listing::{self, DataSet, Depth, Known, Properties, Source, datasets, snapshots};
use super::program::Change;
use super::{Zfs, mounts, natives, program, properties, told};
use crate::back_end::BackEnd as _;
use crate::draft;
use crate::error::at;
use crate::journal::{Concerned, Holders, Intent, Journal, Keeper, Open, Pending, Tries};
use crate::sys::RUNTIME;
use crate::{EnvironmentName, StoreError};

/// Something that is undone or completed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum Step {
    /// What is common to all kinds of store.
    Draft(draft::Step),
    /// A snapshot of a data set and of all below it is to go with its last clone.
    Defer { dataset: u64, snapshot: String },
    /// Data sets go, with all below them.
    Destroy { datasets: Vec<u64> },
    /// What has a hidden name in the store goes, with all below it, if it is this.
    Discard { name: String, is: Identity },
    /// Native properties of a data set are to be as they were; one without a value as it came with a stream, or
    /// is by itself.
    Properties { dataset: u64, before: Vec<(String, Option<String>)> },
    /// The snapshots of this name came by a stream of which not all came. Each data set goes back to its
    /// snapshot before, and those that came with the stream go.
    Return { dataset: u64, snapshot: String, base: String, sets: Vec<(u64, u64)> },
    /// What is mounted at and below a directory of this host is unmounted.
    Unmount { directory: PathBuf },
}

impl From<draft::Step> for Step {
    fn from(step: draft::Step) -> Self {
        Self::Draft(step)
    }
}

/// By what a data set is known.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Identity {
    /// By its number, which ZFS gives.
    Guid(u64),
    /// By the UUID that it was made with: its number was not known before.
    Uuid(Uuid),
}

impl Step {
    /// What has a hidden name with this UUID in it goes, if it has the UUID.
    pub(super) fn named(uuid: Uuid) -> Self {
        Self::Discard { name: format!("{HIDDEN}{uuid}"), is: Identity::Uuid(uuid) }
    }

    /// Whether nothing of it is lost without a record in the pool: it is of this start of the host, or what is
    /// found there tells it.
    fn is_known(&self) -> bool {
        match self {
            Self::Unmount { .. } => true,
            Self::Discard { is: Identity::Uuid(uuid), .. } => *self == Self::named(*uuid),
            Self::Defer { .. }
            | Self::Destroy { .. }
            | Self::Discard { .. }
            | Self::Draft(_)
            | Self::Properties { .. }
            | Self::Return { .. } => false,
        }
    }
}

impl Zfs {
    /// Writes an intent down that has this identity.
    pub(super) fn intend_as(
        &self,
        uuid: Uuid,
        verb: &str,
        environments: Vec<Concerned>,
        steps: Vec<Step>,
    ) -> Result<Open<'_, Step>, StoreError> {
        let intent = Intent::new(verb, environments, steps).with_uuid(uuid);
        self.journal()?.begin(self, intent, Holders::Programs)
    }

    /// Writes an intent down.
    pub(super) fn intend(
        &self,
        verb: &str,
        environments: Vec<Concerned>,
        steps: Vec<Step>,
    ) -> Result<Open<'_, Step>, StoreError> {
        self.intend_as(Uuid::new_v4(), verb, environments, steps)
    }

    /// Settles what killed commands left.
    pub(super) fn settle_left(
        &self,
        name: Option<&EnvironmentName>,
        tries: Tries,
    ) -> Result<Vec<Pending>, StoreError> {
        self.look(tries != Tries::Few)?;
        let mut pending = self.journal()?.sweep(self, &self.locks()?, name, tries)?;
        pending.extend(self.earlier());
        Ok(pending)
    }

    /// Looks at the properties for intents, if nobody has since the host was started; later a list does.
    fn look(&self, again: bool) -> Result<(), StoreError> {
        let looked = self.runtime()?.join(LOOKED);
        if looked.exists() && !again {
            return Ok(());
        }
        let explain = |failure| told(failure, &format!("look at {}", self.dataset));
        let known = listing::properties(&self.dataset, Depth::One, "all").map_err(explain)?;
        self.adopt(&known)?;
        self.adopt_named(&listing::children(&self.dataset).map_err(explain)?)?;
        std::fs::write(&looked, "").map_err(at("write", &looked))
    }

    /// Takes over the intents that stand in the properties of the store's data set and that this host does
    /// not know: the host was started anew, or the pool comes from another one.
    pub(super) fn adopt(&self, known: &Known) -> Result<(), StoreError> {
        // What a forged property says is no record; the data set is told to be broken elsewhere.
        let Some(Ok(own)) = known.get(&self.dataset) else { return Ok(()) };
        let ours = own.iter().filter(|(_, value)| value.source == Source::Local);
        let uuids = ours.filter_map(|(property, _)| property.strip_prefix(PROPERTY)?.parse().ok());
        for uuid in uuids.collect::<Vec<Uuid>>() {
            self.journal()?.adopt(uuid, || self.kept(uuid))?;
        }
        Ok(())
    }

    /// Takes over what was being put together under a name that tells whose it is.
    pub(super) fn adopt_named(&self, names: &[String]) -> Result<(), StoreError> {
        let hidden = self.full(HIDDEN);
        let uuid = |full: &String| full.strip_prefix(&hidden)?.parse().ok();
        for uuid in names.iter().filter_map(uuid).collect::<Vec<Uuid>>() {
            self.journal()?.adopt(uuid, || {
                // It may have got its name since it was listed.
                let is = self.being_made(&format!("{hidden}{uuid}"), uuid)?;
                if !matches!(is, Made::With | Made::BareClone) {
                    return Ok(None);
                }
                let intent = Intent::new("clone", Vec::new(), vec![Step::named(uuid)]);
                let text = serde_json::to_string(&intent.with_uuid(uuid));
                text.map(Some)
                    .map_err(|error| at("write", Path::new(HIDDEN))(io::Error::from(error)))
            })?;
        }
        Ok(())
    }

    /// A record as it is kept in the pool now.
    fn kept(&self, uuid: Uuid) -> Result<Option<String>, StoreError> {
        let property = format!("{PROPERTY}{uuid}");
        let known = listing::properties(&self.dataset, Depth::One, &property)
            .map_err(|failure| told(failure, &format!("look at {}", self.dataset)))?;
        let own = known.get(&self.dataset).and_then(|own| own.as_ref().ok()?.get(&property));
        Ok(own.filter(|value| value.source == Source::Local).map(|value| value.text.clone()))
    }

    pub(super) fn journal(&self) -> Result<Journal, StoreError> {
        Journal::open(self.runtime()?.join("journal"))
    }

    /// Where locks and records of this store are on this host.
    pub(super) fn runtime(&self) -> Result<PathBuf, StoreError> {
        let path = Path::new(RUNTIME).join(folder(self.pool_name(), self.guid()?));
        mounts::point(&path)?;
        Ok(path)
    }

    /// What an earlier release wrote down, by names alone: nothing that has such a name is touched.
    fn earlier(&self) -> Option<Pending> {
        let folder = self.mounts.with_file_name("work");
        let left = std::fs::read_dir(&folder).ok()?.flatten().next()?.path();
        let text = std::fs::read_to_string(&left).ok()?;
        let error = format!(
            "an older netbe left {} behind, with this content: {}. If that data set still exists under a \
             hidden name, destroy it; then remove the file",
            left.display(),
            text.trim().replace(['\t', '\n'], " ")
        );
        let (uuid, verb, environments) = (Uuid::nil(), String::new(), Vec::new());
        Some(Pending { uuid, verb, environments, since: None, tries: 0, error: Some(error) })
    }

    /// Refuses a data set of which a stream has come in part: settled, it is as it was before.
    pub(super) fn refuse_half(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        self.look(false)?;
        let intents = self.journal()?.all::<Step>()?;
        let concerns = |intent: &Intent<Step>| {
            intent.environments.iter().any(|known| known.name == name.as_str())
        };
        for step in intents.iter().filter(|intent| concerns(intent)).flat_map(|one| &one.steps) {
            if let Step::Return { dataset, snapshot, base, .. } = step
                && self.number(&self.full(name.as_str()))? == Some(*dataset)
            {
                return Err(half(name.as_str(), snapshot, base));
            }
        }
        Ok(())
    }

    fn take(&self, intent: Uuid, step: &Step) -> Result<(), StoreError> {
        match step {
            Step::Draft(step) => draft::take(self, intent, step),
            Step::Unmount { directory } => mounts::hide(directory),
            // No other name is one of ours.
            Step::Discard { name, .. } if !name.starts_with(HIDDEN) => Ok(()),
            Step::Discard { name, is } => self.discard(&self.full(name), *is),
            Step::Defer { dataset, snapshot } => match self.named(&[*dataset])?.pop() {
                Some(set) => clear(
                    Task::zfs("destroy").flags(["-d", "-r"]),
                    &format!("{}@{snapshot}", set.name),
                ),
                None => Ok(()),
            },
            Step::Destroy { datasets } => {
                // Children before what they are in.
                let sets = self.named(datasets)?;
                sets.iter().rev().try_for_each(|set| clear_one(&set.name))
            }
            Step::Properties { dataset, before } => match self.named(&[*dataset])?.pop() {
                Some(set) => natives::give_back(&set.name, before),
                None => Ok(()),
            },
            Step::Return { dataset, snapshot, base, sets } => {
                match self.named(&[*dataset])?.pop() {
                    Some(root) => self.go_back_to(intent, &root, (snapshot, base), sets),
                    None => Ok(()),
                }
            }
        }
    }

    /// Destroys what has a hidden name, unless it is another than was put there.
    fn discard(&self, full: &str, is: Identity) -> Result<(), StoreError> {
        let same = match is {
            Identity::Guid(guid) => self.number(full)? == Some(guid),
            Identity::Uuid(uuid) => match self.being_made(full, uuid)? {
                Made::Nothing => return Ok(()),
                // Whatever is in it by now is somebody's: then it is not destroyed.
                Made::BareClone | Made::Bare => return clear(Task::zfs("destroy"), full),
                Made::With => true,
                Made::Other => false,
            },
        };
        if same {
            return clear(Task::zfs("destroy").flags(["-r"]), full);
        }
        if self.number(full)?.is_some() {
            tracing::warn!("{full} was not made by the killed command: it stays as it is");
        }
        Ok(())
    }

    /// What there is of something that was being made with a UUID.
    fn being_made(&self, full: &str, uuid: Uuid) -> Result<Made, StoreError> {
        let explain = |failure| told(failure, "clear away");
        let (sets, known) = match listing::described(full, Depth::All) {
            Err(Failure { refusal: Refusal::Missing, .. }) => {
                return self.present_now().map(|()| Made::Nothing);
            }
            described => described.map_err(explain)?,
        };
        // Of one that has none of its own nothing is told.
        let none = Properties::new();
        let own = match known.get(full) {
            Some(Err(listing::Forged)) => return Ok(Made::Other),
            Some(Ok(own)) => own,
            None => &none,
        };
        if properties::uuid(own).ok().flatten() == Some(uuid) {
            return Ok(Made::With);
        }
        let is_said =
            own.iter().any(|(name, value)| name.contains(':') && value.source != Source::Inherited);
        let [set] = &sets[..] else { return Ok(Made::Other) };
        if is_said || !snapshots(full, Depth::Children).map_err(explain)?.is_empty() {
            return Ok(Made::Other);
        }
        Ok(if set.origin.is_some() { Made::BareClone } else { Made::Bare })
    }

    /// Undoes what came of a stream that goes on from `base`.
    fn go_back_to(
        &self,
        intent: Uuid,
        root: &DataSet,
        (snapshot, base): (&str, &str),
        before: &[(u64, u64)],
    ) -> Result<(), StoreError> {
        let told = |failure| told(failure, "clear away");
        let rows = snapshots(&root.name, Depth::All).map_err(told)?;
        let marks = listing::properties(&root.name, Depth::All, ARRIVAL).map_err(told)?;
        let sets = datasets(&root.name).map_err(told)?;
        let newest = |set: &DataSet| rows.iter().rfind(|row| row.dataset == set.name);
        // What somebody has made of it since would be gone too.
        let changed = |set: &DataSet| {
            set.written > 0 || newest(set).is_some_and(|row| row.snapshot != snapshot)
        };
        let name = root.name.rsplit('/').next().unwrap_or(&root.name);
        let (mut newer, mut back, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for set in sets.iter().rev() {
            let had = before.iter().find(|(guid, _)| *guid == set.guid);
            let own = rows.iter().filter(|row| row.dataset == set.name);
            if !own.clone().any(|row| row.snapshot == snapshot) {
                continue;
            }
            let marked = marks.get(&set.name).and_then(|own| own.as_ref().ok()?.get(ARRIVAL));
            let marked = marked.is_some_and(|value| {
                value.source == Source::Local && value.text == intent.to_string()
            });
            match had {
                Some((_, guid)) => {
                    if changed(set) || !own.clone().any(|row| row.guid == *guid) {
                        return Err(half(name, snapshot, base));
                    }
                    newer.push(format!("{}@{snapshot}", set.name));
                    back.push(set.name.as_str());
                }
                None if marked && changed(set) => return Err(half(name, snapshot, base)),
                None if marked => new.push(set.name.as_str()),
                // Somebody else's.
                None => {}
            }
        }
        new.into_iter().try_for_each(clear_one)?;
        program::rollback(self.pool_name(), &newer, &back).map_err(told)
    }

    /// Those of these data sets that are in the store, whatever they are called now.
    fn named(&self, guids: &[u64]) -> Result<Vec<DataSet>, StoreError> {
        let mut sets = match datasets(&self.dataset) {
            Err(Failure { refusal: Refusal::Missing, .. }) => Vec::new(),
            sets => sets.map_err(|failure| told(failure, "clear away"))?,
        };
        if sets.iter().all(|set| set.name != self.dataset) {
            // Of a pool that has lost its disks nothing is listed, and that is called success.
            self.present_now()?;
            return Err(StoreError::Missing(format!("zfs:{}", self.dataset).into()));
        }
        sets.retain(|set| guids.contains(&set.guid));
        Ok(sets)
    }

    /// The number of a data set; `None` if it is not there.
    fn number(&self, full: &str) -> Result<Option<u64>, StoreError> {
        let found = listing::guid(full).map_err(|failure| told(failure, "clear away"))?;
        if found.is_none() {
            self.present_now()?;
        }
        Ok(found)
    }

    /// What is not there is gone, unless it is its pool that is not there.
    fn present_now(&self) -> Result<(), StoreError> {
        self.pool_now().map(drop)
    }
}

impl Keeper<Step> for Zfs {
    fn keep(&self, intent: &Intent<Step>, text: &str) -> Result<(), StoreError> {
        if is_known(intent) {
            return Ok(());
        }
        if text.len() > properties::MAX_VALUE {
            let said = "there are too many data sets in it".to_owned();
            return Err(StoreError::Tool { program: "zfs", task: intent.verb.clone(), said });
        }
        self.note(intent.uuid, Some(text))
    }

    fn forget(&self, intent: &Intent<Step>) -> Result<(), StoreError> {
        if is_known(intent) { Ok(()) } else { self.note(intent.uuid, None) }
    }

    /// In a pool that was away, another host may have settled it.
    fn stands(&self, intent: &Intent<Step>) -> Result<bool, StoreError> {
        Ok(is_known(intent) || self.kept(intent.uuid)?.is_some())
    }

    fn remedy(&self, intent: Uuid) -> String {
        match self.kept(intent) {
            Ok(None) => "remove that file".to_owned(),
            // As long as the pool has it, each command that looks there copies it anew.
            Ok(Some(_)) | Err(_) => {
                format!(
                    "run `zfs inherit {PROPERTY}{intent} {}` and remove that file",
                    self.dataset
                )
            }
        }
    }

    fn settle(&self, intent: &Intent<Step>) -> Result<(), StoreError> {
        // One that fails does not keep the others.
        let taken: Vec<_> = intent.steps.iter().map(|step| self.take(intent.uuid, step)).collect();
        taken.into_iter().collect()
    }
}

impl Zfs {
    fn note(&self, intent: Uuid, text: Option<&str>) -> Result<(), StoreError> {
        program::set(self.pool_name(), &[self.record(intent, text)]).map_err(|failure| {
            told(failure, &format!("write down what is done to {}", self.dataset))
        })
    }

    /// The change that keeps a record in the pool, or forgets it. With others in one program, they are what
    /// the intent comes to its end by: from that instant on nothing of it is undone.
    pub(super) fn record(&self, intent: Uuid, text: Option<&str>) -> Change {
        Change {
            dataset: self.dataset.clone(),
            property: format!("{PROPERTY}{intent}"),
            value: text.map(str::to_owned),
        }
    }
}

/// What has the hidden name of something that was being made.
///
/// ZFS makes a data set in one transaction group and sets its properties in the next (`zfs_ioc_create` and
/// `zfs_ioc_clone` of its zfs_ioctl.c), so that a loss of power leaves one without them: no user property, no
/// snapshot and nothing below it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Made {
    /// There is nothing.
    Nothing,
    /// It has the UUID that it was to have.
    With,
    /// It has no properties, and is a clone.
    BareClone,
    /// It has no properties.
    Bare,
    /// It is somebody else's.
    Other,
}

/// Whether its record need not be kept in the pool.
fn is_known(intent: &Intent<Step>) -> bool {
    !intent.steps.is_empty() && intent.steps.iter().all(Step::is_known)
}

/// The name of a store's folder. The halves of a pool that was split with zpool-split(8) have data sets of
/// the same numbers; no two pools that are imported have one name.
fn folder(pool: &str, guid: u64) -> String {
    format!("zfs-{pool}-{guid:016x}")
}

/// Destroys a data set with its snapshots, and nothing that somebody has made in it since.
fn clear_one(name: &str) -> Result<(), StoreError> {
    let all = match listing::everything(name) {
        Err(Failure { refusal: Refusal::Missing, .. }) => return Ok(()),
        all => all.map_err(|failure| told(failure, "clear away"))?,
    };
    if let Some(other) = stranger(name, &all) {
        let said = format!("{other} was made in it since: rename or destroy that first");
        return Err(StoreError::Tool { program: "zfs", task: format!("destroy {name}"), said });
    }
    if all.iter().any(|one| one.contains('@')) {
        clear(Task::zfs("destroy"), &format!("{name}@%"))?;
    }
    clear(Task::zfs("destroy"), name)
}

/// What of all that there is at and below a data set is neither that nor a snapshot of it.
fn stranger<'a>(name: &str, all: &'a [String]) -> Option<&'a String> {
    all.iter().rfind(|one| one.split('@').next() != Some(name))
}

/// Runs what takes something away that may be gone already.
fn clear(task: Task, name: &str) -> Result<(), StoreError> {
    match task.operand(name).run() {
        Ok(_) | Err(Failure { refusal: Refusal::Missing, .. }) => Ok(()),
        Err(failure) => Err(told(failure, "clear away")),
    }
}

fn half(name: &str, snapshot: &str, base: &str) -> StoreError {
    let why = format!(
        "the receiving command was interrupted. `netbe settle` undoes what was received; if something was \
         changed since, run `netbe rollback -r {name}@{base}`"
    );
    StoreError::Away { place: format!("all of {name}@{snapshot}"), why }
}

/// How the names of data sets begin that a verb is putting together or taking apart.
pub(super) const HIDDEN: &str = ".work-";
/// How the name of the property begins that keeps a record.
const PROPERTY: &str = "netbe.intent:";
/// On a data set that came with a stream: the intent that it came by.
pub(super) const ARRIVAL: &str = "netbe.arrival:intent";
/// A file that is there when the properties were looked at since the host was started.
const LOOKED: &str = "looked";

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_halves_of_a_pool_that_was_split_have_folders_of_their_own() {
        assert_eq!(folder("tank", 0x5a), "zfs-tank-000000000000005a");
        assert_ne!(folder("tank", 0x5a), folder("half", 0x5a));
    }

    #[test]
    fn what_is_below_a_data_set_that_is_to_go_is_somebodys() {
        let all = ["t/be/a@x", "t/be/a/b@x", "t/be/a/b", "t/be/a"].map(str::to_owned);
        assert_eq!(stranger("t/be/a", &all).unwrap(), "t/be/a/b");
        assert_eq!(stranger("t/be/a", &[all[0].clone(), all[3].clone()]), None);
    }
}

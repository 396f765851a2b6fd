//! What a verb of several steps is about, written down before the first of them.
//!
//! A verb that is killed, or that fails half-way, leaves its record. The next verb that changes something
//! finds that nobody holds it any more, and undoes or completes what stands in it. Every step can be done
//! twice, and whether it was done or not: so the end of a record need not reach the disk at once. But what
//! was done by it has to be there before: on btrfs each directory reaches the disk by itself. Things are
//! named by an identity that nothing else ever has: a step that finds another thing under a name does
//! nothing to it.
//!
//! ```text
//! journal/UUID         the lock of one intent: its process holds it while it lives
//! journal/UUID.json    its record: one line
//! journal/.spare       an empty record, for when there is no room to make one
//! ```
//!
//! Where a folder of files does not last as long as the store does, its [`Keeper`] keeps the records too.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::FlockOperation;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::at;
use crate::lock::{self, Taken};
use crate::tree::open_dir;
use crate::{Environment, EnvironmentName, StoreError, Timestamp, fault};

/// What one verb is about.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intent<S> {
    pub(crate) uuid: Uuid,
    pub(crate) verb: String,
    /// The environments that it changes, each locked by its verb.
    pub(crate) environments: Vec<Concerned>,
    since: String,
    /// What has to be done, in this order, when its process is gone.
    pub steps: Vec<S>,
    #[serde(default)]
    tries: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// An environment that an intent is about.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Concerned {
    /// The name that it had, or was to have.
    pub name: String,
    /// Its identity.
    pub uuid: Uuid,
}

impl From<&Environment> for Concerned {
    fn from(environment: &Environment) -> Self {
        Self { name: environment.name.to_string(), uuid: environment.uuid }
    }
}

impl<S> Intent<S> {
    /// What a verb is about, with a new identity.
    #[must_use]
    pub fn new(verb: &str, environments: Vec<Concerned>, steps: Vec<S>) -> Self {
        Self {
            uuid: Uuid::new_v4(),
            verb: verb.to_owned(),
            environments,
            since: Timestamp::from(SystemTime::now()).to_string(),
            steps,
            tries: 0,
            error: None,
        }
    }

    /// The same with another identity: that of what it is about.
    pub(crate) fn with_uuid(self, uuid: Uuid) -> Self {
        Self { uuid, ..self }
    }

    fn pending(&self) -> Pending {
        Pending {
            uuid: self.uuid,
            verb: self.verb.clone(),
            environments: self.environments.clone(),
            since: self.since.parse().ok(),
            tries: self.tries,
            error: self.error.clone(),
        }
    }
}

/// A verb that did not come to its end, and whose leftovers are still there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pending {
    /// The identity of its record.
    pub uuid: Uuid,
    /// What it was; empty where its record cannot be read.
    pub verb: String,
    /// What it was about.
    pub environments: Vec<Concerned>,
    /// When it began.
    pub since: Option<Timestamp>,
    /// How often it was tried to undo or to complete it.
    pub tries: u32,
    /// Why the last of them failed.
    pub error: Option<String>,
}

/// Who knows how intents end, and keeps their records where the folder alone does not.
pub trait Keeper<S>: Debug {
    /// Keeps a record, or keeps it anew, whole or not at all; it outlasts a loss of power.
    fn keep(&self, _intent: &Intent<S>, _text: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// Forgets a record, if it is kept.
    fn forget(&self, _intent: &Intent<S>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether a record whose process is gone still stands: where it is kept elsewhere, it may have come to
    /// its end there.
    fn stands(&self, _intent: &Intent<S>) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// What a person does with a record that cannot be read, as a clause: else it may come back from
    /// where it is kept.
    fn remedy(&self, _intent: Uuid) -> String {
        "remove that file".to_owned()
    }

    /// Undoes or completes an intent, whatever of it was done.
    fn settle(&self, intent: &Intent<S>) -> Result<(), StoreError>;
}

/// Who has the lock of an intent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holders {
    /// Its process alone: what that starts meanwhile ends with it, or has nothing to do with the store.
    Process,
    /// The programs that it starts too: they may be at work when it is dead.
    Programs,
}

/// How often what is left is tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tries {
    /// Once more, if it was not tried too often: so verbs do.
    Few,
    /// Not at all.
    None,
    /// Once more, however often it was: a person asks.
    Once,
}

/// The folder of records.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
}

impl Journal {
    /// Uses a folder, which is made if it is not there.
    pub fn open(folder: PathBuf) -> Result<Self, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(at("make", &folder))?;
        Ok(Self { folder })
    }

    /// Makes a record's room beforehand, so that a full file system still lets environments be destroyed.
    /// Where it cannot be made, there is none.
    pub(crate) fn keep_spare(&self) {
        let path = self.folder.join(SPARE);
        // One that was being made when its process was killed.
        if fs::metadata(&path).is_ok_and(|found| found.len() < ROOM as u64) {
            let _ = fs::remove_file(&path);
        }
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        if let Ok(mut file) = made
            && file.write_all(&[b'\n'; ROOM]).and_then(|()| file.sync_all()).is_err()
        {
            let _ = fs::remove_file(&path);
        }
    }

    /// Writes an intent down, before the first of its steps.
    pub fn begin<'a, S: Serialize>(
        self,
        keeper: &'a dyn Keeper<S>,
        intent: Intent<S>,
        holders: Holders,
    ) -> Result<Open<'a, S>, StoreError> {
        self.begin_as(keeper, intent, holders, true)
    }

    /// The same for a verb that makes all of something at one instant, and of which a loss of power before that
    /// leaves nothing that anybody sees: its record need not be on the disk.
    pub(crate) fn begin_making<'a, S: Serialize>(
        self,
        keeper: &'a dyn Keeper<S>,
        intent: Intent<S>,
    ) -> Result<Open<'a, S>, StoreError> {
        self.begin_as(keeper, intent, Holders::Programs, false)
    }

    fn begin_as<'a, S: Serialize>(
        self,
        keeper: &'a dyn Keeper<S>,
        intent: Intent<S>,
        holders: Holders,
        synchronized: bool,
    ) -> Result<Open<'a, S>, StoreError> {
        let lock = loop {
            let path = self.path(intent.uuid);
            match self.lock(intent.uuid).map_err(at("lock", &path))? {
                Taken::Held(file) => {
                    if holders == Holders::Programs {
                        fcntl_setfd(&file, FdFlags::empty()).map_err(at("lock", &path))?;
                    }
                    break file;
                }
                // Somebody who looks for what was left has it for an instant.
                Taken::Gone | Taken::Others(_) => thread::sleep(PAUSE),
            }
        };
        own().insert(intent.uuid);
        let (journal, state) = (self, State::Empty);
        let mut open = Open { journal, keeper, intent, state, synchronized, _lock: lock };
        open.write()?;
        open.state = State::Begun;
        fault::point();
        Ok(open)
    }

    /// Notes an intent whose record is kept elsewhere, and of which this folder knows nothing. `text`
    /// asks for the record once it is locked.
    pub(crate) fn adopt(
        &self,
        uuid: Uuid,
        text: impl FnOnce() -> Result<Option<String>, StoreError>,
    ) -> Result<(), StoreError> {
        let path = self.path(uuid);
        // Its process makes this file first and removes it last.
        if path.exists() {
            return Ok(());
        }
        let Taken::Held(_lock) = self.lock(uuid).map_err(at("lock", &path))? else { return Ok(()) };
        match text()? {
            Some(text) => self.write(uuid, &text, true),
            None => self.remove(uuid),
        }
    }

    /// Brings to the disk that records were removed.
    pub(crate) fn synchronize(&self) -> Result<(), StoreError> {
        let synchronized = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synchronized.map_err(at("write", &self.folder))
    }

    /// All that is written down and can be read, also by processes that are at work.
    pub(crate) fn all<S: DeserializeOwned>(&self) -> Result<Vec<Intent<S>>, StoreError> {
        let mut all = Vec::new();
        for uuid in self.uuids()? {
            all.extend(self.read(uuid)?.and_then(|text| parse(&text).ok()));
        }
        Ok(all)
    }

    /// Settles what was left, and gives what stays so. The environments that an intent is about are locked
    /// meanwhile, in the folder `locks`; the caller has `name` locked. Where a person asks about one by its
    /// name, only what is about that is settled.
    pub fn sweep<S: DeserializeOwned + Serialize>(
        &self,
        keeper: &dyn Keeper<S>,
        locks: &Path,
        name: Option<&EnvironmentName>,
        tries: Tries,
    ) -> Result<Vec<Pending>, StoreError> {
        let name = name.map(EnvironmentName::as_str);
        let mut left = Vec::new();
        for uuid in self.uuids()? {
            let Some(lock) = self.lock_left(uuid, name, tries)? else {
                continue;
            };
            let Some(text) = self.read(uuid)? else {
                // Nothing was begun by a process that had not written everything.
                self.remove(uuid)?;
                continue;
            };
            if text.trim_matches(['\0', '\n']).is_empty() {
                // A loss of power kept it from the disk, with nothing left to be done: only a verb that makes all at one
                // instant does not wait for its record.
                self.remove(uuid)?;
                continue;
            }
            let intent: Intent<S> = match parse(&text) {
                Ok(intent) => intent,
                Err(error) => {
                    let remedy = keeper.remedy(uuid);
                    left.push(damaged(uuid, &self.record(uuid), &error, &remedy));
                    continue;
                }
            };
            let about = |wanted| intent.environments.iter().any(|known| known.name == wanted);
            let asked = match tries {
                Tries::None => false,
                Tries::Few => intent.tries < ENOUGH,
                Tries::Once => name.is_none_or(about),
            };
            let others = intent.environments.iter().map(|known| known.name.as_str());
            let others = others.filter(|known| Some(*known) != name);
            // One that cannot be locked is not settled now.
            let mut held = others.map(|known| lock::try_hold(locks, known).ok().flatten());
            let held: Option<Vec<_>> = if asked { held.by_ref().collect() } else { None };
            let Some(_held) = held else {
                left.push(intent.pending());
                continue;
            };
            match keeper.stands(&intent) {
                Ok(true) => {}
                Ok(false) => {
                    self.remove(uuid)?;
                    continue;
                }
                Err(error) => {
                    left.push(Pending { error: Some(error.to_string()), ..intent.pending() });
                    continue;
                }
            }
            let journal = self.clone();
            let (state, synchronized) = (State::Begun, true);
            let mut open = Open { journal, keeper, intent, state, synchronized, _lock: lock };
            if let Err(error) = open.settle() {
                // A person who asks is told by the verb.
                if tries == Tries::Few {
                    tracing::warn!(
                        verb = open.intent.verb, %error,
                        "was left by an interrupted command: `netbe settle` tries again"
                    );
                }
                left.push(open.intent.pending());
            } else {
                // Came the record back, what is decided later would be undone.
                self.synchronize()?;
            }
        }
        Ok(left)
    }

    /// The lock of an intent whose process is gone; `None` if it is at work. Who only looks has a lock for an
    /// instant. Of what is about `name`, which the caller has locked, that is all that is waited for; but a
    /// program that a dead process had started may be at work still.
    fn lock_left(
        &self,
        uuid: Uuid,
        name: Option<&str>,
        tries: Tries,
    ) -> Result<Option<File>, StoreError> {
        let (path, until) = (self.path(uuid), Instant::now() + GLANCE);
        loop {
            // One of several verbs, of which the caller is another.
            if own().contains(&uuid) {
                return Ok(None);
            }
            match self.lock(uuid).map_err(at("lock", &path))? {
                Taken::Held(file) => return Ok(Some(file)),
                Taken::Gone => {}
                Taken::Others(_) => {
                    let text = self.read(uuid)?;
                    let names = text.and_then(|text| serde_json::from_str::<Names>(&text).ok());
                    let mut names = names.iter().flat_map(|found| &found.environments);
                    let is_ours = names.any(|known| Some(known.name.as_str()) == name);
                    if !is_ours || tries == Tries::None || Instant::now() >= until {
                        return Ok(None);
                    }
                }
            }
            thread::sleep(PAUSE);
        }
    }

    fn lock(&self, uuid: Uuid) -> io::Result<Taken> {
        let dir = open_dir(rustix::fs::CWD, &self.folder)?;
        lock::take(&dir, &uuid.to_string(), FlockOperation::NonBlockingLockExclusive)
    }

    /// The intents of which there is a lock or a record.
    pub fn uuids(&self) -> Result<Vec<Uuid>, StoreError> {
        let mut found = Vec::new();
        let explain = || at("list", &self.folder);
        for entry in fs::read_dir(&self.folder).map_err(explain())? {
            let name = entry.map_err(explain())?.file_name();
            let Some(name) = name.to_str() else { continue };
            // After a loss of power one that was being written may be there without its lock.
            let stem = name.strip_suffix(RECORD).or_else(|| name.strip_suffix(NEW));
            let stem = stem.unwrap_or(name);
            found.extend(stem.parse::<Uuid>());
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn read(&self, uuid: Uuid) -> Result<Option<String>, StoreError> {
        let path = self.record(uuid);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // What is no text is damaged.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let bytes = fs::read(&path).map_err(at("read", &path))?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(error) => Err(at("read", &path)(error)),
        }
    }

    /// Writes a record whole or not at all.
    fn write(&self, uuid: Uuid, text: &str, synchronized: bool) -> Result<(), StoreError> {
        let path = self.record(uuid);
        let new = self.folder.join(format!("{uuid}{NEW}"));
        let fill = || {
            let file = Self::fill(&new, text)?;
            if synchronized { file.sync_all() } else { Ok(()) }
        };
        let written = match fill() {
            Err(error) if is_full(&error) && text.len() < ROOM => {
                let _ = fs::remove_file(&new);
                // Where even the spare one had no room, that the disk is full is what counts.
                match fs::rename(self.folder.join(SPARE), &new) {
                    Ok(()) => fill(),
                    Err(_) => Err(error),
                }
            }
            written => written,
        };
        fault::point();
        let written = written.and_then(|()| {
            fs::rename(&new, &path)?;
            if synchronized { File::open(&self.folder)?.sync_all() } else { Ok(()) }
        });
        written.map_err(|error| {
            let _ = fs::remove_file(&new);
            at("write", &path)(error)
        })
    }

    /// Writes to a file that is new, or to the spare one, whose blocks it has.
    fn fill(path: &Path, text: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        // The spare one keeps its blocks, and nothing of what stood there before.
        let room = usize::try_from(file.metadata()?.len()).unwrap_or_default();
        write!(file, "{text}{}", "\n".repeat(room.saturating_sub(text.len())))?;
        Ok(file)
    }

    /// Removes a record, and its lock after it.
    fn remove(&self, uuid: Uuid) -> Result<(), StoreError> {
        let (record, path) = (self.record(uuid), self.path(uuid));
        if fs::symlink_metadata(&record).is_ok_and(|found| found.len() == ROOM as u64) {
            // It is the spare one. Where that cannot be, there is none.
            let _ = fs::rename(&record, self.folder.join(SPARE));
        }
        for path in [&self.folder.join(format!("{uuid}{NEW}")), &record, &path] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at("remove", path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn path(&self, uuid: Uuid) -> PathBuf {
        self.folder.join(uuid.to_string())
    }

    fn record(&self, uuid: Uuid) -> PathBuf {
        self.folder.join(format!("{uuid}{RECORD}"))
    }
}

/// An intent that its process has locked. Dropped before its end it is settled, as if it were found.
#[derive(Debug)]
#[must_use]
pub struct Open<'a, S: Serialize> {
    journal: Journal,
    keeper: &'a dyn Keeper<S>,
    intent: Intent<S>,
    state: State,
    /// Whether its record has to be on the disk as soon as it is written.
    synchronized: bool,
    _lock: File,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Nothing is written down.
    Empty,
    /// What is written down is to be settled.
    Begun,
    /// There is nothing more to do with it here.
    Ended,
}

impl<S: Serialize> Open<'_, S> {
    pub(crate) const fn uuid(&self) -> Uuid {
        self.intent.uuid
    }

    /// Exchanges the steps, at one instant: what was to be undone is now to be completed.
    pub(crate) fn turn(&mut self, steps: Vec<S>) -> Result<(), StoreError> {
        let before = std::mem::replace(&mut self.intent.steps, steps);
        self.synchronized = true;
        let written = self.write();
        if written.is_err() {
            self.intent.steps = before;
        } else {
            fault::point();
        }
        written
    }

    /// Nothing is left to be undone.
    pub(crate) fn end(mut self) {
        self.close();
    }

    /// Does what is to be done when a verb does not go on; what fails is noted and stays for the next.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        match self.keeper.settle(&self.intent) {
            Ok(()) => self.close(),
            Err(error) => {
                self.state = State::Ended;
                self.intent.tries = self.intent.tries.saturating_add(1);
                self.intent.error = Some(error.to_string());
                // That it is left is known without it.
                let _ = self.write();
                return Err(error);
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        self.state = State::Ended;
        fault::point();
        let removed = self.keeper.forget(&self.intent);
        // A record that stays is settled once more, which changes nothing.
        if let Err(error) = removed.and_then(|()| self.journal.remove(self.intent.uuid)) {
            tracing::warn!(intent = %self.intent.uuid, %error, "its record cannot be removed");
        }
    }

    fn write(&self) -> Result<(), StoreError> {
        let text = serde_json::to_string(&self.intent).map_err(io::Error::other);
        let text = text.map_err(at("write", &self.journal.record(self.intent.uuid)))?;
        // The folder first: what is kept elsewhere alone would be taken for what a dead process left.
        self.journal.write(self.intent.uuid, &text, self.synchronized)?;
        self.keeper.keep(&self.intent, &text)
    }
}

impl<S: Serialize> Drop for Open<'_, S> {
    fn drop(&mut self) {
        self.conclude();
        own().remove(&self.intent.uuid);
    }
}

impl<S: Serialize> Open<'_, S> {
    fn conclude(&mut self) {
        match self.state {
            _ if thread::panicking() => {}
            State::Ended => {}
            State::Empty => {
                let _ = self.journal.remove(self.intent.uuid);
            }
            State::Begun => {
                if let Err(error) = self.settle() {
                    tracing::warn!(verb = self.intent.verb, %error, "cannot be undone now");
                }
            }
        }
    }
}

/// The intents that this process has open.
fn own() -> MutexGuard<'static, BTreeSet<Uuid>> {
    static OWN: Mutex<BTreeSet<Uuid>> = Mutex::new(BTreeSet::new());
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The environments that a record is about.
#[derive(Deserialize)]
struct Names {
    environments: Vec<Concerned>,
}

/// Reads a record. What names no environments as netbe does was written by somebody else.
fn parse<S: DeserializeOwned>(text: &str) -> Result<Intent<S>, String> {
    let intent: Intent<S> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match intent.environments.iter().find(|known| known.name.parse::<EnvironmentName>().is_err()) {
        Some(known) => Err(format!("{:?} is no environment's name", known.name)),
        None => Ok(intent),
    }
}

fn damaged(uuid: Uuid, path: &Path, error: &str, remedy: &str) -> Pending {
    let error = format!(
        "{} cannot be read ({error}): look for its remains in the store, then {remedy}",
        path.display()
    );
    let (verb, environments) = (String::new(), Vec::new());
    Pending { uuid, verb, environments, since: None, tries: 0, error: Some(error) }
}

fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// How the name of a record ends.
const RECORD: &str = ".json";
/// How the name of a record ends that is being written.
const NEW: &str = ".new";
const SPARE: &str = ".spare";
/// What the spare record has room for: a block.
const ROOM: usize = 4096;
/// So often verbs try what fails.
const ENOUGH: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);
/// Longer than anybody looks at a record.
const GLANCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod test;

//! A machine's root of a template's new version: a new clone with what is the machine's own in it.
//!
//! Nothing is changed before it was shown, and the machine's present root stays as it is: to go back is
//! to boot it again.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hostfs::{Attributes, Entry, EntryKind, Extended, Inside, InsideError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::{Environment, EnvironmentName, InUse, Point, Store};

use super::fixed::Lifted;
use super::locks::Locks;
use super::merge::{Beside, Content, Fate, Files, Item, Side, Step, Text, merge};
use super::{MAX_NAMES, Made, Owned, RootError, Roots, Term};
use crate::worker::{self, Request};

/// What an upgrade of a machine's root will do.
#[derive(Debug)]
pub struct Upgrade {
    /// Its present root.
    pub own: EnvironmentName,
    /// What that was made from.
    pub from: Point,
    /// What the new one will be made from.
    pub to: Point,
    /// What becomes of its configuration, file by file.
    pub steps: Vec<Step>,
    /// What else the machine has changed, outside its configuration and its data: it stays behind.
    pub left: Vec<PathBuf>,
}

impl Upgrade {
    /// The files that the machine and the template have changed both, in ways that do not go together.
    pub fn conflicts(&self) -> impl Iterator<Item = &Path> {
        conflicts(&self.steps)
    }
}

fn conflicts(steps: &[Step]) -> impl Iterator<Item = &Path> {
    let conflicts = steps.iter().filter(|step| matches!(step.fate, Fate::Conflict { .. }));
    conflicts.map(|step| step.path.as_path())
}

impl Roots<'_> {
    /// Finds out what an upgrade of a machine's root will do.
    pub fn plan_upgrade(&self, own: &Environment, to: &Point) -> Result<Upgrade, RootError> {
        let machine = Owned::of(own).map(|owned| owned.machine);
        let locks = self.locks()?;
        let _machine = machine.map(|machine| locks.machine(&machine)).transpose()?;
        let _alone = Locks::new(self.directory.join("roots")).upgrade()?;
        let from = self.template(own)?;
        let present = Point::from(own.name.clone());
        let roots = [
            self.configuration(&from, "snapshot")?,
            self.configuration(&present, "")?,
            self.configuration(to, "snapshot-new")?,
        ];
        let names = [&from, &present, to].map(Point::to_string);
        let [base, own_root, new] = roots.each_ref().map(|root| root.inside.as_fd());
        let descriptors = [base, own_root, new];
        let steps = match worker::call(&Request::Merge(names), &descriptors)?.0 {
            Outcome::Steps(steps) => steps,
            Outcome::Large(point) => return Err(RootError::Large(point.parse()?)),
        };
        let changes = self.store.diff(&from, &present)?;
        let data = || own.datasets.iter().filter(|set| set.data());
        let is_data = |path: &Path| data().any(|set| path.starts_with(set.path()));
        let mut left: Vec<PathBuf> = changes.into_iter().map(|change| change.path).collect();
        left.retain(|path| {
            let own = PLACES.iter().any(|place| path.starts_with(place));
            !own && !is_data(path) && !super::identity::is_of_machine(path)
        });
        Ok(Upgrade { own: own.name.clone(), from, to: to.clone(), steps, left })
    }

    /// Makes the new root.
    pub fn upgrade(&self, machine: &str, upgrade: &Upgrade) -> Result<Made, RootError> {
        let own = Inside::from_fd(self.store.open_root(&upgrade.own)?);
        self.make_with(machine, &upgrade.to, Term::Kept, |new| {
            let request = Request::Apply(upgrade.steps.clone());
            worker::call::<()>(&request, &[own.as_fd(), new.as_fd()])?;
            Ok(())
        })
    }

    /// The root of an environment, or of a snapshot, which is mounted below the directory for that long.
    fn configuration(&self, point: &Point, shown: &str) -> Result<Root<'_>, RootError> {
        let (inside, mounted) = if point.snapshot.is_some() {
            let mounted = Mounted::begin(self.store, point.clone(), &self.directory.join(shown))?;
            (Inside::enter(&mounted.target)?, Some(mounted))
        } else {
            (Inside::from_fd(self.store.open_root(&point.environment)?), None)
        };
        Ok(Root { inside, _mounted: mounted })
    }
}

/// The way to a system.
struct Root<'a> {
    // It is closed before what it leads to is unmounted.
    inside: Inside,
    _mounted: Option<Mounted<'a>>,
}

/// How a merge ended.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Outcome {
    /// This is to be done.
    Steps(Vec<Step>),
    /// There is more configuration in this one than any system has.
    Large(String),
}

/// What is to be done for a machine to have the new template and its own configuration: of the old
/// template, the machine's present root and the new template, which have these names.
pub(crate) fn plan(roots: &[Inside; 3], names: &[String; 3]) -> Result<Outcome, RootError> {
    match merged(roots, names) {
        Ok(steps) => Ok(Outcome::Steps(steps)),
        Err(RootError::Large(point)) => Ok(Outcome::Large(point.to_string())),
        Err(error) => Err(error),
    }
}

fn merged(roots: &[Inside; 3], names: &[String; 3]) -> Result<Vec<Step>, RootError> {
    let [base, own, new] = roots;
    let [base_name, own_name, new_name] = names;
    let base = Configuration::read(base, base_name.parse()?)?;
    let own = Configuration::read(own, own_name.parse()?)?;
    let new = Configuration::read(new, new_name.parse()?)?;
    let texts =
        |path: &Path| Ok::<_, RootError>([base.text(path)?, own.text(path)?, new.text(path)?]);
    let mut steps = merge(&base.files, &own.files, &new.files, texts)?;
    // The other version of today takes the place of an earlier one, which the old root still has.
    let beside: Vec<PathBuf> = conflicts(&steps).map(conflict_path).collect();
    steps.retain(|step| !beside.iter().any(|other| step.path.starts_with(other)));
    Ok(steps)
}

/// Does to a new root what was planned, with the machine's present one at hand.
pub(crate) fn apply(own: &Inside, new: &Inside, steps: &[Step]) -> Result<(), InsideError> {
    let mut lifted = Lifted::new(new);
    for step in steps.iter().filter(|step| step.fate != Fate::Taken) {
        lifted.lift_tree(&step.path)?;
        if matches!(step.fate, Fate::Conflict { .. }) {
            lifted.lift_tree(&conflict_path(&step.path))?;
        }
        if let Some(entry) = entry(&step.fate) {
            lifted.decide(&step.path, entry.flags);
        }
    }
    steps.iter().try_for_each(|step| carry_out(own, new, step))?;
    lifted.put_back()?;
    new.synchronize()
}

/// What a name has in the end, apart from what is in it.
fn entry(fate: &Fate) -> Option<&Entry> {
    match fate {
        Fate::Conflict { own, .. } | Fate::Kept(own) => own.as_ref().map(|own| &own.entry),
        Fate::Merged { entry, .. } => Some(entry),
        Fate::Taken => None,
    }
}

/// The configuration of a system.
struct Configuration<'a> {
    files: Files,
    inside: &'a Inside,
}

impl<'a> Configuration<'a> {
    fn read(inside: &'a Inside, of: Point) -> Result<Self, RootError> {
        Ok(Self { files: read(inside, &of)?, inside })
    }

    /// What is in a file that was short when it was found; nothing, if none was.
    fn text(&self, path: &Path) -> Result<Vec<u8>, InsideError> {
        match self.files.get(path).and_then(|item| item.content.as_ref()) {
            Some(_) => self.inside.read_small(path, MAX_TEXT),
            None => Ok(Vec::new()),
        }
    }
}

/// A snapshot that is mounted for as long as it is looked at.
struct Mounted<'a> {
    store: &'a Store,
    point: Point,
    target: PathBuf,
}

impl<'a> Mounted<'a> {
    fn begin(store: &'a Store, point: Point, target: &Path) -> Result<Self, RootError> {
        let failed = |source| InsideError::Io { path: target.to_owned(), source };
        let target = std::path::absolute(target).map_err(failed)?;
        std::fs::create_dir_all(&target).map_err(failed)?;
        // A process that was killed has left its own there: of any environment.
        if std::fs::read_dir(&target).map_err(failed)?.next().is_some() {
            for known in store.list()?.environments {
                while store.unmount(&known.name, Some(&target), InUse::Detach).is_ok() {}
            }
        }
        store.mount(&point, &target)?;
        Ok(Self { store, point, target })
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let name = &self.point.environment;
        if let Err(error) = self.store.unmount(name, Some(&self.target), InUse::Detach) {
            tracing::warn!("{} stays mounted: {error}", self.target.display());
        }
    }
}

/// Finds the configuration of a system, which may be running. None of it is kept but what tells it from
/// another.
fn read(inside: &Inside, of: &Point) -> Result<Files, RootError> {
    let mut files = Files::new();
    let mut waiting: Vec<PathBuf> = PLACES.iter().map(PathBuf::from).collect();
    let (mut again, mut at_one, mut rest, mut names) = (0, 0, MAX_BYTES, 0);
    while let Some(path) = waiting.pop() {
        let found = read_one(inside, &path, rest);
        at_one = if found.is_ok() { 0 } else { at_one + 1 };
        let (item, below) = match found {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(InsideError::TooLarge { .. }) => return Err(RootError::Large(of.clone())),
            Err(error @ (InsideError::Attributes(_) | InsideError::TooMany { .. })) => {
                return Err(error.into());
            }
            // It may be gone, or something else than it was a moment ago.
            Err(_) if again < MAX_AGAIN && at_one < MAX_AT_ONE => {
                again += 1;
                waiting.push(path);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        rest = rest.saturating_sub(item.content.as_ref().map_or(0, |content| content.length));
        names += path.as_os_str().len();
        if let EntryKind::Link(target) = &item.entry.kind {
            names += target.as_os_str().len();
        }
        let known = files.len().max(waiting.len());
        if known >= MAX_FILES || names > MAX_PATHS {
            return Err(InsideError::TooMany { path, max: MAX_FILES }.into());
        }
        waiting.extend(below.into_iter().map(|name| path.join(name)));
        files.insert(path, item);
    }
    Ok(files)
}

/// Looks at what lies at a path, and at the names in it if it is a directory; `None` where nothing is
/// that an upgrade carries over. A file is read to its end, unless that is more than `most` bytes.
fn read_one(
    inside: &Inside,
    path: &Path,
    most: u64,
) -> Result<Option<(Item, Vec<OsString>)>, InsideError> {
    let Some(entry) = inside.entry(path)? else { return Ok(None) };
    let (extended, list) = match &entry.kind {
        EntryKind::Directory | EntryKind::File => {
            let extended = inside.extended(path)?;
            let is_list = |name: &[u8]| name.starts_with(b"system.posix_acl_");
            (told_apart(&extended, |_| true), told_apart(&extended, is_list))
        }
        EntryKind::Link(_) | EntryKind::Other => (None, None),
    };
    let (content, names) = match &entry.kind {
        EntryKind::Directory => (None, inside.read_dir(path, MAX_NAMES)?),
        EntryKind::File => (Some(content(inside, path, most)?), Vec::new()),
        EntryKind::Link(_) => (None, Vec::new()),
        // Sockets and FIFOs are made by who uses them.
        EntryKind::Other => return Ok(None),
    };
    Ok(Some((Item { entry, content, extended, list }, names)))
}

/// What tells the extended attributes of these names from others, if there are any.
fn told_apart(extended: &Extended, of: impl Fn(&[u8]) -> bool) -> Option<[u8; 32]> {
    let mut hash = None::<Sha256>;
    for part in extended.iter().filter(|(name, _)| of(name)).flat_map(|(name, value)| [name, value])
    {
        let hash = hash.get_or_insert_default();
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    hash.map(|hash| hash.finalize().into())
}

/// What tells a file's bytes from others.
fn content(inside: &Inside, path: &Path, most: u64) -> Result<Content, InsideError> {
    let failed = |source| InsideError::Io { path: path.to_owned(), source };
    let large = || {
        let max = usize::try_from(most).unwrap_or(usize::MAX);
        InsideError::TooLarge { path: path.to_owned(), max }
    };
    let file = inside.open(path)?;
    if file.metadata().map_err(failed)?.len() > most {
        return Err(large());
    }
    let mut file = file.take(most.saturating_add(1));
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
    let mut length = 0_u64;
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        match buffer.get(..read) {
            None | Some([]) => break,
            Some(bytes) => hash.update(bytes),
        }
        length = length.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
    if length > most {
        return Err(large());
    }
    Ok(Content { length, digest: hash.finalize().into() })
}

/// Does to a new root what was decided about a name, with the machine's present one at hand.
fn carry_out(own: &Inside, new: &Inside, step: &Step) -> Result<(), InsideError> {
    let path = &step.path;
    match &step.fate {
        Fate::Conflict { own: kept, beside } => {
            let other = conflict_path(path);
            match beside {
                Beside::Marked(bytes) => {
                    clear(new, &other)?;
                    if let Some(Item { entry, .. }) = kept {
                        new.put_file(&other, bytes, entry)?;
                        let source = opened(own, path, entry)?;
                        source.map_or(Ok(()), |source| new.copy_extended(&other, source))?;
                    }
                }
                Beside::Nothing => {}
                Beside::Theirs => {
                    clear(new, &other)?;
                    new.rename(path, &other)?;
                }
            }
            keep(own, new, path, kept.as_ref())
        }
        Fate::Kept(kept) => keep(own, new, path, kept.as_ref()),
        Fate::Merged { entry, extended, text } => {
            let side = if *extended == Side::Own { own } else { new };
            // Before another takes its place. Without the list that it shows the mask of, a mode is not put anywhere:
            // what the machine has removed meanwhile is as the new template has it.
            let Some(source) = opened(side, path, entry)? else { return Ok(()) };
            match (&entry.kind, text) {
                (EntryKind::Directory, _) => directory(new, path, entry)?,
                (_, Text::Merged(text)) => new.put_file(path, text, entry)?,
                (_, Text::New) => copy(new, new, path, entry, MAX_BYTES)?,
                (_, Text::Own) => copy(own, new, path, entry, MAX_BYTES)?,
            }
            new.copy_extended(path, source)
        }
        Fate::Taken => Ok(()),
    }
}

/// Has a name in a new root be as the machine has it, whatever is there.
fn keep(own: &Inside, new: &Inside, path: &Path, item: Option<&Item>) -> Result<(), InsideError> {
    let is_dir = |entry: &Entry| entry.kind == EntryKind::Directory;
    let there = new.entry(path)?;
    let both = item.is_some_and(|item| is_dir(&item.entry)) && there.as_ref().is_some_and(is_dir);
    if !both {
        clear(new, path)?;
    }
    item.map_or(Ok(()), |item| put(own, new, path, item))
}

/// Takes a name away, with all that is below it.
fn clear(inside: &Inside, path: &Path) -> Result<(), InsideError> {
    match inside.entry(path)? {
        None => Ok(()),
        Some(Entry { kind: EntryKind::Directory, .. }) => {
            for name in inside.read_dir(path, MAX_NAMES)? {
                clear(inside, &path.join(name))?;
            }
            inside.remove_dir(path)
        }
        Some(_) => inside.remove(path).map(drop),
    }
}

/// Where the other version of a file is put that could not be merged.
#[must_use]
pub fn conflict_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".netbe-conflict");
    name.into()
}

fn put(own: &Inside, new: &Inside, path: &Path, item: &Item) -> Result<(), InsideError> {
    parents(own, new, path)?;
    match &item.entry.kind {
        EntryKind::Directory => directory_of(own, new, path, &item.entry),
        EntryKind::Link(target) => new.put_link(path, target),
        EntryKind::File | EntryKind::Other => {
            let length = item.content.as_ref().map_or(0, |content| content.length);
            copy(own, new, path, &item.entry, length)
        }
    }
}

/// Copies a file, of which there may be more by now; or nothing, if the machine has removed it.
fn copy(
    from: &Inside,
    to: &Inside,
    path: &Path,
    entry: &Entry,
    most: u64,
) -> Result<(), InsideError> {
    let source = match from.open(path) {
        Err(InsideError::Missing(_)) => return Ok(()),
        source => source?,
    };
    let failed = |source| InsideError::Io { path: path.to_owned(), source };
    let about = source.metadata().map_err(failed)?;
    let nanoseconds = u32::try_from(about.mtime_nsec()).unwrap_or_default();
    let modified = (about.mtime(), nanoseconds);
    let mut file = to.create(path)?;
    io::copy(&mut (&source).take(most), &mut file).map_err(failed)?;
    let Entry { mode, uid, gid, .. } = *entry;
    to.finish_file(path, &file, &Attributes { mode, uid, gid, modified })?;
    to.copy_extended(path, source)
}

/// Opens a file or a directory, if that is still there.
fn opened(side: &Inside, path: &Path, entry: &Entry) -> Result<Option<OwnedFd>, InsideError> {
    if entry.kind == EntryKind::Directory {
        return side.open_dir(path);
    }
    match side.open(path) {
        Err(InsideError::Missing(_)) => Ok(None),
        file => file.map(|file| Some(file.into())),
    }
}

/// Makes the directories above a name that a new root lacks, as the machine has them.
fn parents(own: &Inside, new: &Inside, path: &Path) -> Result<(), InsideError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    if new.exists(parent)? {
        return Ok(());
    }
    parents(own, new, parent)?;
    match own.entry(parent)? {
        Some(entry) if entry.kind == EntryKind::Directory => directory_of(own, new, parent, &entry),
        _ => new.make_dir(parent),
    }
}

/// Makes a directory as the machine has it, apart from what is in it.
fn directory_of(own: &Inside, new: &Inside, path: &Path, entry: &Entry) -> Result<(), InsideError> {
    directory(new, path, entry)?;
    own.open_dir(path)?.map_or(Ok(()), |source| new.copy_extended(path, source))
}

fn directory(inside: &Inside, path: &Path, entry: &Entry) -> Result<(), InsideError> {
    let Entry { mode, uid, gid, .. } = *entry;
    inside.make_dir(path)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or_default();
    let modified = (seconds, now.subsec_nanos());
    inside.finish_dir(path, &Attributes { mode, uid, gid, modified })
}

/// Where systems have their configuration, and administrators what belongs to it.
const PLACES: [&str; 9] = [
    "boot/device.hints",
    "boot/loader.conf",
    "boot/loader.conf.d",
    "boot/loader.conf.local",
    "etc",
    "root/.ssh/authorized_keys",
    "usr/local/etc",
    "var/cron/tabs",
    "var/spool/cron",
];

/// More than any system has of them.
const MAX_FILES: usize = 100_000;
/// More than all of that, in bytes.
const MAX_BYTES: u64 = 4 << 30;
/// More than all paths and targets of links, in bytes.
const MAX_PATHS: usize = 32 << 20;
/// The longest text that is merged, in bytes, and some that it may have grown by since.
const MAX_TEXT: usize = 1 << 20;
const BUFFER: usize = 1 << 16;
/// How often something is looked at again that the machine changes meanwhile.
const MAX_AGAIN: u32 = 1_000;
/// How often one thing fails in a row until that is no change of the machine's.
const MAX_AT_ONE: u32 = 50;

#[cfg(test)]
mod test;

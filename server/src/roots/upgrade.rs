//! A machine's root of a template's new version: a new clone with what is the machine's own in it.
//!
//! Nothing is changed before it was shown, and the machine's present root stays as it is: to go back is
//! to boot it again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hostfs::{Attributes, Entry, EntryKind, Inside, InsideError};
use store::{Environment, EnvironmentName, InUse, Point, Store};

use super::merge::{Beside, Fate, Files, Item, Step, merge};
use super::{Made, RootError, Roots, Term};
use crate::machine::MachineName;

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
        let conflicts = self.steps.iter().filter(|step| matches!(step.fate, Fate::Conflict { .. }));
        conflicts.map(|step| step.path.as_path())
    }
}

impl Roots<'_> {
    /// Finds out what an upgrade of a machine's root will do.
    pub fn look_ahead(&self, own: &Environment, to: &Point) -> Result<Upgrade, RootError> {
        let _alone = self.state.hold_roots()?;
        let from = self.template(own)?;
        let base = self.configuration(&from)?;
        let present = read(&Inside::from_fd(self.store.open_root(&own.name)?))?;
        let steps = merge(&base, &present, &self.configuration(to)?);
        let changes = self.store.diff(&from, &Point::from(own.name.clone()))?;
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
    pub fn upgrade(&self, machine: &MachineName, upgrade: &Upgrade) -> Result<Made, RootError> {
        let own = Inside::from_fd(self.store.open_root(&upgrade.own)?);
        self.make_with(machine, &upgrade.to, Term::Kept, |new| {
            upgrade.steps.iter().try_for_each(|step| carry_out(&own, new, step))
        })
    }

    /// The configuration in an environment or a snapshot.
    fn configuration(&self, point: &Point) -> Result<Files, RootError> {
        if point.snapshot.is_none() {
            let root = self.store.open_root(&point.environment)?;
            return Ok(read(&Inside::from_fd(root))?);
        }
        let shown = Shown::begin(self.store, point, self.state.path())?;
        Ok(read(&Inside::enter(&shown.target)?)?)
    }
}

/// A snapshot that is mounted for as long as it is looked at.
struct Shown<'a> {
    store: &'a Store,
    point: &'a Point,
    target: PathBuf,
}

impl<'a> Shown<'a> {
    fn begin(store: &'a Store, point: &'a Point, state: &Path) -> Result<Self, RootError> {
        let failed = |source| InsideError::Io { path: state.to_owned(), source };
        let target = std::path::absolute(state).map_err(failed)?.join("snapshot");
        std::fs::create_dir_all(&target).map_err(failed)?;
        // A process that was killed has left its own there: of any environment.
        if std::fs::read_dir(&target).map_err(failed)?.next().is_some() {
            for known in store.list()?.environments {
                while store.unmount(&known.name, Some(&target), InUse::Detach).is_ok() {}
            }
        }
        store.mount(point, &target)?;
        Ok(Self { store, point, target })
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let name = &self.point.environment;
        if let Err(error) = self.store.unmount(name, Some(&self.target), InUse::Detach) {
            tracing::warn!("{} stays mounted: {error}", self.target.display());
        }
    }
}

/// Reads the configuration of a system, which may be running.
fn read(inside: &Inside) -> Result<Files, InsideError> {
    let mut files = Files::new();
    let mut waiting: Vec<PathBuf> = PLACES.iter().map(PathBuf::from).collect();
    let mut again = 0;
    while let Some(path) = waiting.pop() {
        let (item, names) = match read_one(inside, &path) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(error @ (InsideError::TooLarge { .. } | InsideError::TooMany { .. })) => {
                return Err(error);
            }
            // It may be gone, or something else than it was a moment ago.
            Err(_) if again < MAX_AGAIN => {
                again += 1;
                waiting.push(path);
                continue;
            }
            Err(error) => return Err(error),
        };
        if files.len() >= MAX_FILES {
            return Err(InsideError::TooMany { path, max: MAX_FILES });
        }
        waiting.extend(names.into_iter().map(|name| path.join(name)));
        files.insert(path, item);
    }
    Ok(files)
}

/// Reads what lies at a path, and the names in it if it is a directory; `None` where nothing is that
/// an upgrade carries over.
fn read_one(inside: &Inside, path: &Path) -> Result<Option<(Item, Vec<OsString>)>, InsideError> {
    let Some(entry) = inside.entry(path)? else { return Ok(None) };
    let (bytes, names) = match &entry.kind {
        EntryKind::Directory => (Vec::new(), inside.read_dir(path, MAX_NAMES)?),
        EntryKind::File => (inside.read_small(path, MAX_FILE)?, Vec::new()),
        EntryKind::Link(_) => (Vec::new(), Vec::new()),
        // Sockets and FIFOs are made by who uses them.
        EntryKind::Other => return Ok(None),
    };
    Ok(Some((Item { entry, bytes }, names)))
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
                    let entry = kept.as_ref().map(|kept| &kept.entry);
                    entry.map_or(Ok(()), |entry| new.put_file(&other, bytes, entry))?;
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
        Fate::Merged(item) => put(own, new, path, item),
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
        EntryKind::Directory => directory(new, path, &item.entry),
        EntryKind::Link(target) => new.put_link(path, target),
        EntryKind::File | EntryKind::Other => new.put_file(path, &item.bytes, &item.entry),
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
        Some(entry) if entry.kind == EntryKind::Directory => directory(new, parent, &entry),
        _ => new.make_dir(parent),
    }
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
/// More names than any folder of configuration has.
const MAX_NAMES: usize = 16_384;
/// The largest file that is read, in bytes.
const MAX_FILE: usize = 64 << 20;
/// How often something is looked at again that the machine changes meanwhile.
const MAX_AGAIN: u32 = 1_000;

#[cfg(test)]
mod test;

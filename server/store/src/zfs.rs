//! A store of ZFS data sets: every file system right below one data set is an environment.
//!
//! ```text
//! pool/be              the store; it may be a pool's ROOT, with what bectl(8) and beadm(8) made
//! pool/be/head         a root: mountpoint=/ canmount=noauto, and what is known in netbe:* properties
//! pool/be/head/usr     canmount=off: only there for what is below it
//! pool/be/head/usr/home
//! pool/be/.work-…      what a command is putting together or taking apart
//! ```
//!
//! Data sets are mounted to be served below the state directory, whatever `mountpoint` says:
//!
//! ```text
//! state/zfs/pool%be/mnt/   0700: whoever may enter could run the setuid programs of guests
//!   head/                  a tree, as its machine sees it
//! ```
//!
//! What commands on one host have to know of each other lies in one place for all state directories,
//! by the number of the store's data set:
//!
//! ```text
//! /run/netbe/zfs-GUID/
//!   locks/             held by commands, by environment
//!   journal/           what commands are doing, to be undone if they are killed
//! ```

mod begin_record;
mod command;
mod copy;
mod intents;
mod kernel;
mod listing;
mod memory;
mod mounts;
mod natives;
mod program;
mod properties;
mod snapshots;
mod stream;
mod tree;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::back_end::{Arrival, BackEnd, Capabilities, Part};
use crate::draft::{self, OpenIntent};
use crate::error::at;
use crate::journal::Tries;
use crate::{
    Change, Concerned, Environment, EnvironmentName, Holding, InUse, Listing, NativeChange,
    NativeValue, Pending, Point, Snapshot, SnapshotName, Space, StoreError, Survey, Unreadable,
};
#[cfg(all(feature = "libzfs", feature = "faults"))]
pub use kernel::{ask_programs_only, library_answers};

use command::{Failure, Refusal, Task};
use intents::{HIDDEN, Step};
use listing::{DataSet, Depth, Known, SnapshotRow};
use memory::Memory;
use mounts::DatasetPath;
use tree::{Forest, Pool, Tree};

/// An open store of ZFS data sets.
#[derive(Debug)]
pub(crate) struct Zfs {
    /// The data set whose children are environments.
    dataset: String,
    /// What was known about its pool when it was last looked at.
    pool: Mutex<Option<Pool>>,
    /// What verbs have seen of what they have locked.
    memory: Memory,
    /// The number of its data set, as it was when that was last looked at.
    guid: Mutex<Option<u64>>,
    mounts: PathBuf,
}

impl Zfs {
    /// Opens a store. A pool that is not imported now may be later: that is told by every verb.
    pub(crate) fn open(dataset: &str, state: &Path) -> Result<Self, StoreError> {
        let store = Self::at(dataset, state)?;
        match store.exists() {
            Ok(true) | Err(StoreError::Away { .. } | StoreError::Stalled { .. }) => Ok(store),
            Ok(false) => Err(StoreError::Missing(format!("zfs:{dataset}").into())),
            Err(error) => Err(error),
        }
    }

    /// Opens a store, and makes its data set where there is none.
    pub(crate) fn establish(dataset: &str, state: &Path) -> Result<Self, StoreError> {
        let store = Self::at(dataset, state)?;
        if !store.exists()? {
            let create = Task::zfs("create").flags(["-p"]);
            let create = create.property("mountpoint", "none").property("canmount", "off");
            let made = create.operand(dataset).run();
            made.map_err(|failure| told(failure, &format!("make the data set {dataset}")))?;
        }
        Ok(store)
    }

    fn at(dataset: &str, state: &Path) -> Result<Self, StoreError> {
        // No data set's name has a per cent sign in it.
        let base = state.join("zfs").join(dataset.replace('/', "%"));
        mounts::point(&base)?;
        // As the kernel tells where something is mounted: by no link, and from the root.
        let base = base.canonicalize().map_err(at("find", &base))?;
        let mounts = base.join("mnt");
        mounts::point(&mounts)?;
        let dataset = dataset.to_owned();
        let (pool, memory, guid) = (Mutex::default(), Memory::default(), Mutex::default());
        Ok(Self { dataset, pool, memory, guid, mounts })
    }

    /// Whether the store's data set is there; a pool that is not is [`StoreError::Away`].
    fn exists(&self) -> Result<bool, StoreError> {
        let found = listing::guid(&self.dataset)
            .map_err(|failure| told(failure, &format!("look at {}", self.dataset)))?;
        if found.is_none() {
            self.pool_now()?;
        }
        self.is_numbered(found);
        Ok(found.is_some())
    }

    /// The number of the store's data set.
    fn guid(&self) -> Result<u64, StoreError> {
        let known = || *self.guid.lock().unwrap_or_else(PoisonError::into_inner);
        if known().is_none() {
            self.exists()?;
        }
        known().ok_or_else(|| StoreError::Missing(format!("zfs:{}", self.dataset).into()))
    }

    /// Takes note of the number of the store's data set: another may have come under its name.
    fn is_numbered(&self, guid: Option<u64>) {
        *self.guid.lock().unwrap_or_else(PoisonError::into_inner) = guid;
    }

    /// The pool's name.
    fn pool_name(&self) -> &str {
        listing::pool(&self.dataset)
    }

    /// The pool, as far as that does not change while it is there.
    fn pool(&self) -> Result<Pool, StoreError> {
        if let Some(pool) = &*self.known() {
            return Ok(pool.clone());
        }
        self.pool_now()
    }

    /// The pool as it is now; it may have gone, and another of its name may have come.
    fn pool_now(&self) -> Result<Pool, StoreError> {
        *self.known() = None;
        let pool = Pool::look(self.pool_name())?;
        *self.known() = Some(pool.clone());
        Ok(pool)
    }

    fn known(&self) -> MutexGuard<'_, Option<Pool>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The full name of an environment's root.
    fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.dataset)
    }

    fn forest(&self) -> Result<Forest, StoreError> {
        let forest = Forest::look(&self.dataset, &|| self.pool());
        if !matches!(forest, Ok(Some(_))) {
            // Whether it is there at all says more.
            self.pool_now()?;
        }
        let (forest, own) =
            forest?.ok_or_else(|| StoreError::Missing(format!("zfs:{}", self.dataset).into()))?;
        self.is_numbered(Some(own.guid));
        self.adopt(&own.properties)?;
        self.adopt_named(&own.hidden)?;
        Ok(forest)
    }

    fn tree(&self, name: &EnvironmentName) -> Result<Tree, StoreError> {
        self.memory.tree(name, || {
            let tree = Tree::look(&self.dataset, name, &|| self.pool());
            if tree.is_err() {
                self.pool_now()?;
            }
            let tree = tree?;
            tree.is_unambiguous().map(|()| tree)
        })
    }

    /// The properties of a whole tree that are not as they are by themselves, with mount points as they
    /// were set.
    fn set_properties(&self, tree: &Tree) -> Result<Known, StoreError> {
        let mut known = tree.known().clone();
        for properties in known.values_mut().flatten() {
            let Some(point) = properties.get_mut("mountpoint") else { continue };
            // What stands before it can be told from it only where it is more than the root.
            if point.text.len() > 1 && point.text.starts_with('/') {
                point.text = self.pool()?.set_mount_point(&point.text).to_owned();
            }
        }
        Ok(known)
    }

    /// Refuses to change an environment that this host itself boots or has mounted.
    fn spare(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        let full = self.full(name.as_str());
        if self.pool_now()?.bootfs == full {
            let what = format!("{name}, which this host boots (bootfs of the pool),");
            return Err(StoreError::Busy { what, holder: None });
        }
        let here = self.mounts.join(name.as_str());
        let elsewhere =
            mounts::of(&full)?.into_iter().find(|mounted| !mounted.target.starts_with(&here));
        match elsewhere {
            Some(mounted) => {
                let what = format!("{name}, mounted at {},", mounted.target.display());
                Err(StoreError::Busy { what, holder: None })
            }
            None => Ok(()),
        }
    }

    /// The tree of an environment whose files are to be seen.
    fn tree_to_show(&self, name: &EnvironmentName) -> Result<Tree, StoreError> {
        if self.refuse_half(name).is_err() {
            // Before a machine goes on from half of what a killed command received.
            self.settle_left(None, Tries::Few)?;
            self.refuse_half(name)?;
        }
        let tree = self.tree(name)?;
        tree.is_plain()?;
        tree.waits().map_or(Ok(tree), Err)
    }

    /// Opens what can be mounted of a tree.
    fn open_places(&self, name: &EnvironmentName, tree: &Tree) -> Result<Vec<Part>, StoreError> {
        let shown = self.show(name.as_str(), &tree.places(), false)?;
        Ok(shown.into_iter().map(|shown| Part { path: shown.path, root: shown.root }).collect())
    }

    /// Shows a tree to this process, below a directory of the store's own.
    fn show(
        &self,
        below: &str,
        places: &[DatasetPath],
        read_only: bool,
    ) -> Result<Vec<mounts::Shown>, StoreError> {
        let point = self.mounts.join(below);
        mounts::point(&point)?;
        mounts::show(&point, places, read_only)
    }

    /// The places of a tree as it was at a snapshot.
    fn places_at(
        &self,
        tree: &Tree,
        point: &Point,
        snapshot: &SnapshotName,
    ) -> Result<Vec<DatasetPath>, StoreError> {
        let rows = self.rows(&point.environment)?;
        let had = |dataset: &str| {
            rows.iter().any(|row| row.dataset == dataset && row.snapshot == snapshot.as_str())
        };
        let mut places = tree.places();
        places.retain(|place| had(&place.dataset));
        if places.first().is_none_or(|place| !place.path.is_empty()) {
            return Err(StoreError::NoSnapshot(point.clone()));
        }
        for place in &mut places {
            place.dataset = format!("{}@{snapshot}", place.dataset);
        }
        Ok(places)
    }
}

impl BackEnd for Zfs {
    fn capabilities(&self) -> Capabilities {
        Capabilities { clones_depend: true, instant_snapshots: true, nested: true }
    }

    fn refuses(&self, name: &str) -> Option<&'static str> {
        let plain = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b' ')
        };
        if !name.bytes().all(plain) {
            Some("ZFS takes letters without accents, digits, spaces and - _ . : in names")
        } else if self.dataset.len() + name.len() > LONGEST {
            Some("with the store's in front it is longer than ZFS takes: shorten it")
        } else {
            None
        }
    }

    fn locks(&self) -> Result<PathBuf, StoreError> {
        let locks = self.runtime()?.join("locks");
        mounts::point(&locks)?;
        Ok(locks)
    }

    fn settle(
        &self,
        name: Option<&EnvironmentName>,
        tries: Tries,
    ) -> Result<Vec<Pending>, StoreError> {
        Ok(self.settle_left(name, tries)?.pending)
    }

    fn draft(
        &self,
        verb: &str,
        environments: Vec<Concerned>,
        steps: Vec<draft::Step>,
    ) -> Result<Box<dyn OpenIntent + '_>, StoreError> {
        draft::begin(self.journal()?, self, verb, environments, steps)
    }

    fn begin(&self, name: &EnvironmentName) {
        self.memory.begin(name);
    }

    fn end(&self, name: &EnvironmentName) {
        self.memory.end(name);
    }

    fn is_taken(&self, name: &EnvironmentName) -> Result<bool, StoreError> {
        let full = self.full(name.as_str());
        let found = listing::names(&[&self.dataset, &full])
            .map_err(|failure| told(failure, &format!("look at {full}")))?;
        if found.is_empty() {
            // Not even the store is there.
            self.pool_now()?;
        }
        Ok(found.contains(&full))
    }

    fn list(&self) -> Result<Listing, StoreError> {
        Ok(self.list_with_space()?.0)
    }

    fn list_with_space(&self) -> Result<(Listing, HashMap<Uuid, Space>), StoreError> {
        let forest = self.forest()?;
        let (mut listing, mut spaces) = (Listing::default(), HashMap::new());
        for (name, tree) in forest.trees() {
            match forest.environment(name, tree, &|| self.pool()) {
                Ok(environment) => {
                    spaces.insert(environment.uuid, tree.space());
                    listing.environments.push(environment);
                }
                Err(error) => listing.unreadable.push(Unreadable { name: name.clone(), error }),
            }
            // It is there, but its files are not: whoever serves it looks again.
            let waits = tree.waits().map(|error| Unreadable { name: name.clone(), error });
            listing.unreadable.extend(waits);
        }
        Ok((listing, spaces))
    }

    fn get(&self, name: &EnvironmentName) -> Result<Environment, StoreError> {
        let tree = self.tree(name)?;
        let origin = tree.origin(&self.dataset, &|| self.pool())?;
        tree.environment(name, &|| self.pool(), origin)
    }

    fn shared_by_itself(&self, name: &EnvironmentName) -> Result<Vec<String>, StoreError> {
        let tree = self.tree(name)?;
        Ok(tree.sets().filter(|set| set.is_shared()).map(|set| set.name.clone()).collect())
    }

    fn create(&self, new: &Environment) -> Result<(), StoreError> {
        self.make(new)
    }

    fn clone_environment(
        &self,
        source: &Point,
        new: &Environment,
    ) -> Result<Environment, StoreError> {
        self.copy(source, Depth::All, new)
    }

    fn clone_root(&self, source: &EnvironmentName, new: &Environment) -> Result<(), StoreError> {
        self.copy(&source.clone().into(), Depth::One, new).map(drop)
    }

    fn write(&self, environment: &Environment) -> Result<(), StoreError> {
        let tree = self.tree(&environment.name)?;
        let changes = tree.changes(environment)?;
        self.memory.forget(&environment.name);
        program::set(self.pool_name(), &changes)
            .map_err(|failure| told(failure, &format!("write down what {} is", environment.name)))
    }

    fn natives(&self, name: &EnvironmentName) -> Result<Vec<NativeValue>, StoreError> {
        self.natives_of(name)
    }

    fn write_with(
        &self,
        environment: &Environment,
        changes: &[NativeChange],
    ) -> Result<(), StoreError> {
        self.write_both(environment, changes)
    }

    fn rename(&self, name: &EnvironmentName, new: &EnvironmentName) -> Result<(), StoreError> {
        self.spare(name)?;
        self.release(name)?;
        self.memory.forget(name);
        let (from, to) = (self.full(name.as_str()), self.full(new.as_str()));
        kernel::rename(&from, &to).map_err(|failure| {
            if failure.refusal == Refusal::Exists {
                StoreError::Exists(new.clone())
            } else {
                told(failure, &format!("rename {name}"))
            }
        })
    }

    fn promote(&self, clone: &Environment, origin: &Environment) -> Result<(), StoreError> {
        let tree = self.tree(&clone.name)?;
        let below = [&self.full(origin.name.as_str()), "@"].concat();
        let inside = [&self.full(origin.name.as_str()), "/"].concat();
        let depends = |from: &String| from.starts_with(&below) || from.starts_with(&inside);
        let sets = tree.sets().filter(|set| set.origin.as_ref().is_some_and(depends));
        let sets: Vec<&str> = sets.map(|set| set.name.as_str()).collect();
        self.memory.forget(&clone.name);
        self.memory.forget(&origin.name);
        program::promote(self.pool_name(), &sets)
            .map_err(|failure| told(failure, &format!("promote {}", clone.name)))
    }

    fn destroy(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        self.tree(name)?;
        self.spare(name)?;
        self.release(name)?;
        self.remove(name)
    }

    fn snapshots(&self, name: &EnvironmentName) -> Result<Vec<Snapshot>, StoreError> {
        self.snapshots_of(name)
    }

    fn snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<Snapshot, StoreError> {
        self.take_snapshot(name, snapshot)
    }

    fn destroy_snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<(), StoreError> {
        self.remove_snapshot(name, snapshot)
    }

    fn rollback(
        &self,
        name: &EnvironmentName,
        to: &SnapshotName,
        newer: &[SnapshotName],
    ) -> Result<(), StoreError> {
        self.go_back(name, to, newer)
    }

    fn space(&self, name: &EnvironmentName) -> Result<Space, StoreError> {
        Ok(self.tree(name)?.space())
    }

    fn snapshot_space(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<Space, StoreError> {
        let rows = self.rows(name)?;
        let rows = rows.iter().filter(|row| row.snapshot == snapshot.as_str());
        Ok(tree::snapshot_space(rows))
    }

    fn survey(&self) -> Result<Survey, StoreError> {
        let forest = self.forest()?;
        let rows = listing::snapshots(&self.dataset, Depth::All)
            .map_err(|failure| told(failure, &format!("list the snapshots of {}", self.dataset)))?;
        let mut survey = Survey::default();
        for (name, tree) in forest.trees() {
            let environment = match forest.environment(name, tree, &|| self.pool()) {
                Ok(environment) => environment,
                Err(error) => {
                    survey.unreadable.push(error);
                    continue;
                }
            };
            survey.unreadable.extend(tree.waits());
            let own = |row: &&SnapshotRow| tree.sets().any(|set| set.name == row.dataset);
            let all: Vec<&SnapshotRow> = rows.iter().filter(own).collect();
            let roots = all.iter().filter(|row| row.dataset == tree.root.name);
            let snapshots = roots.filter_map(|root| {
                let same = all.iter().filter(|row| row.snapshot == root.snapshot).copied();
                Some((self.snapshot_of(root)?, tree::snapshot_space(same)))
            });
            let snapshots = snapshots.collect();
            survey.holdings.push(Holding { environment, space: tree.space(), snapshots });
        }
        Ok(survey)
    }

    fn diff(&self, old: &Point, new: &Point) -> Result<Vec<Change>, StoreError> {
        let work = format!("{HIDDEN}{}", Uuid::new_v4());
        let point = self.mounts.join(&work);
        // A directory goes only when it is empty, and the snapshots are shown inside of it.
        let left = [point.join("old"), point.join("new"), point];
        let left = left.map(|directory| Step::Unmount { directory });
        let _work = self.intend("diff", Vec::new(), left.into())?;
        mounts::point(&self.mounts.join(&work))?;
        let root = |point: &Point, side: &str| {
            let tree = self.tree_to_show(&point.environment)?;
            let shown = match &point.snapshot {
                None => self.show(point.environment.as_str(), &tree.places(), false)?,
                Some(snapshot) => {
                    let places = self.places_at(&tree, point, snapshot)?;
                    self.show(&format!("{work}/{side}"), &places, true)?
                }
            };
            let root = shown.into_iter().next().map(|shown| shown.root);
            root.ok_or_else(|| StoreError::NoEnvironment(point.environment.clone()))
        };
        let (old, new) = (root(old, "old")?, root(new, "new")?);
        crate::tree::compare(&old, &new, Path::new(""))
    }

    fn is_unchanged(
        &self,
        name: &EnvironmentName,
        snapshot: &Snapshot,
    ) -> Result<bool, StoreError> {
        // `written` counts what is on the disk, and a snapshot of the root alone leaves data sets out.
        kernel::sync(self.pool_name())
            .map_err(|failure| told(failure, &format!("bring the pool of {name} to its disks")))?;
        self.memory.forget(name);
        let (tree, rows) = (self.tree(name)?, self.rows(name)?);
        let newest = |set: &DataSet| {
            let row = rows.iter().rfind(|row| row.dataset == set.name);
            row.is_some_and(|row| row.snapshot == snapshot.name.as_str())
        };
        // Times of access are written too.
        Ok(tree.sets().all(|set| set.written == 0 && newest(set))
            || self.diff(&Point::snapshot(name, &snapshot.name), &name.clone().into())?.is_empty())
    }

    fn root(&self, name: &EnvironmentName) -> PathBuf {
        self.mounts.join(name.as_str())
    }

    fn open_root(&self, name: &EnvironmentName) -> Result<OwnedFd, StoreError> {
        let parts = self.open_parts(name)?;
        let root = parts.into_iter().next().map(|part| part.root);
        root.ok_or_else(|| StoreError::NoEnvironment(name.clone()))
    }

    fn open_parts(&self, name: &EnvironmentName) -> Result<Vec<Part>, StoreError> {
        self.open_places(name, &self.tree_to_show(name)?)
    }

    fn open_whole(&self, name: &EnvironmentName) -> Result<Vec<Part>, StoreError> {
        let tree = self.tree_to_show(name)?;
        let parts = self.open_places(name, &tree)?;
        let left_out = |place: &DatasetPath| !parts.iter().any(|part| part.path == place.path);
        match tree.places().into_iter().find(left_out) {
            Some(DatasetPath { dataset, path }) => {
                let why = format!(
                    "it could not be mounted on /{path} of {name}: look what is in its place"
                );
                Err(StoreError::Away { place: format!("the data set {dataset}"), why })
            }
            None => Ok(parts),
        }
    }

    fn present(&self) -> Result<(), StoreError> {
        self.pool_now().map(|_pool| ())
    }

    fn detach(&self) -> Result<(), StoreError> {
        let explain = at("list", &self.mounts);
        let shown = std::fs::read_dir(&self.mounts).map_err(explain)?.flatten();
        // Other names are of what commands are doing.
        let name = |entry: std::fs::DirEntry| -> Option<EnvironmentName> {
            entry.file_name().to_str()?.parse().ok()
        };
        shown.filter_map(name).try_for_each(|name| self.release(&name))
    }

    fn release(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        mounts::hide(&self.mounts.join(name.as_str()))
    }

    fn mount(&self, point: &Point, target: &Path) -> Result<(), StoreError> {
        let tree = self.tree_to_show(&point.environment)?;
        if crate::sys::zfs::ONCE && point.snapshot.is_none() {
            // Where it can be served from comes first.
            self.show(point.environment.as_str(), &tree.places(), false)?;
        }
        let places = match &point.snapshot {
            None => tree.places(),
            Some(snapshot) => self.places_at(&tree, point, snapshot)?,
        };
        mounts::show(target, &places, point.snapshot.is_some()).map(|_shown| ())
    }

    fn mounts(&self, name: &EnvironmentName) -> Result<Vec<(Point, PathBuf)>, StoreError> {
        let full = self.full(name.as_str());
        let mut shown = mounts::of(&full)?;
        shown.retain(|mounted| !mounted.target.starts_with(&self.mounts));
        let root = |mounted: crate::sys::Mounted| {
            let point = match mounted.source.strip_prefix(&full)? {
                "" => Point::from(name.clone()),
                rest => Point::snapshot(name, &rest.strip_prefix('@')?.parse().ok()?),
            };
            Some((point, mounted.target))
        };
        Ok(shown.into_iter().filter_map(root).collect())
    }

    fn unmount(&self, _name: &EnvironmentName, at: &Path, in_use: InUse) -> Result<(), StoreError> {
        mounts::unmount(at, in_use)
    }

    fn format(&self) -> &'static str {
        "zfs"
    }

    fn expected(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
        base: Option<&SnapshotName>,
    ) -> Option<u64> {
        self.estimate(name, snapshot, base)
    }

    fn send(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
        base: Option<&SnapshotName>,
        out: &mut dyn Write,
    ) -> Result<(), StoreError> {
        self.write_stream(name, snapshot, base, out)
    }

    fn receive(&self, arrival: &Arrival, from: &mut dyn Read) -> Result<(), StoreError> {
        match &arrival.base {
            None => self.receive_whole(arrival, from),
            Some(base) => self.receive_more(arrival, base, from),
        }
    }
}

/// What a person is told about a refusal of zfs(8) that nothing else is known about.
fn told(failure: Failure, task: &str) -> StoreError {
    let Failure { refusal, said, .. } = failure;
    // zfs(8) has the name that it speaks of in quotation marks.
    let quoted = said.split('\'').nth(1).unwrap_or(task).to_owned();
    let tool = |said: String| StoreError::Tool { program: "zfs", task: task.to_owned(), said };
    match refusal {
        Refusal::Busy => StoreError::Busy { what: quoted, holder: None },
        Refusal::Full => StoreError::Full { what: quoted },
        // Whose key it is it does not say.
        Refusal::Key => StoreError::Key { dataset: quoted, load: "-a".to_owned() },
        Refusal::Denied => tool("permission denied: run it as root".to_owned()),
        Refusal::NoProgram => {
            tool("it is not installed: install ZFS (Debian: zfsutils-linux)".to_owned())
        }
        Refusal::NoModule => StoreError::Away {
            place: "ZFS".to_owned(),
            why: "the kernel has not loaded it: run `modprobe zfs` (FreeBSD: `kldload zfs`)"
                .to_owned(),
        },
        Refusal::Hangs | Refusal::Suspended => StoreError::Stalled {
            place: "the pool".to_owned(),
            why: format!("{said}: look at it with `zpool status`"),
        },
        Refusal::Dependants
        | Refusal::Exists
        | Refusal::Missing
        | Refusal::Modified
        | Refusal::Other => tool(said),
    }
}

/// Longest name of a data set (256 bytes with its end), less room for the longest layout's data set and
/// for an automatic snapshot.
const LONGEST: usize = 180;

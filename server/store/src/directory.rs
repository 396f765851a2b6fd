//! A store of directories: plain ones on any file system, or subvolumes of btrfs.
//!
//! ```text
//! store/                  0700: whoever may enter could run the setuid programs of guests
//!   lock                  held while something appears or vanishes
//!   locks/head            held by a command that works on head
//!   be/head/              a root, as its machine sees it
//!   be/.work-…/           what a command is putting together or taking apart, by its intent
//!   be/.spare/            empty: one of those, when there is no room to make it
//!   journal/              intents: what commands are doing, to be undone or completed if they are killed
//!   meta/head.toml        what is written down about it, out of its guest's reach
//!   snap/UUID/monday/     a snapshot of the environment with that UUID: its tree, and what is
//!                         written down about it
//! ```
//!
//! An environment is there when it has both a tree and metadata. The tree is renamed into place
//! last when one is made, and out of place first when one is destroyed. How a tree is made, copied and
//! sent is its [`Fabric`]'s. A snapshot of plain directories is a copy, whose files share their blocks
//! with the environment's where the file system can (XFS, btrfs).

mod fabric;
mod intents;
mod metadata;
mod natives;
mod snapshots;
mod work;

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::DirBuilder;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fchmod, fstat, fsync, mkdirat, renameat};
use rustix::io::Errno;
use uuid::Uuid;

pub(crate) use fabric::{Fabric, Frozen, Plain};
use intents::Step;

use crate::back_end::{Arrival, BackEnd, Capabilities, Part};
use crate::draft::{self, OpenIntent};
use crate::error::at;
use crate::journal::{Concerned, Journal, Tries};
use crate::tree::{self, open_dir};
use crate::workspace::Workspace;
use crate::{
    Change, Environment, EnvironmentName, InUse, Layout, Listing, NativeChange, NativeValue,
    Origin, Pending, Point, Snapshot, SnapshotName, Space, StoreError, Unreadable, bind, fault,
};

/// An open store of directories.
#[derive(Debug)]
pub(crate) struct Directory {
    fabric: &'static dyn Fabric,
    path: PathBuf,
    top: OwnedFd,
    trees: OwnedFd,
    meta: OwnedFd,
    snaps: OwnedFd,
    locks: PathBuf,
}

impl Directory {
    /// Opens a store that exists.
    pub(crate) fn open(path: &Path, fabric: &'static dyn Fabric) -> Result<Self, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Err(StoreError::Missing(path.to_owned())),
            Err(Errno::NOTDIR) => return Err(StoreError::Foreign(path.to_owned())),
            Err(error) => return Err(at("open", path)(error)),
        };
        let part = |name: &str| match open_dir(&top, name) {
            Ok(dir) => Ok(dir),
            Err(Errno::NOENT) => Err(unfinished(&top, path)),
            Err(error) => Err(at("open", &path.join(name))(error)),
        };
        let (trees, meta) = (part(TREES)?, part(META)?);
        let mode = Mode::from_raw_mode(fstat(&top).map_err(at("look at", path))?.st_mode);
        if mode.intersects(Mode::RWXG | Mode::RWXO) {
            return Err(StoreError::Open(path.to_owned()));
        }
        fabric.check(&top, path)?;
        // Stores from the time before there were snapshots and locks have neither.
        for name in [LOCKS, SNAPSHOTS] {
            make(&top, path, name)?;
        }
        Workspace::keep_spare(trees.as_fd());
        if let Ok(journal) = Journal::open(path.join(JOURNAL)) {
            journal.keep_spare();
        }
        let (snaps, locks) = (part(SNAPSHOTS)?, path.join(LOCKS));
        Ok(Self { fabric, path: path.to_owned(), top, trees, meta, snaps, locks })
    }

    /// Opens a store; where nothing is yet, or an empty directory, makes one.
    pub(crate) fn establish(path: &Path, fabric: &'static dyn Fabric) -> Result<Self, StoreError> {
        match Self::open(path, fabric) {
            Err(StoreError::Missing(_)) => {}
            other => return other,
        }
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700).create(path).map_err(at("make", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(path, flags, Mode::empty()).map_err(at("open", path))?;
        fabric.check(&top, path)?;
        fchmod(&top, Mode::RWXU).map_err(at("close", path))?;
        for name in [TREES, META, SNAPSHOTS, LOCKS] {
            make(&top, path, name)?;
        }
        fsync(&top).map_err(at("write", path))?;
        Self::open(path, fabric)
    }

    /// Opens the tree of an environment or of a snapshot.
    fn open_tree(&self, point: &Point) -> Result<OwnedFd, StoreError> {
        match &point.snapshot {
            None => self.open_root(&point.environment),
            Some(snapshot) => self.open_snapshot(&point.environment, snapshot),
        }
    }

    /// The path of a tree, for messages.
    fn tree_path(&self, point: &Point) -> PathBuf {
        match &point.snapshot {
            None => self.root(&point.environment),
            Some(_) => PathBuf::from(point.to_string()),
        }
    }

    /// Refuses what cannot be taken away whole, before anything is touched.
    fn inspect(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        let path = self.root(name);
        self.fabric.inspect(&self.open_root(name)?, &path)?;
        match tree::obstacle(&self.trees, name.as_str()).map_err(at("look at", &path))? {
            Some(obstacle) => Err(StoreError::Obstacle { path, obstacle }),
            None => Ok(()),
        }
    }

    /// Makes the directories of a layout in an empty tree.
    fn build(&self, tree: &OwnedFd, layout: Layout, path: &Path) -> Result<(), StoreError> {
        fchmod(tree, Mode::from_raw_mode(0o755)).map_err(at("make", path))?;
        for directory in layout.directories() {
            let path = path.join(directory.path);
            if directory.mounted {
                self.fabric.make_dataset(tree, directory.path).map_err(at("make", &path))?;
            } else {
                mkdirat(tree, directory.path, Mode::RWXU).map_err(at("make", &path))?;
            }
            let dir = open_dir(tree, directory.path).map_err(at("open", &path))?;
            fchmod(&dir, mode(directory.mode)).map_err(at("make", &path))?;
        }
        Ok(())
    }
}

impl BackEnd for Directory {
    fn capabilities(&self) -> Capabilities {
        self.fabric.capabilities()
    }

    fn refuses(&self, _name: &str) -> Option<&'static str> {
        None
    }

    fn locks(&self) -> Result<PathBuf, StoreError> {
        Ok(self.locks.clone())
    }

    fn settle(
        &self,
        name: Option<&EnvironmentName>,
        tries: Tries,
    ) -> Result<Vec<Pending>, StoreError> {
        self.settle_left(name, tries)
    }

    fn draft(
        &self,
        verb: &str,
        environments: Vec<Concerned>,
        steps: Vec<draft::Step>,
    ) -> Result<Box<dyn OpenIntent + '_>, StoreError> {
        draft::begin(self.journal()?, self, verb, environments, steps)
    }

    fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        let path = self.path.join(META);
        for entry in rustix::fs::Dir::read_from(&self.meta).map_err(at("list", &path))? {
            let entry = entry.map_err(at("list", &path))?;
            let Some(name) = metadata::environment_name(entry.file_name()) else { continue };
            match self.get(&name) {
                Ok(environment) => listing.environments.push(environment),
                // Half of one that is being made or destroyed, or was when its command was killed.
                Err(StoreError::NoEnvironment(_)) => {}
                Err(error) => listing.unreadable.push(Unreadable { name, error }),
            }
        }
        listing.environments.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listing)
    }

    fn list_with_space(&self) -> Result<(Listing, HashMap<Uuid, Space>), StoreError> {
        let (listing, mut spaces) = (self.list()?, HashMap::new());
        if self.fabric.counts(&self.top) {
            for environment in &listing.environments {
                let name = &environment.name;
                // One that went meanwhile, or is being changed just now, has no figure.
                let space = self
                    .open_root(name)
                    .and_then(|root| self.fabric.space(&self.top, &root, &self.root(name)));
                spaces.extend(space.ok().map(|space| (environment.uuid, space)));
            }
        }
        Ok((listing, spaces))
    }

    fn get(&self, name: &EnvironmentName) -> Result<Environment, StoreError> {
        if !self.has_tree(name)? {
            return Err(StoreError::NoEnvironment(name.clone()));
        }
        self.read_metadata(name)
    }

    fn create(&self, new: &Environment) -> Result<(), StoreError> {
        let work = self.begin("create", new, Vec::new())?;
        let tree = self.fabric.make(&work.space, TREE)?;
        self.build(&tree, new.layout, work.space.path())?;
        self.publish(work, new)
    }

    fn clone_environment(
        &self,
        source: &Point,
        new: &Environment,
    ) -> Result<Environment, StoreError> {
        let from = self.open_tree(source)?;
        // Of what is written to, much may have to come to the disk first, which nobody is to wait for.
        if source.snapshot.is_some()
            && self.has_natives_of(&source.environment, &from)?
            && self.clone_at_once(&from, new)?
        {
            return Ok(new.clone());
        }
        let work = self.begin("clone", new, Vec::new())?;
        self.fabric.copy(&from, &work.space, TREE, &self.tree_path(source))?;
        self.carry(&source.environment, &work)?;
        self.publish(work, new)?;
        Ok(new.clone())
    }

    fn clone_root(&self, source: &EnvironmentName, new: &Environment) -> Result<(), StoreError> {
        let from = self.open_root(source)?;
        let work = self.begin("clone", new, Vec::new())?;
        self.fabric.copy_root(&from, &work.space, TREE, &self.root(source))?;
        self.carry(source, &work)?;
        self.publish(work, new)
    }

    fn write(&self, environment: &Environment) -> Result<(), StoreError> {
        let lock = self.lock()?;
        self.write_metadata(&lock, environment)
    }

    fn natives(&self, name: &EnvironmentName) -> Result<Vec<NativeValue>, StoreError> {
        self.fabric.natives(&self.open_root(name)?, &self.root(name))
    }

    fn write_with(
        &self,
        environment: &Environment,
        changes: &[NativeChange],
    ) -> Result<(), StoreError> {
        self.write_both(environment, changes)
    }

    fn rename(&self, name: &EnvironmentName, new: &EnvironmentName) -> Result<(), StoreError> {
        let environment = Environment { name: new.clone(), ..self.get(name)? };
        if let Some(obstacle) =
            tree::obstacle(&self.trees, name.as_str()).map_err(at("look at", &self.root(name)))?
        {
            return Err(StoreError::Obstacle { path: self.root(name), obstacle });
        }
        self.free(new)?;
        let uuid = Some(environment.uuid);
        let steps = vec![Step::forget(new, uuid), Step::forget(name, uuid)];
        let before = Concerned { name: name.to_string(), uuid: environment.uuid };
        let mut open = self.intend("rename", vec![before, (&environment).into()], steps)?;
        {
            let lock = self.lock()?;
            self.free(new)?;
            self.write_metadata(&lock, &environment)?;
            fault::point();
            renameat(&self.trees, name.as_str(), &self.trees, new.as_str())
                .map_err(at("rename", &self.root(name)))?;
            fault::point();
            fsync(&self.trees).map_err(at("write", &self.root(new)))?;
        }
        open.settle()
    }

    fn promote(&self, clone: &Environment, origin: &Environment) -> Result<(), StoreError> {
        let promoted = Environment { origin: origin.origin.clone(), ..clone.clone() };
        let (name, uuid) = (clone.name.clone(), clone.uuid);
        let demoted =
            Environment { origin: Some(Origin { name, uuid, snapshot: None }), ..origin.clone() };
        let steps = vec![Step::write(&promoted)?, Step::write(&demoted)?];
        self.intend("promote", vec![clone.into(), (&demoted).into()], steps)?.settle()?;
        // Came the record back, what is decided about them later would be undone.
        self.journal()?.synchronize()
    }

    fn destroy(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        // Broken metadata must not keep anybody from getting rid of it.
        if !self.has_tree(name)? {
            return Err(StoreError::NoEnvironment(name.clone()));
        }
        self.inspect(name)?;
        let uuid = self.uuid(name)?;
        let concerned = uuid.map(|uuid| Concerned { name: name.to_string(), uuid });
        let steps = [Some(Step::forget(name, uuid)), uuid.map(|uuid| Step::snapshots(name, uuid))];
        let steps = steps.into_iter().flatten().collect();
        let work = self.work("destroy", concerned.into_iter().collect(), steps)?;
        {
            let _lock = self.lock()?;
            renameat(&self.trees, name.as_str(), work.space.dir(), TREE)
                .map_err(at("destroy", &self.root(name)))?;
            fault::point();
            fsync(&self.trees).map_err(at("destroy", &self.root(name)))?;
        }
        // From here on it is gone, and what follows is done by whoever finds it.
        work.end()
    }

    fn snapshots(&self, name: &EnvironmentName) -> Result<Vec<Snapshot>, StoreError> {
        Ok(self.recorded(name)?.into_iter().map(|(_, snapshot)| snapshot).collect())
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
        self.inspect(name)?;
        let from = self.open_snapshot(name, to)?;
        let environment = self.get(name)?;
        let mut vanish = self.snapshots(name)?;
        vanish.retain(|snapshot| newer.contains(&snapshot.name));
        let work = self.work("rollback", vec![(&environment).into()], Vec::new())?;
        let path = self.tree_path(&Point::snapshot(name, to));
        self.fabric.copy(&from, &work.space, TREE, &path)?;
        self.replace(work, &environment, None, &vanish)
    }

    fn space(&self, name: &EnvironmentName) -> Result<Space, StoreError> {
        let own = self.fabric.space(&self.top, &self.open_root(name)?, &self.root(name))?;
        let mut used = own.used;
        for snapshot in self.snapshots(name)? {
            let more = self.snapshot_space(name, &snapshot.name)?.used;
            used = used.zip(more).map(|(used, more)| used + more);
        }
        Ok(Space { used, exclusive: used.or(own.exclusive), ..own })
    }

    fn snapshot_space(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<Space, StoreError> {
        let path = self.tree_path(&Point::snapshot(name, snapshot));
        self.fabric.space(&self.top, &self.open_snapshot(name, snapshot)?, &path)
    }

    fn diff(&self, old: &Point, new: &Point) -> Result<Vec<Change>, StoreError> {
        tree::compare(self.open_tree(old)?, self.open_tree(new)?, Path::new(""))
    }

    fn is_unchanged(
        &self,
        name: &EnvironmentName,
        snapshot: &Snapshot,
    ) -> Result<bool, StoreError> {
        let copy = self.open_snapshot(name, &snapshot.name)?;
        tree::unchanged(&copy, self.open_root(name)?, snapshot.created)
    }

    fn root(&self, name: &EnvironmentName) -> PathBuf {
        self.path.join(TREES).join(name.as_str())
    }

    fn open_root(&self, name: &EnvironmentName) -> Result<OwnedFd, StoreError> {
        match open_dir(&self.trees, name.as_str()) {
            Ok(root) => Ok(root),
            Err(Errno::NOENT) => Err(StoreError::NoEnvironment(name.clone())),
            Err(error) => Err(at("open", &self.root(name))(error)),
        }
    }

    fn open_parts(&self, name: &EnvironmentName) -> Result<Vec<Part>, StoreError> {
        self.fabric.parts(self.open_root(name)?).map_err(at("list", &self.root(name)))
    }

    fn mount(&self, point: &Point, target: &Path) -> Result<(), StoreError> {
        bind::mount(&self.open_tree(point)?, target, point.snapshot.is_some())
    }

    fn mounts(&self, name: &EnvironmentName) -> Result<Vec<(Point, PathBuf)>, StoreError> {
        let mut found = bind::mounts(&self.trees)?;
        found.retain(|(below, _)| below == Path::new(name.as_str()));
        let live = found.into_iter().map(|(_, at)| (Point::from(name.clone()), at));
        let uuid = match self.get(name) {
            // What is not known to be a snapshot was not mounted as one.
            Err(StoreError::Broken { .. }) => return Ok(live.collect()),
            environment => environment?.uuid,
        };
        let frozen = bind::mounts(&self.snaps)?.into_iter().filter_map(|(below, at)| {
            Some((Point::snapshot(name, &snapshots::at_path(&below, uuid)?), at))
        });
        Ok(live.chain(frozen).collect())
    }

    fn unmount(&self, _name: &EnvironmentName, at: &Path, in_use: InUse) -> Result<(), StoreError> {
        bind::unmount(at, in_use)
    }

    fn format(&self) -> &'static str {
        self.fabric.format()
    }

    fn send(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
        base: Option<&SnapshotName>,
        out: &mut dyn Write,
    ) -> Result<(), StoreError> {
        let open = |snapshot| {
            Ok::<_, StoreError>((
                self.open_snapshot(name, snapshot)?,
                self.snapshot_path(name, snapshot)?,
            ))
        };
        let (tree, path) = open(snapshot)?;
        let base = base.map(open).transpose()?;
        let base = base.as_ref().map(|(tree, path)| Frozen { tree, path });
        self.fabric.send(Frozen { tree: &tree, path: &path }, base, out)
    }

    fn receive(&self, arrival: &Arrival, from: &mut dyn Read) -> Result<(), StoreError> {
        let name = &arrival.environment.name;
        let (environment, snapshot) = (&arrival.environment, &arrival.snapshot.name);
        let base = match &arrival.base {
            None => None,
            Some(base) => {
                let (from, path) =
                    (self.open_snapshot(name, base)?, self.snapshot_path(name, base)?);
                if !tree::equal(&from, self.open_root(name)?)? {
                    return Err(StoreError::Modified(Point::snapshot(name, base)));
                }
                self.inspect(name)?;
                Some((from, path))
            }
        };
        let work = match &arrival.base {
            None => {
                let snapshots = Step::snapshots(name, environment.uuid);
                self.begin("receive", environment, vec![snapshots])?
            }
            Some(_) => self.work("receive", vec![environment.into()], Vec::new())?,
        };
        let space = &work.space;
        let base = base.as_ref().map(|(tree, path)| Frozen { tree, path });
        // What arrives becomes the snapshot: news go on from that one, and from no copy of it.
        self.fabric.receive(space, COPY, base, from)?;
        let tree = open_dir(space.dir(), COPY).map_err(at("open", space.path()))?;
        self.fabric.copy(&tree, space, TREE, &self.root(name))?;
        self.finish_snapshot(space, &arrival.snapshot)?;
        match arrival.base {
            None => self.publish_with(work, environment, |space| {
                self.place_snapshot(space, environment.uuid, snapshot)
            }),
            Some(_) => self.replace(work, environment, Some(snapshot), &[]),
        }
    }
}

/// Makes a part of the store, if it is not there.
fn make(top: &OwnedFd, path: &Path, name: &str) -> Result<(), StoreError> {
    match mkdirat(top, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(at("make", &path.join(name))(error)),
    }
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(rustix::fs::RawMode::try_from(bits).unwrap_or_default())
}

/// Why a directory without the parts of a store is none: it is empty, or it is something else.
fn unfinished(top: &OwnedFd, path: &Path) -> StoreError {
    let ours = |name: &CStr| {
        [TREES, META, SNAPSHOTS, LOCKS, LOCK, JOURNAL]
            .iter()
            .any(|part| name.to_bytes() == part.as_bytes())
    };
    let foreign = rustix::fs::Dir::read_from(top).is_ok_and(|dir| {
        dir.flatten().any(|entry| {
            let name = entry.file_name();
            name != c"." && name != c".." && name != c"lost+found" && !ours(name)
        })
    });
    if foreign {
        StoreError::Foreign(path.to_owned())
    } else {
        StoreError::Missing(path.to_owned())
    }
}

#[cfg(test)]
mod test;

const TREES: &str = "be";
const JOURNAL: &str = "journal";
const META: &str = "meta";
const SNAPSHOTS: &str = "snap";
const LOCK: &str = "lock";
const LOCKS: &str = "locks";
/// In a workspace and in a snapshot: the tree.
const TREE: &str = "tree";
/// In a workspace: a copy that becomes a snapshot's tree.
const COPY: &str = "copy";

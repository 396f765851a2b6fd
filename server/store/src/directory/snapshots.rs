//! Snapshots in a store of directories: copies that nobody writes to.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, fchmod, fsync, mkdirat, renameat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{COPY, Directory, SNAPSHOTS, TREE, metadata};
use crate::error::at;
use crate::journal::Concerned;
use crate::tree::{open_dir, relocate};
use crate::workspace::Workspace;
use crate::{
    EnvironmentName, MetadataError, Point, Snapshot, SnapshotName, StoreError, Timestamp, fault,
    sys,
};

impl Directory {
    /// The snapshots of an environment and what orders them, oldest first.
    pub(super) fn recorded(
        &self,
        name: &EnvironmentName,
    ) -> Result<Vec<(u64, Snapshot)>, StoreError> {
        let path = self.path_of(self.record(name)?.uuid);
        let dir = match open_dir(&self.snaps, file_name(&path)) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(at("open", &path)(error)),
        };
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir).map_err(at("list", &path))? {
            let entry = entry.map_err(at("list", &path))?;
            let name = entry.file_name().to_str().ok().and_then(|name| name.parse().ok());
            let Some(name): Option<SnapshotName> = name else { continue };
            let path = path.join(name.as_str()).join(RECORD);
            let one = open_dir(&dir, name.as_str()).map_err(at("open", &path))?;
            let text = metadata::read(&one, RECORD).map_err(at("read", &path))?;
            found.push(parse(name, &text).map_err(|error| StoreError::Broken { path, error })?);
        }
        found.sort_by_key(|(order, _)| *order);
        Ok(found)
    }

    /// Opens the tree of a snapshot.
    pub(super) fn open_snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<OwnedFd, StoreError> {
        let path = self.path_of(self.record(name)?.uuid);
        let opened = open_dir(&self.snaps, file_name(&path))
            .and_then(|dir| open_dir(&dir, snapshot.as_str()))
            .and_then(|dir| open_dir(&dir, TREE));
        match opened {
            Ok(tree) => Ok(tree),
            Err(Errno::NOENT) => Err(StoreError::NoSnapshot(Point::snapshot(name, snapshot))),
            Err(error) => Err(at("open", &path.join(snapshot.as_str()))(error)),
        }
    }

    /// Where the tree of a snapshot is.
    pub(super) fn snapshot_path(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<PathBuf, StoreError> {
        Ok(self.path_of(self.record(name)?.uuid).join(snapshot.as_str()).join(TREE))
    }

    pub(super) fn take_snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<Snapshot, StoreError> {
        let (uuid, root) = (self.record(name)?.uuid, self.open_root(name)?);
        let snapshot = Snapshot {
            name: snapshot.clone(),
            uuid: Uuid::new_v4(),
            created: Timestamp::from(SystemTime::now()),
            automatic: false,
            clones: Vec::new(),
            more_clones: false,
        };
        let concerned = Concerned { name: name.to_string(), uuid };
        let work = self.work("snapshot", vec![concerned], Vec::new())?;
        let space = &work.space;
        self.prepare_snapshot(space, &root, &snapshot, &self.root_path(name))?;
        sys::synchronize(space.dir()).map_err(at("write", space.path()))?;
        {
            let _lock = self.lock()?;
            self.place_snapshot(space, uuid, &snapshot.name)?;
        }
        work.end()?;
        Ok(snapshot)
    }

    /// Puts a snapshot of a tree together in a workspace. `path` is the tree's, for messages.
    pub(super) fn prepare_snapshot(
        &self,
        work: &Workspace,
        tree: &OwnedFd,
        snapshot: &Snapshot,
        path: &Path,
    ) -> Result<(), StoreError> {
        self.fabric.copy(tree, work, COPY, path)?;
        self.finish_snapshot(work, snapshot)
    }

    /// Makes a snapshot of the copy in a workspace.
    pub(super) fn finish_snapshot(
        &self,
        work: &Workspace,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        let whole = work.make_dir(WHOLE)?;
        relocate(work.dir(), COPY, whole.as_fd(), TREE).map_err(at("make", work.path()))?;
        let tree = open_dir(&whole, TREE).map_err(at("open", work.path()))?;
        self.fabric.freeze(&tree).map_err(at("make", work.path()))?;
        let text = render(snapshot, 0)
            .map_err(|error| StoreError::Broken { path: work.path().to_owned(), error })?;
        metadata::write(&whole, RECORD, &text, work.path())
    }

    /// Makes the snapshot in a workspace appear, unless it has appeared. The caller has the lock.
    pub(super) fn place_snapshot(
        &self,
        work: &Workspace,
        uuid: Uuid,
        snapshot: &SnapshotName,
    ) -> Result<(), StoreError> {
        let path = self.path_of(uuid);
        let whole = match open_dir(work.dir(), WHOLE) {
            Ok(whole) => whole,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(at("open", work.path())(error)),
        };
        match mkdirat(&self.snaps, file_name(&path), Mode::RWXU) {
            Ok(()) => fsync(&self.snaps).map_err(at("write", &path))?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(at("make", &path)(error)),
        }
        let dir = open_dir(&self.snaps, file_name(&path)).map_err(at("open", &path))?;
        fchmod(&dir, Mode::RWXU).map_err(at("make", &path))?;
        let broken = |error| StoreError::Broken { path: work.path().join(WHOLE), error };
        let text = metadata::read(&whole, RECORD).map_err(at("read", work.path()))?;
        let (_, made) = parse(snapshot.clone(), &text).map_err(broken)?;
        let text = render(&made, last(&dir, &path)? + 1).map_err(broken)?;
        metadata::write(&whole, RECORD, &text, work.path())?;
        fault::point();
        renameat(work.dir(), WHOLE, &dir, snapshot.as_str()).map_err(at("make", &path))?;
        fault::point();
        fsync(&dir).map_err(at("write", &path))
    }

    pub(super) fn remove_snapshot(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
    ) -> Result<(), StoreError> {
        let uuid = self.record(name)?.uuid;
        let path = self.path_of(uuid);
        let dir = open_dir(&self.snaps, file_name(&path)).map_err(at("open", &path))?;
        let concerned = Concerned { name: name.to_string(), uuid };
        let work = self.work("destroy", vec![concerned], Vec::new())?;
        renameat(&dir, snapshot.as_str(), work.space.dir(), WHOLE)
            .map_err(at("destroy", &path.join(snapshot.as_str())))?;
        fsync(&dir).map_err(at("write", &path))?;
        work.end()
    }

    /// The identity of a snapshot in the directory of an environment's, if it is there and can be read.
    pub(super) fn snapshot_uuid(
        &self,
        dir: &OwnedFd,
        name: &SnapshotName,
    ) -> Result<Option<Uuid>, StoreError> {
        let one = match open_dir(dir, name.as_str()) {
            Ok(one) => one,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(at("open", Path::new(name.as_str()))(error)),
        };
        let text = metadata::read(&one, RECORD).map_err(at("read", Path::new(name.as_str())))?;
        Ok(parse(name.clone(), &text).ok().map(|(_, snapshot)| snapshot.uuid))
    }

    /// Moves the snapshots of an environment that is gone into a workspace.
    pub(super) fn detach_snapshots(&self, work: &Workspace, uuid: Uuid) -> Result<(), StoreError> {
        let path = self.path_of(uuid);
        match renameat(&self.snaps, file_name(&path), work.dir(), file_name(&path)) {
            Ok(()) => fsync(&self.snaps).map_err(at("write", &path)),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(at("destroy", &path)(error)),
        }
    }

    /// Where the snapshots of an environment are.
    pub(super) fn path_of(&self, uuid: Uuid) -> PathBuf {
        self.path.join(SNAPSHOTS).join(uuid.to_string())
    }
}

/// Which snapshot of an environment has its tree at a path below the directory of snapshots.
pub(super) fn at_path(path: &Path, uuid: Uuid) -> Option<SnapshotName> {
    let inside = path.strip_prefix(uuid.to_string()).ok()?;
    inside.parent()?.to_str()?.parse().ok().filter(|_| inside.file_name() == Some(TREE.as_ref()))
}

/// The last part of a path below the store.
fn file_name(path: &Path) -> &Path {
    path.file_name().map_or(path, Path::new)
}

/// The highest number of a snapshot in a directory of snapshots.
fn last(dir: &OwnedFd, path: &Path) -> Result<u64, StoreError> {
    let mut last = 0;
    for entry in rustix::fs::Dir::read_from(dir).map_err(at("list", path))? {
        let entry = entry.map_err(at("list", path))?;
        let Ok(one) = open_dir(dir.as_fd(), entry.file_name()) else { continue };
        let Ok(text) = metadata::read(&one, RECORD) else { continue };
        let order = toml::from_str::<Raw>(&text).map(|raw| raw.order);
        last = last.max(order.unwrap_or(0));
    }
    Ok(last)
}

fn render(snapshot: &Snapshot, order: u64) -> Result<String, MetadataError> {
    let (uuid, created) = (snapshot.uuid, snapshot.created.to_string());
    let raw = Raw { schema: SCHEMA, uuid, created, order };
    toml::to_string(&raw).map_err(|error| MetadataError::Syntax(error.to_string()))
}

fn parse(name: SnapshotName, text: &str) -> Result<(u64, Snapshot), MetadataError> {
    let raw: Raw =
        toml::from_str(text).map_err(|error| MetadataError::Syntax(error.message().to_owned()))?;
    if raw.schema != SCHEMA {
        return Err(MetadataError::Schema(raw.schema));
    }
    let created = raw.created.parse().map_err(|error: crate::TimestampError| {
        MetadataError::Value { key: "created", reason: error.to_string() }
    })?;
    let (uuid, automatic, clones) = (raw.uuid, false, Vec::new());
    Ok((raw.order, Snapshot { name, uuid, created, automatic, clones, more_clones: false }))
}

/// What is written down about a snapshot.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    schema: u32,
    uuid: Uuid,
    created: String,
    /// Which of an environment's snapshots it is: seconds do not tell two of them apart.
    order: u64,
}

const SCHEMA: u32 = 1;
/// In a snapshot: what is written down about it.
const RECORD: &str = "snapshot.toml";
/// In a workspace: a snapshot with its record.
const WHOLE: &str = "whole";

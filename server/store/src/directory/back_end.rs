//! A store of directories as a kind of store.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{fsync, renameat};

use super::intents::Step;
use super::{COPY, Directory, Frozen, TREE};
use crate::back_end::{Arrival, BackEnd, Capabilities, Departure, Extent, Part, Side, Wanted};
use crate::draft::{self, OpenIntent};
use crate::error::at;
use crate::journal::Tries;
use crate::locked::{Current, Locked};
use crate::query::{Answer, Query};
use crate::tree::{self, Until, open_dir};
use crate::{
    Change, Concerned, Environment, EnvironmentName, InUse, NativeChange, Origin, Pending, Point,
    Snapshot, SnapshotName, StoreError, bind, fault,
};

impl BackEnd for Directory {
    fn capabilities(&self) -> Capabilities {
        self.fabric.capabilities()
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

    fn query(&self, query: &Query<'_>) -> Result<Answer, StoreError> {
        self.answer(query)
    }

    fn create(&self, new: &Environment) -> Result<(), StoreError> {
        let work = self.begin("create", new, Vec::new())?;
        let tree = self.fabric.make(&work.space, TREE)?;
        self.build(&tree, new.layout, work.space.path())?;
        self.publish(work, new)
    }

    fn clone_tree(
        &self,
        source: Side<'_>,
        extent: Extent,
        new: &Environment,
    ) -> Result<Environment, StoreError> {
        let (name, (from, path)) = (source.locked.name(), self.open_tree(source)?);
        // Of what is written to, much may have to come to the disk first, which nobody is to wait for.
        if source.snapshot.is_some()
            && extent == Extent::Whole
            && self.has_natives_of(name, &from)?
            && self.clone_at_once(&from, new)?
        {
            return Ok(new.clone());
        }
        let work = self.begin("clone", new, Vec::new())?;
        match extent {
            Extent::Root => self.fabric.copy_root(&from, &work.space, TREE, &path)?,
            Extent::Whole => self.fabric.copy(&from, &work.space, TREE, &path)?,
        }
        self.carry(name, &work)?;
        self.publish(work, new)?;
        Ok(new.clone())
    }

    fn write(&self, decided: &Current<'_>, natives: &[NativeChange]) -> Result<(), StoreError> {
        match natives {
            [] => self.write_metadata(&self.lock()?, &decided.environment),
            changes => self.write_both(&decided.environment, changes),
        }
    }

    fn check_natives(
        &self,
        name: &EnvironmentName,
        natives: &[NativeChange],
    ) -> Result<(), StoreError> {
        let (tree, path) = (self.open_root(name)?, self.root_path(name));
        natives.iter().try_for_each(|change| self.fabric.check_native(&tree, change, &path))
    }

    fn rename(&self, locked: &Locked, new: &EnvironmentName) -> Result<(), StoreError> {
        let (name, root) = (locked.name(), self.root_path(locked.name()));
        let environment = Environment { name: new.clone(), ..self.record(name)? };
        if let Some(obstacle) =
            tree::obstacle(&self.trees, name.as_str()).map_err(at("look at", &root))?
        {
            return Err(StoreError::Obstacle { path: root, obstacle });
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
                .map_err(at("rename", &root))?;
            fault::point();
            fsync(&self.trees).map_err(at("write", &self.root_path(new)))?;
        }
        open.settle()
    }

    fn promote(&self, clone: &Current<'_>, origin: &Current<'_>) -> Result<(), StoreError> {
        let (clone, origin) = (&clone.environment, &origin.environment);
        let promoted = Environment { origin: origin.origin.clone(), ..clone.clone() };
        let (name, uuid) = (clone.name.clone(), clone.uuid);
        let demoted =
            Environment { origin: Some(Origin { name, uuid, snapshot: None }), ..origin.clone() };
        let steps = vec![Step::write(&promoted)?, Step::write(&demoted)?];
        self.intend("promote", vec![clone.into(), (&demoted).into()], steps)?.settle()?;
        // Came the record back, what is decided about them later would be undone.
        self.journal()?.synchronize()
    }

    fn destroy(&self, locked: &Locked, snapshot: Option<&SnapshotName>) -> Result<(), StoreError> {
        match snapshot {
            None => self.remove(locked.name()),
            Some(snapshot) => self.remove_snapshot(locked.name(), snapshot),
        }
    }

    fn snapshot(&self, locked: &Locked, snapshot: &SnapshotName) -> Result<Snapshot, StoreError> {
        self.take_snapshot(locked.name(), snapshot)
    }

    fn rollback(
        &self,
        locked: &Locked,
        to: &SnapshotName,
        newer: &[SnapshotName],
    ) -> Result<(), StoreError> {
        let name = locked.name();
        self.inspect(name)?;
        let from = self.open_snapshot(name, to)?;
        let environment = self.record(name)?;
        let mut vanish = self.snapshots(name)?;
        vanish.retain(|snapshot| newer.contains(&snapshot.name));
        let work = self.work("rollback", vec![(&environment).into()], Vec::new())?;
        let path = PathBuf::from(Point::snapshot(name, to).to_string());
        self.fabric.copy(&from, &work.space, TREE, &path)?;
        self.replace(work, &environment, None, &vanish)
    }

    fn diff(&self, old: Side<'_>, new: Side<'_>, until: Until) -> Result<Vec<Change>, StoreError> {
        tree::compare(self.open_tree(old)?.0, self.open_tree(new)?.0, until)
    }

    fn root(&self, name: &EnvironmentName) -> PathBuf {
        self.root_path(name)
    }

    fn open(&self, name: &EnvironmentName, wanted: Wanted) -> Result<Vec<Part>, StoreError> {
        let root = self.open_root(name)?;
        match wanted {
            Wanted::Root => Ok(vec![Part { path: String::new(), root }]),
            Wanted::Parts | Wanted::Whole => {
                self.fabric.parts(root).map_err(at("list", &self.root_path(name)))
            }
        }
    }

    fn release(&self, name: Option<&EnvironmentName>) -> Result<(), StoreError> {
        match name {
            Some(_) => Ok(()),
            None => self.check_release(),
        }
    }

    fn check_release(&self) -> Result<(), StoreError> {
        Err(StoreError::Unsupported(
            "only a store on ZFS can be closed while the server runs: stop the server instead",
        ))
    }

    fn mount(&self, tree: Side<'_>, target: &Path) -> Result<(), StoreError> {
        bind::mount(&self.open_tree(tree)?.0, target, tree.snapshot.is_some())
    }

    fn unmount(&self, at: &Path, in_use: InUse) -> Result<(), StoreError> {
        bind::unmount(at, in_use)
    }

    fn send(&self, departure: &Departure<'_>, out: &mut dyn Write) -> Result<(), StoreError> {
        let name = departure.locked.name();
        let open = |snapshot| {
            Ok::<_, StoreError>((
                self.open_snapshot(name, snapshot)?,
                self.snapshot_path(name, snapshot)?,
            ))
        };
        let (tree, path) = open(departure.snapshot)?;
        let base = departure.base.map(open).transpose()?;
        let base = base.as_ref().map(|(tree, path)| Frozen { tree, path });
        self.fabric.send(Frozen { tree: &tree, path: &path }, base, out)
    }

    fn receive(&self, arrival: &Arrival<'_>, from: &mut dyn Read) -> Result<(), StoreError> {
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
        self.fabric.copy(&tree, space, TREE, &self.root_path(name))?;
        self.finish_snapshot(space, &arrival.snapshot)?;
        match arrival.base {
            None => self.publish_with(work, environment, |space| {
                self.place_snapshot(space, environment.uuid, snapshot)
            }),
            Some(_) => self.replace(work, environment, Some(snapshot), &[]),
        }
    }
}

//! A store on ZFS as a kind of store.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::command::Refusal;
use super::show::Shown;
use super::{Zfs, kernel, mounts, program, told};
use crate::back_end::{Arrival, BackEnd, Capabilities, Departure, Extent, Part, Side, Wanted};
use crate::draft::{self, OpenIntent};
use crate::journal::Tries;
use crate::locked::{Current, Locked};
use crate::name::NameRules;
use crate::query::{Answer, Query};
use crate::tree::Until;
use crate::{
    Change, Concerned, Environment, EnvironmentName, InUse, NativeChange, Pending, Snapshot,
    SnapshotName, StoreError,
};

impl BackEnd for Zfs {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            clones_depend: true,
            instant_snapshots: true,
            nested: true,
            in_place: false,
            syncs: true,
            format: "zfs",
            names: NameRules::Zfs { room: LONGEST.saturating_sub(self.dataset.len()) },
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
        self.free(&new.name)?;
        self.make(new)
    }

    fn clone_tree(
        &self,
        source: Side<'_>,
        extent: Extent,
        new: &Environment,
    ) -> Result<Environment, StoreError> {
        self.copy(source, extent, new)
    }

    fn write(&self, decided: &Current<'_>, natives: &[NativeChange]) -> Result<(), StoreError> {
        if !natives.is_empty() {
            return self.write_both(decided, natives);
        }
        let (locked, environment) = (decided.locked(), &decided.environment);
        let changes = self.tree_of(locked)?.changes(environment)?;
        locked.seen().forget();
        program::set(self.pool_name(), &changes)
            .map_err(|failure| told(failure, &format!("write down what {} is", environment.name)))
    }

    fn check_natives(
        &self,
        _name: &EnvironmentName,
        _natives: &[NativeChange],
    ) -> Result<(), StoreError> {
        // Which values a property takes, only zfs(8) knows, and only when it sets them.
        Ok(())
    }

    fn rename(&self, locked: &Locked, new: &EnvironmentName) -> Result<(), StoreError> {
        let name = locked.name();
        self.free(new)?;
        self.spare(name)?;
        self.hide(name)?;
        locked.seen().forget();
        let (from, to) = (self.full(name.as_str()), self.full(new.as_str()));
        kernel::rename(&from, &to).map_err(|failure| {
            if failure.refusal == Refusal::Exists {
                StoreError::Exists(new.clone())
            } else {
                told(failure, &format!("rename {name}"))
            }
        })
    }

    fn promote(&self, clone: &Current<'_>, origin: &Current<'_>) -> Result<(), StoreError> {
        let (clone, origin) = (clone.locked(), origin.locked());
        let tree = self.tree_of(clone)?;
        let below = [&self.full(origin.name().as_str()), "@"].concat();
        let inside = [&self.full(origin.name().as_str()), "/"].concat();
        let depends = |from: &String| from.starts_with(&below) || from.starts_with(&inside);
        let sets = tree.sets().filter(|set| set.origin.as_ref().is_some_and(depends));
        let sets: Vec<&str> = sets.map(|set| set.name.as_str()).collect();
        for changed in [clone, origin] {
            changed.seen().forget();
        }
        program::promote(self.pool_name(), &sets)
            .map_err(|failure| told(failure, &format!("promote {}", clone.name())))
    }

    fn destroy(&self, locked: &Locked, snapshot: Option<&SnapshotName>) -> Result<(), StoreError> {
        match snapshot {
            None => self.remove(locked),
            Some(snapshot) => self.remove_snapshot(locked, snapshot),
        }
    }

    fn snapshot(&self, locked: &Locked, snapshot: &SnapshotName) -> Result<Snapshot, StoreError> {
        self.take_snapshot(locked, snapshot)
    }

    fn rollback(
        &self,
        locked: &Locked,
        to: &SnapshotName,
        newer: &[SnapshotName],
    ) -> Result<(), StoreError> {
        self.go_back(locked, to, newer)
    }

    fn diff(&self, old: Side<'_>, new: Side<'_>, until: Until) -> Result<Vec<Change>, StoreError> {
        self.compare(shown(old), shown(new), until)
    }

    fn root(&self, name: &EnvironmentName) -> PathBuf {
        self.mounts.join(name.as_str())
    }

    fn open(&self, name: &EnvironmentName, wanted: Wanted) -> Result<Vec<Part>, StoreError> {
        self.open_places(name, wanted)
    }

    fn release(&self, name: Option<&EnvironmentName>) -> Result<(), StoreError> {
        match name {
            Some(name) => self.hide(name),
            None => self.hide_all(),
        }
    }

    fn check_release(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn mount(&self, tree: Side<'_>, target: &Path) -> Result<(), StoreError> {
        self.show_at(shown(tree), target)
    }

    fn unmount(&self, at: &Path, in_use: InUse) -> Result<(), StoreError> {
        mounts::unmount(at, in_use)
    }

    fn send(&self, departure: &Departure<'_>, out: &mut dyn Write) -> Result<(), StoreError> {
        if let Some(total) = self.estimate(departure) {
            departure.work.set_total(total);
        }
        self.write_stream(departure, out)
    }

    fn receive(&self, arrival: &Arrival<'_>, from: &mut dyn Read) -> Result<(), StoreError> {
        match &arrival.base {
            None => self.receive_whole(arrival, from),
            Some(base) => self.receive_more(arrival, base, from),
        }
    }
}

fn shown(tree: Side<'_>) -> Shown<'_> {
    (tree.locked.name(), tree.locked.seen(), tree.snapshot)
}

/// Longest name of a data set (256 bytes with its end), less room for the longest layout's data set and
/// for an automatic snapshot.
const LONGEST: usize = 180;

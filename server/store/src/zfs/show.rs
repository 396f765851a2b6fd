//! Trees of data sets that are mounted: to be served, to be compared, and where somebody wants to see them.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::intents::{HIDDEN, Step};
use super::mounts::{self, DatasetPath};
use super::tree::Tree;
use super::{Seen, Zfs};
use crate::back_end::{Part, Wanted};
use crate::error::at;
use crate::journal::Tries;
use crate::tree::Until;
use crate::{Change, EnvironmentName, Point, SnapshotName, StoreError};

/// A tree, or what it was at a snapshot, and what was seen of its environment.
pub(super) type Shown<'a> = (&'a EnvironmentName, &'a Seen, Option<&'a SnapshotName>);

impl Zfs {
    /// The tree of an environment whose files are to be seen.
    fn tree_to_show(&self, name: &EnvironmentName, seen: &Seen) -> Result<Tree, StoreError> {
        if self.refuse_half(name).is_err() {
            // Before a machine goes on from half of what a killed command received.
            self.settle_left(None, Tries::Few)?;
            seen.forget();
            self.refuse_half(name)?;
        }
        let tree = self.tree(name, seen)?;
        tree.is_plain()?;
        tree.waits().map_or(Ok(tree), Err)
    }

    /// Opens what can be mounted of a tree.
    pub(super) fn open_places(
        &self,
        name: &EnvironmentName,
        wanted: Wanted,
    ) -> Result<Vec<Part>, StoreError> {
        let tree = self.tree_to_show(name, &Seen::default())?;
        let shown = self.show(name.as_str(), &tree.places(), false)?.into_iter();
        let parts: Vec<_> =
            shown.map(|shown| Part { path: shown.path, root: shown.root }).collect();
        let left_out = |place: &DatasetPath| !parts.iter().any(|part| part.path == place.path);
        match tree.places().into_iter().find(left_out).filter(|_| wanted == Wanted::Whole) {
            Some(DatasetPath { dataset, path }) => {
                let why =
                    format!("it could not be mounted on /{path} of {name}: check what is there");
                Err(StoreError::Away { place: format!("the data set {dataset}"), why })
            }
            None => Ok(parts),
        }
    }

    /// Shows a tree to this process, below a directory of the store's own.
    pub(super) fn show(
        &self,
        below: &str,
        places: &[DatasetPath],
        read_only: bool,
    ) -> Result<Vec<mounts::Shown>, StoreError> {
        let point = self.mounts.join(below);
        mounts::point(&point)?;
        mounts::show(&point, places, read_only)
    }

    /// What can be mounted of a tree, as it is or as it was at a snapshot.
    fn places(
        &self,
        tree: &Tree,
        (name, seen, at): Shown<'_>,
    ) -> Result<Vec<DatasetPath>, StoreError> {
        let mut places = tree.places();
        let Some(snapshot) = at else { return Ok(places) };
        let rows = self.rows(name, seen)?;
        let had = |dataset: &str| {
            rows.iter().any(|row| row.dataset == dataset && row.snapshot == snapshot.as_str())
        };
        places.retain(|place| had(&place.dataset));
        if places.first().is_none_or(|place| !place.path.is_empty()) {
            return Err(StoreError::NoSnapshot(Point::snapshot(name, snapshot)));
        }
        for place in &mut places {
            place.dataset = format!("{}@{snapshot}", place.dataset);
        }
        Ok(places)
    }

    /// What differs in a tree from another.
    pub(super) fn compare(
        &self,
        old: Shown<'_>,
        new: Shown<'_>,
        until: Until,
    ) -> Result<Vec<Change>, StoreError> {
        let work = format!("{HIDDEN}{}", Uuid::new_v4());
        let point = self.mounts.join(&work);
        // A directory goes only when it is empty, and the snapshots are shown inside of it.
        let left = [point.join("old"), point.join("new"), point];
        let left = left.map(|directory| Step::Unmount { directory });
        let _work = self.intend("diff", Vec::new(), left.into())?;
        mounts::point(&self.mounts.join(&work))?;
        let root = |side: Shown<'_>, place: &str| {
            let (name, seen, snapshot) = side;
            let tree = self.tree_to_show(name, seen)?;
            let places = self.places(&tree, side)?;
            let shown = match snapshot {
                None => self.show(name.as_str(), &places, false)?,
                Some(_) => self.show(&format!("{work}/{place}"), &places, true)?,
            };
            let root = shown.into_iter().next().map(|shown| shown.root);
            root.ok_or_else(|| StoreError::NoEnvironment(name.clone()))
        };
        let (old, new) = (root(old, "old")?, root(new, "new")?);
        crate::tree::compare(&old, &new, until)
    }

    /// Shows a tree at a place that somebody wants to see it at.
    pub(super) fn show_at(&self, side: Shown<'_>, target: &Path) -> Result<(), StoreError> {
        let (name, seen, snapshot) = side;
        let tree = self.tree_to_show(name, seen)?;
        if crate::sys::zfs::ONCE && snapshot.is_none() {
            // Where it can be served from comes first.
            self.show(name.as_str(), &tree.places(), false)?;
        }
        let places = self.places(&tree, side)?;
        mounts::show(target, &places, snapshot.is_some()).map(|_shown| ())
    }

    /// Where an environment and its snapshots are shown, but for where they are served from.
    pub(super) fn mounts_of(
        &self,
        name: &EnvironmentName,
    ) -> Result<Vec<(Point, PathBuf)>, StoreError> {
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

    /// Unmounts an environment from where it is served.
    pub(super) fn hide(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        mounts::hide(&self.mounts.join(name.as_str()))
    }

    /// Unmounts all of them.
    pub(super) fn hide_all(&self) -> Result<(), StoreError> {
        let explain = at("list", &self.mounts);
        let shown = std::fs::read_dir(&self.mounts).map_err(explain)?.flatten();
        // Other names are of what commands are doing.
        let name = |entry: std::fs::DirEntry| -> Option<EnvironmentName> {
            entry.file_name().to_str()?.parse().ok()
        };
        shown.filter_map(name).try_for_each(|name| self.hide(&name))
    }
}

//! Properties of the file system that trees are on.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use uuid::Uuid;

use super::intents::Step;
use super::work::Work;
use super::{Directory, TREE};
use crate::back_end::BackEnd as _;
use crate::error::at;
use crate::tree::open_dir;
use crate::{Environment, EnvironmentName, Native, NativeChange, StoreError, fault, sys};

impl Directory {
    /// Changes properties of a tree and writes down what was decided: both, or none of it.
    pub(super) fn write_both(
        &self,
        environment: &Environment,
        changes: &[NativeChange],
    ) -> Result<(), StoreError> {
        let name = &environment.name;
        let (tree, path) = (self.open_root(name)?, self.root_path(name));
        self.check_natives(name, changes)?;
        let now = self.fabric.natives(&tree, &path)?;
        let (mut limits, others): (Vec<_>, Vec<_>) =
            changes.iter().cloned().partition(|change| change.property.is_limit());
        let mut touched = changes.to_vec();
        if !others.is_empty() {
            let present = now.iter().filter(|one| one.property.is_limit() && one.source == "local");
            let present: Vec<NativeChange> = present
                .map(|one| NativeChange { property: one.property, value: Some(one.value.clone()) })
                .collect();
            touched.extend(present.iter().cloned());
            // Two limits may be one by two names: what is said counts, and else what there is.
            if limits.is_empty() {
                limits = present;
            }
        }
        let before = touched.iter().map(|change| change.property.set_in(&now)).collect();
        let undo = Step::Properties { name: name.to_string(), uuid: environment.uuid, before };
        let mut open = self.intend("set", vec![environment.into()], vec![undo])?;
        self.put_natives(&tree, &others, &limits, &path)?;
        // From here on it is completed.
        open.turn(vec![Step::write(environment)?])?;
        open.settle()?;
        // Came the record back, what is decided later would be undone.
        self.journal()?.synchronize()
    }

    /// Gives the tree in a workspace, a copy of one of `source`, the properties that `source` has.
    pub(super) fn carry(
        &self,
        source: &EnvironmentName,
        work: &Work<'_>,
    ) -> Result<(), StoreError> {
        let (space, path) = (&work.space, self.root_path(source));
        let tree = open_dir(space.dir(), TREE).map_err(at("open", space.path()))?;
        self.fabric.carry(&self.open_root(source)?, &tree, &path)
    }

    /// Whether a tree has the properties that an environment has, so that a copy of it needs none.
    pub(super) fn has_natives_of(
        &self,
        name: &EnvironmentName,
        tree: &OwnedFd,
    ) -> Result<bool, StoreError> {
        let path = self.root_path(name);
        let (own, wanted) = (
            self.fabric.natives(tree, &path)?,
            self.fabric.natives(&self.open_root(name)?, &path)?,
        );
        Ok(own == wanted)
    }

    /// Gives properties back that a killed command has changed.
    pub(super) fn give_back(
        &self,
        name: &str,
        uuid: Uuid,
        before: &[(String, Option<String>)],
    ) -> Result<(), StoreError> {
        let Ok(name) = name.parse() else { return Ok(()) };
        if !self.has(&name, uuid)? {
            return Ok(());
        }
        let (tree, path) = (self.open_root(&name)?, self.root_path(&name));
        let change = |(property, value): &(String, Option<String>)| {
            Some(NativeChange { property: Native::of(property)?, value: value.clone() })
        };
        let changes = before.iter().filter_map(change);
        let (limits, others): (Vec<_>, Vec<_>) =
            changes.partition(|change| change.property.is_limit());
        self.put_natives(&tree, &others, &limits, &path)
    }

    /// Changes properties of a tree, and then its limits: what is full has no room for anything else as long
    /// as it has one. What else cannot be changed leaves the limits as they are wanted.
    fn put_natives(
        &self,
        tree: &OwnedFd,
        others: &[NativeChange],
        limits: &[NativeChange],
        path: &Path,
    ) -> Result<(), StoreError> {
        let none = |limit: &NativeChange| NativeChange { value: None, ..limit.clone() };
        let mut lifted = limits.iter().filter(|_| !others.is_empty()).map(none);
        let put = |change: &NativeChange| {
            self.fabric.set_native(tree, change, path)?;
            fault::point();
            Ok::<_, StoreError>(())
        };
        let done = lifted
            .try_for_each(|change| put(&change))
            .and_then(|()| others.iter().try_for_each(put));
        limits.iter().try_for_each(put)?;
        done?;
        sys::synchronize(tree.as_fd()).map_err(at("write", path))
    }
}

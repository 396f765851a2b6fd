//! Properties of the file system that trees are on.

use std::os::fd::{AsFd as _, OwnedFd};

use uuid::Uuid;

use super::intents::Step;
use super::work::Work;
use super::{Directory, TREE};
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
        for change in changes {
            self.fabric.check_native(&tree, change, &path)?;
        }
        let now = self.fabric.natives(&tree, &path)?;
        let before = changes.iter().map(|change| change.property.set_in(&now)).collect();
        let undo = Step::Properties { name: name.to_string(), uuid: environment.uuid, before };
        let mut open = self.intend("set", vec![environment.into()], vec![undo])?;
        // What is full has no room for anything else before its limit is another one.
        let (limits, others): (Vec<_>, Vec<_>) =
            changes.iter().partition(|change| change.property.is_limit());
        for change in limits.into_iter().chain(others) {
            self.fabric.set_native(&tree, change, &path)?;
            fault::point();
        }
        sys::synchronize(tree.as_fd()).map_err(at("write", &path))?;
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
        for (property, value) in before {
            let Some(property) = Native::of(property) else { continue };
            let change = NativeChange { property, value: value.clone() };
            self.fabric.set_native(&tree, &change, &path)?;
            fault::point();
        }
        sys::synchronize(tree.as_fd()).map_err(at("write", &path))
    }
}

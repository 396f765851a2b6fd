//! Properties of the file system that trees are on.

use uuid::Uuid;

use super::intents::Step;
use super::work::Work;
use super::{Directory, TREE};
use crate::back_end::BackEnd as _;
use crate::error::at;
use crate::tree::open_dir;
use crate::{Environment, EnvironmentName, Native, NativeChange, NativeValue, StoreError, fault};

impl Directory {
    /// Changes properties of a tree and writes down what was decided: both, or none of it.
    pub(super) fn write_both(
        &self,
        environment: &Environment,
        changes: &[NativeChange],
    ) -> Result<(), StoreError> {
        let name = &environment.name;
        let (tree, path) = (self.open_root(name)?, self.root(name));
        for change in changes {
            self.fabric.check_native(&tree, change, &path)?;
        }
        let now = self.fabric.natives(&tree, &path)?;
        let before = changes.iter().map(|change| before(&now, change.property)).collect();
        let undo = Step::Properties { name: name.to_string(), uuid: environment.uuid, before };
        let mut open = self.intend("set", vec![environment.into()], vec![undo])?;
        for change in changes {
            self.fabric.set_native(&tree, change, &path)?;
            fault::point();
        }
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
        let (space, path) = (&work.space, self.root(source));
        let tree = open_dir(space.dir(), TREE).map_err(at("open", space.path()))?;
        self.fabric.carry(&self.open_root(source)?, &tree, &path)
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
        let (tree, path) = (self.open_root(&name)?, self.root(&name));
        for (property, value) in before {
            let Some(property) = Native::of(property) else { continue };
            let change = NativeChange { property, value: value.clone() };
            self.fabric.set_native(&tree, &change, &path)?;
            fault::point();
        }
        Ok(())
    }
}

/// A property as it is set now, if it is.
fn before(now: &[NativeValue], property: Native) -> (String, Option<String>) {
    let set = now.iter().find(|known| known.property == property && known.source == "local");
    (property.to_string(), set.map(|known| known.value.clone()))
}

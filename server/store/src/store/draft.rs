//! Environments that take several verbs until they are whole.
//!
//! Until then they are marked, have the role [`Role::Off`], and are refused by the verbs that would spread
//! half a system. All else may be done with them, destroying them above all. What becomes of them when
//! their process is gone stands in the journal.

use std::os::fd::AsFd as _;

use uuid::Uuid;

use super::Store;
use super::decide::decide_all;
use crate::draft::{self, OpenIntent, Step, mark, snapshot_of, unmark};
use crate::error::at;
use crate::{
    Concerned, Decision, Environment, EnvironmentName, Hold, Layout, Point, Role, StoreError, sys,
};

/// An environment that is being made or filled. Dropped before its end it goes, or is what it was before.
#[derive(Debug)]
#[must_use]
pub struct Draft<'a> {
    store: &'a Store,
    // Settled while the environment is still held.
    open: Box<dyn OpenIntent + 'a>,
    hold: Hold<'a>,
    /// What it is for when it is whole, unless something else is decided.
    role: Role,
}

impl Store {
    /// Clones an environment or a snapshot under a name that nothing has, to do more with it before it is
    /// whole.
    pub fn draft(&self, source: &Point, name: &EnvironmentName) -> Result<Draft<'_>, StoreError> {
        let (hold, uuid) = (self.hold(name)?, Uuid::new_v4());
        let draft = self.begin(hold, "make", uuid, Role::Environment)?;
        let intent = draft.open.uuid();
        self.clone_as(source, name, uuid, |new| mark(new, draft::DRAFT, intent))?;
        Ok(draft)
    }

    /// Creates an environment that is to be filled.
    pub fn create_to_fill<'a>(
        &'a self,
        hold: Hold<'a>,
        layout: Layout,
    ) -> Result<Draft<'a>, StoreError> {
        let (name, uuid) = (hold.name().clone(), Uuid::new_v4());
        let draft = self.begin(hold, "install", uuid, Role::Environment)?;
        let intent = draft.open.uuid();
        self.create_as(&name, layout, uuid, |new| mark(new, draft::INSTALLING, intent))?;
        Ok(draft)
    }

    /// Begins to fill an environment that is there: its tree is kept in a snapshot until it is whole.
    pub fn fill<'a>(&'a self, hold: Hold<'a>) -> Result<Draft<'a>, StoreError> {
        let environment = self.get(hold.name())?;
        self.refuse_half(&environment)?;
        let (uuid, role) = (environment.uuid, environment.role);
        let empty = |kept| Step::Empty {
            name: environment.name.to_string(),
            uuid,
            role: role.as_str().to_owned(),
            kept,
        };
        let concerned = vec![Concerned::from(&environment)];
        let open = self.back_end.draft("install", concerned, vec![empty(false)])?;
        let (name, intent) = (environment.name.clone(), open.uuid());
        let mut draft = Draft { store: self, open, hold, role };
        self.change("set", &name, &["role=off"], &[], |environment| {
            Ok(mark(environment, draft::INSTALLING, intent)?)
        })?;
        self.snapshot(&name, &snapshot_of(intent)?)?;
        draft.open.turn(vec![empty(true)])?;
        Ok(draft)
    }

    fn begin<'a>(
        &'a self,
        hold: Hold<'a>,
        verb: &str,
        uuid: Uuid,
        role: Role,
    ) -> Result<Draft<'a>, StoreError> {
        let name = hold.name().to_string();
        let steps = vec![Step::Discard { name: name.clone(), uuid }];
        let open = self.back_end.draft(verb, vec![Concerned { name, uuid }], steps)?;
        Ok(Draft { store: self, open, hold, role })
    }

    pub(super) fn refuse_half(&self, environment: &Environment) -> Result<(), StoreError> {
        match environment.is_draft() || environment.is_being_filled() {
            true => Err(StoreError::Half(environment.name.clone())),
            false => Ok(()),
        }
    }
}

impl Draft<'_> {
    /// What it is called.
    #[must_use]
    pub const fn name(&self) -> &EnvironmentName {
        self.hold.name()
    }

    /// It is whole, and this is decided about it: all at one instant.
    pub fn finish(self, decisions: &[Decision]) -> Result<Environment, StoreError> {
        // Dropped the other way round: what is left is undone while it is still held.
        let Self { store, hold, mut open, role } = self;
        // What was done in it is on the disk before it counts as whole. ZFS keeps the order by itself.
        if !store.back_end.capabilities().clones_depend {
            let tree = store.back_end.open_root(hold.name())?;
            sys::synchronize(tree.as_fd()).map_err(at("write", &store.root(hold.name())))?;
        }
        let told: Vec<String> = decisions.iter().map(ToString::to_string).collect();
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        let made = store.change("set", hold.name(), &told, &[], |environment| {
            unmark(environment)?;
            environment.role = role;
            decide_all(environment, decisions)
        })?;
        // What is left now is the snapshot at most.
        if let Err(error) = open.settle() {
            tracing::warn!("{}: {error}: `netbe settle` tries again", hold.name());
        }
        Ok(made)
    }

    /// Undoes it, and says why that could not be done. What is left the next verb tries again.
    pub fn undo(mut self) -> Result<(), StoreError> {
        self.open.settle()
    }
}

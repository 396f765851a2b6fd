//! Environments that a verb has locked.
//!
//! Verbs of a back end take these, and no names: so what they change is locked, and what they write back
//! was read since then.

use crate::back_end::BackEnd;
use crate::lock::Held;
use crate::zfs::Seen;
use crate::{Environment, EnvironmentName, StoreError};

/// An environment that is locked, or a name that is locked because it is to be given to one. Dropped, it is
/// free again.
#[derive(Debug)]
#[must_use]
pub(crate) struct Locked {
    name: EnvironmentName,
    seen: Seen,
    _held: Option<Held>,
}

impl Locked {
    /// An environment whose lock is this.
    pub(crate) fn new(name: EnvironmentName, held: Held) -> Self {
        Self { name, seen: Seen::default(), _held: Some(held) }
    }

    /// An environment that an open intent is about: whoever has that open has it locked.
    pub(crate) fn by_intent(name: EnvironmentName) -> Self {
        Self { name, seen: Seen::default(), _held: None }
    }

    /// What it is called.
    pub(crate) const fn name(&self) -> &EnvironmentName {
        &self.name
    }

    /// What a store on ZFS has seen of it since it was locked.
    pub(crate) const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Reads what is written down about it, which may then be changed and written back.
    pub(crate) fn read(&self, back_end: &dyn BackEnd) -> Result<Current<'_>, StoreError> {
        Ok(Current { environment: back_end.record(self)?, locked: self })
    }
}

/// What is written down about an environment, read since it was locked.
#[derive(Debug)]
pub(crate) struct Current<'a> {
    pub(crate) environment: Environment,
    locked: &'a Locked,
}

impl<'a> Current<'a> {
    /// The environment that it is about.
    pub(crate) const fn locked(&self) -> &'a Locked {
        self.locked
    }
}

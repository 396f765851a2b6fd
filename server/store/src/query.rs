//! What a back end is asked about environments, and what it answers.

use std::path::PathBuf;

#[cfg(doc)]
use crate::StoreError;
#[cfg(doc)]
use crate::back_end::BackEnd;
use crate::locked::Locked;
use crate::{Environment, EnvironmentName, NativeValue, Point, Snapshot, Space, Unreadable};

/// A question about environments. Nothing is looked at but what it asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    /// Which environments it is about.
    pub(crate) of: Of<'a>,
    /// What it asks about each.
    facts: &'static [Fact],
}

/// Which environments a question is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of<'a> {
    /// All of them.
    All,
    /// One that is locked: what was seen of it since may be answered again.
    Locked(&'a Locked),
    /// One, as it is now.
    Named(&'a EnvironmentName),
    /// None: whether what the store is made of is there and answers is all that is asked.
    /// [`StoreError::Away`] or [`StoreError::Stalled`] if it does not.
    None,
}

/// Something that can be asked about an environment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fact {
    /// What it takes, if that is known without looking at its files.
    CountedSpace,
    /// Where it and its snapshots are mounted by [`BackEnd::mount`]. What is written down about it may be
    /// broken.
    Mounts,
    /// The properties of the file system that can be set of it, as they are.
    Natives,
    /// What the file system has below its root: data sets, volumes and their snapshots.
    Parts,
    /// What is written down about it.
    Record,
    /// The data sets of it that the file system shares by itself beside netbe.
    Shares,
    /// Its snapshots.
    Snapshots,
    /// What it takes, and each of its snapshots if it asks for them too.
    Space,
    /// Whether its tree is as it was when its newest snapshot was made. Files are read only where nothing
    /// else tells.
    Unchanged,
}

impl<'a> Query<'a> {
    /// Asks about all environments.
    pub(crate) const fn all(facts: &'static [Fact]) -> Self {
        Self { of: Of::All, facts }
    }

    /// Asks whether the store is there.
    pub(crate) const fn store() -> Self {
        Self { of: Of::None, facts: &[] }
    }

    /// Asks about one environment.
    pub(crate) const fn named(name: &'a EnvironmentName, facts: &'static [Fact]) -> Self {
        Self { of: Of::Named(name), facts }
    }

    /// Asks about one environment that is locked.
    pub(crate) const fn locked(locked: &'a Locked, facts: &'static [Fact]) -> Self {
        Self { of: Of::Locked(locked), facts }
    }

    /// Whether it asks for this.
    pub(crate) fn asks(&self, fact: Fact) -> bool {
        self.facts.contains(&fact)
    }
}

/// What is known of environments. Asked about one, it tells of that one.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The environments, sorted by name.
    pub(crate) found: Vec<Found>,
    /// Why others cannot be told of, or not in whole.
    pub(crate) unreadable: Vec<Unreadable>,
}

/// What is known of an environment: nothing where it was not asked for.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: EnvironmentName,
    pub(crate) record: Option<Environment>,
    pub(crate) mounts: Vec<(Point, PathBuf)>,
    pub(crate) natives: Vec<NativeValue>,
    pub(crate) parts: Vec<String>,
    pub(crate) shares: Vec<String>,
    /// The oldest first.
    pub(crate) snapshots: Vec<(Snapshot, Space)>,
    /// Nothing, too, where the file system does not count it and no file was to be looked at.
    pub(crate) space: Option<Space>,
    pub(crate) unchanged: bool,
}

impl Found {
    /// An environment of which nothing is known.
    pub(crate) const fn new(name: EnvironmentName) -> Self {
        Self {
            name,
            record: None,
            mounts: Vec::new(),
            natives: Vec::new(),
            parts: Vec::new(),
            shares: Vec::new(),
            snapshots: Vec::new(),
            space: None,
            unchanged: false,
        }
    }
}

impl From<Found> for Answer {
    fn from(one: Found) -> Self {
        Self { found: vec![one], unreadable: Vec::new() }
    }
}

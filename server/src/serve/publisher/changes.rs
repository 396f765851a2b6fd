//! What one publication changes, gathered before anything of it happens.

use std::collections::{BTreeMap, HashMap, HashSet};

use store::{Environment, EnvironmentName};
use uuid::Uuid;

use super::Opened;
use super::opener::Outcome;
use crate::boot::catalog;
use crate::nfs::export::{Change, Event, Reason};

/// The changes that one publication makes.
#[derive(Default)]
pub(super) struct Changes {
    /// Everything that was read.
    pub(super) read: HashMap<Uuid, Environment>,
    pub(super) entries: Vec<catalog::Environment>,
    pub(super) events: Vec<Change>,
    pub(super) gone: Vec<Uuid>,
    pub(super) unreadable: BTreeMap<EnvironmentName, String>,
    pub(super) unserved: BTreeMap<Uuid, Vec<String>>,
    /// Whether something may come by itself.
    pub(super) waiting: bool,
    /// Only these were looked at.
    pub(super) named: Option<Vec<EnvironmentName>>,
    /// The names of what was read, and what is said of the others, also when that was carried out.
    pub(super) names: HashMap<Uuid, EnvironmentName>,
    pub(super) told: Vec<String>,
}

impl Changes {
    /// Adds what came of opening some of what was read.
    pub(super) fn opened(&mut self, outcomes: Vec<Outcome<Opened>>) {
        for (uuid, outcome) in outcomes {
            let Some(name) = self.names.get(&uuid) else { continue };
            match outcome {
                Ok(opened) => {
                    let told = opened.unserved.iter().map(|reason| format!("{name}: {reason}"));
                    self.unserved.entry(uuid).or_default().extend(told);
                    self.entries.push(opened.entry);
                    self.events.push((uuid, Event::Opened(opened.export)));
                }
                Err(reason) => {
                    self.waiting = true;
                    // A key that is missing was told already.
                    if !self.told.iter().any(|told| told.starts_with(&reason)) {
                        let told = format!("{name}: {reason}");
                        self.unserved.entry(uuid).or_default().push(told);
                    }
                    self.events.push((uuid, Event::Failed(Reason::from(reason))));
                }
            }
        }
    }

    /// Takes what can be carried out by now; the rest is about nothing but what is still to be opened.
    pub(super) fn split_off(&mut self) -> Self {
        let (names, told) = (self.names.clone(), self.told.clone());
        let rest = Self { names, told, named: Some(Vec::new()), ..Self::default() };
        std::mem::replace(self, rest)
    }

    /// All that they are about.
    pub(super) fn environments(&self) -> HashSet<Uuid> {
        let events = self.events.iter().map(|(environment, _)| *environment);
        let about = events.chain(self.read.keys().copied()).chain(self.gone.iter().copied());
        about.chain(self.unserved.keys().copied()).collect()
    }

    /// Leaves out what is about these.
    pub(super) fn forget(&mut self, environments: &HashSet<Uuid>) {
        let stays = |environment: &Uuid| !environments.contains(environment);
        self.read.retain(|environment, _| stays(environment));
        self.entries.retain(|entry| stays(&entry.uuid));
        self.events.retain(|(environment, _)| stays(environment));
        self.gone.retain(|environment| stays(environment));
        self.unserved.retain(|environment, _| stays(environment));
    }
}

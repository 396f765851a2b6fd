//! What one publication changes, gathered before anything of it happens.

use std::collections::{BTreeMap, HashMap};

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
    /// What is still to be opened.
    pub(super) pending: HashMap<Uuid, EnvironmentName>,
    /// What is said of those that cannot be read, also when that was carried out.
    pub(super) told: Vec<String>,
}

impl Changes {
    /// Adds what came of opening some of what was read.
    pub(super) fn opened(&mut self, outcomes: Vec<Outcome<Opened>>) {
        for (uuid, outcome) in outcomes {
            let Some(name) = self.pending.remove(&uuid) else { continue };
            let unserved = self.unserved.entry(uuid).or_default();
            match outcome {
                Ok(opened) => {
                    let told = opened.unserved.iter().map(|reason| format!("{name}: {reason}"));
                    unserved.extend(told);
                    self.entries.push(opened.entry);
                    self.events.push((uuid, Event::Opened(opened.export)));
                }
                Err(reason) => {
                    self.waiting = true;
                    // A key that is missing was told already.
                    if !self.told.iter().any(|told| told.starts_with(&reason)) {
                        unserved.push(format!("{name}: {reason}"));
                    }
                    self.events.push((uuid, Event::Failed(Reason::from(reason))));
                }
            }
        }
    }

    /// Takes what can be carried out by now; the rest is about nothing but what is still to be opened.
    pub(super) fn split_off(&mut self) -> Self {
        let rest = Self {
            unserved: self.unserved.clone(),
            told: self.told.clone(),
            named: Some(Vec::new()),
            pending: self.pending.clone(),
            ..Self::default()
        };
        let mut now = std::mem::replace(self, rest);
        now.unserved.retain(|environment, _| !now.pending.contains_key(environment));
        self.unserved.retain(|environment, _| self.pending.contains_key(environment));
        now
    }
}

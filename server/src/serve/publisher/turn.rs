//! The order of publications that run at the same time: of each environment what was read last counts,
//! and nothing that was read before a command worked on it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use uuid::Uuid;

use super::super::lock;
use super::Found;

/// The turns of all publications that run.
#[derive(Debug, Default)]
pub(super) struct Turns {
    last: u64,
    running: usize,
    /// Nothing of this turn and of those before it counts any more.
    over: u64,
    /// The latest turn of each environment. Kept only while several publications run.
    latest: HashMap<Uuid, u64>,
}

impl Turns {
    /// Whether anything of a turn counts still.
    pub(super) const fn counts(&self, turn: u64) -> bool {
        turn > self.over
    }

    /// Takes these environments for a turn; gives those that a later one has taken already.
    pub(super) fn take(
        &mut self,
        turn: u64,
        environments: impl IntoIterator<Item = Uuid>,
    ) -> HashSet<Uuid> {
        let overtaken = environments.into_iter().filter(|environment| {
            let latest = self.latest.entry(*environment).or_insert(turn);
            *latest = turn.max(*latest);
            *latest > turn
        });
        overtaken.collect()
    }

    /// Whatever was read of these environments until now does not count any more.
    pub(super) fn supersede(&mut self, environments: &[Uuid]) {
        self.last += 1;
        let now = self.last;
        if self.running > 0 {
            self.latest.extend(environments.iter().map(|environment| (*environment, now)));
        }
    }

    /// Whatever was read until now does not count any more.
    pub(super) const fn supersede_all(&mut self) {
        self.over = self.last;
    }
}

/// The turn of a publication, from before it reads the store.
pub(super) struct Turn<'a> {
    found: &'a Mutex<Found>,
    pub(super) number: u64,
}

impl<'a> Turn<'a> {
    pub(super) fn begin(found: &'a Mutex<Found>) -> Self {
        let mut locked = lock(found);
        locked.turns.last += 1;
        locked.turns.running += 1;
        Self { found, number: locked.turns.last }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut found = lock(self.found);
        found.turns.running -= 1;
        if found.turns.running == 0 {
            found.turns.latest.clear();
        }
    }
}

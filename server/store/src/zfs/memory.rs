//! What verbs have seen of the environments that they have locked.
//!
//! A verb asks about an environment several times: whether it is there, which snapshots it has, what
//! its tree is. While the environment is locked the answer stays the same, but for what other programs
//! do, which could come between the question and the verb in any case.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::listing::SnapshotRow;
use super::tree::Tree;
use crate::{EnvironmentName, StoreError};

/// What was seen, by environment.
#[derive(Debug, Default)]
pub(super) struct Memory {
    locked: Mutex<BTreeMap<EnvironmentName, Seen>>,
}

/// What was seen of an environment that is locked.
#[derive(Debug, Default)]
struct Seen {
    /// How many verbs of this process have it locked.
    verbs: usize,
    tree: Option<Tree>,
    rows: Option<Vec<SnapshotRow>>,
}

impl Memory {
    /// A verb has locked an environment.
    pub(super) fn begin(&self, name: &EnvironmentName) {
        self.locked().entry(name.clone()).or_default().verbs += 1;
    }

    /// A verb is about to unlock an environment.
    pub(super) fn end(&self, name: &EnvironmentName) {
        let mut locked = self.locked();
        if let Some(seen) = locked.get_mut(name) {
            seen.verbs -= 1;
            if seen.verbs == 0 {
                locked.remove(name);
            }
        }
    }

    /// An environment is about to be changed.
    pub(super) fn forget(&self, name: &EnvironmentName) {
        if let Some(seen) = self.locked().get_mut(name) {
            (seen.tree, seen.rows) = (None, None);
        }
    }

    /// Any environment may have been changed.
    pub(super) fn forget_all(&self) {
        for seen in self.locked().values_mut() {
            (seen.tree, seen.rows) = (None, None);
        }
    }

    /// The tree of an environment: as it was seen, or as `ask` finds it.
    pub(super) fn tree(
        &self,
        name: &EnvironmentName,
        ask: impl FnOnce() -> Result<Tree, StoreError>,
    ) -> Result<Tree, StoreError> {
        if let Some(tree) = self.locked().get(name).and_then(|seen| seen.tree.clone()) {
            return Ok(tree);
        }
        let tree = ask()?;
        if let Some(seen) = self.locked().get_mut(name) {
            seen.tree = Some(tree.clone());
        }
        Ok(tree)
    }

    /// The snapshots of a whole tree: as they were seen, or as `ask` finds them.
    pub(super) fn rows(
        &self,
        name: &EnvironmentName,
        ask: impl FnOnce() -> Result<Vec<SnapshotRow>, StoreError>,
    ) -> Result<Vec<SnapshotRow>, StoreError> {
        if let Some(rows) = self.seen_rows(name) {
            return Ok(rows);
        }
        let rows = ask()?;
        if let Some(seen) = self.locked().get_mut(name) {
            seen.rows = Some(rows.clone());
        }
        Ok(rows)
    }

    /// The snapshots of a whole tree, if they were seen.
    pub(super) fn seen_rows(&self, name: &EnvironmentName) -> Option<Vec<SnapshotRow>> {
        self.locked().get(name).and_then(|seen| seen.rows.clone())
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<EnvironmentName, Seen>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    /// How often is asked, if each of `times` asks for the snapshots.
    fn asked(memory: &Memory, name: &EnvironmentName, times: u32) -> u32 {
        let mut asked = 0;
        for _ in 0..times {
            let ask = || {
                asked += 1;
                Ok(Vec::new())
            };
            memory.rows(name, ask).unwrap();
        }
        asked
    }

    #[test]
    fn what_is_locked_is_asked_for_once_until_it_is_changed_or_unlocked() {
        let (memory, head) = (Memory::default(), "head".parse().unwrap());
        assert_eq!(asked(&memory, &head, 3), 3);
        memory.begin(&head);
        assert_eq!(asked(&memory, &head, 3), 1);
        assert_eq!(asked(&memory, &"other".parse().unwrap(), 2), 2);
        memory.forget(&head);
        assert_eq!(asked(&memory, &head, 2), 1);
        memory.forget_all();
        assert_eq!(asked(&memory, &head, 2), 1);
        memory.end(&head);
        assert_eq!(asked(&memory, &head, 2), 2);
    }

    #[test]
    fn of_two_verbs_that_read_the_last_forgets() {
        let (memory, head) = (Memory::default(), "head".parse().unwrap());
        memory.begin(&head);
        memory.begin(&head);
        assert_eq!(asked(&memory, &head, 1), 1);
        memory.end(&head);
        assert_eq!(asked(&memory, &head, 1), 0);
        memory.end(&head);
        assert_eq!(asked(&memory, &head, 1), 1);
    }
}

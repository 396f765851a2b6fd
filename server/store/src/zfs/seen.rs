//! What a verb has seen of an environment since it locked that.
//!
//! A verb asks about an environment several times: whether it is there, which snapshots it has, what
//! its tree is. While the environment is locked the answer stays the same, but for what other programs
//! do, which could come between the question and the verb in any case.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::listing::SnapshotRow;
use super::tree::Tree;
use crate::StoreError;

/// What was seen of one environment. Whatever is about to change that forgets it first.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<What>);

#[derive(Debug, Default)]
struct What {
    tree: Option<Tree>,
    rows: Option<Vec<SnapshotRow>>,
}

impl Seen {
    /// The environment is about to be changed.
    pub(super) fn forget(&self) {
        *self.what() = What::default();
    }

    /// The tree of the environment: as it was seen, or as `ask` finds it.
    pub(super) fn tree(
        &self,
        ask: impl FnOnce() -> Result<Tree, StoreError>,
    ) -> Result<Tree, StoreError> {
        if let Some(tree) = self.what().tree.clone() {
            return Ok(tree);
        }
        let tree = ask()?;
        self.what().tree = Some(tree.clone());
        Ok(tree)
    }

    /// The snapshots of the whole tree: as they were seen, or as `ask` finds them.
    pub(super) fn rows(
        &self,
        ask: impl FnOnce() -> Result<Vec<SnapshotRow>, StoreError>,
    ) -> Result<Vec<SnapshotRow>, StoreError> {
        if let Some(rows) = self.seen_rows() {
            return Ok(rows);
        }
        let rows = ask()?;
        self.what().rows = Some(rows.clone());
        Ok(rows)
    }

    /// The snapshots of the whole tree, if they were seen.
    pub(super) fn seen_rows(&self) -> Option<Vec<SnapshotRow>> {
        self.what().rows.clone()
    }

    fn what(&self) -> MutexGuard<'_, What> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_is_locked_is_asked_for_once_until_it_is_changed() {
        let (seen, mut asked) = (Seen::default(), 0);
        let mut ask = |times: u32| {
            for _ in 0..times {
                seen.rows(|| {
                    asked += 1;
                    Ok(Vec::new())
                })
                .unwrap();
            }
            asked
        };
        assert_eq!(ask(3), 1);
        seen.forget();
        assert_eq!(ask(3), 2);
    }
}

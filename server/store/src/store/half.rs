//! Environments that are being filled, and what a kill leaves of that.
//!
//! Whoever fills one writes down its role under [`INSTALLING`] and makes the snapshot
//! [`SnapshotName::of_empty_tree`]; when the work is done the snapshot goes first. So the two together
//! mean half a system, which the verbs that would spread it refuse. All else may be done with it,
//! destroying it above all.

use super::Store;
use crate::{Environment, SnapshotName, StoreError};

impl Store {
    /// Whether there is half a system in an environment: one that is being filled, or was until a kill.
    pub fn is_half(&self, environment: &Environment) -> Result<bool, StoreError> {
        if environment.settings.value(INSTALLING).is_none() {
            return Ok(false);
        }
        let empty = SnapshotName::of_empty_tree();
        let snapshots = self.back_end.snapshots(&environment.name)?;
        Ok(snapshots.iter().any(|snapshot| snapshot.name == empty))
    }

    pub(super) fn refuse_half(&self, environment: &Environment) -> Result<(), StoreError> {
        if self.is_half(environment)? {
            return Err(StoreError::Half(environment.name.clone()));
        }
        Ok(())
    }
}

/// The setting that keeps the role of an environment that is being filled.
pub const INSTALLING: &str = "installing";

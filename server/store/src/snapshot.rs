//! Snapshots, and what takes space.

use uuid::Uuid;

use crate::{Environment, EnvironmentName, SnapshotName, StoreError, Timestamp};

/// A boot environment's whole tree as it was at one time: nobody writes to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// Its name, unique in its environment.
    pub name: SnapshotName,
    /// Its identity, which is the same in every store that it was sent to.
    pub uuid: Uuid,
    /// When it was made.
    pub created: Timestamp,
    /// Whether the store made it by itself, because a clone needs one; it goes with its last clone.
    pub automatic: bool,
    /// The boot environments that cannot be without it. Where clones stand alone there are none.
    pub clones: Vec<EnvironmentName>,
    /// Whether there are more than the store is told of: ZFS ends the list somewhere.
    pub more_clones: bool,
}

/// How much space something takes, in bytes; `None` where the store cannot know.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Space {
    /// It with its snapshots.
    pub used: Option<u64>,
    /// What one sees in it, shared with others or not.
    pub referenced: Option<u64>,
    /// What would be free if it alone were destroyed.
    pub exclusive: Option<u64>,
}

/// A boot environment with its snapshots and what all that takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    /// The environment.
    pub environment: Environment,
    /// What it takes.
    pub space: Space,
    /// Its snapshots and what each takes, oldest first.
    pub snapshots: Vec<(Snapshot, Space)>,
}

/// All that is in a store.
#[derive(Debug, Default)]
pub struct Survey {
    /// The boot environments, sorted by name.
    pub holdings: Vec<Holding>,
    /// Why others cannot be shown.
    pub unreadable: Vec<StoreError>,
}

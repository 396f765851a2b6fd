//! Boot environments: what can be created, cloned, snapshotted, rolled back, sent, shared and
//! destroyed.
//!
//! A store knows files and what was decided about them, and no protocol: the server wraps what
//! [`Store::open_root`] gives. Everything that a store is asked to do is done whole or not at all,
//! even if the process is killed on the way.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use store::{Layout, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::establish(&"dir:/srv/netbe".parse()?, Path::new("/var/lib/netbe"))?;
//! store.create(&"head".parse()?, Layout::FreeBsd)?;
//! store.snapshot(&"head".parse()?, &"monday".parse()?)?;
//! store.clone_environment(&"head@monday".parse()?, &"desk".parse()?)?;
//! # Ok(())
//! # }
//! ```

mod back_end;
mod bind;
mod change;
mod directory;
mod draft;
mod environment;
mod error;
mod export;
mod fault;
#[cfg(feature = "faults")]
mod faults;
mod history;
mod journal;
mod layout;
mod location;
mod lock;
mod locked;
mod name;
mod network;
pub mod progress;
mod property;
mod query;
mod settings;
mod snapshot;
mod store;
mod stream;
mod subvolume;
mod sync;
mod sys;
pub mod thin;
mod timestamp;
mod tree;
mod workspace;
mod zfs;

pub use back_end::{Capabilities, Part};
pub use change::{Change, ChangeKind, FileKind};
pub use environment::{Environment, MetadataError, Origin};
pub use error::{Obstacle, StoreError};
pub use export::{ExportSettings, Identity, IdentityError};
#[cfg(feature = "faults")]
pub use faults::{Fault, Faults, Hang, Hung};
pub use history::{History, Outcome, Record, RunningVerb};
pub use journal::{Concerned, Holders, Intent, Journal, Keeper, Open, Pending, Tries};
pub use layout::{Dataset, Layout, LayoutError};
pub use location::{Location, LocationError};
pub use lock::Hold;
pub use name::{EnvironmentName, NameError, Point, SnapshotName};
pub use network::{Network, NetworkError};
pub use property::{
    DESCRIPTIONS, KEPT_KEYS, Native, NativeChange, NativeValue, Property, PropertyError,
};
pub use settings::{Decision, Role, RoleError, SettingError, Settings};
pub use snapshot::{Holding, Snapshot, Space, Survey};
pub use store::{
    Doomed, Draft, Footprint, InUse, Lacking, Listing, Newer, Pair, Store, Unreadable, Update,
};
pub use stream::StreamError;
pub use sync::SyncMode;
pub use timestamp::{Timestamp, TimestampError};
#[cfg(all(feature = "libzfs", feature = "faults"))]
pub use zfs::{ask_programs_only, library_answers};

//! Boot environments: what can be created, cloned, listed, shared and destroyed.
//!
//! A store knows files and what was decided about them, and no protocol: the server wraps what
//! [`Store::open_root`] gives. Everything that a store is asked to do is done whole or not at all,
//! even if the process is killed on the way.
//!
//! ```no_run
//! use store::{Layout, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::establish(&"dir:/srv/netbe".parse()?)?;
//! store.create(&"head".parse()?, Layout::FreeBsd)?;
//! store.clone_environment(&"head".parse()?, &"desk".parse()?)?;
//! # Ok(())
//! # }
//! ```

mod directory;
mod environment;
mod error;
mod export;
mod layout;
mod location;
mod name;
mod network;
mod sys;
mod timestamp;
mod tree;
mod workspace;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use environment::{Environment, MetadataError, Origin};
pub use error::{Obstacle, StoreError};
pub use export::{ExportSettings, Identity, IdentityError};
pub use layout::{Dataset, Layout, LayoutError};
pub use location::{Location, LocationError};
pub use name::{EnvironmentName, NameError};
pub use network::{Network, NetworkError};
pub use timestamp::{Timestamp, TimestampError};

use directory::Directory;

/// An open store of boot environments.
///
/// Several processes may have it open at once: what one of them does appears to the others from one
/// instant to the next.
#[derive(Debug)]
pub struct Store {
    back_end: BackEnd,
}

/// What stores are made of. Another kind is another variant, and does not compile until every
/// method below has an answer for it.
#[derive(Debug)]
enum BackEnd {
    Directory(Directory),
}

impl Store {
    /// Opens a store that exists.
    ///
    /// Refuses one whose directory other users may enter: they could run the setuid programs of
    /// guests.
    pub fn open(location: &Location) -> Result<Self, StoreError> {
        let back_end = match location {
            Location::Directory(path) => BackEnd::Directory(Directory::open(path)?),
        };
        Ok(Self { back_end })
    }

    /// Opens a store, and makes one first where there is nothing or an empty directory.
    pub fn establish(location: &Location) -> Result<Self, StoreError> {
        let back_end = match location {
            Location::Directory(path) => BackEnd::Directory(Directory::establish(path)?),
        };
        Ok(Self { back_end })
    }

    /// All boot environments, sorted by name.
    pub fn list(&self) -> Result<Listing, StoreError> {
        match &self.back_end {
            BackEnd::Directory(directory) => directory.list(),
        }
    }

    /// One boot environment.
    pub fn get(&self, name: &EnvironmentName) -> Result<Environment, StoreError> {
        match &self.back_end {
            BackEnd::Directory(directory) => directory.get(name),
        }
    }

    /// Creates a boot environment with nothing in it but the directories of its layout.
    pub fn create(
        &self,
        name: &EnvironmentName,
        layout: Layout,
    ) -> Result<Environment, StoreError> {
        match &self.back_end {
            BackEnd::Directory(directory) => directory.create(name, layout),
        }
    }

    /// Copies a boot environment with all that a system can have in its files: owners, modes, times,
    /// extended attributes, hard links, device nodes and holes. Blocks are shared where the file
    /// system can.
    ///
    /// The clone has a UUID of its own and is not shared. A source that is being written to is
    /// copied as it is found, file by file.
    pub fn clone_environment(
        &self,
        source: &EnvironmentName,
        name: &EnvironmentName,
    ) -> Result<Environment, StoreError> {
        match &self.back_end {
            BackEnd::Directory(directory) => directory.clone_environment(source, name),
        }
    }

    /// Destroys a boot environment. It is gone at once; an error after that concerns only the space
    /// that its files take, which the next command frees.
    ///
    /// Immutable files and mounted file systems in it are refused before anything is touched.
    pub fn destroy(&self, name: &EnvironmentName) -> Result<(), StoreError> {
        match &self.back_end {
            BackEnd::Directory(directory) => directory.destroy(name),
        }
    }

    /// Decides anew how a boot environment is shared.
    pub fn set_export(
        &self,
        name: &EnvironmentName,
        export: ExportSettings,
    ) -> Result<Environment, StoreError> {
        match &self.back_end {
            BackEnd::Directory(directory) => directory.set_export(name, export),
        }
    }

    /// Where a boot environment's root is on this host: for messages and for programs such as
    /// bhyveload(8) that take a path. What is below it belongs to a guest.
    #[must_use]
    pub fn root(&self, name: &EnvironmentName) -> PathBuf {
        match &self.back_end {
            BackEnd::Directory(directory) => directory.root(name),
        }
    }

    /// Opens the root directory of a boot environment, to be read and searched.
    pub fn open_root(&self, name: &EnvironmentName) -> Result<OwnedFd, StoreError> {
        match &self.back_end {
            BackEnd::Directory(directory) => directory.open_root(name),
        }
    }
}

/// What is in a store.
#[derive(Debug, Default)]
pub struct Listing {
    /// The boot environments, sorted by name.
    pub environments: Vec<Environment>,
    /// Why others cannot be shown: one broken metadata file must not hide all the rest.
    pub unreadable: Vec<StoreError>,
}

//! Where everything is that commands work on.

use std::path::PathBuf;

use clap::Args;
use store::{Location, Store};

use super::Failure;

/// Options that every verb takes.
#[derive(Args, Debug)]
pub(crate) struct Site {
    /// Where the boot environments are, as in dir:/srv/netbe [default: dir:STATE/store].
    #[arg(long, global = true, value_name = "STORE", env = "NETBE_STORE")]
    store: Option<Location>,
    /// The state directory: site key, machines, leases.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "NETBE_STATE",
        default_value = DEFAULT_STATE
    )]
    pub(crate) state: PathBuf,
}

impl Site {
    /// The place of the store.
    pub(crate) fn location(&self) -> Location {
        self.store.clone().unwrap_or_else(|| Location::Directory(self.state.join("store")))
    }

    /// Opens the store, which has to be there.
    pub(crate) fn open(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.location())?)
    }

    /// Opens the store, and makes it if there is none.
    pub(crate) fn establish(&self) -> Result<Store, Failure> {
        Ok(Store::establish(&self.location())?)
    }
}

/// Where what a program keeps belongs (hier(7)).
#[cfg(target_os = "freebsd")]
const DEFAULT_STATE: &str = "/var/db/netbe";
/// Where what a program keeps belongs (Filesystem Hierarchy Standard §5.8).
#[cfg(not(target_os = "freebsd"))]
const DEFAULT_STATE: &str = "/var/lib/netbe";

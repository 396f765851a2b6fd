//! The loader that was chosen for a boot, and where its bytes are.

use std::path::PathBuf;

pub use provision::loader::{
    FREEBSD, HostLoaders, Part, SEARCH_PATH, all_names, chosen_parts, freebsd_path, ipxe_names,
    is_ipxe,
};
use serde::{Deserialize, Serialize};

/// A program that firmware loads from the network.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Loader {
    /// The name by which firmware asks for it.
    pub name: String,
    /// Where its bytes are.
    pub place: LoaderLocation,
}

/// Where a loader's bytes are.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoaderLocation {
    /// In the boot environment, by its path there.
    Environment(String),
    /// On the host, in the loader search path.
    Host(PathBuf),
}

//! Which loader an administrator chose for a machine, and how FreeBSD's own fetches its files.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How FreeBSD's loader fetches its kernel and all other files.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LoaderProtocol {
    /// By NFS, or by TFTP where the boot environment's loader was built without NFS.
    #[default]
    Auto,
    /// By NFS.
    Nfs,
    /// By TFTP: its root path is `tftp://SERVER/be/NAME`.
    Tftp,
    /// By HTTP: UEFI's HTTP boot loads `loader.efi`, which goes on from the same URL.
    Http,
}

impl LoaderProtocol {
    /// Whether it is the default.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

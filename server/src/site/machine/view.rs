//! Who joins a boot environment's data sets to one tree.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Who makes one tree of the data sets that a machine's boot environment has.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// The server: the machine mounts its root, and everything is in it.
    #[default]
    Joined,
    /// The machine: it mounts its root and then every data set by itself, as netbe's initial RAM
    /// disk does, or an fstab in the environment.
    Split,
}

impl View {
    /// Whether it is the default.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        *self == Self::Joined
    }
}

impl From<View> for bootcfg::View {
    fn from(view: View) -> Self {
        match view {
            View::Joined => Self::Joined,
            View::Split => Self::Split,
        }
    }
}

//! Where a machine's root comes from.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a machine has for its root.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RootKind {
    /// The boot environment itself.
    #[default]
    Direct,
    /// A clone of it that is new at every boot.
    Fresh,
    /// A clone of it that the machine keeps.
    Own,
    /// The boot environment itself, read-only, which any number of machines may share.
    Shared,
}

impl RootKind {
    /// Whether it is the default.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        *self == Self::Direct
    }

    /// Whether the machine gets a clone, and what it is assigned is only the template for it.
    #[must_use]
    pub const fn is_clone(self) -> bool {
        match self {
            Self::Direct | Self::Shared => false,
            Self::Fresh | Self::Own => true,
        }
    }
}

impl fmt::Display for RootKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Fresh => "fresh",
            Self::Own => "own",
            Self::Shared => "shared",
        })
    }
}

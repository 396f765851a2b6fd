//! Verbs that show a boot environment's tree elsewhere on this host.

use std::path::{Path, PathBuf};

use clap::Args;
use store::{EnvironmentName, Point};

use super::{Failure, Reply, Site};

/// Show a boot environment's tree, or a snapshot's, at an empty directory of this host.
///
/// Devices and setuid programs in it do not work there, and a snapshot is read-only.
#[derive(Args, Debug)]
pub(crate) struct Mount {
    /// The boot environment or snapshot.
    #[arg(value_name = "BE[@SNAP]")]
    point: Point,
    /// The directory.
    directory: PathBuf,
}

impl Mount {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        site.open()?.mount(&self.point, &whole(&self.directory)?)?;
        Ok(Reply::done())
    }
}

/// Undo what `netbe mount` did.
#[derive(Args, Debug)]
pub(crate) struct Unmount {
    /// The boot environment, with its snapshots.
    name: EnvironmentName,
    /// Only there.
    directory: Option<PathBuf>,
}

impl Unmount {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let at = self.directory.as_deref().map(whole).transpose()?;
        site.open()?.unmount(&self.name, at.as_deref())?;
        Ok(Reply::done())
    }
}

/// The path by which the system knows a directory.
fn whole(directory: &Path) -> Result<PathBuf, Failure> {
    directory.canonicalize().map_err(|error| {
        Failure::could_not(format_args!("cannot open {}: {error}", directory.display()))
    })
}

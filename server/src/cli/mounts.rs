//! The units by which a Linux host mounts a boot environment over NFS.

use std::path::PathBuf;

use bootcfg::fstab::{self, Dialect};
use bootcfg::mounts::{self, When};
use clap::Args;

use super::files::Destination;
use super::guest::{GuestOptions, text};
use super::{Failure, Reply, Site};

/// The units of systemd by which a Linux host mounts a boot environment over NFS (systemd.mount(5)).
///
/// `--into /` writes them on this host; then run `systemctl daemon-reload`. Share the environment with the
/// host first: `netbe sharenfs`.
#[derive(Args, Debug)]
pub(crate) struct ShowMount {
    #[command(flatten)]
    guest: GuestOptions,
    /// The directory of that host where it is mounted.
    #[arg(long, value_name = "DIR")]
    at: PathBuf,
    /// Mount it at the first access to the directory.
    #[arg(long)]
    automount: bool,
    #[command(flatten)]
    destination: Destination,
}

impl ShowMount {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let subject = self.guest.subject(site)?;
        let when = if self.automount { When::Use } else { When::Boot };
        let entries = fstab::whole(&subject.guest.root, Dialect::Linux);
        let files = mounts::units(&entries, text(&self.at)?, when).map_err(Failure::could_not)?;
        self.destination.reply(&files)
    }
}

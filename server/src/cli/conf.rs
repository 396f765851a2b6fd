//! The verb that shows the files below /conf, or writes them into a root.

use bootcfg::conf;
use clap::Args;

use super::files::Destination;
use super::guest::GuestOptions;
use super::{Failure, Reply, Site};

/// The files below /conf by which several machines share one FreeBSD root.
#[derive(Args, Debug)]
pub(crate) struct ShowConf {
    #[command(flatten)]
    guest: GuestOptions,
    #[command(flatten)]
    destination: Destination,
}

impl ShowConf {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let subject = self.guest.freebsd(site)?;
        let files = conf::tree(&subject.guest, &subject.address()?).map_err(Failure::could_not)?;
        self.destination.reply(&files)
    }
}

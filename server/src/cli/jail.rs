//! What jail(8) needs to know of a jail whose root is a boot environment.

use std::net::IpAddr;
use std::path::PathBuf;

use bootcfg::jail::{self, Jail};
use clap::Args;
use hostfs::Inside;
use provision::contents::Scanner;
use store::thin::ThinError;
use store::{EnvironmentName, Store, StoreError};

use super::guest::text;
use super::{Failure, Reply, Site, thin};
use crate::boot::catalog::System;

/// The jail.conf(5) of a FreeBSD jail whose root is a boot environment, for /etc/jail.conf.d/NAME.conf.
///
/// Without an address the jail has no network.
#[derive(Args, Debug)]
pub(crate) struct ShowJail {
    /// The directory where a thin jail's base and skeleton are mounted, by DIR.fstab: `netbe thin
    /// --fstab DIR NAME >DIR.fstab` writes that file.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// An IP address for the jail; may be repeated.
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// The interface of this host that gets the addresses while the jail runs [default: none, they
    /// exist already].
    #[arg(long, value_name = "INTERFACE", requires = "addresses")]
    interface: Option<String>,
    /// The boot environment; its name is the jail's.
    name: EnvironmentName,
}

impl ShowJail {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        store.get(&self.name)?;
        let (path, fstab) = match &self.root {
            Some(root) => {
                thin::of_jail(&store, &self.name, root)?;
                let root = text(root)?.trim_end_matches('/');
                (root.to_owned(), Some(format!("{root}.fstab")))
            }
            None => (self.whole(&store)?, None),
        };
        let name = self.name.to_string();
        let (addresses, interface) = (self.addresses.clone(), self.interface.clone());
        let definition = jail::define(&Jail { name, path, fstab, addresses, interface });
        jail::render(&[definition]).map(Reply::text).map_err(Failure::could_not)
    }

    /// The root of a jail that has a whole system for itself.
    fn whole(&self, store: &Store) -> Result<String, Failure> {
        let name = &self.name;
        let half = match store.pair(name) {
            Ok(pair) => {
                let skeletons = pair.skeletons.iter();
                skeletons.chain([&pair.base]).any(|half| half.name == *name)
            }
            Err(StoreError::Thin(error)) if matches!(*error, ThinError::NoPart(_)) => false,
            Err(error) => return Err(error.into()),
        };
        if half {
            return Err(Failure::no(format_args!(
                "{name} is half of a system: say --root with the directory where base and skeleton come \
                 together"
            )));
        }
        let inside = Inside::from_fd(store.open_root(name)?);
        if let Some(System::Linux { .. }) =
            Scanner::default().scan(&inside).map_err(Failure::could_not)?.system
        {
            return Err(Failure::no(format_args!(
                "{name} has Linux in it: a jail has this host's kernel, which is FreeBSD's"
            )));
        }
        text(&store.root(name)).map(str::to_owned)
    }
}

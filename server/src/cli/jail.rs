//! What jail(8) needs to know of a jail whose root is a boot environment.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use bootcfg::Mac;
use bootcfg::jail::{self, Jail, Network, Vnet};
use clap::Args;
use hostfs::Inside;
use provision::contents::Scanner;
use store::thin::ThinError;
use store::{EnvironmentName, Store, StoreError};
use uuid::Uuid;

use super::guest::{mac_of, text};
use super::{Failure, Reply, Site, thin};
use crate::boot::catalog::System;

/// The jail.conf(5) of a FreeBSD jail whose root is a boot environment, for /etc/jail.conf.d/NAME.conf.
///
/// Without an address or a bridge the jail has no network.
#[derive(Args, Debug)]
pub(crate) struct ShowJail {
    /// The directory where a thin jail's base and skeleton are mounted, by DIR.fstab: `netbe thin
    /// --fstab DIR NAME >DIR.fstab` writes that file.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// An IP address for the jail; may be repeated. With --bridge write its network's prefix too, as in 10.0.0.5/24;
    /// without, it is an address of this host.
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<Addressed>,
    /// The interface of this host that gets the addresses while the jail runs [default: none, they
    /// exist already].
    #[arg(long, value_name = "INTERFACE", requires = "addresses")]
    interface: Option<String>,
    /// Give the jail a network stack of its own (VNET), joined to this bridge of the host by an epair(4).
    #[arg(long, value_name = "BRIDGE", conflicts_with = "interface")]
    bridge: Option<String>,
    /// The Ethernet address of the jail's interface [default: one made from the boot environment].
    #[arg(long, value_name = "MAC", requires = "bridge")]
    mac: Option<crate::net::Mac>,
    /// A router of the jail: one for IPv4 and one for IPv6 at most.
    #[arg(long = "gateway", value_name = "ADDRESS", requires = "bridge")]
    gateways: Vec<IpAddr>,
    /// The boot environment; its name is the jail's.
    name: EnvironmentName,
}

impl ShowJail {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let uuid = store.get(&self.name)?.uuid;
        let (path, fstab) = match &self.root {
            Some(root) => {
                thin::of_jail(&store, &self.name, root)?;
                let root = text(root)?.trim_end_matches('/');
                (root.to_owned(), Some(format!("{root}.fstab")))
            }
            None => (self.whole(&store)?, None),
        };
        let name = self.name.to_string();
        let network = self.network(uuid)?;
        let definition = jail::define(&Jail { name, path, fstab, network });
        definition
            .and_then(|definition| jail::render(&[definition]))
            .map(Reply::text)
            .map_err(Failure::could_not)
    }

    fn network(&self, uuid: Uuid) -> Result<Network, Failure> {
        let Some(bridge) = &self.bridge else {
            if let Some(Addressed { address, prefix: Some(prefix) }) =
                self.addresses.iter().find(|one| one.prefix.is_some())
            {
                return Err(Failure::could_not(format_args!(
                    "without --bridge an address of this host is meant, which has its prefix already: write \
                     {address} instead of {address}/{prefix}"
                )));
            }
            let addresses: Vec<IpAddr> = self.addresses.iter().map(|one| one.address).collect();
            let interface = self.interface.clone();
            return Ok(if addresses.is_empty() {
                Network::None
            } else {
                Network::Shared { addresses, interface }
            });
        };
        let whole = |one: &Addressed| {
            one.prefix.map(|prefix| (one.address, prefix)).ok_or_else(|| {
                Failure::could_not(format_args!(
                    "with --bridge the length of the network's prefix belongs to an address, as in {}/24",
                    one.address
                ))
            })
        };
        let addresses = self.addresses.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
        for v4 in [true, false] {
            if self.gateways.iter().filter(|router| router.is_ipv4() == v4).count() > 1 {
                return Err(Failure::could_not(
                    "a jail has one router for each family: say one --gateway",
                ));
            }
        }
        let (bridge, gateways) = (bridge.clone(), self.gateways.clone());
        let mac = self.mac.map_or_else(|| mac_of(uuid), |mac| Mac(mac.0));
        Ok(Network::Own(Vnet { bridge, mac, addresses, gateways }))
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

/// An address, and perhaps the length of its network's prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Addressed {
    address: IpAddr,
    prefix: Option<u8>,
}

impl FromStr for Addressed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let wrong =
            || format!("{text:?} is no address: write 10.0.0.5, or 10.0.0.5/24 with --bridge");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map(|prefix| {
            prefix.parse().ok().filter(|prefix| *prefix <= longest).ok_or_else(wrong)
        });
        Ok(Self { address, prefix: prefix.transpose()? })
    }
}

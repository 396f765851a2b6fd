//! What jail(8) needs to know of a jail whose root is a boot environment.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bootcfg::conf::File;
use bootcfg::fstab::{self, Entry};
use bootcfg::jail::{self, Jail, Network, Vnet};
use bootcfg::{Mac, cbsd};
use clap::Args;
use hostfs::Inside;
use provision::contents::Scanner;
use store::thin::ThinError;
use store::{Environment, EnvironmentName, Location, Store, StoreError};
use uuid::Uuid;

use super::files::Destination;
use super::guest::{mac_of, text};
use super::{Failure, Reply, Site, thin};
use crate::boot::catalog::System;

/// The jail.conf(5) of a FreeBSD jail whose root is a boot environment, for /etc/jail.conf.d/NAME.conf.
///
/// Without an address or a bridge the jail has no network. `--into /` writes the file on this host, and with --root
/// the jail's fstab(5) and the directory.
#[derive(Args, Debug)]
pub(crate) struct ShowJail {
    /// The directory where the jail's root is put together, by DIR.fstab: from a thin jail's base and skeleton, or
    /// from the data sets of a ZFS store. --fstab prints that file.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print the fstab(5) that goes with --root, and not the jail.conf(5).
    #[arg(long, requires = "root", conflicts_with_all = ["into", "cbsd"])]
    fstab: bool,
    /// Print the jconf of CBSD, for `cbsd jcreate jconf=FILE`, and not the jail.conf(5).
    #[arg(long, conflicts_with_all = ["root", "into"])]
    cbsd: bool,
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
    /// The network in which --octet names the jail's address, as 192.168.7.0/24.
    #[arg(long, value_name = "ADDRESS/PREFIX", requires_all = ["bridge", "octet"])]
    network: Option<Addressed>,
    /// The number of the jail in --network: 111 is 192.168.7.111 in 192.168.7.0/24.
    #[arg(long, value_name = "NUMBER", requires = "network", conflicts_with = "addresses")]
    octet: Option<u32>,
    /// A router of the jail: one for IPv4 and one for IPv6 at most.
    #[arg(long = "gateway", value_name = "ADDRESS", requires = "bridge")]
    gateways: Vec<IpAddr>,
    #[command(flatten)]
    destination: Destination,
    /// The boot environment; its name is the jail's.
    name: EnvironmentName,
}

impl ShowJail {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let environment = store.get(&self.name)?;
        let (path, mounts) = match &self.root {
            Some(root) => {
                let mounts = self.mounts(site, &store, &environment, root)?;
                (text(root)?.trim_end_matches('/').to_owned(), Some(mounts))
            }
            None => (self.whole(&store)?, None),
        };
        let mounts = mounts.map(|entries| fstab::render(&entries)).transpose();
        let mounts = mounts.map_err(Failure::could_not)?;
        if let Some(mounts) = mounts.as_ref().filter(|_| self.fstab) {
            return Ok(Reply::text(mounts.clone()));
        }
        let network = self.network(environment.uuid)?;
        if self.cbsd {
            return self.cbsd(path, network);
        }
        let name = self.name.to_string();
        let fstab = mounts.is_some().then(|| format!("{path}.fstab"));
        let jail = Jail { name, path, fstab: fstab.clone(), network };
        let definition = jail::define(&jail).and_then(|definition| jail::render(&[definition]));
        let definition = definition.map_err(Failure::could_not)?;
        if !self.destination.writes() {
            return Ok(Reply::text(definition));
        }
        let relative = |path: &str| path.trim_start_matches('/').to_owned();
        let file = format!("etc/jail.conf.d/{}.conf", self.name);
        let mut files = vec![File { path: file, text: definition }];
        if let (Some(fstab), Some(text)) = (fstab, mounts) {
            files.push(File { path: relative(&fstab), text });
        }
        let reply = self.destination.reply(&files)?;
        if self.root.is_some() {
            self.destination.make_directory(&jail.path)?;
        }
        Ok(reply)
    }

    /// What is mounted on a directory to make the jail's root of it.
    fn mounts(
        &self,
        site: &Site,
        store: &Store,
        environment: &Environment,
        root: &Path,
    ) -> Result<Vec<Entry>, Failure> {
        if let (false, Location::Zfs(dataset)) = (self.is_half(store)?, site.location()) {
            if !root.is_absolute() {
                return Err(Failure::could_not(format_args!(
                    "{root:?} is not absolute: write the whole path of the jail's root on the host"
                )));
            }
            self.refuse_linux(store)?;
            let mounted = environment.datasets.iter().filter(|set| set.mounted());
            let below: Vec<String> = mounted.map(|set| set.path().to_owned()).collect();
            return Ok(fstab::zfs(&format!("{dataset}/{}", self.name), &below, text(root)?));
        }
        let base = thin::of_jail(store, &self.name, root)?;
        let (base, own) = (store.root(&base), store.root(&self.name));
        Ok(fstab::thin(text(&base)?, text(&own)?, text(root)?))
    }

    fn cbsd(&self, path: String, network: Network) -> Result<Reply, Failure> {
        if !self.gateways.is_empty() {
            return Err(Failure::could_not(
                "CBSD's jconf has no router: leave out --gateway, and set defaultrouter in the jail's rc.conf",
            ));
        }
        let one = |count: usize| match count {
            0 | 1 => Ok(()),
            _ => Err(Failure::could_not(
                "CBSD's jconf has one address for a jail: say one --address",
            )),
        };
        let (address, interface, vnet) = match network {
            Network::None => {
                return Err(Failure::could_not(
                    "CBSD gives every jail an address: give --address and --interface, or --bridge",
                ));
            }
            Network::Shared { addresses, interface } => {
                one(addresses.len())?;
                let host = |address: &IpAddr| if address.is_ipv4() { 32 } else { 128 };
                (addresses.first().map(|address| (*address, host(address))), interface, None)
            }
            Network::Own(Vnet { bridge, mac, addresses, gateways: _ }) => {
                one(addresses.len())?;
                (addresses.first().copied(), Some(bridge), Some(mac))
            }
        };
        let jail = cbsd::Jail { name: self.name.to_string(), path, address, interface, vnet };
        cbsd::jail(&jail)
            .and_then(|settings| cbsd::render(&settings))
            .map(Reply::text)
            .map_err(Failure::could_not)
    }

    fn network(&self, uuid: Uuid) -> Result<Network, Failure> {
        let addresses = self.addresses()?;
        let Some(bridge) = &self.bridge else {
            if let Some(Addressed { address, prefix: Some(prefix) }) =
                addresses.iter().find(|one| one.prefix.is_some())
            {
                return Err(Failure::could_not(format_args!(
                    "without --bridge an address of this host is meant, which has its prefix already: write \
                     {address} instead of {address}/{prefix}"
                )));
            }
            let addresses: Vec<IpAddr> = addresses.iter().map(|one| one.address).collect();
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
        let addresses = addresses.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
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
        if self.is_half(store)? {
            return Err(Failure::no(format_args!(
                "{name} is half of a system: say --root with the directory where base and skeleton come \
                 together"
            )));
        }
        self.refuse_linux(store)?;
        text(&store.root(name)).map(str::to_owned)
    }

    /// Whether it is the base of thin jails, or the part of one.
    fn is_half(&self, store: &Store) -> Result<bool, Failure> {
        match store.pair(&self.name) {
            Ok(pair) => {
                let skeletons = pair.skeletons.iter();
                Ok(skeletons.chain([&pair.base]).any(|half| half.name == self.name))
            }
            Err(StoreError::Thin(error)) if matches!(*error, ThinError::NoPart(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn refuse_linux(&self, store: &Store) -> Result<(), Failure> {
        let inside = Inside::from_fd(store.open_root(&self.name)?);
        match Scanner::default().scan(&inside).map_err(Failure::could_not)?.system {
            Some(System::Linux { .. }) => Err(Failure::no(format_args!(
                "{} contains Linux: a jail runs with this host's kernel, which is FreeBSD's",
                self.name
            ))),
            Some(System::FreeBsd) | None => Ok(()),
        }
    }

    /// The addresses that were said, one by its number in a network.
    fn addresses(&self) -> Result<Vec<Addressed>, Failure> {
        let (Some(network), Some(number)) = (self.network, self.octet) else {
            return Ok(self.addresses.clone());
        };
        let Addressed { address: IpAddr::V4(base), prefix: Some(prefix @ 1..=30) } = network else {
            return Err(Failure::could_not(
                "--octet goes with an IPv4 network: say --network as 192.168.7.0/24",
            ));
        };
        let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        // The first address is the network's own, the last that of all.
        if number == 0 || number >= hosts {
            return Err(Failure::could_not(format_args!(
                "{number} is no number in {base}/{prefix}: say --octet from 1 to {}",
                hosts.saturating_sub(1)
            )));
        }
        let address = std::net::Ipv4Addr::from((base.to_bits() & !hosts) | number);
        Ok(vec![Addressed { address: address.into(), prefix: Some(prefix) }])
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

//! Network interfaces of this host, as the kernel tells them.
//!
//! The facts are read anew at every call: addresses come and go while a server runs. Only what
//! netbe serves is kept, IPv4 and Ethernet.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};

use crate::net::Mac;
use crate::net::sys::mtu;

/// One network interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Its name, such as `eth0` or `bge0`.
    pub name: String,
    /// The number that the kernel knows it by.
    pub index: u32,
    /// Its Ethernet address; `None` on interfaces that have none, such as tunnels.
    pub mac: Option<Mac>,
    /// Our IPv4 addresses on it and the networks that they are in, in the kernel's order.
    pub networks: Vec<Network>,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether it can broadcast; DHCP needs that.
    pub broadcast: bool,
    /// Whether it leads only to this host.
    pub loopback: bool,
    /// The largest packet that it sends in one frame, if the kernel tells.
    pub mtu: Option<u32>,
}

impl Interface {
    /// All interfaces, by ascending index.
    ///
    /// # Errors
    ///
    /// Fails only when the kernel refuses to list them.
    pub fn all() -> io::Result<Vec<Self>> {
        Self::listed(|_| true)
    }

    /// The interface of this name, if there is one.
    ///
    /// # Errors
    ///
    /// Fails only when the kernel refuses to list the interfaces.
    pub fn by_name(name: &str) -> io::Result<Option<Self>> {
        Ok(Self::listed(|known| known == name)?.pop())
    }

    /// The interfaces with these names; of no other is more asked than its name.
    fn listed(is_asked: impl Fn(&str) -> bool) -> io::Result<Vec<Self>> {
        let mut found: Vec<Self> = Vec::new();
        for entry in getifaddrs()?.filter(|entry| is_asked(&entry.interface_name)) {
            match found.iter_mut().find(|known| known.name == entry.interface_name) {
                Some(known) => known.learn(&entry),
                None => {
                    // An interface can vanish between the two calls; then it is not there.
                    let Ok(index) = if_nametoindex(entry.interface_name.as_str()) else { continue };
                    let mut new = Self::named(&entry, index);
                    new.learn(&entry);
                    found.push(new);
                }
            }
        }
        found.sort_by_key(|interface| interface.index);
        Ok(found)
    }

    /// Our addresses that can carry packets now, each with the number of its interface: that is
    /// switched on, and its cable or what stands for one is there. FreeBSD's drivers say so of every
    /// interface that is switched on.
    ///
    /// # Errors
    ///
    /// Fails only when the kernel refuses to list the interfaces.
    pub fn carriers() -> io::Result<Vec<(IpAddr, u32)>> {
        let works = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
        let own = |entry: InterfaceAddress| {
            let known = entry.address.filter(|_| entry.flags.contains(works))?;
            let v4 = known.as_sockaddr_in().map(|inet| IpAddr::V4(inet.ip()));
            let address =
                v4.or_else(|| known.as_sockaddr_in6().map(|inet| IpAddr::V6(inet.ip())))?;
            Some((address, if_nametoindex(entry.interface_name.as_str()).ok()?))
        };
        Ok(getifaddrs()?.filter_map(own).collect())
    }

    fn named(entry: &InterfaceAddress, index: u32) -> Self {
        Self {
            name: entry.interface_name.clone(),
            index,
            mac: None,
            networks: Vec::new(),
            up: entry.flags.contains(InterfaceFlags::IFF_UP),
            broadcast: entry.flags.contains(InterfaceFlags::IFF_BROADCAST),
            loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
            mtu: mtu::of(&entry.interface_name).ok(),
        }
    }

    /// Adds what one address of the interface tells.
    fn learn(&mut self, entry: &InterfaceAddress) {
        let Some(address) = &entry.address else { return };
        if let Some(link) = address.as_link_addr() {
            self.mac = link.addr().filter(|bytes| *bytes != [0; 6]).map(Mac);
        }
        if let Some(inet) = address.as_sockaddr_in() {
            let mask = entry.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in());
            // An address without a mask is a host on its own.
            let mask = mask.map_or(u32::MAX, |mask| mask.ip().to_bits());
            self.networks.push(Network::new(inet.ip(), prefix(mask)));
        }
    }
}

/// An IPv4 address and the length of its network's prefix: `10.77.0.1/24`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Network {
    /// An address in the network: ours, where the network is one of ours.
    pub address: Ipv4Addr,
    prefix: u8,
}

impl Network {
    /// An address in a network of this prefix length; a length over 32 counts as 32.
    #[must_use]
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Self {
        Self { address, prefix: if prefix > 32 { 32 } else { prefix } }
    }

    /// The number of leading bits that all addresses of the network share, 0 to 32.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The network's mask.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        let host_bits = 32_u32.saturating_sub(u32::from(self.prefix));
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }

    /// The address of the network itself, all host bits 0.
    #[must_use]
    pub fn base(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & self.mask().to_bits())
    }

    /// The address of all hosts of the network, all host bits 1.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask().to_bits())
    }

    /// Whether both are the same network, whichever address in it each of them names.
    #[must_use]
    pub fn is_same(self, other: Self) -> bool {
        self.prefix == other.prefix && self.base() == other.base()
    }

    /// Whether the two have addresses in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.base()) || other.contains(self.base())
    }

    /// Whether the address lies in the network.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask().to_bits() == 0
    }

    /// Whether a host can have the address: it lies in the network and is neither the network's own
    /// nor its broadcast address. Networks of one or two addresses have neither (RFC 3021).
    #[must_use]
    pub fn has_host(self, address: Ipv4Addr) -> bool {
        let special = address == self.base() || address == self.broadcast();
        self.contains(address) && (self.prefix >= 31 || !special)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').ok_or(NetworkError)?;
        let address = address.parse().map_err(|_| NetworkError)?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or(NetworkError)?;
        Ok(Self { address, prefix })
    }
}

/// Text is not a network.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write an address and the length of its prefix, as in 10.77.0.1/24")]
pub struct NetworkError;

/// The length of a mask's prefix: its leading ones.
fn prefix(mask: u32) -> u8 {
    u8::try_from(mask.leading_ones()).unwrap_or(32)
}

/// The interface that leads only to this host.
#[cfg(test)]
pub(crate) const LOOPBACK: &str = if cfg!(target_os = "freebsd") { "lo0" } else { "lo" };

/// Another loopback address than the usual one; `None`, with a printed reason, where there is none.
///
/// All of 127.0.0.0/8 is Linux's own. FreeBSD has what somebody gave to lo0.
#[cfg(test)]
pub(crate) fn loopback(last: u8) -> Option<IpAddr> {
    let address = IpAddr::from([127, 0, 0, last]);
    if let Err(error) = std::net::UdpSocket::bind((address, 0)) {
        println!("skipped: {address} is not an address of this host: {error}");
        return None;
    }
    Some(address)
}

#[cfg(test)]
mod test {
    use super::*;

    const HOME: Network = Network::new(Ipv4Addr::new(10, 77, 0, 1), 24);

    #[test]
    fn loopback_is_listed_with_its_network() {
        let all = Interface::all().unwrap();
        let lo = all.iter().find(|interface| interface.loopback).unwrap();
        assert!(lo.index > 0);
        assert!(lo.mtu.unwrap() >= 0x4000, "{lo:?}");
        assert_eq!(Interface::by_name(&lo.name).unwrap().as_ref(), Some(lo));
        assert!(lo.networks.iter().any(|network| network.contains(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn an_unknown_name_is_no_interface() {
        assert_eq!(Interface::by_name("no-such-if0").unwrap(), None);
    }

    #[test]
    fn a_network_has_a_mask_a_base_and_a_broadcast_address() {
        assert_eq!(HOME.mask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(HOME.base(), Ipv4Addr::new(10, 77, 0, 0));
        assert_eq!(HOME.broadcast(), Ipv4Addr::new(10, 77, 0, 255));
        assert_eq!(HOME.to_string(), "10.77.0.1/24");
    }

    #[test]
    fn every_prefix_length_has_its_mask() {
        assert_eq!(Network::new(HOME.address, 0).mask(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(Network::new(HOME.address, 32).mask(), Ipv4Addr::BROADCAST);
        for length in 0..=32 {
            assert_eq!(prefix(Network::new(HOME.address, length).mask().to_bits()), length);
        }
    }

    #[test]
    fn hosts_are_neither_the_base_nor_the_broadcast_address() {
        assert!(HOME.has_host(Ipv4Addr::new(10, 77, 0, 254)));
        assert!(!HOME.has_host(HOME.base()));
        assert!(!HOME.has_host(HOME.broadcast()));
        assert!(!HOME.has_host(Ipv4Addr::new(10, 77, 1, 2)));
        assert!(Network::new(HOME.address, 31).has_host(HOME.base()));
    }
}

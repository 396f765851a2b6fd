//! The networks that addresses are handed out in, and what clients are told in each.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::range::Range;
use crate::net::interface::Network;

/// The subnets, and the settings of each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// The networks that were named, on the wire of an interface or behind relay agents.
    pub subnets: Vec<Subnet>,
    /// Addresses for machines that have none of their own; each belongs to the network it lies in.
    pub ranges: Vec<Range>,
    /// What clients are told in networks of our interfaces that are not among the subnets.
    pub parameters: Parameters,
    /// Whether this host forwards packets between networks, so that it can be their router.
    pub forwards: bool,
}

/// A network, and what its clients get.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subnet {
    /// The network.
    pub network: Network,
    /// Relay agents that pass its clients' messages on by an address outside of it.
    pub relays: Vec<Network>,
    /// The addresses for machines that have none of their own.
    pub ranges: Vec<Range>,
    /// What its clients are told.
    pub parameters: Parameters,
}

/// What clients are told beside their address (RFC 2132), and for how long.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parameters {
    /// Routers; where none is given it is the relay agent, or netbe's own address if the host
    /// forwards.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers; netbe answers no names, so it never names itself.
    pub name_servers: Vec<Ipv4Addr>,
    /// Domain name of the machines.
    pub domain: Option<String>,
    /// MTU, told to clients that ask.
    pub mtu: Option<u16>,
    /// How long a lease runs, whatever a client asks for: FreeBSD's loader asks for five minutes
    /// and never renews.
    pub lease: Duration,
    /// More options by code and value, told to clients that ask for them or ask for nothing.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Default for Parameters {
    /// No options, and leases of an hour.
    fn default() -> Self {
        Self {
            routers: Vec::new(),
            name_servers: Vec::new(),
            domain: None,
            mtu: None,
            lease: Duration::from_secs(3600),
            options: Vec::new(),
        }
    }
}

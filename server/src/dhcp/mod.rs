//! DHCPv4 (RFC 2131, RFC 2132, PXE 2.1): addresses and boot files for machines.
//!
//! [`Server`] is the state machine: a message and a time in, an [`Action`] out, no sockets and no
//! files. [`Dhcp`] puts it on interfaces. netbe answers only where it was told to serve and where
//! no other server was heard; everywhere else it listens.

mod class;
mod counters;
mod journal;
mod leases;
mod outlet;
mod pool;
mod probe;
mod range;
mod recipe;
mod reply;
mod request;
mod server;
mod service;

use std::net::Ipv4Addr;
use std::time::Duration;

pub use counters::Counters;
pub use journal::{Journal, JournalError};
pub use leases::{Binding, Leases, Moment, State};
pub use range::{Range, RangeError};
pub use reply::{
    Action, Arrival, CLIENT_PORT, Commit, Destination, Mode, Port, Reply, Silence, Written,
};
pub use server::{Foreign, Server};
pub use service::{Bound, Dhcp, ListenError, Listener};

use crate::net::interface::Network;

/// What is handed out, and what clients are told beside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The addresses for machines that have none of their own.
    pub ranges: Vec<Range>,
    /// Networks behind relay agents: each is the router's address there and its prefix.
    pub remote: Vec<Network>,
    /// Routers; where none is given it is netbe's own address, if the host forwards.
    pub routers: Vec<Ipv4Addr>,
    /// Whether this host forwards packets between networks.
    pub forwards: bool,
    /// Name servers; netbe answers no names, so it never names itself.
    pub name_servers: Vec<Ipv4Addr>,
    /// Domain name of the machines.
    pub domain: Option<String>,
    /// MTU, told to clients that ask.
    pub mtu: Option<u16>,
    /// How long a lease runs, whatever a client asks for: FreeBSD's loader asks for five minutes
    /// and never renews.
    pub lease: Duration,
}

impl Default for Settings {
    /// No addresses, nothing told, leases of an hour.
    fn default() -> Self {
        Self {
            ranges: Vec::new(),
            remote: Vec::new(),
            routers: Vec::new(),
            forwards: false,
            name_servers: Vec::new(),
            domain: None,
            mtu: None,
            lease: Duration::from_secs(3600),
        }
    }
}

/// Whether this host forwards packets between its networks, so that it can be their router.
#[must_use]
pub fn forwards() -> bool {
    crate::net::sys::route::forwards_ipv4()
}

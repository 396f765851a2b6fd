//! DHCPv4 (RFC 2131, RFC 2132, PXE 2.1): addresses and boot files for machines.
//!
//! [`Server`] is the state machine: a message and a time in, an [`Action`] out, no sockets and no
//! files. [`Dhcp`] puts it on interfaces. netbe answers only where it was told to serve and where
//! no other server was heard; everywhere else it listens.

mod class;
mod journal;
mod leases;
mod options;
mod pool;
mod probe;
mod range;
mod reply;
mod request;
mod server;
mod service;
mod sockets;
mod subnet;
mod writer;

pub use journal::{Journal, JournalError, Log};
pub use leases::{Binding, Leases, State, Timestamp};
pub use range::{Range, RangeError};
pub use reply::{Action, Arrival, CLIENT_PORT, Commit, Destination, Mode, Port, Reply, Silence};
pub use server::{Foreign, Server};
pub use service::{Bound, Dhcp, ListenError, Listener, Lost, Step, try_ports};
pub use subnet::{Parameters, Settings, Subnet};

/// Whether this host forwards packets between its networks, so that it can be their router.
#[must_use]
pub fn forwards() -> bool {
    crate::net::sys::route::forwards_ipv4()
}

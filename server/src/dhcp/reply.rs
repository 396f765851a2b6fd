//! What goes into the state machine, and what comes out of it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use wire::dhcp4::Message;

use super::journal::Log;
use super::leases::Binding;
use crate::net::Mac;
use crate::net::interface::Interface;

/// What netbe does on an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// It is not known yet whether another server is there: who has an address of ours is answered, others
    /// wait.
    Looking,
    /// It listens and never answers.
    Passive,
    /// It tells machines what to boot and hands out nothing: another server does (PXE 2.1 §2.2).
    Proxy,
    /// It hands out addresses.
    Serve,
}

/// How a message arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The interface that it came by.
    pub interface: &'a Interface,
    /// What netbe does there.
    pub mode: Mode,
    /// The port of ours that it came to.
    pub port: Port,
    /// Where it was sent to: an address of ours or a broadcast address.
    pub destination: Ipv4Addr,
    /// Who sent it: a client, or the relay agent between.
    pub source: SocketAddrV4,
}

/// A port that DHCP is served on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// 67, for DHCP itself (RFC 2131 §4.1).
    Dhcp,
    /// 4011, for questions to a boot server (PXE 2.1 §2.2.5).
    Pxe,
}

impl Port {
    /// The port's number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Dhcp => 67,
            Self::Pxe => 4011,
        }
    }
}

/// What a message leads to.
#[derive(Debug)]
#[must_use]
pub enum Action {
    /// Something has to be remembered first.
    Commit(Commit),
    /// An answer that changes nothing.
    Send(Reply),
    /// No answer.
    Silence(Silence),
}

/// Bindings that have to be written before the client hears of them.
///
/// The answer cannot be had in any other way than by writing.
#[derive(Debug)]
#[must_use]
pub struct Commit {
    pub(super) bindings: Vec<Binding>,
    pub(super) durability: Durability,
    pub(super) reply: Option<Reply>,
}

impl Commit {
    /// Whether the client has to wait until the bindings are on the disk.
    #[must_use]
    pub fn waits_for_disk(&self) -> bool {
        self.durability == Durability::Now
    }

    /// Writes the bindings, as lastingly as they have to be, and gives the answer.
    ///
    /// # Errors
    ///
    /// They cannot be written; the client then gets no answer and asks again.
    pub fn write(self, log: &mut impl Log) -> io::Result<Option<Reply>> {
        log.append(&self.bindings)?;
        if self.waits_for_disk() {
            log.sync()?;
        }
        Ok(self.reply)
    }
}

/// How lasting a binding has to be before the client hears of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Durability {
    /// On the disk: a named machine got an address that it did not have.
    Now,
    /// With the kernel; on the disk within a second.
    Soon,
}

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The payload of the datagram.
    pub bytes: Vec<u8>,
    /// Our address that it leaves from.
    pub local: Ipv4Addr,
    /// The port of ours that it leaves from.
    pub port: Port,
    /// Where it goes.
    pub to: Destination,
    /// The machine that it is for.
    pub mac: Mac,
    /// The address that it offers, if it is an OFFER with one.
    pub offers: Option<Ipv4Addr>,
}

/// Where an answer goes (RFC 2131 §4.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Destination {
    /// To a client that uses its address already.
    Address(SocketAddrV4),
    /// To everybody on the link.
    Broadcast,
    /// To a client that does not answer ARP for its new address yet.
    Hardware {
        /// Its Ethernet address.
        mac: Mac,
        /// The address that it is given.
        address: Ipv4Addr,
    },
    /// To the relay agent.
    Relay(SocketAddrV4),
}

impl Destination {
    /// Where the answer to a message goes; the order of the questions is that of RFC 2131 §4.1.
    /// `address` is what the client is given, and `refusal` says that it is given nothing.
    pub(super) fn of(request: &Message<'_>, mac: Mac, address: Ipv4Addr, refusal: bool) -> Self {
        if !request.giaddr.is_unspecified() {
            return Self::Relay(SocketAddrV4::new(request.giaddr, Port::Dhcp.number()));
        }
        if refusal {
            return Self::Broadcast;
        }
        if !request.ciaddr.is_unspecified() {
            return Self::Address(SocketAddrV4::new(request.ciaddr, CLIENT_PORT));
        }
        if request.wants_broadcast() {
            return Self::Broadcast;
        }
        Self::Hardware { mac, address }
    }
}

/// Why a message is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Silence {
    /// No address is left for the client.
    Exhausted,
    /// The server failed.
    Failed,
    /// It is not a message that a DHCP server understands.
    Garbage,
    /// It would move or free the address of a machine whose root lives there.
    Lives,
    /// It comes from a network that netbe does not serve.
    NotOurs,
    /// It needs no answer.
    Nothing,
    /// The client chose the server of this address.
    OtherServer(Ipv4Addr),
    /// netbe does not serve on the interface.
    Passive,
    /// Nothing is known about the client, so another server may know it.
    Unknown,
}

/// The port that clients listen on (RFC 2131 §4.1).
pub const CLIENT_PORT: u16 = 68;

//! Datagrams to clients that have no address yet.
//!
//! A client that was just given an address does not answer ARP for it, so that no socket reaches it. What
//! goes to it, and what goes to everybody, is written as a frame: the kernel needs no entry in its table of
//! neighbours for that, which may be full, and says of every frame whether it took it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::Mac;
use super::frame::Frame;
use super::interface::Interface;
use super::sys::link::Frames;

/// An interface to send by.
#[derive(Debug)]
pub(crate) struct Link {
    frames: Frames,
    mac: Mac,
}

impl Link {
    /// Opens the interface for writing frames.
    ///
    /// # Errors
    ///
    /// It has no Ethernet address, or this process may not write frames.
    pub(crate) fn open(interface: &Interface) -> io::Result<Self> {
        let mac = interface.mac.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self { frames: Frames::open(interface)?, mac })
    }

    /// Sends to a client of this Ethernet address that is given the address `to`. Does not wait.
    ///
    /// # Errors
    ///
    /// The kernel did not take the frame: the interface is down, or its queue is full.
    pub(crate) fn unicast(
        &self,
        mac: Mac,
        source: SocketAddrV4,
        to: SocketAddrV4,
        payload: &[u8],
    ) -> io::Result<()> {
        let frame =
            Frame { source_mac: self.mac, destination_mac: mac, source, destination: to, payload };
        self.frames.write(&frame.encode().ok_or(io::ErrorKind::InvalidInput)?)
    }

    /// Sends to everybody on the link. Does not wait.
    ///
    /// # Errors
    ///
    /// As [`Link::unicast`].
    pub(crate) fn broadcast(
        &self,
        source: SocketAddrV4,
        port: u16,
        payload: &[u8],
    ) -> io::Result<()> {
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, port);
        self.unicast(Mac([0xff; 6]), source, everybody, payload)
    }
}

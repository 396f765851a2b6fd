//! Where IPv4 datagrams come to and leave from: `IP_RECVDSTADDR`, `IP_RECVIF` and
//! `IP_SENDSRCADDR` (ip(4)).

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, setsockopt, sockopt};
use socket2::Socket;

use crate::net::datagram::{Arrival, Source};

/// Tells our own addresses from broadcast ones.
///
/// FreeBSD says where a datagram was sent to, which is no address to answer from when it was a
/// broadcast. The interfaces' addresses are asked for then, but not for every datagram.
#[derive(Debug)]
pub(crate) struct Interfaces {
    /// The last destination that was found to be an address of ours.
    known: AtomicU32,
}

impl Interfaces {
    /// Knows no address yet.
    pub(crate) const fn new() -> Self {
        Self { known: AtomicU32::new(0) }
    }

    /// Asks the kernel to tell with each datagram where it arrived.
    pub(crate) fn observe(&self, socket: &Socket) -> io::Result<()> {
        setsockopt(socket, sockopt::Ipv4RecvDstAddr, &true)?;
        Ok(setsockopt(socket, sockopt::Ipv4RecvIf, &true)?)
    }

    /// Reads what a control message tells about the arrival, if it does.
    pub(crate) fn arrival(&self, message: &ControlMessageOwned, arrival: &mut Arrival) {
        if let ControlMessageOwned::Ipv4RecvIf(link) = message {
            arrival.interface = u32::from(link.sdl_index);
        }
        if let ControlMessageOwned::Ipv4RecvDstAddr(destination) = message {
            arrival.destination = Some(Ipv4Addr::from(destination.s_addr.to_ne_bytes()));
        }
        if let Some(destination) = arrival.destination {
            arrival.local = self.local(destination, arrival.interface);
        }
    }

    /// Hands the control message that makes a datagram leave from `source` to `send`.
    ///
    /// A socket bound to one address sends from it anyway, and refuses to be told so.
    pub(crate) fn leave<R>(
        &self,
        local: Ipv4Addr,
        _source: Source,
        bound: Ipv4Addr,
        send: impl FnOnce(&[ControlMessage<'_>]) -> R,
    ) -> R {
        if !bound.is_unspecified() || local.is_unspecified() {
            return send(&[]);
        }
        let address = libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) };
        send(&[ControlMessage::Ipv4SendSrcAddr(&address)])
    }

    /// The address to answer from: the destination if it is ours, else the interface's first.
    fn local(&self, destination: Ipv4Addr, interface: u32) -> Option<Ipv4Addr> {
        if self.known.load(Ordering::Relaxed) == u32::from(destination) {
            return Some(destination);
        }
        let mut first = None;
        for one in getifaddrs().ok()? {
            let address = one.address.and_then(|address| address.as_sockaddr_in().map(|a| a.ip()));
            let Some(address) = address else { continue };
            if address == destination {
                self.known.store(u32::from(destination), Ordering::Relaxed);
                return Some(destination);
            }
            let here = if_nametoindex(one.interface_name.as_str()).is_ok_and(|i| i == interface);
            if first.is_none() && here {
                first = Some(address);
            }
        }
        first
    }
}

/// Checks that there is such an interface. FreeBSD has no `SO_BINDTODEVICE`: what came by another
/// interface is left out after it was received.
///
/// # Errors
///
/// There is no interface of this name.
pub(crate) fn bind_device(_socket: &Socket, device: &str) -> io::Result<()> {
    if_nametoindex(device)?;
    Ok(())
}

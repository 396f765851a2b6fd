//! Where IPv4 datagrams come to and leave from: `IP_PKTINFO` (ip(7)).

use std::io;
use std::net::Ipv4Addr;

use nix::libc;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, setsockopt, sockopt};
use socket2::Socket;

use crate::net::datagram::{Arrival, Source};

/// What a socket needs to know to choose the source of what it sends, which on Linux is nothing.
#[derive(Debug)]
pub(crate) struct Interfaces;

impl Interfaces {
    /// Nothing to know.
    pub(crate) const fn new() -> Self {
        Self
    }

    /// Asks the kernel to tell with each datagram where it arrived.
    pub(crate) fn observe(&self, socket: &Socket) -> io::Result<()> {
        Ok(setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?)
    }

    /// Reads what a control message tells about the arrival, if it does.
    pub(crate) fn arrival(&self, message: &ControlMessageOwned, arrival: &mut Arrival) {
        if let ControlMessageOwned::Ipv4PacketInfo(info) = message {
            arrival.destination = Some(address(info.ipi_addr));
            arrival.local = Some(address(info.ipi_spec_dst));
            arrival.interface = u32::try_from(info.ipi_ifindex).unwrap_or(0);
        }
    }

    /// Hands the control message that makes a datagram leave from `source` to `send`.
    pub(crate) fn leave<R>(
        &self,
        local: Ipv4Addr,
        source: Source,
        _bound: Ipv4Addr,
        send: impl FnOnce(&[ControlMessage<'_>]) -> R,
    ) -> R {
        let info = libc::in_pktinfo {
            ipi_ifindex: libc::c_int::try_from(source.interface).unwrap_or(0),
            ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        send(&[ControlMessage::Ipv4PacketInfo(&info)])
    }
}

/// Binds a socket to an interface: the kernel then delivers nothing that came by another.
///
/// # Errors
///
/// There is no interface of this name.
pub(crate) fn bind_device(socket: &Socket, device: &str) -> io::Result<()> {
    socket.bind_device(Some(device.as_bytes()))
}

fn address(address: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(address.s_addr.to_ne_bytes())
}

//! Ethernet frames to be sent (packet(7)).
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::libc;
use socket2::{Domain, Socket, Type};

use crate::net::datagram::{Datagrams, Source};
use crate::net::interface::Interface;
use crate::net::link::Link;

/// An interface that frames are written to.
#[derive(Debug)]
pub(crate) struct Frames {
    socket: Socket,
    index: c_int,
}

impl Frames {
    /// Opens the interface for writing frames. Nothing is received: that is what protocol 0 means.
    ///
    /// # Errors
    ///
    /// This process may not (CAP_NET_RAW).
    pub(crate) fn open(interface: &Interface) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        let index = c_int::try_from(interface.index).map_err(io::Error::other)?;
        Ok(Self { socket, index })
    }

    /// Writes a frame with an IPv4 packet in it; does not wait.
    ///
    /// # Errors
    ///
    /// The kernel did not take it: the interface is down, or its queue is full.
    pub(crate) fn write(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: `sockaddr_ll` consists of integers, for which zero is a value.
        let mut to: libc::sockaddr_ll = unsafe { mem::zeroed() };
        to.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).unwrap_or_default();
        to.sll_protocol = u16::try_from(libc::ETH_P_IP).unwrap_or_default().to_be();
        to.sll_ifindex = self.index;
        let len = libc::socklen_t::try_from(size_of_val(&to)).unwrap_or_default();
        // SAFETY: the kernel reads as many bytes of `frame` as it has and of `to` as `len` says, and
        // only during the call.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                len,
            )
        };
        if sent == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Sends a question to everybody on the link, and to who listens on this host: a frame would not reach
/// those, and the kernel hands them what a socket broadcasts.
///
/// # Errors
///
/// The sending failed.
pub(crate) async fn ask(
    _link: &Link,
    socket: &Datagrams,
    interface: &Interface,
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: &[u8],
) -> io::Result<()> {
    let source = Source { local: IpAddr::V4(*from.ip()), interface: interface.index };
    socket.send(payload, to.into(), Some(source)).await
}

//! Datagrams to clients that have no address yet (arp(7)).
//!
//! A client that was just given an address does not answer ARP for it. The kernel is told its
//! Ethernet address instead, and an ordinary socket then reaches it, with the firewall in between.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::net::Mac;
use crate::net::datagram::{Datagrams, Source};
use crate::net::interface::Interface;

/// An interface to send by.
#[derive(Debug)]
pub(crate) struct Link {
    control: OwnedFd,
    index: u32,
    device: [c_char; libc::IFNAMSIZ],
}

impl Link {
    /// Opens the interface.
    ///
    /// # Errors
    ///
    /// There are no more descriptors.
    pub(crate) fn open(interface: &Interface) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let control = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        let mut device = [0; libc::IFNAMSIZ];
        let room = libc::IFNAMSIZ.saturating_sub(1);
        for (to, from) in device.iter_mut().take(room).zip(interface.name.bytes()) {
            *to = c_char::from_ne_bytes([from]);
        }
        Ok(Self { control, index: interface.index, device })
    }

    /// Sends to a client of this Ethernet address that is given the address `to`.
    ///
    /// # Errors
    ///
    /// The kernel does not let this process write its neighbour table, or the sending failed.
    pub(crate) async fn unicast(
        &self,
        socket: &Datagrams,
        mac: Mac,
        from: Ipv4Addr,
        to: SocketAddrV4,
        payload: &[u8],
    ) -> io::Result<()> {
        self.teach(*to.ip(), mac)?;
        socket.send(payload, to.into(), Some(self.source(from))).await
    }

    /// Sends to everybody on the link.
    ///
    /// # Errors
    ///
    /// The sending failed.
    pub(crate) async fn broadcast(
        &self,
        socket: &Datagrams,
        from: Ipv4Addr,
        port: u16,
        payload: &[u8],
    ) -> io::Result<()> {
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, port);
        socket.send(payload, everybody.into(), Some(self.source(from))).await
    }

    const fn source(&self, local: Ipv4Addr) -> Source {
        Source { local: IpAddr::V4(local), interface: self.index }
    }

    /// Puts a neighbour into the kernel's table, which may forget it again at its usual time.
    fn teach(&self, address: Ipv4Addr, mac: Mac) -> io::Result<()> {
        let [a, b, c, d] = address.octets();
        let request = libc::arpreq {
            // The bytes of a `sockaddr_in`: a port, which means nothing here, and the address.
            arp_pa: sockaddr(libc::AF_INET, [0, 0, a, b, c, d]),
            arp_ha: sockaddr(c_int::from(libc::ARPHRD_ETHER), mac.0),
            arp_flags: libc::ATF_COM,
            arp_netmask: sockaddr(libc::AF_UNSPEC, [0; 6]),
            arp_dev: self.device,
        };
        // SAFETY: SIOCSARP reads one `arpreq`, which lives through the call, and writes nothing;
        // its device name ends in a NUL.
        let result =
            unsafe { libc::ioctl(self.control.as_raw_fd(), libc::SIOCSARP, &raw const request) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn sockaddr(family: c_int, bytes: [u8; 6]) -> libc::sockaddr {
    let mut sa_data = [0; 14];
    for (to, from) in sa_data.iter_mut().zip(bytes) {
        *to = c_char::from_ne_bytes([from]);
    }
    // All families in use here are small numbers.
    let sa_family = libc::sa_family_t::try_from(family).unwrap_or_default();
    libc::sockaddr { sa_family, sa_data }
}

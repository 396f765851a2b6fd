//! UDP sockets that know which of our addresses a datagram came to, and answer from it.
//!
//! A host with two addresses that answers from the wrong one is not understood: FreeBSD's loader,
//! TFTP clients and firewalls all compare the source of a reply with what they asked. One socket
//! for all addresses therefore has to be told by the kernel where each datagram came to, and has to
//! tell it where each reply leaves from.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::net::sys;

/// A UDP socket of a server.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    bound: SocketAddr,
    /// Datagrams that arrived at another interface are not for this socket.
    only: Option<u32>,
    interfaces: sys::datagram::Interfaces,
}

/// How a socket is bound.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BindOptions {
    /// Receive only what arrives at the interface of this name, and send only through it.
    ///
    /// FreeBSD cannot bind a socket to an interface; there only the receiving is limited.
    pub device: Option<String>,
    /// Allow sending to broadcast addresses.
    pub broadcast: bool,
    /// Share the port with other sockets that set this too (`SO_REUSEADDR`).
    pub reuse: bool,
    /// Bytes that the kernel shall keep in each direction, as far as its own limits allow.
    pub buffer: Option<usize>,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Received {
    /// Bytes of it that stand in the buffer.
    pub len: usize,
    /// Whether it was longer than the buffer, so that its end is lost.
    pub truncated: bool,
    /// Who sent it.
    pub peer: SocketAddr,
    /// Where it was sent to: one of our addresses, or a broadcast or multicast address.
    pub destination: IpAddr,
    /// Our own address to answer from; unspecified only if the interface has none.
    pub local: IpAddr,
    /// Index of the interface that it arrived at; 0 when the kernel did not tell.
    pub interface: u32,
}

impl Received {
    /// The source of an answer, by the interface that the question came by.
    ///
    /// For clients on the same link, whom routing may not find yet. Others set the interface to 0,
    /// so that an answer takes the route that the host would choose.
    #[must_use]
    pub const fn source(&self) -> Source {
        Source { local: self.local, interface: self.interface }
    }
}

/// Where a datagram leaves from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Source {
    /// Our own address.
    pub local: IpAddr,
    /// Index of the interface; 0 leaves the choice to the routing table.
    ///
    /// For IPv4, FreeBSD always leaves it to the routing table.
    pub interface: u32,
}

impl Datagrams {
    /// Opens a socket at `addr`; port 0 takes any free one. To be called inside a tokio runtime.
    ///
    /// An IPv6 socket takes IPv6 only, so that IPv4 can have a socket of its own at the same port.
    ///
    /// # Errors
    ///
    /// The address is in use or not ours, the interface does not exist, or the port is privileged.
    pub fn bind(addr: SocketAddr, options: &BindOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_broadcast(options.broadcast)?;
        socket.set_reuse_address(options.reuse)?;
        if let Some(buffer) = options.buffer {
            largest(buffer, |size| socket.set_recv_buffer_size(size))?;
            largest(buffer, |size| socket.set_send_buffer_size(size))?;
        }
        let only = options.device.as_deref().map(|device| {
            sys::datagram::bind_device(&socket, device)?;
            Ok::<_, io::Error>(if_nametoindex(device)?)
        });
        let only = only.transpose()?;
        let interfaces = sys::datagram::Interfaces::new();
        match addr {
            SocketAddr::V4(_) => interfaces.observe(&socket)?,
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        socket.bind(&addr.into())?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(addr);
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, bound, only, interfaces })
    }

    /// The address and port that the socket is bound to.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.bound
    }

    /// Waits for a datagram and puts it into `buf`.
    ///
    /// What earlier sends caused (an ICMP error, no memory for a moment) is not reported here: it
    /// says nothing about the next datagram and must not end a server's loop.
    ///
    /// # Errors
    ///
    /// The socket is broken; trying again is of no use.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        loop {
            match self.socket.async_io(Interest::READABLE, || self.receive(buf)).await {
                Ok(Some(received)) => return Ok(received),
                Err(error) if !is_passing(&error) => return Err(error),
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// Sends a datagram, from `from` if given, else from where the routing table says.
    ///
    /// # Errors
    ///
    /// The datagram was not sent: there is no route, it is too long, or the kernel has no memory for
    /// it just now. The socket stays good.
    pub async fn send(&self, data: &[u8], to: SocketAddr, from: Option<Source>) -> io::Result<()> {
        self.send_vectored(&[IoSlice::new(data)], to, from).await
    }

    /// Sends one datagram that is put together from several parts; see [`Datagrams::send`].
    ///
    /// # Errors
    ///
    /// As [`Datagrams::send`].
    pub async fn send_vectored(
        &self,
        parts: &[IoSlice<'_>],
        to: SocketAddr,
        from: Option<Source>,
    ) -> io::Result<()> {
        let send = || self.try_send_vectored(parts, to, from);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// Sends a datagram without waiting; for threads that are not part of the runtime.
    ///
    /// # Errors
    ///
    /// As [`Datagrams::send`], and [`io::ErrorKind::WouldBlock`] when the socket's buffer is full.
    pub fn try_send(&self, data: &[u8], to: SocketAddr, from: Option<Source>) -> io::Result<()> {
        self.try_send_vectored(&[IoSlice::new(data)], to, from)
    }

    fn try_send_vectored(
        &self,
        parts: &[IoSlice<'_>],
        to: SocketAddr,
        from: Option<Source>,
    ) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        let to = SockaddrStorage::from(to);
        let send = |control: &[ControlMessage<'_>]| {
            sendmsg(fd, parts, control, MsgFlags::empty(), Some(&to))
        };
        let sent = match (from, self.bound) {
            (Some(source @ Source { local: IpAddr::V4(local), .. }), SocketAddr::V4(bound)) => {
                self.interfaces.leave(local, source, *bound.ip(), send)
            }
            (Some(Source { local: IpAddr::V6(local), interface }), SocketAddr::V6(_)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: local.octets() },
                    ipi6_ifindex: interface,
                };
                send(&[ControlMessage::Ipv6PacketInfo(&info)])
            }
            // A source of the other family cannot be meant for this socket; the kernel chooses.
            (None | Some(_), SocketAddr::V4(_) | SocketAddr::V6(_)) => send(&[]),
        };
        sent?;
        Ok(())
    }

    /// Receives without waiting; `None` is a datagram that is not for this socket.
    fn receive(&self, buf: &mut [u8]) -> io::Result<Option<Received>> {
        let mut control = Control([0; CONTROL_LEN]);
        let mut parts = [IoSliceMut::new(buf)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control.0),
            MsgFlags::empty(),
        )?;
        let Some(peer) = message.address.as_ref().and_then(socket_addr) else { return Ok(None) };
        let mut arrival = Arrival::default();
        let mut arrival_v6 = None;
        for control in message.cmsgs()? {
            self.interfaces.arrival(&control, &mut arrival);
            if let ControlMessageOwned::Ipv6PacketInfo(info) = control {
                let address = IpAddr::from(info.ipi6_addr.s6_addr);
                arrival_v6 = Some((address, info.ipi6_ifindex));
            }
        }
        let (destination, local, interface) = match self.bound {
            SocketAddr::V4(bound) => {
                let destination = arrival.destination.unwrap_or_else(|| *bound.ip());
                let local = arrival.local.unwrap_or_else(|| *bound.ip());
                (IpAddr::V4(destination), IpAddr::V4(local), arrival.interface)
            }
            SocketAddr::V6(bound) => {
                let (destination, interface) =
                    arrival_v6.unwrap_or_else(|| (IpAddr::V6(*bound.ip()), bound.scope_id()));
                let multicast = destination.is_multicast();
                let local = if multicast { IpAddr::V6(*bound.ip()) } else { destination };
                (destination, local, interface)
            }
        };
        if self.only.is_some_and(|only| interface != 0 && interface != only) {
            return Ok(None);
        }
        let truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
        Ok(Some(Received { len: message.bytes, truncated, peer, destination, local, interface }))
    }
}

/// Sets the size of a buffer to `wish`, or to the largest half of a half of it that the kernel grants.
///
/// Linux takes what is too much for its own limit. FreeBSD says ENOBUFS to what is more than
/// `kern.ipc.maxsockbuf`, 2 MiB, leaves for the bytes themselves.
fn largest(wish: usize, set: impl Fn(usize) -> io::Result<()>) -> io::Result<()> {
    let mut size = wish;
    loop {
        match set(size) {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) && size > LEAST => size /= 2,
            done => return done,
        }
    }
}

/// A buffer that does not hold two of the largest datagrams is of no use.
const LEAST: usize = 128 << 10;

/// What the kernel told about the arrival of an IPv4 datagram.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    /// Where it was sent to.
    pub(crate) destination: Option<Ipv4Addr>,
    /// Our address to answer from.
    pub(crate) local: Option<Ipv4Addr>,
    /// Index of the interface; 0 if unknown.
    pub(crate) interface: u32,
}

/// Room for the control messages of one datagram, aligned as the kernel's headers in it are.
#[repr(align(16))]
struct Control([u8; CONTROL_LEN]);

/// Whether an error is about an earlier datagram or a passing shortage.
fn is_passing(error: &io::Error) -> bool {
    let passing = [
        libc::ECONNREFUSED,
        libc::ECONNRESET,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::EINTR,
        libc::EMSGSIZE,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::ENOBUFS,
        libc::ENOMEM,
    ];
    error.raw_os_error().is_some_and(|code| passing.contains(&code))
}

/// An address as the kernel writes it, if it is one of the Internet's.
pub(crate) fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
}

/// `IP_PKTINFO` takes 32 bytes, `IP_RECVIF` with `IP_RECVDSTADDR` 96; both with headers.
const CONTROL_LEN: usize = 256;

#[cfg(test)]
mod test {
    use std::net::UdpSocket;

    use super::*;
    use crate::net::interface::{LOOPBACK, loopback};

    fn client(address: &str) -> UdpSocket {
        let client = UdpSocket::bind(address).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        client
    }

    fn any(address: &str) -> Datagrams {
        Datagrams::bind(address.parse().unwrap(), &BindOptions::default()).unwrap()
    }

    #[tokio::test]
    async fn the_address_that_was_asked_is_known() {
        let Some(another) = loopback(9) else { return };
        let server = any("0.0.0.0:0");
        let client = client("127.0.0.1:0");
        let to = SocketAddr::new(another, server.local_addr().port());
        client.send_to(b"hello", to).unwrap();
        let mut buf = [0; 16];
        let received = server.recv(&mut buf).await.unwrap();
        assert_eq!(&buf[..received.len], b"hello");
        assert_eq!(received.local, to.ip());
        assert_eq!(received.destination, to.ip());
        assert_eq!(received.peer, client.local_addr().unwrap());
        assert_eq!(received.interface, if_nametoindex(LOOPBACK).unwrap());
        assert!(!received.truncated);
    }

    #[tokio::test]
    async fn an_answer_leaves_from_the_address_that_was_asked() {
        let Some(another) = loopback(9) else { return };
        let server = any("0.0.0.0:0");
        let client = client("127.0.0.1:0");
        let to = SocketAddr::new(another, server.local_addr().port());
        client.send_to(b"?", to).unwrap();
        let received = server.recv(&mut [0; 16]).await.unwrap();
        server.send(b"!", received.peer, Some(received.source())).await.unwrap();
        assert_eq!(client.recv_from(&mut [0; 16]).unwrap(), (1, to));
    }

    #[tokio::test]
    async fn a_socket_of_one_address_answers_from_it() {
        let Some(another) = loopback(8) else { return };
        let server = any(&format!("{another}:0"));
        let client = client("127.0.0.1:0");
        client.send_to(b"?", server.local_addr()).unwrap();
        let received = server.recv(&mut [0; 16]).await.unwrap();
        server.send(b"!", received.peer, Some(received.source())).await.unwrap();
        assert_eq!(client.recv_from(&mut [0; 16]).unwrap(), (1, server.local_addr()));
    }

    #[tokio::test]
    async fn ipv6_is_answered_from_the_address_that_was_asked() {
        let server = any("[::]:0");
        let client = client("[::1]:0");
        let to = SocketAddr::new("::1".parse().unwrap(), server.local_addr().port());
        client.send_to(b"?", to).unwrap();
        let received = server.recv(&mut [0; 16]).await.unwrap();
        assert_eq!(received.local, to.ip());
        let parts = [IoSlice::new(b"a"), IoSlice::new(b"bc")];
        server.send_vectored(&parts, received.peer, Some(received.source())).await.unwrap();
        let mut buf = [0; 16];
        assert_eq!(client.recv_from(&mut buf).unwrap(), (3, to));
        assert_eq!(&buf[..3], b"abc");
    }

    #[tokio::test]
    async fn both_families_can_have_the_same_port() {
        // Somebody else may have the IPv4 port of one try, but hardly of sixteen.
        let both = (0..16).any(|_| {
            let v6 = any("[::]:0");
            let v4 = SocketAddr::new([0, 0, 0, 0].into(), v6.local_addr().port());
            Datagrams::bind(v4, &BindOptions::default()).is_ok()
        });
        assert!(both);
    }

    #[tokio::test]
    async fn a_datagram_that_is_longer_than_the_buffer_is_reported() {
        let server = any("127.0.0.1:0");
        client("127.0.0.1:0").send_to(b"too long", server.local_addr()).unwrap();
        let received = server.recv(&mut [0; 4]).await.unwrap();
        assert!(received.truncated);
        assert_eq!(received.len, 4);
    }

    #[tokio::test]
    async fn a_refused_answer_does_not_end_the_receiving() {
        let server = any("127.0.0.1:0");
        let gone = client("127.0.0.1:0").local_addr().unwrap();
        for _ in 0..3 {
            server.send(b"nobody hears this", gone, None).await.unwrap();
        }
        client("127.0.0.1:0").send_to(b"still here", server.local_addr()).unwrap();
        assert_eq!(server.recv(&mut [0; 16]).await.unwrap().len, 10);
    }

    #[test]
    fn a_kernel_that_grants_less_is_asked_for_less() {
        let granted = |limit: usize| {
            let last = std::cell::Cell::new(0);
            let done = largest(4 << 20, |size| {
                last.set(size);
                let refused = io::Error::from_raw_os_error(libc::ENOBUFS);
                if size > limit { Err(refused) } else { Ok(()) }
            });
            (done.is_ok(), last.get())
        };
        assert_eq!(granted(8 << 20), (true, 4 << 20));
        // FreeBSD: `kern.ipc.maxsockbuf` in clusters of 2048 bytes, each with its 256 of head.
        assert_eq!(granted((2 << 20) / 2304 * 2048), (true, 1 << 20));
        assert_eq!(granted(4096), (false, 128 << 10));
        let other = largest(4 << 20, |_| Err(io::Error::from_raw_os_error(libc::EBADF)));
        assert_eq!(other.unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[tokio::test]
    async fn an_interface_that_does_not_exist_is_an_error() {
        let options = BindOptions { device: Some("nosuch0".to_owned()), ..BindOptions::default() };
        assert!(Datagrams::bind("127.0.0.1:0".parse().unwrap(), &options).is_err());
    }

    #[tokio::test]
    async fn a_socket_of_an_interface_receives_by_it() {
        let options = BindOptions {
            device: Some(LOOPBACK.to_owned()),
            broadcast: true,
            buffer: Some(1 << 20),
            ..BindOptions::default()
        };
        let server = Datagrams::bind("0.0.0.0:0".parse().unwrap(), &options).unwrap();
        let to = SocketAddr::new([127, 0, 0, 1].into(), server.local_addr().port());
        client("127.0.0.1:0").send_to(b"?", to).unwrap();
        assert_eq!(server.recv(&mut [0; 16]).await.unwrap().local, to.ip());
    }
}

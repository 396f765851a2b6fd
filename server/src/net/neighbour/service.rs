//! The socket that solicitations come to, one for each interface.

use std::convert::Infallible;
use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::consume_budget;
use tokio::time::sleep;
use tracing::debug;

use super::{ADVERTISEMENT, HOP_LIMIT, Solicitation, Unanswered};
use crate::net::Mac;
use crate::net::interface::Interface;
use crate::net::sys::{datagram::bind_device, route::forwards_ipv6};

/// Answers machines that ask for an IPv6 router while `is_loading` says that they boot from their
/// firmware, for ever.
///
/// Nothing is lost without it but seconds, so what keeps it from answering is no trouble: a kernel
/// without IPv6, an interface without a link-local address. It tries again later.
pub(crate) async fn advertise(
    interface: &Interface,
    is_loading: impl Fn(Mac) -> bool,
) -> Infallible {
    loop {
        if let Err(error) = answer(interface, &is_loading).await {
            debug!(interface = interface.name, %error, "nobody is told that there is no router");
        }
        sleep(LATER).await;
    }
}

async fn answer(interface: &Interface, is_loading: &impl Fn(Mac) -> bool) -> io::Result<()> {
    let socket = open(interface)?;
    let mut bytes = [0; LONGEST];
    loop {
        // A flood of messages does not keep DHCP from its turn.
        consume_budget().await;
        let (message, from, hop_limit) =
            socket.async_io(Interest::READABLE, || receive(&socket, &mut bytes)).await?;
        let message = bytes.get(..message).unwrap_or_default();
        // On FreeBSD a socket cannot be bound to an interface.
        if from.scope_id() != interface.index {
            continue;
        }
        let mac = match Solicitation::decode(message, *from.ip(), hop_limit) {
            Ok(Solicitation { mac }) => mac,
            Err(Unanswered::Other) => continue,
            Err(reason) => {
                debug!(interface = interface.name, %from, %reason, "solicitation not answered");
                continue;
            }
        };
        // A host that is told that a default router of its own is none any more forgets it at once
        // (RFC 4861 §6.3.4), and this host may be that router, by another program.
        if !is_loading(mac) || forwards_ipv6(&interface.name) {
            continue;
        }
        // RFC 4861 §6.2.6 asks for a random delay, lest the answers of many routers to one question
        // collide. This one goes to the machine alone, which waits for it.
        match socket.try_send_to(&ADVERTISEMENT, from.into()) {
            Ok(_) => debug!(interface = interface.name, %mac, "told that there is no IPv6 router"),
            Err(error) => debug!(interface = interface.name, %mac, %error, "not sent"),
        }
    }
}

/// Opens a socket for ICMPv6 (RFC 3542 §3): the kernel checks and writes the checksums.
fn open(interface: &Interface) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_nonblocking(true)?;
    bind_device(&socket, &interface.name)?;
    socket.set_recv_hoplimit_v6(true)?;
    socket.set_unicast_hops_v6(HOP_LIMIT.unsigned_abs())?;
    socket.join_multicast_v6(&ALL_ROUTERS, interface.index)?;
    // The runtime has no type for raw sockets; what it does with one for datagrams fits them too.
    UdpSocket::from_std(socket.into())
}

/// A message's length, who sent it, and its hop limit, -1 if the kernel does not tell it.
fn receive(socket: &UdpSocket, bytes: &mut [u8]) -> io::Result<(usize, SocketAddrV6, i32)> {
    let mut control = nix::cmsg_space!(libc::c_int);
    let mut parts = [IoSliceMut::new(bytes)];
    let fd = socket.as_raw_fd();
    let empty = MsgFlags::empty();
    let message = recvmsg::<SockaddrIn6>(fd, &mut parts, Some(&mut control), empty)?;
    let from = message.address.ok_or(io::ErrorKind::InvalidData)?;
    let mut hop_limit = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::Ipv6HopLimit(limit) = control {
            hop_limit = Some(limit);
        }
    }
    Ok((message.bytes, from.into(), hop_limit.unwrap_or(-1)))
}

/// The group that solicitations are sent to (RFC 4291 §2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Longest message that is read; what is longer loses its end.
const LONGEST: usize = 512;

/// When it is tried again to open the socket.
const LATER: Duration = Duration::from_secs(60);

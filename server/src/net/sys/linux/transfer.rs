//! What one TFTP transfer asks of the kernel: the path's MTU, word of a client that is gone, and
//! many blocks in one call (udp(7), `UDP_SEGMENT`).

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, SockaddrStorage, getsockopt, sendmsg, setsockopt, sockopt,
};

/// The MTU of the path to `peer` in bytes, as far as the kernel knows it; `None` for IPv6.
///
/// Only a connected socket can be asked (ip(7), `IP_MTU`), so one is made for the question.
pub(crate) fn path_mtu(local: SocketAddr, peer: SocketAddr) -> Option<u32> {
    if peer.is_ipv6() {
        return None;
    }
    let asked = UdpSocket::bind(local).ok()?;
    asked.connect(peer).ok()?;
    u32::try_from(getsockopt(&asked, sockopt::IpMtu).ok()?).ok()
}

/// Makes a socket that is not connected report ICMP errors all the same (ip(7), `IP_RECVERR`).
pub(crate) fn report_unreachable(socket: &UdpSocket) -> io::Result<()> {
    match socket.local_addr()? {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true)?,
    }
    Ok(())
}

/// Sends `data` as datagrams of `segment` bytes each and a shorter last one, in one call.
///
/// Returns whether that was done; `false` means that the path or the device cannot, and that they
/// are to be sent one by one.
pub(crate) fn send_segments(
    socket: &impl AsFd,
    data: &[u8],
    segment: u16,
    peer: &SocketAddr,
) -> io::Result<bool> {
    let sent = sendmsg(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(data)],
        &[ControlMessage::UdpGsoSegments(&segment)],
        MsgFlags::empty(),
        Some(&SockaddrStorage::from(*peer)),
    );
    match sent {
        Ok(_) => Ok(true),
        // A device without checksums, a segment beyond the path's MTU, an old kernel.
        Err(Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE | Errno::EOPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

//! What one TFTP transfer asks of the kernel, as far as FreeBSD's answers.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

/// The MTU of the path to `peer`: FreeBSD has no socket option that tells it.
pub(crate) const fn path_mtu(_local: SocketAddr, _peer: SocketAddr) -> Option<u32> {
    None
}

/// FreeBSD reports ICMP errors to connected sockets only (udp(4)); elsewhere a client that is gone
/// is noticed by its silence.
pub(crate) const fn report_unreachable(_socket: &UdpSocket) -> io::Result<()> {
    Ok(())
}

/// FreeBSD does not cut UDP datagrams out of a buffer, so they are always sent one by one.
pub(crate) const fn send_segments(
    _socket: &impl AsFd,
    _data: &[u8],
    _segment: u16,
    _peer: &SocketAddr,
) -> io::Result<bool> {
    Ok(false)
}

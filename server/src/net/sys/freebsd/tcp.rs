//! What the kernel knows of a connection's peer: `TCP_INFO` (tcp(4)).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use socket2::SockRef;

use crate::net::rpc::Silence;

/// Reads how long ago the peer was heard of. The kernel does not count attempts to send again that
/// are still unanswered.
///
/// # Errors
///
/// The kernel does not tell.
#[expect(unsafe_code, reason = "no crate of ours wraps TCP_INFO")]
pub(crate) fn silence(socket: BorrowedFd<'_>) -> io::Result<Silence> {
    // SAFETY: all of its fields are integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).unwrap_or(0);
    let into = (&raw mut info).cast();
    // SAFETY: `into` points to `len` bytes that outlive the call, of which the kernel writes at most
    // `len`; the descriptor is borrowed, so that it is open.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut len)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // In microseconds, and of any segment: all but the first acknowledge something.
    let heard = Duration::from_micros(u64::from(info.tcpi_last_data_recv));
    Ok(Silence { heard, sent: Duration::MAX, unanswered: 0 })
}

/// Sends bytes, of which `more` come at once, and returns how many the socket took. `more` is not told: nobody
/// here sends the rest in another way, for which FreeBSD has TCP_NOPUSH.
///
/// # Errors
///
/// `WouldBlock` when it takes none now, else the connection's.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], _more: bool) -> io::Result<usize> {
    SockRef::from(&socket).send_with_flags(bytes, libc::MSG_NOSIGNAL)
}

/// Bounds the time between two attempts to send the same: the kernel has one bound for all sockets
/// (`net.inet.tcp.rexmit_max`), which stays as it is.
pub(crate) const fn cap_retransmission(_socket: BorrowedFd<'_>, _most: Duration) {}

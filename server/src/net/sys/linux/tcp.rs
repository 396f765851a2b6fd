//! What the kernel knows of a connection's peer: `TCP_INFO` (tcp(7)).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use socket2::SockRef;

use crate::net::rpc::Silence;

/// Reads how long ago the peer was heard of.
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
    let ago = |milliseconds| Duration::from_millis(u64::from(milliseconds));
    Ok(Silence {
        heard: ago(info.tcpi_last_ack_recv),
        sent: ago(info.tcpi_last_data_sent),
        unanswered: if info.tcpi_unacked > 0 { info.tcpi_retransmits } else { 0 },
    })
}

/// Sends bytes, of which `more` come at once, and returns how many the socket took.
///
/// # Errors
///
/// `WouldBlock` when it takes none now, else the connection's.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], more: bool) -> io::Result<usize> {
    SockRef::from(&socket)
        .send_with_flags(bytes, libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 })
}

/// Bounds the time between two attempts to send the same. Kernels before 6.15 cannot, and double it up
/// to two minutes.
#[expect(unsafe_code, reason = "no crate of ours knows TCP_RTO_MAX_MS")]
pub(crate) fn cap_retransmission(socket: BorrowedFd<'_>, most: Duration) {
    let milliseconds = libc::c_int::try_from(most.as_millis()).unwrap_or(libc::c_int::MAX);
    let len = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    let value = (&raw const milliseconds).cast();
    // SAFETY: `value` points to `len` bytes that outlive the call; the descriptor is borrowed, so that
    // it is open.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, TCP_RTO_MAX_MS, value, len)
    };
    if done != 0 {
        tracing::trace!(error = %io::Error::last_os_error(), "retransmission is not bounded");
    }
}

/// Of `linux/tcp.h`, since 6.15.
const TCP_RTO_MAX_MS: libc::c_int = 44;

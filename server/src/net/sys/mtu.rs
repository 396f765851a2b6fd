//! The largest packet that an interface sends (netdevice(7), netintro(4)).
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use socket2::{Domain, Socket, Type};

use super::SIOCGIFMTU;

/// Asks the kernel for an interface's MTU.
///
/// # Errors
///
/// There is no such interface, or there are no more descriptors.
pub(crate) fn of(name: &str) -> io::Result<u32> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?;
    let mut ifr_name: [c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    let room = libc::IFNAMSIZ.saturating_sub(1);
    for (to, from) in ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 };
    let mut request = libc::ifreq { ifr_name, ifr_ifru };
    // SAFETY: SIOCGIFMTU reads the name, which ends in a NUL, and writes the MTU into `request`, which
    // lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGIFMTU, &raw mut request) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so that this is the member that the kernel wrote.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).map_err(io::Error::other)
}

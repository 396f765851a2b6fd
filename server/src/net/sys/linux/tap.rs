//! An interface for a guest of this host, in a bridge (Documentation/networking/tuntap.rst).
#![allow(unsafe_code)]

use std::ffi::{c_char, c_short};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Socket, Type};

/// Makes an interface whose frames come and go by the descriptor, and puts it into a bridge. It lives as
/// long as the descriptor and its copies are open, so that nothing is left of it whoever is killed.
///
/// # Errors
///
/// There is no such bridge, or this process may not (CAP_NET_ADMIN).
pub(crate) fn join(bridge: &str) -> io::Result<OwnedFd> {
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut request = request("");
    request.ifr_ifru.ifru_flags = short(libc::IFF_TAP | libc::IFF_NO_PI);
    // SAFETY: TUNSETIFF reads and writes `request`, which lives through the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })?;
    let name: Vec<u8> = request.ifr_name.iter().map(|letter| letter.to_ne_bytes()[0]).collect();
    let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
    enslave(bridge, &name)?;
    Ok(tun.into())
}

/// Whether an interface is a bridge, or this process may not know (CAP_NET_ADMIN).
pub(crate) fn is_bridge(name: &str) -> bool {
    // The kernel looks what the interface is before it looks for the one that is to join it, of which no
    // interface has the number 0. What sysfs has is of the network namespace that it was mounted in.
    let unsupported = Some(libc::EOPNOTSUPP);
    add_to(name, 0).err().and_then(|error| error.raw_os_error()) != unsupported
}

/// Puts an interface into a bridge, by its number.
fn add_to(bridge: &str, index: i32) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?;
    let mut joining = request(bridge);
    joining.ifr_ifru.ifru_ifindex = index;
    // SAFETY: SIOCBRADDIF reads `joining`, whose name ends in a NUL, and which lives through the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCBRADDIF as _, &raw mut joining) })
}

/// Puts an interface into a bridge, and switches it on.
fn enslave(bridge: &str, name: &str) -> io::Result<()> {
    let index = if_nametoindex(name)?;
    add_to(bridge, i32::try_from(index).map_err(io::Error::other)?)?;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?;
    let mut up = request(name);
    up.ifr_ifru.ifru_flags = short(libc::IFF_UP);
    // SAFETY: as above.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut up) })
}

fn request(name: &str) -> libc::ifreq {
    let mut ifr_name: [c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    let room = libc::IFNAMSIZ.saturating_sub(1);
    for (to, from) in ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_ifindex: 0 } }
}

fn short(flags: libc::c_int) -> c_short {
    c_short::try_from(flags).unwrap_or_default()
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// linux/sockios.h.
const SIOCBRADDIF: u64 = 0x89a2;

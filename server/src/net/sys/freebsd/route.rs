//! Whether the kernel is a router (inet(4), inet6(4)).
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use nix::libc;

/// Whether the host forwards IPv4 packets between its interfaces.
pub(crate) fn forwards_ipv4() -> bool {
    is_set(c"net.inet.ip.forwarding")
}

/// Whether the host forwards IPv6 packets, as a router does; FreeBSD does so on all interfaces.
pub(crate) fn forwards_ipv6(_interface: &str) -> bool {
    is_set(c"net.inet6.ip6.forwarding")
}

/// Whether a number of the kernel's is there and not zero (sysctlbyname(3)).
fn is_set(name: &CStr) -> bool {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>();
    // SAFETY: the name ends in a NUL; `value` and `len` live through the call, and `len` says how
    // many bytes the kernel may write to `value`; nothing is set, so the new value may be null.
    let result = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            ptr::from_mut(&mut value).cast::<c_void>(),
            &raw mut len,
            ptr::null(),
            0,
        )
    };
    result == 0 && value != 0
}

//! Whether the kernel is a router (inet(4), `net.inet.ip.forwarding`).
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;

use nix::libc;

/// Whether the host forwards IPv4 packets between its interfaces.
pub(crate) fn forwards_ipv4() -> bool {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>();
    // SAFETY: the name ends in a NUL; `value` and `len` live through the call, and `len` says how
    // many bytes the kernel may write to `value`; nothing is set, so the new value may be null.
    let result = unsafe {
        libc::sysctlbyname(
            c"net.inet.ip.forwarding".as_ptr(),
            ptr::from_mut(&mut value).cast::<c_void>(),
            &raw mut len,
            ptr::null(),
            0,
        )
    };
    result == 0 && value != 0
}

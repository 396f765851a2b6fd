//! Whether the kernel is a router (ip(7), `ip_forward`).

/// Whether the host forwards IPv4 packets between its interfaces.
pub(crate) fn forwards_ipv4() -> bool {
    std::fs::read("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.first() == Some(&b'1'))
}

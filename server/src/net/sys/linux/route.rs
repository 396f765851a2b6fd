//! Whether the kernel is a router (ip(7), `ip_forward`; `forwarding` of IPv6).

/// Whether the host forwards IPv4 packets between its interfaces.
pub(crate) fn forwards_ipv4() -> bool {
    std::fs::read("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.first() == Some(&b'1'))
}

/// Whether the host forwards IPv6 packets that come by this interface, as a router does.
pub(crate) fn forwards_ipv6(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    std::fs::read(path).is_ok_and(|text| text.first() != Some(&b'0'))
}

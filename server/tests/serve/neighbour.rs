//! Machines that ask for an IPv6 router while their firmware boots.

use std::io::Read as _;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::bench::{Net, Running, Site};

/// A Router Solicitation with the client's Ethernet address, as iPXE sends it; the kernel fills in
/// the checksum.
const SOLICITATION: [u8; 16] = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0, 0, 1];

#[test]
fn firmware_is_told_at_once_that_there_is_no_ipv6_router() {
    let Some(net) = Net::new(&["busybox"]) else { return };
    let site = Site::with_base();
    site.done(&["sharepxe", "--default", "base"]);
    // The addresses shall be good at once, without a search for others that have them.
    net.ip(&["address", "add", "fe80::1/64", "dev", "s0", "nodad"]);
    net.client(&["ip", "address", "add", "fe80::2/64", "dev", "c0", "nodad"]);
    let _running =
        Running::start(&site, &net, &["--mode", "serve", "--range", "10.77.0.100-10.77.0.199"]);
    net.ipxe(&site);
    let advertisement = net.in_client(solicit);
    // No hop limit, no DHCPv6, no time as a default router, no times, no options.
    assert_eq!(advertisement[..2], [134, 0]);
    assert_eq!(advertisement[4..], [0; 12]);
}

/// Asks until a router answers, and gives what it answered.
fn solicit() -> Vec<u8> {
    let index = if_nametoindex("c0").unwrap();
    let mut socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
    socket.set_multicast_hops_v6(255).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    socket.bind(&SocketAddrV6::new(local, 0, 0, index).into()).unwrap();
    let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    for _ in 0..20 {
        socket.send_to(&SOLICITATION, &SocketAddrV6::new(routers, 0, 0, index).into()).unwrap();
        let mut bytes = [0; 1500];
        while let Ok(length) = socket.read(&mut bytes) {
            if bytes[0] == 134 {
                return bytes[..length].to_vec();
            }
        }
    }
    panic!("no answer");
}

//! What a machine says that has chosen another DHCP server, wherever netbe hears it.

use std::net::{Ipv4Addr, SocketAddrV4};

use netbe::boot::Event;
use netbe::dhcp::{Mode, Port, Silence};
use wire::dhcp4::{Builder, Code, MessageType};

use crate::bench::{Bench, SERVER, machine, select};

const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 60);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 253);

/// netbe in each place in which it may hear the choice: what it does on the interface, and where its
/// range is.
fn places() -> [(&'static str, Bench); 4] {
    [
        ("it serves the network", Mode::Serve, "10.77.0.100-10.77.0.199"),
        ("it serves another network", Mode::Serve, "10.99.0.100-10.99.0.199"),
        ("it only listens", Mode::Passive, "10.77.0.100-10.77.0.199"),
        ("it is a proxy", Mode::Proxy, "10.77.0.100-10.77.0.199"),
    ]
    .map(|(place, mode, range)| {
        let mut bench = Bench::with_range(range);
        bench.mode = mode;
        (place, bench)
    })
}

#[test]
fn the_other_server_is_noted_everywhere() {
    for (place, mut bench) in places() {
        let chosen = bench.ask(&select(machine(1), ADDRESS, OTHER));
        assert_eq!(chosen, Err(Silence::OtherServer(OTHER)), "{place}");
        let [foreign] = bench.server.foreign() else { panic!("{place}") };
        assert_eq!(foreign.address, OTHER, "{place}");
    }
}

#[test]
fn it_is_trouble_for_the_machine_but_beside_a_proxy() {
    for (place, mut bench) in places() {
        let _ = bench.ask(&select(machine(1), ADDRESS, OTHER));
        let trouble = bench.heard(machine(1), &Event::ForeignServer(OTHER));
        assert_eq!(trouble, bench.mode != Mode::Proxy, "{place}");
    }
}

#[test]
fn the_address_is_learned_where_netbe_gives_none() {
    for (place, mut bench) in places() {
        let _ = bench.ask(&select(machine(1), ADDRESS, OTHER));
        let learned = bench.heard(machine(1), &Event::Elsewhere(ADDRESS));
        assert_eq!(learned, bench.mode != Mode::Serve, "{place}");
    }
}

#[test]
fn our_own_name_and_the_one_that_a_relay_gives_us_are_not_another_servers() {
    for (place, mut bench) in places() {
        let _ = bench.ask(&select(machine(1), ADDRESS, SERVER));
        // The relay stands between the machine and us under its own address (RFC 5107).
        let mut request = Builder::request(MessageType::Request, 1, machine(2).0);
        request.set(Code::REQUESTED_ADDRESS, ADDRESS.octets());
        request.set(Code::SERVER_IDENTIFIER, RELAY.octets());
        request.set(Code::RELAY_AGENT_INFORMATION, [&[11, 4][..], &RELAY.octets()].concat());
        let mut bytes = request.finish();
        bytes[24..28].copy_from_slice(&RELAY.octets());
        let _ = bench.arrive(&bytes, SocketAddrV4::new(RELAY, 67), SERVER, Port::Dhcp);
        assert!(bench.server.foreign().is_empty(), "{place}");
        assert!(!bench.heard(machine(2), &Event::ForeignServer(RELAY)), "{place}");
    }
}

#[test]
fn who_gives_an_address_up_has_chosen_nobody() {
    for (place, mut bench) in places() {
        for kind in [MessageType::Decline, MessageType::Release] {
            let mut message = Builder::request(kind, 1, machine(1).0);
            message.set(Code::REQUESTED_ADDRESS, ADDRESS.octets());
            message.set(Code::SERVER_IDENTIFIER, OTHER.octets());
            let _ = bench.ask(&message.finish());
            assert!(bench.server.foreign().is_empty(), "{place}: {kind:?}");
            assert!(!bench.heard(machine(1), &Event::ForeignServer(OTHER)), "{place}: {kind:?}");
        }
    }
}

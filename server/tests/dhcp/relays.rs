//! Messages that come through relay agents.

use std::net::{Ipv4Addr, SocketAddrV4};

use netbe::dhcp::{Destination, Port, Reply, Settings, Silence};
use netbe::net::interface::Network;
use wire::dhcp4::{Builder, Code, Message, MessageType};

use crate::bench::*;

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

/// A server that also hands out addresses behind a relay.
fn bench() -> Bench {
    let ranges = ["10.77.0.100-10.77.0.199", "10.88.0.50-10.88.0.99"];
    Bench::with(Settings {
        ranges: ranges.map(|range| range.parse().unwrap()).to_vec(),
        remote: vec![Network::new(RELAY, 16)],
        ..Settings::default()
    })
}

/// Passes a message on as a relay does, with its own information in it.
fn relayed(bench: &mut Bench, mut request: Builder, information: &[u8]) -> Result<Reply, Silence> {
    request.set(Code::RELAY_AGENT_INFORMATION, information);
    let mut bytes = request.finish();
    bytes[3] = 1;
    bytes[24..28].copy_from_slice(&RELAY.octets());
    let action = bench.arrive(&bytes, SocketAddrV4::new(RELAY, 67), SERVER, Port::Dhcp);
    bench.carry_out(action)
}

fn message(kind: MessageType) -> Builder {
    Builder::request(kind, 9, machine(1).0)
}

#[test]
fn a_relayed_client_gets_an_address_of_its_own_network() {
    let mut bench = bench();
    let offer = relayed(&mut bench, message(MessageType::Discover), &[1, 1, 7]).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, Ipv4Addr::new(10, 88, 0, 50));
    assert_eq!(offer.to, Destination::Relay(SocketAddrV4::new(RELAY, 67)));
    assert_eq!(offer.local, SERVER);
    assert_eq!(option(&offer, 1), Some(vec![255, 255, 0, 0]));
    assert_eq!(option(&offer, 3), Some(RELAY.octets().to_vec()));
}

#[test]
fn relay_information_goes_back_byte_for_byte_and_last() {
    let mut bench = bench();
    let information = [2, 1, b'b', 1, 0, 99, 2, 0, 0, 0];
    let offer = relayed(&mut bench, message(MessageType::Discover), &information).unwrap();
    let last = strictly(&offer.bytes).pop().unwrap();
    assert_eq!(last, (82, information.to_vec()));
}

#[test]
fn a_refusal_through_a_relay_asks_it_to_broadcast() {
    let mut bench = bench();
    let mut request = message(MessageType::Request);
    request.set(Code::REQUESTED_ADDRESS, [192, 0, 2, 7]);
    let nak = relayed(&mut bench, request, &[1, 1, 7]).unwrap();
    assert_eq!(kind(&nak), MessageType::Nak);
    assert_eq!(nak.to, Destination::Relay(SocketAddrV4::new(RELAY, 67)));
    assert!(Message::decode(&nak.bytes).unwrap().wants_broadcast());
    assert_eq!(option(&nak, 82), Some(vec![1, 1, 7]));
}

#[test]
fn a_relay_may_choose_the_link_and_our_name() {
    let mut bench = bench();
    let information = [5, 4, 10, 77, 0, 0, 11, 4, 10, 88, 0, 2];
    let offer = relayed(&mut bench, message(MessageType::Discover), &information).unwrap();
    let address = Message::decode(&offer.bytes).unwrap().yiaddr;
    assert_eq!(address, Ipv4Addr::new(10, 77, 0, 100));
    assert_eq!(option(&offer, 54), Some(vec![10, 88, 0, 2]));
    let mut request = message(MessageType::Request);
    request.set(Code::REQUESTED_ADDRESS, address.octets());
    request.set(Code::SERVER_IDENTIFIER, [10, 88, 0, 2]);
    assert_eq!(kind(&relayed(&mut bench, request, &information).unwrap()), MessageType::Ack);
}

#[test]
fn relays_of_networks_that_are_not_served_are_not_answered() {
    let mut bench = Bench::new();
    let discover = message(MessageType::Discover);
    assert_eq!(relayed(&mut bench, discover, &[1, 1, 7]), Err(Silence::NotOurs));
}

#[test]
fn what_passed_more_than_sixteen_relays_is_garbage() {
    let mut bench = bench();
    let mut passed = |hops| {
        let mut bytes = message(MessageType::Discover).finish();
        bytes[3] = hops;
        bytes[24..28].copy_from_slice(&RELAY.octets());
        let action = bench.arrive(&bytes, SocketAddrV4::new(RELAY, 67), SERVER, Port::Dhcp);
        bench.carry_out(action).map(|offer| kind(&offer))
    };
    assert_eq!(passed(16), Ok(MessageType::Offer));
    assert_eq!(passed(17), Err(Silence::Garbage));
}

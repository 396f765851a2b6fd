//! Messages that come through relay agents.

use std::net::{Ipv4Addr, SocketAddrV4};

use netbe::dhcp::{Destination, Parameters, Port, Reply, Settings, Silence};
use wire::dhcp4::{Builder, Code, Message, MessageType};

use crate::bench::*;

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

/// A server that also hands out addresses behind a relay.
fn bench() -> Bench {
    Bench::with(Settings {
        subnets: vec![subnet("10.88.0.0/16", "10.88.0.50-10.88.0.99")],
        ..settings("10.77.0.100-10.77.0.199")
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

#[test]
fn a_message_that_no_relay_passed_on_cannot_choose_its_link_or_our_name() {
    let mut bench = bench();
    let mut request = message(MessageType::Discover);
    request.set(Code::RELAY_AGENT_INFORMATION, [5, 4, 10, 88, 0, 0, 11, 4, 10, 88, 0, 2]);
    let offer = bench.ask(&request.finish()).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, Ipv4Addr::new(10, 77, 0, 100));
    assert_eq!(option(&offer, 54), Some(SERVER.octets().to_vec()));
    let mut request = Builder::request(MessageType::Discover, 9, machine(2).0);
    request.set(Code::SUBNET_SELECTION, [10, 88, 0, 0]);
    let offer = bench.ask(&request.finish()).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, Ipv4Addr::new(10, 77, 0, 101));
}

#[test]
fn each_subnet_behind_a_relay_has_its_own_parameters() {
    let mut far = subnet("10.88.0.0/16", "10.88.0.50-10.88.0.99");
    far.parameters = Parameters {
        routers: vec![[10, 88, 0, 254].into()],
        name_servers: vec![[10, 88, 0, 53].into()],
        domain: Some("far.example".to_owned()),
        mtu: Some(1400),
        lease: std::time::Duration::from_secs(600),
        options: vec![(42, vec![10, 88, 0, 5])],
    };
    let mut bench =
        Bench::with(Settings { subnets: vec![far], ..settings("10.77.0.100-10.77.0.199") });
    let asking = || {
        let mut request = message(MessageType::Discover);
        request.set(Code::PARAMETER_REQUEST_LIST, [1, 3, 6, 15, 26, 42, 51]);
        request
    };
    let offer = relayed(&mut bench, asking(), &[1, 1, 7]).unwrap();
    assert_eq!(option(&offer, 3), Some(vec![10, 88, 0, 254]));
    assert_eq!(option(&offer, 6), Some(vec![10, 88, 0, 53]));
    assert_eq!(option(&offer, 15), Some(b"far.example".to_vec()));
    assert_eq!(option(&offer, 26), Some(vec![5, 120]));
    assert_eq!(option(&offer, 42), Some(vec![10, 88, 0, 5]));
    assert_eq!(option(&offer, 51), Some(vec![0, 0, 2, 88]));
    let near = bench.ask(&asking().finish()).unwrap();
    assert_eq!(option(&near, 51), Some(vec![0, 0, 14, 16]));
    for code in [3, 6, 15, 26, 42] {
        assert_eq!(option(&near, code), None, "{code}");
    }
}

#[test]
fn a_relay_with_an_address_elsewhere_is_known_by_the_subnets_that_name_it() {
    let mut far = subnet("10.99.0.0/24", "10.99.0.5-10.99.0.5");
    far.relays = vec!["10.88.0.0/30".parse().unwrap()];
    let mut next = subnet("10.99.1.0/24", "10.99.1.5-10.99.1.9");
    next.relays = vec!["10.88.0.1/32".parse().unwrap()];
    let mut bench = Bench::with(Settings { subnets: vec![far, next], ..Settings::default() });
    let offer = relayed(&mut bench, message(MessageType::Discover), &[1, 1, 7]).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, Ipv4Addr::new(10, 99, 0, 5));
    assert_eq!(option(&offer, 3), None, "that relay is no router of the network");
    let second = Builder::request(MessageType::Discover, 9, machine(2).0);
    let offer = relayed(&mut bench, second, &[1, 1, 7]).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, Ipv4Addr::new(10, 99, 1, 5));
}

//! An interface with several networks on its wire.

use std::net::{Ipv4Addr, SocketAddrV4};

use netbe::dhcp::{Mode, Parameters, Port, Settings, Silence};
use netbe::net::interface::Network;
use wire::dhcp4::{Builder, Code, Message, MessageType};

use crate::bench::*;

/// Our address in the second network.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);

/// A server whose interface has two networks, with one address to hand out in the first of them.
fn bench() -> Bench {
    let mut second = subnet("10.78.0.0/24", "10.78.0.100-10.78.0.199");
    second.parameters.routers = vec![[10, 78, 0, 254].into()];
    let subnets = vec![second];
    let mut bench = Bench::with(Settings { subnets, ..settings("10.77.0.100-10.77.0.100") });
    bench.interface.networks.push(Network::new(SECOND, 24));
    bench
}

fn renewal(bench: &mut Bench, n: u8, address: Ipv4Addr, server: Ipv4Addr) -> Option<MessageType> {
    let request = from_holder(MessageType::Request, machine(n), address);
    let action = bench.arrive(&request, SocketAddrV4::new(address, 68), server, Port::Dhcp);
    bench.carry_out(action).ok().map(|reply| kind(&reply))
}

#[test]
fn the_second_network_is_used_when_the_first_has_no_address_left() {
    let mut bench = bench();
    assert_eq!(bench.leased(machine(1)), Some(Ipv4Addr::new(10, 77, 0, 100)));
    let offer = bench.ask(&discover(machine(2))).unwrap();
    let address = Message::decode(&offer.bytes).unwrap().yiaddr;
    assert_eq!(address, Ipv4Addr::new(10, 78, 0, 100));
    assert_eq!(option(&offer, 54), Some(SECOND.octets().to_vec()));
    assert_eq!(option(&offer, 3), Some(vec![10, 78, 0, 254]));
    let ack = bench.ask(&select(machine(2), address, SECOND)).unwrap();
    assert_eq!((kind(&ack), ack.local), (MessageType::Ack, SECOND));
    assert!(bench.server.foreign().is_empty(), "our second address is no other server");
}

#[test]
fn a_renewal_in_the_second_network_is_granted() {
    let mut bench = bench();
    bench.leased(machine(1)).unwrap();
    let address = bench.offered(machine(2)).unwrap();
    bench.ask(&select(machine(2), address, SECOND)).unwrap();
    assert_eq!(renewal(&mut bench, 2, address, SECOND), Some(MessageType::Ack));
    let rebinding = from_holder(MessageType::Request, machine(2), address);
    assert_eq!(bench.ask(&rebinding).map(|reply| kind(&reply)), Ok(MessageType::Ack));
    let reboot = naming(MessageType::Request, machine(2), address);
    assert_eq!(bench.ask(&reboot).map(|reply| kind(&reply)), Ok(MessageType::Ack));
    // A record that was lost is mended there too.
    assert_eq!(
        renewal(&mut bench, 3, Ipv4Addr::new(10, 78, 0, 150), SECOND),
        Some(MessageType::Ack)
    );
}

#[test]
fn a_reservation_in_the_second_network_is_used() {
    let mut bench = bench();
    let kept = Ipv4Addr::new(10, 78, 0, 50);
    bench.reserve(machine(1), kept.octets());
    assert_eq!(bench.offered(machine(1)), Some(kept));
    let ack = bench.ask(&select(machine(1), kept, SECOND)).unwrap();
    assert_eq!(kind(&ack), MessageType::Ack);
}

#[test]
fn a_machine_stays_in_the_network_that_it_was_in() {
    let mut bench = bench();
    bench.leased(machine(1)).unwrap();
    let address = bench.offered(machine(2)).unwrap();
    bench.ask(&select(machine(2), address, SECOND)).unwrap();
    let release = from_holder(MessageType::Release, machine(1), Ipv4Addr::new(10, 77, 0, 100));
    assert_eq!(bench.ask(&release), Err(Silence::Nothing));
    assert_eq!(bench.offered(machine(2)), Some(address));
    bench.live(address.octets());
    bench.reserve(machine(2), [10, 77, 0, 50]);
    assert_eq!(bench.offered(machine(2)), Some(address), "its root is mounted from there");
    bench.fake.live.lock().unwrap().clear();
    assert_eq!(bench.offered(machine(2)), Some(Ipv4Addr::new(10, 77, 0, 50)));
}

#[test]
fn the_network_of_the_address_that_is_asked_for_comes_before_the_first() {
    let mut bench = bench();
    let wish = Ipv4Addr::new(10, 78, 0, 120);
    let offer = bench.ask(&naming(MessageType::Discover, machine(1), wish)).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, wish);
}

#[test]
fn a_network_without_a_range_gets_nobody_who_has_no_address_there() {
    let mut bench = Bench::with(Settings {
        subnets: vec![subnet("10.78.0.0/24", "10.78.0.100-10.78.0.199")],
        ..Settings::default()
    });
    bench.interface.networks.push(Network::new(SECOND, 24));
    assert_eq!(bench.offered(machine(1)), Some(Ipv4Addr::new(10, 78, 0, 100)));
    let theirs = naming(MessageType::Request, machine(2), Ipv4Addr::new(10, 77, 0, 9));
    assert_eq!(bench.ask(&theirs), Err(Silence::Passive), "another server hands out that network");
}

#[test]
fn what_is_asked_in_the_second_network_is_answered_from_there() {
    let mut bench = bench();
    let address = Ipv4Addr::new(10, 78, 0, 20);
    let inform = from_holder(MessageType::Inform, machine(1), address);
    let source = SocketAddrV4::new(address, 68);
    let action = bench.arrive(&inform, source, Ipv4Addr::BROADCAST, Port::Dhcp);
    let ack = bench.carry_out(action).unwrap();
    assert_eq!((ack.local, option(&ack, 54)), (SECOND, Some(SECOND.octets().to_vec())));
    assert_eq!(option(&ack, 3), Some(vec![10, 78, 0, 254]));
}

#[test]
fn two_addresses_of_ours_in_one_network_are_one_network() {
    let mut bench = Bench::new();
    bench.interface.networks.push(Network::new([10, 77, 0, 2].into(), 24));
    let offer = bench.ask(&discover(machine(1))).unwrap();
    assert_eq!(option(&offer, 54), Some(SERVER.octets().to_vec()));
    assert_eq!(bench.leased(machine(1)), Some(Ipv4Addr::new(10, 77, 0, 100)));
}

#[test]
fn an_address_that_we_got_later_is_handed_to_nobody() {
    let mut bench = Bench::new();
    bench.interface.networks.push(Network::new([10, 77, 0, 100].into(), 24));
    assert_eq!(bench.leased(machine(1)), Some(Ipv4Addr::new(10, 77, 0, 101)));
}

#[test]
fn a_root_that_lives_is_not_moved_to_another_network_of_the_wire() {
    let mut bench = bench();
    let address = Ipv4Addr::new(10, 77, 0, 100);
    assert_eq!(bench.leased(machine(1)), Some(address));
    bench.live(address.octets());
    let other = Ipv4Addr::new(10, 78, 0, 120);
    let forged = select(machine(1), other, SECOND);
    assert_eq!(bench.ask(&forged), Err(Silence::Lives));
    assert_eq!(renewal(&mut bench, 1, other, SECOND), None);
    assert_eq!(bench.offered(machine(1)), Some(address));
    assert!(!bench.heard(machine(1), &netbe::boot::Event::Leased(other)));
}

#[test]
fn extra_options_are_told_to_those_that_ask_and_to_those_that_ask_for_nothing() {
    let options = vec![(42, vec![10, 77, 0, 5])];
    let parameters = Parameters { options, ..Parameters::default() };
    let mut bench = Bench::with(Settings { parameters, ..settings("10.77.0.100-10.77.0.199") });
    let mut asks = |list: &[u8]| {
        let mut request = Builder::request(MessageType::Discover, 1, machine(1).0);
        if !list.is_empty() {
            request.set(Code::PARAMETER_REQUEST_LIST, list);
        }
        option(&bench.ask(&request.finish()).unwrap(), 42)
    };
    assert_eq!(asks(&[1, 42]), Some(vec![10, 77, 0, 5]));
    assert_eq!(asks(&[1, 3]), None);
    assert_eq!(asks(&[]), Some(vec![10, 77, 0, 5]));
}

#[test]
fn a_proxy_answers_a_question_from_the_second_network_too() {
    let mut bench = bench();
    bench.mode = Mode::Proxy;
    let address = Ipv4Addr::new(10, 78, 0, 20);
    let request = naming(MessageType::Request, machine(1), address);
    assert_eq!(bench.ask(&request), Err(Silence::Nothing));
    assert!(bench.heard(machine(1), &netbe::boot::Event::Elsewhere(address)));
}

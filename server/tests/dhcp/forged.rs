//! What anybody on the network can send about a machine whose root lives, and what a flood of
//! invented machines takes from the others.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use netbe::boot::{ClientAddress, Event, Reservation};
use netbe::dhcp::{Port, Silence, State};
use netbe::net::Mac;
use wire::dhcp4::{Message, MessageType};

use crate::bench::*;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);

/// A server on which the root of machine 1 lives at its address.
fn living() -> Bench {
    let mut bench = Bench::new();
    assert_eq!(bench.leased(machine(1)), Some(ADDRESS));
    bench.live(ADDRESS.octets());
    bench
}

/// Whether the address is still leased to machine 1, and it alone is offered it.
fn stays(bench: &mut Bench) -> bool {
    let binding = bench.server.leases().get(ADDRESS).unwrap();
    let held = (binding.mac, binding.state) == (machine(1), State::Leased);
    let stranger = bench.offered(machine(9));
    held && bench.offered(machine(1)) == Some(ADDRESS) && stranger != Some(ADDRESS)
}

fn ask(bench: &mut Bench, bytes: &[u8]) -> Result<MessageType, Silence> {
    bench.ask(bytes).map(|reply| kind(&reply))
}

/// How often the administrator was warned, in words about the address.
fn warnings(bench: &Bench) -> usize {
    let events = bench.fake.events.lock().unwrap();
    let about = ClientAddress::Ip(IpAddr::V4(ADDRESS));
    let warned = events.iter().filter(|(origin, event)| {
        *origin == about && matches!(event, Event::Advised(text) if text.contains("10.77.0.100"))
    });
    warned.count()
}

#[test]
fn a_release_of_an_address_whose_root_lives_is_ignored() {
    let mut bench = living();
    let release = from_holder(MessageType::Release, machine(1), ADDRESS);
    assert_eq!(ask(&mut bench, &release), Err(Silence::Lives));
    assert!(stays(&mut bench));
    assert!(!bench.heard(machine(1), &Event::Released(ADDRESS)));
}

#[test]
fn a_decline_of_an_address_whose_root_lives_is_ignored() {
    let mut bench = living();
    let decline = naming(MessageType::Decline, machine(1), ADDRESS);
    assert_eq!(ask(&mut bench, &decline), Err(Silence::Lives));
    assert!(stays(&mut bench));
    assert!(!bench.heard(machine(1), &Event::Declined(ADDRESS)));
}

#[test]
fn another_machine_cannot_ask_for_an_address_whose_root_lives() {
    let mut bench = living();
    bench.pass(100_000);
    let discover = naming(MessageType::Discover, machine(2), ADDRESS);
    let offer = bench.ask(&discover).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, OTHER);
    assert_eq!(ask(&mut bench, &select(machine(2), ADDRESS, SERVER)), Err(Silence::Lives));
    let renewal = from_holder(MessageType::Request, machine(2), ADDRESS);
    let source = SocketAddrV4::new(ADDRESS, 68);
    let action = bench.arrive(&renewal, source, SERVER, Port::Dhcp);
    assert_eq!(bench.carry_out(action).unwrap_err(), Silence::Lives);
    assert!(stays(&mut bench));
}

#[test]
fn its_own_ethernet_address_does_not_move_an_address_whose_root_lives() {
    let mut bench = living();
    let discover = naming(MessageType::Discover, machine(1), OTHER);
    let offer = bench.ask(&discover).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, ADDRESS);
    for forged in [
        select(machine(1), OTHER, SERVER),
        naming(MessageType::Request, machine(1), OTHER),
        from_holder(MessageType::Request, machine(1), OTHER),
    ] {
        assert_eq!(ask(&mut bench, &forged), Err(Silence::Lives));
    }
    assert!(stays(&mut bench));
    assert!(!bench.heard(machine(1), &Event::Leased(OTHER)));
    let renewal = from_holder(MessageType::Request, machine(1), ADDRESS);
    assert_eq!(ask(&mut bench, &renewal), Ok(MessageType::Ack));
}

#[test]
fn a_released_address_whose_root_lives_survives_the_choice_of_another_server() {
    let mut bench = Bench::new();
    bench.leased(machine(1)).unwrap();
    let release = from_holder(MessageType::Release, machine(1), ADDRESS);
    assert_eq!(ask(&mut bench, &release), Err(Silence::Nothing));
    bench.live(ADDRESS.octets());
    assert_eq!(bench.offered(machine(1)), Some(ADDRESS));
    let other = Ipv4Addr::new(10, 77, 0, 254);
    let chosen = ask(&mut bench, &select(machine(1), OTHER, other));
    assert_eq!(chosen, Err(Silence::OtherServer(other)));
    assert_eq!(bench.offered(machine(1)), Some(ADDRESS));
    assert_eq!(bench.offered(machine(2)), Some(OTHER));
}

#[test]
fn a_reservation_for_another_machine_waits_for_a_root_that_lives() {
    let mut bench = living();
    bench.reserve(machine(2), ADDRESS.octets());
    assert_eq!(bench.offered(machine(1)), Some(ADDRESS));
    assert_ne!(bench.offered(machine(2)), Some(ADDRESS));
    let renewal = from_holder(MessageType::Request, machine(1), ADDRESS);
    assert_eq!(ask(&mut bench, &renewal), Ok(MessageType::Ack));
}

#[test]
fn a_dispute_is_told_once_for_a_machine() {
    let mut bench = living();
    for _ in 0..10 {
        let release = from_holder(MessageType::Release, machine(1), ADDRESS);
        assert_eq!(ask(&mut bench, &release), Err(Silence::Lives));
        let decline = naming(MessageType::Decline, machine(1), ADDRESS);
        assert_eq!(ask(&mut bench, &decline), Err(Silence::Lives));
    }
    assert_eq!(warnings(&bench), 1);
}

#[test]
fn an_address_that_a_named_machine_had_is_not_handed_to_strangers() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.101");
    let named = Reservation { address: None, name: "web1".to_owned() };
    bench.fake.reservations.lock().unwrap().insert(machine(1), named);
    assert_eq!(bench.leased(machine(1)), Some(ADDRESS));
    bench.pass(100_000);
    assert_eq!(bench.leased(machine(2)), Some(OTHER));
    assert_eq!(bench.offered(machine(3)), None);
    let asked = naming(MessageType::Discover, machine(3), ADDRESS);
    assert_eq!(ask(&mut bench, &asked), Err(Silence::Exhausted));
    assert_eq!(bench.leased(machine(1)), Some(ADDRESS));
    bench.fake.reservations.lock().unwrap().clear();
    bench.pass(100_000);
    assert_eq!(bench.leased(machine(3)), Some(ADDRESS));
}

#[test]
fn a_flood_of_invented_machines_starves_nobody_for_long() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.119");
    let invented = |n: u8| Mac([2, 0xbb, 0, 0, 0, n]);
    for n in 0..20 {
        assert!(bench.offered(invented(n)).is_some());
    }
    assert_eq!(bench.offered(machine(1)), None);
    let named = Reservation { address: None, name: "web2".to_owned() };
    bench.fake.reservations.lock().unwrap().insert(machine(2), named);
    assert!(bench.leased(machine(2)).is_some(), "a named machine does not wait");
    bench.pass(8);
    assert!(bench.leased(machine(1)).is_some(), "a stranger waits for seconds");
    for n in 20..60 {
        let _ = bench.offered(invented(n));
    }
    bench.pass(8);
    assert!(bench.leased(machine(3)).is_some());
    for n in 1..=3 {
        assert_eq!(bench.server.leases().iter().filter(|lease| lease.mac == machine(n)).count(), 1);
    }
}

#[test]
fn an_address_is_kept_for_each_named_machine_that_never_had_one() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.119");
    for (number, name) in [(2, "web2"), (3, "web3"), (4, "web3")] {
        let named = Reservation { address: None, name: name.to_owned() };
        bench.fake.reservations.lock().unwrap().insert(machine(number), named);
    }
    let leased = (0..40).filter(|n| bench.leased(Mac([2, 0xbb, 0, 0, 0, *n])).is_some()).count();
    assert_eq!(leased, 18, "two of twenty are left");
    assert!(bench.leased(machine(2)).is_some());
    assert!(bench.leased(machine(4)).is_some(), "by its second card");
    // Whoever names more machines than there are addresses starves no stranger.
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.119");
    for number in 0..100 {
        let named = Reservation { address: None, name: format!("web{number}") };
        bench.fake.reservations.lock().unwrap().insert(machine(number), named);
    }
    let leased = (0..40).filter(|n| bench.leased(Mac([2, 0xbb, 0, 0, 0, *n])).is_some()).count();
    assert_eq!(leased, 10);
}

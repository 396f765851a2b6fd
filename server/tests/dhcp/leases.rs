//! Who gets which address, for how long, and who does not.

use std::net::{Ipv4Addr, SocketAddrV4};

use netbe::boot::{Event, Reservation};
use netbe::dhcp::{Action, Destination, Mode, Parameters, Port, Settings, Silence, State};
use wire::dhcp4::{Builder, Code, Message, MessageType};

use crate::bench::*;

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);

/// Renews by unicast.
fn renew(bench: &mut Bench, n: u8, address: Ipv4Addr) -> Result<MessageType, Silence> {
    let request = from_holder(MessageType::Request, machine(n), address);
    let action = bench.arrive(&request, SocketAddrV4::new(address, 68), SERVER, Port::Dhcp);
    bench.carry_out(action).map(|reply| kind(&reply))
}

#[test]
fn leases_survive_a_kill() {
    let mut bench = Bench::new();
    assert_eq!(bench.leased(machine(1)), Some(FIRST));
    assert_eq!(bench.leased(machine(2)), Some(SECOND));
    bench.killed("10.77.0.100-10.77.0.199");
    assert_eq!(bench.offered(machine(3)), Some(Ipv4Addr::new(10, 77, 0, 102)));
    assert_eq!(bench.offered(machine(2)), Some(SECOND));
    assert_eq!(renew(&mut bench, 1, FIRST), Ok(MessageType::Ack));
}

/// Renews by broadcast, when its own server did not answer.
fn rebind(bench: &mut Bench, n: u8, address: Ipv4Addr) -> Result<MessageType, Silence> {
    let request = from_holder(MessageType::Request, machine(n), address);
    let from = SocketAddrV4::new(address, 68);
    let action = bench.arrive(&request, from, Ipv4Addr::BROADCAST, Port::Dhcp);
    bench.carry_out(action).map(|reply| kind(&reply))
}

#[test]
fn a_lease_that_runs_is_renewed_though_its_range_was_moved_away() {
    let moved = Ipv4Addr::new(10, 77, 0, 150);
    let mut bench = Bench::new();
    assert_eq!(bench.leased(machine(1)), Some(FIRST));
    assert_eq!(bench.leased(machine(2)), Some(SECOND));
    bench.server.set_settings(settings("10.77.0.150-10.77.0.199"));
    for _ in 0..4 {
        bench.pass(1800);
        assert_eq!(renew(&mut bench, 1, FIRST), Ok(MessageType::Ack));
    }
    bench.pass(3000);
    assert_eq!(rebind(&mut bench, 1, FIRST), Ok(MessageType::Ack));
    // Its lease is nobody else's, and one that has run out is over.
    assert_eq!(renew(&mut bench, 3, FIRST), Ok(MessageType::Nak));
    assert_eq!(renew(&mut bench, 2, SECOND), Ok(MessageType::Nak));
    // Whoever starts anew has an address of the new range, and the old one no more.
    let remembered = naming(MessageType::Request, machine(1), FIRST);
    assert_eq!(bench.ask(&remembered).map(|reply| kind(&reply)), Ok(MessageType::Nak));
    assert_eq!(bench.leased(machine(1)), Some(moved));
    assert_eq!(renew(&mut bench, 1, FIRST), Ok(MessageType::Nak));
    assert_eq!(renew(&mut bench, 1, moved), Ok(MessageType::Ack));
}

#[test]
fn a_lease_out_of_the_ranges_gives_way_to_what_is_reserved() {
    let mut bench = Bench::new();
    assert_eq!(bench.leased(machine(1)), Some(FIRST));
    assert_eq!(bench.leased(machine(2)), Some(SECOND));
    bench.server.set_settings(settings("10.77.0.150-10.77.0.199"));
    bench.reserve(machine(1), [10, 77, 0, 9]);
    assert_eq!(renew(&mut bench, 1, FIRST), Ok(MessageType::Nak));
    bench.reserve(machine(3), SECOND.octets());
    assert_eq!(renew(&mut bench, 2, SECOND), Ok(MessageType::Nak));
}

#[test]
fn who_has_an_address_is_answered_before_it_is_known_whether_another_server_is_there() {
    let mut bench = Bench::new();
    assert_eq!(bench.leased(machine(1)), Some(FIRST));
    bench.offered(machine(2)).unwrap();
    bench.reserve(machine(3), [10, 77, 0, 9]);
    bench.killed("10.77.0.100-10.77.0.199");
    bench.mode = Mode::Looking;
    assert_eq!(renew(&mut bench, 1, FIRST), Ok(MessageType::Ack));
    assert_eq!(bench.leased(machine(1)), Some(FIRST));
    assert_eq!(bench.leased(machine(3)), Some(Ipv4Addr::new(10, 77, 0, 9)));
    assert_eq!(bench.ask(&discover(machine(2))).err(), Some(Silence::Passive));
    let request = select(machine(4), SECOND, SERVER);
    assert_eq!(bench.ask(&request).err(), Some(Silence::Passive));
    assert_eq!(renew(&mut bench, 4, SECOND), Err(Silence::Passive));
    // Another server's client that once was ours, and one whose lease has run out, are left to it.
    let elsewhere = naming(MessageType::Request, machine(1), Ipv4Addr::new(10, 77, 0, 60));
    assert_eq!(bench.ask(&elsewhere).err(), Some(Silence::Passive));
    bench.pass(365 * 86_400);
    assert_eq!(bench.ask(&discover(machine(1))).err(), Some(Silence::Passive));
    bench.mode = Mode::Serve;
    assert!(bench.offered(machine(2)).is_some());
}

#[test]
fn an_ack_cannot_be_had_without_writing_it_down() {
    let mut bench = Bench::new();
    bench.offered(machine(1)).unwrap();
    let action = bench.action(&select(machine(1), FIRST, SERVER));
    assert!(matches!(action, Action::Commit(_)));
}

#[test]
fn a_named_machines_new_binding_waits_for_the_disk_and_its_renewal_does_not() {
    let mut bench = Bench::new();
    bench.reserve(machine(1), [10, 77, 0, 50]);
    let kept = Ipv4Addr::new(10, 77, 0, 50);
    assert_eq!(bench.offered(machine(1)), Some(kept));
    let waits = |bench: &mut Bench| match bench.action(&select(machine(1), kept, SERVER)) {
        Action::Commit(commit) => commit.waits_for_disk(),
        other @ (Action::Send(_) | Action::Silence(_)) => panic!("{other:?}"),
    };
    assert!(waits(&mut bench));
    assert!(!waits(&mut bench));
}

#[test]
fn a_machine_that_was_away_finds_its_old_address() {
    let mut bench = Bench::new();
    bench.leased(machine(1)).unwrap();
    bench.pass(100_000);
    assert_eq!(bench.leased(machine(2)), Some(SECOND));
    assert_eq!(bench.leased(machine(1)), Some(FIRST));
}

#[test]
fn a_free_address_that_is_asked_for_is_given() {
    let mut bench = Bench::new();
    let wish = Ipv4Addr::new(10, 77, 0, 150);
    let offer = bench.ask(&naming(MessageType::Discover, machine(1), wish)).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, wish);
    let offer = bench.ask(&naming(MessageType::Discover, machine(2), wish)).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, FIRST);
    let outside = Ipv4Addr::new(10, 77, 0, 9);
    let offer = bench.ask(&naming(MessageType::Discover, machine(3), outside)).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, SECOND);
}

#[test]
fn special_addresses_are_given_to_nobody() {
    let mut bench = Bench::with_range("10.77.0.0-10.77.0.2");
    assert_eq!(bench.leased(machine(1)), Some(Ipv4Addr::new(10, 77, 0, 2)));
    assert_eq!(bench.offered(machine(2)), None);
    let mut bench = Bench::with_range("10.77.0.254-10.77.1.9");
    assert_eq!(bench.leased(machine(1)), Some(Ipv4Addr::new(10, 77, 0, 254)));
    assert_eq!(bench.offered(machine(2)), None);
}

#[test]
fn a_full_pool_is_silent_and_says_why() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.101");
    bench.leased(machine(1)).unwrap();
    bench.leased(machine(2)).unwrap();
    assert_eq!(bench.ask(&discover(machine(3))), Err(Silence::Exhausted));
    let reason = "no address is left in 10.77.0.1/24".to_owned();
    assert!(bench.heard(machine(3), &Event::Unserved(reason)));
}

#[test]
fn a_named_machine_comes_before_what_strangers_were_offered() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.101");
    assert_eq!(bench.leased(machine(1)), Some(FIRST));
    assert_eq!(bench.offered(machine(2)), Some(SECOND));
    let name = Reservation { address: None, name: "web3".to_owned() };
    bench.fake.reservations.lock().unwrap().insert(machine(3), name);
    assert_eq!(bench.offered(machine(4)), None);
    assert_eq!(bench.leased(machine(3)), Some(SECOND));
    assert_eq!(
        bench.ask(&select(machine(2), SECOND, SERVER)).map(|r| kind(&r)),
        Ok(MessageType::Nak)
    );
}

#[test]
fn the_lease_that_ran_out_first_is_given_away_first() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.101");
    bench.leased(machine(1)).unwrap();
    bench.pass(100);
    bench.leased(machine(2)).unwrap();
    bench.pass(3550);
    assert_eq!(bench.leased(machine(3)), Some(FIRST));
    assert_eq!(bench.offered(machine(4)), None);
    bench.pass(100);
    assert_eq!(bench.leased(machine(4)), Some(SECOND));
}

#[test]
fn an_address_whose_root_lives_is_not_given_away() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.100");
    bench.leased(machine(1)).unwrap();
    bench.live([10, 77, 0, 100]);
    bench.pass(10_000);
    assert_eq!(bench.offered(machine(2)), None);
    assert_eq!(bench.leased(machine(1)), Some(FIRST));
    bench.fake.live.lock().unwrap().clear();
    bench.pass(10_000);
    assert_eq!(bench.leased(machine(2)), Some(FIRST));
}

#[test]
fn a_reservation_is_its_machines_alone() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.101");
    bench.reserve(machine(1), [10, 77, 0, 100]);
    assert_eq!(bench.leased(machine(2)), Some(SECOND));
    assert_eq!(bench.offered(machine(3)), None);
    assert_eq!(bench.leased(machine(1)), Some(FIRST));
}

#[test]
fn a_reservation_need_not_lie_in_a_range_and_names_its_machine() {
    let mut bench = Bench::new();
    bench.reserve(machine(1), [10, 77, 0, 7]);
    let offer = bench.ask(&discover(machine(1))).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, Ipv4Addr::new(10, 77, 0, 7));
    assert_eq!(option(&offer, 12), Some(b"kept".to_vec()));
}

#[test]
fn a_new_reservation_waits_until_the_old_root_is_gone() {
    let mut bench = Bench::new();
    bench.leased(machine(1)).unwrap();
    bench.live([10, 77, 0, 100]);
    bench.reserve(machine(1), [10, 77, 0, 7]);
    assert_eq!(renew(&mut bench, 1, FIRST), Ok(MessageType::Ack));
    bench.fake.live.lock().unwrap().clear();
    assert_eq!(renew(&mut bench, 1, FIRST), Ok(MessageType::Nak));
    assert_eq!(bench.leased(machine(1)), Some(Ipv4Addr::new(10, 77, 0, 7)));
    assert_eq!(bench.server.leases().get(FIRST).unwrap().state, State::Released);
}

#[test]
fn a_machine_that_boots_gets_its_new_reservation_though_its_old_root_seems_to_live() {
    const NEW: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 7);
    let mut bench = Bench::new();
    bench.leased(machine(1)).unwrap();
    bench.live([10, 77, 0, 100]);
    bench.reserve(machine(1), NEW.octets());
    // What runs asks for its own address, and keeps it.
    assert_eq!(bench.leased(machine(1)), Some(FIRST));
    assert_eq!(renew(&mut bench, 1, FIRST), Ok(MessageType::Ack));
    let mut firmware = Builder::request(MessageType::Discover, 1, machine(1).0);
    firmware.set(Code::VENDOR_CLASS, *b"PXEClient:Arch:00007:UNDI:003016");
    let offer = bench.ask(&firmware.finish()).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, NEW);
    let taken = bench.ask(&select(machine(1), NEW, SERVER)).map(|reply| kind(&reply));
    assert_eq!(taken, Ok(MessageType::Ack));
    // The loader and the kernel of this boot have the same, and the old root is not moved.
    assert_eq!(bench.leased(machine(1)), Some(NEW));
    assert_eq!(renew(&mut bench, 1, FIRST), Ok(MessageType::Ack));
    // Was all that forged, the system that runs still gets the address that it asks for.
    let mut running = Builder::request(MessageType::Discover, 2, machine(1).0);
    running.set(Code::REQUESTED_ADDRESS, FIRST.octets());
    let offer = bench.ask(&running.finish()).unwrap();
    assert_eq!(Message::decode(&offer.bytes).unwrap().yiaddr, FIRST);
}

#[test]
fn an_offer_is_held_for_a_minute() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.101");
    bench.offered(machine(1)).unwrap();
    bench.pass(59);
    assert_eq!(bench.offered(machine(2)), Some(SECOND));
    let request = select(machine(1), FIRST, SERVER);
    assert_eq!(bench.ask(&request).map(|reply| kind(&reply)), Ok(MessageType::Ack));
}

#[test]
fn an_offer_that_nobody_takes_gives_way_after_eight_seconds_when_nothing_else_is_left() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.100");
    bench.offered(machine(1)).unwrap();
    bench.pass(7);
    assert_eq!(bench.offered(machine(2)), None);
    bench.pass(1);
    assert_eq!(bench.offered(machine(2)), Some(FIRST));
    assert_eq!(bench.offered(machine(1)), None);
}

#[test]
fn an_offer_that_another_server_beat_is_free_again() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.100");
    let other = Ipv4Addr::new(10, 77, 0, 254);
    bench.offered(machine(1)).unwrap();
    let lost = bench.ask(&select(machine(1), Ipv4Addr::new(10, 77, 0, 33), other));
    assert_eq!(lost, Err(Silence::OtherServer(other)));
    assert!(bench.heard(machine(1), &Event::ForeignServer(other)));
    assert_eq!(bench.server.foreign()[0].address, other);
    bench.pass(20);
    assert_eq!(bench.offered(machine(2)), Some(FIRST));
}

#[test]
fn a_declined_address_rests_and_then_returns() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.100");
    bench.leased(machine(1)).unwrap();
    let decline = naming(MessageType::Decline, machine(1), FIRST);
    assert_eq!(bench.ask(&decline), Err(Silence::Nothing));
    assert!(bench.heard(machine(1), &Event::Declined(FIRST)));
    assert_eq!(bench.offered(machine(1)), None);
    bench.killed("10.77.0.100-10.77.0.100");
    assert_eq!(bench.offered(machine(2)), None);
    bench.pass(600);
    assert_eq!(bench.offered(machine(2)), Some(FIRST));
}

#[test]
fn only_its_holder_can_decline_or_release_an_address() {
    let mut bench = Bench::new();
    bench.leased(machine(1)).unwrap();
    let decline = naming(MessageType::Decline, machine(2), FIRST);
    assert_eq!(bench.ask(&decline), Err(Silence::Unknown));
    let release = from_holder(MessageType::Release, machine(2), FIRST);
    assert_eq!(bench.ask(&release), Err(Silence::Unknown));
    let binding = bench.server.leases().get(FIRST).unwrap();
    assert_eq!((binding.mac, binding.state), (machine(1), State::Leased));
}

#[test]
fn a_released_address_is_free_but_remembered() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.101");
    bench.leased(machine(1)).unwrap();
    let release = from_holder(MessageType::Release, machine(1), FIRST);
    assert_eq!(bench.ask(&release), Err(Silence::Nothing));
    assert!(bench.heard(machine(1), &Event::Released(FIRST)));
    assert_eq!(bench.leased(machine(2)), Some(SECOND));
    assert_eq!(bench.leased(machine(1)), Some(FIRST));
    assert_eq!(bench.ask(&release), Err(Silence::Nothing));
    assert_eq!(bench.leased(machine(3)), Some(FIRST));
}

#[test]
fn an_inform_is_answered_without_a_lease() {
    let mut bench = Bench::new();
    let address = Ipv4Addr::new(10, 77, 0, 20);
    let inform = from_holder(MessageType::Inform, machine(1), address);
    let source = SocketAddrV4::new(address, 10_068);
    let action = bench.arrive(&inform, source, Ipv4Addr::BROADCAST, Port::Dhcp);
    let ack = bench.carry_out(action).unwrap();
    assert_eq!((kind(&ack), ack.to), (MessageType::Ack, Destination::Address(source)));
    let message = Message::decode(&ack.bytes).unwrap();
    assert_eq!((message.yiaddr, message.ciaddr), (Ipv4Addr::UNSPECIFIED, address));
    assert_eq!(option(&ack, 1), Some(vec![255, 255, 255, 0]));
    for code in [51, 58, 59] {
        assert_eq!(option(&ack, code), None);
    }
    assert_eq!(bench.server.leases().iter().count(), 0);
    let action = bench.arrive(&inform, "192.0.2.9:68".parse().unwrap(), SERVER, Port::Dhcp);
    assert_eq!(bench.carry_out(action), Err(Silence::NotOurs));
}

#[test]
fn a_client_from_another_network_is_refused() {
    let mut bench = Bench::new();
    let elsewhere = Ipv4Addr::new(192, 168, 1, 5);
    let nak = bench.ask(&naming(MessageType::Request, machine(1), elsewhere)).unwrap();
    assert_eq!((kind(&nak), nak.to), (MessageType::Nak, Destination::Broadcast));
    assert_eq!(option(&nak, 54), Some(SERVER.octets().to_vec()));
    assert_eq!(option(&nak, 56), Some(b"192.168.1.5 is not yours here".to_vec()));
    assert_eq!(option(&nak, 51), None);
    assert_eq!(Message::decode(&nak.bytes).unwrap().yiaddr, Ipv4Addr::UNSPECIFIED);
    assert!(bench.heard(machine(1), &Event::Refused(elsewhere)));
}

#[test]
fn a_client_that_remembers_another_address_is_refused() {
    let mut bench = Bench::new();
    bench.leased(machine(1)).unwrap();
    bench.leased(machine(2)).unwrap();
    let nak = bench.ask(&naming(MessageType::Request, machine(1), SECOND)).unwrap();
    assert_eq!(kind(&nak), MessageType::Nak);
    assert_eq!(renew(&mut bench, 1, SECOND), Ok(MessageType::Nak));
    let ack = bench.ask(&naming(MessageType::Request, machine(1), FIRST)).unwrap();
    assert_eq!(kind(&ack), MessageType::Ack);
}

#[test]
fn somebody_elses_address_cannot_be_selected() {
    let mut bench = Bench::new();
    bench.leased(machine(1)).unwrap();
    let nak = bench.ask(&select(machine(2), FIRST, SERVER)).unwrap();
    assert_eq!(kind(&nak), MessageType::Nak);
    assert_eq!(bench.server.leases().get(FIRST).unwrap().mac, machine(1));
}

#[test]
fn unknown_clients_are_left_to_other_servers() {
    let mut bench = Bench::new();
    let reboot = naming(MessageType::Request, machine(1), FIRST);
    assert_eq!(bench.ask(&reboot), Err(Silence::Unknown));
    let rebind = from_holder(MessageType::Request, machine(1), FIRST);
    assert_eq!(bench.ask(&rebind), Err(Silence::Unknown));
}

#[test]
fn a_lost_record_is_mended_by_a_renewal() {
    let mut bench = Bench::new();
    assert_eq!(renew(&mut bench, 1, SECOND), Ok(MessageType::Ack));
    assert_eq!(bench.offered(machine(1)), Some(SECOND));
    assert_eq!(renew(&mut bench, 2, SECOND), Ok(MessageType::Nak));
}

#[test]
fn a_renewal_goes_back_to_the_address_itself() {
    let mut bench = Bench::new();
    bench.leased(machine(1)).unwrap();
    let rebind = from_holder(MessageType::Request, machine(1), FIRST);
    let ack = bench.ask(&rebind).unwrap();
    assert_eq!(ack.to, Destination::Address(SocketAddrV4::new(FIRST, 68)));
    assert_eq!(Message::decode(&ack.bytes).unwrap().ciaddr, FIRST);
}

#[test]
fn where_netbe_only_listens_it_says_nothing_and_hears_all() {
    let mut bench = Bench::new();
    bench.mode = Mode::Passive;
    let other = Ipv4Addr::new(10, 77, 0, 254);
    assert_eq!(bench.ask(&recorded("ovmf-discover")), Err(Silence::Passive));
    assert!(bench.fake.asked.lock().unwrap().iter().all(|ask| ask.observed), "it boots elsewhere");
    assert_eq!(bench.fake.asked.lock().unwrap().len(), 1);
    let chosen = bench.ask(&select(machine(1), FIRST, other));
    assert_eq!(chosen, Err(Silence::OtherServer(other)));
    for kind in [MessageType::Release, MessageType::Inform, MessageType::Decline] {
        let message = from_holder(kind, machine(1), FIRST);
        assert_eq!(bench.ask(&message), Err(Silence::Passive));
    }
    assert_eq!(bench.server.foreign()[0].interface, "bench0");
    assert!(bench.heard(machine(1), &Event::ForeignServer(other)));
}

#[test]
fn a_network_without_a_range_is_left_alone_but_for_reserved_machines() {
    let mut bench = Bench::with_range("10.78.0.100-10.78.0.199");
    let elsewhere = Ipv4Addr::new(172, 16, 0, 9);
    let strays = [
        discover(machine(1)),
        naming(MessageType::Request, machine(1), elsewhere),
        from_holder(MessageType::Inform, machine(1), [10, 77, 0, 30].into()),
    ];
    for stray in strays {
        assert_eq!(bench.ask(&stray).unwrap_err(), Silence::Passive);
    }
    let reason =
        "no range lies in 10.77.0.1/24, and no address there is reserved for it".to_owned();
    assert!(bench.heard(machine(1), &Event::Unserved(reason)));
    bench.reserve(machine(2), [10, 77, 0, 50]);
    assert_eq!(bench.leased(machine(2)), Some([10, 77, 0, 50].into()));
}

#[test]
fn a_router_is_told_only_if_there_is_one() {
    let router = |settings: Settings| {
        let mut bench = Bench::with(settings);
        option(&bench.ask(&discover(machine(1))).unwrap(), 3)
    };
    let plain = || settings("10.77.0.100-10.77.0.199");
    assert_eq!(router(plain()), None);
    assert_eq!(router(Settings { forwards: true, ..plain() }), Some(SERVER.octets().to_vec()));
    let routers = vec![[192, 0, 2, 1].into(), [10, 77, 0, 3].into()];
    let parameters = Parameters { routers, ..Parameters::default() };
    let given = Settings { forwards: true, parameters, ..plain() };
    assert_eq!(router(given), Some(vec![10, 77, 0, 3]), "only one that can be reached");
}

#[test]
fn the_rest_of_the_network_is_told_when_it_is_known() {
    let parameters = Parameters {
        name_servers: vec![[10, 77, 0, 53].into(), [10, 77, 0, 54].into()],
        domain: Some("lab.example".to_owned()),
        mtu: Some(1400),
        ..Parameters::default()
    };
    let mut bench = Bench::with(Settings { parameters, ..settings("10.77.0.100-10.77.0.199") });
    let offer = bench.ask(&recorded("loader-efi-12.1-discover")).unwrap();
    assert_eq!(option(&offer, 6), Some(vec![10, 77, 0, 53, 10, 77, 0, 54]));
    assert_eq!(option(&offer, 15), Some(b"lab.example".to_vec()));
    assert_eq!(option(&offer, 26), Some(vec![5, 120]));
    let unasked = bench.ask(&discover(machine(1))).unwrap();
    assert_eq!(option(&unasked, 26), None);
}

#[test]
fn an_answer_is_no_longer_than_a_packet_of_the_interface() {
    let long = vec!["d".repeat(60); 4].join(".");
    let parameters = Parameters { domain: Some(long), ..Parameters::default() };
    let options = (224..234).map(|code| (code, vec![b'x'; 120]));
    let parameters = Parameters { options: options.collect(), ..parameters };
    let mut bench = Bench::with(Settings { parameters, ..settings("10.77.0.100-10.77.0.199") });
    bench.interface.mtu = Some(1000);
    let mut question = Builder::request(MessageType::Discover, 1, machine(1).0);
    question.set(Code::MAX_MESSAGE_SIZE, 1500_u16.to_be_bytes());
    let offer = bench.ask(&question.finish()).unwrap();
    assert!((800..=1000 - 28).contains(&offer.bytes.len()), "{}", offer.bytes.len());
}

#[test]
fn a_machine_has_its_address_by_whichever_of_its_cards_asks_first() {
    let mut bench = Bench::with(Settings::default());
    let kept = Ipv4Addr::new(10, 77, 0, 50);
    bench.reserve(machine(1), kept.octets());
    bench.reserve(machine(2), kept.octets());
    assert_eq!(bench.leased(machine(2)), Some(kept));
    assert_eq!(bench.offered(machine(1)), None);
    bench.live(kept.octets());
    bench.pass(100_000);
    assert_eq!(bench.offered(machine(1)), None, "the root of the other card lives there");
    assert_eq!(bench.offered(machine(2)), Some(kept));
}

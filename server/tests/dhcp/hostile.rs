//! Any bytes at all may come from the network.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use netbe::dhcp::{Mode, Port, Silence};
use proptest::prelude::*;
use wire::dhcp4::MessageType;

use crate::bench::*;

#[test]
fn a_hardware_address_longer_than_its_field_is_garbage() {
    let mut bench = Bench::new();
    let mut bytes = recorded("ovmf-discover");
    for hlen in [0, 1, 5, 7, 16, 17, 255] {
        bytes[2] = hlen;
        assert_eq!(bench.ask(&bytes), Err(Silence::Garbage));
    }
}

#[test]
fn groups_nobody_and_ourselves_are_not_clients() {
    let mut bench = Bench::new();
    let own = bench.interface.mac.unwrap().0;
    for mac in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0; 6], own] {
        let mut bytes = recorded("ovmf-discover");
        bytes[28..34].copy_from_slice(&mac);
        assert_eq!(bench.ask(&bytes), Err(Silence::Garbage));
    }
}

#[test]
fn a_servers_words_are_not_answered() {
    let mut bench = Bench::new();
    for kind in [MessageType::Offer, MessageType::Ack, MessageType::Nak] {
        let bytes = from_holder(kind, machine(1), SERVER);
        assert_eq!(bench.ask(&bytes), Err(Silence::Garbage));
    }
    let mut reply = recorded("ovmf-discover");
    reply[0] = 2;
    assert_eq!(bench.ask(&reply), Err(Silence::Garbage));
}

#[test]
fn a_message_that_is_cut_short_anywhere_is_survived() {
    let whole = recorded("ipxe-request");
    for len in 0..whole.len() {
        let mut bench = Bench::new();
        let answered = bench.ask(&whole[..len]).is_ok();
        assert!(!answered || len >= 243, "{len} bytes were answered");
    }
}

#[test]
fn a_client_cannot_make_the_list_of_other_servers_long() {
    let mut bench = Bench::new();
    for n in 0..=255 {
        let lost = bench.ask(&select(machine(1), SERVER, [10, 0, 0, n].into()));
        assert!(matches!(lost, Err(Silence::OtherServer(_))));
    }
    assert_eq!(bench.server.foreign().len(), 16);
    assert_eq!(bench.server.foreign()[15].address.octets(), [10, 0, 0, 255]);
}

#[test]
fn many_machines_cannot_make_the_table_larger_than_the_pool() {
    let mut bench = Bench::with_range("10.77.0.100-10.77.0.109");
    for n in 0..=255 {
        bench.offered(machine(n));
    }
    assert_eq!(bench.server.leases().iter().count(), 10);
}

#[test]
fn a_panic_costs_one_message() {
    let mut bench = Bench::new();
    let fake = Arc::clone(&bench.fake);
    let holder = std::thread::spawn(move || {
        let _live = fake.live.lock().unwrap();
        panic!("whoever asks what lives panics too");
    });
    assert!(holder.join().is_err());
    assert_eq!(bench.ask(&discover(machine(1))), Err(Silence::Failed));
    bench.fake.live.clear_poison();
    assert_eq!(bench.offered(machine(1)), Some(Ipv4Addr::new(10, 77, 0, 100)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..700),
        source in any::<([u8; 4], u16)>(),
        destination in any::<[u8; 4]>(),
    ) {
        let mut bench = Bench::new();
        for port in [Port::Dhcp, Port::Pxe] {
            let source = SocketAddrV4::new(source.0.into(), source.1);
            let action = bench.arrive(&bytes, source, destination.into(), port);
            prop_assert!(bench.carry_out(action).is_err());
        }
    }

    #[test]
    fn damaged_recordings_are_survived_and_answered_correctly_if_at_all(
        which in 0..RECORDINGS.len(),
        request in any::<bool>(),
        serve in any::<bool>(),
        damage in proptest::collection::vec((0..300_usize, any::<u8>()), 1..12),
        cut in 200..1600_usize,
    ) {
        let mut bench = Bench::new();
        bench.mode = if serve { Mode::Serve } else { Mode::Passive };
        let mut bytes = recorded(&format!(
            "{}-{}",
            RECORDINGS[which],
            if request { "request" } else { "discover" }
        ));
        let len = bytes.len().min(300);
        for (at, byte) in damage {
            bytes[at % len] = byte;
        }
        bytes.truncate(cut);
        if let Ok(reply) = bench.ask(&bytes) {
            prop_assert!(serve);
            prop_assert!(reply.bytes.len() <= 1472);
            prop_assert_eq!(&reply.bytes[240..242], &[53, 1]);
            prop_assert_eq!(&reply.bytes[4..8], &bytes[4..8]);
        }
    }
}

//! Machines that have their addresses from another DHCP server.

use super::*;
use crate::boot::{Role, Ticket};

#[test]
fn an_address_from_another_server_joins_the_boot() {
    let bench = Bench::new(Some("base"), None);
    bench.discover(UEFI, 1);
    assert_eq!(bench.root(), None);
    bench.boots.report(ClientAddress::Mac(MAC), Event::Elsewhere(ADDRESS));
    assert_eq!(&*bench.root().unwrap().machine, "web1");
    let bench = bench.restart(Some("base"), None);
    assert_eq!(&*bench.root().unwrap().machine, "web1");
}

#[test]
fn who_boots_nothing_of_ours_is_not_remembered_for_its_address() {
    let bench = Bench::new(Some("base"), None);
    bench.boots.report(ClientAddress::Mac(OTHER), Event::Elsewhere(ADDRESS));
    assert_eq!(bench.root(), None);
    assert_eq!(bench.boots.standings().len(), 1, "only the named one");
}

#[test]
fn a_message_takes_no_address_from_a_root_that_lives() {
    let bench = Bench::new(Some("base"), Some("base"));
    bench.discover(UEFI, 1);
    bench.boots.report(ClientAddress::Mac(MAC), Event::Elsewhere(ADDRESS));
    bench.mount(1, "/be/base");
    bench.ask(OTHER, UEFI, 2, true);
    bench.boots.report(ClientAddress::Mac(OTHER), Event::Elsewhere(ADDRESS));
    assert_eq!(&*bench.root().unwrap().machine, "web1");
}

#[test]
fn who_knows_a_boot_id_first_is_the_machine_whose_address_is_not_known() {
    let bench = Bench::new(Some("base"), None);
    bench.discover(IPXE_ROM, 1);
    let sent = |role| Event::Sent {
        ticket: Ticket { boot: Some(BootId(1)), role },
        name: "b/0000000000000001/boot.ipxe".to_owned(),
        bytes: 9,
        total: 9,
        protocol: FileProtocol::Http,
    };
    bench.boots.report(ClientAddress::Ip(ADDRESS.into()), sent(Role::Script));
    assert_eq!(&*bench.root().unwrap().machine, "web1");
    let later = Ipv4Addr::new(10, 0, 0, 101);
    bench.boots.report(ClientAddress::Ip(later.into()), sent(Role::Script));
    assert_eq!(bench.root_at(later), None, "the second one is a stranger");
}

#[test]
fn a_script_is_found_without_a_boot_id_by_the_machines_address() {
    let bench = Bench::new(Some("base"), None);
    let stranger = bench.fetch(FileProtocol::Http, "/boot.ipxe").unwrap_err();
    assert!(matches!(stranger, FileError::Refused(_)), "{stranger:?}");
    bench.discover(IPXE_ROM, 1);
    bench.boots.report(ClientAddress::Mac(MAC), Event::Elsewhere(ADDRESS));
    let script = bench.fetch(FileProtocol::Http, "/boot.ipxe").unwrap();
    assert!(script.contains("http://10.0.0.1/b/0000000000000001/kernel"), "{script}");
    assert_eq!(bench.fetch(FileProtocol::Http, "/kernel"), Err(FileError::NotFound));
}

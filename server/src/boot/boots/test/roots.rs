//! Machines whose roots are clones: ordered when a boot begins, and waited for by its loader.

use super::*;
use crate::boot::decide::Awaited;
use crate::boot::{Role, Ticket};
use crate::site::machine::RootKind;
use provision::roots::Owned;

fn machine() -> MachineName {
    "web1".parse().unwrap()
}

/// A bench whose machine boots a clone of `base`, or of another environment.
fn with_clone(root: RootKind, template: &str) -> Bench {
    let bench = Bench::new(None, None);
    bench.assign(root, template, None);
    bench
}

impl Bench {
    fn assign(&self, root: RootKind, template: &str, once: Option<&str>) {
        let mut roster = Roster::default();
        let (environment, once) = (Some(template.to_owned()), once.map(str::to_owned));
        let record = Machine { macs: vec![MAC], environment, once, root, ..Machine::default() };
        roster.insert(machine(), record, false).unwrap();
        self.boots.set_roster(roster);
    }

    fn publish(&self, environments: Vec<Environment>) {
        self.boots.set_environments(environments);
        self.boots.catalog().wait_until_scanned();
    }

    fn leased(&self) {
        self.boots.report(ClientAddress::Mac(MAC), Event::Leased(ADDRESS));
    }

    /// The clone appears in the store.
    fn clone_made(&self, name: &str, template: &str, fresh: bool) {
        let mut all = environments();
        let made = all.iter().find(|known| known.name == template).unwrap().clone();
        let owned = Owned {
            machine: "web1".to_owned(),
            template: template.to_owned(),
            origin: Some(made.uuid),
            fresh,
            created: "2026-11-20T17:00:00Z".parse().unwrap(),
        };
        let (name, owned) = (name.to_owned(), Some(owned));
        all.push(Environment { name, uuid: Uuid::from_u128(9), owned, ..made });
        self.publish(all);
    }

    fn ordered(&self) -> Vec<Order> {
        std::mem::take(&mut *self.orders.lock().unwrap())
    }
}

fn awaited(template: &str, fresh: bool) -> Awaited {
    Awaited { template: template.to_owned(), fresh }
}

fn make(template: &str, fresh: bool) -> Order {
    Order::Make { machine: machine(), root: awaited(template, fresh) }
}

#[test]
fn a_discover_orders_the_clone_once_and_names_no_root() {
    for client in [UEFI, IPXE_ROM, Client::FreeBsdKernel] {
        let bench = with_clone(RootKind::Own, "base");
        let answer = bench.discover(client, 1).unwrap();
        assert_eq!(answer.root_path, None, "{client}");
        assert_eq!(bench.ordered(), [make("base", false)], "{client}");
        bench.leased();
        for _ in 0..2 {
            let _ = bench.fetch(FileProtocol::Tftp, "snponly.efi");
        }
        assert_eq!(bench.ordered(), [], "{client}");
    }
}

/// Anybody can send DISCOVERs in a machine's name.
#[test]
fn any_number_of_discovers_order_one_root_for_the_next_boot() {
    let bench = with_clone(RootKind::Fresh, "base");
    let firmware = |xid| {
        bench.pass(10);
        bench.discover(if xid % 2 == 0 { UEFI } else { BIOS }, xid).unwrap().root_path
    };
    for xid in 1..20 {
        assert_eq!(firmware(xid), None);
    }
    assert_eq!(bench.ordered(), [make("base", true)], "while it is made");
    bench.clone_made("web1-base", "base", true);
    bench.boots.prepared(&machine(), &awaited("base", true), Ok("web1-base"));
    for xid in 20..30 {
        assert_eq!(firmware(xid).as_deref(), Some("10.0.0.1:/be/web1-base"));
        assert!(bench.boots.is_root(Uuid::from_u128(9)), "nobody retires it");
    }
    assert_eq!(bench.ordered(), [], "when it is there");
    // What the machine has begun to load is not for another boot.
    bench.leased();
    bench.fetch(FileProtocol::Tftp, "undionly.kpxe").unwrap();
    assert_eq!(firmware(30), None);
    assert_eq!(bench.ordered(), [make("base", true)]);
}

#[test]
fn a_root_that_was_not_used_grows_old_and_is_of_its_template() {
    let bench = with_clone(RootKind::Fresh, "base");
    let ready = |xid| {
        bench.discover(UEFI, xid);
        bench.clone_made("web1-base", "base", true);
        bench.boots.prepared(&machine(), &awaited("base", true), Ok("web1-base"));
        bench.ordered()
    };
    assert_eq!(ready(1), [make("base", true)]);
    bench.pass(301);
    assert_eq!(ready(2), [make("base", true)], "its template may have changed since");
    bench.pass(10);
    bench.assign(RootKind::Fresh, "free", None);
    assert_eq!(bench.discover(UEFI, 3).unwrap().root_path, None);
    assert_eq!(bench.ordered(), [make("free", true)]);
    // One that was ordered before the machine was given something else is not booted in its place.
    bench.boots.prepared(&machine(), &awaited("base", true), Ok("web1-base"));
    bench.leased();
    assert_eq!(bench.root(), None);
}

/// A machine's UUID is no secret, and Ethernet addresses can be invented.
#[test]
fn any_number_of_ethernet_addresses_with_its_uuid_order_one_root_and_are_forgotten() {
    let bench = with_clone(RootKind::Fresh, "base");
    let uuid = Some(Uuid::from_u128(7));
    let mut roster = Roster::default();
    let environment = Some("base".to_owned());
    let macs = vec![MAC, OTHER];
    let record = Machine { macs, uuid, environment, root: RootKind::Fresh, ..Machine::default() };
    roster.insert(machine(), record, false).unwrap();
    bench.boots.set_roster(roster);
    let claims = |count: usize| {
        for number in 0..u16::try_from(count).unwrap() {
            let [high, low] = number.to_be_bytes();
            let mac = Mac([2, 0, 0, 0, high, low]);
            assert!(bench.ask_as(uuid, mac, IPXE_ROM, 1, true).is_some());
        }
    };
    claims(20);
    assert_eq!(bench.ordered(), [], "nobody has fetched anything");
    for mac in [MAC, OTHER] {
        bench.ask_as(uuid, mac, IPXE_ROM, 1, true).unwrap();
    }
    assert_eq!(bench.ordered(), [make("base", true)], "one for both of its own");
    // Whoever fetches orders; what is made then is for all.
    bench.leased();
    bench.boots.report(ClientAddress::Mac(OTHER), Event::Leased(Ipv4Addr::new(10, 0, 0, 101)));
    let script = bench.boots.known().clients[&OTHER].boot.as_ref().unwrap().id;
    let peer = Ipv4Addr::new(10, 0, 0, 101);
    let script = format!("/b/{script}/boot.ipxe");
    assert!(matches!(
        bench.request_from(peer, FileProtocol::Http, &script, false),
        Err(FileError::Waiting(_))
    ));
    let mut made = 0;
    for _ in 0..1 + bench.ordered().len() {
        bench.boots.prepare(&machine(), &awaited("base", true), || {
            made += 1;
            bench.clone_made("web1-base", "base", true);
            Ok("web1-base".to_owned())
        });
    }
    assert_eq!(made, 1);
    assert!(bench.request_from(peer, FileProtocol::Http, &script, false).is_ok());
    claims(MAX_CLIENTS + 50);
    let known = bench.boots.known();
    assert!(known.clients.len() <= MAX_CLIENTS);
    assert!(known.clients.contains_key(&MAC) && known.clients.contains_key(&OTHER));
}

#[test]
fn a_root_that_was_not_used_is_dropped_when_its_template_or_the_machines_change() {
    let bench = with_clone(RootKind::Fresh, "base");
    let discover = |xid| {
        bench.pass(10);
        (bench.discover(UEFI, xid).unwrap().root_path.is_some(), bench.ordered())
    };
    let prepared = || {
        bench.clone_made("web1-base", "base", true);
        bench.boots.prepared(&machine(), &awaited("base", true), Ok("web1-base"));
    };
    assert_eq!(discover(1), (false, vec![make("base", true)]));
    prepared();
    assert_eq!(discover(2), (true, vec![]), "nothing has changed");
    let changed = |name| {
        bench.boots.update_environments(vec![bench.boots.catalog().named(name).unwrap()], &[]);
        bench.boots.catalog().wait_until_scanned();
    };
    changed("free");
    assert_eq!(discover(3), (true, vec![]), "it is of another");
    changed("base");
    assert_eq!(discover(4), (false, vec![make("base", true)]));
    prepared();
    assert_eq!(discover(5), (true, vec![]));
    let set = |change: &dyn Fn(&mut Machine, &mut Machine)| {
        let one = |mac| {
            let (macs, environment) = (vec![mac], Some("base".to_owned()));
            Machine { macs, environment, root: RootKind::Fresh, ..Machine::default() }
        };
        let (mut own, mut other) = (one(MAC), one(OTHER));
        change(&mut own, &mut other);
        let mut roster = Roster::default();
        roster.insert(machine(), own, false).unwrap();
        roster.insert("web2".parse().unwrap(), other, false).unwrap();
        bench.boots.set_roster(roster);
    };
    set(&|_, _| {});
    assert_eq!(discover(6), (true, vec![]), "another machine is new");
    set(&|_, other| other.environment = Some("free".to_owned()));
    assert_eq!(discover(7), (true, vec![]), "another machine has changed");
    set(&|own, _| own.address = Some(ADDRESS));
    assert_eq!(discover(8), (false, vec![make("base", true)]), "its own settings have");
}

#[test]
fn a_root_that_the_next_boot_does_not_take_is_retired() {
    let bench = with_clone(RootKind::Fresh, "base");
    bench.discover(UEFI, 1);
    bench.clone_made("web1-base", "base", true);
    bench.boots.prepared(&machine(), &awaited("base", true), Ok("web1-base"));
    assert_eq!(bench.ordered(), [make("base", true)]);
    bench.assign(RootKind::Direct, "free", None);
    bench.pass(10);
    bench.discover(UEFI, 2).unwrap();
    assert_eq!(bench.ordered(), [Order::Retire { machine: machine() }]);
    assert!(!bench.boots.is_root(Uuid::from_u128(9)));
}

#[test]
fn a_machine_that_is_only_observed_has_its_root_made_when_it_fetches() {
    let bench = with_clone(RootKind::Own, "base");
    let (mac, client, local) = (MAC, IPXE_ROM, SERVER);
    let (uuid, xid, discover, proxy, observed) = (None, 1, true, false, true);
    let network = network();
    let ask = Ask { mac, uuid, client, xid, discover, local, proxy, observed, network };
    bench.boots.decide(&ask).unwrap();
    assert_eq!(bench.ordered(), []);
    bench.leased();
    let script = bench.request(FileProtocol::Http, "/b/0000000000000001/boot.ipxe");
    assert!(matches!(script, Err(FileError::Waiting(_))));
    assert_eq!(bench.ordered(), [make("base", false)]);
}

#[test]
fn a_stranger_orders_nothing() {
    let bench = Bench::new(None, Some("base"));
    for xid in 1..10 {
        bench.pass(10);
        assert!(bench.ask(OTHER, UEFI, xid, true).is_some());
    }
    assert_eq!(bench.ordered(), []);
}

#[test]
fn nobody_mounts_the_template_in_the_place_of_a_clone() {
    let bench = with_clone(RootKind::Own, "base");
    bench.discover(UEFI, 1);
    bench.leased();
    assert_eq!(bench.root(), None);
    assert_eq!(bench.boots.living_on(Uuid::from_u128(1)), [""; 0]);
}

#[test]
fn a_script_names_the_clone_once_it_is_there() {
    let bench = with_clone(RootKind::Fresh, "base");
    bench.discover(IPXE_ROM, 1);
    bench.leased();
    let script = || bench.fetch(FileProtocol::Http, "/b/0000000000000001/boot.ipxe");
    assert!(matches!(script(), Err(FileError::Waiting(_))), "nobody sleeps until it is made");
    bench.clone_made("web1-base", "base", true);
    bench.boots.prepared(&machine(), &awaited("base", true), Ok("web1-base"));
    let script = script().unwrap();
    assert!(script.contains("nfsroot=10.0.0.1:/be/web1-base,"), "{script}");
    assert_eq!(bench.ordered(), [make("base", true)]);
    assert_eq!(bench.root().unwrap().environment, Uuid::from_u128(9));
}

#[test]
fn a_machine_is_shown_why_its_root_cannot_be_made_and_asks_again() {
    let bench = with_clone(RootKind::Own, "base");
    bench.discover(IPXE_ROM, 1);
    bench.leased();
    let name = "/b/0000000000000001/boot.ipxe";
    let open = |waited| bench.request_from(ADDRESS, FileProtocol::Http, name, waited);
    assert!(matches!(open(false), Err(FileError::Waiting(_))));
    let outcome = Err("the store is full".to_owned());
    bench.boots.prepared(&machine(), &awaited("base", false), outcome);
    let Content::Bytes(script) = open(true).unwrap().content else { panic!() };
    let script = std::str::from_utf8(&script).unwrap();
    assert!(script.contains("its root cannot be made: the store is full"), "{script}");
    let again = "chain --replace --autofree http://10.0.0.1/b/0000000000000001/boot.ipxe";
    assert!(script.contains(again), "{script}");
    assert_eq!(bench.ordered(), [make("base", false)]);
    assert!(matches!(open(false), Err(FileError::Waiting(_))));
    assert_eq!(bench.ordered(), [make("base", false)], "it is tried again");
}

#[test]
fn a_clone_that_is_there_is_booted_at_once() {
    let bench = with_clone(RootKind::Own, "base");
    bench.clone_made("web1-base", "base", false);
    let answer = bench.discover(UEFI, 1).unwrap();
    assert_eq!(answer.root_path.as_deref(), Some("10.0.0.1:/be/web1-base"));
    bench.leased();
    bench.fetch(FileProtocol::Tftp, "snponly.efi").unwrap();
    assert_eq!(bench.ordered(), []);
}

#[test]
fn a_fresh_root_of_an_earlier_boot_is_not_booted_again() {
    let bench = with_clone(RootKind::Fresh, "base");
    bench.clone_made("web1-base", "base", true);
    assert_eq!(bench.discover(UEFI, 1).unwrap().root_path, None);
}

#[test]
fn a_clone_of_another_machine_is_not_taken_for_its_own() {
    let bench = with_clone(RootKind::Own, "web2-base");
    let mut all = environments();
    let owned = Owned {
        machine: "web2".to_owned(),
        template: "base".to_owned(),
        origin: None,
        fresh: false,
        created: "2026-11-20T17:00:00Z".parse().unwrap(),
    };
    let made = all[0].clone();
    all.push(Environment { name: "web2-base".to_owned(), owned: Some(owned), ..made });
    bench.publish(all);
    assert_eq!(bench.discover(UEFI, 1).unwrap().root_path, None, "it gets a clone of it");
}

#[test]
fn a_clone_is_booted_whatever_its_template_was_called_when_it_was_made() {
    let bench = with_clone(RootKind::Own, "base");
    let mut all = environments();
    let made = all.iter().find(|known| known.name == "base").unwrap().clone();
    let owned = |origin| Owned {
        machine: "web1".to_owned(),
        template: "first".to_owned(),
        origin: Some(origin),
        fresh: false,
        created: "2026-11-20T17:00:00Z".parse().unwrap(),
    };
    let (name, uuid) = ("web1-first".to_owned(), Uuid::from_u128(9));
    all.push(Environment { name, uuid, owned: Some(owned(made.uuid)), ..made.clone() });
    bench.publish(all.clone());
    let root_path = bench.discover(UEFI, 1).unwrap().root_path;
    assert_eq!(root_path.as_deref(), Some("10.0.0.1:/be/web1-first"));
    // One that was made from another, which had the name then.
    let other = all.iter().find(|known| known.name == "free").unwrap().uuid;
    let mut stale = owned(other);
    stale.template = "base".to_owned();
    all.last_mut().unwrap().owned = Some(stale);
    let bench = with_clone(RootKind::Own, "base");
    bench.publish(all);
    assert_eq!(bench.discover(UEFI, 1).unwrap().root_path, None);
}

#[test]
fn a_shared_root_is_read_only() {
    let bench = with_clone(RootKind::Shared, "base");
    bench.discover(UEFI, 1);
    bench.leased();
    assert!(bench.root().unwrap().read_only);
}

#[test]
fn the_default_is_read_only_and_a_clone_of_it_is_the_machines() {
    let root = |root| {
        let bench = Bench::new(None, None);
        bench.clone_made("web1-base", "base", false);
        let mut roster = roster(None, Some("base"));
        let (macs, address) = (vec![MAC], Some(ADDRESS));
        let record = Machine { macs, address, root, ..Machine::default() };
        roster.insert(machine(), record, false).unwrap();
        bench.boots.set_roster(roster);
        let root = || bench.root().unwrap();
        // Started by hand, it has said nothing; then the same by a plan.
        let assigned = root();
        bench.discover(UEFI, 1);
        bench.leased();
        assert_eq!(root(), assigned);
        (assigned.environment.as_u128(), assigned.read_only)
    };
    assert_eq!(root(RootKind::Direct), (1, true));
    assert_eq!(root(RootKind::Own), (9, false));
}

#[test]
fn what_is_booted_once_is_spent_by_the_whole_loader_and_not_before() {
    let bench = Bench::new(None, None);
    bench.assign(RootKind::Direct, "base", Some("free"));
    let answer = bench.discover(UEFI, 1).unwrap();
    assert_eq!(answer.root_path.as_deref(), Some("10.0.0.1:/be/free"));
    bench.leased();
    let ticket = Ticket { boot: Some(BootId(1)), role: Role::Loader };
    bench.boots.report(ClientAddress::Mac(MAC), Event::Probed(ticket));
    let sent = |bytes| Event::Sent {
        ticket,
        name: "loader.efi".to_owned(),
        bytes,
        total: 1000,
        protocol: FileProtocol::Tftp,
    };
    bench.boots.report(ClientAddress::Mac(MAC), sent(999));
    assert_eq!(bench.ordered(), []);
    for _ in 0..2 {
        bench.boots.report(ClientAddress::Mac(MAC), sent(1000));
    }
    assert_eq!(bench.ordered(), [Order::Spent { machine: machine(), once: "free".to_owned() }]);
    // Nor is it booted again before that is written down.
    bench.pass(60);
    let answer = bench.discover(UEFI, 2).unwrap();
    assert_eq!(answer.root_path.as_deref(), Some("10.0.0.1:/be/base"));
}

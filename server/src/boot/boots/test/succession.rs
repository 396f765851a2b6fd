//! A machine that runs while another boot of it begins: after a reset, or because somebody says so.

use std::time::Instant;

use super::*;
use crate::boot::Life;
use crate::boot::catalog::test::{FakeFiles, Stalled};
use crate::boot::catalog::{Contents, Scanner};
use crate::boot::decide::Awaited;
use crate::site::machine::RootKind;
use provision::roots::Owned;
use provision::worker::WorkerError;

const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 66);

/// A machine that runs on `base`, which it has mounted.
fn running() -> Bench {
    let bench = Bench::new(Some("base"), Some("base"));
    let script = bench.lease(IPXE_ROM, 1).unwrap();
    bench.http(&script).unwrap();
    bench.mount(1, "/be/base");
    bench.call(1);
    bench.pass(400);
    bench
}

/// A machine that runs on a clone of `base` for one boot, which is environment 9.
fn running_on_a_clone() -> Bench {
    let bench = Bench::new(None, None);
    let mut roster = Roster::default();
    let (macs, environment, root) = (vec![MAC], Some("base".to_owned()), RootKind::Fresh);
    let record = Machine { macs, environment, root, ..Machine::default() };
    roster.insert("web1".parse().unwrap(), record, false).unwrap();
    bench.boots.set_roster(roster);
    bench.lease(IPXE_ROM, 1).unwrap();
    let script = || bench.fetch(FileProtocol::Http, "/b/0000000000000001/boot.ipxe");
    assert!(matches!(script(), Err(FileError::Waiting(_))));
    let mut all = environments();
    let owned = Owned {
        machine: "web1".to_owned(),
        template: "base".to_owned(),
        origin: None,
        fresh: true,
        created: "2026-11-20T17:00:00Z".parse().unwrap(),
    };
    let made = all[0].clone();
    let (name, uuid, owned) = ("web1-base".to_owned(), Uuid::from_u128(9), Some(owned));
    all.push(Environment { name, uuid, owned, ..made });
    bench.boots.set_environments(all);
    bench.boots.catalog().wait_until_scanned();
    let root = Awaited { template: "base".to_owned(), fresh: true };
    bench.boots.prepared(&"web1".parse().unwrap(), &root, Ok("web1-base"));
    script().unwrap();
    bench.mount(9, "/be/web1-base");
    bench.pass(400);
    bench.orders.lock().unwrap().clear();
    bench
}

impl Bench {
    fn ordered_now(&self) -> Vec<Order> {
        std::mem::take(&mut *self.orders.lock().unwrap())
    }

    fn trouble(&self) -> Option<String> {
        let standings = self.boots.standings();
        let own = standings.into_iter().find(|one| one.mac == Some(MAC)).unwrap();
        own.status.unwrap().trouble.map(|kind| kind.as_str().to_owned())
    }

    /// An environment is mounted from the usual address, and called a little later.
    fn works(&self, environment: u128, path: &str) {
        self.mount(environment, path);
        self.pass(1);
        self.call(environment);
    }

    fn dhcp(&self, event: Event) {
        self.boots.report(ClientAddress::Mac(MAC), event);
    }
}

#[test]
fn a_discover_takes_nothing_from_a_machine_that_runs() {
    let bench = running_on_a_clone();
    assert_eq!(bench.granted(ADDRESS), [9]);
    bench.discover(IPXE_ROM, 99).unwrap();
    assert_eq!((bench.root(), bench.granted(ADDRESS)), (None, vec![9]));
    assert!(bench.boots.is_root(Uuid::from_u128(9)));
    assert_eq!(bench.boots.living_on(Uuid::from_u128(9)), ["web1"]);
    let asked = Order::Ask { address: ADDRESS, boot: BootId(1) };
    let root = Awaited { template: "base".to_owned(), fresh: true };
    let made = Order::Make { machine: "web1".parse().unwrap(), root };
    assert_eq!(bench.ordered_now(), [asked, made]);
    // Whoever sends more of them gets no further.
    for xid in 100..110 {
        bench.pass(60);
        bench.discover(IPXE_ROM, xid).unwrap();
        bench.boots.answered(BootId(1), Life::Unknown);
        assert_eq!(bench.granted(ADDRESS), [9]);
    }
    let asks = |order: &Order| matches!(order, Order::Ask { .. });
    assert!(bench.ordered_now().iter().all(asks), "one root is made, and none goes");
}

#[test]
fn how_a_machine_stands_is_shown_by_its_system_and_by_no_packet_in_its_name() {
    let bench = running();
    let uuid = Uuid::from_u128(7);
    let mut roster = Roster::default();
    let (macs, environment) = (vec![MAC, OTHER], Some("base".to_owned()));
    let machine = Machine { macs, environment, uuid: Some(uuid), ..Machine::default() };
    roster.insert("web1".parse().unwrap(), machine, false).unwrap();
    bench.boots.set_roster(roster);
    let standing = || {
        let [one] = <[Standing; 1]>::try_from(bench.boots.standings()).unwrap();
        (one.mac.unwrap(), one.address, one.status.unwrap().stage, one.lives)
    };
    bench.call(1);
    let runs = (MAC, Some(ADDRESS), Stage::Running, true);
    assert_eq!(standing(), runs);
    // Whoever has heard of it can send these.
    bench.pass(1);
    bench.ask(OTHER, UEFI, 50, true).unwrap();
    bench.ask_as(Some(uuid), Mac([2, 0, 0, 0, 0, 9]), UEFI, 51, true).unwrap();
    assert_eq!(standing(), runs);
    // It is started again by its other card, and its new system works.
    bench.boots.report(ClientAddress::Mac(OTHER), Event::Leased(ELSEWHERE));
    assert_eq!(standing(), runs);
    bench.mount_from(ELSEWHERE, 1, "/be/base");
    let (from, environment) = (ELSEWHERE.into(), Uuid::from_u128(1));
    let call = usage::Call { written: 1, by_kernel: true, ..usage::Call::default() };
    let traffic = bench.boots.usage().see(from, environment, call, bench.clock.now()).unwrap();
    bench.boots.report(ClientAddress::Ip(from), Event::Nfs { environment, traffic });
    assert_eq!(standing(), (OTHER, Some(ELSEWHERE), Stage::Running, true));
    // Unless the first one goes on as well: then it has been there for longer.
    bench.pass(2);
    bench.call(1);
    assert_eq!(standing(), runs);
}

#[test]
fn a_machine_that_is_silent_lives_by_no_packet_in_its_name() {
    let bench = running();
    let lives = || bench.boots.standings()[0].lives;
    assert!(lives());
    bench.pass(201);
    assert!(!lives());
    bench.discover(IPXE_ROM, 99).unwrap();
    assert!(!lives());
    bench.call(1);
    assert!(lives(), "it was off the network for a while");
}

#[test]
fn a_machine_is_asked_once_however_many_discovers_come_meanwhile() {
    let bench = running_on_a_clone();
    for (xid, client) in (100..).zip([IPXE_ROM, UEFI, IPXE_ROM, UEFI]) {
        bench.discover(client, xid);
    }
    let asks = |orders: Vec<Order>| {
        orders.iter().filter(|order| matches!(order, Order::Ask { .. })).count()
    };
    assert_eq!(asks(bench.ordered_now()), 1);
    bench.boots.answered(BootId(1), Life::Unknown);
    bench.discover(IPXE_ROM, 110);
    assert_eq!(asks(bench.ordered_now()), 1);
}

#[test]
fn a_machine_that_calls_while_it_is_asked_loses_nothing_if_its_old_connections_are_dead() {
    let bench = running_on_a_clone();
    bench.pass(60);
    bench.discover(IPXE_ROM, 99).unwrap();
    bench.ordered_now();
    bench.pass(2);
    bench.call(9);
    bench.pass(2);
    bench.boots.answered(BootId(1), Life::Dead);
    assert_eq!(bench.granted(ADDRESS), [9]);
    assert!(bench.boots.lives(ADDRESS) && bench.boots.is_root(Uuid::from_u128(9)));
    assert_eq!(bench.ordered_now(), []);
}

#[test]
fn a_machine_that_was_reset_is_free_of_its_old_root_as_soon_as_that_is_proven_dead() {
    let bench = running_on_a_clone();
    bench.discover(IPXE_ROM, 99).unwrap();
    bench.ordered_now();
    bench.boots.answered(BootId(1), Life::Dead);
    assert_eq!(bench.granted(ADDRESS), [0; 0]);
    assert!(!bench.boots.lives(ADDRESS) && !bench.boots.is_root(Uuid::from_u128(9)));
    assert_eq!(bench.ordered_now(), [Order::Retire { machine: "web1".parse().unwrap() }]);
}

#[test]
fn a_root_that_was_unmounted_in_its_name_and_silent_for_long_is_asked_before_it_is_given_up() {
    let discovered = || {
        let bench = running_on_a_clone();
        bench.unmount("/be/web1-base");
        bench.pass(31 * 60);
        assert!(!bench.boots.lives(ADDRESS));
        bench.discover(IPXE_ROM, 99).unwrap();
        assert_eq!(bench.granted(ADDRESS), [9]);
        assert!(bench.boots.is_root(Uuid::from_u128(9)));
        let asked = Order::Ask { address: ADDRESS, boot: BootId(1) };
        assert_eq!(bench.ordered_now().first(), Some(&asked));
        bench
    };
    let bench = discovered();
    bench.boots.answered(BootId(1), Life::Answers);
    bench.pass(60);
    bench.call(9);
    assert!(bench.boots.lives(ADDRESS));
    assert_eq!(bench.granted(ADDRESS), [9]);
    assert_eq!(bench.boots.living_on(Uuid::from_u128(9)), ["web1"]);
    let bench = discovered();
    bench.boots.answered(BootId(1), Life::Unknown);
    assert_eq!(bench.granted(ADDRESS), [0; 0]);
    assert_eq!(bench.ordered_now(), [Order::Retire { machine: "web1".parse().unwrap() }]);
}

#[test]
fn who_answers_while_its_machine_boots_keeps_its_root_and_is_named_once() {
    let bench = running_on_a_clone();
    bench.discover(IPXE_ROM, 99).unwrap();
    let mut watch = bench.boots.events().subscribe();
    for _ in 0..3 {
        bench.boots.answered(BootId(1), Life::Answers);
        bench.pass(400);
        bench.call(9);
    }
    assert_eq!(bench.granted(ADDRESS), [9]);
    assert_eq!(bench.trouble().as_deref(), Some("two-machines"));
    let text = watch.try_recv().unwrap().text.clone();
    assert!(text.contains("two machines have 52:54:00:00:00:01"), "{text}");
    assert!(watch.try_recv().is_err());
}

#[test]
fn an_old_root_that_nobody_can_ask_goes_in_time_though_both_systems_are_silent() {
    let bench = running_while_another_loads();
    bench.boots.answered(BootId(1), Life::Unknown);
    bench.works(2, "/be/free");
    bench.pass(59);
    bench.boots.tell_due();
    assert_eq!(bench.granted(ADDRESS), [2, 1]);
    bench.pass(2);
    bench.boots.tell_due();
    assert_eq!(bench.granted(ADDRESS), [2]);
    assert!(!bench.boots.is_root(Uuid::from_u128(1)));
}

#[test]
fn an_old_root_that_nobody_can_ask_stays_until_the_new_one_is_in_use() {
    let bench = running_while_another_loads();
    bench.boots.answered(BootId(1), Life::Unknown);
    assert_eq!(bench.granted(ADDRESS), [2, 1]);
    assert_eq!(bench.boots.living_on(Uuid::from_u128(1)), ["web1"]);
    bench.works(2, "/be/free");
    assert_eq!(bench.boots.living_on(Uuid::from_u128(1)), [""; 0]);
    assert!(bench.boots.is_root(Uuid::from_u128(1)), "it is kept, should it call after all");
    bench.pass(59);
    bench.call(2);
    assert_eq!(bench.granted(ADDRESS), [2, 1]);
    bench.pass(1);
    bench.call(2);
    assert_eq!(bench.granted(ADDRESS), [2]);
    assert!(!bench.boots.is_root(Uuid::from_u128(1)));
    assert_eq!(bench.boots.living_on(Uuid::from_u128(2)), ["web1"]);
}

#[test]
fn an_old_root_that_goes_on_calling_beside_the_new_one_stays() {
    let bench = running_while_another_loads();
    bench.boots.answered(BootId(1), Life::Unknown);
    bench.works(2, "/be/free");
    bench.pass(50);
    bench.call(1);
    bench.pass(50);
    bench.call(2);
    assert_eq!(bench.granted(ADDRESS), [2, 1]);
    assert_eq!(bench.boots.living_on(Uuid::from_u128(1)), ["web1"]);
    assert_eq!(bench.trouble().as_deref(), Some("two-machines"));
}

#[test]
fn calls_on_a_root_that_both_boots_have_are_of_the_one_that_runs_until_something_was_fetched() {
    let bench = running();
    let rooted = || bench.boots.known().clients[&MAC].boot.as_ref().unwrap().rooted.is_some();
    bench.discover(UEFI, 99).unwrap();
    bench.call(1);
    assert!(!rooted());
    assert_eq!(bench.stage(), Stage::Discover);
    bench.tftp("snponly.efi").unwrap();
    bench.pass(1);
    bench.call(1);
    assert!(rooted());
}

#[test]
fn a_boot_that_is_read_only_takes_no_right_from_the_system_that_runs() {
    let bench = running();
    let mut roster = roster(None, None);
    let (macs, environment) = (vec![MAC], Some("base".to_owned()));
    let record = Machine { macs, environment, read_only: true, ..Machine::default() };
    roster.insert("web1".parse().unwrap(), record, false).unwrap();
    bench.boots.set_roster(roster);
    bench.discover(UEFI, 99).unwrap();
    assert!(bench.root().unwrap().read_only);
    let roots = bench.boots.roots_of(ADDRESS.into());
    assert!(!roots.of(Uuid::from_u128(1)).unwrap().read_only);
}

#[test]
fn firmware_that_is_refused_takes_nothing_from_a_machine_that_runs() {
    let bench = running();
    bench.boots.set_roster(roster(None, None));
    assert_eq!(bench.discover(UEFI, 99), None);
    assert_eq!(bench.granted(ADDRESS), [1]);
    assert_eq!(bench.boots.living_on(Uuid::from_u128(1)), ["52:54:00:00:00:01"]);
}

#[test]
fn no_message_moves_a_root_that_lives() {
    let bench = running();
    for event in [
        Event::Released(ADDRESS),
        Event::Declined(ADDRESS),
        Event::Leased(ELSEWHERE),
        Event::Elsewhere(ELSEWHERE),
    ] {
        bench.dhcp(event);
        assert_eq!((bench.granted(ADDRESS), bench.granted(ELSEWHERE)), (vec![1], vec![]));
        assert_eq!(bench.trouble(), None);
    }
    // Nor with a DISCOVER before it, nor in another's name.
    bench.discover(UEFI, 99).unwrap();
    bench.dhcp(Event::Leased(ELSEWHERE));
    bench.ask(OTHER, UEFI, 7, true).unwrap();
    bench.boots.report(ClientAddress::Mac(OTHER), Event::Leased(ADDRESS));
    assert_eq!((bench.granted(ADDRESS)[0], bench.granted(ELSEWHERE)), (1, vec![]));
    bench.boots.answered(BootId(1), Life::Answers);
    bench.dhcp(Event::Leased(ELSEWHERE));
    assert_eq!((bench.granted(ADDRESS)[0], bench.granted(ELSEWHERE)), (1, vec![]));
}

#[test]
fn a_contradiction_is_warned_of_once_in_a_boot() {
    let bench = running();
    let mut watch = bench.boots.events().subscribe();
    for _ in 0..100 {
        bench.dhcp(Event::Leased(ELSEWHERE));
        bench.dhcp(Event::Released(ADDRESS));
    }
    assert!(watch.try_recv().unwrap().text.ends_with("ignored"));
    assert!(watch.try_recv().is_err());
}

#[test]
fn a_new_address_takes_effect_at_the_next_boot_of_a_system_that_never_unmounts() {
    let bench = running();
    let mut roster = roster(None, None);
    let (macs, environment) = (vec![MAC], Some("base".to_owned()));
    let record = Machine { macs, environment, address: Some(ELSEWHERE), ..Machine::default() };
    roster.insert("web1".parse().unwrap(), record, false).unwrap();
    bench.boots.set_roster(roster);
    bench.discover(UEFI, 99).unwrap();
    assert!(bench.boots.lives(ADDRESS));
    bench.boots.answered(BootId(1), Life::Dead);
    assert!(!bench.boots.lives(ADDRESS), "DHCP gives it the new one");
    bench.dhcp(Event::Leased(ELSEWHERE));
    assert_eq!((bench.granted(ADDRESS), bench.granted(ELSEWHERE)), (vec![], vec![1]));
}

#[test]
fn a_boot_at_a_new_address_has_its_files_before_the_old_system_is_known_to_be_dead() {
    let bench = running();
    let asks = |peer, name| bench.request_from(peer, FileProtocol::Http, name, false);
    bench.discover(IPXE_ROM, 99).unwrap();
    let script = "/b/0000000000000002/boot.ipxe";
    assert!(matches!(asks(ELSEWHERE, script), Err(FileError::Refused(_))));
    bench.dhcp(Event::Leased(ELSEWHERE));
    for name in [script, "boot.ipxe"] {
        asks(ELSEWHERE, name).unwrap();
    }
    // Whoever it is, the root is not moved by that.
    assert_eq!((bench.granted(ADDRESS)[0], bench.granted(ELSEWHERE)), (1, vec![]));
    let third = Ipv4Addr::new(10, 0, 0, 177);
    assert!(matches!(asks(third, script), Err(FileError::Refused(_))));
    assert!(matches!(asks(third, "boot.ipxe"), Err(FileError::Refused(_))));
}

#[test]
fn a_machine_beside_another_server_has_its_root_at_its_new_address_when_nobody_answers_at_the_old()
{
    for (life, there, here) in [
        (Life::Answers, vec![], vec![1, 1]),
        (Life::Unknown, vec![1], vec![1]),
        (Life::Dead, vec![1], vec![]),
    ] {
        let bench = running();
        bench.discover(UEFI, 99).unwrap();
        bench.dhcp(Event::Elsewhere(ELSEWHERE));
        assert_eq!(bench.granted(ELSEWHERE), [0; 0], "it is still asked");
        bench.boots.answered(BootId(1), life);
        assert_eq!((bench.granted(ELSEWHERE), bench.granted(ADDRESS)), (there, here), "{life:?}");
    }
}

#[test]
fn a_root_beside_the_boot_that_begins_outlives_the_server() {
    let bench = running();
    bench.boots.set_roster(roster(Some("free"), None));
    bench.discover(BIOS, 99).unwrap();
    assert_eq!(bench.granted(ADDRESS), [2, 1]);
    let bench = bench.restart(Some("free"), None);
    assert_eq!(bench.granted(ADDRESS), [2, 1]);
    assert_eq!(bench.boots.living_on(Uuid::from_u128(1)), ["web1"]);
    let state = StateDir::open(bench.scratch.path()).unwrap();
    let names = record::rooted_on(&state, &[Uuid::from_u128(1)]).unwrap();
    assert_eq!(names, ["web1"]);
}

#[test]
fn a_call_asks_for_its_roots_without_a_lock_and_looks_into_nothing() {
    /// Files that count who looks.
    struct Counted(Arc<AtomicU64>);

    impl Files for Counted {
        fn open(&self, _: &str) -> io::Result<std::fs::File> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn is_file(&self, _: &str) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            false
        }

        fn names(&self, _: &str) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn contents(&self, _: &mut Scanner) -> Result<Contents, WorkerError> {
            Ok(Contents::scan(self))
        }
    }

    let bench = Bench::new(None, None);
    let looks = Arc::new(AtomicU64::new(0));
    let files = Arc::new(Counted(Arc::clone(&looks)));
    bench.boots.set_environments(vec![Environment { files, ..environments().remove(0) }]);
    bench.boots.catalog().wait_until_scanned();
    let mut roster = Roster::default();
    let (macs, environment, address) = (vec![MAC], Some("base".to_owned()), Some(ADDRESS));
    let record = Machine { macs, environment, address, ..Machine::default() };
    roster.insert("web1".parse().unwrap(), record, false).unwrap();
    bench.boots.set_roster(roster);
    let before = looks.load(Ordering::Relaxed);
    {
        // Who has the lock of all boots keeps no call waiting.
        let _known = bench.boots.known();
        for _ in 0..1000 {
            assert_eq!(bench.granted(ADDRESS), [1]);
        }
    }
    bench.boots.catalog().wait_until_scanned();
    assert_eq!(looks.load(Ordering::Relaxed), before);
    bench.boots.update_environments(Vec::new(), &[Uuid::from_u128(1)]);
    assert_eq!(bench.granted(ADDRESS), [0; 0]);
}

#[test]
fn a_machine_whose_environment_was_not_looked_into_yet_is_answered_later() {
    let bench = Bench::new(Some("base"), None);
    let (release, stall) = std::sync::mpsc::channel();
    let files = Arc::new(Stalled(Mutex::new(stall)));
    let uuid = Uuid::from_u128(7);
    bench.boots.set_environments(vec![Environment { files, uuid, ..environments().remove(0) }]);
    let began = Instant::now();
    for xid in 0..100 {
        assert_eq!(bench.discover(UEFI, xid), None);
    }
    // Each of them waited for 100 ms once.
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(bench.boot(), None);
    assert!(bench.boots.standings()[0].status.is_none(), "nothing was refused");
    drop(release);
    bench.boots.set_environments(environments());
    bench.boots.catalog().wait_until_scanned();
    assert!(bench.discover(UEFI, 101).is_some());
}

#[test]
fn a_kernel_that_was_installed_since_is_booted_by_a_machine_that_has_fetched_nothing() {
    let bench = Bench::new(Some("base"), None);
    let files = FakeFiles::new(&["/boot/vmlinuz-6.1", "/boot/initrd.img-6.1"]);
    let dynamic = Arc::clone(&files) as Arc<dyn Files>;
    let uuid = Uuid::from_u128(7);
    let changed = Environment { files: dynamic, uuid, ..environments().remove(0) };
    bench.boots.set_environments(vec![changed]);
    bench.boots.catalog().wait_until_scanned();
    files.0.lock().unwrap().extend(["/boot/vmlinuz-6.2", "/boot/initrd.img-6.2"].map(String::from));
    let script = bench.lease(IPXE_ROM, 1).unwrap();
    bench.boots.catalog().wait_until_scanned();
    bench.http(&script).unwrap();
    let kernel = "http://10.0.0.1/b/0000000000000001/kernel";
    assert_eq!(bench.http(kernel).unwrap(), "/boot/vmlinuz-6.2");
    files.0.lock().unwrap().extend(["/boot/vmlinuz-6.3", "/boot/initrd.img-6.3"].map(String::from));
    bench.boots.set_environments(vec![]);
    let environment = Environment { files, uuid, ..environments().remove(0) };
    bench.boots.set_environments(vec![environment]);
    bench.boots.catalog().wait_until_scanned();
    assert_eq!(bench.http(kernel).unwrap(), "/boot/vmlinuz-6.2", "now it is frozen");
}

#[test]
fn boot_files_are_for_the_address_of_their_boot_only() {
    let bench = Bench::new(Some("base"), None);
    bench.lease(IPXE_ROM, 1).unwrap();
    for protocol in [FileProtocol::Http, FileProtocol::Tftp] {
        for name in ["boot.ipxe", "kernel", "initrd"] {
            let name = format!("b/0000000000000001/{name}");
            let other = bench.request_from(ELSEWHERE, protocol, &name, false);
            assert!(matches!(other, Err(FileError::Refused(_))), "{name}: {other:?}");
            assert!(bench.request(protocol, &name).is_ok(), "{name}");
        }
    }
}

#[test]
fn a_file_that_a_stranger_got_is_not_credited_to_the_machine() {
    let bench = Bench::new(Some("base"), None);
    bench.lease(IPXE_ROM, 1).unwrap();
    let ticket = bench.request(FileProtocol::Http, "/b/0000000000000001/kernel").unwrap().ticket;
    let mut watch = bench.boots.events().subscribe();
    let (name, bytes, total) = ("kernel".to_owned(), 9, 9);
    let sent = Event::Sent { ticket, name, bytes, total, protocol: FileProtocol::Http };
    bench.boots.report(ClientAddress::Ip(ELSEWHERE.into()), sent);
    assert_eq!(bench.stage(), Stage::Leased);
    assert!(watch.try_recv().is_err());
}

/// A machine that runs on `base` while a boot of it by the same address loads `free`.
fn running_while_another_loads() -> Bench {
    let bench = running();
    bench.boots.set_roster(roster(Some("free"), None));
    bench.lease(BIOS, 2).unwrap();
    bench.tftp("pxeboot").unwrap();
    bench
}

#[test]
fn a_third_boot_takes_nothing_from_the_first_that_runs() {
    let bench = running_while_another_loads();
    bench.boots.answered(BootId(1), Life::Answers);
    bench.works(2, "/be/free");
    for xid in 3..20 {
        bench.pass(100);
        bench.lease(BIOS, xid).unwrap();
        bench.tftp("pxeboot").unwrap();
        bench.works(2, "/be/free");
        assert!(bench.granted(ADDRESS).contains(&1), "by boot {xid}");
        assert!(bench.granted(ADDRESS).len() <= 4);
        assert_eq!(bench.boots.living_on(Uuid::from_u128(1)), ["web1"]);
    }
}

#[test]
fn a_root_beside_a_later_boot_outlives_the_silence_after_a_restart() {
    let bench = running_while_another_loads();
    bench.boots.answered(BootId(1), Life::Unknown);
    bench.works(2, "/be/free");
    let bench = bench.restart(Some("free"), None);
    // Linux connects again after up to five minutes.
    bench.pass(300);
    bench.call(2);
    assert!(bench.granted(ADDRESS).contains(&1));
    bench.call(1);
    assert_eq!(bench.boots.living_on(Uuid::from_u128(1)), ["web1"]);
}

#[test]
fn a_mount_that_anybody_can_forge_ends_nothing() {
    let bench = running_while_another_loads();
    bench.boots.answered(BootId(1), Life::Unknown);
    for _ in 0..3 {
        bench.mount(2, "/be/free");
        bench.pass(100);
        bench.discover(BIOS, 3);
        bench.boots.answered(BootId(1), Life::Unknown);
        assert!(bench.granted(ADDRESS).contains(&1));
        assert_eq!(bench.boots.living_on(Uuid::from_u128(1)), ["web1"]);
    }
}

#[test]
fn a_machine_that_was_started_by_hand_keeps_the_root_that_it_lives_on() {
    let bench = Bench::new(None, None);
    let assign = |environment: &str| {
        let mut roster = Roster::default();
        let (environment, address) = (Some(environment.to_owned()), Some(ADDRESS));
        let record = Machine { macs: vec![MAC], environment, address, ..Machine::default() };
        roster.insert("web1".parse().unwrap(), record, false).unwrap();
        bench.boots.set_roster(roster);
    };
    assign("base");
    assert_eq!(bench.granted(ADDRESS), [1]);
    bench.call(1);
    bench.boots.update_environments(Vec::new(), &[Uuid::from_u128(1)]);
    assert_eq!(bench.granted(ADDRESS), [1], "a command works on it");
    assign("free");
    assert_eq!(bench.granted(ADDRESS), [2, 1]);
    bench.boots.set_roster(Roster::default());
    assert_eq!(bench.granted(ADDRESS), [1]);
    bench.pass(3600);
    bench.boots.set_roster(Roster::default());
    assert_eq!(bench.granted(ADDRESS), [0; 0]);
}

#[test]
fn a_machine_that_was_started_by_hand_waits_for_a_root_that_is_held() {
    let bench = Bench::new(None, None);
    let mut roster = Roster::default();
    let (environment, address) = (Some("base".to_owned()), Some(ADDRESS));
    let record = Machine { macs: vec![MAC], environment, address, ..Machine::default() };
    roster.insert("web1".parse().unwrap(), record, false).unwrap();
    bench.boots.set_roster(roster);
    let awaited = |address: Ipv4Addr| bench.boots.awaited_root(address.into());
    let expected = catalog::Expected { uuid: Some(Uuid::from_u128(1)), owned: None };
    bench.boots.catalog().expect([("base".to_owned(), expected)].into(), true);
    assert_eq!((bench.root().is_some(), awaited(ADDRESS)), (true, None));
    bench.boots.update_environments(Vec::new(), &[Uuid::from_u128(1)]);
    assert_eq!(bench.root(), None);
    let reason = awaited(ADDRESS).unwrap();
    assert!(reason.contains("base cannot be used just now"), "{reason}");
    assert_eq!(awaited(ELSEWHERE), None);
    bench.boots.catalog().expect([].into(), true);
    assert_eq!(awaited(ADDRESS), None, "it was destroyed");
}

#[test]
fn who_uses_what_is_shared_in_anothers_name_keeps_no_address_from_anybody() {
    let bench = running();
    assert!(bench.boots.lives(ADDRESS));
    let usage = bench.boots.usage();
    usage.mounted(ELSEWHERE.into(), Uuid::from_u128(2), b"/be/free", bench.clock.now());
    usage.see(ELSEWHERE.into(), Uuid::from_u128(2), usage::Call::default(), bench.clock.now());
    assert!(!bench.boots.lives(ELSEWHERE), "no root of its is there");
}

#[test]
fn a_boot_that_is_over_does_not_come_back_after_a_restart() {
    let bench = running();
    bench.boots.set_roster(roster(None, None));
    assert_eq!(bench.discover(UEFI, 99), None);
    bench.boots.answered(BootId(1), Life::Dead);
    assert_eq!(bench.granted(ADDRESS), [0; 0]);
    let bench = bench.restart(None, None);
    assert_eq!(bench.granted(ADDRESS), [0; 0]);
    assert_eq!(bench.boot(), None);
}

//! Boots as they were recorded from real firmware, loaders and kernels, with a clock of our own.

mod elsewhere;

mod freebsd;

mod loaders;

mod refused;

mod restart;

mod roots;

mod succession;

use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::known::{FORGOTTEN_AT_ONCE, MAX_CLIENTS};
use super::*;
use crate::boot::catalog::test::FakeFiles;
use crate::boot::catalog::{Environment, Files};
use crate::boot::timeline::Cause;
use crate::boot::{Arch, Client, Content, FileProtocol, Root, usage};
use crate::clock::FakeClock;
use crate::site::events::Stage;
use crate::site::machine::{LoaderChoice, Machine};
use crate::site::state::{Kind, StateDir};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const OTHER: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
const UEFI: Client = Client::Pxe(Arch::UEFI_X64);
const BIOS: Client = Client::Pxe(Arch::BIOS);
const IPXE: Client = Client::Ipxe(Arch::UEFI_X64);
const IPXE_ROM: Client = Client::Ipxe(Arch::BIOS);

/// A site with one machine, web1, and two environments: `base` (Linux) and `free` (FreeBSD).
struct Bench {
    clock: Arc<FakeClock>,
    boots: Boots,
    orders: Arc<Mutex<Vec<Order>>>,
    /// Goes last: until they are dropped, the boots write to it.
    scratch: tempfile::TempDir,
}

fn environments() -> Vec<Environment> {
    let make = |name: &str, uuid, paths: &[&str]| Environment {
        name: name.to_owned(),
        uuid: Uuid::from_u128(uuid),
        read_only: false,
        datasets: Vec::new(),
        handle: vec![7; 44],
        owned: None,
        files: FakeFiles::new(paths) as Arc<dyn Files>,
    };
    let linux = [
        "/boot/vmlinuz",
        "/boot/initrd.img",
        "/boot/snponly.efi",
        "/boot/undionly.kpxe",
        "/boot/pxelinux.0",
        "/boot/lpxelinux.0",
        "/boot/ldlinux.c32",
        "/boot/shimx64.efi.signed",
        "/boot/grubnetx64.efi.signed",
        "/boot/grub/i386-pc/core.0",
        "/boot/grub/i386-pc/normal.mod",
        "/boot/grub/secret",
    ];
    let freebsd = [
        "/boot/kernel/kernel",
        "/boot/loader.efi",
        "/boot/pxeboot",
        "/boot/loader.conf",
        "/boot/loader.conf.local",
        "/etc/fstab",
        "/etc/hostid",
        "/etc/master.passwd",
        "/boot/snponly.efi",
    ];
    vec![make("base", 1, &linux), make("free", 2, &freebsd)]
}

fn network() -> ClientNetwork {
    let name_servers = vec![Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)];
    ClientNetwork { name_servers, domain: Some("example.org".to_owned()), ..Default::default() }
}

fn roster(environment: Option<&str>, default: Option<&str>) -> Roster {
    roster_by(LoaderChoice::Auto, environment, default)
}

fn roster_by(loader: LoaderChoice, environment: Option<&str>, default: Option<&str>) -> Roster {
    let scratch = tempfile::tempdir().unwrap();
    let state = StateDir::open(scratch.path()).unwrap();
    let mut roster = Roster::load(&state, &Default::default(), default).unwrap();
    if let Some(environment) = environment {
        let environment = Some(environment.to_owned());
        let machine = Machine { macs: vec![MAC], environment, loader, ..Machine::default() };
        roster.insert("web1".parse().unwrap(), machine, false).unwrap();
    }
    roster
}

impl Bench {
    fn new(environment: Option<&str>, default: Option<&str>) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::new());
        let (boots, orders) = Self::start(&scratch, &clock, roster(environment, default), 1);
        Self { scratch, clock, boots, orders }
    }

    fn start(
        scratch: &tempfile::TempDir,
        clock: &Arc<FakeClock>,
        roster: Roster,
        first_id: u64,
    ) -> (Boots, Arc<Mutex<Vec<Order>>>) {
        let orders = Arc::new(Mutex::new(Vec::new()));
        let ordered = Arc::clone(&orders);
        let catalog = Catalog::start().unwrap();
        catalog.replace(environments());
        catalog.wait_until_scanned();
        let ids = AtomicU64::new(first_id);
        let boots = Boots::open(Sources {
            catalog,
            loaders: HostLoaders::default(),
            http_port: 80,
            roster,
            state: Arc::new(StateDir::open(scratch.path()).unwrap()),
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            usage: Arc::new(Usage::new(clock.now())),
            events: Arc::new(Events::new(Arc::clone(clock) as Arc<dyn Clock>)),
            random: Box::new(move || ids.fetch_add(1, Ordering::Relaxed)),
            orders: Box::new(move |order| ordered.lock().unwrap().push(order)),
        });
        (boots.unwrap(), orders)
    }

    /// A bench whose machine boots `base` by a loader that was chosen.
    fn by(loader: LoaderChoice) -> Self {
        let bench = Self::new(None, None);
        bench.boots.set_roster(roster_by(loader, Some("base"), None));
        bench
    }

    /// Kills the server and starts it again; boot ids go on from 100.
    fn restart(self, environment: Option<&str>, default: Option<&str>) -> Self {
        let Self { scratch, clock, boots, orders: _ } = self;
        drop(boots);
        let (boots, orders) = Self::start(&scratch, &clock, roster(environment, default), 100);
        Self { scratch, clock, boots, orders }
    }

    fn pass(&self, seconds: u64) {
        self.clock.pass(Duration::from_secs(seconds));
    }

    fn ask(&self, mac: Mac, client: Client, xid: u32, discover: bool) -> Option<Answer> {
        self.ask_as(None, mac, client, xid, discover)
    }

    fn ask_as(
        &self,
        uuid: Option<Uuid>,
        mac: Mac,
        client: Client,
        xid: u32,
        discover: bool,
    ) -> Option<Answer> {
        self.boots.decide(&Ask {
            mac,
            uuid,
            client,
            xid,
            discover,
            local: SERVER,
            proxy: false,
            observed: false,
            network: network(),
        })
    }

    fn discover(&self, client: Client, xid: u32) -> Option<Answer> {
        self.ask(MAC, client, xid, true)
    }

    /// DISCOVER, OFFER, REQUEST, ACK; returns the file of the ACK.
    fn lease(&self, client: Client, xid: u32) -> Option<String> {
        let offered = self.discover(client, xid);
        let taken = self.ask(MAC, client, xid, false);
        assert_eq!(offered, taken, "OFFER and ACK carry the same");
        self.boots.report(ClientAddress::Mac(MAC), Event::Leased(ADDRESS));
        taken.and_then(|answer| answer.file)
    }

    fn request(&self, protocol: FileProtocol, name: &str) -> Result<BootFile, FileError> {
        self.request_from(ADDRESS, protocol, name, false)
    }

    fn request_from(
        &self,
        peer: Ipv4Addr,
        protocol: FileProtocol,
        name: &str,
        waited: bool,
    ) -> Result<BootFile, FileError> {
        let (peer, local, port, name) = (peer.into(), SERVER.into(), 80, name.as_bytes());
        self.boots.open(&FileRequest { peer, local, port, protocol, waited, name })
    }

    /// The root of the boot of the machine at the usual address.
    fn root(&self) -> Option<Root> {
        self.root_at(ADDRESS)
    }

    fn root_at(&self, address: Ipv4Addr) -> Option<Root> {
        self.boots.roots_of(address.into()).current().cloned()
    }

    /// The environments that are granted to an address.
    fn granted(&self, address: Ipv4Addr) -> Vec<u128> {
        let roots = self.boots.roots_of(address.into());
        roots.iter().map(|root| root.environment.as_u128()).collect()
    }

    /// An environment is mounted from the usual address, as MOUNT tells it.
    fn mount(&self, environment: u128, path: &str) {
        self.mount_from(ADDRESS, environment, path);
    }

    fn mount_from(&self, address: Ipv4Addr, environment: u128, path: &str) {
        let (address, environment) = (address.into(), Uuid::from_u128(environment));
        let now = self.clock.now();
        if self.boots.usage().mounted(address, environment, path.as_bytes(), now) {
            let path = path.to_owned();
            self.boots.report(ClientAddress::Ip(address), Event::Mounted { environment, path });
        }
    }

    fn unmount(&self, path: &str) {
        self.boots.usage().unmounted(ADDRESS.into(), None, path.as_bytes());
        let event = Event::Unmounted(path.to_owned());
        self.boots.report(ClientAddress::Ip(ADDRESS.into()), event);
    }

    /// An NFS call from the usual address.
    fn call(&self, environment: u128) {
        let (address, environment) = (ADDRESS.into(), Uuid::from_u128(environment));
        let call = usage::Call { written: 1, by_kernel: true, ..usage::Call::default() };
        if let Some(traffic) = self.boots.usage().see(address, environment, call, self.clock.now())
        {
            self.boots.report(ClientAddress::Ip(address), Event::Nfs { environment, traffic });
        }
    }

    /// Fetches a file whole; returns its text.
    fn fetch(&self, protocol: FileProtocol, name: &str) -> Result<String, FileError> {
        let opened = self.request(protocol, name)?;
        let (ticket, total) = (opened.ticket, opened.len);
        let name = name.to_owned();
        let sent = Event::Sent { ticket, name, bytes: total, total, protocol };
        self.boots.report(ClientAddress::Ip(ADDRESS.into()), sent);
        let mut text = String::new();
        match opened.content {
            Content::Bytes(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Content::File(file) => {
                (&*file).read_to_string(&mut text).unwrap();
            }
        }
        assert_eq!(text.len() as u64, total);
        Ok(text)
    }

    fn tftp(&self, name: &str) -> Result<String, FileError> {
        self.fetch(FileProtocol::Tftp, name)
    }

    fn http(&self, url: &str) -> Result<String, FileError> {
        self.fetch(FileProtocol::Http, url.strip_prefix("http://10.0.0.1").unwrap())
    }

    fn stage(&self) -> Stage {
        let standings = self.boots.standings();
        standings.iter().find(|one| one.mac == Some(MAC)).unwrap().status.as_ref().unwrap().stage
    }

    fn boot(&self) -> Option<BootId> {
        self.boots.known().clients.get(&MAC)?.boot.as_ref().map(|boot| boot.id)
    }
}

#[test]
fn a_machine_whose_environment_is_away_is_answered_when_it_is_back() {
    let bench = Bench::new(Some("base"), None);
    let base = bench.boots.catalog.named("base").unwrap();
    let expected = catalog::Expected { uuid: Some(base.uuid), owned: None };
    let expected = std::collections::BTreeMap::from([("base".to_owned(), expected)]);
    bench.boots.catalog.expect(expected, true);
    bench.boots.update_environments(Vec::new(), &[base.uuid]);
    assert_eq!(bench.discover(UEFI, 1), None, "it is not told that there is nothing to boot");
    let trouble = || {
        let standings = bench.boots.standings();
        let view = standings.into_iter().find(|one| one.mac == Some(MAC)).unwrap().status.unwrap();
        view.trouble.and(view.verdict).map(|verdict| verdict.text)
    };
    assert!(trouble().unwrap().contains("a command works on it"), "{:?}", trouble());
    bench.boots.update_environments(vec![base], &[]);
    bench.boots.catalog.wait_until_scanned();
    assert_eq!(bench.lease(UEFI, 2).as_deref(), Some("snponly.efi"));
    assert_eq!(trouble(), None);
    // What is gone is said to be.
    bench.boots.catalog.expect(std::collections::BTreeMap::new(), true);
    bench.boots.update_environments(Vec::new(), &[Uuid::from_u128(1)]);
    assert!(bench.ask(OTHER, UEFI, 3, true).is_none_or(|answer| answer.file.is_none()));
    assert!(bench.boots.catalog.why_absent("base").contains("no longer exists"));
}

#[test]
fn a_machine_is_explained_by_any_of_its_names_with_what_was_seen() {
    let bench = Bench::new(Some("base"), None);
    assert!(bench.boots.explained("web2").is_none());
    let (never, seen) = bench.boots.explained("web1").unwrap();
    assert_eq!(never.status.unwrap().verdict.unwrap().cause, Cause::NeverHeard);
    assert_eq!(seen, []);
    bench.lease(UEFI, 1);
    bench.pass(45);
    for name in ["web1", &MAC.to_string(), &ADDRESS.to_string()] {
        let (standing, seen) = bench.boots.explained(name).unwrap();
        assert_eq!(standing.status.unwrap().verdict.unwrap().cause, Cause::TftpBlocked);
        let texts: Vec<_> = seen.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts.first(), Some(&"UEFI PXE asks for an address"), "{texts:?}");
        assert_eq!(texts.last(), Some(&"took 10.0.0.100"), "{texts:?}");
    }
    let who = bench.boots.who_is_at(ADDRESS.into());
    assert_eq!(who, Some(("web1".to_owned(), bench.boot())));
    assert_eq!(bench.boots.who_is_at(Ipv4Addr::new(10, 0, 0, 77).into()), None);
}

/// The journal keeps what happens to named machines, and not what strangers can do any number of times.
#[test]
fn a_refusal_says_whether_its_machine_is_named() {
    let bench = Bench::new(Some("gone"), None);
    let mut events = bench.boots.events().subscribe();
    let mut refused = || {
        let event = events.try_recv().unwrap();
        assert_eq!((event.kind, event.boot), (events::Kind::BootRefused, None));
        (event.machine.clone().unwrap(), event.named)
    };
    bench.discover(UEFI, 1);
    assert_eq!(refused(), ("web1".to_owned(), true));
    bench.ask(OTHER, UEFI, 2, true);
    assert_eq!(refused(), (OTHER.to_string(), false));
}

#[test]
fn a_machine_whose_clone_is_away_gets_no_second_one() {
    let bench = Bench::new(None, None);
    let machine: MachineName = "web1".parse().unwrap();
    let owned = provision::roots::Owned {
        machine: "web1".to_owned(),
        template: "base".to_owned(),
        origin: None,
        fresh: false,
        created: store::Timestamp::from(std::time::SystemTime::UNIX_EPOCH),
    };
    let expected = catalog::Expected { uuid: Some(Uuid::from_u128(9)), owned: Some(owned) };
    let expected = std::collections::BTreeMap::from([("web1-base".to_owned(), expected)]);
    bench.boots.catalog.expect(expected, true);
    assert_eq!(bench.boots.catalog.own(&machine, "base").as_deref(), Some("web1-base"));
    assert_eq!(bench.boots.catalog.known("web1-base"), catalog::Known::Away);
}

#[test]
fn a_repeated_discover_is_the_same_boot_until_something_was_fetched() {
    let bench = Bench::new(Some("base"), None);
    bench.lease(UEFI, 1);
    bench.pass(32);
    bench.discover(UEFI, 1).unwrap();
    assert_eq!(bench.boot(), Some(BootId(1)));
    bench.tftp("snponly.efi").unwrap();
    bench.discover(UEFI, 1).unwrap();
    assert_eq!(bench.boot(), Some(BootId(2)), "a machine that was reset with its loader in hand");
}

#[test]
fn a_boot_that_has_fetched_nothing_follows_a_new_assignment() {
    let bench = Bench::new(Some("base"), None);
    bench.lease(UEFI, 1);
    bench.boots.set_roster(roster(Some("free"), None));
    assert_eq!(bench.lease(UEFI, 1).as_deref(), Some("loader.efi"));
}

#[test]
fn a_plan_is_frozen_once_its_loader_is_fetched() {
    let bench = Bench::new(Some("base"), None);
    bench.lease(UEFI, 1);
    bench.tftp("snponly.efi").unwrap();
    bench.boots.set_roster(roster(Some("free"), None));
    let script = bench.lease(IPXE, 2).unwrap();
    assert_eq!(script, "http://10.0.0.1/b/0000000000000001/boot.ipxe");
    assert_eq!(bench.root().unwrap().environment, Uuid::from_u128(1));
}

#[test]
fn an_unknown_machine_boots_nothing_and_is_told_why() {
    let bench = Bench::new(None, None);
    assert_eq!(bench.discover(UEFI, 1), None);
    bench.boots.report(ClientAddress::Mac(MAC), Event::Leased(ADDRESS));
    let refusal = bench.tftp("snponly.efi").unwrap_err().to_string();
    assert!(refusal.starts_with("unknown machine, and no default environment"), "{refusal}");
    let standings = bench.boots.standings();
    let status = standings[0].status.as_ref().unwrap();
    assert_eq!(
        status.trouble.and(status.verdict.as_ref()).map(|one| one.text.clone()),
        Some(refusal)
    );
    assert_eq!(bench.root(), None);
}

#[test]
fn a_machine_that_is_known_by_its_uuid_stays_known() {
    let bench = Bench::new(None, None);
    let uuid = Some(Uuid::from_u128(7));
    let mut roster = Roster::default();
    let environment = Some("base".to_owned());
    roster
        .insert("web7".parse().unwrap(), Machine { uuid, environment, ..Machine::default() }, true)
        .unwrap();
    bench.boots.set_roster(roster.clone());
    let (xid, discover, proxy) = (1, true, false);
    let network = network();
    let (client, observed) = (UEFI, false);
    let ask =
        Ask { mac: MAC, uuid, client, xid, discover, local: SERVER, proxy, observed, network };
    assert!(bench.boots.decide(&ask).is_some());
    bench.boots.set_roster(roster);
    let standings = bench.boots.standings();
    assert_eq!(standings.len(), 1);
    assert_eq!((standings[0].mac, standings[0].status.is_some()), (Some(MAC), true));
}

#[test]
fn an_unknown_machine_shares_the_default_read_only() {
    let bench = Bench::new(None, Some("base"));
    bench.lease(UEFI, 1).unwrap();
    assert!(bench.root().unwrap().read_only);
}

#[test]
fn a_running_system_that_is_not_ours_begins_no_boot() {
    let bench = Bench::new(Some("base"), Some("base"));
    assert_eq!(bench.ask(OTHER, Client::Ordinary, 1, true), None);
    assert_eq!(bench.boots.standings().len(), 1);
}

#[test]
fn a_named_machine_that_was_started_by_hand_has_its_root() {
    let bench = Bench::new(Some("base"), None);
    bench.lease(Client::Ordinary, 1);
    assert_eq!(&*bench.root().unwrap().machine, "web1");
}

#[test]
fn a_loader_without_firmware_begins_a_new_boot_each_time() {
    for client in [Client::FreeBsdLoader, Client::FreeBsdKernel] {
        let bench = Bench::new(Some("free"), None);
        bench.lease(client, 1);
        bench.mount(2, "/be/free");
        bench.boots.set_roster(roster(Some("base"), None));
        bench.lease(Client::Ordinary, 2);
        let root = || bench.root().unwrap().environment;
        assert_eq!(root(), Uuid::from_u128(2), "the running system keeps its root");
        bench.pass(60);
        bench.lease(client, 1);
        assert_eq!(root(), Uuid::from_u128(1), "{client}");
    }
}

#[test]
fn an_address_belongs_to_who_took_it_last() {
    let bench = Bench::new(Some("base"), Some("free"));
    bench.lease(UEFI, 1);
    bench.ask(OTHER, UEFI, 2, true).unwrap();
    bench.boots.report(ClientAddress::Mac(OTHER), Event::Leased(ADDRESS));
    let root = bench.root().unwrap();
    assert_eq!((&*root.machine, root.environment), ("10.0.0.100", Uuid::from_u128(2)));
}

#[test]
fn a_root_lives_until_it_was_unused_for_long() {
    let bench = Bench::new(Some("base"), None);
    bench.lease(IPXE_ROM, 1);
    bench.call(1);
    bench.pass(29 * 60);
    assert!(bench.boots.lives(ADDRESS));
    bench.pass(60);
    assert!(!bench.boots.lives(ADDRESS));
    bench.mount(1, "/be/base");
    bench.pass(60 * 60);
    assert!(bench.boots.lives(ADDRESS), "mounted and idle");
    bench.unmount("/be/base");
    assert!(!bench.boots.lives(ADDRESS));
}

#[test]
fn only_files_of_the_boot_are_opened() {
    let bench = Bench::new(Some("free"), None);
    bench.lease(BIOS, 1);
    assert_eq!(bench.tftp("boot/loader.conf").unwrap(), "/boot/loader.conf");
    assert_eq!(bench.tftp("/be/free/boot/loader.conf").unwrap(), "/boot/loader.conf");
    for name in ["/be/free/etc/fstab", "be/free/etc/fstab", "//10.0.0.1/be/free//etc/fstab"] {
        assert_eq!(bench.tftp(name).unwrap(), "/etc/fstab");
    }
    for name in [
        "etc/master.passwd",
        "boot/../etc/master.passwd",
        "boot/../etc/fstab",
        "etc/fstab.gz",
        "/be/base/boot/vmlinuz",
        "boot/missing.gz",
        "",
        "boot",
        "..",
        "kernel",
    ] {
        assert!(matches!(bench.tftp(name), Err(FileError::NotFound)), "{name}");
    }
    let by_http = |name| bench.fetch(FileProtocol::Http, name);
    assert!(matches!(by_http("/boot/loader.conf"), Err(FileError::NotFound)));
    assert!(matches!(by_http("/b/0000000000000009/kernel"), Err(FileError::Refused(_))));
    assert!(matches!(by_http("/b/1/kernel"), Err(FileError::NotFound)));
    assert!(matches!(by_http("/b/0000000000000001/../x"), Err(FileError::NotFound)));
}

#[test]
fn clients_are_forgotten_before_memory_grows() {
    let bench = Bench::new(Some("base"), Some("base"));
    bench.lease(UEFI, 1);
    for number in 0..u16::try_from(MAX_CLIENTS + 50).unwrap() {
        let [high, low] = number.to_be_bytes();
        bench.pass(1);
        bench.ask(Mac([2, 0, 0, 0, high, low]), UEFI, 1, true).unwrap();
    }
    let known = bench.boots.known();
    let room = MAX_CLIENTS - FORGOTTEN_AT_ONCE..=MAX_CLIENTS;
    assert!(room.contains(&known.clients.len()), "{} are remembered", known.clients.len());
    assert_eq!(known.boots.len(), known.clients.len());
    assert!(known.clients.contains_key(&MAC), "a named machine is not forgotten");
}

#[test]
fn who_watches_is_told() {
    let bench = Bench::new(Some("base"), None);
    let mut watch = bench.boots.events().subscribe();
    bench.discover(IPXE_ROM, 1);
    let notice = watch.try_recv().unwrap();
    assert_eq!((notice.machine.as_deref(), notice.stage), (Some("web1"), Some(Stage::Discover)));
    assert_eq!(notice.text, "iPXE (BIOS): boots base, read-write (boot 0000000000000001)");
}

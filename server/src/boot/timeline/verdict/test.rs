//! Every failure that can be told apart from the network, each with the sentence that blames the right thing.

use std::net::Ipv4Addr;

use uuid::Uuid;

use super::*;
use crate::boot::flaw::Flaw;
use crate::boot::usage::Traffic;
use crate::boot::{Role, Ticket};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const PXE: Client = Client::Pxe(Arch::UEFI_X64);
const BIOS: Client = Client::Pxe(Arch::BIOS);
const HTTP: Client = Client::Http(Arch::UEFI_X64_HTTP);
const IPXE: Client = Client::Ipxe(Arch::UEFI_X64);

/// What is to be seen and then to be told, `silent` seconds later.
struct Case {
    client: Client,
    events: Vec<Event>,
    silent: u64,
}

impl Case {
    fn told(&self) -> Verdict {
        self.judged().unwrap_or_else(|| panic!("nothing is told of {:?}", self.events))
    }

    fn judged(&self) -> Option<Verdict> {
        let mut now = Instant::now();
        let mut timeline = Timeline::new(now);
        timeline.begin(self.client, now);
        let environment = Some("base".to_owned());
        timeline.concerns(Context { environment, http_port: 8080 });
        for event in &self.events {
            now += Duration::from_secs(1);
            let mut event = event.clone();
            if let Event::Abandoned { since, .. } = &mut event {
                *since = now;
            }
            timeline.see(&event, now);
        }
        timeline.status(None, now + Duration::from_secs(self.silent)).verdict
    }
}

fn case(client: Client, events: impl IntoIterator<Item = Event>) -> Case {
    Case { client, events: events.into_iter().collect(), silent: 45 }
}

fn asks(client: Client) -> Vec<Event> {
    vec![Event::Discover(client)]
}

fn leased(client: Client) -> Vec<Event> {
    vec![Event::Discover(client), Event::Offered(ADDRESS), Event::Leased(ADDRESS)]
}

fn sent(role: Role, bytes: u64, total: u64) -> Event {
    let name = match role {
        Role::Loader => "snponly.efi",
        Role::Script => "/b/1/boot.ipxe",
        Role::Kernel => "/b/1/kernel",
        Role::Initrd => "/b/1/initrd",
        Role::Other => "other",
    };
    let (ticket, name) = (Ticket { boot: None, role }, name.to_owned());
    Event::Sent { ticket, name, bytes, total, protocol: FileProtocol::Http }
}

fn denied(name: &str, denial: Denial) -> Event {
    Event::Denied { name: name.to_owned(), protocol: FileProtocol::Tftp, denial }
}

fn stall(stall: Stall) -> Event {
    Event::Abandoned { name: "snponly.efi".to_owned(), since: Instant::now(), stall }
}

fn nfs(traffic: Traffic) -> Event {
    Event::Nfs { environment: Uuid::nil(), traffic }
}

fn mounted() -> Event {
    Event::Mounted { environment: Uuid::nil(), path: "/be/base".to_owned() }
}

fn kernel_reads(read: u64) -> Event {
    nfs(Traffic { calls: 40, read, by_kernel: true, ..Traffic::default() })
}

/// Up to the root, by the way of iPXE.
fn loaded() -> Vec<Event> {
    let mut events = leased(PXE);
    events.push(sent(Role::Loader, 9, 9));
    events.extend(leased(IPXE));
    events.extend([Role::Script, Role::Kernel, Role::Initrd].map(|role| sent(role, 9, 9)));
    events
}

fn with(mut events: Vec<Event>, more: impl IntoIterator<Item = Event>) -> Vec<Event> {
    events.extend(more);
    events
}

/// The cause, and words that the sentence has and has not.
#[track_caller]
fn blames(case: &Case, cause: Cause, words: &[&str], never: &[&str]) {
    let told = case.told();
    assert_eq!(told.cause, cause, "{told:?}");
    for word in words {
        assert!(told.text.contains(word), "{word}: {told:?}");
    }
    for word in never {
        assert!(!told.text.contains(word), "{word}: {told:?}");
    }
}

const BLOCKED: &[&str] = &["blocks", "firewall"];
const SECURE: &[&str] = &["Secure Boot"];

#[test]
fn dhcp_is_blamed_for_what_dhcp_did() {
    let nobody = case(PXE, with(asks(PXE), asks(PXE)));
    blames(&nobody, Cause::NotOffered, &["asked for an address 2 times"], BLOCKED);
    let untaken = with(asks(PXE), [Event::Offered(ADDRESS), Event::Offered(ADDRESS)]);
    blames(&case(PXE, untaken), Cause::OfferUnanswered, &["offered an address 2 times"], BLOCKED);
    let full = Event::Unserved("no address is left in 10.0.0.0/24".to_owned());
    blames(&case(PXE, with(asks(PXE), [full])), Cause::NoAddress, &["no address is left"], BLOCKED);
    let foreign = Event::ForeignServer(Ipv4Addr::new(10, 0, 0, 2));
    let foreign = case(PXE, with(asks(PXE), [foreign]));
    blames(&foreign, Cause::ForeignServer, &["10.0.0.2"], BLOCKED);
    let taken = case(PXE, with(asks(PXE), [Event::Declined(ADDRESS)]));
    blames(&taken, Cause::AddressInUse, &["in use by another machine"], BLOCKED);
    let refused = case(PXE, with(asks(PXE), [Event::Refused(ADDRESS)]));
    blames(&refused, Cause::AddressRefused, &["was refused 10.0.0.9"], BLOCKED);
}

#[test]
fn a_port_is_blamed_only_where_no_packet_came_by_it() {
    blames(&case(PXE, leased(PXE)), Cause::TftpBlocked, &["UDP port 69"], &["HTTP", "TCP"]);
    blames(&case(HTTP, leased(HTTP)), Cause::HttpBlocked, &["TCP port 8080"], &["TFTP", "UDP"]);
    blames(&case(IPXE, leased(IPXE)), Cause::HttpBlocked, &["TCP port 8080"], &["TFTP"]);
    let runs = with(with(leased(PXE), [sent(Role::Loader, 9, 9)]), leased(IPXE));
    let words = ["iPXE (UEFI) runs and has an address", "TCP port 8080"];
    blames(&case(PXE, runs), Cause::HttpBlocked, &words, SECURE);
    let mute = with(with(leased(PXE), [sent(Role::Loader, 9, 9)]), asks(IPXE));
    blames(&case(PXE, mute), Cause::OfferUnanswered, &["our answer does not reach it"], SECURE);
    let freebsd = with(leased(PXE), [sent(Role::Loader, 9, 9)]);
    let freebsd = with(freebsd, leased(Client::FreeBsdLoader));
    blames(&case(PXE, freebsd), Cause::NfsBlocked, &["FreeBSD's loader runs", "2049"], SECURE);
}

#[test]
fn a_request_that_was_answered_is_no_blocked_port() {
    let wrong = with(leased(PXE), [denied("wrong.efi", Denial::Missing)]);
    blames(&case(PXE, wrong), Cause::FileMissing, &["wrong.efi by TFTP", "no such file"], BLOCKED);
    let refused = Denial::Refused("this boot is over".to_owned());
    let refused = with(leased(PXE), [denied("b/1/kernel", refused)]);
    blames(&case(PXE, refused), Cause::FileRefused, &["this boot is over"], BLOCKED);
    let unread = with(leased(PXE), [denied("snponly.efi", Denial::Unreadable)]);
    blames(&case(PXE, unread), Cause::FileUnreadable, &["cannot read it"], BLOCKED);
    let terms = |code| Event::TermsRefused { name: "snponly.efi".to_owned(), code };
    let endless = with(leased(PXE), vec![terms(8); 7]);
    let endless = Case { silent: 0, ..case(PXE, endless) };
    blames(&endless, Cause::TermsRefused, &["7 times", "ERROR 8"], BLOCKED);
    let once = case(PXE, with(leased(PXE), [terms(8)]));
    blames(&once, Cause::TermsRefused, &["ERROR 8", "then nothing for 45 s"], BLOCKED);
    let oack = case(PXE, with(leased(PXE), [stall(Stall::Terms)]));
    blames(&oack, Cause::TermsUnanswered, &["OACK", "never acknowledged"], &["port 69", "TCP"]);
}

#[test]
fn wrong_names_that_come_again_and_again_are_told_without_a_silence() {
    let again = with(leased(PXE), vec![denied("wrong.efi", Denial::Missing); 6]);
    let again = Case { silent: 0, ..case(PXE, again) };
    blames(&again, Cause::FileMissing, &["6 times"], BLOCKED);
}

#[test]
fn frames_that_are_lost_are_told_by_their_size() {
    let large = case(PXE, with(leased(PXE), [stall(Stall::FirstBlock(1468))]));
    blames(&large, Cause::FramesLost, &["first block of 1468 bytes", "frame of that size"], &[]);
    let small = case(PXE, with(leased(PXE), [stall(Stall::FirstBlock(512))]));
    blames(&small, Cause::FramesLost, &["does not reach it"], &["frame of that size"]);
    let stuck = nfs(Traffic { calls: 9, read: 8192, repeats: 4, ..Traffic::default() });
    let stuck = case(PXE, with(leased(PXE), [sent(Role::Loader, 9, 9), stuck]));
    blames(&stuck, Cause::FramesLost, &["same piece of a file again and again"], SECURE);
}

#[test]
fn a_transfer_that_ended_early_is_told_by_how_it_ended() {
    let middle = case(PXE, with(leased(PXE), [stall(Stall::Midway(4096))]));
    blames(&middle, Cause::TransferFailed, &["after 4.0 KiB", "link is down"], BLOCKED);
    let reason = "the client has no room for it (TFTP ERROR 3)".to_owned();
    let full = Event::Failed { name: "snponly.efi".to_owned(), reason };
    blames(&case(PXE, with(leased(PXE), [full])), Cause::TransferFailed, &["no room"], BLOCKED);
    let part = with(loaded(), [sent(Role::Initrd, 5, 9)]);
    blames(&case(PXE, part), Cause::TransferFailed, &["got 5 B of 9 B", "link is down"], &[]);
}

#[test]
fn secure_boot_is_named_only_where_a_good_loader_is_silent() {
    let silent = with(leased(PXE), [sent(Role::Loader, 9, 9)]);
    blames(&case(PXE, silent), Cause::LoaderSilent, &["fetched its loader", "Secure Boot"], &[]);
    let bios = with(leased(BIOS), [sent(Role::Loader, 9, 9)]);
    blames(&case(BIOS, bios), Cause::LoaderSilent, &["fetched its loader", "hangs"], SECURE);
    let flawed = |flaw, total| {
        let flawed = Event::Flawed { name: "snponly.efi".to_owned(), flaw };
        let events = with(leased(PXE), [flawed, sent(Role::Loader, total, total)]);
        Case { silent: 0, ..case(PXE, events) }
    };
    blames(&flawed(Flaw::Empty, 0), Cause::LoaderBroken, &["snponly.efi is empty"], SECURE);
    blames(&flawed(Flaw::Garbage, 9), Cause::LoaderBroken, &["is not a program"], SECURE);
    let (of, wanted) = ("64-bit ARM UEFI", "x64 UEFI");
    let foreign = flawed(Flaw::Foreign { of, wanted }, 9);
    let words = ["a program for 64-bit ARM UEFI", "has x64 UEFI"];
    blames(&foreign, Cause::LoaderForeign, &words, SECURE);
    let kernel = Event::Flawed { name: "/b/1/kernel".to_owned(), flaw: Flaw::Empty };
    let kernel = with(leased(IPXE), [kernel, sent(Role::Kernel, 0, 0)]);
    blames(&case(IPXE, kernel), Cause::KernelBroken, &["kernel /b/1/kernel is empty"], SECURE);
}

#[test]
fn a_loader_that_starts_after_all_has_no_flaw() {
    let flawed = Event::Flawed { name: "snponly.efi".to_owned(), flaw: Flaw::Garbage };
    let runs = with(leased(PXE), [flawed, sent(Role::Loader, 9, 9)]);
    let runs = Case { silent: 0, ..case(PXE, with(runs, asks(IPXE))) };
    assert_eq!(runs.judged(), None);
}

#[test]
fn what_is_between_the_loader_and_the_root_is_told_by_its_stage() {
    let script = case(IPXE, with(leased(IPXE), [sent(Role::Script, 9, 9)]));
    blames(&script, Cause::ScriptSilent, &["asked for no kernel"], SECURE);
    blames(&case(PXE, loaded()), Cause::KernelSilent, &["loaded its initrd", "driver"], SECURE);
    let kernel = with(leased(IPXE), [sent(Role::Script, 9, 9), sent(Role::Kernel, 9, 9)]);
    blames(&case(IPXE, kernel), Cause::KernelSilent, &["loaded its kernel"], SECURE);
    let system = case(PXE, with(loaded(), leased(Client::Ordinary)));
    blames(
        &system,
        Cause::NoMount,
        &["kernel has an address", "did not ask for its root"],
        &["driver"],
    );
}

#[test]
fn a_root_that_is_refused_or_fails_is_told_by_its_reason() {
    let (path, reason) = ("/be/base".to_owned(), "permission denied".to_owned());
    let refused = case(PXE, with(loaded(), [Event::NotMounted { path, reason }]));
    blames(&refused, Cause::MountRefused, &["mounting /be/base: permission denied"], &[]);
    let refused = Event::NotAdmitted("10.0.0.9 is refused the root head".to_owned());
    let refused = case(PXE, with(loaded(), [mounted(), refused]));
    blames(&refused, Cause::NfsRefused, &["is refused the root head"], &[]);
    let silent = case(PXE, with(loaded(), [mounted()]));
    blames(&silent, Cause::NfsBlocked, &["no call for a file came"], &[]);
    let panics = Case { silent: 61, ..case(PXE, with(loaded(), [mounted(), kernel_reads(9000)])) };
    blames(&panics, Cause::Stopped, &["read 8.7 KiB of its root", "kernel panic"], &["init"]);
    let says = Event::Panicked("Kernel panic - not syncing: VFS".to_owned());
    let says = Case { silent: 0, ..case(PXE, with(loaded(), [mounted(), kernel_reads(9), says])) };
    blames(&says, Cause::KernelPanicked, &["Kernel panic - not syncing: VFS"], &["init"]);
    let lacks = Traffic { calls: 4, by_kernel: true, lacks_init: true, ..Traffic::default() };
    let lacks = case(PXE, with(loaded(), [mounted(), nfs(lacks)]));
    blames(&lacks, Cause::NoInit, &["found none"], &["panic"]);
    let writes = Traffic { calls: 9, written: 1, denied: 3, by_kernel: true, ..Traffic::default() };
    let writes = case(PXE, with(loaded(), [mounted(), nfs(writes)]));
    blames(&writes, Cause::ReadOnlyRoot, &["tried to write to its root 3 times"], &[]);
}

#[test]
fn a_machine_that_ran_and_is_silent_is_lost() {
    let ran = Traffic { calls: 9, written: 1, by_kernel: true, ..Traffic::default() };
    let ran = with(loaded(), [mounted(), nfs(ran)]);
    assert_eq!(Case { silent: 300, ..case(PXE, ran.clone()) }.judged(), None);
    let lost = Case { silent: 660, ..case(PXE, ran) };
    blames(&lost, Cause::Lost, &["then nothing for 11 min"], &["panic"]);
}

#[test]
fn a_machine_that_starts_again_and_again_is_told_with_how_far_it_came() {
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    let mut timeline = Timeline::new(now);
    for boot in 0..4 {
        timeline.begin(PXE, at(60 * boot));
        for event in loaded() {
            timeline.see(&event, at(60 * boot));
        }
    }
    let told = timeline.status(None, at(181)).verdict.unwrap();
    assert_eq!(told.cause, Cause::Looping);
    assert!(
        told.text.contains("4 boots in 3 min") && told.text.contains("than initrd"),
        "{told:?}"
    );
    let told = timeline.status(None, at(230)).verdict.unwrap();
    assert_eq!(told.cause, Cause::KernelSilent, "the nearer cause comes first");
    assert!(told.text.contains("4 boots"), "{told:?}");
    timeline.begin(PXE, at(7200));
    assert_eq!(timeline.status(None, at(7200)).verdict, None, "long after that it is one boot");
}

#[test]
fn what_another_part_has_found_out_is_told_in_its_words() {
    let now = Instant::now();
    let mut timeline = Timeline::new(now);
    timeline.begin(PXE, now);
    timeline.refuse("no boot environment is assigned to web1", now);
    let told = timeline.status(None, now).verdict.unwrap();
    assert_eq!((told.cause, told.text.contains("assigned")), (Cause::Refused, true));
    timeline.warn(Trouble::TwoMachines, "two machines have it".to_owned());
    assert_eq!(timeline.status(None, now).verdict.unwrap().cause, Cause::TwoMachines);
    timeline.begin(PXE, now);
    timeline.resume(Stage::Root, now);
    assert_eq!(timeline.status(None, now).verdict.unwrap().cause, Cause::Unheard);
}

#[test]
fn a_boot_that_goes_on_is_blamed_for_nothing() {
    let mut events = loaded();
    for until in 1..=events.len() {
        let going = Case { silent: 5, ..case(PXE, events[..until].to_vec()) };
        assert_eq!(going.judged(), None, "{:?}", going.events.last());
    }
    let misses = ["pxelinux.cfg/01-02", "pxelinux.cfg/0A", "pxelinux.cfg/default"];
    events.splice(4..4, misses.map(|name| denied(name, Denial::Missing)));
    events.extend([mounted(), kernel_reads(9)]);
    assert_eq!(Case { silent: 5, ..case(PXE, events) }.judged(), None);
}

#[test]
fn every_verdict_fits_a_line_and_a_terminal() {
    let name = "\u{1b}[2J".repeat(300);
    let long = with(leased(PXE), [denied(&name, Denial::Refused(name.clone()))]);
    let told = case(PXE, long).told();
    assert!(told.text.len() < 400 && !told.text.contains('\u{1b}'), "{told:?}");
}

//! Events in, stages out, by a clock that the tests move.

use std::net::Ipv4Addr;

use uuid::Uuid;

use super::*;
use crate::boot::{Arch, FileProtocol, Stall, Ticket};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const PXE: Client = Client::Pxe(Arch::UEFI_X64);

fn sent(role: Role, bytes: u64, total: u64) -> Event {
    let ticket = Ticket { boot: None, role };
    let name = format!("{role:?}");
    Event::Sent { ticket, name, bytes, total, protocol: FileProtocol::Http }
}

/// A kernel uses its root.
fn nfs(written: u64) -> Event {
    used(Traffic { calls: 10, read: 4096, written, by_kernel: true, ..Traffic::default() })
}

/// A loader reads from the root, or asks for the same piece again so often.
fn read(bytes: u64, repeats: u32) -> Event {
    used(Traffic { calls: 10, read: bytes, repeats, ..Traffic::default() })
}

fn used(traffic: Traffic) -> Event {
    Event::Nfs { environment: Uuid::nil(), traffic }
}

/// Shows events to a timeline, one per second.
fn shown(events: &[Event]) -> (Timeline, Instant) {
    let mut now = Instant::now();
    let mut timeline = Timeline::new(now);
    timeline.begin(PXE, now);
    for event in events {
        timeline.see(event, now);
        now += Duration::from_secs(1);
    }
    (timeline, now)
}

#[test]
fn a_boot_passes_its_stages() {
    let (timeline, now) = shown(&[
        Event::Discover(PXE),
        Event::Offered(ADDRESS),
        Event::Leased(ADDRESS),
        sent(Role::Loader, 500, 500),
        Event::Discover(Client::Ipxe(Arch::UEFI_X64)),
        Event::Leased(ADDRESS),
        sent(Role::Script, 100, 100),
        sent(Role::Kernel, 2000, 2000),
        sent(Role::Initrd, 3000, 3000),
        Event::Mounted { environment: Uuid::nil(), path: "/be/base".to_owned() },
        nfs(0),
        nfs(1),
    ]);
    let view = timeline.status(None, now);
    assert_eq!((view.stage, view.sent, view.written), (Stage::Running, 5600 + 2 * 4096, 1));
    let stages = view.stages.iter().map(|(stage, took)| (*stage, took.as_secs()));
    let expected = [
        (Stage::Discover, 1),
        (Stage::Offered, 1),
        (Stage::Leased, 1),
        (Stage::Loader, 3),
        (Stage::Script, 1),
        (Stage::Kernel, 1),
        (Stage::Initrd, 1),
        (Stage::Root, 2),
        (Stage::Running, 1),
    ];
    assert_eq!(stages.collect::<Vec<_>>(), expected);
    assert_eq!(view.took.as_secs(), 11);
}

#[test]
fn firmware_loads_until_a_kernel_takes_over() {
    let loads = |events: &[Event]| {
        let (timeline, now) = shown(events);
        timeline.is_loading(now)
    };
    assert!(loads(&[Event::Discover(PXE)]));
    assert!(loads(&[Event::Discover(PXE), Event::Leased(ADDRESS), sent(Role::Loader, 5, 5)]));
    assert!(!loads(&[Event::Discover(PXE), sent(Role::Kernel, 1, 5)]));
    let (timeline, now) = shown(&[Event::Discover(PXE)]);
    assert!(!timeline.is_loading(now + LOADING));
}

#[test]
fn an_operating_system_does_not_load() {
    let now = Instant::now();
    let mut timeline = Timeline::new(now);
    timeline.see(&Event::Discover(Client::Ordinary), now);
    assert!(!timeline.is_loading(now));
}

#[test]
fn progress_is_of_the_file_on_its_way() {
    let (timeline, now) = shown(&[sent(Role::Kernel, 10, 40), sent(Role::Kernel, 30, 40)]);
    let view = timeline.status(None, now);
    assert_eq!((view.progress, view.sent), (Some((30, 40)), 30));
    let (timeline, now) = shown(&[sent(Role::Kernel, 40, 40)]);
    assert_eq!(timeline.status(None, now).progress, None);
}

#[test]
fn a_file_sent_twice_counts_twice() {
    let (timeline, now) = shown(&[sent(Role::Loader, 40, 40), sent(Role::Loader, 15, 40)]);
    assert_eq!(timeline.status(None, now).sent, 55);
}

#[test]
fn a_silent_root_is_idle_then_lost_then_running_again() {
    let (mut timeline, now) = shown(&[nfs(1)]);
    let later = |seconds| now + Duration::from_secs(seconds);
    let used = Some(now);
    assert_eq!(timeline.status(used, later(61)).stage, Stage::Idle);
    assert_eq!(timeline.status(used, later(601)).stage, Stage::Lost);
    timeline.see(&nfs(0), later(700));
    assert_eq!(timeline.status(Some(later(700)), later(700)).stage, Stage::Running);
}

#[test]
fn a_read_only_root_runs_after_a_while() {
    let (mut timeline, now) = shown(&[nfs(0)]);
    assert_eq!(timeline.status(None, now).stage, Stage::Root);
    timeline.see(&nfs(0), now + SETTLED);
    assert_eq!(timeline.status(None, now + SETTLED).stage, Stage::Running);
}

#[test]
fn trouble_is_over_when_the_machine_goes_on() {
    let failed = Event::Failed { name: "kernel".to_owned(), reason: "gone".to_owned() };
    let (mut timeline, now) = shown(&[failed]);
    let view = timeline.status(None, now);
    assert_eq!(view.trouble, Some(Trouble::Failed));
    assert_eq!(view.verdict.unwrap().text, "kernel: gone");
    timeline.see(&sent(Role::Kernel, 1, 2), now);
    assert_eq!(timeline.status(None, now).trouble, None);
}

#[test]
fn silence_in_the_middle_of_a_boot_gets_a_hint() {
    let (timeline, now) = shown(&[Event::Leased(ADDRESS)]);
    assert_eq!(timeline.status(None, now).verdict, None);
    let hint = timeline.status(None, now + SILENT).verdict.unwrap().text;
    assert!(hint.starts_with("leased, then nothing for 41 s"), "{hint}");
}

#[test]
fn what_comes_again_at_once_is_told_once() {
    let now = Instant::now();
    let mut timeline = Timeline::new(now);
    let mut tells = |passed| !timeline.see(&Event::Elsewhere(ADDRESS), now + passed).is_empty();
    assert!(tells(Duration::ZERO));
    assert!(!tells(Duration::from_millis(999)));
    assert!(tells(Duration::from_millis(1999)), "a second later it is news again");
}

#[test]
fn a_hostile_name_is_fit_for_a_terminal() {
    let reason = "x".repeat(500);
    let failed = Event::Failed { name: "\x1b[2J".to_owned(), reason };
    let text = describe(&failed);
    assert!(text.starts_with("?[2J: xxx") && text.len() < 200, "{text}");
}

#[test]
fn what_a_loader_reads_is_sent_and_is_no_running_system() {
    let mounted = Event::Mounted { environment: Uuid::nil(), path: "/be/head".to_owned() };
    let mut events = vec![Event::Leased(ADDRESS), sent(Role::Loader, 500, 500), mounted];
    events.extend((0..60).map(|_| read(1000, 0)));
    let (mut timeline, now) = shown(&events);
    let view = timeline.status(Some(now), now);
    assert_eq!((view.stage, view.sent, view.read), (Stage::Loader, 60_500, 60_000));
    let hint = timeline.status(Some(now), now + SILENT).verdict.unwrap().text;
    assert!(
        hint.starts_with("its loader read 58.5 KiB of its root, then nothing for 41 s"),
        "{hint}"
    );
    let told = timeline.see(&nfs(0), now);
    assert_eq!(told, [News { kind: Kind::RootUsed, text: "uses its root".to_owned() }]);
    assert_eq!(timeline.status(Some(now), now).stage, Stage::Root);
    timeline.see(&read(0, 0), now + SETTLED);
    assert_eq!(timeline.status(Some(now), now + SETTLED).stage, Stage::Running);
}

#[test]
fn a_kernel_that_asks_for_an_address_has_left_its_loader() {
    let mounted = Event::Mounted { environment: Uuid::nil(), path: "/be/head".to_owned() };
    let (mut timeline, now) = shown(&[sent(Role::Loader, 500, 500), mounted.clone()]);
    assert_eq!(timeline.stage(), Stage::Loader);
    timeline.see(&Event::Discover(Client::FreeBsdKernel), now);
    assert_eq!(timeline.stage(), Stage::Kernel);
    timeline.see(&mounted, now);
    assert_eq!(timeline.stage(), Stage::Root);
}

/// As loader.efi does that is told to read more than one frame holds.
#[test]
fn a_loader_that_asks_for_one_piece_again_and_again_hangs() {
    let (mut timeline, now) = shown(&[sent(Role::Loader, 500, 500), read(8192, STUCK - 1)]);
    assert_eq!(timeline.status(None, now).verdict, None);
    let told = timeline.see(&read(8192, STUCK), now);
    let [News { kind: Kind::Notice, text }] = &told[..] else { panic!("{told:?}") };
    assert!(text.contains("asks for the same piece of a file again and again"), "{text}");
    let view = timeline.status(Some(now), now);
    assert_eq!((view.stage, &view.verdict.unwrap().text), (Stage::Loader, text));
    assert_eq!(timeline.see(&read(8192, STUCK + 1), now), [], "it is told once");
    timeline.see(&read(8192, 0), now);
    assert_eq!(timeline.status(Some(now), now).verdict, None);
}

#[test]
fn a_file_that_a_loader_let_go_of_has_not_failed() {
    let (mut timeline, now) = shown(&[sent(Role::Loader, 500, 500)]);
    let let_go = |since| Event::Abandoned {
        name: "/boot/lua/core.lua".to_owned(),
        since,
        stall: Stall::Midway(9),
    };
    let since = now;
    timeline.see(&Event::Discover(Client::FreeBsdLoader), now + Duration::from_secs(1));
    assert_eq!(timeline.see(&let_go(since), now + SILENT), [], "it went on");
    assert_eq!(timeline.status(None, now + SILENT).trouble, None);
    let since = now + Duration::from_secs(2);
    let told = timeline.see(&let_go(since), now + SILENT);
    assert_eq!(told[0].text, "/boot/lua/core.lua: the client stopped answering");
    let view = timeline.status(None, now + SILENT);
    assert_eq!(view.trouble, Some(Trouble::Failed));
    assert_eq!(view.seen.unwrap(), SILENT - Duration::from_secs(1), "silence is no sign of life");
}

#[test]
fn the_files_of_a_loader_are_one_line() {
    let now = Instant::now();
    let mut timeline = Timeline::new(now);
    timeline.begin(Client::Http(Arch::UEFI_X64_HTTP), now);
    let got = |name: &str, role| {
        let ticket = Ticket { boot: None, role };
        let (name, protocol) = (name.to_owned(), FileProtocol::Http);
        Event::Sent { ticket, name, bytes: 1024, total: 1024, protocol }
    };
    let mut told = timeline.see(&got("/loader.efi", Role::Loader), now);
    for number in 0..120 {
        told.extend(timeline.see(&got(&format!("/lua/{number}"), Role::Other), now));
    }
    told.extend(timeline.see(&got("/kernel", Role::Kernel), now));
    for number in 0..40 {
        told.extend(timeline.see(&got(&format!("/modules/{number}"), Role::Other), now));
    }
    assert_eq!(timeline.due(now + files::QUIET / 2), None);
    told.extend(timeline.due(now + files::QUIET));
    let texts: Vec<_> = told.iter().map(|news| news.text.as_str()).collect();
    let expected = [
        "got /loader.efi (1.0 KiB)",
        "got 120 files (120 KiB), the last of them /lua/119",
        "got /kernel (1.0 KiB)",
        "got 40 files (40.0 KiB), the last of them /modules/39",
    ];
    assert_eq!(texts, expected);
    assert_eq!(timeline.due(now + 2 * files::QUIET), None);
    assert_eq!(timeline.status(None, now).sent, 162 * 1024);
}

#[test]
fn who_was_not_heard_of_since_the_server_was_started_was_not_seen() {
    let now = Instant::now();
    let mut timeline = Timeline::new(now);
    timeline.begin(PXE, now);
    timeline.resume(Stage::Root, now);
    let view = timeline.status(Some(now), now + Duration::from_secs(15));
    assert_eq!((view.stage, view.seen, view.stages), (Stage::Unheard, None, Vec::new()));
    assert_eq!(timeline.status(Some(now), now + LOST).stage, Stage::Lost);
    let now = now + Duration::from_secs(16);
    timeline.see(&nfs(0), now);
    let view = timeline.status(Some(now), now);
    assert_eq!((view.stage, view.seen), (Stage::Root, Some(Duration::ZERO)));
}

#[test]
fn bytes_are_shown_for_people() {
    let shown = |bytes| Bytes(bytes).to_string();
    assert_eq!(shown(0), "0 B");
    assert_eq!(shown(1536), "1.5 KiB");
    assert_eq!(shown(14 << 20), "14.0 MiB");
    assert_eq!(shown(300 << 20), "300 MiB");
    assert_eq!(shown(u64::MAX), "15.9 EiB");
}

#[test]
fn a_machine_that_pretends_to_panic_again_and_again_is_told_a_few_times() {
    let (mut timeline, now) = shown(&[sent(Role::Kernel, 2000, 2000), nfs(0)]);
    let pretends = |number: u32| Event::Panicked(format!("Kernel panic - {number}"));
    let news = (0..100).filter(|number| !timeline.see(&pretends(*number), now).is_empty());
    assert_eq!(news.count(), MAX_DENIALS as usize);
}

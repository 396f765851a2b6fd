//! Events in, stages out, by a clock that the tests move.

use std::net::Ipv4Addr;

use uuid::Uuid;

use super::*;
use crate::boot::{Arch, FileProtocol, Ticket};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const PXE: Client = Client::Pxe(Arch::UEFI_X64);

fn sent(role: Role, bytes: u64, total: u64) -> Event {
    let ticket = Ticket { boot: None, role };
    let name = format!("{role:?}");
    Event::Sent { ticket, name, bytes, total, protocol: FileProtocol::Http }
}

fn nfs(written: u64) -> Event {
    Event::Nfs { environment: Uuid::nil(), calls: 10, read: 4096, written }
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
    assert_eq!((view.stage, view.sent, view.written), (Stage::Running, 5600, 1));
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
    let trouble = timeline.status(None, now).trouble;
    assert_eq!(trouble, Some((Trouble::Failed, "kernel: gone".to_owned())));
    timeline.see(&sent(Role::Kernel, 1, 2), now);
    assert_eq!(timeline.status(None, now).trouble, None);
}

#[test]
fn silence_in_the_middle_of_a_boot_gets_a_hint() {
    let (timeline, now) = shown(&[Event::Leased(ADDRESS)]);
    assert_eq!(timeline.status(None, now).hint, None);
    let hint = timeline.status(None, now + SILENT).hint.unwrap();
    assert!(hint.starts_with("leased, then nothing for 41 s"), "{hint}");
}

#[test]
fn what_comes_again_at_once_is_told_once() {
    let now = Instant::now();
    let mut timeline = Timeline::new(now);
    let mut tells = |passed| timeline.see(&Event::Elsewhere(ADDRESS), now + passed).is_some();
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
fn bytes_are_shown_for_people() {
    let shown = |bytes| Bytes(bytes).to_string();
    assert_eq!(shown(0), "0 B");
    assert_eq!(shown(1536), "1.5 KiB");
    assert_eq!(shown(14 << 20), "14.0 MiB");
    assert_eq!(shown(300 << 20), "300 MiB");
    assert_eq!(shown(u64::MAX), "15.9 EiB");
}

//! The table as its readers see it.

use std::net::Ipv4Addr;

use super::*;
use crate::boot::Root;
use crate::site::machine::View;

const BASE: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 3));

fn usage() -> (Usage, Instant) {
    let now = Instant::now();
    (Usage::new(now), now)
}

/// A call that moved so many bytes.
fn moved(read: u64, written: u64) -> Call<'static> {
    Call { read, written, ..Call::default() }
}

fn addresses(usage: &Usage, environment: Uuid, now: Instant) -> Vec<IpAddr> {
    usage.of(environment, now).into_iter().map(|user| user.address).collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn who_calls_uses_it_until_it_is_silent_for_long() {
    let (usage, now) = usage();
    usage.see(PEER, BASE, moved(0, 0), now);
    let later = now + secs(60);
    usage.see(PEER, BASE, moved(0, 0), later);
    assert_eq!(usage.of(BASE, later), [User { address: PEER, seen: later }]);
    assert_eq!(addresses(&usage, BASE, now + UNUSED), [PEER]);
    assert_eq!(usage.of(BASE, later + UNUSED), []);
    assert_eq!(usage.of(OTHER, later), []);
    assert!(usage.lives_on(PEER, BASE, now + UNUSED));
    assert!(!usage.lives_on(PEER, BASE, later + UNUSED));
}

#[test]
fn what_is_mounted_lasts_longer() {
    let (usage, now) = usage();
    usage.mounted(PEER, BASE, b"/be/base", now);
    assert_eq!(addresses(&usage, BASE, now + UNUSED), [PEER]);
    assert_eq!(usage.of(BASE, now + MOUNTED), []);
}

#[test]
fn what_is_unmounted_is_used_no_more_until_the_next_call() {
    let (usage, now) = usage();
    usage.mounted(PEER, BASE, b"/be/base", now);
    usage.mounted(PEER, BASE, b"/be/base/etc", now);
    assert!(usage.unmounted(PEER, Some(BASE), b"/be/base/etc"));
    assert_eq!(addresses(&usage, BASE, now), [PEER]);
    assert!(usage.unmounted(PEER, None, b"/be/base"));
    assert!(!usage.unmounted(PEER, None, b"/be/base"));
    assert_eq!(usage.of(BASE, now), []);
    usage.see(PEER, BASE, moved(0, 0), now);
    assert_eq!(addresses(&usage, BASE, now), [PEER]);
    assert_eq!(usage.of(BASE, now + UNUSED), []);
}

#[test]
fn an_unmount_that_anybody_can_forge_does_not_free_the_address_at_once() {
    let (usage, now) = usage();
    usage.mounted(PEER, BASE, b"/be/base", now);
    usage.unmounted(PEER, Some(BASE), b"/be/base");
    assert!(usage.lives_on(PEER, BASE, now + UNUSED - secs(1)));
    assert!(!usage.lives_on(PEER, BASE, now + UNUSED));
}

#[test]
fn an_unmount_counts_though_its_mount_was_never_heard() {
    let (usage, now) = usage();
    usage.see(PEER, BASE, moved(0, 0), now);
    usage.see(PEER, OTHER, moved(0, 0), now);
    usage.unmounted(PEER, Some(BASE), b"/be/base");
    assert_eq!(usage.of(BASE, now), []);
    assert_eq!(addresses(&usage, OTHER, now), [PEER]);
    usage.unmounted_all(PEER);
    assert_eq!(usage.of(OTHER, now), []);
}

#[test]
fn only_the_first_of_many_mounts_is_news_but_after_a_silence() {
    let (usage, now) = usage();
    assert!(usage.mounted(PEER, BASE, b"/be/base", now));
    assert!(!usage.mounted(PEER, BASE, b"/be/base", now + secs(59)));
    assert!(!usage.mounted(PEER, BASE, b"/be/base", now + secs(118)));
    assert!(usage.mounted(NEIGHBOUR, BASE, b"/be/base", now));
    assert!(usage.mounted(PEER, OTHER, b"/be/other", now));
    assert!(usage.mounted(PEER, BASE, b"/be/base", now + secs(178)));
    assert_eq!(usage.mounts().len(), 3);
    usage.unmounted_all(PEER);
    assert_eq!(usage.mounts(), [(NEIGHBOUR, b"/be/base"[..].into())]);
}

#[test]
fn the_first_call_is_told_at_once_and_later_ones_together_after_a_second() {
    let (usage, start) = usage();
    let told = |calls, read, written| Some(Traffic { calls, read, written, ..Traffic::default() });
    let after = |millis| start + Duration::from_millis(millis);
    assert_eq!(usage.see(PEER, BASE, moved(5, 0), start), told(1, 5, 0));
    assert_eq!(usage.see(PEER, OTHER, moved(0, 0), start), told(1, 0, 0));
    assert_eq!(usage.see(PEER, BASE, moved(1, 10), after(1)), None);
    assert_eq!(usage.see(PEER, BASE, moved(2, 20), after(999)), None);
    assert_eq!(usage.see(PEER, BASE, moved(3, 30), after(1000)), told(3, 6, 60));
}

#[test]
fn the_end_of_a_burst_is_told_once() {
    let (usage, start) = usage();
    usage.see(PEER, BASE, moved(0, 0), start);
    usage.see(PEER, BASE, moved(7, 0), start + Duration::from_millis(10));
    assert_eq!(usage.due(start + Duration::from_millis(999)), []);
    let traffic = Traffic { calls: 1, read: 7, ..Traffic::default() };
    let due = Due { address: PEER, environment: BASE, traffic };
    assert_eq!(usage.due(start + secs(1)), [due]);
    assert_eq!(usage.due(start + secs(9)), []);
}

#[test]
fn who_died_uses_nothing_there_any_more() {
    let (usage, now) = usage();
    usage.mounted(PEER, BASE, b"/be/base", now);
    usage.see(PEER, OTHER, moved(0, 0), now);
    usage.see(NEIGHBOUR, BASE, moved(0, 0), now);
    usage.died(PEER, &[OTHER]);
    assert!(!usage.lives_on(PEER, BASE, now) && usage.lives_on(PEER, OTHER, now));
    assert_eq!(addresses(&usage, BASE, now), [NEIGHBOUR]);
    usage.died(PEER, &[]);
    assert!(!usage.lives_on(PEER, OTHER, now));
}

#[test]
fn a_refused_call_is_proof_of_life_only_of_who_was_there_before() {
    let (usage, now) = usage();
    usage.see(PEER, BASE, moved(0, 0), now);
    let later = now + UNUSED - secs(1);
    usage.refused(PEER, BASE, later);
    usage.refused(NEIGHBOUR, BASE, later);
    assert_eq!(usage.of(BASE, now + UNUSED), [User { address: PEER, seen: later }]);
}

#[test]
fn a_crowd_of_addresses_neither_fills_memory_nor_pushes_out_what_is_mounted() {
    let (usage, now) = usage();
    usage.mounted(PEER, BASE, b"/be/base", now);
    for number in 0..10_000_u32 {
        usage.see(IpAddr::from(number.to_be_bytes()), BASE, moved(0, 0), now + secs(1));
    }
    let users = usage.of(BASE, now + secs(1));
    assert!(users.len() <= MAX_ENTRIES, "{}", users.len());
    assert!(users.iter().any(|user| user.address == PEER));
    // What is over makes room.
    let later = now + UNUSED + secs(2);
    assert!(usage.see(NEIGHBOUR, BASE, moved(0, 0), later).is_some());
}

#[test]
fn mounts_in_the_names_of_many_neither_push_out_nor_keep_out_who_uses_a_root_of_his() {
    let (usage, now) = usage();
    let granted = |address: IpAddr| {
        let IpAddr::V4(address) = address else { panic!() };
        let (machine, environment, view) = ("web1".into(), BASE, View::Joined);
        let root = Root { machine, environment, read_only: false, view };
        (address, Some(Roots::new(Some(root), Vec::new())))
    };
    usage.roots().set_booted([granted(PEER), granted(NEIGHBOUR)]);
    usage.see(PEER, BASE, moved(0, 0), now);
    let later = now + secs(1);
    for number in 0..10_000_u32 {
        let address = IpAddr::from((0x0a4e_0000 + number).to_be_bytes());
        usage.mounted(address, OTHER, b"/be/other", later);
    }
    // One may have the same address, too.
    for number in 0..1000 {
        usage.mounted(NEIGHBOUR, Uuid::from_u128(number + 9), b"/be/more", later);
    }
    usage.see(NEIGHBOUR, BASE, moved(0, 0), later);
    assert!(usage.lives_on(PEER, BASE, later) && usage.lives_on(NEIGHBOUR, BASE, later));
    assert!(usage.entries.load(Ordering::Relaxed) <= MAX_ENTRIES + 2);
    // What is granted no more is a stranger's.
    usage.roots().set_booted([(Ipv4Addr::new(10, 77, 0, 2), None)]);
    assert!(!usage.is_granted(PEER, BASE) && usage.is_granted(NEIGHBOUR, BASE));
}

#[test]
fn one_address_has_few_environments_and_paths() {
    let (usage, now) = usage();
    usage.mounted(PEER, BASE, b"/be/base", now);
    for number in 0..1000_u64 {
        usage.see(PEER, Uuid::from_u128(u128::from(number) + 9), moved(0, 0), now + secs(number));
        usage.mounted(PEER, BASE, &number.to_be_bytes(), now);
    }
    let shard = usage.read(PEER);
    let entries = &shard[&PEER];
    assert_eq!(entries.len(), MAX_ENVIRONMENTS);
    assert_eq!(entries[0].environment, BASE);
    assert_eq!(entries[0].mounted.len(), MAX_PATHS);
    assert_eq!(usage.entries.load(Ordering::Relaxed), MAX_ENVIRONMENTS);
}

#[test]
fn several_threads_count_every_call() {
    let (usage, now) = usage();
    let told = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for call in 0..5000 {
                    let due = usage.see(PEER, BASE, moved(1, 0), now + Duration::from_millis(call));
                    told.fetch_add(due.map_or(0, |due| due.calls), Ordering::Relaxed);
                }
            });
        }
    });
    let rest = usage.due(now + secs(60));
    assert_eq!(told.into_inner() + rest.iter().map(|due| due.traffic.calls).sum::<u64>(), 20_000);
}

#[test]
fn the_first_call_after_a_mount_is_told_at_once() {
    let (usage, now) = usage();
    usage.mounted(PEER, BASE, b"/be/base", now);
    let calls = |at| usage.see(PEER, BASE, moved(0, 0), at).map(|traffic| traffic.calls);
    assert_eq!((calls(now), calls(now)), (Some(1), None));
}

#[test]
fn a_loader_is_told_from_a_kernel_and_from_one_that_hangs() {
    let (usage, now) = usage();
    let mut at = now;
    let mut told = |piece: Option<&[u8]>, by_kernel| {
        at += INTERVAL;
        let call = Call { piece, by_kernel, ..Call::default() };
        let traffic = usage.see(PEER, BASE, call, at).unwrap();
        (traffic.repeats, traffic.by_kernel)
    };
    assert_eq!(told(Some(b"a0"), false), (0, false));
    assert_eq!(told(Some(b"a1"), false), (0, false));
    assert_eq!(told(Some(b"a1"), false), (1, false));
    assert_eq!(told(Some(b"a1"), false), (2, false));
    assert_eq!(told(None, false), (0, false), "it looks another file up");
    assert_eq!(told(Some(b"a1"), false), (0, false));
    assert_eq!(told(None, true), (0, true));
    assert_eq!(told(Some(b"a2"), false), (0, false), "said of each interval");
}

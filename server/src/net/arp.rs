//! The kernel's table of neighbours (ARP, RFC 826), in which every machine on our wires has an entry.
//!
//! Linux bounds it, for all network namespaces together: 1,024 entries as it is set. What TFTP, HTTP and
//! NFS send to a machine beyond is lost, and only a part of that is told to who sends it. DHCP's answers
//! are frames, which need no entry. FreeBSD's table has no bound.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::net::interface::Interface;
use crate::net::sys::arp;

/// How many entries the kernel has room for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Bounds {
    /// Beyond these it throws out those that were not used for some seconds (`gc_thresh2`).
    pub(crate) kept: u64,
    /// It makes no more than these (`gc_thresh3`).
    pub(crate) most: u64,
}

impl Bounds {
    /// Those of this host, if it has some and tells them: not in a network namespace of its own.
    pub(crate) fn of_host() -> Option<Self> {
        arp::bounds().map(|(kept, most)| Self { kept, most })
    }

    /// What is to be said, and done, where so many machines may be on our wires.
    pub(crate) fn shortage(self, machines: u64) -> Option<String> {
        let Self { kept, most } = self;
        let advice = advice(machines, Some(self));
        if machines >= most {
            Some(format!(
                "{machines} machines may be here at once, but the kernel's table of neighbours (ARP) holds \
                 {most}: packets of TFTP, HTTP and NFS to the others are lost: run `{advice}`"
            ))
        } else if machines >= kept {
            Some(format!(
                "{machines} machines may be here at once, and beyond {kept} the kernel's table of \
                 neighbours (ARP) forgets those that are silent for seconds, and asks for them again: \
                 run `{advice}`"
            ))
        } else {
            None
        }
    }
}

/// The command that makes room for so many machines, and at least twice the room that there is.
///
/// Both bounds stand to each other as the kernel sets them itself.
fn advice(machines: u64, bounds: Option<Bounds>) -> String {
    let room = machines.saturating_add(OTHERS).checked_next_power_of_two().unwrap_or(u64::MAX / 2);
    let kept = room.max(bounds.map_or(MOST, |bounds| bounds.most));
    let most = kept.saturating_mul(2);
    format!("sysctl -w {DEFAULT}.gc_thresh2={kept} {DEFAULT}.gc_thresh3={most}")
}

/// What is known of the table while the server runs.
#[derive(Debug)]
pub(crate) struct Table {
    /// How many machines may be on our wires.
    machines: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// How often the kernel had found the table full, when it was last asked.
    times: Option<u64>,
    /// When the table was last found full.
    full: Option<Instant>,
    /// When it was last asked about a packet that was not sent.
    asked: Option<Instant>,
    /// When the operator was last told.
    told: Option<Instant>,
}

impl Table {
    const fn new() -> Self {
        let seen = Seen { times: None, full: None, asked: None, told: None };
        Self { machines: AtomicU64::new(0), seen: Mutex::new(seen) }
    }

    /// Begins to watch it, for so many machines as may be on our wires.
    pub(crate) fn begin(&self, machines: u64) {
        self.expect(machines);
        self.lock().times = arp::times_full();
    }

    /// Advises room for so many machines from now on.
    pub(crate) fn expect(&self, machines: u64) {
        self.machines.store(machines, Ordering::Relaxed);
    }

    /// Looks whether the table was full since it was last looked at, and tells the operator if so.
    pub(crate) fn look(&self, now: Instant) {
        if let Some(times) = arp::times_full() {
            let is_full = self.lock().has_overflowed(times);
            self.note(is_full, now);
        }
    }

    /// Whether the table was full when the kernel did not take a packet for `peer` (ENOBUFS): the queue of
    /// an interface may be full as well.
    pub(crate) fn refuses(&self, peer: IpAddr, now: Instant) -> bool {
        let is_recent = |at: Option<Instant>, time| {
            at.is_some_and(|at| now.saturating_duration_since(at) < time)
        };
        {
            let mut seen = self.lock();
            // Thousands are refused at once; one of them is looked at.
            if is_recent(seen.asked, AT_ONCE) {
                return is_recent(seen.full, AT_ONCE);
            }
            seen.asked = Some(now);
        }
        let is_full = match arp::times_full() {
            Some(times) => self.lock().has_overflowed(times),
            None => arp::is_missing(peer) && is_neighbour(peer),
        };
        self.note(is_full, now);
        is_full
    }

    /// Tells the operator once in a while what is wrong and what to do.
    fn note(&self, is_full: bool, now: Instant) {
        if self.lock().is_news(is_full, now) {
            let advice = advice(self.machines.load(Ordering::Relaxed), Bounds::of_host());
            warn!(
                "the kernel's table of neighbours (ARP) is full: packets of TFTP, HTTP and NFS to more \
                 machines are lost: run `{advice}` on this host"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Whether the kernel has found the table full since it was last asked.
    fn has_overflowed(&mut self, times: u64) -> bool {
        self.times.replace(times).is_some_and(|before| before != times)
    }

    /// Whether the operator is to be told now.
    fn is_news(&mut self, is_full: bool, now: Instant) -> bool {
        if !is_full {
            return false;
        }
        self.full = Some(now);
        if self.told.is_some_and(|at| now.saturating_duration_since(at) < QUIET) {
            return false;
        }
        self.told = Some(now);
        true
    }
}

/// Whether an address is reached without a router, so that it has an entry of its own.
fn is_neighbour(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return false };
    Interface::all().is_ok_and(|all| {
        all.iter().any(|own| own.networks.iter().any(|network| network.contains(address)))
    })
}

/// The table of this host.
pub(crate) static TABLE: Table = Table::new();

/// How often it is looked whether the table was full.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);

/// What happens within this time is looked at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The shortest time between two warnings.
const QUIET: Duration = Duration::from_secs(600);

/// Hosts that are no machines: routers, name servers, those who administer.
const OTHERS: u64 = 64;

/// How many entries Linux makes as it is set.
const MOST: u64 = 1024;

/// Where the bounds are set.
const DEFAULT: &str = "net.ipv4.neigh.default";

#[cfg(test)]
mod test {
    use super::*;

    const AS_SET: Bounds = Bounds { kept: 512, most: 1024 };

    #[test]
    fn few_machines_need_nothing() {
        assert_eq!(AS_SET.shortage(511), None);
    }

    #[test]
    fn machines_beyond_the_bound_are_told_with_the_numbers_to_set() {
        let said = AS_SET.shortage(1500).unwrap();
        assert!(said.starts_with("1500 machines may be here at once, but"), "{said}");
        assert!(said.contains("packets of TFTP, HTTP and NFS to the others are lost"), "{said}");
        let command = "run `sysctl -w net.ipv4.neigh.default.gc_thresh2=2048 \
                       net.ipv4.neigh.default.gc_thresh3=4096`";
        assert!(said.ends_with(command), "{said}");
        // What is advised is enough.
        assert_eq!(Bounds { kept: 2048, most: 4096 }.shortage(1500), None);
        assert_eq!(Bounds { kept: 1 << 17, most: 1 << 18 }.shortage(65_534), None);
        assert!(AS_SET.shortage(65_534).unwrap().contains("gc_thresh3=262144`"));
    }

    #[test]
    fn machines_that_are_forgotten_too_soon_are_told() {
        let said = AS_SET.shortage(800).unwrap();
        assert!(said.contains("beyond 512") && !said.contains("are lost"), "{said}");
        assert!(said.contains("gc_thresh2=1024 "), "{said}");
    }

    #[test]
    fn a_table_that_other_programs_fill_is_doubled() {
        assert!(advice(100, Some(AS_SET)).ends_with("gc_thresh3=2048"));
        assert!(advice(100, None).ends_with("gc_thresh3=2048"));
    }

    #[test]
    fn a_full_table_is_told_once_in_a_while() {
        let (mut seen, now) =
            (Seen { times: None, full: None, asked: None, told: None }, Instant::now());
        assert!(!seen.has_overflowed(7), "what was before the server is no news");
        assert!(!seen.has_overflowed(7));
        assert!(seen.has_overflowed(9));
        assert!(!seen.is_news(false, now));
        assert!(seen.is_news(true, now));
        assert!(!seen.is_news(true, now + QUIET / 2));
        assert!(seen.is_news(true, now + QUIET));
    }

    #[test]
    fn who_is_reached_by_a_router_needs_no_entry() {
        assert!(!is_neighbour(IpAddr::from([203, 0, 113, 7])));
        assert!(is_neighbour(IpAddr::from([127, 0, 0, 9])));
    }
}

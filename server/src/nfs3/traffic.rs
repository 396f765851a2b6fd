//! How much each address uses its root: the machine's timeline shows that it is alive.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Calls and bytes by address, since they were last told.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    addresses: Mutex<HashMap<IpAddr, Counter>>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sum {
    /// Calls.
    pub(super) calls: u64,
    /// Bytes of file data read.
    pub(super) read: u64,
    /// Bytes of file data written.
    pub(super) written: u64,
}

#[derive(Debug)]
struct Counter {
    sum: Sum,
    told: Instant,
}

impl Traffic {
    /// Counts a call. Gives what is to be told now: at the first call of an address, and then at
    /// most once in a second.
    pub(super) fn count(
        &self,
        address: IpAddr,
        read: u64,
        written: u64,
        now: Instant,
    ) -> Option<Sum> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let full = addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&address);
        if full {
            addresses.retain(|_, counter| now.saturating_duration_since(counter.told) < FORGET);
            if addresses.len() >= MAX_ADDRESSES {
                return None;
            }
        }
        let is_new = !addresses.contains_key(&address);
        let counter =
            addresses.entry(address).or_insert_with(|| Counter { sum: Sum::default(), told: now });
        counter.sum.calls += 1;
        counter.sum.read += read;
        counter.sum.written += written;
        if !is_new && now.saturating_duration_since(counter.told) < INTERVAL {
            return None;
        }
        counter.told = now;
        Some(std::mem::take(&mut counter.sum))
    }

    /// What was counted and not told for a second: the end of a burst, which no later call tells.
    pub(super) fn due(&self, now: Instant) -> Vec<(IpAddr, Sum)> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let due = addresses.iter_mut().filter(|(_, counter)| {
            counter.sum.calls > 0 && now.saturating_duration_since(counter.told) >= INTERVAL
        });
        let told = due.map(|(address, counter)| {
            counter.told = now;
            (*address, std::mem::take(&mut counter.sum))
        });
        told.collect()
    }
}

/// How often an address is told of at most.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// How long an address is remembered when room is needed.
const FORGET: Duration = Duration::from_secs(60);

/// How many addresses are counted; more than a site has machines.
const MAX_ADDRESSES: usize = 16_384;

#[cfg(test)]
mod test {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 100));

    #[test]
    fn the_first_call_is_told_at_once() {
        let told = Traffic::default().count(PEER, 5, 0, Instant::now());
        assert_eq!(told, Some(Sum { calls: 1, read: 5, written: 0 }));
    }

    #[test]
    fn later_calls_are_told_together_after_a_second() {
        let (traffic, start) = (Traffic::default(), Instant::now());
        traffic.count(PEER, 0, 0, start);
        assert_eq!(traffic.count(PEER, 1, 10, start + Duration::from_millis(1)), None);
        assert_eq!(traffic.count(PEER, 2, 20, start + Duration::from_millis(999)), None);
        let told = traffic.count(PEER, 3, 30, start + Duration::from_secs(1));
        assert_eq!(told, Some(Sum { calls: 3, read: 6, written: 60 }));
    }

    #[test]
    fn the_end_of_a_burst_is_told_once() {
        let (traffic, start) = (Traffic::default(), Instant::now());
        traffic.count(PEER, 0, 0, start);
        traffic.count(PEER, 7, 0, start);
        assert_eq!(traffic.due(start + Duration::from_millis(999)), []);
        let told = traffic.due(start + Duration::from_secs(1));
        assert_eq!(told, [(PEER, Sum { calls: 1, read: 7, written: 0 })]);
        assert_eq!(traffic.due(start + Duration::from_secs(9)), []);
    }

    #[test]
    fn the_table_does_not_grow_without_bound() {
        let (traffic, start) = (Traffic::default(), Instant::now());
        let address = |number: usize| IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
        for number in 0..MAX_ADDRESSES {
            assert!(traffic.count(address(number), 0, 0, start).is_some());
        }
        assert_eq!(traffic.count(address(MAX_ADDRESSES), 0, 0, start), None);
        assert!(traffic.count(address(MAX_ADDRESSES), 0, 0, start + FORGET).is_some());
        assert_eq!(traffic.addresses.lock().unwrap().len(), 1);
    }
}

//! How much each address uses each environment: its machine's timeline shows that it is alive, and no
//! command takes away unnoticed what it uses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// Calls and bytes by user, since they were last told.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    users: Mutex<HashMap<User, Counter>>,
}

/// Who uses what.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct User {
    /// The client's address.
    pub(super) address: IpAddr,
    /// The boot environment.
    pub(super) environment: Uuid,
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
    called: Instant,
}

impl Traffic {
    /// Counts a call. Gives what is to be told now: at the first call of a user, and then at most
    /// once in a second.
    pub(super) fn count(&self, user: User, read: u64, written: u64, now: Instant) -> Option<Sum> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let full = users.len() >= MAX_USERS && !users.contains_key(&user);
        if full {
            users.retain(|_, counter| now.saturating_duration_since(counter.told) < FORGET);
            if users.len() >= MAX_USERS {
                return None;
            }
        }
        let is_new = !users.contains_key(&user);
        let counter = users.entry(user).or_insert_with(|| Counter {
            sum: Sum::default(),
            told: now,
            called: now,
        });
        counter.called = now;
        counter.sum.calls += 1;
        counter.sum.read += read;
        counter.sum.written += written;
        if !is_new && now.saturating_duration_since(counter.told) < INTERVAL {
            return None;
        }
        counter.told = now;
        Some(std::mem::take(&mut counter.sum))
    }

    /// What was counted and not told for a second, and when the last call came: the end of a burst, which
    /// no later call tells.
    pub(super) fn due(&self, now: Instant) -> Vec<(User, Sum, Instant)> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let due = users.iter_mut().filter(|(_, counter)| {
            counter.sum.calls > 0 && now.saturating_duration_since(counter.told) >= INTERVAL
        });
        let told = due.map(|(user, counter)| {
            counter.told = now;
            (*user, std::mem::take(&mut counter.sum), counter.called)
        });
        told.collect()
    }
}

/// How often a user is told of at most.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// How long a user is remembered when room is needed.
const FORGET: Duration = Duration::from_secs(60);

/// How many users are counted; more than a site has machines.
const MAX_USERS: usize = 16_384;

#[cfg(test)]
mod test {
    use super::*;

    const PEER: User = User {
        address: IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 100)),
        environment: Uuid::from_u128(1),
    };

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
        let last = start + Duration::from_millis(10);
        traffic.count(PEER, 7, 0, last);
        assert_eq!(traffic.due(start + Duration::from_millis(999)), []);
        let told = traffic.due(start + Duration::from_secs(1));
        assert_eq!(told, [(PEER, Sum { calls: 1, read: 7, written: 0 }, last)]);
        assert_eq!(traffic.due(start + Duration::from_secs(9)), []);
    }

    #[test]
    fn an_address_that_uses_two_environments_is_told_of_for_each() {
        let (traffic, now) = (Traffic::default(), Instant::now());
        let other = User { environment: Uuid::from_u128(2), ..PEER };
        assert!(traffic.count(PEER, 0, 0, now).is_some());
        assert!(traffic.count(other, 0, 0, now).is_some());
        assert!(traffic.count(PEER, 0, 0, now).is_none());
    }

    #[test]
    fn the_table_does_not_grow_without_bound() {
        let (traffic, start) = (Traffic::default(), Instant::now());
        let user = |number: usize| {
            let address = IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
            User { address, ..PEER }
        };
        for number in 0..MAX_USERS {
            assert!(traffic.count(user(number), 0, 0, start).is_some());
        }
        assert_eq!(traffic.count(user(MAX_USERS), 0, 0, start), None);
        assert!(traffic.count(user(MAX_USERS), 0, 0, start + FORGET).is_some());
        assert_eq!(traffic.users.lock().unwrap().len(), 1);
    }
}

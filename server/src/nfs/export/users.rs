//! Who uses which environment, as far as calls tell: so that a command does not take it away under
//! somebody whom nobody booted.
//!
//! It is kept in memory only. Whoever is still there when the server is started again calls again.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// The addresses that use each environment.
#[derive(Debug, Default)]
pub struct Users {
    environments: Mutex<HashMap<Uuid, HashMap<IpAddr, Use>>>,
    /// What paths are told apart by: their hashes are of one size, whatever a peer sends.
    paths: RandomState,
}

#[derive(Debug)]
struct Use {
    seen: Instant,
    mounted: BTreeSet<u64>,
}

impl Users {
    /// Takes note of a call that was admitted.
    pub fn see(&self, environment: Uuid, address: IpAddr, now: Instant) {
        self.note(environment, address, None, now);
    }

    /// Takes note of a mount of the environment, or of a directory in it, by this path.
    pub fn mount(&self, environment: Uuid, address: IpAddr, path: &[u8], now: Instant) {
        self.note(environment, address, Some(self.paths.hash_one(path)), now);
    }

    /// An address has unmounted a path, which lies in `environment` if that is known. What it has
    /// mounted no more it does not use, until it calls again.
    pub fn unmount(&self, address: IpAddr, path: &[u8], environment: Option<Uuid>) {
        let path = self.paths.hash_one(path);
        for (known, users) in &mut *self.lock() {
            let Some(user) = users.get_mut(&address) else { continue };
            // An environment that has another name now was mounted by the one that it had.
            let it = user.mounted.remove(&path) || environment == Some(*known);
            if it && user.mounted.is_empty() {
                users.remove(&address);
            }
        }
    }

    /// An address has unmounted everything.
    pub fn unmount_all(&self, address: IpAddr) {
        for users in self.lock().values_mut() {
            users.remove(&address);
        }
    }

    /// Who uses an environment, and when it was heard of last: the latest first.
    #[must_use]
    pub fn of(&self, environment: Uuid, now: Instant) -> Vec<(IpAddr, Instant)> {
        let environments = self.lock();
        let users = environments.get(&environment).into_iter().flatten();
        let users = users.filter(|(_, user)| user.lasts(now));
        let mut users: Vec<_> = users.map(|(address, user)| (*address, user.seen)).collect();
        users.sort_by_key(|(address, seen)| (std::cmp::Reverse(*seen), *address));
        users
    }

    fn note(&self, environment: Uuid, address: IpAddr, path: Option<u64>, now: Instant) {
        let mut environments = self.lock();
        if !environments.contains_key(&environment) {
            // Environments come and go with the boots of machines; what nobody uses is forgotten.
            environments.retain(|_, users| users.values().any(|user| user.lasts(now)));
        }
        let users = environments.entry(environment).or_default();
        if users.len() >= MAX_USERS && !users.contains_key(&address) {
            let silent = users.iter().min_by_key(|(_, user)| user.seen);
            if let Some(silent) = silent.map(|(address, _)| *address) {
                users.remove(&silent);
            }
        }
        let new = Use { seen: now, mounted: BTreeSet::new() };
        let user = users.entry(address).or_insert(new);
        user.seen = now;
        if let Some(path) = path
            && user.mounted.len() < MAX_PATHS
        {
            user.mounted.insert(path);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, HashMap<IpAddr, Use>>> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Use {
    fn lasts(&self, now: Instant) -> bool {
        let limit = if self.mounted.is_empty() { UNUSED } else { MOUNTED };
        now.saturating_duration_since(self.seen) < limit
    }
}

/// What was not used for so long is given up, unless it was mounted and never unmounted.
pub const UNUSED: Duration = Duration::from_secs(30 * 60);

/// What is mounted and was not used for so long is given up: its machine was switched off.
pub const MOUNTED: Duration = Duration::from_secs(24 * 60 * 60);

/// Addresses that are remembered of an environment; the longest silent one makes room. It stays in
/// use whoever of many that is.
const MAX_USERS: usize = 64;

/// Paths in an environment by which an address is remembered to have mounted it.
const MAX_PATHS: usize = 16;

#[cfg(test)]
mod test {
    use super::*;

    const BASE: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 2));

    fn addresses(users: &Users, environment: Uuid, now: Instant) -> Vec<IpAddr> {
        users.of(environment, now).into_iter().map(|(address, _)| address).collect()
    }

    #[test]
    fn who_calls_uses_it_until_it_is_silent_for_long() {
        let (users, now) = (Users::default(), Instant::now());
        users.see(BASE, PEER, now);
        let later = now + Duration::from_secs(60);
        users.see(BASE, PEER, later);
        assert_eq!(users.of(BASE, later), [(PEER, later)]);
        assert_eq!(addresses(&users, BASE, now + UNUSED), [PEER]);
        assert_eq!(users.of(BASE, later + UNUSED), []);
        assert_eq!(users.of(OTHER, later), []);
    }

    #[test]
    fn what_is_mounted_lasts_longer() {
        let (users, now) = (Users::default(), Instant::now());
        users.mount(BASE, PEER, b"/be/base", now);
        assert_eq!(addresses(&users, BASE, now + UNUSED), [PEER]);
        assert_eq!(users.of(BASE, now + MOUNTED), []);
    }

    #[test]
    fn what_is_unmounted_is_used_no_more_until_the_next_call() {
        let (users, now) = (Users::default(), Instant::now());
        users.mount(BASE, PEER, b"/be/base", now);
        users.mount(BASE, PEER, b"/be/base/etc", now);
        users.unmount(PEER, b"/be/base/etc", Some(BASE));
        assert_eq!(addresses(&users, BASE, now), [PEER]);
        users.unmount(PEER, b"/be/base", None);
        assert_eq!(users.of(BASE, now), []);
        users.see(BASE, PEER, now);
        assert_eq!(addresses(&users, BASE, now), [PEER]);
        assert_eq!(users.of(BASE, now + UNUSED), []);
    }

    #[test]
    fn an_unmount_counts_though_its_mount_was_never_heard() {
        let (users, now) = (Users::default(), Instant::now());
        users.see(BASE, PEER, now);
        users.see(OTHER, PEER, now);
        users.unmount(PEER, b"/be/base", Some(BASE));
        assert_eq!(users.of(BASE, now), []);
        assert_eq!(addresses(&users, OTHER, now), [PEER]);
        users.unmount_all(PEER);
        assert_eq!(users.of(OTHER, now), []);
    }

    #[test]
    fn a_crowd_neither_fills_the_table_nor_hides_that_it_is_used() {
        let (users, now) = (Users::default(), Instant::now());
        users.see(OTHER, PEER, now);
        users.see(BASE, PEER, now);
        let one = Duration::from_secs(1);
        for number in 0..1000_u32 {
            users.see(BASE, IpAddr::from(number.to_be_bytes()), now + one);
        }
        assert_eq!(users.of(BASE, now + one).len(), MAX_USERS);
        assert_eq!(addresses(&users, OTHER, now + one), [PEER]);
        for number in 0..1000_u32 {
            users.mount(BASE, PEER, &number.to_be_bytes(), now + one);
        }
        let lock = users.lock();
        assert_eq!(lock[&BASE][&PEER].mounted.len(), MAX_PATHS);
    }

    #[test]
    fn environments_that_nobody_uses_are_forgotten() {
        let (users, now) = (Users::default(), Instant::now());
        users.see(BASE, PEER, now);
        users.see(OTHER, PEER, now + UNUSED);
        assert_eq!(users.lock().len(), 1);
    }
}

//! Who has mounted what, as far as is known: a list for people, kept in memory only.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The latest mounts, oldest first.
#[derive(Debug, Default)]
pub(super) struct Table {
    mounts: Mutex<VecDeque<Entry>>,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    path: Vec<u8>,
    seen: Instant,
}

impl Table {
    /// Takes note of a mount. Says whether it is news: a loader mounts again at every file that it
    /// opens, but after a silence the machine was switched off and on in between.
    pub(super) fn add(&self, address: IpAddr, path: &[u8], now: Instant) -> bool {
        let mut mounts = self.lock();
        let known = mounts.iter_mut().find(|one| one.address == address && one.path == path);
        if let Some(known) = known {
            let silence = now.saturating_duration_since(known.seen);
            known.seen = now;
            return silence >= SILENCE;
        }
        if mounts.len() >= MAX_MOUNTS {
            mounts.pop_front();
        }
        mounts.push_back(Entry { address, path: path.to_owned(), seen: now });
        true
    }

    /// Forgets a mount; says whether it was known.
    pub(super) fn remove(&self, address: IpAddr, path: &[u8]) -> bool {
        let mut mounts = self.lock();
        let before = mounts.len();
        mounts.retain(|one| one.address != address || one.path != path);
        mounts.len() < before
    }

    /// Forgets all mounts of an address, and gives their paths.
    pub(super) fn remove_all(&self, address: IpAddr) -> Vec<Vec<u8>> {
        let mut mounts = self.lock();
        let (gone, kept) = mounts.drain(..).partition(|one| one.address == address);
        *mounts = kept;
        let gone: VecDeque<Entry> = gone;
        gone.into_iter().map(|one| one.path).collect()
    }

    /// All of them.
    pub(super) fn list(&self) -> Vec<(IpAddr, Vec<u8>)> {
        self.lock().iter().map(|one| (one.address, one.path.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many mounts are remembered; the oldest makes room.
const MAX_MOUNTS: usize = 1024;

/// For how long a loader that still runs is never silent.
const SILENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod test {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 2));

    #[test]
    fn only_the_first_of_many_mounts_is_news() {
        let (table, now) = (Table::default(), Instant::now());
        assert!(table.add(ONE, b"/be/head", now));
        assert!(!table.add(ONE, b"/be/head", now + Duration::from_secs(59)));
        assert!(!table.add(ONE, b"/be/head", now + Duration::from_secs(118)));
        assert!(table.add(OTHER, b"/be/head", now));
        assert!(table.add(ONE, b"/be/other", now));
        assert_eq!(table.list().len(), 3);
    }

    #[test]
    fn a_mount_after_a_silence_is_news() {
        let (table, now) = (Table::default(), Instant::now());
        table.add(ONE, b"/be/head", now);
        assert!(table.add(ONE, b"/be/head", now + Duration::from_secs(60)));
        assert_eq!(table.list().len(), 1);
    }

    #[test]
    fn what_is_unmounted_is_no_longer_listed() {
        let (table, now) = (Table::default(), Instant::now());
        table.add(ONE, b"/be/head", now);
        table.add(ONE, b"/be/other", now);
        table.add(OTHER, b"/be/head", now);
        assert!(table.remove(ONE, b"/be/head"));
        assert!(!table.remove(ONE, b"/be/head"));
        assert_eq!(table.remove_all(ONE), [b"/be/other"]);
        assert_eq!(table.list(), [(OTHER, b"/be/head".to_vec())]);
    }

    #[test]
    fn the_oldest_mount_makes_room() {
        let (table, now) = (Table::default(), Instant::now());
        for number in 0..=MAX_MOUNTS {
            table.add(ONE, format!("/be/{number}").as_bytes(), now);
        }
        let list = table.list();
        assert_eq!(list.len(), MAX_MOUNTS);
        assert_eq!(list[0].1, b"/be/1");
    }
}

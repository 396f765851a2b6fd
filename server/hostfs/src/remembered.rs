//! What is remembered of files for as long as they are not changed.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vfs::Time;

/// Something about files, by what they are known by, with the time of each file's last change (`ctime`).
///
/// What is known of a file holds while that time is the same, if the file had not been changed for a while when
/// it was looked at, which is far longer than the clock of a file system stands still between two ticks: each
/// change after that has a later time. So it is also with a new file that was given the number of a
/// removed one: it was changed last when it was made, or later.
#[derive(Debug)]
pub(crate) struct Remembered<K, V>(Mutex<Generations<K, V>>);

#[derive(Debug)]
struct Generations<K, V> {
    /// What was remembered or used lately, and what was before.
    young: HashMap<K, Known<V>>,
    old: HashMap<K, Known<V>>,
}

#[derive(Clone, Debug)]
struct Known<V> {
    /// None where a change may have had the same time.
    changed: Option<Time>,
    value: V,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() }))
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Remembered<K, V> {
    /// Whether a file was looked at.
    pub(crate) fn has(&self, key: &K) -> bool {
        let all = self.lock();
        all.young.contains_key(key) || all.old.contains_key(key)
    }

    /// What is known of a file that was changed last at this time.
    pub(crate) fn of(&self, key: &K, changed: Time) -> Option<V> {
        let mut all = self.lock();
        if !all.young.contains_key(key) {
            let known = all.old.remove(key)?;
            all.keep(*key, known);
        }
        let known = all.young.get(key)?;
        (known.changed == Some(changed)).then(|| known.value.clone())
    }

    /// Remembers what a file that was changed last at `changed` had after `now`, if that will hold; returns
    /// whether it will.
    pub(crate) fn remember(&self, key: K, changed: Time, value: V, now: Time) -> bool {
        let quiet = Time { seconds: changed.seconds.saturating_add(QUIET), ..changed };
        if quiet < now {
            self.lock().keep(key, Known { changed: Some(changed), value });
        }
        quiet < now
    }

    /// Remembers that a file was looked at.
    pub(crate) fn note(&self, key: K, value: V) {
        self.lock().keep(key, Known { changed: None, value });
    }

    fn lock(&self) -> MutexGuard<'_, Generations<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V> Generations<K, V> {
    fn keep(&mut self, key: K, known: Known<V>) {
        if self.young.len() >= MOST {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, known);
    }
}

/// Seconds for which a file is not changed before something of it is remembered.
const QUIET: i64 = 1;
/// Files in each generation: some four MiB of handles.
const MOST: usize = 32_768;

#[cfg(test)]
mod test {
    use super::*;

    const fn at(seconds: i64) -> Time {
        Time { seconds, nanoseconds: 5 }
    }

    #[test]
    fn what_is_known_of_a_file_holds_while_it_is_not_changed() {
        let known = Remembered::default();
        assert!(!known.has(&7));
        assert!(known.remember(7, at(10), 'a', at(12)));
        assert!(known.has(&7));
        assert_eq!(known.of(&7, at(10)), Some('a'));
        // Another file with the same number, which was made later.
        assert_eq!(known.of(&7, at(13)), None);
        assert_eq!(known.of(&8, at(10)), None);
    }

    #[test]
    fn what_was_changed_just_now_or_in_the_future_is_not_remembered() {
        let known = Remembered::default();
        assert!(!known.remember(7, at(10), 'a', at(11)));
        assert!(!known.remember(8, at(10), 'a', at(9)));
        assert!(!known.has(&7) && !known.has(&8));
        known.note(7, 'a');
        assert_eq!((known.has(&7), known.of(&7, at(10))), (true, None));
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_makes_room() {
        let known = Remembered::default();
        for number in 0..4 * MOST {
            known.remember(number, at(10), 'a', at(12));
            if number % MOST == 0 {
                assert_eq!(known.of(&0, at(10)), Some('a'), "{number}");
            }
        }
        assert!(!known.has(&1));
        let all = known.lock();
        assert!(all.young.len() <= MOST && all.old.len() <= MOST);
    }
}

//! Which exports answer slowly at the moment.
//!
//! Metadata is asked for on the socket's own task, because the kernel nearly always has it in memory.
//! Where it has not, as on a disk that has just woken up or an export on a stalled network store,
//! others must not wait for it: after one slow call everything of that export goes to the pool.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// The slow exports, and until when they count as slow.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Whether there may be any: almost always there is none, and no lock is needed to know it.
    any: AtomicBool,
    until: Mutex<HashMap<Uuid, Instant>>,
}

impl Pace {
    /// Whether the export counts as slow.
    pub(super) fn is_slow(&self, environment: Uuid, now: Instant) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let mut slow = self.lock();
        slow.retain(|_, until| now < *until);
        self.any.store(!slow.is_empty(), Ordering::Relaxed);
        slow.contains_key(&environment)
    }

    /// Takes note of how long a call took that should not have waited.
    pub(super) fn note(&self, environment: Uuid, took: Duration, now: Instant) {
        if took > PATIENCE {
            let mut slow = self.lock();
            slow.insert(environment, now + PENALTY);
            self.any.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What takes longer did not come from memory.
const PATIENCE: Duration = Duration::from_millis(2);

/// For how long an export counts as slow.
const PENALTY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod test {
    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    #[test]
    fn an_export_is_slow_for_a_second_after_a_slow_call() {
        let (pace, now) = (Pace::default(), Instant::now());
        pace.note(ONE, Duration::from_millis(3), now);
        assert!(pace.is_slow(ONE, now));
        assert!(pace.is_slow(ONE, now + Duration::from_millis(999)));
        assert!(!pace.is_slow(ONE, now + Duration::from_millis(1000)));
    }

    #[test]
    fn other_exports_do_not_suffer() {
        let (pace, now) = (Pace::default(), Instant::now());
        pace.note(ONE, Duration::from_millis(3), now);
        assert!(!pace.is_slow(OTHER, now));
    }

    #[test]
    fn two_milliseconds_are_quick() {
        let (pace, now) = (Pace::default(), Instant::now());
        pace.note(ONE, Duration::from_millis(2), now);
        assert!(!pace.is_slow(ONE, now));
    }
}

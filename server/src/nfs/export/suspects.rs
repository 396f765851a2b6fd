//! Environments whose tree is not there any more, as far as a client has seen: somebody has removed it by
//! hand, or put another in its place. Who publishes environments has to look.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use uuid::Uuid;

/// The environments that are to be looked at, and those for which that was no help.
#[derive(Debug, Default)]
pub struct Suspects {
    known: Mutex<Known>,
    reported: Notify,
}

#[derive(Debug, Default)]
struct Known {
    unseen: HashSet<Uuid>,
    /// When they were looked at in vain.
    in_vain: HashMap<Uuid, Instant>,
}

impl Suspects {
    /// Reports an environment that is served. Says whether somebody looks at it now: not if that was in
    /// vain a moment ago.
    pub fn report(&self, environment: Uuid, now: Instant) -> bool {
        let mut known = self.known();
        let in_vain = known.in_vain.get(&environment);
        if in_vain.is_some_and(|at| now.saturating_duration_since(*at) < PAUSE) {
            return false;
        }
        if known.unseen.insert(environment) {
            self.reported.notify_one();
        }
        true
    }

    /// Ends when one was reported since it last did.
    pub fn reported(&self) -> Notified<'_> {
        self.reported.notified()
    }

    /// Those that were reported since the last look.
    pub fn take(&self) -> HashSet<Uuid> {
        std::mem::take(&mut self.known().unseen)
    }

    /// Takes note that it was no help to look at these.
    pub fn looked_in_vain(&self, environments: impl Iterator<Item = Uuid>, now: Instant) {
        let mut known = self.known();
        known.in_vain.retain(|_, at| now.saturating_duration_since(*at) < PAUSE);
        known.in_vain.extend(environments.map(|environment| (environment, now)));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long nobody looks again for the sake of a client where that was in vain.
const PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_was_looked_at_in_vain_is_left_alone_for_a_while() {
        let (suspects, now) = (Suspects::default(), Instant::now());
        let [lost, other] = [1, 2].map(Uuid::from_u128);
        assert!(suspects.report(lost, now) && suspects.report(lost, now));
        assert_eq!(suspects.take(), HashSet::from([lost]));
        assert!(suspects.report(lost, now), "it may be looked at still");
        suspects.take();
        suspects.looked_in_vain([lost].into_iter(), now);
        assert!(!suspects.report(lost, now + PAUSE / 2) && suspects.report(other, now));
        assert_eq!(suspects.take(), HashSet::from([other]));
        assert!(suspects.report(lost, now + PAUSE));
    }
}

//! When a guest that has ended is started again.

use std::time::Duration;

use crate::site::machine::Restart;

/// How a guest ended that nobody had asked to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// In another way than by switching itself off.
    Failed,
    /// It switched itself off.
    Off,
    /// It restarts itself, and what runs it leaves that to the keeper.
    Rebooted,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// It is started again after this time.
    Again(Duration),
    /// It stays as it is.
    Stay,
    /// It stays as it is, because it has failed so many times in a row.
    GiveUp(u32),
}

/// The failures in a row of one guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    restart: Restart,
    row: u32,
    lives: u32,
}

impl Policy {
    /// The policy of a guest that is about to be started.
    pub(crate) const fn new(restart: Restart) -> Self {
        Self { restart, row: 0, lives: 0 }
    }

    /// What comes next when it has ended after so long a life, which began when its program started.
    pub(crate) fn next(&mut self, end: End, life: Duration) -> Next {
        self.lives = self.lives.saturating_add(1);
        self.row = if life >= STEADY { 0 } else { self.row.saturating_add(1) };
        match (end, self.restart) {
            (End::Rebooted, _) if self.row < ROW => return Next::Again(Duration::ZERO),
            (End::Rebooted, _) => {}
            (_, Restart::No) | (End::Off, Restart::OnFailure) => return Next::Stay,
            // What cannot even begin is told to whoever starts it.
            (End::Failed, _) if self.lives == 1 && life < BEGIN => return Next::Stay,
            (End::Failed | End::Off, Restart::OnFailure | Restart::Always) => {}
        }
        if self.row >= ROW {
            return Next::GiveUp(self.row);
        }
        let doublings = self.row.saturating_sub(1).min(16);
        Next::Again(FIRST.saturating_mul(1 << doublings).min(LONGEST))
    }
}

/// A guest that has lived so long had no trouble to begin.
const STEADY: Duration = Duration::from_secs(300);
/// A first life that is shorter is none; whoever starts a guest waits for so long.
pub(crate) const BEGIN: Duration = Duration::from_secs(1);
/// The time before the second start of a row, which doubles from one to the next.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// After so many short lives in a row nobody tries any more.
const ROW: u32 = 12;

#[cfg(test)]
mod test {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_fails_again_and_again_is_started_later_and_later_and_then_no_more() {
        let mut policy = Policy::new(Restart::OnFailure);
        let waits: Vec<Next> = (0..12).map(|_| policy.next(End::Failed, MINUTE)).collect();
        let seconds = |next: &Next| match next {
            Next::Again(wait) => wait.as_secs(),
            Next::Stay | Next::GiveUp(_) => 0,
        };
        let seconds: Vec<u64> = waits.iter().map(seconds).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 0]);
        assert_eq!(waits[11], Next::GiveUp(12));
        // One that has lived for long begins anew.
        assert_eq!(policy.next(End::Failed, 10 * MINUTE), Next::Again(FIRST));
    }

    #[test]
    fn who_switches_itself_off_stays_off_unless_it_is_to_run_always() {
        for (restart, end, next) in [
            (Restart::OnFailure, End::Off, Next::Stay),
            (Restart::Always, End::Off, Next::Again(FIRST)),
            (Restart::No, End::Failed, Next::Stay),
            (Restart::No, End::Rebooted, Next::Again(Duration::ZERO)),
        ] {
            assert_eq!(Policy::new(restart).next(end, MINUTE), next);
        }
    }

    #[test]
    fn what_cannot_begin_is_not_tried_again() {
        let mut policy = Policy::new(Restart::Always);
        assert_eq!(policy.next(End::Failed, Duration::from_millis(20)), Next::Stay);
        let mut policy = Policy::new(Restart::Always);
        policy.next(End::Failed, MINUTE);
        assert_eq!(
            policy.next(End::Failed, Duration::from_millis(20)),
            Next::Again(Duration::from_secs(2))
        );
    }
}

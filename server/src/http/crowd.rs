//! Clients that wait for a place, and what the operator is told of them: once for each crowd.

use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use tracing::warn;

/// Whether others wait for a place: from the moment that there is none, until a quarter is free.
#[derive(Debug)]
pub(super) struct Crowd {
    is_there: watch::Sender<bool>,
    /// When there was no descriptor for one who waits.
    short: Option<Instant>,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self { is_there: watch::Sender::new(false), short: None }
    }

    /// For those who have to make room when others wait.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.is_there.subscribe()
    }

    /// Whether there is a place for another connection where there are so many. Where there is none, who is
    /// connected and asks for nothing makes room.
    pub(super) fn has_room(&self, there: usize, most: usize, now: Instant) -> bool {
        let is_short = self.short.is_some_and(|at| now.saturating_duration_since(at) < BURST);
        if there >= most {
            self.tell("as many HTTP connections are open as there may be", there);
        } else if there <= most.saturating_mul(3) / 4 && !is_short && *self.is_there.borrow() {
            self.is_there.send_replace(false);
        }
        there < most
    }

    /// There is no descriptor for one who waits. Returns whether that was told now.
    pub(super) fn is_short(&mut self, there: usize, now: Instant) -> bool {
        self.short = Some(now);
        self.tell("there is no descriptor for another HTTP connection", there)
    }

    fn tell(&self, why: &str, there: usize) -> bool {
        let is_news = !self.is_there.send_replace(true);
        if is_news {
            warn!("{why} ({there}): more clients wait; raise the limit of open files (ulimit -n)");
        }
        is_news
    }
}

/// Descriptors that are short again within this time are so for the same cause.
const BURST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn descriptors_that_stay_short_are_told_once() {
        let (mut crowd, mut now) = (Crowd::new(), Instant::now());
        assert!(crowd.is_short(3, now));
        for _ in 0..100 {
            now += Duration::from_millis(200);
            assert!(crowd.has_room(3, 100, now));
            assert!(!crowd.is_short(3, now), "told a second time");
            assert!(*crowd.subscribe().borrow());
        }
        assert!(crowd.has_room(3, 100, now + BURST));
        assert!(!*crowd.subscribe().borrow());
        assert!(crowd.is_short(3, now + BURST));
    }

    #[test]
    fn a_crowd_is_over_when_a_quarter_is_free() {
        let (crowd, now) = (Crowd::new(), Instant::now());
        assert!(crowd.has_room(99, 100, now) && !*crowd.subscribe().borrow());
        assert!(!crowd.has_room(100, 100, now));
        for (there, is_there) in [(99, true), (76, true), (75, false)] {
            assert!(crowd.has_room(there, 100, now));
            assert_eq!(*crowd.subscribe().borrow(), is_there, "{there}");
        }
    }
}

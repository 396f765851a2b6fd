//! What time it is. State machines take `now` as an argument; what hands it to them asks here.

use std::time::{Instant, SystemTime};

/// A source of time.
pub trait Clock: Send + Sync {
    /// Time that only goes forward, for durations.
    fn now(&self) -> Instant;

    /// The time of day, for people and for what outlives the process.
    fn wall(&self) -> SystemTime;
}

/// The time of this computer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that a test moves by hand.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct FakeClock {
    start: Instant,
    passed: std::sync::Mutex<std::time::Duration>,
}

#[cfg(test)]
impl FakeClock {
    /// A clock that stands still.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), passed: std::sync::Mutex::default() }
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: std::time::Duration) {
        *self.passed.lock().unwrap() += time;
    }
}

#[cfg(test)]
impl Clock for FakeClock {
    fn now(&self) -> Instant {
        self.start + *self.passed.lock().unwrap()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + *self.passed.lock().unwrap()
    }
}

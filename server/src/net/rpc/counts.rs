//! The counters of an RPC server.

use std::fmt;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// The counters of a server since it was made.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Calls with a head that could be decoded.
    pub calls: u64,
    /// Messages, or arguments, that could not.
    pub garbage: u64,
    /// Calls with an authentication flavour that is not accepted.
    pub denied: u64,
    /// Repeated calls that were answered from the reply cache.
    pub replayed: u64,
    /// Repeated calls that took over the reply of one that was being carried out.
    pub redirected: u64,
    /// Calls that the server failed to carry out.
    pub failed: u64,
    /// Calls that panicked.
    pub panics: u64,
    /// Datagrams that were dropped because too many calls waited.
    pub dropped: u64,
    /// Calls that were told to come again later, because their class stood still.
    pub turned_away: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that were closed because of what their peers did or did not do.
    pub closed: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            garbage: self.garbage + other.garbage,
            denied: self.denied + other.denied,
            replayed: self.replayed + other.replayed,
            redirected: self.redirected + other.redirected,
            failed: self.failed + other.failed,
            panics: self.panics + other.panics,
            dropped: self.dropped + other.dropped,
            turned_away: self.turned_away + other.turned_away,
            connections: self.connections + other.connections,
            closed: self.closed + other.closed,
        }
    }
}

/// Shows the counters that are not zero, for the log.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls over {} connections", self.calls, self.connections)?;
        for (count, what) in [
            (self.garbage, "not understood"),
            (self.denied, "without known authentication"),
            (self.replayed, "repeated and answered from the reply cache"),
            (self.redirected, "repeated while they ran"),
            (self.failed, "failed"),
            (self.panics, "panicked"),
            (self.dropped, "dropped"),
            (self.turned_away, "told to come again"),
            (self.closed, "connections closed here"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// The counters while the server runs.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) calls: AtomicU64,
    pub(super) garbage: AtomicU64,
    pub(super) denied: AtomicU64,
    pub(super) replayed: AtomicU64,
    pub(super) redirected: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) turned_away: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) closed: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            calls: read(&self.calls),
            garbage: read(&self.garbage),
            denied: read(&self.denied),
            replayed: read(&self.replayed),
            redirected: read(&self.redirected),
            failed: read(&self.failed),
            panics: read(&self.panics),
            dropped: read(&self.dropped),
            turned_away: read(&self.turned_away),
            connections: read(&self.connections),
            closed: read(&self.closed),
        }
    }
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_what_happened_is_told() {
        let counts = Counts { calls: 7, connections: 2, replayed: 1, ..Counts::default() };
        let told = "7 calls over 2 connections, 1 repeated and answered from the reply cache";
        assert_eq!(counts.to_string(), told);
    }
}

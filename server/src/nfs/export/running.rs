//! The calls that run on an environment's tree just now, so that a command can wait for their end.
//!
//! A call that is counted has seen its environment served; whoever holds the environment and then finds
//! none counted knows that none is carried out on its tree any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// The calls of one environment.
#[derive(Debug, Default)]
pub(super) struct Calls {
    running: AtomicUsize,
    /// How often a command has given up to wait for their end.
    abandoned: AtomicU64,
}

impl Calls {
    /// Whether no call runs. Whoever has changed the environment's state before sees every call that has
    /// not seen that change.
    pub(super) fn are_over(&self) -> bool {
        fence(Ordering::SeqCst);
        self.running.load(Ordering::SeqCst) == 0
    }

    /// The tree of those that run is taken away: what they have done there counts no more.
    pub(super) fn abandon(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }
}

/// A call that runs, until it is dropped.
#[derive(Debug)]
pub struct Running {
    calls: Arc<Calls>,
    abandoned: u64,
}

impl Running {
    /// Counts a call. Whether its environment is served has to be looked at after that.
    pub(super) fn begin(calls: &Arc<Calls>) -> Self {
        calls.running.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Self { abandoned: calls.abandoned.load(Ordering::Relaxed), calls: Arc::clone(calls) }
    }

    /// Whether its tree was taken away meanwhile, so that nobody may be told that it was carried out.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.calls.abandoned.load(Ordering::Relaxed) != self.abandoned
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.calls.running.fetch_sub(1, Ordering::SeqCst);
    }
}

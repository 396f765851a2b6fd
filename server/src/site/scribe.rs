//! What the threads have in common that write lines down and do nothing else: what happened, and what machines said.
//! Nobody who tells them something waits for a disk.
//!
//! A peer can make any number of lines: of one source there is a bound for each second. What is not written down is
//! counted, and told in front of the next line that is.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lines that are left out, and whether it was told that none can be written.
#[derive(Debug)]
pub(crate) struct Scribe {
    place: PathBuf,
    /// What is written down there.
    what: &'static str,
    missed: Arc<AtomicU64>,
    told: bool,
}

impl Scribe {
    /// The scribe of a file or folder. Who hands lines over counts in `missed` those that find no room.
    pub(crate) const fn new(place: PathBuf, what: &'static str, missed: Arc<AtomicU64>) -> Self {
        Self { place, what, missed, told: false }
    }

    /// Counts lines that are not written down.
    pub(crate) fn miss(&self, lines: u64) {
        self.missed.fetch_add(lines, Ordering::Relaxed);
    }

    /// Writes a line, behind the one that `missed` makes of the number of those that were left out before it. That
    /// nothing can be written is told once, until something can be again.
    pub(crate) fn write<T>(
        &mut self,
        line: &T,
        missed: impl FnOnce(u64) -> T,
        mut write: impl FnMut(&T) -> io::Result<()>,
    ) {
        let before = match self.missed.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            left_out => write(&missed(left_out)),
        };
        let written = before.and_then(|()| write(line));
        if let Err(error) = &written
            && !std::mem::replace(&mut self.told, true)
        {
            let Self { place, what, .. } = self;
            tracing::warn!("{}: {what} cannot be written: {error}", place.display());
        }
        self.told &= written.is_err();
    }

    /// Whether it was told that nothing can be written.
    #[cfg(test)]
    pub(crate) const fn has_told(&self) -> bool {
        self.told
    }
}

/// The lines of one source in its present second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    began: Instant,
    count: u32,
}

impl Pace {
    /// No line came yet.
    pub(crate) const fn new(now: Instant) -> Self {
        Self { began: now, count: 0 }
    }

    /// Whether one more may be written down.
    pub(crate) fn takes(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.began) >= SECOND {
            *self = Self::new(now);
        }
        self.count = self.count.saturating_add(1);
        self.count <= PER_SECOND
    }
}

/// Lines of a source in a second: a kernel that starts says two thousand in a few.
pub(crate) const PER_SECOND: u32 = 1000;

/// The time that [`PER_SECOND`] is for.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

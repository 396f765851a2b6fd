//! The boot files of one machine: what of them is on its way, how many bytes it was sent, and which are
//! told together.
//!
//! FreeBSD's loader fetches a hundred small files one after the other. They are told as one thing, at
//! the latest when it has fetched none for [`QUIET`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use provision::terminal::Bytes;

use super::description::shown;

/// What a machine was sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    moving: VecDeque<Transfer>,
    sent: u64,
    batch: Option<Batch>,
}

#[derive(Clone, Debug)]
struct Transfer {
    name: String,
    bytes: u64,
    total: u64,
}

/// Files that are told together.
#[derive(Clone, Debug)]
struct Batch {
    count: u64,
    bytes: u64,
    last: String,
    at: Instant,
}

impl Files {
    /// So much of a file is with the machine now.
    pub(super) fn transfer(&mut self, name: &str, bytes: u64, total: u64) {
        let known = self.moving.iter().position(|transfer| transfer.name == name);
        let before = known.and_then(|at| self.moving.remove(at)).map_or(0, |known| known.bytes);
        // Fewer bytes than before: it is sent once more.
        let more = bytes.checked_sub(before).unwrap_or(bytes);
        self.sent = self.sent.saturating_add(more);
        self.moving.push_back(Transfer { name: name.to_owned(), bytes, total });
        if self.moving.len() > MAX_TRANSFERS {
            self.moving.pop_front();
        }
    }

    /// Bytes of all files.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// The file that is on its way: bytes of total.
    pub(super) fn progress(&self) -> Option<(u64, u64)> {
        let moving = self.moving.back().filter(|transfer| transfer.bytes < transfer.total);
        moving.map(|transfer| (transfer.bytes, transfer.total))
    }

    /// A file came whole that is told together with others.
    pub(super) fn gather(&mut self, name: &str, bytes: u64, now: Instant) {
        let batch = self.batch.get_or_insert_with(|| Batch {
            count: 0,
            bytes: 0,
            last: String::new(),
            at: now,
        });
        batch.count = batch.count.saturating_add(1);
        batch.bytes = batch.bytes.saturating_add(bytes);
        batch.last = shown(name);
        batch.at = now;
    }

    /// What was gathered, in words, if no more came for [`QUIET`].
    pub(super) fn quiet(&mut self, now: Instant) -> Option<String> {
        let quiet = |batch: &Batch| now.saturating_duration_since(batch.at) >= QUIET;
        self.batch.as_ref().is_some_and(quiet).then(|| self.gathered())?
    }

    /// What was gathered, in words, if anything was.
    pub(super) fn gathered(&mut self) -> Option<String> {
        let Batch { count, bytes, last, .. } = self.batch.take()?;
        let bytes = Bytes(bytes);
        Some(match count {
            1 => format!("got {last} ({bytes})"),
            count => format!("got {count} files ({bytes}), the last of them {last}"),
        })
    }
}

/// A loader that has fetched no file for so long waits for something, or has started its kernel.
pub(super) const QUIET: Duration = Duration::from_secs(3);

/// Files of which the progress is kept.
const MAX_TRANSFERS: usize = 8;

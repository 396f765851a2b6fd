//! The thread that writes the lease journal.
//!
//! Records come by a channel, in the order in which the bindings changed, each with the answer that
//! may leave once it is written. Whoever hands a record over waits for nothing: a disk that hangs keeps
//! those waiting who are given an address, and nobody else.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tracing::error;

use super::journal::Log;
use super::leases::Binding;
use super::reply::{Commit, Reply};

/// Hands records to the thread; dropping it ends the thread, once everything is on the disk.
#[derive(Debug)]
pub(super) struct Writer {
    records: SyncSender<Record>,
}

/// Bindings to be written, and who waits for that.
#[derive(Debug)]
struct Record {
    commit: Commit,
    written: UnboundedSender<io::Result<Reply>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(log: impl Log + 'static) -> io::Result<Self> {
        let (records, queue) = sync_channel(QUEUE);
        let thread = thread::Builder::new().name("lease-journal".to_owned());
        thread.spawn(move || Thread { log, unsynced: None, distrusted: false }.run(&queue))?;
        Ok(Self { records })
    }

    /// Has a commit written; its answer, or what went wrong, comes to `written`. Does not wait.
    ///
    /// # Errors
    ///
    /// The disk has not kept up for very long, or the thread has ended: the commit is not written.
    pub(super) fn submit(
        &self,
        commit: Commit,
        written: &UnboundedSender<io::Result<Reply>>,
    ) -> io::Result<()> {
        let record = Record { commit, written: written.clone() };
        self.records.try_send(record).map_err(|_| io::Error::other("the disk does not keep up"))
    }
}

struct Thread<L> {
    log: L,
    /// When the oldest line was written that may not be on the disk yet.
    unsynced: Option<Instant>,
    /// Whether something was not written: what repeats it is believed only once it is on the disk.
    distrusted: bool,
}

impl<L: Log> Thread<L> {
    fn run(mut self, queue: &Receiver<Record>) {
        loop {
            let first = match self.unsynced {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => queue.recv_timeout(SYNC_PERIOD.saturating_sub(since.elapsed())),
            };
            match first {
                Ok(first) => self.write(first, queue),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.unsynced.is_some_and(|since| since.elapsed() >= SYNC_PERIOD) {
                self.tidy();
            }
        }
        self.tidy();
    }

    /// Writes a record and those that wait behind it.
    fn write(&mut self, first: Record, queue: &Receiver<Record>) {
        let mut batch = vec![first];
        batch.extend(queue.try_iter().take(BATCH));
        let all = batch.iter().flat_map(|record| &record.commit.bindings);
        let bindings: Vec<Binding> = all.copied().collect();
        if let Err(error) = self.log.append(&bindings) {
            self.distrusted = true;
            return fail(batch, &error);
        }
        self.unsynced.get_or_insert_with(Instant::now);
        let distrusted = self.distrusted;
        let (late, soon): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|record| distrusted || record.commit.waits_for_disk());
        soon.into_iter().for_each(Record::done);
        if late.is_empty() {
            return;
        }
        match self.sync() {
            Ok(()) => late.into_iter().for_each(Record::done),
            Err(error) => fail(late, &error),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let synced = self.log.sync();
        self.distrusted = synced.is_err();
        if synced.is_ok() {
            self.unsynced = None;
        }
        synced
    }

    /// Brings everything to the disk, and writes the journal anew when it is mostly history.
    fn tidy(&mut self) {
        let tidied = self.sync().and_then(|()| self.log.compact());
        if let Err(error) = tidied {
            error!("the lease journal cannot be written to disk: {error}");
            // Tried again in a second, not at once.
            self.unsynced = Some(Instant::now());
        }
    }
}

impl Record {
    /// Sends the answer. Its interface may be gone; then the client asks again.
    fn done(self) {
        if let Some(reply) = self.commit.reply {
            let _ = self.written.send(Ok(reply));
        }
    }
}

/// Tells everybody who waits that nothing was written.
fn fail(batch: Vec<Record>, error: &io::Error) {
    for record in batch {
        let error = io::Error::new(error.kind(), error.to_string());
        let _ = record.written.send(Err(error));
    }
}

/// Records that wait at most: some seconds of a building that is switched on.
const QUEUE: usize = 16_384;

/// Records that are written at once.
const BATCH: usize = 256;

/// How long a line may be with the kernel alone.
const SYNC_PERIOD: Duration = Duration::from_secs(1);

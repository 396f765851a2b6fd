//! The threads that transfers run on.
//!
//! In lockstep, a transfer sleeps and wakes once for every block. On a runtime with several workers
//! each wake rouses a second worker that looks for something to steal, and that costs twice the time
//! of the block itself. So every transfer stays on one thread, whose runtime has no other.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Threads of which each carries many transfers. Dropping this ends them.
#[derive(Debug)]
pub(super) struct Workers {
    workers: Vec<Worker>,
    next: usize,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Never sent: that it is dropped ends the thread.
    _end: oneshot::Sender<()>,
}

impl Workers {
    /// Starts as many threads as the host can make use of.
    pub(super) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX);
        let workers = (0..count).map(|_| Worker::start()).collect::<io::Result<_>>()?;
        Ok(Self { workers, next: 0 })
    }

    /// The thread for the next transfer.
    pub(super) fn next(&mut self) -> Option<&Handle> {
        self.next = self.next.wrapping_add(1);
        let index = self.next.checked_rem(self.workers.len())?;
        self.workers.get(index).map(|worker| &worker.runtime)
    }
}

impl Worker {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("tftp-disk")
            .max_blocking_threads(DISK_THREADS_MAX)
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("tftp".to_owned()).spawn(move || {
            // An error is how the end of the server is told.
            let _ = runtime.block_on(ended);
            // A disk that hangs must not hold up the end of the server.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, _end: end })
    }
}

/// One thread carries about a gigabit in lockstep, and more in windows.
const WORKERS_MAX: usize = 4;

/// Threads of one worker that wait for disks.
const DISK_THREADS_MAX: usize = 64;

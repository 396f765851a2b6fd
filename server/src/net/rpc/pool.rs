//! Threads on which a call may wait for a disk.
//!
//! They are not tokio's own blocking threads: those are shared with everybody else in the process,
//! are not bounded by bytes, and cost several times as much to hand a call to. Whoever hands over a
//! call needs a [`Permit`] first; where none is left, TCP stops reading and UDP drops.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bounded number of threads with a bounded queue.
pub(super) struct Pool {
    shared: Arc<Shared>,
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
}

/// The right to hand one call to the pool; it is given back when the call's reply is on its way.
#[derive(Debug)]
pub(super) struct Permit {
    _call: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Pool {
    /// At most `threads` threads, each started when it is first needed, and at most `calls` calls
    /// that hold at most `bytes` bytes in the queue and on the threads together.
    pub(super) fn new(threads: usize, calls: usize, bytes: u32) -> Self {
        let queue = Queue { jobs: VecDeque::new(), idle: 0, threads: 0, closed: false };
        let shared = Shared { queue: Mutex::new(queue), wake: Condvar::new(), max: threads.max(1) };
        Self {
            shared: Arc::new(shared),
            calls: Arc::new(Semaphore::new(calls.clamp(1, Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(usize::try_from(bytes).unwrap_or(0))),
            max_bytes: bytes,
        }
    }

    /// Waits until a call of this many bytes may be handed over.
    pub(super) async fn admit(&self, bytes: usize) -> Option<Permit> {
        let call = Arc::clone(&self.calls).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.weight(bytes)).await.ok()?;
        Some(Permit { _call: call, _bytes: bytes })
    }

    /// As [`Pool::admit`], but `None` where that would wait.
    pub(super) fn try_admit(&self, bytes: usize) -> Option<Permit> {
        let call = Arc::clone(&self.calls).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.weight(bytes)).ok()?;
        Some(Permit { _call: call, _bytes: bytes })
    }

    /// Runs `job` on a thread; it has to hold its [`Permit`] to its end.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.shared.lock();
        queue.jobs.push_back(Box::new(job));
        let start = queue.idle < queue.jobs.len() && queue.threads < self.shared.max;
        if start {
            queue.threads += 1;
        }
        drop(queue);
        self.shared.wake.notify_one();
        if start {
            self.start();
        }
    }

    fn start(&self) {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("rpc-pool".to_owned());
        let Err(error) = thread.spawn(move || shared.work()) else { return };
        tracing::warn!(%error, "cannot start a thread for calls: raise the limit on processes");
        let mut queue = self.shared.lock();
        queue.threads -= 1;
        // Without a single thread the call would wait for ever; slow is better than never.
        let job = if queue.threads == 0 { queue.jobs.pop_front() } else { None };
        drop(queue);
        if let Some(job) = job {
            job();
        }
    }

    /// What a call weighs: at least something, and no more than there is.
    fn weight(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.max_bytes.max(1))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.shared.lock();
        let mut fields = f.debug_struct("Pool");
        fields.field("threads", &queue.threads).field("waiting", &queue.jobs.len());
        fields.finish_non_exhaustive()
    }
}

type Job = Box<dyn FnOnce() + Send>;

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    max: usize,
}

struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that wait for a job.
    idle: usize,
    /// Threads in all.
    threads: usize,
    /// Whether the threads shall end once the queue is empty.
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does until the pool is dropped.
    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a panic cost one call its reply");
                }
                queue = self.lock();
            } else if queue.closed {
                return;
            } else {
                queue.idle += 1;
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod test {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn jobs_run_side_by_side_up_to_the_number_of_threads() {
        let pool = Pool::new(2, 10, 1000);
        let (there, meet) = (mpsc::channel(), mpsc::channel());
        let (there_a, meet_b) = (there.0.clone(), meet.0.clone());
        pool.run(move || {
            there_a.send(()).unwrap();
            meet.1.recv_timeout(SOON).unwrap();
            there.0.send(()).unwrap();
        });
        pool.run(move || meet_b.send(()).unwrap());
        there.1.recv_timeout(SOON).unwrap();
        there.1.recv_timeout(SOON).unwrap();
        assert!(pool.shared.lock().threads <= 2);
    }

    #[test]
    fn no_more_threads_start_than_allowed() {
        let pool = Pool::new(2, 100, 1000);
        let (sender, receiver) = mpsc::channel();
        for number in 0..100 {
            let sender = sender.clone();
            pool.run(move || sender.send(number).unwrap());
        }
        let mut done: Vec<i32> = (0..100).map(|_| receiver.recv_timeout(SOON).unwrap()).collect();
        done.sort_unstable();
        assert_eq!(done, (0..100).collect::<Vec<_>>());
        assert!(pool.shared.lock().threads <= 2);
    }

    #[test]
    fn a_panic_does_not_cost_the_thread() {
        let pool = Pool::new(1, 10, 1000);
        pool.run(|| panic!("on purpose"));
        let (sender, receiver) = mpsc::channel();
        pool.run(move || sender.send(()).unwrap());
        receiver.recv_timeout(SOON).unwrap();
    }

    #[test]
    fn a_pool_that_is_dropped_still_does_what_it_took() {
        let (sender, receiver) = mpsc::channel();
        let pool = Pool::new(1, 10, 1000);
        for _ in 0..5 {
            let sender = sender.clone();
            pool.run(move || sender.send(()).unwrap());
        }
        drop(pool);
        drop(sender);
        assert_eq!(receiver.iter().count(), 5);
    }

    #[test]
    fn calls_and_bytes_are_bounded() {
        let pool = Pool::new(1, 2, 100);
        let first = pool.try_admit(60).unwrap();
        assert!(pool.try_admit(60).is_none());
        let second = pool.try_admit(40).unwrap();
        drop(first);
        let third = pool.try_admit(1).unwrap();
        assert!(pool.try_admit(1).is_none());
        drop((second, third));
        assert!(pool.try_admit(1_000_000).is_some());
    }

    #[tokio::test]
    async fn who_waits_gets_the_permit_that_comes_back() {
        let pool = Arc::new(Pool::new(1, 1, 100));
        let permit = pool.try_admit(1).unwrap();
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.admit(1).await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(permit);
        assert!(waiting.await.unwrap());
    }
}

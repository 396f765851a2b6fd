//! The threads on which calls may wait for a disk, shared fairly among the exports.
//!
//! They are not tokio's own blocking threads: those are shared with everybody else in the process,
//! are not bounded by bytes, and cost several times as much to hand a call to. Whoever hands over a
//! call needs a [`Permit`] first.
//!
//! A class of calls (an export) may hold no more of anything (threads, calls, bytes) than is left
//! free, the rule of dynamic thresholds (Choudhury and Hahne, 1998): one class that stands still
//! holds half, two that do so at the same time a third each, one more after it half of what is left.

#[cfg(test)]
mod test;

use std::collections::hash_map::{Entry, HashMap};
use std::collections::vec_deque::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

use crate::clock::Clock;

/// A bounded number of threads with a bounded queue.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Threads, each started when it is first needed.
    pub(super) threads: usize,
    /// Calls in the queue and on the threads.
    pub(super) calls: usize,
    /// Bytes of memory that these calls hold.
    pub(super) bytes: usize,
}

/// The export that a call waits for; `None` if it belongs to no export.
pub(super) type ClassId = Option<Uuid>;

/// The right to hand one call to the pool; it is given back when the call's reply is on its way.
pub(super) struct Permit {
    shared: Arc<Shared>,
    class: ClassId,
    connection: Option<u64>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.release(self);
    }
}

impl Pool {
    /// A pool that has started no thread yet.
    pub(super) fn new(bounds: Bounds, clock: Arc<dyn Clock>) -> Self {
        let bounds = Bounds {
            threads: bounds.threads.max(1),
            calls: bounds.calls.max(1),
            bytes: bounds.bytes.max(1),
        };
        let (state, wake) = (Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Shared { state, wake, bounds, clock }) }
    }

    /// Waits until a call of this many bytes may be handed over; `None` when its class is full and
    /// stands still, so that to wait is in vain.
    pub(super) async fn admit(
        &self,
        class: ClassId,
        connection: u64,
        bytes: usize,
    ) -> Option<Permit> {
        let asked = Asked { class, connection: Some(connection), bytes: self.shared.weight(bytes) };
        let mut asked_before = false;
        loop {
            let granted = {
                let mut state = self.shared.lock();
                let now = self.shared.clock.now();
                if state.may_hold(&asked, self.shared.bounds) {
                    return Some(self.shared.permit(&mut state, asked, now));
                }
                if !state.progresses(class, now, asked_before) {
                    return None;
                }
                let (grant, granted) = oneshot::channel();
                state.asking.retain(|(_, grant)| !grant.is_closed());
                state.asking.push_back((asked, grant));
                granted
            };
            if let Ok(Ok(permit)) = timeout(STALLED, granted).await {
                return Some(permit);
            }
            asked_before = true;
        }
    }

    /// As [`Pool::admit`], but `None` where that would wait.
    pub(super) fn try_admit(&self, class: ClassId, bytes: usize) -> Option<Permit> {
        let asked = Asked { class, connection: None, bytes: self.shared.weight(bytes) };
        let mut state = self.shared.lock();
        let may = state.may_hold(&asked, self.shared.bounds);
        may.then(|| self.shared.permit(&mut state, asked, self.shared.clock.now()))
    }

    /// Runs `job` on a thread when it is its turn. The job keeps the permit until its reply is on
    /// its way.
    pub(super) fn run(&self, permit: Permit, job: impl FnOnce(Permit) + Send + 'static) {
        let mut state = self.shared.lock();
        let class = permit.class;
        let job = Box::new(move || job(permit));
        state.queued += 1;
        let entry = state.class(class, self.shared.clock.now());
        entry.queue.push_back(job);
        if entry.queue.len() == 1 {
            state.ready.push_back(class);
        }
        let wake = state.idle > state.woken;
        let start = !wake && state.threads < self.shared.bounds.threads;
        if wake {
            state.woken += 1;
        } else if start {
            state.threads += 1;
        }
        drop(state);
        if wake {
            self.shared.wake.notify_one();
        } else if start {
            self.start();
        }
    }

    fn start(&self) {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("rpc-pool".to_owned());
        let Err(error) = thread.spawn(move || shared.work()) else { return };
        tracing::warn!(%error, "cannot start a thread for calls: raise the limit on processes");
        let mut state = self.shared.lock();
        state.threads -= 1;
        // Without a single thread the call would wait for ever; slow is better than never.
        let next = if state.threads == 0 { state.next(self.shared.bounds) } else { None };
        drop(state);
        if let Some((class, job)) = next {
            self.shared.carry_out(class, job);
        }
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
        let state = self.shared.lock();
        let mut fields = f.debug_struct("Pool");
        fields.field("threads", &state.threads).field("waiting", &state.queued);
        fields.finish_non_exhaustive()
    }
}

type Job = Box<dyn FnOnce() + Send>;

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    bounds: Bounds,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct State {
    /// The classes that have calls here.
    classes: HashMap<ClassId, Class>,
    /// Those with calls in the queue, in the order of their turns.
    ready: VecDeque<ClassId>,
    /// The callers that wait for a permit, in their order.
    asking: VecDeque<(Asked, oneshot::Sender<Permit>)>,
    /// Calls that hold a permit, and their bytes.
    calls: usize,
    bytes: usize,
    /// Calls in the queue.
    queued: usize,
    /// Threads in all, those that run a call, those that wait for one, and those of them that were
    /// told that there is one.
    threads: usize,
    running: usize,
    idle: usize,
    woken: usize,
    /// Whether the threads shall end once the queue is empty.
    closed: bool,
}

struct Class {
    queue: VecDeque<Job>,
    running: usize,
    /// Calls that hold a permit, their bytes, and how many of them each connection has.
    calls: usize,
    bytes: usize,
    of: HashMap<u64, usize>,
    /// When a call of it was done last, or when it got its first.
    progressed: Instant,
}

/// A request for a permit.
#[derive(Clone, Copy)]
struct Asked {
    class: ClassId,
    connection: Option<u64>,
    bytes: usize,
}

impl State {
    fn class(&mut self, id: ClassId, now: Instant) -> &mut Class {
        self.classes.entry(id).or_insert_with(|| Class {
            queue: VecDeque::new(),
            running: 0,
            calls: 0,
            bytes: 0,
            of: HashMap::new(),
            progressed: now,
        })
    }

    /// Whether one more call has room, in all and within the share of its class and connection.
    fn may_hold(&self, asked: &Asked, bounds: Bounds) -> bool {
        let calls = bounds.calls.saturating_sub(self.calls);
        let bytes = bounds.bytes.saturating_sub(self.bytes);
        if calls == 0 || asked.bytes > bytes {
            return false;
        }
        let Some(class) = self.classes.get(&asked.class) else { return true };
        let of = asked.connection.and_then(|connection| class.of.get(&connection));
        class.calls < calls
            && (class.bytes == 0 || class.bytes + asked.bytes <= bytes)
            && of.is_none_or(|of| *of < PER_CONNECTION)
    }

    /// Whether a call of this class was done lately.
    fn progresses(&self, class: ClassId, now: Instant, asked_before: bool) -> bool {
        match self.classes.get(&class) {
            Some(class) => now.saturating_duration_since(class.progressed) < STALLED,
            // Others hold everything. Should they go on, there is room soon.
            None => !asked_before,
        }
    }

    /// The next call that may run: of the class whose turn it is.
    fn next(&mut self, bounds: Bounds) -> Option<(ClassId, Job)> {
        let free = bounds.threads.saturating_sub(self.running);
        let at = self.ready.iter().position(|id| {
            let running = self.classes.get(id).map_or(0, |class| class.running);
            running < free
        })?;
        let id = self.ready.remove(at)?;
        let class = self.classes.get_mut(&id)?;
        let job = class.queue.pop_front()?;
        class.running += 1;
        if !class.queue.is_empty() {
            self.ready.push_back(id);
        }
        self.running += 1;
        self.queued -= 1;
        Some((id, job))
    }

    /// Forgets a class that has no calls any more.
    fn forget_idle(&mut self, id: ClassId) {
        if let Entry::Occupied(entry) = self.classes.entry(id) {
            let class = entry.get();
            if class.calls == 0 && class.running == 0 && class.queue.is_empty() {
                entry.remove();
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes that a call is counted with: at least one, and no more than a class may ever hold.
    fn weight(&self, bytes: usize) -> usize {
        bytes.clamp(1, self.bounds.bytes.div_ceil(2))
    }

    fn permit(self: &Arc<Self>, state: &mut State, asked: Asked, now: Instant) -> Permit {
        let Asked { class: id, connection, bytes } = asked;
        state.calls += 1;
        state.bytes += bytes;
        let class = state.class(id, now);
        class.calls += 1;
        class.bytes += bytes;
        if let Some(connection) = connection {
            *class.of.entry(connection).or_default() += 1;
        }
        Permit { shared: Arc::clone(self), class: id, connection, bytes }
    }

    /// Takes back what a permit allowed, and gives it to those who wait, the first first.
    fn release(self: &Arc<Self>, permit: &Permit) {
        let now = self.clock.now();
        let mut granted = Vec::new();
        let mut state = self.lock();
        state.calls -= 1;
        state.bytes -= permit.bytes;
        if let Some(class) = state.classes.get_mut(&permit.class) {
            class.calls -= 1;
            class.bytes -= permit.bytes;
            if let Some(connection) = permit.connection
                && let Entry::Occupied(mut of) = class.of.entry(connection)
            {
                *of.get_mut() -= 1;
                if *of.get() == 0 {
                    of.remove();
                }
            }
        }
        state.forget_idle(permit.class);
        while let Some(at) =
            state.asking.iter().position(|(asked, _)| state.may_hold(asked, self.bounds))
            && let Some((asked, grant)) = state.asking.remove(at)
        {
            if !grant.is_closed() {
                granted.push((grant, self.permit(&mut state, asked, now)));
            }
        }
        drop(state);
        for (grant, permit) in granted {
            // Who does not wait any more gives it back by this.
            drop(grant.send(permit));
        }
    }

    /// Runs calls on a thread until the pool is dropped.
    fn work(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let (class, job) = loop {
                if let Some(next) = state.next(self.bounds) {
                    break next;
                }
                if state.closed && state.queued == 0 {
                    return;
                }
                state.idle += 1;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                state.woken = state.woken.saturating_sub(1);
            };
            drop(state);
            self.carry_out(class, job);
        }
    }

    fn carry_out(&self, id: ClassId, job: Job) {
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a panic cost one call its reply");
        }
        let now = self.clock.now();
        let mut state = self.lock();
        state.running -= 1;
        if let Some(class) = state.classes.get_mut(&id) {
            class.running -= 1;
            class.progressed = now;
        }
        state.forget_idle(id);
        let closed = state.closed;
        drop(state);
        if closed {
            self.wake.notify_all();
        }
    }
}

/// Calls of one class that one connection may have here.
const PER_CONNECTION: usize = 64;

/// A class that is full and had no call done for so long stands still: whoever calls is told to try
/// again later, so that its connection goes on with the calls of other classes. Clients that are told
/// so stay away for five seconds, so that a disk that is merely slow is better waited for.
const STALLED: Duration = Duration::from_secs(3);

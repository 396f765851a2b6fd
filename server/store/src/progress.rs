//! How far long work is: told by what does it, and shown by a [`Watcher`], if the process has one.
//!
//! Work may be part of other work, which began before it: a clone is a verb, and its copy is a part of that.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What is counted of a task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Boot environments.
    Environments,
    /// Files, directories and whatever else has a name.
    Files,
    /// Nothing: that it goes on is all that is known.
    Nothing,
}

/// Something that is being done.
pub struct Task {
    what: Mutex<String>,
    unit: Unit,
    done: AtomicU64,
    /// [`UNKNOWN`] if it is not known.
    total: AtomicU64,
    ended: AtomicBool,
}

impl Task {
    /// Something of which nothing is done yet.
    #[must_use]
    pub fn new(what: String, unit: Unit, total: Option<u64>) -> Self {
        Self {
            what: Mutex::new(what),
            unit,
            done: AtomicU64::new(0),
            total: AtomicU64::new(total.unwrap_or(UNKNOWN)),
            ended: AtomicBool::new(false),
        }
    }

    /// So much more of it is done.
    pub fn advance(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
    }

    /// What is done, in words; nothing where the work that it is a part of says so.
    #[must_use]
    pub fn what(&self) -> String {
        self.what.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is counted.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// How much of it is done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// How much there is to do, where that is known.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|total| *total != UNKNOWN)
    }

    /// Sets how much there is to do.
    pub fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Whether it has come to its end, good or bad.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, done, total) = (self.what(), self.done(), self.total());
        f.debug_struct("Task")
            .field("what", &what)
            .field("done", &done)
            .field("total", &total)
            .finish()
    }
}

/// Who shows what is being done.
pub trait Watcher: Send + Sync {
    /// A task begins.
    fn begun(&self, task: &Arc<Task>);

    /// A task has ended.
    fn ended(&self, task: &Arc<Task>);
}

/// Has a watcher told of everything that this process does from now on. The first one stays.
pub fn watch(watcher: Box<dyn Watcher>) {
    // There is no second one.
    let _ = WATCHER.set(watcher);
}

/// Whoever does something holds it until that has ended. Without a watcher it costs nothing.
#[derive(Debug)]
#[must_use]
pub struct Work {
    task: Option<Arc<Task>>,
}

impl Work {
    /// Begins something of which `total` is to be done, if that is known.
    pub fn begin(what: impl FnOnce() -> String, unit: Unit, total: Option<u64>) -> Self {
        let Some(watcher) = WATCHER.get() else { return Self { task: None } };
        let task = Arc::new(Task::new(what(), unit, total));
        watcher.begun(&task);
        Self { task: Some(task) }
    }

    /// So much more of it is done.
    pub fn advance(&self, more: u64) {
        if let Some(task) = &self.task {
            task.advance(more);
        }
    }

    /// So much of it is done in all.
    pub fn set_done(&self, done: u64) {
        if let Some(task) = &self.task {
            task.done.store(done, Ordering::Relaxed);
        }
    }

    /// So much of it there is to do.
    pub fn set_total(&self, total: u64) {
        if let Some(task) = &self.task {
            task.set_total(total);
        }
    }

    /// Says anew what is done.
    pub fn set_what(&self, what: impl FnOnce() -> String) {
        if let Some(task) = &self.task {
            *task.what.lock().unwrap_or_else(PoisonError::into_inner) = what();
        }
    }

    /// The task, if somebody watches it.
    #[must_use]
    pub const fn watched(&self) -> Option<&Arc<Task>> {
        self.task.as_ref()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let (Some(task), Some(watcher)) = (&self.task, WATCHER.get()) {
            task.ended.store(true, Ordering::Relaxed);
            watcher.ended(task);
        }
    }
}

static WATCHER: OnceLock<Box<dyn Watcher>> = OnceLock::new();
const UNKNOWN: u64 = u64::MAX;

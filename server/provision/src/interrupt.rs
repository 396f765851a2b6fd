//! Signals that ask for the end, while there is something to undo.

use std::io;
#[cfg(not(test))]
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::{Handle, Signals};

/// From when it is made until it is dropped, a signal that asks for the end kills the workers of this
/// process, and not the process: what they were to do fails, and can be undone.
#[derive(Debug)]
pub(crate) struct Interrupt {
    came: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Interrupt {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The system gives no handler, or no thread.
    pub(crate) fn listen() -> io::Result<Self> {
        let (came, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut signals = Signals::new(ASKED)?;
        let handle = signals.handle();
        for signal in ASKED {
            register_conditional_default(signal, Arc::clone(&over))?;
        }
        let noted = Arc::clone(&came);
        let thread = thread::Builder::new().spawn(move || {
            for _ in signals.forever() {
                noted.store(true, Ordering::SeqCst);
                kill_workers();
            }
        })?;
        Ok(Self { came, over, handle, thread: Some(thread) })
    }

    /// Whether a signal came.
    pub(crate) fn came(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It has only noted signals.
            let _ = thread.join();
        }
    }
}

/// A worker that is at work. It is forgotten before it is waited for: until then no other process has
/// its number. In a test a worker is a thread.
#[cfg(not(test))]
#[derive(Debug)]
pub(crate) struct AtWork(Pid);

#[cfg(not(test))]
impl AtWork {
    pub(crate) fn note(child: &Child) -> io::Result<Self> {
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        at_work().push(pid);
        Ok(Self(pid))
    }
}

#[cfg(not(test))]
impl Drop for AtWork {
    fn drop(&mut self) {
        at_work().retain(|pid| *pid != self.0);
    }
}

fn kill_workers() {
    for pid in &*at_work() {
        // One that has ended already has nothing to do any more.
        let _ = kill(*pid, Signal::SIGKILL);
    }
}

fn at_work() -> MutexGuard<'static, Vec<Pid>> {
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

static WORKERS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// What a terminal sends for Ctrl-C, `kill`, and a terminal that is closed.
const ASKED: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

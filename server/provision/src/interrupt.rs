//! Signals that ask for the end, while there is something to undo.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;

use crate::{sys, terminal};

/// A thread that hears signals which ask for the end, from when it is made until it is dropped. A signal that is
/// ignored, as under nohup(1), stays so.
#[derive(Debug)]
struct Listener {
    over: Arc<AtomicBool>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Fails where the system gives no handler, or no thread.
    fn begin(hear: impl FnOnce(Signals) + Send + 'static) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let heard = ASKED.into_iter().filter(|signal| !sys::is_ignored(*signal));
        let heard: Vec<_> = heard.collect();
        let signals = Signals::new(&heard)?;
        let handle = signals.handle();
        for signal in heard {
            register_conditional_default(signal, Arc::clone(&over))?;
        }
        let thread = thread::Builder::new().spawn(move || hear(signals))?;
        Ok(Self { over, handle, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It has only noted signals.
            let _ = thread.join();
        }
    }
}

/// From when it is made until it is dropped, a signal that asks for the end kills the workers of this
/// process, and not the process: what they were to do fails, and can be undone.
#[derive(Debug)]
pub struct Interrupt {
    came: Arc<AtomicBool>,
    listener: Option<Listener>,
}

impl Interrupt {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The system gives no handler, or no thread.
    pub fn listen() -> io::Result<Self> {
        at_work().are_unwanted = false;
        let came = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&came);
        let listener = Listener::begin(move |mut signals| {
            for _ in signals.forever() {
                noted.store(true, Ordering::SeqCst);
                let mut workers = at_work();
                workers.are_unwanted = true;
                workers.kill();
            }
        })?;
        Ok(Self { came, listener: Some(listener) })
    }

    /// Whether a signal came.
    pub fn came(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // When its thread has ended, nobody calls workers unwanted any more.
        drop(self.listener.take());
        at_work().are_unwanted = false;
    }
}

/// From when it is made until it is dropped, a signal that ends this process has it say a line first.
#[derive(Debug)]
pub struct Farewell {
    _listener: Listener,
}

impl Farewell {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The system gives no handler, or no thread.
    pub fn prepare(line: String) -> io::Result<Self> {
        let listener = Listener::begin(move |mut signals| {
            if let Some(signal) = signals.forever().next() {
                terminal::say(&line);
                // It does not return: these signals end a process.
                let _ = emulate_default_handler(signal);
            }
        })?;
        Ok(Self { _listener: listener })
    }
}

/// A worker that is at work. It is forgotten before it is waited for: until then no other process has
/// its number. In a test a worker is a thread.
#[cfg(not(test))]
#[derive(Debug)]
pub struct AtWork(Pid);

#[cfg(not(test))]
impl AtWork {
    /// Notes one that was started.
    pub fn note(pid: rustix::process::Pid) -> Self {
        let pid = Pid::from_raw(pid.as_raw_nonzero().get());
        let mut workers = at_work();
        workers.pids.push(pid);
        if workers.are_unwanted {
            workers.kill();
        }
        Self(pid)
    }
}

#[cfg(not(test))]
impl Drop for AtWork {
    fn drop(&mut self) {
        at_work().pids.retain(|pid| *pid != self.0);
    }
}

/// The workers of this process.
struct Workers {
    pids: Vec<Pid>,
    /// Whether the end was asked for: one that is started after that is killed, too.
    are_unwanted: bool,
}

impl Workers {
    fn kill(&self) {
        for pid in &self.pids {
            // One that has ended already has nothing to do any more.
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }
}

fn at_work() -> MutexGuard<'static, Workers> {
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

static WORKERS: Mutex<Workers> = Mutex::new(Workers { pids: Vec::new(), are_unwanted: false });

/// What a terminal sends for Ctrl-C, `kill`, and a terminal that is closed.
const ASKED: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

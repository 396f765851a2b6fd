//! A program that runs, until its end or until nobody waits for it.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Abandoned, Error, Limit, MOST, Why, error};

/// A program that runs. When this is dropped it is what the [`Call`](crate::Call) says.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    name: OsString,
    call: String,
    stderr: Option<Receiver<Vec<u8>>>,
    limit: Limit,
    begin: Instant,
    abandoned: Abandoned,
}

impl Running {
    pub(crate) fn new(
        child: Child,
        (name, call): (OsString, String),
        limit: Limit,
        abandoned: Abandoned,
    ) -> Self {
        let begin = Instant::now();
        Self { child: Some(child), name, call, stderr: None, limit, begin, abandoned }
    }

    /// Its standard input; once.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.as_mut().and_then(|child| child.stdin.take())
    }

    /// What it writes; once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.as_mut().and_then(|child| child.stdout.take())
    }

    /// Its standard error; once.
    pub(crate) fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.as_mut().and_then(|child| child.stderr.take())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let ended = child.try_wait();
        let ended = ended.map_err(|error| self.error(Why::Start, error.to_string()))?;
        if ended.is_some() {
            self.child = None;
        }
        Ok(ended)
    }

    /// The process.
    pub fn id(&self) -> Option<Pid> {
        self.child.as_ref().map(Pid::from_child)
    }

    /// Waits for its end, within its time.
    ///
    /// # Errors
    ///
    /// It did not end in its time, or not with success.
    pub fn end(mut self) -> Result<(), Error> {
        let said = self.stderr.take().map(|stderr| self.receive(&stderr)).transpose()?;
        let status = self.wait()?;
        if status.success() {
            return Ok(());
        }
        let said = error::said(&said.unwrap_or_default());
        let said = if said.is_empty() { status.to_string() } else { said };
        Err(self.error(Why::Ended(status), said))
    }

    /// Kills it if it has not ended, and waits a little until it is gone: what it was working on is busy
    /// until then. Gives how it ended.
    ///
    /// One that waits inside the kernel, as for a pool without disks, dies only when that answers: then
    /// there is nothing to be given, and a thread of its own waits for it.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        // One that has ended meanwhile is as good.
        let _ = child.kill();
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        let (sender, gone) = mpsc::channel();
        // Without a thread nobody waits for it, and it is not told of.
        let _ = thread::Builder::new().spawn(move || {
            let status = child.wait().ok();
            // Nobody may want to know any more.
            let _ = sender.send(status);
        });
        gone.recv_timeout(KILL_TIMEOUT).unwrap_or_else(|_late| {
            let name = std::mem::take(&mut self.name);
            STUCK.lock().unwrap_or_else(PoisonError::into_inner).push((name, gone));
            None
        })
    }

    /// Keeps the last of what it says.
    pub(crate) fn listen(&mut self, stderr: ChildStderr) {
        self.stderr = Some(collect(stderr, |said| {
            let spare = said.len().saturating_sub(LAST);
            said.drain(..spare);
            true
        }));
    }

    /// Writes all of its standard input, beside what else it does.
    pub(crate) fn write_stdin(&mut self, input: Vec<u8>) -> Result<(), Error> {
        let Some(mut stdin) = self.stdin() else { return Ok(()) };
        // It may refuse before it has read everything: then what it says is the reason.
        let writer = thread::Builder::new().spawn(move || stdin.write_all(&input));
        writer.map(drop).map_err(|error| self.error(Why::Start, error.to_string()))
    }

    /// Reads all that it writes, within its time.
    pub(crate) fn read_stdout(&mut self) -> Result<Vec<u8>, Error> {
        let Some(stdout) = self.stdout() else { return Ok(Vec::new()) };
        let text = self.receive(&collect(stdout, |text| text.len() <= MOST))?;
        if text.len() > MOST {
            return Err(self.error(Why::Long, format!("it writes more than {MOST} bytes")));
        }
        Ok(text)
    }

    fn receive(&mut self, from: &Receiver<Vec<u8>>) -> Result<Vec<u8>, Error> {
        let received = match self.limit {
            Limit::None => from.recv().map_err(|_gone| RecvTimeoutError::Disconnected),
            Limit::Within(limit) => from.recv_timeout(limit.saturating_sub(self.begin.elapsed())),
        };
        received.map_err(|error| match (error, self.limit) {
            (RecvTimeoutError::Timeout, Limit::Within(limit)) => self.late(limit),
            _ => self.error(Why::Start, "no thread can be started to read it".to_owned()),
        })
    }

    fn wait(&mut self) -> Result<ExitStatus, Error> {
        let mut pause = SHORTEST;
        loop {
            let Some(child) = &mut self.child else { return Ok(ExitStatus::default()) };
            let status = match self.limit {
                Limit::None => child.wait().map(Some),
                Limit::Within(_) => child.try_wait(),
            };
            match (status, self.limit) {
                (Ok(Some(status)), _) => {
                    self.child = None;
                    return Ok(status);
                }
                (Err(error), _) => return Err(self.error(Why::Start, error.to_string())),
                (Ok(None), Limit::Within(limit)) if self.begin.elapsed() >= limit => {
                    return Err(self.late(limit));
                }
                // It has closed what it wrote to, and is about to end.
                (Ok(None), _) => thread::sleep(pause),
            }
            pause = LONGEST.min(pause * 2);
        }
    }

    fn late(&mut self, limit: Duration) -> Error {
        self.kill();
        self.error(Why::Late, format!("no answer within {} s", limit.as_secs()))
    }

    fn error(&self, why: Why, said: String) -> Error {
        Error { call: self.call.clone(), why, said }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match (self.abandoned, &mut self.child) {
            (_, None) => {}
            (Abandoned::Killed, Some(_)) => drop(self.kill()),
            (Abandoned::Terminated | Abandoned::Awaited, Some(child)) => {
                if self.abandoned == Abandoned::Terminated && matches!(child.try_wait(), Ok(None)) {
                    // It may end just now.
                    let _ = kill_process(Pid::from_child(child), Signal::TERM);
                }
                let _ = child.wait();
            }
        }
    }
}

/// Reads a stream in a thread of its own, until its end or until `goes_on` says no of what has come.
fn collect(
    mut stream: impl Read + Send + 'static,
    goes_on: impl Fn(&mut Vec<u8>) -> bool + Send + 'static,
) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    // Without a thread the sender is gone, which whoever receives is told.
    let _ = thread::Builder::new().spawn(move || {
        let (mut bytes, mut more) = (Vec::new(), true);
        // What came before an error is told; the program's status says that something is wrong.
        while more && matches!(stream.by_ref().take(PIECE).read_to_end(&mut bytes), Ok(1..)) {
            more = goes_on(&mut bytes);
        }
        // Nobody waits any more for one that came too late.
        let _ = sender.send(bytes);
    });
    receiver
}

/// Whether one of these programs was killed and has not ended yet.
pub(crate) fn is_stuck(names: &[&str]) -> bool {
    let mut stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
    stuck.retain(|(_, gone)| matches!(gone.try_recv(), Err(TryRecvError::Empty)));
    stuck.iter().any(|(stuck, _)| names.iter().any(|name| stuck == OsStr::new(name)))
}

/// Programs that did not end when they were killed: each tells when it has.
static STUCK: Mutex<Vec<(OsString, Receiver<Option<ExitStatus>>)>> = Mutex::new(Vec::new());

/// How long a program that was killed may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether a program has ended that has nothing more to say.
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(20);
/// How much of what a program says is kept, in bytes.
const LAST: usize = 16 << 10;
const PIECE: u64 = 64 << 10;

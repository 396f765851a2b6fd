//! The process that runs hooks, sends webhooks and speaks to Consul for a server.
//!
//! The server starts it before it gives up its privileges and puts its filter of system calls up, because hooks of an
//! administrator may need what the server does not. It reads a line of JSON for each event from its standard input,
//! a socket, and ends with that. Everything in it is bounded; what the server writes it reads at once, so that the
//! server waits for nothing. What it runs was said before the first packet came: no message of the server can name a
//! program.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use child::{Call, Limit, Running};
use serde::{Deserialize, Serialize};

use crate::consul::{self, Consul};
use crate::queue::Queue;
use crate::record::Records;
use crate::settings::Settings;
use crate::transaction::{self, Outcome, Transcript};
use crate::webhook::Outbox;
use crate::{Event, HookError, directory};

/// What the program is started with when it is to be this process.
pub const VERB: &str = "hooks-runner";

/// What it is told first.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Start {
    /// What holds for hooks.
    pub settings: Settings,
    /// What holds for Consul, if there is one.
    pub consul: Option<consul::Settings>,
    /// The state directory, where it records what was run.
    pub state: PathBuf,
}

/// What it is told then.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Message {
    /// Something happened.
    Event(Event),
    /// How all machines stand that are up, or of which nothing was heard since the server was started.
    Machines(Vec<consul::Machine>),
}

/// The process, as the server has it. Dropped, it is waited for: it ends when nobody can write to it any more.
#[derive(Debug)]
pub struct Runner {
    _running: Running,
}

/// What the server writes to it.
#[derive(Debug)]
pub struct Feed {
    stream: UnixStream,
}

impl Runner {
    /// Starts it: `program` is that which runs.
    ///
    /// # Errors
    ///
    /// The system does not start it.
    pub fn start(program: &Path, start: &Start) -> io::Result<(Self, Feed)> {
        let (stream, other) = UnixStream::pair()?;
        let call = Call::new(program, Limit::None).without_dashes().flag(VERB);
        // Ctrl-C is for the server, which lets it come to its end.
        let call = call.holding(other.into()).sharing_stderr().uninterrupted();
        let (running, _none) = call.start_heard().map_err(io::Error::other)?;
        let mut feed = Feed { stream };
        feed.write(start)?;
        Ok((Self { _running: running }, feed))
    }
}

impl Feed {
    /// Tells it something. It may wait as long as the process does not read.
    ///
    /// # Errors
    ///
    /// The process has ended.
    pub fn send(&mut self, message: &Message) -> io::Result<()> {
        self.write(message)
    }

    fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }
}

/// Is this process, if the program was started to be; `begin` opens its log.
pub fn run_if_asked(arguments: &[OsString], begin: impl FnOnce()) -> Option<ExitCode> {
    let [_, verb] = arguments else { return None };
    (verb == VERB).then(|| {
        begin();
        match serve(io::stdin().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("hooks are not run any more: {error}");
                ExitCode::FAILURE
            }
        }
    })
}

/// Does as it is told until nobody tells it anything more.
fn serve(input: impl io::Read) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let Some(first) = line(&mut input)? else { return Ok(()) };
    let start: Start = serde_json::from_slice(&first)?;
    let work = Arc::new(Work::new(start));
    let mut threads = Vec::new();
    for _ in 0..WORKERS {
        let work = Arc::clone(&work);
        threads.push(thread::Builder::new().name("hooks".to_owned()).spawn(move || work.run())?);
    }
    for at in 0..work.outboxes.len() {
        let work = Arc::clone(&work);
        let deliver = move || {
            if let Some(outbox) = work.outboxes.get(at) {
                outbox.deliver(&|| work.is_over());
            }
        };
        threads.push(thread::Builder::new().name("webhook".to_owned()).spawn(deliver)?);
    }
    if work.consul.is_some() {
        let work = Arc::clone(&work);
        let keep = move || {
            if let Some(consul) = &work.consul {
                consul.keep(&|| work.is_ending());
            }
        };
        threads.push(thread::Builder::new().name("consul".to_owned()).spawn(keep)?);
    }
    let read = work.take_all(&mut input);
    work.end(&threads);
    read
}

/// A line of what the server writes; none at its end.
fn line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let got = input.take(LONGEST).read_until(b'\n', &mut line)?;
    match line.last() {
        Some(b'\n') => Ok(Some(line)),
        // A server that was killed may have been in the middle of one.
        _ if u64::try_from(got).is_ok_and(|got| got < LONGEST) => Ok(None),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long")),
    }
}

/// What is to be done, and whether it is over.
struct Work {
    start: Start,
    records: Records,
    queue: Mutex<Queue>,
    more: Condvar,
    outboxes: Vec<Outbox>,
    consul: Option<Consul>,
    over: AtomicBool,
    /// Nothing more is begun.
    ending: AtomicBool,
}

impl Work {
    fn new(start: Start) -> Self {
        let records = Records::in_state(&start.state);
        let outboxes = start.settings.webhooks.iter().cloned().map(Outbox::new).collect();
        let consul = start.consul.clone().map(Consul::new);
        let (queue, more) = (Mutex::default(), Condvar::new());
        let (over, ending) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { start, records, queue, more, outboxes, consul, over, ending }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Reads what the server writes, to its end.
    fn take_all(&self, input: &mut impl BufRead) -> io::Result<()> {
        while let Some(line) = line(input)? {
            match serde_json::from_slice(&line) {
                Ok(Message::Event(event)) => self.take(event),
                Ok(Message::Machines(machines)) => {
                    if let Some(consul) = &self.consul {
                        consul.tell(machines);
                    }
                }
                Err(error) => tracing::debug!("a message is not understood: {error}"),
            }
        }
        Ok(())
    }

    fn take(&self, event: Event) {
        for outbox in &self.outboxes {
            outbox.push(&event);
        }
        let mut queue = self.queue();
        queue.push(event);
        let lost = queue.take_lost();
        drop(queue);
        if lost > 0 {
            tracing::warn!("too many events wait for their hooks: {lost} were left out");
        }
        self.more.notify_one();
    }

    /// Runs the hooks of one event after the other.
    fn run(&self) {
        while let Some(event) = self.next() {
            let transcript = self.transact(&event);
            if let Some(transcript) = transcript {
                self.records.note(&transcript);
                tell(&transcript);
            }
            self.queue().done(&event.machine);
            self.more.notify_all();
        }
    }

    fn next(&self) -> Option<Event> {
        let mut queue = self.queue();
        loop {
            if self.is_ending() {
                return None;
            }
            if let Some(event) = queue.take() {
                return Some(event);
            }
            let woken = self.more.wait_timeout(queue, BEAT);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Runs the hooks of an event; nothing, if it has none.
    fn transact(&self, event: &Event) -> Option<Transcript> {
        match directory::steps(&self.start.settings, event) {
            Ok(steps) if steps.is_empty() => None,
            Ok(steps) => Some(transaction::run(&steps, event, &|| self.is_over())),
            Err(error) => {
                let reason = HookError::from(error).to_string();
                let outcome = Outcome::Refused { reason };
                Some(Transcript { event: event.clone(), outcome, runs: Vec::new() })
            }
        }
    }

    /// Lets what runs come to its end, for a while.
    fn end<T>(&self, threads: &[thread::JoinHandle<T>]) {
        self.ending.store(true, Ordering::Relaxed);
        self.more.notify_all();
        let begin = Instant::now();
        let is_done = |thread: &thread::JoinHandle<T>| thread.is_finished();
        let hooks = threads.get(..WORKERS).unwrap_or(threads);
        while begin.elapsed() < PATIENCE && !hooks.iter().all(is_done) {
            thread::sleep(SHORT);
        }
        self.over.store(true, Ordering::Relaxed);
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE && !hooks.iter().all(is_done) {
            thread::sleep(SHORT);
        }
    }
}

/// Tells what failed in the log; what hooks say stands in the record.
fn tell(transcript: &Transcript) {
    let Event { event, machine, .. } = &transcript.event;
    match &transcript.outcome {
        Outcome::Done => tracing::debug!("{machine}: the hooks of {event} succeeded"),
        Outcome::Failed { step, reason } => {
            let said = transcript.runs.iter().rev().find(|run| run.step == *step);
            let said = said.and_then(|run| run.said.lines().last()).unwrap_or_default();
            let said: String = said.chars().take(200).collect();
            let colon = if said.is_empty() { "" } else { ": " };
            tracing::warn!("{machine}: the hook {step} failed, {reason}{colon}{said}");
        }
        Outcome::Refused { reason } => tracing::error!("{machine}, {event}: {reason}"),
    }
}

/// Hooks of so many machines run at once.
const WORKERS: usize = 4;

/// Bytes of a message, at most.
const LONGEST: u64 = 16 << 20;

/// How often it is looked whether it is over.
const BEAT: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(20);

/// How long hooks that run may take when the server has ended; then they are killed.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod test {
    use super::*;
    use crate::Occasion;
    use crate::directory::test::{hook, settings};

    #[test]
    fn events_are_run_until_the_server_ends_and_what_is_refused_is_recorded() {
        let place = tempfile::tempdir().unwrap();
        hook(place.path(), "etc/up.d/10-say", "echo $NETBE_MACHINE", 0o755);
        hook(place.path(), "etc/lost.d/10-open", "exit 0", 0o757);
        let settings = settings(&place.path().join("etc"));
        let start = Start { settings, consul: None, state: place.path().to_owned() };
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let runner = thread::spawn(move || serve(theirs));
        let mut send = |text: &str| ours.write_all(format!("{text}\n").as_bytes()).unwrap();
        send(&serde_json::to_string(&start).unwrap());
        send("{\"event\":\"garbage\"}");
        for event in [Occasion::Up, Occasion::Leased, Occasion::Lost] {
            let message = Message::Event(Event::new(event, "web1"));
            send(&serde_json::to_string(&message).unwrap());
        }
        let records = Records::in_state(place.path());
        let begin = Instant::now();
        while records.read().unwrap().len() < 2 && begin.elapsed() < Duration::from_secs(60) {
            thread::sleep(SHORT);
        }
        drop(ours);
        runner.join().unwrap().unwrap();
        let [up, lost] = <[_; 2]>::try_from(records.read().unwrap()).unwrap();
        assert_eq!((up.outcome, up.runs[0].said.as_str()), (Outcome::Done, "web1"));
        assert!(matches!(lost.outcome, Outcome::Refused { reason } if reason.contains("10-open")));
    }

    #[test]
    fn a_message_is_bounded() {
        let endless = io::repeat(b'a');
        let error = line(&mut BufReader::new(endless)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(line(&mut BufReader::new(&b"half"[..])).unwrap(), None);
    }
}

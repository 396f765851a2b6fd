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
use crate::transaction::{self, Action, Outcome, Transcript};
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
    /// How all machines stand that are up, or of which nothing was seen since the server was started.
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
        match serve(io::stdin().lock(), |told| tracing::warn!("{told}")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("hooks are no longer run: {error}");
                ExitCode::FAILURE
            }
        }
    })
}

/// Does as it is told until nobody tells it anything more; then tells in a line each what is not done any more.
fn serve(input: impl io::Read, tell: impl FnMut(String)) -> io::Result<()> {
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
    work.end(threads.get(..WORKERS).unwrap_or(&threads));
    work.dropped().into_iter().for_each(tell);
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
    /// No hooks of another event are begun.
    ending: AtomicBool,
    /// What is being done ends, but for what is being undone.
    over: AtomicBool,
    /// That ends too.
    cut: AtomicBool,
}

impl Work {
    fn new(start: Start) -> Self {
        let records = Records::in_state(&start.state);
        let outboxes = start.settings.webhooks.iter().cloned().map(Outbox::new).collect();
        let consul = start.consul.clone().map(Consul::new);
        let (queue, more) = (Mutex::default(), Condvar::new());
        let [ending, over, cut] = [false; 3].map(AtomicBool::new);
        Self { start, records, queue, more, outboxes, consul, ending, over, cut }
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
        let lost = queue.say_lost(false);
        drop(queue);
        say(lost);
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
            let lost = {
                let mut queue = self.queue();
                queue.done(&event.machine);
                queue.say_lost(false)
            };
            say(lost);
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
            Ok(steps) => {
                let is_over = |action| match action {
                    Action::Do => self.is_over(),
                    Action::Undo => self.cut.load(Ordering::Relaxed),
                };
                Some(transaction::run(&steps, event, &is_over))
            }
            Err(error) => {
                let reason = HookError::from(error).to_string();
                let outcome = Outcome::Refused { reason };
                Some(Transcript { event: event.clone(), outcome, runs: Vec::new() })
            }
        }
    }

    /// Lets what runs come to its end: hooks and webhooks for a while, and what is being undone for a longer one.
    fn end<T>(&self, hooks: &[thread::JoinHandle<T>]) {
        self.ending.store(true, Ordering::Relaxed);
        self.more.notify_all();
        let are_done = || hooks.iter().all(thread::JoinHandle::is_finished);
        let are_sent = || self.outboxes.iter().all(Outbox::is_empty);
        wait_for(PATIENCE, || are_done() && are_sent());
        self.over.store(true, Ordering::Relaxed);
        wait_for(UNDOING, are_done);
        self.cut.store(true, Ordering::Relaxed);
        // What is killed has ended soon.
        wait_for(PATIENCE, are_done);
    }

    /// What will not be done any more, in a line each.
    fn dropped(&self) -> Vec<String> {
        let (lost, mut waiting) = {
            let mut queue = self.queue();
            (queue.say_lost(true), queue.drop_all())
        };
        // Most events have no hooks.
        let settings = &self.start.settings;
        waiting
            .retain(|event| !directory::steps(settings, event).is_ok_and(|steps| steps.is_empty()));
        let hooks = (!waiting.is_empty())
            .then(|| format!("netbe ends, and runs no hooks of {}", listed(&waiting)));
        let sent = self.outboxes.iter().filter_map(|outbox| {
            let left = outbox.left();
            (!left.is_empty()).then(|| {
                format!("{}: netbe ends, and has not sent {}", outbox.name(), listed(&left))
            })
        });
        lost.into_iter().chain(hooks).chain(sent).collect()
    }
}

fn say(lost: Option<String>) {
    if let Some(lost) = lost {
        tracing::warn!("{lost}");
    }
}

/// Events in words: how many, and which the first of them are.
fn listed(events: &[Event]) -> String {
    let named = events.iter().take(NAMED).map(|one| format!("{} of {}", one.event, one.machine));
    let named = named.collect::<Vec<_>>().join(", ");
    let events = match events.len() {
        1 => return format!("1 event ({named})"),
        events => events,
    };
    let more = if events > NAMED { ", ..." } else { "" };
    format!("{events} events ({named}{more})")
}

fn wait_for(limit: Duration, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < limit && !is_so() {
        thread::sleep(SHORT);
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
            let left = transcript.not_undone().join(", ");
            if !left.is_empty() {
                tracing::warn!("{machine}: what these hooks did is not undone: {left}");
            }
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

/// How long hooks that run and webhooks may take when the server, or the guest that they are of, ends; then they are
/// killed.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long hooks may then take to undo what those before them did. A service has a minute to end
/// (`server/dist/linux/netbe.service`).
pub const UNDOING: Duration = Duration::from_secs(if cfg!(test) { 8 } else { 20 });

/// Events that are named where more were dropped.
const NAMED: usize = 8;

#[cfg(test)]
mod test {
    use super::*;
    use crate::Occasion;
    use crate::client::test::server;
    use crate::directory::test::{hook, settings};
    use crate::webhook::{self, Webhook};

    /// The process as a thread, and what is written to it.
    struct Bench {
        place: tempfile::TempDir,
        ours: UnixStream,
        runner: thread::JoinHandle<Vec<String>>,
    }

    impl Bench {
        /// With hooks, each a script by its name below `etc`.
        fn start(hooks: &[(&str, &str, u32)], webhooks: Vec<Webhook>) -> Self {
            let place = tempfile::tempdir().unwrap();
            for (name, script, mode) in hooks {
                let log = place.path().join("log").display().to_string();
                let script = format!("note() {{ echo $NETBE_STEP $1 >>{log}; }}; {script}");
                hook(place.path(), &format!("etc/{name}"), &script, *mode);
            }
            let settings = Settings { webhooks, ..settings(&place.path().join("etc")) };
            let start = Start { settings, consul: None, state: place.path().to_owned() };
            let (ours, theirs) = UnixStream::pair().unwrap();
            let runner = thread::spawn(move || {
                let mut told = Vec::new();
                serve(theirs, |line| told.push(line)).unwrap();
                told
            });
            let bench = Self { place, ours, runner };
            bench.send(&serde_json::to_string(&start).unwrap());
            bench
        }

        fn send(&self, text: &str) {
            (&self.ours).write_all(format!("{text}\n").as_bytes()).unwrap();
        }

        fn tell(&self, occasion: Occasion, machine: &str) {
            let message = Message::Event(Event::new(occasion, machine));
            self.send(&serde_json::to_string(&message).unwrap());
        }

        fn log(&self) -> String {
            std::fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
        }

        fn wait_for(&self, is_so: impl Fn(&Self) -> bool) {
            wait_for(Duration::from_secs(60), || is_so(self));
            assert!(is_so(self), "{}", self.log());
        }

        /// The server ends. Gives what the process has told, what it has recorded, and what its hooks have.
        fn end(self) -> (Vec<String>, Vec<Transcript>, String) {
            let Self { place, ours, runner } = self;
            drop(ours);
            let told = runner.join().unwrap();
            let log = std::fs::read_to_string(place.path().join("log")).unwrap_or_default();
            (told, Records::in_state(place.path()).read().unwrap(), log)
        }
    }

    #[test]
    fn events_are_run_until_the_server_ends_and_what_is_refused_is_recorded() {
        let hooks =
            [("up.d/10-say", "echo $NETBE_MACHINE", 0o755), ("lost.d/10-open", "exit 0", 0o757)];
        let bench = Bench::start(&hooks, Vec::new());
        bench.send("{\"event\":\"garbage\"}");
        for event in [Occasion::Up, Occasion::Leased, Occasion::Lost] {
            bench.tell(event, "web1");
        }
        let records = Records::in_state(bench.place.path());
        bench.wait_for(|_| records.read().unwrap().len() == 2);
        let (told, transcripts, _) = bench.end();
        assert_eq!(told, [""; 0]);
        let [up, lost] = <[_; 2]>::try_from(transcripts).unwrap();
        assert_eq!((up.outcome, up.runs[0].said.as_str()), (Outcome::Done, "web1"));
        assert!(matches!(lost.outcome, Outcome::Refused { reason } if reason.contains("10-open")));
    }

    #[test]
    fn at_the_end_a_hook_has_its_time_and_what_waits_is_told_by_name_and_count() {
        let hooks = [("up.d/10-slow", "note begun; sleep 2; note done", 0o755)];
        let bench = Bench::start(&hooks, Vec::new());
        for machine in 0..WORKERS {
            bench.tell(Occasion::Up, &format!("web{machine}"));
        }
        bench.wait_for(|bench| bench.log().matches("begun").count() == WORKERS);
        for machine in 0..10 {
            bench.tell(Occasion::Up, &format!("db{machine}"));
        }
        // It has no hooks.
        bench.tell(Occasion::Lost, "web1");
        let (told, transcripts, log) = bench.end();
        assert_eq!(log.matches("done").count(), WORKERS, "{log}");
        assert!(transcripts.iter().all(|one| one.outcome == Outcome::Done), "{transcripts:?}");
        let names = (0..8).map(|number| format!("up of db{number}")).collect::<Vec<_>>().join(", ");
        assert_eq!(told, [format!("netbe ends, and runs no hooks of 10 events ({names}, ...)")]);
    }

    #[test]
    fn what_is_being_undone_when_the_server_ends_is_undone_within_a_bound() {
        let undo = "note $1; test $1 = do || { sleep 7; note undone; }";
        let hooks = [
            ("up.d/10-a", undo, 0o755),
            ("up.d/20-fails", "test $1 = undo", 0o755),
            ("lost.d/10-a", "note $1; test $1 = do || sleep 600", 0o755),
            ("lost.d/20-hangs", "test $1 = undo || sleep 600", 0o755),
        ];
        let bench = Bench::start(&hooks, Vec::new());
        bench.tell(Occasion::Up, "web1");
        bench.tell(Occasion::Lost, "web2");
        bench.wait_for(|bench| {
            bench.log().contains("up/10-a undo") && bench.log().contains("lost/10-a do")
        });
        let begin = Instant::now();
        let (_, mut transcripts, log) = bench.end();
        // Longer than a hook that does something may take.
        assert!(log.contains("up/10-a undone"), "{log}");
        assert!(begin.elapsed() < Duration::from_secs(60));
        transcripts.sort_by_key(|one| one.event.machine.clone());
        let [undone, hung] = <[_; 2]>::try_from(transcripts).unwrap();
        assert_eq!(undone.not_undone(), [""; 0]);
        assert_eq!(hung.not_undone(), ["lost/10-a"]);
    }

    #[test]
    fn what_webhooks_have_not_sent_is_told_at_the_end() {
        let (url, requests) = server(&[500]);
        let name = Some("pager".to_owned());
        let raw = webhook::Raw { name, url: url.clone().into(), ..webhook::Raw::default() };
        let bench = Bench::start(&[], vec![Webhook::try_from(raw).unwrap()]);
        bench.tell(Occasion::Up, "web1");
        bench.tell(Occasion::Up, "web2");
        requests.recv().unwrap();
        let (told, ..) = bench.end();
        let expected = format!(
            "pager ({url}): netbe ends, and has not sent 2 events (up of web1, up of web2)"
        );
        assert_eq!(told, [expected]);
        assert!(requests.recv().is_ok(), "it was tried again as long as there was time");
    }

    #[test]
    fn what_waits_for_a_webhook_is_sent_before_the_end() {
        let (url, requests) = server(&[204]);
        let raw = webhook::Raw { url: url.into(), ..webhook::Raw::default() };
        let bench = Bench::start(&[], vec![Webhook::try_from(raw).unwrap()]);
        for machine in ["web1", "web2"] {
            bench.tell(Occasion::Lost, machine);
        }
        assert_eq!(bench.end().0, [""; 0]);
        assert_eq!(requests.iter().take(2).count(), 2);
    }

    #[test]
    fn a_message_is_bounded() {
        let endless = io::repeat(b'a');
        let error = line(&mut BufReader::new(endless)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(line(&mut BufReader::new(&b"half"[..])).unwrap(), None);
    }
}

//! Programs of this host that verbs run, one after the other, each to its end.
//!
//! A verb that has set something up on the host for a program has to take it down again, also when
//! it is asked to end: so signals do not end it while it runs one, but are passed on.
//!
//! What does not take long is a [`Call`] of the crate `child`. A guest's own program is none of those: it
//! has the terminal or a socket for its output, lives as long as it likes, is asked to end in a way of its own, and
//! may outlive this process.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ::child::{Call, Error, Limit, Why};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time;

use super::Failure;
use crate::guests::Process;

/// What runs programs: this host, or a test that notes them down.
pub(crate) trait Runner {
    /// Runs a program that takes so long at most, and gives what it wrote. No signal reaches it.
    fn ask(&mut self, words: &[String], limit: Duration) -> Result<Vec<u8>, Error>;

    /// Runs a program for as long as it takes. When somebody asks for the end meanwhile it is asked to end,
    /// by SIGTERM unless a [`Keeper`] knows better, and killed if it has not ended after [`GRACE`] or at the
    /// second time.
    fn run(&mut self, command: Command, terminal: Terminal) -> io::Result<ExitStatus>;

    /// Whether somebody has asked for the end.
    fn is_stopping(&mut self) -> bool;

    /// Whether a file is there.
    fn exists(&mut self, path: &Path) -> bool;

    /// Notes the interface that was made for a guest and has to be removed, or that there is none any more.
    fn made(&mut self, interface: Option<&str>) {
        let _ = interface;
    }

    /// Waits for so long, or until somebody asks for the end.
    fn pause(&mut self, time: Duration) {
        let _ = time;
    }

    /// How long a guest may take to end; asked when it is.
    fn grace(&mut self) -> Duration {
        GRACE
    }

    /// Notes that a guest without a program of its own is about to be asked to end.
    fn asked(&mut self) {}

    /// Notes that a guest is ended by force.
    fn killed(&mut self) {}
}

/// What runs a command, as [`ask`] does.
pub(crate) type Ask<'a> = dyn FnMut(&[String]) -> Result<Vec<u8>, Error> + 'a;

/// Whose the terminal is while a program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Terminal {
    /// The program's too: it reads it, and is interrupted by it.
    Shared,
    /// The verb's alone. The program has no input, and Ctrl-C reaches the verb only.
    Own,
    /// The verb's alone, and the program has another one, which its command names.
    Other,
}

/// A program that runs.
#[derive(Debug)]
pub(crate) enum Program<'a> {
    /// A child of this process. Until this process has asked how it ended its number is nobody else's, so that nothing
    /// has to be found out before it is sent a signal.
    Own(Pid),
    /// What another process has started, and left.
    Left(&'a Process),
}

impl Program<'_> {
    /// Sends it a signal; says whether it was there.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<bool> {
        match self {
            Self::Own(pid) => match kill_process(*pid, signal) {
                Ok(()) => Ok(true),
                Err(Errno::SRCH) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Self::Left(process) => process.signal(signal),
        }
    }
}

/// What knows more of the programs that are run than [`ThisHost`] does.
pub(crate) trait Keeper {
    /// A program has begun.
    fn began(&mut self, process: &Process);

    /// Asks the program to end.
    fn ask(&mut self, program: &Program<'_>);

    /// A guest without a program of its own is about to be asked to end.
    fn asked(&mut self) {}

    /// How long it may take to end; asked when it is.
    fn grace(&mut self) -> Duration;

    /// The program is killed.
    fn killed(&mut self);

    /// An interface was made that has to be removed, or there is none any more.
    fn made(&mut self, interface: Option<&str>);
}

/// A program is asked by SIGTERM, and may take [`GRACE`].
#[derive(Clone, Copy, Debug)]
struct Plain;

impl Keeper for Plain {
    fn began(&mut self, _process: &Process) {}

    fn ask(&mut self, program: &Program<'_>) {
        // It may be gone: then there is nothing to tell.
        let _ = program.signal(Signal::TERM);
    }

    fn grace(&mut self) -> Duration {
        GRACE
    }

    fn killed(&mut self) {}

    fn made(&mut self, _interface: Option<&str>) {}
}

/// The command that these words are.
pub(crate) fn command(words: &[String]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command.args(words);
    command
}

/// Runs a command that ends within its time, and gives what it wrote. Ctrl-C does not reach it.
pub(crate) fn ask(words: &[String], limit: Duration) -> Result<Vec<u8>, Error> {
    let call = Call::line(words, Limit::Within(limit));
    call.prepared(|command| {
        command.process_group(0);
    })
    .run()
}

/// Why a command was not done, in a sentence that ends with what it said, or with `advice`.
pub(crate) fn not_done(shown: &str, error: &Error, advice: &str) -> Failure {
    if error.why == Why::Absent {
        let program = shown.split(' ').next().unwrap_or(shown);
        return Failure::could_not(format_args!("{program} is not installed: install it"));
    }
    let said = error.said.split_whitespace().collect::<Vec<_>>().join(" ");
    Failure::could_not(match advice {
        "" => format!("`{shown}` failed: {said}"),
        advice => format!("`{shown}` failed ({said}): {advice}"),
    })
}

/// Why a program does not run, in a sentence.
pub(crate) fn cannot_run(program: &str, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::NotFound {
        Failure::could_not(format_args!("{program} is not installed: install it"))
    } else {
        Failure::could_not(format_args!("cannot run {program}: {error}"))
    }
}

/// This host. From when it is made until it is dropped, signals that end a program only ask for the end.
pub(crate) struct ThisHost {
    runtime: Runtime,
    signals: [Signals; 3],
    asked: u32,
    keeper: Box<dyn Keeper>,
}

impl ThisHost {
    /// Begins to listen for signals.
    pub(crate) fn new() -> Result<Self, Failure> {
        Self::kept_by(Box::new(Plain))
    }

    /// The same, with somebody who knows more of the programs.
    pub(crate) fn kept_by(keeper: Box<dyn Keeper>) -> Result<Self, Failure> {
        let prepare = || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let entered = runtime.enter();
            let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
            let [terminate, interrupt, hang_up] = kinds.map(signal);
            drop(entered);
            Ok(Self { runtime, signals: [terminate?, interrupt?, hang_up?], asked: 0, keeper })
        };
        prepare().map_err(|error: io::Error| {
            Failure::could_not(format_args!("cannot listen for signals: {error}"))
        })
    }

    /// Waits for a signal, at most for so long; notes it.
    fn listen(&mut self, limit: Duration) {
        let [terminate, interrupt, hang_up] = &mut self.signals;
        let came = self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = terminate.recv() => true,
                _ = interrupt.recv() => true,
                _ = hang_up.recv() => true,
                () = pin!(time::sleep(limit)) => false,
            }
        });
        self.asked += u32::from(came);
    }

    /// Whether somebody has asked for the end, as far as it was noticed.
    pub(crate) const fn is_asked(&self) -> bool {
        self.asked > 0
    }

    /// Asks for the end, as a signal does.
    pub(crate) const fn ask_for_the_end(&mut self) {
        self.asked += 1;
    }

    /// Waits for the end of a program that another process has started and left, as [`Runner::run`] does.
    pub(crate) fn follow(&mut self, process: &Process) -> io::Result<()> {
        let ended = &mut || Ok((!process.is_alive()).then_some(()));
        self.attend(&Program::Left(process), ended)
    }

    /// Waits until a program has ended, and has it end when somebody asks for that.
    fn attend<T>(
        &mut self,
        program: &Program<'_>,
        ended: &mut dyn FnMut() -> io::Result<Option<T>>,
    ) -> io::Result<T> {
        let (mut told, mut limit, mut late, mut killed) = (0, None, false, false);
        loop {
            if let Some(ended) = ended()? {
                return Ok(ended);
            }
            if self.asked > told && told == 0 {
                let grace = self.keeper.grace();
                if !grace.is_zero() {
                    self.keeper.ask(program);
                }
                limit = Some(Instant::now() + grace);
                told = self.asked;
            }
            if self.asked > told || limit.is_some_and(|limit| limit <= Instant::now()) {
                if !late {
                    self.keeper.killed();
                }
                late = true;
                // What cannot be looked at now goes on: it is tried again.
                killed = killed || program.signal(Signal::KILL).is_ok();
            }
            self.listen(BEAT);
        }
    }
}

impl std::fmt::Debug for ThisHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThisHost").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Runner for ThisHost {
    fn ask(&mut self, words: &[String], limit: Duration) -> Result<Vec<u8>, Error> {
        ask(words, limit)
    }

    fn run(&mut self, mut command: Command, terminal: Terminal) -> io::Result<ExitStatus> {
        match terminal {
            Terminal::Shared => {}
            Terminal::Own => {
                command.stdin(Stdio::null()).process_group(0);
            }
            Terminal::Other => {
                command.process_group(0);
            }
        }
        let mut child = command.spawn()?;
        // What it was given is its own.
        drop(command);
        let id = i32::try_from(child.id()).map_err(io::Error::other)?;
        // Until somebody asks how it ended its number is nobody else's.
        let process = loop {
            match Process::by_pid(id) {
                Ok(Some(process)) => break process,
                Ok(None) => return child.wait(),
                // It may run: whoever asks for its end meanwhile is heard afterwards.
                Err(_) => match child.try_wait()? {
                    Some(ended) => return Ok(ended),
                    None => self.listen(BEAT),
                },
            }
        };
        self.keeper.began(&process);
        let own = Pid::from_child(&child);
        self.attend(&Program::Own(own), &mut || child.try_wait())
    }

    fn is_stopping(&mut self) -> bool {
        self.listen(Duration::ZERO);
        self.asked > 0
    }

    fn exists(&mut self, path: &Path) -> bool {
        path.exists()
    }

    fn made(&mut self, interface: Option<&str>) {
        self.keeper.made(interface);
    }

    fn pause(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while self.asked == 0 && Instant::now() < until {
            self.listen(until.saturating_duration_since(Instant::now()));
        }
    }

    fn grace(&mut self) -> Duration {
        self.keeper.grace()
    }

    fn asked(&mut self) {
        self.keeper.asked();
    }

    fn killed(&mut self) {
        self.keeper.killed();
    }
}

/// How long a program, and the guest that it runs, may take to end when it is asked to.
pub(crate) const GRACE: Duration = Duration::from_secs(90);
/// How long a command may take that makes, removes or looks at something of this host.
pub(crate) const ANSWER: Duration = Duration::from_secs(60);
/// How often it is looked whether a program has ended.
const BEAT: Duration = Duration::from_millis(50);

#[cfg(test)]
pub(super) mod test {
    use std::os::unix::process::ExitStatusExt;
    use std::sync::Mutex;

    use super::*;

    /// Signals belong to a whole process: of the tests that send some, one runs at a time.
    pub(crate) static SIGNALS: Mutex<()> = Mutex::new(());

    #[test]
    fn a_signal_ends_the_program_and_not_the_verb() {
        let _alone = SIGNALS.lock().unwrap();
        let mut host = ThisHost::new().unwrap();
        assert_eq!(host.ask(&words("echo word"), ANSWER).unwrap(), b"word\n");
        let error = host.ask(&words("echo why >&2; exit 3"), ANSWER).unwrap_err();
        assert!(matches!(error.why, Why::Ended(status) if status.code() == Some(3)));
        assert_eq!(not_done("sh -c", &error, "").message, "`sh -c` failed: why");
        assert!(!host.is_stopping());
        // The program asks this process to end, as an administrator would.
        let script = "trap 'exit 5' TERM; kill -TERM $PPID; while :; do sleep 0.05; done";
        let status = host.run(sh(script), Terminal::Own).unwrap();
        assert_eq!(status.code(), Some(5));
        assert!(host.is_stopping());
        // What does not listen is killed when somebody asks again.
        let mut host = ThisHost::new().unwrap();
        let script = "trap '' TERM; while :; do kill -INT $PPID; sleep 0.2; done";
        let status = host.run(sh(script), Terminal::Own).unwrap();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
        // What takes things down is told nothing.
        host.ask(&words("sleep 0.1"), ANSWER).unwrap();
    }

    #[test]
    fn of_an_own_child_nothing_has_to_be_found_out_before_it_is_killed() {
        let mut child = sh("sleep 600").spawn().unwrap();
        let (pid, own) = (child.id().try_into().unwrap(), Pid::from_child(&child));
        let other = Process { pid, started: "c0ffee 1".to_owned() };
        assert!(!Program::Left(&other).signal(Signal::KILL).unwrap());
        assert!(child.try_wait().unwrap().is_none());
        assert!(Program::Own(own).signal(Signal::KILL).unwrap());
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }

    #[test]
    fn what_hangs_is_given_up() {
        let mut host = ThisHost::new().unwrap();
        let error = host.ask(&words("sleep 600"), Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.why, Why::Late);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let mut host = ThisHost::new().unwrap();
        let error = host.ask(&["no-such-program".to_owned()], ANSWER).unwrap_err();
        let absent = "no-such-program is not installed: install it";
        assert_eq!(not_done("no-such-program -x", &error, "").message, absent);
        let error = host.run(Command::new("no-such-program"), Terminal::Own).unwrap_err();
        assert_eq!(cannot_run("no-such-program", &error).message, absent);
    }

    fn sh(script: &str) -> Command {
        command(&words(script))
    }

    fn words(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).into()
    }
}

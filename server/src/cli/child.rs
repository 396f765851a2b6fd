//! Programs of this host that verbs run, one after the other, each to its end.
//!
//! A verb that has set something up on the host for a program has to take it down again, also when
//! it is asked to end: so signals do not end it while it runs one, but are passed on.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time;

use super::Failure;

/// What runs programs: this host, or a test that notes them down.
pub(crate) trait Runner {
    /// Runs a program that does not take long, and gives what it wrote. No signal reaches it.
    fn ask(&mut self, command: Command) -> io::Result<Output>;

    /// Runs a program for as long as it takes. When somebody asks for the end meanwhile it is sent
    /// SIGTERM, and killed if it has not ended after [`GRACE`] or at the second time.
    fn run(&mut self, command: Command, terminal: Terminal) -> io::Result<ExitStatus>;

    /// Whether somebody has asked for the end.
    fn is_stopping(&mut self) -> bool;

    /// Whether a file is there.
    fn exists(&mut self, path: &Path) -> bool;
}

/// Whose the terminal is while a program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Terminal {
    /// The program's too: it reads it, and is interrupted by it.
    Shared,
    /// The verb's alone. The program has no input, and Ctrl-C reaches the verb only.
    Own,
}

/// The command that these words are.
pub(crate) fn command(words: &[String]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command.args(words);
    command
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
#[derive(Debug)]
pub(crate) struct ThisHost {
    runtime: Runtime,
    signals: [Signals; 3],
    asked: u32,
}

impl ThisHost {
    /// Begins to listen for signals.
    pub(crate) fn new() -> Result<Self, Failure> {
        let prepare = || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let entered = runtime.enter();
            let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
            let [terminate, interrupt, hang_up] = kinds.map(signal);
            drop(entered);
            Ok(Self { runtime, signals: [terminate?, interrupt?, hang_up?], asked: 0 })
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
}

impl Runner for ThisHost {
    fn ask(&mut self, mut command: Command) -> io::Result<Output> {
        command.stdin(Stdio::null()).process_group(0).output()
    }

    fn run(&mut self, mut command: Command, terminal: Terminal) -> io::Result<ExitStatus> {
        if terminal == Terminal::Own {
            command.stdin(Stdio::null()).process_group(0);
        }
        let mut child = command.spawn()?;
        let id = i32::try_from(child.id()).map_err(io::Error::other)?;
        let (mut told, mut limit) = (0, None);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if self.asked > told && told == 0 {
                // Only after the line above can it have ended and have left its number to another.
                // It may be gone: then there is nothing to tell.
                let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
                limit = Some(Instant::now() + GRACE);
                told = self.asked;
            }
            if self.asked > told || limit.is_some_and(|limit| limit <= Instant::now()) {
                child.kill()?;
                return child.wait();
            }
            self.listen(BEAT);
        }
    }

    fn is_stopping(&mut self) -> bool {
        self.listen(Duration::ZERO);
        self.asked > 0
    }

    fn exists(&mut self, path: &Path) -> bool {
        path.exists()
    }
}

/// How long a program, and the guest that it runs, may take to end when it is asked to.
pub(crate) const GRACE: Duration = Duration::from_secs(90);
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
        let output = host.ask(sh("echo word; echo why >&2; exit 3")).unwrap();
        assert_eq!((output.stdout, output.stderr), (b"word\n".to_vec(), b"why\n".to_vec()));
        assert_eq!(output.status.code(), Some(3));
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
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
        // What takes things down is told nothing.
        let output = host.ask(sh("sleep 0.1")).unwrap();
        assert!(output.status.success());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let mut host = ThisHost::new().unwrap();
        let error = host.ask(Command::new("no-such-program")).unwrap_err();
        assert_eq!(
            cannot_run("no-such-program", &error).message,
            "no-such-program is not installed: install it"
        );
    }

    fn sh(script: &str) -> Command {
        command(&["sh".to_owned(), "-c".to_owned(), script.to_owned()])
    }
}

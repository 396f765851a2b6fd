//! Other programs: run to their end within a limit, or kept running until dropped.
//!
//! Each gets a process group of its own, so that Ctrl-C reaches only the lab, which then ends them,
//! and so that whatever they started ends with them. A long-running one is told to die with the lab,
//! even when the lab is killed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::failure::{During, Failure};
use crate::interrupt;

/// A program and its arguments, ready to be started.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    name: String,
}

impl Program {
    /// A program by name or path.
    pub(crate) fn new(name: impl AsRef<OsStr>) -> Self {
        let label = Path::new(name.as_ref()).file_name().map_or_else(
            || name.as_ref().to_string_lossy().into_owned(),
            |file| file.to_string_lossy().into_owned(),
        );
        let mut command = Command::new(name);
        command.process_group(0).env("LC_ALL", "C.UTF-8");
        Self { command, name: label }
    }

    /// A program that `prefix` starts, such as `nsenter`; messages name the program, not the prefix.
    pub(crate) fn under(prefix: &[String], name: &str) -> Self {
        let mut words = prefix.iter();
        let Some(first) = words.next() else { return Self::new(name) };
        let mut program = Self::new(first).args(words).arg(name);
        program.name =
            Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        program
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds the words of a line, which are separated by spaces.
    pub(crate) fn words(self, line: &str) -> Self {
        self.args(line.split_whitespace())
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in this directory.
    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it to its end, however that is, and gives what it wrote; it is killed after `limit`.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<Finished, Failure> {
        let name = self.name.clone();
        let mut stdout = tempfile::tempfile().during("scratch file")?;
        let mut stderr = tempfile::tempfile().during("scratch file")?;
        self.command.stdin(Stdio::null());
        self.command.stdout(stdout.try_clone().during("scratch file")?);
        self.command.stderr(stderr.try_clone().during("scratch file")?);
        let mut running = self.spawn()?;
        let status = running.wait(limit)?;
        Ok(Finished { name, status, stdout: text(&mut stdout)?, stderr: text(&mut stderr)? })
    }

    /// Runs it to its end; anything but success is a failure. Gives its standard output.
    pub(crate) fn run(self, limit: Duration) -> Result<String, Failure> {
        self.finish(limit)?.success()
    }

    /// Starts it; what it writes, on both streams, goes to the end of the file `log`.
    pub(crate) fn start(mut self, log: &Path) -> Result<Running, Failure> {
        let file = File::options().create(true).append(true).open(log).during(log.display())?;
        self.command.stdin(Stdio::null());
        self.command.stdout(file.try_clone().during(log.display())?);
        self.command.stderr(file);
        self.spawn()
    }

    /// Starts it; what it writes is shown to whoever watches the lab.
    pub(crate) fn show(mut self) -> Result<Running, Failure> {
        self.command.stdin(Stdio::null());
        self.spawn()
    }

    fn spawn(mut self) -> Result<Running, Failure> {
        let child =
            self.command.spawn().during(format_args!("cannot start {}", self.name.as_str()))?;
        Ok(Running { child, name: self.name })
    }
}

/// A program that came to its end.
#[derive(Debug)]
pub(crate) struct Finished {
    name: String,
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote to its standard output.
    pub(crate) stdout: String,
    /// What it wrote to its standard error.
    pub(crate) stderr: String,
}

impl Finished {
    /// Its standard output if it succeeded; otherwise a failure with the end of what it said.
    pub(crate) fn success(self) -> Result<String, Failure> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        Err(Failure::Said(format!("{}: {}: {}", self.name, self.status, last_lines(said, 20))))
    }
}

/// A program that runs; it is killed, with everything in its process group, when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child.try_wait().during(&self.name)
    }

    /// Fails in the last words of its log if it has ended.
    pub(crate) fn still(&mut self, log: &Path) -> Result<(), Failure> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                Err(Failure::Said(format!("{} ended: {status}: {}", self.name, tail(log, 5))))
            }
        }
    }

    /// Waits for its end; after `limit`, or when the lab is interrupted, it is killed.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus, Failure> {
        let what = format!("the end of {}", self.name);
        let result = interrupt::wait_for(&what, limit, || self.ended());
        if result.is_err() {
            self.kill();
        }
        result
    }

    /// Ends it and its process group with SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGKILL);
            drop(self.child.wait());
        }
    }

    /// Asks it by SIGTERM to end, and kills it when it has not after `limit`.
    pub(crate) fn terminate(&mut self, limit: Duration) -> Result<ExitStatus, Failure> {
        self.signal(Signal::SIGTERM);
        self.wait(limit)
    }

    /// Ends it as Ctrl-C would, so that it leaves the terminal in order; kills it after `limit`.
    pub(crate) fn interrupt(&mut self, limit: Duration) -> Result<ExitStatus, Failure> {
        self.signal(Signal::SIGINT);
        self.wait(limit)
    }

    /// Asks it by SIGTERM to end, and waits for that even when the lab is interrupted; kills it when it
    /// has not after `limit`.
    pub(crate) fn dismiss(&mut self, limit: Duration) {
        let begin = Instant::now();
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
        }
        while begin.elapsed() < limit && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    /// Stops it where it is, until [`Running::go_on`].
    pub(crate) fn pause(&self) -> Result<(), Failure> {
        self.send(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) -> Result<(), Failure> {
        self.send(Signal::SIGCONT)
    }

    fn send(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id()).map_err(|_error| Failure::said("a process id"))?;
        killpg(Pid::from_raw(pid), signal).map_err(io::Error::from).during(&self.name)
    }

    fn signal(&self, signal: Signal) {
        // A process that has ended meanwhile is what was wanted.
        drop(self.send(signal));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The words that make the kernel kill a program when the lab's own process ends.
///
/// Linux sends this signal when the *thread* that started the program ends, so long-running
/// programs must be started by the first thread of the lab, or of a test.
pub(crate) const DIES_WITH_THE_LAB: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// The last `count` lines of a text, for a message.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

/// The last lines of a log file, for a message; empty when there is none.
pub(crate) fn tail(log: &Path, count: usize) -> String {
    last_lines(&String::from_utf8_lossy(&fs::read(log).unwrap_or_default()), count)
}

fn text(file: &mut File) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).during("scratch file")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let failure = Program::new("sleep").arg("60").finish(Duration::from_millis(50));
        assert_eq!(failure.unwrap_err().to_string(), "the end of sleep: not within 0 s");
    }

    #[test]
    fn a_program_that_is_dismissed_may_clean_up() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let script = "trap 'echo clean; exit' TERM; echo ready; while :; do sleep 0.01; done";
        let mut running = Program::new("sh").args(["-c", script]).start(&log).unwrap();
        while tail(&log, 1) != "ready" {
            thread::sleep(Duration::from_millis(10));
        }
        running.dismiss(Duration::from_secs(10));
        assert_eq!(tail(&log, 1), "clean");
    }

    #[test]
    fn what_a_failed_program_said_is_told() {
        let failure = Program::new("sh").args(["-c", "echo why >&2; exit 3"]);
        let failure = failure.run(Duration::from_secs(10)).unwrap_err().to_string();
        assert!(failure.contains("sh: exit status: 3: why"), "{failure}");
    }
}

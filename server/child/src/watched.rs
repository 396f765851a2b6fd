//! A program that is watched to its end: what it says is kept as it comes, in a bounded piece, and its end
//! is that of all that it has started.
//!
//! [`Call::run`] waits for the end of what a program writes, which never comes while a program that it left
//! behind holds its output open. Programs of administrators do that.

use std::fmt;
use std::io::{self, PipeReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::process::{Signal, kill_process_group};

use crate::{Call, Error, Limit, Running, Why, error};

/// How a program came to its end, and what it said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// The last of what it wrote, on its standard output and its standard error. A terminal obeys nothing
    /// of it.
    pub said: String,
    /// How long it ran.
    pub took: Duration,
}

/// How a program came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It did not come to its end in its time, and was killed.
    Late,
}

impl Status {
    /// Whether it did what it was asked to do.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Killed(signal) => write!(f, "killed by signal {signal}"),
            Self::Late => f.write_str("killed, because it took too long"),
        }
    }
}

impl From<ExitStatus> for Status {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, signal) => Self::Killed(signal.unwrap_or_default()),
        }
    }
}

impl Call {
    /// Runs it to its end with `input` as its standard input, in a process group of its own, and keeps at
    /// most the last `keep` bytes of what it says. Whatever is left of the group then is killed, so that
    /// nothing of it goes on. `is_over` is asked now and then whether it is to be killed before its time.
    ///
    /// # Errors
    ///
    /// It was not started, or cannot be waited for. One that fails is no error.
    pub fn watch(
        mut self,
        input: Vec<u8>,
        keep: usize,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Outcome, Error> {
        let failed = |call: &Self, error: io::Error| call.error(Why::Start, error.to_string());
        let limit = self.limit;
        let (reader, writer) = io::pipe().map_err(|error| failed(&self, error))?;
        let other = writer.try_clone().map_err(|error| failed(&self, error))?;
        ioctl_fionbio(&reader, true).map_err(|error| failed(&self, error.into()))?;
        self = self.piped();
        let mut command = self.command()?;
        command.stdout(writer).stderr(other).process_group(0);
        let mut running = self.spawn(command)?;
        let group = running.id();
        running.write_stdin(input)?;
        let mut said = Said { reader: Some(reader), bytes: Vec::new(), keep };
        let begin = Instant::now();
        let status = follow(&mut running, &mut said, || {
            let late = matches!(limit, Limit::Within(limit) if begin.elapsed() >= limit);
            late || is_over()
        });
        // What it has started is in its group, unless it has taken leave of it.
        if let Some(group) = group {
            // Mostly nothing is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = match status? {
            Some(status) => status.into(),
            None => {
                running.kill();
                Status::Late
            }
        };
        said.read();
        Ok(Outcome { status, said: error::said(&said.bytes), took: begin.elapsed() })
    }
}

/// Waits for the end of a program, and takes what it says; gives nothing when its time is over.
fn follow(
    running: &mut Running,
    said: &mut Said,
    is_over: impl Fn() -> bool,
) -> Result<Option<ExitStatus>, Error> {
    let mut pause = SHORTEST;
    loop {
        if let Some(status) = running.ended()? {
            return Ok(Some(status));
        }
        if is_over() {
            return Ok(None);
        }
        if said.wait(pause) {
            pause = SHORTEST;
        } else {
            pause = LONGEST.min(pause * 2);
        }
    }
}

/// What a program has said so far.
struct Said {
    /// None when nobody can say any more.
    reader: Option<PipeReader>,
    bytes: Vec<u8>,
    keep: usize,
}

impl Said {
    /// Waits so long for more, and takes it; says whether there was any.
    fn wait(&mut self, pause: Duration) -> bool {
        let Some(reader) = &self.reader else {
            thread::sleep(pause);
            return false;
        };
        let limit = Timespec::try_from(pause).ok();
        match poll(&mut [PollFd::new(reader, PollFlags::IN)], limit.as_ref()) {
            Ok(0) | Err(_) => false,
            Ok(_) => self.read(),
        }
    }

    /// Takes what there is, at most what a pipe holds; says whether there was any.
    fn read(&mut self) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        let mut piece = vec![0; PIECE];
        match reader.read(&mut piece) {
            Ok(0) => {
                self.reader = None;
                false
            }
            Ok(got) => {
                self.bytes.extend(piece.iter().take(got));
                let spare = self.bytes.len().saturating_sub(self.keep);
                self.bytes.drain(..spare);
                true
            }
            Err(_) => false,
        }
    }
}

/// How often it is looked whether a program has ended that says nothing.
const SHORTEST: Duration = Duration::from_micros(500);
const LONGEST: Duration = Duration::from_millis(50);
/// What a pipe holds at most (pipe(7)).
const PIECE: usize = 64 << 10;

#[cfg(test)]
mod test {
    use rustix::process::Pid;

    use super::*;

    fn shell(script: &str, limit: Duration) -> Outcome {
        let call = Call::new("sh", Limit::Within(limit)).option("-c", script);
        call.watch(b"word\n".to_vec(), 64, &|| false).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_program_says_and_how_it_ends_are_known() {
        let outcome = shell("read line; echo said $line; echo wrong >&2; exit 3", LONG);
        assert_eq!((outcome.status, &*outcome.said), (Status::Exited(3), "said word\nwrong"));
        let outcome = shell("kill -9 $$", LONG);
        assert_eq!((outcome.status, &*outcome.said), (Status::Killed(9), ""));
    }

    #[test]
    fn who_leaves_a_program_behind_ends_and_that_is_killed() {
        let outcome = shell("sleep 600 & echo $!", LONG);
        assert!(outcome.status.is_success() && outcome.took < LONG);
        let left = outcome.said.parse().ok().and_then(Pid::from_raw).unwrap();
        let is_gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{left}/stat"));
            // Who is to reap it may take its time.
            stat.map_or(true, |stat| stat.contains(" Z "))
        };
        let begin = Instant::now();
        while cfg!(target_os = "linux") && !is_gone() && begin.elapsed() < LONG {
            thread::sleep(LONGEST);
        }
        assert!(cfg!(not(target_os = "linux")) || is_gone());
    }

    #[test]
    fn one_that_hangs_is_killed_with_all_that_it_has_started() {
        let outcome = shell("echo begun; sleep 600", Duration::from_millis(300));
        assert_eq!((outcome.status, &*outcome.said), (Status::Late, "begun"));
        let call = Call::new("sh", Limit::None).option("-c", "sleep 600");
        let outcome = call.watch(Vec::new(), 64, &|| true).unwrap();
        assert_eq!(outcome.status, Status::Late);
    }

    #[test]
    fn of_much_that_is_said_the_last_is_kept() {
        let outcome = shell("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done", LONG);
        assert!(outcome.said.ends_with("line 2999") && outcome.said.len() <= 64);
    }

    #[test]
    fn a_program_may_have_variables_of_its_own_and_no_others() {
        let call = Call::new("sh", Limit::Within(LONG)).option("-c", "echo $NAME $HOME-");
        let outcome = call.environment([("NAME", "web1")]).watch(Vec::new(), 64, &|| false);
        assert_eq!(outcome.unwrap().said, "web1 -");
    }
}

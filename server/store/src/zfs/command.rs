//! zfs(8) and zpool(8) as programs: run with a limit in time, their refusals told apart.
//!
//! Always with `-H` and `-p`, explicit columns, and in the C locale, whose messages are the ones that
//! [`Refusal`] knows. Data sets' names may have spaces in them: columns are split at tabs only.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A program of ZFS and its arguments, ready to be run.
#[derive(Debug)]
pub(super) struct Task {
    command: Command,
    words: Vec<String>,
    limit: Option<Duration>,
}

impl Task {
    /// zfs(8) with a subcommand.
    pub(super) fn zfs(subcommand: &'static str) -> Self {
        Self::program("zfs").arg(subcommand)
    }

    /// zpool(8) with a subcommand.
    pub(super) fn zpool(subcommand: &'static str) -> Self {
        Self::program("zpool").arg(subcommand)
    }

    fn program(name: &'static str) -> Self {
        let path = search_path();
        // By its whole path it is started by posix_spawn(3). By a name that has to be looked for in another
        // PATH it would be by fork(2), which copies the page tables of a server with much memory, and has
        // each of its pages fault at the next write.
        let mut directories = env::split_paths(&path).map(|directory| directory.join(name));
        let program = directories.find(|program| program.is_file());
        let mut command = Command::new(program.unwrap_or_else(|| name.into()));
        command.env("LC_ALL", "C").env("PATH", path).stdin(Stdio::null());
        Self { command, words: vec![name.to_owned()], limit: Some(LIMIT) }
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, arg: impl AsRef<str>) -> Self {
        self.command.arg(arg.as_ref());
        self.words.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub(super) fn args(self, args: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Adds an option `-o name=value`.
    pub(super) fn property(self, name: &str, value: &str) -> Self {
        self.arg("-o").arg(format!("{name}={value}"))
    }

    /// Sets how long it may take: two minutes at first.
    pub(super) const fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// In a process group of its own and without a limit in time: neither Ctrl-C, nor the end of a
    /// terminal, nor this process ends it.
    pub(super) fn uninterrupted(mut self) -> Self {
        self.command.process_group(0);
        self.limit = None;
        self
    }

    /// What it does, as a person would type it.
    pub(super) fn describe(&self) -> String {
        self.words.join(" ")
    }

    /// Runs it to its end; gives what it wrote.
    pub(super) fn run(self) -> Result<String, Failure> {
        let (text, failure) = self.run_on()?;
        failure.map_or(Ok(text), Err)
    }

    /// Runs it to its end; gives what it wrote, even if there was something that it refused.
    pub(super) fn run_on(self) -> Result<(String, Option<Failure>), Failure> {
        let mut running = self.start(false)?;
        let stdout = running.collect_stdout();
        let text = running.receive(&stdout)?;
        Ok((text, running.end().err()))
    }

    /// Runs it with `input` as its standard input.
    pub(super) fn feed(self, input: &[u8]) -> Result<String, Failure> {
        let mut running = self.start(true)?;
        let stdout = running.collect_stdout();
        if let Some(mut stdin) = running.stdin() {
            // It may refuse before it has read everything: then what it says is the reason.
            let _ = stdin.write_all(input);
        }
        let text = running.receive(&stdout)?;
        running.end()?;
        Ok(text)
    }

    /// Runs it for as long as it takes, and copies what it writes to `out`.
    pub(super) fn copy_to(self, out: &mut dyn Write) -> Result<(), CopyError> {
        let mut running = self.start(false)?;
        let Some(mut stdout) = running.stdout() else { return Ok(()) };
        let copied = copy(&mut stdout, out);
        drop(stdout);
        // Without a reader it ends by itself; with one it has come to its end.
        if copied.is_err() {
            running.kill();
        }
        copied.map_err(CopyError::Other)?;
        running.finish(None).map_err(CopyError::Task)
    }

    /// Runs it for as long as it takes, with all of `from` as its standard input.
    ///
    /// When `from` fails it is killed, so that it does not take what came so far for everything.
    pub(super) fn copy_from(self, from: &mut dyn Read) -> Result<(), CopyError> {
        let mut running = self.start(true)?;
        let stdout = running.collect_stdout();
        if let Some(mut stdin) = running.stdin() {
            let mut buffer = vec![0; BUFFER];
            loop {
                let len = match from.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(len) => len,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        running.kill();
                        return Err(CopyError::Other(error));
                    }
                };
                if stdin.write_all(buffer.get(..len).unwrap_or_default()).is_err() {
                    // It has ended: its words are the reason.
                    break;
                }
            }
        }
        drop(stdout);
        running.finish(None).map_err(CopyError::Task)
    }

    fn start(mut self, input: bool) -> Result<Running, Failure> {
        if input {
            self.command.stdin(Stdio::piped());
        }
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let task = self.describe();
        if is_stuck() {
            let said = "one that was killed still waits inside the kernel".to_owned();
            return Err(Failure { task, refusal: Refusal::Hangs, said });
        }
        let mut child = self.command.spawn().map_err(|error| {
            let absent = error.kind() == io::ErrorKind::NotFound;
            let refusal = if absent { Refusal::NoProgram } else { Refusal::Other };
            Failure { task: task.clone(), refusal, said: error.to_string() }
        })?;
        let stderr = child.stderr.take().map(collect);
        Ok(Running { child: Some(child), task, stderr, begin: Instant::now(), limit: self.limit })
    }
}

/// A program that runs; it is killed when dropped, unless it must come to its end.
#[derive(Debug)]
struct Running {
    child: Option<Child>,
    task: String,
    stderr: Option<Receiver<Vec<u8>>>,
    begin: Instant,
    limit: Option<Duration>,
}

impl Running {
    fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.as_mut().and_then(|child| child.stdin.take())
    }

    fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.as_mut().and_then(|child| child.stdout.take())
    }

    fn collect_stdout(&mut self) -> Option<Receiver<Vec<u8>>> {
        self.stdout().map(collect)
    }

    fn receive(&mut self, stream: &Option<Receiver<Vec<u8>>>) -> Result<String, Failure> {
        let Some(stream) = stream else { return Ok(String::new()) };
        let bytes = match self.limit {
            None => stream.recv().unwrap_or_default(),
            Some(limit) => {
                let Ok(bytes) = stream.recv_timeout(limit.saturating_sub(self.begin.elapsed()))
                else {
                    self.kill();
                    let said = format!("no answer within {} s", limit.as_secs());
                    return Err(Failure { task: self.task.clone(), refusal: Refusal::Hangs, said });
                };
                bytes
            }
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits for its end within the limit.
    fn end(self) -> Result<(), Failure> {
        let limit = self.limit;
        self.finish(limit)
    }

    /// Waits for its end, and gives what it refused.
    fn finish(mut self, limit: Option<Duration>) -> Result<(), Failure> {
        let said = match (self.stderr.take(), limit) {
            (None, _) => String::new(),
            (Some(stderr), Some(_)) => self.receive(&Some(stderr))?,
            (Some(stderr), None) => {
                String::from_utf8_lossy(&stderr.recv().unwrap_or_default()).into_owned()
            }
        };
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let status = child.wait().map_err(|error| Failure {
            task: self.task.clone(),
            refusal: Refusal::Other,
            said: error.to_string(),
        })?;
        if status.success() {
            return Ok(());
        }
        let said = if said.trim().is_empty() { status.to_string() } else { said };
        let said = said.trim().to_owned();
        Err(Failure { task: self.task.clone(), refusal: Refusal::of(&said), said })
    }

    /// Ends it, and waits a little until it is gone: what it was working on is busy until then.
    ///
    /// One that waits inside the kernel for a pool without disks dies only when that answers, so that a
    /// thread of its own waits for it. No other is started meanwhile: they would pile up.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            if self.limit.is_none() {
                let _ = child.wait();
                return;
            }
            // One that has ended meanwhile is as good.
            let _ = child.kill();
            let (sender, gone) = mpsc::channel();
            thread::spawn(move || {
                let _ = child.wait();
                // Nobody may want to know any more.
                let _ = sender.send(());
            });
            if gone.recv_timeout(KILL_TIMEOUT).is_err() {
                STUCK.lock().unwrap_or_else(PoisonError::into_inner).push(gone);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program that did not do what it was asked to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{task}: {said}")]
pub(super) struct Failure {
    /// What it was asked.
    pub(super) task: String,
    /// Why it refused, as far as that is known.
    pub(super) refusal: Refusal,
    /// Its own words.
    pub(super) said: String,
}

/// Why a stream did not get through a program.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// The other end of the stream failed.
    #[error(transparent)]
    Other(io::Error),
    /// The program failed.
    #[error(transparent)]
    Task(#[from] Failure),
}

/// What zfs(8) and zpool(8) refuse, told from their messages in the C locale.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// Something has it open or mounted.
    Busy,
    /// The caller may not.
    Denied,
    /// Clones depend on it.
    Dependants,
    /// There is one of that name.
    Exists,
    /// Neither the pool nor the quota has room.
    Full,
    /// It did not answer in time: a pool that has lost its disks makes everybody wait.
    Hangs,
    /// It is encrypted and waits for its key.
    Key,
    /// It has changed since the snapshot.
    Modified,
    /// The kernel has no ZFS.
    NoModule,
    /// ZFS is not installed.
    NoProgram,
    /// There is no such data set, snapshot or pool.
    Missing,
    /// Something else; its own words say what.
    Other,
    /// The pool has lost its disks.
    Suspended,
}

impl Refusal {
    /// Reads a message. The words are those of OpenZFS 0.8 to 2.3 (lib/libzfs/libzfs_util.c,
    /// `zfs_standard_error_fmt` and its callers).
    pub(super) fn of(said: &str) -> Self {
        let has = |words: &[&str]| words.iter().any(|words| said.contains(words));
        if has(&["I/O is currently suspended"]) {
            Self::Suspended
        } else if has(&[
            "modules are not loaded",
            "/dev/zfs and /proc/self/mounts",
            "kernel module",
            "failed to initialize ZFS library",
        ]) {
            Self::NoModule
        } else if has(&["permission denied", "Permission denied"]) {
            Self::Denied
        } else if has(&["dependent clone", "has dependents", "it has clones", "cloned filesystem"])
        {
            Self::Dependants
        } else if has(&[
            "key not loaded",
            "keys not loaded",
            "Key unavailable",
            "key is not loaded",
        ]) {
            Self::Key
        } else if has(&["has been modified"]) {
            Self::Modified
        } else if has(&["out of space", "quota exceeded", "No space left", "no space"]) {
            Self::Full
        } else if has(&["is busy", "resource busy", "Device busy"]) {
            Self::Busy
        } else if has(&["already exists"]) {
            Self::Exists
        } else if has(&[
            "does not exist",
            "no such pool",
            // zpool-get(8) of FreeBSD 14, which takes the name of a pool that is not there for a vdev's.
            "missing pool name",
            "could not find any snapshots",
            "not found",
        ]) {
            Self::Missing
        } else {
            Self::Other
        }
    }
}

/// Reads a stream to its end in a thread of its own.
fn collect(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is told; the program's status says that something is wrong.
        let _ = stream.read_to_end(&mut bytes);
        // Nobody waits any more for one that came too late.
        let _ = sender.send(bytes);
    });
    receiver
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => to.write_all(buffer.get(..len).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Where the programs are: services are often started without the directories of administrators.
fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(OsStr::new).map(Into::into);
    env::join_paths(env::split_paths(&path).chain(more)).unwrap_or(path)
}

/// Whether a program that was killed has not ended yet.
fn is_stuck() -> bool {
    let mut stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
    stuck.retain(|gone| matches!(gone.try_recv(), Err(TryRecvError::Empty)));
    !stuck.is_empty()
}

/// Programs that did not end when they were killed: each tells when it has.
static STUCK: Mutex<Vec<Receiver<()>>> = Mutex::new(Vec::new());

/// How long anything may take but a stream and a channel program. Destroying a large tree takes long; a pool that has lost
/// its disks takes for ever.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// How long a program that was killed may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
const BUFFER: usize = 256 << 10;

#[cfg(test)]
mod test {
    use super::*;

    /// As OpenZFS 2.1.11 on Linux and 2.1 on FreeBSD 13 were seen to write it.
    #[test]
    fn refusals_are_told_apart_by_what_was_said() {
        for (said, refusal) in [
            ("cannot open 'tank/x': dataset does not exist", Refusal::Missing),
            ("cannot open 'tank': no such pool", Refusal::Missing),
            ("missing pool name\nusage:\n\tget [-Hp]", Refusal::Missing),
            ("cannot create 'tank/x': dataset already exists", Refusal::Exists),
            ("cannot create snapshot 'tank/x@a': dataset already exists", Refusal::Exists),
            ("cannot destroy 'tank/x': dataset is busy", Refusal::Busy),
            ("cannot unmount '/a b': pool or dataset is busy", Refusal::Busy),
            (
                "cannot destroy 'tank/x': filesystem has dependent clones\nuse '-R'",
                Refusal::Dependants,
            ),
            (
                "cannot destroy snapshot tank/x@a: snapshot is cloned\nit has clones",
                Refusal::Dependants,
            ),
            ("cannot create 'tank/x': out of space", Refusal::Full),
            ("cannot receive new filesystem stream: out of space", Refusal::Full),
            ("cannot mount 'tank/x': encryption key not loaded", Refusal::Key),
            (
                "cannot receive incremental stream: destination tank/x has been modified\n\
                 since most recent snapshot",
                Refusal::Modified,
            ),
            ("cannot create 'tank/x': permission denied", Refusal::Denied),
            (
                "The ZFS modules are not loaded.\nTry running '/sbin/modprobe zfs'",
                Refusal::NoModule,
            ),
            ("cannot open 'tank': pool I/O is currently suspended", Refusal::Suspended),
            ("cannot set property for 'tank/x': invalid property 'q'", Refusal::Other),
        ] {
            assert_eq!(Refusal::of(said), refusal, "{said}");
        }
    }

    fn shell(script: &str) -> Task {
        Task::program("sh").arg("-c").arg(script)
    }

    #[test]
    fn what_a_program_writes_is_given_back() {
        assert_eq!(shell("printf 'a b\\tc\\n'").run().unwrap(), "a b\tc\n");
        assert_eq!(shell("cat").feed(b"in").unwrap(), "in");
    }

    #[test]
    fn a_program_that_fails_is_told_with_its_words() {
        let failure = shell("echo \"cannot open 'x': dataset does not exist\" >&2; exit 1");
        let failure = failure.run().unwrap_err();
        assert_eq!(failure.refusal, Refusal::Missing);
        assert!(failure.to_string().ends_with("cannot open 'x': dataset does not exist"));
    }

    #[test]
    fn a_program_that_is_not_there_is_told_from_one_that_fails() {
        let failure = Task::program("no-such-program-of-zfs").run().unwrap_err();
        assert_eq!(failure.refusal, Refusal::NoProgram);
    }

    #[test]
    fn a_program_that_never_answers_is_given_up() {
        let task = shell("exec sleep 600").limit(Duration::from_millis(50));
        assert_eq!(task.run().unwrap_err().refusal, Refusal::Hangs);
    }

    #[test]
    fn what_must_come_to_its_end_does_so_though_nobody_waits() {
        let dir = tempfile::tempdir().unwrap();
        let done = dir.path().join("done");
        let script = format!("sleep 0.2; echo half; sleep 0.2; echo >'{}'", done.display());
        // As in a verb that fails at something else meanwhile.
        drop(shell(&script).limit(Duration::from_millis(50)).uninterrupted().start(false).unwrap());
        assert!(done.exists());
    }

    #[test]
    fn a_stream_that_breaks_ends_the_program_that_reads_it() {
        struct Broken(bool);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0 {
                    return Err(io::Error::other("cut"));
                }
                self.0 = true;
                buffer[0] = b'x';
                Ok(1)
            }
        }
        let error = shell("cat >/dev/null").copy_from(&mut Broken(false)).unwrap_err();
        assert!(matches!(error, CopyError::Other(error) if error.to_string() == "cut"));
    }

    #[test]
    fn a_stream_goes_through_whole() {
        let mut out = Vec::new();
        shell("head -c 1000000 /dev/zero").copy_to(&mut out).unwrap();
        assert_eq!(out.len(), 1_000_000);
    }
}

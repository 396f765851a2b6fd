//! zfs(8) and zpool(8) as programs: run with a limit in time, their refusals told apart.
//!
//! Always with `-H` and `-p`, explicit columns, and in the C locale, whose messages are the ones that
//! [`Refusal`] knows. Data sets' names may have spaces in them: columns are split at tabs only.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::time::Duration;

use child::{Call, Limit, Why};

/// A program of ZFS and its arguments, ready to be run.
#[derive(Debug)]
pub(super) struct Task {
    call: Call,
    /// The data sets and snapshots among its arguments.
    names: Vec<String>,
}

impl Task {
    /// zfs(8) with a subcommand.
    pub(super) fn zfs(subcommand: &'static str) -> Self {
        Self::program(ZFS, subcommand)
    }

    /// zpool(8) with a subcommand.
    pub(super) fn zpool(subcommand: &'static str) -> Self {
        Self::program(ZPOOL, subcommand)
    }

    fn program(name: &'static str, subcommand: &'static str) -> Self {
        let call = Call::new(name, Limit::Within(LIMIT)).flag(subcommand);
        Self { call: call.unless_stuck(&[ZFS, ZPOOL]), names: Vec::new() }
    }

    /// Adds options without values.
    pub(super) fn flags(self, flags: impl IntoIterator<Item = &'static str>) -> Self {
        Self { call: self.call.flags(flags), ..self }
    }

    /// Adds an option and its value.
    pub(super) fn option(self, option: &'static str, value: impl AsRef<OsStr>) -> Self {
        Self { call: self.call.option(option, value), ..self }
    }

    /// Adds an option `-o name=value`.
    pub(super) fn property(self, name: &str, value: &str) -> Self {
        self.option("-o", format!("{name}={value}"))
    }

    /// Adds a data set, a snapshot, a pool, or what else is no option.
    pub(super) fn operand(mut self, operand: impl AsRef<str>) -> Self {
        let operand = operand.as_ref();
        let parts = || operand.split(['/', '@']);
        // Values of properties are operands too, and may be any text.
        if parts().nth(1).is_some() && parts().next().is_some_and(|pool| !pool.is_empty()) {
            let dataset = operand.split('@').next().unwrap_or_default();
            self.names.extend([operand, dataset].map(str::to_owned));
        }
        Self { call: self.call.operand(operand), ..self }
    }

    /// Adds several of those.
    pub(super) fn operands(self, operands: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        operands.into_iter().fold(self, Self::operand)
    }

    /// For a subcommand that knows no `--`: `zfs set` of OpenZFS before 2.2.
    pub(super) fn without_dashes(self) -> Self {
        Self { call: self.call.without_dashes(), ..self }
    }

    /// Sets how long it may take: two minutes at first.
    pub(super) fn limit(self, limit: Duration) -> Self {
        Self { call: self.call.limit(Limit::Within(limit)), ..self }
    }

    /// It has to come to its end: neither a limit in time, nor Ctrl-C, nor the end of a terminal, nor that
    /// of this process ends it.
    pub(super) fn uninterrupted(self) -> Self {
        Self { call: self.call.uninterrupted(), ..self }
    }

    /// Runs it to its end; gives what it wrote.
    pub(super) fn run(self) -> Result<String, Failure> {
        let Self { call, names } = self;
        call.run().map(|bytes| text(&bytes)).map_err(|error| Failure::of(error, &names))
    }

    /// Runs it to its end; gives what it wrote, even if there was something that it refused.
    pub(super) fn run_on(self) -> Result<(String, Option<Failure>), Failure> {
        let Self { call, names } = self;
        let failure = |error| Failure::of(error, &names);
        let (bytes, error) = call.run_on().map_err(failure)?;
        Ok((text(&bytes), error.map(failure)))
    }

    /// Runs it with `input` as its standard input.
    pub(super) fn feed(self, input: &[u8]) -> Result<String, Failure> {
        let Self { call, names } = self;
        let fed = call.feed(input.to_owned());
        fed.map(|bytes| text(&bytes)).map_err(|error| Failure::of(error, &names))
    }

    /// Runs it for as long as it takes, and copies what it writes to `out`.
    pub(super) fn copy_to(self, out: &mut dyn Write) -> Result<(), CopyError> {
        let Self { call, names } = self;
        let failure = |error| Failure::of(error, &names);
        let mut running = call.limit(Limit::None).start().map_err(failure)?;
        // Dropped without being waited for it is killed; without a reader it ends by itself.
        if let Some(stdout) = running.stdout() {
            copy(stdout, out).map_err(CopyError::Other)?;
        }
        Ok(running.end().map_err(failure)?)
    }

    /// Runs it for as long as it takes, with all of `from` as its standard input.
    ///
    /// When `from` fails it is killed, so that it does not take what came so far for everything.
    pub(super) fn copy_from(self, from: &mut dyn Read) -> Result<(), CopyError> {
        let Self { call, names } = self;
        let failure = |error| Failure::of(error, &names);
        let mut running = call.limit(Limit::None).piped().start().map_err(failure)?;
        // Without -v it writes nothing: what it could write to stays open.
        let _silence = running.stdout();
        if let Some(mut stdin) = running.stdin() {
            let mut buffer = vec![0; BUFFER];
            loop {
                let len = match from.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(len) => len,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        // Before its input is closed.
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
        Ok(running.end().map_err(failure)?)
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

impl Failure {
    /// Of a program that was called with these names.
    fn of(error: child::Error, names: &[String]) -> Self {
        let refusal = match error.why {
            Why::Absent => Refusal::NoProgram,
            Why::Late | Why::Stuck => Refusal::Hangs,
            Why::Ended(_) => Refusal::of(&error.said, names),
            Why::Long | Why::Option | Why::Start => Refusal::Other,
        };
        Self { task: error.call, refusal, said: error.said }
    }
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
    /// Reads a message about these names. The words are those of OpenZFS 0.8 to 2.3 (lib/libzfs/libzfs_util.c,
    /// `zfs_standard_error_fmt` and its callers).
    pub(super) fn of(said: &str, names: &[String]) -> Self {
        let said = without_names(said, names);
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

/// A message without the names in it, which may be words of any message: those between single quotes, which no name
/// of ZFS has, and these where they stand without.
fn without_names(said: &str, names: &[String]) -> String {
    let mut left = String::new();
    // What follows are names, each on a line of its own.
    let said = said.split("to destroy the following").next().unwrap_or_default();
    for line in said.split_inclusive('\n') {
        let parts: Vec<&str> = line.split('\'').collect();
        // One that is not closed is no name.
        let closed = if parts.len() % 2 == 1 { parts.len() } else { parts.len() - 1 };
        let words = parts.iter().enumerate().filter(|(at, _)| at % 2 == 0 || *at >= closed);
        left.extend(words.map(|(_, part)| *part));
    }
    let mut names: Vec<&String> = names.iter().collect();
    names.sort_by_key(|name| Reverse(name.len()));
    names.into_iter().fold(left, |left, name| left.replace(name.as_str(), ""))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn copy(mut from: impl Read, to: &mut dyn Write) -> io::Result<()> {
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

const ZFS: &str = "zfs";
const ZPOOL: &str = "zpool";
/// How long anything may take but a stream and a channel program. Destroying a large tree takes long; a pool that has lost
/// its disks takes for ever.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
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
            assert_eq!(Refusal::of(said, &[]), refusal, "{said}");
        }
    }

    #[test]
    fn a_name_is_no_reason() {
        let names = ["tank/be/does not exist@out of space", "tank/be/disk is busy"];
        let names = names.map(str::to_owned);
        for (said, refusal) in [
            ("cannot open 'tank/be/disk is busy': dataset does not exist", Refusal::Missing),
            ("cannot create 'tank/be/does not exist': dataset already exists", Refusal::Exists),
            (
                "cannot destroy snapshot tank/be/does not exist@out of space: dataset is busy",
                Refusal::Busy,
            ),
            (
                "cannot receive incremental stream: destination tank/be/disk is busy has been \
                 modified\nsince most recent snapshot",
                Refusal::Modified,
            ),
            ("cannot mount 'tank/be/disk is busy': mountpoint or dataset", Refusal::Other),
            (
                "cannot destroy 'tank/be/x': filesystem has dependent clones\nuse '-R' to destroy the \
                 following datasets:\ntank/be/linux kernel module",
                Refusal::Dependants,
            ),
            ("zfs can't open 'tank/be/disk is busy': input/output error", Refusal::Other),
        ] {
            assert_eq!(Refusal::of(said, &names), refusal, "{said}");
        }
    }

    fn shell(script: &str) -> Task {
        Task::program("sh", "-e").option("-c", script)
    }

    #[test]
    fn a_program_that_fails_is_told_with_its_words() {
        let failure = shell("echo \"cannot open 'x': dataset does not exist\" >&2; exit 1");
        let failure = failure.run().unwrap_err();
        assert_eq!(failure.refusal, Refusal::Missing);
        assert!(failure.to_string().ends_with("cannot open 'x': dataset does not exist"));
    }

    #[test]
    fn a_program_that_is_absent_or_never_answers_is_told() {
        let absent = Task::program("no-such-program-of-zfs", "list").run().unwrap_err();
        assert_eq!(absent.refusal, Refusal::NoProgram);
        let task = shell("exec sleep 600").limit(Duration::from_millis(50));
        assert_eq!(task.run().unwrap_err().refusal, Refusal::Hangs);
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

//! Programs that netbe runs.
//!
//! A [`Call`] has options and operands apart, so that no value of either is read as an option. What a
//! program writes is bounded, how long it may take is said, and how it failed is one [`Error`].

mod error;
mod running;
#[cfg(test)]
mod test;
mod watched;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStderr, Command, Stdio};
use std::time::Duration;

pub use error::{Error, Why};
pub use running::Running;
pub use watched::{Outcome, Status};

/// A program and its arguments, ready to be started.
#[derive(Debug)]
pub struct Call {
    program: OsString,
    options: Vec<OsString>,
    operands: Vec<OsString>,
    takes_dashes: bool,
    limit: Limit,
    locale: &'static str,
    stdin: Stdin,
    shares_stderr: bool,
    abandoned: Abandoned,
    prepare: Option<fn(&mut Command)>,
    kin: &'static [&'static str],
    /// Variables that it has, and whether it has no other of this process's.
    variables: Vec<(OsString, OsString)>,
    has_own_environment: bool,
}

/// How long a program may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// So long; then it is killed.
    Within(Duration),
    /// As long as it takes.
    None,
}

/// What becomes of a program that nobody waits for any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Abandoned {
    /// It is killed.
    Killed,
    /// It gets SIGTERM, and has all the time to clear up.
    Terminated,
    /// It comes to its end, which is waited for.
    Awaited,
}

#[derive(Debug)]
enum Stdin {
    Empty,
    Piped,
    Given(OwnedFd),
}

impl Call {
    /// A program by its name, which is looked for where programs and those of administrators are, or by
    /// its path. It has no input, and speaks as in the C locale.
    pub fn new(program: impl Into<OsString>, limit: Limit) -> Self {
        Self {
            program: program.into(),
            options: Vec::new(),
            operands: Vec::new(),
            takes_dashes: true,
            limit,
            locale: "C",
            stdin: Stdin::Empty,
            shares_stderr: false,
            abandoned: Abandoned::Killed,
            prepare: None,
            kin: &[],
            variables: Vec::new(),
            has_own_environment: false,
        }
    }

    /// A whole command that was made elsewhere, its words as they stand: whoever made it saw to it that no value is
    /// read as an option.
    pub fn line(words: &[String], limit: Limit) -> Self {
        let mut words = words.iter();
        let mut call = Self::new(words.next().cloned().unwrap_or_default(), limit);
        call.options.extend(words.map(OsString::from));
        call
    }

    /// Adds a word that stands here as it is: a subcommand, or an option without a value.
    #[must_use]
    pub fn flag(mut self, flag: &'static str) -> Self {
        self.options.push(flag.into());
        self
    }

    /// Adds several of those.
    #[must_use]
    pub fn flags(self, flags: impl IntoIterator<Item = &'static str>) -> Self {
        flags.into_iter().fold(self, Self::flag)
    }

    /// Adds an option and its value as the next argument, whatever that begins with.
    #[must_use]
    pub fn option(mut self, option: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.options.extend([option.into(), value.as_ref().to_owned()]);
        self
    }

    /// Adds an option and its value in one argument, as `--name=value`: the option ends with the sign.
    #[must_use]
    pub fn joined(mut self, option: &'static str, value: impl AsRef<OsStr>) -> Self {
        let mut word = OsString::from(option);
        word.push(value);
        self.options.push(word);
        self
    }

    /// Adds an operand: a name, a path, a data set. All of them stand behind the options, after `--`.
    #[must_use]
    pub fn operand(mut self, operand: impl AsRef<OsStr>) -> Self {
        self.operands.push(operand.as_ref().to_owned());
        self
    }

    /// Adds operands.
    #[must_use]
    pub fn operands(self, operands: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        operands.into_iter().fold(self, Self::operand)
    }

    /// For a program that knows no `--`: an operand that begins with a hyphen is refused.
    #[must_use]
    pub const fn without_dashes(mut self) -> Self {
        self.takes_dashes = false;
        self
    }

    /// Sets how long it may take.
    #[must_use]
    pub const fn limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the locale that it speaks in.
    #[must_use]
    pub const fn locale(mut self, locale: &'static str) -> Self {
        self.locale = locale;
        self
    }

    /// Gives it a standard input to be written to.
    #[must_use]
    pub fn piped(mut self) -> Self {
        self.stdin = Stdin::Piped;
        self
    }

    /// Gives it a descriptor as its standard input: a socket, or a lock, which it then holds for as long
    /// as it runs, whoever is killed first. It has no other descriptor of this process.
    #[must_use]
    pub fn holding(mut self, descriptor: OwnedFd) -> Self {
        self.stdin = Stdin::Given(descriptor);
        self
    }

    /// Lets it write to the standard error of this process, and what it writes else nowhere.
    #[must_use]
    pub const fn sharing_stderr(mut self) -> Self {
        self.shares_stderr = true;
        self
    }

    /// Sets what becomes of it when nobody waits for it any more: at first it is killed.
    #[must_use]
    pub const fn abandoned(mut self, abandoned: Abandoned) -> Self {
        self.abandoned = abandoned;
        self
    }

    /// It has to come to its end: without a limit in time, and in a process group of its own. Neither
    /// Ctrl-C, nor the end of a terminal, nor that of this process ends it.
    #[must_use]
    pub const fn uninterrupted(mut self) -> Self {
        self.limit = Limit::None;
        self.abandoned = Abandoned::Awaited;
        self
    }

    /// Sets what is done in the new process before the program begins.
    #[must_use]
    pub const fn prepared(mut self, prepare: fn(&mut Command)) -> Self {
        self.prepare = Some(prepare);
        self
    }

    /// Gives it variables, and none of this process's but PATH.
    #[must_use]
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        let owned = |(name, value): (_, _)| -> (OsString, OsString) {
            (AsRef::<OsStr>::as_ref(&name).to_owned(), AsRef::<OsStr>::as_ref(&value).to_owned())
        };
        self.variables.extend(variables.into_iter().map(owned));
        self.has_own_environment = true;
        self
    }

    /// It is not started while one of these programs, killed for its time, still waits in the kernel.
    #[must_use]
    pub const fn unless_stuck(mut self, kin: &'static [&'static str]) -> Self {
        self.kin = kin;
        self
    }

    /// The program and its arguments as they are passed.
    ///
    /// # Errors
    ///
    /// An operand would be read as an option.
    pub fn words(&self) -> Result<Vec<OsString>, Error> {
        let hyphen = |word: &&OsString| word.len() > 1 && word.as_bytes().starts_with(b"-");
        let refused = self.operands.iter().find(hyphen).filter(|_| !self.takes_dashes);
        if let Some(refused) = refused {
            let said = format!("{} would be read as an option", error::word(refused));
            return Err(self.error(Why::Option, said));
        }
        let dashes = (self.takes_dashes && !self.operands.is_empty()).then(|| "--".into());
        let words = std::iter::once(&self.program).chain(&self.options).cloned();
        Ok(words.chain(dashes).chain(self.operands.iter().cloned()).collect())
    }

    /// What it is, as a person would type it: without anything that a terminal obeys.
    pub fn describe(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.options).chain(&self.operands);
        words.map(|shown| error::word(shown)).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end; gives what it wrote.
    ///
    /// # Errors
    ///
    /// It was not started, or did not succeed in its time.
    pub fn run(self) -> Result<Vec<u8>, Error> {
        let (text, error) = self.run_on()?;
        error.map_or(Ok(text), Err)
    }

    /// Runs it to its end; gives what it wrote, even if it failed then.
    ///
    /// # Errors
    ///
    /// It was not started, or did not end in its time, or wrote more than [`MOST`].
    pub fn run_on(self) -> Result<(Vec<u8>, Option<Error>), Error> {
        let mut running = self.start()?;
        let text = running.read_stdout()?;
        Ok((text, running.end().err()))
    }

    /// Runs it to its end with `input` as its standard input; gives what it wrote.
    ///
    /// # Errors
    ///
    /// As with [`run`](Self::run).
    pub fn feed(self, input: Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut running = self.piped().start()?;
        running.write_stdin(input)?;
        let text = running.read_stdout()?;
        running.end().map(|()| text)
    }

    /// Starts it, and keeps the last of what it says on its standard error.
    ///
    /// # Errors
    ///
    /// It is not there, or cannot be started.
    pub fn start(self) -> Result<Running, Error> {
        let (mut running, stderr) = self.start_heard()?;
        if let Some(stderr) = stderr {
            running.listen(stderr);
        }
        Ok(running)
    }

    /// Starts it; the caller reads its standard error to its end.
    ///
    /// # Errors
    ///
    /// As with [`start`](Self::start).
    pub fn start_heard(mut self) -> Result<(Running, Option<ChildStderr>), Error> {
        let mut command = self.command()?;
        if self.shares_stderr {
            command.stdout(Stdio::null()).stderr(Stdio::inherit());
        } else {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        if self.abandoned == Abandoned::Awaited {
            command.process_group(0);
        }
        let mut running = self.spawn(command)?;
        let stderr = running.stderr();
        Ok((running, stderr))
    }

    /// What is to be started, but for where its output goes.
    fn command(&mut self) -> Result<Command, Error> {
        let words = self.words()?;
        if running::is_stuck(self.kin) {
            let said = "one that was killed still waits inside the kernel";
            return Err(self.error(Why::Stuck, said.to_owned()));
        }
        // By its whole path it is started by posix_spawn(3). By a name that has to be looked for in another
        // PATH it would be by fork(2), which copies the page tables of a server with much memory, and has
        // each of its pages fault at the next write.
        let program = find(&self.program).unwrap_or_else(|| self.program.clone().into());
        let mut command = Command::new(program);
        if self.has_own_environment {
            command.env_clear();
        }
        command.args(words.iter().skip(1)).env("LC_ALL", self.locale).env("PATH", search_path());
        command.envs(std::mem::take(&mut self.variables));
        command.stdin(match std::mem::replace(&mut self.stdin, Stdin::Empty) {
            Stdin::Empty => Stdio::null(),
            Stdin::Piped => Stdio::piped(),
            Stdin::Given(descriptor) => descriptor.into(),
        });
        if let Some(prepare) = self.prepare {
            prepare(&mut command);
        }
        Ok(command)
    }

    fn spawn(&self, mut command: Command) -> Result<Running, Error> {
        let child = command.spawn().map_err(|error| {
            let absent = error.kind() == io::ErrorKind::NotFound;
            self.error(if absent { Why::Absent } else { Why::Start }, error.to_string())
        })?;
        let name = PathBuf::from(&self.program).file_name().unwrap_or_default().to_owned();
        Ok(Running::new(child, (name, self.describe()), self.limit, self.abandoned))
    }

    fn error(&self, why: Why, said: String) -> Error {
        Error { call: self.describe(), why, said }
    }
}

/// Where a program is that is known by its name.
pub fn find(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = search_path();
    // What has a slash in it replaces the directory, or stays below it.
    let mut places = env::split_paths(&path).map(|directory| directory.join(name.as_ref()));
    places.find(|program| program.is_file())
}

/// Where programs are: services are often started without the directories of administrators.
fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(OsStr::new).map(Into::into);
    env::join_paths(env::split_paths(&path).chain(more)).unwrap_or(path)
}

/// The most that is read of what a program writes, in bytes.
pub const MOST: usize = 64 << 20;

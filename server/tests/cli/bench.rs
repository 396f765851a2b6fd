//! A state directory of a test's own, and the program to run on it.

use std::env;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use store::{EnvironmentName, Location, Store};
use tempfile::TempDir;

/// An empty site.
pub(crate) struct Bench {
    dir: TempDir,
}

/// What a command did.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) status: Option<i32>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    /// A site with an empty boot environment `head` of the slides' layout.
    pub(crate) fn with_head() -> Self {
        let bench = Self::new();
        bench.silent(&["create", "-l", "freebsd", "head"]);
        bench
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A boot environment's root.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.state().join("store/be").join(name)
    }

    /// Makes a clone that is not whole, as a killed command leaves it.
    pub(crate) fn leave_half(&self, source: &str, name: &str) {
        let place = Location::Directory(self.state().join("store"));
        let store = Store::open(&place, &self.state()).unwrap();
        let (source, name) = (source.parse().unwrap(), name.parse::<EnvironmentName>().unwrap());
        let killed = catch_unwind(AssertUnwindSafe(|| {
            let _draft = store.draft(&source, &name).unwrap();
            resume_unwind(Box::new("killed"))
        }));
        assert!(killed.is_err());
        // A program that another test starts has its locks too until it is executed.
        drop(store.hold(&name).unwrap());
        while store.pending().unwrap().is_empty() {
            thread::yield_now();
        }
    }

    /// The program with these arguments, not yet run.
    pub(crate) fn command(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program.as_ref());
        command.args(arguments).env_clear().env("NETBE_STATE", self.state());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(&mut self.command(netbe(), arguments))
    }

    /// Runs the program by another name.
    pub(crate) fn run_as(&self, name: &str, arguments: &[&str]) -> Outcome {
        let link = self.dir.path().join(name);
        symlink(netbe(), &link).unwrap();
        outcome(&mut self.command(link, arguments))
    }

    /// Runs a command that is to succeed in silence.
    pub(crate) fn silent(&self, arguments: &[&str]) {
        let silence = Outcome { out: String::new(), err: String::new(), status: Some(0) };
        assert_eq!(self.run(arguments), silence, "{arguments:?}");
    }

    /// Runs a command that is to succeed, and to warn in one sentence.
    pub(crate) fn warns(&self, arguments: &[&str], sentence: &str) {
        let err = format!("netbe: {sentence}\n");
        let warned = Outcome { out: String::new(), err, status: Some(0) };
        assert_eq!(self.run(arguments), warned, "{arguments:?}");
    }

    /// Runs a command that is to succeed, and gives what it printed.
    pub(crate) fn prints(&self, arguments: &[&str]) -> String {
        let Outcome { out, err, status } = self.run(arguments);
        assert_eq!((err.as_str(), status), ("", Some(0)), "{arguments:?}");
        out
    }

    /// Runs a command that is to fail in one sentence, and gives that and the status.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (String, i32) {
        let Outcome { out, err, status } = self.run(arguments);
        assert_eq!(out, "", "{arguments:?}");
        let line = err.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "{err}");
        let sentence = line.strip_prefix("netbe: ").unwrap();
        assert!(!sentence.ends_with('.'), "{err}");
        (sentence.to_owned(), status.unwrap())
    }

    /// Asserts that a command is answered with no.
    pub(crate) fn refuses(&self, arguments: &[&str], sentence: &str) {
        assert_eq!(self.fails(arguments), (sentence.to_owned(), 1), "{arguments:?}");
    }

    /// Asserts that a command that prints more than that is answered with no, for these reasons.
    pub(crate) fn refuses_all(&self, arguments: &[&str], sentences: &[&str]) {
        let Outcome { err, status, .. } = self.run(arguments);
        assert_eq!(status, Some(1), "{err}");
        for sentence in sentences {
            assert!(err.contains(&format!("netbe: {sentence}\n")), "{err}");
        }
    }

    /// Asserts that a command could not be done, or not be understood.
    pub(crate) fn cannot(&self, arguments: &[&str], sentence: &str) {
        assert_eq!(self.fails(arguments), (sentence.to_owned(), 2), "{arguments:?}");
    }
}

fn outcome(command: &mut Command) -> Outcome {
    let done = command.output().unwrap();
    Outcome {
        out: String::from_utf8(done.stdout).unwrap(),
        err: String::from_utf8(done.stderr).unwrap(),
        status: done.status.code(),
    }
}

/// The program: cargo says where it is when it runs tests, and so does whoever runs them elsewhere.
pub(crate) fn netbe() -> PathBuf {
    let told = env::var_os("CARGO_BIN_EXE_netbe");
    told.map_or_else(|| env!("CARGO_BIN_EXE_netbe").into(), PathBuf::from)
}

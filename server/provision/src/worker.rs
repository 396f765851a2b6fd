//! Workers: processes of the own program that parse what came from elsewhere, with the least privilege
//! that does the work.
//!
//! A worker is the program started again with [`VERB`]. It gives up all that its work does not need
//! before it reads anything, asks for its work by one byte on its standard input, which is a socket,
//! and is sent descriptors and a request; then it writes the reply, and may be sent another request. It
//! reaches files by those descriptors alone, starts no program, makes no socket, and dies with the thread
//! that started it. Who asks does not believe a reply: what it takes from one it bounds, or checks again.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::process::{ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[cfg(not(test))]
use child::{Call, Limit};
use hostfs::Inside;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::check::{self, Subject};
use crate::contents::{Contents, WithoutNfs};
use crate::initramfs::{self, HostPrograms, Recipe};
use crate::install::{self, Job};
#[cfg(not(test))]
use crate::interrupt::AtWork;
use crate::roots::merge::Step;
use crate::roots::{identity, upgrade};
use crate::sys;

/// What the program is started with, before its privilege, when it is to be a worker.
pub const VERB: &str = "provision-worker";

/// What a worker is asked to do. Descriptors come beside it, in the order that is said here.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Request {
    /// Find out whether an environment boots: its root.
    Check(Subject),
    /// Make an initial RAM disk: the environment's root, then the programs of the host.
    Initramfs(Recipe, HostPrograms),
    /// Unpack archives: the environment's root, then the archives.
    Install(Job),
    /// Merge configuration: the roots of the old template, the machine and the new template, which
    /// have these names.
    Merge([String; 3]),
    /// Put merged configuration into a new root: the machine's present root, and the new one.
    Apply(Vec<Step>),
    /// Find what can be booted in an environment: its root.
    Scan,
    /// Reset what tells the system in an environment from others, and call it so: its root.
    Reset(Option<String>),
}

impl Request {
    /// What its work needs.
    const fn privilege(&self) -> Privilege {
        match self {
            Self::Check(_) | Self::Initramfs(..) | Self::Merge(_) | Self::Scan => Privilege::Read,
            Self::Install(_) | Self::Apply(_) | Self::Reset(_) => Privilege::Write,
        }
    }

    /// How long its work may take, and how long its reply may be, in bytes. What a server asks for while
    /// machines boot is not waited for without end.
    const fn bounds(&self) -> (Option<Duration>, u64) {
        match self {
            Self::Scan => (Some(Duration::from_secs(10)), 1 << 20),
            Self::Reset(_) => (Some(Duration::from_secs(60)), 1 << 24),
            Self::Check(_)
            | Self::Initramfs(..)
            | Self::Merge(_)
            | Self::Install(_)
            | Self::Apply(_) => (None, MAX_REPLY),
        }
    }
}

/// What a worker may do that an ordinary user may not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Privilege {
    /// Read every file.
    Read,
    /// Make files of every kind and owner.
    Write,
}

impl Privilege {
    const ALL: [Self; 2] = [Self::Read, Self::Write];
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// Why a worker did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It ended, or was killed, before it had replied.
    #[error("the worker process ended early ({0})")]
    Ended(ExitStatus),
    /// Its work cannot be done; this says why.
    #[error("{0}")]
    Failed(String),
    /// It took too long, and was killed.
    #[error("the worker process was killed, because it took too long")]
    Late,
    /// It cannot be spoken to.
    #[error("the worker process cannot be started: {0}")]
    Start(#[from] io::Error),
    /// Its reply is none.
    #[error("the worker process gave no valid reply")]
    Reply,
}

/// Has a worker do something; returns its reply, and the bytes that it gives beside it.
pub(crate) fn call<T: DeserializeOwned>(
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(T, Vec<u8>), WorkerError> {
    Session::start(request.privilege())?.ask(request, descriptors)
}

/// A worker that is asked one thing after the other, by the thread that started it. It is killed when
/// it is dropped, and so has to be after an error.
#[derive(Debug)]
pub(crate) struct Session {
    stream: UnixStream,
    worker: Worker,
}

impl Session {
    /// Starts a worker and waits until it has given up what it does not need.
    pub(crate) fn start(privilege: Privilege) -> Result<Self, WorkerError> {
        let (stream, other) = UnixStream::pair()?;
        let mut session = Self { stream, worker: Worker::start(privilege, other)? };
        let ready = session.stream.read_exact(&mut [0]);
        ready.map_err(|error| session.failed(error))?;
        Ok(session)
    }

    /// Has it do something; returns its reply, and the bytes that it gives beside it.
    pub(crate) fn ask<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(T, Vec<u8>), WorkerError> {
        let reply = self.converse(request, descriptors);
        let (json, bytes) = reply.map_err(|error| self.failed(error))?;
        let outcome: Result<T, String> =
            serde_json::from_slice(&json).map_err(|_| WorkerError::Reply)?;
        outcome.map(|reply| (reply, bytes)).map_err(WorkerError::Failed)
    }

    /// Sends it its work, and reads the JSON of its reply and the bytes beside it.
    fn converse(
        &mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (time, most) = request.bounds();
        let mut space =
            vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(descriptors).size()];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if descriptors.len() > MAX_DESCRIPTORS
            || !beside.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(io::Error::other("it needs more open files than can be passed at once"));
        }
        sendmsg(&self.stream, &[IoSlice::new(&[0])], &mut beside, SendFlags::NOSIGNAL)?;
        write_part(&mut self.stream, &serde_json::to_vec(request)?)?;
        let deadline = time.map(|time| Instant::now() + time);
        let mut timed = Timed { stream: &self.stream, deadline };
        let json = read_part(&mut timed, most)?;
        let bytes = read_part(&mut timed, most)?;
        Ok((json, bytes))
    }

    /// Why it cannot be spoken to: how it ended says more than what the socket does.
    fn failed(&mut self, error: io::Error) -> WorkerError {
        use io::ErrorKind::{
            BrokenPipe, ConnectionReset, InvalidData, TimedOut, UnexpectedEof, WouldBlock,
        };
        let kind = error.kind();
        if matches!(kind, TimedOut | WouldBlock) {
            WorkerError::Late
        } else if kind == InvalidData {
            WorkerError::Reply
        } else if matches!(kind, BrokenPipe | ConnectionReset | UnexpectedEof) {
            self.end().unwrap_or(WorkerError::Start(error))
        } else {
            WorkerError::Start(error)
        }
    }

    /// Ends it, and says how it ended if that was not as it should.
    fn end(&mut self) -> Option<WorkerError> {
        // It may be gone.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        self.worker.end()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has done what it was asked for, or that was told.
        let _ = self.end();
    }
}

/// A worker at work.
#[cfg(not(test))]
#[derive(Debug)]
struct Worker {
    child: child::Running,
    at_work: Option<AtWork>,
}

#[cfg(not(test))]
impl Worker {
    fn start(privilege: Privilege, stream: UnixStream) -> io::Result<Self> {
        if !IS_PROGRAM.load(Ordering::Relaxed) {
            // A test would run all of its tests.
            return Err(io::Error::other("this program is not made to be one"));
        }
        let call = Call::new(sys::program()?, Limit::None).without_dashes();
        let call = call.flag(VERB).operand(privilege.to_string());
        let call = call.holding(stream.into()).sharing_stderr();
        let child = call.start().map_err(io::Error::other)?;
        let at_work = child.id().map(AtWork::note);
        Ok(Self { child, at_work })
    }

    fn end(&mut self) -> Option<WorkerError> {
        self.at_work = None;
        // One that has ended already keeps the status that it ended with. The system's own death waits for
        // nobody.
        self.child.kill().filter(|status| !status.success()).map(WorkerError::Ended)
    }
}

/// A thread in its place, with all privileges: a test is not the program.
#[cfg(test)]
#[derive(Debug)]
struct Worker(Option<std::thread::JoinHandle<io::Result<()>>>);

#[cfg(test)]
impl Worker {
    fn start(privilege: Privilege, stream: UnixStream) -> io::Result<Self> {
        Ok(Self(Some(std::thread::spawn(move || answer(privilege, stream)))))
    }

    fn end(&mut self) -> Option<WorkerError> {
        self.0.take()?.join().unwrap().err().map(|error| WorkerError::Failed(error.to_string()))
    }
}

/// A socket that is read until a moment; after it there is [`io::ErrorKind::TimedOut`].
struct Timed<'a> {
    stream: &'a UnixStream,
    deadline: Option<Instant>,
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if rest.is_some_and(|rest| rest.is_zero()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(rest)?;
        self.stream.read(into)
    }
}

/// Reads what [`write_part`] wrote, if it is not longer than `most`.
fn read_part(from: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut part = Vec::new();
    let read = from.take(length).read_to_end(&mut part)?;
    if u64::try_from(read).ok() == Some(length) {
        Ok(part)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Writes how long something is, and that.
fn write_part(to: &mut impl Write, part: &[u8]) -> io::Result<()> {
    let length = u64::try_from(part.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(part)
}

/// A reply: its JSON, and bytes beside it.
fn reply<T: Serialize>(
    outcome: Result<(T, Vec<u8>), impl fmt::Display>,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (outcome, bytes) = match outcome {
        Ok((reply, bytes)) => (Ok(reply), bytes),
        Err(error) => (Err(error.to_string()), Vec::new()),
    };
    Ok((serde_json::to_vec(&outcome)?, bytes))
}

/// Does a worker's work, if the program was started for that. It has to be asked before there are
/// other threads, and before any worker is started.
#[must_use]
pub fn run_if_asked(arguments: &[OsString]) -> Option<ExitCode> {
    IS_PROGRAM.store(true, Ordering::Relaxed);
    let (verb, privilege) = (arguments.get(1)?, arguments.get(2));
    if verb != VERB {
        return None;
    }
    let named = |known: &Privilege| privilege.is_some_and(|name| *name == *known.to_string());
    let done = match Privilege::ALL.into_iter().find(named) {
        Some(privilege) => serve(privilege),
        None => Err(io::Error::other("netbe starts it by itself")),
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::terminal::say(&format!("{VERB}: {error}"));
            ExitCode::FAILURE
        }
    })
}

fn serve(privilege: Privilege) -> io::Result<()> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};

    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    sys::confine(privilege)?;
    match answer(privilege, stream) {
        // Who started it is gone, or wants nothing any more.
        Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset) => Ok(()),
        answered => answered,
    }
}

/// Asks for the work that is for this privilege, does it and replies, until nothing more is asked.
fn answer(privilege: Privilege, mut stream: UnixStream) -> io::Result<()> {
    // From here on it is known that nothing is done with more than that.
    stream.write_all(&[0])?;
    let mut loaders = WithoutNfs::default();
    while let Some((request, descriptors)) = receive(&mut stream)? {
        if request.privilege() != privilege {
            return Err(io::Error::other("it lacks the privilege for that"));
        }
        let (json, bytes) = perform(request, descriptors, &mut loaders)?;
        write_part(&mut stream, &json)?;
        write_part(&mut stream, &bytes)?;
    }
    Ok(())
}

/// What is asked next; nothing, if who asks is done or was killed.
fn receive(stream: &mut UnixStream) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(&*stream, &mut [IoSliceMut::new(&mut byte)], &mut beside, flags)?;
    if got.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            descriptors.extend(files);
        }
    }
    let request = read_part(stream, u64::MAX)?;
    Ok(Some((serde_json::from_slice(&request)?, descriptors)))
}

/// Does what is asked; gives the reply. What was found in loaders is in `loaders`.
fn perform(
    request: Request,
    descriptors: Vec<OwnedFd>,
    loaders: &mut WithoutNfs,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut files = descriptors.into_iter();
    let mut next = || files.next().ok_or_else(|| io::Error::other("a file is missing"));
    let mut root = || next().map(Inside::from_fd);
    match request {
        Request::Check(subject) => {
            let verdict = check::examine(&subject, &root()?);
            reply(Ok::<_, WorkerError>((verdict, Vec::new())))
        }
        Request::Initramfs(recipe, programs) => {
            let root = root()?;
            let mut programs = programs;
            programs.files = files.map(File::from).collect();
            reply(initramfs::build(&root, &recipe, &programs))
        }
        Request::Install(job) => {
            let root = root()?;
            let archives = files.map(File::from).collect();
            reply(install::perform(&root, &job, archives).map(|done| (done, Vec::new())))
        }
        Request::Merge(names) => {
            let roots = [root()?, root()?, root()?];
            reply(upgrade::plan(&roots, &names).map(|outcome| (outcome, Vec::new())))
        }
        Request::Apply(steps) => {
            let (own, new) = (root()?, root()?);
            reply(upgrade::apply(&own, &new, &steps).map(|()| ((), Vec::new())))
        }
        Request::Scan => {
            let contents = Contents::scan_with(&root()?, loaders);
            reply(Ok::<_, WorkerError>((contents, Vec::new())))
        }
        Request::Reset(name) => {
            let changed = identity::reset(&root()?, name.as_deref());
            // A name has whatever bytes.
            let bytes = |path: std::path::PathBuf| path.into_os_string().into_vec();
            reply(changed.map(|paths| (paths.into_iter().map(bytes).collect::<Vec<_>>(), vec![])))
        }
    }
}

/// Whether this program does a worker's work when it is started for that.
static IS_PROGRAM: AtomicBool = AtomicBool::new(false);
/// Most bytes of a reply: the largest RAM disk there can be, or all that can be said of the largest
/// configuration.
const MAX_REPLY: u64 = 1 << 30;
/// Most descriptors of a request; the kernel takes 253 in one message (SCM_MAX_FD).
const MAX_DESCRIPTORS: usize = 128;

#[cfg(test)]
mod test {
    use super::*;

    /// A worker of a test's own, which does what it likes.
    fn session(work: impl FnOnce(UnixStream) -> io::Result<()> + Send + 'static) -> Session {
        let (stream, other) = UnixStream::pair().unwrap();
        Session { stream, worker: Worker(Some(std::thread::spawn(move || work(other)))) }
    }

    #[test]
    fn a_worker_is_asked_for_nothing_that_is_beyond_its_privilege() {
        let dir = tempfile::tempdir().unwrap();
        let root = Inside::enter(dir.path()).unwrap();
        let mut worker = Session::start(Privilege::Read).unwrap();
        let request = Request::Apply(Vec::new());
        let refused = worker.ask::<()>(&request, &[root.as_fd(), root.as_fd()]).unwrap_err();
        assert!(refused.to_string().contains("lacks the privilege"), "{refused}");
    }

    #[test]
    fn a_worker_is_asked_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = Inside::enter(dir.path()).unwrap();
        let mut worker = Session::start(Privilege::Read).unwrap();
        for loader in ["pxeboot", "loader.efi"] {
            std::fs::create_dir_all(dir.path().join("boot")).unwrap();
            std::fs::write(dir.path().join("boot").join(loader), "").unwrap();
            let (contents, _) = worker.ask::<Contents>(&Request::Scan, &[root.as_fd()]).unwrap();
            assert!(contents.loaders.contains(loader), "{contents:?}");
        }
    }

    #[test]
    fn who_asks_and_was_killed_has_nothing_done() {
        let (own, other) = UnixStream::pair().unwrap();
        drop(own);
        assert!(answer(Privilege::Write, other).is_err());
        let (mut own, other) = UnixStream::pair().unwrap();
        let worker = std::thread::spawn(move || answer(Privilege::Write, other));
        own.read_exact(&mut [0]).unwrap();
        drop(own);
        worker.join().unwrap().unwrap();
    }

    #[test]
    fn a_worker_that_does_not_reply_is_not_waited_for_without_end() {
        let worker = session(|mut stream| {
            // It drips bytes, so that no single wait is long.
            while stream.write_all(&[0]).is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        let deadline = Some(Instant::now() + Duration::from_millis(200));
        let mut timed = Timed { stream: &worker.stream, deadline };
        let late = timed.read_exact(&mut [0; 1 << 16]).unwrap_err();
        assert!(matches!(late.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock));
        for server in [Request::Scan, Request::Reset(None)] {
            assert!(server.bounds().0.is_some(), "{server:?}");
        }
    }

    #[test]
    fn a_reply_that_is_none_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = Inside::enter(dir.path()).unwrap();
        let part = |text: &str| {
            let mut part = Vec::new();
            write_part(&mut part, text.as_bytes()).unwrap();
            part
        };
        let long = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        let bad = [long, [part("{}"), part("")].concat(), [part("{\"Ok\":3}"), part("")].concat()];
        for reply in bad {
            let mut worker = session(move |mut stream| {
                stream.write_all(&reply)?;
                let _ = stream.read_to_end(&mut Vec::new());
                Ok(())
            });
            let refused = worker.ask::<Contents>(&Request::Scan, &[root.as_fd()]).unwrap_err();
            assert!(matches!(refused, WorkerError::Reply), "{refused}");
        }
        let mut cut = session(|mut stream| stream.write_all(&[2, 0, 0, 0, 0, 0, 0, 0, b'{']));
        assert!(cut.ask::<Contents>(&Request::Scan, &[root.as_fd()]).is_err());
    }
}

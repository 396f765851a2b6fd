//! Workers: processes of the own program that parse what came from elsewhere, with the least privilege
//! that does the work.
//!
//! A worker is the program started again with [`VERB`]. It gives up all that its work does not need
//! before it reads anything, asks for its work by one byte on its standard input, which is a socket,
//! and is sent descriptors and a request; then it writes the reply. It reaches files by those
//! descriptors alone, starts no program, makes no socket, and dies with the command. The command does
//! not believe a reply: what it takes from one it bounds, or checks again.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
#[cfg(not(test))]
use std::process::{Command, Stdio};
use std::process::{ExitCode, ExitStatus};

use hostfs::Inside;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::check::{self, Subject};
use crate::initramfs::{self, HostPrograms, Recipe};
use crate::install::{self, Job};
use crate::roots::merge::Step;
use crate::roots::upgrade;
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
}

impl Request {
    /// What its work needs.
    const fn privilege(&self) -> Privilege {
        match self {
            Self::Check(_) | Self::Initramfs(..) | Self::Merge(_) => Privilege::Read,
            Self::Install(_) | Self::Apply(_) => Privilege::Write,
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
    #[error("the process that was to do it ended early ({0})")]
    Ended(ExitStatus),
    /// Its work cannot be done; this says why.
    #[error("{0}")]
    Failed(String),
    /// It cannot be spoken to.
    #[error("the process that is to do it cannot be started: {0}")]
    Start(#[from] io::Error),
    /// Its reply is none.
    #[error("the process that was to do it gave no reply that can be read")]
    Reply,
}

/// Has a worker do something; returns its reply, and the bytes that it gives beside it.
pub(crate) fn call<T: DeserializeOwned>(
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(T, Vec<u8>), WorkerError> {
    let (own, other) = UnixStream::pair()?;
    let worker = Worker::start(request.privilege(), other)?;
    let reply = converse(own, request, descriptors);
    // How it ended says more than that it could not be spoken to.
    worker.wait()?;
    read_reply(&reply?)
}

/// A worker at work.
#[cfg(not(test))]
struct Worker(std::process::Child);

#[cfg(not(test))]
impl Worker {
    fn start(privilege: Privilege, stream: UnixStream) -> io::Result<Self> {
        let mut command = Command::new(sys::program()?);
        command.args([VERB, &privilege.to_string()]);
        command.stdin(OwnedFd::from(stream)).stdout(Stdio::null());
        command.spawn().map(Self)
    }

    fn wait(mut self) -> Result<(), WorkerError> {
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(WorkerError::Ended(status)) }
    }
}

/// A thread in its place, with all privileges: a test is not the program.
#[cfg(test)]
struct Worker(std::thread::JoinHandle<io::Result<()>>);

#[cfg(test)]
impl Worker {
    fn start(privilege: Privilege, stream: UnixStream) -> io::Result<Self> {
        Ok(Self(std::thread::spawn(move || answer(privilege, stream))))
    }

    fn wait(self) -> Result<(), WorkerError> {
        Ok(self.0.join().unwrap()?)
    }
}

/// Sends a worker its work once it is ready for it, and reads its reply to the end.
fn converse(
    mut stream: UnixStream,
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<Vec<u8>> {
    stream.read_exact(&mut [0])?;
    let mut space =
        vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(descriptors).size()];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if descriptors.len() > MAX_DESCRIPTORS
        || !beside.push(SendAncillaryMessage::ScmRights(descriptors))
    {
        return Err(io::Error::other("it would need more files than can be given at once"));
    }
    sendmsg(&stream, &[IoSlice::new(&[0])], &mut beside, SendFlags::NOSIGNAL)?;
    let request = serde_json::to_vec(request)?;
    stream.write_all(&request)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut reply = Vec::new();
    stream.take(MAX_REPLY).read_to_end(&mut reply)?;
    Ok(reply)
}

/// A reply: how long its JSON is, that, and bytes beside it.
fn read_reply<T: DeserializeOwned>(reply: &[u8]) -> Result<(T, Vec<u8>), WorkerError> {
    let parts = || {
        let (length, rest) = reply.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        rest.split_at_checked(length)
    };
    let (json, bytes) = parts().ok_or(WorkerError::Reply)?;
    let outcome: Result<T, String> =
        serde_json::from_slice(json).map_err(|_| WorkerError::Reply)?;
    outcome.map(|reply| (reply, bytes.to_vec())).map_err(WorkerError::Failed)
}

fn write_reply<T: Serialize>(
    outcome: Result<(T, Vec<u8>), impl fmt::Display>,
) -> io::Result<Vec<u8>> {
    let (outcome, bytes) = match outcome {
        Ok((reply, bytes)) => (Ok(reply), bytes),
        Err(error) => (Err(error.to_string()), Vec::new()),
    };
    let json = serde_json::to_vec(&outcome)?;
    let length = u64::try_from(json.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes(), json.as_slice(), &bytes].concat())
}

/// Does a worker's work, if the program was started for that. It has to be asked before there are
/// other threads.
#[must_use]
pub fn run_if_asked(arguments: &[OsString]) -> Option<ExitCode> {
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
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    sys::confine(privilege)?;
    answer(privilege, stream)
}

/// Asks for the work that is for this privilege, does it and replies.
fn answer(privilege: Privilege, mut stream: UnixStream) -> io::Result<()> {
    // From here on the command knows that nothing is done with more than that.
    stream.write_all(&[0])?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let got =
        recvmsg(&stream, &mut [IoSliceMut::new(&mut byte)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes == 0 {
        // The command was killed.
        return Ok(());
    }
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            descriptors.extend(files);
        }
    }
    let mut request = Vec::new();
    stream.read_to_end(&mut request)?;
    let request: Request = serde_json::from_slice(&request)?;
    if request.privilege() != privilege {
        return Err(io::Error::other("it is to do what it has not the privilege for"));
    }
    stream.write_all(&perform(request, descriptors)?)
}

/// Does what is asked; gives the reply.
fn perform(request: Request, descriptors: Vec<OwnedFd>) -> io::Result<Vec<u8>> {
    let mut files = descriptors.into_iter();
    let mut next = || files.next().ok_or_else(|| io::Error::other("a file is missing"));
    let mut root = || next().map(Inside::from_fd);
    match request {
        Request::Check(subject) => {
            let verdict = check::examine(&subject, &root()?);
            write_reply(Ok::<_, WorkerError>((verdict, Vec::new())))
        }
        Request::Initramfs(recipe, programs) => {
            let root = root()?;
            let mut programs = programs;
            programs.files = files.map(File::from).collect();
            write_reply(initramfs::build(&root, &recipe, &programs))
        }
        Request::Install(job) => {
            let root = root()?;
            let archives = files.map(File::from).collect();
            write_reply(install::perform(&root, &job, archives).map(|done| (done, Vec::new())))
        }
        Request::Merge(names) => {
            let roots = [root()?, root()?, root()?];
            write_reply(upgrade::plan(&roots, &names).map(|outcome| (outcome, Vec::new())))
        }
        Request::Apply(steps) => {
            let (own, new) = (root()?, root()?);
            write_reply(upgrade::apply(&own, &new, &steps).map(|()| ((), Vec::new())))
        }
    }
}

/// Most bytes of a reply: the largest RAM disk there can be, or all that can be said of the largest
/// configuration.
const MAX_REPLY: u64 = 1 << 30;
/// Most descriptors of a request; the kernel takes 253 in one message (SCM_MAX_FD).
const MAX_DESCRIPTORS: usize = 128;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_worker_is_asked_for_nothing_that_is_beyond_its_privilege() {
        let dir = tempfile::tempdir().unwrap();
        let root = Inside::enter(dir.path()).unwrap();
        let (own, other) = UnixStream::pair().unwrap();
        let worker = std::thread::spawn(move || answer(Privilege::Read, other));
        let reply = converse(own, &Request::Apply(Vec::new()), &[root.as_fd(), root.as_fd()]);
        assert_eq!(reply.unwrap(), b"");
        assert!(worker.join().unwrap().unwrap_err().to_string().contains("not the privilege"));
    }

    #[test]
    fn a_command_that_was_killed_has_nothing_done() {
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
    fn a_reply_that_is_none_is_an_error() {
        let long = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        for bad in [&b""[..], b"1234567", &[0; 8], &long, b"\x02\0\0\0\0\0\0\0{}"] {
            assert!(matches!(read_reply::<()>(bad), Err(WorkerError::Reply)), "{bad:?}");
        }
        let reply = write_reply(Ok::<_, io::Error>((7, b"bytes".to_vec()))).unwrap();
        assert_eq!(read_reply::<u8>(&reply).unwrap(), (7, b"bytes".to_vec()));
    }
}

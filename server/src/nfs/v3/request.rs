//! One call: its arguments, the files it names, and the result it encodes when it fails.

use std::cell::Cell;
use std::sync::Arc;

use uuid::Uuid;
use vfs::{Answer, Caller, FsError, Handle, Name, NameError, Projection, Resolved, Tree, Wait};
use wire::codec::Codec;
use wire::nfs3::{FileHandle, Filename, LookupArgs, PostOpAttr, Procedure, Status, WccData};
use wire::xdr::{DecodeError, Decoder, Encoder};

use super::{Nfs3, attr, status};
use crate::boot::{ClientAddress, Event};
use crate::net::rpc::{Call, Transport};
use crate::net::sys::pipe::Pipe;
use crate::nfs::export::{Export, Grant, Running, WireHandle};
use crate::site::machine::View;

/// A call that is being carried out.
pub(super) struct Request<'a> {
    pub(super) nfs: &'a Nfs3,
    pub(super) call: &'a Call<'a>,
    pub(super) procedure: Procedure,
    turn: Turn,
    /// The file of its first handle: what was opened when it had to wait, and is not opened again.
    opened: Cell<Option<File>>,
    /// The boot environment that it was admitted to.
    pub(super) environment: Cell<Option<Uuid>>,
    /// Bytes of file data that it read.
    pub(super) read: Cell<u64>,
    /// Bytes of file data that it wrote.
    pub(super) written: Cell<u64>,
    /// Whether it would have changed what the caller may only read.
    pub(super) is_denied: Cell<bool>,
    /// Whether it looked for the system's first program where there is none.
    pub(super) lacks_init: Cell<bool>,
    /// File data that follow what was appended to the reply.
    pub(super) payload: Cell<Option<Pipe>>,
}

/// How a procedure ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// The results stand in the reply.
    Success,
    /// The arguments could not be decoded.
    GarbageArgs,
    /// Nothing was done: it has to wait, and may not here.
    WouldWait,
}

/// Where a call is carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Turn {
    /// On the socket's own task, which must not wait.
    Inline,
    /// On the pool.
    Pool,
    /// Not carried out: what its export was asked before makes no progress. The reply is
    /// `NFS3ERR_JUKEBOX`.
    Never,
}

impl<'a> Request<'a> {
    fn new(nfs: &'a Nfs3, call: &'a Call<'a>, procedure: Procedure, turn: Turn) -> Self {
        Self {
            nfs,
            call,
            procedure,
            turn,
            opened: Cell::default(),
            environment: Cell::default(),
            read: Cell::default(),
            written: Cell::default(),
            is_denied: Cell::default(),
            lacks_init: Cell::default(),
            payload: Cell::default(),
        }
    }

    /// A call on the socket's own task.
    pub(super) fn inline(nfs: &'a Nfs3, call: &'a Call<'a>, procedure: Procedure) -> Self {
        Self::new(nfs, call, procedure, Turn::Inline)
    }

    /// A call on the pool, with what was opened when it was parked.
    pub(super) fn resumed(
        nfs: &'a Nfs3,
        call: &'a Call<'a>,
        procedure: Procedure,
        opened: Option<File>,
    ) -> Self {
        Self { opened: Cell::new(opened), ..Self::new(nfs, call, procedure, Turn::Pool) }
    }

    /// A call that is not carried out, because what its export was asked before makes no progress.
    pub(super) fn busy(nfs: &'a Nfs3, call: &'a Call<'a>, procedure: Procedure) -> Self {
        Self::new(nfs, call, procedure, Turn::Never)
    }

    /// What was opened so far, to be brought along when the call is parked. The arguments of all
    /// procedures begin with a handle; where it opens nothing, the pool finds that out again.
    pub(super) fn park(&self) -> Option<File> {
        let opened = self.opened.take();
        let file = opened.or_else(|| self.open(self.args::<FileHandle<'_>>().ok()?).ok())?;
        // Nothing runs while it waits.
        Some(File { running: None, ..file })
    }

    /// Decodes the arguments. What stands behind them is ignored, as all servers do: clients pad.
    pub(super) fn args<T: Codec<'a>>(&self) -> Result<T, DecodeError> {
        T::decode(&mut Decoder::new(self.call.args))
    }

    /// Opens the file of a handle and lets `work` encode the result; encodes the failure otherwise.
    ///
    /// `work` encodes nothing when it fails.
    pub(super) fn on<F: Beside>(
        &self,
        handle: FileHandle<'_>,
        reply: &mut Vec<u8>,
        work: impl FnOnce(&File, &mut Vec<u8>) -> Result<Outcome, Fault>,
    ) -> Outcome {
        let file = match self.open(handle) {
            Ok(file) => file,
            Err(FsError::WouldWait) => return Outcome::WouldWait,
            Err(error) => return self.fail(error.into(), &F::unknown(), reply),
        };
        let may_wait = self.wait() == Wait::Yes;
        let start = reply.len();
        let ended = match work(&file, reply) {
            Err(Fault::Tree(FsError::WouldWait)) if !may_wait => None,
            // Neither what it did counts nor what it met.
            _ if file.running.as_ref().is_some_and(Running::is_abandoned) => {
                reply.truncate(start);
                self.payload.take();
                Some(self.fail(FsError::Busy.into(), &F::unknown(), reply))
            }
            // A command has taken the tree away meanwhile. That is no decision that it is gone.
            Err(Fault::Tree(FsError::Stale)) if self.waits(&file) => {
                Some(self.fail(FsError::Busy.into(), &F::unknown(), reply))
            }
            Err(fault) => F::of(&file, self.wait()).map(|beside| self.fail(fault, &beside, reply)),
            Ok(outcome) => Some(outcome),
        };
        ended.unwrap_or_else(|| {
            self.opened.set(Some(file));
            Outcome::WouldWait
        })
    }

    /// As [`Request::on`], for what changes something: refused where nothing may be changed.
    pub(super) fn change<F: Beside>(
        &self,
        handle: FileHandle<'_>,
        reply: &mut Vec<u8>,
        work: impl FnOnce(&File, &mut Vec<u8>) -> Result<Outcome, Fault>,
    ) -> Outcome {
        self.on::<F>(handle, reply, |file, reply| {
            file.must_be_writable()?;
            work(file, reply)
        })
    }

    /// Encodes a failure.
    pub(super) fn fail<'f>(
        &self,
        fault: Fault,
        beside: &impl Codec<'f>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        match fault {
            Fault::Tree(FsError::RoFs) => self.is_denied.set(true),
            Fault::Tree(FsError::NoEnt) if self.procedure == Procedure::Lookup => {
                let args = self.args::<LookupArgs<'_>>();
                self.lacks_init.set(args.is_ok_and(|args| args.name.0 == b"init"));
            }
            Fault::Tree(_) | Fault::Protocol(_) => {}
        }
        let mut out = Encoder::new(reply);
        match fault {
            Fault::Tree(error) => status::status(self.procedure, error).encode(&mut out),
            Fault::Protocol(status) => status.encode(&mut out),
        }
        beside.encode(&mut out);
        Outcome::Success
    }

    /// The file of a handle, if the caller may use its export.
    pub(super) fn open(&self, handle: FileHandle<'_>) -> Result<File, FsError> {
        if self.turn == Turn::Never {
            return Err(FsError::Busy);
        }
        if let Some(file) = self.opened.take()
            && let Some(running) = self.nfs.exports.enter_again(&file.export)
        {
            self.environment.set(Some(file.export.environment));
            return Ok(File { running: Some(running), ..file });
        }
        let (export, view, file, running) = self.nfs.exports.enter(handle.0)?;
        let peer = self.call.peer;
        let address = peer.ip().to_canonical();
        let roots = self.nfs.booter.roots_of(address);
        let grant = export.admit(peer, &roots).map_err(|refusal| {
            let now = self.nfs.clock.now();
            self.nfs.exports.usage().refused(address, export.environment, now);
            if let Some(told) =
                self.nfs.exports.refusals().note(address, &export, &roots, refusal, now)
            {
                self.nfs.booter.report(ClientAddress::Ip(address), Event::NotAdmitted(told));
            }
            FsError::Access
        })?;
        self.environment.set(Some(export.environment));
        let (caller, running) = match self.caller(&grant, Wait::No) {
            Err(FsError::WouldWait) if self.wait() == Wait::Yes => {
                // The host may take long to tell who he is, and nothing of the tree is used meanwhile.
                drop(running);
                let caller = self.caller(&grant, Wait::Yes)?;
                (caller, self.nfs.exports.enter_again(&export).ok_or(FsError::Busy)?)
            }
            caller => (caller?, running),
        };
        let running = Some(running);
        Ok(File { caller, export, view, handle: file, read_only: grant.read_only, running })
    }

    /// On whose behalf it is made, as far as that can be told with this much patience.
    fn caller(&self, grant: &Grant, wait: Wait) -> Result<Caller, FsError> {
        let now = self.nfs.clock.now();
        grant.caller(&self.call.credential, |uid| self.nfs.groups.of(uid, wait, now))
    }

    /// Whether what was opened a while ago is not served any more, and may be again.
    fn waits(&self, file: &File) -> bool {
        let environment = file.export.environment;
        let now = self.nfs.exports.of(environment);
        let is_served = now.is_some_and(|export| Arc::ptr_eq(&export, &file.export));
        !is_served && !self.nfs.exports.is_gone(environment)
    }

    /// The handle of another file of the same export as `file`.
    pub(super) fn seal(&self, file: &File, handle: &Handle) -> WireHandle {
        self.nfs.exports.seal(&file.export, file.view, handle)
    }

    /// Most bytes of data in one call or reply of this transport.
    ///
    /// Over UDP one lost fragment costs all: 32 KiB is what kernels ask for at most.
    pub(super) const fn transfer_max(&self) -> u32 {
        match self.call.transport {
            Transport::Tcp => 1 << 20,
            Transport::Udp => 32 << 10,
        }
    }

    /// Whether the tree may wait for a disk.
    pub(super) fn wait(&self) -> Wait {
        match self.turn {
            Turn::Inline => Wait::No,
            Turn::Pool | Turn::Never => Wait::Yes,
        }
    }
}

/// An open file of an export, and on whose behalf it is used.
pub(super) struct File {
    pub(super) export: Arc<Export>,
    /// How the client sees the export.
    pub(super) view: View,
    pub(super) handle: Handle,
    pub(super) caller: Caller,
    /// Whether nothing may be changed.
    pub(super) read_only: bool,
    /// Keeps commands from its tree while the call runs.
    running: Option<Running>,
}

impl File {
    /// Within what it can be named: its boot environment, as the client sees that.
    pub(super) fn place(&self) -> (Uuid, View) {
        (self.export.environment, self.view)
    }

    /// The export's files, as the client sees them.
    pub(super) fn projection(&self) -> &Projection {
        self.export.files.seen(self.view)
    }

    /// The tree that it belongs to.
    pub(super) fn resolve(&self) -> Result<Resolved<'_>, FsError> {
        self.projection().resolve(&self.handle)
    }

    /// Carries out an operation on it alone.
    pub(super) fn run<T: Answer>(
        &self,
        operation: impl FnOnce(&dyn Tree, &Handle) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        self.resolve()?.run(operation)
    }

    /// Its attributes as they are now, if they can be read; for what may wait.
    pub(super) fn attributes(&self) -> PostOpAttr {
        self.attributes_or_wait(Wait::Yes).flatten()
    }

    /// As [`File::attributes`]; `None` if that would have to wait and may not.
    fn attributes_or_wait(&self, wait: Wait) -> Option<PostOpAttr> {
        match self.run(|tree, file| tree.getattr(file, wait)) {
            Ok(attr) => Some(Some(attr::fattr(&attr))),
            Err(FsError::WouldWait) => None,
            Err(_) => Some(None),
        }
    }

    pub(super) const fn must_be_writable(&self) -> Result<(), FsError> {
        if self.read_only { Err(FsError::RoFs) } else { Ok(()) }
    }
}

/// What stands beside the status of a failure, by its procedure.
pub(super) trait Beside: for<'f> Codec<'f> {
    /// When it is not known which file the call is about.
    fn unknown() -> Self;

    /// When the file is known; `None` if it would have to wait and may not.
    fn of(file: &File, wait: Wait) -> Option<Self>;
}

impl Beside for () {
    fn unknown() -> Self {}

    fn of(_file: &File, _wait: Wait) -> Option<Self> {
        Some(())
    }
}

impl Beside for PostOpAttr {
    fn unknown() -> Self {
        None
    }

    fn of(file: &File, wait: Wait) -> Option<Self> {
        file.attributes_or_wait(wait)
    }
}

impl Beside for WccData {
    fn unknown() -> Self {
        Self::default()
    }

    fn of(file: &File, wait: Wait) -> Option<Self> {
        file.attributes_or_wait(wait).map(|after| Self { before: None, after })
    }
}

/// Why a call fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The tree refuses.
    Tree(FsError),
    /// The protocol does, before the tree is asked.
    Protocol(Status),
}

impl From<FsError> for Fault {
    fn from(error: FsError) -> Self {
        Self::Tree(error)
    }
}

/// A name from the wire as a name of a tree.
///
/// RFC 1813 §3.2 answers a name that is empty or has characters in it that the server does not
/// permit with `NFS3ERR_ACCES`.
pub(super) fn name(name: Filename<'_>) -> Result<Name<'_>, FsError> {
    Name::new(name.0).map_err(|error| match error {
        NameError::Invalid => FsError::Access,
        NameError::TooLong => FsError::NameTooLong,
    })
}

/// Encodes a result.
pub(super) fn answer<'r>(reply: &mut Vec<u8>, result: &impl Codec<'r>) -> Outcome {
    result.encode(&mut Encoder::new(reply));
    Outcome::Success
}

//! The MOUNT protocol (RFC 1813 §5, RFC 1094 appendix A): paths to handles.
//!
//! MNT gives the handle of an export, of a directory in it, or, for `/`, of the caller's own root. Whoever
//! sees data sets apart gets that of the data set which begins at the path, all others one tree. It
//! grants nothing by that: NFS checks every call by itself. The list of mounts is for people to look
//! at; FreeBSD's loader sends MNT at every file that it opens and never UMNT.

#[cfg(test)]
mod test;
mod wait;
mod walk;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;
use vfs::{FsError, Wait};
use wire::codec::Codec;
use wire::mount3::{
    DirPath, Exported, HostName, MAX_NAME, MntRes, MountStat, Mounted, PROGRAM, Procedure, VERSION,
    VERSION_1,
};
use wire::nfs3::FileHandle;
use wire::xdr::{DecodeError, Decoder, Encoder};

use crate::boot::{Booter, ClientAddress, Event, Roots};
use crate::clock::Clock;
use crate::net::rpc::{Call, Outcome, Parked, Program, Progress, Transport};
use crate::nfs::export::{Absent, Export, Exports, Reason, WireHandle};
use crate::site::machine::View;
use wait::Waiting;
use walk::{stands, walk};

/// Why a path is not mounted: for the client a number, for people a sentence.
struct Refused {
    status: MountStat,
    reason: String,
    /// The environment whose tree was found to be gone.
    lost: Option<Uuid>,
}

impl Refused {
    const fn because(status: MountStat, reason: String) -> Self {
        Self { status, reason, lost: None }
    }

    fn missing(reason: &str) -> Self {
        Self::because(MountStat::NoEnt, reason.to_owned())
    }

    /// What does not exist is refused at once. What may exist a moment later is not said to be
    /// missing: a machine that boots would give up for good.
    fn absent(absent: Absent, missing: &str) -> Self {
        match absent {
            Absent::Missing => Self::missing(missing),
            Absent::Waiting(reason) => Self::because(MountStat::Io, reason.to_string()),
        }
    }
}

/// The program 100005.
pub struct Mount {
    exports: Arc<Exports>,
    booter: Arc<dyn Booter>,
    clock: Arc<dyn Clock>,
    told_of_version_1: AtomicBool,
    waiting: Waiting,
}

impl Mount {
    /// Finds paths in `exports`; asks `booter` whose root is whose, and tells it who mounts.
    #[must_use]
    pub fn new(exports: Arc<Exports>, booter: Arc<dyn Booter>, clock: Arc<dyn Clock>) -> Self {
        let (told_of_version_1, waiting) = (AtomicBool::default(), Waiting::default());
        Self { exports, booter, clock, told_of_version_1, waiting }
    }

    /// MNT of version 3. Where it may wait, a tree that is gone is waited for: somebody has put another in
    /// its place, which is about to be opened.
    fn mnt(&self, peer: SocketAddr, path: DirPath<'_>, wait: Wait, reply: &mut Vec<u8>) {
        let begun = Instant::now();
        let found = loop {
            let found = self.find(peer, path.0, wait);
            let lost = found.as_ref().err().and_then(|refused| refused.lost);
            match lost {
                Some(environment)
                    if wait == Wait::Yes
                        && begun.elapsed() < BUSY_LIMIT
                        && self.exports.suspects().report(environment, Instant::now()) =>
                {
                    thread::sleep(BUSY_PAUSE);
                }
                _ => break found,
            }
        };
        let result = match &found {
            Ok((_, handle)) => MntRes::Ok {
                handle: FileHandle(handle.as_bytes()),
                flavors: vec![wire::rpc::AUTH_SYS],
            },
            Err(refused) => MntRes::Fail(refused.status),
        };
        result.encode(&mut Encoder::new(reply));
        let address = peer.ip().to_canonical();
        match found {
            Err(Refused { status, reason, lost: _ }) => {
                tracing::debug!(%address, path = %path.0.escape_ascii(), ?status, "not mounted");
                self.report_failed(address, path, reason);
            }
            Ok((environment, _)) => {
                let (path, now) = (stripped(path), self.clock.now());
                if self.exports.usage().mounted(address, environment, path, now) {
                    let event = Event::Mounted { environment, path: shown(path) };
                    self.booter.report(ClientAddress::Ip(address), event);
                }
            }
        }
    }

    fn report_failed(&self, address: IpAddr, path: DirPath<'_>, reason: String) {
        let path = shown(stripped(path));
        self.booter.report(ClientAddress::Ip(address), Event::NotMounted { path, reason });
    }

    /// MNT of version 1, which asks for a handle of NFSv2.
    ///
    /// The answer is an errno of the client (RFC 1094 §A.5); EACCES is the same number everywhere, and
    /// the only one that mount programs say something about.
    fn mnt_1(&self, call: &Call<'_>, path: DirPath<'_>, reply: &mut Vec<u8>) {
        if !self.told_of_version_1.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "{} asks for {} by NFSv2, which netbe does not serve: mount with version 3",
                call.peer.ip(),
                path.0.escape_ascii(),
            );
        }
        Encoder::new(reply).u32(MountStat::Acces.number());
    }

    /// The export that `path` lies in, for this caller, and the rest of the path behind it.
    fn export_at<'p>(
        &self,
        address: IpAddr,
        roots: &Roots,
        path: &'p [u8],
    ) -> Result<(Arc<Export>, &'p [u8]), Refused> {
        if is_root(path) {
            let own = roots.current().ok_or_else(|| {
                let awaited = self.booter.awaited_root(address);
                let absent =
                    awaited.map_or(Absent::Missing, |why| Absent::Waiting(Reason::from(why)));
                Refused::absent(absent, "the machine has no root")
            })?;
            let gone = |absent| Refused::absent(absent, "its boot environment is no longer shared");
            return Ok((self.exports.served(own.environment).map_err(gone)?, &[]));
        }
        let missing = |absent| Refused::absent(absent, "there is no boot environment of that path");
        self.exports.at(path).map_err(missing)
    }

    /// Why a path cannot be mounted just now, where that may change by itself.
    fn waits(&self, peer: SocketAddr, path: &[u8]) -> Option<Reason> {
        let absent = if is_root(path) {
            let address = peer.ip().to_canonical();
            match self.booter.roots_of(address).current() {
                Some(root) => self.exports.served(root.environment).err()?,
                None => Absent::Waiting(Reason::from(self.booter.awaited_root(address)?)),
            }
        } else {
            self.exports.at(path).err()?
        };
        match absent {
            Absent::Missing => None,
            Absent::Waiting(reason) => Some(reason),
        }
    }

    /// The environment that `path` leads into and the handle of what is there, for a caller that may use
    /// it.
    fn find(
        &self,
        peer: SocketAddr,
        path: &[u8],
        wait: Wait,
    ) -> Result<(Uuid, WireHandle), Refused> {
        let address = peer.ip().to_canonical();
        let roots = self.booter.roots_of(address);
        let (export, rest) = self.export_at(address, &roots, path)?;
        export.admit(peer, &roots).map_err(|refusal| {
            let (address, now) = (peer.ip().to_canonical(), self.clock.now());
            let told = self.exports.refusals().note(address, &export, &roots, refusal, now);
            if let Some(told) = told {
                self.booter.report(ClientAddress::Ip(address), Event::NotAdmitted(told));
            }
            Refused::because(MountStat::Acces, refusal.to_string())
        })?;
        let view = roots.of(export.environment).map_or_else(View::default, |root| root.view);
        let found = patiently(|| walk(export.files.seen(view), rest, wait));
        let directory = found.map_err(|error| {
            if error == FsError::Stale && export.is_lost() {
                let lost = Some(export.environment);
                return Refused { lost, ..Refused::because(MountStat::Io, LOST.to_owned()) };
            }
            Refused::because(status(error), error.to_string())
        })?;
        Ok((export.environment, self.exports.seal(&export, view, &directory)))
    }

    fn umnt(&self, address: IpAddr, path: DirPath<'_>) {
        let environment = if is_root(path.0) {
            self.booter.roots_of(address).current().map(|root| root.environment)
        } else {
            self.exports.at(path.0).ok().map(|(export, _)| export.environment)
        };
        if self.exports.usage().unmounted(address, environment, stripped(path)) {
            let event = Event::Unmounted(shown(stripped(path)));
            self.booter.report(ClientAddress::Ip(address), event);
        }
    }

    fn umntall(&self, address: IpAddr) {
        for path in self.exports.usage().unmounted_all(address) {
            self.booter.report(ClientAddress::Ip(address), Event::Unmounted(shown(&path)));
        }
    }

    /// DUMP: the list ends early where a datagram does.
    fn dump(&self, transport: Transport, reply: &mut Vec<u8>) {
        let mounts = self.exports.usage().mounts();
        let mounts = mounts.iter().map(|(address, path)| (address.to_string(), path));
        let mut list = List::new(transport, reply);
        for (host, path) in mounts {
            let host = HostName(host.as_bytes());
            list.push(&Mounted { host, directory: DirPath(path) });
        }
        list.finish();
    }

    fn export(&self, transport: Transport, reply: &mut Vec<u8>) {
        let exports = self.exports.list();
        let mut list = List::new(transport, reply);
        for export in exports {
            let groups = groups(&export);
            let groups = groups.iter().map(|group| HostName(group.as_bytes())).collect();
            list.push(&Exported { directory: DirPath(export.path.as_bytes()), groups });
        }
        list.finish();
    }

    fn dispatch(
        &self,
        call: &Call<'_>,
        procedure: Procedure,
        wait: Wait,
        reply: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let address = call.peer.ip().to_canonical();
        let path = || DirPath::decode(&mut Decoder::new(call.args));
        match procedure {
            Procedure::Null => {}
            Procedure::Mnt if call.version == VERSION_1 => self.mnt_1(call, path()?, reply),
            Procedure::Mnt => self.mnt(call.peer, path()?, wait, reply),
            Procedure::Dump => self.dump(call.transport, reply),
            Procedure::Umnt => self.umnt(address, path()?),
            Procedure::Umntall => self.umntall(address),
            Procedure::Export => self.export(call.transport, reply),
        }
        Ok(())
    }

    fn answer(
        &self,
        call: &Call<'_>,
        procedure: Procedure,
        wait: Wait,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        if matches!(procedure, Procedure::Dump | Procedure::Export) && !self.may_list(call) {
            return Outcome::ProcUnavail;
        }
        match self.dispatch(call, procedure, wait, reply) {
            Ok(()) => Outcome::Success,
            Err(error) => {
                tracing::debug!(peer = %call.peer, ?procedure, %error, "arguments not decoded");
                Outcome::GarbageArgs
            }
        }
    }

    /// Whether the caller may have a list. A datagram's sender can be forged, and a list is many times
    /// as long as its question: strangers get none by UDP.
    fn may_list(&self, call: &Call<'_>) -> bool {
        if call.transport == Transport::Tcp {
            return true;
        }
        let roots = self.booter.roots_of(call.peer.ip().to_canonical());
        self.exports.list().iter().any(|export| export.admit(call.peer, &roots).is_ok())
    }

    /// The environment in whose tree a MNT looks something up, where it may have to wait for a disk: a path
    /// below the root, or whether the root is still there.
    fn looks_into(&self, peer: SocketAddr, path: &[u8]) -> Option<Uuid> {
        let address = peer.ip().to_canonical();
        let (export, rest) = self.export_at(address, &self.booter.roots_of(address), path).ok()?;
        let files = export.files.seen(View::Joined);
        let waits = !is_root(rest) || stands(files, Wait::No).is_err();
        waits.then_some(export.environment)
    }
}

impl Program for Arc<Mount> {
    fn number(&self) -> u32 {
        PROGRAM
    }

    fn versions(&self) -> &'static [u32] {
        &[VERSION_1, VERSION]
    }

    fn call(&self, call: &Call<'_>, reply: &mut Vec<u8>) -> Progress {
        let Some(procedure) = Procedure::from_number(call.procedure) else {
            return Outcome::ProcUnavail.into();
        };
        let path = match (procedure, call.version) {
            (Procedure::Mnt, VERSION) => DirPath::decode(&mut Decoder::new(call.args)).ok(),
            _ => None,
        };
        if let Some(path) = path
            && let Some(reason) = self.waits(call.peer, path.0)
        {
            return wait::later(self, call, path, &reason);
        }
        let Some(environment) = path.and_then(|path| self.looks_into(call.peer, path.0)) else {
            return self.answer(call, procedure, Wait::No, reply).into();
        };
        let mount = Self::clone(self);
        Progress::Park(Parked::new(Some(environment), move |call, reply| {
            mount.answer(call, procedure, Wait::Yes, reply)
        }))
    }
}

/// Whether a path means the caller's own root.
fn is_root(path: &[u8]) -> bool {
    path.iter().all(|byte| *byte == b'/')
}

/// A path without slashes at its end, so that an UMNT finds what a MNT wrote otherwise.
fn stripped(path: DirPath<'_>) -> &[u8] {
    let end = path.0.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    path.0.get(..end).filter(|path| !path.is_empty()).unwrap_or(b"/")
}

/// A path for people.
fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

/// Tries again what fails because something is short for a moment, as descriptors may be: a machine that is told of
/// it gives up for good. This is done where a disk may be waited for.
fn patiently<T>(mut walk: impl FnMut() -> Result<T, FsError>) -> Result<T, FsError> {
    let begun = Instant::now();
    loop {
        match walk() {
            Err(FsError::Busy) if begun.elapsed() < BUSY_LIMIT => thread::sleep(BUSY_PAUSE),
            walked => return walked,
        }
    }
}

/// What the client is told when the tree refuses a path.
const fn status(error: FsError) -> MountStat {
    match error {
        FsError::Access | FsError::RoFs => MountStat::Acces,
        FsError::Perm => MountStat::Perm,
        FsError::NoEnt => MountStat::NoEnt,
        FsError::NotDir => MountStat::NotDir,
        FsError::NameTooLong => MountStat::NameTooLong,
        FsError::Inval => MountStat::Inval,
        FsError::NotSupp => MountStat::NotSupp,
        // A directory of the path was removed while it was walked.
        FsError::Stale => MountStat::NoEnt,
        FsError::Busy
        | FsError::Dquot
        | FsError::FBig
        | FsError::Io
        | FsError::NoSpc
        | FsError::NxIo => MountStat::Io,
        // None of these can come from looking names up; they would be our own mistake.
        FsError::BadCookie
        | FsError::BadHandle
        | FsError::Exist
        | FsError::IsDir
        | FsError::MLink
        | FsError::Mounted
        | FsError::NotEmpty
        | FsError::NotSync
        | FsError::WouldWait
        | FsError::XDev => MountStat::ServerFault,
    }
}

/// For whom an export is, as showmount(8) prints it; an empty list would read as "everyone".
fn groups(export: &Export) -> Vec<String> {
    let settings = &export.settings;
    let networks = settings.networks.iter().map(ToString::to_string);
    let machines = settings.machines.iter().filter(|name| name.len() <= MAX_NAME).cloned();
    let mut groups: Vec<String> =
        if settings.shared { networks.chain(machines).collect() } else { Vec::new() };
    if groups.is_empty() {
        groups.push("(its-own-machines)".to_owned());
    }
    groups
}

/// A list that is as long as its transport can carry and clients take.
struct List<'r> {
    reply: &'r mut Vec<u8>,
    most: usize,
}

impl<'r> List<'r> {
    fn new(transport: Transport, reply: &'r mut Vec<u8>) -> Self {
        let room = match transport {
            Transport::Tcp => 1 << 20,
            Transport::Udp => MAX_UDP_LIST,
        };
        let most = reply.len() + room;
        Self { reply, most }
    }

    fn push<'c>(&mut self, element: &impl Codec<'c>) {
        let before = self.reply.len();
        let mut out = Encoder::new(self.reply);
        out.bool(true);
        element.encode(&mut out);
        if self.reply.len() > self.most {
            self.reply.truncate(before);
            self.most = before;
        }
    }

    fn finish(self) {
        Encoder::new(self.reply).bool(false);
    }
}

/// Why nothing is mounted of a tree that is gone, and that nobody has opened anew.
const LOST: &str = "its directory was removed on the server, or replaced by one that cannot be opened: the \
                    server's log says more";

/// How long, and how often, what is short for a moment is tried again.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a list by UDP. Clients have room for 8800 bytes, the head included (`UDPMSGSIZE` of Sun's
/// library and its heirs).
const MAX_UDP_LIST: usize = 8 << 10;

//! The network file system, version 3 (RFC 1813), over the trees of all exports.
//!
//! A call is decoded, its handle opened and its address checked, and then the tree does the work; the
//! result carries the attributes that the tree saw. What memory can answer is answered on the socket's
//! own task; what may wait for a disk is parked, in a class of its export.

mod attr;
mod dir;
mod file;
mod fs;
mod list;
mod request;
mod status;
#[cfg(test)]
mod test;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time;
use uuid::Uuid;
use wire::nfs3::{self, Procedure};

use crate::boot::usage::{self, Due, Traffic};
use crate::boot::{Booter, ClientAddress, Event};
use crate::clock::Clock;
use crate::net::rpc::{self, Call, Ended, Parked, Program, Progress};
use crate::nfs::export::Exports;
use crate::nfs::groups::Groups;

use request::{Outcome, Request};

/// The program 100003.
pub struct Nfs3 {
    exports: Arc<Exports>,
    booter: Arc<dyn Booter>,
    clock: Arc<dyn Clock>,
    groups: Groups,
}

impl Nfs3 {
    /// Serves `exports`; asks `booter` whose root is whose, and tells it who uses one.
    #[must_use]
    pub fn new(exports: Arc<Exports>, booter: Arc<dyn Booter>, clock: Arc<dyn Clock>) -> Self {
        Self { exports, booter, clock, groups: Groups::of_host() }
    }

    /// Reports the traffic that no later call of its client would report, at every interval.
    ///
    /// # Errors
    ///
    /// None. It runs until it is dropped.
    pub async fn tell(self: Arc<Self>) -> io::Result<()> {
        let mut tick = time::interval(usage::INTERVAL);
        loop {
            tick.tick().await;
            for due in self.exports.usage().due(self.clock.now()) {
                let Due { address, environment, traffic } = due;
                self.report(address, environment, traffic);
            }
        }
    }

    fn dispatch(&self, request: &Request<'_>, reply: &mut Vec<u8>) -> Outcome {
        let done = match request.procedure {
            Procedure::Null => Ok(Outcome::Success),
            Procedure::Getattr => attr::getattr(request, reply),
            Procedure::Setattr => attr::setattr(request, reply),
            Procedure::Lookup => dir::lookup(request, reply),
            Procedure::Access => attr::access(request, reply),
            Procedure::Readlink => file::readlink(request, reply),
            Procedure::Read => file::read(request, reply),
            Procedure::Write => file::write(request, reply),
            Procedure::Create => dir::create(request, reply),
            Procedure::Mkdir => dir::mkdir(request, reply),
            Procedure::Symlink => dir::symlink(request, reply),
            Procedure::Mknod => dir::mknod(request, reply),
            Procedure::Remove => dir::remove(request, reply),
            Procedure::Rmdir => dir::rmdir(request, reply),
            Procedure::Rename => dir::rename(request, reply),
            Procedure::Link => dir::link(request, reply),
            Procedure::Readdir => list::readdir(request, reply),
            Procedure::Readdirplus => list::readdirplus(request, reply),
            Procedure::Fsstat => fs::fsstat(request, reply),
            Procedure::Fsinfo => fs::fsinfo(request, reply),
            Procedure::Pathconf => fs::pathconf(request, reply),
            Procedure::Commit => file::commit(request, reply),
        };
        done.unwrap_or_else(|error| {
            let peer = request.call.peer;
            tracing::debug!(%peer, procedure = ?request.procedure, %error, "arguments not decoded");
            Outcome::GarbageArgs
        })
    }

    /// Takes note of for whom a call was answered.
    fn note(&self, request: &Request<'_>) {
        let Some(environment) = request.environment.get() else { return };
        let now = self.clock.now();
        let address = request.call.peer.ip().to_canonical();
        let procedure = request.procedure;
        let call = usage::Call {
            read: request.read.get(),
            written: request.written.get(),
            by_kernel: is_of_kernel(procedure),
            piece: (procedure == Procedure::Read).then_some(request.call.args),
            is_denied: request.is_denied.get(),
            lacks_init: request.lacks_init.get(),
        };
        if let Some(traffic) = self.exports.usage().see(address, environment, call, now) {
            self.report(address, environment, traffic);
        }
    }

    /// Tells who uses what, for the machine's timeline.
    fn report(&self, address: IpAddr, environment: Uuid, traffic: Traffic) {
        let event = Event::Nfs { environment, traffic };
        self.booter.report(ClientAddress::Ip(address), event);
    }
}

impl Nfs3 {
    /// Carries out a call where `request` may, and takes note of it.
    fn answer(&self, request: &Request<'_>, reply: &mut Vec<u8>) -> Outcome {
        let start = reply.len();
        let outcome = self.dispatch(request, reply);
        match outcome {
            Outcome::Success => self.note(request),
            Outcome::GarbageArgs | Outcome::WouldWait => reply.truncate(start),
        }
        outcome
    }
}

impl Program for Arc<Nfs3> {
    fn number(&self) -> u32 {
        nfs3::PROGRAM
    }

    fn versions(&self) -> &'static [u32] {
        &[nfs3::VERSION]
    }

    fn keeps_reply(&self, call: &Call<'_>) -> bool {
        Procedure::from_number(call.procedure).is_some_and(changes)
    }

    fn call(&self, call: &Call<'_>, reply: &mut Vec<u8>) -> Progress {
        let Some(procedure) = Procedure::from_number(call.procedure) else {
            return rpc::Outcome::ProcUnavail.into();
        };
        let request = Request::inline(self, call, procedure);
        if !waits(procedure)
            && let Some(ended) = ended(&request, self.answer(&request, reply))
        {
            return ended.into();
        }
        let opened = request.park();
        let class = request.environment.get();
        let nfs = Self::clone(self);
        Progress::Park(Parked::new(class, move |call, reply| {
            let request = Request::resumed(&nfs, call, procedure, opened);
            let outcome = nfs.answer(&request, reply);
            ended(&request, outcome).unwrap_or_else(|| rpc::Outcome::SystemErr.into())
        }))
    }

    /// `NFS3ERR_JUKEBOX`: "try the request again with a new transaction ID" (RFC 1813 §2.6).
    fn busy(&self, call: &Call<'_>, reply: &mut Vec<u8>) -> rpc::Outcome {
        let Some(procedure) = Procedure::from_number(call.procedure) else {
            return rpc::Outcome::ProcUnavail;
        };
        let request = Request::busy(self, call, procedure);
        let ended = ended(&request, self.answer(&request, reply));
        ended.map_or(rpc::Outcome::SystemErr, |ended| ended.outcome)
    }
}

/// How a procedure ended, unless it has to wait.
fn ended(request: &Request<'_>, outcome: Outcome) -> Option<Ended> {
    match outcome {
        Outcome::Success => match request.payload.take() {
            Some(payload) => Some(Ended::piped(payload)),
            None => Some(rpc::Outcome::Success.into()),
        },
        Outcome::GarbageArgs => Some(rpc::Outcome::GarbageArgs.into()),
        Outcome::WouldWait => None,
    }
}

/// Whether running a procedure twice does harm: a late repetition of a WRITE puts old data over new
/// (Juszczak, "Improving the performance and correctness of an NFS server", 1989).
const fn changes(procedure: Procedure) -> bool {
    match procedure {
        Procedure::Setattr
        | Procedure::Write
        | Procedure::Create
        | Procedure::Mkdir
        | Procedure::Symlink
        | Procedure::Mknod
        | Procedure::Remove
        | Procedure::Rmdir
        | Procedure::Rename
        | Procedure::Link => true,
        Procedure::Null
        | Procedure::Getattr
        | Procedure::Lookup
        | Procedure::Access
        | Procedure::Readlink
        | Procedure::Read
        | Procedure::Readdir
        | Procedure::Readdirplus
        | Procedure::Fsstat
        | Procedure::Fsinfo
        | Procedure::Pathconf
        | Procedure::Commit => false,
    }
}

/// Whether no loader calls a procedure: FreeBSD's (stand/libsa/nfs.c), iPXE and U-Boot look up and read
/// alone, while every kernel asks with ACCESS, and with FSINFO when it mounts.
const fn is_of_kernel(procedure: Procedure) -> bool {
    match procedure {
        Procedure::Null
        | Procedure::Getattr
        | Procedure::Lookup
        | Procedure::Readlink
        | Procedure::Read
        | Procedure::Readdir => false,
        Procedure::Access
        | Procedure::Readdirplus
        | Procedure::Fsstat
        | Procedure::Fsinfo
        | Procedure::Pathconf
        | Procedure::Commit
        | Procedure::Setattr
        | Procedure::Write
        | Procedure::Create
        | Procedure::Mkdir
        | Procedure::Symlink
        | Procedure::Mknod
        | Procedure::Remove
        | Procedure::Rmdir
        | Procedure::Rename
        | Procedure::Link => true,
    }
}

/// Whether a procedure may wait for a disk whatever its arguments are: there is no telling before it
/// is carried out ([`vfs::Wait`]).
const fn waits(procedure: Procedure) -> bool {
    !matches!(
        procedure,
        Procedure::Null
            | Procedure::Getattr
            | Procedure::Lookup
            | Procedure::Access
            | Procedure::Readlink
            | Procedure::Read
    )
}

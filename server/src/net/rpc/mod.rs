//! ONC RPC (RFC 5531) on sockets, for any program.
//!
//! This module owns sockets, records, the reply cache and threads; a [`Program`] is a synchronous
//! function from a call to a reply. [`Server`] takes programs and sockets and brings them together:
//! `udp` and `tcp` move bytes, `dispatch` turns a message into a reply, `replay` remembers replies to
//! calls that must not run twice, and `pool` has the threads on which a call may wait for a disk.
//! A connection carries calls both ways ([`BackChannel`]), and [`Peers`] knows whose machine answers.

mod back;
mod connection;
mod connections;
mod counts;
mod dispatch;
mod own_network;
mod parked;
mod peers;
mod pool;
mod replay;
mod server;
mod tcp;
#[cfg(test)]
mod test;
mod udp;

use std::fmt;
use std::net::SocketAddr;

use uuid::Uuid;

use super::sys::pipe::Pipe;

pub use back::{BackChannel, CallBackError};
pub use counts::Counts;
pub use parked::Sink;
pub(crate) use peers::Silence;
pub use peers::{Life, Peers};
pub use server::{Options, Server, listen};

/// One RPC program: portmap, MOUNT, NFS, NLM, later NSM and NFSv4.
pub trait Program: Send + Sync {
    /// The program's number.
    fn number(&self) -> u32;

    /// The versions that are served, ascending; any other is answered with `PROG_MISMATCH`.
    fn versions(&self) -> &'static [u32];

    /// Whether the reply to this call is kept, so that a repetition gets it without being carried out.
    fn keeps_reply(&self, call: &Call<'_>) -> bool {
        let _ = call;
        false
    }

    /// Carries out a call and appends its results to `reply`.
    ///
    /// It runs on a socket's own task and must not wait for a disk: what has to is parked.
    fn call(&self, call: &Call<'_>, reply: &mut Vec<u8>) -> Progress;

    /// Answers a parked call that there is no room for because its class stands still: as the protocol
    /// says "try again later", if it can.
    fn busy(&self, call: &Call<'_>, reply: &mut Vec<u8>) -> Outcome {
        let _ = (call, reply);
        Outcome::SystemErr
    }
}

/// A call, its header decoded.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Version of the program; one of [`Program::versions`].
    pub version: u32,
    /// Procedure number; any.
    pub procedure: u32,
    /// Who the caller says it is.
    pub credential: Credential,
    /// Where the call came from.
    pub peer: SocketAddr,
    /// Which of our addresses it came to.
    pub local: SocketAddr,
    /// By which transport.
    pub transport: Transport,
    /// Calls the caller back over the connection that the call came by; a datagram has none.
    pub back: Option<BackChannel>,
    /// The arguments, not decoded.
    pub args: &'a [u8],
}

/// Who a caller says it is (RFC 5531 §8.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credential {
    /// AUTH_NONE.
    None,
    /// AUTH_SYS: a user, a group and at most 16 more groups.
    Sys {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Supplementary groups.
        gids: Vec<u32>,
    },
}

/// How a call came.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Transport {
    /// In a stream of records (RFC 5531 §11).
    Tcp,
    /// As a datagram.
    Udp,
}

/// How far a program came with a call on the socket's own task.
#[derive(Debug)]
pub enum Progress {
    /// It is answered.
    Done(Ended),
    /// It has to wait for a disk: the reply was left alone, and the rest runs on the pool.
    Park(Parked),
    /// The program answers later, from anywhere: the reply was left alone.
    Later(Taker),
}

impl Progress {
    /// The program takes the reply's [`Sink`] and answers later. What it keeps, it has to bound.
    pub fn later(take: impl FnOnce(Sink) + Send + 'static) -> Self {
        Self::Later(Taker(Box::new(take)))
    }
}

/// What takes the sink of a reply that comes later.
pub struct Taker(Box<dyn FnOnce(Sink) + Send>);

impl Taker {
    fn take(self, sink: Sink) {
        (self.0)(sink);
    }
}

impl fmt::Debug for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taker").finish_non_exhaustive()
    }
}

impl<T: Into<Ended>> From<T> for Progress {
    fn from(ended: T) -> Self {
        Self::Done(ended.into())
    }
}

/// How a call ended, and what follows its results.
#[derive(Debug)]
pub struct Ended {
    pub(crate) outcome: Outcome,
    /// Data of a success that come behind what was appended to the reply, padded as XDR has it. Only a
    /// stream carries them, and no reply that is kept has any.
    pub(crate) payload: Option<Pipe>,
}

impl Ended {
    /// A success whose results end with what is in a pipe.
    pub(crate) const fn piped(payload: Pipe) -> Self {
        Self { outcome: Outcome::Success, payload: Some(payload) }
    }
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, payload: None }
    }
}

/// The rest of a call that has to wait for a disk.
pub struct Parked {
    pub(crate) class: Option<Uuid>,
    rest: Rest,
}

/// What a program does on the pool: it is handed the call again, and appends its results.
type Rest = Box<dyn FnOnce(&Call<'_>, &mut Vec<u8>) -> Ended + Send>;

impl Parked {
    /// Parks a call. `class` is what it waits for, as an export on one disk: calls of one class that
    /// all stand still leave room for those of others. `rest` carries out what was not done yet; what
    /// it needs of what was found out before, it brings along.
    pub fn new<T: Into<Ended>>(
        class: Option<Uuid>,
        rest: impl FnOnce(&Call<'_>, &mut Vec<u8>) -> T + Send + 'static,
    ) -> Self {
        Self { class, rest: Box::new(move |call, reply| rest(call, reply).into()) }
    }

    /// Carries out what was not done yet; the call has to be the one that was parked.
    pub(crate) fn resume(self, call: &Call<'_>, reply: &mut Vec<u8>) -> Ended {
        (self.rest)(call, reply)
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked").field("class", &self.class).finish_non_exhaustive()
    }
}

/// How a call ended (RFC 5531 §9, `accept_stat`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The results stand in the reply.
    Success,
    /// The program has no such procedure.
    ProcUnavail,
    /// The arguments could not be decoded.
    GarbageArgs,
    /// The server failed; the reason is in its log.
    SystemErr,
}

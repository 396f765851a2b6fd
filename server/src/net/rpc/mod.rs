//! ONC RPC (RFC 5531) on sockets, for any program.
//!
//! This module owns sockets, records, the reply cache and threads; a [`Program`] is a synchronous
//! function from a call to a reply. [`Server`] takes programs and sockets and brings them together:
//! `udp` and `tcp` move bytes, `dispatch` turns a message into a reply, `replay` remembers replies to
//! calls that must not run twice, and `pool` has the threads on which a call may wait for a disk.

mod connections;
mod counts;
mod dispatch;
mod pool;
mod replay;
mod server;
mod tcp;
#[cfg(test)]
mod test;
mod udp;

use std::net::SocketAddr;

pub use counts::Counts;
pub use server::{Options, Server, listen};

/// One RPC program: portmap, MOUNT, NFS, later NLM, NSM and NFSv4.
pub trait Program: Send + Sync {
    /// The program's number.
    fn number(&self) -> u32;

    /// The versions that are served, ascending; any other is answered with `PROG_MISMATCH`.
    fn versions(&self) -> &'static [u32];

    /// Whether a procedure must not run twice, so that its reply is kept for a repeated call.
    fn is_once_only(&self, version: u32, procedure: u32) -> bool;

    /// Carries out a call and appends its results to `reply`.
    ///
    /// With [`Patience::Inline`], what would wait for a disk appends nothing and returns
    /// [`Outcome::WouldWait`]; it is then called again from the pool with [`Patience::Pool`].
    fn call(&self, call: &Call<'_>, patience: Patience, reply: &mut Vec<u8>) -> Outcome;
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

/// Whether a call may wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Patience {
    /// It runs on the socket's own task and must not wait for a disk.
    Inline,
    /// It runs on a thread of the pool and may.
    Pool,
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
    /// Nothing was done: the call has to wait, and may not here.
    WouldWait,
}

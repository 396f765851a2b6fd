//! Turns a message into its reply: decodes the header, checks authentication and version, asks the
//! reply cache, and carries out the call.
//!
//! No sockets here: `R` is the way back to a client, which only the reply cache keeps.

#[cfg(test)]
mod test;

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use wire::rpc::{self, Accept, AuthStat, CallError, Reject, Reply};
use wire::xdr::Encoder;

use super::counts::{Counters, count};
use super::replay::{Admission, Claim, Key, Limits, Replay};
use super::{
    BackChannel, Call, Credential, Ended, Outcome, Parked, Program, Progress, Taker, Transport,
};
use crate::clock::Clock;
use crate::net::sys::pipe::Pipe;

/// Answers messages by the programs that it was made with.
pub(super) struct Dispatcher<R> {
    programs: Vec<Arc<dyn Program>>,
    replay: Arc<Replay<R>>,
    clock: Arc<dyn Clock>,
    pub(super) counters: Counters,
}

/// The addresses and the transport that a message came by.
#[derive(Clone, Copy, Debug)]
pub(super) struct FiveTuple {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) transport: Transport,
}

/// The outcome of a message.
#[derive(Debug)]
pub(super) enum Answer<R> {
    /// The reply was appended and goes back to where the message came from, with what is in the pipe
    /// behind it.
    Here(Option<Pipe>),
    /// The reply was appended and goes to where the call was repeated meanwhile.
    Elsewhere(R),
    /// No reply is sent.
    Nothing,
    /// The call has to wait: give it to [`Dispatcher::resume`] on a thread that may, or to
    /// [`Dispatcher::turn_away`].
    Parked(Begun<R>, Parked),
    /// The program answers later: give the call to [`Dispatcher::finish`] then.
    Later(Begun<R>, Taker),
}

/// A call that is not answered yet.
pub(super) struct Begun<R> {
    xid: u32,
    program: Arc<dyn Program>,
    /// The call without its arguments, and where these begin in the message.
    call: Call<'static>,
    args: usize,
    claim: Option<Claim<R>>,
}

impl<R> Begun<R> {
    /// Whether the call was repeated meanwhile, so that somebody else waits for its reply.
    pub(super) fn is_awaited(&self) -> bool {
        self.claim.as_ref().is_some_and(Claim::is_awaited)
    }
}

impl<R> fmt::Debug for Begun<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").field("xid", &self.xid).field("call", &self.call).finish()
    }
}

impl<R> Dispatcher<R> {
    /// Dispatches to `programs`.
    pub(super) fn new(
        programs: Vec<Arc<dyn Program>>,
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { programs, replay: Replay::new(limits), clock, counters: Counters::default() }
    }

    /// Answers a message without waiting for a disk, and appends the reply to `out`.
    ///
    /// `route` makes the way back to where the message came from, `back` the way for calls there.
    pub(super) fn answer(
        &self,
        message: &[u8],
        origin: FiveTuple,
        route: impl FnOnce() -> R,
        back: impl FnOnce() -> Option<BackChannel>,
        out: &mut Vec<u8>,
    ) -> Answer<R> {
        let head = match rpc::Call::decode(message) {
            Ok(head) => head,
            Err(error) => return self.refuse(error, origin, out),
        };
        count(&self.counters.calls);
        let (program, call) = match self.resolve(&head, origin, back) {
            Ok(resolved) => resolved,
            Err(reply) => {
                reply.encode(head.xid, &mut Encoder::new(out));
                return Answer::Here(None);
            }
        };
        let claim = if program.keeps_reply(&call) {
            let key = self.key(&head, origin);
            match self.replay.admit(key, route, self.clock.now()) {
                Admission::Run(claim) => Some(claim),
                Admission::Replay(reply) => {
                    count(&self.counters.replayed);
                    out.extend_from_slice(&reply);
                    return Answer::Here(None);
                }
                Admission::Redirected => {
                    count(&self.counters.redirected);
                    return Answer::Nothing;
                }
            }
        } else {
            None
        };
        let start = out.len();
        let ran = self.run(&**program, &call, head.xid, out, |out| program.call(&call, out));
        let begun = |claim| Begun {
            xid: head.xid,
            program: Arc::clone(program),
            args: message.len() - call.args.len(),
            call: without_args(call),
            claim,
        };
        match ran {
            Ran::Parked(parked) => Answer::Parked(begun(claim), parked),
            Ran::Later(taker) => Answer::Later(begun(claim), taker),
            Ran::Ended { keep, payload } => {
                match self.end_claim(claim, keep, out.get(start..).unwrap_or_default()) {
                    Some(newest) => {
                        debug_assert!(payload.is_none(), "a reply that is kept has no payload");
                        Answer::Elsewhere(newest)
                    }
                    None => Answer::Here(payload),
                }
            }
        }
    }

    /// Carries out the rest of a call that was parked, and appends the reply; `message` is the one
    /// that it came in.
    pub(super) fn resume(
        &self,
        begun: Begun<R>,
        message: &[u8],
        parked: Parked,
        out: &mut Vec<u8>,
    ) -> Finished<R> {
        let call = with_args(&begun.call, message, begun.args);
        self.finish(begun, out, |out| parked.resume(&call, out))
    }

    /// As [`Dispatcher::resume`], for a call that there is no room for.
    pub(super) fn turn_away(
        &self,
        begun: Begun<R>,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Finished<R> {
        count(&self.counters.turned_away);
        let Begun { xid, program, call, args, claim } = begun;
        let call = with_args(&call, message, args);
        self.run(&*program, &call, xid, out, |out| program.busy(&call, out).into());
        Finished { newest: self.end_claim(claim, false, &[]), payload: None }
    }

    /// Appends the reply that `work` has for a call; returns as [`Dispatcher::resume`].
    pub(super) fn finish(
        &self,
        begun: Begun<R>,
        out: &mut Vec<u8>,
        work: impl FnOnce(&mut Vec<u8>) -> Ended,
    ) -> Finished<R> {
        let Begun { xid, program, call, args: _, claim } = begun;
        let start = out.len();
        let ran = self.run(&*program, &call, xid, out, |out| work(out).into());
        let (keep, payload) = match ran {
            Ran::Ended { keep, payload } => (keep, payload),
            Ran::Parked(_) | Ran::Later(_) => (false, None),
        };
        let newest = self.end_claim(claim, keep, out.get(start..).unwrap_or_default());
        Finished { newest, payload }
    }

    /// Answers what is not a call that could be carried out.
    fn refuse(&self, error: CallError, origin: FiveTuple, out: &mut Vec<u8>) -> Answer<R> {
        count(&self.counters.garbage);
        tracing::debug!(peer = %origin.peer, %error, "message refused");
        let (xid, reply) = match error {
            CallError::Auth { xid, stat } => (xid, Reply::Denied(Reject::AuthError(stat))),
            CallError::NotACall => return Answer::Nothing,
            CallError::RpcMismatch { xid } => (xid, Reply::Denied(Reject::RpcMismatch)),
            CallError::Truncated { xid } => (xid, Reply::Accepted(Accept::GarbageArgs)),
        };
        reply.encode(xid, &mut Encoder::new(out));
        Answer::Here(None)
    }

    /// Finds the program and understands the caller, or says what to reply.
    ///
    /// Authentication comes first, as in RFC 5531 §9: who cannot be recognised learns nothing about
    /// the programs that are served.
    fn resolve<'a>(
        &self,
        head: &rpc::Call<'a>,
        origin: FiveTuple,
        back: impl FnOnce() -> Option<BackChannel>,
    ) -> Result<(&Arc<dyn Program>, Call<'a>), Reply> {
        let credential = match &head.credential {
            rpc::Credential::None => Credential::None,
            rpc::Credential::Sys(sys) => {
                let gids = sys.gids.iter().collect();
                Credential::Sys { uid: sys.uid, gid: sys.gid, gids }
            }
            rpc::Credential::Other(flavor) => {
                count(&self.counters.denied);
                tracing::debug!(peer = %origin.peer, flavor, "authentication flavour denied");
                return Err(Reply::Denied(Reject::AuthError(AuthStat::TooWeak)));
            }
        };
        let program = self.programs.iter().find(|program| program.number() == head.program);
        let program = program.ok_or(Reply::Accepted(Accept::ProgUnavail))?;
        let versions = program.versions();
        if !versions.contains(&head.version) {
            let low = versions.first().copied().unwrap_or(0);
            let high = versions.last().copied().unwrap_or(0);
            return Err(Reply::Accepted(Accept::ProgMismatch { low, high }));
        }
        let call = Call {
            version: head.version,
            procedure: head.procedure,
            credential,
            peer: origin.peer,
            local: origin.local,
            transport: origin.transport,
            back: back(),
            args: head.args,
        };
        Ok((program, call))
    }

    /// Has `work` carry out a call; a panic costs nobody more than this call.
    fn run(
        &self,
        program: &dyn Program,
        call: &Call<'_>,
        xid: u32,
        out: &mut Vec<u8>,
        work: impl FnOnce(&mut Vec<u8>) -> Progress,
    ) -> Ran {
        let start = out.len();
        Reply::Accepted(Accept::Success).encode(xid, &mut Encoder::new(out));
        let progress = catch_unwind(AssertUnwindSafe(|| work(out)));
        let ended = match progress {
            Ok(Progress::Done(Ended { outcome: Outcome::Success, payload })) => {
                let followed = payload.as_ref().map_or(0, Pipe::len);
                if out.len() - start + followed <= max_reply(call.transport) {
                    return Ran::Ended { keep: payload.is_none(), payload };
                }
                Ok(Outcome::SystemErr)
            }
            Ok(Progress::Done(ended)) => Ok(ended.outcome),
            Ok(Progress::Park(parked)) => {
                out.truncate(start);
                return Ran::Parked(parked);
            }
            Ok(Progress::Later(taker)) => {
                out.truncate(start);
                return Ran::Later(taker);
            }
            Err(panic) => Err(panic),
        };
        let (accept, keep) = match ended {
            Ok(Outcome::ProcUnavail) => (Accept::ProcUnavail, true),
            Ok(Outcome::GarbageArgs) => {
                count(&self.counters.garbage);
                tracing::debug!(
                    peer = %call.peer,
                    program = program.number(),
                    procedure = call.procedure,
                    "arguments cannot be decoded"
                );
                (Accept::GarbageArgs, true)
            }
            Ok(Outcome::Success | Outcome::SystemErr) => {
                count(&self.counters.failed);
                tracing::debug!(
                    peer = %call.peer,
                    program = program.number(),
                    procedure = call.procedure,
                    "call failed"
                );
                (Accept::SystemErr, false)
            }
            Err(_) => {
                count(&self.counters.panics);
                tracing::error!(
                    peer = %call.peer,
                    program = program.number(),
                    version = call.version,
                    procedure = call.procedure,
                    "a panic cost one call; please report it with what stands above"
                );
                (Accept::SystemErr, false)
            }
        };
        out.truncate(start);
        Reply::Accepted(accept).encode(xid, &mut Encoder::new(out));
        Ran::Ended { keep, payload: None }
    }

    /// Ends a claim: what failed may be tried again, any other reply is kept.
    fn end_claim(&self, claim: Option<Claim<R>>, keep: bool, reply: &[u8]) -> Option<R> {
        let claim = claim?;
        if keep { claim.finish(reply, self.clock.now()) } else { claim.forget() }
    }

    fn key(&self, head: &rpc::Call<'_>, origin: FiveTuple) -> Key {
        Key {
            address: origin.peer.ip(),
            transport: origin.transport,
            xid: head.xid,
            program: head.program,
            version: head.version,
            procedure: head.procedure,
            len: head.args.len(),
            hash: self.replay.hash(head.args),
        }
    }
}

/// What there is of a call that was carried out, but for what was appended.
pub(super) struct Finished<R> {
    /// Where the reply goes, if not back to where the call came from.
    pub(super) newest: Option<R>,
    /// What follows the reply.
    pub(super) payload: Option<Pipe>,
}

/// How a call was carried out.
enum Ran {
    /// It has a reply, which a repetition gets too unless it says that the server failed.
    Ended { keep: bool, payload: Option<Pipe> },
    /// The rest of it has to wait.
    Parked(Parked),
    /// The program answers later.
    Later(Taker),
}

/// A call as it is kept: its arguments stay in their message.
fn without_args(call: Call<'_>) -> Call<'static> {
    let Call { version, procedure, credential, peer, local, transport, back, args: _ } = call;
    Call { version, procedure, credential, peer, local, transport, back, args: &[] }
}

/// A call that was kept, with its arguments again.
fn with_args<'a>(call: &Call<'_>, message: &'a [u8], at: usize) -> Call<'a> {
    let args = message.get(at..).unwrap_or_default();
    let credential = call.credential.clone();
    let Call { version, procedure, peer, local, transport, .. } = *call;
    Call { version, procedure, credential, peer, local, transport, back: call.back.clone(), args }
}

/// The longest reply by a transport: what a datagram holds, what a record can say.
const fn max_reply(transport: Transport) -> usize {
    match transport {
        Transport::Tcp => 0x7fff_ffff,
        Transport::Udp => super::udp::MAX_DATAGRAM,
    }
}

//! From a message to its reply: heads, authentication, versions, the reply cache, the call itself.
//!
//! No sockets here: `R` is the way back to a client, which only the reply cache keeps.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use wire::rpc::{self, Accept, AuthStat, CallError, Reject, Reply};
use wire::xdr::Encoder;

use super::counts::{Counters, count};
use super::replay::{Admission, Claim, Key, Limits, Replay};
use super::{Call, Credential, Outcome, Patience, Program, Transport};
use crate::clock::Clock;

/// Knows the programs and answers messages.
pub(super) struct Dispatcher<R> {
    programs: Vec<Arc<dyn Program>>,
    replay: Arc<Replay<R>>,
    clock: Arc<dyn Clock>,
    pub(super) counters: Counters,
}

/// Where a message came from, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) transport: Transport,
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Answer<R> {
    /// The reply was appended and goes back to where the message came from.
    Here,
    /// The reply was appended and goes to where the call was repeated meanwhile.
    Elsewhere(R),
    /// There is nothing to say.
    Nothing,
    /// The call has to wait: give it to [`Dispatcher::wait`] on a thread that may.
    Waits(Option<Claim<R>>),
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
    pub(super) fn answer(
        &self,
        message: &[u8],
        origin: Origin,
        route: impl FnOnce() -> R,
        out: &mut Vec<u8>,
    ) -> Answer<R> {
        let head = match rpc::Call::decode(message) {
            Ok(head) => head,
            Err(error) => return self.refuse(error, origin, out),
        };
        count(&self.counters.calls);
        let (program, call) = match self.resolve(&head, origin) {
            Ok(resolved) => resolved,
            Err(reply) => {
                reply.encode(head.xid, &mut Encoder::new(out));
                return Answer::Here;
            }
        };
        let claim = if program.is_once_only(call.version, call.procedure) {
            let key = self.key(&head, origin);
            match self.replay.admit(key, route, self.clock.now()) {
                Admission::Run(claim) => Some(claim),
                Admission::Replay(reply) => {
                    count(&self.counters.replayed);
                    out.extend_from_slice(&reply);
                    return Answer::Here;
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
        match self.run(program, &call, Patience::Inline, head.xid, out) {
            Ran::Waits => Answer::Waits(claim),
            ran @ (Ran::Replied | Ran::Failed) => {
                match self.settle(claim, ran, out.get(start..).unwrap_or_default()) {
                    Some(newest) => Answer::Elsewhere(newest),
                    None => Answer::Here,
                }
            }
        }
    }

    /// Answers a message that [`Dispatcher::answer`] found to wait; `None` means the reply goes back
    /// to where the message came from.
    pub(super) fn wait(
        &self,
        message: &[u8],
        origin: Origin,
        claim: Option<Claim<R>>,
        out: &mut Vec<u8>,
    ) -> Option<R> {
        let head = rpc::Call::decode(message).ok()?;
        let (program, call) = self.resolve(&head, origin).ok()?;
        let start = out.len();
        let ran = self.run(program, &call, Patience::Pool, head.xid, out);
        self.settle(claim, ran, out.get(start..).unwrap_or_default())
    }

    /// Answers what is not a call that could be carried out.
    fn refuse(&self, error: CallError, origin: Origin, out: &mut Vec<u8>) -> Answer<R> {
        count(&self.counters.garbage);
        tracing::debug!(peer = %origin.peer, %error, "message refused");
        let (xid, reply) = match error {
            CallError::Auth { xid, stat } => (xid, Reply::Denied(Reject::AuthError(stat))),
            CallError::NotACall => return Answer::Nothing,
            CallError::RpcMismatch { xid } => (xid, Reply::Denied(Reject::RpcMismatch)),
            CallError::Truncated { xid } => (xid, Reply::Accepted(Accept::GarbageArgs)),
        };
        reply.encode(xid, &mut Encoder::new(out));
        Answer::Here
    }

    /// Finds the program and understands the caller, or says what to reply.
    ///
    /// Authentication comes first, as in RFC 5531 §9: who cannot be recognised learns nothing about
    /// the programs that are served.
    fn resolve<'a>(
        &self,
        head: &rpc::Call<'a>,
        origin: Origin,
    ) -> Result<(&dyn Program, Call<'a>), Reply> {
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
            args: head.args,
        };
        Ok((&**program, call))
    }

    /// Carries out a call; a panic costs nobody more than this call.
    fn run(
        &self,
        program: &dyn Program,
        call: &Call<'_>,
        patience: Patience,
        xid: u32,
        out: &mut Vec<u8>,
    ) -> Ran {
        let start = out.len();
        Reply::Accepted(Accept::Success).encode(xid, &mut Encoder::new(out));
        let outcome = catch_unwind(AssertUnwindSafe(|| program.call(call, patience, out)));
        let too_long = out.len() - start > max_reply(call.transport);
        let (accept, ran) = match outcome {
            Ok(Outcome::Success) if !too_long => return Ran::Replied,
            Ok(Outcome::ProcUnavail) => (Accept::ProcUnavail, Ran::Replied),
            Ok(Outcome::GarbageArgs) => {
                count(&self.counters.garbage);
                tracing::debug!(
                    peer = %call.peer,
                    program = program.number(),
                    procedure = call.procedure,
                    "arguments cannot be decoded"
                );
                (Accept::GarbageArgs, Ran::Replied)
            }
            Ok(Outcome::WouldWait) if patience == Patience::Inline => {
                out.truncate(start);
                return Ran::Waits;
            }
            Ok(Outcome::Success | Outcome::SystemErr | Outcome::WouldWait) => {
                count(&self.counters.failed);
                tracing::debug!(
                    peer = %call.peer,
                    program = program.number(),
                    procedure = call.procedure,
                    "call failed"
                );
                (Accept::SystemErr, Ran::Failed)
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
                (Accept::SystemErr, Ran::Failed)
            }
        };
        out.truncate(start);
        Reply::Accepted(accept).encode(xid, &mut Encoder::new(out));
        ran
    }

    /// Ends a claim: what failed may be tried again, any other reply is kept.
    fn settle(&self, claim: Option<Claim<R>>, ran: Ran, reply: &[u8]) -> Option<R> {
        let claim = claim?;
        match ran {
            Ran::Replied => claim.finish(reply, self.clock.now()),
            Ran::Failed | Ran::Waits => claim.forget(),
        }
    }

    fn key(&self, head: &rpc::Call<'_>, origin: Origin) -> Key {
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

/// How a call was carried out.
enum Ran {
    /// It has a reply, which may be a refusal.
    Replied,
    /// It has a reply that says that the server failed.
    Failed,
    /// It was not; it may not wait here.
    Waits,
}

/// The longest reply by a transport: what a datagram holds, what a record can say.
const fn max_reply(transport: Transport) -> usize {
    match transport {
        Transport::Tcp => 0x7fff_ffff,
        Transport::Udp => super::udp::MAX_DATAGRAM,
    }
}

#[cfg(test)]
mod test {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::test::{Echo, PROGRAM, call};
    use super::*;
    use crate::clock::FakeClock;

    fn dispatcher() -> (Dispatcher<u32>, Arc<Echo>, Arc<FakeClock>) {
        let (echo, clock) = (Arc::new(Echo::default()), Arc::new(FakeClock::new()));
        let dispatcher = Dispatcher::new(vec![echo.clone()], Limits::default(), clock.clone());
        (dispatcher, echo, clock)
    }

    fn origin(transport: Transport) -> Origin {
        let address = SocketAddr::from(([192, 0, 2, 1], 1023));
        Origin { peer: address, local: address, transport }
    }

    /// The reply to a message, its head decoded.
    fn reply(message: &[u8]) -> Reply {
        let (dispatcher, ..) = dispatcher();
        let mut out = Vec::new();
        let answer = dispatcher.answer(message, origin(Transport::Udp), || 0, &mut out);
        assert!(matches!(answer, Answer::Here), "{answer:?}");
        Reply::decode(&out).unwrap().1
    }

    #[test]
    fn a_program_that_is_not_here_is_unavailable() {
        let message = call(1, 100_099, 2, 0, b"");
        assert_eq!(reply(&message), Reply::Accepted(Accept::ProgUnavail));
    }

    #[test]
    fn a_version_that_is_not_here_is_answered_with_the_range_that_is() {
        let mismatch = Reply::Accepted(Accept::ProgMismatch { low: 2, high: 4 });
        for version in [0, 1, 5, u32::MAX] {
            assert_eq!(reply(&call(1, PROGRAM, version, 0, b"")), mismatch);
        }
        assert_eq!(reply(&call(1, PROGRAM, 4, 0, b"")), Reply::Accepted(Accept::Success));
    }

    #[test]
    fn a_procedure_that_is_not_here_is_unavailable() {
        let message = call(1, PROGRAM, 2, 99, b"");
        assert_eq!(reply(&message), Reply::Accepted(Accept::ProcUnavail));
    }

    #[test]
    fn arguments_that_cannot_be_decoded_are_garbage() {
        let message = call(1, PROGRAM, 2, Echo::ONE_WORD, b"toolong!");
        assert_eq!(reply(&message), Reply::Accepted(Accept::GarbageArgs));
    }

    #[test]
    fn an_unknown_flavour_is_an_authentication_error() {
        let mut message = call(1, PROGRAM, 2, 0, b"");
        message[27] = 6;
        assert_eq!(reply(&message), Reply::Denied(Reject::AuthError(AuthStat::TooWeak)));
    }

    #[test]
    fn a_malformed_credential_is_an_authentication_error() {
        let mut message = call(1, PROGRAM, 2, 0, b"");
        message[27] = 1;
        assert_eq!(reply(&message), Reply::Denied(Reject::AuthError(AuthStat::BadCred)));
    }

    #[test]
    fn another_version_of_rpc_is_a_mismatch() {
        let mut message = call(1, PROGRAM, 2, 0, b"");
        message[11] = 3;
        assert_eq!(reply(&message), Reply::Denied(Reject::RpcMismatch));
    }

    #[test]
    fn what_is_not_a_call_is_not_answered() {
        let (dispatcher, ..) = dispatcher();
        let mut out = Vec::new();
        let mut message = call(1, PROGRAM, 2, 0, b"");
        message[7] = 1;
        let answer = dispatcher.answer(&message, origin(Transport::Tcp), || 0, &mut out);
        assert!(matches!(answer, Answer::Nothing));
        assert!(out.is_empty());
        assert_eq!(dispatcher.counters.read().garbage, 1);
    }

    #[test]
    fn a_panic_is_a_system_error_and_costs_one_call() {
        let (dispatcher, ..) = dispatcher();
        for (procedure, accept) in [(Echo::PANIC, Accept::SystemErr), (0, Accept::Success)] {
            let mut out = Vec::new();
            let message = call(1, PROGRAM, 2, procedure, b"");
            dispatcher.answer(&message, origin(Transport::Tcp), || 0, &mut out);
            assert_eq!(Reply::decode(&out).unwrap().1, Reply::Accepted(accept));
        }
        assert_eq!(dispatcher.counters.read().panics, 1);
    }

    #[test]
    fn a_reply_that_no_datagram_holds_is_a_system_error() {
        let message = call(1, PROGRAM, 2, Echo::ZEROS, &70_000_u32.to_be_bytes());
        assert_eq!(reply(&message), Reply::Accepted(Accept::SystemErr));
        let message = call(1, PROGRAM, 2, Echo::ZEROS, &60_000_u32.to_be_bytes());
        assert_eq!(reply(&message), Reply::Accepted(Accept::Success));
    }

    #[test]
    fn a_call_that_must_not_run_twice_is_answered_twice() {
        let (dispatcher, echo, _) = dispatcher();
        let message = call(1, PROGRAM, 2, Echo::COUNT, b"same");
        let (mut first, mut second) = (Vec::new(), Vec::new());
        dispatcher.answer(&message, origin(Transport::Udp), || 0, &mut first);
        dispatcher.answer(&message, origin(Transport::Udp), || 0, &mut second);
        assert_eq!(first, second);
        assert_eq!(echo.count(), 1);
        assert_eq!(dispatcher.counters.read().replayed, 1);
    }

    #[test]
    fn a_new_boot_that_uses_old_transactions_is_carried_out() {
        let (dispatcher, echo, clock) = dispatcher();
        let message = call(1, PROGRAM, 2, Echo::COUNT, b"same");
        dispatcher.answer(&message, origin(Transport::Udp), || 0, &mut Vec::new());
        clock.pass(Duration::from_secs(121));
        dispatcher.answer(&message, origin(Transport::Udp), || 0, &mut Vec::new());
        let other = call(1, PROGRAM, 2, Echo::COUNT, b"else");
        dispatcher.answer(&other, origin(Transport::Udp), || 0, &mut Vec::new());
        assert_eq!(echo.count(), 3);
    }

    #[test]
    fn a_call_that_waits_leaves_no_reply_and_is_carried_out_on_the_pool() {
        let (dispatcher, echo, _) = dispatcher();
        echo.open();
        let message = call(7, PROGRAM, 2, Echo::GATE, b"wait");
        let mut out = b"before".to_vec();
        let answer = dispatcher.answer(&message, origin(Transport::Tcp), || 0, &mut out);
        let Answer::Waits(claim) = answer else { panic!("{answer:?}") };
        assert_eq!(out, b"before");
        let repeated = dispatcher.answer(&message, origin(Transport::Tcp), || 8, &mut out);
        assert!(matches!(repeated, Answer::Nothing));
        out.clear();
        assert_eq!(dispatcher.wait(&message, origin(Transport::Tcp), claim, &mut out), Some(8));
        let (xid, reply, results) = Reply::decode(&out).unwrap();
        assert_eq!((xid, reply), (7, Reply::Accepted(Accept::Success)));
        assert_eq!(results, b"wait");
    }

    proptest! {
        #[test]
        fn any_bytes_get_a_reply_or_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            head in 0_usize..28,
        ) {
            let (dispatcher, ..) = dispatcher();
            let mut message = call(1, PROGRAM, 2, Echo::ONE_WORD, b"")[..head].to_vec();
            message.extend(bytes);
            let mut out = Vec::new();
            match dispatcher.answer(&message, origin(Transport::Udp), || 0, &mut out) {
                Answer::Here => prop_assert!(Reply::decode(&out).is_ok()),
                Answer::Elsewhere(_) => prop_assert!(false, "nobody repeated it"),
                Answer::Nothing | Answer::Waits(_) => prop_assert!(out.is_empty()),
            }
        }
    }
}

//! Calls that are not answered at once: what runs on the pool, and what a program answers later.

use std::fmt;
use std::sync::Arc;

use wire::record::{self, Record};

use super::connection::{Reply, Unanswered};
use super::dispatch::{Begun, Finished};
use super::server::{Route, Server};
use super::{Outcome, Parked};

/// A parked call on its way to the pool.
pub(super) struct Job {
    pub(super) message: Record,
    pub(super) call: Begun<Route>,
    pub(super) parked: Parked,
    pub(super) route: Route,
    pub(super) unanswered: Option<Unanswered>,
}

impl Server {
    /// Gives a call to the pool as soon as that has room for it, or has the program say that it is
    /// busy. Where this future is dropped before, somebody else may wait for the reply already.
    pub(super) async fn park(self: &Arc<Self>, job: Job, connection: u64) {
        let (class, bytes) = (job.parked.class, job.message.memory());
        let mut held = Held { server: self, job: Some(job) };
        let permit = self.pool.admit(class, connection, bytes).await;
        let Some(job) = held.job.take() else { return };
        match permit {
            Some(permit) => self.carry_out(job, permit),
            None => self.turn_away(job),
        }
    }

    /// As [`Server::park`], but drops the call and returns false where it would wait.
    pub(super) fn try_park(self: &Arc<Self>, job: Job) -> bool {
        match self.pool.try_admit(job.parked.class, job.message.memory()) {
            Some(permit) => {
                self.carry_out(job, permit);
                true
            }
            None => false,
        }
    }

    /// Carries out the rest of a call on the pool and sends its reply.
    fn carry_out(self: &Arc<Self>, job: Job, permit: super::pool::Permit) {
        let server = Arc::clone(self);
        self.pool.run(permit, move |permit| {
            let Job { message, call, parked, route, unanswered } = job;
            let mut reply = Vec::new();
            let place = record::begin(&mut reply);
            let finished = server.dispatcher.resume(call, message.as_ref(), parked, &mut reply);
            drop(message);
            if reply.len() > place {
                deliver(finished, &route, reply);
            }
            drop((permit, unanswered));
        });
    }

    /// Answers a call that there is no room for.
    fn turn_away(&self, job: Job) {
        let Job { message, call, parked: _, route, unanswered } = job;
        let mut reply = Vec::new();
        let _mark = record::begin(&mut reply);
        let finished = self.dispatcher.turn_away(call, message.as_ref(), &mut reply);
        deliver(finished, &route, reply);
        drop(unanswered);
    }
}

/// A call whose connection waits for room on the pool.
struct Held<'a> {
    server: &'a Arc<Server>,
    job: Option<Job>,
}

impl Drop for Held<'_> {
    /// The connection has ended. Nobody wants the reply, unless the call was repeated over another
    /// connection, which then waits for this one's.
    fn drop(&mut self) {
        let Some(job) = self.job.take() else { return };
        if !job.call.is_awaited() {
            return;
        }
        match self.server.pool.try_admit(job.parked.class, job.message.memory()) {
            Some(permit) => self.server.carry_out(job, permit),
            None => self.server.turn_away(job),
        }
    }
}

/// Where the reply to a call goes that a program answers later, from any thread.
///
/// Dropping it answers that the server failed.
pub struct Sink {
    open: Option<Open>,
}

struct Open {
    server: Arc<Server>,
    call: Begun<Route>,
    route: Route,
    _unanswered: Option<Unanswered>,
}

impl Sink {
    pub(super) fn new(
        server: &Arc<Server>,
        call: Begun<Route>,
        route: Route,
        unanswered: Option<Unanswered>,
    ) -> Self {
        let server = Arc::clone(server);
        Self { open: Some(Open { server, call, route, _unanswered: unanswered }) }
    }

    /// Sends the reply; `results` count if the outcome is a success.
    pub fn reply(mut self, outcome: Outcome, results: &[u8]) {
        self.send(outcome, results);
    }

    /// Answers nothing, as if a datagram was lost: whoever asks by UDP asks again.
    pub fn abandon(mut self) {
        self.open = None;
    }

    fn send(&mut self, outcome: Outcome, results: &[u8]) {
        let Some(Open { server, call, route, _unanswered }) = self.open.take() else { return };
        let mut reply = Vec::new();
        let _mark = record::begin(&mut reply);
        let finished = server.dispatcher.finish(call, &mut reply, |out| {
            out.extend_from_slice(results);
            outcome.into()
        });
        deliver(finished, &route, reply);
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.send(Outcome::SystemErr, &[]);
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

/// Sends a reply to where the call was repeated last, or if nobody is there any more, to where it
/// came from first.
fn deliver(finished: Finished<Route>, first: &Route, bytes: Vec<u8>) {
    let reply = Reply { bytes, payload: finished.payload };
    let reply = match finished.newest {
        Some(newest) => match newest.deliver(reply) {
            Ok(()) => return,
            Err(reply) => reply,
        },
        None => reply,
    };
    if first.deliver(reply).is_err() {
        tracing::debug!("nobody is there any more for a reply");
    }
}

//! Whether the machine at an address runs: asks the TCP connections that it has to our RPC servers.
//!
//! A machine that was switched off or started anew says nothing about it. Its kernel does: it
//! acknowledges what TCP asks while it runs, and knows of no connection after a start.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use super::connection::{Connection, End, Probe};

/// The TCP connections of clients. Addresses are canonical ([`IpAddr::to_canonical`]).
#[derive(Default)]
pub struct Peers {
    open: Mutex<HashMap<IpAddr, Vec<Arc<Connection>>>>,
}

/// Whether a machine lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// A connection of that address acknowledged something after the question, or was closed in order.
    Answers,
    /// It had connections, and all of them were reset or timed out since the question. A network that
    /// is away for those seconds looks the same, so that there has to be another sign too.
    Dead,
    /// Nothing can be said: it has no open connection, or none that could be asked in time.
    Unknown,
}

impl Peers {
    /// Asks whether the machine at `address` lives, and does not wait for the answer.
    ///
    /// `answer` is called exactly once, at the latest after `deadline`, and must not wait: at once if
    /// there is no connection, else on a task of the RPC server. It takes up to five seconds to see
    /// that a machine is dead, and up to ten where it has not acknowledged a reply.
    pub fn ask(&self, address: IpAddr, deadline: Duration, answer: Box<dyn FnOnce(Life) + Send>) {
        let asked = Instant::now();
        let open = self.lock().get(&address.to_canonical()).cloned().unwrap_or_default();
        let Some(first) = open.first() else {
            answer(Life::Unknown);
            return;
        };
        let runtime = first.runtime.clone();
        let mut answer = Answer(Some(answer));
        runtime.spawn(async move {
            let probes: Vec<Probe> = open.iter().map(Connection::probe).collect();
            let give_up = sleep_until((asked + deadline).into());
            tokio::pin!(give_up);
            let life = loop {
                tokio::select! {
                    () = sleep(LOOK) => {}
                    () = &mut give_up => break judge(&probes, asked, true).unwrap_or(Life::Unknown),
                }
                if let Some(life) = judge(&probes, asked, false) {
                    break life;
                }
            };
            drop(probes);
            answer.give(life);
        });
    }

    pub(super) fn insert(&self, connection: &Arc<Connection>) {
        let address = connection.origin.peer.ip().to_canonical();
        self.lock().entry(address).or_default().push(Arc::clone(connection));
    }

    /// Forgets a connection that has ended.
    pub(super) fn remove(&self, connection: &Connection) {
        let address = connection.origin.peer.ip().to_canonical();
        let mut open = self.lock();
        let Some(connections) = open.get_mut(&address) else { return };
        connections.retain(|one| !std::ptr::eq(&raw const **one, connection));
        if connections.is_empty() {
            open.remove(&address);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Vec<Arc<Connection>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("addresses", &self.lock().len()).finish_non_exhaustive()
    }
}

/// What the kernel tells of a connection's peer (`TCP_INFO`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Silence {
    /// The time since the peer last acknowledged something.
    pub(crate) heard: Duration,
    /// The time since something was last sent to the peer, for the first time or again.
    pub(crate) sent: Duration,
    /// How often the oldest unacknowledged segment was sent again.
    pub(crate) unanswered: u8,
}

/// An answer that is given in any case: when the server stops, it is that nothing is known.
struct Answer(Option<Box<dyn FnOnce(Life) + Send>>);

impl Answer {
    fn give(&mut self, life: Life) {
        if let Some(answer) = self.0.take() {
            answer(life);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.give(Life::Unknown);
    }
}

/// What the connections of an address tell, `None` if nothing yet.
fn judge(probes: &[Probe], asked: Instant, last: bool) -> Option<Life> {
    let mut dead = 0;
    for Probe(connection) in probes {
        match connection.end() {
            Some(End::Lost) => dead += 1,
            // Its kernel has just said that all is said, or sent what was no call.
            Some(End::Done | End::Record(_)) => return Some(Life::Answers),
            // It was ended here, which says nothing about the peer.
            Some(End::Stopped | End::Evicted | End::Idle | End::Broken | End::Stalled) => {}
            None => {
                let Ok(silence) = connection.silence() else { continue };
                let since = asked.elapsed();
                if silence.heard + TICK <= since {
                    return Some(Life::Answers);
                }
                // While something is not acknowledged the kernel sends that again, and asks nothing.
                if last && silence.unanswered >= UNANSWERED && silence.sent + TICK <= since {
                    connection.evicted.notify_one();
                    dead += 1;
                }
            }
        }
    }
    (dead == probes.len()).then_some(Life::Dead)
}

/// How often the connections of an address are looked at while it is asked.
const LOOK: Duration = Duration::from_millis(50);

/// How exact the kernel is about when it heard of a peer.
const TICK: Duration = Duration::from_millis(20);

/// How often something must have been sent again in vain.
const UNANSWERED: u8 = 3;

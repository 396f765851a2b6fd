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
use crate::net::interface::Interface;

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
    /// It had connections, and all of them were reset or timed out since the question, while our own
    /// interface was there. A network that is away somewhere else for those seconds looks the same, so
    /// that there has to be another sign too.
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
            let mut network = OwnNetwork::of(&open);
            let give_up = sleep_until((asked + deadline).into());
            tokio::pin!(give_up);
            let life = loop {
                tokio::select! {
                    () = sleep(LOOK) => {}
                    () = &mut give_up => {
                        network.look();
                        let last = judge(&probes, asked, &network, true);
                        break last.unwrap_or(Life::Unknown);
                    }
                }
                network.look();
                if let Some(life) = judge(&probes, asked, &network, false) {
                    break life;
                }
            };
            if life == Life::Answers {
                open.iter().for_each(|connection| connection.works());
            }
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

/// Our own ends of connections: where one was away, that a peer is silent says nothing about it.
struct OwnNetwork {
    /// Our addresses, each with the interface by which its connection was last known to work.
    ends: Vec<(IpAddr, Option<u32>)>,
    was_away: bool,
}

impl OwnNetwork {
    fn of(connections: &[Arc<Connection>]) -> Self {
        let mut ends: Vec<_> = connections.iter().map(|one| one.own_end()).collect();
        ends.sort_unstable();
        ends.dedup();
        let was_away = ends.iter().any(|(_, interface)| interface.is_none());
        let mut network = Self { ends, was_away };
        network.look();
        network
    }

    /// Looks whether every interface is there, and still the same.
    fn look(&mut self) {
        let is_away = |(address, interface): &(IpAddr, Option<u32>)| {
            Interface::carrying(*address).is_ok_and(|now| now != *interface)
        };
        self.was_away = self.was_away || self.ends.iter().any(is_away);
    }
}

/// What the connections of an address tell, `None` if nothing yet.
fn judge(probes: &[Probe], asked: Instant, network: &OwnNetwork, last: bool) -> Option<Life> {
    let mut dead = 0;
    for Probe(connection) in probes {
        match connection.end() {
            Some(End::Reset) => dead += 1,
            Some(End::Lost) => dead += usize::from(!network.was_away),
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
                let silent = silence.unanswered >= UNANSWERED && silence.sent + TICK <= since;
                if last && silent && !network.was_away {
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

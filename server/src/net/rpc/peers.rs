//! Whether the machine at an address runs: asks the TCP connections that it has to our RPC servers.
//!
//! A machine that was switched off or started anew says nothing about it. Its kernel does: it
//! acknowledges what TCP asks while it runs, and knows of no connection after a start. A kernel that
//! was cut off for long knows of none either, but makes another one.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::{sleep, sleep_until};

use super::connection::{Connection, End, Probe};
use super::own_network::{self, OwnInterfaces, OwnNetwork};

/// The TCP connections of clients. Addresses are canonical ([`IpAddr::to_canonical`]).
#[derive(Default)]
pub struct Peers {
    known: Mutex<Known>,
    own_interfaces: OwnInterfaces,
}

/// What is known of addresses.
#[derive(Default)]
struct Known {
    open: HashMap<IpAddr, Vec<Arc<Connection>>>,
    /// The addresses that are asked now.
    asked: HashMap<IpAddr, Asked>,
}

/// An address that is asked.
struct Asked {
    /// Who waits for the answer.
    waiting: Vec<Answer>,
}

/// Whether a machine lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// A connection of that address acknowledged something after the question, or was closed in order.
    Answers,
    /// It had connections, all of them were reset or timed out since the question, while our own
    /// interface was there. A network that is away somewhere else for
    /// those seconds looks the same, so that there has to be another sign too.
    Dead,
    /// Nothing can be said: it has no open connection, or none that could be asked in time.
    Unknown,
}

impl Peers {
    /// Asks whether the machine at `address` lives, and does not wait for the answer.
    ///
    /// `answer` is called exactly once, at the latest after `deadline`, and must not wait: at once if
    /// there is no connection or too much is asked already, else on a task of the RPC server. It takes
    /// up to five seconds to see that a machine is dead, and up to ten where it has not acknowledged a
    /// reply. An address is asked once at a time: who asks meanwhile gets the same answer.
    pub fn ask(
        self: &Arc<Self>,
        address: IpAddr,
        deadline: Duration,
        answer: Box<dyn FnOnce(Life) + Send>,
    ) {
        let (asked, address) = (Instant::now(), address.to_canonical());
        let begun = self.lock().ask(address, answer);
        match begun {
            Begun::Asks(runtime, open) => {
                let question = Question { peers: Arc::clone(self), address, is_answered: false };
                runtime.spawn(question.put(open, asked, deadline));
            }
            Begun::Joins => {}
            Begun::Cannot(answer) => answer(Life::Unknown),
        }
    }

    pub(super) fn insert(&self, connection: &Arc<Connection>) {
        let address = connection.origin.peer.ip().to_canonical();
        self.lock().open.entry(address).or_default().push(Arc::clone(connection));
    }

    /// Forgets a connection that has ended.
    pub(super) fn remove(&self, connection: &Connection) {
        let address = connection.origin.peer.ip().to_canonical();
        let mut known = self.lock();
        let Some(connections) = known.open.get_mut(&address) else { return };
        connections.retain(|one| !std::ptr::eq(&raw const **one, connection));
        if connections.is_empty() {
            known.open.remove(&address);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("addresses", &self.lock().open.len()).finish_non_exhaustive()
    }
}

impl Known {
    fn ask(&mut self, address: IpAddr, answer: Answer) -> Begun {
        if let Some(asked) = self.asked.get_mut(&address) {
            if asked.waiting.len() >= MAX_WAITING {
                return Begun::Cannot(answer);
            }
            asked.waiting.push(answer);
            return Begun::Joins;
        }
        let Some(open) = self.open.get(&address) else { return Begun::Cannot(answer) };
        let Some(first) = open.first().filter(|_| self.asked.len() < MAX_ASKED) else {
            return Begun::Cannot(answer);
        };
        let asked = Asked { waiting: vec![answer] };
        self.asked.insert(address, asked);
        Begun::Asks(first.runtime.clone(), open.clone())
    }
}

/// How a question begins.
enum Begun {
    /// By these connections, on the runtime of the first.
    Asks(Handle, Vec<Arc<Connection>>),
    /// The address is asked already.
    Joins,
    /// Not at all.
    Cannot(Answer),
}

/// What an address is asked, until it is answered; when the server stops, nothing is known.
struct Question {
    peers: Arc<Peers>,
    address: IpAddr,
    is_answered: bool,
}

impl Question {
    /// Asks by these connections, and answers.
    async fn put(mut self, open: Vec<Arc<Connection>>, asked: Instant, deadline: Duration) {
        let probes: Vec<Probe> = open.iter().map(Connection::probe).collect();
        let mut network = OwnNetwork::of(&open, &self.peers.own_interfaces);
        let give_up = sleep_until((asked + deadline).into());
        tokio::pin!(give_up);
        let life = loop {
            let last = tokio::select! {
                () = sleep(LOOK) => false,
                () = &mut give_up => true,
            };
            network.look(&self.peers.own_interfaces);
            if let Some(life) = judge(&probes, asked, &network, last) {
                break life;
            }
            if last {
                break Life::Unknown;
            }
        };
        if life == Life::Answers {
            open.iter().for_each(|connection| connection.works());
        }
        drop(probes);
        self.answer(life);
    }

    /// Answers, once: after that the address may be asked by another question.
    fn answer(&mut self, life: Life) {
        if std::mem::replace(&mut self.is_answered, true) {
            return;
        }
        let asked = self.peers.lock().asked.remove(&self.address);
        let waiting = asked.map(|asked| asked.waiting).unwrap_or_default();
        waiting.into_iter().for_each(|answer| answer(life));
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.answer(Life::Unknown);
    }
}

type Answer = Box<dyn FnOnce(Life) + Send>;

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
const LOOK: Duration = own_network::LASTS;

/// Addresses that are asked at the same time.
pub(super) const MAX_ASKED: usize = 1024;

/// Who may wait for the answer of one address.
pub(super) const MAX_WAITING: usize = 64;

/// How exact the kernel is about when it heard of a peer.
const TICK: Duration = Duration::from_millis(20);

/// How often something must have been sent again in vain.
const UNANSWERED: u8 = 3;

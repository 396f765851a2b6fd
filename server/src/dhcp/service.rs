//! DHCP on interfaces: sockets, the journal's thread, and the clock around the state machine.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::journal::{Journal, JournalError, Log};
use super::leases::{Binding, Leases};
use super::probe::Probe;
use super::reply::{Action, Arrival, Mode, Port, Reply, Silence};
use super::server::{Foreign, Server};
use super::sockets::{Sockets, Trouble};
use super::subnet::Settings;
use super::writer::Writer;
use crate::boot::Booter;
use crate::clock::Clock;
use crate::net::datagram::Received;
use crate::net::interface::Interface;

/// The DHCP server of all interfaces: one table of leases, one journal.
///
/// Nothing waits while it holds the table: no file, no socket.
pub struct Dhcp {
    server: Mutex<Server>,
    journal: Writer,
    clock: Arc<dyn Clock>,
}

impl Dhcp {
    /// Opens the lease journal at `path`, or begins one.
    ///
    /// # Errors
    ///
    /// The journal cannot be used; the message says what to do.
    pub fn open(
        settings: Settings,
        booter: Arc<dyn Booter>,
        path: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, JournalError> {
        let (journal, leases) = Journal::open(path)?;
        Self::with_log(settings, booter, leases, journal, clock).map_err(JournalError::Thread)
    }

    /// A server that knows these leases and makes new ones lasting in `log`.
    ///
    /// # Errors
    ///
    /// The thread that writes cannot be started.
    pub fn with_log(
        settings: Settings,
        booter: Arc<dyn Booter>,
        leases: Leases,
        log: impl Log + 'static,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Arc<Self>> {
        let server = Mutex::new(Server::new(settings, booter, leases));
        Ok(Arc::new(Self { server, journal: Writer::start(log)?, clock }))
    }

    /// Every binding, ordered by address.
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        let mut all: Vec<Binding> = self.lock().leases().iter().collect();
        all.sort_by_key(|binding| binding.address);
        all
    }

    /// Hands out by other settings from now on. Every lease stays.
    pub fn set_settings(&self, settings: Settings) {
        self.lock().set_settings(settings);
    }

    /// The other DHCP servers that were heard.
    #[must_use]
    pub fn foreign(&self) -> Vec<Foreign> {
        self.lock().foreign().to_vec()
    }

    /// One step of the state machine. Where a binding has to be written first, the answer comes to
    /// `written` once that is done. Does not wait.
    pub fn handle(
        &self,
        bytes: &[u8],
        arrival: &Arrival<'_>,
        written: &UnboundedSender<io::Result<Reply>>,
    ) -> Step {
        // Records reach the journal in the order in which the table changed, so they are handed over
        // before it is let go.
        let mut server = self.lock();
        match server.handle(bytes, arrival, self.clock.wall()) {
            Action::Silence(silence) => Step::Silence(silence),
            Action::Send(reply) => Step::Send(reply),
            Action::Commit(commit) => match self.journal.submit(commit, written) {
                Ok(()) => Step::Writing,
                Err(error) => Step::Failed(error),
            },
        }
    }

    /// Binds an interface's ports; nothing is answered yet. In [`Mode::Serve`] it also asks for the
    /// first time whether another DHCP server is there.
    ///
    /// # Errors
    ///
    /// The interface cannot be served; the message says what to do.
    pub async fn bind(
        self: &Arc<Self>,
        interface: Interface,
        wanted: Mode,
    ) -> Result<Bound, ListenError> {
        let name = interface.name.clone();
        let sockets = open(&interface, wanted, Arc::clone(&self.clock))?;
        let probe = match wanted {
            Mode::Passive | Mode::Proxy => None,
            Mode::Looking | Mode::Serve => {
                let source = |source| ListenError::Probe { interface: name, source };
                Some(Probe::begin(&interface).await.map_err(source)?)
            }
        };
        Ok(Bound { server: Arc::clone(self), interface, wanted, sockets, probe })
    }

    /// Binds the ports of an interface that was lost, as soon as it is there again.
    pub async fn bind_again(self: &Arc<Self>, name: &str, wanted: Mode) -> Bound {
        let mut told = false;
        loop {
            sleep(LOOK_PERIOD).await;
            let interface = match Interface::by_name(name) {
                Ok(Some(interface)) if interface.up && !interface.networks.is_empty() => interface,
                Ok(_) => continue,
                Err(error) => {
                    debug!(%error, "interfaces cannot be listed");
                    continue;
                }
            };
            match self.bind(interface, wanted).await {
                Ok(bound) => {
                    info!("{name}: the interface is there, DHCP goes on");
                    return bound;
                }
                Err(error) if told => debug!("{error}"),
                Err(error) => {
                    told = true;
                    warn!("{error}; it is tried again every second");
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Server> {
        // A panic costs one message: the tables are changed in whole steps.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a message came to.
#[derive(Debug)]
pub enum Step {
    /// No answer.
    Silence(Silence),
    /// An answer that changes nothing.
    Send(Reply),
    /// The answer comes when the journal is written.
    Writing,
    /// The journal cannot take it.
    Failed(io::Error),
}

/// Binds the ports that DHCP has on an interface in a mode.
fn open(
    interface: &Interface,
    wanted: Mode,
    clock: Arc<dyn Clock>,
) -> Result<Sockets, ListenError> {
    let name = interface.name.clone();
    if interface.networks.is_empty() {
        return Err(ListenError::NoAddress(name));
    }
    if interface.mac.is_none() || !interface.broadcast {
        return Err(ListenError::NotEthernet(name));
    }
    let mut sockets = Sockets::open(interface, clock)?;
    match wanted {
        Mode::Passive => {}
        Mode::Looking | Mode::Proxy | Mode::Serve => sockets.open_pxe(interface)?,
    }
    Ok(sockets)
}

/// Binds the ports of an interface as [`Dhcp::bind`] does, and gives them back.
///
/// # Errors
///
/// As [`Dhcp::bind`].
pub fn try_ports(
    interface: &Interface,
    wanted: Mode,
    clock: Arc<dyn Clock>,
) -> Result<(), ListenError> {
    open(interface, wanted, clock).map(drop)
}

/// An interface whose ports are bound, before it is known whether another server is there.
pub struct Bound {
    server: Arc<Dhcp>,
    interface: Interface,
    wanted: Mode,
    sockets: Sockets,
    /// The question that is on its way; none where nothing will be handed out anyway.
    probe: Option<Probe>,
}

impl Bound {
    /// The interface.
    #[must_use]
    pub const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Waits for the answers of other DHCP servers, for four seconds, if the interface is to be
    /// served. Meanwhile machines that have an address of ours are answered ([`Mode::Looking`]): a
    /// server that is started again must not make them wait. Where another server answers, netbe only
    /// listens: [`Listener::foreign`] names it.
    ///
    /// # Errors
    ///
    /// The interface was lost meanwhile.
    pub async fn look(self) -> Result<Listener, Lost> {
        let Self { server, interface, wanted, sockets, probe } = self;
        let (to_send, written) = unbounded_channel();
        let mode = if probe.is_some() { Mode::Looking } else { wanted };
        let mut listener =
            Listener { server, interface, mode, foreign: None, sockets, to_send, written };
        let Some(probe) = probe else { return Ok(listener) };
        let outcome = tokio::select! {
            outcome = probe.outcome() => outcome.map_err(Lost::Broken)?,
            lost = listener.answer_until_lost() => return Err(lost),
        };
        listener.mode = wanted;
        if let Some(other) = outcome {
            let Listener { server, interface, .. } = &listener;
            server.lock().note_foreign(other, interface, server.clock.wall());
            listener.sockets.close_pxe();
            listener.mode = Mode::Passive;
            listener.foreign = outcome;
        }
        Ok(listener)
    }
}

/// An interface that DHCP listens on.
pub struct Listener {
    server: Arc<Dhcp>,
    interface: Interface,
    mode: Mode,
    foreign: Option<Ipv4Addr>,
    sockets: Sockets,
    /// Where the journal's thread puts answers; their number is bounded by its queue.
    to_send: UnboundedSender<io::Result<Reply>>,
    written: UnboundedReceiver<io::Result<Reply>>,
}

impl Listener {
    /// What is done on the interface.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The other DHCP server that was found before serving, and keeps us from it.
    #[must_use]
    pub const fn foreign(&self) -> Option<Ipv4Addr> {
        self.foreign
    }

    /// The interface.
    #[must_use]
    pub const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Answers until the interface is lost, and says how; to stop it, drop it.
    pub async fn run(mut self) -> Lost {
        self.answer_until_lost().await
    }

    async fn answer_until_lost(&mut self) -> Lost {
        let mut looks = interval(LOOK_PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut dhcp, mut pxe) = ([0; DATAGRAM], [0; DATAGRAM]);
        loop {
            tokio::select! {
                received = self.sockets.receive(&mut dhcp) => {
                    let received = match received {
                        Ok(received) => received,
                        Err(error) => return Lost::Broken(error),
                    };
                    let bytes = dhcp.get(..received.len).unwrap_or_default();
                    self.answer(bytes, &received, Port::Dhcp).await;
                }
                received = self.sockets.receive_pxe(&mut pxe) => {
                    let received = match received {
                        Ok(received) => received,
                        Err(error) => return Lost::Broken(error),
                    };
                    let bytes = pxe.get(..received.len).unwrap_or_default();
                    self.answer(bytes, &received, Port::Pxe).await;
                }
                Some(written) = self.written.recv() => match written {
                    Ok(reply) => self.send(&reply).await,
                    Err(error) => self.sockets.tell(&Trouble::Journal(error)),
                },
                _ = looks.tick() => if let Some(lost) = self.look() {
                    return lost;
                },
            }
        }
    }

    async fn answer(&self, bytes: &[u8], received: &Received, port: Port) {
        let (SocketAddr::V4(source), IpAddr::V4(destination)) =
            (received.peer, received.destination)
        else {
            return;
        };
        let (interface, mode) = (&self.interface, self.mode);
        let arrival = Arrival { interface, mode, port, destination, source };
        match self.server.handle(bytes, &arrival, &self.to_send) {
            Step::Send(reply) => self.send(&reply).await,
            Step::Writing => {}
            Step::Failed(error) => self.sockets.tell(&Trouble::Journal(error)),
            Step::Silence(silence) => {
                debug!(interface = interface.name, peer = %source, ?silence, "not answered");
                match silence {
                    Silence::Exhausted => self.sockets.tell(&Trouble::Exhausted),
                    Silence::OtherServer(server) if mode == Mode::Serve => {
                        self.sockets.tell(&Trouble::Foreign(server));
                    }
                    Silence::Failed
                    | Silence::Garbage
                    | Silence::Lives
                    | Silence::NotOurs
                    | Silence::Nothing
                    | Silence::OtherServer(_)
                    | Silence::Passive
                    | Silence::Unknown => {}
                }
            }
        }
    }

    async fn send(&self, reply: &Reply) {
        let outcome = self.sockets.send(reply).await;
        self.server.lock().sent(reply, &outcome);
    }

    /// Takes note of addresses that came or went, and of an interface that is another one now.
    fn look(&mut self) -> Option<Lost> {
        let now = match Interface::by_name(&self.interface.name) {
            Ok(Some(now)) => now,
            Ok(None) => return Some(Lost::Gone),
            Err(error) => {
                debug!(%error, "interfaces cannot be listed");
                return None;
            }
        };
        if now.index != self.interface.index || self.sockets.is_cut() {
            return Some(Lost::Remade);
        }
        if now.mac != self.interface.mac
            && let Err(error) = self.sockets.open_link(&now)
        {
            return Some(Lost::Broken(io::Error::other(error)));
        }
        // Who moves an address takes it away first.
        if now != self.interface && !now.networks.is_empty() {
            info!("{}: its addresses or state changed", now.name);
            self.interface = now;
        }
        None
    }
}

/// How an interface was lost.
#[derive(Debug)]
pub enum Lost {
    /// A socket is broken.
    Broken(io::Error),
    /// There is no interface of that name any more.
    Gone,
    /// Another interface has the name now.
    Remade,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "its sockets do not work any more ({error})"),
            Self::Gone => f.write_str("the interface is gone"),
            Self::Remade => f.write_str("the interface was made anew"),
        }
    }
}

/// Why an interface cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The port cannot be had.
    #[error(
        "{interface}: port {port} cannot be bound: {source}; stop the DHCP server that runs on \
         this host, or run netbe as root"
    )]
    Bind {
        /// The interface.
        interface: String,
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// Frames cannot be sent by the interface.
    #[error("{interface}: frames cannot be sent: {source}; run netbe as root")]
    Link {
        /// The interface.
        interface: String,
        /// What the system said.
        source: io::Error,
    },
    /// The interface has no IPv4 address.
    #[error("{0}: give the interface a fixed IPv4 address first; machines boot from it")]
    NoAddress(String),
    /// The interface is a tunnel or the loopback.
    #[error("{0}: choose an Ethernet interface: this one cannot broadcast")]
    NotEthernet(String),
    /// It cannot be found out whether another server is there.
    #[error(
        "{interface}: other DHCP servers cannot be looked for: {source}; stop the DHCP client on \
         this interface and give it a fixed address"
    )]
    Probe {
        /// The interface.
        interface: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Longest message that is read; what is longer loses its end, which the codec survives.
const DATAGRAM: usize = 2048;

/// How often it is looked whether an interface is still the same.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

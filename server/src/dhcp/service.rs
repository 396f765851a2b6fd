//! DHCP on interfaces: sockets, the journal, and the clock around the state machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::Settings;
use super::counters::Counters;
use super::journal::{Journal, JournalError};
use super::leases::Binding;
use super::probe::probe;
use super::reply::{
    Action, Arrival, CLIENT_PORT, Destination, Mode, Port, Reply, Silence, Written,
};
use super::server::{Foreign, Server};
use crate::boot::Booter;
use crate::datagram::{BindOptions, Datagrams, Received, Source};
use crate::interface::Interface;
use crate::sys;

/// The DHCP server of all interfaces: one table of leases, one journal.
pub struct Dhcp {
    state: Mutex<Lasting>,
}

/// What has to change together.
struct Lasting {
    server: Server,
    journal: Journal,
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
    ) -> Result<Arc<Self>, JournalError> {
        let (journal, leases) = Journal::open(path)?;
        let server = Server::new(settings, booter, leases);
        Ok(Arc::new(Self { state: Mutex::new(Lasting { server, journal }) }))
    }

    /// Every binding, ordered by address.
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        let mut all: Vec<Binding> = self.lock().server.leases().iter().collect();
        all.sort_by_key(|binding| binding.address);
        all
    }

    /// The other DHCP servers that were heard.
    #[must_use]
    pub fn foreign(&self) -> Vec<Foreign> {
        self.lock().server.foreign().to_vec()
    }

    /// How many messages came to what.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.lock().server.counters()
    }

    /// Binds an interface's ports. In [`Mode::Serve`] it first looks for other DHCP servers, for
    /// two and a half seconds, and only listens where it finds one: [`Listener::foreign`] names it.
    ///
    /// # Errors
    ///
    /// The interface cannot be served; the message says what to do.
    pub async fn listen(
        self: &Arc<Self>,
        interface: Interface,
        wanted: Mode,
    ) -> Result<Listener, ListenError> {
        let name = interface.name.clone();
        if interface.networks.is_empty() {
            return Err(ListenError::NoAddress(name));
        }
        if interface.mac.is_none() || !interface.broadcast {
            return Err(ListenError::NotEthernet(name));
        }
        let dhcp = bind(&interface, Port::Dhcp)?;
        let (mut mode, mut foreign, mut pxe) = (wanted, None, None);
        if wanted == Mode::Serve {
            let source = |source| ListenError::Probe { interface: name.clone(), source };
            foreign = probe(&interface).await.map_err(source)?;
            match foreign {
                Some(server) => {
                    self.lock().server.note_foreign(server, &interface, SystemTime::now());
                    mode = Mode::Passive;
                }
                None => pxe = Some(bind(&interface, Port::Pxe)?),
            }
        }
        let link = sys::link::Link::open(&interface)
            .map_err(|source| ListenError::Link { interface: name, source })?;
        let dhcp_server = Arc::clone(self);
        Ok(Listener { dhcp_server, interface, mode, foreign, dhcp, pxe, link, warned: None })
    }

    fn lock(&self) -> MutexGuard<'_, Lasting> {
        // A panic costs one message: the tables are changed in whole steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step of the state machine, with its record written.
    fn step(&self, bytes: &[u8], arrival: &Arrival<'_>) -> Step {
        let mut lasting = self.lock();
        let Lasting { server, journal } = &mut *lasting;
        match server.handle(bytes, arrival, SystemTime::now()) {
            Action::Silence(silence) => Step::Silence(silence),
            Action::Send(reply) => Step::Send(reply),
            Action::Commit(commit) => match commit.write(journal) {
                Ok(written) => Step::Written(written),
                Err(error) => Step::Failed(error),
            },
        }
    }

    /// Brings the journal to the disk, and writes it anew when it is mostly history.
    async fn settle(self: &Arc<Self>) {
        let unsynced = self.lock().journal.take_unsynced();
        let dhcp = Arc::clone(self);
        let result = spawn_blocking(move || {
            if let Some(file) = unsynced {
                file.sync_data()?;
            }
            let mut lasting = dhcp.lock();
            let Lasting { server, journal } = &mut *lasting;
            if journal.is_long(server.leases()) { journal.compact(server.leases()) } else { Ok(()) }
        });
        if let Err(error) = result.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            error!("the lease journal cannot be written to disk: {error}");
        }
    }
}

/// What a message came to.
enum Step {
    Silence(Silence),
    Send(Reply),
    Written(Written),
    Failed(io::Error),
}

/// An interface that DHCP listens on.
pub struct Listener {
    dhcp_server: Arc<Dhcp>,
    interface: Interface,
    mode: Mode,
    foreign: Option<Ipv4Addr>,
    dhcp: Datagrams,
    pxe: Option<Datagrams>,
    link: sys::link::Link,
    /// When the operator was last told that something keeps clients waiting.
    warned: Option<Instant>,
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

    /// Answers until a socket breaks; to stop it, drop it.
    ///
    /// # Errors
    ///
    /// A socket is broken, as when its interface is gone.
    pub async fn run(mut self) -> io::Result<()> {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut dhcp_bytes, mut pxe_bytes) = ([0; DATAGRAM], [0; DATAGRAM]);
        loop {
            tokio::select! {
                received = self.dhcp.recv(&mut dhcp_bytes) => {
                    let received = received?;
                    let bytes = dhcp_bytes.get(..received.len).unwrap_or_default();
                    self.answer(bytes, &received, Port::Dhcp).await;
                }
                received = receive(self.pxe.as_ref(), &mut pxe_bytes) => {
                    let received = received?;
                    let bytes = pxe_bytes.get(..received.len).unwrap_or_default();
                    self.answer(bytes, &received, Port::Pxe).await;
                }
                _ = seconds.tick() => {
                    self.dhcp_server.settle().await;
                    self.refresh();
                }
            }
        }
    }

    async fn answer(&mut self, bytes: &[u8], received: &Received, port: Port) {
        let (SocketAddr::V4(source), IpAddr::V4(destination)) =
            (received.peer, received.destination)
        else {
            return;
        };
        let (interface, mode) = (&self.interface, self.mode);
        let arrival = Arrival { interface, mode, port, destination, source };
        let reply = match self.dhcp_server.step(bytes, &arrival) {
            Step::Send(reply) => Some(reply),
            Step::Written(written) if written.waits() => {
                let settled = spawn_blocking(move || written.settle()).await;
                self.settled(settled.unwrap_or_else(|panic| Err(io::Error::other(panic))))
            }
            Step::Written(written) => self.settled(written.settle()),
            Step::Failed(error) => self.settled(Err(error)),
            Step::Silence(silence) => {
                debug!(interface = interface.name, peer = %source, ?silence, "not answered");
                if silence == Silence::Exhausted && self.may_warn() {
                    warn!("{}: no address is left to hand out: widen --range", self.interface.name);
                }
                None
            }
        };
        if let Some(reply) = reply
            && let Err(error) = self.send(&reply).await
        {
            debug!(interface = self.interface.name, to = ?reply.to, %error, "not sent");
        }
    }

    fn settled(&mut self, result: io::Result<Option<Reply>>) -> Option<Reply> {
        result.unwrap_or_else(|error| {
            if self.may_warn() {
                error!(
                    "no address is handed out while the lease journal cannot be written: {error}"
                );
            }
            None
        })
    }

    async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        let Reply { bytes, local, port, to } = reply;
        let socket = match (port, &self.pxe) {
            (Port::Pxe, Some(pxe)) => pxe,
            (Port::Pxe, None) | (Port::Dhcp, _) => &self.dhcp,
        };
        let directly = |interface| Some(Source { local: IpAddr::V4(*local), interface });
        match *to {
            Destination::Address(to) => {
                socket.send(bytes, to.into(), directly(self.interface.index)).await
            }
            Destination::Relay(to) => socket.send(bytes, to.into(), directly(0)).await,
            Destination::Broadcast => self.link.broadcast(socket, *local, CLIENT_PORT, bytes).await,
            Destination::Hardware { mac, address } => {
                let to = SocketAddrV4::new(address, CLIENT_PORT);
                let Err(error) = self.link.unicast(socket, mac, *local, to, bytes).await else {
                    return Ok(());
                };
                self.link.broadcast(socket, *local, CLIENT_PORT, bytes).await?;
                if self.may_warn() {
                    warn!(
                        "{}: clients without an address are answered by broadcast, which FreeBSD \
                         loaders that boot at the same moment mix up: {error}",
                        self.interface.name
                    );
                }
                Ok(())
            }
        }
    }

    /// Takes note of addresses that came or went.
    fn refresh(&mut self) {
        match Interface::by_name(&self.interface.name) {
            Ok(Some(now)) if now != self.interface && !now.networks.is_empty() => {
                info!("{}: its addresses or state changed", now.name);
                self.interface = now;
            }
            Ok(_) => {}
            Err(error) => debug!(%error, "interfaces cannot be listed"),
        }
    }

    /// Whether the operator has not been bothered for a while.
    fn may_warn(&mut self) -> bool {
        let quiet = self.warned.is_none_or(|warned| warned.elapsed() >= QUIET);
        if quiet {
            self.warned = Some(Instant::now());
        }
        quiet
    }
}

/// Why an interface cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The port cannot be had.
    #[error(
        "{interface}: port {port} cannot be bound: {source}; stop the DHCP server that runs on \
         this host, or start netbe with more rights"
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
    #[error("{interface}: frames cannot be sent: {source}; start netbe with more rights")]
    Link {
        /// The interface.
        interface: String,
        /// What the system said.
        source: io::Error,
    },
    /// The interface has no IPv4 address.
    #[error("{0}: give the interface a fixed IPv4 address first, which machines will boot from")]
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

/// Binds one of an interface's ports.
fn bind(interface: &Interface, port: Port) -> Result<Datagrams, ListenError> {
    let options = BindOptions {
        device: Some(interface.name.clone()),
        broadcast: true,
        // Every interface has a socket of its own at the same port.
        reuse: true,
        buffer: Some(BUFFER),
    };
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.number()));
    Datagrams::bind(any, &options).map_err(|source| ListenError::Bind {
        interface: interface.name.clone(),
        port: port.number(),
        source,
    })
}

/// Receives from a socket, or never when there is none.
async fn receive(socket: Option<&Datagrams>, bytes: &mut [u8]) -> io::Result<Received> {
    match socket {
        Some(socket) => socket.recv(bytes).await,
        None => std::future::pending().await,
    }
}

/// Longest message that is read; what is longer loses its end, which the codec survives.
const DATAGRAM: usize = 2048;

/// Bytes that wait in the kernel when a building is switched on.
const BUFFER: usize = 1 << 20;

/// How long the operator is left alone after a warning.
const QUIET: Duration = Duration::from_secs(600);

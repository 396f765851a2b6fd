//! DHCP on interfaces: sockets, the journal, and the clock around the state machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info};

use super::Settings;
use super::counters::Counters;
use super::journal::{Journal, JournalError};
use super::leases::Binding;
use super::outlet::{Outlet, Trouble};
use super::probe::Probe;
use super::reply::{Action, Arrival, Mode, Port, Reply, Silence, Written};
use super::server::{Foreign, Server};
use crate::boot::Booter;
use crate::net::datagram::Received;
use crate::net::interface::Interface;

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
        if interface.networks.is_empty() {
            return Err(ListenError::NoAddress(name));
        }
        if interface.mac.is_none() || !interface.broadcast {
            return Err(ListenError::NotEthernet(name));
        }
        let mut outlet = Outlet::open(&interface)?;
        let probe = match wanted {
            Mode::Passive => None,
            Mode::Proxy => {
                outlet.open_pxe(&interface)?;
                None
            }
            Mode::Serve => {
                outlet.open_pxe(&interface)?;
                let source = |source| ListenError::Probe { interface: name, source };
                Some(Probe::begin(&interface).await.map_err(source)?)
            }
        };
        Ok(Bound { server: Arc::clone(self), interface, wanted, outlet, probe })
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

    /// Brings the journal to the disk, and writes it anew when it is mostly history. Waits for the
    /// disk.
    fn settle(&self) {
        if let Err(error) = self.try_settle() {
            error!("the lease journal cannot be brought to the disk: {error}");
        }
    }

    fn try_settle(&self) -> io::Result<()> {
        let unsynced = self.lock().journal.take_unsynced();
        if let Some(file) = unsynced {
            file.sync_data()?;
        }
        let mut lasting = self.lock();
        let Lasting { server, journal } = &mut *lasting;
        if journal.is_long(server.leases()) { journal.compact(server.leases()) } else { Ok(()) }
    }
}

/// What a message came to.
enum Step {
    Silence(Silence),
    Send(Reply),
    Written(Written),
    Failed(io::Error),
}

/// An interface whose ports are bound, before it is known whether another server is there.
pub struct Bound {
    server: Arc<Dhcp>,
    interface: Interface,
    wanted: Mode,
    outlet: Outlet,
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
    /// served. Where one answers, netbe only listens: [`Listener::foreign`] names it.
    ///
    /// # Errors
    ///
    /// A socket is broken, as when its interface is gone.
    pub async fn look(self) -> io::Result<Listener> {
        let Self { server, interface, wanted, mut outlet, probe } = self;
        let (mut mode, mut foreign) = (wanted, None);
        if let Some(probe) = probe {
            foreign = probe.outcome().await?;
            if let Some(other) = foreign {
                server.lock().server.note_foreign(other, &interface, SystemTime::now());
                outlet.close_pxe();
                mode = Mode::Passive;
            }
        }
        let outlet = Arc::new(outlet);
        Ok(Listener { server, interface, mode, foreign, outlet, settling: None })
    }
}

/// An interface that DHCP listens on.
pub struct Listener {
    server: Arc<Dhcp>,
    interface: Interface,
    mode: Mode,
    foreign: Option<Ipv4Addr>,
    outlet: Arc<Outlet>,
    /// The journal on its way to the disk.
    settling: Option<JoinHandle<()>>,
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
        let outlet = Arc::clone(&self.outlet);
        let (mut dhcp, mut pxe) = ([0; DATAGRAM], [0; DATAGRAM]);
        loop {
            tokio::select! {
                received = outlet.receive(&mut dhcp) => {
                    let received = received?;
                    let bytes = dhcp.get(..received.len).unwrap_or_default();
                    self.answer(bytes, &received, Port::Dhcp).await;
                }
                received = outlet.receive_pxe(&mut pxe) => {
                    let received = received?;
                    let bytes = pxe.get(..received.len).unwrap_or_default();
                    self.answer(bytes, &received, Port::Pxe).await;
                }
                _ = seconds.tick() => self.tick(),
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
        match self.server.step(bytes, &arrival) {
            Step::Send(reply) => self.outlet.send(&reply).await,
            // One machine that waits for a disk does not keep the others waiting.
            Step::Written(written) if written.waits() => {
                let outlet = Arc::clone(&self.outlet);
                tokio::spawn(async move {
                    let settled = spawn_blocking(move || written.settle()).await;
                    conclude(&outlet, settled.unwrap_or_else(|e| Err(io::Error::other(e)))).await;
                });
            }
            Step::Written(written) => conclude(&self.outlet, written.settle()).await,
            Step::Failed(error) => conclude(&self.outlet, Err(error)).await,
            Step::Silence(silence) => {
                debug!(interface = interface.name, peer = %source, ?silence, "not answered");
                match silence {
                    Silence::Exhausted => self.outlet.tell(&Trouble::Exhausted),
                    Silence::OtherServer(server) if mode == Mode::Serve => {
                        self.outlet.tell(&Trouble::Foreign(server));
                    }
                    Silence::Failed
                    | Silence::Garbage
                    | Silence::NotOurs
                    | Silence::Nothing
                    | Silence::OtherServer(_)
                    | Silence::Passive
                    | Silence::Unknown => {}
                }
            }
        }
    }

    /// What is done every second: the journal goes to the disk, one write at a time.
    fn tick(&mut self) {
        if self.settling.as_ref().is_none_or(JoinHandle::is_finished) {
            let server = Arc::clone(&self.server);
            self.settling = Some(spawn_blocking(move || server.settle()));
        }
        self.refresh();
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
}

/// Sends what was written down, or says why it could not be.
async fn conclude(outlet: &Outlet, result: io::Result<Option<Reply>>) {
    match result {
        Ok(Some(reply)) => outlet.send(&reply).await,
        Ok(None) => {}
        Err(error) => outlet.tell(&Trouble::Journal(error)),
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

/// Longest message that is read; what is longer loses its end, which the codec survives.
const DATAGRAM: usize = 2048;

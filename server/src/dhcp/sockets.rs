//! The sockets of one interface, and what the operator is told about them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;
use tracing::{error, warn};

use super::reply::{CLIENT_PORT, Destination, Port, Reply};
use super::service::ListenError;
use crate::clock::Clock;
use crate::net::datagram::{BindOptions, Datagrams, Received, Source};
use crate::net::interface::Interface;
use crate::net::link::Link;

/// Where messages of one interface come in and go out.
pub(super) struct Sockets {
    name: String,
    index: u32,
    dhcp: Datagrams,
    pxe: Option<Datagrams>,
    link: Link,
    clock: Arc<dyn Clock>,
    told: Mutex<Vec<(Cause, Instant)>>,
    /// Answers that could not be sent.
    unsent: AtomicU64,
    /// Whether what sends frames has no interface any more.
    is_cut: AtomicBool,
}

impl Sockets {
    /// Binds port 67 of an interface.
    pub(super) fn open(interface: &Interface, clock: Arc<dyn Clock>) -> Result<Self, ListenError> {
        let dhcp = bind(interface, Port::Dhcp)?;
        let link = link(interface)?;
        let (name, index, told) = (interface.name.clone(), interface.index, Mutex::default());
        let (unsent, is_cut) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { name, index, dhcp, pxe: None, link, clock, told, unsent, is_cut })
    }

    /// Opens what sends frames anew, for an interface whose Ethernet address has changed.
    pub(super) fn open_link(&mut self, interface: &Interface) -> Result<(), ListenError> {
        self.link = link(interface)?;
        Ok(())
    }

    /// Binds port 4011 too.
    pub(super) fn open_pxe(&mut self, interface: &Interface) -> Result<(), ListenError> {
        self.pxe = Some(bind(interface, Port::Pxe)?);
        Ok(())
    }

    /// Gives port 4011 back.
    pub(super) fn close_pxe(&mut self) {
        self.pxe = None;
    }

    /// Waits for a message on port 67.
    pub(super) async fn receive(&self, bytes: &mut [u8]) -> io::Result<Received> {
        self.dhcp.recv(bytes).await
    }

    /// Waits for a message on port 4011, for ever where it is not served.
    pub(super) async fn receive_pxe(&self, bytes: &mut [u8]) -> io::Result<Received> {
        match &self.pxe {
            Some(socket) => socket.recv(bytes).await,
            None => std::future::pending().await,
        }
    }

    /// Sends an answer.
    ///
    /// # Errors
    ///
    /// It is lost, which the operator is told; the client asks again.
    pub(super) async fn send(&self, reply: &Reply) -> io::Result<()> {
        let sent = self.try_send(reply).await;
        if let Err(error) = &sent {
            if tells_cut(error) {
                self.is_cut.store(true, Ordering::Relaxed);
            }
            let count = self.unsent.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            self.tell(&Trouble::Unsent { count, error: error.to_string() });
        }
        sent
    }

    /// Whether the interface was found gone at the sending of a frame, whatever has its name and number
    /// now: they have to be opened again.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    async fn try_send(&self, reply: &Reply) -> io::Result<()> {
        let Reply { bytes, local, port, to, .. } = reply;
        let socket = match (port, &self.pxe) {
            (Port::Pxe, Some(pxe)) => pxe,
            (Port::Pxe, None) | (Port::Dhcp, _) => &self.dhcp,
        };
        let from = |interface| Some(Source { local: IpAddr::V4(*local), interface });
        let source = SocketAddrV4::new(*local, port.number());
        match *to {
            Destination::Address(to) => socket.send(bytes, to.into(), from(self.index)).await,
            Destination::Relay(to) => socket.send(bytes, to.into(), from(0)).await,
            Destination::Broadcast => self.link.broadcast(source, CLIENT_PORT, bytes),
            Destination::Hardware { mac, address } => {
                self.link.unicast(mac, source, SocketAddrV4::new(address, CLIENT_PORT), bytes)
            }
        }
    }

    /// Tells the operator what keeps clients waiting, once in a while for each cause.
    pub(super) fn tell(&self, trouble: &Trouble) {
        let cause = trouble.cause();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        told.retain(|(_, when)| now.saturating_duration_since(*when) < QUIET);
        if told.iter().any(|(known, _)| *known == cause) {
            return;
        }
        told.push((cause, now));
        drop(told);
        let name = &self.name;
        match trouble {
            Trouble::Exhausted => warn!("{name}: no address is left to hand out: widen --range"),
            Trouble::Foreign(server) => {
                warn!(
                    "{name}: a machine chose another DHCP server, {server}: stop one of the two servers"
                );
            }
            Trouble::Journal(error) => {
                error!(
                    "{name}: no address is handed out, because the lease journal cannot be written: {error}"
                );
            }
            Trouble::Unsent { count, error } => warn!(
                "{name}: an answer to a machine was not sent, {count} since DHCP was started here: \
                 {error}; the machine asks again"
            ),
        }
    }
}

/// A cause that keeps clients waiting and that the operator can remove.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The ranges are used up.
    Exhausted,
    /// Another server answers too.
    Foreign(Ipv4Addr),
    /// The journal cannot be written.
    Journal(io::Error),
    /// The kernel does not take what is to be sent.
    Unsent {
        /// How many answers it did not take until now.
        count: u64,
        /// What it said.
        error: String,
    },
}

impl Trouble {
    const fn cause(&self) -> Cause {
        match self {
            Self::Exhausted => Cause::Exhausted,
            Self::Foreign(_) => Cause::Foreign,
            Self::Journal(_) => Cause::Journal,
            Self::Unsent { .. } => Cause::Unsent,
        }
    }
}

/// A kind of [`Trouble`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    Exhausted,
    Foreign,
    Journal,
    Unsent,
}

/// Whether an error says that the interface is gone: a bpf(4) descriptor stays without one for ever
/// (ENXIO), even if another is made by the same name, number and Ethernet address. An interface that
/// is only switched off (ENETDOWN) is none of these.
fn tells_cut(error: &io::Error) -> bool {
    [libc::ENXIO, libc::ENODEV].map(Some).contains(&error.raw_os_error())
}

/// Opens what sends frames.
fn link(interface: &Interface) -> Result<Link, ListenError> {
    let name = interface.name.clone();
    Link::open(interface).map_err(|source| ListenError::Link { interface: name, source })
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

/// Size of the receive buffer in bytes: what waits when a building is switched on.
const BUFFER: usize = 1 << 20;

/// The shortest time between two warnings of one kind.
const QUIET: Duration = Duration::from_secs(600);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_an_interface_that_is_gone_has_to_be_opened_again() {
        let cut = |code| tells_cut(&io::Error::from_raw_os_error(code));
        assert!(cut(libc::ENXIO) && cut(libc::ENODEV));
        assert!(!cut(libc::ENETDOWN) && !cut(libc::ENOBUFS) && !cut(libc::EMSGSIZE));
        assert!(!tells_cut(&io::Error::other("no number")));
    }
}

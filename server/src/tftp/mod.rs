//! TFTP (RFC 1350, 2347, 2348, 2349, 7440), read-only.
//!
//! [`serve`] listens for requests and gives each a [`session`]: its own task and its own port of
//! ours. What is sent when is decided in [`transfer`], without sockets or clock. Only files that a
//! [`Booter`] knows exist here.

mod channel;
mod session;
mod terms;
mod transfer;
mod workers;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{self, JoinError, JoinSet};
use tracing::{debug, error};
use wire::tftp::{DecodeError, ErrorCode, Mode, Packet, Request};

use crate::boot::Booter;
use crate::clock::Clock;
use crate::net::datagram::{Datagrams, Received, Source};
use session::Session;
use workers::Workers;

/// What the server does not exceed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// Transfers at a time. A request beyond is not answered: the client asks again in a moment.
    pub transfers: usize,
    /// Transfers at a time with one client address.
    pub per_address: usize,
    /// Blocks in a window (RFC 7440).
    pub window: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { transfers: 1024, per_address: 32, window: 64 }
    }
}

/// Answers requests that come to `socket`, usually at port 69.
///
/// Dropping the future ends all transfers.
///
/// # Errors
///
/// The threads for the transfers cannot be started, or the socket is broken.
pub async fn serve(
    socket: Datagrams,
    booter: Arc<dyn Booter>,
    options: Options,
    clock: Arc<dyn Clock>,
) -> io::Result<()> {
    let mut server = Server {
        socket,
        booter,
        options,
        clock,
        clients: HashMap::new(),
        per_address: HashMap::new(),
        workers: Workers::start()?,
        tasks: JoinSet::new(),
        peers: HashMap::new(),
        garbage: 0,
    };
    let mut datagram = [0; REQUEST_MAX];
    loop {
        tokio::select! {
            received = server.socket.recv(&mut datagram) => {
                let received = received?;
                let packet = datagram.get(..received.len).unwrap_or_default();
                server.answer(packet, &received).await;
            }
            Some(ended) = server.tasks.join_next_with_id() => server.forget(ended),
        }
    }
}

/// Who is being served.
struct Server {
    socket: Datagrams,
    booter: Arc<dyn Booter>,
    options: Options,
    clock: Arc<dyn Clock>,
    /// The present transfer of each client port.
    clients: HashMap<SocketAddr, Current>,
    /// Tasks for each client address, those included that another has taken the place of.
    per_address: HashMap<IpAddr, usize>,
    workers: Workers,
    tasks: JoinSet<Option<Session>>,
    peers: HashMap<task::Id, SocketAddr>,
    /// Datagrams that meant nothing.
    garbage: u64,
}

/// The present transfer of a client port.
struct Current {
    request: Request<'static>,
    /// Tells the task that the request came again; dropped, that it is of no use any more.
    repeats: mpsc::Sender<()>,
    task: task::Id,
}

impl Server {
    async fn answer(&mut self, packet: &[u8], received: &Received) {
        let peer = received.peer;
        // Requests to a broadcast address are not for a server that was chosen (RFC 1123 §4.2.3.5).
        if received.truncated || received.destination != received.local {
            return self.count_garbage(peer, "not sent to this server");
        }
        let refusal = match Packet::decode(packet) {
            Ok(Packet::Rrq(request)) => match request.mode {
                Mode::Octet => return self.read(request.into_owned(), received),
                Mode::Netascii => Refusal::NETASCII,
                Mode::Mail | Mode::Unknown => Refusal::MODE,
            },
            Ok(Packet::Wrq(_)) => Refusal::READ_ONLY,
            // The client of a transfer that ended long ago, or in an earlier life of this server.
            Ok(Packet::Ack { .. } | Packet::Data { .. } | Packet::Oack(_)) => Refusal::NO_TRANSFER,
            // An ERROR is never answered (RFC 1350 §7).
            Ok(Packet::Error { .. }) => {
                return self.count_garbage(peer, "an error out of the blue");
            }
            Err(DecodeError::Opcode(_) | DecodeError::Truncated) => {
                return self.count_garbage(peer, "not a TFTP packet");
            }
        };
        debug!(%peer, reason = refusal.reason, "TFTP refused");
        let (code, message) = (refusal.code, Cow::Borrowed(refusal.reason.as_bytes()));
        let mut out = Vec::new();
        Packet::Error { code, message }.encode(&mut out);
        // By the way that the host chooses: a client behind a router may be reached by another.
        let from = Some(Source { local: received.local, interface: 0 });
        if let Err(error) = self.socket.send(&out, peer, from).await {
            debug!(%peer, %error, "TFTP error not sent");
        }
    }

    /// Begins a transfer, unless the request repeats one that just began.
    fn read(&mut self, request: Request<'static>, received: &Received) {
        let peer = received.peer;
        if let Some(current) = self.clients.get(&peer)
            && current.request == request
        {
            match current.repeats.try_send(()) {
                // The answer to the last repeated request is still to come.
                Ok(()) | Err(mpsc::error::TrySendError::Full(())) => return,
                Err(mpsc::error::TrySendError::Closed(())) => {}
            }
        }
        // A new request ends what went on with this port; FreeBSD's loader relies on that.
        self.clients.remove(&peer);
        let address = peer.ip().to_canonical();
        let tasks_there = self.per_address.get(&address).copied().unwrap_or(0);
        if self.tasks.len() >= self.options.transfers || tasks_there >= self.options.per_address {
            debug!(%peer, tasks_there, tasks = self.tasks.len(), "too many TFTP transfers");
            return;
        }
        let (local, interface) = (received.local, received.interface);
        self.begin(peer, local, interface, request);
    }

    fn begin(
        &mut self,
        peer: SocketAddr,
        local: IpAddr,
        interface: u32,
        request: Request<'static>,
    ) {
        let Some(worker) = self.workers.next() else { return };
        let (repeats, repeated) = mpsc::channel(1);
        let session = Session {
            booter: Arc::clone(&self.booter),
            clock: Arc::clone(&self.clock),
            peer,
            local,
            interface,
            port: self.socket.local_addr().port(),
            request: request.clone(),
            window_max: self.options.window,
            repeats: repeated,
        };
        let task = self.tasks.spawn_on(session.run(), worker).id();
        self.clients.insert(peer, Current { request, repeats, task });
        self.peers.insert(task, peer);
        *self.per_address.entry(peer.ip().to_canonical()).or_default() += 1;
    }

    /// Takes note that a task ended, and begins the transfer anew if it was asked for again.
    fn forget(&mut self, ended: Result<(task::Id, Option<Session>), JoinError>) {
        let (task, again) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                error!(%error, "a TFTP transfer failed inside the server");
                (error.id(), None)
            }
        };
        let Some(peer) = self.peers.remove(&task) else { return };
        self.leave(peer);
        if self.clients.get(&peer).is_some_and(|current| current.task == task) {
            self.clients.remove(&peer);
            if let Some(session) = again {
                self.begin(peer, session.local, session.interface, session.request);
            }
        }
    }

    /// One task less for the client's address.
    fn leave(&mut self, peer: SocketAddr) {
        let address = peer.ip().to_canonical();
        if let Some(count) = self.per_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
    }

    fn count_garbage(&mut self, peer: SocketAddr, what: &str) {
        self.garbage = self.garbage.saturating_add(1);
        debug!(%peer, what, total = self.garbage, "TFTP packet ignored");
    }
}

/// An error that does not depend on the file.
struct Refusal {
    code: ErrorCode,
    reason: &'static str,
}

impl Refusal {
    const MODE: Self =
        Self { code: ErrorCode::ILLEGAL_OPERATION, reason: "only octet mode is served" };
    /// Files are never rewritten, so their sizes and signatures hold.
    const NETASCII: Self = Self {
        code: ErrorCode::ILLEGAL_OPERATION,
        reason: "netascii is not served: use octet (binary) mode",
    };
    const NO_TRANSFER: Self =
        Self { code: ErrorCode::UNKNOWN_TRANSFER_ID, reason: "no transfer at this port" };
    const READ_ONLY: Self =
        Self { code: ErrorCode::ACCESS_VIOLATION, reason: "files cannot be written here" };
}

/// RFC 2347 limits a request to 512 bytes, and some clients do not.
const REQUEST_MAX: usize = 1500;

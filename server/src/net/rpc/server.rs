//! Programs and sockets, brought together.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, watch};
use wire::record::{self, Record};

use super::connections::Connections;
use super::counts::Counts;
use super::dispatch::{Dispatcher, Origin};
use super::pool::{Permit, Pool};
use super::replay::{Claim, Limits};
use super::tcp::Connection;
use super::udp::UdpRoute;
use super::{Program, tcp, udp};
use crate::clock::SystemClock;
use crate::net::datagram::Datagrams;

/// Serves programs on any number of sockets, in the tokio runtime that its futures run in.
///
/// ```no_run
/// # async fn serve(programs: Vec<std::sync::Arc<dyn netbe::net::rpc::Program>>) -> std::io::Result<()> {
/// use netbe::net::datagram::{BindOptions, Datagrams};
/// use netbe::net::rpc::{Options, Server, listen};
///
/// let server = Server::new(programs, Options::default());
/// let address = "0.0.0.0:2049".parse().unwrap();
/// let udp = Datagrams::bind(address, &BindOptions::default())?;
/// tokio::spawn(server.clone().serve_udp(udp));
/// server.clone().serve_tcp(listen(address)?).await
/// # }
/// ```
pub struct Server {
    pub(super) dispatcher: Dispatcher<Route>,
    pub(super) pool: Pool,
    pub(super) options: Options,
    pub(super) connections: Arc<Connections>,
    stop: watch::Sender<bool>,
}

/// Bounds on what clients can make a server hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Connections at a time; one more closes the one that has been quiet for longest.
    pub connections: usize,
    /// A connection that sends no call for so long is closed; clients connect again when they need.
    pub idle: Duration,
    /// A connection that takes nothing of a reply for so long, or that has begun a call and not
    /// ended one for so long, is closed.
    pub stall: Duration,
    /// Longest record that is taken, in bytes.
    pub record: usize,
    /// Bytes of replies that may wait for slow peers, over all connections; more closes the connection
    /// among them that has been quiet for longest.
    pub unsent: usize,
    /// Bytes of calls that were begun and not ended, over all connections; more closes the connection
    /// among them that has been quiet for longest.
    pub unfinished: usize,
    /// Threads for calls that wait for a disk.
    pub threads: usize,
    /// Calls that may wait for a thread or be on one.
    pub waiting: usize,
    /// Bytes of memory that these calls may hold.
    pub waiting_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            connections: 4096,
            idle: Duration::from_secs(6 * 60),
            stall: Duration::from_secs(60),
            // A WRITE of 1 MiB with its head.
            record: (1 << 20) + (64 << 10),
            unsent: 256 << 20,
            unfinished: 256 << 20,
            threads: (4 * cores).clamp(4, 64),
            waiting: 1024,
            waiting_bytes: 128 << 20,
        }
    }
}

impl Server {
    /// A server of `programs`; it starts no thread and opens no socket before it needs one.
    #[must_use]
    pub fn new(programs: Vec<Arc<dyn Program>>, options: Options) -> Arc<Self> {
        Arc::new(Self {
            dispatcher: Dispatcher::new(programs, Limits::default(), Arc::new(SystemClock)),
            pool: Pool::new(options.threads, options.waiting, options.waiting_bytes),
            connections: Arc::default(),
            stop: watch::Sender::new(false),
            options,
        })
    }

    /// Answers datagrams until [`Server::stop`].
    ///
    /// # Errors
    ///
    /// The socket is broken.
    pub async fn serve_udp(self: Arc<Self>, socket: Datagrams) -> io::Result<()> {
        let stop = self.stop.subscribe();
        udp::serve(&self, socket, stop).await
    }

    /// Accepts connections and answers them until [`Server::stop`]; then lets calls that run end and
    /// their replies leave.
    ///
    /// # Errors
    ///
    /// The socket is broken.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let stop = self.stop.subscribe();
        tcp::serve(&self, listener, stop).await
    }

    /// Ends [`Server::serve_udp`] and [`Server::serve_tcp`]; later ones end at once.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// What was seen so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.dispatcher.counters.read()
    }

    /// How many connections there are.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    /// Carries out a call on the pool and sends its reply.
    pub(super) fn wait(self: &Arc<Self>, waiting: Waiting) {
        let server = Arc::clone(self);
        self.pool.run(move || {
            let Waiting { message, origin, claim, route, permit, turn } = waiting;
            let mut reply = Vec::new();
            let place = record::begin(&mut reply);
            let newest = server.dispatcher.wait(message.as_ref(), origin, claim, &mut reply);
            drop(message);
            if reply.len() > place {
                newest.unwrap_or(route).deliver(reply);
            }
            drop((permit, turn));
        });
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Server");
        fields.field("options", &self.options).field("pool", &self.pool);
        fields.field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// Listens for connections at `addr`; IPv6 sockets take IPv6 only. Inside a tokio runtime.
///
/// # Errors
///
/// The address is in use or not ours, or the port is privileged.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Connections of a server that was killed linger on its port; it must be able to start again.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A call on its way to the pool.
pub(super) struct Waiting {
    pub(super) message: Record,
    pub(super) origin: Origin,
    pub(super) claim: Option<Claim<Route>>,
    pub(super) route: Route,
    pub(super) permit: Permit,
    /// The connection's own bound on calls that wait.
    pub(super) turn: Option<OwnedSemaphorePermit>,
}

/// The way back to a client.
#[derive(Clone, Debug)]
pub(super) enum Route {
    Tcp(Arc<Connection>),
    Udp(UdpRoute),
}

impl Route {
    /// Sends a reply that stands behind the room for its record mark.
    pub(super) fn deliver(&self, reply: Vec<u8>) {
        match self {
            Self::Tcp(connection) => connection.deliver(reply),
            Self::Udp(route) => route.deliver(&reply),
        }
    }
}

/// Connections that may wait to be accepted: a room full of machines is switched on at once.
const BACKLOG: i32 = 1024;

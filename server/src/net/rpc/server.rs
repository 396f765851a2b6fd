//! The RPC server: serves programs on UDP and TCP sockets.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::connection::{Connection, Reply};
use super::connections::Connections;
use super::counts::Counts;
use super::dispatch::Dispatcher;
use super::peers::Peers;
use super::pool::{Bounds, Pool};
use super::replay::Limits;
use super::udp::UdpRoute;
use super::{Program, tcp, udp};
use crate::clock::Clock;
use crate::net::datagram::Datagrams;

/// Serves programs on any number of sockets, in the tokio runtime that its futures run in.
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn serve(programs: Vec<Arc<dyn netbe::net::rpc::Program>>) -> std::io::Result<()> {
/// use netbe::clock::SystemClock;
/// use netbe::net::datagram::{BindOptions, Datagrams};
/// use netbe::net::rpc::{Options, Peers, Server, listen};
///
/// let (peers, clock) = (Arc::new(Peers::default()), Arc::new(SystemClock));
/// let server = Server::new(programs, Options::default(), peers, clock);
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
    pub(super) peers: Arc<Peers>,
    pub(super) clock: Arc<dyn Clock>,
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
    pub waiting_bytes: usize,
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
            unfinished: 128 << 20,
            // They cost nothing until they are needed, and one export that stands still takes half.
            threads: (8 * cores).clamp(16, 64),
            waiting: 8192,
            waiting_bytes: 128 << 20,
        }
    }
}

impl Server {
    /// A server of `programs`, whose connections `peers` gets to know; it starts no thread and opens
    /// no socket before it needs one.
    #[must_use]
    pub fn new(
        programs: Vec<Arc<dyn Program>>,
        options: Options,
        peers: Arc<Peers>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let bounds = Bounds {
            threads: options.threads,
            calls: options.waiting,
            bytes: options.waiting_bytes,
        };
        Arc::new(Self {
            dispatcher: Dispatcher::new(programs, Limits::default(), Arc::clone(&clock)),
            pool: Pool::new(bounds, Arc::clone(&clock)),
            connections: Arc::default(),
            peers,
            clock,
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
        if !self.stop.send_replace(true) {
            tracing::info!("{}", self.counts());
        }
    }

    /// The counters since the server was made.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.dispatcher.counters.read()
    }

    /// How many connections there are.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.connections.len()
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

/// The way back to a client.
#[derive(Clone, Debug)]
pub(super) enum Route {
    Tcp(Arc<Connection>),
    Udp(UdpRoute),
}

impl Route {
    /// Sends a reply that stands behind the room for its record mark, or gives it back where nobody
    /// takes it any more.
    pub(super) fn deliver(&self, reply: Reply) -> Result<(), Reply> {
        match self {
            Self::Tcp(connection) => connection.deliver(reply),
            Self::Udp(route) => {
                debug_assert!(reply.payload.is_none(), "a datagram carries no payload");
                route.deliver(&reply.bytes);
                Ok(())
            }
        }
    }
}

/// Connections that may wait to be accepted: a room full of machines is switched on at once.
/// The kernel may have a lower limit (`net.core.somaxconn`, `kern.ipc.soacceptqueue`).
const BACKLOG: i32 = 4096;

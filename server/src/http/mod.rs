//! HTTP/1.1 for boot files (RFC 9110, RFC 9112): GET, HEAD and ranges.
//!
//! UEFI's HTTP boot, iPXE and FreeBSD's loader ask here. Only names that a [`Booter`] knows exist:
//! there are no directories, no redirects and no paths of the host.

mod body;
mod connection;
mod crowd;
mod range;
mod request;
mod response;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Duration, Instant, sleep, timeout};
use tracing::{debug, error};

use crate::boot::Booter;
use connection::{Connection, refuse};
use crowd::Crowd;
use response::Status;

/// What the server does not exceed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// Connections at a time; those beyond wait until the kernel's queue is asked for them.
    pub connections: usize,
    /// Connections at a time from one client address; one beyond is told to come back in a second.
    pub per_address: usize,
    /// How long the head of a request may take.
    pub head: Duration,
    /// How long a connection may wait for its next request.
    pub idle: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub stall: Duration,
    /// Bytes that a client has to take in a second, over each [`Options::stall`], where others wait for its
    /// place: as the least rates of web servers, such as Apache's `MinRate` (mod_reqtimeout) for what is sent to it.
    pub least_rate: u64,
    /// How long answers that have begun may take when the server ends.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 4096,
            per_address: 64,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            least_rate: 1024,
            grace: Duration::from_secs(10),
        }
    }
}

/// Answers requests that come to `listener`, until `shutdown` is ready.
///
/// Then no connection is accepted any more, those that wait for a request are closed, and answers
/// that have begun get [`Options::grace`]. Dropping the future closes everything at once.
pub async fn serve(
    listener: TcpListener,
    booter: Arc<dyn Booter>,
    options: Options,
    shutdown: impl Future<Output = ()>,
) {
    let (close, closing) = watch::channel(false);
    let mut server = Server {
        booter,
        options,
        closing,
        crowd: Crowd::new(),
        connections: JoinSet::new(),
        peers: HashMap::new(),
        per_address: HashMap::new(),
        refusals: JoinSet::new(),
    };
    tokio::pin!(shutdown);
    let most = options.connections;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept(),
                if server.crowd.has_room(server.connections.len(), most, Instant::now()) =>
            match accepted {
                Ok((stream, peer)) => server.accept(stream, peer),
                Err(error) => server.wait_after(&error).await,
            },
            Some(ended) = server.connections.join_next_with_id() => server.forget(ended),
            Some(_) = server.refusals.join_next() => {}
        }
    }
    drop(listener);
    close.send_replace(true);
    let ending = async { while server.connections.join_next().await.is_some() {} };
    if timeout(options.grace, ending).await.is_err() {
        debug!(left = server.connections.len(), "HTTP answers cut off");
    }
}

/// Who is being served.
struct Server {
    booter: Arc<dyn Booter>,
    options: Options,
    closing: watch::Receiver<bool>,
    crowd: Crowd,
    connections: JoinSet<()>,
    peers: HashMap<task::Id, IpAddr>,
    per_address: HashMap<IpAddr, usize>,
    /// Connections that are being told to come back.
    refusals: JoinSet<()>,
}

impl Server {
    fn accept(&mut self, stream: TcpStream, peer: SocketAddr) {
        let peer = peer.ip().to_canonical();
        let Ok(local) = stream.local_addr() else { return };
        let there = self.per_address.get(&peer).copied().unwrap_or(0);
        if there >= self.options.per_address {
            debug!(%peer, there, "too many HTTP connections of one client");
            return self.turn_away(stream);
        }
        let connection = Connection {
            stream,
            booter: Arc::clone(&self.booter),
            options: self.options,
            peer,
            local: local.ip().to_canonical(),
            port: local.port(),
            closing: self.closing.clone(),
            crowd: self.crowd.subscribe(),
        };
        let task = self.connections.spawn(connection.run()).id();
        self.peers.insert(task, peer);
        *self.per_address.entry(peer).or_default() += 1;
    }

    /// Waits a little after a failed accept, which says nothing about the next connection.
    async fn wait_after(&mut self, error: &io::Error) {
        use nix::libc::{ECONNABORTED, EMFILE, ENFILE};
        match error.raw_os_error() {
            // The client changed its mind.
            Some(ECONNABORTED) => {}
            Some(EMFILE | ENFILE) => {
                self.crowd.is_short(self.connections.len(), Instant::now());
                sleep(ACCEPT_PAUSE).await;
            }
            Some(_) | None => {
                debug!(%error, "no HTTP connection accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn turn_away(&mut self, mut stream: TcpStream) {
        // Beyond this, closing has to say it all.
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.spawn(async move {
                let text = "too many connections: try again in a second";
                refuse(&mut stream, Status::ServiceUnavailable, text).await;
            });
        }
    }

    /// Takes note that a connection ended.
    fn forget(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let task = match ended {
            Ok((task, ())) => task,
            Err(error) => {
                error!(%error, "an HTTP connection failed inside the server");
                error.id()
            }
        };
        let Some(peer) = self.peers.remove(&task) else { return };
        if let Some(count) = self.per_address.get_mut(&peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_address.remove(&peer);
            }
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Connections that are told why they are not served, at a time.
const REFUSALS_MAX: usize = 64;

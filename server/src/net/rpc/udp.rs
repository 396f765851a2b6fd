//! Calls in datagrams: one message each, answered from the address that was asked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use wire::record;

use super::Transport;
use super::counts::count;
use super::dispatch::{Answer, FiveTuple};
use super::parked::{Job, Sink};
use super::server::{Route, Server};
use crate::net::datagram::{Datagrams, Source};

/// Answers what comes to `socket` until `stop` turns true.
pub(super) async fn serve(
    server: &Arc<Server>,
    socket: Datagrams,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let socket = Arc::new(socket);
    let port = socket.local_addr().port();
    let counters = &server.dispatcher.counters;
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    let mut reply = Vec::new();
    loop {
        let received = tokio::select! {
            biased;
            received = socket.recv(&mut buffer) => received?,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let message = buffer.get(..received.len).unwrap_or_default();
        // Broadcast calls are for CALLIT, which is not served, and for those who want one datagram
        // to make many hosts answer.
        if received.truncated || received.destination != received.local {
            count(&counters.garbage);
            continue;
        }
        let route = UdpRoute {
            socket: Arc::clone(&socket),
            peer: received.peer,
            source: Source { local: received.local, interface: 0 },
        };
        let origin = FiveTuple {
            peer: received.peer,
            local: SocketAddr::new(received.local, port),
            transport: Transport::Udp,
        };
        reply.clear();
        let place = record::begin(&mut reply);
        let by = || Route::Udp(route.clone());
        match server.dispatcher.answer(message, origin, by, || None, &mut reply) {
            Answer::Here(_) => route.send(reply.get(place + MARK..).unwrap_or_default()).await,
            Answer::Elsewhere(newest) => {
                let taken = newest.deliver(std::mem::take(&mut reply).into());
                debug_assert!(taken.is_ok(), "a call by UDP is repeated by UDP only");
            }
            Answer::Nothing => {}
            Answer::Later(call, taker) => taker.take(Sink::new(server, call, by(), None)),
            Answer::Parked(call, parked) => {
                let message = message.to_vec().into();
                let job = Job { message, call, parked, route: by(), unanswered: None };
                if !server.try_park(job) {
                    count(&counters.dropped);
                    tracing::debug!(peer = %received.peer, "call dropped: too many wait");
                }
            }
        }
    }
}

/// The way back to a client that sent a datagram.
#[derive(Clone, Debug)]
pub(super) struct UdpRoute {
    socket: Arc<Datagrams>,
    peer: SocketAddr,
    source: Source,
}

impl UdpRoute {
    /// Sends a reply that stands behind the room for a record mark, which datagrams do not have.
    ///
    /// From a thread of the pool: a full socket loses the reply, and the client asks again.
    pub(super) fn deliver(&self, reply: &[u8]) {
        let reply = reply.get(MARK..).unwrap_or_default();
        if let Err(error) = self.socket.try_send(reply, self.peer, Some(self.source)) {
            tracing::debug!(peer = %self.peer, %error, "reply lost");
        }
    }

    async fn send(&self, reply: &[u8]) {
        if let Err(error) = self.socket.send(reply, self.peer, Some(self.source)).await {
            tracing::debug!(peer = %self.peer, %error, "reply lost");
        }
    }
}

/// The most bytes that a UDP datagram over IPv4 can carry.
pub(super) const MAX_DATAGRAM: usize = 65_507;

/// Length of a record mark.
const MARK: usize = 4;

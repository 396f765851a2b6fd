//! Calls in streams: connections with many calls in flight, answered in any order.
//!
//! One task per connection reads, answers what does not wait, and writes once for all calls that one
//! read brought. Replies from the pool are written by the thread that has them; what the socket does
//! not take at once is left to the task. A peer that does not read its replies makes its connection
//! stop reading calls, and in the end costs itself the connection.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::task::coop::consume_budget;
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use wire::record::{self, RecordError, Records};

use super::Transport;
use super::connections::Connections;
use super::counts::count;
use super::dispatch::{Answer, Origin};
use super::server::{Options, Route, Server, Waiting};
use crate::clock::{Clock, SystemClock};

/// Accepts connections until `stop` turns true, then waits for those that are left.
pub(super) async fn serve(
    server: &Arc<Server>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    let mut warned = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match Connection::new(server, stream, peer) {
                Ok((connection, reader)) => {
                    count(&server.dispatcher.counters.connections);
                    let stop = stop.clone();
                    tasks.spawn(connection.run(Arc::clone(server), reader, stop));
                }
                Err(error) => tracing::debug!(%peer, %error, "connection lost at once"),
            },
            Err(error) => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(
                        %error,
                        "cannot accept a connection; if files are short, raise the limit on them"
                    );
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = async { while tasks.join_next().await.is_some() {} };
    if timeout(GRACE, ended).await.is_err() {
        tracing::debug!("connections that did not end in time are closed");
    }
    Ok(())
}

/// A connection, as those see it who have a reply for it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    connections: Arc<Connections>,
    origin: Origin,
    writer: OwnedWriteHalf,
    outbox: Mutex<Outbox>,
    /// Bound on the bytes that wait, over all connections.
    max_unsent: usize,
    last_call: Mutex<Instant>,
    /// There is something in the outbox.
    filled: Notify,
    /// There is nothing in the outbox any more.
    emptied: Notify,
    /// Somebody else wants the connection to end.
    pub(super) ended: Notify,
}

/// A connection in use. However its task ends, the connection is closed and forgotten.
struct InUse<'a>(&'a Connection);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.0.connections.remove(self.0);
    }
}

/// Replies that the socket did not take yet.
#[derive(Debug, Default)]
struct Outbox {
    replies: VecDeque<Vec<u8>>,
    /// Bytes of the first that it did take.
    sent: usize,
    /// Bytes of all that it did not.
    bytes: usize,
    /// The connection is at its end: what comes now is dropped.
    closed: bool,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
enum End {
    /// All was said.
    #[error("done")]
    Done,
    /// Another connection needs its place, or its replies need more memory than there is.
    #[error("had to make room")]
    Evicted,
    /// The peer sent no call for long.
    #[error("idle")]
    Idle,
    /// The peer or the network broke it.
    #[error("lost")]
    Lost,
    /// The peer sent what no stream of records has.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The peer takes no replies, or does not end a call that it began.
    #[error("stalled")]
    Stalled,
}

impl Connection {
    fn new(
        server: &Server,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> io::Result<(Arc<Self>, OwnedReadHalf)> {
        stream.set_nodelay(true)?;
        // Machines are switched off without a word.
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        let origin = Origin { peer, local: stream.local_addr()?, transport: Transport::Tcp };
        let (reader, writer) = stream.into_split();
        let connections = Arc::clone(&server.connections);
        let connection = Self {
            id: connections.name(),
            connections,
            origin,
            writer,
            outbox: Mutex::default(),
            max_unsent: server.options.unsent,
            last_call: Mutex::new(SystemClock.now()),
            filled: Notify::new(),
            emptied: Notify::new(),
            ended: Notify::new(),
        };
        Ok((Arc::new(connection), reader))
    }

    /// Lives the life of the connection.
    async fn run(
        self: Arc<Self>,
        server: Arc<Server>,
        reader: OwnedReadHalf,
        stop: watch::Receiver<bool>,
    ) {
        server.connections.insert(&self, server.options.connections);
        let _in_use = InUse(&self);
        let end = tokio::select! {
            biased;
            end = self.read(&server, reader, stop) => end,
            end = self.write(server.options.stall) => end,
            () = self.ended.notified() => End::Evicted,
        };
        tracing::debug!(peer = %self.origin.peer, %end, "connection ended");
        match end {
            End::Done | End::Lost => {}
            End::Evicted | End::Idle | End::Record(_) | End::Stalled => {
                count(&server.dispatcher.counters.closed);
            }
        }
    }

    /// Reads calls and answers them or gives them to the pool.
    async fn read(
        self: &Arc<Self>,
        server: &Arc<Server>,
        mut reader: OwnedReadHalf,
        mut stop: watch::Receiver<bool>,
    ) -> End {
        let mut records = Records::new(server.options.record);
        let mut replies = Vec::new();
        let turns = Arc::new(Semaphore::new(TURNS));
        let Options { idle, stall, unfinished, .. } = server.options;
        let mut held = 0;
        let period = idle.min(stall).clamp(Duration::from_millis(1), TICK);
        let mut tick = interval_at(tokio::time::Instant::now() + period, period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                received = reader.read_buf(records.space()) => match received {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(_) => return End::Lost,
                },
                _ = stop.wait_for(|stop| *stop) => break,
                _ = tick.tick() => {
                    let quiet = SystemClock.now().saturating_duration_since(self.last_call());
                    let waits = turns.available_permits() < TURNS || self.unsent() > 0;
                    if quiet >= idle && !waits {
                        return End::Idle;
                    }
                    // What was received of a call takes memory, and is not kept for half a call.
                    if quiet >= stall && records.is_partial() {
                        return End::Stalled;
                    }
                    if quiet >= period {
                        records.shrink();
                        replies.shrink_to(0);
                    }
                    continue;
                }
            }
            if let Err(end) = self.answer(server, &mut records, &mut replies, &turns).await {
                return end;
            }
            if records.unfinished() != held {
                held = records.unfinished();
                self.connections.hold(self, held, unfinished);
            }
        }
        // The peer may have closed its half only: what it asked for is still answered.
        let all = u32::try_from(TURNS).unwrap_or(u32::MAX);
        if turns.acquire_many(all).await.is_ok() {
            self.flushed(0).await;
        }
        End::Done
    }

    /// Answers the records that are complete.
    async fn answer(
        self: &Arc<Self>,
        server: &Arc<Server>,
        records: &mut Records,
        replies: &mut Vec<u8>,
        turns: &Arc<Semaphore>,
    ) -> Result<(), End> {
        let mut called = false;
        while let Some(message) = records.next_record()? {
            called = true;
            let place = record::begin(replies);
            let route = || Route::Tcp(Arc::clone(self));
            match server.dispatcher.answer(message, self.origin, route, replies) {
                Answer::Here => record::end(replies, place)?,
                Answer::Elsewhere(newest) => newest.deliver(replies.split_off(place)),
                Answer::Nothing => replies.truncate(place),
                Answer::Waits(claim) => {
                    replies.truncate(place);
                    self.flush(replies).await;
                    let message = records.take();
                    let turn = Arc::clone(turns).acquire_owned().await.ok();
                    let permit = server.pool.admit(message.memory()).await.ok_or(End::Done)?;
                    let (origin, route) = (self.origin, route());
                    server.wait(Waiting { message, origin, claim, route, permit, turn });
                }
            }
            if replies.len() >= FLUSH {
                self.flush(replies).await;
            }
        }
        self.flush(replies).await;
        if called {
            *self.last_call.lock().unwrap_or_else(PoisonError::into_inner) = SystemClock.now();
        }
        Ok(())
    }

    /// Writes what the pool left over, for ever.
    async fn write(&self, stall: Duration) -> End {
        loop {
            self.filled.notified().await;
            while self.unsent() > 0 {
                match timeout(stall, self.writer.writable()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return End::Lost,
                    Err(_) => return End::Stalled,
                }
                if self.push().is_err() {
                    return End::Lost;
                }
            }
            self.emptied.notify_one();
        }
    }

    /// Sends replies, and holds the reading up while too many wait to be sent.
    async fn flush(&self, replies: &mut Vec<u8>) {
        self.send(replies);
        self.flushed(MAX_BACKLOG).await;
        consume_budget().await;
    }

    /// Waits until no more than `most` bytes wait to be sent.
    async fn flushed(&self, most: usize) {
        while self.unsent() > most {
            self.emptied.notified().await;
        }
    }

    /// Sends a reply that stands behind the room for its record mark.
    pub(super) fn deliver(&self, mut reply: Vec<u8>) {
        match record::end(&mut reply, 0) {
            Ok(()) => self.send(&mut reply),
            Err(error) => tracing::debug!(peer = %self.origin.peer, %error, "reply lost"),
        }
    }

    /// Sends records and empties the buffer; what the socket does not take is left to the task.
    fn send(&self, replies: &mut Vec<u8>) {
        let mut outbox = self.outbox();
        if outbox.closed || replies.is_empty() {
            replies.clear();
            return;
        }
        let sent = if outbox.replies.is_empty() {
            match self.writer.try_write(replies) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                // The reading half hears of it too.
                Err(_) => replies.len(),
            }
        } else {
            0
        };
        let rest = replies.len() - sent;
        if rest == 0 {
            replies.clear();
            return;
        }
        if outbox.replies.is_empty() {
            outbox.sent = sent;
        }
        outbox.bytes += rest;
        outbox.replies.push_back(std::mem::take(replies));
        let before = self.connections.unsent.fetch_add(rest, Ordering::Relaxed);
        drop(outbox);
        self.filled.notify_one();
        if before.saturating_add(rest) > self.max_unsent {
            self.connections.relieve();
        }
    }

    /// Writes as much of the outbox as the socket takes.
    fn push(&self) -> io::Result<()> {
        let mut outbox = self.outbox();
        while let Some(reply) = outbox.replies.front() {
            let rest = reply.get(outbox.sent..).unwrap_or_default();
            let len = rest.len();
            let sent = match self.writer.try_write(rest) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            outbox.bytes -= sent;
            self.connections.unsent.fetch_sub(sent, Ordering::Relaxed);
            if sent == len {
                outbox.replies.pop_front();
                outbox.sent = 0;
            } else {
                outbox.sent += sent;
            }
        }
        Ok(())
    }

    /// Ends the connection for the peer, and for those who still have a reply for it.
    fn close(&self) {
        self.discard();
        if let Err(error) = SockRef::from(self.writer.as_ref()).shutdown(Shutdown::Both) {
            tracing::trace!(peer = %self.origin.peer, %error, "connection was closed before");
        }
    }

    /// Drops the replies that wait and those that are still to come.
    pub(super) fn discard(&self) {
        let mut outbox = self.outbox();
        self.connections.unsent.fetch_sub(outbox.bytes, Ordering::Relaxed);
        *outbox = Outbox { closed: true, ..Outbox::default() };
    }

    /// Bytes that wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.outbox().bytes
    }

    pub(super) fn last_call(&self) -> Instant {
        *self.last_call.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls of one connection that may wait for a thread or be on one.
const TURNS: usize = 64;

/// Bytes of replies that are gathered before they are sent.
const FLUSH: usize = 64 << 10;

/// Bytes of replies that may wait for a peer before its calls are not read any more.
const MAX_BACKLOG: usize = 1 << 20;

/// How often a connection looks whether it is idle.
const TICK: Duration = Duration::from_secs(15);

/// After how much silence the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections have to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);

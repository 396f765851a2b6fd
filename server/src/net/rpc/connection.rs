//! The sending side of a connection: replies that wait for the socket, and the connection's end.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;
use wire::record::{self, RecordError};
use wire::xdr;

use super::Transport;
use super::back::Outgoing;
use super::connections::Connections;
use super::dispatch::FiveTuple;
use super::peers::Silence;
use super::server::Server;
use crate::net::interface::Interface;
use crate::net::sys::pipe::Pipe;
use crate::net::sys::tcp;

/// A connection in use.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) origin: FiveTuple,
    pub(super) connections: Arc<Connections>,
    writer: OwnedWriteHalf,
    outbox: Mutex<Outbox>,
    /// The bound on the bytes that wait to be sent over all connections.
    max_unsent: usize,
    last_call: Mutex<Instant>,
    /// Calls that wait for the pool, are on it, or are answered later.
    unanswered: AtomicUsize,
    /// Wakes the task when one of these calls was answered.
    pub(super) answered: Notify,
    /// Wakes the task when something was put into the outbox.
    filled: Notify,
    /// Wakes who waits for the outbox to be empty.
    emptied: Notify,
    /// Wakes the task when somebody else has ended the connection.
    pub(super) evicted: Notify,
    /// Our own calls that go the other way.
    pub(super) outgoing: Outgoing,
    /// Why the connection ended; empty while it is open.
    end: OnceLock<End>,
    /// How many questions wait for an acknowledgement of the peer.
    probed: Mutex<usize>,
    /// The interface that had our address when the peer was last known to answer; 0 for none.
    interface: AtomicU32,
    /// Where its task runs.
    pub(super) runtime: Handle,
}

/// Replies that the socket did not take yet.
#[derive(Debug, Default)]
struct Outbox {
    pieces: VecDeque<Piece>,
    /// Bytes of all of them.
    bytes: usize,
    /// The connection is at its end: what comes now is dropped.
    closed: bool,
}

/// A part of the stream of replies that is still to be sent.
#[derive(Debug)]
enum Piece {
    /// Bytes, and how many of them were sent.
    Bytes(Vec<u8>, usize),
    Pipe(Pipe),
}

impl Piece {
    const fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes, sent) => bytes.len() - *sent,
            Self::Pipe(pipe) => pipe.len(),
        }
    }
}

/// A reply that stands behind the room for its record mark, and what follows it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) payload: Option<Pipe>,
}

impl From<Vec<u8>> for Reply {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, payload: None }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum End {
    /// The peer closed it, and all was said.
    #[error("done")]
    Done,
    /// The server stops.
    #[error("stopped")]
    Stopped,
    /// Another connection needs its place, or its replies need more memory than there is.
    #[error("had to make room")]
    Evicted,
    /// The peer sent no call for long.
    #[error("idle")]
    Idle,
    /// The peer reset it: its machine does not know of it.
    #[error("reset")]
    Reset,
    /// The peer acknowledges nothing any more.
    #[error("timed out")]
    Lost,
    /// Something else broke it.
    #[error("broken")]
    Broken,
    /// The peer sent what no stream of records has.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The peer takes no replies, or does not end a call that it began.
    #[error("stalled")]
    Stalled,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        // A neighbour that does not answer for its address any more is told in place of a time-out.
        let lost = [io::ErrorKind::TimedOut, io::ErrorKind::HostUnreachable];
        if error.kind() == io::ErrorKind::ConnectionReset {
            Self::Reset
        } else if lost.contains(&error.kind()) {
            Self::Lost
        } else {
            Self::Broken
        }
    }
}

impl Connection {
    pub(super) fn new(
        server: &Server,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> io::Result<(Arc<Self>, OwnedReadHalf)> {
        stream.set_nodelay(true)?;
        // Machines are switched off without a word.
        SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
        tcp::cap_retransmission(stream.as_fd(), RETRANSMISSION);
        let origin = FiveTuple { peer, local: stream.local_addr()?, transport: Transport::Tcp };
        let (reader, writer) = stream.into_split();
        let connections = Arc::clone(&server.connections);
        let connection = Self {
            id: connections.next_id(),
            origin,
            connections,
            writer,
            outbox: Mutex::default(),
            max_unsent: server.options.unsent,
            last_call: Mutex::new(server.clock.now()),
            unanswered: AtomicUsize::new(0),
            answered: Notify::new(),
            filled: Notify::new(),
            emptied: Notify::new(),
            evicted: Notify::new(),
            outgoing: Outgoing::default(),
            end: OnceLock::new(),
            probed: Mutex::new(0),
            interface: AtomicU32::new(0),
            runtime: Handle::current(),
        };
        connection.works();
        Ok((Arc::new(connection), reader))
    }

    /// Writes what the socket did not take at once, for ever.
    pub(super) async fn write(&self, stall: Duration) -> End {
        loop {
            self.filled.notified().await;
            while self.unsent() > 0 {
                match timeout(stall, self.writer.writable()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.into(),
                    Err(_) => return End::Stalled,
                }
                if let Err(error) = self.push() {
                    return error.into();
                }
            }
            self.emptied.notify_one();
        }
    }

    /// Waits until no more than `most` bytes wait to be sent.
    pub(super) async fn flushed(&self, most: usize) {
        while self.unsent() > most {
            self.emptied.notified().await;
        }
    }

    /// Sends a reply, or gives it back if the connection has ended.
    pub(super) fn deliver(&self, mut reply: Reply) -> Result<(), Reply> {
        if self.outbox().closed {
            return Err(reply);
        }
        let sent = match reply.payload {
            Some(payload) => self.send_followed(&mut reply.bytes, 0, payload),
            None => record::end(&mut reply.bytes, 0).map(|()| self.send(&mut reply.bytes)),
        };
        if let Err(error) = sent {
            tracing::debug!(peer = %self.origin.peer, %error, "reply lost");
        }
        Ok(())
    }

    /// Sends records and empties the buffer: the last of them, which was begun at `place`, goes on with
    /// what is in a pipe, padded.
    pub(super) fn send_followed(
        &self,
        records: &mut Vec<u8>,
        place: usize,
        payload: Pipe,
    ) -> Result<(), RecordError> {
        let pad = xdr::padding(payload.len());
        record::end_before(records, place, payload.len() + pad)?;
        let mut outbox = self.outbox();
        if outbox.closed {
            records.clear();
            return Ok(());
        }
        let more = payload.len() > 0;
        let left = self.put(&mut outbox, Piece::Bytes(std::mem::take(records), 0), more)
            + self.put(&mut outbox, Piece::Pipe(payload), pad > 0)
            + self.put(&mut outbox, Piece::Bytes(vec![0; pad], 0), false);
        self.leave(outbox, left);
        Ok(())
    }

    /// Sends what the socket takes of a piece behind all others, and puts the rest into the outbox;
    /// returns how many bytes that is.
    fn put(&self, outbox: &mut Outbox, mut piece: Piece, more: bool) -> usize {
        if outbox.pieces.is_empty()
            && let Err(error) = self.write_piece(&mut piece, more)
        {
            let _ = self.end.set(error.into());
            // Half a record may be sent, which nothing can follow.
            if let Err(error) = SockRef::from(self.writer.as_ref()).shutdown(Shutdown::Both) {
                tracing::trace!(peer = %self.origin.peer, %error, "connection was closed before");
            }
            return 0;
        }
        let rest = piece.len();
        if rest > 0 {
            outbox.bytes += rest;
            outbox.pieces.push_back(piece);
        }
        rest
    }

    /// Sends as much of a piece as the socket takes; `more` follows at once.
    fn write_piece(&self, piece: &mut Piece, more: bool) -> io::Result<()> {
        let stream: &TcpStream = self.writer.as_ref();
        while piece.len() > 0 {
            let wrote = stream.try_io(Interest::WRITABLE, || match piece {
                Piece::Bytes(bytes, sent) => {
                    let rest = bytes.get(*sent..).unwrap_or_default();
                    *sent += tcp::send(stream.as_fd(), rest, more)?;
                    Ok(())
                }
                Piece::Pipe(pipe) => pipe.send(stream.as_fd(), more).map(drop),
            });
            match wrote {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Leaves it to the task to send `left` bytes that were put into the outbox.
    fn leave(&self, outbox: MutexGuard<'_, Outbox>, left: usize) {
        if left == 0 {
            return;
        }
        let before = self.connections.unsent.fetch_add(left, Ordering::Relaxed);
        drop(outbox);
        self.filled.notify_one();
        if before.saturating_add(left) > self.max_unsent {
            self.connections.relieve();
        }
    }

    /// Sends records and empties the buffer; what the socket does not take is left to the task.
    pub(super) fn send(&self, records: &mut Vec<u8>) {
        let mut outbox = self.outbox();
        if outbox.closed || records.is_empty() {
            records.clear();
            return;
        }
        let sent = if outbox.pieces.is_empty() {
            match self.writer.try_write(records) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                // The reading half hears that it has ended, but the kernel tells the reason once.
                Err(error) => {
                    let _ = self.end.set(error.into());
                    records.len()
                }
            }
        } else {
            0
        };
        let rest = records.len() - sent;
        if rest == 0 {
            records.clear();
            return;
        }
        outbox.bytes += rest;
        outbox.pieces.push_back(Piece::Bytes(std::mem::take(records), sent));
        self.leave(outbox, rest);
    }

    /// Writes as much of the outbox as the socket takes.
    fn push(&self) -> io::Result<()> {
        let mut outbox = self.outbox();
        loop {
            let more = outbox.pieces.len() > 1;
            let Some(piece) = outbox.pieces.front_mut() else { return Ok(()) };
            let before = piece.len();
            let wrote = self.write_piece(piece, more);
            let rest = piece.len();
            outbox.bytes -= before - rest;
            self.connections.unsent.fetch_sub(before - rest, Ordering::Relaxed);
            wrote?;
            if rest > 0 {
                return Ok(());
            }
            outbox.pieces.pop_front();
        }
    }

    /// Ends the connection for the peer, and for those who still have a reply for it.
    pub(super) fn close(&self, end: End) {
        // The first is the reason.
        let _ = self.end.set(end);
        self.discard();
        self.outgoing.close();
        if let Err(error) = SockRef::from(self.writer.as_ref()).shutdown(Shutdown::Both) {
            tracing::trace!(peer = %self.origin.peer, %error, "connection was closed before");
        }
    }

    /// Why the connection ended; `None` while it is open.
    pub(super) fn end(&self) -> Option<End> {
        self.end.get().copied()
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

    pub(super) fn called(&self, now: Instant) {
        *self.last_call.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Counts a call that is not answered at once, until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Unanswered {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        Unanswered(Arc::clone(self))
    }

    /// Calls that wait for their answers.
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// Has the kernel ask every second whether the peer is still there, until what is returned is
    /// dropped; after three questions without an answer the connection is lost.
    pub(super) fn probe(self: &Arc<Self>) -> Probe {
        let mut probed = self.probed.lock().unwrap_or_else(PoisonError::into_inner);
        *probed += 1;
        if *probed == 1 {
            let second = Duration::from_secs(1);
            let often = TcpKeepalive::new().with_time(second).with_interval(second);
            self.keep_alive(&often.with_retries(3));
        }
        drop(probed);
        Probe(Arc::clone(self))
    }

    fn keep_alive(&self, keepalive: &TcpKeepalive) {
        if let Err(error) = SockRef::from(self.writer.as_ref()).set_tcp_keepalive(keepalive) {
            tracing::trace!(peer = %self.origin.peer, %error, "connection cannot be probed");
        }
    }

    /// Takes note that it works by the interface that has our address now.
    pub(super) fn works(&self) {
        let own = self.origin.local.ip().to_canonical();
        let carriers = Interface::carriers().unwrap_or_default();
        let interface = carriers.into_iter().find(|(address, _)| *address == own);
        self.interface.store(interface.map_or(0, |(_, index)| index), Ordering::Relaxed);
    }

    /// Our address, and the interface that had it when it was last known to work.
    pub(super) fn own_end(&self) -> (IpAddr, Option<u32>) {
        let interface = self.interface.load(Ordering::Relaxed);
        (self.origin.local.ip().to_canonical(), (interface != 0).then_some(interface))
    }

    /// What the kernel knows of the peer.
    pub(super) fn silence(&self) -> io::Result<Silence> {
        tcp::silence(self.fd())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        let stream: &TcpStream = self.writer.as_ref();
        stream.as_fd()
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call of a connection that is not answered yet.
#[derive(Debug)]
pub(super) struct Unanswered(Arc<Connection>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
        self.0.answered.notify_one();
    }
}

/// A connection whose peer is asked often whether it is there.
#[derive(Debug)]
pub(super) struct Probe(pub(super) Arc<Connection>);

impl Drop for Probe {
    fn drop(&mut self) {
        let mut probed = self.0.probed.lock().unwrap_or_else(PoisonError::into_inner);
        *probed -= 1;
        if *probed == 0 {
            self.0.keep_alive(&keepalive());
        }
    }
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4).with_retries(RETRIES)
}

/// After how much silence the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How many questions without an answer mean that it is not.
const RETRIES: u32 = 9;

/// The longest time between two attempts to send what the peer did not acknowledge, so that it shows
/// within seconds whether its machine is there.
const RETRANSMISSION: Duration = Duration::from_secs(5);

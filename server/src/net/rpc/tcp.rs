//! Calls in streams: connections with many calls in flight, answered in any order.
//!
//! One task per connection reads, answers what does not wait, and writes once for all calls that one
//! read brought. Replies from the pool are written by the thread that has them; what the socket does
//! not take at once is left to the task. A peer that does not read its replies makes its connection
//! stop reading calls, and in the end costs itself the connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::task::coop::consume_budget;
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use wire::record::{self, Records};

use super::back::{self, BackChannel};
use super::connection::{Connection, End};
use super::counts::count;
use super::dispatch::Answer;
use super::parked::{Job, Sink};
use super::server::{Options, Route, Server};

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
                    tasks.spawn(run(connection, Arc::clone(server), reader, stop));
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

/// Serves a connection until it ends.
async fn run(
    connection: Arc<Connection>,
    server: Arc<Server>,
    reader: OwnedReadHalf,
    stop: watch::Receiver<bool>,
) {
    server.connections.insert(&connection, server.options.connections);
    server.peers.insert(&connection);
    let mut in_use = InUse { connection: &connection, server: &server, end: End::Stopped };
    let end = tokio::select! {
        biased;
        end = read(&connection, &server, reader, stop) => end,
        end = connection.write(server.options.stall) => end,
        () = connection.evicted.notified() => End::Evicted,
    };
    tracing::debug!(peer = %connection.origin.peer, %end, "connection ended");
    match end {
        End::Done | End::Stopped | End::Reset | End::Lost | End::Broken => {}
        End::Evicted | End::Idle | End::Record(_) | End::Stalled => {
            count(&server.dispatcher.counters.closed);
        }
    }
    in_use.end = end;
}

/// A connection in use. However its task ends, the connection is closed and forgotten.
struct InUse<'a> {
    connection: &'a Arc<Connection>,
    server: &'a Server,
    end: End,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.connection.close(self.end);
        self.server.connections.remove(self.connection);
        self.server.peers.remove(self.connection);
    }
}

/// Reads calls and answers them or gives them to the pool.
async fn read(
    connection: &Arc<Connection>,
    server: &Arc<Server>,
    mut reader: OwnedReadHalf,
    mut stop: watch::Receiver<bool>,
) -> End {
    let mut records = Records::new(server.options.record);
    let mut replies = Vec::new();
    let Options { idle, stall, unfinished, .. } = server.options;
    let mut held = 0;
    let period = idle.min(stall).clamp(Duration::from_millis(1), TICK);
    let mut tick = interval_at(tokio::time::Instant::now() + period, period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = loop {
        tokio::select! {
            biased;
            received = reader.read_buf(records.space()) => match received {
                Ok(0) => break End::Done,
                Ok(_) => {}
                Err(error) => return error.into(),
            },
            _ = stop.wait_for(|stop| *stop) => break End::Stopped,
            _ = tick.tick() => {
                let last = connection.last_call();
                let quiet = server.clock.now().saturating_duration_since(last);
                let waits = connection.unanswered() > 0
                    || connection.unsent() > 0
                    || connection.outgoing.waits();
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
            }
        }
        if let Err(end) = answer(connection, server, &mut records, &mut replies).await {
            return end;
        }
        if records.unfinished() != held {
            held = records.unfinished();
            connection.connections.hold(connection, held, unfinished);
        }
    };
    // The peer may have closed its half only: what it asked for is still answered.
    while connection.unanswered() > 0 {
        connection.answered.notified().await;
    }
    connection.flushed(0).await;
    end
}

/// Answers the records that are complete.
async fn answer(
    connection: &Arc<Connection>,
    server: &Arc<Server>,
    records: &mut Records,
    replies: &mut Vec<u8>,
) -> Result<(), End> {
    let mut called = false;
    while let Some(message) = records.next_record()? {
        if back::is_reply(message) {
            connection.outgoing.take(message);
            continue;
        }
        called = true;
        let place = record::begin(replies);
        let route = || Route::Tcp(Arc::clone(connection));
        let back = || Some(BackChannel::new(connection));
        match server.dispatcher.answer(message, connection.origin, route, back, replies) {
            Answer::Here(None) => record::end(replies, place)?,
            Answer::Here(Some(payload)) => {
                connection.send_followed(replies, place, payload)?;
                flush(connection, replies).await;
            }
            Answer::Elsewhere(newest) => {
                if let Err(mut reply) = newest.deliver(replies.split_off(place).into()) {
                    record::end(&mut reply.bytes, 0)?;
                    replies.append(&mut reply.bytes);
                }
            }
            Answer::Nothing => replies.truncate(place),
            Answer::Later(call, taker) => {
                replies.truncate(place);
                let unanswered = Some(connection.begin());
                taker.take(Sink::new(server, call, route(), unanswered));
            }
            Answer::Parked(call, parked) => {
                replies.truncate(place);
                connection.send(replies);
                let unanswered = Some(connection.begin());
                let route = route();
                let message = records.take();
                let job = Job { message, call, parked, route, unanswered };
                server.park(job, connection.id).await;
            }
        }
        if replies.len() >= FLUSH {
            flush(connection, replies).await;
        }
    }
    flush(connection, replies).await;
    if called {
        connection.called(server.clock.now());
    }
    Ok(())
}

/// Sends replies, and holds the reading up while too many wait to be sent.
async fn flush(connection: &Connection, replies: &mut Vec<u8>) {
    connection.send(replies);
    connection.flushed(MAX_BACKLOG).await;
    consume_budget().await;
}

/// Bytes of replies that are gathered before they are sent.
const FLUSH: usize = 64 << 10;

/// Bytes of replies that may wait for a peer before its calls are not read any more.
const MAX_BACKLOG: usize = 1 << 20;

/// How often a connection looks whether it is idle.
const TICK: Duration = Duration::from_secs(15);

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections have to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);

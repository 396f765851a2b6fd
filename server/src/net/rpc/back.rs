//! Calls from the server to a client over the connection that the client made: call-backs of NFSv4
//! (RFC 8881 §2.10.3.1) and of NLM.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::record;
use wire::rpc::{self, Accept, Reply};
use wire::xdr::Encoder;

use super::connection::Connection;

/// Calls a client back over the connection that its own call came by.
#[derive(Clone, Debug)]
pub struct BackChannel(Arc<Connection>);

impl BackChannel {
    pub(super) fn new(connection: &Arc<Connection>) -> Self {
        Self(Arc::clone(connection))
    }

    /// Calls a procedure of a program that the client serves, with AUTH_NONE, and returns the results.
    ///
    /// # Errors
    ///
    /// No results came; [`CallBackError`] says why.
    pub async fn call_back(
        &self,
        program: u32,
        version: u32,
        procedure: u32,
        args: &[u8],
        within: Duration,
    ) -> Result<Vec<u8>, CallBackError> {
        let connection = &*self.0;
        let (xid, reply) = connection.outgoing.begin()?;
        let _forgotten = Forget { outgoing: &connection.outgoing, xid };
        let credential = rpc::Credential::None;
        let call = rpc::Call { xid, program, version, procedure, credential, args };
        let mut message = Vec::new();
        let place = record::begin(&mut message);
        call.encode(&mut Encoder::new(&mut message));
        record::end(&mut message, place).map_err(|_| CallBackError::Refused)?;
        connection.send(&mut message);
        let reply = timeout(within, reply).await.map_err(|_| CallBackError::TimedOut)?;
        let reply = reply.map_err(|_| CallBackError::Closed)?;
        match Reply::decode(&reply) {
            Ok((_, Reply::Accepted(Accept::Success), results)) => Ok(results.to_vec()),
            Ok(_) | Err(_) => Err(CallBackError::Refused),
        }
    }
}

/// Why a client did not answer a call-back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CallBackError {
    /// Too many other call-backs of the connection wait for their replies.
    #[error("too many call-backs wait for their replies")]
    Busy,
    /// The connection has ended.
    #[error("connection closed")]
    Closed,
    /// The client does not serve the procedure, or its reply cannot be decoded.
    #[error("refused")]
    Refused,
    /// No reply came in time.
    #[error("no reply in time")]
    TimedOut,
}

/// Our calls over one connection that wait for their replies.
#[derive(Debug, Default)]
pub(super) struct Outgoing(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    replies: HashMap<u32, oneshot::Sender<Vec<u8>>>,
    /// The transaction that began last.
    last: u32,
    closed: bool,
}

impl Outgoing {
    /// Whether a call waits for its reply.
    pub(super) fn waits(&self) -> bool {
        !self.lock().replies.is_empty()
    }

    /// Hands a reply to the call that it belongs to; what belongs to none is dropped.
    pub(super) fn take(&self, message: &[u8]) {
        let Some((xid, _)) = message.split_first_chunk() else { return };
        let waits = self.lock().replies.remove(&u32::from_be_bytes(*xid));
        match waits {
            // Who called may have given up.
            Some(waits) => drop(waits.send(message.to_vec())),
            None => tracing::debug!("a reply that belongs to no call"),
        }
    }

    /// Ends all calls without a reply, and those that are still to come.
    pub(super) fn close(&self) {
        *self.lock() = Waiting { closed: true, ..Waiting::default() };
    }

    fn begin(&self) -> Result<(u32, oneshot::Receiver<Vec<u8>>), CallBackError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(CallBackError::Closed);
        }
        if waiting.replies.len() >= MAX_WAITING {
            return Err(CallBackError::Busy);
        }
        loop {
            waiting.last = waiting.last.wrapping_add(1);
            let xid = waiting.last;
            if let Entry::Vacant(entry) = waiting.replies.entry(xid) {
                let (sender, receiver) = oneshot::channel();
                entry.insert(sender);
                return Ok((xid, receiver));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a call when nobody waits for it any more.
struct Forget<'a> {
    outgoing: &'a Outgoing,
    xid: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.outgoing.lock().replies.remove(&self.xid);
    }
}

/// Whether a message is a reply (RFC 5531 §9, `msg_type`).
pub(super) fn is_reply(message: &[u8]) -> bool {
    message.get(4..8) == Some(&[0, 0, 0, 1])
}

/// Call-backs of one connection that may wait for their replies.
const MAX_WAITING: usize = 64;

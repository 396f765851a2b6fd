//! The connections of a server, and what they take together.
//!
//! Anybody may connect and begin a call. What that takes is bounded over all connections, and where
//! there is too much, it is the quiet ones that go: a client that works has just ended a call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::Connection;

/// The connections of a server.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Mutex<Open>,
    next: AtomicU64,
    /// Bytes of replies that wait for slow peers.
    pub(super) unsent: AtomicUsize,
}

#[derive(Debug, Default)]
struct Open {
    connections: HashMap<u64, Entry>,
    /// Bytes of calls that were begun and not ended, over all connections.
    unfinished: usize,
}

#[derive(Debug)]
struct Entry {
    connection: Arc<Connection>,
    /// Bytes of the call that it has begun.
    unfinished: usize,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.lock().connections.len()
    }

    /// The number of the next connection.
    pub(super) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes in a connection; the one that was quiet for longest has to go if there are too many.
    pub(super) fn insert(&self, connection: &Arc<Connection>, limit: usize) {
        let mut open = self.lock();
        if open.connections.len() >= limit {
            drop(open.evict(|_| true));
        }
        let entry = Entry { connection: Arc::clone(connection), unfinished: 0 };
        open.connections.insert(connection.id, entry);
    }

    /// Takes note of the bytes of a call that a connection has begun. While there are more than
    /// `limit` of all connections, those that were quiet for longest have to go: whoever sends halves
    /// of calls has ended none lately.
    pub(super) fn hold(&self, connection: &Connection, bytes: usize, limit: usize) {
        let mut open = self.lock();
        let Some(entry) = open.connections.get_mut(&connection.id) else { return };
        let before = std::mem::replace(&mut entry.unfinished, bytes);
        open.unfinished = open.unfinished - before + bytes;
        while open.unfinished > limit && open.evict(|entry| entry.unfinished > 0).is_some() {}
    }

    /// Makes room for replies: of the connections that do not take theirs, the one that was quiet for
    /// longest has to go. Nobody may hold a lock of a connection here.
    pub(super) fn relieve(&self) {
        let evicted = self.lock().evict(|entry| entry.connection.unsent() > 0);
        // At once, not when its task gets to it: the next reply must not cost another connection.
        if let Some(connection) = evicted {
            connection.discard();
        }
    }

    pub(super) fn remove(&self, connection: &Connection) {
        self.lock().remove(connection.id);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Ends the connection that has been quiet for longest among those that `may` go, and returns it.
    fn evict(&mut self, may: impl Fn(&Entry) -> bool) -> Option<Arc<Connection>> {
        let candidates = self.connections.iter().filter(|(_, entry)| may(entry));
        let quietest = candidates.min_by_key(|(_, entry)| entry.connection.last_call());
        let quietest = quietest.map(|(id, _)| *id).and_then(|id| self.remove(id))?;
        quietest.evicted.notify_one();
        Some(quietest)
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Connection>> {
        let entry = self.connections.remove(&id)?;
        self.unfinished -= entry.unfinished;
        Some(entry.connection)
    }
}

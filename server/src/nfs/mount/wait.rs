//! MNT of a boot environment that cannot be used just now: it is answered as soon as it can.
//!
//! To FreeBSD's loader and to mount programs the answer to MNT is an errno, after which a machine gives
//! up for good. While a command works on the environment, or its files are away, the call is left
//! open; a client that repeats it by UDP has its latest repetition answered.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use vfs::Wait;
use wire::mount3::DirPath;

use super::Mount;
use crate::net::rpc::{Call, Outcome, Progress, Sink, Transport};

/// The calls that wait, by who asks for what.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<HashMap<Key, Sink>>);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    peer: SocketAddr,
    transport: Transport,
    path: Vec<u8>,
}

impl Waiting {
    /// Keeps a call; says whether nobody waits for its answer yet.
    fn keep(&self, key: &Key, sink: Sink) -> bool {
        let mut calls = self.calls();
        let of_transport = calls.keys().filter(|known| known.transport == key.transport);
        let full = of_transport.count() >= MAX_WAITING;
        match calls.entry(key.clone()) {
            // Its client has given up the one before, or takes either answer.
            Entry::Occupied(mut known) => known.insert(sink).abandon(),
            Entry::Vacant(vacant) if !full => {
                vacant.insert(sink);
                return true;
            }
            // Anybody can send datagrams in any name. Who does repeats his call.
            Entry::Vacant(_) => sink.abandon(),
        }
        false
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Key, Sink>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a call when its path can be mounted, or cannot be for good, or after [`WAIT_LIMIT`].
pub(super) fn later(
    mount: &Arc<Mount>,
    call: &Call<'_>,
    path: DirPath<'_>,
    reason: &str,
) -> Progress {
    let (peer, transport) = (call.peer, call.transport);
    let key = Key { peer, transport, path: path.0.to_vec() };
    let (mount, reason) = (Arc::clone(mount), format!("it waits: {reason}"));
    Progress::later(move |sink| {
        if mount.waiting.keep(&key, sink) {
            mount.report_failed(peer.ip().to_canonical(), DirPath(&key.path), reason);
            tokio::spawn(answer(mount, key));
        }
    })
}

async fn answer(mount: Arc<Mount>, key: Key) {
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        let changed = mount.exports.changed();
        if mount.waits(key.peer, &key.path).is_none()
            || timeout_at(deadline, changed).await.is_err()
        {
            break;
        }
    }
    // A path inside an environment is looked up on its disk.
    let answered = tokio::task::spawn_blocking(move || {
        let mut reply = Vec::new();
        mount.mnt(key.peer, DirPath(&key.path), Wait::Yes, &mut reply);
        if let Some(sink) = mount.waiting.calls().remove(&key) {
            sink.reply(Outcome::Success, &reply);
        }
    });
    if let Err(error) = answered.await {
        tracing::error!("a delayed MNT cannot be answered: {error}");
    }
}

/// How long a call waits. Linux's and FreeBSD's clients repeat theirs for longer.
pub(super) const WAIT_LIMIT: Duration = Duration::from_secs(45);

/// Calls of one transport that wait at a time.
const MAX_WAITING: usize = 512;

//! The reply cache: a call that must not run twice is answered twice.
//!
//! A client that hears nothing sends its call again, over UDP after a second and over TCP on a new
//! connection. If the first one created, removed or renamed something, carrying out the second
//! answers EEXIST or ENOENT for what succeeded, and a WRITE that is late overwrites newer data
//! (Juszczak, 1989). The cache knows such a call again and repeats its reply.
//!
//! A false hit is worse than a miss: FreeBSD's loader begins with transaction 1 at every boot, so
//! that the key has the length and a keyed hash of all arguments too: two WRITEs may differ in their
//! last byte alone. The port is not part of it, because a new connection comes from a new one.

mod hash;

use std::collections::hash_map::{Entry, HashMap};
use std::collections::vec_deque::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Transport;
use hash::KeyedHash;

/// Replies to calls that must not run twice, and who waits for those that run; `R` is the way back
/// to a client.
#[derive(Debug)]
pub(super) struct Replay<R> {
    first: Mutex<Shard<R>>,
    others: Box<[Mutex<Shard<R>>]>,
    limits: Limits,
    hash: KeyedHash,
}

/// How much is remembered, over all shards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Replies.
    pub(super) count: usize,
    /// Bytes of replies.
    pub(super) bytes: usize,
    /// Shards: each has a lock of its own, and an equal part of the limits.
    pub(super) shards: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { count: 64 << 10, bytes: 32 << 20, shards: 64 }
    }
}

/// What makes two calls the same call.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    pub(super) address: IpAddr,
    pub(super) transport: Transport,
    pub(super) xid: u32,
    pub(super) program: u32,
    pub(super) version: u32,
    pub(super) procedure: u32,
    /// Length of the arguments.
    pub(super) len: usize,
    /// Of the arguments; see [`Replay::hash`].
    pub(super) hash: u64,
}

/// What is to be done with a call.
#[derive(Debug)]
pub(super) enum Admission<R> {
    /// It is new: carry it out and tell the claim how it ended.
    Run(Claim<R>),
    /// It was carried out, and this was the reply.
    Replay(Arc<[u8]>),
    /// It is being carried out; the reply will take the way of this, the newest request.
    Redirected,
}

impl<R> Replay<R> {
    /// Remembers nothing yet.
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let others = (1..limits.shards).map(|_| Mutex::default()).collect();
        Arc::new(Self { first: Mutex::default(), others, limits, hash: KeyedHash::new() })
    }

    /// A hash of the arguments for [`Key`].
    pub(super) fn hash(&self, args: &[u8]) -> u64 {
        self.hash.of(args)
    }

    /// Decides about a call; `route` is asked for when its reply has to find a new way.
    pub(super) fn admit(
        self: &Arc<Self>,
        key: Key,
        route: impl FnOnce() -> R,
        now: Instant,
    ) -> Admission<R> {
        let mut shard = self.shard(&key);
        match shard.calls.entry(key) {
            Entry::Occupied(mut entry) => match entry.get_mut() {
                State::InProgress { newest } => {
                    // Dropping the repetition instead leaves a client that has reconnected waiting
                    // for ever (NFS-Ganesha issue 583).
                    *newest = Some(route());
                    return Admission::Redirected;
                }
                State::Done { reply, at } if is_fresh(&key, *at, now) => {
                    return Admission::Replay(Arc::clone(reply));
                }
                State::Done { reply, .. } => {
                    let len = reply.len();
                    entry.insert(State::InProgress { newest: None });
                    shard.bytes -= len;
                }
            },
            Entry::Vacant(entry) => {
                entry.insert(State::InProgress { newest: None });
            }
        }
        Admission::Run(Claim { cache: Arc::clone(self), key, open: true })
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard<R>> {
        let count = u64::try_from(self.others.len()).map_or(1, |others| others + 1);
        let index = usize::try_from(self.hash.of_value(key) % count).unwrap_or(0);
        let shard = self.others.get(index).unwrap_or(&self.first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to carry out a call, and the duty to say how it ended; dropping it forgets the call.
#[derive(Debug)]
pub(super) struct Claim<R> {
    cache: Arc<Replay<R>>,
    key: Key,
    /// Whether nothing was said yet.
    open: bool,
}

impl<R> Claim<R> {
    /// Keeps the reply, and returns the way that it has to take if the call was repeated meanwhile.
    ///
    /// A reply longer than any that such calls have is not kept.
    pub(super) fn finish(mut self, reply: &[u8], now: Instant) -> Option<R> {
        if reply.len() > MAX_REPLY {
            return self.forget();
        }
        self.open = false;
        let limits = self.cache.limits;
        let mut shard = self.cache.shard(&self.key);
        let before = shard.calls.insert(self.key, State::Done { reply: reply.into(), at: now });
        shard.bytes += reply.len();
        shard.order.push_back((self.key, now));
        shard.expire(now, limits);
        before.and_then(State::newest)
    }

    /// Forgets the call, so that a repetition is carried out; returns as [`Claim::finish`].
    pub(super) fn forget(mut self) -> Option<R> {
        self.open = false;
        let running = self.cache.shard(&self.key).calls.remove(&self.key);
        running.and_then(State::newest)
    }
}

impl<R> Claim<R> {
    /// Whether the call was repeated meanwhile, so that somebody waits for its reply.
    pub(super) fn is_awaited(&self) -> bool {
        let shard = self.cache.shard(&self.key);
        matches!(shard.calls.get(&self.key), Some(State::InProgress { newest: Some(_) }))
    }
}

impl<R> Drop for Claim<R> {
    fn drop(&mut self) {
        if self.open {
            self.cache.shard(&self.key).calls.remove(&self.key);
        }
    }
}

#[derive(Debug)]
struct Shard<R> {
    calls: HashMap<Key, State<R>>,
    /// The replies that are kept, oldest first. Some may be gone, or be there again but newer.
    order: VecDeque<(Key, Instant)>,
    /// Bytes of the replies that are kept.
    bytes: usize,
}

impl<R> Default for Shard<R> {
    fn default() -> Self {
        Self { calls: HashMap::new(), order: VecDeque::new(), bytes: 0 }
    }
}

impl<R> Shard<R> {
    /// Forgets replies that are too old or too many, the oldest first.
    fn expire(&mut self, now: Instant, limits: Limits) {
        let shards = limits.shards.max(1);
        let (count, bytes) = (limits.count / shards, limits.bytes / shards);
        while let Some((key, at)) = self.order.front().copied() {
            if self.order.len() <= count && self.bytes <= bytes && is_fresh(&key, at, now) {
                break;
            }
            self.order.pop_front();
            if let Entry::Occupied(entry) = self.calls.entry(key)
                && let State::Done { reply, at: kept } = entry.get()
                && *kept == at
            {
                self.bytes -= reply.len();
                entry.remove();
            }
        }
    }
}

#[derive(Debug)]
enum State<R> {
    InProgress {
        /// The way back to where the call was repeated last, if it was.
        newest: Option<R>,
    },
    Done {
        reply: Arc<[u8]>,
        at: Instant,
    },
}

impl<R> State<R> {
    fn newest(self) -> Option<R> {
        match self {
            Self::InProgress { newest } => newest,
            Self::Done { .. } => None,
        }
    }
}

/// Whether a reply is young enough that its call may still be repeated.
fn is_fresh(key: &Key, at: Instant, now: Instant) -> bool {
    let age = match key.transport {
        Transport::Tcp => KEPT_TCP,
        Transport::Udp => KEPT_UDP,
    };
    now.saturating_duration_since(at) <= age
}

/// The longest reply that is kept. Calls that must not run twice have short ones.
const MAX_REPLY: usize = 4 << 10;

/// How long a reply over TCP is kept: clients reconnect and repeat after minutes.
const KEPT_TCP: Duration = Duration::from_secs(300);

/// How long a reply over UDP is kept: clients give up, or have the reply, long before.
const KEPT_UDP: Duration = Duration::from_secs(120);

#[cfg(test)]
mod test {
    use super::*;

    const LIMITS: Limits = Limits { count: 4, bytes: 100, shards: 1 };

    fn key(xid: u32) -> Key {
        Key {
            address: [192, 0, 2, 1].into(),
            transport: Transport::Udp,
            xid,
            program: 100_003,
            version: 3,
            procedure: 8,
            len: 40,
            hash: 1,
        }
    }

    fn claim(cache: &Arc<Replay<u32>>, key: Key, now: Instant) -> Claim<u32> {
        match cache.admit(key, || 0, now) {
            Admission::Run(claim) => claim,
            other @ (Admission::Replay(_) | Admission::Redirected) => panic!("{other:?}"),
        }
    }

    fn replayed(cache: &Arc<Replay<u32>>, key: Key, now: Instant) -> Option<Vec<u8>> {
        match cache.admit(key, || 0, now) {
            Admission::Replay(reply) => Some(reply.to_vec()),
            Admission::Run(_) | Admission::Redirected => None,
        }
    }

    #[test]
    fn a_repeated_call_gets_the_same_bytes() {
        let (cache, now) = (Replay::new(LIMITS), Instant::now());
        assert_eq!(claim(&cache, key(1), now).finish(b"made", now), None);
        assert_eq!(replayed(&cache, key(1), now).as_deref(), Some(&b"made"[..]));
        assert_eq!(replayed(&cache, key(1), now).as_deref(), Some(&b"made"[..]));
    }

    #[test]
    fn a_repetition_of_a_running_call_takes_the_reply() {
        let (cache, now) = (Replay::new(LIMITS), Instant::now());
        let running = claim(&cache, key(1), now);
        assert!(matches!(cache.admit(key(1), || 7, now), Admission::Redirected));
        assert!(matches!(cache.admit(key(1), || 8, now), Admission::Redirected));
        assert_eq!(running.finish(b"made", now), Some(8));
        assert_eq!(replayed(&cache, key(1), now).as_deref(), Some(&b"made"[..]));
    }

    #[test]
    fn whatever_differs_makes_another_call() {
        let (cache, now) = (Replay::new(Limits::default()), Instant::now());
        claim(&cache, key(1), now).finish(b"made", now);
        let others = [
            Key { address: [192, 0, 2, 2].into(), ..key(1) },
            Key { transport: Transport::Tcp, ..key(1) },
            Key { xid: 2, ..key(1) },
            Key { program: 100_005, ..key(1) },
            Key { version: 4, ..key(1) },
            Key { procedure: 9, ..key(1) },
            Key { len: 44, ..key(1) },
            Key { hash: 2, ..key(1) },
        ];
        for other in others {
            assert_eq!(replayed(&cache, other, now), None, "{other:?}");
        }
    }

    #[test]
    fn a_call_that_failed_is_carried_out_again() {
        let (cache, now) = (Replay::new(LIMITS), Instant::now());
        drop(claim(&cache, key(1), now));
        let again = claim(&cache, key(1), now);
        assert!(matches!(cache.admit(key(1), || 7, now), Admission::Redirected));
        assert_eq!(again.forget(), Some(7));
        drop(claim(&cache, key(1), now));
    }

    #[test]
    fn replies_are_forgotten_when_nobody_can_ask_any_more() {
        let (cache, now) = (Replay::new(LIMITS), Instant::now());
        let tcp = Key { transport: Transport::Tcp, ..key(1) };
        claim(&cache, key(1), now).finish(b"udp", now);
        claim(&cache, tcp, now).finish(b"tcp", now);
        let later = now + KEPT_UDP + Duration::from_millis(1);
        assert_eq!(replayed(&cache, key(1), later), None);
        assert!(replayed(&cache, tcp, later).is_some());
        assert_eq!(replayed(&cache, tcp, now + KEPT_TCP + Duration::from_millis(1)), None);
    }

    #[test]
    fn the_oldest_gives_way_when_there_are_too_many() {
        let (cache, now) = (Replay::new(LIMITS), Instant::now());
        for xid in 1..=5 {
            claim(&cache, key(xid), now).finish(b"made", now);
        }
        assert_eq!(replayed(&cache, key(1), now), None);
        assert!(replayed(&cache, key(2), now).is_some());
    }

    #[test]
    fn the_oldest_gives_way_when_they_are_too_long() {
        let (cache, now) = (Replay::new(LIMITS), Instant::now());
        for xid in 1..=3 {
            claim(&cache, key(xid), now).finish(&[0; 40], now);
        }
        assert_eq!(replayed(&cache, key(1), now), None);
        assert!(replayed(&cache, key(2), now).is_some());
        assert!(replayed(&cache, key(3), now).is_some());
    }

    #[test]
    fn a_call_that_is_made_anew_is_not_forgotten_with_its_predecessor() {
        let (cache, now) = (Replay::new(LIMITS), Instant::now());
        claim(&cache, key(1), now).finish(b"first", now);
        let later = now + KEPT_UDP + Duration::from_secs(1);
        claim(&cache, key(1), later).finish(b"second", later);
        claim(&cache, key(2), later).finish(b"other", later);
        assert_eq!(replayed(&cache, key(1), later).as_deref(), Some(&b"second"[..]));
        let shard = cache.shard(&key(1));
        assert_eq!(shard.bytes, 11);
        drop(shard);
    }

    #[test]
    fn a_reply_of_unusual_length_is_not_kept() {
        let (cache, now) = (Replay::new(Limits::default()), Instant::now());
        claim(&cache, key(1), now).finish(&vec![0; MAX_REPLY + 1], now);
        assert_eq!(replayed(&cache, key(1), now), None);
    }
}

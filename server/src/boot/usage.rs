//! Who uses which boot environment: the one table of that, keyed by address and environment.
//!
//! NFS tells every call that it admits, MOUNT every mount and unmount. Boots, and DHCP by them, read
//! whether a root lives, commands who would lose what they take away, MOUNT what is mounted. It is kept
//! in memory only: whoever is still there when the server is started again calls again.
//!
//! Anybody can send a MOUNT in many names, so that the table is bounded. The bound is for strangers: who
//! uses a root that is granted to him ([`Usage::roots`]) always has his entry.
//!
//! [`Usage::see`] is on the path of every NFS call: it takes the lock of one shard for reading, makes
//! no string, and writes a few atomic numbers.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::roots::{RootTable, Roots};

/// Which address uses which environment, and when each use was last seen.
#[derive(Debug)]
pub struct Usage {
    start: Instant,
    shards: [RwLock<Shard>; SHARDS],
    /// Entries of all shards.
    entries: AtomicUsize,
    /// Which roots are granted to which address.
    roots: RootTable,
    /// Hashes what peers send, as the paths of mounts: a hash has one size, however long that is.
    hashes: RandomState,
}

/// What a call tells of who makes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call<'a> {
    /// Bytes of file data that it read.
    pub read: u64,
    /// Bytes of file data that it wrote.
    pub written: u64,
    /// Whether no loader makes such calls.
    pub by_kernel: bool,
    /// The arguments of a READ: the same ones again ask for the same piece.
    pub piece: Option<&'a [u8]>,
    /// Whether it would have changed what the caller may only read.
    pub is_denied: bool,
    /// Whether it looked for the system's first program, `init`, where there is none.
    pub lacks_init: bool,
}

/// Calls and bytes of file data since they were last taken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Calls.
    pub calls: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Whether one of the calls was one that no loader makes.
    pub by_kernel: bool,
    /// How often the last piece of a file was asked for again, one time after the other.
    pub repeats: u32,
    /// Calls that would have changed what the caller may only read.
    pub denied: u32,
    /// Whether one of the calls looked for `init` where there is none.
    pub lacks_init: bool,
}

/// An address that uses an environment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct User {
    /// The address.
    pub address: IpAddr,
    /// The last proof of life.
    pub seen: Instant,
}

/// Traffic that was counted and that no later call has reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Due {
    /// The address.
    pub address: IpAddr,
    /// The boot environment.
    pub environment: Uuid,
    /// What was counted.
    pub traffic: Traffic,
}

type Shard = HashMap<IpAddr, Vec<Entry>>;

/// One address that uses one environment. Times are milliseconds since the table's start.
#[derive(Debug)]
struct Entry {
    environment: Uuid,
    seen: AtomicU64,
    /// Whether everything was unmounted and nothing called since.
    unmounted: AtomicBool,
    calls: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    by_kernel: AtomicBool,
    /// A hash of the last call's arguments if it was a READ, else 0; and how often it came again at once.
    piece: AtomicU64,
    repeats: AtomicU32,
    denied: AtomicU32,
    lacks_init: AtomicBool,
    /// When they were taken last; 0 before the first call.
    taken: AtomicU64,
    mounted: Vec<Mounted>,
}

#[derive(Debug)]
struct Mounted {
    hash: u64,
    /// The path, for people; empty when there was no room for it.
    path: Box<[u8]>,
    seen: u64,
}

impl Usage {
    /// An empty table.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            start: now,
            shards: std::array::from_fn(|_| RwLock::default()),
            entries: AtomicUsize::new(0),
            roots: RootTable::default(),
            hashes: RandomState::new(),
        }
    }

    /// Which roots are granted to which address.
    pub(super) const fn roots(&self) -> &RootTable {
        &self.roots
    }

    /// Takes note of a call that was admitted. Gives what is to be told now: at the first call of an
    /// entry, and then at most once in [`INTERVAL`].
    pub fn see(
        &self,
        address: IpAddr,
        environment: Uuid,
        call: Call<'_>,
        now: Instant,
    ) -> Option<Traffic> {
        let now = self.millis(now);
        let hashed = |entry: &Entry| {
            // What a kernel reads again says nothing: its READs need no hash.
            let piece = call.piece.filter(|_| !entry.by_kernel.load(Ordering::Relaxed));
            entry.follow(piece.map(|piece| self.hashes.hash_one(piece)), call.by_kernel);
            if call.is_denied {
                entry.denied.fetch_add(1, Ordering::Relaxed);
            }
            if call.lacks_init {
                entry.lacks_init.store(true, Ordering::Relaxed);
            }
            entry.count(call.read, call.written, now)
        };
        let known = find(&self.read(address), address, environment).map(hashed);
        known.unwrap_or_else(|| {
            let mut shard = self.write(address);
            hashed(self.entry(&mut shard, address, environment, now)?)
        })
    }

    /// Takes note of a call that was refused: who used the environment before still tries to.
    pub fn refused(&self, address: IpAddr, environment: Uuid, now: Instant) {
        if let Some(entry) = find(&self.read(address), address, environment) {
            entry.hear(self.millis(now));
        }
    }

    /// Takes note of a proof, other than a call, that the system at this address lives on the environment.
    pub(super) fn prove(&self, address: IpAddr, environment: Uuid, now: Instant) {
        let now = self.millis(now);
        if let Some(entry) = self.entry(&mut self.write(address), address, environment, now) {
            entry.hear(now);
        }
    }

    /// Takes note of a mount of the environment, or of a directory in it, by this path. Says whether
    /// it is news: a loader mounts again at every file that it opens, but after a silence the machine
    /// was switched off and on in between.
    pub fn mounted(&self, address: IpAddr, environment: Uuid, path: &[u8], now: Instant) -> bool {
        let now = self.millis(now);
        let hash = self.hashes.hash_one(path);
        let mut shard = self.write(address);
        // Bounded by shard: an exact count of the whole table is not worth a lock of its own.
        let entries = shard.values().flatten();
        let room =
            entries.flat_map(|entry| &entry.mounted).map(|one| one.path.len()).sum::<usize>()
                + path.len()
                <= MAX_TEXT / SHARDS;
        let Some(entry) = self.entry(&mut shard, address, environment, now) else { return true };
        entry.hear(now);
        if let Some(known) = entry.mounted.iter_mut().find(|known| known.hash == hash) {
            let silence = now.saturating_sub(known.seen);
            known.seen = now;
            return silence >= millis(SILENCE);
        }
        if entry.mounted.len() < MAX_PATHS {
            let path = if room { path.into() } else { Box::default() };
            entry.mounted.push(Mounted { hash, path, seen: now });
        }
        true
    }

    /// Takes note that an address unmounted a path, which lies in `environment` if that is known.
    /// An environment of which it has nothing mounted any more counts as unused until the address
    /// calls again. Returns whether the mount was known.
    pub fn unmounted(&self, address: IpAddr, environment: Option<Uuid>, path: &[u8]) -> bool {
        let hash = self.hashes.hash_one(path);
        let mut known = false;
        for entry in self.write(address).get_mut(&address).into_iter().flatten() {
            let before = entry.mounted.len();
            entry.mounted.retain(|one| one.hash != hash);
            // An environment that has another name now was mounted by the one that it had.
            let removed = entry.mounted.len() < before;
            known |= removed;
            if (removed || environment == Some(entry.environment)) && entry.mounted.is_empty() {
                entry.unmounted.store(true, Ordering::Relaxed);
            }
        }
        known
    }

    /// Takes note that an address unmounted everything; returns the paths that it had mounted.
    pub fn unmounted_all(&self, address: IpAddr) -> Vec<Box<[u8]>> {
        let mut paths = Vec::new();
        for entry in self.write(address).get_mut(&address).into_iter().flatten() {
            let gone = entry.mounted.drain(..).map(|one| one.path);
            paths.extend(gone.filter(|path| !path.is_empty()));
            entry.unmounted.store(true, Ordering::Relaxed);
        }
        paths
    }

    /// Whoever was at this address is dead; what it uses of `except` is somebody else's.
    pub fn died(&self, address: IpAddr, except: &[Uuid]) {
        let mut shard = self.write(address);
        let Some(entries) = shard.get_mut(&address) else { return };
        let before = entries.len();
        entries.retain(|entry| except.contains(&entry.environment));
        self.entries.fetch_sub(before - entries.len(), Ordering::Relaxed);
        if entries.is_empty() {
            shard.remove(&address);
        }
    }

    /// Whether this environment is used from this address. Who has unmounted everything still counts
    /// for [`UNUSED`], because anybody can send an UMNT in another's name.
    #[must_use]
    pub fn lives_on(&self, address: IpAddr, environment: Uuid, now: Instant) -> bool {
        let now = self.millis(now);
        find(&self.read(address), address, environment).is_some_and(|entry| entry.lasts(now))
    }

    /// Whether one of the roots that are granted to this address is used from it. What is shared with a
    /// network does not count: anybody can call for it in another's name.
    pub(super) fn lives_on_any(&self, address: IpAddr, roots: &Roots, now: Instant) -> bool {
        roots.iter().any(|root| self.lives_on(address, root.environment, now))
    }

    /// The last proof that this address uses this environment.
    #[must_use]
    pub fn seen(&self, address: IpAddr, environment: Uuid) -> Option<Instant> {
        let seen = find(&self.read(address), address, environment)?.seen.load(Ordering::Relaxed);
        Some(self.instant(seen))
    }

    /// The addresses that use an environment and have not unmounted it, the latest first.
    #[must_use]
    pub fn of(&self, environment: Uuid, now: Instant) -> Vec<User> {
        let now = self.millis(now);
        let mut users = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let entries = shard
                .iter()
                .flat_map(|(address, entries)| entries.iter().map(move |entry| (*address, entry)));
            let used = entries.filter(|(_, entry)| {
                entry.environment == environment
                    && entry.lasts(now)
                    && !entry.unmounted.load(Ordering::Relaxed)
            });
            users.extend(used.map(|(address, entry)| User {
                address,
                seen: self.instant(entry.seen.load(Ordering::Relaxed)),
            }));
        }
        users.sort_by_key(|user| (std::cmp::Reverse(user.seen), user.address));
        users
    }

    /// All mounts, by address, as far as there was room for their paths.
    #[must_use]
    pub fn mounts(&self) -> Vec<(IpAddr, Box<[u8]>)> {
        let mut mounts = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            for (address, entries) in &*shard {
                let paths = entries.iter().flat_map(|entry| &entry.mounted);
                let shown = paths.filter(|one| !one.path.is_empty());
                mounts.extend(shown.map(|one| (*address, one.path.clone())));
            }
        }
        mounts.sort_by_key(|(address, _)| *address);
        mounts
    }

    /// What was counted and not told for [`INTERVAL`]: the end of a burst, which no later call tells.
    pub fn due(&self, now: Instant) -> Vec<Due> {
        let now = self.millis(now);
        let mut due = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            for (address, entries) in &*shard {
                let waiting = entries
                    .iter()
                    .filter(|entry| entry.calls.load(Ordering::Relaxed) > 0 && entry.is_due(now));
                due.extend(waiting.map(|entry| Due {
                    address: *address,
                    environment: entry.environment,
                    traffic: entry.take(now),
                }));
            }
        }
        due
    }

    /// The entry, made if there is room for it.
    fn entry<'s>(
        &self,
        shard: &'s mut Shard,
        address: IpAddr,
        environment: Uuid,
        now: u64,
    ) -> Option<&'s mut Entry> {
        if find(shard, address, environment).is_none() {
            self.make_room(shard, address, environment, now)?;
            shard.entry(address).or_default().push(Entry::new(environment, now));
            self.entries.fetch_add(1, Ordering::Relaxed);
        }
        let entries = shard.get_mut(&address)?;
        entries.iter_mut().find(|entry| entry.environment == environment)
    }

    /// Makes room for one more entry of an address, in its shard; `None` when all others count more.
    ///
    /// A granted root always has room, and a stranger goes for it where there is one. Of strangers, who
    /// has something mounted is not pushed out by who has not: a crowd of forged addresses pushes out its
    /// like.
    fn make_room(
        &self,
        shard: &mut Shard,
        address: IpAddr,
        environment: Uuid,
        now: u64,
    ) -> Option<()> {
        let has_room = |shard: &Shard| {
            let own = shard.get(&address).map_or(0, Vec::len);
            own < MAX_ENVIRONMENTS && self.entries.load(Ordering::Relaxed) < MAX_ENTRIES
        };
        if has_room(shard) {
            return Some(());
        }
        let before = shard.values().map(Vec::len).sum::<usize>();
        shard.retain(|_, entries| {
            entries.retain(|entry| entry.lasts(now));
            !entries.is_empty()
        });
        let left = shard.values().map(Vec::len).sum::<usize>();
        self.entries.fetch_sub(before - left, Ordering::Relaxed);
        if has_room(shard) {
            return Some(());
        }
        let granted = self.is_granted(address, environment);
        let crowded = shard.get(&address).map_or(0, Vec::len) >= MAX_ENVIRONMENTS;
        let candidates = shard
            .iter()
            .filter(|(candidate, _)| !crowded || **candidate == address)
            .flat_map(|(candidate, entries)| entries.iter().map(move |entry| (*candidate, entry)));
        let victim = candidates
            .filter(|(candidate, entry)| {
                (granted || entry.mounted.is_empty())
                    && !self.is_granted(*candidate, entry.environment)
            })
            .min_by_key(|(_, entry)| {
                (!entry.mounted.is_empty(), entry.seen.load(Ordering::Relaxed))
            })
            .map(|(victim, entry)| (victim, entry.environment));
        let Some((victim, environment)) = victim else { return granted.then_some(()) };
        let entries = shard.get_mut(&victim)?;
        entries.retain(|entry| entry.environment != environment);
        if entries.is_empty() {
            shard.remove(&victim);
        }
        self.entries.fetch_sub(1, Ordering::Relaxed);
        Some(())
    }

    /// Whether the environment is a root that is granted to the address.
    fn is_granted(&self, address: IpAddr, environment: Uuid) -> bool {
        let IpAddr::V4(address) = address else { return false };
        self.roots.get(address).of(environment).is_some()
    }

    fn shard(&self, address: IpAddr) -> &RwLock<Shard> {
        let mixed = match address {
            IpAddr::V4(address) => address.octets().into_iter().fold(0, mix),
            IpAddr::V6(address) => address.octets().into_iter().fold(0, mix),
        };
        let [first, ..] = &self.shards;
        self.shards.get(mixed % SHARDS).unwrap_or(first)
    }

    fn read(&self, address: IpAddr) -> RwLockReadGuard<'_, Shard> {
        self.shard(address).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, address: IpAddr) -> RwLockWriteGuard<'_, Shard> {
        self.shard(address).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self, now: Instant) -> u64 {
        // 0 is before all time.
        millis(now.saturating_duration_since(self.start)).saturating_add(1)
    }

    fn instant(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis.saturating_sub(1))
    }
}

impl Entry {
    const fn new(environment: Uuid, now: u64) -> Self {
        Self {
            environment,
            seen: AtomicU64::new(now),
            unmounted: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            by_kernel: AtomicBool::new(false),
            piece: AtomicU64::new(0),
            repeats: AtomicU32::new(0),
            denied: AtomicU32::new(0),
            lacks_init: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            mounted: Vec::new(),
        }
    }

    fn hear(&self, now: u64) {
        // Stores only: several threads that write the same are as good as one.
        if self.seen.load(Ordering::Relaxed) < now {
            self.seen.store(now, Ordering::Relaxed);
        }
        if self.unmounted.load(Ordering::Relaxed) {
            self.unmounted.store(false, Ordering::Relaxed);
        }
    }

    /// Follows what is asked for: a loader that does not hear us asks for one piece again and again.
    fn follow(&self, piece: Option<u64>, by_kernel: bool) {
        if by_kernel && !self.by_kernel.load(Ordering::Relaxed) {
            self.by_kernel.store(true, Ordering::Relaxed);
        }
        let before = self.piece.load(Ordering::Relaxed);
        let piece = piece.unwrap_or_default();
        if piece != before {
            self.piece.store(piece, Ordering::Relaxed);
            self.repeats.store(0, Ordering::Relaxed);
        } else if piece != 0 {
            self.repeats.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count(&self, read: u64, written: u64, now: u64) -> Option<Traffic> {
        self.hear(now);
        self.calls.fetch_add(1, Ordering::Relaxed);
        if read > 0 {
            self.read.fetch_add(read, Ordering::Relaxed);
        }
        if written > 0 {
            self.written.fetch_add(written, Ordering::Relaxed);
        }
        let taken = self.taken.load(Ordering::Relaxed);
        // Of several threads, one tells.
        let order = Ordering::Relaxed;
        (self.is_due(now) && self.taken.compare_exchange(taken, now, order, order).is_ok())
            .then(|| self.take(now))
    }

    fn is_due(&self, now: u64) -> bool {
        let taken = self.taken.load(Ordering::Relaxed);
        taken == 0 || now.saturating_sub(taken) >= millis(INTERVAL)
    }

    fn take(&self, now: u64) -> Traffic {
        self.taken.store(now, Ordering::Relaxed);
        Traffic {
            calls: self.calls.swap(0, Ordering::Relaxed),
            read: self.read.swap(0, Ordering::Relaxed),
            written: self.written.swap(0, Ordering::Relaxed),
            by_kernel: self.by_kernel.swap(false, Ordering::Relaxed),
            repeats: self.repeats.load(Ordering::Relaxed),
            denied: self.denied.swap(0, Ordering::Relaxed),
            lacks_init: self.lacks_init.swap(false, Ordering::Relaxed),
        }
    }

    fn lasts(&self, now: u64) -> bool {
        let limit = if self.mounted.is_empty() { UNUSED } else { MOUNTED };
        now.saturating_sub(self.seen.load(Ordering::Relaxed)) < millis(limit)
    }
}

fn find(shard: &Shard, address: IpAddr, environment: Uuid) -> Option<&Entry> {
    shard.get(&address)?.iter().find(|entry| entry.environment == environment)
}

fn mix(mixed: usize, byte: u8) -> usize {
    mixed.wrapping_mul(31) ^ usize::from(byte)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What was not used for so long is given up, unless it was mounted and never unmounted.
pub const UNUSED: Duration = Duration::from_secs(30 * 60);

/// What is mounted and was not used for so long is given up: its machine was switched off. FreeBSD
/// never unmounts its root.
pub const MOUNTED: Duration = Duration::from_secs(24 * 60 * 60);

/// How often the traffic of an entry is told at most.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// For how long a loader that still runs is never silent.
const SILENCE: Duration = Duration::from_secs(60);

/// Locks that calls of different addresses share.
const SHARDS: usize = 64;

/// Entries, several times the machines of a site: a few megabytes. Granted roots may go beyond.
const MAX_ENTRIES: usize = if cfg!(test) { 256 } else { 16_384 };

/// Environments that one address uses: its root, data, and what it looks into.
const MAX_ENVIRONMENTS: usize = 16;

/// Paths in an environment by which one address has mounted it. The root itself comes first.
const MAX_PATHS: usize = 16;

/// Bytes of paths that are kept for people to read, each up to 1024.
const MAX_TEXT: usize = 4 << 20;

#[cfg(test)]
mod test;

//! Open descriptors by handle, so that a file in use is not opened for every call.

use std::collections::HashMap;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vfs::{Acl, Handle};

use crate::beacons::Beacons;
use crate::closer::Closer;
use crate::remembered::Remembered;
use crate::sys::Node;

/// A bounded cache of descriptors, shared by all trees of a server.
///
/// It holds no attributes and no names: whoever takes a descriptor out of it asks the kernel for the
/// file's attributes, and a link count of zero makes the handle stale. What is unlinked through a tree
/// is closed at once, so that its space is free when the client was told so.
///
/// No lock of it is held while something is closed, which may wait for a disk, so that who must not
/// wait may use it.
#[derive(Debug)]
pub struct Descriptors {
    nodes: Mutex<Cache<Node>>,
    readers: Mutex<Cache<OwnedFd>>,
    writers: Mutex<Cache<OwnedFd>>,
    closer: Closer,
    pub(crate) beacons: Beacons,
    /// What listings of all trees know.
    ///
    /// A file with the number of a removed one has another handle: should the clock be put back and a new file
    /// meet the old one's time by the nanosecond, its handle here is stale, and no other file's.
    pub(crate) handles: Remembered<Inode, Handle>,
    /// The access control lists of files, or that they have none.
    pub(crate) lists: Remembered<Handle, Option<Arc<Acl>>>,
}

impl Descriptors {
    /// A cache of at most `limit` descriptors.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let quarter = (limit / 4).max(SMALLEST);
        Self {
            nodes: Mutex::new(Cache::new(2 * quarter)),
            readers: Mutex::new(Cache::new(quarter)),
            writers: Mutex::new(Cache::new(quarter)),
            closer: Closer::default(),
            beacons: Beacons::default(),
            handles: Remembered::default(),
            lists: Remembered::default(),
        }
    }

    /// A cache that takes half of what the process may open.
    #[must_use]
    pub fn within_limits() -> Self {
        Self::new(open_files_limit() / 2)
    }

    /// Closes everything that was not used since the last call of this, without waiting for it.
    ///
    /// A descriptor for writing keeps a program from being run on the host, and any descriptor keeps
    /// the space of a file that the host removed; so a server calls this every few seconds.
    pub fn close_idle(&self) {
        let idle = lock(&self.nodes).take_idle();
        self.close(idle);
        let idle = lock(&self.readers).take_idle();
        self.close(idle);
        let idle = lock(&self.writers).take_idle();
        self.close(idle);
        for (device, beacon) in self.beacons.take_idle() {
            self.closer.close(device, beacon);
        }
    }

    /// Closes everything of one file system id, and what is open of the device for all of them.
    pub(crate) fn close_all(&self, fsid: u64, device: u64) {
        let on_it = |handle: &Handle| handle.fsid() == fsid;
        let nodes = lock(&self.nodes).take_if(on_it);
        let readers = lock(&self.readers).take_if(on_it);
        let writers = lock(&self.writers).take_if(on_it);
        drop((nodes, readers, writers, self.beacons.take(device)));
    }

    /// Closes what is open of one file.
    pub(crate) fn forget(&self, file: &Handle) {
        let node = lock(&self.nodes).remove(file);
        let reader = lock(&self.readers).remove(file);
        let writer = lock(&self.writers).remove(file);
        drop((node, reader, writer));
    }

    pub(crate) fn node(&self, file: &Handle) -> Option<InUse<'_, Node>> {
        let node = lock(&self.nodes).get(file)?;
        Some(self.in_use(file.fsid(), node))
    }

    /// What is kept of a file from now on: `node`, unless there is one already. By `inode`, if it is
    /// told, the file is found again ([`Descriptors::known`]).
    pub(crate) fn keep_node<'a>(
        &'a self,
        file: &Handle,
        inode: Option<Inode>,
        node: InUse<'a, Node>,
    ) -> InUse<'a, Node> {
        self.keep(&self.nodes, file, inode, node)
    }

    /// The handle of the file that `found` is open on, if a descriptor of it is kept under this inode
    /// number; that one takes the place of `found`.
    pub(crate) fn known(&self, inode: &Inode, found: &mut InUse<'_, Node>) -> Option<Handle> {
        let (file, kept) = lock(&self.nodes).of_inode(inode)?;
        // Closed here and at once: `kept` is open on the same file, so nothing of it is freed.
        found.descriptor = Some(kept);
        Some(file)
    }

    pub(crate) fn reader(&self, file: &Handle) -> Option<InUse<'_, OwnedFd>> {
        let reader = lock(&self.readers).get(file)?;
        Some(self.in_use(file.fsid(), reader))
    }

    pub(crate) fn keep_reader(&self, file: &Handle, reader: OwnedFd) -> InUse<'_, OwnedFd> {
        self.keep(&self.readers, file, None, self.new_in_use(file.fsid(), reader))
    }

    pub(crate) fn writer(&self, file: &Handle) -> Option<InUse<'_, OwnedFd>> {
        let writer = lock(&self.writers).get(file)?;
        Some(self.in_use(file.fsid(), writer))
    }

    pub(crate) fn keep_writer(&self, file: &Handle, writer: OwnedFd) -> InUse<'_, OwnedFd> {
        self.keep(&self.writers, file, None, self.new_in_use(file.fsid(), writer))
    }

    /// A descriptor of the file system `fsid` that is not in the cache.
    pub(crate) fn new_in_use<T: Send + Sync + 'static>(
        &self,
        fsid: u64,
        descriptor: T,
    ) -> InUse<'_, T> {
        self.in_use(fsid, Arc::new(descriptor))
    }

    const fn in_use<T: Send + Sync + 'static>(
        &self,
        fsid: u64,
        descriptor: Arc<T>,
    ) -> InUse<'_, T> {
        InUse { descriptor: Some(descriptor), fsid, closer: &self.closer }
    }

    fn keep<'a, T: Send + Sync + 'static>(
        &'a self,
        cache: &Mutex<Cache<T>>,
        file: &Handle,
        inode: Option<Inode>,
        mut new: InUse<'a, T>,
    ) -> InUse<'a, T> {
        let Some(descriptor) = &new.descriptor else { return new };
        let (kept, evicted) = lock(cache).put(file, inode, descriptor);
        self.close(evicted);
        let Some(kept) = kept else { return new };
        let kept = self.in_use(file.fsid(), kept);
        // Closed here and at once: `kept` is open on the same file, so nothing of it is freed.
        new.descriptor = None;
        kept
    }

    /// Leaves it to others to close descriptors, which may be of any file system.
    fn close<T: Send + Sync + 'static>(&self, evicted: Evicted<T>) {
        for (file, slot) in evicted {
            self.closer.close(file.fsid(), slot.descriptor);
        }
    }
}

/// A descriptor that is used for a call.
///
/// If it left the cache in the meantime, its last user is not the one who closes it: he may be one who
/// must not wait.
#[derive(Debug)]
pub(crate) struct InUse<'a, T: Send + Sync + 'static> {
    /// Always there until it is dropped.
    descriptor: Option<Arc<T>>,
    fsid: u64,
    closer: &'a Closer,
}

impl<T: Send + Sync + 'static> Deref for InUse<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        #[allow(clippy::expect_used, reason = "only `drop` and `keep`, which own it, take it out")]
        self.descriptor.as_deref().expect("a descriptor in use is there")
    }
}

impl<T: Send + Sync + 'static> Drop for InUse<'_, T> {
    fn drop(&mut self) {
        if let Some(last) = self.descriptor.take().and_then(Arc::into_inner) {
            self.closer.close(self.fsid, Arc::new(last));
        }
    }
}

/// Lets the process open as many files as the host lets it: the soft `RLIMIT_NOFILE` is small for the
/// sake of programs that call select(2), and too small for a room full of machines.
///
/// Fails with the kernel's error; the limit is then what it was.
pub fn raise_open_files_limit() -> std::io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// How many files the process may open (`RLIMIT_NOFILE`), as far as it matters.
#[must_use]
pub fn open_files_limit() -> usize {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(LARGEST).min(LARGEST);
    usize::try_from(most).unwrap_or(usize::MAX)
}

fn lock<T>(cache: &Mutex<Cache<T>>) -> MutexGuard<'_, Cache<T>> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of an inode of a mounted file system, among the handles of one file system id.
///
/// Two files that are open at the same time never have the same one, where
/// [`Resident::inode_numbers`](crate::resident::Resident::inode_numbers) says so: the kernel gives the
/// number of a removed file away only after its last descriptor is closed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Inode {
    pub(crate) fsid: u64,
    pub(crate) device: u64,
    pub(crate) number: u64,
}

/// Descriptors of one sort, the least recently used of which are closed first.
#[derive(Debug)]
struct Cache<T> {
    slots: HashMap<Handle, Slot<T>>,
    /// The slots that were kept with an inode: each of these descriptors is open, so that its inode's
    /// number is no other file's.
    inodes: HashMap<Inode, Handle>,
    limit: usize,
    clock: u64,
    /// The clock at the last [`Cache::take_idle`].
    swept: u64,
}

#[derive(Debug)]
struct Slot<T> {
    descriptor: Arc<T>,
    used: u64,
    inode: Option<Inode>,
}

impl<T> Cache<T> {
    fn new(limit: usize) -> Self {
        Self { slots: HashMap::new(), inodes: HashMap::new(), limit, clock: 0, swept: 0 }
    }

    fn get(&mut self, file: &Handle) -> Option<Arc<T>> {
        self.clock += 1;
        let slot = self.slots.get_mut(file)?;
        slot.used = self.clock;
        Some(Arc::clone(&slot.descriptor))
    }

    fn of_inode(&mut self, inode: &Inode) -> Option<(Handle, Arc<T>)> {
        let file = *self.inodes.get(inode)?;
        self.get(&file).map(|descriptor| (file, descriptor))
    }

    /// Keeps a descriptor, unless there is one of the file, which is returned. Returns also what had
    /// to make room.
    fn put(
        &mut self,
        file: &Handle,
        inode: Option<Inode>,
        descriptor: &Arc<T>,
    ) -> (Option<Arc<T>>, Evicted<T>) {
        let present = self.get(file);
        let mut evicted = Vec::new();
        if present.is_none() {
            if self.slots.len() >= self.limit {
                evicted = self.take_oldest();
            }
            let descriptor = Arc::clone(descriptor);
            self.slots.insert(*file, Slot { descriptor, used: self.clock, inode: None });
        }
        if let Some(inode) = inode
            && let Some(slot) = self.slots.get_mut(file)
        {
            slot.inode = Some(inode);
            self.inodes.insert(inode, *file);
        }
        (present, evicted)
    }

    fn remove(&mut self, file: &Handle) -> Option<Slot<T>> {
        let slot = self.slots.remove(file)?;
        self.forget_inode(file, &slot);
        Some(slot)
    }

    /// Takes the least recently used eighth away, so that making room costs little on average.
    fn take_oldest(&mut self) -> Evicted<T> {
        let mut ages: Vec<u64> = self.slots.values().map(|slot| slot.used).collect();
        let eighth = ages.len() / 8;
        if ages.is_empty() {
            return Vec::new();
        }
        let (_, border, _) = ages.select_nth_unstable(eighth);
        let border = *border;
        self.take(|_, slot| slot.used <= border)
    }

    fn take_idle(&mut self) -> Evicted<T> {
        let swept = self.swept;
        self.swept = self.clock;
        self.take(|_, slot| slot.used <= swept)
    }

    fn take_if(&mut self, matches: impl Fn(&Handle) -> bool) -> Evicted<T> {
        self.take(|handle, _| matches(handle))
    }

    fn take(&mut self, leaves: impl Fn(&Handle, &Slot<T>) -> bool) -> Evicted<T> {
        let taken: Evicted<T> = self.slots.extract_if(|file, slot| leaves(file, slot)).collect();
        taken.iter().for_each(|(file, slot)| self.forget_inode(file, slot));
        taken
    }

    /// Forgets the inode of what is closed, before it is: after that its number may be another file's.
    fn forget_inode(&mut self, file: &Handle, slot: &Slot<T>) {
        if let Some(inode) = &slot.inode
            && self.inodes.get(inode) == Some(file)
        {
            self.inodes.remove(inode);
        }
    }
}

/// What left a cache and is still open.
type Evicted<T> = Vec<(Handle, Slot<T>)>;

/// Fewer descriptors of one sort than this make no sense.
const SMALLEST: usize = 8;
/// More than these are no gain, even where the process may open a million.
const LARGEST: u64 = 65_536;

#[cfg(test)]
mod test {
    use super::*;

    fn handle(number: u8) -> Handle {
        Handle::new(1, 1, &[number]).unwrap()
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut cache = Cache::new(8);
        (0..8).for_each(|number| drop(cache.put(&handle(number), None, &Arc::new(number))));
        cache.get(&handle(0));
        drop(cache.put(&handle(8), None, &Arc::new(8)));
        assert!(cache.get(&handle(0)).is_some() && cache.get(&handle(1)).is_none());
        assert!(cache.slots.len() <= 8);
    }

    #[test]
    fn the_process_may_open_what_the_host_lets_it() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let current = Some(maximum.unwrap_or(1 << 20) / 2);
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
        raise_open_files_limit().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }

    #[test]
    fn what_was_used_since_the_last_sweep_stays_open() {
        let mut cache = Cache::new(8);
        drop(cache.put(&handle(1), None, &Arc::new(1)));
        drop(cache.put(&handle(2), None, &Arc::new(2)));
        assert!(cache.take_idle().is_empty());
        cache.get(&handle(2));
        assert_eq!(cache.take_idle().len(), 1);
        assert!(cache.get(&handle(2)).is_some());
    }

    #[test]
    fn a_file_is_found_by_its_inode_only_while_a_descriptor_of_it_is_kept() {
        let inode = |number| Inode { fsid: 1, device: 1, number };
        let mut cache = Cache::new(8);
        for number in 1..=3 {
            drop(cache.put(&handle(number), Some(inode(number.into())), &Arc::new(number)));
        }
        assert_eq!(cache.of_inode(&inode(2)), Some((handle(2), Arc::new(2))));
        cache.remove(&handle(2));
        assert_eq!(cache.of_inode(&inode(2)), None);
        drop(cache.take_if(|file| *file == handle(3)));
        assert_eq!(cache.of_inode(&inode(3)), None);
        cache.take_idle();
        assert_eq!(cache.take_idle().len(), 1);
        assert!(cache.of_inode(&inode(1)).is_none() && cache.inodes.is_empty());
    }

    #[test]
    fn a_descriptor_that_is_kept_learns_its_inode_later() {
        let inode = Inode { fsid: 1, device: 1, number: 7 };
        let mut cache = Cache::new(8);
        drop(cache.put(&handle(1), None, &Arc::new('a')));
        let (present, _) = cache.put(&handle(1), Some(inode), &Arc::new('b'));
        assert_eq!(present, Some(Arc::new('a')));
        assert_eq!(cache.of_inode(&inode), Some((handle(1), Arc::new('a'))));
    }
}

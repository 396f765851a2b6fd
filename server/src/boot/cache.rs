//! Blocks of boot files in memory, one copy for all machines that read the same file.
//!
//! A room full of machines fetches the same few files. What one of them has made the disk read, the
//! others copy from here, without another thread.

use std::collections::{HashMap, VecDeque};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

/// Blocks that were read, and those that are being read.
#[derive(Debug)]
pub(crate) struct Cache {
    blocks: Mutex<Blocks>,
    /// How many blocks are kept.
    most: usize,
}

#[derive(Debug, Default)]
struct Blocks {
    kept: HashMap<Key, Kept>,
    /// The order in which they are looked at when one has to make room, each once.
    order: VecDeque<Key>,
}

/// An opened file, as far as its blocks are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    file: Arc<std::fs::File>,
    len: u64,
    /// Nothing for a file that changed just now: the next change may have the same time (of two seconds on
    /// some file systems), so that its blocks are for nobody else.
    identity: Option<Identity>,
}

/// A file in one state. Its bytes are the same as long as all of this is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Identity {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A block of a file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Key {
    identity: Identity,
    block: u64,
}

#[derive(Debug)]
struct Kept {
    slot: Slot,
    used: Instant,
    /// Whether it was used since it was last looked at.
    again: bool,
}

/// A block, once it was read; why it was not, if so.
type Slot = Arc<OnceCell<Result<Arc<[u8]>, io::ErrorKind>>>;

impl Source {
    /// A file of which `len` bytes are to be had. For threads that may wait.
    pub(crate) fn new(file: &Arc<std::fs::File>, len: u64) -> io::Result<Self> {
        let identity = Identity::of(&file.metadata()?, len);
        let identity = (!identity.is_recent()).then_some(identity);
        Ok(Self { file: Arc::clone(file), len, identity })
    }

    fn key(&self, block: u64) -> Option<Key> {
        Some(Key { identity: self.identity?, block })
    }

    /// Reads a block.
    fn read(&self, block: u64) -> io::Result<Arc<[u8]>> {
        let start = block.saturating_mul(BLOCK);
        let len = self.len.saturating_sub(start).min(BLOCK);
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }

    /// Whether the file is still what it was when it was opened.
    fn is_unchanged(&self) -> bool {
        let now = self.file.metadata();
        now.is_ok_and(|about| Some(Identity::of(&about, about.len())) == self.identity)
    }
}

impl Identity {
    fn of(about: &Metadata, len: u64) -> Self {
        Self {
            device: about.dev(),
            inode: about.ino(),
            len,
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }

    /// Whether the file's time of change is one that the next change may have too.
    fn is_recent(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.changed.0.max(self.modified.0).saturating_add(RECENT) >= now
    }
}

impl Cache {
    /// A cache of at most `most` blocks.
    pub(crate) fn new(most: usize) -> Self {
        Self { blocks: Mutex::default(), most: most.max(1) }
    }

    /// A block, if it is in memory.
    pub(crate) fn held(&self, source: &Source, block: u64) -> Option<Arc<[u8]>> {
        let key = source.key(block)?;
        let mut blocks = self.lock();
        let kept = blocks.kept.get_mut(&key)?;
        let bytes = kept.slot.get()?.as_ref().ok().cloned()?;
        kept.touch();
        Some(bytes)
    }

    /// A block, read by this thread if it is not in memory. For threads that may wait.
    pub(crate) fn read(&self, source: &Source, block: u64) -> io::Result<Arc<[u8]>> {
        if let Some(bytes) = self.held(source, block) {
            return Ok(bytes);
        }
        let bytes = source.read(block)?;
        let Some(key) = source.key(block).filter(|_| source.is_unchanged()) else {
            return Ok(bytes);
        };
        let slot = self.slot(key);
        // Somebody else may have read it meanwhile; then one of the two copies is enough.
        let _ = slot.set(Ok(Arc::clone(&bytes)));
        Ok(slot.get().and_then(|kept| kept.as_ref().ok().cloned()).unwrap_or(bytes))
    }

    /// A block, read by one of all who ask for it if it is not in memory.
    ///
    /// # Errors
    ///
    /// The disk failed, or the file ends before the block does.
    pub(crate) async fn wait(&self, source: &Source, block: u64) -> io::Result<Arc<[u8]>> {
        let reader = source.clone();
        let reading = move || {
            let bytes = reader.read(block).map_err(|error| error.kind())?;
            Ok((bytes, reader.is_unchanged()))
        };
        let reading = async move {
            spawn_blocking(reading).await.map_err(|_| io::ErrorKind::Other).flatten()
        };
        let Some(key) = source.key(block) else {
            return Ok(reading.await.map(|(bytes, _)| bytes)?);
        };
        let slot = self.slot(key);
        let read = || async {
            let read = reading.await;
            if !matches!(read, Ok((_, true))) {
                self.forget(key, &slot);
            }
            read.map(|(bytes, _)| bytes)
        };
        Ok(slot.get_or_init(read).await.clone()?)
    }

    /// Has a block read that will be wanted, unless it is there or being read.
    pub(crate) fn prepare(self: &Arc<Self>, source: &Source, block: u64) {
        let Some(key) = source.key(block) else { return };
        if self.lock().kept.contains_key(&key) {
            return;
        }
        let (cache, source) = (Arc::clone(self), source.clone());
        tokio::spawn(async move {
            // Who wants it is told.
            let _ = cache.wait(&source, block).await;
        });
    }

    /// Lets go of what nobody used for `idle`.
    pub(crate) fn sweep(&self, idle: Duration) {
        let Blocks { kept, order } = &mut *self.lock();
        kept.retain(|_, kept| kept.used.elapsed() < idle);
        order.retain(|key| kept.contains_key(key));
    }

    /// Where a block is or will be.
    fn slot(&self, key: Key) -> Slot {
        let mut blocks = self.lock();
        if let Some(kept) = blocks.kept.get_mut(&key) {
            kept.touch();
            return Arc::clone(&kept.slot);
        }
        while blocks.kept.len() >= self.most && blocks.make_room() {}
        let slot = Slot::default();
        let kept = Kept { slot: Arc::clone(&slot), used: Instant::now(), again: false };
        blocks.kept.insert(key, kept);
        blocks.order.push_back(key);
        slot
    }

    /// Takes a block out, unless another has its place.
    fn forget(&self, key: Key, slot: &Slot) {
        let mut blocks = self.lock();
        if blocks.kept.get(&key).is_some_and(|kept| Arc::ptr_eq(&kept.slot, slot)) {
            blocks.kept.remove(&key);
            blocks.order.retain(|known| *known != key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocks {
    /// Takes out the first block that was not used since it was last looked at: a second chance, as of
    /// pages of memory, which costs a look or two for each block that comes. Whether there was one at all.
    fn make_room(&mut self) -> bool {
        while let Some(key) = self.order.pop_front() {
            match self.kept.get_mut(&key) {
                Some(kept) if kept.again => {
                    kept.again = false;
                    self.order.push_back(key);
                }
                Some(_) => return self.kept.remove(&key).is_some(),
                None => {}
            }
        }
        false
    }
}

impl Kept {
    fn touch(&mut self) {
        (self.used, self.again) = (Instant::now(), true);
    }
}

/// The cache of all services of this process.
pub(crate) static SHARED: LazyLock<Arc<Cache>> = LazyLock::new(|| Arc::new(Cache::new(MOST)));

/// Blocks of all files together: 32 MiB.
const MOST: usize = 512;

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 0x10000;

/// Seconds after which a file's time of change says what it holds.
const RECENT: i64 = 3;

#[cfg(test)]
mod test {
    use std::fs::{File, FileTimes};
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;

    /// A file that was changed long ago, as far as its time of modification tells.
    fn source(bytes: &[u8]) -> Source {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        settled(&Arc::new(file), bytes.len())
    }

    /// A file whose time of change is taken to be long ago: nobody can set that.
    fn settled(file: &Arc<File>, len: usize) -> Source {
        let len = len as u64;
        let identity = Some(Identity::of(&file.metadata().unwrap(), len));
        Source { file: Arc::clone(file), len, identity }
    }

    #[tokio::test]
    async fn who_reads_the_same_file_shares_its_blocks() {
        let cache = Cache::new(8);
        let file = source(&[7; 100_000]);
        let again = Source { file: Arc::new(file.file.try_clone().unwrap()), ..file.clone() };
        let first = cache.wait(&file, 1).await.unwrap();
        assert_eq!(*first, [7; 100_000 - 65_536]);
        assert!(Arc::ptr_eq(&first, &cache.wait(&again, 1).await.unwrap()));
        assert!(Arc::ptr_eq(&first, &cache.held(&again, 1).unwrap()));
        assert!(Arc::ptr_eq(&first, &cache.read(&again, 1).unwrap()));
        assert!(cache.held(&again, 0).is_none());
    }

    #[tokio::test]
    async fn a_hundred_who_want_one_block_have_it_read_once() {
        let cache = Arc::new(Cache::new(8));
        let file = source(&[7; 1000]);
        let readers: Vec<_> = (0..100)
            .map(|_| {
                let (cache, file) = (Arc::clone(&cache), file.clone());
                tokio::spawn(async move { cache.wait(&file, 0).await.unwrap() })
            })
            .collect();
        let mut blocks = Vec::new();
        for reader in readers {
            blocks.push(reader.await.unwrap());
        }
        assert!(blocks.iter().all(|block| Arc::ptr_eq(block, &blocks[0])));
    }

    #[tokio::test]
    async fn a_file_that_was_changed_is_read_anew() {
        let cache = Cache::new(8);
        let old = source(&[7; 1000]);
        assert_eq!(*cache.wait(&old, 0).await.unwrap(), [7; 1000]);
        old.file.write_all_at(&[8; 1000], 0).unwrap();
        let times = FileTimes::new().set_modified(SystemTime::now() + Duration::from_secs(9));
        old.file.set_times(times).unwrap();
        let new = settled(&old.file, 1000);
        assert_eq!(*cache.wait(&new, 0).await.unwrap(), [8; 1000]);
        // Nor is what was read of a changed file taken for what it was before.
        assert_eq!(cache.wait(&old, 0).await.unwrap()[0], 7);
        cache.sweep(Duration::ZERO);
        assert_eq!(cache.wait(&old, 0).await.unwrap()[0], 8);
        assert!(cache.held(&old, 0).is_none());
    }

    #[tokio::test]
    async fn a_file_that_changed_just_now_is_read_by_everybody() {
        let cache = Cache::new(8);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 1000]).unwrap();
        let file = Arc::new(file);
        let (one, other) = (Source::new(&file, 1000).unwrap(), Source::new(&file, 1000).unwrap());
        cache.wait(&one, 0).await.unwrap();
        assert_eq!(*cache.read(&one, 0).unwrap(), [7; 1000]);
        assert!(cache.held(&one, 0).is_none() && cache.held(&other, 0).is_none());
        assert!(cache.lock().kept.is_empty(), "it takes no place of what others read too");
    }

    #[tokio::test]
    async fn a_block_that_cannot_be_read_is_tried_again() {
        let cache = Cache::new(8);
        let mut file = source(&[7; 1000]);
        file.len = 1001;
        for _ in 0..2 {
            let error = cache.wait(&file, 0).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(cache.lock().kept.is_empty() && cache.lock().order.is_empty());
    }

    #[tokio::test]
    async fn no_more_blocks_are_kept_than_there_may_be() {
        let cache = Cache::new(3);
        let file = source(&[7; 655_360]);
        for block in 0..10 {
            cache.wait(&file, block).await.unwrap();
            assert!(cache.held(&file, block).is_some());
            assert!(cache.lock().kept.len() <= 3 && cache.lock().order.len() <= 3);
        }
        assert!(cache.held(&file, 6).is_none());
        assert!(cache.held(&file, 9).is_some());
        cache.sweep(Duration::ZERO);
        assert!(cache.lock().kept.is_empty() && cache.lock().order.is_empty());
    }

    #[tokio::test]
    async fn what_is_used_again_stays_while_others_pass() {
        let cache = Cache::new(3);
        let file = source(&[7; 655_360]);
        for block in 0..10 {
            cache.wait(&file, block).await.unwrap();
            assert!(cache.held(&file, 0).is_some(), "block {block} came in its place");
        }
    }
}

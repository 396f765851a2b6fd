//! Open descriptors by handle, so that a file in use is not opened for every call.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vfs::Handle;

use crate::sys::Node;

/// A bounded cache of descriptors, shared by all trees of a server.
///
/// It holds no attributes and no names: whoever takes a descriptor out of it asks the kernel for the
/// file's attributes, and a link count of zero makes the handle stale. What is unlinked through a tree
/// is closed at once, so that its space is free when the client was told so.
#[derive(Debug)]
pub struct Descriptors {
    nodes: Mutex<Shelf<Node>>,
    readers: Mutex<Shelf<OwnedFd>>,
    writers: Mutex<Shelf<OwnedFd>>,
}

impl Descriptors {
    /// A cache of at most `limit` descriptors.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let quarter = (limit / 4).max(SMALLEST);
        Self {
            nodes: Mutex::new(Shelf::new(2 * quarter)),
            readers: Mutex::new(Shelf::new(quarter)),
            writers: Mutex::new(Shelf::new(quarter)),
        }
    }

    /// A cache that takes half of what the process may open.
    #[must_use]
    pub fn within_limits() -> Self {
        Self::new(open_files_limit() / 2)
    }

    /// Closes everything that was not used since the last call of this.
    ///
    /// A descriptor for writing keeps a program from being run on the host, and any descriptor keeps
    /// the space of a file that the host removed; so a server calls this every few seconds.
    pub fn close_idle(&self) {
        drop(lock(&self.nodes).take_idle());
        drop(lock(&self.readers).take_idle());
        drop(lock(&self.writers).take_idle());
    }

    /// Closes everything on one file system.
    pub(crate) fn close_all(&self, fsid: u64) {
        drop(lock(&self.nodes).take_if(|handle| handle.fsid() == fsid));
        drop(lock(&self.readers).take_if(|handle| handle.fsid() == fsid));
        drop(lock(&self.writers).take_if(|handle| handle.fsid() == fsid));
    }

    /// Closes what is open of one file.
    pub(crate) fn forget(&self, file: &Handle) {
        drop(lock(&self.nodes).books.remove(file));
        drop(lock(&self.readers).books.remove(file));
        drop(lock(&self.writers).books.remove(file));
    }

    pub(crate) fn node(&self, file: &Handle) -> Option<Arc<Node>> {
        lock(&self.nodes).get(file)
    }

    pub(crate) fn keep_node(&self, file: &Handle, node: Node) -> Arc<Node> {
        keep(&self.nodes, file, node)
    }

    pub(crate) fn reader(&self, file: &Handle) -> Option<Arc<OwnedFd>> {
        lock(&self.readers).get(file)
    }

    pub(crate) fn keep_reader(&self, file: &Handle, reader: OwnedFd) -> Arc<OwnedFd> {
        keep(&self.readers, file, reader)
    }

    pub(crate) fn writer(&self, file: &Handle) -> Option<Arc<OwnedFd>> {
        lock(&self.writers).get(file)
    }

    pub(crate) fn keep_writer(&self, file: &Handle, writer: OwnedFd) -> Arc<OwnedFd> {
        keep(&self.writers, file, writer)
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

/// Puts a descriptor on a shelf. What has to make room for it is closed after the lock is released,
/// because closing may take long.
fn keep<T>(shelf: &Mutex<Shelf<T>>, file: &Handle, descriptor: T) -> Arc<T> {
    let descriptor = Arc::new(descriptor);
    let closed = lock(shelf).put(file, &descriptor);
    drop(closed);
    descriptor
}

fn lock<T>(shelf: &Mutex<Shelf<T>>) -> MutexGuard<'_, Shelf<T>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Descriptors of one sort, the least recently used of which are closed first.
#[derive(Debug)]
struct Shelf<T> {
    books: HashMap<Handle, Book<T>>,
    limit: usize,
    clock: u64,
    /// The clock at the last [`Shelf::take_idle`].
    swept: u64,
}

#[derive(Debug)]
struct Book<T> {
    descriptor: Arc<T>,
    used: u64,
}

impl<T> Shelf<T> {
    fn new(limit: usize) -> Self {
        Self { books: HashMap::new(), limit, clock: 0, swept: 0 }
    }

    fn get(&mut self, file: &Handle) -> Option<Arc<T>> {
        self.clock += 1;
        let book = self.books.get_mut(file)?;
        book.used = self.clock;
        Some(Arc::clone(&book.descriptor))
    }

    fn put(&mut self, file: &Handle, descriptor: &Arc<T>) -> Vec<Book<T>> {
        self.clock += 1;
        let closed = if self.books.len() < self.limit { Vec::new() } else { self.take_oldest() };
        let book = Book { descriptor: Arc::clone(descriptor), used: self.clock };
        self.books.insert(*file, book);
        closed
    }

    /// Takes the least recently used eighth away, so that making room costs little on average.
    fn take_oldest(&mut self) -> Vec<Book<T>> {
        let mut ages: Vec<u64> = self.books.values().map(|book| book.used).collect();
        let eighth = ages.len() / 8;
        if ages.is_empty() {
            return Vec::new();
        }
        let (_, border, _) = ages.select_nth_unstable(eighth);
        let border = *border;
        self.books.extract_if(|_, book| book.used <= border).map(|(_, book)| book).collect()
    }

    fn take_idle(&mut self) -> Vec<Book<T>> {
        let swept = self.swept;
        self.swept = self.clock;
        self.books.extract_if(|_, book| book.used <= swept).map(|(_, book)| book).collect()
    }

    fn take_if(&mut self, matches: impl Fn(&Handle) -> bool) -> Vec<Book<T>> {
        self.books.extract_if(|handle, _| matches(handle)).map(|(_, book)| book).collect()
    }
}

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
        let mut shelf = Shelf::new(8);
        (0..8).for_each(|number| drop(shelf.put(&handle(number), &Arc::new(number))));
        shelf.get(&handle(0));
        drop(shelf.put(&handle(8), &Arc::new(8)));
        assert!(shelf.get(&handle(0)).is_some() && shelf.get(&handle(1)).is_none());
        assert!(shelf.books.len() <= 8);
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
        let mut shelf = Shelf::new(8);
        drop(shelf.put(&handle(1), &Arc::new(1)));
        drop(shelf.put(&handle(2), &Arc::new(2)));
        assert!(shelf.take_idle().is_empty());
        shelf.get(&handle(2));
        assert_eq!(shelf.take_idle().len(), 1);
        assert!(shelf.get(&handle(2)).is_some());
    }
}

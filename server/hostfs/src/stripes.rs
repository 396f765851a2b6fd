//! Locks that make "before, change, after" one step among all clients.

use std::array;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vfs::Handle;

/// A fixed number of locks, one of which stands for each file. Two files may share one.
///
/// They keep the attributes before a change truthful among network clients; programs on the host are
/// not bound by them.
#[derive(Debug)]
pub(crate) struct Stripes([Mutex<()>; STRIPES]);

/// Locks that are held for one or two files.
pub(crate) type Held<'a> = [Option<MutexGuard<'a, ()>>; 2];

impl Stripes {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| Mutex::new(())))
    }

    /// Locks one file.
    pub(crate) fn lock(&self, file: &Handle) -> Held<'_> {
        [self.hold(stripe(file)), None]
    }

    /// Locks two files, always in the same order, so that two renames cannot wait for each other.
    pub(crate) fn lock_both(&self, one: &Handle, other: &Handle) -> Held<'_> {
        let (one, other) = (stripe(one), stripe(other));
        let first = self.hold(one.min(other));
        [first, if one == other { None } else { self.hold(one.max(other)) }]
    }

    fn hold(&self, stripe: usize) -> Option<MutexGuard<'_, ()>> {
        self.0.get(stripe).map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn stripe(file: &Handle) -> usize {
    let mut hasher = DefaultHasher::new();
    file.hash(&mut hasher);
    usize::try_from(hasher.finish() % (STRIPES as u64)).unwrap_or(0)
}

const STRIPES: usize = 64;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn one_directory_as_both_ends_of_a_rename_is_locked_once() {
        let stripes = Stripes::new();
        let handle = Handle::new(1, 1, b"directory").unwrap();
        let held = stripes.lock_both(&handle, &handle);
        assert!(held[0].is_some() && held[1].is_none());
    }
}

//! Closing descriptors where nobody waits for it.

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Closes descriptors on threads of its own: one for each file system that has some to close, for as
/// long as it has.
///
/// Closing the last descriptor of a removed file frees its blocks, which takes part in a journal and so
/// may wait for a disk. Whoever must not wait, or not for somebody else's disk, leaves it to this.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closer(Arc<Mutex<Pending>>);

/// What each file system has to close. One without a thread is none of these.
type Pending = HashMap<u64, Vec<Closing>>;

/// Something that is closed when its last user drops it.
type Closing = Arc<dyn Any + Send + Sync>;

impl Closer {
    /// Closes something of the file system `fsid`, soon.
    pub(crate) fn close(&self, fsid: u64, descriptor: Closing) {
        match self.lock().entry(fsid) {
            Entry::Occupied(mut pending) => return pending.get_mut().push(descriptor),
            Entry::Vacant(pending) => drop(pending.insert(vec![descriptor])),
        }
        let closer = self.clone();
        let started = thread::Builder::new().name("close".to_owned()).stack_size(STACK).spawn(
            // Nothing is closed under the lock.
            move || while closer.take(fsid).is_some_and(|closing| !closing.is_empty()) {},
        );
        if let Err(error) = started {
            tracing::warn!("no thread can be started to close files: {error}");
            let pending = self.lock().remove(&fsid);
            drop(pending);
        }
    }

    /// What there is to close on a file system; the last time, when there is nothing more, `None`.
    fn take(&self, fsid: u64) -> Option<Vec<Closing>> {
        match self.lock().entry(fsid) {
            Entry::Occupied(pending) if pending.get().is_empty() => {
                pending.remove();
                None
            }
            Entry::Occupied(mut pending) => Some(mem::take(pending.get_mut())),
            Entry::Vacant(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of stack of a thread that only closes.
const STACK: usize = 64 << 10;

#[cfg(test)]
mod test {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Takes as long to close as its file system lets it.
    struct Slow(mpsc::Receiver<()>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }

    #[test]
    fn what_takes_long_to_close_delays_only_its_own_file_system() {
        let closer = Closer::default();
        let ((disk, hangs), (done, closed)) = (mpsc::channel(), mpsc::channel::<()>());
        closer.close(1, Arc::new(Mutex::new(Slow(hangs))));
        let (other, closed_beside) = mpsc::channel::<()>();
        closer.close(1, Arc::new(Mutex::new(done)));
        closer.close(2, Arc::new(Mutex::new(other)));
        // A channel ends when what is closed at its other end is gone.
        assert_eq!(closed_beside.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
        assert_eq!(closed.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(disk);
        assert_eq!(closed.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    const LONG: Duration = Duration::from_secs(10);
}

//! Handles that are remembered by the numbers of inodes, so that a directory is listed by one look at each file.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vfs::{Handle, Time};

use crate::descriptors::Inode;

/// The handles of files that were listed, each with the time at which the file was changed last (`ctime`).
///
/// The number of a removed file may be given to a new one, whose handle is another. The new one was changed
/// last when it was made or later, and that was after the old one was looked at. So a handle is remembered only
/// of a file that had not been changed for a while, which is far longer than the clock of the file
/// system stands still between two ticks: whatever has the same number and the same time is the same file.
/// Should somebody put the clock back and meet that time by the nanosecond, the handle would be stale; it
/// never names another file, because the kernel keeps a generation in it.
#[derive(Debug, Default)]
pub(crate) struct Handles(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    /// What was remembered or used lately, and what was before.
    young: HashMap<Inode, Known>,
    old: HashMap<Inode, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    changed: Time,
    handle: Handle,
}

impl Handles {
    /// Whether there is a handle that may be the one of this inode.
    pub(crate) fn may_know(&self, inode: &Inode) -> bool {
        let all = self.lock();
        all.young.contains_key(inode) || all.old.contains_key(inode)
    }

    /// The handle of the file with this inode, if it was changed last when it was remembered.
    pub(crate) fn of(&self, inode: &Inode, changed: Time) -> Option<Handle> {
        let mut all = self.lock();
        let known = match all.young.get(inode) {
            Some(known) => *known,
            None => {
                let known = all.old.remove(inode)?;
                all.keep(*inode, known);
                known
            }
        };
        (known.changed == changed).then_some(known.handle)
    }

    /// Remembers the handle of a file that was changed last at `changed`, and looked at after `now`.
    pub(crate) fn remember(&self, inode: Inode, changed: Time, handle: Handle, now: Time) {
        let quiet = Time { seconds: changed.seconds.saturating_add(QUIET), ..changed };
        if quiet < now {
            self.lock().keep(inode, Known { changed, handle });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn keep(&mut self, inode: Inode, known: Known) {
        if self.young.len() >= MOST {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(inode, known);
    }
}

/// Seconds for which a file is not changed before its handle is remembered.
const QUIET: i64 = 1;
/// Handles in each generation: some four MiB.
const MOST: usize = 32_768;

#[cfg(test)]
mod test {
    use super::*;

    const fn at(seconds: i64) -> Time {
        Time { seconds, nanoseconds: 5 }
    }

    const fn inode(number: u64) -> Inode {
        Inode { fsid: 1, device: 1, number }
    }

    fn handle(generation: u8) -> Handle {
        Handle::new(1, 1, &[generation]).unwrap()
    }

    #[test]
    fn a_handle_is_known_again_while_its_file_is_not_changed() {
        let handles = Handles::default();
        assert!(!handles.may_know(&inode(7)));
        handles.remember(inode(7), at(10), handle(1), at(12));
        assert!(handles.may_know(&inode(7)));
        assert_eq!(handles.of(&inode(7), at(10)), Some(handle(1)));
        // Another file with the same number, which was made later.
        assert_eq!(handles.of(&inode(7), at(13)), None);
        assert_eq!(handles.of(&inode(8), at(10)), None);
    }

    #[test]
    fn what_was_changed_just_now_or_in_the_future_is_not_remembered() {
        let handles = Handles::default();
        handles.remember(inode(7), at(10), handle(1), at(11));
        handles.remember(inode(8), at(10), handle(1), at(9));
        assert!(!handles.may_know(&inode(7)) && !handles.may_know(&inode(8)));
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_makes_room() {
        let handles = Handles::default();
        let most = MOST as u64;
        for number in 0..4 * most {
            handles.remember(inode(number), at(10), handle(1), at(12));
            if number % most == 0 {
                assert_eq!(handles.of(&inode(0), at(10)), Some(handle(1)), "{number}");
            }
        }
        assert!(!handles.may_know(&inode(1)));
        let all = handles.lock();
        assert!(all.young.len() <= MOST && all.old.len() <= MOST);
    }
}

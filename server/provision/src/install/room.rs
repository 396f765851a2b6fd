//! How much may be unpacked: an archive of kilobytes can have terabytes in it, and a store that is full
//! takes no write of any machine.

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;

use hostfs::Inside;
use rustix::fs::fstatvfs;

/// The room that there is for a root, of which a part stays free.
pub(super) struct Room<'a> {
    /// Is told whether something was written since it was asked before.
    measure: Box<dyn FnMut(bool) -> io::Result<Free> + 'a>,
    again: bool,
    /// Bytes that may be written before it is measured again.
    left: u64,
}

/// What a file system says of itself, in bytes.
#[derive(Clone, Copy, Debug)]
struct Free {
    available: u64,
    total: u64,
}

impl Free {
    /// What may be taken of it.
    fn room(self) -> u64 {
        if self.total == 0 {
            // It does not say.
            return u64::MAX;
        }
        self.available.saturating_sub((self.total / 20).min(MAX_RESERVE))
    }
}

impl<'a> Room<'a> {
    /// The room of the file system that holds a root.
    pub(super) fn of(root: &'a Inside) -> Self {
        Self::measured(move |again| {
            if again {
                // What was written may not be counted yet, or take less than it has bytes.
                root.synchronize().map_err(io::Error::other)?;
            }
            let about = fstatvfs(root.as_fd())?;
            Ok(Free {
                available: about.f_bavail.saturating_mul(about.f_frsize),
                total: about.f_blocks.saturating_mul(about.f_frsize),
            })
        })
    }

    fn measured(measure: impl FnMut(bool) -> io::Result<Free> + 'a) -> Self {
        Self { measure: Box::new(measure), again: false, left: 0 }
    }

    /// Takes room for as many bytes; [`io::ErrorKind::StorageFull`] if there is none.
    pub(super) fn take(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.left {
            self.left = (self.measure)(std::mem::replace(&mut self.again, true))?.room();
            if self.left < bytes.max(LEAST) {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        self.left = self.left.saturating_sub(bytes);
        Ok(())
    }
}

impl fmt::Debug for Room<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("left", &self.left).finish_non_exhaustive()
    }
}

/// A twentieth stays free, but not more than that.
const MAX_RESERVE: u64 = 256 << 20;
/// With less than that it is not worth to be measured again.
const LEAST: u64 = 1 << 20;

#[cfg(test)]
mod test {
    use std::cell::Cell;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_twentieth_stays_free() {
        let mut measured = 0;
        let mut room = Room::measured(|_| {
            measured += 1;
            Ok(Free { available: 100 * MIB, total: 1000 * MIB })
        });
        for _ in 0..50 {
            room.take(MIB).unwrap();
        }
        drop(room);
        assert_eq!(measured, 1);
        let left = Free { available: 49 * MIB, total: 1000 * MIB };
        let error = Room::measured(|_| Ok(left)).take(1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let large = Free { available: 300 * MIB, total: 1 << 40 };
        Room::measured(|_| Ok(large)).take(44 * MIB).unwrap();
        Room::measured(|_| Ok(large)).take(45 * MIB).unwrap_err();
    }

    #[test]
    fn what_a_file_system_compresses_takes_less_room() {
        let available = Cell::new(60 * MIB);
        let mut room =
            Room::measured(|_| Ok(Free { available: available.get(), total: 200 * MIB }));
        for _ in 0..1000 {
            room.take(MIB).unwrap();
            available.set(available.get() - MIB / 100);
        }
    }

    #[test]
    fn a_file_system_that_does_not_say_is_believed() {
        Room::measured(|_| Ok(Free { available: 0, total: 0 })).take(1 << 50).unwrap();
    }
}

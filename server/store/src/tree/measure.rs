//! How much space a tree takes, and how much there is to copy of it.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};

use crate::StoreError;
use crate::error::at;
use crate::progress::Work;
use crate::tree::{MAX_DEPTH, join, open_dir, sorted_names};

/// Sums up what a tree takes on the disk, in bytes; a file with several names counts once.
pub(crate) fn measure(root: impl AsFd, path: &Path) -> Result<u64, StoreError> {
    let stat = fstat(&root).map_err(at("look at", path))?;
    let mut counter = Counter { of: blocks, is_over: &|| false, seen: HashSet::new() };
    Ok(blocks(&stat) + counter.contents(root.as_fd(), path, 0)?)
}

/// Sums up how long the files of a tree are, holes and all; a file with several names counts once.
fn lengths(root: impl AsFd, path: &Path, is_over: &dyn Fn() -> bool) -> Result<u64, StoreError> {
    let length = |stat: &Stat| match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => u64::try_from(stat.st_size).unwrap_or(0),
        FileType::BlockDevice
        | FileType::CharacterDevice
        | FileType::Directory
        | FileType::Fifo
        | FileType::Socket
        | FileType::Symlink
        | FileType::Unknown => 0,
    };
    let mut counter = Counter { of: length, is_over, seen: HashSet::new() };
    counter.contents(root.as_fd(), path, 0)
}

/// Has somebody who watches a copy told how much there is to copy, if that takes long. What cannot be counted is
/// not told.
pub(crate) fn count_later(root: &OwnedFd, path: &Path, copying: &Work) {
    let (Some(task), Ok(root)) = (copying.watched(), root.try_clone()) else { return };
    let (task, path) = (task.clone(), path.to_owned());
    let count = move || {
        thread::sleep(LONG);
        let all = lengths(&root, &path, &|| task.has_ended());
        if let (Ok(all), false) = (all, task.has_ended()) {
            task.set_total(all);
        }
    };
    let _ = thread::Builder::new().spawn(count);
}

/// Sums up what `of` tells of each file.
struct Counter<'a, F> {
    of: F,
    is_over: &'a dyn Fn() -> bool,
    seen: HashSet<(u64, u64)>,
}

impl<F: Fn(&Stat) -> u64> Counter<'_, F> {
    fn contents(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &Path,
        depth: usize,
    ) -> Result<u64, StoreError> {
        let mut sum = 0_u64;
        for name in sorted_names(dir, path)? {
            if (self.is_over)() {
                break;
            }
            let here = join(path, &name);
            // A machine may remove it meanwhile.
            let Ok(stat) = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                sum = sum.saturating_add((self.of)(&stat));
                if depth < MAX_DEPTH
                    && let Ok(child) = open_dir(dir, &name)
                {
                    sum = sum.saturating_add(self.contents(child.as_fd(), &here, depth + 1)?);
                }
            } else if stat.st_nlink <= 1 || self.seen.insert((stat.st_dev, stat.st_ino)) {
                sum = sum.saturating_add((self.of)(&stat));
            }
        }
        Ok(sum)
    }
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

/// What takes less time is not counted beforehand.
const LONG: Duration = Duration::from_secs(1);

#[cfg(test)]
mod test {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_as_long_as_they_say_and_each_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("below/file"), [b'x'; 1000]).unwrap();
        fs::hard_link(dir.path().join("below/file"), dir.path().join("link")).unwrap();
        fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.path().join("symlink")).unwrap();
        let root = open_dir(rustix::fs::CWD, dir.path()).unwrap();
        let count = |is_over| lengths(&root, dir.path(), &|| is_over).unwrap();
        assert_eq!(count(false), 1000 + (1 << 40));
        assert_eq!(count(true), 0, "it is not gone on with when nobody wants to know");
    }
}

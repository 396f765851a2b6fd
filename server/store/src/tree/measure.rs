//! How much space a tree takes.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};

use crate::StoreError;
use crate::error::at;
use crate::tree::{MAX_DEPTH, join, open_dir, sorted_names};

/// Sums up what a tree takes on the disk, in bytes; a file with several names counts once.
pub(crate) fn measure(root: impl AsFd, path: &Path) -> Result<u64, StoreError> {
    let mut seen = HashSet::new();
    let stat = fstat(&root).map_err(at("look at", path))?;
    Ok(blocks(&stat) + contents(root.as_fd(), path, 0, &mut seen)?)
}

fn contents(
    dir: BorrowedFd<'_>,
    path: &Path,
    depth: usize,
    seen: &mut HashSet<(u64, u64)>,
) -> Result<u64, StoreError> {
    let mut sum = 0;
    for name in sorted_names(dir, path)? {
        let here = join(path, &name);
        // A machine may remove it meanwhile.
        let Ok(stat) = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            sum += blocks(&stat);
            if depth < MAX_DEPTH
                && let Ok(child) = open_dir(dir, &name)
            {
                sum += contents(child.as_fd(), &here, depth + 1, seen)?;
            }
        } else if stat.st_nlink <= 1 || seen.insert((stat.st_dev, stat.st_ino)) {
            sum += blocks(&stat);
        }
    }
    Ok(sum)
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

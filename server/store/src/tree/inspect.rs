//! Finds what would stop a removal half-way.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, statat};

use crate::error::at;
use crate::sys;
use crate::tree::{MAX_DEPTH, each_name, join, open_dir};
use crate::{Obstacle, StoreError};

/// Refuses a tree with mounted file systems in it, before anything is touched; and one with immutable
/// files, where this process cannot clear their flags.
///
/// What is deeper than [`MAX_DEPTH`] is not looked at: removing copes with any depth, and reports
/// what it cannot remove.
pub(crate) fn inspect(dir: impl AsFd, path: &Path) -> Result<(), StoreError> {
    level(dir, path, 0, sys::may_clear_flags())
}

fn level(dir: impl AsFd, path: &Path, depth: usize, clears: bool) -> Result<(), StoreError> {
    let dir = dir.as_fd();
    each_name(dir, path, |name| {
        let here = join(path, name);
        match sys::obstacle(dir, name).map_err(at("look at", &here))? {
            Some(obstacle) if !(clears && obstacle == Obstacle::Immutable) => {
                return Err(StoreError::Obstacle { path: here, obstacle });
            }
            Some(_) | None => {}
        }
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(at("look at", &here))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && depth < MAX_DEPTH {
            let child = open_dir(dir, name).map_err(at("open", &here))?;
            level(child, &here, depth + 1, clears)?;
        }
        Ok(())
    })
}

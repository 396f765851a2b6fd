//! Resolving a path inside a directory, step by step, where the kernel cannot do it in one call.
//!
//! FreeBSD's O_RESOLVE_BENEATH refuses absolute links instead of starting them at the root. So every
//! component is opened by itself, without following links; a link's target is put in front of what is
//! left, and `..` goes back to a descriptor that was opened on the way down. Nothing that is renamed
//! in between can lead out.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::{Errno, Result};

/// Resolves `path` inside `root`, as chroot(2) would, without opening what it finds.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    let mut trail: Vec<OwnedFd> = Vec::new();
    let mut left = VecDeque::new();
    push_front(&mut left, path);
    let mut links = 0;
    let mut at_end = false;
    while let Some(name) = left.pop_front() {
        if at_end {
            return Err(Errno::NOTDIR);
        }
        if name == b"." {
            continue;
        }
        if name == b".." {
            trail.pop();
            continue;
        }
        let dir = trail.last().map_or(root, AsFd::as_fd);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = fs::openat(dir, name.as_slice(), flags, Mode::empty())?;
        match FileType::from_raw_mode(fs::fstat(&next)?.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = fs::readlinkat(dir, name.as_slice(), Vec::new())?.into_bytes();
                if target.first() == Some(&b'/') {
                    trail.clear();
                }
                push_front(&mut left, &target);
                continue;
            }
            FileType::Directory => {}
            FileType::RegularFile
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => at_end = true,
        }
        if trail.len() >= MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        trail.push(next);
    }
    match trail.pop() {
        Some(found) => Ok(found),
        None => root.try_clone_to_owned().map_err(|_| Errno::MFILE),
    }
}

fn push_front(left: &mut VecDeque<Vec<u8>>, path: &[u8]) {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    names.rev().for_each(|name| left.push_front(name.to_vec()));
}

/// As many links as Linux and FreeBSD follow at most (`MAXSYMLINKS`, rounded up).
const MAX_LINKS: usize = 40;
/// Each level on the way holds a descriptor open.
const MAX_DEPTH: usize = 256;

#[cfg(test)]
mod test {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn found(root: &std::path::Path, path: &str) -> Result<u64> {
        let root = std::fs::File::open(root).unwrap();
        let fd = resolve(root.as_fd(), path.as_bytes())?;
        Ok(std::fs::File::from(fd).metadata().unwrap().ino())
    }

    #[test]
    fn an_absolute_link_and_too_many_dots_stay_inside() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/deep")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "guest").unwrap();
        symlink("/etc/passwd", root.path().join("absolute")).unwrap();
        symlink("../../../../../etc/passwd", root.path().join("etc/deep/relative")).unwrap();
        let inode = std::fs::metadata(root.path().join("etc/passwd")).unwrap().ino();
        assert_eq!(found(root.path(), "absolute"), Ok(inode));
        assert_eq!(found(root.path(), "/etc/deep/relative"), Ok(inode));
        assert_eq!(found(root.path(), "../../etc/deep/../passwd"), Ok(inode));
    }

    #[test]
    fn a_loop_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert_eq!(found(root.path(), "a"), Err(Errno::LOOP));
    }

    #[test]
    fn a_file_is_not_a_directory_even_for_dots() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(found(root.path(), "file/.."), Err(Errno::NOTDIR));
    }
}

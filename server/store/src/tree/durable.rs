//! Everything in a tree that fsync(2) can be asked about.

use std::ffi::CString;
use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, fstat, statat};
use rustix::io::Errno;

use crate::sys;
use crate::tree::{entries, open_dir};

/// Calls `each` with every regular file and directory of a tree, each directory after what is in it.
///
/// No other file system is entered, and no link is followed. What vanishes meanwhile is left out.
pub(crate) fn each_file(
    top: BorrowedFd<'_>,
    mut each: impl FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
) -> Result<(), Error> {
    let device = fstat(top)?.st_dev;
    // The directories on the way, with what is still to be looked at in them. A list of its own: a guest
    // can nest directories deeper than a thread's stack is.
    let top = open_dir(top, c".")?;
    let mut way = vec![(names(&top)?, top)];
    while let Some((left, dir)) = way.last_mut() {
        let Some(name) = left.pop() else {
            each(dir.as_fd())?;
            way.pop();
            continue;
        };
        let stat = there(statat(&*dir, &name, AtFlags::SYMLINK_NOFOLLOW))?;
        let Some(stat) = stat else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if stat.st_dev == device => {
                let Some(child) = there(open_dir(&*dir, &name))? else { continue };
                way.push((names(&child)?, child));
            }
            FileType::RegularFile => {
                let Some(file) = there(sys::open_regular(dir.as_fd(), &name))? else { continue };
                each(file.as_fd())?;
            }
            FileType::BlockDevice
            | FileType::CharacterDevice
            | FileType::Directory
            | FileType::Fifo
            | FileType::Socket
            | FileType::Symlink
            | FileType::Unknown => {}
        }
    }
    Ok(())
}

fn names(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    entries(dir)?.map(|entry| Ok(entry?.file_name().to_owned())).collect()
}

/// What was found, unless it vanished meanwhile.
fn there<T, E: Into<Error>>(found: Result<T, E>) -> Result<Option<T>, Error> {
    match found.map_err(Into::into) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod test {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use rustix::fs::{Mode, mkfifoat};

    use super::*;

    fn told(top: &Path) -> Vec<u64> {
        let mut told = Vec::new();
        let top = fs::File::open(top).unwrap();
        each_file(top.as_fd(), |file| {
            told.push(fstat(file)?.st_ino);
            Ok(())
        })
        .unwrap();
        told
    }

    #[test]
    fn every_file_and_directory_is_told_of_and_nothing_outside() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("passwd"), "host").unwrap();
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        fs::create_dir_all(at("usr/home/empty")).unwrap();
        fs::write(at("usr/home/file"), "data").unwrap();
        fs::write(at("first"), "").unwrap();
        symlink(outside.path(), at("usr/out")).unwrap();
        symlink(outside.path().join("passwd"), at("usr/passwd")).unwrap();
        mkfifoat(rustix::fs::CWD, at("usr/fifo"), Mode::RUSR).unwrap();
        let told = told(top.path());
        let number = |name: &str| fs::metadata(at(name)).unwrap().ino();
        let mut expected =
            ["", "first", "usr", "usr/home", "usr/home/empty", "usr/home/file"].map(number);
        let order = |name: &str| told.iter().position(|told| *told == number(name)).unwrap();
        assert!(order("usr/home/file") < order("usr/home"), "a directory after what is in it");
        assert!(order("usr/home") < order("usr"));
        assert_eq!(told.last(), Some(&number("")));
        let mut told = told.clone();
        told.sort_unstable();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }

    #[test]
    fn what_fails_ends_it() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("file"), "").unwrap();
        let top = fs::File::open(top.path()).unwrap();
        let error = each_file(top.as_fd(), |_| Err(Errno::IO)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
    }
}

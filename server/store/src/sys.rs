//! What Linux and FreeBSD do differently.

use std::ffi::{CStr, CString, OsStr};
use std::io::Error;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "freebsd")]
pub(crate) use freebsd::*;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

/// An extended attribute: its name and its value.
pub(crate) type Attribute = (CString, Vec<u8>);

impl Attributes {
    /// All extended attributes of an open file or directory, by name.
    pub(crate) fn all(&mut self, file: BorrowedFd<'_>) -> Result<Vec<Attribute>, Error> {
        let mut found = Vec::new();
        self.read(file, |name, value| {
            found.push((name.to_owned(), value.to_owned()));
            Ok(())
        })?;
        found.sort();
        Ok(found)
    }

    /// The same for a symbolic link or special file, which cannot be opened.
    pub(crate) fn all_at(
        &mut self,
        dir: BorrowedFd<'_>,
        file: &CStr,
    ) -> Result<Vec<Attribute>, Error> {
        let mut found = Vec::new();
        self.read_at(dir, file, |name, value| {
            found.push((name.to_owned(), value.to_owned()));
            Ok(())
        })?;
        found.sort();
        Ok(found)
    }
}

/// A ZFS file system that is mounted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mounted {
    /// The data set or snapshot.
    pub(crate) source: String,
    /// Where it is.
    pub(crate) target: PathBuf,
}

/// The error number that a program names, in the words of strerror(3) in FreeBSD's C locale.
#[cfg(any(target_os = "freebsd", test))]
fn errno_of(said: &str) -> Option<rustix::io::Errno> {
    use rustix::io::Errno;
    let known = [
        ("Device busy", Errno::BUSY),
        ("Permission denied", Errno::ACCESS),
        ("Operation not permitted", Errno::PERM),
        ("No such file", Errno::NOENT),
    ];
    known.into_iter().find(|(words, _)| said.contains(words)).map(|(_, errno)| errno)
}

#[cfg(test)]
#[test]
fn a_busy_unmount_is_known_by_the_words_of_umount() {
    let said = "umount: unmount of /mnt/head failed: Device busy\n";
    assert_eq!(errno_of(said), Some(rustix::io::Errno::BUSY));
    assert_eq!(errno_of("umount: /mnt/head: not a file system root directory\n"), None);
}

/// A path of a list of mounts as it is: white space and backslashes stand there as octal numbers.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = |digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        let number = after.get(..3).and_then(octal).filter(|_| first == b'\\');
        bytes.push(number.unwrap_or(first));
        rest = if number.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

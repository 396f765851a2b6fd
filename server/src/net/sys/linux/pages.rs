//! Sending a file's pages out of memory: sendfile(2), after mincore(2) has shown that they are there.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;

use nix::libc;
use rustix::fs::{self, OFlags};
use socket2::SockRef;

/// A file whose pages are sent without being copied, and without waiting for its disk.
#[derive(Debug)]
pub(crate) struct Pages {
    file: Arc<File>,
    /// Where the file is mapped, for mincore(2) alone: nothing is ever read or written there.
    mapping: *mut libc::c_void,
    len: usize,
    page: usize,
}

// SAFETY: the mapping belongs to this value alone, and nothing is read or written through it.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// The pages of the first `len` bytes of a file; `None` if sending them may wait for the disk
    /// although they are in memory, or the kernel does not tell whether they are. For threads that may wait.
    pub(crate) fn of(file: &Arc<File>, len: u64) -> Option<Self> {
        // A guest can make a file of any length, of nothing: the address space is for all of them.
        if len > MAPPED_MAX {
            return None;
        }
        // Of other file systems, those over a network above all, nobody knows what they wait for; XFS takes a
        // lock that a writer holds who waits for the disk.
        let magic = fs::fstatfs(file).ok()?.f_type;
        let known = [libc::BTRFS_SUPER_MAGIC, libc::EXT4_SUPER_MAGIC, libc::TMPFS_MAGIC];
        if !known.contains(&magic) {
            return None;
        }
        // Setting the time of access may wait for a journal. Besides, who may leave it as it is (who owns
        // the file, or has CAP_FOWNER) is who mincore(2) tells the truth since Linux 5.2.
        fs::fcntl_setfl(file, fs::fcntl_getfl(file).ok()? | OFlags::NOATIME).ok()?;
        // SAFETY: sysconf(3) takes a number and gives one.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?.max(1);
        let len = usize::try_from(len).ok()?;
        let (fd, shared) = (file.as_raw_fd(), libc::MAP_SHARED);
        // SAFETY: the kernel chooses a place that nothing else has.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, shared, fd, 0) };
        if mapping == libc::MAP_FAILED {
            return None;
        }
        let file = Arc::clone(file);
        Some(Self { file, mapping, len, page })
    }

    /// Sends what of a range is in memory and the socket takes; `None` if its first page is not in memory.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the file ends before the range; `WouldBlock` if the socket takes nothing.
    pub(crate) fn send(
        &self,
        socket: BorrowedFd<'_>,
        range: Range<u64>,
    ) -> io::Result<Option<u64>> {
        let end = self.resident(range.clone())?;
        if end <= range.start {
            return Ok(None);
        }
        // What the kernel sends of a file that shrank is not what the client was promised.
        if fs::fstat(&self.file)?.st_size < i64::try_from(self.len).unwrap_or(i64::MAX) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, count) = (range.start, size(end.saturating_sub(range.start))?);
        match fs::sendfile(socket, &self.file, Some(&mut at), count) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => Ok(Some(u64::try_from(sent).unwrap_or(u64::MAX))),
            Err(error) => Err(error.into()),
        }
    }

    /// Where of a range the first page is that is not in memory; pages that are being read are not yet.
    fn resident(&self, range: Range<u64>) -> io::Result<u64> {
        let (from, to) = (size(range.start)?, size(range.end)?.min(self.len));
        let first = from / self.page * self.page;
        let mut pages = [0; PAGES_MAX];
        let len = to.saturating_sub(first).min(PAGES_MAX.saturating_mul(self.page));
        // SAFETY: what is asked about lies inside the mapping, and there is a byte for each of its pages.
        let done = unsafe { libc::mincore(self.mapping.byte_add(first), len, pages.as_mut_ptr()) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        let count = len.div_ceil(self.page);
        let there = pages.iter().take(count).take_while(|&&page| page & 1 == 1).count();
        let there = first.saturating_add(there.saturating_mul(self.page));
        Ok(u64::try_from(there).unwrap_or(0).clamp(range.start, range.end.max(range.start)))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nobody has its address.
        let _ = unsafe { libc::munmap(self.mapping, self.len) };
    }
}

/// Sends the first part of a message of which the rest follows at once (`MSG_MORE`, send(2)).
pub(crate) fn send_first(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    SockRef::from(&socket).send_with_flags(bytes, libc::MSG_MORE)
}

fn size(len: u64) -> io::Result<usize> {
    usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

/// The longest file that is mapped, in bytes: more than a kernel or an initial RAM disk has.
const MAPPED_MAX: u64 = 1 << 30;

/// Pages that are asked about at once: a MiB of them, of 4 KiB at least, and one more where it begins inside
/// of one.
const PAGES_MAX: usize = 0x10_0000 / 4096 + 1;

#[cfg(test)]
mod test {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_that_is_longer_than_any_boot_file_takes_no_address_space() {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        for len in [MAPPED_MAX + 1, 1 << 43, u64::MAX] {
            assert!(Pages::of(&Arc::new(file.try_clone().unwrap()), len).is_none(), "{len}");
        }
    }

    fn file(len: usize) -> Option<(Arc<File>, Pages)> {
        let mut file = tempfile::tempfile_in("/var/tmp").unwrap();
        file.write_all(&(0..=250).cycle().take(len).collect::<Vec<u8>>()).unwrap();
        file.sync_all().unwrap();
        let file = Arc::new(file);
        let pages = Pages::of(&file, u64::try_from(len).unwrap());
        if pages.is_none() {
            eprintln!("skipped: /var/tmp is on a file system whose pages cannot be asked for");
        }
        Some((file, pages?))
    }

    /// Takes all pages of the file out of memory.
    fn forget(file: &File) {
        fs::fadvise(file, 0, None, fs::Advice::DontNeed).unwrap();
    }

    #[test]
    fn pages_in_memory_are_sent_from_any_place() {
        let Some((_file, pages)) = file(100_000) else { return };
        let (from, mut to) = UnixStream::pair().unwrap();
        for range in [0..10, 4095..4097, 4096..8192, 99_990..100_000] {
            let mut at = range.start;
            while at < range.end {
                at += pages.send(from.as_fd(), at..range.end).unwrap().unwrap();
            }
            assert_eq!(at, range.end);
            let mut came = vec![0; size(range.end - range.start).unwrap()];
            to.read_exact(&mut came).unwrap();
            let want = range.map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<u8>>();
            assert_eq!(came, want);
        }
    }

    #[test]
    fn what_is_not_in_memory_is_not_read() {
        let Some((file, pages)) = file(3 * 4096) else { return };
        let (from, _to) = UnixStream::pair().unwrap();
        forget(&file);
        if fs::fstatfs(&file).unwrap().f_type != libc::TMPFS_MAGIC {
            assert_eq!(pages.send(from.as_fd(), 0..100).unwrap(), None);
            assert_eq!(pages.send(from.as_fd(), 0..100).unwrap(), None);
        }
    }

    #[test]
    fn a_file_that_shrank_is_not_sent() {
        let Some((file, pages)) = file(10_000) else { return };
        let (from, _to) = UnixStream::pair().unwrap();
        assert_eq!(pages.send(from.as_fd(), 0..100).unwrap(), Some(100));
        file.set_len(9_999).unwrap();
        let error = pages.send(from.as_fd(), 100..200).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn sending_leaves_the_time_of_access() {
        let Some((file, pages)) = file(10_000) else { return };
        let (from, _to) = UnixStream::pair().unwrap();
        let before = fs::fstat(&file).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(pages.send(from.as_fd(), 0..100).unwrap(), Some(100));
        let after = fs::fstat(&file).unwrap();
        assert_eq!((before.st_atime, before.st_atime_nsec), (after.st_atime, after.st_atime_nsec));
    }
}

//! What of a file is in memory (mincore(2), cachestat(2)), and reading by reference (splice(2)).
//!
//! splice(2) from a file has no flag that keeps it from waiting, as preadv2(2) has with `RWF_NOWAIT`.
//! So what would make it wait is excluded before: pages that are not there or not read yet, and
//! reading ahead, which the kernel begins at a page that it has marked, and which asks the file system
//! where the next blocks are.

use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use rustix::fs::{self, major, minor};
use rustix::io::{Errno, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::param::page_size;
use rustix::pipe::SpliceFlags;

/// Moves references to at most `len` bytes of a file into a pipe, and returns to how many; 0 at the
/// end of the file.
pub(crate) fn splice(
    file: BorrowedFd<'_>,
    mut offset: u64,
    pipe: BorrowedFd<'_>,
    len: usize,
) -> Result<usize> {
    let flags = SpliceFlags::NONBLOCK;
    rustix::pipe::splice(file, Some(&mut offset), pipe, None, len, flags)
}

/// Whether `len` bytes of a file of `size` bytes at `offset` are in memory, and pages for `ahead` bytes behind
/// them are there too, as far as the file goes, for which reading ahead has nothing to do.
pub(crate) fn is_resident(
    file: BorrowedFd<'_>,
    offset: u64,
    len: u64,
    ahead: u64,
    size: u64,
) -> bool {
    let Some(read) = pages(offset, len) else { return false };
    let ahead = ahead.min(size.saturating_sub(read.end));
    let Some(behind) = pages(read.end, ahead) else { return false };
    (behind.is_empty() || has_pages(file, behind)) && are_read(file, read).unwrap_or(false)
}

/// The bytes of all pages that a range lies on.
fn pages(offset: u64, len: u64) -> Option<Range<u64>> {
    let page = u64::try_from(page_size()).ok()?;
    let begin = offset - offset % page;
    let end = offset.checked_add(len)?.checked_next_multiple_of(page)?;
    Some(begin..end)
}

/// Whether there is a page in memory for all of a range. Some may still wait for the disk.
fn has_pages(file: BorrowedFd<'_>, range: Range<u64>) -> bool {
    let asked = Asked { offset: range.start, len: range.end - range.start };
    let mut told = Told::default();
    // SAFETY: the kernel reads one `struct cachestat_range` and writes one `struct cachestat`, which
    // these are, during the call; the descriptor is borrowed, so that it is open.
    let result = unsafe {
        libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const asked, &raw mut told, 0_u32)
    };
    let page = u64::try_from(page_size()).unwrap_or(u64::MAX);
    result == 0 && told.cached >= asked.len / page
}

/// Whether all of a range was read from the disk. mincore(2) asks for pages that are up to date; it
/// needs the range mapped, but nothing of it is touched.
fn are_read(file: BorrowedFd<'_>, range: Range<u64>) -> Option<bool> {
    let len = usize::try_from(range.end - range.start).ok()?;
    let mut present = vec![0_u8; len / page_size()];
    let (protection, flags) = (ProtFlags::READ, MapFlags::SHARED);
    // SAFETY: a new mapping at a place of the kernel's choice, which nobody reads or writes.
    let map = unsafe { mmap(ptr::null_mut(), len, protection, flags, file, range.start) }.ok()?;
    // SAFETY: `map` is a mapping of `len` bytes, for each page of which there is a byte in `present`.
    let result = unsafe { libc::mincore(map, len, present.as_mut_ptr()) };
    // SAFETY: the mapping was made above and is known to nobody else.
    unsafe { munmap(map, len) }.ok()?;
    Some(result == 0 && present.iter().all(|page| page & 1 == 1))
}

/// Up to how many bytes behind what is read the kernel reads ahead on the file system of `dir`: twice
/// what it is told to, or what one READ asks for if that is more, rounded up to its largest pages. `None`
/// where the kernel does not say it, or cannot say what is in memory (before Linux 6.5).
pub(crate) fn read_ahead(dir: &OwnedFd, is_btrfs: bool) -> Option<u64> {
    if !has_cachestat(dir) {
        return None;
    }
    let most = if is_btrfs {
        // It has a device for each subvolume, and names what it reads from otherwise.
        let all = std::fs::read_dir("/sys/class/bdi").ok()?.flatten();
        let names = all.map(|entry| entry.path());
        let is_its =
            |path: &Path| path.file_name().is_some_and(|n| n.as_bytes().starts_with(b"btrfs-"));
        names
            .filter(|path| is_its(path))
            .filter_map(|path| kib(&path.join("read_ahead_kb")))
            .max()?
    } else {
        let device = fs::fstat(dir).ok()?.st_dev;
        let device = format!("/sys/dev/block/{}:{}", major(device), minor(device));
        // A partition has none of its own, and lies in the directory of its disk.
        let of = |below: &str| kib(Path::new(&format!("{device}/{below}queue/read_ahead_kb")));
        of("").or_else(|| of("../"))?
    };
    Some(2 * most.max(LONGEST_READ) + LARGEST_PAGE)
}

fn kib(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Whether the kernel knows cachestat(2).
fn has_cachestat(dir: &OwnedFd) -> bool {
    let (asked, mut told) = (Asked { offset: 0, len: 0 }, Told::default());
    // SAFETY: as in `has_pages`. A directory has no pages, or says that it is none to ask of.
    let result = unsafe {
        libc::syscall(SYS_CACHESTAT, dir.as_raw_fd(), &raw const asked, &raw mut told, 0_u32)
    };
    result == 0 || Errno::from_io_error(&std::io::Error::last_os_error()) != Some(Errno::NOSYS)
}

/// `struct cachestat_range` of `linux/mman.h`.
#[repr(C)]
struct Asked {
    offset: u64,
    len: u64,
}

/// `struct cachestat`.
#[repr(C)]
#[derive(Default)]
struct Told {
    cached: u64,
    _others: [u64; 4],
}

/// cachestat(2), of the same number on every architecture since 6.5.
const SYS_CACHESTAT: libc::c_long = 451;
/// The longest READ that is served.
const LONGEST_READ: u64 = 1 << 20;
/// The largest pages that a cache of files is made of.
const LARGEST_PAGE: u64 = 2 << 20;

#[cfg(test)]
mod test {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::FileExt as _;

    use rustix::fs::{Advice, fadvise};

    use super::*;

    #[test]
    fn what_was_written_is_in_memory_until_it_is_dropped() {
        // Not in a tmpfs, which drops nothing.
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&[7; 300_000]).unwrap();
        file.sync_all().unwrap();
        assert!(is_resident(file.as_fd(), 5_000, 100_000, 150_000, 300_000));
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        assert!(!is_resident(file.as_fd(), 5_000, 1, 0, 300_000));
        // Of a file that is read here and there, nothing is read that was not asked for.
        fadvise(&file, 0, None, Advice::Random).unwrap();
        file.read_exact_at(&mut [0; 65_536], 0).unwrap();
        assert!(is_resident(file.as_fd(), 5_000, 60_000, 0, 300_000));
        assert!(
            !is_resident(file.as_fd(), 5_000, 60_000, 200_000, 300_000),
            "what is read ahead counts"
        );
        assert!(!is_resident(file.as_fd(), 5_000, 200_000, 0, 300_000));
        assert!(!is_resident(file.as_fd(), 200_000, 1, 0, 300_000));
    }

    #[test]
    fn a_range_beyond_all_numbers_is_not_in_memory() {
        let file = tempfile::tempfile().unwrap();
        assert!(!is_resident(file.as_fd(), u64::MAX - 1, 100, 0, u64::MAX));
    }
}

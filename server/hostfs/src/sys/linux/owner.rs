//! Making files as somebody else, and whole: Linux keeps a user, a group and capabilities for each thread, and
//! can give it a umask of its own.

use std::cell::Cell;
use std::os::fd::BorrowedFd;

use rustix::fs::{self, AtFlags, Mode, OFlags, Timestamps};
use rustix::io::{Errno, Result};
use rustix::process::umask;
use rustix::thread::{UnshareFlags, capabilities, set_capabilities, unshare_unsafe};

/// The mode of a new file that has not got its owner yet: none, for it has him from the beginning.
pub(crate) const UNFINISHED: Option<u32> = None;

/// Runs `make`; what it makes belongs to `uid` and `gid` and has the mode that it asks for, from its
/// first moment. No less may be done than before: rights to the directory have been checked.
///
/// A directory with a group of its own or a default access control list still decides for itself.
pub(crate) fn make_as<T>(
    uid: u32,
    gid: u32,
    mode: u32,
    make: impl FnOnce(u32) -> Result<T>,
) -> Result<T> {
    let _umask = OwnUmask::clear()?;
    let _owner = ((uid, gid) != (0, 0)).then(|| Owner::become_one(uid, gid)).transpose()?;
    make(mode)
}

/// Makes a regular file that has these times from the first moment of its name. EOPNOTSUPP where the
/// file system makes no file without a name (O_TMPFILE).
pub(crate) fn make_file_with_times(
    dir: BorrowedFd<'_>,
    name: &[u8],
    mode: Mode,
    times: &Timestamps,
) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = fs::openat(dir, c".", flags, mode).map_err(|errno| match errno {
        // What does not know the flag sees a directory that is to be written to.
        Errno::ISDIR => Errno::OPNOTSUPP,
        other => other,
    })?;
    fs::futimens(&file, times)?;
    // Needs CAP_DAC_READ_SEARCH, as handles do.
    fs::linkat(&file, c"", dir, name, AtFlags::EMPTY_PATH)
}

/// The thread's user and group for new files; root's again when it is dropped.
struct Owner;

impl Owner {
    fn become_one(uid: u32, gid: u32) -> Result<Self> {
        let before = capabilities(None)?;
        set_ids(uid, gid);
        // From here on the guard takes it back.
        let owner = Self;
        // With root's user go the capabilities that let root make a file anywhere.
        set_capabilities(None, before)?;
        Ok(owner)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        set_ids(0, 0);
    }
}

/// They cannot fail for root, except for a number that this user namespace does not have; then the file
/// is seen to belong to somebody else and given away as far as that goes.
fn set_ids(uid: u32, gid: u32) {
    // SAFETY: setfsgid(2) takes no pointer and acts on this thread.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: setfsuid(2) takes no pointer and acts on this thread.
    unsafe { libc::setfsuid(uid) };
}

/// A umask of zero for this thread alone; what it was when it is dropped.
struct OwnUmask(Mode);

impl OwnUmask {
    fn clear() -> Result<Self> {
        thread_local!(static OWN: Cell<bool> = const { Cell::new(false) });
        if !OWN.get() {
            // SAFETY: without CLONE_FILES, descriptors stay what they are. The thread no longer follows
            // the others' chdir(2), chroot(2) and umask(2); nothing here is found by a relative path.
            unsafe { unshare_unsafe(UnshareFlags::FS) }?;
            OWN.set(true);
        }
        Ok(Self(umask(Mode::empty())))
    }
}

impl Drop for OwnUmask {
    fn drop(&mut self) {
        umask(self.0);
    }
}

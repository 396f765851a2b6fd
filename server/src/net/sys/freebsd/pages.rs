//! Sending a file's pages out of memory: sendfile(2) with `SF_NODISKIO`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;

use nix::libc;
use rustix::fs;
use socket2::SockRef;

/// A file whose pages are sent without being copied, and without waiting for its disk.
#[derive(Debug)]
pub(crate) struct Pages {
    file: Arc<File>,
    len: u64,
}

impl Pages {
    /// The pages of the first `len` bytes of a file; `None` where sending them may wait all the same: ZFS
    /// has its own memory of files, and of others nobody knows. For threads that may wait.
    pub(crate) fn of(file: &Arc<File>, len: u64) -> Option<Self> {
        let kind = fs::fstatfs(file).ok()?.f_fstypename;
        let name: Vec<u8> =
            kind.iter().take_while(|&&byte| byte != 0).map(|byte| byte.cast_unsigned()).collect();
        let known = [b"ufs".as_slice(), b"tmpfs"].contains(&name.as_slice());
        known.then(|| Self { file: Arc::clone(file), len })
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
        // What the kernel sends of a file that shrank is not what the client was promised.
        if self.file.metadata()?.len() < self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let offset = libc::off_t::try_from(range.start).map_err(io::Error::other)?;
        let count = range.end.saturating_sub(range.start);
        let count = usize::try_from(count).map_err(io::Error::other)?;
        let mut sent = 0;
        // SAFETY: both descriptors are open, there are no headers, and the kernel writes to `sent` only
        // during the call.
        let done = unsafe {
            libc::sendfile(
                self.file.as_raw_fd(),
                socket.as_raw_fd(),
                offset,
                count,
                ptr::null_mut(),
                &raw mut sent,
                libc::SF_NODISKIO,
            )
        };
        let error = io::Error::last_os_error();
        match u64::try_from(sent) {
            // An error after some bytes is told again by the next call.
            Ok(sent) if sent > 0 => Ok(Some(sent)),
            _ if done == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ if error.raw_os_error() == Some(libc::EBUSY) => Ok(None),
            _ => Err(error),
        }
    }
}

/// Sends the first part of a message of which the rest follows at once.
pub(crate) fn send_first(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    SockRef::from(&socket).send_with_flags(bytes, 0)
}

//! Data on its way from a file to a socket without a copy (splice(2)): a pipe holds references to the
//! pages of the file. How much there is is known before the first byte is sent.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::io::ioctl_fionread;
use rustix::param::page_size;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use rustix::process::{Resource, getrlimit};

/// A pipe with data for a socket.
///
/// The data stay those of the file: what is written to it before the peer has them may reach the peer.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Always there until it is dropped.
    ends: Option<Ends>,
    len: usize,
}

#[derive(Debug)]
struct Ends {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    /// An empty one with room for `len` bytes of a file at `offset`. `None` means that they have to be
    /// copied: there are too many pipes, descriptors are short, or a pipe may not be as large.
    pub(crate) fn for_range(offset: u64, len: usize) -> Option<Self> {
        let page = page_size();
        let before = usize::try_from(offset % u64::try_from(page).ok()?).ok()?;
        if (before + len).div_ceil(page) > ROOM / page || TOO_SMALL.load(Ordering::Relaxed) {
            return None;
        }
        let idle = idle().pop();
        Some(Self { ends: Some(idle.map_or_else(Ends::new, Some)?), len: 0 })
    }

    /// Where data are put in. [`Pipe::put`] has to be told how much.
    pub(crate) fn writer(&self) -> Option<BorrowedFd<'_>> {
        self.ends.as_ref().map(|ends| ends.writer.as_fd())
    }

    /// Takes note that so many bytes were put in.
    pub(crate) const fn put(&mut self, len: usize) {
        self.len += len;
    }

    /// Bytes that are in it.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Moves as much as a stream's socket takes without waiting, and returns how much that was. With
    /// `more`, the caller sends the next bytes at once.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the socket takes nothing now, else the connection's.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, more: bool) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let mut flags = SpliceFlags::NONBLOCK;
        flags.set(SpliceFlags::MORE, more);
        let sent = splice(&ends.reader, None, socket, None, self.len, flags)?;
        if sent == 0 && self.len > 0 {
            // Less is in it than was said.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.len -= sent;
        Ok(sent)
    }
}

impl Drop for Pipe {
    /// Keeps the pipe for the next who needs one, unless something is left in it.
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        let mut idle = idle();
        if idle.len() < IDLE && matches!(ioctl_fionread(&ends.reader), Ok(0)) {
            idle.push(ends);
        }
    }
}

impl Ends {
    fn new() -> Option<Self> {
        if OPEN.fetch_add(1, Ordering::Relaxed) >= most() {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let Ok((reader, writer)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        // From here on it is dropped, which counts.
        let ends = Self { reader, writer };
        let has_room = fcntl_setpipe_size(&ends.writer, ROOM).is_ok_and(|room| room >= ROOM);
        if !has_room {
            TOO_SMALL.store(true, Ordering::Relaxed);
            tracing::debug!("no pipe may hold {ROOM} bytes (pipe(7)): what is read is copied");
        }
        has_room.then_some(ends)
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

fn idle() -> MutexGuard<'static, Vec<Ends>> {
    EMPTY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pipes that nobody uses.
static EMPTY: Mutex<Vec<Ends>> = Mutex::new(Vec::new());

/// Pipes that are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A pipe was refused the room that it has to have.
static TOO_SMALL: AtomicBool = AtomicBool::new(false);

/// Most pipes that are open at a time: each takes two descriptors, together a thirty-second of all that there
/// may be, and holds on to pages in memory.
fn most() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let limit = getrlimit(Resource::Nofile).current;
        limit.and_then(|limit| usize::try_from(limit / 64).ok()).unwrap_or(256).min(256)
    })
}

/// Most pipes that are kept though nobody uses them.
const IDLE: usize = 16;

/// Bytes of whole pages that a pipe has room for: the most that a process without privilege may have
/// (`/proc/sys/fs/pipe-max-size`), and the longest READ.
const ROOM: usize = 1 << 20;

#[cfg(test)]
mod test {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A pipe with the first `len` bytes of a file that has `len` bytes.
    fn filled(len: usize) -> (Vec<u8>, Pipe) {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
        file.write_all(&bytes).unwrap();
        (bytes, piped(&file, len))
    }

    fn piped(file: &File, len: usize) -> Pipe {
        let mut pipe = Pipe::for_range(0, len).unwrap();
        let mut offset = 0;
        while pipe.len() < len {
            let writer = pipe.writer().unwrap();
            let flags = SpliceFlags::NONBLOCK;
            let put = splice(file, Some(&mut offset), writer, None, len - pipe.len(), flags);
            pipe.put(put.unwrap());
        }
        pipe
    }

    #[test]
    fn a_socket_gets_what_the_file_has() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let (bytes, mut pipe) = filled(ROOM);
        let mut received = Vec::new();
        while pipe.len() > 0 {
            match pipe.send(server.as_fd(), false) {
                Ok(sent) => assert!(sent > 0),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            let mut some = vec![0; ROOM - pipe.len() - received.len()];
            client.read_exact(&mut some).unwrap();
            received.extend_from_slice(&some);
        }
        assert!(received == bytes);
    }

    #[test]
    fn what_is_left_in_a_pipe_is_nobody_elses() {
        for _ in 0..2 * IDLE {
            drop(filled(10_000));
            let pipe = Pipe::for_range(0, 10).unwrap();
            let reader = &pipe.ends.as_ref().unwrap().reader;
            assert_eq!(ioctl_fionread(reader).unwrap(), 0);
        }
    }

    #[test]
    fn what_lies_on_more_pages_than_a_pipe_has_room_for_is_copied() {
        assert!(Pipe::for_range(4096, ROOM).is_some());
        assert!(Pipe::for_range(4097, ROOM).is_none());
        assert!(Pipe::for_range(4097, ROOM - 4096).is_some());
    }
}

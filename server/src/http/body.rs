//! The body of an answer: a boot file, from its pages in memory to the socket if they are there.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::connection::send;
use crate::boot::cache::BLOCK;
use crate::boot::readahead::ReadAhead;
use crate::boot::{BootFile, Content};
use crate::net::sys::pages::{Pages, send_first};

/// A boot file that is sent.
#[derive(Debug)]
pub(super) struct Body {
    /// The file's pages, where sending them never waits for the disk.
    pages: Option<Pages>,
    /// For what is not in memory, and for generated files.
    reader: ReadAhead,
}

/// The file could not be read to its end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the file could not be read to its end: {0}")]
pub(super) struct FileLost(io::ErrorKind);

impl Body {
    /// Opens a file to send what begins at `start`, if anything. For threads that may wait.
    ///
    /// # Errors
    ///
    /// The file cannot be read there.
    pub(super) fn open(file: &BootFile, start: Option<u64>) -> io::Result<Self> {
        let mut reader = ReadAhead::new(file)?;
        let mut pages = None;
        if let Some(start) = start.filter(|&start| start < file.len) {
            if let Content::File(opened) = &file.content {
                pages = Pages::of(opened, file.len);
                if pages.is_some() {
                    opened.read_exact_at(&mut [0], start)?;
                }
            }
            if pages.is_none() {
                reader.fill(start)?;
            }
        }
        Ok(Self { pages, reader })
    }

    /// Sends a head, if it was not sent yet, and as much of a range as the socket takes at once.
    ///
    /// # Errors
    ///
    /// [`FileLost`], `TimedOut` if nothing could be sent for `stall`, or the connection is gone.
    pub(super) async fn send(
        &mut self,
        stream: &mut TcpStream,
        stall: Duration,
        head: &[u8],
        range: Range<u64>,
    ) -> io::Result<Piece> {
        let mut head = head;
        if let Some(pages) = &self.pages
            && !range.is_empty()
        {
            while !head.is_empty() {
                let sent = taken(stream, stall, || send_first(stream.as_fd(), head)).await?;
                head = head.get(sent..).unwrap_or_default();
            }
            let most = range.end.min(range.start.saturating_add(SEND_MAX));
            match taken(stream, stall, || pages.send(stream.as_fd(), range.start..most)).await {
                Ok(Some(sent)) => {
                    let end = range.start.saturating_add(sent);
                    return Ok(Piece { end, is_full: end >= most });
                }
                Ok(None) => {}
                Err(error) if is_of_kernel(&error) => {
                    debug!(%error, "sendfile");
                    self.pages = None;
                }
                Err(error) if is_of_file(&error) => return Err(lost(&error)),
                Err(error) => return Err(error),
            }
        }
        let block_end = (range.start / BLOCK).saturating_add(1).saturating_mul(BLOCK);
        let end = block_end.min(range.end);
        // A disk that hangs keeps no client's place for ever.
        let holding = timeout(stall, self.reader.hold(range.start..end)).await;
        let data = holding.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let data = data.map_err(|error| lost(&error))?;
        send(stream, stall, head, data).await?;
        Ok(Piece { end, is_full: true })
    }
}

/// What was sent of a range at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Where it goes on.
    pub(super) end: u64,
    /// Whether the socket took all that is sent at once, so that it may take more without waiting.
    pub(super) is_full: bool,
}

/// Does what the socket has to have room for; fails when it has none for `stall`.
async fn taken<T>(
    stream: &TcpStream,
    stall: Duration,
    mut sending: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match stream.try_io(Interest::WRITABLE, &mut sending) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        let left = stall.saturating_sub(began.elapsed());
        timeout(left, stream.writable()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
}

/// Whether the kernel does not do it, or cannot now: then it is done in another way.
fn is_of_kernel(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number.is_some_and(|number| {
        [libc::EINVAL, libc::ENOMEM, libc::ENOSYS, libc::EOPNOTSUPP].contains(&number)
    })
}

/// Whether it is the file that failed: sendfile(2) has two sides.
fn is_of_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(libc::EIO)
}

fn lost(error: &io::Error) -> io::Error {
    io::Error::other(FileLost(error.kind()))
}

/// Bytes that are sent at once, so that other clients have their turn.
const SEND_MAX: u64 = 0x10_0000;

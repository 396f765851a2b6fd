//! Reads a boot file from front to back, a chunk ahead of what is being sent.
//!
//! Disks are read on threads that may wait; what sends only copies from memory, so that a block of
//! TFTP costs no change of threads.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

use crate::boot::{BootFile, Content};

/// The bytes of a boot file, held around the place where it is being sent.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    content: Content,
    /// The file's length when it was opened; what it grew since is not sent.
    len: u64,
    chunk: u64,
    /// Where in the file the bytes held begin.
    start: u64,
    held: Vec<u8>,
    ahead: Option<JoinHandle<Chunk>>,
    /// A buffer to be used again.
    spare: Vec<u8>,
}

/// What was read, where, or why not.
#[derive(Debug)]
struct Chunk {
    start: u64,
    bytes: Vec<u8>,
    result: io::Result<()>,
}

impl ReadAhead {
    /// Holds nothing yet, and will read `chunk` bytes at a time.
    pub(crate) fn new(file: &BootFile, chunk: u64) -> Self {
        let content = file.content.clone();
        let (held, spare) = (Vec::new(), Vec::new());
        Self { content, len: file.len, chunk: chunk.max(1), start: 0, held, ahead: None, spare }
    }

    /// Reads the chunk that begins at `start`, waiting for the disk. For threads that may wait.
    pub(crate) fn fill(&mut self, start: u64) -> io::Result<()> {
        let Content::File(file) = &self.content else { return Ok(()) };
        let len = self.chunk.min(self.len.saturating_sub(start));
        self.start = start;
        self.held.resize(size(len)?, 0);
        file.read_exact_at(&mut self.held, start)
    }

    /// The bytes of a range, read if they are not in memory; the next chunk is then being read.
    ///
    /// # Errors
    ///
    /// The disk failed, or the file has become shorter than it was when it was opened.
    pub(crate) async fn hold(&mut self, range: Range<u64>) -> io::Result<&[u8]> {
        if let Content::File(file) = &self.content {
            let file = Arc::clone(file);
            if range.start < self.start || range.start > self.end() {
                self.held.clear();
                self.start = range.start;
            }
            while self.end() < range.end {
                let chunk = match self.ahead.take() {
                    Some(ahead) => ahead,
                    None => self.read(Arc::clone(&file)),
                };
                let chunk = chunk.await.map_err(io::Error::other)?;
                self.append(chunk, range.start)?;
            }
            let left = self.end() - range.end;
            if self.ahead.is_none() && left < self.chunk / 2 && self.end() < self.len {
                self.ahead = Some(self.read(file));
            }
        }
        let (bytes, start) = match &self.content {
            Content::Bytes(bytes) => (&**bytes, 0),
            Content::File(_) => (self.held.as_slice(), self.start),
        };
        let from = size(range.start.saturating_sub(start))?;
        let to = size(range.end.saturating_sub(start))?;
        bytes.get(from..to).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(u64::try_from(self.held.len()).unwrap_or(u64::MAX))
    }

    fn read(&mut self, file: Arc<std::fs::File>) -> JoinHandle<Chunk> {
        let start = self.end();
        let len = self.chunk.min(self.len.saturating_sub(start));
        let mut bytes = std::mem::take(&mut self.spare);
        spawn_blocking(move || {
            let result = match size(len) {
                // Nothing left to read is what a range beyond the end asks for.
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => {
                    bytes.resize(len, 0);
                    file.read_exact_at(&mut bytes, start)
                }
                Err(error) => Err(error),
            };
            Chunk { start, bytes, result }
        })
    }

    /// Adds a chunk to what is held, and lets go of what stands before `keep`.
    fn append(&mut self, chunk: Chunk, keep: u64) -> io::Result<()> {
        chunk.result?;
        if chunk.start != self.end() {
            // It was read ahead of a place that was left since.
            self.spare = chunk.bytes;
            return Ok(());
        }
        let done = size(keep.saturating_sub(self.start))?.min(self.held.len());
        self.start = self.start.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
        if done == self.held.len() {
            self.spare = std::mem::replace(&mut self.held, chunk.bytes);
        } else {
            self.held.drain(..done);
            self.held.extend_from_slice(&chunk.bytes);
            self.spare = chunk.bytes;
        }
        Ok(())
    }
}

fn size(len: u64) -> io::Result<usize> {
    usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod test {
    use std::io::Write;

    use super::*;
    use crate::boot::{Role, Ticket};

    /// A file whose every four bytes tell where they stand.
    fn numbered(len: usize) -> Vec<u8> {
        (0u32..).flat_map(u32::to_be_bytes).take(len).collect()
    }

    fn boot_file(bytes: &[u8]) -> BootFile {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        BootFile {
            content: Content::File(Arc::new(file)),
            len: bytes.len() as u64,
            mime: "application/octet-stream",
            ticket: Ticket { boot: None, role: Role::Other },
        }
    }

    #[tokio::test]
    async fn a_file_is_read_from_front_to_back() {
        let bytes = numbered(100_001);
        let file = boot_file(&bytes);
        for (chunk, step) in [(4096, 512), (1000, 1428), (100, 7), (200_000, 10_000)] {
            let mut reader = ReadAhead::new(&file, chunk);
            let mut seen = Vec::new();
            while seen.len() < bytes.len() {
                let from = seen.len() as u64;
                let to = (from + step).min(bytes.len() as u64);
                seen.extend_from_slice(reader.hold(from..to).await.unwrap());
                assert!(reader.held.len() as u64 <= 2 * chunk.max(step) + step);
            }
            assert_eq!(seen, bytes);
        }
    }

    #[tokio::test]
    async fn ranges_may_overlap_and_jump() {
        let bytes = numbered(50_000);
        let mut reader = ReadAhead::new(&boot_file(&bytes), 4096);
        reader.fill(0).unwrap();
        for range in [0..1000, 500..9000, 8000..8000, 40_000..41_000, 0..10, 49_999..50_000] {
            let want = &bytes[range.start..range.end];
            let range = range.start as u64..range.end as u64;
            assert_eq!(reader.hold(range).await.unwrap(), want);
        }
    }

    #[tokio::test]
    async fn a_file_that_shrank_is_an_error() {
        let mut file = boot_file(&numbered(5000));
        file.len = 5001;
        let mut reader = ReadAhead::new(&file, 1000);
        assert!(reader.hold(0..1000).await.is_ok());
        assert!(reader.hold(4000..5001).await.is_err());
    }

    #[tokio::test]
    async fn nothing_beyond_the_length_is_read() {
        let mut file = boot_file(&numbered(5000));
        file.len = 4000;
        let mut reader = ReadAhead::new(&file, 10_000);
        reader.fill(0).unwrap();
        assert_eq!(reader.held.len(), 4000);
        assert!(reader.hold(3999..4001).await.is_err());
    }

    #[tokio::test]
    async fn generated_files_are_sliced() {
        let mut file = boot_file(b"");
        file.content = Content::Bytes(Arc::from(&b"#!ipxe\n"[..]));
        file.len = 7;
        let mut reader = ReadAhead::new(&file, 2);
        assert_eq!(reader.hold(2..6).await.unwrap(), b"ipxe");
        assert!(reader.hold(0..8).await.is_err());
    }
}

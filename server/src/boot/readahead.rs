//! Reads a boot file from front to back, a block ahead of what is being sent.
//!
//! Disks are read on threads that may wait; what sends only copies from memory, so that a block of
//! TFTP costs no change of threads.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::cache::{BLOCK, Cache, SHARED, Source};
use crate::boot::{BootFile, Content};

/// The bytes of a boot file, held around the place where it is being sent.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    bytes: Bytes,
    /// The file's length when it was opened; what it grew since is not sent.
    len: u64,
    /// Bytes of several blocks.
    joined: Vec<u8>,
}

#[derive(Debug)]
enum Bytes {
    Generated(Arc<[u8]>),
    /// A file, and the block of it that was asked for last.
    Read {
        source: Source,
        cache: Arc<Cache>,
        held: Option<(u64, Arc<[u8]>)>,
    },
}

impl ReadAhead {
    /// Prepares to read a file. For threads that may wait.
    ///
    /// # Errors
    ///
    /// The kernel does not tell of the file.
    pub(crate) fn new(file: &BootFile) -> io::Result<Self> {
        let bytes = match &file.content {
            Content::Bytes(bytes) => Bytes::Generated(Arc::clone(bytes)),
            Content::File(opened) => Bytes::Read {
                source: Source::new(opened, file.len)?,
                cache: Arc::clone(&SHARED),
                held: None,
            },
        };
        Ok(Self { bytes, len: file.len, joined: Vec::new() })
    }

    /// Reads the block in which `start` lies, waiting for the disk. For threads that may wait.
    ///
    /// # Errors
    ///
    /// The disk failed, or the file has become shorter than it was when it was opened.
    pub(crate) fn fill(&mut self, start: u64) -> io::Result<()> {
        if let Bytes::Read { source, cache, held } = &mut self.bytes
            && start < self.len
        {
            let block = start / BLOCK;
            *held = Some((block, cache.read(source, block)?));
        }
        Ok(())
    }

    /// The bytes of a range, read if they are not in memory; the next block is then being read.
    ///
    /// # Errors
    ///
    /// The disk failed, or the file has become shorter than it was when it was opened.
    pub(crate) async fn hold(&mut self, range: Range<u64>) -> io::Result<&[u8]> {
        if range.end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (source, cache, held) = match &mut self.bytes {
            Bytes::Generated(bytes) => return part(bytes, &range, 0),
            Bytes::Read { source, cache, held } => (source, cache, held),
        };
        if range.is_empty() {
            return Ok(&[]);
        }
        let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
        let is_one = blocks.start.saturating_add(1) >= blocks.end;
        self.joined.clear();
        for block in blocks {
            if held.as_ref().is_none_or(|(known, _)| *known != block) {
                let bytes = match cache.held(source, block) {
                    Some(bytes) => bytes,
                    None => cache.wait(source, block).await?,
                };
                *held = Some((block, bytes));
                let next = block.saturating_add(1);
                if next.saturating_mul(BLOCK) < self.len {
                    cache.prepare(source, next);
                }
            }
            if !is_one && let Some((_, bytes)) = held {
                self.joined.extend_from_slice(part(bytes, &range, block.saturating_mul(BLOCK))?);
            }
        }
        match held {
            Some((block, bytes)) if is_one => part(bytes, &range, block.saturating_mul(BLOCK)),
            _ => Ok(&self.joined),
        }
    }
}

/// What bytes that begin at `start` have of a range.
fn part<'a>(bytes: &'a [u8], range: &Range<u64>, start: u64) -> io::Result<&'a [u8]> {
    let from = size(range.start.saturating_sub(start))?;
    let to = size(range.end.saturating_sub(start))?.min(bytes.len());
    bytes.get(from..to).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
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
        let bytes = numbered(200_001);
        let file = boot_file(&bytes);
        for step in [7, 512, 1428, 10_000, 65_536, 70_000, 150_000] {
            let mut reader = ReadAhead::new(&file).unwrap();
            let mut seen = Vec::new();
            while seen.len() < bytes.len() {
                let from = seen.len() as u64;
                let to = (from + step).min(bytes.len() as u64);
                seen.extend_from_slice(reader.hold(from..to).await.unwrap());
            }
            assert_eq!(seen, bytes);
        }
    }

    #[tokio::test]
    async fn ranges_may_overlap_and_jump() {
        let bytes = numbered(500_000);
        let mut reader = ReadAhead::new(&boot_file(&bytes)).unwrap();
        reader.fill(0).unwrap();
        for range in [
            0..1000,
            500..90_000,
            8000..8000,
            60_000..140_000,
            65_536..131_072,
            400_000..410_000,
            0..10,
            499_999..500_000,
        ] {
            let want = &bytes[range.start..range.end];
            let range = range.start as u64..range.end as u64;
            assert_eq!(reader.hold(range).await.unwrap(), want);
        }
    }

    #[tokio::test]
    async fn a_file_that_shrank_is_an_error() {
        let mut file = boot_file(&numbered(100_000));
        file.len = 100_001;
        let mut reader = ReadAhead::new(&file).unwrap();
        assert!(reader.hold(0..1000).await.is_ok());
        assert!(reader.hold(99_000..100_001).await.is_err());
    }

    #[tokio::test]
    async fn nothing_beyond_the_length_is_read() {
        let mut file = boot_file(&numbered(5000));
        file.len = 4000;
        let mut reader = ReadAhead::new(&file).unwrap();
        reader.fill(0).unwrap();
        assert_eq!(reader.hold(0..4000).await.unwrap().len(), 4000);
        assert!(reader.hold(3999..4001).await.is_err());
    }

    #[tokio::test]
    async fn generated_files_are_sliced() {
        let mut file = boot_file(b"");
        file.content = Content::Bytes(Arc::from(&b"#!ipxe\n"[..]));
        file.len = 7;
        let mut reader = ReadAhead::new(&file).unwrap();
        assert_eq!(reader.hold(2..6).await.unwrap(), b"ipxe");
        assert!(reader.hold(0..8).await.is_err());
    }
}

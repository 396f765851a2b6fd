//! What goes over the wire when a snapshot is sent to another store.
//!
//! A line that says what this is, a length and a header in TOML, then the back end's own bytes in
//! chunks, each with its length and a checksum over everything before it, and an empty chunk at the
//! end. A stream that was cut off or damaged on the way is told from a whole one before anything of
//! it is shown. The checksum (SipHash-128 with a fixed key) is against accidents: whoever may send to
//! a store may write to it.

use std::hash::Hasher;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

/// What a stream says about itself before it begins.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// Which back ends understand what follows.
    pub(crate) format: String,
    /// The snapshot that is sent.
    pub(crate) snapshot: Sent,
    /// The snapshot that the receiver has already.
    pub(crate) base: Option<Sent>,
    /// The environment's metadata as it is written down.
    pub(crate) environment: String,
}

/// A snapshot that is sent.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    pub(crate) name: String,
    pub(crate) uuid: uuid::Uuid,
    pub(crate) created: String,
}

/// Why a stream is not received.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It goes on from a snapshot that is not the newest one here.
    #[error(
        "the stream goes on from {snapshot}, which is not the newest snapshot of {name}: send all \
         of it, or roll back to that snapshot first"
    )]
    Base {
        /// The snapshot's name at its sender's.
        snapshot: String,
        /// The environment that was to receive it.
        name: String,
    },
    /// It ends before its end mark.
    #[error("the stream was cut off: send it again; nothing was received")]
    Cut,
    /// A checksum is wrong.
    #[error("the stream was damaged on the way: send it again; nothing was received")]
    Damaged,
    /// Another kind of store sent it.
    #[error("the stream comes from a store of kind {0}, which only such a store can receive")]
    Format(String),
    /// It is something else.
    #[error("this is no stream of `netbe send`")]
    Foreign,
    /// Something in it makes no sense.
    #[error("the stream makes no sense: {0}; nothing was received")]
    Nonsense(String),
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Frames what a back end writes.
pub(crate) struct Framer<'a> {
    out: &'a mut dyn Write,
    hasher: SipHasher24,
    chunk: Vec<u8>,
    /// Called with the number of bytes written so far.
    progress: &'a mut dyn FnMut(u64),
    bytes: u64,
}

impl<'a> Framer<'a> {
    /// Writes the header.
    pub(crate) fn begin(
        out: &'a mut dyn Write,
        header: &Header,
        progress: &'a mut dyn FnMut(u64),
    ) -> io::Result<Self> {
        let text = toml::to_string(header).map_err(io::Error::other)?;
        out.write_all(MAGIC)?;
        let hasher = SipHasher24::new_with_key(&KEY);
        let mut framer = Self { out, hasher, chunk: Vec::with_capacity(CHUNK), progress, bytes: 0 };
        framer.frame(text.as_bytes())?;
        Ok(framer)
    }

    /// Writes what is left, and the end mark.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.flush_chunk()?;
        self.frame(&[])?;
        self.out.flush()
    }

    fn flush_chunk(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.frame(&chunk)?;
        self.bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        (self.progress)(self.bytes);
        self.chunk = chunk;
        self.chunk.clear();
        Ok(())
    }

    fn frame(&mut self, data: &[u8]) -> io::Result<()> {
        let len = u32::try_from(data.len()).map_err(io::Error::other)?.to_be_bytes();
        self.hasher.write(&len);
        self.hasher.write(data);
        self.out.write_all(&len)?;
        self.out.write_all(data)?;
        self.out.write_all(&self.hasher.finish128().as_bytes())
    }
}

impl Write for Framer<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.chunk.len();
        let taken = data.get(..room.min(data.len())).unwrap_or(data);
        self.chunk.extend_from_slice(taken);
        if self.chunk.len() == CHUNK {
            self.flush_chunk()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // A chunk goes out when it is full: a stream of many small ones would be mostly checksums.
        Ok(())
    }
}

/// Takes frames apart again. It ends only after the end mark.
pub(crate) struct Unframer<'a> {
    from: &'a mut dyn Read,
    hasher: SipHasher24,
    chunk: Vec<u8>,
    used: usize,
    ended: bool,
    progress: &'a mut dyn FnMut(u64),
    bytes: u64,
}

impl<'a> Unframer<'a> {
    /// Reads the header.
    pub(crate) fn begin(
        from: &'a mut dyn Read,
        progress: &'a mut dyn FnMut(u64),
    ) -> io::Result<(Header, Self)> {
        let mut magic = Vec::new();
        from.take(MAGIC_LEN).read_to_end(&mut magic)?;
        if !MAGIC.starts_with(&magic) {
            return Err(StreamError::Foreign.into());
        }
        if magic.len() < MAGIC.len() {
            return Err(StreamError::Cut.into());
        }
        let hasher = SipHasher24::new_with_key(&KEY);
        let (chunk, used, ended, bytes) = (Vec::new(), 0, false, 0);
        let mut unframer = Self { from, hasher, chunk, used, ended, progress, bytes };
        unframer.next_chunk()?;
        let text = String::from_utf8_lossy(&unframer.chunk);
        let header = toml::from_str(&text)
            .map_err(|error: toml::de::Error| StreamError::Nonsense(error.message().to_owned()))?;
        unframer.used = unframer.chunk.len();
        unframer.bytes = 0;
        Ok((header, unframer))
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let mut len = [0; 4];
        fill(self.from, &mut len)?;
        self.hasher.write(&len);
        let size = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if size > CHUNK {
            return Err(StreamError::Damaged.into());
        }
        self.chunk.resize(size, 0);
        fill(self.from, &mut self.chunk)?;
        self.hasher.write(&self.chunk);
        let mut sum = [0; 16];
        fill(self.from, &mut sum)?;
        if sum != self.hasher.finish128().as_bytes() {
            return Err(StreamError::Damaged.into());
        }
        self.used = 0;
        self.ended = size == 0;
        self.bytes += u64::try_from(size).unwrap_or(u64::MAX);
        (self.progress)(self.bytes);
        Ok(())
    }
}

impl Read for Unframer<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.used == self.chunk.len() && !self.ended {
            self.next_chunk()?;
        }
        let mut rest = self.chunk.get(self.used..).unwrap_or_default();
        let read = rest.read(room)?;
        self.used += read;
        Ok(read)
    }
}

fn fill(from: &mut dyn Read, room: &mut [u8]) -> io::Result<()> {
    from.read_exact(room).map_err(|error| match error.kind() == io::ErrorKind::UnexpectedEof {
        true => StreamError::Cut.into(),
        false => error,
    })
}

const MAGIC: &[u8; 15] = b"netbe stream 1\n";
const MAGIC_LEN: u64 = 15;

/// Longest chunk in bytes.
const CHUNK: usize = 256 << 10;

/// Not a secret.
const KEY: [u8; 16] = *b"netbe stream sum";

#[cfg(test)]
mod test {
    use super::*;

    fn header() -> Header {
        let name = "monday".to_owned();
        let (uuid, created) = (uuid::Uuid::nil(), "2026-11-20T13:30:00Z".to_owned());
        let snapshot = Sent { name, uuid, created };
        Header { format: "tree".into(), snapshot, base: None, environment: "schema = 2".into() }
    }

    fn framed(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut progress = |_| {};
        let mut framer = Framer::begin(&mut out, &header(), &mut progress).unwrap();
        framer.write_all(data).unwrap();
        framer.end().unwrap();
        out
    }

    fn unframed(mut stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut progress = |_| {};
        let (header, mut unframer) = Unframer::begin(&mut stream, &mut progress)?;
        assert_eq!(header.format, "tree");
        let mut data = Vec::new();
        unframer.read_to_end(&mut data)?;
        Ok(data)
    }

    fn reason(error: &io::Error) -> String {
        error.get_ref().unwrap().to_string()
    }

    #[test]
    fn what_was_framed_comes_out_again() {
        for size in [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 7] {
            let data: Vec<u8> = (0..size).map(|byte| byte.to_le_bytes()[0]).collect();
            assert!(unframed(&framed(&data)).unwrap() == data, "{size}");
        }
    }

    #[test]
    fn a_stream_cut_anywhere_is_refused() {
        let stream = framed(b"content");
        for end in 0..stream.len() {
            let error = unframed(&stream[..end]).unwrap_err();
            assert!(reason(&error).contains("cut off"), "{end}: {error}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let stream = framed(b"content");
        for at in 0..stream.len() {
            let mut stream = stream.clone();
            stream[at] ^= 4;
            assert!(unframed(&stream).is_err(), "{at}");
        }
    }

    #[test]
    fn something_else_is_told_apart() {
        for other in [&b"#!/bin/sh\necho hello\n"[..], b"short\n"] {
            let error = unframed(other).unwrap_err();
            assert!(reason(&error).contains("no stream"), "{error}");
        }
    }

    #[test]
    fn progress_counts_the_content() {
        let mut seen = Vec::new();
        let mut note = |bytes| seen.push(bytes);
        let mut out = Vec::new();
        let mut framer = Framer::begin(&mut out, &header(), &mut note).unwrap();
        framer.write_all(&vec![0; CHUNK + 1]).unwrap();
        framer.end().unwrap();
        assert_eq!(seen, [CHUNK, CHUNK + 1].map(|bytes| u64::try_from(bytes).unwrap()));
    }
}

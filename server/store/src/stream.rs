//! What goes over the wire when a snapshot is sent to another store.
//!
//! There are two forms. What file systems write themselves comes in frames: a line that says what this is, a
//! length and a header in TOML, then the back end's own bytes in chunks, each with its length and a
//! checksum over everything before it, and an empty chunk at the end. What a store of directories writes is
//! a pax archive from its first byte to its last, so that tar(1) and bsdtar(1) read it too: the header is in a
//! global extended header before everything else, and the checksum in another after everything else, both
//! under keys of netbe's own, which others pass over.
//!
//! A stream that was cut off or damaged on the way is told from a whole one before anything of
//! it is shown. The checksum (SipHash-128 with a fixed key) is against accidents: whoever may send to
//! a store may write to it.

use std::hash::Hasher;
use std::io::{self, Read, Write};

use pax::archive::{Archive, EntryType, Next};
use pax::record::Records;
use pax::{header, record};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::StoreError;

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
        "the stream continues from {snapshot}, which is not the newest snapshot of {name}: send a full \
         stream, or roll back to that snapshot first"
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
    #[error("the stream comes from a store of kind {0}, and only such a store can receive it")]
    Format(String),
    /// An older netbe sent files in a form of its own.
    #[error(
        "the stream has the format of an older netbe: send the snapshot again with this version of netbe"
    )]
    Old,
    /// It is something else.
    #[error("this is not a stream of `netbe send`")]
    Foreign,
    /// Something in it makes no sense.
    #[error("the stream is malformed: {0}; nothing was received")]
    Nonsense(String),
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The format of what a store of directories sends.
pub(crate) const ARCHIVE: &str = "pax";
/// What it was called before it was an archive.
const OLD_FORMAT: &str = "tree";

/// How a stream is told from a damaged one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// By a checksum at the end of an archive.
    Archive,
    /// By one at each chunk.
    Frames,
}

impl Form {
    fn of(format: &str) -> Self {
        if format == ARCHIVE { Self::Archive } else { Self::Frames }
    }
}

/// Puts around what a back end writes what makes it a stream.
pub(crate) struct Framer<'a> {
    out: &'a mut dyn Write,
    form: Form,
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
        let (form, hasher) = (Form::of(&header.format), SipHasher24::new_with_key(&KEY));
        let chunk = Vec::with_capacity(CHUNK);
        let mut framer = Self { out, form, hasher, chunk, progress, bytes: 0 };
        match form {
            Form::Frames => {
                framer.out.write_all(MAGIC)?;
                framer.frame(text.as_bytes())?;
            }
            Form::Archive => framer.pass(&head(&text))?,
        }
        Ok(framer)
    }

    /// Writes what is left, and the end mark.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.flush_chunk()?;
        match self.form {
            Form::Frames => self.frame(&[])?,
            Form::Archive => self.out.write_all(&end_mark(&self.hasher))?,
        }
        self.out.flush()
    }

    fn flush_chunk(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        match self.form {
            Form::Frames => self.frame(&chunk)?,
            Form::Archive => self.pass(&chunk)?,
        }
        self.bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        (self.progress)(self.bytes);
        self.chunk = chunk;
        self.chunk.clear();
        Ok(())
    }

    fn pass(&mut self, data: &[u8]) -> io::Result<()> {
        self.hasher.write(data);
        self.out.write_all(data)
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

/// What an archive begins with.
fn head(text: &str) -> Vec<u8> {
    let mut records = Vec::new();
    record::push(&mut records, HEADER, text);
    record::push(&mut records, SUM, sum_of(text));
    // Others need not know the two records to read the rest.
    header::global(ARCHIVE_NAME, &records)
}

/// What an archive ends with: always as many bytes.
fn end_mark(hasher: &SipHasher24) -> Vec<u8> {
    let mut records = Vec::new();
    record::push(&mut records, SUM, hex(hasher));
    let mut mark = header::global(END_NAME, &records);
    mark.resize(END, 0);
    mark
}

fn sum_of(text: &str) -> String {
    let mut hasher = SipHasher24::new_with_key(&KEY);
    hasher.write(text.as_bytes());
    hex(&hasher)
}

fn hex(hasher: &SipHasher24) -> String {
    hasher.finish128().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes away again what was put around. It ends only after the end mark.
pub(crate) struct Unframer<'a> {
    from: &'a mut dyn Read,
    form: Form,
    hasher: SipHasher24,
    /// Of an archive, as many bytes behind those that are passed on as its end mark has.
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
        let form = match [(MAGIC, Form::Frames), (ARCHIVE_NAME, Form::Archive)]
            .into_iter()
            .find(|(known, _)| known.starts_with(&magic))
        {
            None => return Err(StreamError::Foreign.into()),
            Some(_) if magic.len() < MAGIC.len() => return Err(StreamError::Cut.into()),
            Some((_, form)) => form,
        };
        let hasher = SipHasher24::new_with_key(&KEY);
        let (chunk, used, ended, bytes) = (Vec::new(), 0, false, 0);
        let mut unframer = Self { from, form, hasher, chunk, used, ended, progress, bytes };
        let text = match form {
            Form::Frames => {
                unframer.next_chunk()?;
                unframer.used = unframer.chunk.len();
                unframer.bytes = 0;
                String::from_utf8_lossy(&unframer.chunk).into_owned()
            }
            Form::Archive => unframer.archive_header(magic)?,
        };
        let header: Header = toml::from_str(&text)
            .map_err(|error: toml::de::Error| StreamError::Nonsense(error.message().to_owned()))?;
        if header.format == OLD_FORMAT {
            return Err(StreamError::Old.into());
        }
        if Form::of(&header.format) != form {
            return Err(StreamError::Nonsense("its header is another's".to_owned()).into());
        }
        Ok((header, unframer))
    }

    /// Which of what went wrong is to be told: what was damaged on the way may make no sense before the end
    /// shows that it was damaged.
    pub(crate) fn blame(mut self, error: StoreError) -> StoreError {
        let found = if let StoreError::Stream(found) = &error {
            Some(found)
        } else if let StoreError::Io { error, .. } = &error {
            error.get_ref().and_then(|inner| inner.downcast_ref())
        } else {
            None
        };
        let senseless = matches!(found, Some(StreamError::Nonsense(_)));
        if self.form == Form::Frames || !senseless {
            return error;
        }
        let rest = io::copy(&mut self, &mut io::sink());
        let found = rest.err().and_then(|rest| rest.downcast::<StreamError>().ok());
        found.map_or(error, StoreError::from)
    }

    /// Reads the global header that an archive begins with, of which the first bytes are there.
    fn archive_header(&mut self, first: Vec<u8>) -> io::Result<String> {
        let mut bytes = first;
        bytes.resize(pax::BLOCK, 0);
        let rest = bytes.get_mut(MAGIC.len()..).unwrap_or_default();
        fill(self.from, rest)?;
        let damaged = || io::Error::from(StreamError::Damaged);
        let size = match Archive::new(&*bytes, 0).next_entry() {
            Ok(Next::Entry(entry)) if entry.kind == EntryType::XGlobalHeader => entry.size,
            Ok(_) | Err(_) => return Err(damaged()),
        };
        let length = usize::try_from(size).ok().filter(|length| *length <= CHUNK);
        let length = length.ok_or_else(damaged)?;
        bytes.resize(pax::BLOCK + length.next_multiple_of(pax::BLOCK), 0);
        fill(self.from, bytes.get_mut(pax::BLOCK..).unwrap_or_default())?;
        self.hasher.write(&bytes);
        let (mut text, mut sum) = (None, None);
        for record in Records::new(bytes.get(pax::BLOCK..pax::BLOCK + length).unwrap_or_default()) {
            match record.map_err(|_| damaged())? {
                (key, value) if key == HEADER.as_bytes() => text = str::from_utf8(value).ok(),
                (key, value) if key == SUM.as_bytes() => sum = Some(value),
                _ => {}
            }
        }
        let text = text.ok_or_else(damaged)?;
        if sum != Some(sum_of(text).as_bytes()) {
            return Err(damaged());
        }
        Ok(text.to_owned())
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

    /// Reads on in an archive until there is more than may be its end mark, or it has ended in that.
    fn next_part(&mut self) -> io::Result<()> {
        self.chunk.drain(..self.used);
        self.used = 0;
        let before = self.chunk.len();
        let most = u64::try_from(CHUNK + END - before).unwrap_or(0);
        (&mut *self.from).take(most).read_to_end(&mut self.chunk)?;
        if let Some(ready) = self.chunk.len().checked_sub(END).filter(|ready| *ready > 0) {
            self.hasher.write(self.chunk.get(..ready).unwrap_or_default());
            self.bytes += u64::try_from(ready).unwrap_or(u64::MAX);
            (self.progress)(self.bytes);
            return Ok(());
        }
        let mark = end_mark(&self.hasher);
        if self.chunk == mark {
            self.ended = true;
            return Ok(());
        }
        let is_mark =
            self.chunk.len() == END && self.chunk.get(..pax::BLOCK) == mark.get(..pax::BLOCK);
        Err(if is_mark { StreamError::Damaged } else { StreamError::Cut }.into())
    }
}

impl Read for Unframer<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let held = if self.form == Form::Archive { END } else { 0 };
        if !self.ended && self.chunk.len().saturating_sub(self.used) <= held {
            match self.form {
                Form::Archive => self.next_part()?,
                Form::Frames => self.next_chunk()?,
            }
        }
        if self.ended {
            return Ok(0);
        }
        let ready = self.chunk.len().saturating_sub(held);
        let mut rest = self.chunk.get(self.used..ready).unwrap_or_default();
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
/// The name of the global header that an archive begins with, and where that ends.
const ARCHIVE_NAME: &[u8; 15] = b"netbe stream 2\0";
const END_NAME: &[u8] = b"netbe end";
/// Records: the header, and a checksum.
const HEADER: &str = "NETBE.header";
const SUM: &str = "NETBE.sum";
/// Bytes of the end mark: a header, its records, and the two empty blocks of an archive's end.
const END: usize = 4 * pax::BLOCK;

/// Longest chunk in bytes.
const CHUNK: usize = 256 << 10;

/// Not a secret.
const KEY: [u8; 16] = *b"netbe stream sum";

#[cfg(test)]
mod test {
    use super::*;

    fn header(format: &str) -> Header {
        let name = "monday".to_owned();
        let (uuid, created) = (uuid::Uuid::nil(), "2026-11-20T13:30:00Z".to_owned());
        let snapshot = Sent { name, uuid, created };
        Header { format: format.into(), snapshot, base: None, environment: "schema = 2".into() }
    }

    const FORMATS: [&str; 2] = ["zfs", ARCHIVE];

    fn framed(format: &str, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut progress = |_| {};
        let mut framer = Framer::begin(&mut out, &header(format), &mut progress).unwrap();
        framer.write_all(data).unwrap();
        framer.end().unwrap();
        out
    }

    fn unframed(mut stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut progress = |_| {};
        let (header, mut unframer) = Unframer::begin(&mut stream, &mut progress)?;
        assert!(FORMATS.contains(&header.format.as_str()));
        let mut data = Vec::new();
        unframer.read_to_end(&mut data)?;
        Ok(data)
    }

    fn reason(error: &io::Error) -> String {
        error.get_ref().unwrap().to_string()
    }

    #[test]
    fn what_was_framed_comes_out_again() {
        for size in [0, 1, END - 1, END, CHUNK - 1, CHUNK, CHUNK + END, 3 * CHUNK + 7] {
            let data: Vec<u8> = (0..size).map(|byte| byte.to_le_bytes()[0]).collect();
            for format in FORMATS {
                assert!(unframed(&framed(format, &data)).unwrap() == data, "{format}: {size}");
            }
        }
    }

    #[test]
    fn a_stream_cut_anywhere_is_refused() {
        for stream in FORMATS.map(|format| framed(format, b"content")) {
            for end in 0..stream.len() {
                let error = unframed(&stream[..end]).unwrap_err();
                assert!(reason(&error).contains("cut off"), "{end}: {error}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        for stream in FORMATS.map(|format| framed(format, b"content")) {
            for at in 0..stream.len() {
                let mut stream = stream.clone();
                stream[at] ^= 4;
                assert!(unframed(&stream).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn something_behind_the_end_of_an_archive_is_refused() {
        let stream = framed(ARCHIVE, b"content");
        for more in [1, 512, END] {
            unframed(&[&stream[..], &vec![0; more]].concat()).unwrap_err();
        }
    }

    #[test]
    fn what_an_older_netbe_sent_is_refused_by_its_name() {
        let error = unframed(&framed("tree", b"content")).unwrap_err();
        assert!(reason(&error).contains("send the snapshot again"), "{error}");
    }

    #[test]
    fn something_else_is_told_apart() {
        for other in [&b"#!/bin/sh\necho hello\n"[..], b"short\n"] {
            let error = unframed(other).unwrap_err();
            assert!(reason(&error).contains("not a stream"), "{error}");
        }
    }

    #[test]
    fn progress_counts_the_content() {
        for format in FORMATS {
            let mut seen = Vec::new();
            let mut note = |bytes| seen.push(bytes);
            let mut out = Vec::new();
            let mut framer = Framer::begin(&mut out, &header(format), &mut note).unwrap();
            framer.write_all(&vec![0; CHUNK + 1]).unwrap();
            framer.end().unwrap();
            assert_eq!(seen, [CHUNK, CHUNK + 1].map(|bytes| u64::try_from(bytes).unwrap()));
        }
    }
}

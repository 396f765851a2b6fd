//! Reads tar archives of any form that is in use: ustar, pax, GNU tar's and that of Unix version 7.
//!
//! The archive may be hostile. What it says of sizes is a claim: names and records are read up to a limit,
//! contents are passed on as they come, and nothing is allocated before its bytes are there. Names are what
//! the archive says; who makes files of them decides where they may lead.

use std::io::{self, Read};

pub use tar::EntryType;
use tar::Header;

use crate::record::Records;
use crate::sparse::{self, Range};
use crate::{BLOCK, time};

/// An archive that is read from its beginning to its end.
#[derive(Debug)]
pub struct Archive<R> {
    source: Ahead<R>,
    /// Most bytes of what stands before one entry's contents.
    most: usize,
    /// How much is left of the contents of the present entry, and what they are filled up with.
    content: u64,
    filling: u64,
}

/// What comes next in an archive.
#[derive(Debug)]
pub enum Next {
    /// The two empty blocks at the end of a whole archive, or the first of them.
    End,
    /// A file, or what an archive has instead. Its contents are what is read now.
    Entry(Box<Entry>),
    /// The end of what there was to read, between two entries.
    Nothing,
}

/// A file of an archive.
#[derive(Debug)]
pub struct Entry {
    /// What it is.
    pub kind: EntryType,
    /// Its name.
    pub name: Vec<u8>,
    /// What a symbolic link says, or the file that a hard link is another name of.
    pub link: Vec<u8>,
    /// The permission bits, with setuid, setgid and sticky: `0o7777`.
    pub mode: u32,
    /// The number of its owner.
    pub uid: u64,
    /// The number of its group.
    pub gid: u64,
    /// When its contents were changed: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
    /// When it was read, if that is said.
    pub accessed: Option<(i64, u32)>,
    /// The numbers of a device, major and minor.
    pub device: (u32, u32),
    /// How many bytes the file has, holes among them.
    pub size: u64,
    /// Which parts of a sparse file the contents are, in their order; all the rest of it is holes.
    pub ranges: Option<Vec<Range>>,
    records: Vec<u8>,
}

impl Entry {
    /// What pax records say of it.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.records)
    }
}

impl<R: Read> Archive<R> {
    /// Begins. `most` is how many bytes may stand before the contents of one file: names, records and the
    /// list of ranges come into memory.
    pub const fn new(source: R, most: usize) -> Self {
        Self { source: Ahead::of(source), most, content: 0, filling: 0 }
    }

    /// What the archive is read from, to read what comes after it.
    pub fn into_inner(self) -> R {
        self.source.source
    }

    /// Passes what is left of the present entry, and reads what stands before the next one's contents.
    ///
    /// [`io::ErrorKind::UnexpectedEof`] says that the archive was cut, any other error without a number of the
    /// system's that it is damaged.
    #[expect(clippy::wildcard_enum_match_arm, reason = "archives may have kinds without a name")]
    pub fn next_entry(&mut self) -> io::Result<Next> {
        let rest = self.content.saturating_add(self.filling);
        self.content = rest;
        self.filling = 0;
        if io::copy(self, &mut io::sink())? != rest {
            return Err(cut());
        }
        let (mut before, mut left) = (Before::default(), self.most);
        loop {
            let mut block = [0; BLOCK];
            match fill(&mut self.source, &mut block)? {
                0 if before.is_empty() => return Ok(Next::Nothing),
                BLOCK => {}
                _ => return Err(cut()),
            }
            if block.iter().all(|&byte| byte == 0) {
                return if before.is_empty() {
                    Ok(Next::End)
                } else {
                    Err(damaged("an empty header"))
                };
            }
            let header = Header::from_byte_slice(&block);
            if !sums_up(&block, header) {
                return Err(damaged("a header whose checksum is wrong"));
            }
            let part = match header.entry_type() {
                EntryType::XHeader => &mut before.records,
                EntryType::GNULongName => &mut before.name,
                EntryType::GNULongLink => &mut before.link,
                kind => return self.entry(kind, &block, before),
            };
            let size = number(&header.as_old().size)?;
            let length = usize::try_from(size).ok().filter(|length| *length <= left);
            let length =
                length.ok_or_else(|| io::Error::other("a header is larger than any is"))?;
            // Each counts with its own block: those that say nothing have an end too.
            let rest = left.checked_sub(length.saturating_add(BLOCK));
            left =
                rest.ok_or_else(|| io::Error::other("an entry has more headers than any has"))?;
            part.clear();
            (&mut self.source).take(size).read_to_end(part)?;
            let mut filling = [0; BLOCK];
            let filling = filling.get_mut(..length.next_multiple_of(BLOCK) - length);
            if part.len() < length {
                return Err(cut());
            }
            self.source.read_exact(filling.unwrap_or_default())?;
        }
    }

    fn entry(&mut self, kind: EntryType, block: &[u8; BLOCK], before: Before) -> io::Result<Next> {
        let header = Header::from_byte_slice(block);
        let extra = Extra::of(&before.records)?;
        let old = header.as_old();
        let stored = match extra.size {
            Some(size) => size,
            None => number(&old.size)?,
        };
        let held = !matches!(
            kind,
            EntryType::Symlink
                | EntryType::Char
                | EntryType::Block
                | EntryType::Directory
                | EntryType::Fifo
        );
        // A hard link may have its file's size, and with or without it the contents (pax(1), "ustar Interchange
        // Format", typeflag 1; GNU tar writes none).
        let held =
            held && (kind != EntryType::Link || stored > 0 && !self.source.is_at_header()?);
        self.content = if held { stored } else { 0 };
        self.filling = self.content.wrapping_neg() % BLOCK_SIZE;
        let (size, ranges) = match (kind, extra.sparse) {
            (EntryType::GNUSparse, _) => {
                let (size, ranges) = self.old_map(header)?;
                (size, Some(ranges))
            }
            (_, Some(size)) if held => {
                let ranges = sparse::read_map(&mut &mut *self, size, MAX_RANGES)?;
                let data: u64 = ranges.iter().map(|(_, length)| length).sum();
                if self.content < data {
                    return Err(damaged("a sparse file with less data than it says"));
                }
                (size, Some(ranges))
            }
            _ => (self.content, None),
        };
        let device = |field: &dyn Fn() -> io::Result<Option<u32>>| -> io::Result<u32> {
            let node = matches!(kind, EntryType::Char | EntryType::Block);
            if node { Ok(field()?.unwrap_or(0)) } else { Ok(0) }
        };
        let name = match (extra.name, before.name) {
            (Some(name), _) => name.to_vec(),
            (None, long) if !long.is_empty() => text(&long).to_vec(),
            (None, _) => header.path_bytes().into_owned(),
        };
        let link = match (extra.link, before.link) {
            (Some(link), _) => link.to_vec(),
            (None, long) if !long.is_empty() => text(&long).to_vec(),
            (None, _) => header.link_name_bytes().unwrap_or_default().into_owned(),
        };
        let modified = match extra.modified {
            Some(modified) => modified,
            None => (number(&old.mtime)?.cast_signed(), 0),
        };
        let entry = Entry {
            kind,
            name,
            link,
            mode: header.mode()? & 0o7777,
            uid: extra.uid.map_or_else(|| number(&old.uid), Ok)?,
            gid: extra.gid.map_or_else(|| number(&old.gid), Ok)?,
            modified,
            accessed: extra.accessed,
            device: (
                extra.major.map_or_else(|| device(&|| header.device_major()), Ok)?,
                extra.minor.map_or_else(|| device(&|| header.device_minor()), Ok)?,
            ),
            size,
            ranges,
            records: before.records,
        };
        Ok(Next::Entry(Box::new(entry)))
    }

    /// The size and the ranges of a sparse file in GNU tar's own form, which stand in its headers.
    fn old_map(&mut self, header: &Header) -> io::Result<(u64, Vec<Range>)> {
        let gnu = header.as_gnu().ok_or_else(|| damaged("a sparse file without its form"))?;
        let size = number(&gnu.realsize)?;
        let (mut ranges, mut end, mut data) = (Vec::new(), 0_u64, 0_u64);
        let mut add = |bytes: &[u8]| -> io::Result<()> {
            let (start, length) = bytes.split_at_checked(12).unwrap_or_default();
            if length.first().is_none_or(|&first| first == 0) {
                return Ok(());
            }
            let (start, length) = (number(start)?, number(length)?);
            let after = start.checked_add(length).filter(|&after| after <= size && start >= end);
            end = after.ok_or_else(|| damaged("a sparse file with a range beyond its end"))?;
            data += length;
            if ranges.len() >= MAX_RANGES {
                return Err(io::Error::other("a sparse file has too many ranges"));
            }
            ranges.push((start, length));
            Ok(())
        };
        let bytes = header.as_bytes();
        let four = bytes.get(SPARSE..SPARSE + 4 * 24).unwrap_or_default();
        four.chunks_exact(24).try_for_each(&mut add)?;
        let mut more = bytes.get(SPARSE + 4 * 24) == Some(&1);
        let mut blocks = MAX_RANGES;
        while more {
            let rest = blocks.checked_sub(21);
            blocks = rest.ok_or_else(|| io::Error::other("a sparse file has too many ranges"))?;
            let mut block = [0; BLOCK];
            self.source.read_exact(&mut block)?;
            let (entries, last) = block.split_at(21 * 24);
            entries.chunks_exact(24).try_for_each(&mut add)?;
            more = last.first() == Some(&1);
        }
        if data > self.content {
            return Err(damaged("a sparse file with less data than it says"));
        }
        Ok((size, ranges))
    }
}

/// What an archive is read from, of which a block may be looked at before it is read.
#[derive(Debug)]
struct Ahead<R> {
    source: R,
    block: io::Cursor<Vec<u8>>,
}

impl<R> Ahead<R> {
    const fn of(source: R) -> Self {
        Self { source, block: io::Cursor::new(Vec::new()) }
    }
}

impl<R: Read> Ahead<R> {
    /// Whether a header comes next, or the end.
    fn is_at_header(&mut self) -> io::Result<bool> {
        let mut block = [0; BLOCK];
        let len = fill(self, &mut block)?;
        self.block = io::Cursor::new(block.get(..len).unwrap_or_default().to_vec());
        let empty = block.iter().all(|&byte| byte == 0);
        Ok(empty || sums_up(&block, Header::from_byte_slice(&block)))
    }
}

impl<R: Read> Read for Ahead<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.block.read(into)? {
            0 => self.source.read(into),
            read => Ok(read),
        }
    }
}

/// The contents of the present entry.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = (&mut self.source).take(self.content).read(into)?;
        if read == 0 && self.content > 0 && !into.is_empty() {
            return Err(cut());
        }
        self.content -= u64::try_from(read).unwrap_or(self.content);
        Ok(read)
    }
}

/// What stands before a header and belongs to its entry.
#[derive(Default)]
struct Before {
    records: Vec<u8>,
    name: Vec<u8>,
    link: Vec<u8>,
}

impl Before {
    const fn is_empty(&self) -> bool {
        self.records.is_empty() && self.name.is_empty() && self.link.is_empty()
    }
}

/// What records say instead of a header's fields.
#[derive(Default)]
struct Extra<'a> {
    name: Option<&'a [u8]>,
    link: Option<&'a [u8]>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<(i64, u32)>,
    accessed: Option<(i64, u32)>,
    major: Option<u32>,
    minor: Option<u32>,
    /// The size of a sparse file in the form 1.0.
    sparse: Option<u64>,
}

impl<'a> Extra<'a> {
    fn of(records: &'a [u8]) -> io::Result<Self> {
        let mut extra = Self::default();
        let (mut sparse_name, mut form, mut real) = (None, None, None);
        for record in Records::new(records) {
            let (key, value) = record.map_err(|_| damaged("a record that makes no sense"))?;
            let decimal = || decimal(value).map(Some);
            let short = || Ok::<_, io::Error>(decimal()?.and_then(|it| u32::try_from(it).ok()));
            match key {
                // An empty value takes back what was said before.
                b"path" => extra.name = Some(value).filter(|value| !value.is_empty()),
                b"linkpath" => extra.link = Some(value).filter(|value| !value.is_empty()),
                b"size" => extra.size = decimal()?,
                b"uid" => extra.uid = decimal()?,
                b"gid" => extra.gid = decimal()?,
                b"mtime" => extra.modified = time::parse(value),
                b"atime" => extra.accessed = time::parse(value),
                b"SCHILY.devmajor" => extra.major = short()?,
                b"SCHILY.devminor" => extra.minor = short()?,
                b"GNU.sparse.major" => form = Some(value),
                b"GNU.sparse.name" => sparse_name = Some(value),
                b"GNU.sparse.realsize" => real = decimal()?,
                b"GNU.sparse.map" | b"GNU.sparse.offset" => {
                    let old = "a sparse file is in an old form: pack it by bsdtar or GNU tar 1.14";
                    return Err(io::Error::new(io::ErrorKind::Unsupported, old));
                }
                _ => {}
            }
        }
        if form == Some(b"1") {
            let missing = || damaged("a sparse file that does not say its size");
            extra.sparse = Some(real.ok_or_else(missing)?);
            extra.name = sparse_name.or(extra.name);
        }
        Ok(extra)
    }
}

/// Whether a header's checksum is that of its bytes, with spaces where it stands itself; bytes with a sign
/// count as some old programs counted.
fn sums_up(block: &[u8; BLOCK], header: &Header) -> bool {
    let others = block.iter().enumerate().filter(|(at, _)| !(148..156).contains(at));
    let (unsigned, signed) = others.fold((8 * 32, 8 * 32), |(unsigned, signed), (_, &byte)| {
        (unsigned + i64::from(byte), signed + i64::from(byte.cast_signed()))
    });
    header.cksum().is_ok_and(|said| [unsigned, signed].contains(&i64::from(said)))
}

/// A number of a header: octal, or binary where it is too long for that; nothing is zero.
fn number(field: &[u8]) -> io::Result<u64> {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        // What is negative stands there in two's complement.
        let low = field.iter().rev().take(8).rev();
        let low = low.fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        let short = field.len() <= 8;
        return Ok(if short { low & !(0x80 << (8 * (field.len() - 1))) } else { low });
    }
    let digits = text(field).trim_ascii();
    if digits.is_empty() {
        return Ok(0);
    }
    let number = str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
    let number = number.and_then(|text| u64::from_str_radix(text, 8).ok());
    number.ok_or_else(|| damaged("a header with a number that is none"))
}

fn decimal(value: &[u8]) -> io::Result<u64> {
    let digits = value.iter().all(u8::is_ascii_digit);
    let number = str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.ok_or_else(|| damaged("a record with a number that is none"))
}

/// What stands before the first zero.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Reads until the room is full or the source ends.
fn fill(source: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn cut() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

fn damaged(what: &str) -> io::Error {
    io::Error::other(format!("it has {what}"))
}

const BLOCK_SIZE: u64 = 512;
/// Most ranges of a sparse file: 16 MiB of memory.
pub const MAX_RANGES: usize = 1 << 20;
/// Where GNU tar's list of ranges stands in a header.
const SPARSE: usize = 386;

#[cfg(test)]
mod test;

//! Metadata as the records of an archive.

use std::ffi::CString;
use std::io::Error;
use std::path::Path;

use pax::archive::{Entry, EntryType};
use pax::record;
use rustix::fs::{Timespec, Timestamps};

use crate::stream::StreamError;
use crate::sys;
use crate::tree::metadata::{Lost, Metadata};

/// The records for what has no field in a header.
pub(super) fn of(metadata: &Metadata) -> Vec<u8> {
    let mut records = Vec::new();
    for (name, value) in &metadata.attributes {
        match sys::list_record(name, value) {
            Some((key, text)) => record::push(&mut records, key, text),
            None => record::push(&mut records, pax::xattr::key(name.to_bytes()), value),
        }
    }
    let words = sys::FLAG_WORDS.into_iter().filter(|(flag, _)| metadata.flags & flag != 0);
    let words: Vec<_> = words.filter_map(|(_, words)| words.first().copied()).collect();
    if !words.is_empty() {
        record::push(&mut records, FLAGS, words.join(","));
    }
    records
}

/// A time as an archive has it.
pub(super) fn time(time: Timespec) -> (i64, u32) {
    (time.tv_sec, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The metadata that an entry has. What this system knows no place for is noted.
pub(super) fn metadata(entry: &Entry, path: &Path, lost: &mut Lost) -> Result<Metadata, Error> {
    let mut attributes = Vec::new();
    let (mut flags, mut total) = (0, 0);
    for record in entry.records() {
        let (key, value) = record.map_err(|_| nonsense("a record that is none"))?;
        let attribute = if let Some(name) = pax::xattr::name(key) {
            Some((CString::new(name)?, value.to_vec()))
        } else if key.starts_with(LISTS) && !value.is_empty() {
            let list = sys::list_attribute(key, value);
            if list.is_none() {
                let key = String::from_utf8_lossy(key);
                lost.note(format!("the access control list {}", key.escape_debug()), path);
            }
            list
        } else {
            if key == FLAGS.as_bytes() {
                flags = self::flags(value, path, lost);
            }
            None
        };
        let Some((name, value)) = attribute else { continue };
        total += value.len();
        if value.len() > MAX_ATTRIBUTE || total > MAX_TOTAL || attributes.len() == MAX_ATTRIBUTES {
            return Err(nonsense("extended attributes larger than any").into());
        }
        attributes.push((name, value));
    }
    attributes.sort();
    let id = |id: u64| u32::try_from(id).map_err(|_| nonsense("an owner that is none"));
    let time = |(seconds, nanoseconds): (i64, u32)| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    let accessed = entry.accessed.unwrap_or(entry.modified);
    Ok(Metadata {
        mode: kind(entry.kind)? | entry.mode,
        owner: (id(entry.uid)?, id(entry.gid)?),
        times: Timestamps { last_access: time(accessed), last_modification: time(entry.modified) },
        attributes,
        flags,
    })
}

/// The type in a mode (sys/stat.h), the same on all systems.
#[expect(clippy::wildcard_enum_match_arm, reason = "archives may have kinds without a name")]
fn kind(kind: EntryType) -> Result<u32, StreamError> {
    Ok(match kind {
        EntryType::Block => 0o060_000,
        EntryType::Char => 0o020_000,
        EntryType::Directory => 0o040_000,
        EntryType::Fifo => 0o010_000,
        EntryType::Regular => 0o100_000,
        EntryType::Symlink => 0o120_000,
        _ => return Err(nonsense("an unknown kind of file")),
    })
}

fn flags(words: &[u8], path: &Path, lost: &mut Lost) -> u32 {
    let mut flags = 0;
    for word in words.split(|&byte| byte == b',').filter(|word| !word.is_empty()) {
        let has = |known: &&(u32, &[&str])| known.1.iter().any(|known| known.as_bytes() == word);
        match sys::FLAG_WORDS.iter().find(has) {
            Some((flag, _)) => flags |= flag,
            None => {
                let word = String::from_utf8_lossy(word);
                lost.note(format!("the flag {}", word.escape_debug()), path);
            }
        }
    }
    flags
}

pub(super) fn nonsense(what: &str) -> StreamError {
    StreamError::Nonsense(what.to_owned())
}

const FLAGS: &str = "SCHILY.fflags";
const LISTS: &[u8] = b"SCHILY.acl.";
/// The kernel's limit for one value (`XATTR_SIZE_MAX`).
const MAX_ATTRIBUTE: usize = 65_536;
/// More than anybody keeps with one file, and held in memory until the file is there.
pub(super) const MAX_TOTAL: usize = 16 << 20;
/// A list of names has at most 64 KiB (`XATTR_LIST_MAX`), and a name at least one byte and its end.
const MAX_ATTRIBUTES: usize = 32_768;

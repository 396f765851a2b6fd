//! Writes what stands before a file's contents in a pax archive: a header of ustar, and before it the records
//! for what has no room in that.

use tar::Header;

use crate::archive::EntryType;
use crate::{BLOCK, record, time};

/// What is said of a file of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// What it is.
    pub kind: EntryType,
    /// Its name; that of a directory ends in a slash.
    pub name: &'a [u8],
    /// What a symbolic link says, or the file that a hard link is another name of.
    pub link: &'a [u8],
    /// The permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// The number of its owner.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// When its contents were changed: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
    /// When it was read.
    pub accessed: (i64, u32),
    /// The numbers of a device, major and minor.
    pub device: (u32, u32),
    /// How many bytes of contents follow, without what they are filled up with.
    pub stored: u64,
    /// The size of a sparse file, whose contents begin with [the list of its ranges](crate::sparse::map()).
    pub sparse: Option<u64>,
}

impl Head<'_> {
    /// The headers of such a file. `more` are records beside those that are needed.
    #[must_use]
    pub fn write(&self, more: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        let mut say = |key: &str, value: &[u8]| record::push(&mut records, key, value);
        if !self.name.is_ascii() || !self.link.is_ascii() {
            // Names are bytes, and mean no characters of anybody's.
            say("hdrcharset", b"BINARY");
        }
        let last = self.name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let stand_in = [b"GNUSparseFile.0/", last].concat();
        let name = if let Some(size) = self.sparse {
            say("GNU.sparse.major", b"1");
            say("GNU.sparse.minor", b"0");
            say("GNU.sparse.name", self.name);
            say("GNU.sparse.realsize", size.to_string().as_bytes());
            &stand_in
        } else {
            self.name
        };
        if name.len() > FIELD || !name.is_ascii() {
            say("path", name);
        }
        if self.link.len() > FIELD || !self.link.is_ascii() {
            say("linkpath", self.link);
        }
        for (key, number) in [("uid", self.uid), ("gid", self.gid)] {
            if number > SHORT {
                say(key, number.to_string().as_bytes());
            }
        }
        if self.stored > LONG {
            say("size", self.stored.to_string().as_bytes());
        }
        let (major, minor) = self.device;
        for (key, number) in [("SCHILY.devmajor", major), ("SCHILY.devminor", minor)] {
            if number > SHORT {
                say(key, number.to_string().as_bytes());
            }
        }
        let (seconds, nanoseconds) = self.modified;
        let whole = u64::try_from(seconds).ok().filter(|seconds| *seconds <= LONG);
        if whole.is_none() || nanoseconds > 0 {
            say("mtime", time::format(seconds, nanoseconds).as_bytes());
        }
        say("atime", time::format(self.accessed.0, self.accessed.1).as_bytes());
        records.extend_from_slice(more);
        let mut out = records_block(EntryType::XHeader, b"PaxHeader", &records);
        let mut header = header(self.kind, name, self.stored);
        put(&mut header.as_old_mut().linkname, self.link);
        header.set_mode(self.mode);
        let short = |number| if number > SHORT { 0 } else { number };
        header.set_uid(short(self.uid).into());
        header.set_gid(short(self.gid).into());
        header.set_mtime(whole.unwrap_or(0));
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.set_device_major(short(major));
            ustar.set_device_minor(short(minor));
        }
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out
    }
}

/// A global extended header: records of the archive as a whole. `name` is shown to nobody.
#[must_use]
pub fn global(name: &[u8], records: &[u8]) -> Vec<u8> {
    records_block(EntryType::XGlobalHeader, name, records)
}

/// How many bytes fill contents of this length up to a whole block.
#[must_use]
pub const fn filling(length: u64) -> u64 {
    length.wrapping_neg() % 512
}

fn records_block(kind: EntryType, name: &[u8], records: &[u8]) -> Vec<u8> {
    let mut header = header(kind, name, u64::try_from(records.len()).unwrap_or(u64::MAX));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(records);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

fn header(kind: EntryType, name: &[u8], size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(if size > LONG { 0 } else { size });
    put(&mut header.as_old_mut().name, name);
    header
}

fn put(field: &mut [u8], value: &[u8]) {
    for (to, from) in field.iter_mut().zip(value) {
        *to = *from;
    }
}

/// Bytes of a name in a header.
const FIELD: usize = 100;
/// The largest numbers of seven and eleven octal digits.
const SHORT: u32 = 0o7_777_777;
const LONG: u64 = 0o77_777_777_777;

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::archive::{Archive, Next};
    use crate::sparse;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            name in proptest::collection::vec(1..=255_u8, 1..400),
            link in proptest::collection::vec(1..=255_u8, 0..400),
            numbers: (u32, u32, u32, u32),
            seconds: i64,
            fraction in 0..1_000_000_000_u32,
            mode in 0..0o10000_u32,
            is_sparse: bool,
        ) {
            let stored = if is_sparse { 512 } else { 0 };
            let head = Head {
                kind: if is_sparse { EntryType::Regular } else { EntryType::Char },
                name: &name,
                link: &link,
                mode,
                uid: numbers.0,
                gid: numbers.1,
                modified: (seconds, fraction),
                accessed: (-seconds.max(-i64::MAX), fraction),
                device: if is_sparse { (0, 0) } else { (numbers.2, numbers.3) },
                stored,
                sparse: is_sparse.then_some(u64::from(numbers.3)),
            };
            let mut more = Vec::new();
            record::push(&mut more, "SCHILY.xattr.user.x", &name);
            let mut bytes = head.write(&more);
            bytes.extend(if is_sparse { sparse::map(&[]) } else { Vec::new() });
            let mut archive = Archive::new(&*bytes, 1 << 16);
            let Next::Entry(entry) = archive.next_entry().unwrap() else { panic!() };
            prop_assert_eq!((entry.name, entry.link), (name.clone(), link.clone()));
            prop_assert_eq!((entry.kind, entry.mode, entry.device), (head.kind, mode, head.device));
            prop_assert_eq!((entry.uid, entry.gid), (head.uid.into(), head.gid.into()));
            prop_assert_eq!((entry.modified, entry.accessed), (head.modified, Some(head.accessed)));
            prop_assert_eq!(entry.size, head.sparse.unwrap_or(0));
            prop_assert!(matches!(archive.next_entry().unwrap(), Next::Nothing));
        }
    }
}

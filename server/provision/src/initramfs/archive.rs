//! Archives that a Linux kernel unpacks into its first root: cpio in the `newc` format (Linux,
//! `Documentation/driver-api/early-userspace/buffer-format.rst`), compressed by gzip.
//!
//! The same files give the same bytes: nothing in an archive tells when or where it was made.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::{Compression, GzBuilder};

/// Files by their paths, without a slash at the beginning.
///
/// Directories come by themselves. A sorted map has each before what is in it, as the kernel needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    Directory,
    File { mode: u32, content: Vec<u8> },
    Link(String),
}

impl Archive {
    /// Adds an empty directory.
    pub(super) fn directory(&mut self, path: &str) {
        self.add(path, Entry::Directory);
    }

    /// Adds a file that is only read.
    pub(super) fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.add(path, Entry::File { mode: 0o644, content: content.into() });
    }

    /// Adds a file that is run.
    pub(super) fn program(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.add(path, Entry::File { mode: 0o755, content: content.into() });
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.add(path, Entry::Link(target.to_owned()));
    }

    /// The archive's bytes.
    ///
    /// Fails if a file has 4 GiB or more, which the format cannot say.
    pub(super) fn pack(&self) -> io::Result<Vec<u8>> {
        // Without a time and a name, and with `unknown` as the system (RFC 1952 §2.3.1).
        let mut out = GzBuilder::new().operating_system(255).write(Vec::new(), Compression::best());
        let mut number = 0;
        for (path, entry) in &self.entries {
            number += 1;
            let (mode, content) = match entry {
                Entry::Directory => (0o040_755, &[] as &[u8]),
                Entry::File { mode, content } => (0o100_000 | mode, content.as_slice()),
                Entry::Link(target) => (0o120_777, target.as_bytes()),
            };
            record(&mut out, number, mode, path, content)?;
        }
        record(&mut out, 0, 0, "TRAILER!!!", &[])?;
        out.finish()
    }

    fn add(&mut self, path: &str, entry: Entry) {
        for (end, _) in path.match_indices('/') {
            let parent = path.get(..end).unwrap_or(path).to_owned();
            self.entries.entry(parent).or_insert(Entry::Directory);
        }
        self.entries.insert(path.to_owned(), entry);
    }
}

fn record(
    out: &mut impl Write,
    number: u32,
    mode: u32,
    path: &str,
    content: &[u8],
) -> io::Result<()> {
    let size = |len: usize| u32::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge);
    let (name, length) = (size(path.len() + 1)?, size(content.len())?);
    // c_ino mode uid gid nlink mtime filesize maj min rmaj rmin namesize chksum
    let fields = [number, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name, 0];
    out.write_all(b"070701")?;
    for field in fields {
        write!(out, "{field:08X}")?;
    }
    out.write_all(path.as_bytes())?;
    // The head of 110 bytes and the name with its NUL end at a multiple of four; so do the contents.
    let padding = |len: usize| [0; 4].into_iter().take(len.next_multiple_of(4) - len);
    let end: Vec<u8> = [0].into_iter().chain(padding(110 + path.len() + 1)).collect();
    out.write_all(&end)?;
    out.write_all(content)?;
    let end: Vec<u8> = padding(content.len()).collect();
    out.write_all(&end)
}

#[cfg(test)]
mod test {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn sample() -> Archive {
        let mut archive = Archive::default();
        archive.program("bin/odd", b"seven b");
        archive.link("init", "bin/odd");
        archive.directory("proc");
        archive
    }

    fn plain(archive: &Archive) -> Vec<u8> {
        let mut bytes = Vec::new();
        let packed = archive.pack().unwrap();
        GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// The records of an archive, as the kernel reads them: mode, name and contents.
    fn records(bytes: &[u8]) -> Vec<(u32, String, Vec<u8>)> {
        let mut rest = bytes;
        let mut found = Vec::new();
        loop {
            assert_eq!(&rest[..6], b"070701");
            let field = |index: usize| {
                let digits = std::str::from_utf8(&rest[6 + 8 * index..][..8]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name) = (field(1), field(6) as usize, field(11) as usize);
            let text = String::from_utf8(rest[110..110 + name - 1].to_vec()).unwrap();
            let begin = (110 + name).next_multiple_of(4);
            let content = rest[begin..begin + size].to_vec();
            rest = &rest[(begin + size).next_multiple_of(4)..];
            if text == "TRAILER!!!" {
                assert!(rest.is_empty());
                return found;
            }
            found.push((mode, text, content));
        }
    }

    #[test]
    fn what_goes_in_comes_out_with_its_directories_first() {
        let found = records(&plain(&sample()));
        let expected: [(u32, &str, &[u8]); 4] = [
            (0o040_755, "bin", b""),
            (0o100_755, "bin/odd", b"seven b"),
            (0o120_777, "init", b"bin/odd"),
            (0o040_755, "proc", b""),
        ];
        let expected = expected.map(|(mode, name, content)| (mode, name.into(), content.to_vec()));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let mut other = Archive::default();
        other.directory("proc");
        other.link("init", "bin/odd");
        other.program("bin/odd", b"seven b");
        assert_eq!(sample().pack().unwrap(), other.pack().unwrap());
    }
}

use proptest::prelude::*;
use tar::Builder;

use super::*;

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o4755);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_000_000_000);
    header
}

fn archive(records: &[(&str, &[u8])], kind: EntryType, name: &str, data: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    if !records.is_empty() {
        builder.append_pax_extensions(records.iter().copied()).unwrap();
    }
    let mut header = header(kind, data.len().try_into().unwrap());
    header.set_path(name).unwrap();
    header.set_cksum();
    builder.append(&header, data).unwrap();
    builder.into_inner().unwrap()
}

fn first(bytes: &[u8]) -> io::Result<(Box<Entry>, Vec<u8>)> {
    let mut archive = Archive::new(bytes, 1 << 20);
    let Next::Entry(entry) = archive.next_entry()? else { return Err(cut()) };
    let mut content = Vec::new();
    archive.read_to_end(&mut content)?;
    match archive.next_entry()? {
        Next::End => Ok((entry, content)),
        Next::Entry(_) | Next::Nothing => Err(cut()),
    }
}

#[test]
fn a_header_says_what_records_do_not() {
    let (entry, content) = first(&archive(&[], EntryType::Regular, "bin/su", b"su")).unwrap();
    assert_eq!((entry.name.as_slice(), content.as_slice()), (&b"bin/su"[..], &b"su"[..]));
    assert_eq!((entry.mode, entry.uid, entry.gid, entry.size), (0o4755, 7, 8, 2));
    assert_eq!((entry.modified, entry.accessed), ((1_000_000_000, 0), None));
    let long = "n\n".repeat(150);
    let records: [(&str, &[u8]); 7] = [
        ("comment", b"a\n17 path=nowhere\n"),
        ("path", long.as_bytes()),
        ("uid", b"4294967294"),
        ("mtime", b"-1.25"),
        ("atime", b"0.5"),
        ("size", b"2"),
        ("SCHILY.xattr.user.x", b"\n\0="),
    ];
    let (entry, _) = first(&archive(&records, EntryType::Regular, "short", b"su")).unwrap();
    assert_eq!((entry.name.as_slice(), entry.uid), (long.as_bytes(), 4_294_967_294));
    assert_eq!((entry.modified, entry.accessed), ((-2, 750_000_000), Some((0, 500_000_000))));
    let found: Vec<_> = entry.records().map(Result::unwrap).collect();
    assert_eq!(found, records.map(|(key, value)| (key.as_bytes(), value)));
}

#[test]
fn a_sparse_file_is_its_ranges_and_their_data() {
    let data = [&sparse::map(&[(512, 3), (8 << 30, 0)])[..], b"abc"].concat();
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"disk"),
        ("GNU.sparse.realsize", b"8589934592"),
    ];
    let (entry, content) = first(&archive(&records, EntryType::Regular, "x/disk", &data)).unwrap();
    assert_eq!((entry.name.as_slice(), entry.size), (&b"disk"[..], 8 << 30));
    assert_eq!(entry.ranges.unwrap(), [(512, 3), (8 << 30, 0)]);
    assert_eq!(content, b"abc");
    let short = [&sparse::map(&[(0, 4)])[..], b"abc"].concat();
    first(&archive(&records, EntryType::Regular, "x/disk", &short)).unwrap_err();
    let old: [(&str, &[u8]); 1] = [("GNU.sparse.map", b"0,1")];
    let error = first(&archive(&old, EntryType::Regular, "disk", b"x")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
}

#[test]
fn numbers_are_octal_or_binary() {
    assert_eq!(number(b"0000644\0").unwrap(), 0o644);
    assert_eq!(number(b"  644 \0 ").unwrap(), 0o644);
    assert_eq!(number(b"\0\0\0\0").unwrap(), 0);
    assert_eq!(number(b"\x80\0\0\0\x01\0\0\0").unwrap(), 1 << 24);
    assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe").unwrap(), u64::MAX - 1);
    assert!(number(b"9").is_err() && number(b"+7").is_err() && number(b"-7").is_err());
}

#[test]
fn a_claim_allocates_nothing() {
    let mut builder = Builder::new(Vec::new());
    let mut claim = header(EntryType::XHeader, u64::MAX >> 2);
    claim.set_cksum();
    builder.append(&claim, &b""[..]).unwrap();
    let error = first(&builder.into_inner().unwrap()).unwrap_err();
    assert!(error.to_string().contains("larger than any"), "{error}");
    let many: [(&str, &[u8]); 1] = [("comment", &[b'x'; 2 << 20])];
    let error = first(&archive(&many, EntryType::Regular, "a", b"")).unwrap_err();
    assert!(error.to_string().contains("larger than any"), "{error}");
}

#[test]
fn a_cut_is_told_from_an_end() {
    let whole = archive(&[("path", b"b")], EntryType::Regular, "a", b"content");
    for end in 0..whole.len() - BLOCK {
        let mut archive = Archive::new(&whole[..end], 1 << 20);
        let ended = match archive.next_entry() {
            Ok(Next::Entry(_)) => archive.next_entry(),
            other => other,
        };
        match (end, ended) {
            (0, Ok(Next::Nothing)) => {}
            (at, Ok(Next::Nothing)) => assert_eq!(at, whole.len() - 2 * BLOCK),
            (at, Ok(Next::End)) => assert!(at >= whole.len() - BLOCK, "{at}"),
            (_, Err(error)) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof),
            (at, Ok(Next::Entry(_))) => panic!("an entry at {at}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn damage_is_an_error_or_another_archive(at: usize, byte: u8, kind in 0..8_usize) {
        let kinds = [b'0', b'1', b'2', b'5', b'S', b'g', b'x', b'L'];
        let map = [&sparse::map(&[(0, 3), (9, 0)])[..], b"abc"].concat();
        let records: [(&str, &[u8]); 3] =
            [("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9"), ("mtime", b"1.5")];
        let mut bytes = archive(&records, EntryType::new(kinds[kind]), "file", &map);
        let at = at % bytes.len();
        bytes[at] = byte;
        // Whoever is up to no good sets the checksum right.
        let start = at / BLOCK * BLOCK;
        let mut block = Header::from_byte_slice(&bytes[start..start + BLOCK]).clone();
        if !at.is_multiple_of(3) {
            block.set_cksum();
            bytes[start..start + BLOCK].copy_from_slice(block.as_bytes());
        }
        let mut archive = Archive::new(&*bytes, 1 << 16);
        while let Ok(Next::Entry(entry)) = archive.next_entry() {
            if let Some(ranges) = entry.ranges {
                prop_assert!(ranges.iter().all(|(start, length)| start + length <= entry.size));
            }
        }
    }
}

#[test]
fn a_hard_link_may_have_contents_or_only_their_size() {
    let file = archive(&[], EntryType::Regular, "file", b"0");
    let names = |link: &[u8]| -> Vec<Vec<u8>> {
        let bytes = [link, &file].concat();
        let mut archive = Archive::new(bytes.as_slice(), 1 << 20);
        let mut names = Vec::new();
        while let Next::Entry(entry) = archive.next_entry().unwrap() {
            names.push(entry.name);
        }
        names
    };
    let whole = archive(&[("mtime", b"1.5")], EntryType::Link, "link", &[b'x'; 700]);
    // Without the end of the archive.
    let whole = &whole[..whole.len() - 2 * BLOCK];
    assert_eq!(names(whole), [b"link", b"file"]);
    assert_eq!(names(&whole[..whole.len() - 2 * BLOCK]), [b"link", b"file"]);
}

#[test]
fn headers_that_say_nothing_have_an_end() {
    let mut empty = header(EntryType::XHeader, 0);
    empty.set_cksum();
    let mut ranges = header(EntryType::GNUSparse, 0);
    ranges.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
    ranges.as_gnu_mut().unwrap().isextended[0] = 1;
    ranges.as_gnu_mut().unwrap().realsize[0] = b'0';
    ranges.set_cksum();
    let mut more = [0; BLOCK];
    more[21 * 24] = 1;
    for (first, again) in [(empty.as_bytes(), empty.as_bytes()), (ranges.as_bytes(), &more)] {
        // A hundred million of them would take long.
        let endless = first.chain(Repeated(again, 0).take(100 << 20));
        let error = Archive::new(endless, 1 << 20).next_entry().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other, "{error}");
        assert!(error.to_string().contains("headers") || error.to_string().contains("ranges"));
    }
}

/// The same bytes for ever.
struct Repeated<'a>(&'a [u8], usize);

impl Read for Repeated<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        for byte in into.iter_mut() {
            *byte = self.0[self.1 % self.0.len()];
            self.1 += 1;
        }
        Ok(into.len())
    }
}

//! Streams taken apart and put together again, as by a sender who is up to no good: every checksum is
//! right, since whoever may send can reckon it.

use std::hash::Hasher;

use pax::header::global;
use pax::record::{self, Records};
use siphasher::sip128::{Hasher128, SipHasher24};

/// The header of a stream of `netbe send`, and the back end's own bytes.
pub(crate) fn apart(stream: &[u8]) -> (String, Vec<u8>) {
    if let Some(archive) = stream.strip_prefix(ARCHIVE) {
        assert!(!archive.is_empty());
        let size = str::from_utf8(&stream[124..135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        let (_, header) = Records::new(&stream[512..512 + size]).next().unwrap().unwrap();
        let payload = &stream[512 + size.next_multiple_of(512)..stream.len() - 2048];
        return (str::from_utf8(header).unwrap().to_owned(), payload.to_vec());
    }
    let mut rest = stream.strip_prefix(MAGIC).unwrap();
    let mut chunks = Vec::new();
    while let Some((len, more)) = rest.split_first_chunk() {
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap();
        let (chunk, more) = more.split_at(len);
        chunks.push(chunk);
        rest = &more[16..];
    }
    (String::from_utf8(chunks[0].to_vec()).unwrap(), chunks[1..].concat())
}

/// A stream with this header and these bytes.
pub(crate) fn together(header: &str, bytes: &[u8]) -> Vec<u8> {
    if header.contains("format = \"pax\"") {
        return archive(header, bytes);
    }
    let mut hasher = SipHasher24::new_with_key(KEY);
    let mut stream = MAGIC.to_vec();
    let chunks = std::iter::once(header.as_bytes()).chain(bytes.chunks(256 << 10));
    for chunk in chunks.chain([&[][..]]) {
        let len = u32::try_from(chunk.len()).unwrap().to_be_bytes();
        hasher.write(&len);
        hasher.write(chunk);
        stream.extend(len);
        stream.extend(chunk);
        stream.extend(hasher.finish128().as_bytes());
    }
    stream
}

fn archive(header: &str, bytes: &[u8]) -> Vec<u8> {
    let sum = |bytes: &[u8]| -> String {
        let mut hasher = SipHasher24::new_with_key(KEY);
        hasher.write(bytes);
        hasher.finish128().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let mut records = Vec::new();
    record::push(&mut records, "NETBE.header", header);
    record::push(&mut records, "NETBE.sum", sum(header.as_bytes()));
    let mut stream = global(ARCHIVE, &records);
    stream.extend(bytes);
    let mut records = Vec::new();
    record::push(&mut records, "NETBE.sum", sum(&stream));
    stream.extend(global(b"netbe end", &records));
    stream.extend([0; 1024]);
    stream
}

const KEY: &[u8; 16] = b"netbe stream sum";
const MAGIC: &[u8] = b"netbe stream 1\n";
const ARCHIVE: &[u8] = b"netbe stream 2\0";

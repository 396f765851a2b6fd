//! Streams taken apart and put together again, as by a sender who is up to no good: every checksum is
//! right, since whoever may send can reckon it.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

/// The header of a stream of `netbe send`, and the back end's own bytes.
pub(crate) fn apart(stream: &[u8]) -> (String, Vec<u8>) {
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
    let mut hasher = SipHasher24::new_with_key(b"netbe stream sum");
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

const MAGIC: &[u8] = b"netbe stream 1\n";

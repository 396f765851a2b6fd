//! Modules and firmware as distributions store them: plain, or compressed by gzip, xz or zstd.
//!
//! They are unpacked here, because busybox loads only plain ones everywhere, and because the whole
//! RAM disk is compressed anyway.

use std::io::{self, Read};

/// The endings of compressed files, and of a plain one.
pub(super) const ENDINGS: [&str; 4] = ["", ".xz", ".zst", ".gz"];

/// The file's contents, of at most `max` bytes, by what its name ends in.
pub(super) fn unpack(name: &str, bytes: Vec<u8>, max: usize) -> io::Result<Vec<u8>> {
    if name.ends_with(".gz") {
        limited(flate2::read::MultiGzDecoder::new(bytes.as_slice()), max)
    } else if name.ends_with(".xz") {
        // Kernels are built with dictionaries of up to 32 MiB; a file that claims more is refused.
        limited(lzma_rust2::XzReader::new_mem_limit(bytes.as_slice(), true, 64 * 1024), max)
    } else if name.ends_with(".zst") {
        let mut source = bytes.as_slice();
        let decoder = ruzstd::decoding::StreamingDecoder::new(&mut source);
        limited(decoder.map_err(io::Error::other)?, max)
    } else if bytes.len() > max {
        Err(io::ErrorKind::FileTooLarge.into())
    } else {
        Ok(bytes)
    }
}

fn limited(source: impl Read, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    source.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod test {
    use hex_literal::hex;

    use super::*;

    /// `printf netbe | xz --check=crc32 -c`, as the kernel's build does it.
    const XZ: &[u8] = &hex!(
        "fd377a585a0000016922de360200210116000000742fe5a30100046e65746265000000007e6533d500011905bce8eccb9042990d010000000001595a"
    );
    /// `printf netbe | zstd -c`
    const ZST: &[u8] = &hex!("28b52ffd04582900006e657462654fb2a126");
    /// `printf netbe | gzip -nc`
    const GZ: &[u8] = &hex!("1f8b0800000000000003cb4b2d494a05007e6533d505000000");

    #[test]
    fn what_a_distribution_packed_is_unpacked() {
        for (name, bytes) in [("a.ko.xz", XZ), ("a.ko.zst", ZST), ("a.ko.gz", GZ), ("a", b"netbe")]
        {
            assert_eq!(unpack(name, bytes.to_vec(), 5).unwrap(), b"netbe", "{name}");
        }
    }

    #[test]
    fn nothing_is_unpacked_past_the_limit() {
        for (name, bytes) in [("a.ko.xz", XZ), ("a.ko.zst", ZST), ("a.ko.gz", GZ), ("a", b"netbe")]
        {
            let error = unpack(name, bytes.to_vec(), 4).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{name}");
        }
    }

    #[test]
    fn what_is_cut_is_an_error() {
        for (name, bytes) in [("a.ko.xz", XZ), ("a.ko.zst", ZST), ("a.ko.gz", GZ)] {
            let half = bytes[..bytes.len() / 2].to_vec();
            assert!(unpack(name, half, 100).is_err(), "{name}");
            assert!(unpack(name, b"garbage".to_vec(), 100).is_err(), "{name}");
        }
    }
}

//! Archives as they are packed: plain, or by gzip, xz or zstd, told apart by their first bytes.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// Whether a file that begins so is packed.
pub(crate) fn is_packed(start: &[u8]) -> bool {
    [GZIP, XZ, ZSTD, BZIP2].iter().any(|magic| start.starts_with(magic))
}

/// Reads what is in a packed file.
///
/// Fails with [`io::ErrorKind::Unsupported`] where it is packed in another way.
pub(crate) fn unpack<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(BUFFER, source);
    let start = source.fill_buf()?;
    if start.starts_with(GZIP) {
        return Ok(Box::new(MultiGzDecoder::new(source)));
    }
    if start.starts_with(XZ) {
        return Ok(Box::new(XzReader::new_mem_limit(source, true, XZ_MEMORY)));
    }
    if start.starts_with(ZSTD) {
        return Ok(Box::new(Frames { source: Some(Source::Between(source)) }));
    }
    if start.starts_with(BZIP2) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "it is compressed with bzip2: compress it with gzip, xz or zstd",
        ));
    }
    Ok(Box::new(source))
}

/// The frames of zstd, of which a file may have several.
struct Frames<R: BufRead> {
    source: Option<Source<R>>,
}

enum Source<R: BufRead> {
    Between(R),
    Within(Box<StreamingDecoder<R, FrameDecoder>>),
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.source.take() {
                None => return Ok(0),
                Some(Source::Between(mut rest)) => {
                    if rest.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    let frame = StreamingDecoder::new(rest).map_err(io::Error::other)?;
                    self.source = Some(Source::Within(Box::new(frame)));
                }
                Some(Source::Within(mut frame)) => {
                    let read = frame.read(into)?;
                    if read > 0 || into.is_empty() {
                        self.source = Some(Source::Within(frame));
                        return Ok(read);
                    }
                    self.source = Some(Source::Between(frame.into_inner()));
                }
            }
        }
    }
}

const GZIP: &[u8] = b"\x1f\x8b";
const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
const BZIP2: &[u8] = b"BZh";
const BUFFER: usize = 256 << 10;
/// In KiB: `xz -9` needs 65 MiB to unpack.
const XZ_MEMORY: u32 = 256 << 10;

#[cfg(test)]
mod test {
    use std::io::Write;

    use hex_literal::hex;

    use super::*;

    /// `printf netbe | zstd -c`
    const ZST: &[u8] = &hex!("28b52ffd04582900006e657462654fb2a126");

    fn whole(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        unpack(bytes)?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn every_frame_of_a_file_is_read() {
        assert_eq!(whole(&[ZST, ZST].concat()).unwrap(), b"netbenetbe");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"netbe").unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(whole(&[gzip.as_slice(), &gzip].concat()).unwrap(), b"netbenetbe");
        assert_eq!(whole(b"netbe").unwrap(), b"netbe");
    }

    #[test]
    fn what_is_cut_is_an_error() {
        assert!(whole(&[ZST, &ZST[..9]].concat()).is_err());
        assert_eq!(whole(b"BZh9").unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}

//! Trivial File Transfer Protocol (RFC 1350) with options (RFC 2347, 2348, 2349, 7440).
//!
//! Requests are parsed leniently, because what sends them is burnt into ROMs: the mode in any
//! case, repeated NULs, an option without a value and trailing junk are tolerated. Values are read
//! strictly: an option whose value the RFC does not allow counts as not asked for.

use std::borrow::Cow;

/// A packet, its parts borrowed from the datagram.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Packet<'a> {
    /// `RRQ`: asks for a file.
    Rrq(Request<'a>),
    /// `WRQ`: offers a file.
    Wrq(Request<'a>),
    /// `DATA`: one block of a file.
    Data {
        /// The block's number; the first is 1, and 0 follows 65535.
        block: u16,
        /// The block; shorter than the block size if it is the last.
        data: &'a [u8],
    },
    /// `ACK`: everything up to this block has come; 0 answers an OACK.
    Ack {
        /// The block's number.
        block: u16,
    },
    /// `ERROR`: ends the transfer.
    Error {
        /// Why.
        code: ErrorCode,
        /// Why, in words, without the NUL.
        message: Cow<'a, [u8]>,
    },
    /// `OACK`: the options that are in force (RFC 2347).
    Oack(Options),
}

impl<'a> Packet<'a> {
    /// Decodes a datagram.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the opcode is unknown or a fixed part is missing.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let (opcode, rest) = take_u16(datagram)?;
        match opcode {
            RRQ => Ok(Self::Rrq(Request::decode(rest)?)),
            WRQ => Ok(Self::Wrq(Request::decode(rest)?)),
            DATA => {
                let (block, data) = take_u16(rest)?;
                Ok(Self::Data { block, data })
            }
            ACK => {
                // Bytes after the number are ignored: some ROMs send a whole Ethernet minimum.
                let (block, _junk) = take_u16(rest)?;
                Ok(Self::Ack { block })
            }
            ERROR => {
                let (code, rest) = take_u16(rest)?;
                let message = rest.split(|&byte| byte == 0).next().unwrap_or_default();
                Ok(Self::Error { code: ErrorCode(code), message: Cow::Borrowed(message) })
            }
            OACK => Ok(Self::Oack(Options::decode(strings(rest)))),
            unknown => Err(DecodeError::Opcode(unknown)),
        }
    }

    /// Appends the packet to `out`.
    ///
    /// A NUL inside a file name or a message ends it there for the receiver.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Rrq(request) => request.encode(RRQ, out),
            Self::Wrq(request) => request.encode(WRQ, out),
            Self::Data { block, data } => {
                out.extend_from_slice(&data_header(*block));
                out.extend_from_slice(data);
            }
            Self::Ack { block } => {
                out.extend_from_slice(&ACK.to_be_bytes());
                out.extend_from_slice(&block.to_be_bytes());
            }
            Self::Error { code, message } => {
                out.extend_from_slice(&ERROR.to_be_bytes());
                out.extend_from_slice(&code.0.to_be_bytes());
                out.extend_from_slice(message);
                out.push(0);
            }
            Self::Oack(options) => {
                out.extend_from_slice(&OACK.to_be_bytes());
                options.encode(out);
            }
        }
    }
}

/// The four bytes that stand before a block in a `DATA` packet.
#[must_use]
pub const fn data_header(block: u16) -> [u8; DATA_HEADER_LEN] {
    let [a, b] = DATA.to_be_bytes();
    let [c, d] = block.to_be_bytes();
    [a, b, c, d]
}

/// What `RRQ` and `WRQ` say.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Request<'a> {
    /// The file's name: bytes in no particular encoding.
    pub file: Cow<'a, [u8]>,
    /// How the bytes are to be sent.
    pub mode: Mode,
    /// The options asked for.
    pub options: Options,
}

impl<'a> Request<'a> {
    fn decode(rest: &'a [u8]) -> Result<Self, DecodeError> {
        let mut strings = strings(rest);
        let file = strings.next().ok_or(DecodeError::Truncated)?;
        // ROMs have been seen to pad the name with NULs before the mode.
        let mode = strings.find(|text| !text.is_empty()).ok_or(DecodeError::Truncated)?;
        let mode = Mode::decode(mode);
        Ok(Self { file: Cow::Borrowed(file), mode, options: Options::decode(strings) })
    }

    fn encode(&self, opcode: u16, out: &mut Vec<u8>) {
        out.extend_from_slice(&opcode.to_be_bytes());
        out.extend_from_slice(&self.file);
        out.push(0);
        out.extend_from_slice(self.mode.name());
        out.push(0);
        self.options.encode(out);
    }

    /// The request with a copy of its name, for keeping.
    #[must_use]
    pub fn into_owned(self) -> Request<'static> {
        let Self { file, mode, options } = self;
        Request { file: Cow::Owned(file.into_owned()), mode, options }
    }
}

/// How the bytes of a file are sent (RFC 1350 §1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mode {
    /// `mail`: to a user instead of a file; obsolete.
    Mail,
    /// `netascii`: text, its line ends rewritten.
    Netascii,
    /// `octet`: as they are.
    Octet,
    /// A word that the RFC does not know.
    Unknown,
}

impl Mode {
    fn decode(name: &[u8]) -> Self {
        let is = |mode: &Self| name.eq_ignore_ascii_case(mode.name());
        [Self::Mail, Self::Netascii, Self::Octet].into_iter().find(is).unwrap_or(Self::Unknown)
    }

    const fn name(self) -> &'static [u8] {
        match self {
            Self::Mail => b"mail",
            Self::Netascii => b"netascii",
            Self::Octet => b"octet",
            Self::Unknown => b"unknown",
        }
    }
}

/// The options that we know, as asked for in a request or as granted in an `OACK`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Options {
    /// `blksize`: bytes in a block, 8 to 65464 (RFC 2348).
    pub blksize: Option<u16>,
    /// `timeout`: seconds before a retransmission, 1 to 255 (RFC 2349).
    pub timeout: Option<u8>,
    /// `tsize`: the file's length in bytes; 0 asks for it (RFC 2349).
    pub tsize: Option<u64>,
    /// `windowsize`: blocks that are sent before an ACK is awaited, 1 to 65535 (RFC 7440).
    pub windowsize: Option<u16>,
}

impl Options {
    /// Whether there are none, so that no `OACK` may be sent.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.blksize.is_none()
            && self.timeout.is_none()
            && self.tsize.is_none()
            && self.windowsize.is_none()
    }

    /// Looks for known names and takes the value that follows each.
    ///
    /// Unknown options need no rule: neither their names nor their values are known names. The
    /// first of two options of one name counts (RFC 2347: an option may be given once).
    fn decode<'a>(strings: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut options = Self::default();
        let mut strings = strings.filter(|text| !text.is_empty()).peekable();
        while let Some(name) = strings.next() {
            let Some(value) = strings.peek().copied().and_then(number) else { continue };
            if name.eq_ignore_ascii_case(BLKSIZE) {
                let blksize = u16::try_from(value).ok();
                let blksize = blksize.filter(|size| (BLKSIZE_MIN..=BLKSIZE_MAX).contains(size));
                options.blksize = options.blksize.or(blksize);
            } else if name.eq_ignore_ascii_case(TIMEOUT) {
                let timeout = u8::try_from(value).ok().filter(|&seconds| seconds > 0);
                options.timeout = options.timeout.or(timeout);
            } else if name.eq_ignore_ascii_case(TSIZE) {
                options.tsize = options.tsize.or(Some(value));
            } else if name.eq_ignore_ascii_case(WINDOWSIZE) {
                let windowsize = u16::try_from(value).ok().filter(|&blocks| blocks > 0);
                options.windowsize = options.windowsize.or(windowsize);
            }
        }
        options
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let values = [
            (BLKSIZE, self.blksize.map(u64::from)),
            (TIMEOUT, self.timeout.map(u64::from)),
            (TSIZE, self.tsize),
            (WINDOWSIZE, self.windowsize.map(u64::from)),
        ];
        for (name, value) in values {
            let Some(value) = value else { continue };
            out.extend_from_slice(name);
            out.push(0);
            out.extend_from_slice(value.to_string().as_bytes());
            out.push(0);
        }
    }
}

/// Why a transfer ends (RFC 1350 appendix, RFC 2347).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// Not defined, see the message. FreeBSD's loader takes it for success and opens a directory.
    pub const NOT_DEFINED: Self = Self(0);
    /// File not found.
    pub const FILE_NOT_FOUND: Self = Self(1);
    /// Access violation.
    pub const ACCESS_VIOLATION: Self = Self(2);
    /// Disk full or allocation exceeded.
    pub const ALLOCATION_EXCEEDED: Self = Self(3);
    /// Illegal TFTP operation.
    pub const ILLEGAL_OPERATION: Self = Self(4);
    /// Unknown transfer ID.
    pub const UNKNOWN_TRANSFER_ID: Self = Self(5);
    /// The options are not acceptable (RFC 2347); what PXE ROMs say when a size was all they wanted.
    pub const OPTION_NEGOTIATION: Self = Self(8);
}

/// Why a datagram is not a TFTP packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The opcode is none of the RFC's.
    #[error("unknown opcode {0}")]
    Opcode(u16),
    /// The packet ends before its fixed parts do.
    #[error("unexpected end of the packet")]
    Truncated,
}

fn take_u16(bytes: &[u8]) -> Result<(u16, &[u8]), DecodeError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(DecodeError::Truncated)?;
    Ok((u16::from_be_bytes(*head), rest))
}

/// The strings in `bytes`, each ended by a NUL; the last one may lack it.
fn strings(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let is_some = !bytes.is_empty();
    bytes.split(|&byte| byte == 0).filter(move |_| is_some)
}

/// Decimal digits and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// Bytes before the data in a `DATA` packet.
pub const DATA_HEADER_LEN: usize = 4;

/// The block size where none was agreed upon (RFC 1350 §2).
pub const DEFAULT_BLKSIZE: u16 = 512;

/// The smallest block size (RFC 2348).
pub const BLKSIZE_MIN: u16 = 8;

/// The largest block size (RFC 2348).
pub const BLKSIZE_MAX: u16 = 65464;

const RRQ: u16 = 0x01;
const WRQ: u16 = 0x02;
const DATA: u16 = 0x03;
const ACK: u16 = 0x04;
const ERROR: u16 = 0x05;
const OACK: u16 = 0x06;

const BLKSIZE: &[u8] = b"blksize";
const TIMEOUT: &[u8] = b"timeout";
const TSIZE: &[u8] = b"tsize";
const WINDOWSIZE: &[u8] = b"windowsize";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;

    fn rrq(datagram: &[u8]) -> Request<'_> {
        match Packet::decode(datagram) {
            Ok(Packet::Rrq(request)) => request,
            other => panic!("not a request: {other:?}"),
        }
    }

    #[test]
    fn a_rom_s_request_is_read() {
        let request =
            rrq(b"\0\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0");
        assert_eq!(request.file, &b"snponly.efi"[..]);
        assert_eq!(request.mode, Mode::Octet);
        let options = Options {
            blksize: Some(1468),
            tsize: Some(0),
            windowsize: Some(4),
            ..Options::default()
        };
        assert_eq!(request.options, options);
    }

    #[test]
    fn the_mode_is_read_in_any_case() {
        assert_eq!(rrq(b"\0\x01f\0OcTeT\0").mode, Mode::Octet);
        assert_eq!(rrq(b"\0\x01f\0NETASCII\0").mode, Mode::Netascii);
        assert_eq!(rrq(b"\0\x01f\0Mail\0").mode, Mode::Mail);
        assert_eq!(rrq(b"\0\x01f\0binary\0").mode, Mode::Unknown);
    }

    #[test]
    fn repeated_nuls_and_a_trailing_word_lose_no_option() {
        let request = rrq(b"\0\x01f\0\0\0octet\0\0\0blksize\0\x001428\0\0tsize\x000\0junk\0\0");
        assert_eq!(request.options.blksize, Some(1428));
        assert_eq!(request.options.tsize, Some(0));
    }

    #[test]
    fn an_option_without_value_does_not_swallow_the_next() {
        let request = rrq(b"\0\x01f\0octet\0multicast\0\0tsize\0blksize\x001428\0");
        assert_eq!(request.options, Options { blksize: Some(1428), ..Options::default() });
    }

    #[test]
    fn the_last_nul_may_be_missing() {
        assert_eq!(rrq(b"\0\x01f\0octet").mode, Mode::Octet);
        assert_eq!(rrq(b"\0\x01f\0octet\0tsize\x000").options.tsize, Some(0));
    }

    #[test]
    fn a_request_without_mode_is_truncated() {
        assert_eq!(Packet::decode(b"\0\x01f\0"), Err(DecodeError::Truncated));
        assert_eq!(Packet::decode(b"\0\x01"), Err(DecodeError::Truncated));
        assert_eq!(Packet::decode(b"\0"), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_name_is_bytes() {
        assert_eq!(rrq(b"\0\x01b\xf6ot\0octet\0").file, &b"b\xf6ot"[..]);
    }

    #[test]
    fn values_that_the_rfc_does_not_allow_count_as_not_asked() {
        for value in ["7", "65465", "70000", "-1", "+512", "0x200", "99999999999999999999", " 512"]
        {
            let datagram = format!("\0\x01f\0octet\0blksize\0{value}\0");
            assert_eq!(rrq(datagram.as_bytes()).options, Options::default(), "{value}");
        }
        assert_eq!(rrq(b"\0\x01f\0octet\0timeout\x000\0").options.timeout, None);
        assert_eq!(rrq(b"\0\x01f\0octet\0timeout\x00256\0").options.timeout, None);
        assert_eq!(rrq(b"\0\x01f\0octet\0windowsize\x000\0").options.windowsize, None);
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        assert_eq!(rrq(b"\0\x01f\0octet\0blksize\x008\0").options.blksize, Some(8));
        assert_eq!(rrq(b"\0\x01f\0octet\0blksize\x0065464\0").options.blksize, Some(65464));
        assert_eq!(rrq(b"\0\x01f\0octet\0TIMEOUT\x00255\0").options.timeout, Some(255));
        assert_eq!(rrq(b"\0\x01f\0octet\0windowsize\x0065535\0").options.windowsize, Some(65535));
    }

    #[test]
    fn the_first_of_two_equal_options_counts() {
        assert_eq!(
            rrq(b"\0\x01f\0octet\0blksize\x0010\0blksize\x0020\0").options.blksize,
            Some(10)
        );
    }

    #[test]
    fn an_error_without_nul_is_read() {
        let error = Packet::decode(b"\0\x05\0\x08User aborted").unwrap();
        let message = Cow::Borrowed(&b"User aborted"[..]);
        assert_eq!(error, Packet::Error { code: ErrorCode::OPTION_NEGOTIATION, message });
    }

    #[test]
    fn an_ack_may_be_padded() {
        assert_eq!(Packet::decode(b"\0\x04\xff\xff\0\0\0"), Ok(Packet::Ack { block: 65535 }));
    }

    #[test]
    fn an_oack_says_only_what_is_set() {
        let mut out = Vec::new();
        let options = Options { blksize: Some(1428), tsize: Some(1 << 33), ..Options::default() };
        Packet::Oack(options).encode(&mut out);
        assert_eq!(out, b"\0\x06blksize\x001428\0tsize\x008589934592\0");
    }

    #[test]
    fn an_error_ends_in_a_nul() {
        let mut out = Vec::new();
        let message = Cow::Borrowed(&b"no"[..]);
        Packet::Error { code: ErrorCode::FILE_NOT_FOUND, message }.encode(&mut out);
        assert_eq!(out, b"\0\x05\0\x01no\0");
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(datagram in prop::collection::vec(any::<u8>(), 0..1500)) {
            if let Ok(packet) = Packet::decode(&datagram) {
                let mut first = Vec::new();
                packet.encode(&mut first);
                let again = Packet::decode(&first);
                prop_assert_eq!(again.as_ref(), Ok(&packet));
            }
        }

        #[test]
        fn request_like_bytes_decode_or_fail(
            words in prop::collection::vec("(blksize|tsize|timeout|windowsize|[0-9]{0,6}|[a-z]{0,4})", 0..12),
        ) {
            let datagram = format!("\0\x01{}", words.join("\0"));
            if let Ok(packet) = Packet::decode(datagram.as_bytes()) {
                let mut first = Vec::new();
                packet.encode(&mut first);
                prop_assert_eq!(Packet::decode(&first), Ok(packet));
            }
        }
    }
}

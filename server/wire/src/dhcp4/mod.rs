//! DHCP for IPv4 (RFC 2131, RFC 2132), with what network boot adds to it (PXE 2.1, RFC 4578).
//!
//! Options are kept raw and in order, because order matters to clients: FreeBSD's loader applies
//! what stands before option 53 even of a message that it then drops, and option 82 has to go back
//! byte for byte as the last one (RFC 3046 §2.2). What an option means is read by typed getters at
//! the time of use, so that one malformed option costs only itself. BOOTP without the magic cookie
//! (RFC 951) is refused.

mod builder;
mod code;
mod message;
mod options;

pub use builder::Builder;
pub use code::Code;
pub use message::{DecodeError, Message, MessageType, Op};
pub use options::Options;

/// Marks the vendor field as options (RFC 2131 §3).
const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Length of a message before the magic cookie (RFC 2131 §2).
const HEADER_LEN: usize = 236;

/// Length of the `sname` field.
const SNAME_LEN: usize = 64;

/// Length of the `file` field.
const FILE_LEN: usize = 128;

/// The broadcast bit in `flags` (RFC 2131 §2).
pub const BROADCAST_FLAG: u16 = 0x8000;

/// Largest message, without IP and UDP headers, that every client takes (RFC 2131 §2: a datagram
/// of 576 bytes, which leaves 312 bytes for options).
pub const DEFAULT_LIMIT: usize = 548;

/// IP and UDP headers, which option 57 counts and a message does not.
pub const DATAGRAM_HEADERS: usize = 28;

/// Hardware type of Ethernet (RFC 1700).
pub const ETHERNET: u8 = 1;

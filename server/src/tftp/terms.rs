//! What client and server agree upon before a transfer (RFC 2347).

use std::num::NonZeroU64;

use wire::tftp::{BLKSIZE_MAX, BLKSIZE_MIN, DATA_HEADER_LEN, DEFAULT_BLKSIZE, Options};

/// The terms of one transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Terms {
    /// Bytes in each block but the last.
    pub(super) block_size: NonZeroU64,
    /// Blocks that are sent before an ACK is awaited.
    pub(super) window: u16,
    /// The file's length in bytes.
    pub(super) total: u64,
    /// What the OACK says; empty when the client asked for nothing that we do, and then none is sent.
    pub(super) granted: Options,
}

impl Terms {
    /// Grants what was asked, as far as it can be kept.
    ///
    /// Nothing is granted that was not asked: FreeBSD's loader refuses an OACK with any other
    /// option in it. A block never gets larger than the path carries in one piece, because ROMs
    /// cannot put fragments together, and never larger than asked (RFC 2348).
    pub(super) fn agree(asked: &Options, total: u64, block_max: u16, window_max: u16) -> Self {
        let blksize = asked.blksize.map(|asked| asked.min(block_max.max(BLKSIZE_MIN)));
        let block_size = NonZeroU64::new(u64::from(blksize.unwrap_or(DEFAULT_BLKSIZE)));
        let block_size = block_size.unwrap_or(NonZeroU64::MIN);
        let in_memory = u16::try_from(WINDOW_BYTES_MAX / block_size).unwrap_or(u16::MAX);
        let window_max = window_max.min(in_memory).max(1);
        let granted = Options {
            blksize,
            // The same value or none: U-Boot gives up when it is told another (RFC 2349).
            timeout: asked.timeout,
            tsize: asked.tsize.map(|_| total),
            windowsize: asked.windowsize.map(|asked| asked.min(window_max)),
        };
        Self { block_size, window: granted.windowsize.unwrap_or(1), total, granted }
    }

    /// The number of the last block, counted from 1 without wrapping.
    ///
    /// A file whose length is a multiple of the block size ends in an empty block (RFC 1350 §6).
    pub(super) const fn last_block(&self) -> u64 {
        (self.total / self.block_size.get()).saturating_add(1)
    }

    /// Where a block begins in the file, or its end.
    pub(super) fn offset(&self, block: u64) -> u64 {
        block.saturating_sub(1).saturating_mul(self.block_size.get()).min(self.total)
    }
}

/// The largest block that a path carries in one packet.
///
/// `mtu` is that of the path in bytes, and `None` means that nobody knows: then it is taken for
/// Ethernet's.
pub(super) fn largest_block(mtu: Option<u32>, ipv6: bool) -> u16 {
    let headers = if ipv6 { IPV6_HEADERS } else { IPV4_HEADERS };
    let block = mtu.unwrap_or(ETHERNET_MTU).saturating_sub(headers);
    u16::try_from(block).unwrap_or(u16::MAX).clamp(BLKSIZE_MIN, BLKSIZE_MAX)
}

/// IPv4, UDP and TFTP.
const IPV4_HEADERS: u32 = 20 + 8 + 4;

/// IPv6, UDP and TFTP.
const IPV6_HEADERS: u32 = 40 + 8 + 4;

const _: () = assert!(DATA_HEADER_LEN == 4);

/// Bytes that may be on their way at once, so that no client can claim more of our memory.
const WINDOW_BYTES_MAX: u64 = 0x40000;

const ETHERNET_MTU: u32 = 1500;

#[cfg(test)]
mod test {
    use super::*;

    fn asked(blksize: u16, windowsize: u16) -> Options {
        Options { blksize: Some(blksize), windowsize: Some(windowsize), ..Options::default() }
    }

    #[test]
    fn nothing_is_granted_that_was_not_asked() {
        let terms = Terms::agree(&Options::default(), 10, 1468, 64);
        assert!(terms.granted.is_empty());
        assert_eq!((terms.block_size.get(), terms.window), (512, 1));
    }

    #[test]
    fn a_block_is_never_larger_than_asked_or_than_the_path_carries() {
        assert_eq!(Terms::agree(&asked(1428, 1), 0, 1468, 64).granted.blksize, Some(1428));
        assert_eq!(Terms::agree(&asked(65464, 1), 0, 1468, 64).granted.blksize, Some(1468));
        assert_eq!(Terms::agree(&asked(8, 1), 0, 1468, 64).granted.blksize, Some(8));
    }

    #[test]
    fn a_window_is_capped() {
        assert_eq!(Terms::agree(&asked(512, 65535), 0, 1468, 64).window, 64);
        assert_eq!(Terms::agree(&asked(512, 4), 0, 1468, 64).window, 4);
        assert_eq!(Terms::agree(&asked(65464, 64), 0, 65464, 64).window, 4);
    }

    #[test]
    fn the_timeout_is_echoed_and_the_size_told() {
        let asked = Options { timeout: Some(255), tsize: Some(77), ..Options::default() };
        let granted = Terms::agree(&asked, 1 << 40, 1468, 64).granted;
        assert_eq!(granted, Options { timeout: Some(255), tsize: Some(1 << 40), ..granted });
    }

    #[test]
    fn an_exact_multiple_ends_in_an_empty_block() {
        let last = |total| Terms::agree(&Options::default(), total, 1468, 64).last_block();
        assert_eq!([last(0), last(511), last(512), last(513), last(1024)], [1, 1, 2, 2, 3]);
    }

    #[test]
    fn offsets_are_64_bit_and_end_with_the_file() {
        let terms = Terms::agree(&Options::default(), 5 << 32, 1468, 64);
        assert_eq!(terms.offset(1), 0);
        assert_eq!(terms.offset(1 + (1 << 24)), 1 << 33);
        assert_eq!(terms.offset(u64::MAX), 5 << 32);
    }

    #[test]
    fn blocks_fit_into_one_packet() {
        assert_eq!(largest_block(None, false), 1468);
        assert_eq!(largest_block(Some(1500), true), 1448);
        assert_eq!(largest_block(Some(9000), false), 8968);
        assert_eq!(largest_block(Some(65536), false), 65464);
        assert_eq!(largest_block(Some(0), false), 8);
    }
}

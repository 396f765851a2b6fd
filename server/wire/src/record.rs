//! Record marking: how messages are told apart in a stream (RFC 5531 §11).
//!
//! A record comes in fragments, each behind a word with its length and whether it is the last.
//! [`Records`] puts them together in the buffer that they were received into; it reads and waits for
//! nothing itself.

use std::ops::Range;

use crate::xdr::Encoder;

/// Puts records together from the bytes of a stream.
///
/// The buffer grows with what was received, never with what a peer only announces.
#[derive(Debug)]
pub struct Records {
    buffer: Vec<u8>,
    limit: usize,
    /// The record that is put together, or that was handed out last.
    record: Range<usize>,
    /// Where the next fragment's word begins; what lies between the record and it is of no use.
    scan: usize,
    /// How many fragments without bytes the record has.
    empty: usize,
    /// Whether `record` is complete and was handed out.
    complete: bool,
}

impl Records {
    /// Takes records of at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), limit, record: 0..0, scan: 0, empty: 0, complete: false }
    }

    /// The buffer to append received bytes to, with room for some in its spare capacity.
    pub fn space(&mut self) -> &mut Vec<u8> {
        self.finish();
        if self.unread() == 0 && self.record.is_empty() {
            self.buffer.clear();
            self.scan = 0;
            self.record = 0..0;
        }
        // What ends in the room that is left needs no other.
        let room = match self.missing() {
            0 => ROOM,
            missing => missing.min(ROOM),
        };
        if self.spare() < room {
            self.compact();
        }
        if self.spare() < room {
            self.buffer.reserve_exact(self.growth());
        }
        &mut self.buffer
    }

    /// By how much a full buffer grows: doubling keeps the copying linear, and the memory below twice what
    /// was received. One that nearly has all of a record grows by the rest of it.
    fn growth(&self) -> usize {
        let doubled = self.buffer.len().max(INITIAL);
        let missing = self.missing();
        let least = if self.buffer.len() < INITIAL { INITIAL } else { ROOM };
        if missing <= doubled + INITIAL { missing.max(least) } else { doubled }
    }

    /// Bytes of the fragment that is received which are still to come.
    fn missing(&self) -> usize {
        let unread = self.buffer.get(self.scan..).unwrap_or_default();
        let Some((word, rest)) = unread.split_first_chunk() else { return 0 };
        let len = usize::try_from(u32::from_be_bytes(*word) & !LAST).unwrap_or(usize::MAX);
        len.saturating_sub(rest.len())
    }

    /// The next complete record, if it was received; it is let go at the next use of `self`.
    ///
    /// # Errors
    ///
    /// The stream cannot be trusted any more and has to be closed.
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, RecordError> {
        self.finish();
        loop {
            let Some((word, rest)) =
                self.buffer.get(self.scan..).and_then(|unread| unread.split_first_chunk())
            else {
                return Ok(None);
            };
            let word = u32::from_be_bytes(*word);
            let len = usize::try_from(word & !LAST).map_err(|_| RecordError::TooLong)?;
            if len > self.limit.saturating_sub(self.record.len()) {
                return Err(RecordError::TooLong);
            }
            if rest.len() < len {
                return Ok(None);
            }
            if len == 0 && word & LAST == 0 {
                self.empty += 1;
                if self.empty > MAX_EMPTY {
                    return Err(RecordError::TooManyFragments);
                }
            }
            let begin = self.scan + WORD;
            self.scan = begin + len;
            if self.record.is_empty() {
                self.record = begin..self.scan;
            } else {
                self.buffer.copy_within(begin..self.scan, self.record.end);
                self.record.end += len;
            }
            if word & LAST != 0 {
                self.complete = true;
                return Ok(self.buffer.get(self.record.clone()));
            }
        }
    }

    /// Takes the record that was handed out last, to keep it.
    ///
    /// A large one takes the buffer along instead of being copied.
    pub fn take(&mut self) -> Record {
        if !self.complete {
            return Record { buffer: Vec::new(), range: 0..0 };
        }
        let range = self.record.clone();
        if range.len() < INITIAL {
            let record = self.buffer.get(range).unwrap_or_default().to_vec();
            return Record { range: 0..record.len(), buffer: record };
        }
        let unread = self.buffer.get(self.scan..).unwrap_or_default().to_vec();
        let buffer = std::mem::replace(&mut self.buffer, unread);
        self.scan = 0;
        self.record = 0..0;
        self.finish();
        Record { buffer, range }
    }

    /// Whether a record was begun that is not complete.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        !self.complete && (self.unread() > 0 || self.record.start < self.record.end)
    }

    /// Bytes of memory that a record takes which was begun and is not complete: what was received of it,
    /// and what the buffer has beyond what every stream begins with.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        if !self.is_partial() {
            return 0;
        }
        self.buffer.len().max(self.buffer.capacity().saturating_sub(INITIAL))
    }

    /// Bytes of memory that the buffer takes.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.buffer.capacity()
    }

    /// Gives memory back that a quiet stream does not need: all of it, unless a record was begun.
    pub fn shrink(&mut self) {
        self.finish();
        self.compact();
        self.buffer.shrink_to_fit();
    }

    /// Lets the record go that was handed out.
    const fn finish(&mut self) {
        if self.complete {
            self.complete = false;
            self.empty = 0;
            self.record = self.scan..self.scan;
        }
    }

    /// Moves what is still needed to the beginning of the buffer.
    fn compact(&mut self) {
        self.buffer.drain(self.record.end..self.scan);
        self.buffer.drain(..self.record.start);
        self.record = 0..self.record.len();
        self.scan = self.record.end;
    }

    const fn unread(&self) -> usize {
        self.buffer.len() - self.scan
    }

    const fn spare(&self) -> usize {
        self.buffer.capacity() - self.buffer.len()
    }
}

/// A record that was taken out of a stream.
#[derive(Debug)]
pub struct Record {
    buffer: Vec<u8>,
    range: Range<usize>,
}

impl Record {
    /// How many bytes of memory it holds, which may be more than it shows.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.buffer.capacity()
    }
}

impl AsRef<[u8]> for Record {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

impl From<Vec<u8>> for Record {
    fn from(buffer: Vec<u8>) -> Self {
        Self { range: 0..buffer.len(), buffer }
    }
}

/// Begins a record of one fragment at the end of `out`: room for its word.
///
/// Returns the place to hand to [`end`] once the record's bytes are appended.
#[must_use]
pub fn begin(out: &mut Vec<u8>) -> usize {
    let place = out.len();
    Encoder::new(out).u32(0);
    place
}

/// Ends a record that was begun at `place`: writes its length into its word.
///
/// # Errors
///
/// The record is longer than a word can say, or does not begin at `place`.
pub fn end(out: &mut [u8], place: usize) -> Result<(), RecordError> {
    end_before(out, place, 0)
}

/// As [`end`], for a record that goes on with `more` bytes which are sent from elsewhere.
///
/// # Errors
///
/// As those of [`end`].
pub fn end_before(out: &mut [u8], place: usize, more: usize) -> Result<(), RecordError> {
    let (word, record) = out
        .get_mut(place..)
        .and_then(|record| record.split_first_chunk_mut::<WORD>())
        .ok_or(RecordError::TooLong)?;
    let len = u32::try_from(record.len() + more).map_err(|_| RecordError::TooLong)?;
    if len & LAST != 0 {
        return Err(RecordError::TooLong);
    }
    *word = (len | LAST).to_be_bytes();
    Ok(())
}

/// Why a stream is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// A record is longer than the limit.
    #[error("record exceeds the limit")]
    TooLong,
    /// A record has many fragments without a byte in them.
    #[error("record of empty fragments")]
    TooManyFragments,
}

/// The bit that marks the last fragment of a record.
const LAST: u32 = 1 << 31;

/// Length of the word before each fragment.
const WORD: usize = 4;

/// Empty fragments are legal and useless; a record may have this many before its stream is closed.
const MAX_EMPTY: usize = 16;

/// Bytes that a buffer begins with and shrinks to.
const INITIAL: usize = 64 << 10;

/// Bytes that there shall at least be room for before the next are received.
const ROOM: usize = 8 << 10;

#[cfg(test)]
mod test {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    fn fed(bytes: &[u8]) -> Records {
        let mut records = Records::new(1 << 20);
        records.space().extend_from_slice(bytes);
        records
    }

    #[test]
    fn several_records_in_one_piece_come_one_by_one() {
        let mut records = fed(&hex!("80000002 6162 80000001 63 80000000"));
        assert_eq!(records.next_record(), Ok(Some(&b"ab"[..])));
        assert_eq!(records.next_record(), Ok(Some(&b"c"[..])));
        assert_eq!(records.next_record(), Ok(Some(&b""[..])));
        assert_eq!(records.next_record(), Ok(None));
        assert!(!records.is_partial());
    }

    #[test]
    fn fragments_are_put_together() {
        let mut records =
            fed(&hex!("00000002 6162 00000000 00000001 63 80000002 6465 80000001 66"));
        assert_eq!(records.next_record(), Ok(Some(&b"abcde"[..])));
        assert_eq!(records.next_record(), Ok(Some(&b"f"[..])));
    }

    #[test]
    fn a_record_that_comes_byte_by_byte_is_put_together() {
        let mut records = Records::new(5);
        let stream = hex!("00000003 616263 80000002 6465");
        let (last, first) = stream.split_last().unwrap();
        for byte in first {
            records.space().push(*byte);
            assert_eq!(records.next_record(), Ok(None));
            assert!(records.is_partial());
        }
        records.space().push(*last);
        assert_eq!(records.next_record(), Ok(Some(&b"abcde"[..])));
    }

    #[test]
    fn a_record_tells_of_what_is_sent_from_elsewhere() {
        let mut stream = b"before".to_vec();
        let place = begin(&mut stream);
        stream.extend_from_slice(b"ab");
        end_before(&mut stream, place, 3).unwrap();
        stream.extend_from_slice(b"cde");
        assert_eq!(fed(&stream[place..]).next_record(), Ok(Some(&b"abcde"[..])));
    }

    #[test]
    fn an_oversized_record_is_refused_by_its_first_word() {
        let mut records = Records::new(4);
        records.space().extend_from_slice(&hex!("80000005"));
        assert_eq!(records.next_record(), Err(RecordError::TooLong));
    }

    #[test]
    fn fragments_count_together_against_the_limit() {
        let mut records = Records::new(4);
        records.space().extend_from_slice(&hex!("00000003 616263 80000002"));
        assert_eq!(records.next_record(), Err(RecordError::TooLong));
    }

    #[test]
    fn an_announced_record_takes_no_memory_before_it_comes() {
        let mut records = fed(&hex!("800fffff"));
        assert_eq!(records.next_record(), Ok(None));
        assert!(records.space().capacity() <= 2 * INITIAL);
    }

    #[test]
    fn empty_fragments_do_not_go_on_for_ever() {
        let mut records = fed(&[0; WORD * MAX_EMPTY]);
        assert_eq!(records.next_record(), Ok(None));
        records.space().extend_from_slice(&[0; WORD]);
        assert_eq!(records.next_record(), Err(RecordError::TooManyFragments));
    }

    #[test]
    fn a_large_record_is_taken_with_its_buffer() {
        let body = vec![7; 3 * INITIAL];
        let mut stream = Vec::new();
        let place = begin(&mut stream);
        stream.extend_from_slice(&body);
        end(&mut stream, place).unwrap();
        stream.extend_from_slice(&hex!("80000001 63"));
        let mut records = fed(&stream);
        assert_eq!(records.next_record(), Ok(Some(&body[..])));
        assert_eq!(records.take().as_ref(), &body[..]);
        assert_eq!(records.next_record(), Ok(Some(&b"c"[..])));
    }

    #[test]
    fn a_small_record_is_taken_as_a_copy() {
        let mut records = fed(&hex!("80000002 6162 80000001 63"));
        records.next_record().unwrap();
        assert_eq!(records.take().as_ref(), b"ab");
        assert_eq!(records.next_record(), Ok(Some(&b"c"[..])));
    }

    #[test]
    fn a_quiet_stream_gives_its_memory_back() {
        let mut records = fed(&vec![0xff; 8 * INITIAL]);
        records.buffer.truncate(3);
        records.shrink();
        assert_eq!(records.memory(), 3);
        assert!(records.is_partial());
        let mut records = fed(&hex!("80000001 63"));
        records.next_record().unwrap();
        records.shrink();
        assert_eq!(records.memory(), 0);
    }

    /// A stream of one record of a megabyte and its head, which comes in pieces like a socket's.
    fn received(records: &mut Records, bytes: usize) {
        let len = u32::try_from(RECORD).unwrap() | LAST;
        let stream = [&len.to_be_bytes()[..], &vec![7; RECORD]].concat();
        for piece in stream[..bytes].chunks(5000) {
            let space = records.space();
            assert!(space.capacity() - space.len() >= piece.len(), "it would have grown by itself");
            space.extend_from_slice(piece);
        }
    }

    const RECORD: usize = (1 << 20) + 200;

    #[test]
    fn a_record_takes_no_more_memory_than_it_has_bytes() {
        let mut records = Records::new(2 << 20);
        received(&mut records, RECORD + WORD);
        assert_eq!(records.next_record().unwrap().map(<[u8]>::len), Some(RECORD));
        let taken = records.take();
        assert!(taken.memory() <= RECORD + 2 * ROOM, "{}", taken.memory());
    }

    #[test]
    fn half_a_record_takes_no_more_than_twice_what_was_received() {
        for part in [100, INITIAL / 2, INITIAL, 3 * INITIAL, RECORD / 2, RECORD - 1] {
            let mut records = Records::new(2 << 20);
            received(&mut records, part);
            assert_eq!(records.next_record(), Ok(None));
            let limit = (2 * part).max(INITIAL) + INITIAL + ROOM;
            assert!(records.memory() <= limit, "{part}: {}", records.memory());
            assert!((part..=limit).contains(&records.unfinished()), "{part}");
        }
    }

    /// Cuts `body` into fragments of these lengths, with record marks.
    fn fragments(body: &[u8], lengths: &[usize]) -> Vec<u8> {
        let mut stream = Vec::new();
        let mut rest = body;
        for len in lengths {
            let (fragment, tail) = rest.split_at((*len).min(rest.len()));
            stream.extend(u32::try_from(fragment.len()).unwrap().to_be_bytes());
            stream.extend_from_slice(fragment);
            rest = tail;
        }
        stream.extend((u32::try_from(rest.len()).unwrap() | LAST).to_be_bytes());
        stream.extend_from_slice(rest);
        stream
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_records_are_the_same(
            bodies in proptest::collection::vec(
                (
                    proptest::collection::vec(any::<u8>(), 0..300),
                    proptest::collection::vec(1_usize..50, 0..6),
                ),
                0..8,
            ),
            step in 1_usize..400,
            taken in any::<bool>(),
        ) {
            let stream: Vec<u8> =
                bodies.iter().flat_map(|(body, lengths)| fragments(body, lengths)).collect();
            let mut records = Records::new(300);
            let mut seen = Vec::new();
            for piece in stream.chunks(step) {
                records.space().extend_from_slice(piece);
                while let Some(record) = records.next_record().unwrap() {
                    let copy = record.to_vec();
                    if taken {
                        let taken = records.take();
                        prop_assert_eq!(taken.as_ref(), &copy[..]);
                    }
                    seen.push(copy);
                }
            }
            let sent: Vec<_> = bodies.into_iter().map(|(body, _)| body).collect();
            prop_assert_eq!(seen, sent);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            step in 1_usize..100,
        ) {
            let mut records = Records::new(1000);
            for piece in bytes.chunks(step) {
                records.space().extend_from_slice(piece);
                loop {
                    match records.next_record() {
                        Ok(Some(record)) => prop_assert!(record.len() <= 1000),
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
            }
        }
    }
}

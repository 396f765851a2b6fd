//! Which part of a file is asked for (RFC 9110 §14).
//!
//! One range is served as asked. Several, or what is no range at all, count as none: the whole file
//! is then the answer, as the RFC allows.

use std::ops;

/// The `Range` header of a request, as far as it is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Range {
    /// From a byte on, to a last byte or to the end.
    From {
        /// The first byte, counted from 0.
        first: u64,
        /// The last byte, not before the first.
        last: Option<u64>,
    },
    /// So many bytes at the end.
    Last(u64),
}

/// What a range means for a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Span {
    /// These bytes.
    Part(ops::Range<u64>),
    /// The file ends before the range begins.
    Unsatisfiable,
}

impl Range {
    /// Parses the value of a `Range` header; `None` is to be answered with the whole file.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?;
        let (unit, set) = value.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = set.trim_matches([' ', '\t']).split_once('-')?;
        if first.is_empty() {
            return Some(Self::Last(number(last)?));
        }
        let first = number(first)?;
        if last.is_empty() {
            return Some(Self::From { first, last: None });
        }
        let last = number(last)?;
        (last >= first).then_some(Self::From { first, last: Some(last) })
    }

    /// The bytes that are meant in a file of `len` bytes.
    pub(super) fn within(self, len: u64) -> Span {
        let part = match self {
            Self::From { first, last } => {
                first..last.map_or(len, |last| last.saturating_add(1).min(len))
            }
            Self::Last(count) => len.saturating_sub(count)..len,
        };
        if part.start < part.end { Span::Part(part) } else { Span::Unsatisfiable }
    }
}

/// Decimal digits and nothing else; more than 64 bits can hold lies beyond every file.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod test {
    use super::*;

    fn part(value: &str, len: u64) -> Option<Span> {
        Some(Range::parse(value.as_bytes())?.within(len))
    }

    #[test]
    fn a_range_is_inclusive() {
        assert_eq!(part("bytes=0-0", 10), Some(Span::Part(0..1)));
        assert_eq!(part("bytes=2-5", 10), Some(Span::Part(2..6)));
        assert_eq!(part("BYTES=2-5", 10), Some(Span::Part(2..6)));
    }

    #[test]
    fn an_open_range_goes_to_the_end() {
        assert_eq!(part("bytes=4-", 10), Some(Span::Part(4..10)));
        assert_eq!(part("bytes=0-", 10), Some(Span::Part(0..10)));
    }

    #[test]
    fn a_range_is_cut_at_the_end_of_the_file() {
        assert_eq!(part("bytes=4-400", 10), Some(Span::Part(4..10)));
        assert_eq!(part("bytes=4-99999999999999999999999", 10), Some(Span::Part(4..10)));
    }

    #[test]
    fn a_suffix_is_counted_from_the_end() {
        assert_eq!(part("bytes=-3", 10), Some(Span::Part(7..10)));
        assert_eq!(part("bytes=-300", 10), Some(Span::Part(0..10)));
    }

    #[test]
    fn what_lies_beyond_the_end_cannot_be_satisfied() {
        assert_eq!(part("bytes=10-", 10), Some(Span::Unsatisfiable));
        assert_eq!(part("bytes=99999999999999999999999-", 10), Some(Span::Unsatisfiable));
        assert_eq!(part("bytes=-0", 10), Some(Span::Unsatisfiable));
        assert_eq!(part("bytes=0-", 0), Some(Span::Unsatisfiable));
    }

    #[test]
    fn what_is_no_single_range_counts_as_none() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "lines=1-2",
        ] {
            assert_eq!(part(value, 10), None, "{value}");
        }
        assert_eq!(Range::parse(b"bytes=\xff-"), None);
    }
}

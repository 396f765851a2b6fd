//! Times: seconds since 1970 in decimal, with a fraction. POSIX means the number as it stands: -1.5 is a
//! second and a half before 1970.

/// Reads a time as seconds, rounded down, and nanoseconds; `None` if it is no number.
#[must_use]
pub fn parse(text: &[u8]) -> Option<(i64, u32)> {
    let text = str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let (seconds, nanoseconds): (i64, u32) = (whole.parse().ok()?, digits.parse().ok()?);
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

/// Writes a time of seconds, rounded down, and nanoseconds.
#[must_use]
pub fn format(seconds: i64, nanoseconds: u32) -> String {
    match (seconds, nanoseconds) {
        (_, 0) => seconds.to_string(),
        (..0, _) => {
            let (whole, rest) = ((seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds);
            format!("-{whole}.{rest:09}")
        }
        (0.., _) => format!("{seconds}.{nanoseconds:09}"),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_time_is_read_back_as_it_was_written() {
        for (text, time) in [
            ("0", (0, 0)),
            ("1.500000000", (1, 500_000_000)),
            ("-1.250000000", (-2, 750_000_000)),
            ("-0.500000000", (-1, 500_000_000)),
            ("-86400", (-86_400, 0)),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(time), "{text}");
            assert_eq!(format(time.0, time.1), text);
        }
        for time in [(i64::MIN, 1), (i64::MAX, 999_999_999), (i64::MIN, 0)] {
            assert_eq!(parse(format(time.0, time.1).as_bytes()), Some(time));
        }
    }

    #[test]
    fn what_is_finer_than_nanoseconds_is_cut_and_nonsense_is_none() {
        assert_eq!(parse(b"1.1234567899"), Some((1, 123_456_789)));
        for bad in [&b""[..], b"x", b"1.x", b"1.-5", b"1e9", b"\xff", b"99999999999999999999"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}

//! Records: `LENGTH KEY=VALUE` and a newline each, where LENGTH counts all of it, and VALUE is any bytes,
//! newlines and zeros too.

/// A record that makes no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

/// The records in the contents of an extended header, in their order. After one that makes no sense
/// there are no more.
#[derive(Clone, Debug)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    /// Those in these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Records<'a> {
    /// A key and its value.
    type Item = Result<(&'a [u8], &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let parsed = split(self.0);
        self.0 = parsed.map_or(&[], |(_, _, rest)| rest);
        Some(parsed.map(|(key, value, _)| (key, value)).ok_or(Malformed))
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let digits = bytes.iter().take(MAX_DIGITS).position(|&byte| byte == b' ')?;
    let number = bytes.get(..digits)?;
    if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = str::from_utf8(number).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(digits + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
    (!key.is_empty()).then_some((key, value, rest))
}

/// Appends a record. A key has no `=` in it.
pub fn push(records: &mut Vec<u8>, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    let (key, value) = (key.as_ref(), value.as_ref());
    // The space, the equals sign and the newline.
    let bare = key.len() + value.len() + 3;
    let mut length = bare;
    // The number counts its own digits.
    while length != bare + length.to_string().len() {
        length = bare + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Digits of the largest length, and the space behind them.
const MAX_DIGITS: usize = 21;

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_may_have_newlines_as_gnu_tar_writes_access_control_lists() {
        let list =
            b"77 SCHILY.acl.access=user::rw-\nuser:501:r--\ngroup::r--\nmask::rw-\nother::---\n\n";
        let mut records = Records::new(list);
        let (key, value) = records.next().unwrap().unwrap();
        assert_eq!(key, b"SCHILY.acl.access");
        assert!(value.starts_with(b"user::rw-\nuser") && value.ends_with(b"other::---\n"));
        assert!(records.next().is_none());
    }

    #[test]
    fn a_length_that_is_none_ends_the_records() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"0 a=b\n",
            b"2 a=b\n",
            b"+6 a=b\n",
            b"99999999999999999999999 a=b\n",
            b"18446744073709551615 a=b\n",
            b"6 abc\n",
            b"5 =b\n",
        ] {
            let all: Vec<_> = Records::new(bad).collect();
            assert_eq!(all, [Err(Malformed)], "{bad:?}");
        }
    }

    #[test]
    fn a_length_counts_its_own_digits() {
        for length in 0..2_000 {
            let mut records = Vec::new();
            push(&mut records, "key", vec![b'\n'; length]);
            push(&mut records, "next", "");
            let all: Vec<_> = Records::new(&records).map(Result::unwrap).collect();
            assert_eq!(all, [(&b"key"[..], &*vec![b'\n'; length]), (b"next", b"")]);
        }
    }

    proptest! {
        #[test]
        fn what_makes_no_sense_is_refused_and_never_a_panic(bytes: Vec<u8>) {
            Records::new(&bytes).count();
        }
    }
}

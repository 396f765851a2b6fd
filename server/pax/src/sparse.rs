//! Sparse files in the form 1.0 of GNU tar, which bsdtar reads and writes too: the contents begin with a
//! list of ranges, in decimal lines, filled up to a whole block. The data of the ranges follow.

use std::io::{self, Read};

use crate::BLOCK;

/// A range of a file that has data: where it begins, and how long it is.
pub type Range = (u64, u64);

/// The list of ranges of a file, filled up to whole blocks.
#[must_use]
pub fn map(ranges: &[Range]) -> Vec<u8> {
    let lines = ranges.iter().map(|(start, length)| format!("{start}\n{length}\n"));
    let mut map = lines.fold(format!("{}\n", ranges.len()), |all, line| all + &line).into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// Reads the list of ranges of a file of `size` bytes, to the end of its last block. At most `most` of them
/// are taken, and none that ends behind the file's end or begins before the one before it ended.
pub fn read_map(from: &mut impl Read, size: u64, most: usize) -> io::Result<Vec<Range>> {
    let mut map = Map { from, read: 0 };
    let count = map.number()?;
    let (mut ranges, mut end) = (Vec::new(), 0);
    for _ in 0..count {
        if ranges.len() == most {
            return Err(io::Error::other("a sparse file has too many ranges"));
        }
        let (start, length) = (map.number()?, map.number()?);
        let before = end;
        end = start.saturating_add(length);
        if end > size || end == u64::MAX {
            return Err(io::Error::other("a sparse file has a range beyond its end"));
        }
        if start < before {
            return Err(io::Error::other("the ranges of a sparse file are in no order"));
        }
        ranges.push((start, length));
    }
    map.pad()?;
    Ok(ranges)
}

struct Map<'a, R> {
    from: &'a mut R,
    read: usize,
}

impl<R: Read> Map<'_, R> {
    fn number(&mut self) -> io::Result<u64> {
        let (mut number, mut digits) = (0_u64, 0);
        loop {
            let mut byte = [0];
            self.from.read_exact(&mut byte)?;
            self.read += 1;
            match byte {
                [b'\n'] if digits > 0 => return Ok(number),
                [digit @ b'0'..=b'9'] if digits < MAX_DIGITS => {
                    let more = number.checked_mul(10);
                    let more = more.and_then(|more| more.checked_add(u64::from(digit - b'0')));
                    number = more.ok_or_else(bad_number)?;
                    digits += 1;
                }
                [_] => return Err(bad_number()),
            }
        }
    }

    fn pad(&mut self) -> io::Result<()> {
        let rest = self.read.next_multiple_of(BLOCK) - self.read;
        let mut block = [0; BLOCK];
        self.from.read_exact(block.get_mut(..rest).unwrap_or_default())
    }
}

fn bad_number() -> io::Error {
    io::Error::other("the ranges of a sparse file are no numbers")
}

/// Of the largest number; a claim of leading zeros without end is none.
const MAX_DIGITS: u32 = 20;

#[cfg(test)]
mod test {
    use super::*;

    const SIZE: u64 = 8 << 30;

    #[test]
    fn a_list_is_read_back_as_it_was_written() {
        let many: Vec<Range> = (0..200).map(|start| (start * 8192, 4096)).collect();
        for ranges in [vec![], vec![(0, 1), (SIZE, 0)], many] {
            let map = map(&ranges);
            assert_eq!(map.len() % BLOCK, 0);
            let mut rest = &[&map[..], b"data"].concat()[..];
            assert_eq!(read_map(&mut rest, SIZE, 200).unwrap(), ranges);
            assert_eq!(rest, b"data");
        }
    }

    #[test]
    fn what_no_writer_writes_is_refused() {
        for (bad, said) in [
            ("2\n0\n1\n", "end of file"),
            ("1\n0\n8589934593\n", "beyond its end"),
            ("1\n18446744073709551615\n1\n", "beyond its end"),
            ("2\n4096\n4096\n0\n4096\n", "in no order"),
            ("x\n", "no numbers"),
            ("\n", "no numbers"),
            ("99999999999999999999999\n", "no numbers"),
            ("0000000000000000000000000", "no numbers"),
        ] {
            let text = format!("{bad:\0<512}");
            let text = if said == "end of file" { bad } else { &text };
            let error = read_map(&mut text.as_bytes(), SIZE, 200).unwrap_err().to_string();
            assert!(error.contains(said) || said == "end of file", "{bad:?}: {error}");
        }
        let map = map(&vec![(0, 0); 201]);
        assert!(read_map(&mut &*map, SIZE, 200).is_err());
    }
}

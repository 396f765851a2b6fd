//! What a disk was told to write, in this order, and what of it is there when its power was cut.
//!
//! A disk may keep what it is told to itself until it is told to flush. When its power is cut before that,
//! any of it is lost: also what came first, and also a part of what was told at once. What was flushed is
//! there.
//!
//! ```text
//! offset u64, length u64, so many bytes        a write
//! 2^64 - 1 u64, 0 u64                          a flush, of all that stands before it
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::failure::{During, Failure, ensure};
use crate::noise::Noise;

/// Writes down what a disk is told.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: File,
}

impl Recorder {
    /// Begins with an empty file.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        Ok(Self { file: File::create(path).during(path.display())? })
    }

    /// The disk was told to write these bytes there.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.entry(offset, data)
    }

    /// The disk was told to flush.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.entry(FLUSH, &[])
    }

    fn entry(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let head = [offset.to_le_bytes(), (data.len() as u64).to_le_bytes()].concat();
        // At once: whoever asks how long the file is finds an entry whole or not at all.
        self.file.write_all(&[&head, data].concat())
    }
}

/// All that a disk was told. Positions in it are those of its file.
#[derive(Debug)]
pub(crate) struct Writes {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// A write, or a flush.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    /// The position behind it.
    end: u64,
    what: What,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum What {
    Write { offset: u64, data: Range<usize> },
    Flush,
}

impl Writes {
    /// Reads what a [`Recorder`] has written.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        Self::parse(fs::read(path).during(path.display())?)
    }

    fn parse(bytes: Vec<u8>) -> Result<Self, Failure> {
        let broken = |at| Failure::said(format!("what a disk was told is broken at byte {at}"));
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or_else(|| broken(at))
        };
        let (mut entries, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let (offset, length) = (number(at)?, number(at + 8)?);
            let from = at + HEAD;
            let to = usize::try_from(length).ok().and_then(|length| from.checked_add(length));
            let to = to.filter(|to| *to <= bytes.len()).ok_or_else(|| broken(at))?;
            let what =
                if offset == FLUSH { What::Flush } else { What::Write { offset, data: from..to } };
            entries.push(Entry { end: to as u64, what });
            at = to;
        }
        Ok(Self { bytes, entries })
    }

    /// The positions behind each entry that ends after `from` and not after `to`.
    pub(crate) fn between(&self, from: u64, to: u64) -> Vec<u64> {
        let ends = self.entries.iter().map(|entry| entry.end);
        ends.filter(|end| from < *end && *end <= to).collect()
    }
}

/// An instant at which the power is cut, and what is lost by it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Cut {
    /// All that stands before this position was told to the disk.
    pub(crate) at: u64,
    /// What is lost of that which was not flushed.
    pub(crate) lost: Lost,
}

/// What is lost of what was not flushed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Lost {
    /// Nothing: the disk did all at once.
    Nothing,
    /// Everything.
    All,
    /// Some, the same for the same number.
    Some(u64),
}

/// A disk on which is what was written, up to one cut after the other.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    writes: &'a Writes,
    size: u64,
    /// What has reached the disk for good.
    content: Content,
    /// The first entry that has not.
    next: usize,
}

/// The pieces of a disk that something was written to, by their number.
type Content = BTreeMap<u64, Vec<u8>>;

impl<'a> Replay<'a> {
    /// A disk of so many bytes, with nothing on it.
    pub(crate) fn new(writes: &'a Writes, size: u64) -> Self {
        Self { writes, size, content: Content::new(), next: 0 }
    }

    /// Makes the file `image` what the disk is after a cut, which is none before the last.
    pub(crate) fn image(&mut self, cut: Cut, image: &Path) -> Result<(), Failure> {
        let content = self.after(cut);
        // Another file: a loop device that is about to go may still have what the one before was.
        drop(fs::remove_file(image));
        let file = File::create(image).during(image.display())?;
        file.set_len(self.size).during(image.display())?;
        for (number, piece) in &content {
            let place = number * PIECE;
            ensure(place < self.size, || format!("a write behind the end of the disk: {place}"))?;
            file.write_all_at(piece, place).during(image.display())?;
        }
        Ok(())
    }

    /// What the disk holds after a cut, which is none before the last.
    fn after(&mut self, cut: Cut) -> Content {
        let told = self.writes.entries.partition_point(|entry| entry.end <= cut.at);
        let entries = self.writes.entries.get(..told).unwrap_or_default();
        let flush = entries.iter().rposition(|entry| entry.what == What::Flush);
        let durable = flush.map_or(0, |flush| flush + 1);
        for entry in entries.get(self.next..durable).unwrap_or_default() {
            self.writes.put(entry, &mut self.content, || true);
        }
        self.next = self.next.max(durable);
        let mut content = self.content.clone();
        let mut noise = Noise::new(match cut.lost {
            Lost::Nothing | Lost::All => 0,
            // Seeds that are close to each other draw alike.
            Lost::Some(seed) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        });
        for entry in entries.get(self.next..).unwrap_or_default() {
            let mood = noise.below(3);
            self.writes.put(entry, &mut content, || match cut.lost {
                Lost::Nothing => true,
                Lost::All => false,
                // One is there, one is not, and of one there are pieces.
                Lost::Some(_) => mood == 0 || mood == 1 && noise.below(2) == 0,
            });
        }
        content
    }
}

impl Writes {
    /// Writes those pieces of an entry that are `kept`.
    fn put(&self, entry: &Entry, content: &mut Content, mut kept: impl FnMut() -> bool) {
        let What::Write { offset, data } = &entry.what else { return };
        let mut data = self.bytes.get(data.clone()).unwrap_or_default();
        let mut place = *offset;
        while !data.is_empty() {
            let within = usize::try_from(place % PIECE).unwrap_or_default();
            let room = ROOM - within;
            let (piece, rest) = data.split_at(room.min(data.len()));
            if kept() {
                let old = content.entry(place / PIECE).or_insert_with(|| vec![0; ROOM]);
                old.iter_mut().skip(within).zip(piece).for_each(|(old, new)| *old = *new);
            }
            (data, place) = (rest, place + piece.len() as u64);
        }
    }
}

/// Stands where a write has its offset.
const FLUSH: u64 = u64::MAX;
/// The length of what stands before the bytes of a write.
const HEAD: usize = 16;
/// What a disk writes whole or not at all: so much is true of those that are sold, and btrfs relies on it
/// for its superblock.
const PIECE: u64 = 4096;
/// The same.
const ROOM: usize = 4096;

#[cfg(test)]
mod test {
    use super::*;

    /// What this was told, by a file.
    fn told(write: impl FnOnce(&mut Recorder)) -> Writes {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("writes");
        write(&mut Recorder::create(&path).unwrap());
        Writes::read(&path).unwrap()
    }

    /// Two writes, a flush, and two writes over them.
    fn two_and_two() -> Writes {
        told(|recorder| {
            recorder.write(0, &[1; ROOM]).unwrap();
            recorder.write(PIECE, &[1; ROOM]).unwrap();
            recorder.flush().unwrap();
            recorder.write(0, &[2; ROOM]).unwrap();
            recorder.write(PIECE, &[3; ROOM]).unwrap();
        })
    }

    /// The first byte of each of three pieces after a cut behind so many entries.
    fn pieces(writes: &Writes, entries: usize, lost: Lost) -> [u8; 3] {
        let at = entries.checked_sub(1).map_or(0, |last| writes.entries[last].end);
        firsts(&Replay::new(writes, 3 * PIECE).after(Cut { at, lost }))
    }

    fn firsts(content: &Content) -> [u8; 3] {
        [0, 1, 2].map(|number| content.get(&number).map_or(0, |piece| piece[0]))
    }

    #[test]
    fn what_was_flushed_is_there_whatever_is_lost() {
        let writes = two_and_two();
        assert_eq!(pieces(&writes, 0, Lost::Nothing), [0, 0, 0]);
        assert_eq!(pieces(&writes, 2, Lost::Nothing), [1, 1, 0]);
        assert_eq!(pieces(&writes, 2, Lost::All), [0, 0, 0]);
        assert_eq!(pieces(&writes, 3, Lost::All), [1, 1, 0]);
        assert_eq!(pieces(&writes, 5, Lost::All), [1, 1, 0]);
        assert_eq!(pieces(&writes, 5, Lost::Nothing), [2, 3, 0]);
    }

    #[test]
    fn any_of_what_was_not_flushed_may_be_lost_and_a_seed_says_which() {
        let writes = two_and_two();
        let seen = |seed| pieces(&writes, 5, Lost::Some(seed));
        assert_eq!(seen(7), seen(7));
        for wanted in [[1, 1, 0], [2, 1, 0], [1, 3, 0], [2, 3, 0]] {
            assert!((0..64).any(|seed| seen(seed) == wanted), "{wanted:?}");
        }
    }

    #[test]
    fn of_a_large_write_a_part_may_be_there() {
        // It begins in the middle of a piece.
        let writes = told(|recorder| recorder.write(100, &[1; 2 * ROOM]).unwrap());
        let kept = |seed| {
            let cut = Cut { at: u64::MAX, lost: Lost::Some(seed) };
            Replay::new(&writes, 3 * PIECE).after(cut)
        };
        let torn = |content: &Content| content.len() == 1 && content.contains_key(&1);
        let torn = (0..64).map(kept).find(torn).unwrap();
        assert_eq!(torn[&1], [1; ROOM]);
        let whole = (0..64).map(kept).find(|content| content.len() == 3).unwrap();
        assert_eq!(whole.values().flatten().filter(|byte| **byte == 1).count(), 2 * ROOM);
        assert_eq!((whole[&0][99], whole[&0][100]), (0, 1));
    }

    #[test]
    fn one_disk_goes_from_cut_to_cut() {
        let writes = two_and_two();
        let mut replay = Replay::new(&writes, 3 * PIECE);
        for entries in 1..=5 {
            let at = writes.entries[entries - 1].end;
            for lost in [Lost::All, Lost::Some(3), Lost::Nothing] {
                let content = replay.after(Cut { at, lost });
                assert_eq!(firsts(&content), pieces(&writes, entries, lost), "{entries} {lost:?}");
            }
        }
    }

    #[test]
    fn an_image_has_the_content_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let (writes, image) = (two_and_two(), directory.path().join("image"));
        let cut = Cut { at: u64::MAX, lost: Lost::Nothing };
        Replay::new(&writes, 4 * PIECE).image(cut, &image).unwrap();
        let read = fs::read(&image).unwrap();
        assert_eq!(read, [[2; ROOM], [3; ROOM], [0; ROOM], [0; ROOM]].concat());
        Replay::new(&writes, PIECE).image(cut, &image).unwrap_err();
    }

    #[test]
    fn positions_are_those_of_entries() {
        let writes = two_and_two();
        let all = writes.between(0, u64::MAX);
        assert_eq!(all.len(), 5);
        assert_eq!(writes.between(all[1], all[3]), all[2..4]);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = two_and_two().bytes;
        for length in [8, 20, whole.len() - 1] {
            Writes::parse(whole[..length].to_vec()).unwrap_err();
        }
    }
}

//! Files of JSON lines: what happened, what machines said, what hooks did.
//!
//! Several processes may append to one, each line whole and under a lock. A file that would get too long is put aside
//! first, and the one that was put aside before goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What became of a file to which a line was appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Appended {
    /// Its bytes.
    pub len: u64,
    /// Whether what was in it before was put aside.
    pub put_aside: bool,
}

/// A value as a line.
///
/// # Errors
///
/// It has no form in JSON.
pub fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

/// Appends a line to a file, which is made if there is none, and put aside if it would get longer than `limit`. A line
/// that is longer by itself has a file to itself.
///
/// # Errors
///
/// The file cannot be written.
pub fn append(path: &Path, limit: u64, line: &[u8]) -> io::Result<Appended> {
    let more = line.len() as u64;
    let mut put_aside = false;
    loop {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
        file.lock()?;
        // Another process may have put it aside, or removed it, between the two calls.
        let (mine, now) = (file.metadata()?, fs::metadata(path));
        if !now.is_ok_and(|now| now.ino() == mine.ino() && now.dev() == mine.dev()) {
            continue;
        }
        if mine.len() > 0 && mine.len().saturating_add(more) > limit {
            fs::rename(path, aside(path))?;
            put_aside = true;
            continue;
        }
        let cut_off = mine.len() > 0 && !ends(&file, mine.len())?;
        // One write: a reader sees all of a line, or nothing of it but after a crash.
        let text = if cut_off { [b"\n", line].concat() } else { line.to_vec() };
        (&file).write_all(&text)?;
        let len = mine.len().saturating_add(text.len() as u64);
        return Ok(Appended { len, put_aside });
    }
}

/// Whether the last line of a file has its end, which a crash may have cut off.
fn ends(file: &File, len: u64) -> io::Result<bool> {
    let mut last = [0];
    file.read_exact_at(&mut last, len.saturating_sub(1))?;
    Ok(last == *b"\n")
}

/// What is written down in a file and in the one that was put aside for it, oldest first. A line that a crash cut
/// off, or that a later version wrote, tells nothing.
///
/// # Errors
///
/// A file is there and cannot be read.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Vec<T>> {
    let mut records = Vec::new();
    for path in [&aside(path), path] {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let lines = text.split(|&byte| byte == b'\n');
        records.extend(lines.filter_map(|line| serde_json::from_slice::<T>(line).ok()));
    }
    Ok(records)
}

/// The file that one is put aside as.
#[must_use]
pub fn aside(path: &Path) -> PathBuf {
    path.with_extension("old")
}

#[cfg(test)]
mod test {
    use std::thread;

    use super::*;

    fn add(path: &Path, limit: u64, value: &str) -> Appended {
        append(path, limit, &line(&value).unwrap()).unwrap()
    }

    #[test]
    fn a_long_file_is_put_aside_and_the_one_before_it_goes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("events");
        assert_eq!(read::<String>(&path).unwrap(), [""; 0]);
        // Ten bytes each.
        let put_aside = (0..10).map(|number| {
            let Appended { len, put_aside } = add(&path, 30, &format!("number{number}"));
            assert_eq!(len, fs::metadata(&path).unwrap().len());
            put_aside
        });
        let put_aside: Vec<usize> =
            put_aside.enumerate().filter(|one| one.1).map(|one| one.0).collect();
        assert_eq!(put_aside, [3, 6, 9]);
        let kept = read::<String>(&path).unwrap();
        assert_eq!(kept, ["number6", "number7", "number8", "number9"]);
        let long = "x".repeat(100);
        add(&path, 30, &long);
        assert_eq!(read::<String>(&path).unwrap(), ["number9", &long]);
    }

    #[test]
    fn a_line_behind_one_that_was_cut_off_is_whole() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("events");
        add(&path, 1000, "one");
        fs::write(&path, [&*fs::read(&path).unwrap(), b"\"tw"].concat()).unwrap();
        add(&path, 1000, "three");
        add(&path, 1000, "four");
        assert_eq!(fs::read_to_string(&path).unwrap(), "\"one\"\n\"tw\n\"three\"\n\"four\"\n");
        assert_eq!(read::<String>(&path).unwrap(), ["one", "three", "four"]);
    }

    #[test]
    fn lines_of_several_writers_are_whole_and_none_is_lost_when_one_puts_the_file_aside() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("events");
        thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for number in 0..100 {
                        add(path, 5000, &format!("writer {writer} line {number:02}"));
                    }
                });
            }
        });
        let kept = read::<String>(&path).unwrap();
        // 19 bytes each: 263 lines were put aside once.
        assert_eq!(kept.len(), 400);
        assert_eq!(fs::metadata(&path).unwrap().len(), 137 * 19);
    }
}

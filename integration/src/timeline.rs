//! What everybody wrote while a test ran, as one list in the order of time: consoles of machines, netbe's log,
//! those of the programs beside it, and what the test itself printed.
//!
//! A console has no clock, and each machine another one: a line has the time at which it was found in its
//! file, by this computer's clock, to a tenth of a second.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

/// A list that is being written; it is whole when this is dropped.
#[derive(Debug)]
pub(crate) struct Timeline {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Timeline {
    /// Begins a list in the file `list` of what is written to logs in `directory`, and up to two folders
    /// below it, from now on.
    pub(crate) fn begin(directory: &Path, list: &Path) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let mut watch = Watch {
            directory: directory.to_owned(),
            list: File::create(list)?,
            room: LARGEST,
            logs: BTreeMap::new(),
        };
        let told = Arc::clone(&over);
        let thread = thread::Builder::new().name("timeline".to_owned()).spawn(move || {
            while !told.load(Ordering::Relaxed) {
                watch.look();
                thread::sleep(PERIOD);
            }
            watch.look();
            watch.end();
        })?;
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// What has been seen so far.
#[derive(Debug)]
struct Watch {
    directory: PathBuf,
    list: File,
    /// How many bytes may still be written.
    room: usize,
    logs: BTreeMap<PathBuf, Log>,
}

/// A log: how much of it is read, and the begin of a line that has no end yet.
#[derive(Debug, Default)]
struct Log {
    read: u64,
    begun: Vec<u8>,
}

impl Watch {
    fn look(&mut self) {
        let mut found = Vec::new();
        find(&self.directory, DEPTH, &mut found);
        for path in found {
            let log = self.logs.entry(path.clone()).or_default();
            // What cannot be read now may be there at the next look.
            if log.go_on(&path).is_err() {
                continue;
            }
            let Some(end) = log.begun.iter().rposition(|&byte| byte == b'\n') else { continue };
            let rest = log.begun.split_off(end + 1);
            let lines = std::mem::replace(&mut log.begun, rest);
            self.tell(&path, &lines);
        }
    }

    /// Tells the lines that will have no end any more.
    fn end(&mut self) {
        for (path, log) in std::mem::take(&mut self.logs) {
            self.tell(&path, &log.begun);
        }
    }

    fn tell(&mut self, path: &Path, lines: &[u8]) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let now = time_of_day(SystemTime::now());
        for line in String::from_utf8_lossy(lines).lines() {
            let line = printable(line);
            if line.is_empty() {
                continue;
            }
            let told = format!("{now} {name}: {line}\n");
            if self.room < told.len() || self.list.write_all(told.as_bytes()).is_err() {
                self.room = 0;
                return;
            }
            self.room -= told.len();
        }
    }
}

impl Log {
    /// Reads what is new.
    fn go_on(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.read))?;
        let read = file.take(AT_ONCE).read_to_end(&mut self.begun)?;
        self.read += read as u64;
        Ok(())
    }
}

/// The logs in a directory, and so many folders below it, by their names.
fn find(directory: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
            if depth > 0 {
                find(&path, depth - 1, found);
            }
        } else if kind.is_ok_and(|kind| kind.is_file()) && is_log(&path) {
            found.push(path);
        }
    }
}

fn is_log(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["log", "qemu", "serial"].iter().any(|known| extension == *known) || path.ends_with("output")
}

/// A line without what a terminal takes for a command, such as firmware writes.
fn printable(line: &str) -> String {
    let mut told = String::new();
    let mut rest = line.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter == '\x1b' {
            // One letter (ECMA-48 §5.5), or parameters and the letter that ends them (§5.4).
            if rest.next() == Some('[') {
                while rest.next_if(|letter| !('@'..='~').contains(letter)).is_some() {}
                rest.next();
            }
        } else if !letter.is_control() {
            told.push(letter);
        }
    }
    told.trim().to_owned()
}

/// The time in UTC, as in `05:24:43.100`.
fn time_of_day(now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs() % 86_400, since.subsec_millis());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
}

/// How long the logs are left alone between two looks.
const PERIOD: Duration = Duration::from_millis(100);
/// How deep below the place of a test its logs are: in `scene` of its scratch directory.
const DEPTH: u32 = 2;
/// How much of a log is read at one look.
const AT_ONCE: u64 = 1 << 20;
/// A list does not grow beyond this: larger files of a failed test are not kept.
const LARGEST: usize = 7 << 20;

#[cfg(test)]
mod test {
    use super::*;
    use crate::interrupt::wait_for;

    #[test]
    fn lines_of_all_logs_stand_in_the_order_in_which_they_were_written() {
        let place = tempfile::tempdir().unwrap();
        let list = place.path().join("timeline");
        let scene = place.path().join("abc/scene");
        fs::create_dir_all(&scene).unwrap();
        let timeline = Timeline::begin(place.path(), &list).unwrap();
        let told = || fs::read_to_string(&list).unwrap();
        let append = |name: &str, text: &str| {
            let mut file =
                File::options().create(true).append(true).open(scene.join(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("data", "no log\n");
        append("netbe.log", "one\ntw");
        let wait = |word: &str| {
            wait_for(word, Duration::from_secs(60), || Ok(told().contains(word).then_some(())))
        };
        wait("netbe.log: one").unwrap();
        append("desk-1.serial", "\x1bc\x1b[?7l\x1b[01;01Hfirmware\r\n\r\n");
        wait("desk-1.serial: firmware").unwrap();
        append("netbe.log", "o\nno end");
        drop(timeline);
        let told = told();
        let lines: Vec<&str> = told.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        let wanted =
            ["netbe.log: one", "desk-1.serial: firmware", "netbe.log: two", "netbe.log: no end"];
        assert_eq!(lines, wanted);
        let times: Vec<&str> = told.lines().map(|line| line.split_once(' ').unwrap().0).collect();
        assert!(times.iter().all(|time| time.len() == "05:24:43.100".len()), "{times:?}");
    }

    #[test]
    fn a_time_of_day_has_hours_minutes_seconds_and_thousandths() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_000 * 3 + 19_483_007);
        assert_eq!(time_of_day(time), "05:24:43.007");
    }
}

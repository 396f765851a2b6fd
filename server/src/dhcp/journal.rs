//! The lease journal: one line per change, appended before the change is told to anybody.
//!
//! A process that is killed loses nothing, because a line is with the kernel before the ACK leaves;
//! a host that loses power loses at most the last second, and nothing of named machines. The file
//! is text, so that an administrator can read it:
//!
//! ```text
//! leased 10.77.0.100 52:54:00:77:00:01 1795180000 2f5b0c6d9e1a7384
//! ```
//!
//! which is the state, the address, the machine, the end in seconds since 1970, and a checksum of
//! what stands before it. A later line about an address replaces the earlier ones.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher13;

use super::leases::{Binding, Leases, State, Timestamp};
use crate::net::Mac;

/// Durable storage of bindings.
pub trait Log: Send {
    /// Appends bindings. When it returns, they survive the death of this process.
    ///
    /// # Errors
    ///
    /// They could not be written whole; then nothing of them remains.
    fn append(&mut self, bindings: &[Binding]) -> io::Result<()>;

    /// Waits until what was appended is on the disk.
    ///
    /// # Errors
    ///
    /// The disk failed; what was appended may be lost with the host.
    fn sync(&mut self) -> io::Result<()>;

    /// Replaces what was appended by the present bindings, atomically, if most of it is history.
    ///
    /// # Errors
    ///
    /// That could not be written; what was there stays in use.
    fn compact(&mut self) -> io::Result<()>;
}

/// The journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines; whatever stands behind them is overwritten.
    len: u64,
    lines: usize,
    /// The bindings that the lines of the file amount to, so that the journal can compact itself.
    leases: Leases,
}

impl Journal {
    /// Opens the journal, or begins one, and reads all bindings from it.
    ///
    /// What a killed process or a power cut left unfinished at the end is cut off.
    ///
    /// # Errors
    ///
    /// The file cannot be read or made, or it is damaged before its end.
    pub fn open(path: &Path) -> Result<(Self, Leases), JournalError> {
        let fail = |source| JournalError::Io { path: path.to_owned(), source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(fail)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut &file, &mut bytes).map_err(fail)?;
        let good = Good::read(&bytes)
            .map_err(|line| JournalError::Damaged { path: path.to_owned(), line })?;
        file.set_len(good.len).map_err(fail)?;
        let Good { leases, len, lines } = good;
        let journal = Self { path: path.to_owned(), file, len, lines, leases: leases.clone() };
        Ok((journal, leases))
    }

    /// Whether most of the file is history.
    fn is_long(&self) -> bool {
        self.lines > self.leases.iter().count().saturating_mul(4).saturating_add(HISTORY)
    }

    /// Replaces the file by one that holds only the present bindings.
    fn rewrite(&mut self) -> io::Result<()> {
        let lines: Vec<String> = self.leases.iter().map(|binding| render(&binding)).collect();
        let text = lines.concat();
        let mut name = OsString::from(&self.path);
        name.push(".new");
        let new = PathBuf::from(name);
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&new);
        let mut file = options?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        // From here on the new file is the journal, whatever becomes of its name.
        self.file = file;
        self.len = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.lines = lines.len();
        // A rename lasts once the directory is on the disk.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }
}

impl Log for Journal {
    fn append(&mut self, bindings: &[Binding]) -> io::Result<()> {
        let text: String = bindings.iter().map(render).collect();
        // Always behind the last whole line: half a line from a full disk is overwritten.
        self.file.write_all_at(text.as_bytes(), self.len)?;
        self.len = self.len.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.lines = self.lines.saturating_add(bindings.len());
        self.leases.extend(bindings.iter().copied());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn compact(&mut self) -> io::Result<()> {
        if self.is_long() { self.rewrite() } else { Ok(()) }
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A line is damaged and good ones follow it: this is not an unfinished write.
    #[error(
        "{}: line {line} is damaged; restore the file from a backup, or delete that line (the \
         address in it may then be given to another machine)",
        path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no thread to write with.
    #[error("no thread for the lease journal can be started: {0}")]
    Thread(#[source] io::Error),
}

/// What could be read of a journal.
struct Good {
    leases: Leases,
    /// Bytes of the whole lines at the beginning.
    len: u64,
    lines: usize,
}

impl Good {
    /// Reads lines until the first damaged one; the number of that line is the error when a good
    /// one follows.
    fn read(bytes: &[u8]) -> Result<Self, usize> {
        let mut good = Self { leases: Leases::default(), len: 0, lines: 0 };
        let mut damaged = None;
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            match (parse(line), damaged) {
                (Some(_), Some(line)) => return Err(line),
                (Some(binding), None) => {
                    good.leases.put(binding);
                    good.len = good.len.saturating_add(u64::try_from(line.len()).unwrap_or(0));
                    good.lines = good.lines.saturating_add(1);
                }
                (None, Some(_)) => {}
                (None, None) => damaged = Some(index.saturating_add(1)),
            }
        }
        Ok(good)
    }
}

fn render(binding: &Binding) -> String {
    let Binding { address, mac, state, expires } = binding;
    let body = format!("{} {address} {mac} {expires}", word(*state));
    let sum = checksum(&body);
    format!("{body} {sum:016x}\n")
}

fn parse(line: &[u8]) -> Option<Binding> {
    let line = str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (body, sum) = line.rsplit_once(' ')?;
    if sum != format!("{:016x}", checksum(body)) {
        return None;
    }
    let mut words = body.split(' ');
    let state = state(words.next()?)?;
    let address: Ipv4Addr = words.next()?.parse().ok()?;
    let mac: Mac = words.next()?.parse().ok()?;
    let expires = Timestamp(words.next()?.parse().ok()?);
    words.next().is_none().then_some(Binding { address, mac, state, expires })
}

const fn word(state: State) -> &'static str {
    match state {
        State::Declined => "declined",
        State::Leased => "leased",
        State::Offered => "offered",
        State::Released => "released",
    }
}

fn state(word: &str) -> Option<State> {
    let all = [State::Declined, State::Leased, State::Offered, State::Released];
    all.into_iter().find(|state| self::word(*state) == word)
}

/// A checksum of a line. It finds damage by accident; it is no protection against whoever can write
/// the file.
fn checksum(text: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Lines of history that are kept before it is worth to write the file anew.
const HISTORY: usize = 10_000;

#[cfg(test)]
mod test {
    use std::fs;

    use super::*;

    fn binding(last: u8, state: State) -> Binding {
        let address = Ipv4Addr::new(10, 77, 0, last);
        Binding {
            address,
            mac: Mac([2, 0, 0, 0, 0, last]),
            state,
            expires: Timestamp(1_795_180_000),
        }
    }

    /// A folder with a journal of three leases in it.
    fn journal() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        let (mut journal, _) = Journal::open(&path).unwrap();
        for last in 1..=3 {
            journal.append(&[binding(last, State::Leased)]).unwrap();
        }
        (folder, path)
    }

    fn addresses(leases: &Leases) -> Vec<u8> {
        let mut all: Vec<u8> = leases.iter().map(|binding| binding.address.octets()[3]).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn leases_are_there_again_after_a_restart() {
        let (_folder, path) = journal();
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&[binding(2, State::Released)]).unwrap();
        drop(journal);
        let (_, leases) = Journal::open(&path).unwrap();
        assert_eq!(leases.get(Ipv4Addr::new(10, 77, 0, 1)), Some(binding(1, State::Leased)));
        assert_eq!(leases.get(Ipv4Addr::new(10, 77, 0, 2)), Some(binding(2, State::Released)));
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_next_one_is_whole() {
        let (_folder, path) = journal();
        let whole = fs::read(&path).unwrap();
        for cut in 1..40 {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (mut journal, leases) = Journal::open(&path).unwrap();
            assert_eq!(addresses(&leases), [1, 2], "{cut} bytes missing");
            journal.append(&[binding(9, State::Leased)]).unwrap();
            assert_eq!(addresses(&Journal::open(&path).unwrap().1), [1, 2, 9]);
        }
    }

    #[test]
    fn pages_that_a_power_cut_left_empty_are_cut_off() {
        let (_folder, path) = journal();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend([0; 4096]);
        bytes.extend(b"\nlea\n");
        fs::write(&path, bytes).unwrap();
        assert_eq!(addresses(&Journal::open(&path).unwrap().1), [1, 2, 3]);
    }

    #[test]
    fn damage_before_the_end_names_the_line() {
        let (_folder, path) = journal();
        let text = fs::read_to_string(&path).unwrap().replacen("10.77.0.2", "10.77.0.7", 1);
        fs::write(&path, text).unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { line: 2, .. }), "{error}");
        assert!(error.to_string().contains("line 2 is damaged; restore"), "{error}");
    }

    #[test]
    fn a_compacted_journal_holds_the_same_bindings() {
        let (_folder, path) = journal();
        let (mut journal, _) = Journal::open(&path).unwrap();
        let before = fs::metadata(&path).unwrap().len();
        for _ in 0..100 {
            journal.append(&[binding(3, State::Leased)]).unwrap();
        }
        journal.rewrite().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), before);
        journal.append(&[binding(5, State::Declined)]).unwrap();
        assert_eq!(addresses(&Journal::open(&path).unwrap().1), [1, 2, 3, 5]);
    }

    #[test]
    fn a_journal_is_long_when_most_of_it_is_history() {
        let (_folder, path) = journal();
        let (mut journal, _) = Journal::open(&path).unwrap();
        assert!(!journal.is_long());
        for _ in 0..HISTORY + 10 {
            journal.append(&[binding(3, State::Leased)]).unwrap();
        }
        assert!(journal.is_long());
        journal.compact().unwrap();
        assert!(!journal.is_long());
        assert_eq!(addresses(&Journal::open(&path).unwrap().1), [1, 2, 3]);
    }
}

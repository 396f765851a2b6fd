//! What hooks were run, and how each ended: lines of JSON in the state directory.
//!
//! The server's hooks and those of commands write to one file, each line whole and under a lock. It is put aside
//! when it is long.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::transaction::Transcript;

/// The records of a state directory.
#[derive(Clone, Debug)]
pub struct Records {
    path: PathBuf,
}

impl Records {
    /// Those of this state directory.
    #[must_use]
    pub fn in_state(state: &Path) -> Self {
        Self { path: state.join(FILE) }
    }

    /// Notes what came of the hooks of an event. A record that cannot be written stops nothing: a warning tells
    /// of it.
    pub fn note(&self, transcript: &Transcript) {
        if let Err(error) = self.append(transcript) {
            let path = self.path.display();
            tracing::warn!("what hooks did is not recorded, {path} cannot be written: {error}");
        }
    }

    /// All that is kept, oldest first.
    ///
    /// # Errors
    ///
    /// A file is there and cannot be read.
    pub fn read(&self) -> io::Result<Vec<Transcript>> {
        let mut transcripts = Vec::new();
        for path in [self.old(), self.path.clone()] {
            let text = match fs::read(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // A line that a crash cut off, or that a later version wrote, tells nothing.
            let lines = text.split(|&byte| byte == b'\n');
            transcripts.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()));
        }
        Ok(transcripts)
    }

    fn append(&self, transcript: &Transcript) -> io::Result<()> {
        // A line feed in front ends a line that a crash cut off.
        let mut text = vec![b'\n'];
        text.extend(serde_json::to_vec(transcript).map_err(io::Error::other)?);
        text.push(b'\n');
        let file = loop {
            let mut options = OpenOptions::new();
            let file = options.append(true).create(true).mode(0o600).open(&self.path)?;
            file.lock()?;
            // Another process may have put it aside between the two calls.
            let (mine, now) = (file.metadata()?, fs::metadata(&self.path));
            if !now.is_ok_and(|now| now.ino() == mine.ino() && now.dev() == mine.dev()) {
                continue;
            }
            if mine.len() < LIMIT {
                break file;
            }
            fs::rename(&self.path, self.old())?;
        };
        let mut file: &File = &file;
        file.write_all(&text)
    }

    fn old(&self) -> PathBuf {
        self.path.with_extension("old")
    }
}

/// The file, beside which `hooks.old` has what was before.
const FILE: &str = "hooks";

/// Bytes after which the file is put aside.
const LIMIT: u64 = 4 << 20;

#[cfg(test)]
mod test {
    use super::*;
    use crate::transaction::Outcome;
    use crate::{Event, Occasion};

    #[test]
    fn what_was_noted_is_read_again_also_behind_a_line_that_was_cut_off() {
        let state = tempfile::tempdir().unwrap();
        let records = Records::in_state(state.path());
        assert_eq!(records.read().unwrap(), []);
        let reason = "a file of somebody else".to_owned();
        let transcript = Transcript {
            event: Event { at: 1.5, ..Event::new(Occasion::Up, "web1") },
            outcome: Outcome::Refused { reason },
            runs: Vec::new(),
        };
        records.note(&transcript);
        fs::write(&records.path, [&*fs::read(&records.path).unwrap(), b"{\"event"].concat())
            .unwrap();
        records.note(&transcript);
        assert_eq!(records.read().unwrap(), [transcript.clone(), transcript]);
    }
}

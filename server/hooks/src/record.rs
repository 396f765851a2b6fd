//! What hooks were run, and how each ended: lines of JSON in the state directory.
//!
//! The server's hooks and those of commands write to one file ([`lines`]).

use std::io;
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
        let written =
            lines::line(transcript).and_then(|line| lines::append(&self.path, LIMIT, &line));
        if let Err(error) = written {
            let path = self.path.display();
            tracing::warn!("the log of hooks {path} cannot be written: {error}");
        }
    }

    /// All that is kept, oldest first.
    ///
    /// # Errors
    ///
    /// A file is there and cannot be read.
    pub fn read(&self) -> io::Result<Vec<Transcript>> {
        lines::read(&self.path)
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
    fn what_was_noted_is_read_again() {
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
        records.note(&transcript);
        assert_eq!(records.read().unwrap(), [transcript.clone(), transcript]);
    }
}

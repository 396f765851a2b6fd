//! Rounds of NFS calls that need each other's results: one call at a time on each connection.

use crate::failure::{Failure, ensure};
use crate::rpc::{Procedure, Work};
use crate::xdr::{Reader, long, opaque, word};

use super::nfs::{ATTRIBUTES, NFS};

/// What is done again and again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Round {
    /// A file is made and removed.
    CreateRemove,
    /// A small file is looked up, asked for its attributes and read.
    SmallFile,
}

impl Round {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::CreateRemove => "create_remove",
            Self::SmallFile => "smallfile",
        }
    }

    const fn steps(self) -> &'static [Step] {
        match self {
            Self::CreateRemove => &[Step::Create, Step::Remove],
            Self::SmallFile => &[Step::Lookup, Step::Getattr, Step::Read],
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Create,
    Remove,
    Lookup,
    Getattr,
    Read,
}

/// Rounds in a directory. What is counted is rounds.
pub(super) struct Rounds<'a> {
    round: Round,
    directory: &'a [u8],
    /// Tells the files of one connection from those of others.
    connection: usize,
    number: u32,
    at: usize,
    file: Vec<u8>,
}

impl<'a> Rounds<'a> {
    pub(super) fn new(round: Round, directory: &'a [u8], connection: usize) -> Self {
        // Clients begin at different places.
        let number = u32::try_from(connection).unwrap_or(0) * 13;
        Self { round, directory, connection, number, at: 0, file: Vec::new() }
    }

    fn step(&self) -> Step {
        self.round.steps().get(self.at).copied().unwrap_or(Step::Getattr)
    }

    fn place(&self, out: &mut Vec<u8>, name: &str) {
        opaque(out, self.directory);
        opaque(out, name.as_bytes());
    }

    fn made(&self) -> String {
        format!("made-{}-{}", self.connection, self.number)
    }
}

impl Work for Rounds<'_> {
    fn procedure(&self) -> Procedure {
        let number = match self.step() {
            Step::Getattr => 1,
            Step::Lookup => 3,
            Step::Read => 6,
            Step::Create => 8,
            Step::Remove => 12,
        };
        Procedure(NFS, 3, number)
    }

    fn arguments(&mut self, out: &mut Vec<u8>) {
        match self.step() {
            Step::Create => {
                self.place(out, &self.made());
                // UNCHECKED, as the turn before may have ended between the two calls; a mode, and nothing
                // else that is set (RFC 1813 §3.3.8).
                [0, 1, 0o644, 0, 0, 0, 0, 0].into_iter().for_each(|value| word(out, value));
            }
            Step::Remove => self.place(out, &self.made()),
            Step::Lookup => self.place(out, &small(self.number % SMALL)),
            Step::Getattr => opaque(out, &self.file),
            Step::Read => {
                opaque(out, &self.file);
                long(out, 0);
                word(out, 4096);
            }
        }
    }

    fn appetite(&self) -> usize {
        256
    }

    fn results(&mut self, mut reader: Reader<'_>) -> Result<u32, Failure> {
        let (step, status) = (self.step(), reader.word()?);
        ensure(status == 0, || format!("{step:?}: status {status}"))?;
        match step {
            Step::Lookup => self.file = reader.opaque()?.to_vec(),
            Step::Read => {
                reader.optional(ATTRIBUTES)?;
                let count = reader.word()?;
                ensure(count == SIZE, || format!("the server read {count} bytes"))?;
            }
            Step::Create | Step::Remove | Step::Getattr => {}
        }
        self.at += 1;
        if self.at < self.round.steps().len() {
            return Ok(0);
        }
        (self.at, self.number) = (0, self.number.wrapping_add(1));
        Ok(1)
    }
}

/// The name of a small file.
pub(super) fn small(number: u32) -> String {
    format!("small-{number:05}")
}

/// How many small files there are, more than a server has descriptors for.
pub(super) const SMALL: u32 = 20_000;
/// Bytes of each.
pub(super) const SIZE: u32 = 1024;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_round_counts_when_all_its_calls_are_answered() {
        let mut rounds = Rounds::new(Round::CreateRemove, &[], 0);
        let mut ask = |procedure| {
            assert_eq!(rounds.procedure(), Procedure(NFS, 3, procedure));
            let mut out = Vec::new();
            rounds.arguments(&mut out);
            let counted = rounds.results(Reader::new(&[0; 4])).unwrap();
            (counted, String::from_utf8_lossy(&out).contains("made-0-1"))
        };
        assert_eq!([ask(8), ask(12), ask(8)], [(0, false), (1, false), (0, true)]);
        assert!(rounds.results(Reader::new(&[0, 0, 0, 2])).is_err());
    }

    #[test]
    fn a_small_file_is_read_by_the_handle_that_was_looked_up() {
        let mut rounds = Rounds::new(Round::SmallFile, &[], 0);
        let mut found = vec![0; 4];
        opaque(&mut found, b"handle");
        assert_eq!(rounds.results(Reader::new(&found)).unwrap(), 0);
        let mut out = Vec::new();
        rounds.arguments(&mut out);
        assert!(out.starts_with(&[0, 0, 0, 6]) && out[4..].starts_with(b"handle"));
    }
}

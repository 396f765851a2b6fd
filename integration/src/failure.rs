//! Why a step of the lab did not come to its end.

use std::fmt::Display;
use std::io;

/// Ends a test or the demonstration early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Somebody pressed Ctrl-C, or sent SIGTERM: everything is cleaned up and nothing is counted.
    #[error("interrupted")]
    Interrupted,
    /// What went wrong, in words for a person.
    #[error("{0}")]
    Said(String),
}

impl Failure {
    /// A failure in these words.
    pub(crate) fn said(words: impl Into<String>) -> Self {
        Self::Said(words.into())
    }

    /// The same failure with its words told anew; an interruption has none and stays what it is.
    pub(crate) fn retold(self, tell: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Interrupted => Self::Interrupted,
            Self::Said(words) => Self::Said(tell(words)),
        }
    }
}

/// Adds what was being done to an error that names only its cause.
pub(crate) trait During<T> {
    /// Turns the error into a [`Failure`] that begins with `what`.
    fn during(self, what: impl Display) -> Result<T, Failure>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::Said(format!("{what}: {error}")))
    }
}

impl<T> During<T> for Result<T, serde_json::Error> {
    fn during(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::Said(format!("{what}: {error}")))
    }
}

/// Fails in the words of `otherwise` unless `fact` holds.
pub(crate) fn ensure(fact: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if fact { Ok(()) } else { Err(Failure::Said(otherwise())) }
}

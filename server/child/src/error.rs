//! How a program failed.

use std::ffi::OsStr;
use std::process::ExitStatus;

/// A program that did not do what it was asked to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{call}: {said}")]
pub struct Error {
    /// The program and its arguments.
    pub call: String,
    /// How it failed.
    pub why: Why,
    /// The last lines of its standard error, or what else is known. A terminal obeys nothing of it.
    pub said: String,
}

/// How a program failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// There is no such program.
    Absent,
    /// It ended with this status.
    Ended(ExitStatus),
    /// It did not end in its time.
    Late,
    /// It wrote more than [`MOST`](crate::MOST).
    Long,
    /// An operand would be read as an option.
    Option,
    /// It could not be started, or waited for.
    Start,
    /// One that was killed before it still waits in the kernel.
    Stuck,
}

/// A word of a command as it is shown: as it is if it is plain, else in quotation marks.
pub(crate) fn word(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_./=@:,+%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("{text:?}") }
}

/// What a program said, with its lines and without anything that a terminal obeys.
pub(crate) fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = |c: char| match c {
        '\n' | '\t' | '\'' | '"' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    text.trim().chars().map(shown).collect()
}

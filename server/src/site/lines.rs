//! Files of JSON lines, which are put aside when they are long: what happened, and what machines said.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// What is written down in a file and in the one that was put aside for it, oldest first.
///
/// # Errors
///
/// A file is there and cannot be read.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Vec<T>> {
    let mut records = Vec::new();
    for path in [&aside(path), path] {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let lines = text.split(|&byte| byte == b'\n');
        // A line that a crash cut off, or that a later version wrote, tells nothing.
        records.extend(lines.filter_map(|line| serde_json::from_slice::<T>(line).ok()));
    }
    Ok(records)
}

/// The file that one is put aside as; the one before it goes.
pub(crate) fn aside(path: &Path) -> PathBuf {
    path.with_extension("old")
}

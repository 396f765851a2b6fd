//! What an archive had and the host's file system cannot keep.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Attributes that were not kept, and whose they were.
#[derive(Debug, Default)]
pub(super) struct Dropped(BTreeMap<String, Vec<PathBuf>>);

impl Dropped {
    /// Notes that `path` is without `what`.
    pub(super) fn note(&mut self, what: impl Into<String>, path: &Path) {
        self.0.entry(what.into()).or_default().push(path.to_owned());
    }

    /// Whether everything was kept.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One line for each attribute: how many files are without it, and which is the first.
    pub(super) fn summary(&self) -> String {
        let line = |(what, paths): (&String, &Vec<PathBuf>)| {
            let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
            match paths.len() {
                0 | 1 => format!("not kept: {what} of /{first}\n"),
                more => format!("not kept: {what} of {more} files, /{first} among them\n"),
            }
        };
        self.0.iter().map(line).collect()
    }

    /// All of it, to be written down: an attribute, a tab and a quoted path on each line.
    pub(super) fn record(&self) -> String {
        let lines = self.0.iter().flat_map(|(what, paths)| {
            paths.iter().map(move |path| format!("{what}\t{:?}\n", Path::new("/").join(path)))
        });
        lines.collect()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_is_dropped_is_counted_and_written_down() {
        let mut dropped = Dropped::default();
        assert!(dropped.is_empty());
        dropped.note("the flags sunlnk", Path::new("var/empty"));
        dropped.note("the flags schg", Path::new("bin/a"));
        dropped.note("the flags schg", Path::new("bin/b"));
        assert_eq!(
            dropped.summary(),
            "not kept: the flags schg of 2 files, /bin/a among them\n\
             not kept: the flags sunlnk of /var/empty\n"
        );
        assert!(dropped.record().starts_with("the flags schg\t\"/bin/a\"\n"));
    }
}

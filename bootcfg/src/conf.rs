//! The tree below /conf, with which one FreeBSD root serves many machines.
//!
//! rc.initdiskless makes a memory file system for every directory in a template, and copies the
//! templates into it one over the other: `base`, then `ip/ADDRESS`. A template with only a few files
//! would leave /etc without all others, so that `base` has to be the root's own /etc.

use crate::error::refuse;
use crate::fstab::{self, Dialect};
use crate::rule::{Reading, Rule};
use crate::{Address, ConfigError, Guest, rcconf};

/// A file of the tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// Its path from the root of the boot environment, without a slash in front.
    pub path: String,
    /// What is in it, with a line feed at its end.
    pub text: String,
}

/// The files for a machine: those of all machines, and those of its own address.
pub fn tree(guest: &Guest, address: &Address) -> Result<Vec<File>, ConfigError> {
    let file = |path: String, text: String| File { path, text };
    let own = format!("conf/ip/{}/etc", address.address);
    let mut files = vec![
        // Without a server, the script puts the root before the path.
        file("conf/base/etc/diskless_remount".into(), "/etc -o ro\n".into()),
        // In blocks of 512 bytes: 32 MiB at most, of which only what is used is taken.
        file("conf/base/etc/md_size".into(), "65536\n".into()),
        // The root's own host id would be the same for all, and make all one client to NFSv4.
        file("conf/base/etc.remove".into(), "hostid\n".into()),
        file(format!("{own}/rc.conf.local"), rcconf::render(&rcconf::diskless(guest)?)?),
    ];
    let entries = fstab::nested(&guest.root, Dialect::FreeBsd);
    if !entries.is_empty() {
        files.push(file(format!("{own}/fstab"), fstab::render(&entries)?));
    }
    Ok(files)
}

/// The files as one text: each below a line with its path, as tail(1) shows several files.
pub fn render(files: &[File]) -> Result<String, ConfigError> {
    let mut text = String::new();
    for (index, File { path, text: content }) in files.iter().enumerate() {
        let reason = "it is relative, without .. and without control characters";
        refuse("the path", path, FORMAT, reason, char::is_control)?;
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if path.split('/').any(odd) || path.ends_with(TAIL) {
            let (what, value) = ("the path", path.clone());
            return Err(ConfigError::Character { what, value, format: FORMAT, reason });
        }
        let begins = content.lines().any(|line| line.starts_with(HEAD));
        if begins || content.contains('\r') || !(content.is_empty() || content.ends_with('\n')) {
            let reason =
                "it has a line like those with paths, a carriage return, or no last line feed";
            let (what, value) = ("the file", content.clone());
            return Err(ConfigError::Character { what, value, format: FORMAT, reason });
        }
        text += if index == 0 { "" } else { "\n" };
        text += &format!("{HEAD}{path}{TAIL}\n{content}");
    }
    Ok(text)
}

/// Reads such a text.
#[must_use]
pub fn read(text: &str) -> Reading<File> {
    let mut reading = Reading::<File>::default();
    for (index, line) in text.lines().enumerate() {
        let path = line.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix(TAIL));
        let open = reading.entries.last_mut().map(|entry| &mut entry.value);
        match (path, open) {
            (Some(path), before) => {
                if let Some(before) = before {
                    // The empty line between two files.
                    before.text.pop();
                }
                let file = File { path: path.to_owned(), text: String::new() };
                reading.add(index + 1, file);
            }
            (None, Some(file)) => {
                file.text += line;
                file.text.push('\n');
            }
            (None, None) => {
                reading.report(index + 1, Rule::Syntax, "no line with a path stands above it");
            }
        }
    }
    reading
}

const HEAD: &str = "==> ";
const TAIL: &str = " <==";
const FORMAT: &str = "a list of files";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy::{self, lan};

    #[test]
    fn the_roots_own_etc_is_below_the_files_of_the_machine() {
        let files = tree(&strategy::head(), &lan()).unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "conf/base/etc/diskless_remount",
                "conf/base/etc/md_size",
                "conf/base/etc.remove",
                "conf/ip/192.168.2.202/etc/rc.conf.local",
                "conf/ip/192.168.2.202/etc/fstab",
            ]
        );
        assert_eq!(files[4].text.lines().count(), 9);
    }

    #[test]
    fn what_would_be_read_as_another_file_is_refused() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        for file in [file("a", "==> b <==\n"), file("../a", ""), file("/a", ""), file("a\nb", "")] {
            assert!(render(&[file]).is_err());
        }
        assert_eq!(read("a\n").diagnostics[0].line, 1);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            files in prop::collection::vec(("[a-z/. =<>-]{1,9}", "([ -~\r]{0,9}\n){0,3}|[ -~]{1,3}"), 0..4)
        ) {
            let files: Vec<_> =
                files.into_iter().map(|(path, text)| File { path, text }).collect();
            if let Ok(text) = render(&files) {
                prop_assert_eq!(read(&text).whole(), Ok(files));
            }
        }

        #[test]
        fn every_guests_tree_is_read_back(guest in strategy::guest(), address in strategy::address()) {
            if let Ok(files) = tree(&guest, &address) {
                prop_assert_eq!(read(&render(&files).unwrap()).whole(), Ok(files));
            }
        }
    }
}

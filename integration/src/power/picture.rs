//! All that is on a disk, so that two of its states can be told apart.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::failure::{During, Failure};

/// What is there, by what it is.
pub(super) type Picture = BTreeMap<String, String>;

/// A tree with all its metadata, a line for each file; times of access are left out.
pub(super) fn tree(root: &Path) -> Result<String, Failure> {
    let (mut lines, mut links) = (String::new(), HashMap::new());
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        // Joined with nothing, a path ends in a slash, and is a directory's.
        let path = if below.as_os_str().is_empty() { root.to_owned() } else { root.join(&below) };
        let found = fs::symlink_metadata(&path).during(path.display())?;
        let kind = found.file_type();
        let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
        let (time, nanoseconds) = (found.mtime(), found.mtime_nsec());
        let mut line = format!("{} {mode:o} {uid}:{gid} {time}.{nanoseconds}", below.display());
        if kind.is_dir() {
            let mut entries = Vec::new();
            for entry in fs::read_dir(&path).during(path.display())? {
                entries.push(below.join(entry.during(path.display())?.file_name()));
            }
            // The last is the next.
            entries.sort_by(|one, other| other.cmp(one));
            left.extend(entries);
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).during(path.display())?;
            line = format!("{line} -> {}", target.display());
        } else if kind.is_char_device() || kind.is_block_device() {
            line = format!("{line} device {}", found.rdev());
        } else if kind.is_file() {
            let content = fs::read(&path).during(path.display())?;
            let content =
                Sha256::digest(content).as_slice().iter().take(8).copied().collect::<Vec<_>>();
            let first = links.entry(found.ino()).or_insert_with(|| below.clone());
            line = format!("{line} {} {content:x?} {}", found.size(), first.display());
        }
        for (name, value) in attributes(&path)? {
            line = format!("{line} {name}={value}");
        }
        let _ = writeln!(lines, "{line}");
    }
    Ok(lines)
}

/// The extended attributes of a file, and with them its ACLs.
fn attributes(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let read = |read: &dyn Fn(&mut [u8]) -> rustix::io::Result<usize>| {
        let mut buffer = vec![0; 64 * 1024];
        let length = read(&mut buffer).map_err(std::io::Error::from).during(path.display())?;
        buffer.truncate(length);
        Ok::<_, Failure>(buffer)
    };
    let names = read(&|buffer| rustix::fs::llistxattr(path, buffer))?;
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let value = read(&|buffer| rustix::fs::lgetxattr(path, name, buffer))?;
        found.push((String::from_utf8_lossy(name).into_owned(), format!("{value:x?}")));
    }
    found.sort();
    Ok(found)
}

/// The same, but for identities and times that were not there `before`: whoever does a thing twice gets other ones.
pub(super) fn without_new(picture: &Picture, before: &Picture) -> Picture {
    let known: HashSet<&str> =
        before.iter().flat_map(|(key, text)| words(key).chain(words(text))).collect();
    let told = |text: &String| {
        let word = |word| match is_identity(word) && !known.contains(word) {
            true => "new",
            false => word,
        };
        words(text).map(word).collect()
    };
    picture.iter().map(|(key, text)| (told(key), told(text))).collect()
}

/// Splits a text into words, and what stands between them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.');
    let mut rest = text;
    std::iter::from_fn(move || {
        let inside = is_in_word(rest.chars().next()?);
        let end = rest.find(|c| is_in_word(c) != inside).unwrap_or(rest.len());
        let (word, left) = rest.split_at(end);
        rest = left;
        Some(word)
    })
}

/// Whether a word is a number that nobody chose, a UUID, or a time.
fn is_identity(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_time = word.len() == "2026-11-22T20:43:00Z".len() && word.ends_with('Z');
    // Also in the name of a snapshot that netbe made by itself.
    let word = word.strip_prefix("netbe-").unwrap_or(word);
    let is_hex = word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let is_uuid = is_hex && word.len() == 36 && word.matches('-').count() == 4;
    is_number && digits >= 9 || is_uuid || is_time && digits == 14
}

/// What is in one of two pictures and not in the other, in lines; empty if they are the same. What an
/// environment holds is not looked at if it is `free`.
pub(super) fn differences(one: &Picture, other: &Picture, free: Option<&str>) -> String {
    let mut told = String::new();
    let about = |key: &&String| free.is_none_or(|free| key.as_str() != format!("be/{free}"));
    for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))).filter(about) {
        let (had, has) = (one.get(key), other.get(key));
        if had == has {
            continue;
        }
        let lines = |text: Option<&String>| -> Vec<String> {
            text.map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default()
        };
        let (had_lines, has_lines) = (lines(had), lines(has));
        let _ = writeln!(
            told,
            "{key}: {}",
            match (had, has) {
                (Some(_), None) => "is missing",
                (None, _) => "is there",
                (Some(_), Some(_)) => "is another",
            }
        );
        let gone = had_lines.iter().filter(|line| !has_lines.contains(line));
        let new = has_lines.iter().filter(|line| !had_lines.contains(line));
        for line in gone.map(|line| format!("- {line}")).take(MOST) {
            let _ = writeln!(told, "  {line}");
        }
        for line in new.map(|line| format!("+ {line}")).take(MOST) {
            let _ = writeln!(told, "  {line}");
        }
    }
    told
}

/// So many lines are told of what is not the same.
const MOST: usize = 4;

#[cfg(test)]
mod test {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_tree_is_another_when_anything_of_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("a")).unwrap();
        for name in ["a/file", "b"] {
            fs::write(root.join(name), "x").unwrap();
        }
        symlink("b", root.join("link")).unwrap();
        let before = tree(root).unwrap();
        assert_eq!(tree(root).unwrap(), before);
        assert_eq!(before.lines().count(), 5);
        let changed = |change: &dyn Fn()| {
            let before = tree(root).unwrap();
            change();
            assert_ne!(tree(root).unwrap(), before);
        };
        changed(&|| fs::write(root.join("b"), "y").unwrap());
        changed(&|| {
            fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o4711)).unwrap()
        });
        changed(&|| fs::hard_link(root.join("b"), root.join("c")).unwrap());
        changed(&|| {
            // The same content, and no link.
            fs::remove_file(root.join("c")).unwrap();
            fs::copy(root.join("b"), root.join("c")).unwrap();
        });
        changed(&|| {
            fs::remove_file(root.join("link")).unwrap();
            symlink("c", root.join("link")).unwrap();
        });
    }

    #[test]
    fn two_pictures_differ_by_what_one_of_them_has() {
        let picture = |pairs: &[(&str, &str)]| -> Picture {
            pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
        };
        let one = picture(&[("be/a", "1\n2\n"), ("be/b", "x")]);
        assert_eq!(differences(&one, &one, None), "");
        let other = picture(&[("be/a", "1\n3\n"), ("be/c", "y")]);
        let told = differences(&one, &other, None);
        assert_eq!(
            told,
            "be/a: is another\n  - 2\n  + 3\nbe/b: is missing\n  - x\nbe/c: is there\n  + y\n"
        );
        assert!(!differences(&one, &other, Some("a")).contains("be/a"));
    }

    #[test]
    fn only_identities_that_are_new_are_left_out() {
        let picture = |text: &str| Picture::from([("zfs one".to_owned(), text.to_owned())]);
        let old =
            "tank/be/one\t8731790237749774340\tnetbe:uuid=40d44dd5-a5b0-459f-b0e1-31888269e25e\n";
        let new = "etc/config 4750 7:8 1795380000.12 file-2 2026-11-22T20:43:00Z 11998539979627245933 \
                   2a1db3df-4738-4cda-8d73-6716674e67d5 10.0.0.1";
        let both = picture(&format!("{old}{new}"));
        let expected =
            picture(&format!("{old}etc/config 4750 7:8 new file-2 new new new 10.0.0.1"));
        assert_eq!(without_new(&both, &picture(old)), expected);
        assert_eq!(without_new(&both, &both), both);
    }
}

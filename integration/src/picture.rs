//! What a store looks like on its disk: every file with its metadata, and what differs from one making of it to
//! the next (UUIDs, times, names with a time in them) told alike.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{lgetxattr, llistxattr};

use crate::failure::{During, Failure};

/// Every file below some directories, by its path.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Picture(BTreeMap<String, String>);

impl Picture {
    /// Looks at what is below `root`, but not at what has one of the names `without`, nor at snapshots
    /// that templates are pinned by: one that is there is used again.
    pub(crate) fn of(root: &Path, without: &[&str]) -> Result<Self, Failure> {
        let mut found = Vec::new();
        walk(root, "", without, &mut found).during(root.display())?;
        // Whose a UUID is a store says in a file of the environment's name, or in the snapshot's.
        let mut known = BTreeMap::new();
        for (path, text) in &found {
            let name = path.strip_suffix(".toml").and_then(|path| path.rsplit_once("/meta/"));
            if let Some((_, name)) = name
                && let Some(uuid) = text.split("uuid = \"").nth(1).and_then(|rest| rest.get(..UUID))
            {
                known.insert(uuid.to_owned(), format!("<{name}>"));
            }
        }
        let told = |text: &String| alike(text, &known);
        Ok(Self(found.iter().map(|(path, text)| (told(path), told(text))).collect()))
    }

    /// What is told of data sets: lines that each begin with a name and a tab. Snapshots that templates are
    /// pinned by are left out.
    pub(crate) fn told(texts: &[&str]) -> Self {
        let lines = || texts.iter().flat_map(|text| text.lines());
        let known = lines().filter_map(|line| {
            let (name, uuid) = line.split_once("\tnetbe:uuid\t")?;
            Some((uuid.get(..UUID)?.to_owned(), format!("<{name}>")))
        });
        let known = known.collect();
        let mut picture = BTreeMap::<String, String>::new();
        for line in lines() {
            let (name, told) = line.split_once('\t').unwrap_or((line, ""));
            if name.split_once('@').is_some_and(|(_, snapshot)| is_pin(snapshot)) {
                continue;
            }
            let entry = picture.entry(alike(name, &known)).or_default();
            *entry = format!("{entry}{}\n", alike(told, &known));
        }
        Self(picture)
    }

    /// The same, below a name.
    pub(crate) fn below(self, name: &str) -> Self {
        Self(self.0.into_iter().map(|(path, told)| (format!("{name}{path}"), told)).collect())
    }

    /// The same, with what is in another beside it.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What is in one and not, or not so, in the other: at most so many lines.
    pub(crate) fn differences(&self, other: &Self, most: usize) -> Vec<String> {
        let paths = self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path)));
        let differs = paths.filter(|path| self.0.get(*path) != other.0.get(*path));
        differs
            .map(|path| {
                let (one, other) = (self.0.get(path), other.0.get(path));
                let same = one.zip(other).map_or(0, |(one, other)| {
                    one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count()
                });
                // What stands before the first difference tells what differs.
                let begin = same.saturating_sub(60);
                let shown = |entry: Option<&String>| {
                    entry.map_or_else(
                        || "absent".to_owned(),
                        |text| {
                            let rest: String = text.chars().skip(begin).collect();
                            rest.escape_debug().take(200).collect()
                        },
                    )
                };
                format!("{path}: {} and not {}", shown(one), shown(other))
            })
            .take(most)
            .collect()
    }
}

fn walk(
    root: &Path,
    below: &str,
    without: &[&str],
    found: &mut Vec<(String, String)>,
) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let name = name.to_string_lossy();
        if without.contains(&name.as_ref()) || is_pin(&name) {
            continue;
        }
        let stat = fs::symlink_metadata(&path)?;
        let below = format!("{below}/{name}");
        found.push((below.clone(), told(&path, &stat)?));
        if stat.is_dir() {
            walk(&path, &below, without, found)?;
        }
    }
    Ok(())
}

fn told(path: &Path, stat: &Metadata) -> io::Result<String> {
    // What was made before is dated back: all else was made just now.
    let time = if stat.mtime() < OLD { stat.mtime().to_string() } else { "new".to_owned() };
    let content = if stat.is_file() {
        String::from_utf8_lossy(&fs::read(path)?).into_owned()
    } else if stat.is_symlink() {
        String::from_utf8_lossy(fs::read_link(path)?.as_os_str().as_bytes()).into_owned()
    } else {
        String::new()
    };
    let links = if stat.is_dir() { 0 } else { stat.nlink() };
    let mut names = vec![0; 1 << 16];
    let len = llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let mut attributes = Vec::new();
    for name in names.get(..len).unwrap_or_default().split(|byte| *byte == 0) {
        let mut value = vec![0; 1 << 16];
        if let Ok(len @ 1..) = lgetxattr(path, name, value.as_mut_slice()) {
            let value = value.get(..len).unwrap_or_default();
            attributes.push(format!("{}={value:?}", String::from_utf8_lossy(name)));
        }
    }
    attributes.sort();
    let (mode, uid, gid) = (stat.mode(), stat.uid(), stat.gid());
    Ok(format!("{mode:o} {uid}:{gid} {links} {time} {attributes:?} {content}"))
}

/// A text with what is another each time told alike.
fn alike(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut told = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let uuid = rest.get(..UUID).filter(|word| is_uuid(word));
        let len = if let Some(uuid) = uuid {
            told.push_str(known.get(uuid).map_or("<uuid>", String::as_str));
            UUID
        } else if let Some(len) = length_of_time(rest) {
            told.push_str("<time>");
            len
        } else {
            told.push(first);
            first.len_utf8()
        };
        rest = rest.get(len..).unwrap_or_default();
    }
    told
}

/// Whether a snapshot is called by the time at which a template was pinned: others that netbe makes have a UUID.
fn is_pin(name: &str) -> bool {
    name.strip_prefix("netbe-20").is_some_and(|rest| rest.as_bytes().get(2) == Some(&b'-'))
}

fn is_uuid(word: &str) -> bool {
    word.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

/// How long the time is that a text begins with: digits, and what is between them, behind a year.
fn length_of_time(text: &str) -> Option<usize> {
    let year = text.get(..3).is_some_and(|year| year.starts_with("20"));
    let end = text.find(|c: char| !(c.is_ascii_digit() || "-:.TZ".contains(c)));
    let len = end.unwrap_or(text.len());
    (year && len >= 15).then_some(len)
}

/// How long a UUID is.
const UUID: usize = 36;
/// Times before this are of what was dated back, in seconds since 1970.
const OLD: i64 = 1_500_000_000;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_is_another_each_time_is_told_alike() {
        let uuid = "014ebe09-efe4-4a94-a17e-fd0df3a8dd2c";
        let known = BTreeMap::from([(uuid.to_owned(), "<head>".to_owned())]);
        let text = format!(
            "of {uuid} since 2026-11-22T06:01:36Z, 2 of 60d7ebfa-cc95-4854-8d16-2f96c9d0731a"
        );
        assert_eq!(alike(&text, &known), "of <head> since <time>, 2 of <uuid>");
    }

    #[test]
    fn a_file_that_changes_is_seen_by_its_content_and_its_metadata() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "a").unwrap();
        let before = Picture::of(dir.path(), &[]).unwrap();
        fs::write(&file, "b").unwrap();
        let after = Picture::of(dir.path(), &[]).unwrap();
        assert_eq!(before.differences(&after, 9).len(), 1);
        fs::write(&file, "a".repeat(900) + "b").unwrap();
        let long = Picture::of(dir.path(), &[]).unwrap();
        fs::write(&file, "a".repeat(900) + "c").unwrap();
        let told = long.differences(&Picture::of(dir.path(), &[]).unwrap(), 9);
        assert!(told[0].contains("ab and not aaa") && told[0].ends_with("ac"), "{told:?}");
        fs::write(&file, "a").unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_ne!(before, Picture::of(dir.path(), &[]).unwrap());
        assert_eq!(Picture::of(dir.path(), &["file"]).unwrap(), Picture::default());
    }
}

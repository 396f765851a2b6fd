//! What may be typed or written wrong, as a list: `wrong.txt` has each command, the file that it comes upon, its
//! exit status and its sentence. `cargo test -p netbe --test serve wrong -- --nocapture` prints what they are now.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::bench::{Net, Outcome, Site};

/// A wrong input.
#[derive(Clone, Debug)]
struct Row<'a> {
    /// What is typed behind `netbe`.
    command: &'a str,
    /// A file that it comes upon, and what stands in it.
    file: Option<(&'a str, String)>,
    status: i32,
    sentence: &'a str,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        if let Some((path, text)) = &self.file {
            writeln!(f, "< {path}")?;
            for line in text.lines() {
                writeln!(f, "| {line}")?;
            }
        }
        write!(f, "= {} {}", self.status, self.sentence)
    }
}

impl Row<'_> {
    /// The list, in its order.
    fn all() -> Vec<Row<'static>> {
        let mut rows = Vec::new();
        let (mut command, mut file) = ("", None::<(&str, String)>);
        for line in include_str!("wrong.txt").lines() {
            let rest = line.get(1..).unwrap_or_default().trim_start();
            match line.chars().next() {
                Some('$') => (command, file) = (rest, None),
                Some('<') => file = Some((rest, String::new())),
                Some('|') => {
                    let (_, text) = file.as_mut().unwrap();
                    writeln!(text, "{}", line.strip_prefix("| ").unwrap_or_default()).unwrap();
                }
                Some('=') => {
                    let (status, sentence) = rest.split_once(' ').unwrap();
                    let status = status.parse().unwrap();
                    rows.push(Row { command, file: file.take(), status, sentence });
                }
                Some('#') | None => {}
                Some(_) => panic!("not understood: {line:?}"),
            }
        }
        rows
    }

    /// Whether what it says depends on the interfaces of the host.
    fn needs_interfaces(&self) -> bool {
        self.command.starts_with("serve") || self.command.contains("10.77.0")
    }

    fn words(&self, site: &Site) -> Vec<String> {
        let (mut words, mut quoted) = (Vec::new(), false);
        for part in self.command.split('\'') {
            match quoted {
                true => words.push(part.to_owned()),
                false => words.extend(part.split_whitespace().map(str::to_owned)),
            }
            quoted = !quoted;
        }
        let dir = site.path("");
        let dir = dir.to_str().unwrap().trim_end_matches('/');
        words.iter().map(|word| word.replace("DIR", dir)).collect()
    }

    /// Runs it; gives what came of it, in the place of what is expected.
    fn run(&self, site: &Site, net: Option<&Net>) -> String {
        let dir = site.path("");
        let place = self.file.as_ref().map(|(path, text)| (dir.join(path), text));
        let before = place.as_ref().map(|(path, text)| {
            let before = fs::read(path).ok();
            fs::write(path, text).unwrap();
            before
        });
        let words = self.words(site);
        let netbe = site.netbe(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let mut netbe = match net {
            Some(net) => net.beside(&netbe),
            None => netbe,
        };
        let Outcome { out, err, status } = netbe.stdin(Stdio::null()).output().unwrap().into();
        if let (Some((path, _)), Some(before)) = (&place, before) {
            match before {
                Some(before) => fs::write(path, before).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
        let told = match err.strip_prefix("netbe: ").and_then(|line| line.strip_suffix('\n')) {
            Some(line) if out.is_empty() && !line.contains('\n') => line.to_owned(),
            _ => format!("more or less than one sentence: {err:?}, and printed {out:?}"),
        };
        let told = told.replace(dir.to_str().unwrap().trim_end_matches('/'), "DIR");
        Row { status: status.unwrap(), sentence: &told, ..self.clone() }.to_string()
    }
}

/// All files of a site but the history of what was done.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(files(&entry.path())),
            false => drop(all.insert(entry.path())),
        }
    }
    all.retain(|path| !path.ends_with("history"));
    all
}

#[test]
fn what_is_typed_wrong_is_said_in_one_sentence_and_leaves_nothing() {
    let net = Net::new(&[]);
    if let Some(net) = &net {
        net.ip(&["link", "add", "bare", "type", "bridge"]);
    }
    let site = Site::with_base();
    for line in [
        "create -l flat head",
        "snapshot head@monday",
        "clone head copy",
        "machine add --mac 52:54:00:00:00:01 --address 10.77.0.9 web1",
        "machine add --mac 52:54:00:00:00:02 web2",
        "sharepxe --machine web1 head",
    ] {
        site.done(&line.split(' ').collect::<Vec<_>>());
    }
    let rows = Row::all();
    assert!(rows.len() >= 150, "{} wrong inputs", rows.len());
    let mut other = String::new();
    for row in &rows {
        if net.is_none() && row.needs_interfaces() {
            continue;
        }
        let before = files(&site.path(""));
        let (expected, now) = (row.to_string(), row.run(&site, net.as_ref()));
        println!("{now}");
        if now != expected {
            write!(other, "{expected}\n  is now\n{now}\n").unwrap();
        }
        let after = files(&site.path(""));
        for left in after.symmetric_difference(&before) {
            write!(other, "{expected}\n  has left {}\n", left.display()).unwrap();
        }
    }
    assert!(other.is_empty(), "{other}");
}

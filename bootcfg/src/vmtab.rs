//! vmtab: the guests that a FreeBSD host starts when it boots, one on each line, and the script of rc.d that
//! reads it.
//!
//! A line has a guest's name, the script that runs it until it is off, and its options; what the guest is
//! stands in that script. The host needs no netbe for it.

use std::collections::BTreeSet;

use crate::error::{limit, refuse};
use crate::rule::{Reading, Rule};
use crate::{ConfigError, Diagnostic};

/// A guest of the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The guest's name.
    pub name: String,
    /// The script that runs it until it is off.
    pub script: String,
    /// Whether it starts with the host.
    pub auto: bool,
    /// For how many seconds the next one waits.
    pub wait: u16,
}

/// The script of rc.d, which starts and stops the guests of `/usr/local/etc/vmtab`.
pub const RC_SCRIPT: &str = include_str!("vmtab/rc.sh");

/// The text of a table.
pub fn render(entries: &[Entry]) -> Result<String, ConfigError> {
    let mut text = String::from("# name\tscript\toptions\n");
    for (index, entry) in entries.iter().enumerate() {
        let Entry { name, script, auto, wait } = entry;
        name_of_guest(name)?;
        if entries.iter().take(index).any(|other| other.name == *name) {
            return Err(wrong("the guest", name, "it is already in the table"));
        }
        let reason = "it is an absolute path without white space, which separates the fields";
        let odd = |c: char| c.is_whitespace() || c.is_control();
        refuse("the script", script, FORMAT, reason, odd)?;
        if !script.starts_with('/') {
            return Err(wrong("the script", script, reason));
        }
        let start = if *auto { "auto" } else { "noauto" };
        let wait = if *wait == 0 { String::new() } else { format!(",wait={wait}") };
        text += &format!("{name}\t{script}\t{start}{wait}\n");
    }
    Ok(text)
}

/// Reads a table; comments and empty lines are left out.
#[must_use]
pub fn read(text: &str) -> Reading<Entry> {
    let mut reading = Reading::default();
    let mut seen = BTreeSet::new();
    for (index, line) in text.split('\n').enumerate() {
        let mut fields = line.split([' ', '\t']).filter(|field| !field.is_empty());
        let Some(name) = fields.next().filter(|name| !name.starts_with('#')) else { continue };
        let fields: Vec<&str> = fields.collect();
        match entry(name, &fields) {
            Ok(entry) if !seen.insert(entry.name.clone()) => {
                let message = format!("{name} is already defined above: remove one of the lines");
                reading.report(index + 1, Rule::Twice, message);
            }
            Ok(entry) => reading.add(index + 1, entry),
            Err(message) => reading.report(index + 1, Rule::Syntax, message),
        }
    }
    reading
}

fn entry(name: &str, fields: &[&str]) -> Result<Entry, String> {
    name_of_guest(name).map_err(|error| error.to_string())?;
    let (script, options) = match fields {
        [script] => (script, ""),
        [script, options] => (script, *options),
        _ => return Err(format!("{name} has {} fields: {FIELDS}", fields.len().saturating_add(1))),
    };
    if !script.starts_with('/') || script.contains(char::is_control) {
        return Err(format!("{script} is no absolute path: {FIELDS}"));
    }
    let mut entry =
        Entry { name: name.to_owned(), script: (*script).to_owned(), auto: true, wait: 0 };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match (option, option.strip_prefix("wait=").map(str::parse)) {
            ("auto", _) => entry.auto = true,
            ("noauto", _) => entry.auto = false,
            (_, Some(Ok(seconds))) => entry.wait = seconds,
            _ => return Err(format!("{option} is no option: write auto, noauto or wait=SECONDS")),
        }
    }
    Ok(entry)
}

/// Refuses what is no guest's name: part of the names of files and of arguments.
fn name_of_guest(name: &str) -> Result<(), ConfigError> {
    let reason = "begin it with a letter or digit, and write only letters, digits and - _ .";
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    refuse("the name", name, FORMAT, reason, |c| !plain(c))?;
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(wrong("the name", name, reason));
    }
    limit("the name", name, FORMAT, 37)
}

/// All of a table without a mistake.
pub fn parse(text: &str) -> Result<Vec<Entry>, Diagnostic> {
    read(text).whole()
}

fn wrong(what: &'static str, value: &str, reason: &'static str) -> ConfigError {
    ConfigError::Character { what, value: value.to_owned(), format: FORMAT, reason }
}

const FIELDS: &str = "write NAME SCRIPT OPTIONS";
const FORMAT: &str = "vmtab";

#[cfg(test)]
mod test {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn web(auto: bool, wait: u16) -> Entry {
        Entry { name: "web1".into(), script: "/usr/local/etc/vmtab.d/web1.sh".into(), auto, wait }
    }

    #[test]
    fn a_line_is_a_guest() {
        let text = render(&[web(true, 0), Entry { name: "db.1".into(), ..web(false, 5) }]).unwrap();
        assert_eq!(
            text,
            "# name\tscript\toptions\nweb1\t/usr/local/etc/vmtab.d/web1.sh\tauto\n\
             db.1\t/usr/local/etc/vmtab.d/web1.sh\tnoauto,wait=5\n"
        );
        let by_hand = "\n# x\n  a   /b/c.sh\n";
        let a = Entry { name: "a".into(), script: "/b/c.sh".into(), auto: true, wait: 0 };
        assert_eq!(parse(by_hand), Ok(vec![a]));
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in ["", "-f", "../x", "a b", "a;b", "a/b", ".x", "$(x)", &"x".repeat(38)] {
            assert!(render(&[Entry { name: name.into(), ..web(true, 0) }]).is_err(), "{name}");
        }
        for script in ["", "x.sh", "/a b", "/a\nb"] {
            assert!(
                render(&[Entry { script: script.into(), ..web(true, 0) }]).is_err(),
                "{script}"
            );
        }
        assert!(render(&[web(true, 0), web(true, 0)]).is_err());
        for text in ["a", "a b", "a /b c", "a /b auto d", "-a /b", "a /b\na /c", "a /b wait=x"] {
            assert_eq!(read(text).diagnostics.len(), 1, "{text}");
        }
    }

    /// A host on which the script of rc.d runs: with rc.subr, daemon and a directory of its own.
    struct Host(PathBuf);

    impl Host {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("bootcfg-vmtab-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("bin")).unwrap();
            let host = Self(path);
            let dir = host.0.display();
            host.program(
                "bin/daemon",
                "while getopts fp:o: option; do case $option in p) file=$OPTARG;; o) log=$OPTARG;; esac; done\n\
                 shift $((OPTIND - 1))\n\"$@\" >\"$log\" 2>&1 & echo $! >\"$file\"\n",
            );
            // As a guest's script: it has a bhyve for its child, whose end is its own.
            host.program("bin/bhyve", "trap 'exit 1' TERM\nwhile :; do sleep 0.05; done\n");
            host.program("guest.sh", &format!("echo began\n{dir}/bin/bhyve\necho ended $?\n"));
            let rc = RC_SCRIPT.replace(". /etc/rc.subr", &format!(". {dir}/rc.subr"));
            host.program("vmtab.rc", rc.trim_start_matches("#!/bin/sh"));
            let subr = format!(
                "load_rc_config() {{ vmtab_file={dir}/vmtab; vmtab_run={dir}; vmtab_log={dir}; vmtab_timeout=10; }}\n\
                 run_rc_command() {{ verb=$1; shift; eval \"command=\\$${{verb}}_cmd\"; $command \"$@\"; }}\n"
            );
            fs::write(host.0.join("rc.subr"), subr).unwrap();
            host
        }

        fn program(&self, name: &str, text: &str) {
            let path = self.0.join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn run(&self, words: &[&str]) -> (String, Option<i32>) {
            let path =
                format!("{}:{}", self.0.join("bin").display(), std::env::var("PATH").unwrap());
            let mut command = Command::new(self.0.join("vmtab.rc"));
            let out = command.args(words).env("PATH", path).output().unwrap();
            let both = [out.stdout, out.stderr].concat();
            (String::from_utf8(both).unwrap(), out.status.code())
        }

        fn log(&self, guest: &str) -> String {
            fs::read_to_string(self.0.join(format!("vmtab_{guest}.log"))).unwrap_or_default()
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn table(at: &Path, entries: &[(&str, &str, bool)]) {
        let entry = |(name, script, auto): &(&str, &str, bool)| Entry {
            name: (*name).to_owned(),
            script: at.join(script).display().to_string(),
            auto: *auto,
            wait: 0,
        };
        let text = render(&entries.iter().map(entry).collect::<Vec<_>>()).unwrap();
        fs::write(at.join("vmtab"), text).unwrap();
    }

    #[test]
    fn guests_start_with_the_host_and_are_switched_off_with_it() {
        let host = Host::new("life");
        table(
            &host.0,
            &[("web1", "guest.sh", true), ("web10", "guest.sh", true), ("db", "guest.sh", false)],
        );
        assert_eq!(host.run(&["start"]), ("Starting web1.\nStarting web10.\n".into(), Some(0)));
        assert_eq!(host.run(&["start", "web1"]), ("web1 runs already.\n".into(), Some(0)));
        while host.log("web1").is_empty() || host.log("web10").is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        // web10 is another guest, though its name begins with web1.
        assert_eq!(host.run(&["stop", "web1"]), ("Switching web1 off.\n".into(), Some(0)));
        assert_eq!(host.log("web1"), "began\nended 1\n");
        let (told, status) = host.run(&["status"]);
        assert!(told.contains("web1 does not run.\nweb10 runs as pid "), "{told}");
        assert_eq!(status, Some(1));
        assert_eq!(host.run(&["stop"]), ("Switching web10 off.\n".into(), Some(0)));
        assert_eq!(host.log("db"), "");
    }

    #[test]
    fn a_guest_that_cannot_start_keeps_no_other_from_it() {
        let host = Host::new("wrong");
        table(&host.0, &[("a", "missing.sh", true), ("b", "guest.sh", true)]);
        let path = host.0.join("vmtab");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("$(touch${{IFS}}{}/made) /x\n{text}", host.0.display())).unwrap();
        let (told, status) = host.run(&["start"]);
        assert!(
            told.contains("is no name of a guest") && told.contains("is not a program"),
            "{told}"
        );
        assert!(told.contains("Starting b."), "{told}");
        assert_eq!(status, Some(1));
        assert!(!host.0.join("made").exists());
        host.run(&["stop", "b"]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            lines in prop::collection::vec(("[a-z.0-9-]{1,4}|[ -~]{0,3}", "/[ -~\n]{0,4}", any::<bool>(), any::<u16>()), 0..4)
        ) {
            let entry = |(name, script, auto, wait)| Entry { name, script, auto, wait };
            let entries: Vec<Entry> = lines.into_iter().map(entry).collect();
            if let Ok(text) = render(&entries) {
                prop_assert_eq!(parse(&text), Ok(entries));
            }
        }

        #[test]
        fn nothing_that_is_read_panics(text in "[ -~\t\n]{0,80}") {
            let _ = read(&text);
        }
    }
}

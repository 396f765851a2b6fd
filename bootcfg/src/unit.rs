//! The form of systemd's configuration files (systemd.syntax(7)): units, their drop-ins, and the files of
//! systemd-nspawn and systemd-networkd.

use crate::error::refuse;
use crate::rule::{Reading, Rule};
use crate::{At, ConfigError};

/// A section of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Section {
    /// Its name, without brackets.
    pub name: String,
    /// What it sets, in its order: a setting may stand several times.
    pub settings: Vec<(String, String)>,
}

impl Section {
    pub(crate) fn new(name: &str, settings: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { name: name.to_owned(), settings: settings.iter().map(owned).collect() }
    }

    /// The same with one setting more.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.push((name.to_owned(), value.into()));
        self
    }
}

/// The text of a file.
pub fn render(sections: &[Section]) -> Result<String, ConfigError> {
    let mut text = String::new();
    for (index, Section { name, settings }) in sections.iter().enumerate() {
        word("the section", name)?;
        text += if index == 0 { "" } else { "\n" };
        text += &format!("[{name}]\n");
        for (name, value) in settings {
            word("the setting", name)?;
            let reason = "it has a control character";
            refuse("the value", value, FORMAT, reason, char::is_control)?;
            // systemd takes spaces away at both ends, and goes on in the next line after a backslash.
            if value.trim() != value || value.ends_with('\\') {
                let reason = "it begins or ends with a space, or ends with a backslash";
                return Err(wrong("the value", value, reason));
            }
            text += &format!("{name}={value}\n");
        }
    }
    Ok(text)
}

/// Reads such a text.
#[must_use]
pub fn read(text: &str) -> Reading<Section> {
    let mut reading = Reading::<Section>::default();
    // A line that ends in a backslash goes on in the next that is no comment.
    let mut begun: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.split('\n')) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let (number, line) = match begun.take() {
            Some((first, before)) => (first, format!("{before} {line}")),
            None => (number, line.to_owned()),
        };
        let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
        match line.strip_suffix('\\').filter(|_| backslashes % 2 == 1) {
            Some(line) => begun = Some((number, line.to_owned())),
            None => understand(&mut reading, number, line.trim()),
        }
    }
    if let Some((number, line)) = begun {
        understand(&mut reading, number, line.trim());
    }
    reading
}

fn understand(reading: &mut Reading<Section>, number: usize, line: &str) {
    if line.is_empty() {
        return;
    }
    if let Some(rest) = line.strip_prefix('[') {
        match rest.strip_suffix(']') {
            Some(name) => {
                reading.add(number, Section { name: name.to_owned(), settings: Vec::new() });
            }
            None => reading.report(number, Rule::Syntax, "this section's name has no ] at its end"),
        }
        return;
    }
    let Some((name, value)) = line.split_once('=') else {
        return reading.report(number, Rule::Syntax, "a setting and = are expected here");
    };
    match reading.entries.last_mut() {
        Some(At { value: section, .. }) => {
            section.settings.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        None => reading.report(number, Rule::Syntax, "no section begins above this setting"),
    }
}

/// The name of the unit for a path, as systemd-escape(1) has it with `--path`.
#[must_use]
pub fn of_path(path: &str, suffix: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return format!("-.{suffix}");
    }
    let mut name = String::new();
    for (at, byte) in parts.join("/").bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name += "\\x2e",
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => {
                name.push(char::from(byte));
            }
            other => name += &format!("\\x{other:02x}"),
        }
    }
    format!("{name}.{suffix}")
}

/// A value in which units would read specifiers (systemd.unit(5)), as it is meant.
#[must_use]
pub fn literal(value: &str) -> String {
    value.replace('%', "%%")
}

fn word(what: &'static str, word: &str) -> Result<(), ConfigError> {
    let reason = "it is made of letters, digits and hyphens";
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    refuse(what, word, FORMAT, reason, |c| !plain(c))?;
    if word.is_empty() { Err(wrong(what, word, reason)) } else { Ok(()) }
}

fn wrong(what: &'static str, value: &str, reason: &'static str) -> ConfigError {
    ConfigError::Character { what, value: value.to_owned(), format: FORMAT, reason }
}

const FORMAT: &str = "a file of systemd";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_write_it_in_other_ways_too() {
        let text =
            "# one\n\n[Exec]\r\n Boot = on \n; two\nEnvironment=A=\\\n# three\n  b\n[Exec]\n";
        let sections = read(text).whole().unwrap();
        let exec = Section::new("Exec", &[("Boot", "on"), ("Environment", "A=   b")]);
        assert_eq!(sections, [exec, Section::new("Exec", &[])]);
        for (text, line) in [("Boot=on\n", 1), ("[Exec]\nBoot\n", 2), ("\n[Exec\n", 2)] {
            assert_eq!(read(text).diagnostics[0].line, line, "{text}");
        }
    }

    #[test]
    fn a_units_name_is_that_of_systemd_escape() {
        for (path, name) in [
            ("/var/lib/machines/web-1", "var-lib-machines-web\\x2d1.mount"),
            ("/", "-.mount"),
            ("//a//.b/ä c", "a-.b-\\xc3\\xa4\\x20c.mount"),
            ("/.a", "\\x2ea.mount"),
        ] {
            assert_eq!(of_path(path, "mount"), name);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            sections in prop::collection::vec(
                ("[A-Za-z-]{0,3}|[ -~]{1,3}", prop::collection::vec(("[A-Za-z]{1,4}|[ -~]{0,2}", "[ -~ä\t\n]{0,8}"), 0..3)),
                0..3,
            )
        ) {
            let section = |(name, settings)| Section { name, settings };
            let sections: Vec<Section> = sections.into_iter().map(section).collect();
            if let Ok(text) = render(&sections) {
                prop_assert_eq!(read(&text).whole(), Ok(sections));
            }
        }

        #[test]
        fn nothing_that_is_read_panics(text in "([ -~\n]|\\\\\n|\\[){0,60}") {
            let _ = read(&text);
        }
    }
}

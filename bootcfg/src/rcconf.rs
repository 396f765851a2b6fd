//! rc.conf(5), for a FreeBSD guest that has its root on NFS.

use std::fmt::Write;

use crate::error::refuse;
use crate::rule::{Reading, Rule};
use crate::{ConfigError, Guest};

/// A variable of rc.conf.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value; what the shell would put in stands in it as it is written.
    pub value: String,
}

/// The settings that belong to one machine, beside those that its boot environment has for all.
///
/// There is none for the interface that the root is mounted over: the kernel has configured it, and
/// rc.d/netif would take the root away by doing it again.
pub fn diskless(guest: &Guest) -> Result<Vec<Setting>, ConfigError> {
    let setting =
        |name: &str, value: &str| Setting { name: name.to_owned(), value: value.to_owned() };
    let (write, memory) = if guest.root.read_only { ("NO", "YES") } else { ("YES", "NO") };
    Ok(vec![
        setting("hostname", guest.checked_name(FORMAT)?),
        setting("root_rw_mount", write),
        setting("tmpmfs", memory),
        setting("varmfs", memory),
    ])
}

/// The text of an rc.conf.
pub fn render(settings: &[Setting]) -> Result<String, ConfigError> {
    let mut text = String::new();
    for Setting { name, value } in settings {
        if !is_name(name) {
            return Err(ConfigError::Character {
                what: "the variable",
                value: name.clone(),
                format: FORMAT,
                reason: "write letters, digits and _, and no digit first",
            });
        }
        refuse("the value", value, FORMAT, "it has a control character", char::is_control)?;
        let mut escaped = String::with_capacity(value.len());
        for c in value.chars() {
            if "\"\\$`".contains(c) {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        let _ = writeln!(text, "{name}=\"{escaped}\"");
    }
    Ok(text)
}

/// Reads the assignments of an rc.conf.
#[must_use]
pub fn read(text: &str) -> Reading<Setting> {
    let mut reading = Reading::default();
    for words in reading.commands(text) {
        for word in &words {
            match word.text.split_once('=') {
                Some((name, value)) if is_name(name) => {
                    let setting = Setting { name: name.to_owned(), value: value.to_owned() };
                    reading.add(word.line, setting);
                }
                Some(_) | None => {
                    let message = format!(
                        "{} is a command, and runs whenever a script reads this file: write \
                         NAME=\"VALUE\", without spaces beside the =",
                        word.text
                    );
                    reading.report(word.line, Rule::Syntax, message);
                    break;
                }
            }
        }
    }
    reading
}

/// Whether the shell takes a word for the name of a variable.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    !name.is_empty() && !digit && name.chars().all(plain)
}

const FORMAT: &str = "rc.conf";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy;

    #[test]
    fn a_guest_that_may_not_write_has_tmp_and_var_in_memory() {
        let mut guest = strategy::head();
        let text = render(&diskless(&guest).unwrap()).unwrap();
        assert_eq!(
            text,
            "hostname=\"head\"\nroot_rw_mount=\"YES\"\ntmpmfs=\"NO\"\nvarmfs=\"NO\"\n"
        );
        guest.root.read_only = true;
        let text = render(&diskless(&guest).unwrap()).unwrap();
        assert!(text.ends_with("root_rw_mount=\"NO\"\ntmpmfs=\"YES\"\nvarmfs=\"YES\"\n"), "{text}");
    }

    #[test]
    fn the_boot_interface_is_never_named() {
        let settings = diskless(&strategy::head()).unwrap();
        assert!(settings.iter().all(|setting| !setting.name.starts_with("ifconfig")));
    }

    #[test]
    fn sh_reads_what_is_written() {
        for value in ["a b", "$HOME", "`id`", "\\", "\"", "#x", "-n", "it's", "a\\$b"] {
            let setting = Setting { name: "x".into(), value: value.into() };
            let script = format!("{}printf %s \"$x\"", render(&[setting]).unwrap());
            let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), value);
        }
    }

    #[test]
    fn commands_and_spaces_are_named_with_their_lines() {
        for text in ["hostname = \"x\"", "service nfsd start", "9a=b", "a=b c"] {
            let diagnostics = read(&format!("# x\n{text}\n")).diagnostics;
            assert_eq!(diagnostics.len(), 1, "{text}");
            assert_eq!((diagnostics[0].line, diagnostics[0].rule), (2, Rule::Syntax));
        }
        assert_eq!(read("a=\"b\nc").diagnostics[0].line, 1);
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "a-b", "-a", "1a", "a b", "a=b", "a\n"] {
            let setting = Setting { name: name.into(), value: String::new() };
            assert!(render(&[setting]).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            settings in prop::collection::vec(("[a-z_][a-z0-9_]{0,6}", "[ -~\n]{0,12}|\\PC{0,6}"), 0..4)
        ) {
            let settings: Vec<_> =
                settings.into_iter().map(|(name, value)| Setting { name, value }).collect();
            if let Ok(text) = render(&settings) {
                prop_assert_eq!(read(&text).whole(), Ok(settings));
            } else {
                prop_assert!(settings.iter().any(|setting| setting.value.contains(char::is_control)));
            }
        }
    }
}

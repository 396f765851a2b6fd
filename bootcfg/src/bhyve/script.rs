//! Reads scripts that load and run guests: the calls of bhyveload(8) and bhyve(8) in them.

use crate::loader::Variable;
use crate::rule::{At, Reading, Rule};
use crate::shell::Word;

/// A call in a script.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Of bhyveload(8).
    Load(Load),
    /// Of bhyve(8).
    Run(Run),
}

/// A call of bhyveload(8). What the shell puts in when it runs is not known, and left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Load {
    /// The guest's name.
    pub name: Option<String>,
    /// Memory, as it is written, and where.
    pub memory: Option<At<String>>,
    /// The directory on the host from which the guest is loaded.
    pub directory: Option<String>,
    /// The variables that the loader is given.
    pub variables: Vec<At<Variable>>,
    /// The names of variables whose values only the shell knows.
    pub unknown: Vec<String>,
}

/// A call of bhyve(8). What the shell puts in when it runs is not known, and left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Run {
    /// The guest's name.
    pub name: Option<String>,
    /// Memory, as it is written, and where.
    pub memory: Option<At<String>>,
    /// The number of its processors.
    pub cpus: Option<u16>,
    /// Its network interfaces.
    pub devices: Vec<At<Device>>,
}

/// A network interface of a guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// What it emulates: `virtio-net` or `e1000`.
    pub model: String,
    /// The interface of the host, as it is written.
    pub tap: Option<String>,
    /// The Ethernet address, as it is written.
    pub mac: Option<String>,
    /// Whether only the shell knows all of it.
    pub unknown: bool,
}

/// Reads the calls in a script.
#[must_use]
pub fn read(text: &str) -> Reading<Step> {
    let mut reading = Reading::default();
    for command in reading.commands(text) {
        let Some(at) = command.iter().position(|word| !before_a_command(&word.text)) else {
            continue;
        };
        let Some((program, words)) = command.get(at..).and_then(<[Word]>::split_first) else {
            continue;
        };
        match program.text.rsplit('/').next() {
            Some("bhyveload") => {
                let load = load(words, &mut reading);
                reading.add(program.line, Step::Load(load));
            }
            Some("bhyve") => {
                let run = run(words);
                reading.add(program.line, Step::Run(run));
            }
            _ => {}
        }
    }
    reading
}

/// Memory in MiB, as both programs read it: a number without a unit is of MiB, or of bytes if it
/// is too large for that.
#[must_use]
pub fn mebibytes(text: &str) -> Option<u64> {
    const MEBI: u64 = 1024 * 1024;
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let unit = text.get(digits.len()..)?;
    match unit.to_ascii_lowercase().as_str() {
        "" if number >= MEBI => Some(number / MEBI),
        "" | "m" => Some(number),
        "k" => Some(number / 1024),
        "g" => number.checked_mul(1024),
        "t" => number.checked_mul(MEBI),
        _ => None,
    }
}

fn load(words: &[Word], reading: &mut Reading<Step>) -> Load {
    let mut load = Load::default();
    for (option, value) in options(words, "cdehlm") {
        let text = value.text.clone();
        match option {
            'e' => match text.split_once('=') {
                Some((name, _)) if value.expands => load.unknown.push(name.to_owned()),
                Some((name, value_of)) => {
                    let variable = Variable { name: name.to_owned(), value: value_of.to_owned() };
                    load.variables.push(At { line: value.line, value: variable });
                }
                None if value.expands => {}
                None => {
                    let message = format!("-e {text} sets nothing: write -e NAME=VALUE");
                    reading.report(value.line, Rule::Syntax, message);
                }
            },
            'h' if !value.expands => load.directory = Some(text),
            'm' if !value.expands => load.memory = Some(At { line: value.line, value: text }),
            NAME if !value.expands => load.name = Some(text),
            _ => {}
        }
    }
    load
}

fn run(words: &[Word]) -> Run {
    let mut run = Run::default();
    for (option, value) in options(words, "cfgGkKlmnoprsU") {
        let text = value.text.clone();
        match option {
            's' => {
                let mut parts = text.split(',');
                let model = parts.nth(1).unwrap_or_default();
                if ["virtio-net", "e1000"].contains(&model) {
                    let tap = parts.next().map(str::to_owned);
                    let mac = parts.find_map(|part| part.strip_prefix("mac=")).map(str::to_owned);
                    let model = model.to_owned();
                    let device = Device { model, tap, mac, unknown: value.expands };
                    run.devices.push(At { line: value.line, value: device });
                }
            }
            'c' if !value.expands => run.cpus = processors(&text),
            'm' if !value.expands => run.memory = Some(At { line: value.line, value: text }),
            NAME if !value.expands => run.name = Some(text),
            _ => {}
        }
    }
    run
}

/// The number of processors in `2` or `cpus=2,sockets=1`.
fn processors(text: &str) -> Option<u16> {
    let mut parts = text.split(',');
    parts.find_map(|part| part.strip_prefix("cpus=").unwrap_or(part).parse().ok())
}

/// Options with their values as getopt(3) takes them apart; [`NAME`] is the first other word.
///
/// An option may have its value joined to it: `-m1024`.
fn options(words: &[Word], valued: &str) -> Vec<(char, Word)> {
    let mut options = Vec::new();
    let mut words = words.iter();
    'words: while let Some(word) = words.next() {
        let letters = word.text.strip_prefix('-').filter(|letters| !letters.is_empty());
        let Some(letters) = letters else {
            options.push((NAME, word.clone()));
            break;
        };
        for (index, letter) in letters.char_indices() {
            if valued.contains(letter) {
                let joined = letters.get(index + letter.len_utf8()..).unwrap_or_default();
                let value = if joined.is_empty() {
                    words.next().cloned()
                } else {
                    Some(Word { text: joined.to_owned(), ..word.clone() })
                };
                options.extend(value.map(|value| (letter, value)));
                continue 'words;
            }
        }
    }
    options
}

/// Whether a command may follow: keywords of the shell, assignments, and programs that run others.
fn before_a_command(word: &str) -> bool {
    let keywords =
        ["!", "do", "doas", "elif", "else", "env", "exec", "if", "nohup", "sudo", "then"];
    let more = ["until", "while", "{"];
    let assigns = word.split_once('=').is_some_and(|(name, _)| crate::rcconf::is_name(name));
    assigns || keywords.contains(&word) || more.contains(&word)
}

/// Stands for the guest's name, which no option precedes.
const NAME: char = '\0';

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn calls_are_found_with_their_lines() {
        let text = "#!/bin/sh\nwhile :; do\n  sudo /usr/sbin/bhyveload -m1G -h /r \\\n    -e a=b \\\n    \
                    -e c=$d -S vm || exit\n  bhyve -AHP -m 1G -s 2,virtio-net,tap0,mac=02:0:0:0:0:1 vm 2>&1\ndone\n";
        let reading = read(text);
        assert_eq!(reading.diagnostics, []);
        let [At { line: 3, value: Step::Load(load) }, At { line: 6, value: Step::Run(run) }] =
            reading.entries.as_slice()
        else {
            panic!("{reading:?}")
        };
        assert_eq!(load.name.as_deref(), Some("vm"));
        assert_eq!(load.directory.as_deref(), Some("/r"));
        assert_eq!(load.memory, Some(At { line: 3, value: "1G".into() }));
        let variable = Variable { name: "a".into(), value: "b".into() };
        assert_eq!(load.variables, [At { line: 4, value: variable }]);
        assert_eq!(load.unknown, ["c"]);
        assert_eq!(run.name.as_deref(), Some("vm"));
        assert_eq!(run.devices[0].value.mac.as_deref(), Some("02:0:0:0:0:1"));
    }

    #[test]
    fn words_that_only_name_the_programs_are_no_calls() {
        assert_eq!(read("echo bhyveload\nbhyvectl --destroy\n# bhyve -c 1 vm\n").entries, []);
    }

    #[test]
    fn memory_is_read_as_bhyve_reads_it() {
        for (text, expected) in [
            ("1024", Some(1024)),
            ("1G", Some(1024)),
            ("512m", Some(512)),
            ("1073741824", Some(1024)),
            ("2048K", Some(2)),
            ("x", None),
            ("1Q", None),
        ] {
            assert_eq!(mebibytes(text), expected, "{text}");
        }
    }
}

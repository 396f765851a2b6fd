//! Commands as text for sh(1).

mod commands;

use crate::ConfigError;
use crate::error::refuse;

pub use commands::{Command, Word, commands};

/// A command and its arguments as one line that any POSIX shell reads back to the same words.
pub fn line(words: &[String]) -> Result<String, ConfigError> {
    words.iter().map(|word| quote(word)).collect::<Result<Vec<_>, _>>().map(|words| words.join(" "))
}

/// As [`line()`], with each option on a line of its own, as people write long commands.
pub fn lines(words: &[String], indent: &str) -> Result<String, ConfigError> {
    let mut text = String::new();
    let option = |word: &String| word.starts_with('-');
    let mut before: Option<&String> = None;
    for (index, word) in words.iter().enumerate() {
        let last = words.len() == index + 1;
        if let Some(before) = before {
            // The last word stands alone too, unless it belongs to an option.
            let alone = option(word) || (last && !option(before));
            text += if alone { " \\\n" } else { " " };
            text += if alone { indent } else { "" };
            text += if alone { "    " } else { "" };
        }
        text += &quote(word)?;
        before = Some(word);
    }
    Ok(text)
}

/// One word, quoted only if it has to be.
pub fn quote(word: &str) -> Result<String, ConfigError> {
    refuse("the argument", word, "a shell script", "it has a NUL", |c| c == '\0')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Ok(word.to_owned());
    }
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}

/// Reads words as a shell does that expands nothing: quotes, backslashes and joined lines.
///
/// `None` where the text ends within a quote or after a backslash.
#[must_use]
pub fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        inner => word.push(inner),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            '\n' => {}
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            other => word.extend(['\\', other]),
                        },
                        inner => word.push(inner),
                    }
                }
            }
            '\\' => match chars.next()? {
                '\n' => {}
                escaped => word.get_or_insert_default().push(escaped),
            },
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text).unwrap()
    }

    #[test]
    fn plain_words_are_not_quoted() {
        assert_eq!(
            quote("virtio-net,tap0,mac=02:01:02:03:04:05").unwrap(),
            "virtio-net,tap0,mac=02:01:02:03:04:05"
        );
    }

    #[test]
    fn what_a_shell_would_act_on_is_quoted() {
        assert_eq!(quote("").unwrap(), "''");
        assert_eq!(quote("it's").unwrap(), r"'it'\''s'");
        for word in ["$(reboot)", "a b", "`x`", "a;b", "a&b", "*", "~", "#", "a\nb", "é", "!x"] {
            assert_eq!(quote(word).unwrap(), format!("'{word}'"));
        }
    }

    #[test]
    fn options_and_the_last_word_stand_on_lines_of_their_own() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let text = lines(&words("bhyve -A -c 1 head"), "").unwrap();
        assert_eq!(text, "bhyve \\\n    -A \\\n    -c 1 \\\n    head");
        let text = lines(&words("qemu -append x"), "  ").unwrap();
        assert_eq!(text, "qemu \\\n      -append x");
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(quote("a\0b").is_err());
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        assert_eq!(
            words("a 'b c' \"d \\\" \\x\" e\\ f \\\n g"),
            ["a", "b c", "d \" \\x", "e f", "g"]
        );
        assert_eq!(split("a 'b"), None);
        assert_eq!(split("a \\"), None);
    }

    #[test]
    fn sh_reads_what_is_written() {
        let hostile = ["it's", "a\nb", "$HOME", "`id`", "", "-n", "\\", "\"", "é*?[x]", "a  b"];
        let hostile: Vec<String> = hostile.map(str::to_owned).to_vec();
        let script = format!("printf '%s\\0' {}", line(&hostile).unwrap());
        let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        let read: Vec<String> = String::from_utf8(out.stdout)
            .unwrap()
            .split_terminator('\0')
            .map(str::to_owned)
            .collect();
        assert_eq!(read, hostile);
    }

    proptest! {
        #[test]
        fn every_list_of_words_is_read_back(words in prop::collection::vec("[^\u{0}]{0,12}", 0..6)) {
            prop_assert_eq!(split(&line(&words).unwrap()), Some(words.clone()));
            prop_assert_eq!(split(&lines(&words, "    ").unwrap()), Some(words));
        }
    }
}

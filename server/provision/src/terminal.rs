//! What people read on a terminal: lines without anything that would command it.
//!
//! Names come from archives, streams and guests, and may have whatever bytes.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use crate::progress;

/// The text with `\uXXXX` for every character that a terminal would obey, or show in another order
/// than it stands; line feeds and tabs stay. JSON stays JSON of the same meaning.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_command) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_command(character) {
            // Writing to a String does not fail; all of them have at most four digits.
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Writes a line to standard error. Where nobody can read it, nobody does: what is being done goes on.
pub fn say(line: &str) {
    let _ = progress::beside(|| writeln!(std::io::stderr(), "{}", escaped(line)));
}

/// A number of bytes, for people: three digits and a unit.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut tenths = u128::from(self.0) * 10 / 1024;
        let mut unit = 0;
        while tenths >= 10240 && unit + 1 < units.len() {
            tenths /= 1024;
            unit += 1;
        }
        let name = units.get(unit).copied().unwrap_or("EiB");
        if tenths < 1000 {
            write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
        } else {
            write!(f, "{} {name}", tenths / 10)
        }
    }
}

/// Controls (C0, DEL and C1), and what changes the direction of text (UAX #9 §2).
fn is_command(character: char) -> bool {
    let direction = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    direction || (character.is_control() && !matches!(character, '\n' | '\t'))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_commands_a_terminal_is_shown_and_not_obeyed() {
        assert_eq!(escaped("be/\x1b]0;x\x07\r\n\tü"), "be/\\u001b]0;x\\u0007\\u000d\n\tü");
        assert_eq!(escaped("\u{9b}2J\u{202e}\x7f"), "\\u009b2J\\u202e\\u007f");
        assert!(matches!(escaped("plain\n"), Cow::Borrowed("plain\n")));
    }

    #[test]
    fn json_keeps_its_meaning() {
        let text = serde_json::to_string("\u{9b}2J\x1b\u{202e}").unwrap();
        let safe = escaped(&text);
        assert_ne!(safe, text);
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), "\u{9b}2J\x1b\u{202e}");
    }
}

//! What is wrong with a value, in words for people: those of the libraries that read TOML, numbers and addresses
//! are for programmers.

/// Says in other words what a library says of a value; `None` if it is said well.
pub(crate) fn plain(reason: &str) -> Option<String> {
    let said = |text: &str| Some(text.to_owned());
    match reason {
        "invalid IPv4 address syntax" => {
            return said("not an IPv4 address: write one as in 192.168.2.9");
        }
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            return said("write a whole number");
        }
        "number too large to fit in target type" => return said("the number is too large"),
        "string values must be quoted, expected literal string" => {
            return said("write text in quotation marks");
        }
        "duplicate key" => return said("this is written twice: remove one of the two"),
        _ => {}
    }
    if let Some((_, range)) = reason.split_once(" is not in ") {
        let (first, last) = range.split_once("..=")?;
        return Some(format!("write a number from {first} to {last}"));
    }
    // What the uuid crate says.
    let of_uuid = ["invalid length: ", "invalid character: ", "invalid group "];
    if of_uuid.iter().any(|words| reason.starts_with(words)) {
        return said("not a UUID: write one as in 12345678-9abc-def0-1234-56789abcdef0");
    }
    if let Some(unknown) = reason.strip_prefix("unknown field ") {
        let (name, known) = unknown.split_once(", expected ")?;
        return Some(format!("there is no key {name}: write {}", listed(known)));
    }
    if let Some(unknown) = reason.strip_prefix("unknown variant ") {
        let (name, known) = unknown.split_once(", expected ")?;
        return Some(format!("{name} is not known: write {}", listed(known)));
    }
    let of_value = || reason.strip_prefix("invalid value: ");
    let wrong = reason.strip_prefix("invalid type: ").or_else(of_value)?;
    let (found, expected) = wrong.split_once(", expected ")?;
    // `string "long"` and `integer 7` stand in the file as their second half.
    let found = found.split_once(' ').map_or(found, |(_, value)| value);
    let expected = match expected {
        "a sequence" => "a list, as in [\"one\", \"two\"]",
        "a string" => "text in quotation marks",
        "a boolean" => "true or false",
        "u16" => "a whole number up to 65535",
        "u32" | "u64" => "a whole number",
        table if table == "a map" || table.starts_with("struct ") => "a table in its place",
        other => other,
    };
    Some(format!("{found} is not expected here: write {expected}"))
}

/// Names without their marks.
fn listed(known: &str) -> String {
    known.replace('`', "")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_libraries_say_is_said_in_words_of_the_file() {
        for (reason, words) in [
            ("unknown field `a`, expected `b`", "there is no key `a`: write b"),
            (
                "unknown field `a`, expected one of `b`, `c`",
                "there is no key `a`: write one of b, c",
            ),
            ("unknown variant `a`, expected `b` or `c`", "`a` is not known: write b or c"),
            (
                "invalid type: string \"x\", expected u64",
                "\"x\" is not expected here: write a whole number",
            ),
            (
                "invalid value: integer `70000`, expected u16",
                "`70000` is not expected here: write a whole number up to 65535",
            ),
            (
                "invalid length: found 2",
                "not a UUID: write one as in 12345678-9abc-def0-1234-56789abcdef0",
            ),
            ("9 is not in 0..=8", "write a number from 0 to 8"),
        ] {
            assert_eq!(plain(reason).as_deref(), Some(words), "{reason}");
        }
        assert_eq!(plain("write NAME=VALUE"), None);
    }
}

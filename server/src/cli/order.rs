//! The order in which people expect names: `node2` before `node10`.

use std::cmp::Ordering;

/// Compares two names; digits one after the other count as the number that they are.
pub(super) fn natural(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one, other);
    loop {
        let ((first, rest), (second, others)) = match (next(left), next(right)) {
            (None, None) => return one.cmp(other),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(first), Some(second)) => (first, second),
        };
        let is_number = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
        let ordered = if is_number(first) && is_number(second) {
            let (first, second) = (significant(first), significant(second));
            first.len().cmp(&second.len()).then_with(|| first.cmp(second))
        } else {
            first.cmp(second)
        };
        if ordered != Ordering::Equal {
            return ordered;
        }
        (left, right) = (rest, others);
    }
}

/// The first part, of digits or of others, and what follows.
fn next(name: &str) -> Option<(&str, &str)> {
    let is_digit = name.chars().next()?.is_ascii_digit();
    let end = name.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(name.len());
    Some(name.split_at(end))
}

fn significant(number: &str) -> &str {
    number.trim_start_matches('0')
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn numbers_count_as_numbers() {
        let mut names =
            ["node10", "node2", "node1", "node02", "a", "node", "node2b", "52:54:00", "node2a"];
        names.sort_by(|one, other| natural(one, other));
        let expected =
            ["52:54:00", "a", "node", "node1", "node02", "node2", "node2a", "node2b", "node10"];
        assert_eq!(names, expected);
        assert_eq!(natural("7", "99999999999999999999999999"), Ordering::Less);
    }
}

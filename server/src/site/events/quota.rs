//! How much of one machine the log has in a minute.
//!
//! A machine that boots in a loop, or who invents a thousand of them, must not push everything else out of the
//! log. What is left out there is seen by `netbe watch` all the same.

use std::collections::HashMap;

/// What was said in this minute, of whom.
#[derive(Debug, Default)]
pub(super) struct Quota {
    minute: u64,
    said: HashMap<String, u32>,
    crowded: bool,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It stands in the log.
    Said,
    /// It does not, nor what follows about the same machine in this minute: this is to be said once.
    Last,
    /// There are too many machines in this minute: this is to be said once.
    Crowd,
    /// It does not, and that was said.
    Silent,
}

impl Quota {
    /// Counts a line about `subject` in this minute.
    pub(super) fn take(&mut self, subject: &str, minute: u64) -> Verdict {
        if minute != self.minute {
            *self = Self { minute, ..Self::default() };
        }
        if let Some(said) = self.said.get_mut(subject) {
            *said = said.saturating_add(1);
            return match *said {
                0..=LINES => Verdict::Said,
                said if said == LINES + 1 => Verdict::Last,
                _ => Verdict::Silent,
            };
        }
        if self.said.len() < SUBJECTS {
            self.said.insert(subject.to_owned(), 1);
            return Verdict::Said;
        }
        match std::mem::replace(&mut self.crowded, true) {
            false => Verdict::Crowd,
            true => Verdict::Silent,
        }
    }
}

/// Lines about a machine in a minute: a boot has about ten.
pub(super) const LINES: u32 = 40;

/// Machines about which there are lines in a minute.
pub(super) const SUBJECTS: usize = 4096;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_machine_has_so_many_lines_in_a_minute_and_another_in_the_next() {
        let mut quota = Quota::default();
        let mut said = 0;
        for _ in 0..1000 {
            said += u32::from(quota.take("web1", 7) == Verdict::Said);
        }
        assert_eq!(said, LINES);
        assert_eq!(quota.take("web2", 7), Verdict::Said);
        assert_eq!(quota.take("web1", 7), Verdict::Silent);
        assert_eq!(quota.take("web1", 8), Verdict::Said);
        let verdicts = [(); LINES as usize + 1].map(|()| quota.take("web2", 8));
        assert_eq!(verdicts[LINES as usize], Verdict::Last);
    }

    #[test]
    fn invented_machines_take_no_more_room_than_there_is() {
        let mut quota = Quota::default();
        let verdicts: Vec<_> =
            (0..SUBJECTS + 10).map(|number| quota.take(&number.to_string(), 1)).collect();
        assert_eq!(
            verdicts[SUBJECTS - 1..SUBJECTS + 2],
            [Verdict::Said, Verdict::Crowd, Verdict::Silent]
        );
        assert_eq!(quota.said.len(), SUBJECTS);
        // Who was there before has its lines.
        assert_eq!(quota.take("0", 1), Verdict::Said);
    }
}

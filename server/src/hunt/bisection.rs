//! The search for the first of several that is bad, when those before it are good.

use std::collections::BTreeSet;
use std::fmt;

/// What is known of candidates that stand in their order, the oldest first; they are called by their places.
///
/// The last is tried first: unless it is bad, there is nothing to be found. The first is taken for good, and tried in
/// the end if it turns out that nothing else tells so. Thus the first bad one of 32 is found by six tries.
#[derive(Clone, Debug)]
pub(crate) struct Bisection {
    count: usize,
    /// The newest that is known to be good, or is taken for it.
    good: usize,
    /// The oldest that is known to be bad.
    bad: Option<usize>,
    /// Whether some candidate was tried and was good.
    good_was_seen: bool,
    /// Those that say nothing.
    skipped: BTreeSet<usize>,
}

/// What was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// This one is the first that is bad: the one before it is good.
    First(usize),
    /// One of these is the first that is bad: all but the last of them say nothing.
    Among(Vec<usize>),
    /// The first is bad already.
    Always,
    /// The last is good.
    Never,
    /// The last says nothing.
    Unknown,
}

/// What a try says of a candidate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Judgement {
    /// It works.
    Good,
    /// It does not.
    Bad,
    /// It says nothing: it cannot be tried.
    Skip,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Skip => "skip",
        })
    }
}

impl Bisection {
    /// Begins with so many candidates, of which nothing is known.
    pub(crate) const fn new(count: usize) -> Self {
        Self { count, good: 0, bad: None, good_was_seen: false, skipped: BTreeSet::new() }
    }

    /// Which candidates to try next, at most so many at once; what was found, if that is known.
    pub(crate) fn next(&self, at_once: usize) -> Result<Vec<usize>, Found> {
        let Some(last) = self.count.checked_sub(1) else { return Err(Found::Never) };
        let Some(bad) = self.bad else {
            return match () {
                () if self.skipped.contains(&last) => Err(Found::Unknown),
                () if self.good_was_seen && self.good == last => Err(Found::Never),
                () => Ok(vec![last]),
            };
        };
        if bad == 0 {
            return Err(Found::Always);
        }
        let between = (self.good + 1..bad).filter(|place| !self.skipped.contains(place));
        let between: Vec<usize> = between.collect();
        if between.is_empty() {
            let first_is_open = self.good == 0 && !self.good_was_seen;
            return match () {
                () if first_is_open && !self.skipped.contains(&0) => Ok(vec![0]),
                () if self.good + 1 == bad && !first_is_open => Err(Found::First(bad)),
                () if first_is_open => Err(Found::Among((0..=bad).collect())),
                () => Err(Found::Among((self.good + 1..=bad).collect())),
            };
        }
        // Into parts of one length; a part too long is the newer one, as the first candidate costs one try more.
        let parts = at_once.clamp(1, between.len()) + 1;
        let distance = bad - self.good;
        let mut chosen = BTreeSet::new();
        for part in 1..parts {
            let wanted = self.good + (distance * part / parts).max(1);
            let nearest = between.iter().min_by_key(|place| place.abs_diff(wanted));
            chosen.extend(nearest);
        }
        Ok(chosen.into_iter().collect())
    }

    /// Takes what a try says. What contradicts a try before it is not believed: then this is `false`.
    pub(crate) fn tell(&mut self, place: usize, judgement: Judgement) -> bool {
        let after_bad = self.bad.is_some_and(|bad| bad <= place);
        match judgement {
            Judgement::Skip => {
                self.skipped.insert(place);
                true
            }
            Judgement::Good if after_bad => false,
            Judgement::Good => {
                self.good = self.good.max(place);
                self.good_was_seen = true;
                true
            }
            Judgement::Bad if self.good_was_seen && place <= self.good => false,
            Judgement::Bad => {
                self.bad = Some(self.bad.map_or(place, |bad| bad.min(place)));
                true
            }
        }
    }
}

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;

    /// Searches among candidates; gives what was found, the tries, and in how many rounds.
    fn search(
        count: usize,
        at_once: usize,
        judge: impl Fn(usize) -> Judgement,
    ) -> (Found, Vec<usize>, usize) {
        let (mut bisection, mut tried, mut rounds) = (Bisection::new(count), Vec::new(), 0);
        loop {
            match bisection.next(at_once) {
                Err(found) => return (found, tried, rounds),
                Ok(places) => {
                    assert!((1..=at_once).contains(&places.len()), "{places:?}");
                    rounds += 1;
                    for place in places {
                        assert!(!tried.contains(&place), "{place} again");
                        tried.push(place);
                        bisection.tell(place, judge(place));
                    }
                }
            }
        }
    }

    fn since(first: usize) -> impl Fn(usize) -> Judgement {
        move |place| if place < first { Judgement::Good } else { Judgement::Bad }
    }

    #[test]
    fn each_of_32_is_found_by_six_tries() {
        for first in 1..32 {
            let (found, tried, _) = search(32, 1, since(first));
            assert_eq!(found, Found::First(first));
            assert!(tried.len() <= 6, "{first}: {tried:?}");
        }
    }

    #[test]
    fn what_is_nowhere_or_everywhere_is_told() {
        assert_eq!(search(9, 1, since(9)).0, Found::Never);
        assert_eq!(search(9, 1, since(0)).0, Found::Always);
        assert_eq!(search(1, 1, since(0)).0, Found::Always);
        assert_eq!(search(1, 1, since(1)).0, Found::Never);
        assert_eq!(search(0, 1, since(0)).0, Found::Never);
        assert_eq!(search(3, 1, |_| Judgement::Skip).0, Found::Unknown);
    }

    #[test]
    fn those_that_say_nothing_are_gone_round() {
        let judge = |place| if place == 5 { Judgement::Skip } else { since(3)(place) };
        assert_eq!(search(9, 1, judge).0, Found::First(3));
        let judge = |place| match place {
            4 | 5 => Judgement::Skip,
            _ => since(6)(place),
        };
        assert_eq!(search(9, 1, judge).0, Found::Among(vec![4, 5, 6]));
        let judge = |place| if place == 0 { Judgement::Skip } else { Judgement::Bad };
        assert_eq!(search(3, 1, judge).0, Found::Among(vec![0, 1]));
    }

    #[test]
    fn what_contradicts_is_not_believed() {
        let mut bisection = Bisection::new(10);
        assert!(bisection.tell(9, Judgement::Bad));
        assert!(bisection.tell(3, Judgement::Bad));
        assert!(!bisection.tell(6, Judgement::Good));
        assert!(bisection.tell(1, Judgement::Good));
        assert_eq!(bisection.next(1), Ok(vec![2]));
    }

    proptest! {
        #[test]
        fn the_first_bad_one_is_found_among_any(
            count in 2_usize..200, part in 0.0..1.0, at_once in 1_usize..6, skipped in any::<u64>(),
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is small")]
            let first = 1 + (part * (count - 1) as f64) as usize;
            let (found, tried, rounds) = search(count, at_once, since(first));
            prop_assert_eq!(found, Found::First(first));
            let by_halves = count.ilog2() as usize + 3;
            prop_assert!(rounds <= by_halves && tried.len() <= by_halves * at_once);
            // Whatever is skipped, the first bad one is not ruled out.
            let judge = |place: usize| match skipped >> (place % 64) & 1 {
                1 if place + 1 < count => Judgement::Skip,
                _ => since(first)(place),
            };
            match search(count, at_once, judge).0 {
                Found::First(found) => prop_assert_eq!(found, first),
                Found::Among(places) => prop_assert!(places.contains(&first), "{:?}", places),
                other @ (Found::Always | Found::Never | Found::Unknown) => {
                    prop_assert!(false, "{:?}", other);
                }
            }
        }
    }
}

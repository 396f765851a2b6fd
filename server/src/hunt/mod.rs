//! The search for a regression: a command is run in clones of boot environments or snapshots, and what it says of
//! each is judged.
//!
//! [`candidates`] tells what is tried, [`bisection`] which of them next; neither knows how it is done. A [`mod@bench`]
//! tries one, in a clone of its own, and [`report`] shows what came of all.

pub(crate) mod bench;
pub(crate) mod bisection;
pub(crate) mod candidates;
pub(crate) mod report;

use std::sync::Mutex;
use std::thread;

use store::Point;

use self::bench::{Trial, Verdict};
use self::bisection::{Bisection, Found, Judgement};

/// What tries a candidate: several may be tried at once.
pub(crate) trait Bench: Sync {
    /// Tries one, the given time for it.
    fn attempt(&self, candidate: &Point, number: usize) -> Verdict;

    /// Whether nothing more is to be tried.
    fn is_stopped(&self) -> bool;
}

/// How a hunt goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Try this many candidates at once.
    pub(crate) jobs: usize,
    /// How often one is tried at most: what most of these tries say counts.
    pub(crate) repeat: usize,
    /// Whether the first bad one is searched for, and not all are tried.
    pub(crate) bisect: bool,
}

/// What a hunt has found.
#[derive(Debug)]
pub(crate) struct Catch {
    /// What was tried, in the order of the candidates.
    pub(crate) trials: Vec<Trial>,
    /// What is searched for, if it was and nobody stopped it.
    pub(crate) found: Option<Found>,
    /// Those of which a try contradicts what was known.
    pub(crate) contradict: Vec<Point>,
}

/// Hunts; each trial is told when it has ended.
pub(crate) fn hunt(
    candidates: &[Point],
    manner: Manner,
    bench: &impl Bench,
    tell: &(dyn Fn(&Trial) + Sync),
) -> Catch {
    let mut catch = Catch { trials: Vec::new(), found: None, contradict: Vec::new() };
    let all = |places: &[usize]| attempt_all(candidates, places, manner, bench, tell);
    if manner.bisect {
        let mut bisection = Bisection::new(candidates.len());
        while !bench.is_stopped() {
            let places = match bisection.next(manner.jobs) {
                Ok(places) => places,
                Err(found) => {
                    catch.found = Some(found);
                    break;
                }
            };
            let trials = all(&places);
            if bench.is_stopped() {
                catch.trials.extend(trials);
                break;
            }
            for trial in trials {
                if !bisection.tell(trial.place, trial.judgement()) {
                    catch.contradict.push(trial.candidate.clone());
                }
                catch.trials.push(trial);
            }
        }
    } else {
        catch.trials = all(&(0..candidates.len()).collect::<Vec<_>>());
    }
    catch.trials.sort_by_key(|trial| trial.place);
    catch
}

/// Tries these candidates; those that are left when it is stopped are not tried.
fn attempt_all(
    candidates: &[Point],
    places: &[usize],
    manner: Manner,
    bench: &impl Bench,
    tell: &(dyn Fn(&Trial) + Sync),
) -> Vec<Trial> {
    let (left, done) = (Mutex::new(places.iter()), Mutex::new(Vec::new()));
    let work = || {
        while !bench.is_stopped() {
            let next = left.lock().ok().and_then(|mut left| left.next().copied());
            let Some((place, candidate)) = next.and_then(|at| Some((at, candidates.get(at)?)))
            else {
                return;
            };
            let trial = repeated(place, candidate, manner.repeat, bench);
            if trial.verdicts.is_empty() {
                return;
            }
            tell(&trial);
            if let Ok(mut done) = done.lock() {
                done.push(trial);
            }
        }
    };
    thread::scope(|scope| {
        // This thread is one of them: where no other can be started it does all of the work.
        let more = manner.jobs.clamp(1, places.len().max(1)) - 1;
        for _ in 0..more {
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut trials = done.into_inner().unwrap_or_default();
    trials.sort_by_key(|trial: &Trial| trial.place);
    trials
}

/// Tries one until most of its tries say the same.
fn repeated(place: usize, candidate: &Point, repeat: usize, bench: &impl Bench) -> Trial {
    let mut trial = Trial { place, candidate: candidate.clone(), verdicts: Vec::new() };
    let count = |trial: &Trial, judgement: Judgement| {
        trial.verdicts.iter().filter(|verdict| verdict.judgement() == judgement).count()
    };
    for number in 0..repeat.max(1) {
        if bench.is_stopped() {
            break;
        }
        let verdict = bench.attempt(candidate, number);
        if bench.is_stopped() {
            break;
        }
        trial.verdicts.push(verdict);
        // What cannot be tried is not tried again.
        let is_sure = [Judgement::Good, Judgement::Bad]
            .into_iter()
            .any(|judgement| count(&trial, judgement) * 2 > repeat);
        if is_sure || count(&trial, Judgement::Skip) > 0 {
            break;
        }
    }
    trial
}

#[cfg(test)]
mod test {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Of the candidates those from one on are bad; the first try of an odd one says the opposite.
    struct Planted {
        first: usize,
        is_flaky: bool,
        tries: AtomicUsize,
        most: usize,
    }

    impl Bench for Planted {
        fn attempt(&self, candidate: &Point, number: usize) -> Verdict {
            self.tries.fetch_add(1, Ordering::SeqCst);
            let place: usize =
                candidate.environment.as_str().trim_start_matches('e').parse().unwrap();
            let is_bad = (place >= self.first) != (self.is_flaky && place % 2 == 1 && number == 0);
            Verdict::ended(i32::from(is_bad))
        }

        fn is_stopped(&self) -> bool {
            self.tries.load(Ordering::SeqCst) >= self.most
        }
    }

    fn candidates(count: usize) -> Vec<Point> {
        (0..count).map(|place| format!("e{place}").parse().unwrap()).collect()
    }

    fn planted(first: usize, is_flaky: bool) -> Planted {
        Planted { first, is_flaky, tries: AtomicUsize::new(0), most: usize::MAX }
    }

    #[test]
    fn a_regression_among_32_is_found_in_six_tries() {
        let (bench, manner) = (planted(20, false), Manner { jobs: 1, repeat: 1, bisect: true });
        let catch = hunt(&candidates(32), manner, &bench, &|_| {});
        assert_eq!(catch.found, Some(Found::First(20)));
        assert!(catch.trials.len() <= 6, "{:?}", catch.trials);
        let places: Vec<_> = catch.trials.iter().map(|trial| trial.place).collect();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn what_most_tries_say_counts() {
        let (bench, manner) = (planted(20, true), Manner { jobs: 3, repeat: 3, bisect: true });
        let catch = hunt(&candidates(32), manner, &bench, &|_| {});
        assert_eq!(catch.found, Some(Found::First(20)));
        let flaky = catch.trials.iter().filter(|trial| trial.is_flaky()).count();
        assert!(flaky > 0 && flaky < catch.trials.len(), "{:?}", catch.trials);
    }

    #[test]
    fn all_are_tried_where_nothing_is_searched_for() {
        let told = AtomicUsize::new(0);
        let (bench, manner) = (planted(3, false), Manner { jobs: 4, repeat: 1, bisect: false });
        let catch = hunt(&candidates(9), manner, &bench, &|_| {
            told.fetch_add(1, Ordering::SeqCst);
        });
        let judged: Vec<_> = catch.trials.iter().map(Trial::judgement).collect();
        let expected = [vec![Judgement::Good; 3], vec![Judgement::Bad; 6]].concat();
        assert_eq!((catch.found, judged), (None, expected));
        assert_eq!(told.load(Ordering::SeqCst), 9);
    }

    #[test]
    fn what_is_stopped_says_nothing_of_what_it_did_not_see() {
        let bench = Planted { most: 3, ..planted(2, false) };
        let manner = Manner { jobs: 1, repeat: 1, bisect: true };
        let catch = hunt(&candidates(32), manner, &bench, &|_| {});
        assert_eq!(catch.found, None);
        assert_eq!(catch.trials.len(), 2);
    }
}

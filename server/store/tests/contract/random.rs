//! Random sequences of verbs, beside a model.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::env;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::bench::Bench;
use crate::model::{Model, Verb};

#[test]
fn after_any_verbs_a_store_holds_what_its_model_does() {
    // What fails is printed, as the shortest sequence that does; there is no place to keep it.
    let config = Config {
        cases: sequences(),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let verbs = prop::collection::vec(Verb::any(), 1..24);
    let count = Cell::new(0);
    let played = TestRunner::new(config).run(&verbs, |verbs| {
        let bench = Bench::in_memory();
        count.set(count.get() + verbs.len());
        let mut model = Model::new(&bench);
        let mut known = BTreeMap::new();
        for (index, verb) in verbs.iter().enumerate() {
            let expected = model.play(verb).is_some();
            let done = verb.play(&bench);
            prop_assert_eq!(done, expected, "verb {}: {:?} of {:#?}", index, verb, &verbs);
            let wrong = model.contradicted(&bench, &mut known);
            prop_assert_eq!(wrong, None, "verb {}: {:?} of {:#?}", index, verb, &verbs);
        }
        Ok(())
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
    println!("{} verbs were played", count.get());
    assert!(!plays_many() || count.get() >= 2_000, "{} verbs", count.get());
}

/// How many sequences are played here: on directories in memory a verb takes a millisecond.
fn sequences() -> u32 {
    if plays_many() { 220 } else { cases() }
}

fn plays_many() -> bool {
    Bench::are_directories() && env::var_os(CASES).is_none()
}

/// How many sequences are played, and how often commands are killed.
pub(crate) fn cases() -> u32 {
    env::var(CASES).ok().map_or(16, |cases| cases.parse().unwrap())
}

const CASES: &str = "NETBE_CONTRACT_CASES";

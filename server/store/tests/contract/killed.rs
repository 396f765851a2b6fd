//! Commands killed in the middle.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::bench::Bench;
use crate::model::{Model, Verb};
use crate::random::cases;

#[test]
fn a_kill_at_any_moment_leaves_the_state_before_or_after_a_verb() {
    if let Some(bench) = Bench::of_parent() {
        let mut out = std::io::stdout();
        for (index, verb) in sequence(seed_of_parent()).iter().enumerate() {
            // Said before it is begun: so the parent knows which one was interrupted.
            writeln!(out, "{BEGUN}{index}").unwrap();
            out.flush().unwrap();
            verb.play(&bench);
        }
        return;
    }
    for round in 0..cases() {
        let seed = u8::try_from(round % 256).unwrap();
        let bench = Bench::new();
        let verbs = sequence(seed);
        let begun = play_and_kill(&bench, seed, round);
        let mut before = Model::new(&bench);
        for verb in &verbs[..begun] {
            before.play(verb);
        }
        let mut after = before.clone();
        after.play(&verbs[begun]);
        // The next command clears away what the killed one left.
        Verb::Create { new: "next" }.play(&bench);
        for model in [&mut before, &mut after] {
            model.play(&Verb::Create { new: "next" });
        }
        let wrong = |model: &Model| model.contradicted(&bench, &mut BTreeMap::new());
        if let (Some(old), Some(new)) = (wrong(&before), wrong(&after)) {
            panic!(
                "round {round}: {:?} was killed; it is not as before ({old}) nor as after ({new}): {verbs:#?}",
                verbs[begun]
            );
        }
        let left = bench.leftovers();
        assert!(left.is_empty(), "round {round}: {:?} left {left:?}", verbs[begun]);
    }
}

/// Plays a sequence in another process, and kills that at some moment; the verb that it had begun last.
fn play_and_kill(bench: &Bench, seed: u8, round: u32) -> usize {
    let mut child = bench
        .second_process("killed::a_kill_at_any_moment_leaves_the_state_before_or_after_a_verb")
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, begun) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some(index) = line.split(BEGUN).nth(1) {
                let _ = sender.send(index.parse::<usize>().unwrap());
            }
        }
    });
    // Some verbs are let pass, and then some microseconds of the next.
    let mut last = 0;
    for _ in 0..=round % VERBS {
        let Ok(index) = begun.recv() else { break };
        last = index;
    }
    let moment = Duration::from_micros(u64::from(round.wrapping_mul(7919) % 20_000));
    if let Ok(index) = begun.recv_timeout(moment) {
        last = index;
    }
    let _ = child.kill();
    child.wait().unwrap();
    reader.join().unwrap();
    begun.try_iter().last().unwrap_or(last)
}

/// The verbs that belong to a seed: first some that make something, then any.
fn sequence(seed: u8) -> Vec<Verb> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut verbs = vec![
        Verb::Create { new: "one" },
        Verb::Write { name: "one", path: "home/file", content: 1 },
        Verb::Snapshot { name: "one", snapshot: "a" },
    ];
    verbs.extend(
        (verbs.len()..VERBS as usize).map(|_| Verb::any().new_tree(&mut runner).unwrap().current()),
    );
    verbs
}

fn seed_of_parent() -> u8 {
    std::env::var(SEED).unwrap().parse().unwrap()
}

const SEED: &str = "NETBE_CONTRACT_SEED";
/// How a line begins that tells which verb is begun. The test program may write before it.
const BEGUN: &str = "begun ";
const VERBS: u32 = 16;

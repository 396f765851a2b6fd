//! Commands killed in the middle.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use store::{Decision, Native, NativeChange, Newer, Outcome};

use crate::bench::{Bench, name, snapshot_name};
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

#[test]
fn what_takes_several_steps_is_done_whole_whenever_it_is_killed() {
    if let Some(bench) = Bench::of_parent() {
        let verb = Late::of_parent();
        println!("{BEGUN}0");
        verb.play(&bench);
        println!("{ENDED}");
        return;
    }
    for verb in [Late::News, Late::Promotion, Late::Properties, Late::Rollback] {
        let bench = verb.bench();
        let natives = bench.store.natives(&name("head")).unwrap();
        let has_any = natives.iter().any(|known| known.property.as_str() == "compression");
        if verb == Late::Properties && !has_any {
            continue;
        }
        let before = verb.seen(&bench);
        let duration = verb.run(&bench, None);
        let after = verb.seen(&bench);
        assert_ne!(before, after, "{verb:?}");
        // The end is what matters, and no two runs take as long.
        let moments = cases().div_ceil(2).max(2);
        for moment in 1..=moments {
            let bench = verb.bench();
            let earlier = bench.history().len();
            verb.run(&bench, Some(duration * 5 / 4 * moment / moments));
            bench.create("next");
            bench.destroy("next").unwrap();
            // What it has still running is waited for by whoever changes the same.
            bench.store.change_export(&name("head"), |_| {}).unwrap();
            let seen = verb.seen(&bench);
            let place = format!("{verb:?}, moment {moment} of {moments}");
            assert!(seen == before || seen == after, "{place}: {seen:?}");
            assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new(), "{place}");
            let mut told = bench.history().into_iter().skip(earlier);
            let told = told.rfind(|record| record.verb == verb.name());
            match told.map(|record| record.outcome) {
                None => assert_eq!(seen, before, "{place}: not begun"),
                Some(Outcome::Done) => assert_eq!(seen, after, "{place}: done"),
                Some(Outcome::Unfinished) => {}
                told @ Some(Outcome::Running | Outcome::Failed(_)) => panic!("{place}: {told:?}"),
            }
        }
    }
}

/// A verb that ends in several steps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Late {
    /// What is new since a snapshot arrives.
    News,
    /// A clone is promoted.
    Promotion,
    /// Properties of the file system are set, and something is written down with them.
    Properties,
    /// A tree goes back past several snapshots.
    Rollback,
}

impl Late {
    /// A store in which it can be played.
    fn bench(self) -> Bench {
        let bench = Bench::new();
        bench.create("head");
        for snapshot in ["1", "2", "3"] {
            bench.put("head", "home/file", snapshot);
            bench.snapshot(&format!("head@{snapshot}"));
        }
        match self {
            Self::News => {
                bench.receive("copy", &bench.sent("head@1", None)).unwrap();
                fs::write(bench.state().join(NEWS), bench.sent("head@2", Some("1"))).unwrap();
            }
            Self::Promotion => drop(bench.clone_of("head@3", "copy")),
            Self::Properties => {
                for number in 0..64 {
                    fs::create_dir(bench.files("head").join(format!("home/{number}"))).unwrap();
                }
            }
            Self::Rollback => {}
        }
        bench
    }

    fn name(self) -> &'static str {
        match self {
            Self::News => "receive",
            Self::Promotion => "promote",
            Self::Properties => "set",
            Self::Rollback => "rollback",
        }
    }

    fn of_parent() -> Self {
        let verb = std::env::var(VERB).unwrap();
        let known = [Self::News, Self::Promotion, Self::Properties, Self::Rollback];
        known.into_iter().find(|known| known.name() == verb).unwrap()
    }

    fn play(self, bench: &Bench) {
        match self {
            Self::News => {
                let news = fs::read(bench.state().join(NEWS)).unwrap();
                drop(bench.receive("copy", &news).unwrap());
            }
            Self::Promotion => bench.store.promote(&name("copy")).unwrap(),
            Self::Properties => {
                let (property, value) =
                    (Native::of("compression").unwrap(), Some("zstd".to_owned()));
                let note = Decision::Setting { key: "note".to_owned(), value: value.clone() };
                let change = Decision::Native(NativeChange { property, value });
                bench.store.decide(&name("head"), &[change, note]).unwrap();
            }
            Self::Rollback => {
                let to = snapshot_name("1");
                bench.store.rollback(&name("head"), &to, Newer::Destroy).unwrap();
            }
        }
    }

    /// Plays it in another process, and kills that after some time; how long it took.
    fn run(self, bench: &Bench, moment: Option<Duration>) -> Duration {
        let mut child = bench
            .second_process("killed::what_takes_several_steps_is_done_whole_whenever_it_is_killed")
            .env(VERB, self.name())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains(BEGUN)));
        let begun = Instant::now();
        if let Some(moment) = moment {
            std::thread::sleep(moment);
            let _ = child.kill();
        } else {
            assert!(lines.any(|line| line.contains(ENDED)));
        }
        let duration = begun.elapsed();
        child.wait().unwrap();
        duration
    }

    /// What tells whether it was done: environments, what they were cloned from, snapshots and a file.
    fn seen(self, bench: &Bench) -> Vec<String> {
        let listing = bench.store.list().unwrap();
        assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
        let compression = || {
            let natives = bench.store.natives(&name("head")).unwrap().into_iter();
            let value = natives.filter(|known| known.property.as_str() == "compression");
            value.map(|known| known.value).collect::<Vec<_>>()
        };
        let told = listing.environments.iter().map(|environment| {
            let set = (self == Self::Properties).then(compression);
            let note = environment.settings.value("note");
            let name = environment.name.as_str();
            let origin = environment.origin.as_ref().map(|origin| origin.name.to_string());
            let file = bench.read(name, "home/file");
            format!("{name} {origin:?} {file:?} {:?} {set:?} {note:?}", bench.snapshots(name))
        });
        told.collect()
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

const VERB: &str = "NETBE_CONTRACT_VERB";
/// In the state directory: a stream.
const NEWS: &str = "news";
const ENDED: &str = "ended";
const SEED: &str = "NETBE_CONTRACT_SEED";
/// How a line begins that tells which verb is begun. The test program may write before it.
const BEGUN: &str = "begun ";
const VERBS: u32 = 16;

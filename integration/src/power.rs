//! The power of a store's disk is cut: whatever verb was at work, each environment is then as before it or as
//! after it, nothing of anybody else's is touched, and nothing is left.
//!
//! Verbs run on a disk that writes down all that it is told ([`crate::writes`]). Afterwards a disk is made
//! for many instants, as it would be had its power been cut then, and netbe finds its store on it as after
//! a start of the host. A verb that had ended before must be done.
//!
//! Or the disk of a pool refuses writes while a verb is at work ([`suspended`]), until it is repaired.

mod medium;
mod picture;
mod steps;
mod suspended;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

pub(crate) use medium::Medium;

use self::picture::Picture;
use self::steps::{STEPS, Step, WORDS};
use crate::disk;
use crate::failure::{During, Failure, ensure};
use crate::interrupt;
use crate::noise::Noise;
use crate::process::Program;
use crate::writes::{Cut, Lost, Replay, Writes};

/// Does it in a guest: in the working directory, and with what has no other use there.
pub(crate) fn in_guest(
    medium: Medium,
    netbe: &Path,
    extent: Extent,
    seed: u64,
) -> Result<ExitCode, Failure> {
    let place = PathBuf::from("/tmp/power");
    fs::create_dir(&place).during(place.display())?;
    let netbe = netbe.canonicalize().during(netbe.display())?;
    println!("{}", play(medium, &netbe, &place, extent, seed)?);
    Ok(ExitCode::SUCCESS)
}

/// What is done to the disk, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    /// Its power is cut so often in all.
    Cuts(usize),
    /// It refuses writes so often for each verb.
    Suspensions(usize),
}

/// Lets verbs run, and then again on disks that fail; gives in a line what came of it. The process needs
/// mounts of its own, and `place` is best in memory.
pub(crate) fn play(
    medium: Medium,
    netbe: &Path,
    place: &Path,
    extent: Extent,
    seed: u64,
) -> Result<String, Failure> {
    let bench = Bench::new(medium, netbe, place)?;
    let (told, played) = bench.record()?;
    let writes = Writes::read(&told)?;
    match extent {
        Extent::Cuts(cuts) => bench.cut(&writes, &played, cuts, seed),
        Extent::Suspensions(times) => bench.suspend(&writes, &played, times, seed),
    }
}

/// What the store was after a cut.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// As before the verb that ran.
    before: u32,
    /// As after it.
    after: u32,
    /// No verb ran.
    ended: u32,
}

/// A step that was done, and when.
#[derive(Debug)]
struct Played {
    step: &'static Step,
    begin: u64,
    end: u64,
    /// What was there when it had ended.
    after: Picture,
}

/// What may be there after a cut.
#[derive(Debug)]
struct Allowed<'a> {
    /// What was there before the verb that ran, or after the last one.
    before: &'a Picture,
    last: &'static str,
    /// The verb that ran, and what was there after it.
    running: Option<(&'static Step, &'a Picture)>,
    /// Whether the verb ran once more, and made what has other identities than it had then.
    again: bool,
}

impl<'a> Allowed<'a> {
    /// Of what was played: the first is what was there in the beginning.
    fn at(played: &'a [Played], at: u64) -> Self {
        let ended = played.partition_point(|played| played.end <= at).saturating_sub(1);
        let (first, rest) = played.split_at(ended.min(played.len()));
        let (last, next) = (rest.first().or_else(|| first.last()), rest.get(1));
        static NOTHING: Picture = Picture::new();
        let running = next.filter(|next| next.begin < at);
        Self {
            before: last.map_or(&NOTHING, |last| &last.after),
            last: last.map_or("", |last| last.step.script),
            running: running.map(|next| (next.step, &next.after)),
            again: false,
        }
    }

    /// A picture as it is compared.
    fn compared(&self, picture: &Picture) -> Picture {
        match self.again {
            true => picture::without_new(picture, self.before),
            false => picture.clone(),
        }
    }

    fn told(&self) -> String {
        match self.running {
            Some((step, _)) => format!("during {:?}", step.script),
            None => format!("after {:?}", self.last),
        }
    }
}

/// Chooses when the power is cut, in the order of time: of each verb its end, with all lost that may be lost,
/// and an instant while it is at work; then any.
fn choose(writes: &Writes, played: &[Played], count: usize, seed: u64) -> Vec<Cut> {
    let mut noise = Noise::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut chosen = Vec::new();
    let mut rounds = 0;
    while chosen.len() < count && rounds < count.max(2) {
        let mut round = Vec::new();
        for step in played.iter().skip(1) {
            let within = writes.between(step.begin, step.end);
            let at = within.get(noise.below(within.len())).copied().unwrap_or(step.end);
            let number = noise.below(1 << 30) as u64;
            let lost = [Lost::Nothing, Lost::All, Lost::Some(number), Lost::Some(number)];
            let lost = lost.get(noise.below(lost.len())).copied().unwrap_or(Lost::All);
            match rounds {
                0 => round.push(Cut { at: step.end, lost: Lost::All }),
                _ if noise.below(8) == 0 => round.push(Cut { at: step.end, lost }),
                _ => round.push(Cut { at, lost }),
            }
            // Where there are few, half of them are of the first kind.
            if rounds == 0 && count < 2 * played.len() {
                round.push(Cut { at, lost });
            }
        }
        while !round.is_empty() && chosen.len() < count {
            chosen.push(round.swap_remove(noise.below(round.len())));
        }
        rounds += 1;
    }
    chosen.sort();
    chosen
}

/// Where it happens.
#[derive(Debug)]
struct Bench<'a> {
    medium: Medium,
    netbe: &'a Path,
    place: &'a Path,
}

impl<'a> Bench<'a> {
    fn new(medium: Medium, netbe: &'a Path, place: &'a Path) -> Result<Self, Failure> {
        for name in ["on", "work", "again"] {
            let path = place.join(name);
            fs::create_dir(&path).during(path.display())?;
        }
        Ok(Self { medium, netbe, place })
    }

    /// Where the disk is mounted.
    fn on(&self) -> PathBuf {
        self.place.join("on")
    }

    /// The disk whose power was cut.
    fn image(&self) -> PathBuf {
        self.place.join("again/disk")
    }

    fn state(&self) -> PathBuf {
        self.place.join("state")
    }

    /// Lets the verbs run; gives where it is written down what the disk was told, and what was there after
    /// each. The first is what was there before all of them.
    fn record(&self) -> Result<(PathBuf, Vec<Played>), Failure> {
        let (image, told) = (self.place.join("disk"), self.place.join("told"));
        let mut daemon = disk::daemon(&image, self.medium.mib(), Some(&told))?;
        let length = || Ok(fs::metadata(&told).during(told.display())?.len());
        self.medium.make(&image, &self.on())?;
        self.script(self.medium.begin())?;
        self.medium.sync(&self.on())?;
        static BEGIN: Step = Step::free("", "");
        let end = length()?;
        let mut played = vec![Played { step: &BEGIN, begin: 0, end, after: self.picture()? }];
        for step in STEPS {
            let begin = length()?;
            self.script(step.script)?;
            if step.free.is_some() {
                self.medium.sync(&self.on())?;
            }
            let end = length()?;
            played.push(Played { step, begin, end, after: self.picture()? });
        }
        self.medium.detach(&self.on())?;
        daemon.kill();
        self.medium.unmount(&image)?;
        Ok((told, played))
    }

    /// Cuts the power so many times; gives in a line what came of it.
    fn cut(
        &self,
        writes: &Writes,
        played: &[Played],
        cuts: usize,
        seed: u64,
    ) -> Result<String, Failure> {
        let mut replay = Replay::new(writes, u64::from(self.medium.mib()) << 20);
        let (mut counts, mut wrong) = (Counts::default(), Vec::new());
        for cut in choose(writes, played, cuts, seed) {
            interrupt::check()?;
            replay.image(cut, &self.image())?;
            let allowed = Allowed::at(played, cut.at);
            match self.look(&allowed, &mut counts) {
                Ok(()) => {}
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                Err(Failure::Said(words)) => {
                    println!("      {} ({cut:?}): {words}", allowed.told());
                    wrong.push(allowed.told());
                }
            }
        }
        let Counts { before, after, ended } = counts;
        let told = format!(
            "{} verbs, {cuts} cuts: {before} before, {after} after, {ended} between two",
            STEPS.len()
        );
        ensure(wrong.is_empty(), || {
            format!("seed {seed}: {told}; {} are wrong: {}", wrong.len(), wrong.join(", "))
        })?;
        ensure(before > 0 && after > 0, || format!("no verb was met at work: {told}"))?;
        Ok(told)
    }

    /// What netbe finds on the disk after a cut, and leaves there.
    fn look(&self, allowed: &Allowed<'_>, counts: &mut Counts) -> Result<(), Failure> {
        drop(fs::remove_dir_all(self.state()));
        self.medium.attach(&self.image(), &self.on())?;
        let looked = self.settled(allowed, counts);
        let detached = self.medium.detach(&self.on());
        looked.and(detached)
    }

    fn settled(&self, allowed: &Allowed<'_>, counts: &mut Counts) -> Result<(), Failure> {
        let served = self.served()?;
        let told = allowed.compared(&Picture::from([(SERVED.to_owned(), served.clone())]));
        let known = |picture: &Picture| allowed.compared(picture).get(SERVED) == told.get(SERVED);
        ensure(
            known(allowed.before) || allowed.running.is_some_and(|(_, after)| known(after)),
            || format!("before it is settled there is {served}"),
        )?;
        let finished = self.program("netbe settle && netbe settle -n").finish(LIMIT)?;
        ensure(finished.status.success() && finished.stdout.lines().count() < 2, || {
            format!("netbe settle leaves: {}{}", finished.stdout, finished.stderr)
        })?;
        let found = self.picture()?;
        let free = allowed.running.and_then(|(step, _)| step.free);
        let compared = allowed.compared(&found);
        let is =
            |picture: &Picture| picture::differences(&allowed.compared(picture), &compared, free);
        let as_before = is(allowed.before);
        let as_after = allowed.running.map(|(_, after)| is(after));
        match (as_before.as_str(), as_after.as_deref()) {
            ("", None) => counts.ended += 1,
            ("", Some(_)) => counts.before += 1,
            (_, Some("")) => counts.after += 1,
            (_, after) => {
                let after = after.map(|after| format!("\nto after:\n{after}")).unwrap_or_default();
                let said = &finished.stderr;
                return Err(Failure::said(format!(
                    "differs\nto before:\n{as_before}{after}\nnetbe settle said:\n{said}"
                )));
            }
        }
        // It can be worked with.
        self.script("netbe create proof; netbe snapshot proof@one; netbe destroy proof")?;
        let still = picture::differences(&found, &self.picture()?, None);
        ensure(still.is_empty(), || format!("verbs after it change others:\n{still}"))
    }

    /// All that is there: what netbe tells, and what it is made of.
    fn picture(&self) -> Result<Picture, Failure> {
        let mut picture = self.medium.picture(&self.on(), &self.place.join("again"))?;
        picture.insert(SERVED.to_owned(), self.served()?);
        Ok(picture)
    }

    /// The environments that netbe tells of.
    fn served(&self) -> Result<String, Failure> {
        let listed = self.program("netbe list -j").run(LIMIT)?;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).during("netbe list")?;
        let told = |one: &serde_json::Value| {
            let field = |name: &str| one.get(name).map(ToString::to_string).unwrap_or_default();
            format!("{} {} {}", field("name"), field("uuid"), field("role"))
        };
        Ok(listed.iter().map(told).collect::<Vec<_>>().join(", "))
    }

    fn script(&self, script: &str) -> Result<String, Failure> {
        let done = self.program(script).run(LIMIT);
        done.map_err(|failure| failure.retold(|words| format!("{script}: {words}")))
    }

    /// A script with the words of the steps.
    fn program(&self, script: &str) -> Program {
        Program::new("sh")
            .args(["-euc", &[WORDS, script].concat()])
            .env("NETBE", self.netbe)
            .env("NETBE_STORE", self.medium.store(&self.on()))
            .env("NETBE_STATE", self.state())
            .directory(&self.place.join("work"))
    }
}

/// In a picture: what netbe tells.
const SERVED: &str = "netbe list";
/// How long one step may take on a computer with much else to do.
const LIMIT: Duration = Duration::from_secs(300);

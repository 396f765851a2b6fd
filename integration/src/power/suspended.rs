//! A pool whose disk refuses writes while a verb is at work on it, until it is repaired.
//!
//! ZFS suspends such a pool: what needs it waits, and cannot even be killed (zpoolprops(7), `failmode=wait`).
//! After `zpool clear` all goes on.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Allowed, Bench, Counts, LIMIT, Played};
use crate::disk;
use crate::failure::{During, Failure, ensure};
use crate::interrupt::{self, wait_for};
use crate::noise::Noise;
use crate::process::{Program, tail};
use crate::writes::{Cut, Lost, Replay, Writes};

impl Bench<'_> {
    /// Runs each verb that changes the store so often, on a disk that refuses writes from one of the verb's on;
    /// gives in a line what came of it. Every second time the verb is killed before the disk is repaired.
    pub(super) fn suspend(
        &self,
        writes: &Writes,
        played: &[Played],
        times: usize,
        seed: u64,
    ) -> Result<String, Failure> {
        let mut noise = Noise::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut replay = Replay::new(writes, u64::from(self.medium.mib()) << 20);
        let (mut counts, mut wrong) = (Counts::default(), Vec::new());
        let (mut met, mut tried) = (0, 0);
        for pair in played.windows(2) {
            let [before, after] = pair else { continue };
            let count = writes.between(after.begin, after.end).len();
            if after.step.free.is_some() || count == 0 {
                continue;
            }
            replay.image(Cut { at: before.end, lost: Lost::Nothing }, &self.image())?;
            for _ in 0..times {
                interrupt::check()?;
                let refused = Refused { from: noise.below(count), killed: noise.below(2) == 0 };
                let allowed = Allowed {
                    before: &before.after,
                    last: before.step.script,
                    running: Some((after.step, &after.after)),
                    again: true,
                };
                tried += 1;
                match self.refuse(refused, &allowed, &mut counts) {
                    Ok(suspended) => met += u32::from(suspended),
                    Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                    Err(Failure::Said(words)) => {
                        println!("      {} ({refused:?}): {words}", allowed.told());
                        wrong.push(allowed.told());
                    }
                }
            }
        }
        let Counts { before, after, .. } = counts;
        let told = format!(
            "{tried} verbs, {met} met a suspended pool: {before} as before, {after} as after"
        );
        ensure(wrong.is_empty(), || {
            format!("seed {seed}: {told}; {} are wrong: {}", wrong.len(), wrong.join(", "))
        })?;
        ensure(met > 0, || format!("no verb was met at work: {told}"))?;
        Ok(told)
    }

    /// Runs a verb on a copy of the disk; gives whether the pool was suspended.
    fn refuse(
        &self,
        refused: Refused,
        allowed: &Allowed<'_>,
        counts: &mut Counts,
    ) -> Result<bool, Failure> {
        let place = self.place.join("refuses");
        fs::create_dir_all(&place).during(place.display())?;
        drop(fs::remove_dir_all(self.state()));
        let image = place.join("disk");
        let mut daemon = disk::daemon(&image, self.medium.mib(), None)?;
        // cp(1) would make the file anew.
        let copy = Program::new("dd").words("bs=128k conv=notrunc status=none");
        copy.arg(operand("if", &self.image())).arg(operand("of", &image)).run(LIMIT)?;
        self.medium.attach(&image, &self.on())?;
        let looked = self.meet(refused, &image, allowed, counts);
        // Nothing is detached from a disk that refuses writes.
        let repaired = repair(&image);
        let detached = repaired.and_then(|()| self.medium.detach(&self.on()));
        daemon.kill();
        let unmounted = self.medium.unmount(&image);
        fs::remove_dir_all(&place).during(place.display())?;
        let suspended = looked?;
        detached.and(unmounted).map(|()| suspended)
    }

    fn meet(
        &self,
        refused: Refused,
        image: &Path,
        allowed: &Allowed<'_>,
        counts: &mut Counts,
    ) -> Result<bool, Failure> {
        let Some((step, _)) = allowed.running else { return Ok(false) };
        let log = self.place.join("verb.log");
        disk::refuse(image, refused.from)?;
        let mut verb = self.program(step.script).start(&log)?;
        let suspended = wait_for("the verb's end, or its pool's suspension", LIMIT, || {
            Ok(match verb.ended()? {
                Some(_) => Some(is_suspended()?),
                None => is_suspended()?.then_some(true),
            })
        })?;
        if suspended && refused.killed {
            verb.kill();
        }
        repair(image)?;
        let ended = verb.wait(LIMIT);
        ended.map_err(|failure| failure.retold(|words| format!("{words}: {}", tail(&log, 5))))?;
        // What a verb that was killed has started comes to its end by itself.
        Program::new("zpool").words("sync tank").run(LIMIT)?;
        wait_for("the end of zfs(8)", LIMIT, || {
            let found = Program::new("pidof").arg("zfs").finish(LIMIT)?;
            Ok((!found.status.success()).then_some(()))
        })?;
        self.settled(allowed, counts)?;
        Ok(suspended)
    }
}

/// How a disk refuses writes while a verb runs.
#[derive(Clone, Copy, Debug)]
struct Refused {
    /// So many are taken before.
    from: usize,
    /// The verb is killed while nothing goes on.
    killed: bool,
}

/// Lets the disk take writes again, and the pool go on.
fn repair(image: &Path) -> Result<(), Failure> {
    disk::accept(image)?;
    wait_for("the pool", LIMIT, || {
        if !is_suspended()? {
            return Ok(Some(()));
        }
        Program::new("zpool").words("clear tank").finish(LIMIT)?;
        Ok(None)
    })
}

/// Whether the pool waits for its disk. This asks nothing of the pool, which would wait too.
fn is_suspended() -> Result<bool, Failure> {
    let state = "/proc/spl/kstat/zfs/tank/state";
    Ok(fs::read_to_string(state).during(state)?.trim() == "SUSPENDED")
}

fn operand(name: &str, path: &Path) -> PathBuf {
    PathBuf::from(format!("{name}={}", path.display()))
}

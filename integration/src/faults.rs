//! Verbs whose system calls fail, or that are killed at one: strace(1) sees to that, at each call in turn.
//!
//! Whatever happens, the store is as it was before the verb or as it is after it, once `netbe settle` has run;
//! and it is as after it when the verb says that it is done.

mod medium;
mod verbs;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub(crate) use medium::Medium;

use self::verbs::{VERBS, Verb};
use crate::failure::{During, Failure, ensure};
use crate::interrupt;
use crate::noise::Noise;
use crate::picture::Picture;
use crate::process::{Finished, Program, last_lines};

/// Environments, snapshots, a clone that was changed; what is nobody's comes to it.
const SITE: &str = "
mkdir -p state/machines; chmod 700 state state/machines
netbe create -l linux head
within head '
    echo first >home/one; ln home/one home/two; ln -s /etc/passwd home/link
    mkdir home/closed; chmod 3750 home/closed; chown 12:34 home/one
    setfattr -n user.note -v x home/one
    find . -exec touch -h -d @1000000000 {} +'
netbe snapshot head@1
within head 'echo second >>home/one'
netbe snapshot head@2
netbe clone head@1 copy
within copy 'echo other >home/three'
";

/// How much is tried, whichever ends first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// For all verbs together.
    pub(crate) time: Duration,
    /// For each verb.
    pub(crate) faults: usize,
}

/// Does it in a guest, with what has no other use there.
pub(crate) fn in_guest(
    medium: Medium,
    netbe: &Path,
    extent: Extent,
    seed: u64,
) -> Result<ExitCode, Failure> {
    let place = PathBuf::from("/tmp/faults");
    fs::create_dir(&place).during(place.display())?;
    let netbe = netbe.canonicalize().during(netbe.display())?;
    ensure(medium.begin(&place)?, || format!("there is no {} here", medium.word()))?;
    println!("{}", sweep(&netbe, medium, place, extent, seed)?);
    Ok(ExitCode::SUCCESS)
}

/// Makes calls fail, chosen by a seed, in a directory for which [`Medium::begin`] was called; says how many.
pub(crate) fn sweep(
    netbe: &Path,
    medium: Medium,
    place: PathBuf,
    extent: Extent,
    seed: u64,
) -> Result<String, Failure> {
    let mut bench = Bench { netbe, medium, place, number: 0 };
    let (mut tried, mut met, mut all, mut wrong) = (0, 0, 0, Vec::new());
    let verbs: Vec<_> = VERBS.iter().filter(|verb| verb.on.contains(&medium)).collect();
    let share = extent.time / u32::try_from(verbs.len()).unwrap_or(1);
    for (index, verb) in (0..).zip(verbs.iter().copied()) {
        // Each has numbers of its own, so that the time that another took changes nothing.
        let mut noise = Noise::new(seed.wrapping_add(index << 32));
        let mut run = bench.begin(verb)?;
        let until = Instant::now() + share;
        all += run.faults.iter().map(Vec::len).sum::<usize>();
        for number in 0..extent.faults {
            interrupt::check()?;
            // A few, so that one of them meets a call that is made in each run.
            let enough = run.met > 0 && Instant::now() >= until;
            if (number > 0 && enough) || wrong.len() >= MOST_WRONG {
                break;
            }
            let Some(fault) = run.draw(&mut noise) else { break };
            tried += 1;
            wrong.extend(bench.with(&mut run, &fault)?);
        }
        ensure(run.met > 0 || wrong.len() >= MOST_WRONG, || {
            format!("netbe {}: no call of it failed", verb.words)
        })?;
        met += run.met;
    }
    ensure(wrong.is_empty(), || wrong.join("\n"))?;
    Ok(format!("{tried} of {all} faults in {} verbs, of which {met} met a call", verbs.len()))
}

/// Where stores are made, one after the other.
struct Bench<'a> {
    netbe: &'a Path,
    medium: Medium,
    place: PathBuf,
    number: u32,
}

/// A verb, and what it does when nothing is wrong.
struct Run<'a> {
    verb: &'a Verb,
    /// Those that were not tried, by their calls; none is empty.
    faults: Vec<Vec<Fault>>,
    before: Picture,
    after: Picture,
    /// Whether the store is as it is before the verb.
    fresh: bool,
    /// Whether what there was before the verb is kept.
    saved: bool,
    /// How many faults have met a call.
    met: u32,
}

impl Run<'_> {
    /// Takes a fault: of a call that is seldom made as soon as of one that is made often.
    fn draw(&mut self, noise: &mut Noise) -> Option<Fault> {
        let kind = noise.below(self.faults.len());
        let of_call = self.faults.get_mut(kind)?;
        let fault = of_call.swap_remove(noise.below(of_call.len()));
        if of_call.is_empty() {
            self.faults.swap_remove(kind);
        }
        Some(fault)
    }
}

/// What is done at which call.
#[derive(Debug)]
struct Fault {
    call: String,
    /// Of the calls of one thread, from 1.
    number: u32,
    /// In the words of strace(1).
    what: String,
}

impl Bench<'_> {
    /// Finds out what a verb does, and where it can be disturbed.
    fn begin<'v>(&mut self, verb: &'v Verb) -> Result<Run<'v>, Failure> {
        self.prepare(verb)?;
        let saved = self.medium.save(&self.place, &self.here())?;
        let before = self.picture()?;
        let trace = self.place.join("trace");
        let calls: Vec<_> = CALLS.iter().map(|(call, _)| *call).collect();
        let filter = format!("trace=?{}", calls.join(",?"));
        let done = self.run(verb, &["-o", &trace.to_string_lossy(), "-e", &filter])?;
        ensure(done.status.success(), || format!("netbe {}: {}", verb.words, done.stderr))?;
        let after = self.picture()?;
        let mut counts = BTreeMap::<(&str, &str), u32>::new();
        let text = fs::read_to_string(&trace).during("the trace")?;
        for (thread, call) in text.lines().filter_map(|line| line.split_once(' ')) {
            if let Some((call, _)) = call.trim_start().split_once('(') {
                *counts.entry((call, thread)).or_default() += 1;
            }
        }
        let mut most = BTreeMap::<&str, u32>::new();
        for ((call, _), count) in counts {
            let most = most.entry(call).or_default();
            *most = count.max(*most);
        }
        let mut faults = Vec::new();
        for (call, count) in most {
            let Some((_, error)) = CALLS.iter().find(|(known, _)| *known == call) else { continue };
            let mut what = vec![format!("error={error}"), "signal=SIGKILL".to_owned()];
            if self.medium == Medium::Zfs && call == "write" {
                // A pipe takes all that is written while somebody reads it. zfs(8) would leave out what it cannot
                // write, and say that all is well.
                what.swap_remove(0);
            }
            let of_call = (1..=count).flat_map(|number| {
                what.iter().map(move |what| (call.to_owned(), number, what.clone()))
            });
            let fault = |(call, number, what)| Fault { call, number, what };
            faults.push(of_call.map(fault).collect());
        }
        Ok(Run { verb, faults, before, after, fresh: false, saved, met: 0 })
    }

    /// Runs a verb with a fault; what is wrong then.
    fn with(&mut self, run: &mut Run<'_>, fault: &Fault) -> Result<Option<String>, Failure> {
        if !run.fresh {
            if run.saved {
                self.medium.restore(&self.place, &self.here())?;
            } else {
                self.prepare(run.verb)?;
            }
            let before = self.picture()?;
            ensure(before == run.before, || {
                format!("it is made otherwise: {:?}", before.differences(&run.before, 3))
            })?;
        }
        run.fresh = false;
        let inject = format!("inject={}:{}:when={}", fault.call, fault.what, fault.number);
        let (trace, file) = (format!("trace={}", fault.call), self.place.join("trace"));
        let words = ["-o", &file.to_string_lossy(), "-e", &trace, "-e", &inject];
        let done = self.run(run.verb, &words)?;
        let traced = fs::read_to_string(&file).during("the trace")?;
        let killed = done.status.signal() == Some(9);
        run.met += u32::from(traced.contains("(INJECTED)") || killed);
        let settled = self.netbe("settle")?;
        let listed = self.netbe("list -j")?;
        let mut picture = self.picture()?;
        run.fresh = picture == run.before;
        let between = !run.fresh && picture != run.after;
        if between && !run.verb.then.is_empty() && !done.status.success() {
            // What it did not put right is seen.
            drop(self.shell(run.verb.then)?);
            picture = self.picture()?;
        }
        // The dynamic linker's failures end with 127.
        let ended = matches!(done.status.code(), Some(0..=2 | 127)) || killed;
        let mut wrong = Vec::new();
        if !ended {
            wrong.push(format!("it ended with {}", done.status));
        }
        for (what, finished) in [("settle", &settled), ("list", &listed)] {
            if !finished.status.success() {
                wrong.push(format!("netbe {what}: {}", last_lines(&finished.stderr, 3)));
            }
        }
        if done.status.success() && picture != run.after {
            wrong.push("it says that it is done, and is not".to_owned());
        } else if picture != run.before && picture != run.after {
            wrong.push("it is neither as before nor as after".to_owned());
        }
        if wrong.is_empty() {
            return Ok(None);
        }
        for (what, known) in [("before", &run.before), ("after", &run.after)] {
            let differences = picture.differences(known, 4);
            wrong.extend(differences.iter().map(|line| format!("  not as {what}: {line}")));
        }
        let said = last_lines(&done.stderr, 3);
        let Fault { call, number, what } = fault;
        Ok(Some(format!(
            "{} with {what} at {call} number {number} ({}; {said}):\n    {}",
            run.verb.words,
            done.status,
            wrong.join("\n    ")
        )))
    }

    /// Makes a new store for a verb.
    fn prepare(&mut self, verb: &Verb) -> Result<(), Failure> {
        // Something of it may be mounted below the directory.
        self.medium.renew(&self.place)?;
        if self.medium != Medium::Btrfs && self.number > 0 {
            fs::remove_dir_all(self.here()).during("the store before")?;
        }
        self.number += 1;
        fs::create_dir(self.here()).during("a store's directory")?;
        let script = format!("{SITE}{}{}\n", self.medium.foreign(), verb.prepared);
        self.shell(&script)?.success().map(drop)
    }

    /// Runs a verb under strace(1).
    fn run(&self, verb: &Verb, traced: &[&str]) -> Result<Finished, Failure> {
        let script = format!("exec strace -f -qq --seccomp-bpf \"$@\" \"$NETBE\" {}", verb.words);
        self.script(&script).arg("sh").args(traced).finish(LIMIT)
    }

    fn netbe(&self, words: &str) -> Result<Finished, Failure> {
        self.shell(&format!("netbe {words}"))
    }

    fn shell(&self, script: &str) -> Result<Finished, Failure> {
        self.script(&[self.medium.words(), script].concat()).finish(LIMIT)
    }

    fn script(&self, script: &str) -> Program {
        let here = self.here();
        Program::new("sh")
            .args(["-euc", script])
            .env("NETBE", self.netbe)
            .env("NETBE_STATE", here.join("state"))
            .env("NETBE_STORE", self.medium.store(&here))
            .env("HERE", &here)
            .directory(&here)
    }

    fn picture(&self) -> Result<Picture, Failure> {
        self.medium.picture(&self.here())
    }

    fn here(&self) -> PathBuf {
        self.place.join(self.number.to_string())
    }
}

/// System calls that deal with files and processes, and how each fails where a disk, a file system or a
/// limit is at its end.
const CALLS: &[(&str, &str)] = &[
    ("clone", "EAGAIN"),
    ("clone3", "EAGAIN"),
    ("copy_file_range", "ENOSPC"),
    ("execve", "ENOMEM"),
    ("fallocate", "ENOSPC"),
    ("fchmod", "EIO"),
    ("fchmodat", "EIO"),
    ("fchown", "EIO"),
    ("fchownat", "EIO"),
    ("fdatasync", "EIO"),
    ("fgetxattr", "EIO"),
    ("flistxattr", "EIO"),
    ("flock", "EIO"),
    ("fremovexattr", "EIO"),
    ("fsetxattr", "ENOSPC"),
    ("fstat", "EIO"),
    ("fsync", "EIO"),
    ("ftruncate", "ENOSPC"),
    ("getdents64", "EIO"),
    ("ioctl", "EIO"),
    ("link", "ENOSPC"),
    ("linkat", "ENOSPC"),
    ("lseek", "EIO"),
    ("lsetxattr", "ENOSPC"),
    ("mkdir", "ENOSPC"),
    ("mkdirat", "ENOSPC"),
    ("mknodat", "ENOSPC"),
    ("mount", "EIO"),
    ("mount_setattr", "EIO"),
    ("newfstatat", "EIO"),
    ("open", "EMFILE"),
    ("openat", "EMFILE"),
    ("openat2", "EMFILE"),
    ("pipe2", "EMFILE"),
    ("pread64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("read", "EIO"),
    ("readlinkat", "EIO"),
    ("recvmsg", "EIO"),
    ("rename", "ENOSPC"),
    ("renameat", "ENOSPC"),
    ("renameat2", "ENOSPC"),
    ("rmdir", "EIO"),
    ("sendmsg", "EIO"),
    ("socketpair", "EMFILE"),
    ("statx", "EIO"),
    ("symlinkat", "ENOSPC"),
    ("syncfs", "EIO"),
    ("umount2", "EBUSY"),
    ("unlink", "EIO"),
    ("unlinkat", "EIO"),
    ("unshare", "ENOSPC"),
    ("utimensat", "EIO"),
    ("vfork", "EAGAIN"),
    ("wait4", "EIO"),
    ("write", "ENOSPC"),
    ("writev", "ENOSPC"),
];
/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(300);
/// After so many nobody wants more.
const MOST_WRONG: usize = 12;

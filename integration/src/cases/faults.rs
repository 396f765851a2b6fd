//! Verbs whose system calls fail, or that are killed at one: strace(1) sees to that, at each call in turn.
//!
//! Whatever happens, the store is as it was before the verb or as it is after it, once `netbe settle` has run;
//! and it is as after it when the verb says that it is done.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cases::store::no_btrfs;
use crate::cases::survive::seed;
use crate::disk::own_mounts;
use crate::failure::{During, Failure, ensure};
use crate::interrupt;
use crate::lab::Lab;
use crate::noise::Noise;
use crate::picture::Picture;
use crate::process::{Finished, Program, last_lines};
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("faults at calls on dir", |lab| case(lab, Kind::Directories)).long(),
    Case::new("faults at calls on btrfs", |lab| case(lab, Kind::Btrfs)).long(),
];

/// A verb, and what there is when it is run.
struct Verb {
    /// What is made for it beside what each has.
    prepared: &'static str,
    /// Its words, which the shell reads.
    words: &'static str,
    /// What a person does about what it may leave between before and after: that is whole, and `netbe list` or
    /// `netbe machine list` shows it.
    then: &'static str,
}

const fn verb(prepared: &'static str, words: &'static str) -> Verb {
    Verb { prepared, words, then: "" }
}

impl Verb {
    const fn then(self, then: &'static str) -> Self {
        Self { then, ..self }
    }
}

const VERBS: &[Verb] = &[
    verb("", "create -l linux new"),
    verb("", "clone head@1 new"),
    verb("", "snapshot head@3"),
    verb("", "rename copy moved"),
    verb("", "promote copy"),
    verb("", "rollback -r head@1"),
    verb("", "destroy copy"),
    verb("", "destroy head@2"),
    verb("", "set note=-x head"),
    verb("", "sharenfs --ro head"),
    verb("netbe send head@1 >input", "receive new <input"),
    verb(
        "netbe send head@1 | netbe receive got; netbe send -i @1 head@2 >input",
        "receive got <input",
    ),
    verb("tar -C store/be/head -cf input .", "install -l flat -o tar -p input new"),
    verb("", "machine add --mac=02:00:00:00:00:07 desk"),
    verb(
        "netbe machine add --mac=02:00:00:00:00:07 desk",
        "sharepxe --machine=desk --root=own head",
    )
    .then("netbe sharepxe --machine=desk --root=own head"),
    verb(DESK, "machine reset desk").then(ONE_ROOT),
    verb(DESK, "upgrade desk head").then(ONE_ROOT),
    verb(DESK, "machine keep desk kept"),
];

/// Of two roots the one goes that the machine is not to boot.
const ONE_ROOT: &str = "netbe destroy desk-head-2 || netbe destroy desk-head";

const DESK: &str = "netbe machine add --mac=02:00:00:00:00:07 desk
netbe sharepxe --machine=desk --root=own head
echo mine >store/be/desk-head/home/own; echo new >store/be/head/home/news";

/// Environments, snapshots, a clone that was changed, and what is nobody's.
const SITE: &str = "
mkdir -p state/machines; chmod 700 state state/machines
netbe create -l linux head; cd store
echo first >be/head/home/one; ln be/head/home/one be/head/home/two; ln -s /etc/passwd be/head/home/link
mkdir be/head/home/closed; chmod 3750 be/head/home/closed; chown 12:34 be/head/home/one
setfattr -n user.note -v x be/head/home/one
old() { find be -exec touch -h -d @1000000000 {} +; }
old
netbe snapshot head@1
echo second >>be/head/home/one
netbe snapshot head@2
netbe clone head@1 copy
echo other >be/copy/home/three
mkdir -p foreign be/.foreign snap/foreign; echo keep | tee foreign/file be/.foreign/file >snap/foreign/file
cd ..
";

/// What the store is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Directories,
    Btrfs,
}

impl Kind {
    /// In the words of `--store`.
    const fn word(self) -> &'static str {
        match self {
            Self::Directories => "dir",
            Self::Btrfs => "btrfs",
        }
    }
}

/// The same for so many minutes, on both kinds.
pub(crate) fn soak(lab: &Lab, minutes: u32) -> Result<(), Failure> {
    let time = Duration::from_secs(30 * u64::from(minutes));
    for kind in [Kind::Directories, Kind::Btrfs] {
        let extent = Extent { time, faults: usize::MAX };
        if let Outcome::Skipped(why) = sweep(lab, kind, extent, seed(lab.wishes))? {
            println!("no faults on {}: {why}", kind.word());
        }
    }
    Ok(())
}

fn case(lab: &Lab, kind: Kind) -> Result<Outcome, Failure> {
    let extent = Extent { time: SHORT, faults: FEW };
    sweep(lab, kind, extent, lab.wishes.seed.unwrap_or(SEED))
}

/// How much is tried, whichever ends first.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// For all verbs together.
    time: Duration,
    /// For each verb.
    faults: usize,
}

/// Makes calls fail, chosen by a seed.
fn sweep(lab: &Lab, kind: Kind, extent: Extent, seed: u64) -> Result<Outcome, Failure> {
    let traced = Program::new("strace").args(["-o", "/dev/null", "true"]).finish(LIMIT)?;
    if !traced.status.success() {
        let why = last_lines(&traced.stderr, 1);
        return Ok(Outcome::Skipped(format!("no process may be traced here (ptrace): {why}")));
    }
    own_mounts()?;
    println!("      seed {seed}");
    let place = lab.directory(&format!("faults {}", kind.word()))?;
    if kind == Kind::Btrfs && !mount_btrfs(&place)? {
        return Ok(no_btrfs());
    }
    let mut bench = Bench { netbe: lab.netbe()?, kind, place, number: 0 };
    let (mut tried, mut all, mut wrong) = (0, 0, Vec::new());
    let share = extent.time / u32::try_from(VERBS.len()).unwrap_or(1);
    for (index, verb) in (0..).zip(VERBS) {
        // Each has numbers of its own, so that the time that another took changes nothing.
        let mut noise = Noise::new(seed.wrapping_add(index << 32));
        let mut run = bench.begin(verb)?;
        let until = Instant::now() + share;
        all += run.faults.iter().map(Vec::len).sum::<usize>();
        for number in 0..extent.faults {
            interrupt::check()?;
            if (number > 0 && Instant::now() >= until) || wrong.len() >= MOST_WRONG {
                break;
            }
            let Some(fault) = run.draw(&mut noise) else { break };
            tried += 1;
            wrong.extend(bench.with(&mut run, &fault)?);
        }
    }
    println!("      {tried} of {all} faults in {} verbs", VERBS.len());
    ensure(wrong.is_empty(), || wrong.join("\n"))?;
    Ok(Outcome::Passed)
}

fn mount_btrfs(place: &Path) -> Result<bool, Failure> {
    let script = "truncate -s 8G ../image; mkfs.btrfs -q ../image; mount -o loop ../image .";
    Ok(Program::new("sh").args(["-euc", script]).directory(place).finish(LIMIT)?.status.success())
}

/// Where stores are made, one after the other.
struct Bench<'a> {
    netbe: &'a Path,
    kind: Kind,
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
            let what = [format!("error={error}"), "signal=SIGKILL".to_owned()];
            let of_call = (1..=count).flat_map(|number| {
                what.iter().map(move |what| (call.to_owned(), number, what.clone()))
            });
            let fault = |(call, number, what)| Fault { call, number, what };
            faults.push(of_call.map(fault).collect());
        }
        Ok(Run { verb, faults, before, after, fresh: false })
    }

    /// Runs a verb with a fault; what is wrong then.
    fn with(&mut self, run: &mut Run<'_>, fault: &Fault) -> Result<Option<String>, Failure> {
        if !run.fresh {
            self.prepare(run.verb)?;
            let before = self.picture()?;
            ensure(before == run.before, || {
                format!("it is made otherwise: {:?}", before.differences(&run.before, 3))
            })?;
        }
        run.fresh = false;
        let inject = format!("inject={}:{}:when={}", fault.call, fault.what, fault.number);
        let trace = format!("trace={}", fault.call);
        let words = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
        let done = self.run(run.verb, &words)?;
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
        let killed = done.status.signal() == Some(9);
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
        if self.kind == Kind::Directories && self.number > 0 {
            fs::remove_dir_all(self.here()).during("the store before")?;
        }
        self.number += 1;
        fs::create_dir(self.here()).during("a store's directory")?;
        let script = format!("{SITE}\n{}\n", verb.prepared);
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
        self.script(&format!("netbe() {{ \"$NETBE\" \"$@\"; }}\n{script}")).finish(LIMIT)
    }

    fn script(&self, script: &str) -> Program {
        let here = self.here();
        Program::new("sh")
            .args(["-euc", script])
            .env("NETBE", self.netbe)
            .env("NETBE_STATE", here.join("state"))
            .env("NETBE_STORE", format!("{}:{}", self.kind.word(), here.join("store").display()))
            .directory(&here)
    }

    fn picture(&self) -> Result<Picture, Failure> {
        let here = self.here();
        let machines = Picture::of(&here.join("state/machines"), &[])?;
        Ok(Picture::of(&here.join("store"), WITHOUT)?.and(machines))
    }

    fn here(&self) -> PathBuf {
        self.place.join(self.number.to_string())
    }
}

/// What is not the store's content, and what any verb may make and the next one uses.
const WITHOUT: &[&str] = &["history", ".spare", ".new", "lock", "locks"];
/// System calls that deal with files and processes, and how each fails where a disk, a file system or a
/// limit is at its end.
const CALLS: &[(&str, &str)] = &[
    ("clone", "EAGAIN"),
    ("clone3", "EAGAIN"),
    ("copy_file_range", "ENOSPC"),
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
    ("unlink", "EIO"),
    ("unlinkat", "EIO"),
    ("unshare", "ENOSPC"),
    ("utimensat", "EIO"),
    ("vfork", "EAGAIN"),
    ("wait4", "EIO"),
    ("write", "ENOSPC"),
    ("writev", "ENOSPC"),
];
/// How long faults are tried with all other tests.
const SHORT: Duration = Duration::from_secs(75);
/// How many calls of a verb fail then, and which: nearly the same every time, as those who change something else
/// have to be able to trust the result. What nobody has tried yet `cargo lab soak` tries.
const FEW: usize = 6;
const SEED: u64 = 5;
/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(60);
/// After so many nobody wants more.
const MOST_WRONG: usize = 12;

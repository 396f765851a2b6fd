//! Trying a candidate: a command runs in a clone of it, which is gone when the try has ended.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use child::{Call, Limit, Why};
use clap::ValueEnum;
use provision::interrupt::{AtWork, Interrupt};
use store::{Draft, EnvironmentName, InUse, Point, Store};

use super::Bench;
use super::bisection::Judgement;

/// How a command is run in a clone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Way {
    /// Linux: with the host's kernel and network, and its own processes, mounts and /dev.
    Chroot,
    /// FreeBSD: in a jail with the host's network addresses.
    Jail,
    /// Linux: in a container of systemd-nspawn(1) without a network.
    Nspawn,
}

impl Way {
    /// What there is on every host of this system.
    pub(crate) const fn of_this_host() -> Self {
        if cfg!(target_os = "freebsd") { Self::Jail } else { Self::Chroot }
    }

    /// Why this host cannot do it.
    pub(crate) fn refuse(self) -> Option<&'static str> {
        let is_freebsd = cfg!(target_os = "freebsd");
        match self {
            Self::Jail if !is_freebsd => {
                Some("Linux has no jails: use --run chroot or --run nspawn")
            }
            Self::Chroot | Self::Nspawn if is_freebsd => Some("on FreeBSD use --run jail"),
            Self::Chroot | Self::Nspawn if lacks_util_linux() => {
                Some("unshare or setpriv is not installed: install the package util-linux")
            }
            Self::Nspawn if child::find("systemd-nspawn").is_none() => Some(
                "systemd-nspawn is not installed: install the package systemd-container, or use --run chroot",
            ),
            Self::Chroot | Self::Jail | Self::Nspawn => None,
        }
    }

    /// The call that runs a command in the tree at `root` and writes what it says into the file `log`.
    fn call(self, name: &EnvironmentName, root: &Path, log: &Path, limit: Duration) -> Call {
        let call = Call::new("env", Limit::Within(limit));
        let (call, script) = match self {
            // Whatever the command has started ends with it.
            Self::Chroot => (call.operands(PDEATHSIG).operands(NAMESPACE), CHROOT),
            Self::Nspawn => (call.operands(PDEATHSIG), NSPAWN),
            Self::Jail => (call, JAIL),
        };
        call.operands(["sh", "-euc", script, "netbe"])
            .operand(name.as_str())
            .operand(root)
            .operand(log)
    }

    /// The call that ends what a try may have left running.
    fn end(self, name: &EnvironmentName, root: &Path) -> Option<Call> {
        let call =
            || Call::new("env", Limit::Within(END)).operands(["sh", "-uc", END_JAIL, "netbe"]);
        match self {
            // They end with the process that was waited for.
            Self::Chroot | Self::Nspawn => None,
            Self::Jail => Some(call().operand(name.as_str()).operand(root)),
        }
    }
}

fn lacks_util_linux() -> bool {
    ["setpriv", "unshare"].iter().any(|program| child::find(program).is_none())
}

/// What a try of a candidate came to.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// How the command ended.
    pub(crate) ending: Ending,
    /// How long it ran.
    pub(crate) took: Duration,
    /// What it said.
    pub(crate) log: Option<PathBuf>,
}

/// How a command ended, in the manner of git-bisect(1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// With this exit status: 0 is good, 125 is to be skipped, all else is bad.
    Status(i32),
    /// By this signal, which is bad.
    Signal(i32),
    /// Not in its time, which is bad.
    Late,
    /// It could not be tried: this says nothing.
    Untried(String),
}

impl Verdict {
    #[cfg(test)]
    pub(crate) const fn ended(status: i32) -> Self {
        Self { ending: Ending::Status(status), took: Duration::ZERO, log: None }
    }

    fn untried(reason: impl ToString) -> Self {
        Self { ending: Ending::Untried(reason.to_string()), took: Duration::ZERO, log: None }
    }

    /// What it says.
    pub(crate) const fn judgement(&self) -> Judgement {
        match self.ending {
            Ending::Status(0) => Judgement::Good,
            Ending::Status(SKIP) | Ending::Untried(_) => Judgement::Skip,
            Ending::Status(_) | Ending::Signal(_) | Ending::Late => Judgement::Bad,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::Late => f.write_str("did not end in its time"),
            Self::Untried(reason) => write!(f, "could not be tried: {reason}"),
        }
    }
}

/// All tries of one candidate.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    /// Where it stands among the candidates.
    pub(crate) place: usize,
    /// What was tried.
    pub(crate) candidate: Point,
    /// What came of each try; there is one at least.
    pub(crate) verdicts: Vec<Verdict>,
}

impl Trial {
    /// What most of its tries say; where as many say the other, it is bad.
    pub(crate) fn judgement(&self) -> Judgement {
        let count = |judgement| {
            self.verdicts.iter().filter(|verdict| verdict.judgement() == judgement).count()
        };
        let (good, bad) = (count(Judgement::Good), count(Judgement::Bad));
        match () {
            () if good > bad => Judgement::Good,
            () if bad > 0 => Judgement::Bad,
            () => Judgement::Skip,
        }
    }

    /// Whether its tries contradict each other.
    pub(crate) fn is_flaky(&self) -> bool {
        let has = |judgement| self.verdicts.iter().any(|one| one.judgement() == judgement);
        has(Judgement::Good) && has(Judgement::Bad)
    }

    /// How the last of those tries ended that say the same as all together.
    pub(crate) fn ending(&self) -> Option<&Verdict> {
        let judgement = self.judgement();
        self.verdicts.iter().rfind(|verdict| verdict.judgement() == judgement)
    }
}

/// Where commands are tried: in clones that this store makes.
#[derive(Debug)]
pub(crate) struct Clones<'a> {
    pub(crate) store: &'a Store,
    pub(crate) way: Way,
    pub(crate) command: &'a [OsString],
    pub(crate) limit: Duration,
    /// What this hunt is called: clones have names that begin so.
    pub(crate) id: &'a str,
    /// Where what commands say is kept.
    pub(crate) logs: &'a Path,
    pub(crate) interrupt: &'a Interrupt,
}

impl Bench for Clones<'_> {
    fn attempt(&self, candidate: &Point, number: usize) -> Verdict {
        self.tried(candidate, number).unwrap_or_else(|reason| Verdict::untried(reason.0))
    }

    fn is_stopped(&self) -> bool {
        self.interrupt.came()
    }
}

/// Why a candidate could not be tried.
struct Reason(String);

impl<E: std::error::Error> From<E> for Reason {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Clones<'_> {
    fn tried(&self, candidate: &Point, number: usize) -> Result<Verdict, Reason> {
        let random = getrandom::u32().map_err(|error| Reason(error.to_string()))?;
        let name: EnvironmentName = format!("{}-{random:08x}", self.id).parse()?;
        let log = self.logs.join(format!("{candidate}.{number}.log"));
        let draft = self.store.draft(candidate, &name)?;
        let verdict = self.within(&draft, &log);
        draft.undo()?;
        verdict
    }

    /// Runs the command in a clone.
    fn within(&self, draft: &Draft<'_>, log: &Path) -> Result<Verdict, Reason> {
        let name = draft.name();
        let root = self.logs.join(format!("{name}.root"));
        DirBuilder::new().mode(0o700).create(&root)?;
        let mounted = self.store.mount(&name.clone().into(), &root);
        let verdict = mounted.map_err(Reason::from).and_then(|()| {
            let verdict = self.command_in(name, &root, log);
            if let Some(end) = self.way.end(name, &root) {
                end.run()?;
            }
            self.store.unmount(name, Some(&root), InUse::Detach)?;
            verdict
        });
        fs::remove_dir(&root)?;
        verdict
    }

    fn command_in(
        &self,
        name: &EnvironmentName,
        root: &Path,
        log: &Path,
    ) -> Result<Verdict, Reason> {
        let call = self.way.call(name, root, log, self.limit).operands(self.command);
        let begin = Instant::now();
        let running = call.start()?;
        let _noted = running.id().map(AtWork::note);
        let ending = match running.end() {
            Ok(()) => Ending::Status(0),
            Err(error) => match error.why {
                Why::Ended(status) => status.code().map_or_else(
                    || Ending::Signal(status.signal().unwrap_or_default()),
                    Ending::Status,
                ),
                Why::Late => Ending::Late,
                Why::Absent | Why::Long | Why::Option | Why::Start | Why::Stuck => {
                    return Err(error.into());
                }
            },
        };
        Ok(Verdict { ending, took: begin.elapsed(), log: Some(log.to_owned()) })
    }
}

/// Linux: the program ends when this process does, however that ends.
const PDEATHSIG: [&str; 4] = ["setpriv", "--pdeathsig", "KILL", "--"];
/// Linux: mounts and processes of its own.
const NAMESPACE: [&str; 6] = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--"];
/// What says that a candidate is to be skipped: as with git-bisect(1).
const SKIP: i32 = 125;
/// How long the end of what was left may take.
const END: Duration = Duration::from_secs(60);

/// Arguments: a name, the root, the file for what the command says, the command.
///
/// A link in the place of a directory would have something mounted elsewhere, though in this namespace only.
const CHROOT: &str = r#"
root=$2; exec >"$3" 2>&1; shift 3
# What cannot be prepared says nothing of the candidate.
trap 'exit 125' EXIT
for place in proc dev; do
    [ -d "$root/$place" ] && [ ! -L "$root/$place" ] || { echo "/$place is no directory"; exit 125; }
done
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755,nosuid none "$root/dev"
mkdir -m 1777 "$root/dev/shm"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    chroot "$root" "$@""#;
const NSPAWN: &str = r#"
name=$1; root=$2; exec >"$3" 2>&1; shift 3
exec systemd-nspawn --quiet --register=no --keep-unit --machine="$name" --directory="$root" \
    --private-network --resolv-conf=off --timezone=off --link-journal=no --pipe --as-pid2 -- "$@""#;
const JAIL: &str = r#"
name=$1; root=$2; exec >"$3" 2>&1; shift 3
trap 'exit 125' EXIT
mount -t devfs -o ruleset=4 devfs "$root/dev"
exec jail -c name="$name" path="$root" host.hostname="$name" ip4=inherit ip6=inherit exec.clean \
    command="$@""#;
/// Arguments: the jail's name, its root.
const END_JAIL: &str = r#"
jail -r "$1" 2>/dev/null
umount -f "$2/dev" 2>/dev/null
:"#;

//! Debian and Ubuntu by mmdebstrap(1), or by debootstrap(8) where that is not here. Either gives a root
//! as an archive: it is unpacked like any other, and nothing of it runs inside of a boot environment.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bootcfg::shell;
use child::{Abandoned, Call, Limit, Running, Why};

use super::InstallError;
use super::build_dir::BuildDir;
use super::error::on;
use super::progress::Progress;
use crate::terminal;

/// A system to be made.
#[derive(Debug)]
pub struct Debian<'a> {
    /// The release's code name.
    pub suite: &'a str,
    /// Debian's name of the architecture.
    pub arch: &'a str,
    /// Where packages come from, if not from the usual place.
    pub mirror: Option<&'a str>,
    /// The package of its kernel.
    pub kernel: &'a str,
    /// Packages beside those that a network root needs.
    pub packages: &'a [String],
    /// A program that is run in it when all packages are there, as root: its absolute path.
    pub script: Option<&'a str>,
}

/// A program that makes a system, at work. Dropped before its end it is stopped.
#[derive(Debug)]
pub struct Bootstrap {
    program: Program,
    running: Running,
    progress: Option<Progress>,
    /// Left after the program was stopped.
    _build: Option<BuildDir>,
}

impl Debian<'_> {
    /// Refuses what can be seen before anything is fetched.
    pub fn refuse(&self) -> Result<(), InstallError> {
        self.check()?;
        Program::find().map(drop)
    }

    /// Starts to make it. `build_dir` is a path for a directory of this purpose alone.
    pub fn start(&self, build_dir: PathBuf) -> Result<Bootstrap, InstallError> {
        self.check()?;
        let program = Program::find()?;
        let (call, build) = match program {
            Program::Mmdebstrap => (self.mmdebstrap()?, None),
            Program::Debootstrap => {
                let build = BuildDir::enter(build_dir)?;
                (self.debootstrap(&build)?, Some(build))
            }
        };
        // What it says is read.
        let started = call.locale("C.UTF-8").start_heard();
        let (running, stderr) = started.map_err(|error| program.failed(error))?;
        Ok(Bootstrap { program, running, progress: stderr.map(Progress::follow), _build: build })
    }

    /// Refuses words that the programs would take for something else.
    fn check(&self) -> Result<(), InstallError> {
        let plain = |word: &&str| {
            word.starts_with(|first: char| first.is_ascii_alphanumeric())
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-".contains(&byte))
        };
        let packages = self.packages.iter().map(String::as_str);
        let mut words = [self.suite, self.arch, self.kernel].into_iter().chain(packages);
        if let Some(bad) = words.find(|word| !plain(word)) {
            return Err(InstallError::Word(bad.to_owned()));
        }
        match self.mirror.filter(|mirror| !mirror.contains("://") || mirror.starts_with('-')) {
            Some(bad) => Err(InstallError::Mirror(bad.to_owned())),
            None => Ok(()),
        }
    }

    fn packages(&self) -> String {
        let more = || self.packages.iter().map(String::as_str);
        // apt would refuse two programs that set the clock.
        let keeps_time = more().any(|package| TIME_DAEMONS.contains(&package));
        let time = (!keeps_time).then_some(TIME_DAEMON);
        let needed = std::iter::once(self.kernel).chain(NEEDED).chain(time);
        needed.chain(more()).collect::<Vec<_>>().join(",")
    }

    fn mmdebstrap(&self) -> Result<Call, InstallError> {
        // It has to remove its own directory.
        let call = Program::Mmdebstrap.call().abandoned(Abandoned::Terminated);
        // Device nodes come from the kernel's devtmpfs; not everybody who is root may make them.
        let call = call.flags(["--variant=important", "--format=tar", "--skip=output/mknod"]);
        let call = call.joined("--architectures=", self.arch);
        let call = call.joined("--include=", self.packages());
        let call = match self.script {
            Some(script) => {
                let refused = || InstallError::Script(script.to_owned());
                let quoted = shell::quote(script).map_err(|_| refused())?;
                let is_one_line = !script.contains(char::is_control);
                let script = is_one_line.then_some(quoted).ok_or_else(refused)?;
                // It calls its hooks with the root as the first argument, and says each before it runs
                // and again when it fails: in one line, so that these can be told from the script's own.
                call.joined("--customize-hook=", format!("script={script} root=$1; {SCRIPT}"))
            }
            None => call,
        };
        Ok(call.operands([self.suite, "-"]).operands(self.mirror))
    }

    /// debootstrap fills a directory, mounts `/proc` in it, and starts programs there. In namespaces of
    /// its own, whose first process dies with this one, no mount and no program can be left behind. That
    /// process hears nothing but SIGKILL.
    fn debootstrap(&self, build: &BuildDir) -> Result<Call, InstallError> {
        let program = Program::Debootstrap;
        // It would go on without the archive's key, with a warning.
        let make = program.call().flag("--force-check-gpg").joined("--arch=", self.arch);
        let make = make.joined("--include=", self.packages()).operand(self.suite);
        let make = make.operand(build.path()).operands(self.mirror);
        let words = make.words().map_err(|error| program.failed(error))?;
        let shell = ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "sh"];
        let call = Call::new("setpriv", Limit::None).option("--pdeathsig", "KILL").operands(shell);
        let then = self.script.map_or_else(String::new, |_| SCRIPT.to_owned());
        let made = format!("{DEBOOTSTRAP}{then}\n{ARCHIVE}");
        let call = call.operands(["-euc", made.as_str()]).operand(build.path());
        let call = call.operand(self.script.unwrap_or_default());
        Ok(call.operands(words.iter().skip(1)).holding(build.lock()?.into()))
    }
}

impl Bootstrap {
    /// The archive as it comes; once.
    pub(super) fn archive(&mut self) -> Option<OwnedFd> {
        self.running.stdout().map(OwnedFd::from)
    }

    /// Waits for its end; an archive whose maker failed is none.
    pub fn end(self) -> Result<(), InstallError> {
        let ended = self.running.end();
        let words = self.progress.map(Progress::errors).unwrap_or_default();
        ended.map_err(|error| {
            words.iter().for_each(|line| terminal::say(line));
            self.program.failed(error)
        })
    }
}

/// A program that makes a system.
#[derive(Clone, Copy, Debug)]
enum Program {
    Mmdebstrap,
    Debootstrap,
}

impl Program {
    /// A call of it, which takes as long as the mirror.
    fn call(self) -> Call {
        // debootstrap(8) knows no `--`.
        Call::new(self.name(), Limit::None).without_dashes()
    }

    fn failed(self, error: child::Error) -> InstallError {
        match error.why {
            Why::Ended(status) => InstallError::Bootstrap { program: self.name(), status },
            Why::Absent | Why::Late | Why::Long | Why::Option | Why::Start | Why::Stuck => {
                on(Path::new(self.name()))(io::Error::other(error.said))
            }
        }
    }

    /// The one that is here.
    fn find() -> Result<Self, InstallError> {
        let there = |program: &&Self| child::find(program.name()).is_some();
        // Elsewhere there are no such namespaces.
        let own: &[Self] = if cfg!(target_os = "linux") {
            &[Self::Mmdebstrap, Self::Debootstrap]
        } else {
            &[Self::Mmdebstrap]
        };
        own.iter().find(there).copied().ok_or(InstallError::NoBootstrap)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Mmdebstrap => "mmdebstrap",
            Self::Debootstrap => "debootstrap",
        }
    }
}

/// Runs the program `$script` in the system below `$root`, in one line of a shell. What it says is told if it
/// fails.
const SCRIPT: &str = "cp -- \"$script\" \"$root/netbe-script\" && chmod 700 \"$root/netbe-script\" || exit; \
     DEBIAN_FRONTEND=noninteractive chroot \"$root\" /netbe-script >&2 </dev/null || { \
     echo \"the script ended with status $?\" >&2; exit 1; }; rm \"$root/netbe-script\"";
/// What sets the clock by DHCP's option 42, and what people take instead.
const TIME_DAEMON: &str = "systemd-timesyncd";
const TIME_DAEMONS: [&str; 5] = ["chrony", "ntp", "ntpsec", "openntpd", TIME_DAEMON];
/// What mounts a root over NFS.
const NEEDED: [&str; 2] = ["initramfs-tools", "nfs-common"];
/// Fills the directory `$0`; `$1` is the program to be run in it.
const DEBOOTSTRAP: &str = "
umask 022
root=$0 script=$1
shift
debootstrap \"$@\" >&2
";
/// Archives the directory `$0`, without device nodes, lists and packages, as mmdebstrap does.
const ARCHIVE: &str = "
exec tar --create --file=- --directory=\"$0\" --one-file-system --numeric-owner --format=posix \
    --xattrs --xattrs-include=security.capability --exclude='./dev/*' \
    --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*_*' .
";

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn words_that_are_options_are_refused() {
        let (kernel, mirror, packages, script) = ("linux-image-amd64", None, &[], None);
        let debian = Debian { suite: "bookworm", arch: "amd64", mirror, kernel, packages, script };
        debian.check().unwrap();
        for bad in [
            Debian { suite: "--help", ..debian },
            Debian { suite: "", ..debian },
            Debian { suite: "../x", ..debian },
            Debian { arch: "a,b", ..debian },
            Debian { kernel: "?essential", ..debian },
        ] {
            assert!(matches!(bad.check(), Err(InstallError::Word(_))), "{bad:?}");
        }
        for mirror in ["--hook-dir=http://m", "deb.debian.org"] {
            let bad = Debian { mirror: Some(mirror), ..debian };
            assert!(matches!(bad.check(), Err(InstallError::Mirror(_))), "{mirror}");
        }
    }
}

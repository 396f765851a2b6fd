//! Debian and Ubuntu by mmdebstrap(1), or by debootstrap(8) where that is not here. Either gives a root
//! as an archive: it is unpacked like any other, and nothing of it runs inside of a boot environment.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
}

/// A program that makes a system, at work. Dropped before its end it is stopped.
#[derive(Debug)]
pub struct Bootstrap {
    program: Program,
    child: Child,
    progress: Option<Progress>,
    /// Left after the program was stopped.
    _build: Option<BuildDir>,
}

impl Debian<'_> {
    /// Starts to make it. `build_dir` is a path for a directory of this purpose alone.
    pub fn start(&self, build_dir: PathBuf) -> Result<Bootstrap, InstallError> {
        self.check()?;
        let program = Program::find()?;
        let (mut command, build) = match program {
            Program::Mmdebstrap => (self.mmdebstrap(), None),
            Program::Debootstrap => {
                let build = BuildDir::enter(build_dir)?;
                (self.debootstrap(&build)?, Some(build))
            }
        };
        // What it says is read.
        command.env("LC_ALL", "C.UTF-8").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(on(Path::new(program.name())))?;
        let progress = child.stderr.take().map(Progress::follow);
        Ok(Bootstrap { program, child, progress, _build: build })
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
        let more = self.packages.iter().map(String::as_str);
        std::iter::once(self.kernel).chain(NEEDED).chain(more).collect::<Vec<_>>().join(",")
    }

    fn mmdebstrap(&self) -> Command {
        let mut command = Command::new(Program::Mmdebstrap.name());
        // Device nodes come from the kernel's devtmpfs; not everybody who is root may make them.
        command.args(["--variant=important", "--format=tar", "--skip=output/mknod"]);
        command.arg(format!("--architectures={}", self.arch));
        command.arg(format!("--include={}", self.packages()));
        command.args([self.suite, "-"]).args(self.mirror).stdin(Stdio::null());
        command
    }

    /// debootstrap fills a directory, mounts `/proc` in it, and starts programs there. In namespaces of
    /// its own, whose first process dies with this one, no mount and no program can be left behind.
    fn debootstrap(&self, build: &BuildDir) -> Result<Command, InstallError> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--mount-proc"]);
        command.args(["--fork", "--kill-child", "sh", "-euc", DEBOOTSTRAP]).arg(build.path());
        // It would go on without the archive's key, with a warning.
        command.arg("--force-check-gpg");
        command.arg(format!("--arch={}", self.arch));
        command.arg(format!("--include={}", self.packages()));
        command.arg(self.suite).arg(build.path()).args(self.mirror);
        command.stdin(build.lock()?);
        Ok(command)
    }
}

impl Bootstrap {
    /// The archive as it comes; once.
    pub(super) fn archive(&mut self) -> Option<OwnedFd> {
        self.child.stdout.take().map(OwnedFd::from)
    }

    /// Waits for its end; an archive whose maker failed is none.
    pub fn end(mut self) -> Result<(), InstallError> {
        let program = self.program.name();
        let status = self.child.wait().map_err(on(Path::new(program)))?;
        let words = self.progress.take().map(Progress::errors).unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        words.iter().for_each(|line| terminal::say(line));
        Err(InstallError::Bootstrap { program, status })
    }
}

impl Drop for Bootstrap {
    fn drop(&mut self) {
        // Ended already, or not wanted any more. mmdebstrap has to remove its own directory; who is the
        // first in a namespace of processes hears nothing but SIGKILL.
        let _ = match (self.program, i32::try_from(self.child.id())) {
            (Program::Mmdebstrap, Ok(pid)) if matches!(self.child.try_wait(), Ok(None)) => {
                kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(Into::into)
            }
            (Program::Mmdebstrap | Program::Debootstrap, _) => self.child.kill(),
        };
        let _ = self.child.wait();
    }
}

/// A program that makes a system.
#[derive(Clone, Copy, Debug)]
enum Program {
    Mmdebstrap,
    Debootstrap,
}

impl Program {
    /// The one that is here.
    fn find() -> Result<Self, InstallError> {
        let there = |program: &&Self| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(program.name()).is_file())
        };
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

/// What mounts a root over NFS.
const NEEDED: [&str; 2] = ["initramfs-tools", "nfs-common"];
/// Fills the directory `$0` and archives it, without device nodes, lists and packages, as mmdebstrap does.
const DEBOOTSTRAP: &str = "
umask 022
debootstrap \"$@\" >&2
exec tar --create --file=- --directory=\"$0\" --one-file-system --numeric-owner --format=posix \
    --xattrs --xattrs-include=security.capability --exclude='./dev/*' \
    --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*_*' .
";

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn words_that_are_options_are_refused() {
        let (kernel, mirror, packages) = ("linux-image-amd64", None, &[]);
        let debian = Debian { suite: "bookworm", arch: "amd64", mirror, kernel, packages };
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

//! Debian and Ubuntu by mmdebstrap(1), which gives a root as an archive: it is unpacked like any other,
//! and nothing of it runs inside of a boot environment.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::InstallError;
use super::error::on;

/// A system to be made.
#[derive(Debug)]
pub(crate) struct Debian<'a> {
    /// The release's code name.
    pub(crate) suite: &'a str,
    /// Debian's name of the architecture.
    pub(crate) arch: &'a str,
    /// Where packages come from, if not from the usual place.
    pub(crate) mirror: Option<&'a str>,
    /// The package of its kernel.
    pub(crate) kernel: &'a str,
    /// Packages beside those that a network root needs.
    pub(crate) packages: &'a [String],
}

/// mmdebstrap at work. Dropped before its end it is stopped.
#[derive(Debug)]
pub(crate) struct Making {
    child: Child,
}

impl Debian<'_> {
    /// Starts to make it.
    pub(crate) fn start(&self) -> Result<Making, InstallError> {
        let words = [self.suite, self.arch];
        let plain = |word: &&str| {
            word.starts_with(|first: char| first.is_ascii_alphanumeric())
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-".contains(&byte))
        };
        let packages = self.packages.iter().map(String::as_str);
        let bad = words.into_iter().chain(packages.clone()).find(|word| !plain(word));
        if let Some(bad) = bad {
            return Err(InstallError::Word(bad.to_owned()));
        }
        let include: Vec<_> = std::iter::once(self.kernel).chain(NEEDED).chain(packages).collect();
        let mut command = Command::new(MMDEBSTRAP);
        // Device nodes come from the kernel's devtmpfs; not everybody who is root may make them.
        command.args(["--variant=important", "--format=tar", "--skip=output/mknod"]);
        command.arg(format!("--architectures={}", self.arch));
        command.arg(format!("--include={}", include.join(",")));
        command.args([self.suite, "-"]).args(self.mirror);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        match command.spawn() {
            Ok(child) => Ok(Making { child }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(InstallError::NoMaker)
            }
            Err(error) => Err(on(Path::new(MMDEBSTRAP))(error)),
        }
    }
}

impl Making {
    /// The archive as it comes.
    pub(crate) fn archive(&mut self) -> impl Read {
        self.child
            .stdout
            .take()
            .map_or_else(|| Box::new(std::io::empty()) as Box<dyn Read>, |out| Box::new(out))
    }

    /// Waits for its end; an archive whose maker failed is none.
    pub(crate) fn end(mut self) -> Result<(), InstallError> {
        let status = self.child.wait().map_err(on(Path::new(MMDEBSTRAP)))?;
        if status.success() { Ok(()) } else { Err(InstallError::Maker(status.to_string())) }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // Ended already, or not wanted any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const MMDEBSTRAP: &str = "mmdebstrap";
/// What mounts a root over NFS.
const NEEDED: [&str; 2] = ["initramfs-tools", "nfs-common"];

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn words_that_are_options_are_refused() {
        let debian = |suite, arch| Debian {
            suite,
            arch,
            mirror: None,
            kernel: "linux-image-amd64",
            packages: &[],
        };
        for (suite, arch) in
            [("--help", "amd64"), ("bookworm", "a,b"), ("", "amd64"), ("../x", "a")]
        {
            let error = debian(suite, arch).start().unwrap_err();
            assert!(matches!(error, InstallError::Word(_)), "{suite} {arch}");
        }
    }
}

//! What `netbe install` is told of who logs in: keys, a password, a name, and a script that does the rest.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use provision::install::access::{Access, Entrance, PasswordHash, SshKey};

use super::{Failure, password};
use crate::site::machine::MachineName;

/// Who can log in to what is installed, and how it is called.
#[derive(Args, Debug)]
pub(crate) struct AccessOptions {
    /// A public ssh key for root, or a file with such keys; may be repeated. On Debian this also installs an
    /// ssh server.
    #[arg(
        long = "ssh-key",
        value_name = "KEY|FILE",
        requires = "os",
        conflicts_with = "no_configure"
    )]
    ssh_keys: Vec<String>,
    /// Ask for root's password on the terminal, or read it from a line of standard input.
    #[arg(long, requires = "os", conflicts_with = "no_configure")]
    root_password: bool,
    /// Take root's password from the first line of a file.
    #[arg(
        long,
        value_name = "FILE",
        requires = "os",
        conflicts_with_all = ["no_configure", "root_password"]
    )]
    root_password_file: Option<PathBuf>,
    /// The system's host name. It overrides the name that DHCP sends; leave it out if several machines boot
    /// this environment.
    #[arg(long, value_name = "NAME", requires = "os", conflicts_with = "no_configure")]
    hostname: Option<MachineName>,
    /// A program to run as root in the new system after its packages are installed (Debian and Ubuntu only).
    #[arg(long, value_name = "FILE", requires = "os")]
    pub(super) script: Option<PathBuf>,
}

impl AccessOptions {
    /// Whether an ssh server has to be there.
    pub(super) const fn needs_ssh(&self) -> bool {
        !self.ssh_keys.is_empty()
    }

    /// Whether root gets a password.
    pub(super) const fn has_password(&self) -> bool {
        self.root_password || self.root_password_file.is_some()
    }

    /// Reads the keys.
    pub(super) fn keys(&self) -> Result<Vec<SshKey>, Failure> {
        let read = self.ssh_keys.iter().map(|said| keys(said)).collect::<Result<Vec<_>, _>>()?;
        Ok(read.concat())
    }

    /// Reads the file of the password, and forgets it.
    pub(super) fn password_file(&self) -> Result<(), Failure> {
        self.root_password_file
            .as_deref()
            .map_or(Ok(()), |file| password::from_file(file).map(drop))
    }

    /// Reads or asks for the password: the last of all, so that nobody types one for nothing.
    pub(super) fn read(&self, ssh_keys: Vec<SshKey>) -> Result<Access, Failure> {
        let password = match &self.root_password_file {
            Some(file) => Some(password::from_file(file)?),
            None if self.root_password => Some(password::ask("Password of root")?),
            None => None,
        };
        let root_password = match password {
            Some(password) => {
                let mut salt = [0; 12];
                getrandom::fill(&mut salt).map_err(|error| {
                    Failure::could_not(format_args!("this host has no random numbers: {error}"))
                })?;
                Some(PasswordHash::new(&password, salt))
            }
            None => None,
        };
        let host_name = self.hostname.as_ref().map(ToString::to_string);
        Ok(Access { ssh_keys, root_password, host_name })
    }

    /// The script, by its absolute path.
    pub(super) fn script(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.script else { return Ok(None) };
        let found = path.canonicalize().map_err(|error| unread(path, &error))?;
        if !found.is_file() {
            return Err(Failure::could_not(format_args!("{} is no file", path.display())));
        }
        let text = found.to_str().map(|text| Some(text.to_owned()));
        text.ok_or_else(|| {
            Failure::could_not(format_args!("{path:?} is not UTF-8: give the script another name"))
        })
    }
}

/// The keys that are written there, or in the file of that name.
fn keys(said: &str) -> Result<Vec<SshKey>, Failure> {
    if SshKey::is_meant(said) {
        return SshKey::all(said).map_err(Failure::could_not);
    }
    let path = Path::new(said);
    let text = fs::read_to_string(path).map_err(|error| unread(path, &error))?;
    SshKey::all(&text)
        .map_err(|error| Failure::could_not(format_args!("{}: {error}", path.display())))
}

fn unread(path: &Path, error: &std::io::Error) -> Failure {
    Failure::could_not(format_args!("{} cannot be read: {error}", path.display()))
}

/// One line that says how to get in where nothing was said about it. `runs_here` says whether the programs of
/// the system run on this host.
pub(super) fn way_in(entrance: Entrance, root: &Path, runs_here: bool) -> String {
    match entrance {
        Entrance::Known | Entrance::Unknown => String::new(),
        Entrance::Open => "root logs in on the console, without a password\n".to_owned(),
        Entrance::Closed => {
            let chroot =
                format!("set root's password with `chroot {} passwd`, or ", root.display());
            let chroot = if runs_here { chroot.as_str() } else { "" };
            format!("root cannot log in: {chroot}destroy it and install it again with --ssh-key\n")
        }
    }
}

/// Whether programs for an architecture, as Debian and FreeBSD call it, run on this host.
pub(super) fn is_of_host(arch: &str) -> bool {
    let own: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["amd64", "i386"],
        "aarch64" => &["arm64", "aarch64"],
        other => return arch == other,
    };
    own.contains(&arch)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_program_of_another_host_is_not_offered() {
        let root = Path::new("/store/be/base");
        let line = way_in(Entrance::Closed, root, true);
        assert!(line.contains("`chroot /store/be/base passwd`, or destroy it"), "{line}");
        let line = way_in(Entrance::Closed, root, false);
        assert_eq!(line, "root cannot log in: destroy it and install it again with --ssh-key\n");
        assert!(!is_of_host("riscv64/riscv64") && !is_of_host("powerpc64"));
    }
}

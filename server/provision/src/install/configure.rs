//! What a system needs beside its files to live on a root over NFS, as diskless(8) says: written after
//! it was unpacked, and never over what somebody wrote there.

use std::path::PathBuf;

use bootcfg::loader::Variable;
use bootcfg::rcconf::Setting;
use bootcfg::{ConfigError, fstab, loader, rcconf};
use hostfs::{Inside, InsideError};
use rustix::io::Errno;

use super::InstallError;
use super::access::{self, Access};
use super::kind::Kind;
use super::network::receive_dhcp;
use crate::contents::{Contents, System};
use crate::roots::identity;

/// What was done to a system's configuration.
#[derive(Debug, Default)]
pub(super) struct Configured {
    /// Files that were written.
    pub(super) written: Vec<PathBuf>,
    /// Files that have something in them already, and stay.
    pub(super) kept: Vec<PathBuf>,
    /// Files of one machine's identity that were emptied or removed: each makes its own.
    pub(super) reset: Vec<PathBuf>,
    /// What is left for the administrator to do.
    pub(super) notes: Vec<&'static str>,
}

impl Configured {
    /// One line for each file.
    pub(super) fn summary(&self) -> String {
        let lines = |what: &'static str, paths: &[PathBuf]| {
            paths.iter().map(|path| format!("{what} {}\n", path.display())).collect::<String>()
        };
        let notes = self.notes.iter().map(|note| format!("{note}\n")).collect::<String>();
        lines("wrote", &self.written)
            + &lines("kept", &self.kept)
            + &lines("reset", &self.reset)
            + &notes
    }
}

/// Configures the system that is in a boot environment, if there is one, and lets in who is to get in.
/// One without a kernel, as of a jail, is given no files for a root over NFS.
pub(super) fn configure(inside: &Inside, access: &Access) -> Result<Configured, InstallError> {
    let mut done = Configured::default();
    let system = Contents::scan(inside).system;
    let mut put = |path: &str, text: Result<String, ConfigError>| {
        let text = text.map_err(|error| wrong(path, error))?;
        put(inside, path, &text, &mut done)
    };
    match &system {
        None => {}
        Some(System::FreeBsd) => {
            let fstab = fstab::render(&[]).map(|lines| format!("{FSTAB}{lines}"));
            put("/etc/fstab", fstab)?;
            // Until a machine's own lock daemons run every lock would fail; the server says so too, but
            // another's DHCP does not.
            let nolockd =
                Variable { name: "boot.nfsroot.options".to_owned(), value: "nolockd".to_owned() };
            put("/boot/loader.conf", loader::render(&[nolockd]))?;
            // No interface and no name: the kernel has configured the one, and DHCP told the other.
            let client = Setting { name: "nfs_client_enable".to_owned(), value: "YES".to_owned() };
            put("/etc/rc.conf", rcconf::render(&[client]))?;
        }
        Some(System::Linux { .. }) => {
            let fstab = fstab::render(&[]).map(|lines| format!("{FSTAB}{lines}"));
            put("/etc/fstab", fstab)?;
            receive_dhcp(inside, &mut done)?;
        }
    }
    let Some(kind) = Kind::of(inside) else {
        return if access.is_asked_for() { Err(InstallError::NoSystem) } else { Ok(done) };
    };
    access::grant(inside, kind, access, &mut done)?;
    let name = access.host_name.as_deref();
    let reset = identity::reset(inside, name).map_err(|error| failed("its identity", error))?;
    done.reset = reset;
    Ok(done)
}

/// Writes a file, unless there is something in it.
fn put(inside: &Inside, path: &str, text: &str, done: &mut Configured) -> Result<(), InstallError> {
    let found = match inside.read_small(path, MAX_TEXT) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(InsideError::Missing(_)) if !inside.is_link(path).unwrap_or(false) => String::new(),
        Err(
            InsideError::Attributes(_)
            | InsideError::Missing(_)
            | InsideError::NotDirectory(_)
            | InsideError::NotFile(_)
            | InsideError::TooLarge { .. }
            | InsideError::TooMany { .. },
        ) => {
            done.kept.push(path.into());
            return Ok(());
        }
        // A link to itself.
        Err(InsideError::Io { source, .. })
            if [Errno::LOOP, Errno::MLINK]
                .map(|errno| Some(errno.raw_os_error()))
                .contains(&source.raw_os_error()) =>
        {
            done.kept.push(path.into());
            return Ok(());
        }
        Err(error @ InsideError::Io { .. }) => return Err(failed(path, error)),
    };
    if found == text {
        return Ok(());
    }
    // Debian's has a comment that says that it says nothing.
    let says = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    if found.lines().any(says) {
        done.kept.push(path.into());
        return Ok(());
    }
    let parent = PathBuf::from(path);
    if let Some(parent) = parent.parent() {
        inside.make_dir(parent).map_err(|error| failed(path, error))?;
    }
    inside.write_atomic(path, text.as_bytes(), 0o644).map_err(|error| failed(path, error))?;
    done.written.push(path.into());
    Ok(())
}

fn failed(what: &str, error: InsideError) -> InstallError {
    InstallError::Inside { archive: what.to_owned(), error }
}

fn wrong(path: &str, error: ConfigError) -> InstallError {
    InstallError::Io { path: path.into(), error: std::io::Error::other(error) }
}

const FSTAB: &str = "# The root is mounted before this is read. For a machine that mounts its data sets\n\
                     # by itself: netbe show fstab\n";
/// Largest configuration file that is looked at.
const MAX_TEXT: usize = 1 << 20;

#[cfg(test)]
mod test {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;

    use super::*;

    fn freebsd() -> (TempDir, Inside) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("boot/kernel")).unwrap();
        std::fs::create_dir(root.join("etc")).unwrap();
        for file in ["boot/kernel/kernel", "boot/loader.efi"] {
            std::fs::write(root.join(file), "x").unwrap();
        }
        let inside = Inside::enter(&root).unwrap();
        (dir, inside)
    }

    #[test]
    fn what_diskless_asks_for_is_written_and_nothing_over_what_is_there() {
        let (dir, inside) = freebsd();
        let root = dir.path().join("root");
        std::fs::write(root.join("etc/rc.conf"), "sshd_enable=\"YES\"\n").unwrap();
        std::fs::write(root.join("etc/fstab"), "# UNCONFIGURED FSTAB\n\n").unwrap();
        let done = configure(&inside, &Access::default()).unwrap();
        assert_eq!(
            done.summary(),
            "wrote /etc/fstab\nwrote /boot/loader.conf\nkept /etc/rc.conf\n"
        );
        let conf = std::fs::read_to_string(root.join("boot/loader.conf")).unwrap();
        assert_eq!(conf, "boot.nfsroot.options=\"nolockd\"\n");
        let conf = std::fs::read_to_string(root.join("etc/rc.conf")).unwrap();
        assert_eq!(conf, "sshd_enable=\"YES\"\n");
    }

    #[test]
    fn host_files_behind_links_are_neither_read_nor_written() {
        let (dir, inside) = freebsd();
        let outside = dir.path().join("rc.conf");
        std::fs::write(&outside, "").unwrap();
        symlink(&outside, dir.path().join("root/etc/rc.conf")).unwrap();
        symlink("../../../../../../etc/fstab", dir.path().join("root/etc/fstab")).unwrap();
        let fifo = dir.path().join("root/boot/loader.conf");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let done = configure(&inside, &Access::default()).unwrap();
        assert_eq!(std::fs::read(&outside).unwrap(), b"");
        assert!(done.kept.contains(&"/etc/rc.conf".into()));
        assert!(done.kept.contains(&"/etc/fstab".into()));
        assert!(done.kept.contains(&"/boot/loader.conf".into()));
    }

    /// Its kernel lies elsewhere, as in a set of its own.
    #[test]
    fn a_system_without_a_kernel_is_known_by_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("etc/ssh")).unwrap();
        std::fs::write(at("etc/shadow"), "root:*:1:0:99999:7:::\n").unwrap();
        std::fs::write(at("etc/ssh/ssh_host_rsa_key"), "secret").unwrap();
        let inside = Inside::enter(dir.path()).unwrap();
        let access = Access { host_name: Some("desk".to_owned()), ..Access::default() };
        let done = configure(&inside, &access).unwrap();
        assert_eq!(done.summary(), "reset /etc/hostname\nreset /etc/ssh/ssh_host_rsa_key\n");
        assert_eq!(std::fs::read_to_string(at("etc/hostname")).unwrap(), "desk\n");
        std::fs::create_dir_all(at("etc/defaults")).unwrap();
        std::fs::write(at("etc/defaults/rc.conf"), "").unwrap();
        configure(&inside, &access).unwrap();
        let conf = std::fs::read_to_string(at("etc/rc.conf")).unwrap();
        assert_eq!(conf, "hostname=\"desk\"\n");
    }

    #[test]
    fn access_to_what_is_no_system_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let access = Access { host_name: Some("desk".to_owned()), ..Access::default() };
        let refused = configure(&Inside::enter(dir.path()).unwrap(), &access);
        assert!(matches!(refused, Err(InstallError::NoSystem)));
    }

    #[test]
    fn what_is_no_system_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let done = configure(&Inside::enter(dir.path()).unwrap(), &Access::default()).unwrap();
        assert_eq!(done.summary(), "");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

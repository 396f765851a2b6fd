//! What a clone must not share with the system that it was made from.
//!
//! Two systems with one machine-id, one hostid or one set of ssh keys are one system to DHCP servers,
//! to NFSv4 servers and to whoever logs in. What is removed here the system makes again at its first
//! boot. Everything is reached through [`Inside`], so that no link leads out of the root.

use std::path::{Path, PathBuf};

use hostfs::{Inside, InsideError};

use super::fixed::Lifted;

/// Resets what tells a system from others; gives the paths of the files that were changed.
///
/// With a machine's name, which is a host name (RFC 1123), the system is called so. What is immutable is
/// changed all the same, and immutable afterwards.
pub fn reset(inside: &Inside, name: Option<&str>) -> Result<Vec<PathBuf>, InsideError> {
    let (seeds, keys) = (seeds(inside)?, host_keys(inside)?);
    let mut lifted = Lifted::new(inside);
    let places = [MACHINE_ID, HOST_NAME, RC_CONF, SSH_DROP_IN].map(PathBuf::from);
    let done = seeds
        .iter()
        .chain(&keys)
        .chain(&places)
        .try_for_each(|path| lifted.lift(path))
        .and_then(|()| reset_lifted(inside, name, &seeds, &keys));
    let put_back = lifted.put_back();
    let changed = done?;
    put_back.map(|()| changed)
}

fn reset_lifted(
    inside: &Inside,
    name: Option<&str>,
    seeds: &[PathBuf],
    keys: &[PathBuf],
) -> Result<Vec<PathBuf>, InsideError> {
    let mut changed = Vec::new();
    let freebsd = inside.exists(RC_CONF_DEFAULTS)?;
    for path in seeds {
        if removed(inside, path)? {
            changed.push(path.clone());
        }
    }
    for path in keys {
        if removed(inside, path)? {
            changed.push(path.clone());
        }
    }
    let is_told = keys.is_empty() && inside.exists(SSH_DROP_IN)?;
    if !is_told && inside.exists(DEBIAN_SSH)? {
        inside.make_dir(SSH_DROP_INS)?;
        inside.write_atomic(SSH_DROP_IN, SSH_KEYS_FIRST.as_bytes(), 0o644)?;
        changed.push(SSH_DROP_IN.into());
    }
    // An empty file is filled at the next boot; without one systemd believes that the system was
    // never set up, and asks (machine-id(5)).
    if !freebsd && inside.exists(MACHINE_ID)? {
        inside.write_atomic(MACHINE_ID, b"", 0o444)?;
        changed.push(MACHINE_ID.into());
    } else if removed(inside, Path::new(MACHINE_ID))? {
        changed.push(MACHINE_ID.into());
    }
    if let Some(name) = name {
        let place = if freebsd { RC_CONF } else { HOST_NAME };
        let (text, mode) = if freebsd {
            let (text, mode) = match inside.exists(RC_CONF)? {
                true => {
                    (inside.read_small(RC_CONF, MAX_RC_CONF)?, mode(&inside.metadata(RC_CONF)?))
                }
                false => (Vec::new(), 0o644),
            };
            (renamed(&text, name), mode)
        } else {
            (format!("{name}\n").into_bytes(), 0o644)
        };
        if inside.exists("/etc")? {
            inside.write_atomic(place, &text, mode)?;
            changed.push(place.into());
        }
    }
    changed.sort();
    Ok(changed)
}

/// What becomes of an ssh server's host keys where machines boot an environment itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostKeys {
    /// There are some.
    Kept,
    /// There are none, and nothing makes them: Debian's sshd does not start.
    Missing,
    /// There is no ssh server, or each machine makes its own keys.
    Own,
}

/// Looks how it stands with them.
///
/// # Errors
///
/// A folder cannot be read.
pub fn of_ssh(inside: &Inside) -> Result<HostKeys, InsideError> {
    if !inside.exists(SSHD)? {
        return Ok(HostKeys::Own);
    }
    if !host_keys(inside)?.is_empty() {
        return Ok(HostKeys::Kept);
    }
    let makes_none = inside.exists(DEBIAN_SSH)? && !inside.exists(SSH_DROP_IN)?;
    Ok(if makes_none { HostKeys::Missing } else { HostKeys::Own })
}

/// Whether a file is one that [`reset`] takes care of, so that a system keeps its own.
#[must_use]
pub fn is_of_machine(path: &Path) -> bool {
    let text = Path::new("/").join(path);
    let key = text.parent() == Some(Path::new(SSH)) && is_host_key(&text);
    key || text == Path::new(MACHINE_ID)
        || text == Path::new(HOST_NAME)
        || text == Path::new(SSH_DROP_IN)
        || SEEDS.iter().any(|seed| text == Path::new(seed))
}

/// The names of the files that are made anew at the next boot.
fn seeds(inside: &Inside) -> Result<Vec<PathBuf>, InsideError> {
    let mut seeds: Vec<PathBuf> = SEEDS.iter().map(PathBuf::from).collect();
    for folder in SEED_FOLDERS {
        seeds.extend(names(inside, folder)?.map(|name| Path::new(folder).join(name)));
    }
    Ok(seeds)
}

fn host_keys(inside: &Inside) -> Result<Vec<PathBuf>, InsideError> {
    let keys = names(inside, SSH)?.map(|name| Path::new(SSH).join(name));
    Ok(keys.filter(|path| is_host_key(path)).collect())
}

fn is_host_key(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with("_key.pub"))
}

fn names(
    inside: &Inside,
    folder: &str,
) -> Result<impl Iterator<Item = std::ffi::OsString>, InsideError> {
    let is_there = inside.exists(folder)? && inside.metadata(folder)?.is_dir();
    let names = if is_there { inside.read_dir(folder, MAX_NAMES)? } else { Vec::new() };
    Ok(names.into_iter())
}

/// Removes a file or a link, if there is one and the way to it.
fn removed(inside: &Inside, path: &Path) -> Result<bool, InsideError> {
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    Ok(inside.exists(folder)? && inside.metadata(folder)?.is_dir() && inside.remove(path)?)
}

fn mode(about: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(about) & 0o7777
}

/// The text of an rc.conf with another host name: in the last line that sets it, which is the one that
/// counts, or in a new one.
fn renamed(text: &[u8], name: &str) -> Vec<u8> {
    let line = format!("hostname=\"{name}\"\n").into_bytes();
    let mut lines: Vec<Vec<u8>> =
        text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let sets = |known: &Vec<u8>| known.trim_ascii_start().starts_with(b"hostname=");
    match lines.iter_mut().rev().find(|known| sets(known)) {
        Some(known) => *known = line,
        None => {
            if let Some(last) = lines.last_mut().filter(|last| !last.ends_with(b"\n")) {
                last.push(b'\n');
            }
            lines.push(line);
        }
    }
    lines.concat()
}

const MACHINE_ID: &str = "/etc/machine-id";
const HOST_NAME: &str = "/etc/hostname";
const RC_CONF: &str = "/etc/rc.conf";
const SSH: &str = "/etc/ssh";
const SSHD: &str = "/usr/sbin/sshd";
/// Only FreeBSD has it.
const RC_CONF_DEFAULTS: &str = "/etc/defaults/rc.conf";

/// What a system makes again when it is missing, or does without.
const SEEDS: [&str; 11] = [
    // FreeBSD's rc.d/hostid takes the firmware's UUID in its place, or a new one.
    "/etc/hostid",
    // As dbus-uuidgen(1) made it; else it is a link to /etc/machine-id, which it makes again.
    "/var/lib/dbus/machine-id",
    "/var/lib/systemd/random-seed",
    "/var/lib/urandom/random-seed",
    "/var/lib/misc/random-seed",
    "/entropy",
    "/boot/entropy",
    "/var/lib/NetworkManager/secret_key",
    "/var/lib/dhcpcd/duid",
    "/etc/nvme/hostid",
    "/etc/nvme/hostnqn",
];

/// What lies in them is entropy of one machine: FreeBSD's save-entropy, Linux's seedrng.
const SEED_FOLDERS: [&str; 2] = ["/var/db/entropy", "/var/lib/seedrng"];

/// Debian's sshd does not start without host keys, and makes them only when its package is installed;
/// other systems make them at every start that finds none.
const DEBIAN_SSH: &str = "/lib/systemd/system/ssh.service";
const SSH_DROP_INS: &str = "/etc/systemd/system/ssh.service.d";
const SSH_DROP_IN: &str = "/etc/systemd/system/ssh.service.d/10-netbe-host-keys.conf";
const SSH_KEYS_FIRST: &str = "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\n\
                              ExecStartPre=/usr/sbin/sshd -t\n";

/// More than any rc.conf has, in bytes.
const MAX_RC_CONF: usize = 1 << 20;
/// More names than any of these folders has.
const MAX_NAMES: usize = 4096;

#[cfg(test)]
mod test {
    use std::fs;
    use std::os::unix::fs::symlink;

    use hostfs::Flags;

    use super::*;

    fn system(files: &[(&str, &str)]) -> (tempfile::TempDir, Inside) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let inside = Inside::enter(root.path()).unwrap();
        (root, inside)
    }

    fn read(root: &tempfile::TempDir, path: &str) -> String {
        fs::read_to_string(root.path().join(path)).unwrap()
    }

    #[test]
    fn a_debian_gets_a_name_and_keeps_nothing_of_its_template() {
        let (root, inside) = system(&[
            ("etc/machine-id", "abc\n"),
            ("etc/hostname", "template\n"),
            ("etc/ssh/ssh_host_ed25519_key", "secret"),
            ("etc/ssh/ssh_host_ed25519_key.pub", "public"),
            ("etc/ssh/sshd_config", "Port 22\n"),
            ("var/lib/systemd/random-seed", "seed"),
            ("lib/systemd/system/ssh.service", ""),
        ]);
        fs::create_dir_all(root.path().join("var/lib/dbus")).unwrap();
        symlink("/etc/machine-id", root.path().join("var/lib/dbus/machine-id")).unwrap();
        let changed = reset(&inside, Some("desk")).unwrap();
        assert_eq!(changed.len(), 7, "{changed:?}");
        assert_eq!(
            (read(&root, "etc/machine-id"), read(&root, "etc/hostname")),
            (String::new(), "desk\n".into())
        );
        assert_eq!(inside.read_dir("/etc/ssh", 9).unwrap(), ["sshd_config"]);
        assert!(read(&root, SSH_DROP_IN.trim_start_matches('/')).contains("ssh-keygen -A"));
        assert!(!root.path().join("var/lib/systemd/random-seed").exists());
        assert!(root.path().join("var/lib/dbus/machine-id").symlink_metadata().is_err());
    }

    #[test]
    fn a_freebsd_is_named_in_its_rc_conf() {
        let rc_conf = "hostname=\"old\"\nsshd_enable=YES\n hostname=template\n# end";
        let (root, inside) = system(&[
            ("etc/defaults/rc.conf", ""),
            ("etc/rc.conf", rc_conf),
            ("etc/hostid", "uuid"),
            ("etc/machine-id", "abc"),
            ("var/db/entropy/saved-entropy.1", "seed"),
        ]);
        reset(&inside, Some("desk")).unwrap();
        assert_eq!(
            read(&root, "etc/rc.conf"),
            "hostname=\"old\"\nsshd_enable=YES\nhostname=\"desk\"\n# end"
        );
        for path in
            ["etc/hostid", "etc/machine-id", "var/db/entropy/saved-entropy.1", "etc/hostname"]
        {
            assert!(!root.path().join(path).exists(), "{path}");
        }
    }

    #[test]
    fn a_name_is_added_where_rc_conf_has_none() {
        assert_eq!(renamed(b"a=1", "desk"), b"a=1\nhostname=\"desk\"\n");
        assert_eq!(renamed(b"", "desk"), b"hostname=\"desk\"\n");
    }

    #[test]
    fn nothing_outside_the_root_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (root, host) = (dir.path().join("root"), dir.path().join("host"));
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir_all(&host).unwrap();
        for name in ["machine-id", "ssh_host_rsa_key", "hostname"] {
            fs::write(host.join(name), "of the host").unwrap();
        }
        symlink(&host, root.join("etc/ssh")).unwrap();
        symlink(host.join("machine-id"), root.join("etc/machine-id")).unwrap();
        symlink(host.join("hostname"), root.join("etc/hostname")).unwrap();
        let inside = Inside::enter(&root).unwrap();
        reset(&inside, Some("desk")).unwrap();
        for name in ["machine-id", "ssh_host_rsa_key", "hostname"] {
            assert_eq!(fs::read_to_string(host.join(name)).unwrap(), "of the host", "{name}");
        }
        assert!(root.join("etc/hostname").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn what_is_immutable_is_reset_and_is_immutable_then() {
        let (root, inside) = system(&[
            ("etc/machine-id", "abc\n"),
            ("etc/hostname", "template\n"),
            ("etc/hostid", "uuid"),
            ("etc/fstab", "x"),
        ]);
        let paths = ["etc/machine-id", "etc/hostname", "etc/hostid", "etc/fstab", "etc"];
        let fixed = paths.map(|path| inside.set_flags(path, Flags::IMMUTABLE).unwrap().is_empty());
        let done = fixed[0].then(|| reset(&inside, Some("desk")));
        let flags = paths.map(|path| inside.entry(path).unwrap().map(|entry| entry.flags));
        for path in paths.iter().rev() {
            if inside.exists(path).unwrap() {
                inside.put_flags(path, Flags::default()).unwrap();
            }
        }
        let Some(done) = done else {
            eprintln!("skipped: the file system of temporary files has no flags");
            return;
        };
        assert_eq!(done.unwrap().len(), 3);
        let fixed = Some(Flags::IMMUTABLE);
        assert_eq!(flags, [fixed, fixed, None, fixed, fixed]);
        assert_eq!(read(&root, "etc/hostname"), "desk\n");
    }

    #[test]
    fn an_empty_root_has_nothing_to_reset() {
        let (_root, inside) = system(&[]);
        assert!(reset(&inside, Some("desk")).unwrap().is_empty());
    }
}

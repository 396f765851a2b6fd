//! How one gets into a system that was installed: what was asked for is written before it boots, and where
//! nothing was asked for it is found out whether anybody can log in.

mod crypt;
mod key;

use std::path::Path;
use std::time::SystemTime;

use hostfs::{Attributes, Entry, EntryKind, Flags, Inside, InsideError};
use serde::{Deserialize, Serialize};

pub use crypt::PasswordHash;
pub use key::{KeyError, SshKey};

use super::InstallError;
use super::configure::Configured;
use super::kind::Kind;

/// What lets an administrator in.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Access {
    /// Keys with which root logs in by ssh.
    pub ssh_keys: Vec<SshKey>,
    /// The password of root.
    pub root_password: Option<PasswordHash>,
    /// The system's name, where a machine has none of its own.
    pub host_name: Option<String>,
}

impl Access {
    /// Whether anything is to be written.
    pub(super) fn is_asked_for(&self) -> bool {
        !self.ssh_keys.is_empty() || self.root_password.is_some() || self.host_name.is_some()
    }
}

/// Who can log in to a system as root.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Entrance {
    /// Who has root's password or key.
    Known,
    /// Everybody, on the console: root has no password, and needs none.
    Open,
    /// Nobody.
    Closed,
    /// There is no system, or none of which this is known.
    #[default]
    Unknown,
}

/// Writes what lets an administrator in.
pub(super) fn grant(
    inside: &Inside,
    kind: Kind,
    access: &Access,
    done: &mut Configured,
) -> Result<(), InstallError> {
    if let Some(hash) = &access.root_password {
        if kind == Kind::FreeBsd {
            return Err(InstallError::FreeBsdPassword);
        }
        set_password(inside, hash)?;
        done.written.push(SHADOW.into());
    }
    if access.ssh_keys.is_empty() {
        return Ok(());
    }
    if !has(inside, SSHD)? {
        return Err(InstallError::NoSshServer);
    }
    add_keys(inside, &access.ssh_keys).map_err(on(AUTHORIZED_KEYS))?;
    done.written.push(AUTHORIZED_KEYS.into());
    match kind {
        Kind::FreeBsd => {
            make_dir(inside, RC_CONF_D)?;
            put_new(inside, RC_SSHD, SSHD_RC, done)
        }
        Kind::Linux => {
            if has(inside, SSHD_CONFIG_D)? {
                put_new(inside, SSHD_DROP_IN, SSHD_KEYS_ONLY, done)?;
            }
            enable_sshd(inside, done)
        }
    }
}

/// Writes a file where there is none.
fn put_new(
    inside: &Inside,
    path: &str,
    text: &str,
    done: &mut Configured,
) -> Result<(), InstallError> {
    if inside.entry(path).map_err(on(path))?.is_some() {
        done.kept.push(path.into());
        return Ok(());
    }
    inside.write_atomic(path, text.as_bytes(), 0o644).map_err(on(path))?;
    done.written.push(path.into());
    Ok(())
}

/// Finds out who can log in as root. What cannot be read makes nothing wrong of what was installed.
pub(super) fn entrance(inside: &Inside, kind: Option<Kind>) -> Entrance {
    kind.and_then(|kind| find_entrance(inside, kind).ok()).unwrap_or_default()
}

fn find_entrance(inside: &Inside, kind: Kind) -> Result<Entrance, InstallError> {
    let has_key = read(inside, AUTHORIZED_KEYS)?.is_some_and(|text| SshKey::is_in(&text));
    if has_key && has(inside, SSHD)? {
        return Ok(Entrance::Known);
    }
    let file = match kind {
        Kind::FreeBsd => MASTER_PASSWD,
        Kind::Linux => SHADOW,
    };
    let Some(text) = read(inside, file)? else { return Ok(Entrance::Unknown) };
    let root = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"root:"));
    Ok(match root.and_then(|rest| rest.split(|byte| *byte == b':').next()) {
        None => Entrance::Unknown,
        Some(b"") => Entrance::Open,
        Some([b'*' | b'!', ..]) => Entrance::Closed,
        Some(_) => Entrance::Known,
    })
}

/// Puts a password into shadow(5), whose owner and group stay, and who may do more with it than Debian's
/// lets them may not any more.
fn set_password(inside: &Inside, hash: &PasswordHash) -> Result<(), InstallError> {
    let entry = inside.entry(SHADOW).map_err(on(SHADOW))?;
    let entry = entry.filter(|entry| entry.kind == EntryKind::File);
    let text = read(inside, SHADOW)?;
    let (Some(entry), Some(text)) = (entry, text) else { return Err(InstallError::NoShadow) };
    let mut found = false;
    let mut lines = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let rest = line.strip_prefix(b"root:").filter(|_| !found);
        let behind = rest.and_then(|rest| {
            let colon = rest.iter().position(|byte| *byte == b':')?;
            rest.get(colon..)
        });
        match behind {
            Some(behind) => {
                found = true;
                lines.extend_from_slice(b"root:");
                lines.extend_from_slice(hash.text().as_bytes());
                lines.extend_from_slice(behind);
            }
            None => lines.extend_from_slice(line),
        }
    }
    if !found {
        return Err(InstallError::NoShadow);
    }
    let entry = Entry { mode: entry.mode & 0o640, ..entry };
    inside.put_file(SHADOW, &lines, &entry).map_err(on(SHADOW))
}

/// Adds keys to those that root has; sshd(8) believes neither directory nor file that others may write.
fn add_keys(inside: &Inside, keys: &[SshKey]) -> Result<(), InsideError> {
    inside.make_dir("/root")?;
    inside.make_dir(SSH)?;
    inside.finish_dir(SSH, &private(0o700))?;
    let mut text = match inside.exists(AUTHORIZED_KEYS)? {
        true => inside.read_small(AUTHORIZED_KEYS, MAX_TEXT)?,
        false => Vec::new(),
    };
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    for key in keys {
        let line = key.line();
        if !text.split(|byte| *byte == b'\n').any(|known| known == line.as_bytes()) {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
    }
    let entry =
        Entry { kind: EntryKind::File, mode: 0o600, uid: 0, gid: 0, flags: Flags::default() };
    inside.put_file(AUTHORIZED_KEYS, &text, &entry)
}

/// Has systemd start the ssh server, if it does not yet.
fn enable_sshd(inside: &Inside, done: &mut Configured) -> Result<(), InstallError> {
    let started = [
        "/etc/systemd/system/multi-user.target.wants/ssh.service",
        "/etc/systemd/system/multi-user.target.wants/sshd.service",
        "/etc/systemd/system/sockets.target.wants/ssh.socket",
        "/etc/systemd/system/sockets.target.wants/sshd.socket",
    ];
    for link in started {
        // A link that says where its unit is, for whoever sees it from inside.
        if has(inside, link)? || inside.entry(link).map_err(on(link))?.is_some() {
            return Ok(());
        }
    }
    for unit in ["ssh.service", "sshd.service"] {
        let place = format!("/usr/lib/systemd/system/{unit}");
        if has(inside, &place)? {
            make_dir(inside, WANTS)?;
            let link = format!("{WANTS}/{unit}");
            inside.put_link(&link, Path::new(&place)).map_err(on(&link))?;
            done.written.push(link.into());
            return Ok(());
        }
    }
    done.notes.push(NO_UNIT);
    Ok(())
}

fn has(inside: &Inside, path: &str) -> Result<bool, InstallError> {
    inside.exists(path).map_err(on(path))
}

fn make_dir(inside: &Inside, path: &str) -> Result<(), InstallError> {
    inside.make_dir(path).map_err(on(path))
}

/// A file of the system, if it is there.
fn read(inside: &Inside, path: &str) -> Result<Option<Vec<u8>>, InstallError> {
    if !has(inside, path)? {
        return Ok(None);
    }
    inside.read_small(path, MAX_TEXT).map(Some).map_err(on(path))
}

fn on(path: &str) -> impl Fn(InsideError) -> InstallError {
    let path = path.to_owned();
    move |error| InstallError::Inside { archive: path.clone(), error }
}

/// Root's, of this time.
fn private(mode: u32) -> Attributes {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or_default();
    Attributes { uid: 0, gid: 0, mode, modified: (seconds, now.subsec_nanos()) }
}

const SSH: &str = "/root/.ssh";
const AUTHORIZED_KEYS: &str = "/root/.ssh/authorized_keys";
const SSHD: &str = "/usr/sbin/sshd";
const SHADOW: &str = "/etc/shadow";
const MASTER_PASSWD: &str = "/etc/master.passwd";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";
/// What rc.subr(8) reads for one service, after rc.conf.
const RC_CONF_D: &str = "/etc/rc.conf.d";
const RC_SSHD: &str = "/etc/rc.conf.d/sshd";
/// Its sshd refuses root unless it is told otherwise.
const SSHD_RC: &str = "sshd_enable=\"YES\"\nsshd_flags=\"-o PermitRootLogin=prohibit-password\"\n";
/// Debian's and Fedora's sshd_config include it first, and the first value counts (sshd_config(5)).
const SSHD_CONFIG_D: &str = "/etc/ssh/sshd_config.d";
const SSHD_DROP_IN: &str = "/etc/ssh/sshd_config.d/10-netbe.conf";
const SSHD_KEYS_ONLY: &str = "PermitRootLogin prohibit-password\n";
const NO_UNIT: &str = "nothing was found that starts the ssh server (ssh.service, sshd.service): enable it \
                       in the system";
/// More than any of these files has, in bytes.
const MAX_TEXT: usize = 1 << 20;

#[cfg(test)]
mod test;

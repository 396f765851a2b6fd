//! Which files the superuser may run, or believe.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::process::geteuid;

/// The real place of a file that only the superuser can have written: it, each symbolic link on the way to it, and
/// every directory above one of them are his, and nobody else may write to them. What this gives has no link in it.
///
/// # Errors
///
/// Somebody else may have written it, or it cannot be looked at.
pub(crate) fn trusted(path: &Path) -> Result<PathBuf, Untrusted> {
    let failed = |error| Untrusted { path: path.to_owned(), why: Why::Unreadable(error) };
    let mut left: Vec<PathBuf> = vec![std::path::absolute(path).map_err(failed)?];
    let (mut place, mut links) = (PathBuf::new(), 0);
    // A link in a directory of somebody else may lead elsewhere in the next moment, so each step is looked at.
    while let Some(way) = left.pop() {
        let mut parts = way.components();
        let Some(part) = parts.next() else { continue };
        let rest = parts.as_path().to_owned();
        let is_last =
            rest.as_os_str().is_empty() && left.iter().all(|way| way.as_os_str().is_empty());
        left.push(rest);
        match part {
            Component::CurDir | Component::Prefix(_) => continue,
            // What is above was looked at.
            Component::ParentDir => {
                place.pop();
                continue;
            }
            Component::RootDir => place = PathBuf::from("/"),
            Component::Normal(name) => place.push(name),
        }
        let about = fs::symlink_metadata(&place).map_err(failed)?;
        check(&place, &about, is_last)?;
        if about.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(failed(io::Error::other("too many symbolic links")));
            }
            let target = fs::read_link(&place).map_err(failed)?;
            place.pop();
            left.push(target);
        }
    }
    Ok(place)
}

/// Whether only the superuser can have made what lies there.
fn check(place: &Path, about: &fs::Metadata, is_last: bool) -> Result<(), Untrusted> {
    let refused = |why| Err(Untrusted { path: place.to_owned(), why });
    // Tests are not run by the superuser everywhere.
    if about.uid() != 0 && about.uid() != geteuid().as_raw() {
        return refused(Why::Owner(about.uid()));
    }
    let mode = about.permissions().mode();
    // Below /tmp nobody can move or replace what is another's (sticky(7)).
    let sticky = about.is_dir() && mode & 0o1000 != 0 && !is_last;
    // The mode of a link says nothing.
    if !about.is_symlink() && mode & 0o022 != 0 && !sticky {
        return refused(Why::Mode(mode & 0o7777));
    }
    Ok(())
}

/// The content of a file that only the superuser can have written and that nobody else can read, without white
/// space around it.
///
/// # Errors
///
/// It is not such a file, or has nothing in it.
pub(crate) fn secret(path: &Path) -> Result<String, Untrusted> {
    let refused = |why| Untrusted { path: path.to_owned(), why };
    let place = trusted(path)?;
    let about = fs::metadata(&place).map_err(|error| refused(Why::Unreadable(error)))?;
    if about.mode() & 0o077 != 0 {
        return Err(refused(Why::Open(about.mode() & 0o7777)));
    }
    if about.len() > MOST {
        return Err(refused(Why::Empty));
    }
    let text = fs::read_to_string(&place).map_err(|error| refused(Why::Unreadable(error)))?;
    let text = text.trim();
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    if text.is_empty() || !text.chars().all(plain) {
        return Err(refused(Why::Empty));
    }
    Ok(text.to_owned())
}

/// A file that must not be run, or not be believed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct Untrusted {
    /// The file, or a directory above it.
    path: PathBuf,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("a secret is one line of printable characters: write one into it")]
    Empty,
    #[error("users other than root may write to it (mode {0:o}): run `chmod go-w` on it")]
    Mode(u32),
    #[error("users other than root may read the secret (mode {0:o}): run `chmod 600` on it")]
    Open(u32),
    #[error(
        "it belongs to the user {0}, who could make netbe run anything as root: run `chown -h root` on it"
    )]
    Owner(u32),
    #[error("{0}")]
    Unreadable(io::Error),
}

/// Symbolic links on the way to a file, at most.
const LINKS: u32 = 40;

/// Bytes of a secret, at most.
const MOST: u64 = 4096;

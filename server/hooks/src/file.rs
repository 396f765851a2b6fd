//! Which files the superuser may run, or believe.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The real place of a file that only the superuser can have written: it, what a symbolic link leads to, and
/// every directory above are his, and nobody else may write to them.
///
/// # Errors
///
/// Somebody else may have written it, or it cannot be looked at.
pub(crate) fn trusted(path: &Path) -> Result<PathBuf, Untrusted> {
    let failed = |error| Untrusted { path: path.to_owned(), why: Why::Unreadable(error) };
    // A link in a directory of somebody else may lead elsewhere in the next moment.
    for part in [path.to_owned(), fs::canonicalize(path).map_err(failed)?] {
        for above in part.ancestors().filter(|above| !above.as_os_str().is_empty()) {
            let about = fs::symlink_metadata(above).map_err(failed)?;
            if about.is_symlink() {
                continue;
            }
            let refused = |why| Err(Untrusted { path: above.to_owned(), why });
            // Tests are not run by the superuser everywhere.
            if about.uid() != 0 && about.uid() != geteuid().as_raw() {
                return refused(Why::Owner(about.uid()));
            }
            let mode = about.permissions().mode();
            // Below /tmp nobody can move or replace what is another's (sticky(7)).
            let sticky = about.is_dir() && mode & 0o1000 != 0 && above != part;
            if mode & 0o022 != 0 && !sticky {
                return refused(Why::Mode(mode & 0o7777));
            }
        }
    }
    fs::canonicalize(path).map_err(failed)
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
    #[error("others than root may write to it (mode {0:o}): run `chmod go-w` on it")]
    Mode(u32),
    #[error("others than root may read the secret (mode {0:o}): run `chmod 600` on it")]
    Open(u32),
    #[error(
        "it belongs to the user {0}, who could have netbe run anything as root: run `chown root` on it"
    )]
    Owner(u32),
    #[error("{0}")]
    Unreadable(io::Error),
}

/// Bytes of a secret, at most.
const MOST: u64 = 4096;

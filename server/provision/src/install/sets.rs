//! A release's distribution sets: found, fetched where they are not at hand, and verified.
//!
//! All of them are verified before the first byte of any is unpacked, by the very descriptors that
//! they are unpacked from.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use super::error::on;
use super::manifest::{Manifest, Sum};
use super::{InstallError, SetSource, download};
use crate::progress::Reader;

/// A distribution set that is what the MANIFEST lists.
#[derive(Debug)]
pub struct Set {
    /// Its file, for messages.
    pub(super) path: PathBuf,
    /// Open at its beginning.
    pub(super) file: File,
}

impl Set {
    /// Opens an archive that nothing is known of.
    pub fn open(path: PathBuf) -> Result<Self, InstallError> {
        let file = open(&path)?;
        Ok(Self { path, file })
    }
}

/// Gets the sets `names` (`base`, `kernel`, …) and verifies them.
///
/// `manifest` is a list to be believed instead of the one beside the sets. What is fetched is kept in
/// `cache` under its SHA-256: a transfer that was cut goes on, and none is made twice.
pub fn gather(
    source: &SetSource,
    manifest: Option<&Path>,
    names: &[String],
    cache: &Path,
) -> Result<Vec<Set>, InstallError> {
    let text = match (manifest, source) {
        (Some(path), _) => read_list(path)?,
        (None, SetSource::Directory(path)) => read_list(&path.join(MANIFEST))?,
        (None, SetSource::Url(url)) => download::text(&format!("{url}/{MANIFEST}"), MAX_LIST)?,
    };
    let manifest = Manifest::parse(&text)?;
    let listed = names.iter().map(|name| {
        let file = file(name);
        manifest.sum(&file).map(|sum| (file, sum))
    });
    // First all of them: a set that is missing is told before a gigabyte is fetched.
    let listed = listed.collect::<Result<Vec<_>, _>>()?;
    listed.into_iter().map(|(file, sum)| set(source, &file, sum, cache)).collect()
}

/// The file of a set.
pub fn file(name: &str) -> String {
    format!("{name}.txz")
}

fn set(source: &SetSource, name: &str, sum: Sum, cache: &Path) -> Result<Set, InstallError> {
    let url = match source {
        SetSource::Directory(path) => return verify(path.join(name), name, sum),
        SetSource::Url(url) => format!("{url}/{name}"),
    };
    std::fs::create_dir_all(cache).map_err(on(cache))?;
    let path = cache.join(sum.to_string());
    let part = path.with_extension("part");
    // First of all: another command may be about to put it there.
    let claim = download::claim(&part, name)?;
    if path.exists() {
        match verify(path.clone(), name, sum) {
            Err(InstallError::Differs { .. }) => std::fs::remove_file(&path).map_err(on(&path))?,
            other => return other.map(|set| Set { path: name.into(), ..set }),
        }
    }
    // All of it may have come before a kill.
    if verify(part.clone(), name, sum).is_err() {
        download::fetch(&url, &part, &claim, &format!("fetch {name}"))?;
    }
    match verify(part.clone(), name, sum) {
        Ok(set) => {
            std::fs::rename(&part, &path).map_err(on(&path))?;
            Ok(Set { path: name.into(), ..set })
        }
        Err(InstallError::Differs { found, listed, .. }) => {
            // It would differ for ever.
            std::fs::remove_file(&part).map_err(on(&part))?;
            Err(InstallError::Differs { path: url.into(), found, listed })
        }
        Err(error) => Err(error),
    }
}

/// Opens the file of the set `name`, if it has that sum.
fn verify(path: PathBuf, name: &str, sum: Sum) -> Result<Set, InstallError> {
    let mut file = open(&path)?;
    let mut shown = Reader::new(&file, || format!("verify {name}"));
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
    loop {
        let read = shown.read(&mut buffer).map_err(on(&path))?;
        match buffer.get(..read) {
            None | Some([]) => break,
            Some(bytes) => hash.update(bytes),
        }
    }
    drop(shown);
    let found = Sum(hash.finalize().into());
    if found != sum {
        return Err(InstallError::Differs {
            path,
            found: found.to_string(),
            listed: sum.to_string(),
        });
    }
    file.seek(SeekFrom::Start(0)).map_err(on(&path))?;
    Ok(Set { path, file })
}

/// Opens a regular file of the host; a FIFO does not make it wait.
fn open(path: &Path) -> Result<File, InstallError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map(File::from).map_err(on(path))?;
    if !file.metadata().map_err(on(path))?.is_file() {
        return Err(on(path)(std::io::Error::other("it is not a regular file")));
    }
    Ok(file)
}

fn read_list(path: &Path) -> Result<String, InstallError> {
    let mut bytes = Vec::new();
    open(path)?.take(MAX_LIST).read_to_end(&mut bytes).map_err(on(path))?;
    // What is no text is no list either: its first line is told to be wrong.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The list beside the sets of a release.
pub const MANIFEST: &str = "MANIFEST";
/// Largest list that is read: real ones have a kilobyte.
const MAX_LIST: u64 = 1 << 20;
const BUFFER: usize = 256 << 10;

#[cfg(test)]
mod test;

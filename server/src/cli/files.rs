//! Files that are printed, or written below a directory.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bootcfg::conf::{self, File};
use clap::Args;
use hostfs::{Attributes, Inside, InsideError};

use super::{Failure, Reply};

/// What becomes of generated files.
#[derive(Args, Debug)]
pub(crate) struct Destination {
    /// Write the files below this directory, as in / or a directory of `netbe mount`, and print their names.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Overwrite files with different content.
    #[arg(short, long, requires = "into")]
    force: bool,
}

impl Destination {
    /// Prints the files, or writes them.
    pub(crate) fn reply(&self, files: &[File]) -> Result<Reply, Failure> {
        match &self.into {
            Some(into) => self.write(into, files),
            None => conf::render(files).map(Reply::text).map_err(Failure::could_not),
        }
    }

    /// Makes a directory where files are written, unless it is there; nothing where they are printed.
    pub(crate) fn make_directory(&self, path: &str) -> Result<(), Failure> {
        let Some(into) = &self.into else { return Ok(()) };
        let failed = |error: InsideError| {
            Failure::could_not(format_args!("cannot make {path} in {}: {error}", into.display()))
        };
        let inside = Inside::enter(into).map_err(failed)?;
        // The parents of something in it are it and all above it.
        make_parents(&inside, &Path::new(path.trim_start_matches('/')).join("x")).map_err(failed)
    }

    /// Whether files are written.
    pub(crate) const fn writes(&self) -> bool {
        self.into.is_some()
    }

    /// Writes all files, or none.
    fn write(&self, into: &Path, files: &[File]) -> Result<Reply, Failure> {
        let failed = |error: InsideError| {
            Failure::could_not(format_args!("cannot write into {}: {error}", into.display()))
        };
        // The root may be a guest's own: no link in it leads out of it.
        let inside = Inside::enter(into).map_err(|_| {
            Failure::could_not(format_args!(
                "{} is no directory: name a host's /, or the directory where `netbe mount` mounts the boot \
                 environment",
                into.display()
            ))
        })?;
        let (mut news, mut others) = (Vec::new(), Vec::new());
        for file in files {
            match found(&inside, file).map_err(failed)? {
                Found::Same => {}
                Found::Nothing => news.push(file),
                Found::Other if self.force => news.push(file),
                Found::Other => others.push(file.path.as_str()),
            }
        }
        if !others.is_empty() {
            return Err(Failure::no(format_args!(
                "{} has {} already, with other content: overwrite it with -f",
                into.display(),
                others.join(", ")
            )));
        }
        let mut told = String::new();
        for File { path, text } in news {
            make_parents(&inside, Path::new(path)).map_err(failed)?;
            inside.write_atomic(path, text.as_bytes(), mode_of(text)).map_err(failed)?;
            told += &format!("wrote {}\n", into.join(path).display());
        }
        if told.is_empty() {
            told = "nothing to write: all files are up to date\n".to_owned();
        }
        Ok(Reply::text(told))
    }
}

/// What lies where a file is to be.
enum Found {
    /// Nothing.
    Nothing,
    /// That file.
    Same,
    /// Something else, or on the way to it.
    Other,
}

fn found(inside: &Inside, file: &File) -> Result<Found, InsideError> {
    match inside.read_small(&file.path, MAX_TEXT) {
        Ok(bytes) if bytes == file.text.as_bytes() => {
            let mode = inside.entry(&file.path)?.map(|entry| entry.mode);
            // What its owner alone reads is no file for rc.initdiskless to copy for all.
            Ok(if mode == Some(mode_of(&file.text)) { Found::Same } else { Found::Nothing })
        }
        Ok(_)
        | Err(
            InsideError::Attributes(_)
            | InsideError::NotDirectory(_)
            | InsideError::NotFile(_)
            | InsideError::TooLarge { .. }
            | InsideError::TooMany { .. },
        ) => Ok(Found::Other),
        Err(InsideError::Missing(_)) => {
            let leads_nowhere = Path::new(&file.path).ancestors().any(|path| {
                !path.as_os_str().is_empty()
                    && inside.is_link(path).unwrap_or(false)
                    && !inside.exists(path).unwrap_or(false)
            });
            Ok(if leads_nowhere { Found::Other } else { Found::Nothing })
        }
        Err(error @ InsideError::Io { .. }) => Err(error),
    }
}

/// Makes the directories that are missing, which everybody may enter whatever the umask is.
fn make_parents(inside: &Inside, path: &Path) -> Result<(), InsideError> {
    let parents = path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
    let mut missing = Vec::new();
    for parent in parents {
        if inside.metadata(parent).is_ok_and(|found| found.is_dir()) {
            break;
        }
        missing.push(parent);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or_default();
    let modified = (seconds, now.subsec_nanos());
    for parent in missing.into_iter().rev() {
        inside.make_dir(parent)?;
        inside.finish_dir(parent, &Attributes { mode: 0o755, uid: 0, gid: 0, modified })?;
    }
    Ok(())
}

/// What everybody may read, and root write; a script is run too.
fn mode_of(text: &str) -> u32 {
    if text.starts_with("#!") { 0o755 } else { 0o644 }
}

/// The largest file that is compared.
const MAX_TEXT: usize = 1 << 20;

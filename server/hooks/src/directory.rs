//! Which programs are the hooks of an event: the files of a directory, in the order of their names.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::cbsd;
use crate::file::{Untrusted, trusted};
use crate::settings::{Patience, Settings};
use crate::{Event, Occasion};

/// One hook of an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// Its event and the name of its file: `up/10-dns`.
    pub name: String,
    /// The program, at its real place.
    pub program: PathBuf,
    /// How long it may take, and how often it is tried again.
    pub patience: Patience,
    /// Variables that it has beside those of the event.
    pub variables: Vec<(String, String)>,
    /// Whether it can be called to undo what it did.
    pub undoes: bool,
}

/// The hooks of an event, in the order in which they run: those of the directory, then those of CBSD's jail.
///
/// # Errors
///
/// One of them must not be run, because others than the superuser can have written it; or the directory cannot
/// be read.
pub fn steps(settings: &Settings, event: &Event) -> Result<Vec<Step>, DirectoryError> {
    let mut steps = own(settings, event.event)?;
    if let Some(directory) = cbsd::directory(settings, event) {
        for (name, program) in programs(&directory, |name| !name.starts_with('.'))? {
            let name = format!("{}/cbsd:{name}", event.event);
            let patience = settings.patience_of(&name);
            let variables = cbsd::variables(settings, event);
            steps.push(Step { name, program, patience, variables, undoes: false });
        }
    }
    if steps.len() > MOST {
        return Err(DirectoryError::TooMany { event: event.event, count: steps.len() });
    }
    Ok(steps)
}

/// The hooks of an event that are of no single machine.
///
/// # Errors
///
/// As with [`steps`].
pub fn own(settings: &Settings, occasion: Occasion) -> Result<Vec<Step>, DirectoryError> {
    let directory = settings.directory.join(format!("{occasion}.d"));
    let step = |(name, program): (String, PathBuf)| {
        let name = format!("{occasion}/{name}");
        let patience = settings.patience_of(&name);
        Step { name, program, patience, variables: Vec::new(), undoes: true }
    };
    Ok(programs(&directory, is_hook)?.into_iter().map(step).collect())
}

/// The files of a directory that can be run, each with its name there and its real place, by name; none if there is
/// no such directory.
fn programs(
    directory: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, PathBuf)>, DirectoryError> {
    let failed = |error| DirectoryError::Unreadable { path: directory.to_owned(), error };
    let listed = match fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut programs = Vec::new();
    for entry in listed {
        let path = entry.map_err(failed)?.path();
        let name = file_name(&path);
        if !wanted(&name) {
            continue;
        }
        // Who may write to it may make it executable too, so that this comes first.
        let place = trusted(&path)?;
        let about = fs::symlink_metadata(&place);
        if about.is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0) {
            programs.push((name, place));
        }
    }
    programs.sort();
    Ok(programs)
}

/// Whether a file of this name is a hook: two digits, a hyphen and a name, and not what editors and packages
/// leave beside it.
fn is_hook(name: &str) -> bool {
    let Some((number, rest)) = name.split_once('-') else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let left =
        [".bak", ".orig", ".sample", ".swp", ".dpkg-new", ".dpkg-old", ".dpkg-dist", ".pkgsave"];
    number.len() == 2
        && number.chars().all(|c| c.is_ascii_digit())
        && !rest.is_empty()
        && rest.chars().all(plain)
        && !left.iter().any(|end| rest.ends_with(end))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Why hooks are not run.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There are too many.
    #[error("{event} has {count} hooks, but netbe runs {MOST} at most: combine some of them")]
    TooMany {
        /// Of which event.
        event: Occasion,
        /// How many.
        count: usize,
    },
    /// The directory cannot be read.
    #[error("the hooks in {} cannot be read: {error}", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// One must not be run.
    #[error("no hook is run: {0}")]
    Untrusted(#[from] Untrusted),
}

/// Hooks of one event, at most.
const MOST: usize = 64;

#[cfg(test)]
pub(crate) mod test {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory with a hook of an event.
    pub(crate) fn hook(directory: &Path, name: &str, script: &str, mode: u32) {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn settings(directory: &Path) -> Settings {
        Settings { directory: directory.to_owned(), ..Settings::default() }
    }

    fn names(directory: &Path) -> Result<Vec<String>, String> {
        let event = Event::new(Occasion::Up, "web1");
        let steps = steps(&settings(directory), &event).map_err(|error| error.to_string())?;
        Ok(steps.into_iter().map(|step| step.name).collect())
    }

    #[test]
    fn hooks_are_executable_files_in_the_order_of_their_names() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(names(directory.path()), Ok(Vec::new()));
        for (name, mode) in [
            ("up.d/20-second", 0o755),
            ("up.d/10-first", 0o700),
            ("up.d/30-no-program", 0o644),
            ("up.d/README", 0o755),
            ("up.d/10-first~", 0o755),
            ("up.d/10-first.dpkg-old", 0o755),
            ("lost.d/10-other", 0o755),
        ] {
            hook(directory.path(), name, "exit 0", mode);
        }
        let expected = ["up/10-first", "up/20-second"].map(str::to_owned);
        assert_eq!(names(directory.path()), Ok(expected.to_vec()));
    }

    #[test]
    fn what_others_may_write_to_is_refused_and_nothing_is_run() {
        let directory = tempfile::tempdir().unwrap();
        hook(directory.path(), "up.d/10-first", "exit 0", 0o755);
        hook(directory.path(), "up.d/20-open", "exit 0", 0o775);
        let refused = names(directory.path()).unwrap_err();
        assert!(refused.contains("20-open") && refused.contains("chmod go-w"), "{refused}");
        fs::remove_file(directory.path().join("up.d/20-open")).unwrap();
        fs::set_permissions(directory.path().join("up.d"), fs::Permissions::from_mode(0o777))
            .unwrap();
        assert!(names(directory.path()).unwrap_err().contains("up.d: users other than root"));
    }

    #[test]
    fn what_a_link_leads_to_counts() {
        let directory = tempfile::tempdir().unwrap();
        hook(directory.path(), "elsewhere/open/script", "exit 0", 0o755);
        fs::create_dir(directory.path().join("up.d")).unwrap();
        let target = directory.path().join("elsewhere/open/script");
        symlink(&target, directory.path().join("up.d/10-link")).unwrap();
        assert_eq!(names(directory.path()), Ok(vec!["up/10-link".to_owned()]));
        let steps = own(&settings(directory.path()), Occasion::Up).unwrap();
        assert_eq!(steps[0].program, fs::canonicalize(&target).unwrap(), "it is run at its place");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(target.parent().unwrap(), open).unwrap();
        assert!(
            names(directory.path()).unwrap_err().contains("elsewhere/open: users other than root")
        );
    }

    #[test]
    fn each_link_on_the_way_counts() {
        let directory = tempfile::tempdir().unwrap();
        hook(directory.path(), "closed/script", "exit 0", 0o755);
        for name in ["up.d", "middle"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let at = |name: &str| directory.path().join(name);
        symlink("../closed/script", at("middle/link")).unwrap();
        symlink("../middle/link", at("up.d/10-link")).unwrap();
        assert_eq!(names(directory.path()), Ok(vec!["up/10-link".to_owned()]));
        fs::set_permissions(at("middle"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(names(directory.path()).unwrap_err().contains("middle: users other than root"));
        fs::set_permissions(at("middle"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(at("middle/link")).unwrap();
        symlink("link", at("middle/link")).unwrap();
        assert!(names(directory.path()).unwrap_err().contains("too many symbolic links"));
    }
}

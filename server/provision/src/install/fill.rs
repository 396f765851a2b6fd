//! Fills an empty boot environment: whole or not at all.
//!
//! While it is being filled it is a [`Draft`], which nothing boots and whose tree and role the store gives
//! back if the work is not done.

use hostfs::{Inside, InsideError};
use store::{Decision, Draft, Environment, EnvironmentName, Hold, Layout, Store, StoreError};

use super::InstallError;
use crate::interrupt::Interrupt;

/// Creates an environment with `layout`, or takes one that is there and empty, and has `work` fill it.
/// Its name, or what is to become it, is held by the caller until then.
///
/// `work` returns settings to be written down. If it fails, or a signal asks for the end meanwhile, the
/// environment is as it was before.
pub fn fill<'a>(
    store: &'a Store,
    hold: Hold<'a>,
    layout: Option<Layout>,
    work: impl FnOnce(&Inside) -> Result<Vec<(&'static str, String)>, InstallError>,
) -> Result<(), InstallError> {
    let interrupt = Interrupt::listen().map_err(InstallError::Signals)?;
    let draft = begin(store, hold, layout)?;
    match done(store, &draft, work) {
        Ok(settings) => {
            let decisions = settings
                .into_iter()
                .map(|(key, value)| Decision::Setting { key: key.to_owned(), value: Some(value) });
            draft.finish(&decisions.collect::<Vec<_>>())?;
            Ok(())
        }
        Err(error) => {
            let interrupted = || InstallError::Interrupted(draft.name().clone());
            let error = if interrupt.came() { interrupted() } else { error };
            Err(match draft.undo() {
                Ok(()) => error,
                Err(undo) => {
                    InstallError::Left { why: Box::new(error), undo: Box::new(undo.into()) }
                }
            })
        }
    }
}

/// Whether an environment that is there could be filled. One that an earlier command was killed over is put
/// back first.
pub fn would_fill(store: &Store, name: &EnvironmentName) -> Result<(), InstallError> {
    let found = store.get(name)?;
    if found.is_being_filled() { Ok(()) } else { refuse_full(store, &found) }
}

/// Does the work. Nothing of the tree is open after it.
fn done(
    store: &Store,
    draft: &Draft<'_>,
    work: impl FnOnce(&Inside) -> Result<Vec<(&'static str, String)>, InstallError>,
) -> Result<Vec<(&'static str, String)>, InstallError> {
    let inside = Inside::from_fd(store.open_root(draft.name())?);
    let settings = work(&inside)?;
    let failed = |error| InstallError::Inside { archive: draft.name().to_string(), error };
    inside.synchronize().map_err(failed)?;
    Ok(settings)
}

/// What is said of an environment in which that is not over.
pub const INTERRUPTED: &str =
    "an installation is running or was interrupted: wait, or run `netbe install` again";

/// An environment that is empty, to be filled.
fn begin<'a>(
    store: &'a Store,
    hold: Hold<'a>,
    layout: Option<Layout>,
) -> Result<Draft<'a>, InstallError> {
    store.recover(Some(hold.name()))?;
    match (store.get(hold.name()), layout) {
        (Err(StoreError::NoEnvironment(_)), Some(layout)) => {
            Ok(store.create_to_fill(hold, layout)?)
        }
        (Ok(_), Some(_)) => Err(StoreError::Exists(hold.name().clone()).into()),
        (found, _) => {
            let found = found?;
            if found.is_being_filled() {
                return Err(StoreError::Half(found.name).into());
            }
            refuse_full(store, &found)?;
            Ok(store.fill(hold)?)
        }
    }
}

/// Refuses an environment that has more than the directories of its data sets.
fn refuse_full(store: &Store, environment: &Environment) -> Result<(), InstallError> {
    let inside = Inside::from_fd(store.open_root(&environment.name)?);
    let places: Vec<&str> = environment.datasets.iter().map(store::Dataset::path).collect();
    for folder in std::iter::once("").chain(places.iter().copied()) {
        let names = match inside.read_dir(folder, MAX_NAMES) {
            Ok(names) => names,
            Err(InsideError::Missing(_)) => continue,
            Err(_) => return Err(InstallError::NotEmpty(environment.name.clone())),
        };
        for entry in names {
            let entry = entry.to_string_lossy().into_owned();
            let path = if folder.is_empty() { entry.clone() } else { format!("{folder}/{entry}") };
            // ext4 makes that directory in a file system's root.
            if !places.contains(&path.as_str()) && entry != "lost+found" {
                return Err(InstallError::NotEmpty(environment.name.clone()));
            }
        }
    }
    Ok(())
}

/// A layout has no more directories in one.
const MAX_NAMES: usize = 64;

#[cfg(test)]
mod test {
    use std::io::Write;

    use std::panic::{AssertUnwindSafe, catch_unwind};

    use store::Role;
    use tempfile::TempDir;

    use super::*;

    fn store() -> (TempDir, Store, EnvironmentName) {
        let dir = tempfile::tempdir().unwrap();
        let place = format!("dir:{}", dir.path().join("store").display());
        let store = Store::establish(&place.parse().unwrap(), dir.path()).unwrap();
        (dir, store, "head".parse().unwrap())
    }

    fn kernel(inside: &Inside) -> Result<Vec<(&'static str, String)>, InstallError> {
        inside.create("boot/kernel/kernel").unwrap().write_all(b"x").unwrap();
        Ok(vec![("os", "FreeBSD".to_owned())])
    }

    fn fail(inside: &Inside) -> Result<Vec<(&'static str, String)>, InstallError> {
        kernel(inside)?;
        Err(InstallError::NoFetcher)
    }

    #[test]
    fn what_is_filled_is_whole_and_boots_again() {
        let (_dir, store, name) = store();
        fill(&store, store.hold(&name).unwrap(), Some(Layout::FreeBsd), kernel).unwrap();
        let environment = store.get(&name).unwrap();
        assert_eq!(environment.role, Role::Environment);
        assert_eq!(environment.settings.value("os"), Some("FreeBSD"));
        assert!(!environment.is_being_filled());
        assert!(store.snapshots(&name).unwrap().is_empty());
        assert!(store.root(&name).join("boot/kernel/kernel").exists());
    }

    #[test]
    fn nothing_is_booted_while_it_is_filled() {
        let (_dir, store, name) = store();
        store.create(&name, Layout::Flat).unwrap();
        fill(&store, store.hold(&name).unwrap(), None, |_| {
            assert_eq!(store.get(&name).unwrap().role, Role::Off);
            Ok(Vec::new())
        })
        .unwrap();
    }

    #[test]
    fn a_failure_leaves_an_environment_as_it_was_and_creates_none() {
        let (dir, store, name) = store();
        fill(&store, store.hold(&name).unwrap(), Some(Layout::Flat), fail).unwrap_err();
        assert!(matches!(store.get(&name), Err(StoreError::NoEnvironment(_))));
        let done = store::History::in_state(dir.path()).read().unwrap();
        assert!(!done.iter().any(|done| done.verb == "rollback"), "{done:?}");
        let before = store.create(&name, Layout::FreeBsd).unwrap();
        fill(&store, store.hold(&name).unwrap(), None, fail).unwrap_err();
        assert_eq!(store.get(&name).unwrap(), before);
        assert!(!store.root(&name).join("boot").exists());
        assert!(store.root(&name).join("var/log").exists());
    }

    #[test]
    fn where_the_empty_tree_cannot_be_put_back_that_is_told_after_why_the_work_failed() {
        let (dir, store, name) = store();
        let error = fill(&store, store.hold(&name).unwrap(), Some(Layout::Flat), |_| {
            std::fs::write(dir.path().join("store/meta/head.toml"), "?").unwrap();
            Err(InstallError::NoFetcher)
        });
        let error = error.unwrap_err().to_string();
        let both = "neither curl nor fetch is installed: install the package curl, or give a directory with -p; \
                    and the unpacked files could not be removed: ";
        assert!(error.starts_with(both) && error.contains("head.toml"), "{error}");
        assert!(store.root(&name).exists());
        // It is told, and goes by hand.
        let left = store.pending().unwrap();
        assert_eq!(left.iter().map(|left| left.verb.as_str()).collect::<Vec<_>>(), ["install"]);
        store.destroy(&name).unwrap();
        assert_eq!(store.pending().unwrap(), []);
    }

    #[test]
    fn what_a_kill_left_is_put_back_by_the_next_one() {
        let (_dir, store, name) = store();
        let killed = |layout| {
            let killed = catch_unwind(AssertUnwindSafe(|| {
                fill(&store, store.hold(&name).unwrap(), layout, |inside| {
                    inside.create("half").unwrap();
                    panic!("killed")
                })
            }));
            killed.unwrap_err();
            assert!(store.get(&name).unwrap().is_being_filled());
        };
        let other = "other".parse().unwrap();
        killed(Some(Layout::Flat));
        store.create(&other, Layout::Flat).unwrap();
        assert!(matches!(store.get(&name), Err(StoreError::NoEnvironment(_))));
        let before = store.create(&name, Layout::FreeBsd).unwrap();
        killed(None);
        store.destroy(&other).unwrap();
        assert_eq!(store.get(&name).unwrap(), before);
        assert!(!store.root(&name).join("half").exists());
        assert_eq!(store.snapshots(&name).unwrap(), []);
        killed(None);
        fill(&store, store.hold(&name).unwrap(), None, kernel).unwrap();
        assert_eq!(store.get(&name).unwrap().role, Role::Environment);
        assert!(!store.root(&name).join("half").exists());
    }

    /// As an earlier release left it: there is no record, and nothing is done to it.
    #[test]
    fn what_no_record_names_is_left_alone() {
        let (_dir, store, name) = store();
        store.create(&name, Layout::Flat).unwrap();
        store.set(&name, "installing", Some("be")).unwrap();
        store.snapshot(&name, &"netbe-install".parse().unwrap()).unwrap();
        std::fs::write(store.root(&name).join("mine"), "x").unwrap();
        let refused = fill(&store, store.hold(&name).unwrap(), None, kernel).unwrap_err();
        assert!(matches!(refused, InstallError::Store(StoreError::Half(_))), "{refused}");
        assert!(store.root(&name).join("mine").exists());
        assert_eq!(store.snapshots(&name).unwrap().len(), 1);
    }

    #[test]
    fn an_environment_with_files_is_refused_and_stays() {
        let (_dir, store, name) = store();
        store.create(&name, Layout::FreeBsd).unwrap();
        std::fs::write(store.root(&name).join("var/log/messages"), "x").unwrap();
        let error = fill(&store, store.hold(&name).unwrap(), None, kernel).unwrap_err();
        assert!(matches!(error, InstallError::NotEmpty(_)));
        assert!(!store.get(&name).unwrap().is_being_filled());
        let error =
            fill(&store, store.hold(&name).unwrap(), Some(Layout::Flat), kernel).unwrap_err();
        assert!(matches!(error, InstallError::Store(StoreError::Exists(_))));
    }
}

//! Fills an empty boot environment: whole or not at all.
//!
//! While it is being filled its role is `off`, so that nothing boots it, the role that it had stands
//! in its setting [`INSTALLING`], and the snapshot [`SnapshotName::of_empty_tree`] keeps its empty
//! tree. Nobody else may touch it meanwhile: who finds the two knows of a kill, and puts the tree
//! back; who finds only the setting knows that the work was done, or not begun.

use hostfs::{Inside, InsideError};
use store::{
    Environment, EnvironmentName, Hold, INSTALLING, Layout, Newer, Role, SnapshotName, Store,
    StoreError,
};

use super::InstallError;
use crate::interrupt::Interrupt;

/// Creates an environment with `layout`, or takes one that is there and empty, and has `work` fill it.
/// Its name, or what is to become it, is held by the caller until then.
///
/// `work` returns settings to be written down. If it fails, or a signal asks for the end meanwhile, the
/// environment is as it was before.
pub fn fill(
    store: &Store,
    hold: Hold<'_>,
    layout: Option<Layout>,
    work: impl FnOnce(&Inside) -> Result<Vec<(&'static str, String)>, InstallError>,
) -> Result<(), InstallError> {
    let name = hold.name();
    let interrupt = Interrupt::listen().map_err(InstallError::Signals)?;
    let (environment, created) = prepare(store, name, layout)?;
    let role = environment.role;
    let done = begin(store, name, role).and_then(|inside| {
        let settings = work(&inside)?;
        let failed = |error| InstallError::Inside { archive: name.to_string(), error };
        inside.synchronize().map_err(failed)?;
        for (key, value) in settings {
            store.set(name, key, Some(&value))?;
        }
        Ok(())
    });
    if let Err(error) = done {
        let error = if interrupt.came() { InstallError::Interrupted(name.clone()) } else { error };
        return Err(match undo(store, name, role, created) {
            Ok(()) => error,
            Err(undo) => InstallError::Left { why: Box::new(error), undo: Box::new(undo) },
        });
    }
    store.destroy_snapshot(name, &SnapshotName::of_empty_tree())?;
    release(store, name, role)
}

/// Whether an installation into the environment was begun and not ended.
pub fn interrupted(environment: &Environment) -> bool {
    environment.settings.value(INSTALLING).is_some()
}

/// What is said of such a one.
pub const INTERRUPTED: &str =
    "an installation is going on or was broken off: wait, or run `netbe install` again";

/// An environment that is there and empty, and whether it was created here.
fn prepare(
    store: &Store,
    name: &EnvironmentName,
    layout: Option<Layout>,
) -> Result<(Environment, bool), InstallError> {
    let found = match (store.get(name), layout) {
        (Err(StoreError::NoEnvironment(_)), Some(layout)) => {
            return Ok((store.create(name, layout)?, true));
        }
        (found, _) => found?,
    };
    let Some(before) = found.settings.value(INSTALLING) else {
        if layout.is_some() {
            return Err(StoreError::Exists(name.clone()).into());
        }
        refuse_full(store, &found)?;
        return Ok((found, false));
    };
    // An installation was killed.
    undo(store, name, before.parse().unwrap_or_default(), false)?;
    let found = store.get(name)?;
    refuse_full(store, &found)?;
    Ok((found, false))
}

/// From here on nothing boots it, and its tree can be put back.
fn begin(store: &Store, name: &EnvironmentName, role: Role) -> Result<Inside, InstallError> {
    store.set(name, INSTALLING, Some(role.as_str()))?;
    store.set_role(name, Role::Off)?;
    store.snapshot(name, &SnapshotName::of_empty_tree())?;
    enter(store, name)
}

/// Puts the empty tree back if it was left, or takes away what was created for it.
fn undo(
    store: &Store,
    name: &EnvironmentName,
    role: Role,
    created: bool,
) -> Result<(), InstallError> {
    // Nothing here has it open any more, and file systems that are mounted can neither go nor go back.
    store.release(name)?;
    if created {
        // To go back takes room in some stores, and there may be none.
        return Ok(store.destroy(name)?);
    }
    if store.is_half(&store.get(name)?)? {
        let snapshot = SnapshotName::of_empty_tree();
        store.rollback(name, &snapshot, Newer::Destroy)?;
        store.destroy_snapshot(name, &snapshot)?;
    }
    release(store, name, role)
}

fn release(store: &Store, name: &EnvironmentName, role: Role) -> Result<(), InstallError> {
    store.set_role(name, role)?;
    store.set(name, INSTALLING, None)?;
    Ok(())
}

fn enter(store: &Store, name: &EnvironmentName) -> Result<Inside, InstallError> {
    Ok(Inside::from_fd(store.open_root(name)?))
}

/// Refuses an environment that has more than the directories of its data sets.
fn refuse_full(store: &Store, environment: &Environment) -> Result<(), InstallError> {
    let inside = enter(store, &environment.name)?;
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
        assert!(!interrupted(&environment));
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
        let (_dir, store, name) = store();
        let error = fill(&store, store.hold(&name).unwrap(), Some(Layout::Flat), |_| {
            store.destroy(&name)?;
            Err(InstallError::NoFetcher)
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            "neither curl nor fetch is here: install the package curl, or give a directory by -p; \
             and what was unpacked could not be taken away: there is no boot environment head: \
             `netbe list` shows those that there are"
        );
    }

    #[test]
    fn what_a_kill_left_is_put_back_by_the_next_one() {
        let (_dir, store, name) = store();
        store.create(&name, Layout::Flat).unwrap();
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            fill(&store, store.hold(&name).unwrap(), None, |inside| {
                inside.create("half").unwrap();
                panic!("killed")
            })
        }));
        killed.unwrap_err();
        assert!(interrupted(&store.get(&name).unwrap()));
        fill(&store, store.hold(&name).unwrap(), None, kernel).unwrap();
        assert_eq!(store.get(&name).unwrap().role, Role::Environment);
        assert!(!store.root(&name).join("half").exists());
    }

    #[test]
    fn an_environment_with_files_is_refused_and_stays() {
        let (_dir, store, name) = store();
        store.create(&name, Layout::FreeBsd).unwrap();
        std::fs::write(store.root(&name).join("var/log/messages"), "x").unwrap();
        let error = fill(&store, store.hold(&name).unwrap(), None, kernel).unwrap_err();
        assert!(matches!(error, InstallError::NotEmpty(_)));
        assert!(!interrupted(&store.get(&name).unwrap()));
        let error =
            fill(&store, store.hold(&name).unwrap(), Some(Layout::Flat), kernel).unwrap_err();
        assert!(matches!(error, InstallError::Store(StoreError::Exists(_))));
    }
}

//! What is shared over NFS, with whom, and by which handles.
//!
//! An export is a boot environment's tree with what its owner decided. Who may use it is checked on
//! every call by the caller's address, never by whether it has mounted: FreeBSD's kernel takes its
//! root's handle from the loader and never sends a MOUNT, and a restarted server remembers none.

mod access;
#[cfg(test)]
pub(crate) mod bench;
mod files;
mod handle;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use store::ExportSettings;
use uuid::Uuid;
use vfs::{FsError, Handle};

use crate::boot::usage::Usage;
use crate::site::machine::View;

pub use access::{Grant, Refusal, caller};
pub use files::Files;
pub use handle::{KeyError, SiteKey, WireHandle};

/// A boot environment that is served.
#[derive(Clone, Debug)]
pub struct Export {
    /// The boot environment; part of every handle.
    pub environment: Uuid,
    /// Its name, for messages.
    pub name: String,
    /// By which path it is mounted, as in `/be/head`.
    pub path: String,
    /// Its files.
    pub files: Files,
    /// Who may use it, and as whom.
    pub settings: ExportSettings,
}

/// Boot environments whose files cannot be had just now, and will be: their clients are told to ask
/// again, which kernels do for as long as it takes. What is stale they never ask for again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expected {
    /// All, because what they are kept in is away.
    All,
    /// Those with these identities.
    These(HashSet<Uuid>),
}

impl Default for Expected {
    fn default() -> Self {
        Self::These(HashSet::new())
    }
}

impl Expected {
    fn has(&self, environment: Uuid) -> bool {
        match self {
            Self::All => true,
            Self::These(those) => those.contains(&environment),
        }
    }
}

/// All that is served at the moment, by boot environment and by path.
///
/// Everything must be published before the first call is answered: until then the handles of a
/// running root are stale, and clients do not forget that.
#[derive(Debug)]
pub struct Exports {
    key: SiteKey,
    published: RwLock<Published>,
    usage: Arc<Usage>,
}

impl Exports {
    /// No exports yet; handles are sealed with `key`, and calls are noted in `usage`.
    #[must_use]
    pub fn new(key: SiteKey, usage: Arc<Usage>) -> Self {
        Self { key, published: RwLock::default(), usage }
    }

    /// Serves a boot environment from now on, or serves it with other settings or by another path.
    ///
    /// # Errors
    ///
    /// Another environment is served by this path, or the path is not one that a client can write.
    pub fn publish(&self, export: Export) -> Result<(), PublishError> {
        let path =
            canonical(&export.path).ok_or_else(|| PublishError::Path(export.path.clone()))?;
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        if published.paths.get(&path).is_some_and(|taken| *taken != export.environment) {
            return Err(PublishError::Taken(path));
        }
        let environment = export.environment;
        let export = Arc::new(Export { path: path.clone(), ..export });
        if let Some(before) = published.exports.insert(environment, export) {
            published.paths.remove(&before.path);
        }
        published.paths.insert(path, environment);
        Ok(())
    }

    /// Serves a boot environment no longer: from now on its handles are stale. Says whether it was
    /// served.
    pub fn withdraw(&self, environment: Uuid) -> bool {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        let withdrawn = published.exports.remove(&environment);
        if let Some(export) = &withdrawn {
            published.paths.remove(&export.path);
        }
        withdrawn.is_some()
    }

    /// Says what cannot be served now and will be, whether it is published or not.
    pub fn wait_for(&self, expected: Expected) {
        self.published.write().unwrap_or_else(PoisonError::into_inner).expected = expected;
    }

    /// What is served of a boot environment.
    #[must_use]
    pub fn of(&self, environment: Uuid) -> Option<Arc<Export>> {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        published.exports.get(&environment).map(Arc::clone)
    }

    /// The export that a path lies in, and the rest of the path behind it.
    ///
    /// Of several, the one with the longest path. Empty and `.` components do not count.
    #[must_use]
    pub fn at<'a>(&self, path: &'a [u8]) -> Option<(Arc<Export>, &'a [u8])> {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let mut canonical = String::new();
        let mut rest = path;
        let mut found = None;
        while let Some((name, behind)) = split_first(rest) {
            rest = behind;
            match name {
                b"" | b"." => continue,
                b".." => break,
                name => {
                    let Ok(name) = str::from_utf8(name) else { break };
                    canonical.extend(["/", name]);
                }
            }
            found = published.paths.get(&canonical).map(|export| (export, rest)).or(found);
        }
        let (environment, rest) = found?;
        published.exports.get(environment).map(|export| (Arc::clone(export), rest))
    }

    /// All exports, by path.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Export>> {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let environments = published.paths.values();
        environments.filter_map(|one| published.exports.get(one).map(Arc::clone)).collect()
    }

    /// Who uses what.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// The handle of an environment's root, as clients get it by MNT; for what hands it to a kernel
    /// that nobody told (`boot.nfsroot.nfshandle`).
    #[must_use]
    pub fn root_handle(&self, environment: Uuid) -> Option<WireHandle> {
        let view = View::Joined;
        self.of(environment).map(|export| self.seal(&export, view, &export.files.seen(view).root()))
    }

    /// What a file of an export is called over the wire.
    #[must_use]
    pub fn seal(&self, export: &Export, view: View, file: &Handle) -> WireHandle {
        self.key.seal(export.environment, view, file)
    }

    /// The export and the file that a client's handle means, and how the client sees it.
    ///
    /// # Errors
    ///
    /// [`FsError::BadHandle`] if this site did not make the handle, [`FsError::Busy`] if its environment
    /// is waited for, [`FsError::Stale`] if it is not served any longer.
    pub fn open(&self, wire: &[u8]) -> Result<(Arc<Export>, View, Handle), FsError> {
        let (environment, view, file) = self.key.open(wire).ok_or(FsError::BadHandle)?;
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        if published.expected.has(environment) {
            return Err(FsError::Busy);
        }
        let export = published.exports.get(&environment).ok_or(FsError::Stale)?;
        Ok((Arc::clone(export), view, file))
    }
}

#[derive(Debug, Default)]
struct Published {
    exports: HashMap<Uuid, Arc<Export>>,
    /// By canonical path.
    paths: BTreeMap<String, Uuid>,
    expected: Expected,
}

/// Why an export cannot be published.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PublishError {
    /// The path cannot be mounted.
    #[error(
        "{0:?} is not a path for an export: write an absolute one without . and .., as /be/head"
    )]
    Path(String),
    /// The path belongs to another boot environment.
    #[error("{0} is exported already: give this boot environment another path")]
    Taken(String),
}

/// A path with single slashes between its components and none at the end.
fn canonical(path: &str) -> Option<String> {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let usable = path.starts_with('/')
        && path.len() <= wire::mount3::MAX_PATH
        && !names.is_empty()
        && names
            .iter()
            .all(|name| vfs::Name::new(name.as_bytes()).is_ok_and(|name| !name.is_dot()));
    usable.then(|| names.iter().flat_map(|name| ["/", *name]).collect())
}

/// The first component of a path, maybe empty, and what is behind its slash.
fn split_first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
    let (name, rest) = path.split_at_checked(end)?;
    Some((name, rest.strip_prefix(b"/").unwrap_or(rest)))
}

#[cfg(test)]
mod test {
    use fixtures::MemFs;

    use super::*;

    fn export(number: u128, path: &str) -> Export {
        Export {
            environment: Uuid::from_u128(number),
            name: path.trim_matches('/').to_owned(),
            path: path.to_owned(),
            files: Files::whole(Arc::new(MemFs::new())),
            settings: ExportSettings::default(),
        }
    }

    fn exports(paths: &[&str]) -> Exports {
        let exports =
            Exports::new(SiteKey::new([7; 16]), Arc::new(Usage::new(std::time::Instant::now())));
        for (number, path) in (1..).zip(paths) {
            exports.publish(export(number, path)).unwrap();
        }
        exports
    }

    fn found(exports: &Exports, path: &str) -> Option<(String, String)> {
        let (export, rest) = exports.at(path.as_bytes())?;
        Some((export.path.clone(), String::from_utf8(rest.to_vec()).unwrap()))
    }

    #[test]
    fn a_path_belongs_to_the_export_with_the_longest_path() {
        let exports = exports(&["/be/head", "/be/head/usr", "/be/he"]);
        let is = |path: &str, export: &str, rest: &str| {
            assert_eq!(found(&exports, path), Some((export.to_owned(), rest.to_owned())), "{path}");
        };
        is("/be/head", "/be/head", "");
        is("/be/head/", "/be/head", "");
        is("/be/head/etc/rc.d", "/be/head", "etc/rc.d");
        is("/be/head/usr/bin", "/be/head/usr", "bin");
        is("//be/./he/../head", "/be/he", "../head");
        assert_eq!(found(&exports, "/be/headless"), None);
        assert_eq!(found(&exports, "/be"), None);
        assert_eq!(found(&exports, "/"), None);
        assert_eq!(found(&exports, ""), None);
    }

    #[test]
    fn a_path_has_one_owner() {
        let exports = exports(&["/be/head"]);
        let taken = PublishError::Taken("/be/head".to_owned());
        assert_eq!(exports.publish(export(9, "/be//head/")), Err(taken));
    }

    #[test]
    fn an_environment_can_move_to_another_path() {
        let exports = exports(&["/be/head"]);
        exports.publish(export(1, "/be/renamed")).unwrap();
        assert!(exports.at(b"/be/head").is_none());
        assert!(exports.at(b"/be/renamed").is_some());
        assert_eq!(exports.list().len(), 1);
    }

    #[test]
    fn paths_that_cannot_be_mounted_are_refused() {
        for path in ["", "/", "be", "/be/..", "/./be", "/be/\0"] {
            let exports = Exports::new(
                SiteKey::new([7; 16]),
                Arc::new(Usage::new(std::time::Instant::now())),
            );
            let refused = exports.publish(export(1, path));
            assert_eq!(refused, Err(PublishError::Path(path.to_owned())));
        }
    }

    #[test]
    fn the_handles_of_a_withdrawn_environment_are_stale_until_it_is_served_again() {
        let exports = exports(&["/be/head"]);
        let environment = Uuid::from_u128(1);
        let handle = exports.root_handle(environment).unwrap();
        assert!(exports.withdraw(environment));
        assert!(!exports.withdraw(environment));
        assert_eq!(exports.open(handle.as_bytes()).err(), Some(FsError::Stale));
        exports.publish(export(1, "/be/head")).unwrap();
        assert!(exports.open(handle.as_bytes()).is_ok());
    }

    #[test]
    fn who_asks_for_what_is_waited_for_is_to_ask_again() {
        let exports = exports(&["/be/head", "/be/other"]);
        let handle = |number| exports.root_handle(Uuid::from_u128(number)).unwrap();
        let (head, other) = (handle(1), handle(2));
        exports.withdraw(Uuid::from_u128(1));
        let answers = || [&head, &other].map(|handle| exports.open(handle.as_bytes()).err());
        assert_eq!(answers(), [Some(FsError::Stale), None]);
        exports.wait_for(Expected::These([Uuid::from_u128(1)].into()));
        assert_eq!(answers(), [Some(FsError::Busy), None]);
        exports.wait_for(Expected::All);
        assert_eq!(answers(), [Some(FsError::Busy); 2]);
        assert_eq!(exports.open(b"nobody's").err(), Some(FsError::BadHandle));
        exports.wait_for(Expected::default());
        assert_eq!(answers(), [Some(FsError::Stale), None]);
    }

    #[test]
    fn a_handle_outlives_the_server_that_made_it() {
        let environment = Uuid::from_u128(1);
        let handle = exports(&["/be/head"]).root_handle(environment).unwrap();
        let restarted = exports(&["/be/head"]);
        let (export, view, file) = restarted.open(handle.as_bytes()).unwrap();
        assert_eq!(export.environment, environment);
        assert_eq!(file, export.files.seen(view).root());
    }
}

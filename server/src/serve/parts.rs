//! The file systems that a boot environment is made of, as trees to be exported.

use std::collections::HashSet;
use std::hash::Hasher as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use hostfs::{Descriptors, HostTree, Inside};
use siphasher::sip::SipHasher13;
use store::{Dataset, Environment, Store};
use vfs::{Branch, Tree};

use crate::nfs::export::Files;

/// Opens what there is of an environment, with the data sets of `data` in the place of its own, and says
/// what of it cannot be served. Trees of `known` that
/// are the same as before are served on, so that clients keep their write verifier.
pub(super) fn open(
    store: &Store,
    environment: &Environment,
    data: Option<&Environment>,
    known: Option<&Files>,
    descriptors: &Arc<Descriptors>,
) -> Result<(Files, Vec<String>), String> {
    let serve_as = |root, fsid, sync| -> Result<Arc<dyn Tree>, String> {
        let descriptors = Arc::clone(descriptors);
        let options = hostfs::Options { descriptors, fsid, sync, ..hostfs::Options::default() };
        let tree = HostTree::from_fd(root, options).map_err(|error| error.to_string())?;
        let Some(known) = known.and_then(|known| known.tree(&tree.root())) else {
            return Ok(Arc::new(tree));
        };
        known.set_sync(sync);
        Ok(known)
    };
    let serve = |root| serve_as(root, None, sync_mode(store, environment));
    let name = &environment.name;
    let mut parts = store.open_parts(name).map_err(|error| error.to_string())?.into_iter();
    let root = parts.next().ok_or_else(|| "it has no root".to_owned())?;
    let inside = root.root.try_clone().map(Inside::from_fd).map_err(|error| error.to_string())?;
    let root = serve(root.root)?;
    let (mut branches, mut unserved) = (Vec::<Branch>::new(), Vec::new());
    // Without them the machine would write where nobody will look for it.
    let data_sync = data.map(|data| sync_mode(store, data)).unwrap_or_default();
    let data = data.map(|data| of_data(store, data)).transpose()?.unwrap_or_default();
    let paths: Vec<String> = data.iter().map(|part| part.path.clone()).collect();
    let is_data = |path: &str| paths.iter().any(|data| Path::new(path).starts_with(data));
    let mut add = |path: String, opened: Result<OwnedFd, String>| match opened.and_then(serve) {
        Ok(tree) => branches.push(Branch { path, tree }),
        Err(reason) => unserved.push(format!("{path}: {reason}")),
    };
    let mut listed = HashSet::new();
    for part in parts.filter(|part| !is_data(&part.path)) {
        listed.insert(part.path.clone());
        add(part.path, Ok(part.root));
    }
    // An administrator may give a data set a disk of its own where the store has only directories.
    let sets = environment.datasets.iter().filter(|set| set.mounted()).map(Dataset::path);
    for path in sets.filter(|path| !listed.contains(*path) && !is_data(path)) {
        let mounted = inside.mounted(path).map_err(|error| error.to_string());
        if let Some(opened) = mounted.transpose() {
            add(path.to_owned(), opened);
        }
    }
    for DataPart { path, root, fsid } in data {
        match serve_as(root, fsid, data_sync) {
            Ok(tree) => branches.push(Branch { path, tree }),
            Err(reason) => unserved.push(format!("{path}: {reason}")),
        }
    }
    let (files, refused) = Files::nested(root, branches);
    unserved.extend(refused.iter().map(ToString::to_string));
    Ok((files, unserved))
}

fn sync_mode(store: &Store, environment: &Environment) -> vfs::SyncMode {
    match store.sync(environment) {
        store::SyncMode::Standard => vfs::SyncMode::Standard,
        store::SyncMode::Always => vfs::SyncMode::Always,
        store::SyncMode::Disabled => vfs::SyncMode::Disabled,
    }
}

/// A data set of a machine's, which lies over that of its root.
struct DataPart {
    path: String,
    root: OwnedFd,
    /// Where it is but a directory: of the file system of all roots, and yet one of its own.
    fsid: Option<u64>,
}

/// Opens the data sets that a machine keeps when its root changes.
fn of_data(store: &Store, data: &Environment) -> Result<Vec<DataPart>, String> {
    let name = &data.name;
    let mut opened = store.open_parts(name).map_err(|error| format!("{name}: {error}"))?;
    let inside = store.open_root(name).map_err(|error| format!("{name}: {error}"))?;
    let inside = Inside::from_fd(inside);
    let mut parts = Vec::new();
    let sets = data.datasets.iter().filter(|set| set.mounted() && set.data()).map(Dataset::path);
    for path in sets {
        let (path, own) = (path.to_owned(), opened.iter().position(|part| part.path == path));
        if let Some(own) = own {
            parts.push(DataPart { path, root: opened.swap_remove(own).root, fsid: None });
            continue;
        }
        let root = inside.open_dir(&path).map_err(|error| format!("{name}: {error}"))?;
        let root = root.ok_or_else(|| format!("{name}: {path} is no longer a directory"))?;
        let (first, second) = data.uuid.as_u64_pair();
        let mut hasher = SipHasher13::new_with_keys(first, second);
        hasher.write(path.as_bytes());
        parts.push(DataPart { path, root, fsid: Some(hasher.finish()) });
    }
    Ok(parts)
}

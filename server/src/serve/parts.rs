//! The file systems that a boot environment is made of, as trees to be exported.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hostfs::{Descriptors, HostTree, Inside};
use store::{Dataset, Environment, Store};
use vfs::{Branch, Tree};

use crate::export::Files;

/// Opens what there is of an environment, and says what of it cannot be served. Trees of `known` that
/// are the same as before are served on, so that clients keep their write verifier.
pub(super) fn open(
    store: &Store,
    environment: &Environment,
    known: Option<&Files>,
    descriptors: &Arc<Descriptors>,
) -> Result<(Files, Vec<String>), String> {
    let serve = |root| -> Result<Arc<dyn Tree>, String> {
        let descriptors = Arc::clone(descriptors);
        let options = hostfs::Options { descriptors, ..hostfs::Options::default() };
        let tree = HostTree::from_fd(root, options).map_err(|error| error.to_string())?;
        let known = known.and_then(|known| known.tree(&tree.root()));
        Ok(known.unwrap_or_else(|| Arc::new(tree)))
    };
    let name = &environment.name;
    let mut parts = store.open_parts(name).map_err(|error| error.to_string())?.into_iter();
    let root = parts.next().ok_or_else(|| "it has no root".to_owned())?;
    let inside = root.root.try_clone().map(Inside::from_fd).map_err(|error| error.to_string())?;
    let root = serve(root.root)?;
    let (mut branches, mut unserved) = (Vec::<Branch>::new(), Vec::new());
    let mut add = |path: String, opened: Result<OwnedFd, String>| match opened.and_then(serve) {
        Ok(tree) => branches.push(Branch { path, tree }),
        Err(reason) => unserved.push(format!("{path}: {reason}")),
    };
    let mut listed = HashSet::new();
    for part in parts {
        listed.insert(part.path.clone());
        add(part.path, Ok(part.root));
    }
    // An administrator may give a data set a disk of its own where the store has only directories.
    let sets = environment.datasets.iter().filter(|set| set.mounted()).map(Dataset::path);
    for path in sets.filter(|path| !listed.contains(*path)) {
        let mounted = inside.mounted(path).map_err(|error| error.to_string());
        if let Some(opened) = mounted.transpose() {
            add(path.to_owned(), opened);
        }
    }
    let (files, refused) = Files::nested(root, branches);
    unserved.extend(refused.iter().map(ToString::to_string));
    Ok((files, unserved))
}

//! Three versions of small trees, merged and carried out; and one that changes while it is read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// What lies at a name.
#[derive(Clone, Debug)]
enum Node {
    Directory(bool, BTreeMap<&'static str, Self>),
    File(u8, bool),
    Link(u8),
}

impl Node {
    fn build(&self, path: &Path) {
        let close = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        match self {
            Self::Directory(closed, names) => {
                fs::create_dir(path).unwrap();
                names.iter().for_each(|(name, node)| node.build(&path.join(name)));
                close(if *closed { 0o700 } else { 0o755 });
            }
            Self::File(content, closed) => {
                // No text, so that nothing is merged.
                fs::write(path, [0, *content]).unwrap();
                close(if *closed { 0o600 } else { 0o644 });
            }
            Self::Link(target) => symlink(format!("/etc/{target}"), path).unwrap(),
        }
    }
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (0_u8..2, any::<bool>()).prop_map(|(content, closed)| Node::File(content, closed)),
        (0_u8..2).prop_map(Node::Link),
        Just(Node::Directory(false, BTreeMap::new())),
    ];
    leaf.prop_recursive(2, 8, 2, |node| {
        let names = prop::sample::select(vec!["a", "b"]);
        (any::<bool>(), prop::collection::btree_map(names, node, 0..3))
            .prop_map(|(closed, names)| Node::Directory(closed, names))
    })
}

fn tree() -> impl Strategy<Value = Option<Node>> {
    prop::option::weighted(0.9, node())
}

fn built(node: Option<&Node>) -> (TempDir, Inside) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    if let Some(node) = node {
        node.build(&root.path().join("etc/x"));
    }
    let inside = Inside::enter(root.path()).unwrap();
    (root, inside)
}

/// The files of an upgraded root, and those of the machine before.
fn upgraded([base, own, new]: [Option<&Node>; 3]) -> (Files, Files) {
    let [(_base, base), (_own, own), (_new, new)] = [base, own, new].map(built);
    let [old, before, next] = [&base, &own, &new].map(|root| read(root).unwrap());
    for step in merge(&old, &before, &next) {
        carry_out(&own, &new, &step).unwrap();
    }
    (read(&new).unwrap(), before)
}

proptest! {
    // Each makes three trees on a disk.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_the_template_left_alone_is_as_the_machine_has_it(base in tree(), own in tree()) {
        let (after, before) = upgraded([base.as_ref(), own.as_ref(), base.as_ref()]);
        prop_assert_eq!(after, before);
    }

    #[test]
    fn what_the_machine_left_alone_is_as_the_new_template_has_it(base in tree(), new in tree()) {
        let (after, _) = upgraded([base.as_ref(), base.as_ref(), new.as_ref()]);
        let (_new, inside) = built(new.as_ref());
        prop_assert_eq!(after, read(&inside).unwrap());
    }

    #[test]
    fn nothing_that_the_machine_changed_is_lost(base in tree(), own in tree(), new in tree()) {
        let (_base, inside) = built(base.as_ref());
        let base_files = read(&inside).unwrap();
        let (after, before) = upgraded([base.as_ref(), own.as_ref(), new.as_ref()]);
        for (path, item) in before {
            let is_dir = item.entry.kind == EntryKind::Directory;
            if !is_dir && base_files.get(&path) != Some(&item) {
                prop_assert_eq!(after.get(&path), Some(&item), "{}", path.display());
            }
        }
    }
}

#[test]
fn a_directory_that_is_made_again_is_as_the_machine_has_it() {
    let (own_root, own) = built(None);
    let (_new, new) = built(None);
    let ssh = own_root.path().join("root/.ssh");
    fs::create_dir_all(&ssh).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(ssh.join("authorized_keys"), "key\n").unwrap();
    for step in merge(&Files::new(), &read(&own).unwrap(), &Files::new()) {
        carry_out(&own, &new, &step).unwrap();
    }
    assert_eq!(new.entry("root/.ssh").unwrap().unwrap().mode, 0o700);
    assert!(new.exists("root/.ssh/authorized_keys").unwrap());
}

#[test]
fn a_configuration_is_read_while_its_machine_changes_it() {
    let root = tempfile::tempdir().unwrap();
    let (etc, done) = (root.path().join("etc"), AtomicBool::new(false));
    fs::create_dir(&etc).unwrap();
    fs::write(etc.join("hosts"), "hosts").unwrap();
    let comes_and_goes = |own: &str| {
        let [folder, next, link] =
            ["rc", "new", "resolv"].map(|name| etc.join(name.to_owned() + own));
        while !done.load(Ordering::Relaxed) {
            fs::create_dir_all(folder.join("below")).unwrap();
            fs::write(folder.join("below/file"), "x").unwrap();
            fs::remove_dir_all(&folder).unwrap();
            fs::write(&next, "a file").unwrap();
            fs::rename(&next, &link).unwrap();
            symlink("a link", &next).unwrap();
            fs::rename(&next, &link).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for own in ["1", "2"] {
            scope.spawn(move || comes_and_goes(own));
        }
        let inside = Inside::enter(root.path()).unwrap();
        let failed = (0..10_000).map(|_| read(&inside)).find_map(|files| match files {
            Ok(files) => (!files.contains_key(Path::new("etc/hosts"))).then(String::new),
            Err(error) => Some(error.to_string()),
        });
        done.store(true, Ordering::Relaxed);
        assert_eq!(failed, None);
    });
}

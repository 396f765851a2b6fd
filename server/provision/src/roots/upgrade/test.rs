//! Three versions of small trees, merged and carried out; and one that changes while it is read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use hostfs::Flags;
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

fn files(inside: &Inside) -> Files {
    read(inside, &"x".parse().unwrap()).unwrap()
}

/// What is to be done to come from one to the other, without any text.
fn steps(base: &Inside, own: &Inside, new: &Inside) -> Vec<Step> {
    let binary = |_: &Path| Ok::<_, ()>([(); 3].map(|()| vec![0]));
    merge(&files(base), &files(own), &files(new), binary).unwrap()
}

/// The files of an upgraded root, and those of the machine before.
fn upgraded([base, own, new]: [Option<&Node>; 3]) -> (Files, Files) {
    let [(_base, base), (_own, own), (_new, new)] = [base, own, new].map(built);
    let before = files(&own);
    for step in steps(&base, &own, &new) {
        carry_out(&own, &new, &step).unwrap();
    }
    (files(&new), before)
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
        prop_assert_eq!(after, files(&inside));
    }

    #[test]
    fn nothing_that_the_machine_changed_is_lost(base in tree(), own in tree(), new in tree()) {
        let (_base, inside) = built(base.as_ref());
        let base_files = files(&inside);
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
    for step in steps(&new, &own, &new) {
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
        let failed =
            (0..10_000).map(|_| read(&inside, &"x".parse().unwrap())).find_map(
                |files| match files {
                    Ok(files) => (!files.contains_key(Path::new("etc/hosts"))).then(String::new),
                    Err(error) => Some(error.to_string()),
                },
            );
        done.store(true, Ordering::Relaxed);
        assert_eq!(failed, None);
    });
}

#[test]
fn a_file_of_any_length_is_copied_and_keeps_its_time() {
    let (own_root, own) = built(None);
    let (new_root, new) = built(None);
    let path = "etc/large";
    let large = fs::File::create(own_root.path().join(path)).unwrap();
    large.set_len(65 << 20).unwrap();
    let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    large.set_modified(time).unwrap();
    for step in steps(&new, &own, &new) {
        carry_out(&own, &new, &step).unwrap();
    }
    let about = fs::metadata(new_root.path().join(path)).unwrap();
    assert_eq!((about.len(), about.modified().unwrap()), (65 << 20, time));
}

#[test]
fn a_machine_cannot_have_more_read_than_any_system_has() {
    let (root, inside) = built(None);
    let sparse = fs::File::create(root.path().join("etc/sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let refused = read(&inside, &"desk-head".parse().unwrap()).unwrap_err();
    assert!(matches!(refused, RootError::Large(_)), "{refused}");
}

/// An access control list: the group may do nothing, and user 1234 what the mask allows, which the mode shows for the
/// group.
#[cfg(target_os = "linux")]
fn list(owner: u16, mask: u16, others: u16) -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] = [
        (1, owner, NOBODY),
        (2, mask, 1234),
        (4, 0, NOBODY),
        (16, mask, NOBODY),
        (32, others, NOBODY),
    ];
    let entry = |(tag, allowed, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &allowed.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    [&2_u32.to_le_bytes()[..], &entries.map(entry).concat()].concat()
}

#[cfg(target_os = "linux")]
#[test]
fn a_list_that_the_machine_made_stands_whatever_the_template_changed() {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{XattrFlags, getxattr, setxattr};

    const LIST: &str = "system.posix_acl_access";
    let file = |content| Node::File(content, false);
    let directory = |content| Node::Directory(false, BTreeMap::from([("a", file(content))]));
    let same = [file(0), file(0), file(0)];
    let template = [file(0), file(0), file(1)];
    let both = [file(0), file(1), file(0)];
    let of_directory = [directory(0), directory(0), directory(1)];
    for (nodes, mask) in
        [(&same, 4), (&same, 6), (&template, 4), (&template, 6), (&both, 6), (&of_directory, 5)]
    {
        let [(_base, base), (own_root, own), (new_root, new)] =
            nodes.each_ref().map(|node| built(Some(node)));
        let mode = fs::metadata(own_root.path().join("etc/x")).unwrap().permissions().mode();
        let of = |shift: u32| u16::try_from(mode >> shift & 7).unwrap();
        let list = list(of(6), mask, of(0));
        let set = setxattr(own_root.path().join("etc/x"), LIST, &list, XattrFlags::empty());
        if set.is_err() {
            eprintln!("skipped: the file system of temporary files has no access control lists");
            return;
        }
        let is_seen = mode >> 3 & 7 != u32::from(mask);
        let now = fs::metadata(own_root.path().join("etc/x")).unwrap().permissions().mode();
        assert_eq!(now != mode, is_seen, "a mask of 4 is what the group may do in any case");
        let trees = [base, own, new];
        let names = ["base", "own", "new"].map(str::to_owned);
        let steps = merged(&trees, &names).unwrap();
        let [_, own, new] = &trees;
        apply(own, new, &steps).unwrap();
        let path = new_root.path().join("etc/x");
        let mut found = [0; 256];
        let len = getxattr(&path, LIST, &mut found).unwrap();
        assert_eq!(&found[..len], list, "{nodes:?} {mask}");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode(), now, "{nodes:?} {mask}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_machine_keeps_has_its_access_control_list_and_extended_attributes() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};

    let list = list(6, 6, 0);
    let attributes = [("system.posix_acl_access", &list[..]), ("user.note", b"mine")];
    let node = |content| Some(Node::File(content, false));
    let (own_root, own) = built(node(1).as_ref());
    let ((_base_root, base), (new_root, new)) = (built(node(0).as_ref()), built(node(0).as_ref()));
    for (name, value) in attributes {
        if setxattr(own_root.path().join("etc/x"), name, value, XattrFlags::empty()).is_err() {
            eprintln!("skipped: the file system of temporary files has no {name}");
            return;
        }
    }
    let names = ["base", "own", "new"].map(str::to_owned);
    let trees = [base, own, new];
    let steps = merged(&trees, &names).unwrap();
    let [_, own, new] = &trees;
    apply(own, new, &steps).unwrap();
    for (name, value) in attributes {
        let mut found = [0; 256];
        let len = getxattr(new_root.path().join("etc/x"), name, &mut found).unwrap();
        assert_eq!(&found[..len], value, "{name}");
    }
}

/// The kernel lists 64 KiB of names and no more; on a file system that has more of them.
#[cfg(target_os = "linux")]
#[test]
fn more_names_of_attributes_than_can_be_listed_are_refused_at_once() {
    use rustix::fs::{XattrFlags, setxattr};

    let Ok(root) = TempDir::new_in("/dev/shm") else { return };
    fs::create_dir(root.path().join("etc")).unwrap();
    let path = root.path().join("etc/x");
    fs::write(&path, "x").unwrap();
    for number in 0..300 {
        let name = format!("user.{number:0>240}");
        if setxattr(&path, name, b"1", XattrFlags::empty()).is_err() {
            eprintln!("skipped: /dev/shm has no extended attributes");
            return;
        }
    }
    let inside = Inside::enter(root.path()).unwrap();
    let error = read(&inside, &"base@one".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("etc/x: ") && error.contains("64 KiB"), "{error}");
}

#[test]
fn what_is_immutable_is_upgraded_and_is_immutable_then() {
    let node = |content| Node::File(content, false);
    let tree = |a, b, c| {
        let names = BTreeMap::from([("a", node(a)), ("b", node(b)), ("c", node(c))]);
        built(Some(&Node::Directory(false, names)))
    };
    // The machine has changed a and b, the new template c; b was made immutable by the machine.
    let [(_base, base), (_own, own), (_new, new)] = [tree(0, 0, 0), tree(1, 1, 0), tree(0, 0, 1)];
    let trees = [base, own, new];
    let [base, own, new] = &trees;
    let fixed =
        |inside: &Inside, path| inside.set_flags(path, Flags::IMMUTABLE).unwrap().is_empty();
    let mut flagged = vec![];
    for inside in &trees {
        flagged.extend(["etc/x/a", "etc/x/c"].map(|path| fixed(inside, path)));
    }
    flagged.extend([fixed(own, "etc/x/b"), fixed(new, "etc/x"), fixed(base, "etc/x")]);
    let _free = trees.each_ref().map(Free);
    if flagged.contains(&false) {
        eprintln!("skipped: the file system of temporary files has no flags");
        return;
    }
    let names = ["base", "own", "new"].map(str::to_owned);
    let steps = merged(&trees, &names).unwrap();
    apply(own, new, &steps).unwrap();
    for path in ["etc/x/a", "etc/x/b", "etc/x/c"] {
        assert_eq!(new.read_small(path, 9).unwrap(), [0, 1], "{path}");
        assert_eq!(new.entry(path).unwrap().unwrap().flags, Flags::IMMUTABLE, "{path}");
    }
    // The machine's directory was not immutable, but it is in both templates: the machine's word counts.
    assert_eq!(new.entry("etc/x").unwrap().unwrap().flags, Flags::default());
}

#[test]
fn another_name_of_an_immutable_file_stays_immutable() {
    let names = |content| BTreeMap::from([("a", Node::File(content, false))]);
    let tree = |content| built(Some(&Node::Directory(false, names(content))));
    let [(base_root, base), (own_root, own), (new_root, new)] = [tree(0), tree(1), tree(0)];
    for root in [&base_root, &own_root, &new_root] {
        fs::hard_link(root.path().join("etc/x/a"), root.path().join("other")).unwrap();
    }
    let trees = [base, own, new];
    let flagged =
        trees.each_ref().map(|inside| inside.set_flags("other", Flags::IMMUTABLE).unwrap());
    let _free = trees.each_ref().map(Free);
    if flagged.iter().any(|lost| !lost.is_empty()) {
        eprintln!("skipped: the file system of temporary files has no flags");
        return;
    }
    let steps = merged(&trees, &["base", "own", "new"].map(str::to_owned)).unwrap();
    let [_, own, new] = &trees;
    apply(own, new, &steps).unwrap();
    assert_eq!(new.read_small("etc/x/a", 9).unwrap(), [0, 1]);
    assert_eq!(new.read_small("other", 9).unwrap(), [0, 0]);
    for path in ["etc/x/a", "other"] {
        assert_eq!(new.entry(path).unwrap().unwrap().flags, Flags::IMMUTABLE, "{path}");
    }
}

#[test]
fn a_directory_is_made_in_an_immutable_root() {
    let (own_root, own) = built(None);
    let ((_base, base), (_new, new)) = (built(None), built(None));
    fs::create_dir_all(own_root.path().join("root/.ssh")).unwrap();
    fs::write(own_root.path().join("root/.ssh/authorized_keys"), "key\n").unwrap();
    let trees = [base, own, new];
    let [base, own, new] = &trees;
    let lost = new.set_flags("/", Flags::IMMUTABLE).unwrap();
    let _free = Free(new);
    if !lost.is_empty() {
        eprintln!("skipped: the file system of temporary files has no flags");
        return;
    }
    apply(own, new, &steps(base, own, new)).unwrap();
    assert!(new.exists("root/.ssh/authorized_keys").unwrap());
    assert_eq!(new.entry("/").unwrap().unwrap().flags, Flags::IMMUTABLE);
}

/// Files that can be removed again in the end.
struct Free<'a>(&'a Inside);

impl Drop for Free<'_> {
    fn drop(&mut self) {
        for path in ["/", "other", "etc/x", "etc/x/a", "etc/x/b", "etc/x/c"] {
            // What has none is as good.
            let _ = self.0.put_flags(path, Flags::default());
        }
    }
}

/// The id of an entry that is nobody's in particular.
#[cfg(target_os = "linux")]
const NOBODY: u32 = u32::MAX;

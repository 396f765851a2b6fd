//! Splits of trees that are only listed: a system's, and random ones.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::{Change, ChangeKind, FileKind};

/// A tree of directories (`etc/`), files (`etc/passwd`) and links (`tmp -> var/tmp`), with the
/// directories that they are in.
fn tree(names: &[&str]) -> Listing {
    let mut tree = Listing::default();
    for (file, name) in (100..).zip(names) {
        let (path, kind) = match name.split_once(" -> ") {
            Some((path, text)) => (path, Kind::Link(text.into())),
            None if name.ends_with('/') => (name.trim_end_matches('/'), Kind::Directory),
            None => (*name, Kind::Regular),
        };
        let mut dir = parent(path.as_bytes());
        while !dir.is_empty() && tree.get(dir).is_none() {
            tree.insert(dir, Node::directory(0o755));
            dir = parent(dir);
        }
        tree.insert(path, Node { kind, file: (0, file), ..Node::directory(0o644) });
    }
    tree
}

/// What a release of FreeBSD has of what matters here.
fn freebsd() -> Listing {
    let mut tree = tree(&[
        ".cshrc",
        "bin/sh",
        "etc/aliases -> mail/aliases",
        "etc/localtime -> /usr/share/zoneinfo/UTC",
        "etc/mail/aliases",
        "etc/rmt -> ../usr/sbin/rmt",
        "etc/ssl/certs/0a.0 -> ../../../usr/share/certs/trusted/A.pem",
        "etc/ssl/certs/0b.0 -> ../../../usr/share/certs/trusted/B.pem",
        "etc/unbound -> ../var/unbound",
        "lib/libc.so.7",
        "root/.cshrc",
        "sys -> usr/src/sys",
        "tmp/",
        "usr/bin/cc",
        "usr/lib/libc.so -> ../../lib/libc.so.7",
        "usr/local/bin/compiler -> ../../bin/cc",
        "usr/sbin/rmt",
        "usr/share/certs/trusted/A.pem",
        "usr/share/certs/trusted/B.pem",
        "usr/share/zoneinfo/UTC",
        "usr/tests/local -> ../local/../bin",
        "var/empty/",
        "var/run/log -> ../../dev/log",
        "var/unbound/",
    ]);
    let same = Node { file: (0, 7), names: 2, ..tree.get(b".cshrc").unwrap().clone() };
    tree.insert(".cshrc", same.clone());
    tree.insert("root/.cshrc", same);
    let immutable = Node { flags: 1, ..Node::directory(0o555) };
    tree.insert("var/empty", immutable);
    tree
}

fn rewritten(plan: &Plan) -> Vec<(&str, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    plan.rewritten.iter().map(|rewrite| (text(&rewrite.path), text(&rewrite.to))).collect()
}

#[test]
fn a_system_is_split_as_in_the_handbook() {
    let plan = plan(&freebsd());
    assert_eq!(plan.refused, []);
    assert_eq!(plan.moved, ["etc", "root", "tmp", "usr/local", "var"]);
    assert_eq!(plan.created, [("home", 0o755)]);
    let Halves { base, skeleton } = plan.apply(&freebsd());
    let says = |path: &[u8]| base.get(path).unwrap().kind.clone();
    assert_eq!(says(b"etc"), Kind::Link(b"skeleton/etc".to_vec()));
    assert_eq!(says(b"home"), Kind::Link(b"skeleton/home".to_vec()));
    assert_eq!(says(b"usr/local"), Kind::Link(b"../skeleton/usr/local".to_vec()));
    assert!(base.is_empty_dir(b"skeleton"));
    assert!(skeleton.is_dir(b"var/empty") && skeleton.is_dir(b"home"));
    assert!(skeleton.get(b"usr/bin").is_none() && skeleton.get(b"bin").is_none());
}

#[test]
fn a_link_is_rewritten_only_if_what_it_leads_to_did_not_move_along() {
    assert_eq!(
        rewritten(&plan(&freebsd())),
        [
            ("etc/rmt", "../../usr/sbin/rmt"),
            ("etc/ssl/certs/0a.0", "../../../../usr/share/certs/trusted/A.pem"),
            ("etc/ssl/certs/0b.0", "../../../../usr/share/certs/trusted/B.pem"),
            ("usr/local/bin/compiler", "../../../../usr/bin/cc"),
            ("usr/tests/local", "../bin"),
            ("var/run/log", "../../../dev/log"),
        ]
    );
}

#[test]
fn what_is_on_both_sides_is_told() {
    let plan = plan(&freebsd());
    assert_eq!(plan.copied, [[b".cshrc".to_vec(), b"root/.cshrc".to_vec()]]);
    assert_eq!(plan.flags, [(b"var/empty".to_vec(), 1)]);
    assert_eq!(plan.absolute, [b"etc/localtime".to_vec()]);
    assert_eq!(plan.dangling, [b"sys".to_vec(), b"var/run/log".to_vec()]);
}

#[test]
fn an_old_home_moves_where_its_link_leads() {
    let old = tree(&["etc/", "home -> usr/home", "usr/home/joe/", "usr/local/"]);
    let plan = plan(&old);
    assert_eq!(plan.moved, ["etc", "usr/home", "usr/local"]);
    let halves = plan.apply(&old);
    assert_eq!(prove(&old, &plan, &halves), []);
    let home = halves.composed().resolve(b"", b"home/joe");
    assert_eq!(home, End::At(b"skeleton/usr/home/joe".to_vec()));
}

#[test]
fn a_link_that_leads_nowhere_goes_on_to_mean_the_same_name() {
    let system = tree(&["etc/", "root/l -> ../skeleton", "root/m -> ../usr/later", "usr/"]);
    let expected = [("root/l", "../../skeleton"), ("root/m", "../../usr/later")];
    assert_eq!(rewritten(&plan(&system)), expected);
}

#[test]
fn what_is_no_system_is_refused() {
    assert_eq!(
        plan(&Listing::default()).refused,
        [Refusal::NoSystem("etc"), Refusal::NoSystem("usr")]
    );
    assert_eq!(plan(&tree(&["etc/", "usr/", "var"])).refused, [Refusal::NotDirectory("var")]);
    for taken in ["skeleton", "skeleton/x", "skeleton -> usr"] {
        assert_eq!(plan(&tree(&["etc/", "usr/", taken])).refused, [Refusal::Taken], "{taken}");
    }
}

#[test]
fn a_proof_finds_what_was_lost_changed_or_added() {
    let system = freebsd();
    let plan = plan(&system);
    let whole = plan.apply(&system);
    assert_eq!(prove(&system, &plan, &whole), []);
    let mut other = whole.clone();
    other.skeleton.insert("etc/mail", Node::directory(0o700));
    other.skeleton.insert("etc/new", Node::directory(0o755));
    other.base.insert("usr/sbin", Node::link(b"bin".to_vec()));
    let faults = prove(&system, &plan, &other);
    for fault in [
        Fault::Differs(b"etc/mail".to_vec()),
        Fault::Differs(b"usr/sbin".to_vec()),
        Fault::Stray(b"etc/new".to_vec()),
        Fault::Elsewhere(b"etc/rmt".to_vec()),
    ] {
        assert!(faults.contains(&fault), "{fault}: {faults:?}");
    }
}

#[test]
fn certificates_that_did_not_move_rightly_are_found_with_what_they_should_say() {
    let system = freebsd();
    let plan = Plan { rewritten: Vec::new(), ..plan(&system) };
    let check = check(&plan.apply(&system));
    let told: Vec<String> = check.faults.iter().map(ToString::to_string).collect();
    assert!(
        told.iter().any(|fault| fault
            == "/etc/ssl/certs/0a.0 leads nowhere: it says \
                \"../../../usr/share/certs/trusted/A.pem\", let it say \
                \"../../../../usr/share/certs/trusted/A.pem\""),
        "{told:?}"
    );
    assert!(!told.iter().any(|fault| fault.contains("unbound")), "{told:?}");
}

#[test]
fn a_pair_that_lacks_a_part_is_found() {
    let system = freebsd();
    let whole = plan(&system).apply(&system);
    assert_eq!(check(&whole).faults, []);
    let mut other = whole.clone();
    other.base.insert("usr/local", Node::link(b"skeleton/usr/local".to_vec()));
    other.base.insert("tmp", Node::directory(0o755));
    other.base.insert("skeleton/x", Node::directory(0o755));
    other.skeleton = tree(&["etc/", "home/", "usr/local/", "var/"]);
    let faults = check(&other).faults;
    for fault in [Fault::NoLink("tmp"), Fault::MountPoint, Fault::NoPlace("root")] {
        assert!(faults.contains(&fault), "{fault}: {faults:?}");
    }
}

#[test]
fn an_update_touches_links_into_the_base_and_files_of_the_same_name() {
    let change = |path: &str, kind| Change { path: path.into(), kind, file: FileKind::Regular };
    let system = freebsd();
    let mut halves = plan(&system).apply(&system);
    halves.skeleton.insert("usr/local/bin/cc", Node { kind: Kind::Regular, ..Node::directory(0) });
    let mut base = Listing::default();
    for (path, node) in halves.base.iter().filter(|(path, _)| !path.ends_with(b"B.pem")) {
        base.insert(path, node.clone());
    }
    halves.base = base;
    let changes = [
        change("usr/share/certs/trusted/A.pem", ChangeKind::Changed),
        change("usr/share/certs/trusted/B.pem", ChangeKind::Removed),
        change("usr/bin/cc", ChangeKind::Changed),
        change("bin/sh", ChangeKind::Changed),
        change("etc/mail/aliases", ChangeKind::Changed),
    ];
    let told: Vec<String> = touched(&changes, &halves).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "/usr/local/bin/cc stands beside /usr/bin/cc, which has changed",
            "/etc/mail/aliases is in the skeleton, which keeps its own version",
            "/etc/ssl/certs/0a.0 leads to /usr/share/certs/trusted/A.pem, which has changed",
            "/etc/ssl/certs/0b.0 leads nowhere now: \
             \"../../../../usr/share/certs/trusted/B.pem\" is gone",
            "/usr/local/bin/compiler leads to /usr/bin/cc, which has changed",
        ]
    );
}

#[test]
fn a_path_is_one_line_for_people() {
    assert_eq!(shown("etc/a\nb\u{1b}[1mü".as_bytes()), "/etc/a\\nb\\u{1b}[1mü");
}

/// Directories of random trees, parents first.
const DIRECTORIES: [&str; 14] = [
    "bin",
    "etc",
    "etc/ssl",
    "etc/ssl/bin",
    "home",
    "root",
    "tmp",
    "usr",
    "usr/bin",
    "usr/home",
    "usr/local",
    "usr/local/bin",
    "var",
    "var/ssl",
];

/// A random tree, in which links say anything.
fn any_tree() -> impl Strategy<Value = Listing> {
    let names = ["..", "..", ".", "bin", "etc", "f", "home", "l", "local", "no", "ssl", "tmp"];
    let names = names.into_iter().chain(["usr", "var", "m", "skeleton", ".."]).collect::<Vec<_>>();
    let text = (any::<bool>(), vec(select(names), 1..7), any::<bool>()).prop_map(
        |(absolute, names, slash)| {
            let slash = if slash { "/" } else { "" };
            format!("{}{}{slash}", if absolute { "/" } else { "" }, names.join("/"))
        },
    );
    let link = (select(DIRECTORIES.to_vec()), select(vec!["l", "m", "bin", "ssl", "tmp"]), text);
    let file = select(DIRECTORIES.to_vec());
    (vec(any::<bool>(), DIRECTORIES.len()), vec(file, 0..6), vec(link, 0..10)).prop_map(
        |(there, files, links)| {
            let mut tree = tree(&["etc/", "usr/"]);
            for (path, there) in DIRECTORIES.iter().zip(there) {
                if there && tree.is_dir(parent(path.as_bytes())) {
                    tree.insert(*path, Node::directory(0o755));
                }
            }
            for dir in files {
                if tree.is_dir(dir.as_bytes()) {
                    let file = Node { kind: Kind::Regular, ..Node::directory(0o644) };
                    tree.insert(join(dir.as_bytes(), b"f"), file);
                }
            }
            for (dir, name, text) in links {
                let path = join(dir.as_bytes(), name.as_bytes());
                if tree.is_dir(dir.as_bytes()) && tree.get(&path).is_none() {
                    tree.insert(path, Node::link(text.into_bytes()));
                }
            }
            tree
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_path_of_a_split_tree_leads_where_it_led(tree in any_tree()) {
        let plan = plan(&tree);
        prop_assert_eq!(&plan.refused, &[]);
        let halves = plan.apply(&tree);
        prop_assert_eq!(prove(&tree, &plan, &halves), []);
        let composed = halves.composed();
        for (path, _) in tree.iter() {
            // Said once more, without the proof's own words.
            if let End::At(before) = tree.resolve(b"", path) {
                prop_assert_eq!(composed.resolve(b"", path), End::At(plan.placed(&before)));
            }
        }
    }

    #[test]
    fn a_tree_is_split_once(tree in any_tree()) {
        let halves = plan(&tree).apply(&tree);
        prop_assert!(plan(&halves.base).is_empty());
        prop_assert!(plan(&halves.composed()).is_empty());
    }

    #[test]
    fn a_link_is_rewritten_only_if_it_would_lead_elsewhere(tree in any_tree()) {
        let whole = plan(&tree);
        for (index, rewrite) in whole.rewritten.iter().enumerate() {
            let mut other = whole.clone();
            other.rewritten.remove(index);
            let before = tree.resolve(b"", &rewrite.path);
            let after = other.apply(&tree).composed().resolve(b"", &rewrite.path);
            match (before, after) {
                (End::At(before), End::At(after)) => prop_assert_ne!(whole.placed(&before), after),
                (End::Missing(before), End::Missing(after) | End::At(after)) => {
                    prop_assert_ne!(whole.placed(&before), after);
                }
                (before, after) => {
                    prop_assert_ne!(
                        std::mem::discriminant(&before),
                        std::mem::discriminant(&after)
                    );
                }
            }
        }
    }

    #[test]
    fn a_fresh_pair_has_no_fault_but_what_led_nowhere_before(tree in any_tree()) {
        let plan = plan(&tree);
        for fault in check(&plan.apply(&tree)).faults {
            let known = matches!(&fault, Fault::Dangles { path, .. } if plan.dangling.contains(path));
            prop_assert!(known, "{}", fault);
        }
    }
}

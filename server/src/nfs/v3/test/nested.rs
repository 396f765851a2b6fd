//! A boot environment of several file systems: borders as clients meet them.

use vfs::{Name, Wait};
use wire::nfs3::{
    CreateRes, Fattr, FsstatRes, GetattrRes, LinkArgs, LinkRes, LookupRes, MkdirArgs,
    ReaddirplusArgs, ReaddirplusRes, RemoveRes, RenameArgs, RenameRes, Sattr, Status,
};

use super::*;
use crate::nfs::export::bench::{nest, open_to_all};

/// A system with `usr/home` and `var/log` as file systems of their own.
fn bench() -> (Bench, [Arc<MemFs>; 2]) {
    let root = MemFs::new().dir("/usr/home", 0o755).dir("/var/log", 0o755);
    let bench = Bench::new(root.file("/etc/motd", 0o644, b"hello"));
    let (files, branches) = nest(&bench.tree);
    bench.site.publish_files(ROOT, "head", files, open_to_all());
    (bench, branches)
}

fn look(bench: &Bench, dir: &WireHandle, name: &str) -> (WireHandle, Fattr) {
    let found: LookupRes<'_> = bench.call(Procedure::Lookup, &op(dir, name));
    let found = found.ok().unwrap();
    let (export, view, file) = bench.site.exports.open(found.object.0).unwrap();
    (bench.site.exports.seal(&export, view, &file), found.attributes.unwrap())
}

/// A file of an export in the split view.
fn apart(bench: &Bench, file: &Handle) -> WireHandle {
    let export = bench.site.exports.of(ROOT).unwrap();
    bench.site.exports.seal(&export, View::Split, file)
}

#[test]
fn a_lookup_crosses_a_border_within_one_file_system_id() {
    let (bench, [home, _]) = bench();
    let (usr, above) = look(&bench, &bench.root(), "usr");
    let (inside, attributes) = look(&bench, &usr, "home");
    assert_eq!(inside, bench.sealed(&home.root()));
    assert_eq!(attributes.fsid, above.fsid);
    let (back, attributes) = look(&bench, &inside, "..");
    assert_eq!((back, attributes.fileid), (usr, above.fileid));
}

#[test]
fn a_listing_at_a_border_shows_the_directory_behind_it() {
    let (bench, [home, _]) = bench();
    let (usr, _) = look(&bench, &bench.root(), "usr");
    let (inside, attributes) = look(&bench, &usr, "home");
    let (dircount, maxcount) = (4096, 4096);
    let args = ReaddirplusArgs { dir: fh(&usr), cookie: 0, verifier: [0; 8], dircount, maxcount };
    let listed: ReaddirplusRes<'_> = bench.call(Procedure::Readdirplus, &args);
    let entries = listed.ok().unwrap().entries;
    let entry = entries.iter().find(|entry| entry.entry.name.0 == b"home").unwrap();
    assert_eq!(entry.entry.fileid, attributes.fileid);
    assert_eq!(entry.handle.unwrap().0, inside.as_bytes());
    assert_ne!(attributes.fileid, home.getattr(&home.root(), Wait::Yes).unwrap().fileid);
}

#[test]
fn nothing_is_renamed_or_linked_over_a_border() {
    let (bench, [home, _]) = bench();
    let (etc, me) = (bench.at("/etc"), bench.sealed(&home.at("/me")));
    let args = RenameArgs { from: op(&etc, "motd"), to: op(&me, "motd") };
    let renamed: RenameRes = bench.call(Procedure::Rename, &args);
    assert_eq!(renamed.status(), Status::XDev);
    let motd = bench.at("/etc/motd");
    let args = LinkArgs { file: fh(&motd), link: op(&me, "motd") };
    let linked: LinkRes = bench.call(Procedure::Link, &args);
    assert_eq!(linked.status(), Status::XDev);
}

#[test]
fn a_border_is_not_removed_and_the_client_does_not_try_for_ever() {
    let (bench, _) = bench();
    let root = bench.root();
    let (usr, _) = look(&bench, &root, "usr");
    let removed: RemoveRes = bench.call(Procedure::Rmdir, &op(&usr, "home"));
    assert_eq!(removed.status(), Status::Acces);
    let args = RenameArgs { from: op(&root, "usr"), to: op(&root, "system") };
    let renamed: RenameRes = bench.call(Procedure::Rename, &args);
    assert_eq!(renamed.status(), Status::Acces);
}

#[test]
fn space_is_asked_of_the_file_system_of_the_handle() {
    let (bench, [home, _]) = bench();
    let space = |handle: &WireHandle| {
        let args = FsArgs { object: fh(handle) };
        let told: FsstatRes = bench.call(Procedure::Fsstat, &args);
        let told = told.ok().unwrap();
        told.total_files - told.free_files
    };
    let known = home.statfs(&home.root()).unwrap();
    assert_eq!(space(&bench.sealed(&home.root())), known.total_files - known.free_files);
    assert_ne!(space(&bench.sealed(&home.root())), space(&bench.root()));
}

#[test]
fn handles_over_borders_outlive_the_server() {
    let (before, [home, _]) = bench();
    let letter = before.sealed(&home.at("/me/letter"));
    let (after, _) = bench();
    let args = FsArgs { object: fh(&letter) };
    let (old, new): (GetattrRes, GetattrRes) =
        (before.call(Procedure::Getattr, &args), after.call(Procedure::Getattr, &args));
    assert_eq!(old.ok().unwrap().fileid, new.ok().unwrap().fileid);
}

#[test]
fn a_file_system_that_goes_makes_its_own_handles_stale_and_no_others() {
    let (bench, [home, _]) = bench();
    let (letter, motd) = (bench.sealed(&home.at("/me/letter")), bench.at("/etc/motd"));
    bench.site.publish(ROOT, "head", &bench.tree, open_to_all());
    let status = |handle: &WireHandle| {
        let told: GetattrRes = bench.call(Procedure::Getattr, &FsArgs { object: fh(handle) });
        told.status()
    };
    assert_eq!((status(&letter), status(&motd)), (Status::Stale, Status::Ok));
}

#[test]
fn who_sees_data_sets_apart_finds_an_empty_directory_to_mount_on() {
    let (bench, [home, _]) = bench();
    let (stand_in, attributes) = look(&bench, &apart(&bench, &bench.tree.at("/usr")), "home");
    assert_eq!(attributes.fsid, bench.tree.root().fsid());
    let missing: LookupRes<'_> = bench.call(Procedure::Lookup, &op(&stand_in, "me"));
    assert_eq!(missing.status(), Status::NoEnt);
    let args = MkdirArgs { place: op(&stand_in, "lost"), attributes: Sattr::default() };
    let made: CreateRes<'_> = bench.call(Procedure::Mkdir, &args);
    assert_eq!(made.status(), Status::RoFs);
    // Mounted by itself, a data set has its own file system id and its own file ids.
    let (_, attributes) = look(&bench, &apart(&bench, &home.root()), "me");
    let own = home.getattr(&home.at("/me"), Wait::Yes).unwrap();
    assert_eq!((attributes.fsid, attributes.fileid), (own.fsid, own.fileid));
}

#[test]
fn no_call_joins_two_views() {
    let (bench, _) = bench();
    let (here, there) = (bench.at("/etc"), apart(&bench, &bench.tree.at("/etc")));
    let args = RenameArgs { from: op(&here, "motd"), to: op(&there, "moved") };
    let renamed: RenameRes = bench.call(Procedure::Rename, &args);
    assert_eq!(renamed.status(), Status::XDev);
    assert!(
        bench
            .tree
            .lookup(
                &vfs::Caller::ROOT,
                &bench.tree.at("/etc"),
                Name::new(b"motd").unwrap(),
                Wait::Yes
            )
            .is_ok()
    );
}

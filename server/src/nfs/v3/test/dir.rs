use wire::nfs3::{
    CreateArgs, CreateHow, CreateOk, CreateRes, Ftype, LinkArgs, LinkRes, LookupRes, MkdirArgs,
    MknodArgs, MknodData, NfsPath, RemoveRes, RenameArgs, RenameRes, Sattr, Specdata, Status,
    SymlinkArgs,
};

use super::*;

fn bench() -> Bench {
    Bench::new(MemFs::new().file("/etc/motd", 0o644, b"hello").dir("/etc/rc.d", 0o755))
}

const MODE: Sattr = Sattr {
    mode: Some(0o1750),
    uid: None,
    gid: None,
    size: None,
    atime: wire::nfs3::SetTime::Keep,
    mtime: wire::nfs3::SetTime::Keep,
};

fn lookup(bench: &Bench, dir: &str, name: &str) -> LookupRes<'static> {
    bench.call(Procedure::Lookup, &op(&bench.at(dir), name))
}

/// What was made: its handle is that of the new name, and the directory was seen to change.
fn made(bench: &Bench, path: &str, result: CreateRes<'static>) -> CreateOk<'static> {
    let made = result.ok().unwrap();
    assert_eq!(made.object, Some(fh(&bench.at(path))));
    let before = made.dir.before.unwrap();
    assert_ne!(before.ctime, made.dir.after.unwrap().ctime);
    made
}

fn create(bench: &Bench, name: &str, how: CreateHow) -> CreateRes<'static> {
    let dir = bench.at("/etc");
    bench.call(Procedure::Create, &CreateArgs { place: op(&dir, name), how })
}

fn remove(bench: &Bench, procedure: Procedure, name: &str) -> RemoveRes {
    bench.call(procedure, &op(&bench.at("/etc"), name))
}

fn rename(bench: &Bench, from: &str, to: &str) -> RenameRes {
    let dir = bench.at("/etc");
    bench.call(Procedure::Rename, &RenameArgs { from: op(&dir, from), to: op(&dir, to) })
}

#[test]
fn lookup_gives_handle_and_both_attributes() {
    let bench = bench();
    let found = lookup(&bench, "/etc", "motd").ok().unwrap();
    assert_eq!(found.object, fh(&bench.at("/etc/motd")));
    assert_eq!(found.attributes.unwrap().size, 5);
    assert_eq!(found.dir.unwrap().kind, Ftype::Directory);
}

#[test]
fn a_name_that_is_not_there_is_noent_with_the_directory() {
    let LookupRes::Fail(status, dir) = lookup(&bench(), "/etc", "none") else { panic!() };
    assert_eq!((status, dir.unwrap().kind), (Status::NoEnt, Ftype::Directory));
}

#[test]
fn dots_are_looked_up_and_do_not_lead_out_of_the_root() {
    let bench = bench();
    let object = |dir, name| lookup(&bench, dir, name).ok().unwrap().object;
    assert_eq!(object("/etc", "."), fh(&bench.at("/etc")));
    assert_eq!(object("/etc", ".."), fh(&bench.root()));
    assert_eq!(object("/", ".."), fh(&bench.root()));
}

#[test]
fn names_that_cannot_be_are_refused() {
    let bench = bench();
    let status = |name: &str| lookup(&bench, "/etc", name).status();
    assert_eq!(status(""), Status::Acces);
    assert_eq!(status("../etc"), Status::Acces);
    assert_eq!(status("a\0b"), Status::Acces);
    assert_eq!(status(&"a".repeat(255)), Status::NoEnt);
    assert_eq!(status(&"a".repeat(256)), Status::NameTooLong);
    assert_eq!(lookup(&bench, "/etc/motd", "x").status(), Status::NotDir);
}

#[test]
fn an_unchecked_create_opens_what_exists() {
    let bench = bench();
    let how = CreateHow::Unchecked(Sattr { size: Some(0), mode: Some(0o600), ..Sattr::default() });
    made(&bench, "/etc/new", create(&bench, "new", how));
    let opened = create(&bench, "motd", how).ok().unwrap();
    assert_eq!(opened.object, Some(fh(&bench.at("/etc/motd"))));
    assert_eq!(opened.attributes.unwrap().size, 0);
}

#[test]
fn a_guarded_create_refuses_what_exists() {
    let bench = bench();
    let how = CreateHow::Guarded(MODE);
    let new = made(&bench, "/etc/new", create(&bench, "new", how));
    assert_eq!(new.attributes.unwrap().mode, 0o1750);
    let CreateRes::Fail(status, wcc) = create(&bench, "motd", how) else { panic!() };
    assert_eq!((status, wcc.after.unwrap().kind), (Status::Exist, Ftype::Directory));
    assert_eq!(bench.tree.data("/etc/motd"), b"hello");
}

#[test]
fn an_exclusive_create_can_be_repeated_with_its_verifier() {
    let bench = bench();
    let first = create(&bench, "lock", CreateHow::Exclusive(*b"verifier")).ok().unwrap();
    let again = create(&bench, "lock", CreateHow::Exclusive(*b"verifier")).ok().unwrap();
    assert_eq!(first.object, again.object);
    let other = create(&bench, "lock", CreateHow::Exclusive(*b"another!"));
    assert_eq!(other.status(), Status::Exist);
}

#[test]
fn a_directory_is_made_with_all_its_bits() {
    let bench = bench();
    let dir = bench.at("/etc");
    let args = MkdirArgs { place: op(&dir, "tmp"), attributes: MODE };
    let new = made(&bench, "/etc/tmp", bench.call(Procedure::Mkdir, &args)).attributes.unwrap();
    assert_eq!((new.kind, new.mode), (Ftype::Directory, 0o1750));
    let args = MkdirArgs { place: op(&dir, "motd"), attributes: MODE };
    let again: CreateRes<'_> = bench.call(Procedure::Mkdir, &args);
    assert_eq!(again.status(), Status::Exist);
}

#[test]
fn a_symbolic_link_says_what_it_was_told() {
    let bench = bench();
    let dir = bench.at("/etc");
    let target = NfsPath(b"../usr/src/sys");
    let args = SymlinkArgs { place: op(&dir, "sys"), attributes: Sattr::default(), target };
    let new = made(&bench, "/etc/sys", bench.call(Procedure::Symlink, &args)).attributes.unwrap();
    assert_eq!((new.kind, new.size), (Ftype::Symlink, 14));
}

#[test]
fn special_files_are_made_and_only_root_makes_devices() {
    let bench = bench();
    let dir = bench.at("/etc");
    let device = Specdata { major: 1, minor: 3 };
    let kinds = [
        ("fifo", MknodData::Fifo(MODE), Ftype::Fifo),
        ("sock", MknodData::Socket(MODE), Ftype::Socket),
        ("chr", MknodData::Character(MODE, device), Ftype::Character),
        ("blk", MknodData::Block(MODE, device), Ftype::Block),
    ];
    for (name, what, kind) in kinds {
        let args = MknodArgs { place: op(&dir, name), what };
        let path = format!("/etc/{name}");
        let new = made(&bench, &path, bench.call(Procedure::Mknod, &args)).attributes.unwrap();
        assert_eq!(new.kind, kind);
    }
    let bench = bench.by(Client::machine().user(1001, 100));
    let what = MknodData::Character(MODE, device);
    let args = MknodArgs { place: op(&dir, "other"), what };
    let refused: CreateRes<'_> = bench.call(Procedure::Mknod, &args);
    assert_eq!(refused.status(), Status::Perm);
}

#[test]
fn mknod_does_not_make_directories() {
    let bench = bench();
    let dir = bench.at("/etc");
    let args = MknodArgs { place: op(&dir, "x"), what: MknodData::Other(Ftype::Directory) };
    let refused: CreateRes<'_> = bench.call(Procedure::Mknod, &args);
    assert_eq!(refused.status(), Status::BadType);
    assert_eq!(lookup(&bench, "/etc", "x").status(), Status::NoEnt);
}

#[test]
fn remove_takes_a_file_and_rmdir_a_directory() {
    let bench = bench();
    assert_eq!(remove(&bench, Procedure::Remove, "rc.d").status(), Status::IsDir);
    assert_eq!(remove(&bench, Procedure::Rmdir, "motd").status(), Status::NotDir);
    let gone = remove(&bench, Procedure::Remove, "motd").ok().unwrap();
    assert_ne!(gone.before.unwrap().ctime, gone.after.unwrap().ctime);
    assert_eq!(remove(&bench, Procedure::Rmdir, "rc.d").status(), Status::Ok);
    assert_eq!(remove(&bench, Procedure::Remove, "motd").status(), Status::NoEnt);
    assert_eq!(remove(&bench, Procedure::Rmdir, "rc.d").status(), Status::NoEnt);
}

#[test]
fn only_empty_directories_are_removed_and_never_dots() {
    let bench = bench();
    let result: RemoveRes = bench.call(Procedure::Rmdir, &op(&bench.root(), "etc"));
    assert_eq!(result.status(), Status::NotEmpty);
    assert_eq!(remove(&bench, Procedure::Rmdir, ".").status(), Status::Inval);
    assert_eq!(remove(&bench, Procedure::Rmdir, "..").status(), Status::Exist);
}

#[test]
fn rename_moves_a_name_and_shows_both_directories() {
    let bench = bench();
    let file = bench.at("/etc/motd");
    let (from, to) = (bench.at("/etc"), bench.at("/etc/rc.d"));
    let args = RenameArgs { from: op(&from, "motd"), to: op(&to, "issue") };
    let result: RenameRes = bench.call(Procedure::Rename, &args);
    let (lost, gained) = result.ok().unwrap();
    assert_ne!(lost.before.unwrap().ctime, lost.after.unwrap().ctime);
    assert_ne!(gained.before.unwrap().ctime, gained.after.unwrap().ctime);
    assert_eq!(bench.at("/etc/rc.d/issue"), file);
}

#[test]
fn a_rename_that_fails_shows_both_directories_too() {
    let RenameRes::Fail(status, (from, to)) = rename(&bench(), "none", "x") else { panic!() };
    assert_eq!((status, from.after, to.after.is_some()), (Status::NoEnt, to.after, true));
}

#[test]
fn a_directory_does_not_replace_a_file_nor_itself_move_below_itself() {
    let bench = bench();
    assert_eq!(rename(&bench, "rc.d", "motd").status(), Status::NotDir);
    assert_eq!(rename(&bench, "motd", "rc.d").status(), Status::IsDir);
    let (root, below) = (bench.root(), bench.at("/etc/rc.d"));
    let args = RenameArgs { from: op(&root, "etc"), to: op(&below, "etc") };
    let result: RenameRes = bench.call(Procedure::Rename, &args);
    assert_eq!(result.status(), Status::Inval);
}

#[test]
fn a_link_is_one_more_name_of_the_same_file() {
    let bench = bench();
    let (file, dir) = (bench.at("/etc/motd"), bench.at("/etc/rc.d"));
    let args = LinkArgs { file: fh(&file), link: op(&dir, "motd") };
    let result: LinkRes = bench.call(Procedure::Link, &args);
    let (attributes, wcc) = result.ok().unwrap();
    assert_eq!((attributes.unwrap().nlink, wcc.after.is_some()), (2, true));
    assert_eq!(bench.at("/etc/rc.d/motd"), file);
    let again: LinkRes = bench.call(Procedure::Link, &args);
    let LinkRes::Fail(status, (attributes, wcc)) = again else { panic!() };
    assert_eq!(status, Status::Exist);
    assert!(attributes.is_some() && wcc.after.is_some());
}

#[test]
fn directories_have_no_links() {
    let bench = bench();
    let (file, dir) = (bench.at("/etc/rc.d"), bench.at("/etc"));
    let args = LinkArgs { file: fh(&file), link: op(&dir, "x") };
    let result: LinkRes = bench.call(Procedure::Link, &args);
    assert_eq!(result.status(), Status::Inval);
}

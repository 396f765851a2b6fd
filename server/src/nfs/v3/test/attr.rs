use vfs::{Time, Wait};
use wire::nfs3::{
    AccessArgs, AccessRes, Fattr, Ftype, GetattrRes, NfsTime, Sattr, SetTime, SetattrArgs,
    SetattrRes, Status,
};

use super::*;

fn bench() -> Bench {
    let tree = MemFs::new().file("/motd", 0o4755, b"hello").owned("/motd", 1001, 100).special(
        "/null",
        0o666,
        vfs::Special::Character(1, 3),
    );
    Bench::new(tree)
}

fn getattr(bench: &Bench, path: &str) -> Fattr {
    let result: GetattrRes = bench.call(Procedure::Getattr, &fs(&bench.at(path)));
    result.ok().unwrap()
}

fn set(bench: &Bench, attributes: Sattr, guard: Option<NfsTime>) -> SetattrRes {
    let object = bench.at("/motd");
    bench.call(Procedure::Setattr, &SetattrArgs { object: fh(&object), attributes, guard })
}

#[test]
fn getattr_tells_what_the_tree_knows() {
    let bench = bench();
    let known = bench.tree.getattr(&bench.tree.at("/motd"), Wait::Yes).unwrap();
    let told = getattr(&bench, "/motd");
    assert_eq!((told.kind, told.mode, told.nlink), (Ftype::Regular, 0o4755, 1));
    assert_eq!((told.uid, told.gid, told.size), (1001, 100, 5));
    assert_eq!((told.fsid, told.fileid), (known.fsid, known.fileid));
    let mtime =
        Time { seconds: i64::from(told.mtime.seconds), nanoseconds: told.mtime.nanoseconds };
    assert_eq!(mtime, known.mtime);
}

#[test]
fn a_device_has_its_number() {
    let told = getattr(&bench(), "/null");
    assert_eq!((told.kind, told.rdev.major, told.rdev.minor), (Ftype::Character, 1, 3));
}

#[test]
fn setattr_shows_the_file_before_and_after() {
    let bench = bench();
    let before = getattr(&bench, "/motd");
    let wanted = Sattr { size: Some(2), mode: Some(0o600), ..Sattr::default() };
    let wcc = set(&bench, wanted, None).ok().unwrap();
    let was = wcc.before.unwrap();
    assert_eq!((was.size, was.mtime, was.ctime), (5, before.mtime, before.ctime));
    let after = wcc.after.unwrap();
    assert_eq!((after.size, after.mode), (2, 0o600));
    assert_eq!(after, getattr(&bench, "/motd"));
}

#[test]
fn only_the_permission_bits_of_a_mode_are_set() {
    let bench = bench();
    set(&bench, Sattr { mode: Some(0o100_640), ..Sattr::default() }, None).ok().unwrap();
    assert_eq!(getattr(&bench, "/motd").mode, 0o640);
}

#[test]
fn times_are_set_to_the_nanosecond() {
    let bench = bench();
    let time = NfsTime { seconds: 0x7fff_ffff, nanoseconds: 999_999_999 };
    let wanted = Sattr { mtime: SetTime::Client(time), ..Sattr::default() };
    set(&bench, wanted, None).ok().unwrap();
    assert_eq!(getattr(&bench, "/motd").mtime, time);
}

#[test]
fn a_guard_that_does_not_match_changes_nothing() {
    let bench = bench();
    let before = getattr(&bench, "/motd");
    let wanted = Sattr { size: Some(0), ..Sattr::default() };
    let wrong = NfsTime { seconds: 1, nanoseconds: 0 };
    let SetattrRes::Fail(status, wcc) = set(&bench, wanted, Some(wrong)) else { panic!() };
    assert_eq!((status, wcc.after), (Status::NotSync, Some(before)));
    assert_eq!(set(&bench, wanted, Some(before.ctime)).status(), Status::Ok);
}

#[test]
fn a_time_that_cannot_be_is_invalid() {
    let time = NfsTime { seconds: 1, nanoseconds: 1_000_000_000 };
    let wanted = Sattr { atime: SetTime::Client(time), ..Sattr::default() };
    assert_eq!(set(&bench(), wanted, None).status(), Status::Inval);
}

#[test]
fn only_the_owner_changes_the_mode() {
    let bench = bench().by(Client::machine().user(1002, 100));
    let wanted = Sattr { mode: Some(0o777), ..Sattr::default() };
    assert_eq!(set(&bench, wanted, None).status(), Status::Perm);
}

#[test]
fn access_grants_what_the_mode_does_and_was_asked_for() {
    let granted = |uid, asked| {
        let bench = bench().by(Client::machine().user(uid, 9));
        let object = bench.at("/motd");
        let args = AccessArgs { object: fh(&object), access: asked };
        let result: AccessRes = bench.call(Procedure::Access, &args);
        let ok = result.ok().unwrap();
        assert_eq!(ok.attributes.unwrap().size, 5);
        ok.access
    };
    assert_eq!(granted(1001, 0x3f), 0x01 | 0x04 | 0x08 | 0x20);
    assert_eq!(granted(1002, 0x3f), 0x01 | 0x20);
    assert_eq!(granted(1002, 0x05), 0x01);
}

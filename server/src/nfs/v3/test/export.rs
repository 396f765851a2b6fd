//! What an export lets through.

use store::ExportSettings;
use uuid::Uuid;
use vfs::{Caller, Name, Wait};
use wire::nfs3::{
    AccessArgs, AccessRes, CommitArgs, CommitRes, CreateArgs, CreateHow, CreateRes, Fattr,
    GetattrRes, LinkArgs, LinkRes, LookupRes, MkdirArgs, MknodArgs, MknodData, NfsPath, ReadArgs,
    ReadRes, RemoveRes, RenameArgs, RenameRes, Sattr, SetattrArgs, SetattrRes, Stable, Status,
    SymlinkArgs, WriteArgs, WriteRes,
};

use super::*;
use crate::net::rpc::Credential;
use crate::nfs::export::Event;
use crate::nfs::export::bench::{STRANGER, open_to_all};

fn tree() -> MemFs {
    MemFs::new().file("/motd", 0o644, b"hello").dir("/tmp", 0o1777)
}

fn shared(settings: ExportSettings) -> Bench {
    let tree = Arc::new(tree());
    let site = Site::with_settings(&tree, settings);
    Bench::of(site, tree)
}

fn getattr(bench: &Bench, handle: &[u8]) -> GetattrRes {
    let args = FsArgs { object: FileHandle(handle) };
    bench.call(Procedure::Getattr, &args)
}

/// Who owns a file that the client makes.
fn maker(bench: &Bench) -> (u32, u32) {
    let dir = bench.at("/tmp");
    let how = CreateHow::Guarded(Sattr::default());
    let args = CreateArgs { place: op(&dir, "new"), how };
    let made: CreateRes<'_> = bench.call(Procedure::Create, &args);
    let attributes: Fattr = made.ok().unwrap().attributes.unwrap();
    (attributes.uid, attributes.gid)
}

#[test]
fn who_may_not_use_the_export_gets_nothing_even_with_a_good_handle() {
    let bench = Bench::new(tree()).by(Client::at(STRANGER));
    assert_eq!(getattr(&bench, bench.root().as_bytes()), GetattrRes::Fail(Status::Acces, ()));
    let found: LookupRes<'_> = bench.call(Procedure::Lookup, &op(&bench.root(), "motd"));
    assert_eq!(found, LookupRes::Fail(Status::Acces, None));
}

#[test]
fn who_may_not_use_the_export_is_not_reported_as_using_it() {
    let bench = Bench::new(tree()).by(Client::at(STRANGER));
    getattr(&bench, bench.root().as_bytes());
    let told = bench.site.booter.take();
    assert!(matches!(&told[..], [(_, crate::boot::Event::NotAdmitted(_))]), "{told:?}");
}

#[test]
fn an_unreserved_port_is_refused() {
    let mut client = Client::machine();
    client.peer.set_port(1024);
    let bench = Bench::new(tree()).by(client);
    assert_eq!(getattr(&bench, bench.root().as_bytes()).status(), Status::Acces);
}

#[test]
fn a_users_groups_are_those_of_this_host_where_the_share_says_so() {
    // daemon, who is 1:1 on Linux and FreeBSD.
    let tree = || {
        let tree = MemFs::new().file("/known", 0o040, b"").file("/sent", 0o040, b"");
        tree.owned("/known", 0, 1).owned("/sent", 0, 5)
    };
    let read = |settings: ExportSettings| {
        let (tree, mut client) = (Arc::new(tree()), Client::machine().user(1, 20));
        client.credential = Credential::Sys { uid: 1, gid: 20, gids: vec![5] };
        let bench = Bench::of(Site::with_settings(&tree, settings), tree).by(client);
        ["/known", "/sent"].map(|path| {
            let handle = bench.at(path);
            let args = ReadArgs { file: fh(&handle), offset: 0, count: 1 };
            bench.call::<ReadRes<'_>>(Procedure::Read, &args).status()
        })
    };
    assert_eq!(read(open_to_all()), [Status::Acces, Status::Ok]);
    let managed = ExportSettings { manage_gids: true, ..open_to_all() };
    assert_eq!(read(managed), [Status::Ok, Status::Acces]);
}

#[test]
fn no_changed_byte_of_a_handle_opens_anything() {
    let bench = Bench::new(tree());
    let handle = bench.at("/motd");
    for at in 0..handle.as_bytes().len() {
        let mut forged = handle.as_bytes().to_vec();
        forged[at] ^= 0x01;
        assert_eq!(getattr(&bench, &forged).status(), Status::BadHandle, "byte {at}");
    }
    assert_eq!(getattr(&bench, b"").status(), Status::BadHandle);
    assert_eq!(getattr(&bench, &[0; 64]).status(), Status::BadHandle);
}

#[test]
fn a_handle_is_good_after_a_restart_and_stale_when_its_environment_is_gone() {
    let tree = Arc::new(tree());
    let handle = Bench::of(Site::new(&tree), Arc::clone(&tree)).at("/motd");
    let restarted = Bench::of(Site::new(&tree), tree);
    assert_eq!(getattr(&restarted, handle.as_bytes()).status(), Status::Ok);
    restarted.site.exports.apply([(ROOT, Event::Ended)]);
    assert_eq!(getattr(&restarted, handle.as_bytes()).status(), Status::Stale);
}

#[test]
fn no_call_joins_two_exports() {
    let bench = Bench::new(tree());
    let other = Uuid::from_u128(2);
    bench.site.publish(other, "other", &bench.tree, open_to_all());
    let there = bench.site.exports.root_handle(other).unwrap();
    let (here, file) = (bench.root(), bench.at("/motd"));
    let args = RenameArgs { from: op(&here, "motd"), to: op(&there, "moved") };
    let renamed: RenameRes = bench.call(Procedure::Rename, &args);
    assert_eq!(renamed.status(), Status::XDev);
    let args = LinkArgs { file: fh(&file), link: op(&there, "linked") };
    let linked: LinkRes = bench.call(Procedure::Link, &args);
    assert_eq!(linked.status(), Status::XDev);
}

#[test]
fn a_call_about_two_files_needs_both() {
    let bench = Bench::new(tree());
    let (here, wrong) = (bench.root(), FileHandle(&[1; 32]));
    let to = DirOp { dir: wrong, name: Filename(b"x") };
    let args = RenameArgs { from: op(&here, "motd"), to };
    let renamed: RenameRes = bench.call(Procedure::Rename, &args);
    let RenameRes::Fail(status, (from, to)) = renamed else { panic!() };
    assert_eq!((status, from.after.is_some(), to.after), (Status::BadHandle, true, None));
}

#[test]
fn root_is_root_on_its_own_root_and_nobody_on_others() {
    assert_eq!(maker(&Bench::new(tree())), (0, 0));
    let network = vec!["192.168.0.0/16".parse().unwrap()];
    let settings = ExportSettings { shared: true, networks: network, ..ExportSettings::default() };
    assert_eq!(maker(&shared(settings).by(Client::at(STRANGER))), (65_534, 65_534));
}

#[test]
fn users_are_who_they_say_unless_all_are_mapped() {
    let user = || Client::machine().user(1001, 100);
    assert_eq!(maker(&Bench::new(tree()).by(user())), (1001, 100));
    let mapall = Some("7:8".parse().unwrap());
    let settings = ExportSettings { mapall, ..ExportSettings::default() };
    assert_eq!(maker(&shared(settings).by(user())), (7, 8));
}

/// What a machine's kernel does in vain tells why it stops.
#[test]
fn a_refused_change_and_a_search_for_init_in_vain_are_told() {
    use crate::boot::Event;

    let settings = ExportSettings { read_only: true, ..ExportSettings::default() };
    let bench = shared(settings);
    let told = |bench: &Bench| {
        bench.site.clock.pass(std::time::Duration::from_secs(1));
        getattr(bench, bench.root().as_bytes());
        let told = bench.site.booter.take().into_iter().filter_map(|(_, event)| {
            let Event::Nfs { traffic, .. } = event else { return None };
            Some((traffic.denied, traffic.lacks_init))
        });
        told.fold((0, false), |(all, any), (denied, lacks)| (all + denied, any | lacks))
    };
    assert_eq!(told(&bench), (0, false));
    let root = bench.root();
    let _: RemoveRes = bench.call(Procedure::Remove, &op(&root, "motd"));
    let _: LookupRes<'_> = bench.call(Procedure::Lookup, &op(&root, "initrd"));
    assert_eq!(told(&bench), (1, false));
    let _: LookupRes<'_> = bench.call(Procedure::Lookup, &op(&root, "init"));
    assert_eq!(told(&bench), (0, true));
    assert_eq!(told(&bench), (0, false), "it is told once");
}

#[test]
fn a_read_only_export_refuses_every_change() {
    let settings = ExportSettings { read_only: true, ..ExportSettings::default() };
    let bench = shared(settings);
    let (root, file) = (bench.root(), bench.at("/motd"));
    let (new, old) = (op(&root, "new"), op(&root, "motd"));
    let set = Sattr::default();
    let status = [
        bench
            .call::<SetattrRes>(
                Procedure::Setattr,
                &SetattrArgs { object: fh(&file), attributes: set, guard: None },
            )
            .status(),
        bench
            .call::<WriteRes>(
                Procedure::Write,
                &WriteArgs { file: fh(&file), offset: 0, stable: Stable::Unstable, data: b"x" },
            )
            .status(),
        bench
            .call::<CreateRes<'_>>(
                Procedure::Create,
                &CreateArgs { place: new, how: CreateHow::Unchecked(set) },
            )
            .status(),
        bench
            .call::<CreateRes<'_>>(Procedure::Mkdir, &MkdirArgs { place: new, attributes: set })
            .status(),
        bench
            .call::<CreateRes<'_>>(
                Procedure::Symlink,
                &SymlinkArgs { place: new, attributes: set, target: NfsPath(b"x") },
            )
            .status(),
        bench
            .call::<CreateRes<'_>>(
                Procedure::Mknod,
                &MknodArgs { place: new, what: MknodData::Fifo(set) },
            )
            .status(),
        bench.call::<RemoveRes>(Procedure::Remove, &old).status(),
        bench.call::<RemoveRes>(Procedure::Rmdir, &op(&root, "tmp")).status(),
        bench.call::<RenameRes>(Procedure::Rename, &RenameArgs { from: old, to: new }).status(),
        bench.call::<LinkRes>(Procedure::Link, &LinkArgs { file: fh(&file), link: new }).status(),
    ];
    assert_eq!(status, [Status::RoFs; 10]);
    assert_eq!(bench.tree.data("/motd"), b"hello");
    let name = Name::new(b"new").unwrap();
    assert!(bench.tree.lookup(&Caller::ROOT, &bench.tree.root(), name, Wait::Yes).is_err());
}

#[test]
fn a_read_only_export_is_read_grants_no_change_and_commits_what_was_written_before() {
    let settings = ExportSettings { read_only: true, ..ExportSettings::default() };
    let bench = shared(settings);
    let file = bench.at("/motd");
    let args = ReadArgs { file: fh(&file), offset: 0, count: 5 };
    assert_eq!(bench.call::<ReadRes<'_>>(Procedure::Read, &args).ok().unwrap().data, b"hello");
    let args = AccessArgs { object: fh(&file), access: 0x3f };
    assert_eq!(bench.call::<AccessRes>(Procedure::Access, &args).ok().unwrap().access, 0x01);
    let args = CommitArgs { file: fh(&file), offset: 0, count: 0 };
    assert_eq!(bench.call::<CommitRes>(Procedure::Commit, &args).status(), Status::Ok);
}

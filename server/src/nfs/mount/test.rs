mod wait;

use std::time::Duration;

use fixtures::MemFs;
use store::ExportSettings;
use uuid::Uuid;
use vfs::{Handle, Tree};

use super::*;
use crate::nfs::export::bench::{Client, MACHINE, ROOT, STRANGER, Site, nest, open_to_all};

fn tree() -> Arc<MemFs> {
    let tree = MemFs::new()
        .dir("/etc/rc.d", 0o700)
        .file("/etc/rc.conf", 0o644, b"")
        .symlink("/sys", "/usr/src/sys");
    Arc::new(tree)
}

struct Bench {
    site: Site,
    tree: Arc<MemFs>,
    mount: Arc<Mount>,
}

fn bench() -> Bench {
    let tree = tree();
    let site = Site::new(&tree);
    let mount = Arc::new(Mount::new(
        Arc::clone(&site.exports),
        Arc::clone(&site.booter) as Arc<dyn Booter>,
        Arc::clone(&site.clock) as Arc<dyn Clock>,
    ));
    Bench { site, tree, mount }
}

impl Bench {
    /// The file that a path is the handle of, or why there is none.
    fn mnt(&self, client: &Client, path: &str) -> Result<Handle, MountStat> {
        let args = DirPath(path.as_bytes());
        let results = client.results(&self.mount, VERSION, 1, &args);
        match MntRes::from_bytes(&results).unwrap() {
            MntRes::Ok { handle, flavors } => {
                assert_eq!(flavors, [1]);
                Ok(self.site.exports.open(handle.0).unwrap().2)
            }
            MntRes::Fail(status) => Err(status),
        }
    }

    /// How a client sees what it mounts.
    fn view(&self, client: &Client, path: &str) -> View {
        let results = client.results(&self.mount, VERSION, 1, &DirPath(path.as_bytes()));
        let MntRes::Ok { handle, .. } = MntRes::from_bytes(&results).unwrap() else { panic!() };
        self.site.exports.open(handle.0).unwrap().1
    }

    fn umnt(&self, path: &str) {
        let args = DirPath(path.as_bytes());
        assert!(Client::machine().results(&self.mount, VERSION, 3, &args).is_empty());
    }

    fn dump(&self) -> Vec<(String, String)> {
        let results = Client::machine().results(&self.mount, VERSION, 2, &());
        let list = Vec::<Mounted<'_>>::from_bytes(&results).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        list.iter().map(|one| (text(one.host.0), text(one.directory.0))).collect()
    }
}

#[test]
fn the_path_of_an_export_gives_its_root() {
    let bench = bench();
    for path in ["/be/head", "/be/head/", "//be/./head//"] {
        assert_eq!(bench.mnt(&Client::machine(), path), Ok(bench.tree.root()), "{path}");
    }
}

#[test]
fn a_slash_or_nothing_is_the_machines_own_root() {
    let bench = bench();
    for path in ["", "/", "//"] {
        assert_eq!(bench.mnt(&Client::machine(), path), Ok(bench.tree.root()), "{path}");
        assert_eq!(bench.mnt(&Client::at(STRANGER), path), Err(MountStat::NoEnt), "{path}");
    }
}

#[test]
fn a_directory_of_an_export_can_be_mounted() {
    let bench = bench();
    let machine = Client::machine();
    for path in ["/be/head/etc/rc.d", "/be/head/etc/./rc.d/", "/be/head/x/../etc/rc.d"] {
        assert_eq!(bench.mnt(&machine, path), Ok(bench.tree.at("/etc/rc.d")), "{path}");
    }
}

#[test]
fn dots_do_not_lead_out_of_an_export() {
    let bench = bench();
    for path in ["/be/head/..", "/be/head/../../..", "/be/head/etc/../../../"] {
        assert_eq!(bench.mnt(&Client::machine(), path), Ok(bench.tree.root()), "{path}");
    }
    let out = bench.mnt(&Client::machine(), "/be/head/../head/etc");
    assert_eq!(out, Err(MountStat::NoEnt));
}

#[test]
fn what_is_not_a_directory_is_refused() {
    let bench = bench();
    let machine = Client::machine();
    assert_eq!(bench.mnt(&machine, "/be/head/etc/rc.conf"), Err(MountStat::NotDir));
    assert_eq!(bench.mnt(&machine, "/be/head/etc/rc.conf/x"), Err(MountStat::NotDir));
}

#[test]
fn links_are_followed_within_the_export() {
    let tree = MemFs::new()
        .dir("/usr/src/sys", 0o755)
        .dir("/usr/home/me", 0o755)
        .file("/usr/passwd", 0o644, b"")
        .symlink("/sys", "/usr/src/sys")
        .symlink("/home", "usr/./home/")
        .symlink("/usr/back", "../usr/src/../home")
        .symlink("/chain", "/usr/back/me")
        .symlink("/file", "usr/passwd")
        .symlink("/nowhere", "usr/none")
        .symlink("/loop", "usr/loop")
        .symlink("/usr/loop", "../loop")
        .symlink("/out", "usr/../../head/usr")
        .symlink("/far", "/../usr");
    let bench = Bench { tree: Arc::new(tree), ..bench() };
    bench.site.publish(ROOT, "head", &bench.tree, open_to_all());
    let mnt = |path: &str| bench.mnt(&Client::machine(), &format!("/be/head/{path}"));
    for (path, directory) in [
        ("sys", "/usr/src/sys"),
        ("home", "/usr/home"),
        ("home/me/", "/usr/home/me"),
        ("usr/back/me", "/usr/home/me"),
        ("chain", "/usr/home/me"),
        // Dots of the path itself are the client's, who means its names.
        ("home/../usr", "/usr"),
    ] {
        assert_eq!(mnt(path), Ok(bench.tree.at(directory)), "{path}");
    }
    for (path, refused) in [
        ("file", MountStat::NotDir),
        ("file/x", MountStat::NotDir),
        ("nowhere", MountStat::NoEnt),
        ("loop", MountStat::NotDir),
        ("out", MountStat::NotDir),
        ("far", MountStat::NotDir),
    ] {
        assert_eq!(mnt(path), Err(refused), "{path}");
    }
}

#[test]
fn what_does_not_exist_is_told_apart_from_what_may_not_be_used() {
    let bench = bench();
    assert_eq!(bench.mnt(&Client::machine(), "/be/headless"), Err(MountStat::NoEnt));
    assert_eq!(bench.mnt(&Client::machine(), "/be/head/none"), Err(MountStat::NoEnt));
    assert_eq!(bench.mnt(&Client::at(STRANGER), "/be/head"), Err(MountStat::Acces));
    let long = format!("/be/head/{}", "a".repeat(256));
    assert_eq!(bench.mnt(&Client::machine(), &long), Err(MountStat::NameTooLong));
}

#[test]
fn a_path_of_more_than_1024_bytes_is_garbage() {
    let bench = bench();
    let path = vec![b'/'; 1028];
    let args = DirPath(&path).to_bytes();
    let (outcome, _) = Client::machine().call(&bench.mount, VERSION, 1, &args);
    assert_eq!(outcome, Outcome::GarbageArgs);
}

#[test]
fn a_root_is_mounted_without_waiting() {
    let bench = bench();
    let args = DirPath(b"/be/head").to_bytes();
    let call = Call {
        version: VERSION,
        procedure: 1,
        credential: crate::net::rpc::Credential::None,
        peer: (MACHINE, 1023).into(),
        local: (MACHINE, 1).into(),
        transport: Transport::Udp,
        back: None,
        args: &args,
    };
    let progress = bench.mount.call(&call, &mut Vec::new());
    assert!(
        matches!(
            progress,
            Progress::Done(crate::net::rpc::Ended { outcome: Outcome::Success, .. })
        ),
        "{progress:?}"
    );
}

#[test]
fn a_mount_for_nfs_2_is_refused_with_eacces() {
    let bench = bench();
    let args = DirPath(b"/be/head");
    assert_eq!(Client::machine().results(&bench.mount, VERSION_1, 1, &args), [0, 0, 0, 13]);
}

#[test]
fn a_loader_that_mounts_at_every_open_is_reported_once() {
    let bench = bench();
    for _ in 0..40 {
        bench.mnt(&Client::machine().udp(), "/be/head").unwrap();
        bench.site.clock.pass(Duration::from_secs(1));
    }
    let mounted = Event::Mounted { environment: ROOT, path: "/be/head".to_owned() };
    assert_eq!(bench.site.booter.take(), [(ClientAddress::Ip(MACHINE), mounted)]);
}

#[test]
fn a_refused_mount_is_reported_with_its_reason() {
    let bench = bench();
    bench.mnt(&Client::at(STRANGER), "/be/head").unwrap_err();
    let path = "/be/head".to_owned();
    let reason = format!(
        "not shared with {STRANGER}: share it with {STRANGER}'s network, or assign it to the machine"
    );
    let failed = Event::NotMounted { path, reason };
    let told = bench.site.booter.take();
    assert_eq!(told.last(), Some(&(ClientAddress::Ip(STRANGER), failed)));
    assert!(matches!(&told[..], [(_, Event::NotAdmitted(_)), _]), "{told:?}");
    assert_eq!(bench.dump(), []);
}

#[test]
fn mounts_are_listed_until_they_are_unmounted() {
    let bench = bench();
    bench.mnt(&Client::machine(), "/be/head/etc/").unwrap();
    bench.mnt(&Client::machine(), "/").unwrap();
    let address = MACHINE.to_string();
    let both = [(address.clone(), "/be/head/etc".to_owned()), (address.clone(), "/".to_owned())];
    assert_eq!(bench.dump(), both);
    bench.site.booter.take();
    bench.umnt("/be/head/etc");
    bench.umnt("/be/head/etc");
    assert_eq!(bench.dump(), [(address, "/".to_owned())]);
    let unmounted = Event::Unmounted("/be/head/etc".to_owned());
    assert_eq!(bench.site.booter.take(), [(ClientAddress::Ip(MACHINE), unmounted)]);
    assert!(Client::machine().results(&bench.mount, VERSION, 4, &()).is_empty());
    assert_eq!(bench.dump(), []);
}

#[test]
fn exports_are_listed_with_whom_they_are_for() {
    let bench = bench();
    let settings = ExportSettings { machines: vec!["web1".to_owned()], ..open_to_all() };
    bench.site.publish(Uuid::from_u128(2), "open", &bench.tree, settings);
    for version in [VERSION_1, VERSION] {
        let results = Client::at(STRANGER).results(&bench.mount, version, 5, &());
        let list = Vec::<Exported<'_>>::from_bytes(&results).unwrap();
        let open = Exported {
            directory: DirPath(b"/be/open"),
            groups: vec![HostName(b"0.0.0.0/0"), HostName(b"web1")],
        };
        let groups = vec![HostName(b"(its-own-machines)")];
        assert_eq!(list, [Exported { directory: DirPath(b"/be/head"), groups }, open]);
    }
}

#[test]
fn a_stranger_gets_no_list_by_udp() {
    let bench = bench();
    for procedure in [2, 5] {
        let list = |client: Client| client.call(&bench.mount, VERSION, procedure, &[]).0;
        assert_eq!(list(Client::at(STRANGER).udp()), Outcome::ProcUnavail);
        assert_eq!(list(Client::at(STRANGER)), Outcome::Success);
        assert_eq!(list(Client::machine().udp()), Outcome::Success);
    }
    bench.site.publish(Uuid::from_u128(2), "open", &bench.tree, open_to_all());
    let list = Client::at(STRANGER).udp().call(&bench.mount, VERSION, 5, &[]).0;
    assert_eq!(list, Outcome::Success);
}

#[test]
fn a_list_ends_where_the_room_of_udp_clients_does() {
    let bench = bench();
    for number in 0..1000 {
        let name = format!("{number:04}{}", "x".repeat(96));
        bench.site.publish(Uuid::from_u128(100 + number), &name, &bench.tree, open_to_all());
    }
    let results = Client::machine().udp().results(&bench.mount, VERSION, 5, &());
    let head = 24;
    assert!(head + results.len() <= 8800, "{} bytes", results.len());
    assert!(Vec::<Exported<'_>>::from_bytes(&results).unwrap().len() > 50);
    let results = Client::machine().results(&bench.mount, VERSION, 5, &());
    assert_eq!(Vec::<Exported<'_>>::from_bytes(&results).unwrap().len(), 1001);
}

#[test]
fn the_handle_is_the_one_that_a_kernel_can_be_told() {
    let bench = bench();
    let args = DirPath(b"/be/head");
    let results = Client::machine().results(&bench.mount, VERSION, 1, &args);
    let told = bench.site.exports.root_handle(ROOT).unwrap();
    let flavors = vec![1];
    let expected = MntRes::Ok { handle: FileHandle(told.as_bytes()), flavors };
    assert_eq!(MntRes::from_bytes(&results), Ok(expected));
}

#[test]
fn there_is_no_procedure_6() {
    let (outcome, _) = Client::machine().call(&bench().mount, VERSION, 6, &[]);
    assert_eq!(outcome, Outcome::ProcUnavail);
}

proptest::proptest! {
    #[test]
    fn any_arguments_are_answered(
        version in proptest::sample::select(&[VERSION_1, VERSION][..]),
        procedure in 0_u32..7,
        args in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
    ) {
        Client::machine().call(&bench().mount, version, procedure, &args);
    }

    #[test]
    fn any_path_is_answered_and_never_leaves_the_export(path in "[a-c./]{0,40}") {
        let path = format!("/be/head/{path}");
        let bench = bench();
        if let Ok(handle) = bench.mnt(&Client::machine(), &path) {
            proptest::prop_assert_eq!(handle, bench.tree.root());
        }
    }
}

/// A boot environment in which `usr/home` and `var/log` are file systems of their own.
fn nested() -> (Bench, [Arc<MemFs>; 2]) {
    let bench = Bench { tree: root_of_system(), ..bench() };
    let (files, branches) = nest(&bench.tree);
    bench.site.publish_files(ROOT, "head", files, open_to_all());
    (bench, branches)
}

fn root_of_system() -> Arc<MemFs> {
    Arc::new(MemFs::new().dir("/usr/home", 0o755).dir("/var/log", 0o755))
}

#[test]
fn a_path_over_a_border_gives_the_one_tree_that_all_see() {
    let (bench, [home, _]) = nested();
    let client = Client::machine();
    assert_eq!(bench.mnt(&client, "/be/head/usr/home"), Ok(home.root()));
    assert_eq!(bench.mnt(&client, "/be/head/usr/home/me"), Ok(home.at("/me")));
    assert_eq!(bench.view(&client, "/be/head/usr/home"), View::Joined);
}

#[test]
fn dots_over_a_border_are_taken_back_from_the_path() {
    for view in [View::Joined, View::Split] {
        let (bench, [home, _]) = nested();
        bench.site.booter.show(view);
        for (path, directory) in [
            ("/be/head/usr/home/..", bench.tree.at("/usr")),
            ("/be/head/usr/home/../home", home.root()),
            ("/be/head/usr/home/me/..", home.root()),
            ("/be/head/usr/home/me/../..", bench.tree.at("/usr")),
            ("/be/head/usr/home/../../../..", bench.tree.root()),
            ("/be/head/var/log/../../usr/home/me", home.at("/me")),
            ("/be/head/../usr/home", home.root()),
        ] {
            assert_eq!(bench.mnt(&Client::machine(), path), Ok(directory), "{view:?} {path}");
        }
        let none = bench.mnt(&Client::machine(), "/be/head/usr/home/messages");
        assert_eq!(none, Err(MountStat::NoEnt), "{view:?}");
    }
}

#[test]
fn a_link_is_followed_over_a_border_and_not_out_of_the_export() {
    let root = Arc::new(
        MemFs::new()
            .dir("/usr/home", 0o755)
            .dir("/var/log", 0o755)
            .symlink("/home", "usr/home")
            .symlink("/usr/up", "../../../other"),
    );
    for view in [View::Joined, View::Split] {
        let bench = Bench { tree: Arc::clone(&root), ..bench() };
        let (files, [home, _]) = nest(&root);
        bench.site.publish_files(ROOT, "head", files, open_to_all());
        bench.site.booter.show(view);
        let client = Client::machine();
        assert_eq!(bench.mnt(&client, "/be/head/home"), Ok(home.root()), "{view:?}");
        assert_eq!(bench.mnt(&client, "/be/head/home/me"), Ok(home.at("/me")), "{view:?}");
        for path in ["/be/head/usr/up", "/be/head/usr/up/x"] {
            let refused = bench.mnt(&Client::machine(), path);
            assert_eq!(refused, Err(MountStat::NotDir), "{view:?} {path}");
        }
    }
}

#[test]
fn a_data_set_is_not_mounted_on_a_link() {
    let root = Arc::new(MemFs::new().dir("/usr/real", 0o755).symlink("/usr/home", "real"));
    let home: Arc<dyn Tree> = Arc::new(MemFs::new().with_fsid(1).dir("/me", 0o755));
    let branch = vfs::Branch { path: "usr/home".to_owned(), tree: home };
    let tree = Arc::clone(&root) as Arc<dyn Tree>;
    let (files, refused) = crate::nfs::export::Files::nested(tree, vec![branch]);
    let problems: Vec<_> = refused.into_iter().map(|refused| refused.problem).collect();
    assert_eq!(problems, [vfs::BranchProblem::NotDirectory]);
    let bench = Bench { tree: root, ..bench() };
    bench.site.publish_files(ROOT, "head", files, open_to_all());
    for view in [View::Joined, View::Split] {
        bench.site.booter.show(view);
        let refused = bench.mnt(&Client::machine(), "/be/head/usr/home/me");
        assert_eq!(refused, Err(MountStat::NoEnt), "{view:?}");
        let real = bench.mnt(&Client::machine(), "/be/head/usr/real");
        assert_eq!(real, Ok(bench.tree.at("/usr/real")), "{view:?}");
    }
}

#[test]
fn a_machine_that_sees_data_sets_apart_mounts_each_by_its_path() {
    let (bench, [home, log]) = nested();
    bench.site.booter.show(View::Split);
    let client = Client::machine();
    for path in ["/", "/be/head", "/be/head/usr/home", "/be/head/var/log/"] {
        assert_eq!(bench.view(&client, path), View::Split, "{path}");
    }
    assert_eq!(bench.mnt(&client, "/"), Ok(bench.tree.root()));
    assert_eq!(bench.mnt(&client, "/be/head/usr"), Ok(bench.tree.at("/usr")));
    assert_eq!(bench.mnt(&client, "/be/head/usr/home"), Ok(home.root()));
    assert_eq!(bench.mnt(&client, "/be/head/usr/home/me"), Ok(home.at("/me")));
    assert_eq!(bench.mnt(&client, "/be/head/var/log/"), Ok(log.root()));
}

#[test]
fn who_shares_an_export_of_another_machine_sees_one_tree() {
    let (bench, _) = nested();
    bench.site.booter.show(View::Split);
    assert_eq!(bench.view(&Client::at(STRANGER), "/be/head"), View::Joined);
}

#[test]
fn every_line_of_the_generated_fstab_is_mounted_on_what_it_names() {
    let (bench, [home, log]) = nested();
    bench.site.booter.show(View::Split);
    let root = bootcfg::Root {
        server: std::net::Ipv4Addr::new(10, 77, 0, 1),
        path: "/be/head".to_owned(),
        datasets: vec!["usr/home".to_owned(), "var/log".to_owned()],
        view: bootcfg::View::Split,
        read_only: false,
        host: None,
    };
    let lines = bootcfg::fstab::nested(&root, bootcfg::fstab::Dialect::FreeBsd);
    let text = bootcfg::fstab::render(&lines).unwrap();
    let mounted: Vec<_> = text
        .lines()
        .map(|line| {
            let spec = line.split_whitespace().next().unwrap();
            let (_server, path) = spec.split_once(':').unwrap();
            bench.mnt(&Client::machine(), path).unwrap()
        })
        .collect();
    assert_eq!(mounted, [home.root(), log.root()]);
}

#[test]
fn what_is_short_for_a_moment_is_tried_again_and_nothing_else() {
    let mut failures = vec![FsError::NoEnt, FsError::Busy, FsError::Busy];
    let mut walk = || failures.pop().map_or(Ok(()), Err);
    assert_eq!(patiently(&mut walk), Err(FsError::NoEnt));
    assert_eq!(patiently(&mut walk), Ok(()));
}

//! A recorded boot, call by call: every call is answered as it was then, and a file has one handle
//! from the loader's first MNT over UDP to the running system over TCP.

use std::collections::HashMap;

use fixtures::session::{Kind, LOADER_EFI_12_1, Rpc, Session, Step, TFTP_BOOTP_12_1, Transport};
use vfs::{Caller, SetAttr};
use wire::mount3::{DirPath, MntRes};
use wire::nfs3::{
    AccessArgs, AccessRes, FsinfoRes, FsstatRes, GetattrRes, LookupRes, ReadArgs, ReadRes,
    ReaddirArgs, ReaddirRes, ReadlinkRes, Sattr, SetTime, SetattrArgs, SetattrRes, Status,
};

use super::*;
use crate::nfs::mount::Mount;

/// The calls of MOUNT and NFS in a recording, with their lines.
fn calls<'s, 'a>(session: &'s Session<'a>) -> Vec<(&'a str, &'s Rpc<'a>)> {
    let calls = session.steps.iter().filter_map(|step| Some((step.line, step.rpc()?)));
    calls.filter(|(_, call)| call.procedure != "GETPORT").collect()
}

/// A tree with every name that the recording finds, and none that it does not.
fn tree(session: &Session<'_>) -> MemFs {
    session.tree().into_iter().fold(MemFs::new(), |tree, node| match node.kind {
        Kind::Folder => tree.dir(&node.path, 0o755),
        Kind::Link => tree.symlink(&node.path, "elsewhere"),
        Kind::File { .. } => tree.file(&node.path, 0o755, node.path.repeat(100).as_bytes()),
    })
}

struct Player {
    bench: Bench,
    mount: Arc<Mount>,
    handles: HashMap<String, WireHandle>,
}

impl Player {
    fn new(tree: MemFs) -> Self {
        let bench = Bench::new(tree);
        let mount = Arc::new(Mount::new(
            Arc::clone(&bench.site.exports),
            Arc::clone(&bench.site.booter) as Arc<dyn Booter>,
            Arc::clone(&bench.site.clock) as Arc<dyn Clock>,
        ));
        Self { bench, mount, handles: HashMap::new() }
    }

    fn play(&mut self, line: &str, step: &Rpc<'_>) {
        let machine = Client::machine();
        self.bench.client = if step.transport == Transport::Udp { machine.udp() } else { machine };
        self.bench.client.peer.set_port(step.port);
        match step.procedure {
            "NULL" => assert!(self.bench.bytes(Procedure::Null, &()).is_empty()),
            "MNT" => self.mnt(line, step),
            "UMNT" => {
                let args = DirPath(step.args[0].as_bytes());
                assert!(self.bench.client.results(&self.mount, VERSION, 3, &args).is_empty());
            }
            "LOOKUP" => self.lookup(line, step),
            procedure => self.about_one_file(line, step, procedure),
        }
    }

    fn mnt(&mut self, line: &str, step: &Rpc<'_>) {
        let args = DirPath(step.args[0].as_bytes());
        let results = self.bench.client.results(&self.mount, VERSION, 1, &args);
        let MntRes::Ok { handle, flavors } = MntRes::from_bytes(&results).unwrap() else {
            panic!("{}", line)
        };
        assert_eq!(flavors, [1]);
        self.learn(line, step, handle);
    }

    fn lookup(&mut self, line: &str, step: &Rpc<'_>) {
        let dir = self.handles[step.args[0]];
        let found: LookupRes<'_> = self.bench.call(Procedure::Lookup, &op(&dir, step.args[1]));
        assert_eq!(found.status().number(), step.status, "{}", line);
        match found {
            LookupRes::Ok(found) => {
                assert!(found.attributes.is_some() && found.dir.is_some(), "{}", line);
                self.learn(line, step, found.object);
            }
            LookupRes::Fail(_, dir) => assert!(dir.is_some(), "{}", line),
        }
    }

    /// A handle has to be the one that it was before.
    fn learn(&mut self, line: &str, step: &Rpc<'_>, handle: FileHandle<'_>) {
        let (_, _, file) = self.bench.site.exports.open(handle.0).unwrap();
        let sealed = self.bench.sealed(&file);
        assert_eq!(sealed.as_bytes(), handle.0);
        let known = *self.handles.entry(step.handle.unwrap().to_owned()).or_insert(sealed);
        assert_eq!(known, sealed, "{}", line);
    }

    fn about_one_file(&self, line: &str, step: &Rpc<'_>, procedure: &str) {
        let handle = self.handles[step.args[0]];
        let object = fh(&handle);
        let number = |at: usize| step.args[at].parse().unwrap();
        let bench = &self.bench;
        let attributes = match procedure {
            "GETATTR" => bench.call::<GetattrRes>(Procedure::Getattr, &fs(&handle)).ok(),
            "READLINK" => {
                let link: ReadlinkRes<'_> = bench.call(Procedure::Readlink, &fs(&handle));
                link.ok().unwrap().attributes
            }
            "READ" => {
                let count = number(2);
                let offset = step.args[1].parse().unwrap();
                let args = ReadArgs { file: object, offset, count };
                let read: ReadRes<'_> = bench.call(Procedure::Read, &args);
                read.ok().unwrap().attributes
            }
            "READDIR" => {
                let args =
                    ReaddirArgs { dir: object, cookie: 0, verifier: [0; 8], count: number(1) };
                let list: ReaddirRes<'_> = bench.call(Procedure::Readdir, &args);
                list.ok().unwrap().dir
            }
            "ACCESS" => {
                let args = AccessArgs { object, access: 0x3f };
                let access: AccessRes = bench.call(Procedure::Access, &args);
                access.ok().unwrap().attributes
            }
            "FSINFO" => {
                bench.call::<FsinfoRes>(Procedure::Fsinfo, &fs(&handle)).ok().unwrap().attributes
            }
            "FSSTAT" => {
                bench.call::<FsstatRes>(Procedure::Fsstat, &fs(&handle)).ok().unwrap().attributes
            }
            "SETATTR" => {
                let attributes = Sattr { mtime: SetTime::Server, ..Sattr::default() };
                let args = SetattrArgs { object, attributes, guard: None };
                bench.call::<SetattrRes>(Procedure::Setattr, &args).ok().unwrap().after
            }
            other => panic!("{other} in a recording"),
        };
        assert!(attributes.is_some(), "{}", line);
    }
}

/// Plays single lines.
fn play(player: &mut Player, lines: &[&str]) {
    for line in lines {
        player.play(line, Step::parse(line).rpc().unwrap());
    }
}

#[test]
fn a_freebsd_machine_boots_from_loader_to_multi_user() {
    let session = Session::parse(LOADER_EFI_12_1);
    let mut player = Player::new(tree(&session));
    for (line, call) in calls(&session) {
        player.play(line, call);
    }
    assert!(player.handles.len() > 400);
}

#[test]
fn a_freebsd_kernel_has_its_root_over_udp() {
    let session = Session::parse(TFTP_BOOTP_12_1);
    let mut player = Player::new(tree(&session));
    for (line, call) in calls(&session) {
        player.play(line, call);
    }
    assert!(player.handles.len() > 400);
}

#[test]
fn a_freebsd_machine_goes_on_after_the_server_was_killed_at_any_moment() {
    let session = Session::parse(LOADER_EFI_12_1);
    let mut player = Player::new(tree(&session));
    for (number, (line, call)) in calls(&session).into_iter().enumerate() {
        if number % 100 == 99 {
            let tree = Arc::clone(&player.bench.tree);
            let restarted = Bench::of(Site::new(&tree), tree);
            let mount = Arc::new(Mount::new(
                Arc::clone(&restarted.site.exports),
                Arc::clone(&restarted.site.booter) as Arc<dyn Booter>,
                Arc::clone(&restarted.site.clock) as Arc<dyn Clock>,
            ));
            player = Player { bench: restarted, mount, handles: player.handles };
        }
        player.play(line, call);
    }
    assert!(player.handles.len() > 400);
}

/// The loader looks for what it does not need: the answer must be ENOENT, as it takes the status of
/// NFS for its own errno.
#[test]
fn what_a_loader_probes_for_in_vain_is_noent() {
    let mut player = Player::new(tree(&Session::parse(LOADER_EFI_12_1)));
    let (name, root) = (vfs::Name::new(b"late").unwrap(), player.bench.tree.root());
    player.bench.tree.mkdir(&Caller::ROOT, &root, name, &SetAttr::default()).unwrap();
    play(
        &mut player,
        &[
            "udp 1023 0x1 MNT /be/head = fh0",
            "udp 1023 0x2 LOOKUP fh0 late = fh1",
            "udp 1023 0x3 LOOKUP fh1 loader.rc ! 2",
        ],
    );
    assert_eq!(Status::NoEnt.number(), 2);
}

//! A recorded boot, call by call: every call is answered as it was then, and a file has one handle
//! from the loader's first MNT over UDP to the running system over TCP.

use std::collections::{HashMap, HashSet};

use vfs::{Caller, SetAttr};
use wire::mount3::{DirPath, MntRes};
use wire::nfs3::{
    AccessArgs, AccessRes, FsinfoRes, FsstatRes, GetattrRes, LookupRes, ReadArgs, ReadRes,
    ReaddirArgs, ReaddirRes, ReadlinkRes, Sattr, SetTime, SetattrArgs, SetattrRes, Status,
};

use super::*;
use crate::mount::Mount;

const FREEBSD_UEFI: &str = include_str!("../../../../fixtures/sessions/freebsd-uefi-12.1.txt");

const FREEBSD_BOOTP: &str = include_str!("../../../../fixtures/sessions/freebsd-bootp-12.1.txt");

/// One line of a recording.
#[derive(Clone, Copy, Debug)]
struct Step<'a> {
    line: &'a str,
    udp: bool,
    port: u16,
    procedure: &'a str,
    args: [&'a str; 3],
    /// The name of the handle that came back.
    handle: Option<&'a str>,
    /// The status that came back.
    status: u32,
}

fn steps(recording: &str) -> Vec<Step<'_>> {
    recording.lines().filter(|line| !line.starts_with('#')).map(step).collect()
}

fn step(line: &str) -> Step<'_> {
    let (call, status) = line.split_once(" ! ").unwrap_or((line, "0"));
    let (call, handle) = call.split_once(" = ").map_or((call, None), |(c, h)| (c, Some(h)));
    let mut words = call.split(' ');
    let mut word = || words.next().unwrap_or_default();
    Step {
        line,
        udp: word() == "udp",
        port: word().parse().unwrap(),
        procedure: word(),
        args: [word(), word(), word()],
        handle,
        status: status.parse().unwrap(),
    }
}

/// A tree with every name that the recording finds, and none that it does not.
fn tree(steps: &[Step<'_>]) -> MemFs {
    let mut paths = HashMap::from([("fh0", String::new())]);
    let mut found = Vec::new();
    for step in steps.iter().filter(|step| step.procedure == "LOOKUP") {
        if let Some(handle) = step.handle.filter(|handle| !paths.contains_key(handle)) {
            let path = format!("{}/{}", paths[step.args[0]], step.args[1]);
            paths.insert(handle, path);
            found.push(handle);
        }
    }
    let used_by = |procedures: &[&str]| -> HashSet<&str> {
        let calls = steps.iter().filter(|step| procedures.contains(&step.procedure));
        calls.map(|step| step.args[0]).collect()
    };
    let (dirs, links) = (used_by(&["LOOKUP", "READDIR"]), used_by(&["READLINK"]));
    found.into_iter().fold(MemFs::new(), |tree, handle| {
        let path = &paths[handle];
        if links.contains(handle) {
            tree.symlink(path, "elsewhere")
        } else if dirs.contains(handle) {
            tree.dir(path, 0o755)
        } else {
            tree.file(path, 0o755, path.repeat(100).as_bytes())
        }
    })
}

struct Player {
    bench: Bench,
    mount: Mount,
    handles: HashMap<String, WireHandle>,
}

impl Player {
    fn new(tree: MemFs) -> Self {
        let bench = Bench::new(tree);
        let mount = Mount::new(
            Arc::clone(&bench.site.exports),
            Arc::clone(&bench.site.booter) as Arc<dyn Booter>,
            Arc::clone(&bench.site.clock) as Arc<dyn Clock>,
        );
        Self { bench, mount, handles: HashMap::new() }
    }

    fn play(&mut self, step: Step<'_>) {
        let machine = Client::machine();
        self.bench.client = if step.udp { machine.udp() } else { machine };
        self.bench.client.peer.set_port(step.port);
        match step.procedure {
            "NULL" => assert!(self.bench.bytes(Procedure::Null, &()).is_empty()),
            "MNT" => self.mnt(step),
            "UMNT" => {
                let args = DirPath(step.args[0].as_bytes());
                assert!(self.bench.client.results(&self.mount, VERSION, 3, &args).is_empty());
            }
            "LOOKUP" => self.lookup(step),
            procedure => self.about_one_file(step, procedure),
        }
    }

    fn mnt(&mut self, step: Step<'_>) {
        let args = DirPath(step.args[0].as_bytes());
        let results = self.bench.client.results(&self.mount, VERSION, 1, &args);
        let MntRes::Ok { handle, flavors } = MntRes::from_bytes(&results).unwrap() else {
            panic!("{}", step.line)
        };
        assert_eq!(flavors, [1]);
        self.learn(step, handle);
    }

    fn lookup(&mut self, step: Step<'_>) {
        let dir = self.handles[step.args[0]];
        let found: LookupRes<'_> = self.bench.call(Procedure::Lookup, &op(&dir, step.args[1]));
        assert_eq!(found.status().number(), step.status, "{}", step.line);
        match found {
            LookupRes::Ok(found) => {
                assert!(found.attributes.is_some() && found.dir.is_some(), "{}", step.line);
                self.learn(step, found.object);
            }
            LookupRes::Fail(_, dir) => assert!(dir.is_some(), "{}", step.line),
        }
    }

    /// A handle has to be the one that it was before.
    fn learn(&mut self, step: Step<'_>, handle: FileHandle<'_>) {
        let (_, file) = self.bench.site.exports.open(handle.0).unwrap();
        let sealed = self.bench.sealed(&file);
        assert_eq!(sealed.as_bytes(), handle.0);
        let known = *self.handles.entry(step.handle.unwrap().to_owned()).or_insert(sealed);
        assert_eq!(known, sealed, "{}", step.line);
    }

    fn about_one_file(&self, step: Step<'_>, procedure: &str) {
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
        assert!(attributes.is_some(), "{}", step.line);
    }
}

#[test]
fn a_freebsd_machine_boots_from_loader_to_multi_user() {
    let steps = steps(FREEBSD_UEFI);
    let mut player = Player::new(tree(&steps));
    for step in &steps {
        player.play(*step);
    }
    assert!(player.handles.len() > 400);
}

#[test]
fn a_freebsd_kernel_has_its_root_over_udp() {
    let steps = steps(FREEBSD_BOOTP);
    let mut player = Player::new(tree(&steps));
    for step in &steps {
        player.play(*step);
    }
    assert!(player.handles.len() > 30);
}

#[test]
fn a_freebsd_machine_goes_on_after_the_server_was_killed_at_any_moment() {
    let steps = steps(FREEBSD_UEFI);
    let mut player = Player::new(tree(&steps));
    for (number, step) in steps.iter().enumerate() {
        if number % 100 == 99 {
            let tree = Arc::clone(&player.bench.tree);
            let restarted = Bench::of(Site::new(&tree), tree);
            let mount = Mount::new(
                Arc::clone(&restarted.site.exports),
                Arc::clone(&restarted.site.booter) as Arc<dyn Booter>,
                Arc::clone(&restarted.site.clock) as Arc<dyn Clock>,
            );
            player = Player { bench: restarted, mount, handles: player.handles };
        }
        player.play(*step);
    }
    assert!(player.handles.len() > 400);
}

/// The loader looks for what it does not need: the answer must be ENOENT, as it takes the status of
/// NFS for its own errno.
#[test]
fn what_a_loader_probes_for_in_vain_is_noent() {
    let steps = steps(FREEBSD_UEFI);
    let mut player = Player::new(tree(&steps));
    let (name, root) = (vfs::Name::new(b"late").unwrap(), player.bench.tree.root());
    player.bench.tree.mkdir(&Caller::ROOT, &root, name, &SetAttr::default()).unwrap();
    player.play(step("udp 1023 MNT /be/head = fh0"));
    player.play(step("udp 1023 LOOKUP fh0 late = fh1"));
    player.play(step("udp 1023 LOOKUP fh1 loader.rc ! 2"));
    assert_eq!(Status::NoEnt.number(), 2);
}

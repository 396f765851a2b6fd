//! Portmap, MOUNT and NFS as a recorded machine uses them, and what each result has to say.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use fixtures::session::{Rpc, Session, Transport};
use wire::codec::Codec;
use wire::mount3::{self, DirPath, MntRes};
use wire::nfs3::{
    self, AccessArgs, AccessRes, CreateArgs, CreateHow, CreateRes, DirOp, Fattr, FileHandle,
    Filename, FsArgs, FsinfoRes, FsstatRes, GetattrRes, LookupRes, PostOpAttr, Procedure, ReadArgs,
    ReadRes, ReaddirArgs, ReaddirRes, ReadlinkRes, Sattr, SetTime, SetattrArgs, SetattrRes,
};
use wire::portmap2::{self, Mapping};
use wire::xdr::{Decoder, Encoder};

use crate::calls::{Calls, Question};
use crate::machine::READ_SIZE;

/// A machine's view of the server's files.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    pub(crate) calls: Calls,
    session: &'a Session<'a>,
    /// How much its loader reads at once.
    pub(crate) read_size: u32,
    /// The root, on the server.
    root: PathBuf,
    /// The server's ports by program and protocol, as portmap told them.
    ports: HashMap<(u32, u32), u16>,
    handles: HashMap<&'a str, Vec<u8>>,
    /// File system and number of each handle's file: FreeBSD gives up when they change.
    identities: HashMap<&'a str, (u64, u64)>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(
        session: &'a Session<'a>,
        own: Ipv4Addr,
        server: Ipv4Addr,
        root: PathBuf,
    ) -> Self {
        Self {
            calls: Calls::new(own, server),
            session,
            read_size: READ_SIZE,
            root,
            ports: HashMap::new(),
            handles: HashMap::new(),
            identities: HashMap::new(),
        }
    }

    /// The handles that the server gave, by their names.
    pub(crate) const fn handles(&self) -> &HashMap<&'a str, Vec<u8>> {
        &self.handles
    }

    /// Takes a handle that somebody told before any call gave it; calls have to give the same.
    pub(crate) fn know(&mut self, name: &'a str, handle: Vec<u8>) {
        self.handles.insert(name, handle);
    }

    /// Makes a recorded call.
    pub(crate) fn play(&mut self, call: &Rpc<'a>) {
        match call.procedure {
            "GETPORT" => self.getport(call),
            "MNT" => self.mnt(call),
            "UMNT" => {
                let args = DirPath(call.args[0].as_bytes()).to_bytes();
                let procedure = mount3::Procedure::Umnt.number();
                assert!(self.mount(call, procedure, &args).is_empty());
            }
            "NULL" => assert!(self.nfs(call, Procedure::Null, &[]).is_empty()),
            "LOOKUP" => self.lookup(call),
            "READ" => (0..call.times.min(REPEATS)).for_each(|turn| self.read(call, turn)),
            "READDIR" => self.readdir(call),
            "CREATE" => self.create(call),
            other => self.about_one_file(call, other),
        }
    }

    fn getport(&mut self, call: &Rpc<'a>) {
        let [program, version, protocol] = call.args.map(|number| number.parse().unwrap());
        let mut args = Vec::new();
        let mapping = Mapping { program, version, protocol, port: 0 };
        mapping.encode(&mut Encoder::new(&mut args));
        let question = Question {
            program: portmap2::PROGRAM,
            version: portmap2::VERSION,
            procedure: portmap2::Procedure::GetPort.number(),
            // The loader and the kernel say who they are even here; the C library does not.
            as_root: call.port == LOADER_PORT,
            args: &args,
        };
        let results = self.calls.ask(call, portmap2::PORT, question);
        let port = Decoder::new(&results).u32().unwrap();
        assert_ne!(port, 0, "{call:?}: 0 means that there is no such service");
        self.ports.insert((program, protocol), port.try_into().unwrap());
    }

    fn mnt(&mut self, call: &Rpc<'a>) {
        let args = DirPath(call.args[0].as_bytes()).to_bytes();
        let results = self.mount(call, mount3::Procedure::Mnt.number(), &args);
        let MntRes::Ok { handle, flavors } = MntRes::from_bytes(&results).unwrap() else {
            panic!("{call:?}: {results:?}")
        };
        assert!(flavors.is_empty() || flavors.contains(&1), "AUTH_SYS is not among {flavors:?}");
        self.learn(call, handle);
    }

    fn lookup(&mut self, call: &Rpc<'a>) {
        let dir = self.handle(call);
        let args = DirOp { dir: FileHandle(&dir), name: Filename(call.args[1].as_bytes()) };
        let results = self.nfs(call, Procedure::Lookup, &args.to_bytes());
        let found = LookupRes::from_bytes(&results).unwrap();
        assert_eq!(found.status().number(), call.status, "{call:?}");
        match found {
            LookupRes::Ok(found) => {
                self.learn(call, found.object);
                self.same(call.handle.unwrap(), found.attributes);
                self.same(call.args[0], found.dir);
            }
            LookupRes::Fail(_, dir) => {
                self.same(call.args[0], dir);
            }
        }
    }

    /// Makes the `turn`th of a row of READs.
    fn read(&mut self, call: &Rpc<'a>, turn: u32) {
        let handle = self.handle(call);
        let first: u64 = call.args[1].parse().unwrap();
        let count: u32 = match call.transport {
            // As much as it was told, whatever the recorded one was.
            Transport::Udp => self.read_size,
            Transport::Tcp => call.args[2].parse().unwrap(),
        };
        let offset = first + u64::from(turn) * u64::from(count);
        let call = &Rpc { xid: call.xid.wrapping_add(turn), ..*call };
        let args = ReadArgs { file: FileHandle(&handle), offset, count };
        let results = self.nfs(call, Procedure::Read, &args.to_bytes());
        let read = ReadRes::from_bytes(&results).unwrap().ok().unwrap();
        self.same(call.args[0], read.attributes);
        let file = fs::File::open(self.path(call)).unwrap();
        let size = file.metadata().unwrap().len();
        let len = size.saturating_sub(offset).min(count.into());
        let mut expected = vec![0; len.try_into().unwrap()];
        file.read_exact_at(&mut expected, offset).unwrap();
        assert_eq!(read.data.len(), expected.len(), "{call:?}");
        assert!(read.data == expected, "{call:?} gave other bytes");
        assert_eq!(read.eof, offset + len >= size, "{call:?}");
    }

    /// Reads a whole directory, however many calls that takes.
    fn readdir(&mut self, call: &Rpc<'a>) {
        let handle = self.handle(call);
        let dir = FileHandle(&handle);
        let (mut cookie, mut verifier, mut names) = (0, [0; 8], Vec::new());
        loop {
            let args = ReaddirArgs { dir, cookie, verifier, count: call.args[1].parse().unwrap() };
            let results = self.nfs(call, Procedure::Readdir, &args.to_bytes());
            let list = ReaddirRes::from_bytes(&results).unwrap().ok().unwrap();
            self.same(call.args[0], list.dir);
            names.extend(list.entries.iter().map(|entry| entry.name.0.to_vec()));
            if list.eof {
                break;
            }
            (cookie, verifier) = (list.entries.last().unwrap().cookie, list.verifier);
        }
        let there = fs::read_dir(self.path(call)).unwrap();
        let there = there.map(|entry| entry.unwrap().file_name().into_encoded_bytes());
        let mut expected: BTreeSet<Vec<u8>> = there.collect();
        expected.extend([b".".to_vec(), b"..".to_vec()]);
        assert_eq!(names.len(), expected.len(), "{call:?}");
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), expected, "{call:?}");
    }

    fn create(&mut self, call: &Rpc<'a>) {
        let dir = self.handle(call);
        let place = DirOp { dir: FileHandle(&dir), name: Filename(call.args[1].as_bytes()) };
        let attributes = Sattr { mode: Some(0o600), size: Some(0), ..Sattr::default() };
        let args = CreateArgs { place, how: CreateHow::Unchecked(attributes) };
        let results = self.nfs(call, Procedure::Create, &args.to_bytes());
        let made = CreateRes::from_bytes(&results).unwrap().ok().unwrap();
        assert!(made.object.is_some() && made.attributes.is_some(), "{call:?}");
        self.same(call.args[0], made.dir.after);
        assert!(self.path(call).join(call.args[1]).is_file());
    }

    fn about_one_file(&mut self, call: &Rpc<'a>, procedure: &str) {
        let handle = self.handle(call);
        let object = FileHandle(&handle);
        let file = FsArgs { object }.to_bytes();
        let attributes = match procedure {
            "GETATTR" => {
                let results = self.nfs(call, Procedure::Getattr, &file);
                GetattrRes::from_bytes(&results).unwrap().ok()
            }
            "READLINK" => {
                let results = self.nfs(call, Procedure::Readlink, &file);
                let link = ReadlinkRes::from_bytes(&results).unwrap().ok().unwrap();
                let target = fs::read_link(self.path(call)).unwrap().into_os_string();
                assert_eq!(link.target.0, target.into_encoded_bytes());
                link.attributes
            }
            "ACCESS" => {
                let args = AccessArgs { object, access: 0x3f };
                let results = self.nfs(call, Procedure::Access, &args.to_bytes());
                let access = AccessRes::from_bytes(&results).unwrap().ok().unwrap();
                assert_ne!(access.access & 1, 0, "root may read everything");
                access.attributes
            }
            "FSINFO" => {
                let results = self.nfs(call, Procedure::Fsinfo, &file);
                let limits = FsinfoRes::from_bytes(&results).unwrap().ok().unwrap();
                // FreeBSD's kernel reads its root by as much, and would read by less.
                assert!(limits.read_max >= 0x8000 && limits.write_max >= 0x8000, "{limits:?}");
                limits.attributes
            }
            "FSSTAT" => {
                let results = self.nfs(call, Procedure::Fsstat, &file);
                FsstatRes::from_bytes(&results).unwrap().ok().unwrap().attributes
            }
            "SETATTR" => {
                let attributes = Sattr { mtime: SetTime::Server, ..Sattr::default() };
                let args = SetattrArgs { object, attributes, guard: None };
                let results = self.nfs(call, Procedure::Setattr, &args.to_bytes());
                SetattrRes::from_bytes(&results).unwrap().ok().unwrap().after
            }
            other => panic!("{other} in a recording"),
        };
        self.same(call.args[0], attributes);
    }

    fn mount(&mut self, call: &Rpc<'a>, procedure: u32, args: &[u8]) -> Vec<u8> {
        let (program, version) = (mount3::PROGRAM, mount3::VERSION);
        let question = Question { program, version, procedure, as_root: true, args };
        let port = self.ports[&(program, protocol(call.transport))];
        self.calls.ask(call, port, question)
    }

    fn nfs(&mut self, call: &Rpc<'a>, procedure: Procedure, args: &[u8]) -> Vec<u8> {
        let question = Question {
            program: nfs3::PROGRAM,
            version: nfs3::VERSION,
            procedure: procedure.number(),
            as_root: procedure != Procedure::Null,
            args,
        };
        // FreeBSD's kernel asks nobody where its root is served.
        let known = self.ports.get(&(nfs3::PROGRAM, protocol(call.transport)));
        let port = known.copied().unwrap_or(nfs3::PORT);
        self.calls.ask(call, port, question)
    }

    /// The handle that a call is about.
    fn handle(&self, call: &Rpc<'a>) -> Vec<u8> {
        self.handles[call.args[0]].clone()
    }

    /// The file that a call is about, on the server.
    fn path(&self, call: &Rpc<'a>) -> PathBuf {
        self.root.join(self.session.paths[call.args[0]].trim_start_matches('/'))
    }

    /// A file has one handle, over UDP and over TCP, before and after the server was started again.
    fn learn(&mut self, call: &Rpc<'a>, handle: FileHandle<'_>) {
        assert!((1..=64).contains(&handle.0.len()), "{handle:?}");
        let known = self.handles.entry(call.handle.unwrap()).or_insert_with(|| handle.0.to_vec());
        assert_eq!(known, handle.0, "{call:?} gave another handle than before");
    }

    /// Attributes have to be there, and to be those of the same file as before.
    fn same(&mut self, handle: &'a str, attributes: PostOpAttr) {
        let Fattr { fsid, fileid, .. } = attributes.unwrap_or_else(|| {
            panic!("no attributes of {handle}, {}", self.session.paths[handle]);
        });
        let known = *self.identities.entry(handle).or_insert((fsid, fileid));
        assert_eq!(known, (fsid, fileid), "{handle} became another file");
    }
}

const fn protocol(transport: Transport) -> u32 {
    match transport {
        Transport::Tcp => portmap2::TCP,
        Transport::Udp => portmap2::UDP,
    }
}

/// Port 1023 is the first that FreeBSD's loader and kernel use.
const LOADER_PORT: u16 = 1023;

/// So many of a long row of READs show all that it can show.
const REPEATS: u32 = 4;

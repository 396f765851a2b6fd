//! NFSv3 over TCP (RFC 1813): what an operation costs netbe, and NFS-Ganesha and nfsserve, or a netbe of another
//! commit, with all files in memory.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::{Network, SERVER};
use crate::packages;
use crate::peer;
use crate::process::Program;
use crate::server::{Server, Site};

use super::cost::{Meter, under_load};
use super::limits::Probe;
use super::nfs_rounds::{self, Round, Rounds};
use super::report::{Comparison, Report, locked};
use super::trial::{Side, Trial, compare};
use crate::rpc::{self, Client, Procedure, Work};
use crate::xdr::{Reader, long, opaque, word};

/// Measures every load in turns: beside NFS-Ganesha and nfsserve, or beside `earlier`, a netbe of another commit.
pub(super) fn measure(lab: &Lab, earlier: Option<&Path>) -> Result<Report, Failure> {
    let ours = Network::new()?;
    ours.address_the_client()?;
    let site = Site::new(lab.release()?, &ours, &lab.directory("bench nfs netbe")?);
    let server = share(&site)?;
    let netbe = Target::new(&ours, Meter::of(server.pid())?, &|| rpc::mount(EXPORT), "netbe")?;
    let compared = match earlier {
        Some(earlier) => vec![beside_netbe(lab, &netbe, earlier)?],
        None => {
            let root = site.root(ENVIRONMENT);
            vec![beside_ganesha(lab, &netbe, &root)?, beside_nfsserve(lab, &netbe, &root)?]
        }
    };
    let report = Report::new(lab, compared)?;
    server.stop()?;
    Ok(report)
}

fn beside_netbe(lab: &Lab, netbe: &Target<'_>, earlier: &Path) -> Result<Comparison, Failure> {
    let theirs = Network::new()?;
    theirs.address_the_client()?;
    let site = Site::new(earlier, &theirs, &lab.directory("bench nfs earlier")?);
    let server = share(&site)?;
    let peer = Target::new(&theirs, Meter::of(server.pid())?, &|| rpc::mount(EXPORT), "peer")?;
    let compared = measured(netbe, &peer, ("earlier", earlier.display().to_string()))?;
    server.stop()?;
    Ok(compared)
}

fn beside_ganesha(lab: &Lab, netbe: &Target<'_>, root: &Path) -> Result<Comparison, Failure> {
    install_ganesha()?;
    let theirs = Network::new()?;
    theirs.address_the_client()?;
    let ganesha = peer::ganesha(&theirs, &lab.directory("bench nfs ganesha")?, root)?;
    let meter = Meter::of_descendant(ganesha.pid(), "ganesha.nfsd")?;
    let mount = || rpc::mount(&root.display().to_string());
    let peer = Target::new(&theirs, meter, &mount, "peer")?;
    let version = Program::new("dpkg-query").words("-W -f ${Version} nfs-ganesha");
    measured(netbe, &peer, ("ganesha", version.run(Duration::from_secs(30))?))
}

/// nfsserve answers MOUNT on the port of NFS, and has no port mapper on its own.
fn beside_nfsserve(lab: &Lab, netbe: &Target<'_>, root: &Path) -> Result<Comparison, Failure> {
    let mirror = lab.peer(NFSSERVE)?;
    let theirs = Network::new()?;
    theirs.address_the_client()?;
    let log = lab.directory("bench nfs nfsserve")?.join("log");
    let mut server = theirs.server.program(&mirror.display().to_string());
    server = server.arg(format!("{SERVER}:{NFS_PORT}")).arg(root);
    let mut server = server.start(&log)?;
    let mount = || rpc::mount_by(Client::connect(NFS_PORT)?, "/")?;
    wait_for("nfsserve's start", Duration::from_secs(10), || {
        server.still(&log)?;
        Ok(theirs.inside(mount).ok())
    })?;
    let meter = Meter::of_descendant(server.pid(), NFSSERVE)?;
    let peer = Target::new(&theirs, meter, &mount, "peer")?;
    measured(netbe, &peer, ("nfsserve", locked("nfsserve")?))
}

fn install_ganesha() -> Result<(), Failure> {
    ensure(!packages::starts_services() || packages::is_installed("nfs-ganesha-vfs"), || {
        "install nfs-ganesha-vfs first: its installation starts services on this host".to_owned()
    })?;
    packages::install(&[packages::PEERS])
}

/// Starts a netbe that exports what is asked for.
fn share(site: &Site<'_>) -> Result<Server, Failure> {
    site.run(&format!("create {ENVIRONMENT}"))?;
    fill(&site.root(ENVIRONMENT))?;
    let words = "sharenfs --maproot root --network 10.77.0.0/24 --insecure";
    site.run(&format!("{words} {ENVIRONMENT}"))?;
    site.serve()
}

fn measured(
    netbe: &Target<'_>,
    peer: &Target<'_>,
    known: (&'static str, String),
) -> Result<Comparison, Failure> {
    let probes = [
        Probe::TcpEcho,
        Probe::RingEcho,
        Probe::TcpStream,
        Probe::TcpFile,
        Probe::RingCopy,
        Probe::RingFile,
    ];
    let trials: Vec<Trial<Load>> = LOADS.iter().map(|load| load.trial()).collect();
    compare(netbe.network, &probes, &trials, known, |side, load| match side {
        Side::Netbe => netbe.bear(load),
        Side::Peer => peer.bear(load),
    })
}

/// Fills the root with what is asked for.
fn fill(root: &Path) -> Result<(), Failure> {
    let what = format!("making files in {}", root.display());
    for (directory, entries) in [("entries", ENTRIES), ("many", MANY)] {
        let directory = root.join(directory);
        fs::create_dir(&directory).during(&what)?;
        for number in 0..entries {
            fs::write(directory.join(entry(number)), "x").during(&what)?;
        }
    }
    for made in ["small", "made-netbe", "made-peer"] {
        fs::create_dir(root.join(made)).during(&what)?;
    }
    for number in 0..nfs_rounds::SMALL {
        let content = [0x73; nfs_rounds::SIZE as usize];
        fs::write(root.join("small").join(nfs_rounds::small(number)), content).during(&what)?;
    }
    let block: Vec<u8> = (0..=u8::MAX).cycle().take(MIB).collect();
    for name in ["big", "written-netbe", "written-peer"] {
        let mut file = File::create(root.join(name)).during(&what)?;
        for _ in 0..BIG / MIB {
            file.write_all(&block).during(&what)?;
        }
        // What is written back later would cost time in the middle of a measurement.
        file.sync_all().during(&what)?;
    }
    Ok(())
}

fn entry(number: u32) -> String {
    format!("entry-{number:04}")
}

/// What is asked for, how many connections do, and how many calls each has on its way.
#[derive(Clone, Copy, Debug)]
struct Load {
    what: What,
    connections: usize,
    depth: usize,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// The same operation again and again.
    Operation(Operation),
    /// Calls that need each other's results.
    Round(Round),
}

impl Load {
    const fn new(operation: Operation, connections: usize, depth: usize) -> Self {
        Self { what: What::Operation(operation), connections, depth }
    }

    const fn rounds(round: Round, connections: usize) -> Self {
        Self { what: What::Round(round), connections, depth: 1 }
    }

    fn trial(self) -> Trial<Self> {
        let connections = self.connections;
        let name = match self.what {
            What::Operation(operation) => {
                format!("{}.c{connections}.d{}", operation.name(), self.depth)
            }
            What::Round(round) => format!("{}.c{connections}", round.name()),
        };
        Trial { names: vec![format!("{name}.cpu_us_per_op"), format!("{name}.per_s")], work: self }
    }
}

/// An operation; what is counted is calls, but MiB for those of 1 MiB, and entries of directories.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operation {
    Access,
    Getattr,
    Lookup,
    Read4k,
    Read32k,
    Read64k,
    Read1m,
    /// Asks for 1 MiB of a file of one byte.
    Readsmall,
    Readdirplus,
    Readdirplus10k,
    Write1m,
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Getattr => "getattr",
            Self::Lookup => "lookup",
            Self::Read4k => "read4k",
            Self::Read32k => "read32k",
            Self::Read64k => "read64k",
            Self::Read1m => "read1m",
            Self::Readsmall => "readsmall",
            Self::Readdirplus => "readdirplus",
            Self::Readdirplus10k => "readdirplus10k",
            Self::Write1m => "write1m",
        }
    }

    /// The number of the procedure (RFC 1813 §3.3).
    const fn procedure(self) -> u32 {
        match self {
            Self::Getattr => 1,
            Self::Lookup => 3,
            Self::Access => 4,
            Self::Read4k | Self::Read32k | Self::Read64k | Self::Read1m | Self::Readsmall => 6,
            Self::Write1m => 7,
            Self::Readdirplus | Self::Readdirplus10k => 17,
        }
    }

    /// How many bytes of a file it moves.
    const fn bytes(self) -> u32 {
        match self {
            Self::Read4k => 4096,
            Self::Read32k => 32 * 1024,
            Self::Read64k => 64 * 1024,
            Self::Readsmall => 1,
            Self::Read1m | Self::Write1m => 1024 * 1024,
            Self::Access
            | Self::Getattr
            | Self::Lookup
            | Self::Readdirplus
            | Self::Readdirplus10k => 0,
        }
    }
}

/// A server under load.
struct Target<'a> {
    network: &'a Network,
    meter: Meter,
    handles: Handles,
}

impl<'a> Target<'a> {
    /// Mounts what is exported; `name` tells which file this server writes.
    fn new(
        network: &'a Network,
        meter: Meter,
        mount: &(dyn Fn() -> Result<Vec<u8>, Failure> + Sync),
        name: &str,
    ) -> Result<Self, Failure> {
        let handles = network.inside(|| Handles::look_up(&mount()?, name))?;
        Ok(Self { network, meter, handles })
    }

    /// Puts a load onto the server; gives processor time in µs per unit, and units per second.
    fn bear(&self, load: &Load) -> Result<Vec<f64>, Failure> {
        let connect = |_number| Client::connect(NFS_PORT);
        let ask = |number, mut client: Client| {
            let until = Instant::now() + DURATION;
            match load.what {
                What::Operation(operation) => {
                    let mut asker = Asker::new(&self.handles, operation, number);
                    client.drive(load.depth, until, &mut asker)
                }
                What::Round(round) => {
                    let directory = match round {
                        Round::CreateRemove => &self.handles.made,
                        Round::SmallFile => &self.handles.small,
                    };
                    client.drive(load.depth, until, &mut Rounds::new(round, directory, number))
                }
            }
        };
        let (units, spent, elapsed) =
            under_load(self.network, self.meter, load.connections, connect, ask)?;
        let units: u64 = units.into_iter().sum();
        let units = units as f64;
        Ok(vec![spent.as_secs_f64() * 1e6 / units, units / elapsed.as_secs_f64()])
    }
}

/// The file handles of what is asked for.
#[derive(Default)]
struct Handles {
    entries: Vec<u8>,
    files: Vec<Vec<u8>>,
    many: Vec<u8>,
    small: Vec<u8>,
    made: Vec<u8>,
    big: Vec<u8>,
    written: Vec<u8>,
}

impl Handles {
    fn look_up(root: &[u8], name: &str) -> Result<Self, Failure> {
        let mut client = Client::connect(NFS_PORT)?;
        let mut find = |directory: &[u8], name: &str| {
            let mut arguments = Vec::new();
            opaque(&mut arguments, directory);
            opaque(&mut arguments, name.as_bytes());
            let procedure = Procedure(NFS, 3, Operation::Lookup.procedure());
            let results = client.call(procedure, &arguments)?;
            let mut reader = Reader::new(&results);
            let status = reader.word()?;
            ensure(status == 0, || format!("the server does not find {name}: status {status}"))?;
            Ok::<_, Failure>(reader.opaque()?.to_vec())
        };
        let entries = find(root, "entries")?;
        let files = (0..FILES).map(|number| find(&entries, &entry(number)));
        let files = files.collect::<Result<_, _>>()?;
        let (big, written) = (find(root, "big")?, find(root, &format!("written-{name}"))?);
        let (many, small) = (find(root, "many")?, find(root, "small")?);
        let made = find(root, &format!("made-{name}"))?;
        Ok(Self { entries, files, many, small, made, big, written })
    }
}

/// Asks for one operation on one file after the other.
struct Asker<'a> {
    handles: &'a Handles,
    operation: Operation,
    next: u32,
    /// Where READDIRPLUS goes on.
    cookie: u64,
    verifier: [u8; 8],
}

impl<'a> Asker<'a> {
    fn new(handles: &'a Handles, operation: Operation, number: usize) -> Self {
        // Clients begin at different places.
        let next = u32::try_from(number).unwrap_or(0) * 13;
        Self { handles, operation, next, cookie: 0, verifier: [0; 8] }
    }

    /// One of the files, another one each time.
    fn file(&self) -> &'a [u8] {
        let place = usize::try_from(self.next).unwrap_or(0) % self.handles.files.len().max(1);
        self.handles.files.get(place).map_or(&[], Vec::as_slice)
    }

    /// Where the next piece of a big file begins.
    fn offset(&self) -> u64 {
        let size = u64::from(self.operation.bytes());
        u64::from(self.next) * size % (BIG as u64)
    }

    /// Counts the entries of a READDIRPLUS reply (RFC 1813 §3.3.17), and remembers where it ended.
    fn list(&mut self, mut reader: Reader<'_>) -> Result<u32, Failure> {
        reader.optional(ATTRIBUTES)?;
        self.verifier.copy_from_slice(reader.bytes(8)?);
        let mut entries = 0;
        while reader.word()? != 0 {
            let _fileid = reader.long()?;
            reader.opaque()?;
            self.cookie = reader.long()?;
            reader.optional(ATTRIBUTES)?;
            if reader.word()? != 0 {
                reader.opaque()?;
            }
            entries += 1;
        }
        if reader.word()? != 0 {
            (self.cookie, self.verifier) = (0, [0; 8]);
        }
        ensure(entries > 0, || "a part of a directory has no entries".to_owned())?;
        Ok(entries)
    }
}

impl Work for Asker<'_> {
    fn procedure(&self) -> Procedure {
        Procedure(NFS, 3, self.operation.procedure())
    }

    fn arguments(&mut self, out: &mut Vec<u8>) {
        match self.operation {
            Operation::Access => {
                opaque(out, self.file());
                word(out, 0x3f);
            }
            Operation::Getattr => opaque(out, self.file()),
            Operation::Lookup => {
                opaque(out, &self.handles.entries);
                opaque(out, entry(self.next % ENTRIES).as_bytes());
            }
            Operation::Readsmall => {
                opaque(out, self.file());
                long(out, 0);
                word(out, Operation::Read1m.bytes());
            }
            Operation::Read4k | Operation::Read32k | Operation::Read64k | Operation::Read1m => {
                opaque(out, &self.handles.big);
                long(out, self.offset());
                word(out, self.operation.bytes());
            }
            Operation::Readdirplus | Operation::Readdirplus10k => {
                let is_many = self.operation == Operation::Readdirplus10k;
                opaque(out, if is_many { &self.handles.many } else { &self.handles.entries });
                long(out, self.cookie);
                out.extend_from_slice(&self.verifier);
                word(out, 8 * 1024);
                word(out, 32 * 1024);
            }
            Operation::Write1m => {
                opaque(out, &self.handles.written);
                long(out, self.offset());
                word(out, self.operation.bytes());
                // UNSTABLE: the disk is not what is measured.
                word(out, 0);
                opaque(out, PAYLOAD);
            }
        }
        self.next = self.next.wrapping_add(1);
    }

    fn appetite(&self) -> usize {
        match self.operation {
            Operation::Readdirplus | Operation::Readdirplus10k => 64 * 1024,
            Operation::Access
            | Operation::Getattr
            | Operation::Lookup
            | Operation::Read4k
            | Operation::Read32k
            | Operation::Read64k
            | Operation::Read1m
            | Operation::Readsmall
            | Operation::Write1m => 256,
        }
    }

    fn results(&mut self, mut reader: Reader<'_>) -> Result<u32, Failure> {
        let status = reader.word()?;
        ensure(status == 0, || format!("{}: status {status}", self.operation.name()))?;
        match self.operation {
            Operation::Readdirplus | Operation::Readdirplus10k => return self.list(reader),
            Operation::Read4k
            | Operation::Read32k
            | Operation::Read64k
            | Operation::Read1m
            | Operation::Readsmall => {
                reader.optional(ATTRIBUTES)?;
                self.complete(reader.word()?)?;
            }
            Operation::Write1m => {
                reader.optional(BEFORE)?;
                reader.optional(ATTRIBUTES)?;
                self.complete(reader.word()?)?;
            }
            Operation::Access | Operation::Getattr | Operation::Lookup => {}
        }
        Ok(1)
    }
}

impl Asker<'_> {
    /// Fails unless all bytes were moved.
    fn complete(&self, count: u32) -> Result<(), Failure> {
        ensure(count == self.operation.bytes(), || {
            format!("{}: the server moved {count} bytes", self.operation.name())
        })
    }
}

const LOADS: [Load; 22] = [
    Load::new(Operation::Getattr, 1, 1),
    Load::new(Operation::Getattr, 1, 32),
    Load::new(Operation::Getattr, 8, 32),
    Load::new(Operation::Lookup, 1, 1),
    Load::new(Operation::Lookup, 1, 32),
    Load::new(Operation::Access, 1, 32),
    Load::new(Operation::Read4k, 1, 1),
    Load::new(Operation::Read4k, 1, 32),
    Load::new(Operation::Read32k, 1, 8),
    Load::new(Operation::Read32k, 8, 8),
    Load::new(Operation::Read64k, 1, 8),
    Load::new(Operation::Readsmall, 1, 32),
    Load::new(Operation::Read1m, 1, 1),
    Load::new(Operation::Read1m, 1, 4),
    Load::new(Operation::Read1m, 8, 4),
    Load::new(Operation::Write1m, 1, 1),
    Load::new(Operation::Write1m, 1, 4),
    Load::new(Operation::Readdirplus, 1, 1),
    Load::new(Operation::Readdirplus10k, 1, 1),
    Load::rounds(Round::SmallFile, 1),
    Load::rounds(Round::CreateRemove, 1),
    Load::rounds(Round::CreateRemove, 32),
];
/// How long each measurement takes.
const DURATION: Duration = Duration::from_millis(400);
/// What both have.
const ENVIRONMENT: &str = "bench";
/// The program that serves by nfsserve.
const NFSSERVE: &str = "nfsserve-mirror";
/// By which path a netbe gives it.
const EXPORT: &str = "/be/bench";
const ENTRIES: u32 = 1000;
/// The entries of a longer directory.
const MANY: u32 = 10_000;
/// How many different files are asked for.
const FILES: u32 = 100;
const MIB: usize = 1024 * 1024;
/// The size of the files that are read and written.
const BIG: usize = 64 * MIB;
/// What is written: the same bytes each time.
static PAYLOAD: &[u8] = &[0x5a; MIB];
pub(super) const NFS: u32 = 100_003;
const NFS_PORT: u16 = 2049;
/// The size of a file's attributes (RFC 1813 §2.6, `fattr3`).
pub(super) const ATTRIBUTES: usize = 84;
/// The size of the attributes before a change (RFC 1813 §2.6, `wcc_attr`).
const BEFORE: usize = 24;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn figures_have_the_names_that_are_agreed_on() {
        let names = Load::new(Operation::Getattr, 1, 32).trial().names;
        assert_eq!(names, ["getattr.c1.d32.cpu_us_per_op", "getattr.c1.d32.per_s"]);
        let names = Load::rounds(Round::CreateRemove, 32).trial().names;
        assert_eq!(names, ["create_remove.c32.cpu_us_per_op", "create_remove.c32.per_s"]);
    }

    #[test]
    fn a_directory_is_read_on_where_it_ended() {
        let handles = Handles::default();
        let mut asker = Asker::new(&handles, Operation::Readdirplus, 0);
        let mut reply = Vec::new();
        // No attributes, a verifier, one entry without attributes and handle, not the end.
        [0, 0, 9, 1].into_iter().for_each(|value| word(&mut reply, value));
        long(&mut reply, 77);
        opaque(&mut reply, b"name");
        long(&mut reply, 5);
        [0, 0, 0, 0].into_iter().for_each(|value| word(&mut reply, value));
        assert_eq!(asker.list(Reader::new(&reply)).unwrap(), 1);
        assert_eq!((asker.cookie, asker.verifier), (5, [0, 0, 0, 0, 0, 0, 0, 9]));
    }

    #[test]
    fn a_short_read_is_a_failure() {
        let handles = Handles::default();
        let mut asker = Asker::new(&handles, Operation::Read4k, 0);
        let mut reply = Vec::new();
        [0, 0, 4095].into_iter().for_each(|value| word(&mut reply, value));
        assert!(asker.results(Reader::new(&reply)).is_err());
    }
}

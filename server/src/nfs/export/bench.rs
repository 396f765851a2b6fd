//! A small site for tests: one tree, a machine whose root it is, and a booter that remembers reports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use fixtures::MemFs;
use store::{ExportSettings, Identity};
use uuid::Uuid;
use wire::codec::Codec;

use super::{Export, Exports, Files, SiteKey};
use crate::boot::usage::Usage;
use crate::boot::{
    Answer, Ask, BootFile, Booter, ClientAddress, Event, FileError, FileRequest, Reservation, Root,
    Roots,
};
use crate::clock::{Clock as _, FakeClock};
use crate::net::Mac;
use crate::net::rpc::{Call, Credential, Outcome, Program, Progress, Transport};
use crate::site::machine::View;

/// The boot environment that the machine has as its root.
pub(crate) const ROOT: Uuid = Uuid::from_u128(1);

/// The machine.
pub(crate) const MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 100));

/// Somebody who has no root here.
pub(crate) const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));

/// Everything that MOUNT and NFS are made of.
pub(crate) struct Site {
    pub(crate) exports: Arc<Exports>,
    pub(crate) booter: Arc<Reporter>,
    pub(crate) clock: Arc<FakeClock>,
}

impl Site {
    /// A site that exports `tree` as `/be/head`, for its own machine only.
    pub(crate) fn new(tree: &Arc<MemFs>) -> Self {
        Self::with_settings(tree, ExportSettings::default())
    }

    pub(crate) fn with_settings(tree: &Arc<MemFs>, settings: ExportSettings) -> Self {
        let clock = Arc::new(FakeClock::new());
        let usage = Arc::new(Usage::new(clock.now()));
        let exports = Arc::new(Exports::new(SiteKey::new([7; 16]), usage));
        let site = Self { exports, booter: Arc::default(), clock };
        site.publish(ROOT, "head", tree, settings);
        site
    }

    /// Exports one more boot environment, as `/be/` and its name.
    pub(crate) fn publish(
        &self,
        environment: Uuid,
        name: &str,
        tree: &Arc<MemFs>,
        settings: ExportSettings,
    ) {
        let files = Files::whole(Arc::clone(tree) as Arc<dyn vfs::Tree>);
        self.publish_files(environment, name, files, settings);
    }

    pub(crate) fn publish_files(
        &self,
        environment: Uuid,
        name: &str,
        files: Files,
        settings: ExportSettings,
    ) {
        let export = Export {
            environment,
            name: name.to_owned(),
            path: format!("/be/{name}"),
            files,
            settings,
        };
        self.exports.publish(export).unwrap();
    }
}

/// A FreeBSD's `usr/home` and `var/log` as file systems of their own, in this order.
pub(crate) fn nest(root: &Arc<MemFs>) -> (Files, [Arc<MemFs>; 2]) {
    let home = Arc::new(MemFs::new().with_fsid(1).file("/me/letter", 0o644, b"hello"));
    let log = Arc::new(MemFs::new().with_fsid(2).file("/messages", 0o644, b""));
    let branch = |path: &str, tree: &Arc<MemFs>| {
        let tree: Arc<dyn vfs::Tree> = Arc::<MemFs>::clone(tree);
        vfs::Branch { path: path.to_owned(), tree }
    };
    let branches = vec![branch("usr/home", &home), branch("var/log", &log)];
    let (files, refused) = Files::nested(Arc::clone(root) as Arc<dyn vfs::Tree>, branches);
    assert_eq!(refused, []);
    (files, [home, log])
}

/// Settings that let everybody in and leave root what it is.
pub(crate) fn open_to_all() -> ExportSettings {
    ExportSettings {
        shared: true,
        networks: vec!["0.0.0.0/0".parse().unwrap()],
        maproot: Some(Identity::root()),
        ..ExportSettings::default()
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) credential: Credential,
}

impl Client {
    /// The machine's superuser, over TCP.
    pub(crate) fn machine() -> Self {
        Self::at(MACHINE)
    }

    pub(crate) fn at(address: IpAddr) -> Self {
        let credential = Credential::Sys { uid: 0, gid: 0, gids: Vec::new() };
        Self { peer: SocketAddr::new(address, 1023), transport: Transport::Tcp, credential }
    }

    pub(crate) fn user(self, uid: u32, gid: u32) -> Self {
        Self { credential: Credential::Sys { uid, gid, gids: Vec::new() }, ..self }
    }

    pub(crate) fn udp(self) -> Self {
        Self { transport: Transport::Udp, ..self }
    }

    /// Calls a program as the engine does: inline, and what has to wait as the pool does. The
    /// reply begins behind a head, as it does there.
    pub(crate) fn call(
        &self,
        program: &dyn Program,
        version: u32,
        procedure: u32,
        args: &[u8],
    ) -> (Outcome, Vec<u8>) {
        let call = Call {
            version,
            procedure,
            credential: self.credential.clone(),
            peer: self.peer,
            local: SocketAddr::new(Ipv4Addr::new(10, 77, 0, 1).into(), 2049),
            transport: self.transport,
            back: None,
            args,
        };
        let mut reply = b"head".to_vec();
        let ended = match program.call(&call, &mut reply) {
            Progress::Done(ended) => ended,
            Progress::Park(parked) => {
                assert_eq!(reply, b"head", "what would wait must leave the reply alone");
                parked.resume(&call, &mut reply)
            }
            Progress::Later(_) => panic!("nothing here is answered later"),
        };
        assert_eq!(reply[..4], *b"head");
        assert!(ended.payload.is_none(), "no tree in memory gives data by a pipe");
        let outcome = ended.outcome;
        if outcome != Outcome::Success {
            assert_eq!(reply.len(), 4, "only a success has results");
        }
        (outcome, reply.split_off(4))
    }

    /// Calls and expects results.
    pub(crate) fn results<'a>(
        &self,
        program: &dyn Program,
        version: u32,
        procedure: u32,
        args: &impl Codec<'a>,
    ) -> Vec<u8> {
        let (outcome, results) = self.call(program, version, procedure, &args.to_bytes());
        assert_eq!(outcome, Outcome::Success);
        assert!(results.len().is_multiple_of(4), "XDR is padded");
        results
    }
}

/// A booter that knows one machine and remembers what it is told.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    reports: Mutex<Vec<(ClientAddress, Event)>>,
    view: Mutex<View>,
    awaited: Mutex<Option<String>>,
}

impl Reporter {
    /// Why the machine has no root from now on, or that it has one.
    pub(crate) fn await_root(&self, reason: Option<&str>) {
        *self.awaited.lock().unwrap() = reason.map(str::to_owned);
    }

    /// How the machine sees its root from now on.
    pub(crate) fn show(&self, view: View) {
        *self.view.lock().unwrap() = view;
    }

    /// What was reported since the last look.
    pub(crate) fn take(&self) -> Vec<(ClientAddress, Event)> {
        std::mem::take(&mut self.reports.lock().unwrap())
    }
}

impl Booter for Reporter {
    fn reservation(&self, _mac: Mac) -> Option<Reservation> {
        None
    }

    fn reserved_for(&self, _address: Ipv4Addr) -> Option<String> {
        None
    }

    fn unreserved(&self) -> Vec<Vec<Mac>> {
        Vec::new()
    }

    fn lives(&self, _address: Ipv4Addr) -> bool {
        false
    }

    fn decide(&self, _ask: &Ask) -> Option<Answer> {
        None
    }

    fn open(&self, _request: &FileRequest<'_>) -> Result<BootFile, FileError> {
        Err(FileError::NotFound)
    }

    fn roots_of(&self, address: IpAddr) -> Roots {
        let view = *self.view.lock().unwrap();
        let root = Root { machine: "desk".into(), environment: ROOT, read_only: false, view };
        let has_root = is_machine(address) && self.awaited.lock().unwrap().is_none();
        Roots::new(has_root.then_some(root), Vec::new())
    }

    fn awaited_root(&self, address: IpAddr) -> Option<String> {
        self.awaited.lock().unwrap().clone().filter(|_| is_machine(address))
    }

    fn report(&self, client: ClientAddress, event: Event) {
        self.reports.lock().unwrap().push((client, event));
    }
}

/// Whether the machine is at this address: whoever calls over real sockets is it.
fn is_machine(address: IpAddr) -> bool {
    address == MACHINE || address.is_loopback()
}

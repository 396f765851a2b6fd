//! A machine that boots as a recorded one did.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use fixtures::session::{self, Dhcp, Kind, Message, Session, Tftp};
use nix::sched::{CloneFlags, setns};

use crate::bench::{Net, SERVER, Site};
use crate::dhcp::{self, Link, Reply};
use crate::files::Files;
use crate::tftp::{self, Ending};

/// The Ethernet address of the recorded machines.
pub(crate) const MAC: &str = "52:54:00:77:00:01";

/// What the server is told: it hands out one address after the other from the recorded one on.
pub(crate) const SERVE: [&str; 4] = ["--mode", "serve", "--range", "10.77.0.100-10.77.0.199"];

/// The network card.
pub(crate) const CARD: &str = "c0";

/// The root path of everything that mounts.
pub(crate) const ROOT_PATH: &str = "10.77.0.1:/be/head";

/// A machine, switched on and without an address yet.
pub(crate) struct Machine<'a> {
    pub(crate) files: Files<'a>,
    /// The root path that its loader is to be told.
    pub(crate) loader_root: &'a str,
    /// What its loader was told for the kernel's environment.
    pub(crate) kenv: Vec<String>,
    card: &'a str,
    mac: [u8; 6],
    net: &'a Net,
    session: &'a Session<'a>,
    tftp: tftp::Tftp,
    own: Ipv4Addr,
    root: PathBuf,
    offer: Option<Reply>,
    /// The boot file that DHCP named.
    boot_file: String,
}

impl<'a> Machine<'a> {
    /// Switches the machine of a session on, in the namespace of this thread.
    pub(crate) fn new(net: &'a Net, site: &Site, session: &'a Session<'a>) -> Self {
        Self::with_card(net, site, session, CARD, 0)
    }

    /// Switches the machine on whose Ethernet address and IP address are so many numbers higher.
    pub(crate) fn with_card(
        net: &'a Net,
        site: &Site,
        session: &'a Session<'a>,
        card: &'a str,
        number: u8,
    ) -> Self {
        let (own, server) = (Ipv4Addr::new(10, 77, 0, 100 + number), SERVER.parse().unwrap());
        let root = root(site);
        Self {
            files: Files::new(session, own, server, root.clone()),
            loader_root: ROOT_PATH,
            kenv: Vec::new(),
            card,
            mac: [0x52, 0x54, 0, 0x77, 0, 1 + number],
            net,
            session,
            tftp: tftp::Tftp::new(own, server),
            own,
            root,
            offer: None,
            boot_file: String::new(),
        }
    }

    /// The handle of its root that its loader was told, as the kernel reads it.
    pub(crate) fn told_handle(&self) -> Vec<u8> {
        let told = |name: &str| {
            let mut values = self.kenv.iter().filter_map(|text| text.split_once('='));
            values.find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name}")).1
        };
        let server = told("boot.nfsroot.server");
        assert_eq!((server, told("boot.nfsroot.path")), (SERVER, "/be/head"));
        handle(told("boot.nfsroot.nfshandle"), told("boot.nfsroot.nfshandlelen"))
    }

    /// Takes one step of the boot, by its number, and checks the answer.
    pub(crate) fn play(&mut self, step: usize) {
        match &self.session.steps[step].message {
            Message::Dhcp(message) => self.dhcp(message),
            Message::Rpc(call) => self.files.play(call),
            Message::Tftp(file) => self.tftp(step, file),
        }
    }

    fn dhcp(&mut self, message: &Dhcp) {
        if message.source.is_unspecified() {
            self.net.client(&["ip", "address", "flush", "dev", self.card]);
        }
        let link = Link::open(self.card);
        let mut payload = message.payload.clone();
        payload[28..34].copy_from_slice(&self.mac);
        let kind = dhcp::options(&payload).into_iter().find(|(code, _)| *code == 53).unwrap().1;
        if kind == [DISCOVER] {
            let offer = link.ask(&payload);
            self.expect(&offer, &payload, OFFER);
            self.offer = Some(offer);
            return;
        }
        let offer = self.offer.take().unwrap();
        dhcp::put(&mut payload, 50, &offer.yiaddr().octets());
        dhcp::put(&mut payload, 54, offer.option(54).unwrap());
        let ack = link.ask(&payload);
        self.expect(&ack, &payload, ACK);
        assert_eq!(ack.promise(), offer.promise(), "the ACK differs from its OFFER");
        self.boot_file = ack.file();
        let address = format!("{}/24", self.own);
        self.net.client(&["ip", "address", "replace", &address, "dev", self.card]);
    }

    /// What every answer to this machine has to say.
    fn expect(&mut self, reply: &Reply, message: &[u8], kind: u8) {
        assert_eq!(reply.option(53), Some(&[kind][..]));
        assert_eq!(reply.yiaddr(), self.own);
        assert_eq!(reply.siaddr().to_string(), SERVER);
        assert_eq!(reply.option(54), Some(&reply.siaddr().octets()[..]));
        assert_eq!(reply.option(1), Some(&[255, 255, 255, 0][..]));
        // Also to who does not ask: pxeboot 10.1 and kernels send no list of options.
        let class = dhcp::options(message).into_iter().find(|(code, _)| *code == 60).unwrap().1;
        let is_loader = class == b"PXEClient";
        let root_path = if is_loader { self.loader_root } else { ROOT_PATH };
        assert_eq!(reply.option(17), Some(root_path.as_bytes()));
        if is_loader {
            self.kenv = reply.kenv();
            let nolockd = "boot.nfsroot.options=nolockd".to_owned();
            assert!(self.kenv.contains(&nolockd), "{:?}", self.kenv);
            let told = self.kenv.iter().find_map(|text| text.strip_prefix("nfs.read_size="));
            self.files.read_size = told.map_or(READ_SIZE, |size| size.parse().unwrap());
        }
    }

    fn tftp(&mut self, step: usize, file: &Tftp<'_>) {
        let next = self.session.steps.get(step + 1).and_then(|step| step.tftp());
        let goes_on = next.is_some_and(|next| next.name == file.name);
        let is_firmware = !file.name.contains('/');
        if is_firmware {
            assert_eq!(self.boot_file, file.name, "the boot file that DHCP names");
        }
        let ending = match (is_firmware, goes_on) {
            (true, true) => Ending::Declined,
            (true, false) => Ending::Finished,
            (false, true) => Ending::Dropped,
            (false, false) => Ending::Unanswered,
        };
        let fetched = self.tftp.fetch(file.port, file.name, &file.options, ending);
        if file.name.ends_with("/boot/loader.conf.local") {
            // The recorded server had none. Without this line Lua loaders of 12.x stop.
            let text = String::from_utf8(fetched.unwrap().1).unwrap();
            assert!(text.ends_with("kernels_autodetect=\"NO\"\n"), "{text:?}");
            return;
        }
        if file.error != 0 {
            assert_eq!(fetched, Err(file.error), "{}", file.name);
            return;
        }
        let (size, came) = fetched.unwrap();
        let there = fs::read(self.root.join(file.path().trim_start_matches('/'))).unwrap();
        let len = u64::try_from(there.len()).unwrap();
        assert!(size.is_none_or(|size| size == len), "{}: {size:?} instead of {len}", file.name);
        assert!(there.starts_with(&came), "{}: other bytes", file.name);
        let whole = matches!(ending, Ending::Finished | Ending::Unanswered);
        assert!(!whole || came.len() == there.len(), "{}: not all of it", file.name);
    }
}

/// A handle as a kernel reads it (nfs_setup_diskless): `X`, two digits a byte, `X`, and its length.
pub(crate) fn handle(text: &str, len: &str) -> Vec<u8> {
    let digits = text.strip_prefix('X').and_then(|text| text.strip_suffix('X')).unwrap();
    let pairs = (0..digits.len()).step_by(2);
    let bytes: Vec<u8> =
        pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
    assert_eq!(len.parse(), Ok(bytes.len()));
    bytes
}

/// A site whose boot environment `head` holds what the machine of a session found; that machine is
/// named, and boots it.
pub(crate) fn site(session: &Session<'_>) -> Site {
    let site = Site::new();
    site.done(&["create", "head"]);
    let root = root(&site);
    for node in session.tree() {
        let path = root.join(node.path.trim_start_matches('/'));
        match node.kind {
            Kind::Folder => fs::create_dir_all(path).unwrap(),
            Kind::Link => symlink("elsewhere", path).unwrap(),
            Kind::File { len } => fs::write(path, session::content(&node.path, len)).unwrap(),
        }
    }
    // Whatever firmware the machine has, an environment has a kernel and every loader.
    for name in ["kernel/kernel", "loader.efi", "pxeboot"] {
        let path = root.join("boot").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::options().append(true).create(true).open(path).unwrap();
    }
    site.done(&["machine", "add", "--mac", MAC, "--environment", "head", "web1"]);
    site
}

/// The root of the boot environment `head`.
pub(crate) fn root(site: &Site) -> PathBuf {
    site.state().join("store/be/head")
}

/// Runs `client` in the clients' namespace, whose card gets the machine's address.
///
/// It runs on a thread of its own, because a thread does not find its way back out.
pub(crate) fn at_client<T: Send>(net: &Net, client: impl FnOnce() -> T + Send) -> T {
    net.client(&["ip", "link", "set", CARD, "address", MAC]);
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let namespace = File::open(format!("/run/netns/{}", net.client)).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            client()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What FreeBSD's loader reads at once when it is told nothing (stand/libsa/nfs.c).
pub(crate) const READ_SIZE: u32 = 1024;

const DISCOVER: u8 = 1;

const OFFER: u8 = 2;

const ACK: u8 = 5;

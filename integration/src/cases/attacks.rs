//! What a neighbour on the network can do to a machine that lives, and what it gets.
//!
//! The machine is a client program that boots as iPXE and a Linux do: DHCP, its script by HTTP, DHCP
//! again, and then its root over NFS, which it uses from one connection.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::dhcp_client::{self, Kind};
use crate::failure::{During, Failure, ensure};
use crate::forged::{self, Kind as Dhcp, Message, Sender};
use crate::lab::Lab;
use crate::net::{CLIENT_INTERFACE, Namespace, PREFIX, SERVER};
use crate::process::tail;
use crate::rpc::{self, Client, Procedure};
use crate::scene::Scene;
use crate::server::{Server, Site};
use crate::suite::{Case, Outcome};
use crate::xdr::{Reader, long, opaque, word};

pub(super) const CASES: &[Case] = &[
    Case::new("attack forged release", forged_release).light(),
    Case::new("attack discover unroots", discover_unroots).light(),
    Case::new("attack second machine with the same MAC", same_address),
    Case::new("attack boot files of another", boot_files).light(),
    Case::new("attack starvation by DISCOVERs", starvation).light(),
    Case::new("attack UDP amplification", amplification).light(),
];

/// A neighbour declines and releases a living machine's address and asks for one in its name, again and
/// again: the machine keeps its root, and no other address reaches it.
fn forged_release(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = neighbour(lab)?;
    let (site, server) = served(&scene, "")?;
    let mut victim = Victim::boots(&scene, "victim")?;
    victim.lives("before")?;
    let message = |kind| Message::new(kind, MAC);
    let own = victim.address;
    let server_address = address(SERVER)?;
    let given = scene.network.inside(|| {
        let socket = forged::socket(CLIENT_INTERFACE)?;
        let mut given = Vec::new();
        for round in 0..3 {
            let xid = 0x2000 + round * 16;
            let server = Some(server_address);
            let release = Message { own: Some(own), server, ..message(Dhcp::Release) };
            forged::send(&socket, &release, xid)?;
            let decline = Message { wanted: Some(own), server, ..message(Dhcp::Decline) };
            forged::send(&socket, &decline, xid + 1)?;
            for (step, sender) in (2..).step_by(2).zip([Sender::System, Sender::Ipxe]) {
                let discover = Message { sender, ..message(Dhcp::Discover) };
                let Some(offer) = forged::ask(&socket, &discover, xid + step)? else { continue };
                let wanted = Some(offer.given);
                let request = Message { wanted, server, sender, ..message(Dhcp::Request) };
                if let Some(answer) = forged::ask(&socket, &request, xid + step + 1)? {
                    given.extend((answer.kind == ACK).then_some(answer.given));
                }
            }
        }
        Ok(given)
    })?;
    victim.lives("after")?;
    for address in given.into_iter().filter(|given| *given != own) {
        let client = &scene.network.client;
        client.ip(&format!("address replace {address}/{PREFIX} dev {CLIENT_INTERFACE}"))?;
        let status = scene.network.inside(|| rpc::mount_as_root("/be/victim", 901))?;
        client.ip(&format!("address del {address}/{PREFIX} dev {CLIENT_INTERFACE}"))?;
        ensure(status.is_err(), || format!("{address}, which a neighbour got, mounts the root"))?;
    }
    victim.lives("in the end")?;
    end(&site, server)
}

/// A neighbour begins boots in the name of a machine whose root is new at each boot, and fetches their
/// scripts: the machine keeps its root and what it wrote there.
fn discover_unroots(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = neighbour(lab)?;
    let (site, server) = served(&scene, "--root fresh")?;
    let mut victim = Victim::boots(&scene, "victim-golden")?;
    victim.lives("before")?;
    for round in 0..3 {
        let script = scene.network.inside(|| {
            let socket = forged::socket(CLIENT_INTERFACE)?;
            let sender = Sender::Ipxe;
            let discover = Message { sender, ..Message::new(Dhcp::Discover, MAC) };
            let Some(offer) = forged::ask(&socket, &discover, 0x3000 + round * 2)? else {
                return Ok(String::new());
            };
            let (wanted, server) = (Some(offer.given), Some(address(SERVER)?));
            let request = Message { wanted, server, sender, ..Message::new(Dhcp::Request, MAC) };
            let answer = forged::ask(&socket, &request, 0x3001 + round * 2)?;
            Ok(answer.map_or(offer.file, |answer| answer.file))
        })?;
        victim.lives("after a DISCOVER")?;
        if !script.is_empty() {
            drop(get(&scene.network.client, &script)?);
        }
        // What is done behind a fetch is done by now.
        thread::sleep(Duration::from_secs(3));
        victim.lives("after its script was fetched")?;
    }
    end(&site, server)
}

/// A second machine with the Ethernet address of one that lives and makes calls boots: the first keeps
/// its root.
fn same_address(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = neighbour(lab)?;
    let (site, server) = served(&scene, "--root fresh")?;
    let mut victim = Victim::boots(&scene, "victim-golden")?;
    victim.lives("before")?;
    let second = Namespace::new()?;
    scene.network.join(&second)?;
    second.ip(&format!("link set {CLIENT_INTERFACE} address {}", text(MAC)))?;
    // Firmware knows nothing of the first one's connections, and does not reset them.
    second.ip("rule add pref 1 ipproto tcp dport 2049 blackhole")?;
    let parts = lab.parts()?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let living = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                victim.lives("beside the second one")?;
                thread::sleep(Duration::from_millis(200));
            }
            Ok(())
        });
        for _ in 0..2 {
            // Whether it gets anything is not asked here.
            if let Ok(lease) = dhcp_client::lease(&second, &scene.directory, parts, Kind::Ipxe) {
                drop(get(&second, lease.boot_file()));
            }
            drop(second.ip(&format!("address flush dev {CLIENT_INTERFACE}")));
            thread::sleep(Duration::from_secs(5));
        }
        stop.store(true, Ordering::Relaxed);
        living.join().map_err(|_panic| Failure::said("the first machine ended early"))?
    })?;
    victim.lives("in the end")?;
    end(&site, server)
}

/// A neighbour asks for the script and the kernel of a living machine's boot: it gets neither.
fn boot_files(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = neighbour(lab)?;
    let (site, server) = served(&scene, "")?;
    let victim = Victim::boots(&scene, "victim")?;
    let (own, script) = get(&victim.namespace, &victim.script)?;
    ensure(own == "200", || format!("the machine's own script: HTTP status {own}"))?;
    let urls = script.split_whitespace().filter(|word| word.starts_with("http://"));
    let mut urls: Vec<String> = urls.map(str::to_owned).collect();
    ensure(!urls.is_empty(), || format!("the script has no address in it:\n{script}"))?;
    urls.push(victim.script.clone());
    for url in urls {
        let (status, body) = get(&scene.network.client, &url)?;
        ensure(status != "200", || {
            format!("a neighbour got {} bytes of {url}, which is another machine's", body.len())
        })?;
    }
    end(&site, server)
}

/// A neighbour asks for addresses in so many names that there is none left: a named machine gets one.
fn starvation(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = neighbour(lab)?;
    let site = scene.site();
    scene.environment("golden", "true")?;
    site.machine("victim", &text(MAC), "golden")?;
    let words = "serve --interface lan --mode serve --range 10.77.0.50-10.77.0.69";
    let server = site.serve_as(words)?;
    let offered = scene.network.inside(|| {
        let socket = forged::socket(CLIENT_INTERFACE)?;
        socket.set_read_timeout(Some(Duration::from_millis(500))).during("forged messages")?;
        let (server, mut taken, mut refused) = (address(SERVER)?, 0, 0);
        for number in 0..60 {
            let other = [0x02, 0, 0, 0, 1, number];
            let xid = 0x4000 + 2 * u32::from(number);
            let discover = Message::new(Dhcp::Discover, other);
            let Some(offer) = forged::ask(&socket, &discover, xid)? else {
                refused += 1;
                // There is none left.
                if refused == 4 { break } else { continue }
            };
            let (wanted, server) = (Some(offer.given), Some(server));
            let request = Message { wanted, server, ..Message::new(Dhcp::Request, other) };
            taken += i32::from(forged::ask(&socket, &request, xid + 1)?.is_some());
        }
        ensure(taken >= 15, || format!("only {taken} addresses were taken in invented names"))?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).during("forged messages")?;
        let discover = Message { sender: Sender::Ipxe, ..Message::new(Dhcp::Discover, MAC) };
        for xid in 0x5000..0x5003 {
            if let Some(offer) = forged::ask(&socket, &discover, xid)? {
                return Ok(Some(offer));
            }
        }
        Ok(None)
    })?;
    ensure(offered.is_some(), || "a named machine got no offer".to_owned())?;
    end(&site, server)
}

/// What a datagram with a forged source can have sent to somebody else: little more than itself.
fn amplification(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = neighbour(lab)?;
    let site = scene.site();
    scene.environment("golden", "true")?;
    for number in 0..40 {
        site.run(&format!("create environment-with-a-name-{number}"))?;
        // Who may use one is told of them by UDP too.
        site.run(&format!("sharenfs --network 10.99.0.0/24 environment-with-a-name-{number}"))?;
    }
    site.run("sharepxe --default golden")?;
    let server = site.serve()?;
    scene.network.inside(|| {
        let server = address(SERVER)?;
        let mount = rpc::port_of_udp(MOUNT, 3)?;
        for (what, port, procedure) in [
            ("DUMP of the port mapper", 111, Procedure(100_000, 2, 4)),
            ("EXPORT of MOUNT", mount, Procedure(MOUNT, 3, 5)),
            ("DUMP of MOUNT", mount, Procedure(MOUNT, 3, 2)),
        ] {
            let call = rpc::datagram(1, procedure, &[]);
            let (count, bytes) = answers(&call, (server, port), Duration::from_secs(2))?;
            ensure(bytes <= FACTOR * call.len(), || {
                format!("{what} by UDP: {bytes} bytes in {count} answers for {} bytes", call.len())
            })?;
        }
        // A client without options that never acknowledges.
        let request = b"\0\x01undionly.kpxe\0octet\0";
        let (count, bytes) = answers(request, (server, 69), Duration::from_secs(12))?;
        ensure(count <= 1, || {
            format!(
                "TFTP without options: {bytes} bytes in {count} answers for {} bytes",
                request.len()
            )
        })
    })?;
    end(&site, server)
}

/// How many answers come to a datagram in so long, and how many bytes they have.
fn answers(
    message: &[u8],
    server: (Ipv4Addr, u16),
    time: Duration,
) -> Result<(usize, usize), Failure> {
    let what = "a datagram";
    let socket = UdpSocket::bind("0.0.0.0:0").during(what)?;
    socket.send_to(message, server).during(what)?;
    let until = Instant::now() + time;
    let (mut count, mut bytes, mut buffer) = (0, 0, vec![0; 64 * 1024]);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).during(what)?;
        if let Ok(length) = socket.recv(&mut buffer) {
            count += 1;
            bytes += length;
        }
    }
    Ok((count, bytes))
}

/// The scene of an attack; the neighbour is its client side, with an address of its own.
pub(super) fn neighbour(lab: &Lab) -> Result<Scene<'_>, Failure> {
    let scene = Scene::new(lab)?;
    scene.network.address_the_client()?;
    Ok(scene)
}

/// A site that serves, with the machine `victim`; `root` says where its root comes from.
fn served<'a>(scene: &'a Scene<'_>, root: &str) -> Result<(Site<'a>, Server), Failure> {
    let site = scene.site();
    let environment = if root.is_empty() { "victim" } else { "golden" };
    scene.environment(environment, "true")?;
    site.named("victim", &text(MAC))?;
    site.run(&format!("sharepxe --machine victim {root} {environment}"))?;
    let server = site.serve()?;
    Ok((site, server))
}

pub(super) fn end(site: &Site<'_>, mut server: Server) -> Result<Outcome, Failure> {
    server.check()?;
    server
        .stop()
        .map_err(|failure| failure.retold(|words| format!("{words}\n{}", tail(&site.log(), 10))))?;
    Ok(Outcome::Passed)
}

/// A machine that lives on its root.
pub(super) struct Victim {
    pub(super) namespace: Namespace,
    /// Where its script was.
    script: String,
    pub(super) address: Ipv4Addr,
    client: Client,
    root: Vec<u8>,
    /// How many files it has written.
    written: u32,
}

impl Victim {
    /// The machine boots; its root is this environment.
    pub(super) fn boots(scene: &Scene<'_>, environment: &str) -> Result<Self, Failure> {
        let namespace = Namespace::new()?;
        scene.network.join(&namespace)?;
        namespace.ip(&format!("link set {CLIENT_INTERFACE} address {}", text(MAC)))?;
        let parts = scene.lab.parts()?;
        let lease = dhcp_client::lease(&namespace, &scene.directory, parts, Kind::Ipxe)?;
        let script = lease.boot_file().to_owned();
        let (status, _script) = get(&namespace, &script)?;
        ensure(status == "200", || format!("{script}: HTTP status {status}"))?;
        let lease = dhcp_client::lease(&namespace, &scene.directory, parts, Kind::Ordinary)?;
        let path = format!("/be/{environment}");
        ensure(lease.field("rootpath").contains(&path), || {
            format!("the machine's root is {:?}, not {path}", lease.field("rootpath"))
        })?;
        let address = address(lease.field("ip"))?;
        let (client, root) = namespace.inside(|| {
            let root = rpc::mount_as_root(&path, 800)??;
            Ok((Client::connect_as_root(NFS_PORT, 801)?, root))
        })?;
        Ok(Self { namespace, script, address, client, root, written: 0 })
    }

    /// Looks at its root, writes a file there, and reads all that it wrote before.
    pub(super) fn lives(&mut self, when: &str) -> Result<(), Failure> {
        let mut arguments = Vec::new();
        opaque(&mut arguments, &self.root);
        self.ask(when, "GETATTR", 1, &arguments)?;
        let name = format!("written-{}", self.written);
        let mut arguments = Vec::new();
        opaque(&mut arguments, &self.root);
        opaque(&mut arguments, name.as_bytes());
        // UNCHECKED, and nothing of six attributes is set.
        [0; 7].into_iter().for_each(|value| word(&mut arguments, value));
        self.ask(when, "CREATE", 8, &arguments)?;
        self.written += 1;
        for number in 0..self.written {
            let mut arguments = Vec::new();
            opaque(&mut arguments, &self.root);
            opaque(&mut arguments, format!("written-{number}").as_bytes());
            let results = self.ask(when, "LOOKUP", 3, &arguments)?;
            let mut reader = Reader::new(&results);
            let _status = reader.word()?;
            let file = reader.opaque()?.to_vec();
            let mut arguments = Vec::new();
            opaque(&mut arguments, &file);
            if number + 1 == self.written {
                long(&mut arguments, 0);
                word(&mut arguments, 4);
                // FILE_SYNC
                word(&mut arguments, 2);
                opaque(&mut arguments, &number.to_be_bytes());
                self.ask(when, "WRITE", 7, &arguments)?;
            } else {
                long(&mut arguments, 0);
                word(&mut arguments, 4);
                let results = self.ask(when, "READ", 6, &arguments)?;
                ensure(results.ends_with(&number.to_be_bytes()), || {
                    format!("{when}: the machine reads other bytes than it wrote")
                })?;
            }
        }
        Ok(())
    }

    /// Calls, and calls again as long as the answer is "later".
    fn ask(
        &mut self,
        when: &str,
        name: &str,
        number: u32,
        arguments: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let begin = Instant::now();
        loop {
            let results = self.client.call(Procedure(NFS, 3, number), arguments)?;
            let status = Reader::new(&results).word()?;
            match status {
                0 => return Ok(results),
                JUKEBOX if begin.elapsed() < Duration::from_secs(20) => {
                    thread::sleep(Duration::from_millis(200));
                }
                _other => {
                    return Err(Failure::Said(format!(
                        "{when}: {name} of a living machine has the status {status}"
                    )));
                }
            }
        }
    }
}

/// What curl gets from a namespace: the HTTP status, and the body.
fn get(from: &Namespace, url: &str) -> Result<(String, String), Failure> {
    let curl = from.program("curl").words("-s -m 20 -w").arg("\n%{http_code}").arg(url);
    let done = curl.finish(Duration::from_secs(30))?;
    let (body, status) = done.stdout.rsplit_once('\n').unwrap_or(("", ""));
    Ok((status.to_owned(), body.to_owned()))
}

fn address(text: &str) -> Result<Ipv4Addr, Failure> {
    text.parse().map_err(|_error| Failure::said(format!("{text:?} is no address")))
}

pub(super) fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The machine's Ethernet address.
pub(super) const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x77, 0x00, 0x01];
const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
const NFS_PORT: u16 = 2049;
const JUKEBOX: u32 = 10_008;
/// DHCPACK.
const ACK: u8 = 5;
/// How much longer than the question all answers by UDP may be.
const FACTOR: usize = 4;

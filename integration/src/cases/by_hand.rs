//! What published set-ups did by hand: the commands of the pages in `docs/by-hand`, as they stand there.
//!
//! A page is one script, in the network of a host of its own. What it writes below /etc, /usr and /var lies in memory,
//! over what this host has there, and nobody else sees it.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use super::first::Host;
use super::store::no_btrfs;
use crate::disk::own_mounts;
use crate::failure::{During, Failure, ensure};
use crate::guest;
use crate::lab::Lab;
use crate::net::{CLIENT_INTERFACE, Network};
use crate::packages;
use crate::process::{Program, tail};
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("commands of the pages by hand, thin jails", thin_jails).light(),
    Case::new("commands of the pages by hand, jails on NFS", jails_on_nfs).light(),
    Case::new("commands of the pages by hand, jails in Consul", jails_in_consul).light(),
    Case::new("commands of the pages by hand, be", be).light(),
    // A whole Debian starts in it.
    Case::new("commands of the pages by hand, containers on btrfs", containers),
];

fn thin_jails(lab: &Lab) -> Result<Outcome, Failure> {
    let page = Page::open(lab, "thin-jails.md", "192.168.7.1")?;
    page.host.run(SETS, LIMIT)?;
    page.run()
}

fn jails_on_nfs(lab: &Lab) -> Result<Outcome, Failure> {
    Page::open(lab, "cbsd-on-nfs.md", "172.16.0.1")?.run()
}

/// With a real Consul, which remembers nothing of another one.
fn jails_in_consul(lab: &Lab) -> Result<Outcome, Failure> {
    let program = packages::unpacked_of(&lab.cache, "bullseye", "consul")?.join("usr/bin/consul");
    let page = Page::open(lab, "cbsd-and-consul.md", "192.168.7.1")?;
    let agent = page.host.network.server.program(&program.display().to_string());
    let agent = agent.words("agent -dev -bind 127.0.0.1 -client 127.0.0.1 -log-level warn");
    let log = page.host.directory.join("consul.log");
    let _agent = agent.start(&log)?;
    let leads =
        "until curl -sf http://127.0.0.1:8500/v1/status/leader | grep -q :; do sleep 1; done";
    page.host.run(leads, LIMIT)?;
    page.run().map_err(|failure| {
        failure.retold(|said| format!("{said}\nConsul's last words:\n{}", tail(&log, 10)))
    })
}

/// The machine that the page wakes hears the magic packet.
fn be(lab: &Lab) -> Result<Outcome, Failure> {
    let page = Page::open(lab, "be.md", "192.168.2.1")?;
    page.host.run(SETS, LIMIT)?;
    let client = &page.host.network.client;
    client.ip(&format!("address add 192.168.2.50/24 dev {CLIENT_INTERFACE}"))?;
    let sleeper = client.inside(|| UdpSocket::bind(("0.0.0.0", 9)).during("port 9"))?;
    let outcome = page.run()?;
    sleeper.set_read_timeout(Some(LIMIT)).during("port 9")?;
    let mut packet = [0; 200];
    let length = sleeper.recv(&mut packet).during("no magic packet came")?;
    let expected = [[0xff; 6].as_slice(), &[2, 1, 2, 3, 4, 5].repeat(16)].concat();
    ensure(packet.get(..length) == Some(expected.as_slice()), || {
        format!("the machine heard {:02x?}", packet.get(..length))
    })?;
    Ok(outcome)
}

/// On a real btrfs, with a real container.
fn containers(lab: &Lab) -> Result<Outcome, Failure> {
    let mut page = Page::open(lab, "nspawn-on-btrfs.md", "10.77.0.1")?;
    let (image, mounted) = (page.host.directory.join("image"), page.host.directory.join("mounted"));
    fs::create_dir(&mounted).during(mounted.display())?;
    Program::new("truncate").words("-s 4G").arg(&image).run(LIMIT)?;
    Program::new("mkfs.btrfs").arg("-q").arg(&image).run(LIMIT)?;
    let mount = Program::new("mount").words("-t btrfs -o loop").arg(&image).arg(&mounted);
    if !mount.finish(LIMIT)?.status.success() {
        return Ok(no_btrfs());
    }
    let store = mounted.join("store");
    page.host.store = format!("btrfs:{}", store.display());
    page.host.run("netbe create -l flat debian", LIMIT)?;
    guest::furnish_systemd(&lab.cache, &store.join("be/debian"))?;
    let outcome = page.run();
    // A container of a page that ended early would outlive it.
    drop(page.host.run("netbe stop --timeout 0 --all", LIMIT));
    outcome
}

/// A page, and the host on which its commands are typed.
struct Page<'a> {
    host: Host<'a>,
    commands: String,
}

impl<'a> Page<'a> {
    /// Reads a page, and makes its host: with this address on `br0`.
    ///
    /// No other thread may run yet.
    fn open(lab: &'a Lab, name: &str, address: &'static str) -> Result<Self, Failure> {
        own_mounts()?;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/by-hand").join(name);
        let text = fs::read_to_string(&path).during(path.display())?;
        let commands = commands(&text)?;
        let typed = commands.lines().filter(|line| line.contains("netbe ")).count();
        ensure(typed > 10, || format!("{name} has no commands any more"))?;
        let network = Network::of("br0", address)?;
        let host = Host::new(lab, network, "by hand")?;
        cover(&host.directory.join("cover"))?;
        Ok(Self { host, commands })
    }

    fn run(&self) -> Result<Outcome, Failure> {
        let script = format!("{BEGIN}\n{}\n{END}", self.commands);
        let done = self.host.shell(&script)?.run(PAGE_LIMIT);
        done.map_err(|failure| {
            let log = self.host.directory.join("serve.log");
            failure.retold(|said| {
                let words = fs::read_to_string(&log).map(|_| tail(&log, 10)).unwrap_or_default();
                format!("{said}\nnetbe's last words:\n{words}")
            })
        })?;
        Ok(Outcome::Passed)
    }
}

/// The commands of a page: its blocks for sh(1), but for those whose first line says why the lab leaves them out.
fn commands(text: &str) -> Result<String, Failure> {
    let mut commands = String::new();
    for block in text.split("\n```sh\n").skip(1) {
        let block = block.split("\n```").next().unwrap_or_default();
        match block.strip_prefix(LEFT_OUT) {
            None => commands += &format!("{block}\n"),
            Some(rest) => {
                let (reason, left_out) = rest.split_once('\n').unwrap_or((rest, ""));
                ensure(!reason.trim().is_empty() && !left_out.is_empty(), || {
                    format!("a block is left out for no reason, or has no command: {block}")
                })?;
                println!("      not run,{reason}: {}", left_out.replace('\n', "; "));
            }
        }
    }
    Ok(commands)
}

/// Has what is written below the host's system directories lie in memory.
fn cover(place: &Path) -> Result<(), Failure> {
    fs::create_dir(place).during(place.display())?;
    Program::new("mount").words("-t tmpfs none").arg(place).run(LIMIT)?;
    for name in ["etc", "usr", "var"] {
        let (upper, work) = (place.join(name), place.join(format!("{name}.work")));
        for directory in [&upper, &work] {
            fs::create_dir(directory).during(directory.display())?;
        }
        let options =
            format!("lowerdir=/{name},upperdir={},workdir={}", upper.display(), work.display());
        let mount = Program::new("mount").words("-t overlay -o").args([options.as_str(), "none"]);
        mount.arg(format!("/{name}")).run(LIMIT)?;
    }
    Ok(())
}

/// How the first line of a block begins that is left out; the reason follows.
const LEFT_OUT: &str = "# not in the lab:";
/// A server is started in the background, and waited for: who types opens a second terminal.
const BEGIN: &str = r#"
cd
server=
netbe() {
    case " $* " in
        *" -n "*) command netbe "$@" ;;
        " serve "*)
            command netbe "$@" >serve.log 2>&1 &
            server=$!
            until grep -q '^  DHCP ' serve.log; do
                kill -0 $server
                sleep 0.2
            done
            ;;
        *) command netbe "$@" ;;
    esac
}
set -x
"#;
/// The server ends well.
const END: &str = "
[ -z \"$server\" ] || { kill $server; wait $server; }
";
/// FreeBSD's distribution sets in small, with the MANIFEST that names them.
const SETS: &str = r#"
mkdir -p /usr/freebsd-dist ~/base/boot ~/kernel/boot/kernel
cd ~/base
mkdir -p bin dev etc/ssl/certs home lib root sbin tmp usr/bin usr/local/etc usr/share/certs/trusted var/db var/empty
cp /bin/sh bin/sh
echo loader >boot/pxeboot
echo loader >boot/loader.efi
echo 'root:*:0:0::0:0::/root:/bin/sh' >etc/master.passwd
echo certificate >usr/share/certs/trusted/CA.pem
ln -s ../../../usr/share/certs/trusted/CA.pem etc/ssl/certs/5ad8a.0
echo kernel >~/kernel/boot/kernel/kernel
cd /usr/freebsd-dist
for set in base kernel; do
    tar -cJf $set.txz -C ~/$set .
    sum=$(sha256sum $set.txz)
    printf '%s.txz\t%s\t2\t%s\t"%s"\ton\n' $set ${sum%% *} $set $set >>MANIFEST
done
"#;
const LIMIT: Duration = Duration::from_secs(120);
/// How long a page may take: on a computer with much else to do a container takes minutes.
const PAGE_LIMIT: Duration = Duration::from_secs(900);

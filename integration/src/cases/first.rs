//! The first machine of somebody who has read README: its commands, as they stand there, and a login.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::chain::{self, Chain};
use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::Network;
use crate::packages::{self, DEBIAN};
use crate::process::{Program, Running, tail};
use crate::scene::{BOOT_LIMIT, Scene, mac, with_log};
use crate::suite::{Case, Outcome};
use crate::vm::{Firmware, Hardware, Machine};

pub(super) const CASES: &[Case] = &[
    // Installs a whole Debian from a mirror, and boots it twice, emulated: half an hour.
    Case::new("readme's commands make a machine in which one logs in by ssh", login).when_named(),
    Case::new("commands of the pages as they stand, tutorial", |lab| {
        page(lab, "tutorial-linux.md", "10.77.0.1")
    })
    .light(),
    Case::new("commands of the pages as they stand, clones", |lab| {
        page(lab, "howto-clones.md", "10.77.0.1")
    })
    .light(),
    Case::new("commands of the pages as they stand, proxy", |lab| {
        page(lab, "howto-dhcp-beside.md", "10.0.0.1")
    })
    .light(),
    Case::new("a refused machine shows why, by iPXE's ROM", |lab| {
        refused(lab, Firmware::Bios, "", "unknown machine, and no default environment")
    }),
    Case::new("a refused machine shows why, by UEFI", |lab| {
        refused(lab, Firmware::Uefi, "--loader grub", "no boot environment is assigned to alone")
    }),
    Case::new("a refused machine shows why, by GRUB", |lab| rootless(lab, &chain::GRUB)),
    Case::new("a refused machine shows why, by pxelinux", |lab| rootless(lab, &chain::PXELINUX)),
];

/// A machine whose root cannot be made says so on its screen by the loader that was chosen for it: the
/// snapshot that its root is to be a clone of is gone.
fn rootless(lab: &Lab, chain: &Chain) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    scene.environment("guest", "true")?;
    chain.machine(lab, &site, "alone", &mac(1), "guest")?;
    site.run("snapshot guest@monday")?;
    site.run("sharepxe --machine alone --root fresh guest@monday")?;
    site.run("destroy -f guest@monday")?;
    let server = site.serve()?;
    let mut machine = scene.switch_on("alone", chain.firmware, 1)?;
    let shown = wait_for("the reason on its screen", BOOT_LIMIT, || {
        let said = machine.said();
        let shown = said.contains("this machine boots nothing") && said.contains("guest@monday");
        if !shown {
            machine.still_on()?;
        }
        Ok(shown.then_some(()))
    });
    shown.map_err(|failure| machine.explain(with_log(&site, failure)))?;
    let status = site.run("status")?;
    ensure(status.contains("guest@monday"), || format!("the status is: {status}"))?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// A machine that boots nothing says so on its own screen, in the words of `netbe status`. With options for
/// `netbe machine add` it is a named one.
fn refused(lab: &Lab, firmware: Firmware, options: &str, why: &str) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create empty")?;
    if !options.is_empty() {
        site.run(&format!("machine add --mac {} {options} alone", mac(1)))?;
    }
    let server = site.serve()?;
    let mut machine = scene.switch_on("alone", firmware, 1)?;
    let shown = wait_for("the reason on its screen", BOOT_LIMIT, || {
        let said = machine.said();
        let shown = said.contains("this machine boots nothing") && said.contains(why);
        if !shown {
            machine.still_on()?;
        }
        Ok(shown.then_some(()))
    });
    shown.map_err(|failure| machine.explain(with_log(&site, failure)))?;
    let status = site.run("status")?;
    ensure(status.contains(why), || format!("the status is: {status}"))?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// The host of README, on which its commands are typed.
pub(super) struct Host<'a> {
    /// Its network: it has the bridge.
    pub(super) network: Network,
    /// Its home, with all that is its own.
    pub(super) directory: PathBuf,
    /// Its store.
    pub(super) store: String,
    netbe: &'a Path,
}

impl<'a> Host<'a> {
    /// A host in a directory of its own, with a store that is not there yet.
    pub(super) fn new(lab: &'a Lab, network: Network, name: &str) -> Result<Self, Failure> {
        let directory = lab.directory(name)?;
        let store = format!("dir:{}", directory.join("store").display());
        Ok(Self { network, directory, store, netbe: lab.netbe()? })
    }

    /// A line as a shell takes it, in the namespace of the bridge or, for who needs a mirror, outside.
    pub(super) fn shell(&self, line: &str) -> Result<Program, Failure> {
        let shell = match line.starts_with("netbe install ") {
            true => Program::new("sh"),
            false => self.network.server.program("sh"),
        };
        let bin = self.netbe.parent().unwrap_or(self.netbe).display().to_string();
        Ok(shell
            .env(
                "PATH",
                format!("{bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            )
            .env("HOME", &self.directory)
            .env("NETBE_STATE", self.directory.join("state"))
            .env("NETBE_STORE", &self.store)
            .args(["-euc", line]))
    }

    pub(super) fn run(&self, line: &str, limit: Duration) -> Result<String, Failure> {
        let done = self.shell(line)?.run(limit);
        done.map_err(|failure| failure.retold(|said| format!("{line}: {said}")))
    }

    fn log(&self) -> PathBuf {
        self.directory.join("netbe.log")
    }

    /// Starts `netbe serve` by a line, and waits until it serves.
    fn serve(&self, line: &str) -> Result<Running, Failure> {
        let log = self.log();
        let mut running = self.shell(&format!("exec {line}"))?.start(&log)?;
        wait_for("netbe's start", Duration::from_secs(60), || {
            running.still(&log)?;
            let said = fs::read_to_string(&log).unwrap_or_default();
            Ok(said.lines().any(|line| line.starts_with("  DHCP ")).then_some(()))
        })?;
        Ok(running)
    }

    /// Switches README's machine on and runs a command in it by ssh, as soon as that can be; gives what it
    /// printed.
    fn boots(&self, name: &str, command: &str) -> Result<String, Failure> {
        let hardware = Hardware {
            name: name.to_owned(),
            firmware: Firmware::Bios,
            mac: MAC.to_owned(),
            memory: 1536,
        };
        let mut machine = Machine::switch_on(&self.network, &self.directory, &hardware)?;
        let options = "-i .ssh/id_ed25519 -o UserKnownHostsFile=known -o ConnectTimeout=10 \
                       -o StrictHostKeyChecking=accept-new -o BatchMode=yes";
        let said = wait_for("a login by ssh", LOGIN_LIMIT, || {
            machine.still_on()?;
            let status = self.run("netbe status", Duration::from_secs(60))?;
            let address = status.split_whitespace().find(|word| word.starts_with(NETWORK));
            let Some(address) = address else { return Ok(None) };
            let line = format!("cd && ssh {options} root@{address} '{command}'");
            let done = self.shell(&line)?.finish(Duration::from_secs(120))?;
            Ok(done.status.success().then_some(done.stdout))
        });
        let said =
            said.map_err(|failure| {
                machine.explain(failure.retold(|words| {
                    format!("{words}\nnetbe's last words:\n{}", tail(&self.log(), 20))
                }))
            });
        drop(machine);
        self.network.untap(name)?;
        said
    }
}

/// One logs in with the key that was said to `netbe install`; the machine has its own name and host keys, and
/// what DHCP told it is where its programs look.
fn login(lab: &Lab) -> Result<Outcome, Failure> {
    packages::install(&[DEBIAN, packages::SSH])?;
    let network = Network::of("br0", "10.0.0.1")?;
    let host = Host::new(lab, network, "first")?;
    let ssh = host.directory.join(".ssh");
    fs::create_dir(&ssh).during(ssh.display())?;
    host.run("ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519", Duration::from_secs(60))?;
    let commands = commands()?;
    let [before @ .., serve] = commands.as_slice() else { return Err(changed()) };
    ensure(serve.starts_with("netbe serve ") && before.len() == 3, || changed().to_string())?;
    let mut installed = String::new();
    for line in before {
        installed += &host.run(line, INSTALL_LIMIT)?;
    }
    ensure(!installed.contains("nobody can log in"), || installed.clone())?;
    let root = host.directory.join("store/be/base");
    let keys = || fs::read_dir(root.join("etc/ssh")).during("etc/ssh");
    let is_key = |name: &str| name.starts_with("ssh_host_");
    let shared =
        keys()?.filter_map(Result::ok).any(|entry| is_key(&entry.file_name().to_string_lossy()));
    ensure(!shared, || "the template has ssh host keys".to_owned())?;

    let mut server = host.serve(serve)?;
    let told =
        host.boots("web1", "hostname; cat /etc/machine-id; systemctl is-system-running --wait")?;
    let lines: Vec<_> = told.lines().collect();
    ensure(
        lines.first() == Some(&"web1") && lines.get(1).is_some_and(|id| id.len() == 32),
        || told.clone(),
    )?;
    server.terminate(Duration::from_secs(60))?;

    // The same machine with its disk of yesterday, so that its key is known, in a network of which there is
    // more to tell.
    let subnet = "--subnet 10.0.0.0/24,range=10.0.0.100-10.0.0.199,dns=10.0.0.53,domain=example.org,option=42:10.0.0.9";
    let mut server = host.serve(&format!("netbe serve --interface br0 --mode serve {subnet}"))?;
    let told = host.boots(
        "again",
        // Nobody answers there, which is told after ten seconds.
        "cat /etc/resolv.conf; journalctl -qu systemd-timesyncd -o cat | grep -om1 10.0.0.9:123",
    )?;
    let all = ["search example.org", "nameserver 10.0.0.53", "10.0.0.9:123"];
    ensure(told.lines().eq(all), || format!("it was told: {told}"))?;
    server.terminate(Duration::from_secs(60))?;
    Ok(Outcome::Passed)
}

/// Every command of a page does what the page says, as it stands there. What needs a mirror, another package
/// or a guest is done beforehand in a small way, or left out.
fn page(lab: &Lab, name: &str, address: &'static str) -> Result<Outcome, Failure> {
    let network = Network::of("br0", address)?;
    let host = Host::new(lab, network, "page")?;
    host.run("netbe create -l linux base", COMMAND_LIMIT)?;
    let root = host.directory.join("store/be/base");
    for (file, text) in SYSTEM {
        let path = root.join(file);
        let folder = path.parent().unwrap_or(&root);
        fs::create_dir_all(folder).during(folder.display())?;
        fs::write(&path, text).during(path.display())?;
    }
    let machines = "node1 52:54:00:00:00:01\nnode2 52:54:00:00:00:02\n";
    fs::write(host.directory.join("machines.txt"), machines).during("machines.txt")?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let text = fs::read_to_string(&path).during(path.display())?;
    let (mut server, mut done) = (None, 0);
    for command in blocks(&text) {
        if ELSEWHERE.iter().any(|begin| command.starts_with(begin)) {
            println!("not run: {command}");
        } else if command.starts_with("netbe serve ") && !command.contains(" -n ") {
            server = Some(host.serve(&command)?);
            done += 1;
        } else {
            host.run(&format!("cd\n{command}"), COMMAND_LIMIT)?;
            done += 1;
        }
    }
    if let Some(mut server) = server {
        server.terminate(Duration::from_secs(60))?;
    }
    ensure(done > 4, || format!("{name} has no commands any more"))?;
    Ok(Outcome::Passed)
}

/// The commands of a page: lines of its blocks for sh(1), and loops of several lines.
fn blocks(text: &str) -> Vec<String> {
    let (mut commands, mut open) = (Vec::<String>::new(), false);
    let (mut is_loop, mut is_inside) = (false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            open = line == "```sh";
        } else if open && !line.is_empty() {
            is_loop |= line.starts_with("while ");
            match commands.last_mut().filter(|_| is_inside) {
                Some(last) => *last += &format!("\n{line}"),
                None => commands.push(line.to_owned()),
            }
            is_loop &= !line.starts_with("done");
            is_inside = is_loop;
        }
    }
    commands
}

/// The commands that README says make a machine from nothing.
fn commands() -> Result<Vec<String>, Failure> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(&readme).during(readme.display())?;
    let section =
        text.split_once("## Four commands").map(|(_, section)| section).ok_or_else(changed)?;
    let block = section.split_once("```sh\n").and_then(|(_, block)| block.split_once("```"));
    let (block, _) = block.ok_or_else(changed)?;
    Ok(block.lines().filter(|line| line.starts_with("netbe ")).map(str::to_owned).collect())
}

fn changed() -> Failure {
    Failure::said("README.md has no longer four commands that end with `netbe serve`")
}

/// As much of a system as `netbe check` wants.
const SYSTEM: &[(&str, &str)] =
    &[("boot/vmlinuz-6.1", "x"), ("lib/modules/6.1/modules.builtin", "kernel/fs/nfs/nfsv3.ko\n")];
/// How commands begin that are not run.
const ELSEWHERE: &[&str] = &["apt-get ", "ip ", "netbe install ", "netbe bootpxe "];
/// How long a command may take that neither installs nor boots.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// The machine's address on its card, as README says it.
const MAC: &str = "52:54:00:12:34:56";
/// What the addresses of README's range begin with.
const NETWORK: &str = "10.0.0.1";
/// How long the mirror and the packages' own scripts may take.
const INSTALL_LIMIT: Duration = Duration::from_secs(1800);
/// How long a whole Debian may take to start, emulated.
const LOGIN_LIMIT: Duration = Duration::from_secs(1800);

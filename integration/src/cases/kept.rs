//! Guests that netbe keeps: `start`, `stop`, `console`, and what becomes of a guest whose keeper is killed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::disk::own_mounts;
use crate::failure::{During, Failure, ensure};
use crate::guest;
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::BRIDGE;
use crate::process::{Program, tail};
use crate::proof::{proof, proof_by, token};
use crate::scene::{BOOT_LIMIT, Scene, mac, with_log};
use crate::server::Site;
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("guest of QEMU started and stopped", in_qemu),
    Case::new("guest of QEMU with its root by 9p", |lab| in_store(lab, "9p")),
    Case::new("guest of QEMU with its root by virtiofs", |lab| in_store(lab, "virtiofs")),
    Case::new("container started and stopped", as_container),
];

/// A guest's root is the store's directory: what it writes is there at once, nobody takes the root away while it runs,
/// also after its keeper was killed, and nothing that served it is left.
fn in_store(lab: &Lab, by: &str) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create guest")?;
    let root = site.root("guest");
    lab.parts()?.furnish(&root, IN_STORE)?;
    guest::furnish_full_kernel(&lab.cache, &root)?;
    site.run("install --initramfs guest")?;
    site.run("snapshot guest@before")?;
    site.machine("alone", &mac(1), "guest")?;
    site.run(&format!("machine set --run qemu --boot kernel --root-by {by} alone"))?;
    site.run(&format!("machine set --bridge {BRIDGE} --memory 768M alone"))?;
    let server = site.serve()?;
    let _guests = Guests(&site);
    let (token, log) = (token(&root, "alone")?, scene.directory.join("console.log"));
    let explain = |failure: Failure| {
        failure.retold(|said| format!("{said}\nthe console has:\n{}", tail(&log, 25)))
    };

    site.run("start alone")?;
    let _console = site.netbe("console alone").start(&log)?;
    wait_for("what the guest writes, in the store", BOOT_LIMIT, || {
        stands(&site, "alone", "running")?;
        Ok(root.join("lab/written").exists().then_some(()))
    })
    .map_err(explain)?;
    let runs = format!("alone runs from guest, by qemu and {by}: stop it with `netbe stop alone`");
    refused(&site, "rollback guest@before", &runs)?;
    refused(&site, "destroy guest", &runs)?;
    refused(&site, "nspawn guest", &runs)?;
    kill_keeper(&scene, "alone")?;
    stands(&site, "alone", "unkept")?;
    refused(&site, "rollback guest@before", &runs)?;
    fs::write(root.join("lab/read"), "read\n").during("lab/read")?;
    wait_for("the end of the guest", BOOT_LIMIT, || Ok(stands(&site, "alone", "lost").ok()))
        .map_err(explain)?;
    proof_by(by, &root, &token, "alone").map_err(explain)?;
    let socket = format!("--socket-path={}", scene.directory.display());
    wait_for("the end of what served the root", LIMIT, || {
        let left = Program::new("pgrep").args(["-f", "--", &socket]).finish(LIMIT)?.stdout;
        Ok(left.is_empty().then_some(()))
    })?;
    site.run("rollback guest@before")?;
    ensure(!root.join("lab/written").exists(), || "the root was not rolled back".to_owned())?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// A guest is started, says on its console that it is there, and switches itself off when its power button is
/// pressed. Its keeper is killed: it lives on, and is taken over. It is killed in its firmware, which listens to
/// no button. Of two that start it at once one does.
fn in_qemu(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    scene.environment("guest", BUTTON)?;
    lab.parts()?.furnish_modules(&site.root("guest"))?;
    site.machine("alone", &mac(1), "guest")?;
    site.run(&format!("machine set --serial --run qemu --bridge {BRIDGE} --memory 512M alone"))?;
    let server = site.serve()?;
    let _guests = Guests(&site);
    let token = token(&site.root("guest"), "alone")?;
    let log = scene.directory.join("console.log");
    let explain = |failure| {
        with_log(&site, failure)
            .retold(|said| format!("{said}\nthe console has:\n{}", tail(&log, 25)))
    };

    site.run("start alone")?;
    refused(&site, "start alone", "alone runs already, kept by process ")?;
    refused(&site, "machine remove alone", "alone runs as a guest of this host: ")?;
    waits_for_the_button(&site, &log).map_err(explain)?;
    let said = site.run("stop alone").map_err(explain)?;
    ensure(said == "alone has shut itself down\n", || said.clone()).map_err(explain)?;
    proof(&site.root("guest"), &token, "alone").map_err(explain)?;
    stands(&site, "alone", "off")?;

    // The server has heard of it a moment ago, and knows nothing of its end.
    fs::remove_file(site.root("guest").join("lab/marker")).during("lab/marker")?;
    site.run("start alone")?;
    waits_for_the_button(&site, &log).map_err(explain)?;
    let process = process(&site, "alone")?;
    kill_keeper(&scene, "alone")?;
    stands(&site, "alone", "unkept")?;
    refused(&site, "console alone", "the keeper of alone was killed: ")?;
    site.run("start alone")?;
    stands(&site, "alone", "running")?;
    let now = self::process(&site, "alone")?;
    ensure(now == process, || format!("process {process} became {now}"))?;
    let said = site.run("restart alone").map_err(explain)?;
    ensure(said == "alone has shut itself down\n", || said.clone()).map_err(explain)?;
    stands(&site, "alone", "running")?;

    // Its firmware listens to no button.
    let said = site.run("stop --timeout 2 alone")?;
    let killed = "alone was killed: it did not shut itself down in time\n";
    ensure(said == killed, || said.clone())?;

    let mut starts = Vec::new();
    for number in 0..2 {
        starts.push(
            site.netbe("start -f alone").start(&scene.directory.join(format!("start-{number}")))?,
        );
    }
    let mut statuses = Vec::new();
    for start in &mut starts {
        statuses.push(start.wait(LIMIT)?.code());
    }
    statuses.sort_unstable();
    ensure(statuses == [Some(0), Some(1)], || format!("two starts at once: {statuses:?}"))?;
    kill_keeper(&scene, "alone")?;
    let said = site.run("stop --timeout 0 alone")?;
    ensure(said == "alone was killed\n", || said.clone())?;
    let links = scene.network.server.program("ip").words("-o link show type tun").run(LIMIT)?;
    ensure(links.is_empty(), || format!("there is left: {links}"))?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// A Debian is started as a container, has its machine's addresses, asks for a login on its console, and shuts
/// itself down when it is stopped.
fn as_container(lab: &Lab) -> Result<Outcome, Failure> {
    own_mounts()?;
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create web")?;
    let root = site.root("web");
    guest::furnish_systemd(&lab.cache, &root)?;
    guest::furnish_service(&root, "down", DOWN)?;
    site.machine("web", &mac(1), "web")?;
    site.run(&format!("machine set --address {ADDRESS} --run nspawn --bridge {BRIDGE} web"))?;
    let server = site.serve()?;
    let _guests = Guests(&site);
    let log = scene.directory.join("console.log");
    let explain = |failure: Failure| {
        failure.retold(|said| format!("{said}\nthe console has:\n{}", tail(&log, 25)))
    };

    site.run("start web")?;
    refused(&site, "destroy -n web", "web runs from web, by nspawn: ")
        .or_else(|_| refused(&site, "destroy web", "web runs from web, by nspawn: "))?;
    let mut console = site.netbe("console web").start(&log)?;
    wait_for("a login on the console", BOOT_LIMIT, || {
        Ok(tail(&log, 5).contains("login:").then_some(()))
    })
    .map_err(explain)?;
    wait_for("the lease of the container", LIMIT, || {
        Ok(site.run("status")?.contains(ADDRESS).then_some(()))
    })
    .map_err(explain)?;
    let said = site.run("stop web").map_err(explain)?;
    ensure(said == "web has shut itself down\n", || said.clone()).map_err(explain)?;
    console.wait(LIMIT)?;
    let told =
        fs::read_to_string(root.join("down")).during("what the container wrote at its end")?;
    ensure(told == "down\n", || told.clone())?;

    // systemd-nspawn ends when its terminal does, and that is its keeper's.
    fs::remove_file(root.join("down")).during("down")?;
    site.run("start web")?;
    kill_keeper(&scene, "web")?;
    wait_for("the end of the container", LIMIT, || Ok(stands(&site, "web", "lost").ok()))?;
    site.run("start web").map_err(explain)?;
    stands(&site, "web", "running")?;
    let said = site.run("stop --timeout 0 web")?;
    ensure(said.starts_with("web was killed"), || said.clone())?;
    stands(&site, "web", "off")?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// All guests of a site, which are killed in the end, whatever that is: each is in a session of its own.
struct Guests<'a>(&'a Site<'a>);

impl Drop for Guests<'_> {
    fn drop(&mut self) {
        drop(self.0.netbe("stop --timeout 0 --all").run(LIMIT));
    }
}

/// Looks at the console until the guest's task waits for the power button.
fn waits_for_the_button(site: &Site<'_>, log: &Path) -> Result<(), Failure> {
    drop(fs::remove_file(log));
    let _console = site.netbe("console alone").start(log)?;
    wait_for("the guest's word on its console", BOOT_LIMIT, || {
        stands(site, "alone", "running")?;
        let said = fs::read(log).during(log.display())?;
        Ok(String::from_utf8_lossy(&said).contains(WORD).then_some(()))
    })
}

/// Kills the keeper of a guest, and waits until it is gone.
fn kill_keeper(scene: &Scene<'_>, name: &str) -> Result<(), Failure> {
    let lock = scene.directory.join("state/guests").join(name).join("lock");
    let keeper = fs::read_to_string(&lock).during(lock.display())?;
    Program::new("kill").args(["-KILL", keeper.trim()]).run(LIMIT)?;
    let process = format!("/proc/{}/fd", keeper.trim());
    wait_for("the end of the keeper", LIMIT, || {
        let gone = fs::read_dir(&process).map_or(true, |mut files| files.next().is_none());
        Ok(gone.then_some(()))
    })
}

/// Fails unless a command is refused in a sentence that begins so.
fn refused(site: &Site<'_>, words: &str, sentence: &str) -> Result<(), Failure> {
    let finished = site.netbe(words).finish(LIMIT)?;
    let said = finished.stderr.strip_prefix("netbe: ").unwrap_or(&finished.stderr);
    ensure(finished.status.code() == Some(1) && said.starts_with(sentence), || {
        format!("netbe {words}: {}: {said}", finished.status)
    })
}

fn stands(site: &Site<'_>, name: &str, wanted: &str) -> Result<(), Failure> {
    let list = site.run("guest list -H")?;
    let row = list.lines().find(|line| line.starts_with(&format!("{name}\t")));
    let state = row.and_then(|row| row.split('\t').nth(3)).unwrap_or_default();
    ensure(state == wanted, || format!("{name} is {state:?} and not {wanted}"))
}

/// The process of a guest.
fn process(site: &Site<'_>, name: &str) -> Result<String, Failure> {
    let list = site.run("guest list -j")?;
    let pid = list.split_once("\"pid\": ").and_then(|(_, rest)| rest.split(',').next());
    pid.map(str::to_owned).ok_or_else(|| Failure::said(format!("{name} has no process: {list}")))
}

/// Waits until somebody presses the power button, as acpid does.
const BUTTON: &str = "\
for module in acpi/button input/evdev; do
    busybox insmod /lib/modules/$(uname -r)/kernel/drivers/$module.ko || exit 1
done
for event in /sys/class/input/event*; do
    grep -q 'Power Button' $event/device/name && button=/dev/input/${event##*/}
done
echo 'lab: waits for the power button' >/dev/console
dd if=$button of=/dev/null bs=24 count=1
";
/// Tells that it is there, and waits for what the host says; the owner of a file is whom the guest says.
const IN_STORE: &str = "\
echo written >/lab/written.new && chown 7:8 /lab/written.new && mv /lab/written.new /lab/written
until [ -e /lab/read ]; do sleep 1; done
ip -4 addr show eth0 | grep -q 'inet 10\\.77\\.' && grep -q read /lab/read
";
const WORD: &str = "lab: waits for the power button";
const DOWN: &str = "[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'echo down >/down'
";
/// Outside of the range: only the machine has it.
const ADDRESS: &str = "10.77.0.30";
const LIMIT: Duration = Duration::from_secs(120);

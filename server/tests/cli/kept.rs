//! Guests of this host: how they are written down, started, kept and ended.
//!
//! What runs them here is a program that stands for systemd-nspawn: it has a terminal, ends when it is asked to,
//! and says what it is told.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Outcome, netbe};

const MACHINE: [&str; 5] =
    ["machine", "add", "--mac=52:54:00:00:00:01", "--environment=lin", "--run=nspawn"];

/// A site with a Linux environment, and a container of it that does what the script says.
struct Hosts {
    bench: Bench,
    programs: tempfile::TempDir,
}

impl Hosts {
    fn new(script: &str) -> Self {
        let (bench, programs) = (Bench::new(), tempfile::tempdir().unwrap());
        bench.silent(&["create", "-l", "linux", "lin"]);
        bench.silent(&[&MACHINE[..], &["web1"]].concat());
        let hosts = Self { bench, programs };
        hosts.plays(script);
        hosts
    }

    fn plays(&self, script: &str) {
        let path = self.programs.path().join("systemd-nspawn");
        // A program that runs cannot be written to.
        let new = self.programs.path().join("new");
        fs::write(&new, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &path).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bench.command(netbe(), arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.programs.path().display()));
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let done = self.command(arguments).output().unwrap();
        Outcome {
            out: String::from_utf8(done.stdout).unwrap(),
            err: String::from_utf8(done.stderr).unwrap(),
            status: done.status.code(),
        }
    }

    /// Runs a command that succeeds, and gives what it printed.
    fn prints(&self, arguments: &[&str]) -> String {
        let Outcome { out, err, status } = self.run(arguments);
        assert_eq!((err.as_str(), status), ("", Some(0)), "{arguments:?}: {}", self.log());
        out
    }

    /// Runs a command that is refused in one sentence.
    fn refuses(&self, arguments: &[&str]) -> String {
        let Outcome { out, err, status } = self.run(arguments);
        assert_eq!((out.as_str(), status), ("", Some(1)), "{arguments:?}: {err}");
        err.strip_prefix("netbe: ").unwrap().trim_end().to_owned()
    }

    fn state_of(&self, name: &str) -> String {
        let list = self.prints(&["guest", "list", "-H"]);
        let row = list.lines().find(|line| line.starts_with(&format!("{name}\t"))).unwrap();
        row.split('\t').nth(3).unwrap().to_owned()
    }

    fn place(&self) -> PathBuf {
        self.bench.state().join("guests/web1")
    }

    fn keeper(&self) -> String {
        fs::read_to_string(self.place().join("lock")).unwrap().trim().to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place().join("log")).unwrap_or_default()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = self.command(&["stop", "--all", "--timeout=0"]).output();
    }
}

/// A system that shuts itself down when it is asked to, and repeats what is typed.
const GOOD: &str = "stty -echo; trap 'echo down; exit 0' TERM; trap '' HUP\n\
                    echo \"up with $*\"\n\
                    while :; do if read -r line; then echo \"heard $line\"; else sleep 0.05; fi; done\n";
/// One that listens to nobody.
const DEAF: &str = "trap '' TERM HUP; echo up; while :; do sleep 0.05; done\n";

/// Hooks of a guest: each writes down that it ran, and one of `prestart` refuses while there is a file.
fn hook(hosts: &Hosts) -> PathBuf {
    let directory = hosts.programs.path().join("hooks");
    let told = hosts.programs.path().join("told");
    for event in ["prestart", "poststart", "prestop", "poststop"] {
        let place = directory.join(format!("{event}.d"));
        fs::create_dir_all(&place).unwrap();
        let refuses = hosts.programs.path().join("refuse");
        let script = format!(
            "#!/bin/sh\necho \"$NETBE_ACTION $NETBE_EVENT $NETBE_MACHINE $NETBE_ENVIRONMENT\" >>{}\n\
             [ \"$2\" != prestart ] || [ ! -e {} ]\n",
            told.display(),
            refuses.display()
        );
        let path = place.join("10-note");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let settings = hooks::Settings { directory, ..hooks::Settings::default() };
    settings.store(&hosts.bench.state()).unwrap();
    told
}

#[test]
fn hooks_run_around_a_guest_and_one_may_refuse_it() {
    let hosts = Hosts::new(GOOD);
    let told = hook(&hosts);
    let refuse = hosts.programs.path().join("refuse");
    fs::write(&refuse, "").unwrap();
    let refused = hosts.run(&["start", "web1"]);
    assert_ne!(refused.status, Some(0), "{refused:?}");
    assert!(refused.err.contains("prestart/10-note"), "{refused:?}");
    let lines = || fs::read_to_string(&told).unwrap_or_default();
    assert_eq!(lines(), "do prestart web1 lin\nundo prestart web1 lin\n");
    fs::remove_file(&refuse).unwrap();
    fs::remove_file(&told).unwrap();
    hosts.prints(&["start", "web1"]);
    // Nobody waits for those of a guest that has begun.
    let begin = Instant::now();
    while !lines().contains("poststart") {
        assert!(begin.elapsed() < Duration::from_secs(30), "{}", lines());
        thread::sleep(Duration::from_millis(20));
    }
    hosts.run(&["stop", "web1"]);
    assert_eq!(
        lines(),
        "do prestart web1 lin\ndo poststart web1 lin\ndo prestop web1 lin\ndo poststop web1 lin\n"
    );
}

#[test]
fn hooks_of_the_end_wait_for_slow_ones_of_the_start() {
    let hosts = Hosts::new(GOOD);
    let told = hook(&hosts);
    let slow = hosts.programs.path().join("hooks/poststart.d/05-slow");
    fs::write(&slow, "#!/bin/sh\n[ \"$1\" = undo ] || sleep 3\n").unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    hosts.prints(&["start", "web1"]);
    hosts.run(&["stop", "web1"]);
    let lines = fs::read_to_string(&told).unwrap();
    let events: Vec<_> = lines.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(events, ["prestart", "poststart", "prestop", "poststop"], "{}", hosts.log());
}

#[test]
fn a_hook_of_the_start_that_hangs_keeps_no_guest_from_its_end() {
    let hosts = Hosts::new(GOOD);
    let told = hook(&hosts);
    let slow = hosts.programs.path().join("hooks/poststart.d/05-slow");
    fs::write(&slow, "#!/bin/sh\n[ \"$1\" = undo ] || sleep 300\n").unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    hosts.prints(&["start", "web1"]);
    hosts.run(&["stop", "web1"]);
    let lines = fs::read_to_string(&told).unwrap();
    let events: Vec<_> = lines.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    // The one that notes comes after the one that hangs.
    assert_eq!(events, ["prestart", "prestop", "poststop"], "{}", hosts.log());
}

#[test]
fn the_life_of_a_guest_begins_when_its_program_starts() {
    let hosts = Hosts::new("echo no such machine type >&2; exit 1\n");
    hook(&hosts);
    // What is prepared takes longer than a program that fails at once.
    let slow = hosts.programs.path().join("hooks/prestart.d/20-slow");
    fs::write(&slow, "#!/bin/sh\n[ \"$1\" = undo ] || sleep 2\n").unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = hosts.run(&["start", "web1"]);
    assert_ne!(refused.status, Some(0), "{refused:?}");
    assert_eq!(hosts.state_of("web1"), "failed", "it is not tried again: {}", hosts.log());
}

#[test]
fn a_guest_is_started_shown_and_stopped() {
    let hosts = Hosts::new(GOOD);
    assert_eq!(hosts.state_of("web1"), "off");
    assert_eq!(hosts.prints(&["start", "web1"]), "");
    assert_eq!(hosts.state_of("web1"), "running");
    let keeper = hosts.keeper();
    assert_eq!(
        hosts.refuses(&["start", "web1"]),
        format!("web1 runs already, kept by process {keeper}: `netbe console web1` connects to it")
    );
    // What it is, it is for as long as it runs.
    for verb in [&["machine", "remove", "web1"][..], &["machine", "rename", "web1", "web2"]] {
        assert_eq!(
            hosts.refuses(verb),
            "web1 runs as a guest of this host: stop it first with `netbe stop web1`"
        );
    }
    let refused = hosts.refuses(&["rollback", "lin@monday"]);
    assert!(refused.contains("snapshot") || refused.contains("web1 runs from lin"), "{refused}");
    assert_eq!(
        hosts.refuses(&["rename", "lin", "lin2"]),
        "web1 runs from lin, by nspawn: stop it with `netbe stop web1`, or rename with -f"
    );
    // Its console has what it said, and what is typed reaches it.
    let mut console = hosts.command(&["console", "web1"]);
    let console = console.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut console = console.unwrap();
    std::io::Write::write_all(&mut console.stdin.take().unwrap(), b"a word\n").unwrap();
    let mut said = String::new();
    let mut out = console.stdout.take().unwrap();
    while !said.contains("heard a word") {
        let mut bytes = [0; 256];
        let length = std::io::Read::read(&mut out, &mut bytes).unwrap();
        assert_ne!(length, 0, "{said}");
        said += &String::from_utf8_lossy(&bytes[..length]);
    }
    assert!(said.contains("up with --quiet --boot"), "{said}");
    assert!(said.contains("--machine=web1"), "{said}");
    assert_eq!(hosts.prints(&["stop", "web1"]), "web1 has shut itself down\n");
    assert_eq!(hosts.state_of("web1"), "off");
    assert!(console.wait().unwrap().success());
    assert_eq!(hosts.refuses(&["stop", "web1"]), "web1 does not run");
    assert_eq!(
        hosts.refuses(&["console", "web1"]),
        "web1 does not run: start it with `netbe start web1`"
    );
    let text = hosts.prints(&["guest", "list", "-j"]);
    assert!(text.contains("\"words\": \"web1 has shut itself down\""), "{text}");
}

#[test]
fn who_does_not_listen_is_killed_in_the_end() {
    let hosts = Hosts::new(DEAF);
    hosts.prints(&["start", "web1"]);
    let begin = Instant::now();
    assert_eq!(
        hosts.prints(&["stop", "--timeout=1", "web1"]),
        "web1 was killed: it did not shut itself down in time\n"
    );
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(hosts.state_of("web1"), "off");
    // At once, where there is no time.
    hosts.prints(&["start", "web1"]);
    let said = hosts.prints(&["stop", "--timeout=0", "web1"]);
    assert!(said.starts_with("web1 was killed"), "{said}");
}

#[test]
fn a_guest_whose_keeper_was_killed_is_taken_over_or_ended() {
    let hosts = Hosts::new(DEAF);
    hosts.prints(&["start", "web1"]);
    let process = |hosts: &Hosts| {
        let list = hosts.prints(&["guest", "list", "-j"]);
        let (_, rest) = list.split_once("\"pid\": ").unwrap();
        rest.split(',').next().unwrap().to_owned()
    };
    let guest = process(&hosts);
    let kill = |hosts: &Hosts| {
        let killed = Command::new("kill").args(["-9", &hosts.keeper()]).status().unwrap();
        assert!(killed.success());
        let limit = Instant::now() + Duration::from_secs(30);
        while hosts.state_of("web1") != "unkept" {
            assert!(Instant::now() < limit, "{}", hosts.state_of("web1"));
            thread::sleep(Duration::from_millis(20));
        }
    };
    kill(&hosts);
    // Its root is still in use.
    let refused = hosts.refuses(&["rename", "lin", "lin2"]);
    assert!(refused.starts_with("web1 runs from lin, by nspawn"), "{refused}");
    hosts.prints(&["start", "web1"]);
    assert_eq!((hosts.state_of("web1").as_str(), process(&hosts)), ("running", guest));
    kill(&hosts);
    assert_eq!(hosts.prints(&["stop", "--timeout=1", "web1"]), "web1 was killed\n");
    assert_eq!(hosts.state_of("web1"), "off");
}

#[test]
fn of_two_starts_at_once_one_starts() {
    let hosts = Hosts::new(GOOD);
    let mut starts: Vec<_> = (0..4)
        .map(|_| {
            let mut start = hosts.command(&["start", "web1"]);
            start.stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut statuses: Vec<_> =
        starts.iter_mut().map(|start| start.wait().unwrap().code().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [0, 1, 1, 1], "{}", hosts.log());
    assert_eq!(hosts.state_of("web1"), "running");
}

#[test]
fn what_cannot_start_says_why() {
    let hosts = Hosts::new("echo 'no such thing' >&2; exit 3\n");
    assert_eq!(
        hosts.refuses(&["start", "web1"]),
        "systemd-nspawn ended, and web1 with it: exit status: 3"
    );
    assert_eq!(hosts.state_of("web1"), "failed");
    assert!(hosts.log().contains("no such thing"), "{}", hosts.log());
    fs::remove_file(hosts.programs.path().join("systemd-nspawn")).unwrap();
    let mut start = hosts.command(&["start", "web1"]);
    let output = start.env("PATH", hosts.programs.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "netbe: systemd-nspawn is not installed: install it\n");
    let refused = hosts.refuses(&["start", "nobody"]);
    assert!(refused.starts_with("there is no machine nobody"), "{refused}");
    hosts.bench.silent(&["machine", "add", "--mac=52:54:00:00:00:09", "bare"]);
    assert_eq!(
        hosts.refuses(&["start", "bare"]),
        "bare is not a guest of this host: make it one with `netbe machine set --run qemu bare`, or --run \
         bhyve, nspawn or jail"
    );
}

#[test]
fn guests_start_in_their_order_and_stop_in_reverse() {
    let hosts = Hosts::new(GOOD);
    for (name, mac, order) in
        [("db", 2, "--order=1"), ("app10", 3, "--order=5"), ("app9", 4, "--order=5")]
    {
        let mac = format!("--mac=52:54:00:00:00:0{mac}");
        let words =
            ["machine", "add", &mac, "--environment=lin", "--ro", "--run=nspawn", "--autostart"];
        hosts.bench.silent(&[&words[..], &[order, name]].concat());
    }
    let list = hosts.prints(&["guest", "list", "-H"]);
    let names: Vec<_> = list.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(names, ["db", "app9", "app10", "web1"]);
    hosts.prints(&["start", "--all"]);
    assert_eq!(hosts.state_of("web1"), "off");
    // Those that run already are left alone.
    hosts.prints(&["start", "--all"]);
    let told = "would stop app10\nwould stop app9\nwould stop db\n";
    assert_eq!(hosts.prints(&["stop", "-n", "--all"]), told);
    let said = hosts.prints(&["stop", "--all"]);
    let down = |name| format!("{name} has shut itself down\n");
    assert_eq!(said, ["app10", "app9", "db"].map(down).concat());
    assert_eq!(hosts.prints(&["restart", "db"]), "db did not run\n",);
    assert_eq!(hosts.prints(&["restart", "db"]), "db has shut itself down\n");
    assert_eq!(hosts.state_of("db"), "running");
}

#[test]
fn what_switched_itself_off_is_started_again_only_if_it_is_to_run_always() {
    let hosts = Hosts::new("sleep 1\n");
    hosts.prints(&["start", "web1"]);
    let wait = |wanted: &str| {
        let limit = Instant::now() + Duration::from_secs(60);
        while hosts.state_of("web1") != wanted {
            assert!(Instant::now() < limit, "{}: {}", hosts.state_of("web1"), hosts.log());
            thread::sleep(Duration::from_millis(20));
        }
    };
    wait("off");
    hosts.bench.silent(&["machine", "set", "--restart=always", "web1"]);
    hosts.prints(&["start", "web1"]);
    wait("waiting");
    wait("running");
    wait("waiting");
    let said = hosts.prints(&["stop", "web1"]);
    assert!(said == "web1 was off, and is not started again\n" || said.contains("shut"), "{said}");
    assert_eq!(hosts.state_of("web1"), "off");
}

#[test]
fn a_container_runs_on_this_terminal_too() {
    let hosts = Hosts::new("echo \"up with $*\"\n");
    let said = hosts.prints(&["nspawn", "--machine=web1", "--bridge=br7", "lin"]);
    assert!(said.contains("--machine=web1") && said.contains("--network-bridge=br7"), "{said}");
    assert_eq!(hosts.state_of("web1"), "off");
    let printed = hosts.prints(&["nspawn", "-n", "lin"]);
    assert!(
        printed.starts_with("systemd-nspawn ") && printed.contains("--machine=lin"),
        "{printed}"
    );
    hosts.plays(GOOD);
    hosts.prints(&["start", "web1"]);
    let refused = hosts.refuses(&["nspawn", "--machine=web1", "lin"]);
    assert!(refused.starts_with("web1 runs already, kept by process "), "{refused}");
    let refused = hosts.refuses(&["nspawn", "lin"]);
    assert!(refused.starts_with("web1 runs from lin, by nspawn: stop it"), "{refused}");
}

/// Plays a server that takes web1 for a machine that runs from every environment, heard of a minute ago.
fn server_of_web1(hosts: &Hosts, visitors: &'static str) {
    let listener = UnixListener::bind(hosts.bench.state().join("control.sock")).unwrap();
    let status = r#"{"answer":"status","version":"1","process":1,"up":900,"services":[],"interfaces":[],
        "environments":[],"machines":[{"name":"web1","mac":null,"address":null,"environment":"lin",
        "read_only":false,"boot":null,"stage":"running","trouble":null,"message":null,"sent":0,"read":0,
        "written":0,"progress":null,"seconds":1,"stages":[],"seen":60}]}"#
        .replace('\n', "");
    let living = format!(r#"{{"answer":"living","machines":["web1"],"visitors":[{visitors}]}}"#);
    // It ends with the tests: until then commands may ask.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let Ok(line) = line else { break };
                let answer = match line.as_str() {
                    asked if asked.contains("\"living\"") => &living,
                    asked if asked.contains("\"status\"") => &status,
                    _ => r#"{"answer":"done"}"#,
                };
                let _ = writeln!(stream, "{answer}");
            }
        }
    });
}

#[test]
fn what_the_server_takes_for_running_hides_no_guest_of_this_host() {
    let hosts = Hosts::new(GOOD);
    hosts.prints(&["start", "web1"]);
    hosts.prints(&["stop", "web1"]);
    let mac = "--mac=52:54:00:00:00:02";
    hosts.bench.warns(
        &["machine", "add", mac, "--environment=lin", "--run=nspawn", "web2"],
        "web1, web2 write to one root, lin, and destroy each other's files: give each a clone with `netbe \
         sharepxe --machine NAME --root own lin`, or make the root read-only for all with --root shared",
    );
    hosts.prints(&["start", "web2"]);
    server_of_web1(&hosts, "");
    // This host has seen web1 end after the server heard of it, and yet its root has a guest.
    let refused = hosts.refuses(&["start", "web1"]);
    assert!(refused.starts_with("web2 runs from lin, by nspawn: stop it"), "{refused}");
    hosts.prints(&["stop", "web2"]);
    hosts.prints(&["start", "web1"]);
}

#[test]
fn who_uses_a_root_over_nfs_keeps_a_container_from_it() {
    let hosts = Hosts::new(GOOD);
    hosts.prints(&["start", "web1"]);
    hosts.prints(&["stop", "web1"]);
    server_of_web1(&hosts, r#"{"name":"10.0.0.7","seen":12.5}"#);
    let refused = hosts.refuses(&["start", "web1"]);
    let why = "web1 runs from lin, and lin is used over NFS by 10.0.0.7, last seen 12s ago: ";
    assert!(refused.starts_with(why), "{refused}");
}

#[test]
fn what_ran_on_a_terminal_without_a_machine_is_stopped_too() {
    let hosts = Hosts::new("trap '' TERM HUP; exec sleep 120\n");
    let mut command = hosts.command(&["nspawn", "lin"]);
    let mut command = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let record = hosts.bench.state().join("guests/lin/record.json");
    let limit = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(&record).unwrap_or_default().contains("\"running\"") {
        assert!(Instant::now() < limit);
        thread::sleep(Duration::from_millis(20));
    }
    command.kill().unwrap();
    command.wait().unwrap();
    let refused = hosts.refuses(&["start", "web1"]);
    assert!(refused.starts_with("lin runs from lin, by nspawn: stop it with `netbe stop lin`"));
    assert_eq!(hosts.prints(&["stop", "--timeout=1", "lin"]), "lin was killed\n");
    assert_eq!(hosts.refuses(&["stop", "lin"]), "lin does not run");
    let refused = hosts.refuses(&["stop", "nobody"]);
    assert!(refused.starts_with("there is no machine nobody"), "{refused}");
}

#[test]
fn how_a_machine_is_run_is_part_of_its_record() {
    let bench = Bench::with_head();
    bench.silent(&["machine", "add", "--mac=52:54:00:00:00:01", "--environment=head", "web1"]);
    let set = ["machine", "set", "--run=qemu", "--boot=uefi", "--cpus=2", "--memory=2048M"];
    let more = ["--bridge=br7", "--autostart", "--order=3", "--restart=always", "web1"];
    bench.silent(&[&set[..], &more].concat());
    let shown = bench.prints(&["machine", "show", "web1"]);
    let keys = "run = \"qemu\"\nboot = \"uefi\"\ncpus = 2\nmemory = \"2G\"\nbridge = \"br7\"\n\
                autostart = true\norder = 3\nrestart = \"always\"\n";
    assert!(shown.ends_with(keys), "{shown}");
    let set = |flag: &'static str| ["machine", "set", flag, "web1"];
    bench.cannot(&set("--cpus=0"), "cpus: 0: write 1 to 255");
    bench.cannot(
        &set("--run=nspawn"),
        "boot is for virtual machines, but a guest of nspawn runs with this host's kernel: leave it out",
    );
    let told = bench.prints(&["machine", "set", "-n", "--no-autostart", "--memory=none", "web1"]);
    assert_eq!(told, "would take memory from web1\nwould take autostart from web1\n");
    // What is no guest has nothing of one.
    bench.silent(&set("--run=none"));
    assert!(!bench.prints(&["machine", "show", "web1"]).contains("order"));
    bench.cannot(
        &set("--autostart"),
        "autostart is for guests of this host: set run too, to qemu, bhyve, nspawn or jail",
    );
}

#[test]
fn services_are_written_for_this_program() {
    let bench = Bench::new();
    let written = tempfile::tempdir().unwrap();
    let into = written.path().to_str().unwrap();
    let names = bench.prints(&["show", "units", "--for=systemd", "--into", into]);
    assert!(names.contains("netbe-guest@.service") && names.contains("netbe-guests.service"));
    let unit = written.path().join("etc/systemd/system/netbe-guest@.service");
    let text = fs::read_to_string(&unit).unwrap();
    let (program, state) = (netbe(), bench.state());
    let start =
        format!("ExecStart={} --state {} guest run %i\n", program.display(), state.display());
    assert!(text.contains(&start), "{text}");
    let script = bench.prints(&["show", "units", "--for=rc"]);
    assert!(script.contains("# PROVIDE: netbe_guest\n"), "{script}");
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    for name in ["netbe-guest@.service", "netbe-guests.service"] {
        let mut verify = Command::new("systemd-analyze");
        // Pages are looked for by man(1), which this host may not have.
        let path = written.path().join("etc/systemd/system").join(name);
        let output = verify.args(["verify", "--man=no"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<_> = said.lines().filter(|line| line.contains("netbe")).collect();
        assert!(ours.is_empty(), "{name}: {ours:?}");
    }
}

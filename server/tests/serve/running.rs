//! The server at work.

use std::fs;
use std::io::{self, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::bench::{Beside, KERNEL, MAC, Net, Running, SERVER, Site, exists};

const SERVE: [&str; 4] = ["--mode", "serve", "--range", "10.77.0.100-10.77.0.199"];
const CLIENTS: [&str; 3] = ["busybox", "curl", "nfs-cat"];
const HELLO: &str = "nfs://10.77.0.1/be/base/hello?version=3";

#[test]
fn a_machine_gets_everything_from_one_server() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    let running = Running::start(&site, &net, &SERVE);
    assert!(running.summary.contains("DHCP s0 10.77.0.1: serves 10.77.0.100-10.77.0.199"));
    let script = net.ipxe(&site);
    let url = script.strip_suffix("boot.ipxe").unwrap();
    assert!(url.starts_with("http://10.77.0.1/b/"), "{url}");
    let text = String::from_utf8(net.client(&["curl", "-sf", &script])).unwrap();
    assert!(text.starts_with("#!ipxe\n") && text.contains("nfsroot=10.77.0.1:/be/base"), "{text}");
    assert_eq!(net.client(&["curl", "-sf", &format!("{url}kernel")]), KERNEL.as_bytes());
    assert_eq!(net.client(&["curl", "-sf", &format!("{url}initrd")]), b"initrd");
    assert_eq!(net.client(&["nfs-cat", HELLO]), b"hello from base\n");
    let status = site.prints(&["status"]);
    assert!(status.contains("web1  root   base         10.77.0.100  "), "{status}");
}

#[test]
fn a_machine_does_not_notice_that_the_server_was_killed() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    site.done(&["sharepxe", "--default", "base"]);
    let running = Running::start(&site, &net, &SERVE);
    let script = net.ipxe(&site);
    net.client(&["curl", "-sf", &script]);
    net.client(&["nfs-cat", HELLO]);
    running.end(Signal::SIGKILL);
    let _running = Running::start(&site, &net, &SERVE);
    net.client(&["curl", "-sf", &script]);
    assert_eq!(net.client(&["nfs-cat", HELLO]), b"hello from base\n");
    let status = site.prints(&["status", "-H"]);
    assert!(status.starts_with(&format!("{MAC}\troot\tbase (ro)\t10.77.0.100\t")), "{status}");
}

#[test]
fn a_server_that_is_told_to_reload_while_it_starts_goes_on() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    site.done(&["sharepxe", "--default", "base"]);
    // A start that stops where the site's key is read, until this test gives it.
    let path = site.state().join("site.key");
    fs::remove_file(&path).or_else(missing).unwrap();
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let mut command = net.beside(&site.netbe(&[&["serve"], &SERVE[..]].concat()));
    let mut server = Beside(command.stdout(Stdio::piped()).spawn().unwrap());
    // It can be opened for writing as soon as the server reads it.
    let mut key = fs::OpenOptions::new().write(true).open(&path).unwrap();
    kill(Pid::from_raw(i32::try_from(server.0.id()).unwrap()), Signal::SIGHUP).unwrap();
    key.write_all(b"000102030405060708090a0b0c0d0e0f\n").unwrap();
    drop(key);
    fs::remove_file(&path).unwrap();
    server.until("  DHCP s0 ");
}

fn missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[test]
fn who_watches_goes_on_when_the_server_is_started_again() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    let running = Running::start(&site, &net, &SERVE);
    let mut watch = site.netbe(&["watch"]);
    let mut watch = Beside(watch.stdout(Stdio::piped()).spawn().unwrap());
    let reading = thread::spawn(move || {
        watch.until("took 10.77.0.100");
        watch
    });
    // It may begin to watch later than the machine begins to boot.
    while !reading.is_finished() {
        net.ipxe(&site);
    }
    let mut watch = reading.join().unwrap();
    running.end(Signal::SIGTERM);
    watch.until("the server has ended: waiting for its restart");
    let running = Running::start(&site, &net, &SERVE);
    watch.until("the server runs again");
    let status = site.prints(&["status"]);
    assert!(status.contains("web1  unheard  base         10.77.0.100"), "{status}");
    assert!(status.contains("\nweb1: was in this boot before the server started"), "{status}");
    assert!(!status.contains("s ago"), "{status}");
    net.client(&["ip", "address", "flush", "dev", "c0"]);
    net.ipxe(&site);
    watch.until("took 10.77.0.100");
    // One that is killed leaves its socket behind.
    running.end(Signal::SIGKILL);
    watch.until("the server has ended");
    let _running = Running::start(&site, &net, &SERVE);
    watch.until("the server runs again");
}

#[test]
fn a_template_is_booted_read_only() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    let _running = Running::start(&site, &net, &SERVE);
    let mounted = || {
        let script = String::from_utf8(net.client(&["curl", "-sf", &net.ipxe(&site)])).unwrap();
        net.client(&["nfs-cat", HELLO]);
        let line = script.lines().find(|line| line.contains("nfsroot=")).unwrap().to_owned();
        (line.split(' ').any(|word| word == "ro"), site.prints(&["status"]).contains("base (ro)"))
    };
    assert_eq!(mounted(), (false, false));
    site.done(&["set", "role=template", "base"]);
    assert_eq!(mounted(), (true, true));
}

#[test]
fn a_root_does_not_wait_for_the_question_whether_another_dhcp_server_is_there() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    site.done(&["sharenfs", "--network", "10.77.0.0/24", "base"]);
    let running = Running::start(&site, &net, &SERVE);
    net.client(&["ip", "address", "add", "10.77.0.2/24", "dev", "c0"]);
    running.end(Signal::SIGKILL);
    let _running = Running::start_until("named machines:", &site, &net, &SERVE);
    assert_eq!(net.client(&["nfs-cat", HELLO]), b"hello from base\n");
    let printed = fs::read_to_string(site.path("out")).unwrap();
    assert!(!printed.contains("DHCP s0"), "the question was answered first: {printed}");
}

#[test]
fn a_server_without_descriptors_to_spare_answers_commands_later() {
    let Some(net) = Net::new(&["prlimit"]) else { return };
    let site = Site::with_base();
    let running = Running::start(&site, &net, &SERVE);
    running.allow_files("--nofile=3:4096");
    let mut command = site.netbe(&["status", "-j"]);
    let asking = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The kernel accepts for the server; only the server itself can see that it has no room.
    thread::sleep(Duration::from_millis(300));
    running.allow_files("--nofile=4096:4096");
    let answer = asking.wait_with_output().unwrap();
    assert_eq!((answer.status.code(), answer.stderr.as_slice()), (Some(0), &b""[..]));
    assert!(running.end(Signal::SIGTERM).success());
}

#[test]
fn commands_leave_to_the_file_what_stands_there() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let file = site.path("netbe.toml");
    let text = format!("default = \"base\"\n[machines.web1]\nmacs = [\"{MAC}\"]\n");
    fs::write(&file, text).unwrap();
    let running = Running::start(&site, &net, &["-f", file.to_str().unwrap()]);
    assert_eq!(site.prints(&["machine", "list", "-H"]), format!("web1\t{MAC}\t-\tdirect\t-\n"));
    let fixed = "machine web1 is defined in netbe.toml: change it there";
    assert_eq!(site.fails(1, &["machine", "add", "--mac", "52:54:00:00:00:09", "web1"]), fixed);
    assert_eq!(site.fails(1, &["sharepxe", "--machine", "web1", "base"]), fixed);
    assert_eq!(
        site.fails(1, &["sharepxe", "--default", "--off"]),
        "the default environment is set in netbe.toml: change it there"
    );
    running.end(Signal::SIGTERM);
    let running = Running::start(&site, &net, &[]);
    assert_eq!(site.prints(&["machine", "list", "-H"]), "");
    running.end(Signal::SIGTERM);
}

#[test]
fn commands_tell_the_server_what_they_changed() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    let _running = Running::start(&site, &net, &SERVE);
    site.done(&["create", "late"]);
    fs::write(site.state().join("store/be/late/news"), "news\n").unwrap();
    site.done(&["sharenfs", "--network", "10.77.0.0/24", "late"]);
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    assert!(site.prints(&["status", "-H"]).starts_with("web1\toff\tbase\t"));
    net.ipxe(&site);
    let news = format!("nfs://{SERVER}/be/late/news?version=3");
    assert_eq!(net.client(&["nfs-cat", &news]), b"news\n");
}

#[test]
fn an_environment_that_was_restored_in_place_is_served_at_the_next_command() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    site.done(&["sharepxe", "--default", "base"]);
    let _running = Running::start(&site, &net, &SERVE);
    let script = net.ipxe(&site);
    let kernel = script.replace("boot.ipxe", "kernel");
    assert_eq!(net.client(&["curl", "-sf", &kernel]), KERNEL.as_bytes());
    assert_eq!(net.client(&["nfs-cat", HELLO]), b"hello from base\n");
    let root = site.state().join("store/be/base");
    fs::remove_dir_all(&root).unwrap();
    fs::create_dir_all(root.join("boot")).unwrap();
    fs::write(root.join("boot/vmlinuz"), "a kernel from the backup").unwrap();
    fs::write(root.join("boot/initrd.img"), "initrd").unwrap();
    fs::write(root.join("hello"), "hello from the backup\n").unwrap();
    site.done(&["sharepxe", "--default", "base"]);
    assert_eq!(net.client(&["nfs-cat", HELLO]), b"hello from the backup\n");
    assert_eq!(net.client(&["curl", "-sf", &kernel]), b"a kernel from the backup");
}

#[test]
fn who_watches_sees_a_boot() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    let _running = Running::start(&site, &net, &SERVE);
    let mut watch = site.netbe(&["watch"]);
    let mut watch = Beside(watch.stdout(Stdio::piped()).spawn().unwrap());
    let script = net.ipxe(&site);
    let reading = thread::spawn(move || watch.until("boot.ipxe"));
    let begun = Instant::now();
    // It may begin to watch later than the machine begins to boot.
    while !reading.is_finished() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing was seen");
        net.client(&["curl", "-sf", &script]);
    }
    let seen = reading.join().unwrap();
    assert!(seen.contains("web1               script    got /b/"), "{seen}");
}

#[test]
fn what_happened_is_told_after_the_server_was_killed_too() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    let running = Running::start(&site, &net, &SERVE);
    net.client(&["curl", "-sf", &net.ipxe(&site)]);
    net.client(&["nfs-cat", HELLO]);
    site.fails(1, &["destroy", "base"]);
    let kinds = || {
        let log = site.prints(&["log", "-H", "web1"]);
        log.lines().map(|line| line.split('\t').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    // A thread of its own writes it down.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !kinds().iter().any(|kind| kind == "root-mounted") {
        assert!(Instant::now() < deadline, "{:?}", kinds());
        thread::sleep(Duration::from_millis(20));
    }
    running.end(Signal::SIGKILL);
    let told = kinds();
    let order = ["boot-began", "address-leased", "file-sent", "root-mounted"];
    let places = order.map(|kind| told.iter().position(|known| known == kind));
    assert!(places.is_sorted() && places[0].is_some(), "{told:?}");
    assert!(site.prints(&["log", "-j", "--last", "1"]).contains("\"environment\": \"base\""));
    assert!(!site.prints(&["log", "-H", "base"]).is_empty());
    assert_eq!(site.prints(&["log", "-H", "web2"]), "");
}

#[test]
fn a_server_that_is_asked_to_end_leaves_nothing_behind() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let running = Running::start(&site, &net, &[]);
    assert!(running.summary.contains("listens and hands out nothing"), "{}", running.summary);
    assert!(exists(&site.state().join("control.sock")));
    assert_eq!(running.end(Signal::SIGTERM).code(), Some(0));
    assert!(!exists(&site.state().join("control.sock")));
    Running::start(&site, &net, &[]);
}

#[test]
fn the_server_may_open_as_many_files_as_the_host_lets_it() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, before.1 / 2, before.1).unwrap();
    let running = Running::start(&site, &net, &SERVE);
    let limits = fs::read_to_string(format!("/proc/{}/limits", running.process())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<rlim_t> =
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers, [before.1, before.1]);
}

#[test]
fn the_server_keeps_the_privileges_of_its_work_and_no_other() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    let running = Running::start(&site, &net, &SERVE);
    // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, KILL, SETGID, SETUID, LINUX_IMMUTABLE,
    // NET_BIND_SERVICE, NET_RAW, SYS_ADMIN, MKNOD, SETFCAP
    let numbers = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 13, 21, 27, 31];
    let work = numbers.into_iter().fold(0, |all, number| all | 1_u64 << number);
    let value = |status: &str, key| u64::from_str_radix(field(status, key), 16).unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let mut looked_at = 0;
    for task in fs::read_dir(format!("/proc/{}/task", running.process())).unwrap() {
        // A thread that has nothing to do may end meanwhile.
        let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        looked_at += 1;
        for key in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(value(&status, key), work & value(&own, key), "{key}");
        }
        let more = ["CapInh", "CapAmb", "NoNewPrivs", "Seccomp"].map(|key| value(&status, key));
        assert_eq!(more, [0, 0, 1, 2]);
    }
    assert!(looked_at > 4, "{looked_at}");
}

#[test]
fn what_is_in_environments_is_found_by_a_process_that_may_only_read() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    let running = Running::start(&site, &net, &SERVE);
    let boots = |name: &str| {
        let script = String::from_utf8(net.client(&["curl", "-sf", &net.ipxe(&site)])).unwrap();
        assert!(script.contains(&format!("nfsroot=10.77.0.1:/be/{name}")), "{script}");
    };
    boots("base");
    let workers = workers_of(running.process());
    assert!(!workers.is_empty());
    for (process, status) in workers {
        let users = [65_534; 4].map(|user: u32| user.to_string()).join("\t");
        assert_eq!(field(&status, "Uid"), users);
        // CAP_DAC_READ_SEARCH
        assert_eq!(u64::from_str_radix(field(&status, "CapPrm"), 16), Ok(1 << 2));
        kill(process, Signal::SIGKILL).unwrap();
    }
    // Others take their place.
    site.done(&["clone", "base", "other"]);
    site.done(&["sharepxe", "--machine", "web1", "other"]);
    boots("other");
}

/// The processes that a server has for parsing what is in environments, and what is said of them.
fn workers_of(server: u32) -> Vec<(Pid, String)> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let process: i32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let is_one =
            line.contains("provision-worker") && field(&status, "PPid") == server.to_string();
        is_one.then_some((Pid::from_raw(process), status))
    });
    processes.collect()
}

/// A field of `/proc/PID/status`.
fn field<'a>(status: &'a str, key: &str) -> &'a str {
    let of_key = |line: &'a str| line.strip_prefix(key)?.strip_prefix(':');
    status.lines().find_map(of_key).unwrap().trim()
}

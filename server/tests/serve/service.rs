//! The server below a service manager: what it tells it, and how it writes its log for it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{Beside, MAC, Net, Site};

const SERVE: [&str; 5] = ["serve", "--mode", "serve", "--range", "10.77.0.100-10.77.0.199"];

/// Hears what the server says until a message has a line that begins so.
fn hear(manager: &UnixDatagram, word: &str) -> String {
    let begun = Instant::now();
    let mut bytes = [0; 4096];
    loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "no {word}");
        let Ok(length) = manager.recv(&mut bytes) else { continue };
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        if text.lines().any(|line| line.starts_with(word)) {
            return text;
        }
    }
}

#[test]
fn the_service_manager_hears_that_the_server_serves_reloads_lives_and_ends() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    let socket = site.path("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut command = net.beside(&site.netbe(&SERVE));
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "8000000");
    let server = Beside(command.stdout(Stdio::null()).spawn().unwrap());
    let signal =
        |signal| kill(Pid::from_raw(i32::try_from(server.0.id()).unwrap()), signal).unwrap();
    let store = site.state().join("store");
    let status =
        format!("STATUS=serving dir:{}: boot environments 1, named machines 1", store.display());
    assert_eq!(hear(&manager, "READY=1"), format!("READY=1\n{status}"));
    // Who is ready has bound everything.
    assert!(site.prints(&["status"]).contains("web1"));
    hear(&manager, "WATCHDOG=1");
    site.done(&["clone", "base", "other"]);
    signal(Signal::SIGHUP);
    let text = hear(&manager, "RELOADING=1");
    let time: u64 = text.split_once("MONOTONIC_USEC=").unwrap().1.parse().unwrap();
    assert!(time > 0);
    assert!(hear(&manager, "READY=1").contains("boot environments 2"));
    // A server that does not run at all is not alive.
    signal(Signal::SIGSTOP);
    while manager.recv(&mut [0; 4096]).is_ok() {}
    manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(manager.recv(&mut [0; 4096]).is_err());
    signal(Signal::SIGCONT);
    hear(&manager, "WATCHDOG=1");
    signal(Signal::SIGTERM);
    hear(&manager, "STOPPING=1");
}

#[test]
fn journald_gets_lines_without_a_time_and_a_file_gets_them_with_one() {
    let Some(net) = Net::new(&[]) else { return };
    let site = Site::with_base();
    for journald in [true, false] {
        let path = site.path("journal");
        let log = File::create(&path).unwrap();
        let about = log.metadata().unwrap();
        let inode = if journald { about.ino() } else { about.ino() + 1 };
        let mut command = net.beside(&site.netbe(&SERVE));
        command.env("JOURNAL_STREAM", format!("{}:{inode}", about.dev()));
        let mut server = Beside(command.stdout(Stdio::piped()).stderr(log).spawn().unwrap());
        server.until("  DHCP s0 ");
        kill(Pid::from_raw(i32::try_from(server.0.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(server.0.wait().unwrap().success());
        let text = fs::read_to_string(&path).unwrap();
        let ending = text.lines().find(|line| line.ends_with("ending")).unwrap();
        match journald {
            true => {
                assert_eq!(ending, "<6>ending");
                assert!(text.lines().all(|line| line.starts_with('<')), "{text}");
            }
            // 2026-11-22T17:00:00.000000Z  INFO ending
            false => assert!(ending.starts_with("20") && ending.contains(" INFO "), "{ending}"),
        }
    }
}

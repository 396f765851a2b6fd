//! The processes that parse what came from elsewhere: what they may still do, and that they end.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::bench::netbe;

/// A value of `/proc/PID/status`.
fn status(process: &str, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).unwrap();
    line.trim().to_owned()
}

fn mask(process: &str, key: &str) -> u64 {
    u64::from_str_radix(&status(process, key), 16).unwrap()
}

/// What a worker of this privilege has left when it asks for its work, and what it is expected to have.
fn has_left(privilege: &str, expected: u64, user: u32) {
    let (mut own, other) = UnixStream::pair().unwrap();
    let mut command = Command::new(netbe());
    command.args(["provision-worker", privilege]).stdin(OwnedFd::from(other));
    let mut worker = command.spawn().unwrap();
    drop(command);
    own.read_exact(&mut [0]).unwrap();
    let process = worker.id().to_string();
    for key in ["CapInh", "CapAmb"] {
        assert_eq!(mask(&process, key), 0, "{key}");
    }
    for key in ["CapEff", "CapPrm"] {
        assert_eq!(mask(&process, key), expected & mask("self", "CapPrm"), "{key}");
    }
    assert_eq!(status(&process, "NoNewPrivs"), "1");
    assert_eq!(status(&process, "Seccomp"), "2");
    if mask("self", "CapPrm") & (1 << SETPCAP) != 0 {
        assert_eq!(mask(&process, "CapBnd"), expected & mask("self", "CapBnd"));
    }
    if mask("self", "CapPrm") & (1 << SETUID) != 0 {
        let users = [user; 4].map(|user| user.to_string()).join("\t");
        assert_eq!(status(&process, "Uid"), users);
    }
    // Nobody has work for it.
    drop(own);
    assert!(worker.wait().unwrap().success());
}

#[test]
fn who_reads_environments_may_read_every_file_and_nothing_else() {
    // CAP_DAC_READ_SEARCH
    has_left("read", 1 << 2, 65_534);
}

#[test]
fn who_unpacks_archives_may_make_files_and_nothing_else() {
    // CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE, MKNOD, SETFCAP
    has_left("write", 0b1_1111 | 1 << 9 | 1 << 27 | 1 << 31, 0);
}

#[test]
fn a_worker_is_nothing_that_is_typed() {
    for arguments in [&["provision-worker"][..], &["provision-worker", "all"]] {
        let mut command = Command::new(netbe());
        let done = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(said, "provision-worker: netbe starts it by itself\n");
    }
    let help = Command::new(netbe()).arg("--help").output().unwrap();
    assert!(!String::from_utf8(help.stdout).unwrap().contains("provision-worker"));
}

/// Numbers of capabilities.
const SETUID: u32 = 7;
const SETPCAP: u32 = 8;

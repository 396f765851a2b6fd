//! What is run for a guest, noted down in the place of the programs: none of it was seen on bhyve.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ::child::{Error, Why};
use bootcfg::bhyve::{Boot, bhyveload};
use bootcfg::{Address, Guest, Mac, Root, View};

use super::super::child::ThisHost;
use super::super::child::test::SIGNALS;
use super::*;

/// Notes down what it is to run.
struct Recorder {
    /// The commands, and whether they had the terminal.
    done: Vec<String>,
    /// The beginning of the command that fails, and how it does.
    failing: Option<(&'static str, io::Result<i32>)>,
    /// How bhyve ends, time after time.
    ends: VecDeque<Ending>,
    /// Whether the kernel has a virtual machine.
    machine: bool,
    /// Whether one cannot be freed.
    stuck: bool,
    /// What `ifconfig tap create` prints.
    tap: &'static str,
    stopping: bool,
}

/// How bhyve ends.
#[derive(Clone, Copy)]
enum Ending {
    /// By itself.
    Code(i32),
    /// By itself, after somebody has asked for it.
    Asked(i32),
    /// Killed, after somebody has asked for it.
    Killed,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            done: Vec::new(),
            failing: None,
            ends: VecDeque::new(),
            machine: false,
            stuck: false,
            tap: "tap3\n",
            stopping: false,
        }
    }
}

impl Recorder {
    fn failing(beginning: &'static str, how: io::Result<i32>) -> Self {
        Self { failing: Some((beginning, how)), ..Self::default() }
    }

    fn ending(ends: impl IntoIterator<Item = Ending>) -> Self {
        Self { ends: ends.into_iter().collect(), ..Self::default() }
    }

    fn note(&mut self, line: String, mark: &str) -> io::Result<ExitStatus> {
        match line.split(' ').next().unwrap() {
            "bhyveload" | "bhyve" => self.machine = true,
            "bhyvectl" => self.machine = self.stuck,
            _ => {}
        }
        let failing = self.failing.as_ref().filter(|(beginning, _)| line.starts_with(beginning));
        let ended = match failing {
            Some((_, Ok(code))) => Ok(code << 8),
            Some((_, Err(error))) => Err(error.kind().into()),
            None => Ok(0),
        };
        self.done.push(format!("{mark}{line}"));
        ended.map(ExitStatus::from_raw)
    }
}

impl Runner for Recorder {
    fn ask(&mut self, words: &[String], _limit: Duration) -> Result<Vec<u8>, Error> {
        let call = words.join(" ");
        let failed = |why, said: &str| Error { call: call.clone(), why, said: said.to_owned() };
        let status =
            self.note(call.clone(), "").map_err(|error| failed(Why::Absent, &error.to_string()))?;
        if !status.success() {
            return Err(failed(Why::Ended(status), "ifconfig:\nno such thing"));
        }
        let made = words.iter().any(|word| word == "create");
        Ok(if made { self.tap.into() } else { Vec::new() })
    }

    fn run(&mut self, command: Command, terminal: Terminal) -> io::Result<ExitStatus> {
        let mark = if terminal == Terminal::Shared { "(terminal) " } else { "" };
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
        let status = self.note(words.join(" "), mark)?;
        if command.get_program() != "bhyve" {
            return Ok(status);
        }
        let raw = match self.ends.pop_front().unwrap_or(Ending::Code(1)) {
            Ending::Code(code) => code << 8,
            Ending::Asked(code) => {
                self.stopping = true;
                code << 8
            }
            Ending::Killed => {
                self.stopping = true;
                9
            }
        };
        Ok(ExitStatus::from_raw(raw))
    }

    fn is_stopping(&mut self) -> bool {
        self.stopping
    }

    fn exists(&mut self, path: &Path) -> bool {
        assert_eq!(path, Path::new("/dev/vmm/head"));
        self.machine
    }
}

fn head() -> Guest {
    let root = Root {
        server: [192, 168, 2, 1].into(),
        path: "/be/head".into(),
        datasets: Vec::new(),
        view: View::Joined,
        read_only: false,
        host: None,
    };
    let mac = Mac([2, 1, 2, 3, 4, 5]);
    let (name, serial) = ("head".into(), bootcfg::Serial::default());
    Guest { name, memory: 512, cpus: 1, mac, mtu: None, root, serial, kenv: Vec::new() }
}

/// What a run did, said and could not do.
fn lived(
    recorder: Recorder,
    console: Console,
    link: &Link,
) -> (Recorder, Vec<String>, Vec<String>) {
    let guest = head();
    let address = Address { address: [192, 168, 2, 202].into(), prefix: 24, gateway: None };
    let load = bhyveload(&guest, &address, "/be/head", &[1; 4], console).unwrap();
    outcome(recorder, &Virtual { guest: &guest, boot: Boot::Load(load), console }, link)
}

fn outcome(
    mut recorder: Recorder,
    machine: &Virtual<'_>,
    link: &Link,
) -> (Recorder, Vec<String>, Vec<String>) {
    let mut told = Vec::new();
    let failures = run(machine, link, &mut recorder, &mut |line| told.push(line.to_owned()));
    (recorder, told, failures.into_iter().map(|failure| failure.message).collect())
}

fn on_bridge(recorder: Recorder) -> (Vec<String>, Vec<String>) {
    let (recorder, _, failures) =
        lived(recorder, Console::NullModem, &Link::Bridge("bridge0".into()));
    (recorder.done, failures)
}

const PREPARED: [&str; 3] =
    ["kldload -n vmm nmdm", "ifconfig tap create", "ifconfig bridge0 addm tap3"];
const LOAD: &str = "bhyveload -c /dev/nmdm-head.1A -m 512M -h /be/head \
    -e boot.netif.hwaddr=02:01:02:03:04:05 -e boot.netif.ip=192.168.2.202 \
    -e boot.netif.netmask=255.255.255.0 -e boot.nfsroot.nfshandle=X01010101X \
    -e boot.nfsroot.nfshandlelen=4 -e boot.nfsroot.server=192.168.2.1 \
    -e boot.nfsroot.options=nolockd -e boot.nfsroot.path=/be/head \
    -e vfs.root.mountfrom=nfs:192.168.2.1:/be/head -e vfs.root.mountfrom.options=rw \
    -e dhcp.host-name=head head";
const RUN: &str = "bhyve -c 1 -m 512M -A -H -P -s 0,hostbridge \
    -s 2,virtio-net,tap3,mac=02:01:02:03:04:05 -s 31,lpc -l com1,/dev/nmdm-head.1A head";
const UP: &str = "ifconfig tap3 up";
const FREE: &str = "bhyvectl --destroy --vm=head";
const REMOVE: &str = "ifconfig tap3 destroy";
const ROUND: [&str; 4] = [UP, LOAD, RUN, FREE];

#[test]
fn a_guest_is_loaded_again_for_every_reboot_until_it_is_off() {
    for (codes, rounds) in [(&[1][..], 1), (&[2], 1), (&[0, 0, 1], 3)] {
        let ends = codes.iter().map(|&code| Ending::Code(code));
        let (done, failures) = on_bridge(Recorder::ending(ends));
        let rounds = std::iter::repeat_n(ROUND, rounds).flatten();
        let expected: Vec<&str> = PREPARED.into_iter().chain(rounds).chain([REMOVE]).collect();
        assert_eq!((done, failures), (expected.iter().map(|&w| w.into()).collect(), vec![]));
    }
}

#[test]
fn how_a_guest_ended_is_told_in_words() {
    let link = Link::Tap("tap3".into());
    let again = "head has restarted itself: it boots again";
    for (ends, words) in [
        (vec![Ending::Code(0), Ending::Code(1)], vec![again, "head has powered itself off"]),
        (vec![Ending::Code(2)], vec!["head has halted, without powering itself off"]),
        (vec![Ending::Asked(0)], vec!["head has restarted itself: it is over"]),
    ] {
        let (_, told, failures) = lived(Recorder::ending(ends), Console::Stdio, &link);
        assert_eq!((told, failures), (owned(&words), vec![]));
    }
}

#[test]
fn a_guest_that_crashes_or_cannot_run_is_told_and_leaves_nothing() {
    for (code, sentence) in [
        (3, "head crashed by a triple fault: see the last messages on its console"),
        (4, "bhyve could not run head: see its messages above"),
        (77, "bhyve ended with an unknown status (exit status: 77): see its messages above"),
    ] {
        let (done, failures) = on_bridge(Recorder::ending([Ending::Code(code)]));
        let expected: Vec<&str> = PREPARED.into_iter().chain(ROUND).chain([REMOVE]).collect();
        assert_eq!((done, failures), (owned(&expected), owned(&[sentence])));
    }
}

#[test]
fn whatever_fails_is_told_with_what_to_do_and_taken_down() {
    let advice = "bridge0 is not a bridge: create one with `ifconfig bridge0 create up`, add the interface of the machines' network with `addm`, or give another --bridge";
    let cases = [
        (
            "kldload",
            &PREPARED[..1],
            "`kldload -n vmm nmdm` failed (ifconfig: no such thing): bhyve needs it in this host's kernel"
                .to_owned(),
        ),
        (
            "ifconfig tap create",
            &PREPARED[..2],
            "`ifconfig tap create` failed (ifconfig: no such thing): bhyve needs an interface for the \
             guest"
                .to_owned(),
        ),
        (
            "ifconfig bridge0",
            &[PREPARED[0], PREPARED[1], PREPARED[2], REMOVE],
            format!("`ifconfig bridge0 addm tap3` failed (ifconfig: no such thing): {advice}"),
        ),
        (
            "ifconfig tap3 up",
            &[PREPARED[0], PREPARED[1], PREPARED[2], UP, REMOVE],
            "`ifconfig tap3 up` failed (ifconfig: no such thing): give another --tap".to_owned(),
        ),
        (
            "bhyveload",
            &[PREPARED[0], PREPARED[1], PREPARED[2], UP, LOAD, FREE, REMOVE],
            "bhyveload could not load head (exit status: 1): see its messages above".to_owned(),
        ),
        (
            "ifconfig tap3 destroy",
            &[PREPARED[0], PREPARED[1], PREPARED[2], UP, LOAD, RUN, FREE, REMOVE],
            "`ifconfig tap3 destroy` failed (ifconfig: no such thing): tap3 still exists: remove it with `ifconfig tap3 destroy`"
                .to_owned(),
        ),
    ];
    for (beginning, expected, sentence) in cases {
        let (done, failures) = on_bridge(Recorder::failing(beginning, Ok(1)));
        assert_eq!((done, failures), (owned(expected), vec![sentence]), "{beginning}");
    }
}

#[test]
fn a_program_that_is_not_there_is_named_and_all_is_taken_down() {
    for (program, count) in
        [("kldload", 1), ("ifconfig tap create", 2), ("bhyveload", 7), ("bhyve ", 8)]
    {
        let missing = Err(io::ErrorKind::NotFound.into());
        let (done, failures) = on_bridge(Recorder::failing(program, missing));
        let name = program.split(' ').next().unwrap();
        assert_eq!(failures, [format!("{name} is not installed: install it")]);
        assert_eq!(done.len(), count, "{done:?}");
        if count > 2 {
            assert_eq!(done[count - 2..], owned(&[FREE, REMOVE]));
        }
    }
}

#[test]
fn a_machine_that_cannot_be_freed_is_told_beside_what_went_wrong() {
    let recorder = Recorder { stuck: true, ..Recorder::ending([Ending::Code(4)]) };
    let (done, failures) = on_bridge(recorder);
    assert_eq!(done.last().map(String::as_str), Some(REMOVE));
    let still = "the virtual machine head is still there after `bhyvectl --destroy --vm=head`";
    assert_eq!(failures, ["bhyve could not run head: see its messages above", still]);
    // A guest that reboots is not loaded into what is still there.
    let recorder = Recorder { stuck: true, ..Recorder::ending([Ending::Code(0)]) };
    let (done, failures) = on_bridge(recorder);
    assert_eq!(done.iter().filter(|line| **line == LOAD).count(), 1, "{done:?}");
    assert_eq!(failures, [still, still]);
}

#[test]
fn whoever_asks_for_the_end_gets_it_and_nothing_is_left() {
    let whole: Vec<&str> = PREPARED.into_iter().chain(ROUND).chain([REMOVE]).collect();
    // It powers itself off, or was about to reboot, which it does not any more.
    for ending in [Ending::Asked(1), Ending::Asked(0)] {
        assert_eq!(on_bridge(Recorder::ending([ending])), (owned(&whole), vec![]));
    }
    let cut = "head was killed: it did not shut itself down within 90 s, or netbe was asked twice";
    assert_eq!(on_bridge(Recorder::ending([Ending::Killed])), (owned(&whole), owned(&[cut])));
    // Before anything runs there is only the interface to be taken down.
    let recorder = Recorder { stopping: true, ..Recorder::default() };
    let expected: Vec<&str> = PREPARED.into_iter().chain([UP, REMOVE]).collect();
    assert_eq!(on_bridge(recorder), (owned(&expected), vec![]));
}

#[test]
fn a_machine_of_that_name_is_left_alone() {
    let (done, failures) = on_bridge(Recorder { machine: true, ..Recorder::default() });
    assert_eq!(done, Vec::<String>::new());
    assert_eq!(
        failures,
        [
            "the virtual machine head exists already (/dev/vmm/head): stop it, or run `bhyvectl --destroy --vm=head` if no process runs it"
        ]
    );
}

#[test]
fn an_interface_that_was_there_is_neither_bridged_nor_removed() {
    let link = Link::Tap("tap3".into());
    let (recorder, told, failures) = lived(Recorder::default(), Console::Stdio, &link);
    let load = LOAD.replace("-c /dev/nmdm-head.1A ", "");
    let run = RUN.replace("/dev/nmdm-head.1A", "stdio");
    let expected = [
        "kldload -n vmm".to_owned(),
        UP.to_owned(),
        format!("(terminal) {load}"),
        format!("(terminal) {run}"),
        FREE.to_owned(),
    ];
    let told = told.iter().map(String::as_str).collect::<Vec<_>>();
    let expected = (expected.to_vec(), vec![], vec!["head has powered itself off"]);
    assert_eq!((recorder.done, failures, told), expected);
}

#[test]
fn the_console_is_told_before_the_guest_runs() {
    let link = Link::Bridge("bridge0".into());
    let (_, told, _) = lived(Recorder::default(), Console::NullModem, &link);
    assert_eq!(told[0], "the console of head is /dev/nmdm-head.1B: `cu -l /dev/nmdm-head.1B`");
}

#[test]
fn a_name_that_is_none_of_an_interface_is_not_used() {
    let (done, failures) = on_bridge(Recorder { tap: "-x; reboot\n", ..Recorder::default() });
    assert_eq!(done, owned(&PREPARED[..2]));
    assert_eq!(failures.len(), 1, "{failures:?}");
    // One that was said is looked at before anything is made.
    let long = "the_bridge_of_the_lab".to_owned();
    for link in [Link::Bridge(long.clone()), Link::Tap(long)] {
        let (recorder, _, failures) = lived(Recorder::default(), Console::NullModem, &link);
        let said = "the interface's name of 21 bytes is too long for bhyve's command line, which takes \
            15: use shorter names";
        assert_eq!((recorder.done, failures), (vec![], owned(&[said])));
    }
}

#[test]
fn a_guest_with_firmware_has_no_loader() {
    let guest = head();
    let boot = Boot::Firmware("/f.fd".to_owned());
    let machine = Virtual { guest: &guest, boot, console: Console::NullModem };
    let (recorder, _, failures) =
        outcome(Recorder::default(), &machine, &Link::Bridge("bridge0".into()));
    assert_eq!(failures, Vec::<String>::new());
    let run = "bhyve -c 1 -m 512M -A -H -P -s 0,hostbridge \
        -s 2,virtio-net,tap3,mac=02:01:02:03:04:05 -s 3,virtio-rnd -s 31,lpc \
        -l com1,/dev/nmdm-head.1A -l bootrom,/f.fd head";
    let expected: Vec<&str> = PREPARED.into_iter().chain([UP, run, FREE, REMOVE]).collect();
    assert_eq!(recorder.done, owned(&expected));
}

#[test]
fn nothing_that_is_run_touches_exports_or_mountd() {
    let (done, _) = on_bridge(Recorder::ending([Ending::Code(0), Ending::Code(1)]));
    let programs: std::collections::BTreeSet<&str> =
        done.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(
        programs.into_iter().collect::<Vec<_>>(),
        ["bhyve", "bhyvectl", "bhyveload", "ifconfig", "kldload"]
    );
}

/// This host, with scripts of a directory in the place of its programs.
struct StandIns {
    host: ThisHost,
    directory: tempfile::TempDir,
}

impl StandIns {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Whoever runs the guest is asked to end, as by an administrator; the guest powers itself off.
        let script = "#!/bin/sh\n\
            name=${0##*/}\n\
            echo \"$name $*\" >>\"${0%/*}/log\"\n\
            case \"$name $*\" in\n\
            'ifconfig tap create') echo tap3;;\n\
            'bhyve '*) trap 'exit 1' TERM; kill -TERM $PPID; while :; do sleep 0.05; done;;\n\
            esac\n";
        for program in ["kldload", "ifconfig", "bhyveload", "bhyve", "bhyvectl"] {
            let path = directory.path().join(program);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { host: ThisHost::new().unwrap(), directory }
    }

    /// The program that stands in for one.
    fn stand_in(&self, program: &OsStr) -> PathBuf {
        self.directory.path().join(program)
    }
}

impl Runner for StandIns {
    fn ask(&mut self, words: &[String], limit: Duration) -> Result<Vec<u8>, Error> {
        let mut words = words.to_vec();
        words[0] = self.stand_in(words[0].as_ref()).to_str().unwrap().to_owned();
        self.host.ask(&words, limit)
    }

    fn run(&mut self, command: Command, terminal: Terminal) -> io::Result<ExitStatus> {
        let mut other = Command::new(self.stand_in(command.get_program()));
        other.args(command.get_args());
        self.host.run(other, terminal)
    }

    fn is_stopping(&mut self) -> bool {
        self.host.is_stopping()
    }

    fn exists(&mut self, _path: &Path) -> bool {
        false
    }
}

#[test]
fn sigterm_presses_the_power_button_and_takes_the_interface_down() {
    let _alone = SIGNALS.lock().unwrap();
    let mut runner = StandIns::new();
    let guest = head();
    let address = Address { address: [192, 168, 2, 202].into(), prefix: 24, gateway: None };
    let console = Console::NullModem;
    let load = bhyveload(&guest, &address, "/be/head", &[1; 4], console).unwrap();
    let machine = Virtual { guest: &guest, boot: Boot::Load(load), console };
    let link = Link::Bridge("bridge0".into());
    let failures = run(&machine, &link, &mut runner, &mut |_| {});
    assert!(failures.is_empty(), "{failures:?}");
    let log = fs::read_to_string(runner.directory.path().join("log")).unwrap();
    let expected: Vec<&str> = PREPARED.into_iter().chain(ROUND).chain([REMOVE]).collect();
    assert_eq!(log.lines().collect::<Vec<_>>(), expected);
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|&line| line.to_owned()).collect()
}

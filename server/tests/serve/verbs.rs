//! What commands do to boot environments while a server serves them.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use netbe::control::{Client, Reply, Request};

use crate::bench::{KERNEL, MAC, Net, Running, Site};

const SERVE: [&str; 4] = ["--mode", "serve", "--range", "10.77.0.100-10.77.0.199"];
/// Answers to a GETATTR (RFC 1813 §2.6).
const OK: u32 = 0;
const STALE: u32 = 70;
const JUKEBOX: u32 = 10_008;
const CLIENTS: [&str; 3] = ["busybox", "curl", "nfs-cat"];

fn hello(name: &str) -> String {
    format!("nfs://10.77.0.1/be/{name}/hello?version=3")
}

fn root(site: &Site, name: &str) -> PathBuf {
    site.state().join("store/be").join(name)
}

/// Everybody on the network may read it.
fn share(site: &Site, net: &Net, name: &str) {
    site.done(&["sharenfs", "--network", "10.77.0.0/24", name]);
    net.client(&["ip", "address", "replace", "10.77.0.2/24", "dev", "c0"]);
}

#[test]
fn a_rollback_is_seen_at_once() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    share(&site, &net, "base");
    let _running = Running::start(&site, &net, &SERVE);
    site.done(&["snapshot", "base@before"]);
    fs::write(root(&site, "base").join("hello"), "changed\n").unwrap();
    assert_eq!(net.client(&["nfs-cat", &hello("base")]), b"changed\n");
    site.done(&["rollback", "-f", "base@before"]);
    assert_eq!(net.client(&["nfs-cat", &hello("base")]), b"hello from base\n");
}

/// Bytes of any length, as XDR has them (RFC 4506 §4.10).
fn opaque(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    let mut out = [&length.to_be_bytes(), bytes].concat();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Makes a call with one argument, such as a handle.
fn call(net: &Net, port: u16, procedure: [u32; 3], argument: &[u8]) -> Vec<u8> {
    call_with(net, port, procedure, &opaque(argument))
}

/// Makes a call by UDP from a reserved port, as a client's kernel and mount(8) do; gives its results.
fn call_with(
    net: &Net,
    port: u16,
    [program, version, procedure]: [u32; 3],
    arguments: &[u8],
) -> Vec<u8> {
    net.in_client(|| {
        let own = (600..1024).find_map(|port| UdpSocket::bind(("10.77.0.2", port)).ok()).unwrap();
        own.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // xid, CALL, RPC 2, what is called, and no credential (RFC 5531 §9).
        let words = [7, 0, 2, program, version, procedure, 0, 0, 0, 0];
        let mut call: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
        call.extend_from_slice(arguments);
        own.send_to(&call, ("10.77.0.1", port)).unwrap();
        let mut reply = vec![0; 512];
        let length = own.recv(&mut reply).unwrap();
        reply.truncate(length);
        // The call was accepted.
        assert!(length >= 24 && reply[8..24] == [0; 16], "{reply:?}");
        reply.split_off(24)
    })
}

/// Sends a call of MOUNT about `/be/base`.
fn mount_call(net: &Net, procedure: u32) -> Vec<u8> {
    let results = call(net, 20_048, [100_005, 3, procedure], b"/be/base");
    // MNT answers a status, which is MNT3_OK.
    assert!(procedure != 1 || results[..4] == [0; 4], "{results:?}");
    results
}

/// The status that a GETATTR of NFS is answered with.
fn getattr(net: &Net, handle: &[u8]) -> u32 {
    let results = call(net, 2049, [100_003, 3, 1], handle);
    u32::from_be_bytes(results[..4].try_into().unwrap())
}

/// How stable the server says that a byte is which was written without asking for that (RFC 1813 §3.3.7).
fn committed(net: &Net, file: &[u8], offset: u8) -> u32 {
    let place = [0, 0, 0, 0, 0, 0, 0, offset, 0, 0, 0, 1, 0, 0, 0, 0];
    let arguments = [opaque(file), place.to_vec(), opaque(b"x")].concat();
    let results = call_with(net, 2049, [100_003, 3, 7], &arguments);
    let word = |at: usize| u32::from_be_bytes(results[at..at + 4].try_into().unwrap());
    // The status, and attributes before and after.
    assert_eq!([word(0), word(4), word(32)], [OK, 1, 1], "{results:?}");
    word(124)
}

#[test]
fn a_running_server_takes_over_what_is_on_the_disk_before_an_answer() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    share(&site, &net, "base");
    let mode = PermissionsExt::from_mode(0o666);
    fs::set_permissions(root(&site, "base").join("hello"), mode).unwrap();
    let _running = Running::start(&site, &net, &SERVE);
    let mounted = mount_call(&net, 1);
    let handle = |results: &[u8]| results[8..8 + usize::from(results[7])].to_vec();
    let place = [opaque(&handle(&mounted)), opaque(b"hello")].concat();
    let file = handle(&call_with(&net, 2049, [100_003, 3, 3], &place));
    let (unstable, file_sync) = (0, 2);
    assert_eq!(committed(&net, &file, 0), unstable);
    site.done(&["set", "sync=always", "base"]);
    assert_eq!(committed(&net, &file, 1), file_sync);
    site.done(&["set", "sync=disabled", "base"]);
    assert_eq!(committed(&net, &file, 2), unstable);
    let refused = site.fails(2, &["set", "sync=sometimes", "base"]);
    assert!(refused.contains("write standard, always or disabled"), "{refused}");
    assert_eq!(fs::read(root(&site, "base").join("hello")).unwrap(), b"xxxlo from base\n");
}

#[test]
fn what_a_client_that_nobody_booted_uses_is_taken_away_only_by_force() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    share(&site, &net, "base");
    site.done(&["snapshot", "base@before"]);
    let _running = Running::start(&site, &net, &SERVE);
    assert_eq!(net.client(&["nfs-cat", &hello("base")]), b"hello from base\n");
    for verb in [&["destroy", "base"][..], &["rollback", "base@before"], &["rename", "base", "new"]]
    {
        let refused = site.fails(1, verb);
        let expected = "base is used over NFS by 10.77.0.2, last seen ";
        assert!(refused.starts_with(expected), "{verb:?}: {refused}");
        assert!(refused.contains("s ago: unmount it there, or "), "{verb:?}: {refused}");
    }
    // It unmounts, and is silent.
    mount_call(&net, 3);
    site.done(&["rollback", "base@before"]);
    mount_call(&net, 1);
    assert!(site.fails(1, &["destroy", "base"]).contains("10.77.0.2"));
    site.done(&["rename", "-f", "base", "new"]);
    assert!(site.fails(1, &["destroy", "new"]).contains("10.77.0.2"));
    // It still calls it what it was called.
    mount_call(&net, 3);
    site.done(&["destroy", "new"]);
}

#[test]
fn a_machine_that_is_booted_anew_no_longer_uses_what_it_had() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    site.done(&["clone", "base", "next"]);
    fs::write(root(&site, "next").join("hello"), "hello from next\n").unwrap();
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    let _running = Running::start(&site, &net, &SERVE);
    let boot = |name: &str| {
        let script = net.ipxe(&site);
        net.client(&["curl", "-sf", &script]);
        net.client(&["nfs-cat", &hello(name)]);
    };
    boot("base");
    assert!(site.fails(1, &["destroy", "base"]).contains("web1 runs from base: "));
    site.done(&["activate", "web1", "next"]);
    boot("next");
    site.done(&["destroy", "base"]);
    assert!(site.fails(1, &["destroy", "next"]).contains("web1 runs from next: "));
}

#[test]
fn an_upgraded_root_is_served_at_once() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "web1"]);
    site.prints(&["sharepxe", "--machine", "web1", "--root", "own", "base"]);
    site.done(&["clone", "base", "next"]);
    fs::write(root(&site, "next").join("hello"), "hello from next\n").unwrap();
    let _running = Running::start(&site, &net, &SERVE);
    site.prints(&["upgrade", "web1", "next"]);
    let boot = || String::from_utf8(net.client(&["curl", "-sf", &net.ipxe(&site)])).unwrap();
    let script = boot();
    assert!(script.contains("nfsroot=10.77.0.1:/be/web1-next,"), "{script}");
    assert_eq!(net.client(&["nfs-cat", &hello("web1-next")]), b"hello from next\n");
    // It was to be booted once.
    let script = boot();
    assert!(script.contains("nfsroot=10.77.0.1:/be/web1-base,"), "{script}");
    let status = site.prints(&["status", "-j"]);
    let counted =
        status.split_once("\"rpc\":{\"calls\":").or_else(|| status.split_once("\"calls\": "));
    assert!(counted.is_some_and(|(_, rest)| !rest.starts_with('0')), "{status}");
}

#[test]
fn a_renamed_environment_is_served_by_its_new_name_at_once() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    share(&site, &net, "base");
    let _running = Running::start(&site, &net, &SERVE);
    site.done(&["rename", "base", "new"]);
    assert_eq!(net.client(&["nfs-cat", &hello("new")]), b"hello from base\n");
    let status = site.prints(&["status", "-j"]);
    assert!(!status.contains("\"base\""), "{status}");
}

#[test]
fn who_lives_on_what_a_command_works_on_waits_for_it() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    share(&site, &net, "base");
    let _running = Running::start(&site, &net, &SERVE);
    let mounted = mount_call(&net, 1);
    let length = u32::from_be_bytes(mounted[4..8].try_into().unwrap());
    let handle = &mounted[8..][..usize::try_from(length).unwrap()];
    assert_eq!(getattr(&net, handle), OK);
    // What `netbe rename -f` asks for, and `netbe destroy -f`.
    let hold = Request::Hold { environment: "base".to_owned(), force: true };
    let mut command = Client::connect(&site.state().join("control.sock")).unwrap().unwrap();
    assert!(matches!(command.ask(&hold).unwrap(), Reply::Held { .. }));
    assert_eq!(getattr(&net, handle), JUKEBOX);
    fs::rename(root(&site, "base"), root(&site, "new")).unwrap();
    let all = Request::Reload { environments: None };
    assert_eq!(command.ask(&all).unwrap(), Reply::Done);
    assert_eq!(getattr(&net, handle), JUKEBOX, "nobody said that it is gone");
    assert!(site.prints(&["status"]).contains("or run `netbe destroy -f base` to forget it"));
    fs::rename(root(&site, "new"), root(&site, "base")).unwrap();
    site.done(&["rename", "-f", "base", "new"]);
    assert_eq!(getattr(&net, handle), OK);
    site.done(&["destroy", "-f", "new"]);
    assert_eq!(getattr(&net, handle), STALE);
}

#[test]
fn a_typo_in_its_metadata_leaves_a_running_machine_its_root() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    share(&site, &net, "base");
    let running = Running::start(&site, &net, &SERVE);
    let mounted = mount_call(&net, 1);
    let length = u32::from_be_bytes(mounted[4..8].try_into().unwrap());
    let handle = &mounted[8..][..usize::try_from(length).unwrap()];
    let path = site.state().join("store/meta/base.toml");
    let good = fs::read(&path).unwrap();
    fs::write(&path, "gibberish").unwrap();
    running.hang_up();
    site.until("until that is corrected, base is served as before");
    assert_eq!(getattr(&net, handle), OK);
    // What the store does not name waits.
    fs::remove_file(&path).unwrap();
    running.hang_up();
    site.until("or run `netbe destroy -f base` to forget it");
    assert_eq!(getattr(&net, handle), JUKEBOX);
    fs::write(&path, good).unwrap();
    site.done(&["sharenfs", "--network", "10.77.0.0/24", "base"]);
    assert_eq!(getattr(&net, handle), OK);
    assert!(!site.prints(&["status"]).contains("not served"));
    // By hand, and said to be gone: by that name, and after a restart.
    fs::remove_dir_all(root(&site, "base")).unwrap();
    running.hang_up();
    site.until("or run `netbe destroy -f base` to forget it");
    assert_eq!(getattr(&net, handle), JUKEBOX);
    site.done(&["destroy", "-f", "base"]);
    assert_eq!(getattr(&net, handle), STALE);
    drop(running);
    let _running = Running::start(&site, &net, &SERVE);
    assert_eq!(getattr(&net, handle), STALE);
}

/// A server, and a machine that has booted `base` and lives on it.
fn lived_on(net: &Net) -> (Site, Running) {
    let site = Site::with_base();
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    site.done(&["snapshot", "base@before"]);
    let running = Running::start(&site, net, &SERVE);
    let script = net.ipxe(&site);
    net.client(&["curl", "-sf", &script]);
    net.client(&["nfs-cat", &hello("base")]);
    (site, running)
}

#[test]
fn what_a_machine_lives_on_is_taken_away_only_by_force() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let (site, _running) = lived_on(&net);
    for verb in [&["destroy", "base"][..], &["rollback", "base@before"], &["rename", "base", "new"]]
    {
        let refused = site.fails(1, verb);
        assert!(refused.contains("web1 runs from base: "), "{verb:?}: {refused}");
    }
    assert_eq!(net.client(&["nfs-cat", &hello("base")]), b"hello from base\n");
    site.done(&["rollback", "-f", "base@before"]);
    assert_eq!(net.client(&["nfs-cat", &hello("base")]), b"hello from base\n");
    site.done(&["destroy", "-f", "base"]);
    assert!(!root(&site, "base").exists());
}

#[test]
fn what_a_machine_lives_on_is_not_taken_away_while_it_is_not_served() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let (site, _running) = lived_on(&net);
    site.done(&["set", "role=off", "base"]);
    for verb in [
        &["destroy", "base"][..],
        &["destroy", "-n", "base"],
        &["rollback", "base@before"],
        &["rename", "base", "new"],
    ] {
        let refused = site.fails(1, verb);
        assert!(refused.contains("web1 runs from base: "), "{verb:?}: {refused}");
    }
    site.done(&["set", "role=be", "base"]);
    assert_eq!(net.client(&["nfs-cat", &hello("base")]), b"hello from base\n");
}

#[test]
fn the_data_of_a_machine_that_lives_are_taken_away_only_by_force() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::new();
    site.done(&["create", "-l", "linux", "head"]);
    fs::create_dir_all(root(&site, "head").join("boot")).unwrap();
    fs::write(root(&site, "head").join("boot/vmlinuz"), KERNEL).unwrap();
    fs::write(root(&site, "head").join("boot/initrd.img"), "initrd").unwrap();
    site.done(&["set", "data=home", "head"]);
    site.done(&["machine", "add", "--mac", MAC, "web1"]);
    site.prints(&["sharepxe", "--machine", "web1", "--root", "own", "head"]);
    let diary = root(&site, "web1-data").join("home/diary");
    fs::write(&diary, "monday\n").unwrap();
    site.done(&["snapshot", "web1-data@monday"]);
    fs::write(&diary, "tuesday\n").unwrap();
    let _running = Running::start(&site, &net, &SERVE);
    let script = net.ipxe(&site);
    net.client(&["curl", "-sf", &script]);
    let read = || net.client(&["nfs-cat", "nfs://10.77.0.1/be/web1-head/home/diary?version=3"]);
    assert_eq!(read(), b"tuesday\n");
    for verb in [
        &["destroy", "web1-data"][..],
        &["rollback", "web1-data@monday"],
        &["rename", "web1-data", "new"],
    ] {
        let refused = site.fails(1, verb);
        assert!(refused.contains("web1-data has the data of web1 in it: "), "{verb:?}: {refused}");
    }
    assert_eq!(read(), b"tuesday\n");
    site.done(&["rollback", "-f", "web1-data@monday"]);
    assert_eq!(read(), b"monday\n");
    site.done(&["rename", "-f", "web1-data", "new"]);
    assert_eq!(read(), b"monday\n");
}

#[test]
fn a_root_that_is_not_whole_is_not_served() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    // What a killed command leaves.
    let place = store::Location::Directory(site.state().join("store"));
    let store = store::Store::open(&place, &site.state()).unwrap();
    let killed = catch_unwind(AssertUnwindSafe(|| {
        let (base, name) = ("base".parse().unwrap(), "web1-base".parse().unwrap());
        let _draft = store.draft(&base, &name).unwrap();
        resume_unwind(Box::new("killed"))
    }));
    assert!(killed.is_err());
    // A program that another test starts has its locks too until it is executed.
    drop(store.hold(&"web1-base".parse().unwrap()).unwrap());
    while store.pending().unwrap().is_empty() {
        std::thread::yield_now();
    }
    let uuid = store.get(&"web1-base".parse().unwrap()).unwrap().uuid;
    site.done(&["machine", "add", "--mac", MAC, "--environment", "base", "web1"]);
    let _running = Running::start(&site, &net, &SERVE);
    let served = |name: &str| {
        let mut asked = Command::new("nfs-cat");
        net.within_client(asked.arg(hello(name))).output().unwrap().status.success()
    };
    assert!(!served("web1-base"));
    let told: serde_json::Value = serde_json::from_str(&site.prints(&["status", "-j"])).unwrap();
    assert_eq!(told["unserved"], serde_json::json!([]), "{told}");
    site.prints(&["sharepxe", "--machine", "web1", "--root", "own", "base"]);
    assert_ne!(store.get(&"web1-base".parse().unwrap()).unwrap().uuid, uuid);
    share(&site, &net, "web1-base");
    assert!(served("web1-base"));
}

#[test]
fn a_journal_that_cannot_be_read_is_told() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    let _running = Running::start(&site, &net, &SERVE);
    let journal = site.state().join("store/journal");
    fs::rename(&journal, journal.with_extension("away")).unwrap();
    fs::write(&journal, "").unwrap();
    let status = site.prints(&["status"]);
    assert!(status.contains("what interrupted commands left cannot be read: cannot "), "{status}");
    let told: serde_json::Value = serde_json::from_str(&site.prints(&["status", "-j"])).unwrap();
    assert!(told["left_unread"][0].as_str().unwrap().contains("journal"), "{told}");
}

#[test]
fn directories_are_not_released_and_served_on() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    share(&site, &net, "base");
    let _running = Running::start(&site, &net, &SERVE);
    for words in [&["pause", "false"][..], &["pause", "-n", "false"]] {
        assert_eq!(
            site.fails(2, words),
            "the running server does not close the store: only a store on ZFS can be closed while the \
             server runs: stop the server instead"
        );
    }
    assert_eq!(net.client(&["nfs-cat", &hello("base")]), b"hello from base\n");
    assert!(!site.prints(&["status"]).contains("not served"));
    site.done(&["set", "role=off", "base"]);
    let why = "base: its role is off: serve it with `netbe set role=be base`";
    let status = site.prints(&["status"]);
    assert!(status.ends_with(&format!("not served: {why}\n")), "{status}");
    let status: serde_json::Value = serde_json::from_str(&site.prints(&["status", "-j"])).unwrap();
    assert_eq!(status["unserved"], serde_json::json!([why]));
    assert_eq!(status["machines"], serde_json::json!([]));
}

#[test]
fn what_came_from_another_host_is_served_when_that_is_said() {
    let Some(net) = Net::new(&CLIENTS) else { return };
    let site = Site::with_base();
    share(&site, &net, "base");
    let _running = Running::start(&site, &net, &SERVE);
    site.done(&["snapshot", "base@now"]);
    let stream = site.netbe(&["send", "base@now"]).output().unwrap().stdout;
    fs::write(site.path("stream"), stream).unwrap();
    let mut receive = site.netbe(&["receive", "copy"]);
    let stream = fs::File::open(site.path("stream")).unwrap();
    assert!(receive.stdin(stream).status().unwrap().success());
    share(&site, &net, "copy");
    assert_eq!(site.prints(&["list", "-H"]).lines().count(), 2);
    let mut asked = Command::new("nfs-cat");
    let refused = net.within_client(asked.arg(hello("copy"))).output().unwrap();
    assert!(!refused.status.success(), "it was served unasked");
    let off = "not served: copy: its role is off: serve it with `netbe set role=be copy`";
    assert!(site.prints(&["status"]).contains(off));
    // A command that was killed has left it so.
    site.done(&["set", "role=off", "base"]);
    site.sets("base", &[("installing", "be")]);
    site.done(&["set", "note=", "base"]);
    let status = site.prints(&["status"]);
    assert!(
        status.contains("not served: base: an installation is running or was interrupted: wait,")
    );
    assert!(!status.contains("role=be base"), "{status}");
    site.done(&["set", "role=be", "copy"]);
    assert_eq!(net.client(&["nfs-cat", &hello("copy")]), b"hello from base\n");
}

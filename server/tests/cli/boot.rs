//! Guests: what is printed to boot them, and what is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::bench::{Bench, netbe};

/// Where the server is, so that nothing depends on this host's networks.
const SERVER: &str = "--server=192.168.2.1";

/// A site with a boot environment `lin` that has a Linux kernel in it.
fn with_linux() -> Bench {
    let bench = Bench::new();
    bench.silent(&["create", "-l", "linux", "lin"]);
    let boot = bench.root("lin").join("boot");
    fs::create_dir(&boot).unwrap();
    fs::write(boot.join("vmlinuz-6.1"), "kernel").unwrap();
    fs::write(boot.join("initrd.img-6.1"), "initrd").unwrap();
    bench
}

/// A site with a boot environment `head` for FreeBSD, which the machine `guest` boots.
fn with_guest() -> Bench {
    let bench = Bench::with_head();
    let (mac, address) = ("--mac=02:01:02:03:04:05", "--address=192.168.2.202");
    bench.silent(&["machine", "add", mac, address, "--environment=head", "guest"]);
    bench
}

/// The words of a printed command.
fn words(text: &str) -> Vec<String> {
    // An interface is made before.
    let text = text.find("qemu-system").map_or(text, |at| &text[at..]);
    bootcfg::shell::split(text).unwrap()
}

fn after<'a>(words: &'a [String], option: &str) -> Vec<&'a str> {
    words.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].as_str()).collect()
}

#[test]
fn the_slides_guest_has_nine_lines_in_its_fstab() {
    let fstab = Bench::with_head().prints(&["show", "fstab", SERVER, "head"]);
    assert_eq!(fstab.lines().count(), 9);
    assert!(
        fstab.starts_with("192.168.2.1:/be/head/tmp /tmp nfs rw,nfsv3,tcp,nolockd,noatime 0 0\n"),
        "{fstab}"
    );
}

#[test]
fn bhyveload_is_given_everything_that_a_kernel_needs() {
    let bench = with_guest();
    let mac = "02:01:02:03:04:05";
    let options = [SERVER, "--address", "192.168.2.202", "--mac", mac, "head"];
    let text = bench.prints(&[&["show", "bhyveload"], options.as_slice()].concat());
    let load = words(&text);
    let variables = after(&load, "-e");
    for expected in [
        "boot.netif.hwaddr=02:01:02:03:04:05",
        "boot.netif.ip=192.168.2.202",
        "boot.netif.netmask=255.255.255.0",
        "boot.nfsroot.server=192.168.2.1",
        "boot.nfsroot.path=/be/head",
        "boot.nfsroot.options=nolockd",
        "vfs.root.mountfrom=nfs:192.168.2.1:/be/head",
    ] {
        assert!(variables.contains(&expected), "{expected}: {text}");
    }
    let value = |name: &str| variables.iter().find_map(|pair| pair.strip_prefix(name)).unwrap();
    let handle = value("boot.nfsroot.nfshandle=X").strip_suffix('X').unwrap();
    let len: usize = value("boot.nfsroot.nfshandlelen=").parse().unwrap();
    assert_eq!(handle.len(), 2 * len);
    assert!(len <= 64 && len.is_multiple_of(4));
    // The same handle at every call: the kernel of a running guest keeps it for ever.
    assert_eq!(bench.prints(&[&["show", "bhyveload"], options.as_slice()].concat()), text);
    // bhyve is told the same Ethernet address, or the kernel would not find its interface.
    let run = words(&bench.prints(&["show", "bhyve", SERVER, "--mac", mac, "head"]));
    assert!(after(&run, "-s").contains(&"2,virtio-net,tap0,mac=02:01:02:03:04:05"), "{run:?}");
}

#[test]
fn loader_conf_has_the_same_variables() {
    let bench = with_guest();
    let options = [SERVER, "--address=192.168.2.202", "head"];
    let load = words(&bench.prints(&[&["show", "bhyveload"], options.as_slice()].concat()));
    let loader = bench.prints(&[&["show", "loader"], options.as_slice()].concat());
    let quoted: Vec<String> = loader
        .lines()
        .map(|line| line.replacen("=\"", "=", 1).trim_end_matches('"').to_owned())
        .collect();
    assert_eq!(quoted, after(&load, "-e"));
}

#[test]
fn bootnfs_prints_a_script_for_freebsd_and_a_command_for_linux() {
    let script = with_guest().prints(&["bootnfs", "-n", SERVER, "--address=192.168.2.202", "head"]);
    assert!(script.starts_with("#!/bin/sh\n"), "{script}");
    assert!(script.contains("bhyvectl --destroy --vm=head\n"), "{script}");
    let bench = with_linux();
    let shown = bench.prints(&["bootnfs", "-n", SERVER, "lin"]);
    let command = words(&shown);
    assert_eq!(command[0], "qemu-system-x86_64");
    // Root's guest gets an interface, as it does when it is run; for others QEMU's helper makes one.
    let netdev = after(&command, "-netdev")[0];
    if nix::unistd::geteuid().is_root() && cfg!(target_os = "linux") {
        let tap =
            netdev.strip_prefix("tap,id=net0,ifname=").and_then(|rest| rest.split(',').next());
        let tap = tap.unwrap();
        let before =
            format!("ip tuntap add dev {tap} mode tap\nip link set dev {tap} master br0 up\n");
        assert!(shown.starts_with(&before), "{shown}");
        assert!(shown.ends_with(&format!("\nip link delete dev {tap}\n")), "{shown}");
    } else {
        assert_eq!(netdev, "bridge,id=net0,br=br0");
    }
    let kernel = bench.root("lin").join("boot/vmlinuz-6.1");
    assert_eq!(after(&command, "-kernel"), [kernel.to_str().unwrap()]);
    let append = after(&command, "-append")[0];
    assert!(append.starts_with("root=/dev/nfs nfsroot=192.168.2.1:/be/lin,vers=3,tcp"), "{append}");
}

#[test]
fn a_machine_brings_its_name_and_its_addresses() {
    let bench = with_linux();
    bench.silent(&[
        "machine",
        "add",
        "desk",
        "--mac=52:54:00:12:34:56",
        "--address=192.168.2.77",
        "--environment=lin",
        "--cmdline=quiet splash",
    ]);
    let command = words(&bench.prints(&["bootnfs", "-n", SERVER, "--machine=desk", "lin"]));
    assert_eq!(after(&command, "-name"), ["desk"]);
    assert!(after(&command, "-device")[0].contains("mac=52:54:00:12:34:56"), "{command:?}");
    assert!(after(&command, "-append")[0].ends_with(" quiet splash"), "{command:?}");
    // A console is told once.
    for (serial, expected) in
        [("none", "ttyS0,115200"), ("com1", "ttyS0,115200"), ("ttyS1/9600", "ttyS1,9600")]
    {
        bench.silent(&["machine", "set", &format!("--serial={serial}"), "desk"]);
        let command = words(&bench.prints(&["bootnfs", "-n", SERVER, "--machine=desk", "lin"]));
        let words = after(&command, "-append")[0].split(' ');
        let consoles: Vec<_> = words.filter_map(|word| word.strip_prefix("console=")).collect();
        assert_eq!(consoles, [expected]);
    }
    // The terminal is at the port of the console.
    let ports = |command: &[&str]| {
        let command = words(&bench.prints(&[command, &[SERVER, "--machine=desk", "lin"]].concat()));
        after(&command, "-serial").join(" ")
    };
    assert_eq!(ports(&["bootpxe", "-n"]), "null mon:stdio");
    assert_eq!(ports(&["bootpxe", "-n", "--serial"]), "mon:stdio");
    let command =
        words(&bench.prints(&["bootpxe", "-n", SERVER, "--machine=desk", "--tap=tap7", "lin"]));
    assert_eq!(after(&command, "-netdev"), ["tap,id=net0,ifname=tap7,script=no,downscript=no"]);
    assert!(after(&command, "-device")[0].ends_with(",bootindex=1"), "{command:?}");
}

#[test]
fn the_accelerator_can_be_chosen() {
    let bench = with_linux();
    let accelerators = |option: &str| {
        let command = words(&bench.prints(&["bootnfs", "-n", SERVER, option, "lin"]));
        after(&command, "-accel").join(" ")
    };
    assert_eq!(accelerators("--accel=tcg"), "tcg");
    assert_eq!(accelerators("--accel=kvm"), "kvm tcg");
}

#[test]
fn freebsds_words_are_not_printed_for_a_linux() {
    let bench = with_linux();
    for what in ["bhyve", "bhyveload", "conf", "loader", "rcconf"] {
        bench.refuses(
            &["show", what, SERVER, "--address=192.168.2.202", "lin"],
            "lin contains Linux; this output is for FreeBSD only: see `netbe show qemu` and `netbe bootpxe`",
        );
    }
}

#[test]
fn a_container_has_the_name_and_the_address_of_its_machine() {
    let bench = with_linux();
    bench.silent(&["machine", "add", "--mac=02:01:02:03:04:05", "--environment=lin", "web"]);
    let show = ["show", "nspawn", "--machine=web", "--bridge=br0", "lin"];
    let files = bootcfg::conf::read(&bench.prints(&show)).whole().unwrap();
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let expected = [
        "etc/systemd/nspawn/web.nspawn",
        "etc/systemd/system/var-lib-machines-web.mount",
        "etc/systemd/system/systemd-nspawn@web.service.d/netbe.conf",
        "etc/systemd/nspawn/web.network",
    ];
    assert_eq!(paths, expected);
    let root = bench.root("lin").canonicalize().unwrap();
    assert!(files[1].text.contains(&format!("What={}\n", root.display())), "{}", files[1].text);
    assert!(files[3].text.contains("MACAddress=02:01:02:03:04:05\n"), "{}", files[3].text);
    let host = tempfile::tempdir().unwrap();
    let into = format!("--into={}", host.path().display());
    let told = bench.prints(&[&show[..], &[&into]].concat());
    assert_eq!(told.lines().count(), 4, "{told}");
    assert_eq!(fs::read_to_string(host.path().join(paths[0])).unwrap(), files[0].text);
    let nfs = bench.prints(&["show", "nspawn", "--nfs=10.0.0.1", "lin"]);
    assert!(
        nfs.contains("What=10.0.0.1:/be/lin\nWhere=/var/lib/machines/lin\nType=nfs\n"),
        "{nfs}"
    );
    assert!(!nfs.contains("MAC"), "{nfs}");
    bench.refuses(
        &["show", "nspawn", "--machine=typo", "lin"],
        "there is no machine typo: `netbe machine list` shows all",
    );
}

const NOT_NEAR: &str = "it is in no network of the jail's addresses: give an address with the prefix length \
                        of the router's network";

#[test]
fn a_jail_has_a_network_stack_of_its_own_on_a_bridge() {
    let bench = Bench::with_head();
    let show = |words: &[&'static str]| [&["show", "jail"], words, &["head"]].concat();
    let on = ["--bridge=bridge0", "--address=10.0.0.5/24", "--gateway=10.0.0.1"];
    let text = bench.prints(&show(&on));
    let jails = bootcfg::jail::read(&text).whole().unwrap();
    let values = |name: &str| {
        &jails[0].parameters.iter().find(|parameter| parameter.name == name).unwrap().values
    };
    assert_eq!(values("vnet.interface"), &["e0b_head"]);
    let start = [
        "/sbin/ifconfig e0b_head inet 10.0.0.5/24 alias up",
        "/sbin/route -q add -inet default 10.0.0.1",
        "/bin/sh /etc/rc",
    ];
    assert_eq!(values("exec.start"), &start);
    // The same each time.
    assert_eq!(bench.prints(&show(&on)), text);
    for (words, sentence) in [
        (
            &["--bridge=bridge0", "--address=10.0.0.5"][..],
            "with --bridge the length of the network's prefix belongs to an address, as in 10.0.0.5/24",
        ),
        (
            &["--address=10.0.0.5/24"],
            "without --bridge an address of this host is meant, which has its prefix already: write 10.0.0.5 \
             instead of 10.0.0.5/24",
        ),
        (
            &["--bridge=bridge0", "--gateway=10.0.0.1", "--gateway=10.0.0.2"],
            "a jail has one router for each family: say one --gateway",
        ),
        (&["--bridge=bridge0", "--gateway=10.0.0.1"], NOT_NEAR),
        (&["--bridge=bridge0", "--address=10.0.1.5/24", "--gateway=10.0.0.1"], NOT_NEAR),
        (&["--bridge=bridge0", "--address=10.0.0.5/24", "--gateway=fd00::1"], NOT_NEAR),
    ] {
        let (told, status) = bench.fails(&show(words));
        assert!(told.contains(sentence) && status == 2, "{told}");
    }
}

#[test]
fn an_ipxe_script_for_another_server_names_its_files() {
    let text = with_linux().prints(&["show", "ipxe", SERVER, "--url=http://10.0.0.9/lin/", "lin"]);
    assert!(text.starts_with("#!ipxe\n"), "{text}");
    assert!(
        text.contains("\nkernel http://10.0.0.9/lin/boot/vmlinuz-6.1 initrd=initrd root=/dev/nfs ")
    );
    assert!(text.contains("\ninitrd --name initrd http://10.0.0.9/lin/boot/initrd.img-6.1 "));
}

#[test]
fn a_kernel_that_is_a_link_to_the_hosts_files_is_not_handed_to_qemu() {
    let bench = Bench::new();
    bench.silent(&["create", "lin"]);
    let root = bench.root("lin");
    fs::create_dir(root.join("boot")).unwrap();
    fs::write(root.join("boot/real"), "kernel").unwrap();
    // Inside the environment it is /boot/real of its own; for QEMU it would be this host's.
    symlink("/boot/real", root.join("boot/vmlinuz")).unwrap();
    let (sentence, status) = bench.fails(&["bootnfs", "-n", SERVER, "lin"]);
    assert_eq!(status, 2);
    assert!(sentence.starts_with("cannot read ") || sentence.contains("leads out"), "{sentence}");
}

#[test]
fn what_cannot_boot_says_what_is_missing() {
    let bench = Bench::new();
    bench.silent(&["create", "empty"]);
    bench.refuses(
        &["bootnfs", SERVER, "empty"],
        "empty has nothing to boot: install a system with a kernel in /boot",
    );
    bench.refuses(
        &["bootnfs", SERVER, "--machine=desk", "empty"],
        "there is no machine desk: `netbe machine list` shows all",
    );
}

#[test]
fn what_the_server_would_not_boot_is_refused() {
    let bench = with_linux();
    let mac = "--mac=02:00:00:00:00:07";
    bench.refuses(
        &["bootpxe", SERVER, mac, "lin"],
        "no machine has the address 02:00:00:00:00:07: add one with `netbe machine add --mac \
         02:00:00:00:00:07 --environment lin NAME`",
    );
    bench.silent(&["create", "other"]);
    bench.silent(&["sharepxe", "--default", "other"]);
    bench.refuses(
        &["bootpxe", SERVER, mac, "lin"],
        "no machine has the address 02:00:00:00:00:07, so it boots the default environment, other: add one \
         with `netbe machine add --mac 02:00:00:00:00:07 --environment lin NAME`",
    );
    bench.silent(&["sharepxe", "--default", "--off"]);
    bench.silent(&["machine", "add", "desk", mac, "--environment=other"]);
    bench.refuses(
        &["bootpxe", SERVER, mac, "lin"],
        "desk (02:00:00:00:00:07) boots other: change that with `netbe sharepxe --machine desk lin`",
    );
    bench.silent(&["sharepxe", "--machine=desk", "--off"]);
    bench.refuses(
        &["bootpxe", SERVER, "--machine=desk", "lin"],
        "desk (02:00:00:00:00:07) boots nothing: assign it an environment with `netbe sharepxe \
         --machine desk lin`",
    );
    bench.silent(&["sharepxe", "--machine=desk", "lin"]);
    bench.prints(&["bootpxe", "-n", SERVER, "--machine=desk", "lin"]);
}

#[test]
fn a_machine_with_a_clone_of_a_snapshot_boots_by_pxe() {
    let bench = with_linux();
    bench.silent(&["snapshot", "lin@monday"]);
    bench.silent(&["machine", "add", "desk", "--mac=02:00:00:00:00:07"]);
    bench.silent(&["sharepxe", "--machine=desk", "--root=fresh", "lin@monday"]);
    bench.prints(&["bootpxe", "-n", SERVER, "--machine=desk", "lin"]);
    bench.run(&["sharepxe", "--machine=desk", "--root=own", "lin@monday"]);
    for name in ["lin", "desk-lin"] {
        bench.prints(&["bootpxe", "-n", SERVER, "--machine=desk", name]);
        // Its root is the clone, whatever it is called by.
        let command = words(&bench.prints(&["bootnfs", "-n", SERVER, "--machine=desk", name]));
        let append = after(&command, "-append")[0];
        assert!(append.contains("nfsroot=192.168.2.1:/be/desk-lin,"), "{append}");
    }
}

#[test]
fn a_guest_of_bhyveload_needs_an_address_on_the_servers_network() {
    let bench = Bench::with_head();
    bench.cannot(
        &["show", "bhyveload", SERVER, "head"],
        "this output contains the guest's address: give --address, or give the machine one \
         with `netbe machine set --address`",
    );
    bench.cannot(
        &["show", "bhyveload", SERVER, "--address=10.0.0.1", "head"],
        "10.0.0.1 is not in 192.168.2.0/24, the network of this server: give another --address or \
         --server",
    );
}

#[test]
fn what_names_an_address_whose_root_is_refused_is_not_printed() {
    let bench = with_guest();
    bench.silent(&["create", "-l", "freebsd", "tail"]);
    fs::create_dir_all(bench.root("tail").join("boot/kernel")).unwrap();
    for file in ["boot/kernel/kernel", "boot/loader.efi"] {
        fs::write(bench.root("tail").join(file), "x").unwrap();
    }
    let commands = [["show", "bhyveload"].as_slice(), &["show", "loader"], &["bootnfs", "-n"]];
    let refused = |guest: &[&str], sentence: &str| {
        for command in commands {
            bench.refuses(&[command, &[SERVER], guest].concat(), sentence);
        }
    };
    let share = "share the root with `netbe sharenfs --network 192.168.2.9/32 tail`";
    refused(
        &["--address=192.168.2.9", "--mac=02:00:00:00:00:09", "tail"],
        &format!(
            "no machine has the address 192.168.2.9, so it gets no root: add one with `netbe machine add \
             --address 192.168.2.9 --mac 02:00:00:00:00:09 --environment tail NAME`, or {share}"
        ),
    );
    refused(
        &["--address=192.168.2.9", "--machine=guest", "tail"],
        &format!(
            "192.168.2.9 is not the address of guest and gets no root: run `netbe machine set --address \
             192.168.2.9 guest`, or {share}"
        ),
    );
    let share = "share the root with `netbe sharenfs --network 192.168.2.202/32 tail`";
    refused(
        &["--machine=guest", "tail"],
        &format!(
            "192.168.2.202 is the address of guest, which boots head and gets no other root: assign tail \
             with `netbe sharepxe --machine guest tail`, or {share}"
        ),
    );
    bench.silent(&["sharepxe", "--machine", "guest", "--root", "fresh", "tail"]);
    refused(
        &["--machine=guest", "tail"],
        &format!(
            "192.168.2.202 is the address of guest, whose root does not exist before it boots by PXE: run \
             `netbe sharepxe --machine guest --root direct tail`, or {share}"
        ),
    );
    // What each of these sentences says lets it be.
    bench.silent(&["sharepxe", "--machine", "guest", "--root", "direct", "tail"]);
    bench.silent(&["sharenfs", "--network", "192.168.2.9/32", "tail"]);
    for guest in [["--machine=guest", "tail"], ["--address=192.168.2.9", "tail"]] {
        for command in commands {
            assert!(!bench.prints(&[command, &[SERVER], &guest].concat()).is_empty());
        }
    }
}

#[test]
fn an_interface_that_is_not_there_is_named_before_qemu_starts() {
    with_linux().cannot(
        &["bootnfs", SERVER, "--tap=no-such-tap", "lin"],
        "this host has no interface no-such-tap: give --bridge or --tap with an existing one",
    );
    with_linux().cannot(
        &["bootnfs", SERVER, "--bridge=no-such", "lin"],
        "this host has no bridge no-such: give --bridge or --tap with an existing one, or create a bridge: `ip link \
         add no-such type bridge && ip address add 10.0.0.1/24 dev no-such && ip link set no-such up`",
    );
    with_linux().cannot(
        &["bootnfs", SERVER, "--bridge=lo", "lin"],
        "lo is not a bridge: give --bridge or --tap, or create a bridge: `ip link \
         add br0 type bridge && ip address add 10.0.0.1/24 dev br0 && ip link set br0 up`",
    );
}

#[cfg(not(target_os = "freebsd"))]
#[test]
fn bhyve_is_not_run_where_it_is_not() {
    with_guest().cannot(
        &["bootnfs", SERVER, "--address=192.168.2.202", "head"],
        "bhyve runs on FreeBSD hosts only: boot head with `netbe bootpxe`",
    );
}

#[test]
fn a_diskless_machine_has_its_own_files_below_conf() {
    let bench = Bench::with_head();
    let guest = [SERVER, "--address=192.168.2.202", "head"];
    let text = bench.prints(&[&["show", "conf"], guest.as_slice()].concat());
    let files = bootcfg::conf::read(&text).whole().unwrap();
    let file = |path: &str| &files.iter().find(|file| file.path == path).unwrap().text;
    assert_eq!(file("conf/base/etc/diskless_remount"), "/etc -o ro\n");
    let rcconf = bench.prints(&["show", "rcconf", SERVER, "head"]);
    assert_eq!(*file("conf/ip/192.168.2.202/etc/rc.conf.local"), rcconf);
    assert!(rcconf.starts_with("hostname=\"head\"\nroot_rw_mount=\"YES\"\n"), "{rcconf}");
    let fstab = bench.prints(&["show", "fstab", SERVER, "head"]);
    assert_eq!(*file("conf/ip/192.168.2.202/etc/fstab"), fstab);
}

#[test]
fn the_files_below_conf_are_written_and_nothing_else_is_written_over() {
    let bench = Bench::with_head();
    let root = bench.root("head");
    let into = format!("--into={}", root.display());
    let write = ["show", "conf", SERVER, "--address=192.168.2.202", &into, "head"];
    let mut private = bench
        .command("/bin/sh", &["-c", "umask 077; exec \"$0\" \"$@\"", netbe().to_str().unwrap()]);
    let told = String::from_utf8(private.args(write).output().unwrap().stdout).unwrap();
    let own = root.join("conf/ip/192.168.2.202/etc");
    assert_eq!(told.lines().count(), 5, "{told}");
    assert!(told.contains(&format!("wrote {}/fstab\n", own.display())), "{told}");
    let fstab = bench.prints(&["show", "fstab", SERVER, "head"]);
    assert_eq!(fs::read_to_string(own.join("fstab")).unwrap(), fstab);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&root.join("conf")), mode(&own)), (0o755, 0o755));
    assert_eq!(mode(&own.join("fstab")), 0o644);
    assert_eq!(bench.prints(&write), "nothing to write: all files are up to date\n");
    fs::write(own.join("fstab"), "of somebody\n").unwrap();
    fs::remove_file(root.join("conf/base/etc/md_size")).unwrap();
    let (sentence, status) = bench.fails(&write);
    let other =
        "has conf/ip/192.168.2.202/etc/fstab already, with other content: overwrite it with -f";
    assert!(sentence.ends_with(other) && status == 1, "{sentence}");
    assert!(!root.join("conf/base/etc/md_size").exists(), "all or nothing");
    let forced = bench.prints(&[&write[..], &["-f"]].concat());
    assert_eq!(forced.lines().count(), 2, "{forced}");
    assert_eq!(fs::read_to_string(own.join("fstab")).unwrap(), fstab);
    // A guest may write to its root: its links lead nowhere out of it.
    let outside = tempfile::tempdir().unwrap();
    fs::remove_dir_all(root.join("conf")).unwrap();
    symlink(outside.path(), root.join("conf")).unwrap();
    let (sentence, status) = bench.fails(&write);
    assert!(sentence.contains("with other content") && status == 1, "{sentence}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_guest_of_one_file_system_has_nothing_in_its_fstab() {
    let bench = Bench::new();
    bench.silent(&["create", "flat"]);
    let fstab = bench.prints(&["show", "fstab", SERVER, "flat"]);
    assert_eq!(fstab, "# flat is one file system: its guest mounts nothing but its root\n");
}

#[test]
fn an_address_that_is_in_no_network_of_the_host_is_named() {
    let bench = Bench::with_head();
    let (sentence, status) = bench.fails(&["show", "fstab", "--address=198.51.100.9", "head"]);
    let expected = "198.51.100.9 is in no network of this host, which has ";
    let alone = "this host has no network: give --server with the address by which";
    assert!(sentence.starts_with(expected) || sentence.starts_with(alone), "{sentence}");
    assert_eq!(status, 2);
}

#[test]
fn a_serial_console_is_told_to_guests() {
    let bench = Bench::with_head();
    let mac = "52:54:00:00:00:01";
    let address = "--address=192.168.2.202";
    let boots = "--environment=head";
    bench.silent(&["machine", "add", "--mac", mac, address, boots, "--serial", "web1"]);
    let shown = |line: &str| {
        let text = bench.prints(&["machine", "show", "web1"]);
        text.lines().any(|shown| shown == line)
    };
    assert!(shown("serial = \"ttyS0/115200\""));
    let guest = [SERVER, address, "--machine=web1", "head"];
    let loader = || bench.prints(&[&["show", "loader"], guest.as_slice()].concat());
    for line in ["console=\"comconsole\"", "boot_serial=\"YES\"", "comconsole_speed=\"115200\""] {
        assert!(loader().lines().any(|own| own == line), "{line}: {}", loader());
    }
    bench.silent(&["machine", "set", "--serial=com2/9600", "web1"]);
    assert!(shown("serial = \"ttyS1/9600\"") && loader().contains("comconsole_port=\"0x2f8\""));
    bench.silent(&["machine", "set", "--serial=none", "web1"]);
    assert!(!loader().contains("comconsole"), "{}", loader());
    bench.cannot(
        &["machine", "set", "--serial=hvc0", "web1"],
        "invalid value 'hvc0' for '--serial[=<DEVICE[/SPEED]>]': \"hvc0\" is not a serial port of a PC: \
         write ttyS0 to ttyS3, and /SPEED if the speed is not 115200, as in ttyS1/9600",
    );
}

#[test]
fn a_root_that_the_server_gives_read_only_is_mounted_so() {
    let bench = Bench::with_head();
    let mac = "52:54:00:00:00:01";
    bench.silent(&["sharenfs", "--network=192.168.2.0/24", "head"]);
    bench.silent(&["machine", "add", "--mac", mac, "web1"]);
    let writes = |whom: &[&str]| {
        let guest = [SERVER, "--address=192.168.2.202", "head"];
        let show = |what| bench.prints(&[&["show", what], whom, guest.as_slice()].concat());
        let (conf, load) = (show("conf"), show("bhyveload"));
        assert_eq!(conf.contains(" /tmp nfs rw"), conf.contains("\nvarmfs=\"NO\"\n"), "{conf}");
        assert_eq!(conf.contains(" /tmp nfs rw"), !load.contains("options=ro"), "{load}");
        conf.contains(" /tmp nfs rw")
    };
    let web1 = ["--machine=web1"];
    assert!(writes(&web1));
    bench.silent(&["sharepxe", "--machine", "web1", "--root", "shared", "head"]);
    assert!(!writes(&web1));
    assert!(!writes(&["--mac", mac]), "the server knows it by its Ethernet address");
    assert!(writes(&[]));
    // Nobody has the default for himself, unless it is a clone.
    bench.silent(&["sharepxe", "--machine", "web1", "--root", "direct", "head"]);
    bench.silent(&["sharepxe", "--default", "head"]);
    assert!(writes(&web1));
    assert!(!writes(&[]));
    bench.silent(&["sharepxe", "--machine", "web1", "--off"]);
    assert!(!writes(&web1));
}

#[test]
fn a_linux_with_a_shared_root_writes_to_its_memory() {
    let bench = with_linux();
    bench.silent(&["machine", "add", "--mac=52:54:00:00:00:01", "web1"]);
    bench.silent(&["sharepxe", "--machine", "web1", "--root", "shared", "lin"]);
    let command = words(&bench.prints(&["bootnfs", "-n", SERVER, "--machine=web1", "lin"]));
    let append = after(&command, "-append")[0];
    assert!(append.contains(" ro netbe.overlay=tmpfs"), "{append}");
}

/// A site with a machine `desk` that boots the slides' layout.
fn with_desk() -> Bench {
    let bench = Bench::with_head();
    bench.silent(&["machine", "add", "--mac=02:01:02:03:04:05", "--environment=head", "desk"]);
    bench
}

#[test]
fn a_guest_of_bhyve_boots_by_pxe_from_its_uefi() {
    let bench = with_desk();
    let pxe = ["bootpxe", "-n", SERVER, "--machine=desk", "--hypervisor=bhyve"];
    let script = bench.prints(&[pxe.as_slice(), &["head"]].concat());
    assert!(script.starts_with("#!/bin/sh\n"), "{script}");
    assert!(!script.contains("bhyveload"), "{script}");
    for words in [
        "    -l bootrom,/usr/local/share/uefi-firmware/BHYVE_UEFI.fd \\\n",
        "    -l com1,/dev/nmdm-desk.1A \\\n",
        "    -s 2,virtio-net,$tap,mac=02:01:02:03:04:05 \\\n",
        "# Its console is /dev/nmdm-desk.1B: `cu -l /dev/nmdm-desk.1B`.\n",
        "ifconfig bridge0 addm $tap || exit\n",
    ] {
        assert!(script.contains(words), "{words}: {script}");
    }
    bench.cannot(
        &[pxe.as_slice(), &["--firmware=bios", "head"]].concat(),
        "bhyve has no BIOS: give --firmware uefi or --hypervisor qemu",
    );
}

#[test]
fn what_is_printed_is_what_would_be_run() {
    let bench = with_guest();
    let options = ["bootnfs", "-n", SERVER, "--address=192.168.2.202", "head"];
    let printed = bench.prints(&options);
    assert_eq!(bench.prints(&[options.as_slice(), &["--run"]].concat()), printed);
    let own = ["--tap=tap7", "--console=stdio"];
    let script = bench.prints(&[options.as_slice(), &own].concat());
    assert!(script.contains(",tap7,") && script.contains("-l com1,stdio"), "{script}");
    assert!(!script.contains("addm") && !script.contains("nmdm"), "{script}");
    let bridged = bench.prints(&[options.as_slice(), &["--bridge=bridge7"]].concat());
    assert!(bridged.contains("ifconfig bridge7 addm $tap || exit\n"), "{bridged}");
}

#[test]
fn exports_and_mountd_are_left_to_others() {
    let of = |path: &str| fs::metadata(path).and_then(|file| file.modified()).ok();
    let files = ["/etc/exports", "/etc/zfs/exports", "/var/run/mountd.pid"];
    let before = files.map(of);
    let bench = with_desk();
    bench.silent(&["sharenfs", "--network=192.168.2.0/24", "head"]);
    bench.prints(&["show", "exports", "head"]);
    bench.prints(&["bootnfs", "-n", SERVER, "--address=192.168.2.202", "head"]);
    assert_eq!(files.map(of), before);
    // Nor does anything in the program name them: what is never named is never written.
    let sources = [Path::new("src"), Path::new("store/src"), Path::new("provision/src")];
    let mut sources: Vec<PathBuf> =
        sources.map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).to_vec();
    let mut seen = 0;
    while let Some(path) = sources.pop() {
        if path.is_dir() {
            sources.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for file in files {
                assert!(!text.contains(&format!("\"{file}")), "{}: {file}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

//! What other programs that keep guests, jails and mounts are given: read back by the readers of the same formats.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bootcfg::bhyve::{self, Step};
use bootcfg::{At, cbsd, fstab, jail, libvirt, unit, vmbhyve, vmtab};

use crate::bench::Bench;

/// Where the server is, so that nothing depends on this host's networks.
const SERVER: &str = "--server=192.168.2.1";
const MAC: &str = "02:01:02:03:04:05";

/// A site with a boot environment `head` for FreeBSD, which the machine `web1` boots.
fn with_guest() -> Bench {
    let bench = Bench::with_head();
    let (mac, address) = (format!("--mac={MAC}"), "--address=192.168.2.202");
    let how = ["--run=bhyve", "--memory=2G", "--cpus=2", "--environment=head", "web1"];
    bench.silent(&[&["machine", "add", &mac, address][..], &how].concat());
    bench
}

/// Each has the size that the machine's record says.
fn show(bench: &Bench, words: &[&str]) -> String {
    let guest = [SERVER, "--machine=web1", "head"];
    bench.prints(&[&["show"], words, &guest].concat())
}

#[test]
fn one_guest_is_the_same_for_every_program() {
    let bench = with_guest();
    let text = show(&bench, &["bhyve-config", "--tap=tap3"]);
    let file = bhyve::config::run(&bhyve::config::read(&text).entries);
    let text = show(&bench, &["bhyve-script"]);
    let steps = bhyve::read(&text).entries;
    let [At { value: Step::Load(load), .. }, At { value: Step::Run(run), .. }] = steps.as_slice()
    else {
        panic!("{text}")
    };
    assert_eq!((load.name.as_deref(), file.name.as_deref()), (Some("web1"), Some("web1")));
    for run in [run, &file] {
        assert_eq!((run.cpus, run.memory.as_ref().unwrap().value.as_str()), (Some(2), "2048M"));
        assert_eq!(run.devices[0].value.mac.as_deref(), Some(MAC));
    }
    assert!(show(&bench, &["bhyve-script", "--uefi"]).contains("bootrom,/"));
    let text = show(&bench, &["libvirt", "--uefi", "--bridge=br7", "--accel=tcg"]);
    let domain = libvirt::read(&text).whole().unwrap().remove(0);
    assert_eq!((domain.name.as_str(), domain.memory, domain.cpus), ("web1", 2048, 2));
    assert_eq!((domain.boot, domain.accelerated), (libvirt::Boot::Uefi, false));
    let card = &domain.cards[0];
    assert_eq!((card.bridge.as_deref(), card.mac.as_deref()), (Some("br7"), Some(MAC)));
    let value = |settings: Vec<bootcfg::loader::Variable>, name: &str| {
        settings.into_iter().find(|setting| setting.name == name).unwrap().value
    };
    let settings = || vmbhyve::read(&show(&bench, &["vm-bhyve", "--switch=lan"])).whole().unwrap();
    assert_eq!(value(settings(), "network0_mac"), MAC);
    assert_eq!(value(settings(), "network0_switch"), "lan");
    let settings = || cbsd::read(&show(&bench, &["cbsd"])).whole().unwrap();
    assert_eq!(
        (value(settings(), "nic_hwaddr"), value(settings(), "vm_ram")),
        (MAC.into(), "2048m".into())
    );
}

#[test]
fn a_guest_that_a_server_boots_otherwise_is_refused() {
    let bench = Bench::with_head();
    let mac = format!("--mac={MAC}");
    for what in ["vm-bhyve", "cbsd", "libvirt"] {
        bench.refuses(
            &["show", what, SERVER, &mac, "head"],
            &format!(
                "no machine has the address {MAC}: add one with `netbe machine add --mac {MAC} \
                 --environment head NAME`"
            ),
        );
    }
    // A kernel that is told an address which gets no root would stop at its prompt.
    bench.refuses(
        &["show", "bhyveload", SERVER, "--address=192.168.2.7", &mac, "head"],
        &format!(
            "no machine has the address 192.168.2.7, so it gets no root: add one with `netbe machine add --address \
             192.168.2.7 --mac {MAC} --environment head NAME`, or share the root with `netbe sharenfs \
             --network \
             192.168.2.7/32 head`"
        ),
    );
}

#[test]
fn a_host_starts_its_guests_by_vmtab() {
    let bench = with_guest();
    let host = bench.state().join("host");
    fs::create_dir(&host).unwrap();
    let into = format!("--into={}", host.display());
    let told = bench.prints(&["show", "vmtab", SERVER, &into, "web1"]);
    assert_eq!(told.lines().count(), 3, "{told}");
    let read = |path: &str| fs::read_to_string(host.join(path)).unwrap();
    let guests = vmtab::parse(&read("usr/local/etc/vmtab")).unwrap();
    assert_eq!((guests[0].name.as_str(), guests[0].auto), ("web1", true));
    assert_eq!(guests[0].script, "/usr/local/etc/vmtab.d/web1.sh");
    assert!(read("usr/local/etc/vmtab.d/web1.sh").contains("bhyveload"));
    for program in ["usr/local/etc/vmtab.d/web1.sh", "usr/local/etc/rc.d/vmtab"] {
        let mode = fs::metadata(host.join(program)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{program}");
    }
    assert_eq!(
        bench.prints(&["show", "vmtab", SERVER, &into, "web1"]),
        "nothing to write: all files are up to date\n"
    );
    bench.silent(&["machine", "add", "--mac=02:00:00:00:00:09", "db"]);
    bench.refuses(
        &["show", "vmtab", SERVER, "db"],
        "db boots nothing: assign it an environment with `netbe sharepxe --machine db BE`",
    );
}

#[test]
fn a_linux_host_mounts_an_environment_by_units() {
    let bench = Bench::with_head();
    let text = bench.prints(&["show", "mount", SERVER, "--at=/srv/head", "--automount", "head"]);
    let files = bootcfg::conf::read(&text).whole().unwrap();
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let folder = "etc/systemd/system";
    assert_eq!(paths, [format!("{folder}/srv-head.mount"), format!("{folder}/srv-head.automount")]);
    let sections = unit::read(&files[0].text).whole().unwrap();
    let mount = sections.iter().find(|section| section.name == "Mount").unwrap();
    assert_eq!(mount.settings[0], ("What".to_owned(), "192.168.2.1:/be/head".to_owned()));
    bench.cannot(
        &["show", "mount", SERVER, "--at=srv", "head"],
        "the directory \"srv\" cannot be written to a unit of systemd: it is absolute, without . or .. and \
         without control characters",
    );
}

#[test]
fn a_jail_is_named_by_its_number_in_a_network_and_written_in_one_step() {
    let bench = Bench::with_head();
    let show =
        |words: &[&'static str]| [&["show", "jail", "--bridge=bridge0"], words, &["head"]].concat();
    let by_number = show(&["--network=192.168.7.0/24", "--octet=111", "--gateway=192.168.7.1"]);
    let by_address = show(&["--address=192.168.7.111/24", "--gateway=192.168.7.1"]);
    assert_eq!(bench.prints(&by_number), bench.prints(&by_address));
    bench.cannot(
        &show(&["--network=192.168.7.0/24", "--octet=255"]),
        "255 is no number in 192.168.7.0/24: say --octet from 1 to 254",
    );
    let host = bench.state().join("host");
    fs::create_dir(&host).unwrap();
    let into = format!("--into={}", host.display());
    bench.prints(&[by_number.as_slice(), &[&into]].concat());
    let text = fs::read_to_string(host.join("etc/jail.conf.d/head.conf")).unwrap();
    assert_eq!(jail::read(&text).whole().unwrap()[0].name, "head");
    bench.cannot(
        &show(&["--cbsd", "--address=192.168.7.111/24", "--gateway=192.168.7.1"]),
        "CBSD's jconf has no router: leave out --gateway, and set defaultrouter in the jail's rc.conf",
    );
    let jconf = cbsd::read(&bench.prints(&show(&["--cbsd", "--address=192.168.7.111/24"])));
    let address = jconf.entries.iter().find(|at| at.value.name == "ip4_addr").unwrap();
    assert_eq!(address.value.value, "192.168.7.111/24");
}

#[test]
fn a_thin_jail_is_written_with_its_fstab_and_its_directory() {
    let bench = Bench::new();
    bench.silent(&["create", "head"]);
    for path in ["bin", "etc", "tmp", "usr/local", "var", "root"] {
        fs::create_dir_all(bench.root("head").join(path)).unwrap();
    }
    bench.silent(&["thin", "head"]);
    bench.silent(&["clone", "head-skeleton", "web"]);
    let host = bench.state().join("host");
    fs::create_dir(&host).unwrap();
    let into = format!("--into={}", host.display());
    bench.prints(&["show", "jail", "--root=/jails/web", &into, "web"]);
    assert!(host.join("jails/web").is_dir());
    let written = fs::read_to_string(host.join("jails/web.fstab")).unwrap();
    assert_eq!(written, bench.prints(&["show", "jail", "--root=/jails/web", "--fstab", "web"]));
    assert_eq!(written, bench.prints(&["thin", "--fstab", "/jails/web", "web"]));
    let files: Vec<String> =
        fstab::read(&written).whole().unwrap().into_iter().map(|entry| entry.file).collect();
    assert_eq!(files, ["/jails/web", "/jails/web/skeleton"]);
}

#[test]
fn a_root_from_this_host_is_written_for_qemu_and_libvirt() {
    let bench = Bench::new();
    bench.silent(&["create", "-l", "linux", "lin"]);
    fs::create_dir(bench.root("lin").join("boot")).unwrap();
    fs::write(bench.root("lin").join("boot/vmlinuz-6.1"), "kernel").unwrap();
    let mac = format!("--mac={MAC}");
    let how = ["--run=qemu", "--boot=kernel", "--root-by=virtiofs", "--environment=lin", "web1"];
    bench.silent(&[&["machine", "add", &mac], &how[..]].concat());
    let directory = bench.root("lin");
    let directory = directory.to_str().unwrap();
    let shown = |words: &[&str]| {
        bench.prints(&[&["show"], words, &[SERVER, "--machine=web1", "lin"]].concat())
    };
    let text = shown(&["qemu"]);
    let (served, qemu) = text.split_once("qemu-system-x86_64").unwrap();
    let source = format!(
        " --socket-path=/run/netbe-web1.virtiofs -o source={directory},xattr,announce_submounts &\n"
    );
    assert!(served.contains(&source), "{text}");
    assert!(served.starts_with("rm -f /run/netbe-web1.virtiofs\n"), "{text}");
    assert!(qemu.contains("rootfstype=virtiofs ip=dhcp rw "), "{text}");
    assert!(qemu.contains("vhost-user-fs-pci,chardev=root,tag=root"), "{text}");
    // What is said counts.
    let text = shown(&["qemu", "--root-by=9p"]);
    assert!(text.starts_with("qemu-system-x86_64"), "{text}");
    assert!(text.contains(&format!("local,id=root,path={directory},security_model=passthrough")));
    assert!(shown(&["qemu", "--root-by=nfs"]).contains("root=/dev/nfs "));
    let text = shown(&["libvirt", "--kernel"]);
    assert!(text.contains("<driver type=\"virtiofs\"/>"), "{text}");
    assert!(!shown(&["libvirt"]).contains("virtiofs"));

    let words = ["show", "libvirt", "--root-by=9p", SERVER, "--machine=web1", "lin"];
    let sentence =
        "a guest that boots by its firmware has its root over NFS: leave out --root-by 9p";
    bench.refuses(&words, sentence);
    bench.silent(&["machine", "set", "--ro", "web1"]);
    bench.refuses(
        &["show", "qemu", SERVER, "--machine=web1", "lin"],
        "web1 may only read lin, and virtiofs refuses no changes: let it have its root by 9p or nfs",
    );
    bench.cannot(
        &["machine", "set", "--boot=bios", "web1"],
        "a root by virtiofs is for a guest whose kernel netbe hands to the hypervisor: set boot to kernel, or \
         root_by to nfs",
    );
}

/// A site with a Linux environment `lin` with a kernel.
fn with_linux() -> Bench {
    let bench = Bench::new();
    bench.silent(&["create", "-l", "linux", "lin"]);
    fs::create_dir(bench.root("lin").join("boot")).unwrap();
    fs::write(bench.root("lin").join("boot/vmlinuz-6.1"), "kernel").unwrap();
    bench
}

#[test]
fn a_root_that_only_the_server_puts_together_is_not_given_from_this_host() {
    let bench = with_linux();
    bench.silent(&["set", "data=home", "lin"]);
    bench.silent(&["machine", "add", &format!("--mac={MAC}"), "web1"]);
    bench.prints(&["sharepxe", "--machine=web1", "--root=own", "lin"]);
    let sentence = "web1 has its data in web1-data, and only the server puts them into web1-lin: let it have its \
                    root over NFS";
    for by in ["9p", "virtiofs"] {
        let by = format!("--root-by={by}");
        for name in ["lin", "web1-lin"] {
            bench.refuses(&["show", "qemu", &by, SERVER, "--machine=web1", name], sentence);
        }
    }
    bench.refuses(&["nspawn", "-n", "--machine=web1", "lin"], sentence);
    let over_nfs = ["show", "qemu", "--root-by=nfs", SERVER, "--machine=web1", "lin"];
    assert!(bench.prints(&over_nfs).contains("root=/dev/nfs "));
}

#[test]
fn a_template_is_not_given_for_the_root_that_a_machine_lacks() {
    let bench = with_linux();
    bench.silent(&["machine", "add", &format!("--mac={MAC}"), "web1"]);
    bench.prints(&["sharepxe", "--machine=web1", "--root=own", "lin"]);
    bench.silent(&["clone", "lin", "other"]);
    let show = |name| ["show", "qemu", "--root-by=9p", SERVER, "--machine=web1", name];
    assert!(bench.prints(&show("lin")).contains(bench.root("web1-lin").to_str().unwrap()));
    let sentence = "web1 is to have a root of its own, and other is none of its roots: make one with `netbe \
                    sharepxe --machine web1 --root own other`, or let it boot by PXE once, for which the server \
                    makes it";
    bench.refuses(&show("other"), sentence);
    bench.refuses(&["nspawn", "-n", "--machine=web1", "other"], sentence);
    bench.silent(&["sharepxe", "--machine=web1", "--root=fresh", "lin"]);
    bench.refuses(
        &show("lin"),
        "web1 gets a new root for each boot, which only the server makes: let it boot by PXE, or have lin itself \
         with `netbe sharepxe --machine web1 --root direct lin`",
    );
}

#[test]
fn who_is_no_machine_does_not_write_to_a_machines_root() {
    let bench = with_linux();
    bench.silent(&["machine", "add", &format!("--mac={MAC}"), "--environment=lin", "web1"]);
    bench.refuses(
        &["bootnfs", "--root-by=9p", SERVER, "--tap=lo", "lin"],
        "web1 writes to lin too, and both destroy each other's files: give web1 a clone with `netbe sharepxe \
         --machine web1 --root own lin`, or make its root read-only with --root shared",
    );
}

#[test]
fn a_root_from_this_host_is_written_for_bhyve_where_the_system_can_mount_it() {
    let bench = with_guest();
    let words = ["show", "bhyveload", "--root-by=9p", "--machine=web1", SERVER, "head"];
    bench.refuses(
        &words,
        "the kernel of head gets no driver for a root by 9p: write virtio_p9fs_load=\"YES\" into its \
         /boot/loader.conf (FreeBSD 15 or later)",
    );
    let conf = bench.root("head").join("boot/loader.conf");
    fs::create_dir_all(conf.parent().unwrap()).unwrap();
    fs::write(&conf, "virtio_p9fs_load=\"YES\"\n").unwrap();
    let text = show(&bench, &["bhyveload", "--root-by=9p"]);
    assert!(text.contains(" -e vfs.root.mountfrom=p9fs:root "), "{text}");
    let root = bench.root("head");
    let device = format!("4,virtio-9p,root={}", root.display());
    for what in ["bhyve", "bhyve-script"] {
        let text = show(&bench, &[what, "--root-by=9p"]);
        assert!(text.contains(&device), "{text}");
    }
    let text = show(&bench, &["bhyve-config", "--root-by=9p"]);
    assert!(text.contains(&format!("pci.0.4.0.path={}\n", root.display())), "{text}");
    let words = ["show", "bhyveload", "--root-by=virtiofs", "--machine=web1", SERVER, "head"];
    let sentence = "bhyve has no virtiofs: let web1 have its root by 9p or nfs";
    bench.refuses(&words, sentence);
    bench.cannot(
        &["machine", "set", "--boot=kernel", "--root-by=virtiofs", "web1"],
        "bhyve has no virtiofs: set root_by to 9p or nfs, or run to qemu",
    );
}

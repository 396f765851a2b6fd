//! netbe's own initial RAM disk: shown, written, installed.

use std::fs;

use crate::bench::Bench;

/// A site with a Linux environment `lin` whose modules and busybox are none, but look like some.
fn with_modules() -> Bench {
    let bench = Bench::new();
    bench.silent(&["create", "lin"]);
    let root = bench.root("lin");
    let modules = root.join("lib/modules/6.1-x");
    for folder in ["boot", "bin", "lib/modules/6.1-x"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("boot/vmlinuz-6.1-x"), "kernel").unwrap();
    fs::write(root.join("boot/initrd.img-6.1-x"), "its own").unwrap();
    let names = ["af_packet", "nfs", "nfsv3", "virtio_net"];
    let list: String = names.iter().map(|name| format!("{name}.ko:\n")).collect();
    fs::write(modules.join("modules.dep"), list).unwrap();
    for name in names {
        fs::write(modules.join(format!("{name}.ko")), name).unwrap();
    }
    let mut busybox = b"\x7fELF\x02\x01\x01\0".to_vec();
    busybox.resize(120, 0);
    busybox.extend_from_slice(b"\0modprobe\0switch_root\0udhcpc\0");
    fs::write(root.join("bin/busybox"), busybox).unwrap();
    bench
}

#[test]
fn it_is_shown_with_what_is_in_it() {
    let text = with_modules().prints(&["show", "initramfs", "lin"]);
    assert!(text.starts_with("kernel    6.1-x\n"), "{text}");
    assert!(text.contains("\nbusybox   /bin/busybox of the boot environment\n"), "{text}");
    assert!(text.contains("\nvirtio_net.ko"), "{text}");
    let boots = "it boots  /boot/initrd.img-6.1-x; `netbe install --initramfs lin` puts";
    assert!(text.contains(boots), "{text}");
}

#[test]
fn an_installed_one_is_what_the_environment_boots() {
    let bench = with_modules();
    bench.silent(&["install", "--initramfs", "lin"]);
    let text = bench.prints(&["show", "initramfs", "lin"]);
    assert!(text.contains("\nit boots  /boot/initrd-netbe-6.1-x.img, "), "{text}");
    let qemu = bench.prints(&["show", "qemu", "--server=192.168.2.1", "lin"]);
    assert!(qemu.contains("/boot/initrd-netbe-6.1-x.img"), "{qemu}");
}

#[test]
fn a_file_is_written_whole_and_no_directory_is_replaced() {
    let bench = with_modules();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.img");
    fs::write(&file, "old").unwrap();
    bench.silent(&["show", "initramfs", "--output", file.to_str().unwrap(), "lin"]);
    assert!(fs::read(&file).unwrap().starts_with(&[0x1f, 0x8b]));
    let target = folder.path().to_str().unwrap();
    let (words, status) = bench.fails(&["show", "initramfs", "--output", target, "lin"]);
    assert_eq!(status, 2);
    assert!(words.contains("is a directory: give --output with the name of a file"), "{words}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_is_missing_leaves_the_environment_as_it_was() {
    let bench = with_modules();
    let boot = bench.root("lin").join("boot");
    fs::remove_file(bench.root("lin").join("lib/modules/6.1-x/nfsv3.ko")).unwrap();
    let (words, status) = bench.fails(&["install", "--initramfs", "lin"]);
    assert_eq!(status, 2);
    assert!(words.contains("nfsv3.ko: no such file"), "{words}");
    assert_eq!(fs::read_dir(&boot).unwrap().count(), 2);
}

#[test]
fn its_first_program_can_be_read() {
    let text = Bench::new().prints(&["show", "initramfs", "--init"]);
    assert!(text.starts_with("#!/bin/sh\n"), "{text}");
}

//! RAM disks of small environments, with modules that are none.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use tempfile::TempDir;

use super::*;

/// An environment with one kernel, and modules whose contents are their own names.
fn environment() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let modules = root.path().join("lib/modules/6.1-x");
    for folder in ["boot", "bin", "lib/firmware/nic", "lib/modules/6.1-x/kernel/drivers/net"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    fs::write(root.path().join("boot/vmlinuz"), kernel::test::image("6.1-x")).unwrap();
    fs::write(root.path().join("bin/busybox"), busybox::test::program(62, 1)).unwrap();
    let dep = "kernel/nfsv3.ko: kernel/nfs.ko kernel/sunrpc.ko\n\
        kernel/nfs.ko: kernel/sunrpc.ko\n\
        kernel/sunrpc.ko:\n\
        kernel/drivers/net/virtio-net.ko:\n\
        kernel/drivers/net/r8169.ko:\n\
        kernel/phy.ko:\n\
        kernel/sound.ko:\n";
    fs::write(modules.join("modules.dep"), dep).unwrap();
    for path in dep.lines().map(|line| line.split_once(':').unwrap().0) {
        let firmware = if path.ends_with("r8169.ko") { "\0firmware=nic/a.fw\0" } else { "" };
        fs::write(modules.join(path), format!("{path}{firmware}\0firmware=../../out\0")).unwrap();
    }
    fs::write(modules.join("modules.builtin"), "kernel/net/packet/af_packet.ko\n").unwrap();
    fs::write(modules.join("modules.softdep"), "# x\nsoftdep r8169 pre: phy\n").unwrap();
    fs::write(
        modules.join("modules.alias"),
        "# x\nalias virtio:d1v* virtio_net\nalias snd-* sound\nalias fs-nfs nfs\n",
    )
    .unwrap();
    fs::write(root.path().join("lib/firmware/nic/a.fw"), "firmware").unwrap();
    root
}

fn gather(root: &Path, recipe: &Recipe) -> Result<Initramfs, InitramfsError> {
    let host = HostPrograms::open(recipe.busybox.as_deref())?;
    Initramfs::gather(&Inside::enter(root).unwrap(), recipe, &host)
}

fn names(initramfs: &Initramfs) -> Vec<&str> {
    initramfs.modules.iter().map(|module| module.name.as_str()).collect()
}

#[test]
fn it_has_what_a_root_on_nfs_needs_and_nothing_else() {
    let root = environment();
    let made = gather(root.path(), &Recipe::default()).unwrap();
    assert_eq!(made.release, "6.1-x");
    assert_eq!(names(&made), ["nfs", "nfsv3", "phy", "r8169", "sunrpc", "virtio_net"]);
    assert_eq!(made.built_in, ["af_packet"]);
    assert_eq!(made.busybox.origin, "/bin/busybox of the boot environment");
}

/// Not every kernel can: a cloud kernel of Debian has no 9P.
#[test]
fn it_mounts_a_root_from_the_host_where_the_kernel_can() {
    let root = environment();
    let modules = root.path().join("lib/modules/6.1-x");
    let more = "kernel/9p.ko: kernel/9pnet.ko\nkernel/9pnet.ko:\nkernel/virtiofs.ko:\n";
    let dep = fs::read_to_string(modules.join("modules.dep")).unwrap();
    fs::write(modules.join("modules.dep"), dep + more).unwrap();
    for path in more.lines().map(|line| line.split_once(':').unwrap().0) {
        fs::write(modules.join(path), path).unwrap();
    }
    let made = gather(root.path(), &Recipe::default()).unwrap();
    let has = |name: &str| names(&made).contains(&name);
    assert!(has("9p") && has("9pnet") && has("virtiofs") && !has("9pnet_virtio"), "{made:?}");
}

#[test]
fn drivers_can_be_fewer_and_modules_more() {
    let root = environment();
    let recipe = Recipe {
        drivers: Drivers::Virtual,
        modules: vec!["sound".to_owned()],
        ..Recipe::default()
    };
    let made = gather(root.path(), &recipe).unwrap();
    assert_eq!(names(&made), ["nfs", "nfsv3", "sound", "sunrpc", "virtio_net"]);
}

#[test]
fn firmware_comes_with_its_driver_and_from_nowhere_else() {
    let root = environment();
    fs::write(root.path().join("out"), "not firmware").unwrap();
    let made = gather(root.path(), &Recipe::default()).unwrap();
    let firmware: Vec<&str> = made.firmware.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(firmware, ["nic/a.fw"]);
}

#[test]
fn its_lists_name_only_what_it_has() {
    let root = environment();
    let made = gather(root.path(), &Recipe::default()).unwrap();
    assert!(made.dependencies.contains("nfsv3.ko: nfs.ko sunrpc.ko\n"), "{}", made.dependencies);
    assert_eq!(made.aliases, "alias virtio:d1v* virtio_net\nalias fs-nfs nfs\n");
}

#[test]
fn the_same_environment_gives_the_same_bytes() {
    let (one, other) = (environment(), environment());
    let pack = |root: &TempDir| gather(root.path(), &Recipe::default()).unwrap().pack().unwrap();
    assert_eq!(pack(&one), pack(&other));
    let mut plain = Vec::new();
    GzDecoder::new(pack(&one).as_slice()).read_to_end(&mut plain).unwrap();
    for name in ["init\0", "bin/busybox\0", "lib/modules/6.1-x/virtio_net.ko\0"] {
        assert!(plain.windows(name.len()).any(|part| part == name.as_bytes()), "{name}");
    }
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    type Damage = fn(&Path);
    let table: [(Damage, &str); 5] = [
        (|root| fs::remove_file(root.join("boot/vmlinuz")).unwrap(), "has no Linux kernel"),
        (
            |root| fs::remove_file(root.join("lib/modules/6.1-x/modules.dep")).unwrap(),
            "run `depmod 6.1-x` in it",
        ),
        (
            |root| fs::remove_dir_all(root.join("lib/modules")).unwrap(),
            "no /lib/modules/6.1-x: install",
        ),
        (
            |root| fs::remove_file(root.join("lib/modules/6.1-x/modules.builtin")).unwrap(),
            "kernel 6.1-x has no module af_packet",
        ),
        (
            |root| fs::remove_file(root.join("lib/modules/6.1-x/kernel/nfs.ko")).unwrap(),
            "kernel/nfs.ko: no such file",
        ),
    ];
    for (damage, words) in table {
        let root = environment();
        damage(root.path());
        let error = gather(root.path(), &Recipe::default()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let recipe = Recipe { modules: vec!["nosuch".to_owned()], ..Recipe::default() };
    let error = gather(environment().path(), &recipe).unwrap_err().to_string();
    assert!(error.contains("no module nosuch"), "{error}");
    let recipe = Recipe { busybox: Some("/etc/passwd".into()), ..Recipe::default() };
    let error = gather(environment().path(), &recipe).unwrap_err().to_string();
    assert!(error.contains("it is not a Linux program"), "{error}");
}

#[test]
fn a_release_that_is_a_path_is_refused() {
    let recipe = Recipe { release: Some("../modules/6.1-x".to_owned()), ..Recipe::default() };
    assert!(matches!(gather(environment().path(), &recipe), Err(InitramfsError::NoModules(_))));
}

#[test]
fn the_programs_are_shell_without_mistakes() {
    for program in [INIT, BOUND] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file, program.as_bytes()).unwrap();
        let checked = std::process::Command::new("sh").arg("-n").arg(file.path()).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn what_a_worker_made_is_told_with_its_bytes() {
    let root = environment();
    let made = make(&Inside::enter(root.path()).unwrap(), &Recipe::default()).unwrap();
    assert_eq!(made.place(), "/boot/initrd-netbe-6.1-x.img");
    assert_eq!(
        (made.busybox.0.as_str(), made.booted),
        ("/bin/busybox of the boot environment", None)
    );
    assert!(made.modules.iter().any(|(name, size)| name == "nfs" && *size > 0));
    assert!(made.bytes.starts_with(b"\x1f\x8b"));
}

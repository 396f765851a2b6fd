use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use store::{Layout, Store};
use tempfile::TempDir;

use super::*;
use crate::loader::LoaderChoice;

struct Scene {
    dir: TempDir,
    store: Store,
}

impl Scene {
    fn new(files: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = format!("dir:{}", dir.path().join("store").display());
        let store = Store::establish(&place.parse().unwrap(), dir.path()).unwrap();
        store.create(&"head".parse().unwrap(), Layout::Flat).unwrap();
        let scene = Self { dir, store };
        for file in files {
            scene.write(file, "x");
        }
        scene
    }

    fn freebsd() -> Self {
        Self::new(&["boot/kernel/kernel", "boot/pxeboot", "boot/loader.efi"])
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.store.root(&"head".parse().unwrap()).join(file)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn check(&self) -> Verdict {
        self.check_for(Vec::new())
    }

    fn check_for(&self, machines: Vec<Assigned>) -> Verdict {
        let name = "head".parse().unwrap();
        let inside = Inside::from_fd(self.store.open_root(&name).unwrap());
        let host = HostLoaders::search([self.dir.path().join("loaders")]);
        let environment = self.store.get(&name).unwrap();
        check(Subject::new(&environment, machines, false, |_| false, &host), &inside).unwrap()
    }
}

fn says(verdict: &Verdict, severity: Severity, words: &str) -> bool {
    verdict.findings.iter().any(|found| found.severity == severity && found.message.contains(words))
}

#[test]
fn a_freebsd_with_loaders_and_kernel_boots() {
    let verdict = Scene::freebsd().check();
    assert_eq!(
        (verdict.system.as_str(), verdict.bios, verdict.uefi),
        ("FreeBSD", Some(true), true)
    );
    assert_eq!(verdict.findings, []);
}

#[test]
fn the_loader_that_is_missing_is_named() {
    let scene = Scene::new(&["boot/kernel/kernel", "boot/loader.efi"]);
    let verdict = scene.check();
    assert_eq!((verdict.bios, verdict.uefi), (Some(false), true));
    assert!(says(&verdict, Severity::Bios, "/boot/pxeboot is missing"));
}

#[test]
fn an_empty_environment_does_not_boot() {
    let verdict = Scene::new(&[]).check();
    assert_eq!((verdict.system.as_str(), verdict.bios, verdict.uefi), ("none", Some(false), false));
    assert!(says(&verdict, Severity::Both, "`netbe install`"));
}

#[test]
fn linux_needs_ipxe_and_a_ram_disk_with_nfs() {
    let scene = Scene::new(&["boot/vmlinuz-6.1"]);
    let verdict = scene.check();
    assert!(says(&verdict, Severity::Bios, "install the package ipxe"));
    assert!(says(&verdict, Severity::Both, "no initial RAM disk"));
    let loaders = scene.dir.path().join("loaders");
    std::fs::create_dir(&loaders).unwrap();
    for name in ["undionly.kpxe", "snponly.efi"] {
        std::fs::write(loaders.join(name), "x").unwrap();
    }
    scene.write("lib/modules/6.1/modules.builtin", "kernel/fs/nfs/nfsv3.ko\n");
    let verdict = scene.check();
    assert_eq!(verdict.findings, []);
    assert!(verdict.boots());
}

#[test]
fn ssh_servers_without_keys_or_with_those_of_others_are_named() {
    let scene =
        Scene::new(&["boot/vmlinuz-6.1", "usr/sbin/sshd", "lib/systemd/system/ssh.service"]);
    let machine = |name: &str, clone| Assigned {
        name: name.to_owned(),
        loader: LoaderChoice::Auto,
        clone,
        tftp: false,
    };
    let missing = "has no host keys and nothing creates them";
    let kept = "look the same to ssh";
    let two = || vec![machine("a", false), machine("b", false)];
    assert!(says(&scene.check_for(two()), Severity::Doubt, missing));
    assert!(!says(&scene.check_for(vec![machine("a", true)]), Severity::Doubt, missing));
    scene.write("etc/systemd/system/ssh.service.d/10-netbe-host-keys.conf", "x");
    assert!(!says(&scene.check_for(two()), Severity::Doubt, "host keys"));
    scene.write("etc/ssh/ssh_host_ed25519_key", "x");
    assert!(says(&scene.check_for(two()), Severity::Doubt, kept));
    assert!(!says(&scene.check_for(vec![machine("a", false)]), Severity::Doubt, kept));
}

#[test]
fn an_environment_that_is_off_is_not_booted() {
    let scene = Scene::freebsd();
    scene.store.set_role(&"head".parse().unwrap(), Role::Off).unwrap();
    let verdict = scene.check();
    assert!(!verdict.boots());
    assert!(says(&verdict, Severity::Both, "its role is off"));
}

#[test]
fn an_rc_conf_that_takes_the_root_away_is_named() {
    let scene = Scene::freebsd();
    scene.write("etc/rc.conf", "hostname=\"a\"\nifconfig_DEFAULT=\"DHCP\"\nifconfig_lo0=\"up\"\n");
    assert!(says(&scene.check(), Severity::Both, "/etc/rc.conf:2: ifconfig_DEFAULT"));
    scene.write("etc/rc.conf", "ifconfig_em0=\"DHCP\"\n");
    let verdict = scene.check();
    assert!(says(&verdict, Severity::Doubt, "boots by em0"));
    assert!(verdict.boots());
}

#[test]
fn a_host_file_behind_a_link_is_not_read() {
    let scene = Scene::freebsd();
    let secret = scene.dir.path().join("secret");
    std::fs::write(&secret, "ifconfig_DEFAULT=\"DHCP\"\n").unwrap();
    std::fs::create_dir(scene.path("etc")).unwrap();
    symlink(&secret, scene.path("etc/rc.conf")).unwrap();
    let verdict = scene.check();
    assert!(verdict.boots());
    assert!(says(&verdict, Severity::Doubt, "/etc/rc.conf is a symbolic link that leads nowhere"));
}

#[test]
fn fifos_in_the_place_of_files_are_named_and_not_waited_for() {
    let scene = Scene::freebsd();
    std::fs::create_dir(scene.path("etc")).unwrap();
    for file in ["etc/rc.conf", "etc/fstab", "boot/loader.conf"] {
        mknodat(CWD, scene.path(file), FileType::Fifo, Mode::RUSR, 0).unwrap();
    }
    let verdict = scene.check();
    for file in ["/etc/rc.conf", "/etc/fstab", "/boot/loader.conf"] {
        assert!(says(&verdict, Severity::Doubt, &format!("{file}: not a regular file")));
    }
}

#[test]
fn machines_of_one_identity_are_told() {
    let scene = Scene::freebsd();
    scene.write("etc/hostid", "00000000-0000-0000-0000-000000000001\n");
    let name = "head".parse().unwrap();
    let shared = ExportSettings {
        shared: true,
        read_only: true,
        machines: vec!["ghost".to_owned()],
        ..ExportSettings::default()
    };
    scene.store.set_export(&name, shared).unwrap();
    let verdict = scene.check();
    assert!(says(&verdict, Severity::Doubt, "/etc/hostid"));
    assert!(says(&verdict, Severity::Doubt, "ghost"));
    assert!(Path::new(&scene.path("etc/hostid")).exists());
}

/// Machines that boot the environment itself, or a clone.
fn assigned(clones: &[bool]) -> Vec<Assigned> {
    let machine = |(number, clone): (u8, &bool)| Assigned {
        name: format!("web{number}"),
        loader: LoaderChoice::Auto,
        clone: *clone,
        tftp: false,
    };
    (1..).zip(clones).map(machine).collect()
}

#[test]
fn machines_with_clones_have_their_own_identities() {
    let scene = Scene::freebsd();
    scene.write("etc/hostid", "00000000-0000-0000-0000-000000000001\n");
    let told = |clones| says(&scene.check_for(assigned(clones)), Severity::Doubt, "/etc/hostid");
    assert!(told(&[false, false]));
    assert!(!told(&[false, true]));
    assert!(!told(&[true, true]));
}

#[test]
fn a_machine_on_a_root_that_is_shared_read_only_is_told_nothing() {
    let scene = Scene::freebsd();
    let shared = ExportSettings { shared: true, read_only: true, ..Default::default() };
    scene.store.set_export(&"head".parse().unwrap(), shared).unwrap();
    for clone in [false, true] {
        assert_eq!(scene.check_for(assigned(&[clone])).findings, []);
    }
}

#[test]
fn a_loader_that_waits_for_ever_is_told() {
    for file in ["boot/loader.conf", "boot/loader.conf.local"] {
        let scene = Scene::freebsd();
        scene.write(file, "nfs.read_size=\"1344\"\n");
        assert_eq!(scene.check().findings, [], "{file}");
        scene.write(file, "a=\"b\"\nnfs.read_size=\"8192\"\n");
        let verdict = scene.check();
        let words = format!("/{file}:2: the loader waits for ever");
        assert!(says(&verdict, Severity::Doubt, &words), "{:?}", verdict.findings);
    }
}

#[test]
fn a_lua_loader_that_stops_by_tftp_is_told_with_what_helps() {
    let listing = "for file in lfs.dir(\"/boot\") do\n";
    let asking = format!("if not lfs.attributes(\"/boot\", \"mode\") then\n{listing}");
    let (yes, no) = ("kernels_autodetect=\"YES\"\n", "kernels_autodetect=\"NO\"\n");
    for (core, own, tftp, expected) in [
        (listing, "", true, true),
        (listing, "", false, false),
        (listing, no, true, false),
        (asking.as_str(), "", true, false),
    ] {
        let scene = Scene::freebsd();
        scene.write("boot/lua/core.lua", core);
        scene.write("boot/defaults/loader.conf", yes);
        scene.write("boot/loader.conf", own);
        let machines = assigned(&[false]).into_iter().map(|one| Assigned { tftp, ..one }).collect();
        let verdict = scene.check_for(machines);
        let told = says(&verdict, Severity::Doubt, "netbe sets kernels_autodetect=\"NO\" for it");
        assert_eq!(told, expected, "{core:?} {own:?} {tftp}: {:?}", verdict.findings);
        assert!(verdict.boots());
    }
}

#[test]
fn a_loader_that_a_machine_lacks_is_told() {
    let scene = Scene::freebsd();
    let machines = assigned(&[true]).into_iter();
    let machines = machines.map(|one| Assigned { loader: LoaderChoice::Grub, ..one }).collect();
    let verdict = scene.check_for(machines);
    assert!(says(&verdict, Severity::Doubt, "web1 boots by"), "{:?}", verdict.findings);
}

#[test]
fn what_the_machines_user_may_not_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::freebsd();
    scene.write("etc/rc", "x");
    scene.write("sbin/init", "x");
    let chmod = |file: &str, mode| {
        std::fs::set_permissions(scene.path(file), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod("etc/rc", 0o600);
    // Root may read everything, and so may whoever does what root does.
    assert_eq!(scene.check().findings, []);
    let export = |mapall: Option<&str>, maproot: Option<&str>| {
        let identity = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let (mapall, maproot) = (identity(mapall), identity(maproot));
        let settings = ExportSettings { mapall, maproot, ..Default::default() };
        scene.store.set_export(&"head".parse().unwrap(), settings).unwrap();
    };
    export(Some("70001:70001"), None);
    let verdict = scene.check();
    let words = "machines act as 70001:70001 on it (mapall), who may not read /etc/rc, which";
    assert!(says(&verdict, Severity::Doubt, words), "{:?}", verdict.findings);
    // A directory on the way shuts out as well, and is told once for all that is in it.
    chmod("boot/kernel", 0o700);
    export(None, Some("70001:70001"));
    let verdict = scene.check();
    let words = "(maproot), who may not read /boot/kernel and 1 more, which";
    assert!(says(&verdict, Severity::Doubt, words), "{:?}", verdict.findings);
}

#[test]
fn links_of_the_boot_that_lead_out_are_told() {
    let scene = Scene::freebsd();
    std::fs::create_dir_all(scene.path("lib")).unwrap();
    std::fs::create_dir_all(scene.path("usr/lib")).unwrap();
    scene.write("usr/lib/libc.so.7", "x");
    symlink("../usr/lib/libc.so.7", scene.path("lib/libc.so.7")).unwrap();
    // There is no shell behind that link, and the link is right.
    symlink("usr/lib", scene.path("bin")).unwrap();
    assert_eq!(scene.check().findings, []);
    let host = scene.dir.path().join("init");
    std::fs::write(&host, "x").unwrap();
    symlink(host.parent().unwrap(), scene.path("sbin")).unwrap();
    symlink("libexec", scene.path("libexec")).unwrap();
    std::fs::create_dir_all(scene.path("etc")).unwrap();
    symlink("../../../../../../usr/lib/libc.so.7", scene.path("etc/rc")).unwrap();
    let verdict = scene.check();
    assert!(says(
        &verdict,
        Severity::Doubt,
        "/sbin is a symbolic link that leads nowhere in the env"
    ));
    assert!(says(
        &verdict,
        Severity::Doubt,
        "/libexec is a symbolic link that leads nowhere in the env"
    ));
    // What climbs ends at the root, for the server and for machines alike.
    assert!(!says(&verdict, Severity::Doubt, "/etc/rc "), "{:?}", verdict.findings);
}

#[test]
#[cfg(target_os = "linux")]
fn access_control_lists_are_told() {
    let scene = Scene::freebsd();
    // user::rw-,user:501:r--,group::r--,mask::r--,other::r--
    let list = hex_literal::hex!(
        "02000000 01000600ffffffff 02000400f5010000 04000400ffffffff 10000400ffffffff 20000400ffffffff"
    );
    let path = scene.path("boot/kernel/kernel");
    let set = |name| rustix::fs::setxattr(&path, name, &list, rustix::fs::XattrFlags::empty());
    if set("system.posix_acl_access").is_err() {
        println!("skipped: this file system has no access control lists");
        return;
    }
    let verdict = scene.check();
    let words = "asks the access control list of /boot/kernel/kernel: machines have";
    assert!(says(&verdict, Severity::Doubt, words), "{:?}", verdict.findings);
    assert!(verdict.boots());
}

#[test]
fn what_zfs_shares_too_is_told() {
    assert_eq!(shared_twice(&[]), None);
    let sets = ["tank/be/head".to_owned(), "tank/be/head/usr".to_owned()];
    let told = shared_twice(&sets).unwrap();
    assert_eq!(told.severity, Severity::Doubt);
    assert!(told.message.starts_with("ZFS shares tank/be/head and 1 more too"), "{}", told.message);
}

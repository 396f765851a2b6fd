//! Systems in little, and who gets into them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@desk";

fn system(files: &[(&str, &str)]) -> (TempDir, Inside) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let inside = Inside::enter(root.path()).unwrap();
    (root, inside)
}

fn with_key() -> Access {
    Access { ssh_keys: SshKey::all(KEY).unwrap(), ..Access::default() }
}

fn with_password() -> Access {
    let hash = PasswordHash::new(b"secret", *b"abcdefghijkl");
    Access { root_password: Some(hash), ..Access::default() }
}

fn read(root: &TempDir, path: &str) -> String {
    fs::read_to_string(root.path().join(path)).unwrap()
}

#[test]
fn a_key_is_added_to_those_that_are_there_and_the_server_is_started() {
    let (root, inside) = system(&[
        ("usr/sbin/sshd", ""),
        ("usr/lib/systemd/system/ssh.service", ""),
        ("etc/systemd/system/x", ""),
        ("root/.ssh/authorized_keys", "ssh-rsa AAAA other"),
    ]);
    for _ in 0..2 {
        grant(&inside, Kind::Linux, &with_key(), &mut Configured::default()).unwrap();
    }
    assert_eq!(read(&root, "root/.ssh/authorized_keys"), format!("ssh-rsa AAAA other\n{KEY}\n"));
    let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode();
    assert_eq!(
        (mode("root/.ssh") & 0o777, mode("root/.ssh/authorized_keys") & 0o777),
        (0o700, 0o600)
    );
    let link = root.path().join("etc/systemd/system/multi-user.target.wants/ssh.service");
    assert_eq!(fs::read_link(link).unwrap(), Path::new("/usr/lib/systemd/system/ssh.service"));
    assert_eq!(entrance(&inside, Some(Kind::Linux)), Entrance::Known);
}

#[test]
fn a_freebsd_starts_its_ssh_server_for_root_with_a_key() {
    let (root, inside) = system(&[("usr/sbin/sshd", ""), ("etc/x", "")]);
    grant(&inside, Kind::FreeBsd, &with_key(), &mut Configured::default()).unwrap();
    assert_eq!(read(&root, "root/.ssh/authorized_keys"), format!("{KEY}\n"));
    assert!(read(&root, "etc/rc.conf.d/sshd").starts_with("sshd_enable=\"YES\"\n"));
}

#[test]
fn a_system_that_would_let_nobody_in_is_refused() {
    let (_root, inside) = system(&[("etc/x", "")]);
    let refused = |kind: Kind, access: Access| {
        grant(&inside, kind, &access, &mut Configured::default()).unwrap_err()
    };
    assert!(matches!(refused(Kind::Linux, with_key()), InstallError::NoSshServer));
    assert!(matches!(refused(Kind::Linux, with_password()), InstallError::NoShadow));
    assert!(matches!(refused(Kind::FreeBsd, with_password()), InstallError::FreeBsdPassword));
    assert!(!inside.exists("/root").unwrap());
}

#[test]
fn a_password_takes_the_place_of_that_of_root_alone() {
    let (root, inside) =
        system(&[("etc/shadow", "bin:*:1\nroot:*:20779:0:99999:7:::\nroot2:!:\n")]);
    let shadow = root.path().join("etc/shadow");
    fs::set_permissions(&shadow, fs::Permissions::from_mode(0o646)).unwrap();
    assert_eq!(entrance(&inside, Some(Kind::Linux)), Entrance::Closed);
    grant(&inside, Kind::Linux, &with_password(), &mut Configured::default()).unwrap();
    let text = read(&root, "etc/shadow");
    let (before, after) = text.split_once("root:$6$").unwrap();
    assert_eq!(before, "bin:*:1\n");
    assert!(after.ends_with(":20779:0:99999:7:::\nroot2:!:\n"), "{text}");
    assert_eq!(fs::metadata(&shadow).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(entrance(&inside, Some(Kind::Linux)), Entrance::Known);
}

#[test]
fn it_is_told_where_root_needs_no_password_and_where_nothing_is_known() {
    let (_root, inside) =
        system(&[("etc/master.passwd", "# x\nroot::0:0::0:0:Charlie &:/root:/bin/sh\n")]);
    assert_eq!(entrance(&inside, Some(Kind::FreeBsd)), Entrance::Open);
    assert_eq!(entrance(&inside, Some(Kind::Linux)), Entrance::Unknown);
    assert_eq!(entrance(&inside, None), Entrance::Unknown);
}

#[test]
fn a_hosts_files_behind_links_stay() {
    let (root, inside) = system(&[("system/usr/sbin/sshd", ""), ("host/shadow", "root:*:\n")]);
    drop(inside);
    let inside = Inside::enter(&root.path().join("system")).unwrap();
    fs::create_dir_all(root.path().join("system/etc")).unwrap();
    symlink(root.path().join("host"), root.path().join("system/root")).unwrap();
    symlink(root.path().join("host/shadow"), root.path().join("system/etc/shadow")).unwrap();
    let granted = grant(&inside, Kind::Linux, &with_password(), &mut Configured::default());
    assert!(matches!(granted, Err(InstallError::NoShadow)));
    grant(&inside, Kind::Linux, &with_key(), &mut Configured::default()).ok();
    assert_eq!(read(&root, "host/shadow"), "root:*:\n");
    assert!(!root.path().join("host/.ssh").exists());
}

#[test]
fn what_is_there_for_the_ssh_server_of_a_freebsd_stays() {
    let (root, inside) =
        system(&[("usr/sbin/sshd", ""), ("etc/rc.conf.d/sshd", "sshd_flags=\"-p 2222\"\n")]);
    let mut done = Configured::default();
    grant(&inside, Kind::FreeBsd, &with_key(), &mut done).unwrap();
    assert_eq!(read(&root, "etc/rc.conf.d/sshd"), "sshd_flags=\"-p 2222\"\n");
    assert_eq!(done.kept, [Path::new("/etc/rc.conf.d/sshd")]);
}

#[test]
fn root_may_log_in_by_key_alone_and_an_ssh_server_that_nothing_starts_is_told() {
    let (root, inside) = system(&[("usr/sbin/sshd", ""), ("etc/ssh/sshd_config.d/x", "")]);
    let mut done = Configured::default();
    grant(&inside, Kind::Linux, &with_key(), &mut done).unwrap();
    let text = read(&root, "etc/ssh/sshd_config.d/10-netbe.conf");
    assert_eq!(text, "PermitRootLogin prohibit-password\n");
    assert!(done.summary().contains("nothing was found that starts the ssh server"));
}

#[test]
fn a_file_without_a_key_lets_nobody_in_and_what_cannot_be_read_is_not_known() {
    let (root, inside) = system(&[
        ("usr/sbin/sshd", ""),
        ("root/.ssh/authorized_keys", "# none yet\n"),
        ("etc/shadow", "root:*:1:0:99999:7:::\n"),
    ]);
    assert_eq!(entrance(&inside, Some(Kind::Linux)), Entrance::Closed);
    let shadow = root.path().join("etc/shadow");
    fs::remove_file(&shadow).unwrap();
    fs::create_dir(&shadow).unwrap();
    assert_eq!(entrance(&inside, Some(Kind::Linux)), Entrance::Unknown);
}

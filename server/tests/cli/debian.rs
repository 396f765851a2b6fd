//! Debian and Ubuntu: which programs make them, with which words, and what is left when one fails or is
//! killed. The programs of these tests only say that they are mmdebstrap and debootstrap.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::bench::{Bench, Outcome, netbe};

/// A site, and a PATH with a few programs.
struct Makers {
    bench: Bench,
    dir: TempDir,
}

impl Makers {
    fn new() -> Self {
        let makers = Self { bench: Bench::new(), dir: TempDir::new().unwrap() };
        fs::create_dir(makers.dir.path().join("bin")).unwrap();
        let root = makers.dir.path().join("root");
        fs::create_dir_all(root.join("boot")).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("boot/vmlinuz-6.1"), "kernel").unwrap();
        fs::write(root.join("etc/hostname"), "the host's\n").unwrap();
        fs::write(root.join("etc/resolv.conf"), "nameserver 10.255.255.53\n").unwrap();
        for program in ["cat", "chmod", "cp", "mkdir", "setpriv", "sh", "sleep", "tar", "unshare"] {
            let here = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(program));
            let here = here.iter().find(|path| path.exists()).unwrap();
            symlink(here, makers.path("bin").join(program)).unwrap();
        }
        makers
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a program into the PATH. It notes the words that it gets, one on each line.
    fn program(&self, name: &str, script: &str) {
        let words = self.path("words").display().to_string();
        let root = self.path("root").display().to_string();
        let path = self.path("bin").join(name);
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >{words}\nroot={root}\n{script}");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn words(&self) -> Vec<String> {
        let words = fs::read_to_string(self.path("words")).unwrap();
        words.lines().map(str::to_owned).collect()
    }

    fn command(&self, more: &[&str]) -> Command {
        let install = ["install", "-o", "Debian", "-r", "bookworm", "-l", "linux"];
        let mut command = self.bench.command(netbe(), &[&install[..], more, &["deb"]].concat());
        command.env("PATH", self.path("bin"));
        command
    }

    fn install(&self, more: &[&str]) -> Outcome {
        let done = self.command(more).output().unwrap();
        Outcome {
            out: String::from_utf8(done.stdout).unwrap(),
            err: String::from_utf8(done.stderr).unwrap(),
            status: done.status.code(),
        }
    }

    /// Nothing is left of what was being made.
    fn is_tidy(&self) -> bool {
        !self.bench.state().join("making").exists() && !self.bench.root("deb").exists()
    }
}

/// Whether namespaces of mounts and processes can be made, as debootstrap gets them.
fn has_namespaces() -> bool {
    let unshare = Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).status();
    let can = unshare.is_ok_and(|status| status.success());
    if !can {
        println!("skipped: no namespaces can be made here: run as root");
    }
    can
}

/// Waits until an installation is so far that this is there.
fn wait_for(path: &Path) {
    let begin = Instant::now();
    while !path.exists() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{} does not come", path.display());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn mmdebstrap_is_asked_for_what_a_network_root_needs_and_its_steps_are_told() {
    let makers = Makers::new();
    makers.program("debootstrap", "exit 7\n");
    makers.program(
        "mmdebstrap",
        "echo 'I: automatically chosen mode: root' >&2\necho 'noise' >&2\n\
         echo 'W: a warning' >&2\necho 'I: extracting archives...' >&2\n\
         exec tar -C $root -cf - .\n",
    );
    let done = makers.install(&["--package", "openssh-server", "-u", "http://mirror/debian"]);
    assert_eq!(done.out, "wrote /etc/fstab\n");
    assert_eq!(
        (done.err.as_str(), done.status),
        ("automatically chosen mode: root\nW: a warning\nextracting archives\n", Some(0))
    );
    assert_eq!(
        makers.words(),
        [
            "--variant=important",
            "--format=tar",
            "--skip=output/mknod",
            "--architectures=amd64",
            "--include=linux-image-amd64,initramfs-tools,nfs-common,systemd-timesyncd,openssh-server",
            "bookworm",
            "-",
            "http://mirror/debian",
        ]
    );
    let root = makers.bench.root("deb");
    assert!(root.join("boot/vmlinuz-6.1").exists() && !root.join("etc/hostname").exists());
}

/// A system with which a person can work: its ssh server, its file of passwords, systemd.
#[test]
fn who_is_to_get_in_gets_in_and_no_secret_is_left_elsewhere() {
    let makers = Makers::new();
    let root = makers.path("root");
    for (path, text) in [
        ("etc/shadow", "root:*:20779:0:99999:7:::\n"),
        ("usr/sbin/sshd", ""),
        ("usr/local/lib/x", ""),
        ("lib/systemd/systemd", ""),
        ("lib/systemd/system/ssh.service", ""),
        ("etc/systemd/system/multi-user.target.wants/ssh.service", ""),
        ("etc/ssh/ssh_host_ed25519_key", "the template's"),
    ] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    }
    // As an archive may have it: sshd would not believe it.
    fs::create_dir_all(root.join("root/.ssh")).unwrap();
    fs::set_permissions(root.join("root/.ssh"), fs::Permissions::from_mode(0o777)).unwrap();
    makers.program("mmdebstrap", "exec tar -C $root -cf - .\n");
    let key =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@desk";
    let (file, secret) = (makers.path("key.pub"), makers.path("password"));
    fs::write(&file, format!("{key}\n")).unwrap();
    fs::write(&secret, "open sesame\n").unwrap();
    let file = file.to_str().unwrap();
    let password = ["--root-password-file", secret.to_str().unwrap()];
    let done =
        makers.install(&[&["--ssh-key", file, "--hostname", "Desk"], &password[..]].concat());
    assert_eq!((done.err.as_str(), done.status), ("", Some(0)));
    let words = makers.words();
    assert!(words.iter().any(|word| word.ends_with(",openssh-server")), "{words:?}");
    let made = makers.bench.root("deb");
    let read = |path: &str| fs::read_to_string(made.join(path)).unwrap();
    assert_eq!(read("root/.ssh/authorized_keys"), format!("{key}\n"));
    assert!(read("etc/shadow").starts_with("root:$6$"));
    assert_eq!(read("etc/hostname"), "desk\n");
    assert!(!made.join("etc/ssh/ssh_host_ed25519_key").exists());
    assert!(made.join("etc/systemd/system/ssh.service.d/10-netbe-host-keys.conf").exists());
    let ssh = fs::metadata(made.join("root/.ssh")).unwrap();
    assert_eq!(ssh.permissions().mode() & 0o777, 0o700);
    let resolv = fs::read_link(made.join("etc/resolv.conf")).unwrap();
    assert_eq!(resolv, Path::new("../run/netbe/resolv.conf"));
    let history = makers.bench.run(&["history"]).out;
    for text in [words.join(" "), done.out, history] {
        assert!(!text.contains("sesame") && !text.contains("$6$"), "{text}");
    }
}

#[test]
fn where_nobody_could_log_in_the_last_line_says_what_helps() {
    let makers = Makers::new();
    fs::write(makers.path("root/etc/shadow"), "root:*:20779:0:99999:7:::\n").unwrap();
    makers.program("mmdebstrap", "exec tar -C $root -cf - .\n");
    let done = makers.install(&[]);
    let last = done.out.lines().last().unwrap();
    let root = makers.bench.root("deb");
    let chroot = format!(
        "root cannot log in: set root's password with `chroot {} passwd`, or destroy it",
        root.display()
    );
    assert!(last.starts_with(&chroot), "{last}");
    assert!(!root.join("etc/resolv.conf").exists(), "it has the host's");
}

/// The program is run by mmdebstrap's hook, which gets the root as its first argument.
#[test]
fn a_script_is_run_in_the_system_and_what_it_says_is_told_when_it_fails() {
    let makers = Makers::new();
    makers.program(
        "mmdebstrap",
        "for word; do case $word in --customize-hook=*)\n\
         echo \"I: running --customize-hook in shell: sh -c '${word#*=}' exec $root\" >&2\n\
         sh -c \"${word#*=}\" exec $root || { echo \"E: command failed: ${word#*=}\" >&2\n\
         exit 1; };; esac; done\n\
         exec tar -C $root -cf - .\n",
    );
    // It is to be run by the system's own programs: here a chroot that only changes the directory.
    makers.program("chroot", "cd $1 && exec .$2\n");
    symlink("/bin/rm", makers.path("bin/rm")).unwrap();
    let script = makers.path("it's mine");
    fs::write(&script, "#!/bin/sh\npwd >made\n").unwrap();
    let path = script.to_str().unwrap();
    let done = makers.install(&["--script", path]);
    assert_eq!((done.err.as_str(), done.status), ("running the script\n", Some(0)));
    let made = makers.bench.root("deb");
    assert!(made.join("made").exists() && !made.join("netbe-script").exists());
    makers.bench.run(&["destroy", "deb"]);
    fs::write(&script, "#!/bin/sh\necho no such user >&2\nexit 3\n").unwrap();
    let done = makers.install(&["--script", path]);
    let said = "running the script\nno such user\nthe script ended with status 3\nnetbe: ";
    assert!(done.err.starts_with(said) && done.status == Some(2), "{}", done.err);
    assert!(makers.is_tidy());
}

#[test]
fn a_password_is_not_asked_for_what_is_refused() {
    let makers = Makers::new();
    let refused = |says: &str| {
        let done = makers.command(&["--root-password"]).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains(says), "{said}");
    };
    refused("neither mmdebstrap nor debootstrap is installed");
    makers.program("mmdebstrap", "exit 7\n");
    refused("standard input has no password");
    makers.bench.silent(&["create", "-l", "flat", "deb"]);
    refused("deb exists already");
}

/// Before anything is fetched, made or asked.
#[test]
fn what_a_system_cannot_have_is_refused_at_once() {
    let makers = Makers::new();
    makers.program("mmdebstrap", "exit 7\n");
    let private = makers.path("id");
    fs::write(&private, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    let private = private.to_str().unwrap();
    let freebsd = ["-o", "FreeBSD", "-u", "http://nowhere", "-r", "14.3"];
    let tar = ["-o", "tar", "-p", "root.tar"];
    let debian = ["-o", "Debian", "-r", "bookworm"];
    for (system, more, says) in [
        (&freebsd[..], &["--package", "vim"][..], "--package is for Debian and Ubuntu"),
        (&tar[..], &["--package", "vim"], "--package is for Debian and Ubuntu"),
        (&freebsd[..], &["--script", private], "--script is for Debian and Ubuntu"),
        (&freebsd[..], &["--root-password"], "only its own pwd_mkdb(8) can set a password"),
        (&debian[..], &["--ssh-key", "/nowhere.pub"], "/nowhere.pub cannot be read"),
        (&debian[..], &["--ssh-key", private], "it is a private key"),
        (&debian[..], &["--root-password-file", "/dev/null"], "has no password in its first line"),
        (&debian[..], &["--root-password"], "standard input has no password"),
        (&debian[..], &["--hostname", "a_b"], "a_b"),
        (&debian[..], &["--no-configure", "--root-password"], "cannot be used with"),
        (&debian[..], &["--script", "/nowhere"], "/nowhere cannot be read"),
    ] {
        let words = [&["install", "-l", "linux"], system, more, &["deb"]].concat();
        let mut command = makers.bench.command(netbe(), &words);
        let done = command.env("PATH", makers.path("bin")).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains(says) && done.status.code() == Some(2), "{words:?}: {said}");
        assert!(makers.is_tidy() && !makers.path("words").exists(), "{words:?}");
    }
}

#[test]
fn debootstrap_takes_the_place_of_mmdebstrap_where_that_is_missing() {
    if !has_namespaces() {
        return;
    }
    let makers = Makers::new();
    makers.program(
        "debootstrap",
        "for package in adduser apt; do\n\
         echo \"I: Retrieving $package 1\"\necho \"I: Validating $package 1\"\ndone\n\
         echo 'I: Configuring apt...'\necho 'I: Base system installed successfully.'\n\
         for target; do case $target in */making) break;; esac; done\n\
         cp -a $root $target\nmkdir -p $target/dev $target/var/cache/apt/archives\n\
         echo node >$target/dev/null\necho package >$target/var/cache/apt/archives/apt_1.deb\n",
    );
    let done = makers.install(&[]);
    assert_eq!(
        (done.err.as_str(), done.status),
        (
            "Retrieving packages\nConfiguring packages\nBase system installed successfully\n",
            Some(0)
        )
    );
    let place = makers.bench.state().join("making");
    assert_eq!(
        makers.words(),
        [
            "--force-check-gpg",
            "--arch=amd64",
            "--include=linux-image-amd64,initramfs-tools,nfs-common,systemd-timesyncd",
            "bookworm",
            place.to_str().unwrap(),
        ]
    );
    assert!(!place.exists());
    let root = makers.bench.root("deb");
    assert!(root.join("boot/vmlinuz-6.1").exists() && !root.join("etc/hostname").exists());
    assert!(!root.join("dev/null").exists());
    assert!(!root.join("var/cache/apt/archives/apt_1.deb").exists());
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_maker_that_fails_says_why_and_leaves_nothing() {
    let makers = Makers::new();
    makers.program("mmdebstrap", "echo 'I: running' >&2\necho 'E: no such suite' >&2\nexit 25\n");
    let done = makers.install(&[]);
    let sentence = "netbe: mmdebstrap failed (exit status: 25): its messages above say why\n";
    assert_eq!(done.err, format!("running\nE: no such suite\n{sentence}"));
    assert_eq!((done.out.as_str(), done.status), ("", Some(2)));
    assert!(makers.is_tidy());
    if !has_namespaces() {
        return;
    }
    fs::remove_file(makers.path("bin/mmdebstrap")).unwrap();
    makers.program("debootstrap", "mkdir -p ${5}/etc\necho 'E: no such suite'\nexit 1\n");
    let done = makers.install(&[]);
    let sentence = "netbe: debootstrap failed (exit status: 1): its messages above say why\n";
    assert_eq!(done.err, format!("E: no such suite\n{sentence}"));
    assert!(makers.is_tidy());
}

/// What it makes cannot be unpacked: that it was not read to its end is not why.
#[test]
fn what_keeps_an_archive_from_being_unpacked_is_told_and_not_that_its_maker_was_stopped() {
    let makers = Makers::new();
    makers.program(
        "mmdebstrap",
        "tar -C $root --transform s,^./etc/hostname$,../hostname, -P -cf - .\n\
         cat /dev/zero\necho 'E: write error' >&2\nexit 25\n",
    );
    let done = makers.install(&[]);
    let sentence =
        "netbe: bookworm: \"../hostname\" leads out of the root: do not trust this archive\n";
    assert_eq!((done.err.as_str(), done.status), (sentence, Some(2)));
    assert!(makers.is_tidy());
}

/// netbe is killed while debootstrap works: that ends too, and the next one begins anew.
#[test]
fn debootstrap_dies_with_netbe_and_the_next_one_clears_up_after_it() {
    if !has_namespaces() {
        return;
    }
    let makers = Makers::new();
    makers.program("debootstrap", "mkdir -p ${5}/half\nexec sleep 600\n");
    let mut command = makers.command(&[]);
    let mut killed = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let place = makers.bench.state().join("making");
    wait_for(&place.join("half"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    // It would wait for the one that sleeps, if that went on.
    makers.program("debootstrap", "test ! -e ${5} && cp -a $root ${5}\n");
    fs::write(makers.path("root/etc/whole"), "").unwrap();
    let begin = Instant::now();
    // The one that sleeps may take a moment to end, and what it was making goes then.
    let said = loop {
        let again = makers.command(&[]).output().unwrap();
        let said = String::from_utf8(again.stderr).unwrap();
        if !said.contains("deb exists already") || begin.elapsed() > Duration::from_secs(60) {
            break said;
        }
    };
    let waits = "waiting for another command, which makes a system by debootstrap\n";
    assert!(said.is_empty() || said == waits, "{said}");
    assert!(!place.exists());
    let root = makers.bench.root("deb");
    assert!(root.join("etc/whole").exists() && !root.join("half").exists());
}

/// An installation that is held up in its middle, by a maker that ends when a file appears.
#[test]
fn what_is_being_filled_is_left_alone_by_others() {
    let makers = Makers::new();
    makers.program(
        "mmdebstrap",
        "tar -C $root -cf - .\n\
         while test -e $root && test ! -e $root/../go; do sleep 0.1; done\n",
    );
    let mut command = makers.command(&[]);
    let running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let holder = running.id();
    wait_for(&makers.bench.root("deb").join("boot/vmlinuz-6.1"));
    let others: [&[&str]; 6] = [
        &["clone", "deb", "other"],
        &["create", "-e", "deb", "other"],
        &["destroy", "deb"],
        &["install", "-o", "Debian", "-r", "bookworm", "deb"],
        &["rename", "deb", "other"],
        &["set", "role=be", "deb"],
    ];
    let others: Vec<_> = others
        .iter()
        .map(|words| {
            let mut command = makers.bench.command(netbe(), words);
            let command = command.env("PATH", makers.path("bin"));
            (words, command.stderr(Stdio::piped()).spawn().unwrap())
        })
        .collect();
    for (words, other) in others {
        let done = other.wait_with_output().unwrap();
        let busy = format!(
            "netbe: deb is in use by process {holder}: wait until that has ended, then try again\n"
        );
        assert_eq!(String::from_utf8(done.stderr).unwrap(), busy, "{words:?}");
        assert_eq!(done.status.code(), Some(1));
    }
    assert!(!makers.bench.prints(&["list", "-H", "deb"]).contains("\tbe\t"));
    fs::write(makers.path("go"), "").unwrap();
    assert!(running.wait_with_output().unwrap().status.success());
    assert!(makers.bench.root("deb").join("boot/vmlinuz-6.1").exists());
    makers.bench.silent(&["clone", "deb", "other"]);
}

/// The process of netbe that unpacks.
fn worker_of(process: u32) -> u32 {
    let path = format!("/proc/{process}/task/{process}/children");
    let children = fs::read_to_string(path).unwrap();
    let mut children = children.split_whitespace().map(|child| child.parse().unwrap());
    let is_worker = |child: &u32| {
        let words = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == b"provision-worker")
    };
    children.find(is_worker).unwrap()
}

/// Else it would write into a tree that the next command has put back.
#[test]
fn what_unpacks_dies_with_netbe() {
    let makers = Makers::new();
    makers.program("mmdebstrap", "tar -C $root -cf - .\nwhile test -e $root; do sleep 0.1; done\n");
    let mut killed = makers.command(&[]).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&makers.bench.root("deb").join("boot/vmlinuz-6.1"));
    let worker = worker_of(killed.id());
    killed.kill().unwrap();
    killed.wait().unwrap();
    let begin = Instant::now();
    // Whoever is its parent now may not have waited for it yet.
    let lives = || {
        let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
        !status.is_empty() && !status.contains("State:\tZ")
    };
    while lives() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{worker} lives");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_nobody_can_read_stops_no_command_in_its_middle() {
    let makers = Makers::new();
    makers.program("mmdebstrap", "echo 'E: no mirror' >&2\nexit 25\n");
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = makers.command(&[]).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(done.code(), Some(2));
    assert!(makers.is_tidy());
    makers.bench.silent(&["create", "-l", "linux", "deb"]);
    let install = ["install", "-o", "Debian", "-r", "bookworm", "deb"];
    let mut again = makers.bench.command(netbe(), &install);
    let again = again.env("PATH", makers.path("bin")).stdout(full()).stderr(full());
    assert_eq!(again.status().unwrap().code(), Some(2));
    assert!(makers.bench.prints(&["list", "-H", "deb"]).contains("\tbe\t"));
}

#[test]
fn half_a_system_goes_with_the_next_command() {
    let makers = Makers::new();
    makers.program("mmdebstrap", "tar -C $root -cf - .\nwhile test -e $root; do sleep 0.1; done\n");
    let mut killed = makers.command(&[]).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&makers.bench.root("deb").join("boot/vmlinuz-6.1"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let bench = &makers.bench;
    assert!(!bench.prints(&["list", "-H"]).contains("\tbe\t"));
    bench.silent(&["create", "-l", "flat", "next"]);
    assert_eq!(bench.prints(&["list", "-H"]).lines().count(), 1);
    assert_eq!(bench.prints(&["settle", "-n", "-H"]), "");
}

#[test]
fn what_makes_a_debian_is_named_where_it_is_missing() {
    let makers = Makers::new();
    let done = makers.install(&[]);
    let sentence = "netbe: neither mmdebstrap nor debootstrap is installed: install the package mmdebstrap, \
                    or give an archive of a root with -o tar\n";
    assert_eq!((done.err.as_str(), done.status), (sentence, Some(2)));
    makers.bench.cannot(
        &["install", "-o", "Debian", "-l", "linux", "deb"],
        "name the release with -r, as in -r bookworm",
    );
    assert!(makers.is_tidy());
}

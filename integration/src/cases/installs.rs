//! Systems that `netbe install` put into environments, however often it was killed over it, boot.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use super::loaders::{LOADER_EFI, Loader, PXEBOOT};
use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::SERVER;
use crate::process::{Program, Running, tail};
use crate::release::{MANY, MANY_FILES, Release};
use crate::scene::{Scene, mac};
use crate::server::Site;
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[
    Case::new("install sets from a directory", directory),
    Case::new("install sets from a mirror", mirror),
    Case::new("install the archive of a root", archive),
];

/// Sets with a flipped bit are refused; an installation is killed while it unpacks, begins anew, and a
/// machine starts the loader of what it installed.
fn directory(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    let release = release(lab, &scene.directory.join("dist"))?;
    let install = format!("install -o FreeBSD -p {} head", release.path().display());
    site.run("create -l freebsd head")?;
    release.flip("kernel.txz")?;
    refused(&site, &install, 2, "kernel.txz\" is not what the MANIFEST lists")?;
    let root = site.root("head");
    ensure(!root.join("bin").exists(), || "something was unpacked".to_owned())?;
    release.flip("kernel.txz")?;

    let log = scene.directory.join("install.log");
    let mut running = site.netbe(&install).start(&log)?;
    let many = root.join(MANY_FILES);
    kill_at(&mut running, &log, "a few of many files", || many.join("9").exists())?;
    ensure(!many.join((MANY - 1).to_string()).exists(), || {
        "it was done before it could be killed".to_owned()
    })?;
    refused(&site, "check head", 1, "an installation is running or was interrupted")?;
    site.run(&install)?;
    is_whole(&root)?;
    boots(&scene, &LOADER_EFI)
}

/// An installation is killed while it fetches a set. The next one goes on with the transfer, and a
/// machine starts the loader of what it installed.
fn mirror(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    let place = scene.directory.join("mirror/releases/amd64/amd64");
    fs::create_dir_all(&place).during(place.display())?;
    release(lab, &place.join("14.3-RELEASE"))?;
    let httpd = scene.directory.join("httpd.log");
    let busybox = scene.network.server.program(&lab.parts()?.busybox().display().to_string());
    let server = busybox.words("httpd -f -vv -p 80 -h").arg(scene.directory.join("mirror"));
    let mut server = server.start(&httpd)?;

    let install = format!("install -o FreeBSD -u http://{SERVER}/ -r 14.3 -l freebsd head");
    let cache = scene.directory.join("state/cache");
    let log = scene.directory.join("install.log");
    let mut running = site.netbe(&install).env("PATH", stalling(&scene.directory)?).start(&log)?;
    kill_at(&mut running, &log, "a megabyte of a set", || largest(&cache) == 1 << 20)?;
    ensure(!site.root("head").exists(), || "it was made before its sets were there".to_owned())?;
    site.run(&install)?;
    is_whole(&site.root("head"))?;
    server.still(&httpd)?;
    let asked = fs::read_to_string(&httpd).during(httpd.display())?;
    ensure(asked.contains("response:206"), || {
        format!("it did not go on with the set:\n{}", tail(&httpd, 20))
    })?;
    server.kill();
    boots(&scene, &PXEBOOT)
}

/// A small Linux comes as an archive of its root, gets a RAM disk of netbe's, and boots.
fn archive(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    let (root, parts) = (scene.directory.join("root"), lab.parts()?);
    parts.furnish(&root, "test -c /dev/console && test -u /bin/su")?;
    fs::remove_file(root.join("boot/initrd.img")).during("boot/initrd.img")?;
    parts.furnish_modules(&root)?;
    let su = root.join("bin/su");
    fs::write(&su, "").during("bin/su")?;
    fs::set_permissions(&su, fs::Permissions::from_mode(0o4755)).during("bin/su")?;
    let packed = scene.directory.join("root.tar.gz");
    let tar = Program::new("tar").arg("-C").arg(&root).arg("-czf").arg(&packed).arg(".");
    tar.run(Duration::from_secs(120))?;
    site.run(&format!("install -o tar -p {} -l linux --initramfs lin", packed.display()))?;
    let verdict = site.run("check lin")?;
    let good = "NAME  SYSTEM  BIOS   UEFI\nlin   Linux   boots  boots\n";
    ensure(verdict == good, || verdict.clone())?;
    site.machine("alone", &mac(1), "lin")?;
    let server = site.serve()?;
    scene.boots("alone", Firmware::Bios, "lin")?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// A release whose loaders are the programs that stand in for them.
fn release(lab: &Lab, place: &Path) -> Result<Release, Failure> {
    let (pxeboot, loader) = (PXEBOOT.program(lab)?, LOADER_EFI.program(lab)?);
    let loaders = [(PXEBOOT.name, pxeboot.as_path()), (LOADER_EFI.name, loader.as_path())];
    Release::new(place, &loaders)
}

/// netbe says that `head` boots, and a machine fetches this loader out of it.
fn boots(scene: &Scene<'_>, loader: &Loader) -> Result<Outcome, Failure> {
    let verdict = scene.site().run("check head")?;
    let good = "NAME  SYSTEM   BIOS   UEFI\nhead  FreeBSD  boots  boots\n";
    ensure(verdict == good, || verdict.clone())?;
    loader.is_started(scene, "head")?;
    Ok(Outcome::Passed)
}

/// All that is in the sets is there, as it is to be.
fn is_whole(root: &Path) -> Result<(), Failure> {
    let look = |path: &str| fs::symlink_metadata(root.join(path)).during(path);
    let su = look("bin/su")?;
    ensure((su.mode() & 0o7777, su.nlink(), su.uid()) == (0o4555, 2, 0), || {
        format!("bin/su has the mode {:o} and {} names", su.mode(), su.nlink())
    })?;
    let null = look("dev/null")?;
    let is_null = null.file_type().is_char_device() && null.rdev() == NULL;
    ensure(is_null, || "dev/null is none".to_owned())?;
    let libc =
        Program::new("lsattr").arg(root.join("lib/libc.so.7")).run(Duration::from_secs(10))?;
    let flags = libc.split(' ').next().unwrap_or_default();
    ensure(flags.contains('i'), || format!("lib/libc.so.7 is not immutable: {libc}"))?;
    // Else nobody could remove the test's directory.
    Program::new("chattr")
        .arg("-i")
        .arg(root.join("lib/libc.so.7"))
        .run(Duration::from_secs(10))?;
    let many = fs::read_dir(root.join(MANY_FILES)).during(MANY_FILES)?.count();
    ensure(many == MANY, || format!("{many} of {MANY} files are there"))?;
    look("boot/kernel/kernel").map(|_kernel| ())
}

/// A command ends with this status, and says these words.
fn refused(site: &Site<'_>, words: &str, status: i32, says: &str) -> Result<(), Failure> {
    let done = site.netbe(words).finish(Duration::from_secs(120))?;
    let said = done.stdout + &done.stderr;
    ensure(done.status.code() == Some(status) && said.contains(says), || {
        format!("netbe {words}: {}: {said}", done.status)
    })
}

/// Kills a program and what it started by SIGKILL, as soon as it is so far.
fn kill_at(
    running: &mut Running,
    log: &Path,
    moment: &str,
    come: impl Fn() -> bool,
) -> Result<(), Failure> {
    wait_for(moment, Duration::from_secs(120), || {
        running.still(log)?;
        Ok(come().then_some(()))
    })?;
    running.kill();
    Ok(())
}

/// A PATH whose curl stops after a megabyte of a file, and is silent from then on.
fn stalling(directory: &Path) -> Result<String, Failure> {
    let bin = directory.join("bin");
    fs::create_dir(&bin).during(bin.display())?;
    let curl = bin.join("curl");
    // In blocks of 512 bytes.
    let script = "#!/bin/sh\nulimit -f 2048\n/usr/bin/curl \"$@\" && exit\nexec sleep 600\n";
    fs::write(&curl, script).during(curl.display())?;
    fs::set_permissions(&curl, fs::Permissions::from_mode(0o755)).during(curl.display())?;
    Ok(format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()))
}

/// Bytes of the largest file in a directory.
fn largest(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let sizes = entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.len());
    sizes.max().unwrap_or(0)
}

/// The number of the device `/dev/null`: 1, 3.
const NULL: u64 = 0x103;

//! netbe as a Debian package.
//!
//! The package is made of what users build, without its symbols, and of what `server/dist` has for Linux. What
//! it depends on dpkg-shlibdeps(1) finds out.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::failure::{During, Failure};
use crate::lab::{BUILD_LIMIT, Lab};
use crate::packages::{self, PACKAGING};
use crate::process::Program;
use crate::progress;

/// Makes the package in `directory`, of this program or of one that is built first.
pub(crate) fn build(directory: &Path, program: Option<&Path>) -> Result<ExitCode, Failure> {
    packages::install(&[PACKAGING])?;
    fs::create_dir_all(directory).during(directory.display())?;
    let place = tempfile::tempdir().during("scratch directory")?;
    let built = Lab::checkout().join("target/release/netbe");
    if program.is_none() {
        let step = progress::step("building netbe");
        Lab::cargo().words("build --quiet --locked --release --package netbe").run(BUILD_LIMIT)?;
        step.done("built");
    }
    let version = env!("CARGO_PKG_VERSION");
    let made = make(program.unwrap_or(&built), version, place.path(), directory)?;
    println!("{}", made.display());
    Ok(ExitCode::SUCCESS)
}

/// Makes the package of a program, with this version, in `into`; `place` is an empty directory.
pub(crate) fn make(
    netbe: &Path,
    version: &str,
    place: &Path,
    into: &Path,
) -> Result<PathBuf, Failure> {
    let root = place.join("root");
    let dist = Lab::checkout().join("server/dist");
    let program = root.join("usr/bin/netbe");
    directory(&root.join("usr/bin"))?;
    Program::new("strip").arg("-o").arg(&program).arg(netbe).run(MINUTE)?;
    set_mode(&program, 0o755)?;
    symlink("netbe", root.join("usr/bin/be")).during("usr/bin/be")?;
    for (from, to) in FILES {
        copy(&dist.join(from), &root.join(to))?;
    }
    written_by(netbe, &root)?;
    for name in ["postinst", "prerm", "postrm"] {
        let script = root.join("DEBIAN").join(name);
        copy(&dist.join("debian").join(name), &script)?;
        set_mode(&script, 0o755)?;
    }
    let configuration = "/etc/default/netbe\n/etc/netbe.toml\n";
    write(&root.join("DEBIAN/conffiles"), configuration)?;
    let control = CONTROL
        .replace("VERSION", version)
        .replace("SIZE", &size(&root)?)
        .replace("DEPENDS", &libraries(&root, place)?);
    write(&root.join("DEBIAN/control"), &control)?;
    let package = into.join(format!("netbe_{version}_amd64.deb"));
    let make = Program::new("dpkg-deb").words("--root-owner-group -Zgzip --build");
    make.arg(&root).arg(&package).run(5 * MINUTE)?;
    Ok(package)
}

/// Pages, completions and what Debian wants to be told, from the program itself and the checkout.
fn written_by(netbe: &Path, root: &Path) -> Result<(), Failure> {
    let pages = root.join("usr/share/man/man8");
    directory(&pages)?;
    Program::new(netbe).words("man --into").arg(&pages).run(MINUTE)?;
    let of_5 = root.join("usr/share/man/man5");
    directory(&of_5)?;
    let file = "netbe.toml.5";
    fs::rename(pages.join(file), of_5.join(file)).during(file)?;
    for (shell, to) in COMPLETIONS {
        let text = Program::new(netbe).words("completion").arg(shell).run(MINUTE)?;
        write(&root.join(to), &text)?;
    }
    let doc = root.join("usr/share/doc/netbe");
    copy(&Lab::checkout().join("CHANGELOG.md"), &doc.join("changelog"))?;
    copy(&Lab::checkout().join("LICENSE"), &doc.join("copyright"))?;
    copy(&Lab::checkout().join("README.md"), &doc.join("README.md"))?;
    Program::new("sh")
        .args([
            "-euc",
            "find usr/share/man usr/share/doc/netbe/changelog -type f -exec gzip -9n {} +",
        ])
        .directory(root)
        .run(MINUTE)
        .map(drop)
}

/// The packages whose libraries the program needs, as a field of the control file has them.
fn libraries(root: &Path, place: &Path) -> Result<String, Failure> {
    // It looks for the file of a source package.
    write(&place.join("debian/control"), "Source: netbe\n\nPackage: netbe\nArchitecture: any\n")?;
    let find = Program::new("dpkg-shlibdeps").arg("-O").arg(root.join("usr/bin/netbe"));
    let found = find.directory(place).run(MINUTE)?;
    let depends = found.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    let depends = depends.ok_or_else(|| Failure::said(format!("dpkg-shlibdeps said {found:?}")))?;
    Ok(depends.to_owned())
}

/// What the files take on a disk, in KiB.
fn size(root: &Path) -> Result<String, Failure> {
    let count = Program::new("du").words("-s -k --exclude=DEBIAN").arg(root).run(MINUTE)?;
    let size = count.split_whitespace().next();
    size.map(str::to_owned).ok_or_else(|| Failure::said(format!("du said {count:?}")))
}

fn directory(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).during(path.display())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        directory(parent)?;
    }
    fs::write(path, text).during(path.display())
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    write(to, &fs::read_to_string(from).during(from.display())?)?;
    set_mode(to, 0o644)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).during(path.display())
}

/// What lies in `server/dist`, and where it goes.
const FILES: &[(&str, &str)] = &[
    ("linux/netbe.service", "usr/lib/systemd/system/netbe.service"),
    ("linux/netbe-guest@.service", "usr/lib/systemd/system/netbe-guest@.service"),
    ("linux/netbe-guests.service", "usr/lib/systemd/system/netbe-guests.service"),
    ("linux/closed.conf", "usr/share/netbe/closed.conf"),
    ("netbe.toml", "etc/netbe.toml"),
    ("debian/default", "etc/default/netbe"),
];

/// Where each shell of Debian looks.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/netbe"),
    ("fish", "usr/share/fish/vendor_completions.d/netbe.fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_netbe"),
];

/// deb-control(5). What it recommends are the programs that verbs run.
const CONTROL: &str = "\
Package: netbe
Version: VERSION
Architecture: amd64
Maintainer: the netbe authors <netbe@localhost>
Section: net
Priority: optional
Installed-Size: SIZE
Depends: DEPENDS
Recommends: mmdebstrap | debootstrap, curl, busybox-static
Suggests: zfsutils-linux, btrfs-progs, ipxe, qemu-system-x86
Description: networked boot environments for diskless machines
 netbe turns a store of boot environments (ZFS, btrfs or directories) into
 machines that boot over the network. One process serves DHCP, TFTP, HTTP and
 NFS, decides once per boot what a machine gets, and shows every boot as it
 happens.
";

const MINUTE: Duration = Duration::from_secs(60);

//! What runs in the guests: Debian's own kernel, an initial RAM disk, and a small root.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::Cache;
use crate::failure::{During, Failure};
use crate::lab::BUILD_LIMIT;
use crate::packages;
use crate::process::Program;
use crate::progress;
use crate::ramdisk::{self, File};

/// The pieces that every guest's root is made from; kept in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    busybox: PathBuf,
    kernel: PathBuf,
    modules: PathBuf,
    initrd: PathBuf,
}

impl Parts {
    /// Takes the pieces from the cache, or makes them.
    pub(crate) fn get(cache: &Cache) -> Result<Self, Failure> {
        let kernel = packages::kernel(cache)?;
        let busybox = packages::unpacked(cache, "busybox-static")?.join("bin/busybox");
        let files = [
            File { path: "init", content: INITRAMFS.as_bytes() },
            File { path: "lease", content: LEASE.as_bytes() },
        ];
        let initrd = ramdisk::get(cache, &kernel, &busybox, &MODULES, &files)?;
        let modules = kernel.modules();
        Ok(Self { busybox, kernel: kernel.image, modules, initrd })
    }

    /// The kernel.
    pub(crate) fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// The initial RAM disk.
    pub(crate) fn initrd(&self) -> &Path {
        &self.initrd
    }

    /// Busybox, for a host that has none.
    pub(crate) fn busybox(&self) -> &Path {
        &self.busybox
    }

    /// Fills an empty directory with a root that boots and does `task`.
    pub(crate) fn furnish(&self, root: &Path, task: &str) -> Result<(), Failure> {
        let what = format!("making a root in {}", root.display());
        for directory in
            ["bin", "boot", "dev", "etc", "lab", "proc", "root", "run", "sbin", "sys", "tmp", "usr"]
        {
            fs::create_dir_all(root.join(directory)).during(&what)?;
        }
        fs::copy(&self.busybox, root.join("bin/busybox")).during(&what)?;
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", root.join("bin").join(applet)).during(&what)?;
        }
        fs::copy(&self.kernel, root.join("boot/vmlinuz")).during(&what)?;
        fs::copy(&self.initrd, root.join("boot/initrd.img")).during(&what)?;
        let init = root.join("sbin/init");
        fs::write(&init, include_str!("../guest/init.sh")).during(&what)?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).during(&what)?;
        fs::write(root.join("etc/os-release"), "NAME=\"netbe lab guest\"\n").during(&what)?;
        fs::write(root.join("lab/task"), task).during(&what)
    }

    /// Adds the kernel's modules to a root, as its package has them.
    pub(crate) fn furnish_modules(&self, root: &Path) -> Result<(), Failure> {
        copy_modules(&self.modules, root)
    }
}

/// Gives a root the kernel with 9P and virtiofs, and its modules, in the place of the one that it has, and no initial
/// RAM disk.
pub(crate) fn furnish_full_kernel(cache: &Cache, root: &Path) -> Result<(), Failure> {
    let kernel = packages::full_kernel(cache)?;
    let boot = root.join("boot");
    fs::copy(&kernel.image, boot.join("vmlinuz")).during(boot.display())?;
    fs::remove_file(boot.join("initrd.img")).during(boot.display())?;
    copy_modules(&kernel.modules(), root)
}

fn copy_modules(modules: &Path, root: &Path) -> Result<(), Failure> {
    let place = root.join("lib/modules");
    fs::create_dir_all(&place).during(place.display())?;
    let copy = Program::new("cp").words("-a --reflink=auto").arg(modules).arg(&place);
    copy.run(Duration::from_secs(120)).map(|_silence| ())
}

/// Puts packages of Debian onto a guest's root, beside busybox, with all that they depend on, and the
/// users that their programs become.
pub(crate) fn furnish_debian(cache: &Cache, root: &Path, packages: &str) -> Result<(), Failure> {
    let what = "fetching Debian packages for a guest (not installed)";
    unpack(cache, root, ("suites", "extract", packages), what)?;
    fs::write(root.join("etc/passwd"), USERS).during("etc/passwd")?;
    fs::write(root.join("etc/group"), GROUPS).during("etc/group")
}

/// Fills a root with a small Debian that systemd starts.
pub(crate) fn furnish_systemd(cache: &Cache, root: &Path) -> Result<(), Failure> {
    unpack(cache, root, ("debian", "minbase", SYSTEM), "making a Debian for a guest")
}

/// Unpacks what mmdebstrap(1) makes of a variant with these packages; it is made once.
fn unpack(
    cache: &Cache,
    root: &Path,
    (entry, variant, packages): (&str, &str, &str),
    what: &str,
) -> Result<(), Failure> {
    let key = cache.key(&[packages.as_bytes(), RELEASE.as_bytes()]);
    let unpacked = cache.entry(&format!("{entry}-{key}"), |directory| {
        packages::install(&[packages::DEBIAN])?;
        let step = progress::step(what);
        Program::new("mmdebstrap")
            .words("--quiet --mode=root --skip=output/mknod")
            .args([format!("--variant={variant}"), format!("--include={packages}")])
            .arg(RELEASE)
            .arg(directory.join("root.tar"))
            .run(BUILD_LIMIT)?;
        step.done("made");
        Ok(())
    })?;
    Program::new("tar")
        .arg("-xf")
        .arg(unpacked.join("root.tar"))
        .arg("-C")
        .arg(root)
        // The guest's kernel makes the devices, and the host's name servers are not there.
        .words("--exclude=./dev --exclude=./etc/resolv.conf")
        .run(Duration::from_secs(300))
        .map(drop)
}

/// Has a root with systemd start its network, and a service of this name.
pub(crate) fn furnish_service(root: &Path, name: &str, service: &str) -> Result<(), Failure> {
    let units = root.join("etc/systemd/system");
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).during(wants.display())?;
    let (own, network) = (format!("{name}.service"), "systemd-networkd.service");
    fs::write(units.join(&own), service).during(&own)?;
    symlink(format!("/etc/systemd/system/{own}"), wants.join(&own)).during(&own)?;
    symlink(format!("/lib/systemd/system/{network}"), wants.join(network)).during(network)
}

/// What a guest wrote onto its root when its task had ended.
#[derive(Clone, Debug)]
pub(crate) struct Marker {
    fields: BTreeMap<String, String>,
}

impl Marker {
    /// Reads the marker of the guest whose root is here.
    pub(crate) fn read(root: &Path) -> Result<Self, Failure> {
        let path = root.join("lab/marker");
        let text = fs::read_to_string(&path)
            .during("the guest wrote no marker onto its root: lab/marker")?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(Self { fields: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect() })
    }

    /// A field, or nothing when the guest did not write it.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// The modules for a virtual machine with its root on NFSv3.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_net", "af_packet", "virtio-rng", "nfsv3"];
/// The programs that a guest's root has: names of busybox.
const APPLETS: &str = "cat chmod cmp cp cut date dd df dmesg echo env expr false find grep gunzip \
    gzip head hostname id ip kill ln ls md5sum mkdir mknod mount mv nc ping poweroff ps pwd \
    readlink reboot rm rmdir sed seq sh sha256sum sleep sort stat stty sync tail tee test time \
    touch tr true truncate umount uname wc wget";
/// What a Debian needs beside its essential packages to start and to have a network.
const SYSTEM: &str = "systemd-sysv,dbus,iproute2";
/// The release of Debian that a guest's programs are from.
const RELEASE: &str = "bookworm";
const USERS: &str = "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nbin:x:2:2::/:/bin/false\n\
    _rpc:x:101:65534::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n";
const GROUPS: &str = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nnogroup:x:65534:\n";
const INITRAMFS: &str = include_str!("../guest/initramfs.sh");
const LEASE: &str = include_str!("../guest/lease.sh");

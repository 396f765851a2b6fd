//! What runs in the guests: Debian's own kernel, an initial RAM disk, and a small root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::Cache;
use crate::cpio::Archive;
use crate::failure::{During, Failure};
use crate::packages;
use crate::process::Program;

/// The pieces that every guest's root is made from; kept in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    busybox: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Parts {
    /// Takes the pieces from the cache, or makes them.
    pub(crate) fn get(cache: &Cache) -> Result<Self, Failure> {
        let kernel = packages::kernel(cache)?;
        let busybox = packages::unpacked(cache, "busybox-static")?.join("bin/busybox");
        let initrd = initrd(cache, &kernel, &busybox)?;
        Ok(Self { busybox, kernel: kernel.image, initrd })
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

/// Builds the initial RAM disk, or finds it in the cache.
fn initrd(cache: &Cache, kernel: &packages::Kernel, busybox: &Path) -> Result<PathBuf, Failure> {
    let scripts = [INITRAMFS, LEASE].concat();
    let binary = fs::read(busybox).during(busybox.display())?;
    let key = cache.key(&[scripts.as_bytes(), &binary, kernel.version.as_bytes()]);
    let directory = cache.entry(&format!("initrd-{key}"), |directory| {
        let mut archive = Archive::default();
        for path in ["bin", "dev", "modules", "proc", "root", "run", "sys"] {
            archive.directory(path);
        }
        archive.program("bin/busybox", &binary);
        archive.symlink("bin/sh", "busybox");
        archive.program("init", INITRAMFS.as_bytes());
        archive.program("lease", LEASE.as_bytes());
        let mut order = String::new();
        for module in modules_in_order(kernel)? {
            let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let content = fs::read(&module).during(module.display())?;
            archive.program(&format!("modules/{name}"), &content);
            order.push_str(&name);
            order.push('\n');
        }
        archive.program("modules/order", order.as_bytes());
        let plain = directory.join("initrd.cpio");
        fs::write(&plain, archive.finish()).during(plain.display())?;
        // The kernel unpacks only the legacy format of lz4 (-l).
        Program::new("lz4")
            .words("-l -9 -q --rm initrd.cpio initrd.img")
            .directory(directory)
            .run(Duration::from_secs(120))
            .map(|_silence| ())
    })?;
    Ok(directory.join("initrd.img"))
}

/// The modules that a guest needs, each after those that it depends on.
fn modules_in_order(kernel: &packages::Kernel) -> Result<Vec<PathBuf>, Failure> {
    let directory = kernel.modules();
    let list = directory.join("modules.dep");
    let text = fs::read_to_string(&list).during(list.display())?;
    let builtin = directory.join("modules.builtin");
    let builtin = fs::read_to_string(&builtin).during(builtin.display())?;
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for wanted in MODULES {
        let file = format!("/{wanted}.ko");
        if builtin.lines().any(|line| line.ends_with(&file)) {
            continue;
        }
        let line = text
            .lines()
            .find(|line| line.split_once(':').is_some_and(|(path, _needs)| path.ends_with(&file)));
        let (path, needs) = line.and_then(|line| line.split_once(':')).ok_or_else(|| {
            Failure::said(format!("the kernel {} has no module {wanted}", kernel.version))
        })?;
        // depmod lists what a module needs from the nearest to the farthest.
        for module in needs.split_whitespace().rev().chain([path]) {
            if seen.insert(module.to_owned()) {
                order.push(directory.join(module));
            }
        }
    }
    Ok(order)
}

/// The modules for a virtual machine with its root on NFSv3.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_net", "af_packet", "virtio-rng", "nfsv3"];
/// The programs that a guest's root has: names of busybox.
const APPLETS: &str = "cat chmod cmp cp cut date dd df dmesg echo env expr false find grep gunzip \
    gzip head hostname id ip kill ln ls md5sum mkdir mknod mount mv nc ping poweroff ps pwd \
    readlink reboot rm rmdir sed seq sh sha256sum sleep sort stat stty sync tail tee test time \
    touch tr true truncate umount uname wc wget";
const INITRAMFS: &str = include_str!("../guest/initramfs.sh");
const LEASE: &str = include_str!("../guest/lease.sh");

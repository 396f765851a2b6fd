//! A whole Debian with ZFS for guests, as a disk image that is only read.
//!
//! The module is built once, by DKMS for the kernel that every guest of the lab runs, and kept in the
//! cache with the image: that takes minutes, a boot of it seconds.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::cache::Cache;
use crate::failure::{During, Failure};
use crate::packages::{self, Kernel};
use crate::process::Program;
use crate::progress;
use crate::ramdisk::{self, File};

/// What a guest with ZFS is started from.
#[derive(Clone, Debug)]
pub(crate) struct Debian {
    /// The kernel.
    pub(crate) kernel: PathBuf,
    /// The initial RAM disk that puts memory over the image and runs the task.
    pub(crate) initrd: PathBuf,
    /// The disk image: ext4.
    pub(crate) image: PathBuf,
}

impl Debian {
    /// Takes the pieces from the cache, or makes them.
    pub(crate) fn get(cache: &Cache) -> Result<Self, Failure> {
        let kernel = packages::kernel(cache)?;
        let image = image(cache, &kernel)?;
        let busybox = packages::unpacked(cache, "busybox-static")?.join("bin/busybox");
        let files = [
            File { path: "init", content: INITRAMFS.as_bytes() },
            File { path: "run-task", content: RUN_TASK.as_bytes() },
        ];
        let initrd = ramdisk::get(cache, &kernel, &busybox, &MODULES, &files)?;
        Ok(Self { kernel: kernel.image, initrd, image })
    }

    /// A directory in which pkg-config(1) and the linker find the C library of ZFS that the guest has.
    pub(crate) fn library(&self, cache: &Cache) -> Result<PathBuf, Failure> {
        let built = self.image.parent().unwrap_or(&self.image);
        let name = built.file_name().unwrap_or_default().to_string_lossy();
        packages::install(&[packages::DEBIAN])?;
        cache.entry(&format!("libzfs-of-{name}"), |directory| {
            let from = built.join("libzfs/lib");
            for entry in fs::read_dir(&from).during(from.display())? {
                let path = entry.during(from.display())?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                // The links to `libzfs.so.4.1.0` lead to where that is in the guest.
                if let Some((library, version)) = name.split_once(".so.")
                    && version.contains('.')
                {
                    let link = directory.join(format!("{library}.so"));
                    fs::copy(&path, &link).during(path.display())?;
                }
            }
            let description = directory.join("libzfs_core.pc");
            fs::write(&description, PKG_CONFIG).during(description.display())
        })
    }
}

/// Builds the image, or finds it in the cache.
fn image(cache: &Cache, kernel: &Kernel) -> Result<PathBuf, Failure> {
    let version = &kernel.version;
    let include = format!("linux-image-{version},linux-headers-{version},{PACKAGES}");
    let key = cache.key(&[include.as_bytes(), DIET.as_bytes()]);
    let entry = cache.entry(&format!("debian-zfs-{key}"), |directory| {
        let step = progress::step("building a Debian with ZFS (several minutes, once)");
        packages::install(&[packages::DEBIAN])?;
        let root = directory.join("root");
        Program::new("mmdebstrap")
            .words("--quiet --variant=minbase --components=main,contrib")
            .arg(format!("--include={include}"))
            // Without it mmdebstrap takes another way where it cannot make device nodes.
            .args(["--mode=root", "--skip=output/mknod", "bookworm"])
            .arg(&root)
            .run(BUILD_LIMIT)?;
        Program::new("sh").args(["-euc", DIET]).directory(&root).run(Duration::from_secs(300))?;
        Program::new("mke2fs")
            .words("-q -t ext4 -O ^has_journal -m 0 -L debian -d root image 1500M")
            .directory(directory)
            .run(Duration::from_secs(600))?;
        fs::remove_dir_all(&root).during(root.display())?;
        step.done("built");
        Ok(())
    })?;
    Ok(entry.join("image"))
}

/// What the guest has beyond Debian's smallest system: ZFS, and programs for tests.
const PACKAGES: &str = "zfs-dkms,zfsutils-linux,libzfslinux-dev,kmod,iproute2,attr,acl,procps";
/// Puts what it takes to link with the C library of ZFS aside, into `libzfs`, and removes from the tree
/// what no guest needs: the compiler, and all that is only read by people.
const DIET: &str = "
mkdir -p ../libzfs/lib
cp -a usr/include/libzfs usr/include/libspl ../libzfs/
cd usr/lib/x86_64-linux-gnu
cp -a libzfs* libnvpair* libuutil* libzpool* ../../../../libzfs/lib/
cd ../../..
rm -rf usr/src usr/lib/gcc usr/include var/lib/dkms var/lib/apt var/cache/apt
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/i18n usr/share/perl usr/lib/python3
";
/// What pkg-config(1) tells of the library.
const PKG_CONFIG: &str = "\
Name: libzfs_core
Description: the C library of ZFS, as the guest has it
Version: 2.1
Libs: -L${pcfiledir} -lzfs_core
";
/// The modules that it takes to reach the image.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "overlay"];
const INITRAMFS: &str = include_str!("../guest/zfs/initramfs.sh");
const RUN_TASK: &str = include_str!("../guest/zfs/run-task.sh");
/// How long the module may take on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

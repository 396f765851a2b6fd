//! A small initial RAM disk for a Linux boot environment, made from what is in it.
//!
//! It has a busybox, the modules of network cards, NFS and overlays, and a first program
//! (`init.sh`) that finds the card, asks DHCP and mounts the root: all that a system needs whose own
//! RAM disk cannot mount one. What a guest's root arranged is read through [`Inside`] only, and the
//! same environment gives the same bytes.

mod archive;
mod busybox;
mod drivers;
mod modules;
mod packed;

use std::io;
use std::path::PathBuf;

use hostfs::{Inside, InsideError};

pub use archive::Archive;
pub use busybox::Busybox;
pub use drivers::Drivers;
pub use modules::{Firmware, Module};

use crate::boot::catalog::{Contents, System};
use crate::boot::kernel;
use modules::Index;

/// What the RAM disk is to be made of, where it is not what suits most.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// The kernel's release, if not that of the kernel that the environment boots.
    pub release: Option<String>,
    /// Which drivers it has.
    pub drivers: Drivers,
    /// Modules beside these, by name.
    pub modules: Vec<String>,
    /// A busybox of the host.
    pub busybox: Option<PathBuf>,
}

/// What a RAM disk consists of.
#[derive(Clone, Debug)]
pub struct Initramfs {
    /// The kernel's release.
    pub release: String,
    /// Where the environment has that kernel's modules.
    pub directory: String,
    /// The modules, by name.
    pub modules: Vec<Module>,
    /// What of them the kernel has in itself.
    pub built_in: Vec<String>,
    /// Firmware of the modules, by name.
    pub firmware: Vec<Firmware>,
    /// The one program.
    pub busybox: Busybox,
    dependencies: String,
    aliases: String,
}

impl Initramfs {
    /// Collects what is needed from a boot environment, and from the host if that lacks a busybox.
    pub fn gather(inside: &Inside, recipe: &Recipe) -> Result<Self, InitramfsError> {
        let release = match &recipe.release {
            Some(release) if kernel::is_release(release) => release.clone(),
            Some(release) => return Err(InitramfsError::NoModules(release.clone())),
            None => release(inside)?,
        };
        let index = Index::read(inside, &release)?;
        let release = index.release().to_owned();
        let asked = recipe.modules.iter().map(|name| name.replace('-', "_"));
        for name in NEEDED.iter().map(|&name| name.to_owned()).chain(asked.clone()) {
            if !index.has(&name) {
                return Err(InitramfsError::NoModule { release, name });
            }
        }
        let drivers = index.drivers(recipe.drivers);
        if drivers.is_empty() && recipe.modules.is_empty() {
            return Err(InitramfsError::NoDrivers(release));
        }
        let useful = USEFUL.iter().filter(|name| index.has(name));
        let names = NEEDED.iter().chain(useful).map(|&name| name.to_owned());
        let names: Vec<String> = names.chain(drivers).chain(asked).collect();
        let mut built_in = names.clone();
        built_in.retain(|name| index.has_built_in(name));
        built_in.sort();
        built_in.dedup();
        let modules = index.gather(inside, names)?;
        let like = modules.first().map(|module| module.content.as_slice());
        let busybox = match &recipe.busybox {
            Some(path) => Busybox::take(path, like)?,
            None => Busybox::find(inside, like)?,
        };
        Ok(Self {
            firmware: modules::firmware(inside, &modules)?,
            dependencies: Index::dependencies(&modules),
            aliases: index.aliases(&modules),
            directory: index.directory().to_owned(),
            release,
            modules,
            built_in,
            busybox,
        })
    }

    /// The RAM disk's bytes.
    pub fn pack(&self) -> Result<Vec<u8>, InitramfsError> {
        let mut archive = Archive::default();
        for path in ["dev", "proc", "root", "run", "sbin", "sys", "tmp"] {
            archive.directory(path);
        }
        archive.program("init", INIT);
        archive.program("bound", BOUND);
        archive.program("bin/busybox", self.busybox.content.as_slice());
        archive.link("bin/sh", "busybox");
        // The kernel calls it by this name when it wants a module itself.
        archive.link("sbin/modprobe", "../bin/busybox");
        let place = format!("lib/modules/{}", self.release);
        for Module { name, content, .. } in &self.modules {
            archive.file(&format!("{place}/{name}.ko"), content.as_slice());
        }
        archive.file(&format!("{place}/modules.dep"), self.dependencies.as_str());
        archive.file(&format!("{place}/modules.alias"), self.aliases.as_str());
        for Firmware { name, content } in &self.firmware {
            archive.file(&format!("lib/firmware/{name}"), content.as_slice());
        }
        archive.pack().map_err(InitramfsError::Pack)
    }

    /// Where it belongs in the boot environment: netbe boots its kernel with what lies there.
    #[must_use]
    pub fn place(&self) -> String {
        kernel::own_ram_disk(&self.release)
    }
}

/// The release of the kernel that an environment boots.
fn release(inside: &Inside) -> Result<String, InitramfsError> {
    let Some(System::Linux { kernel, .. }) = Contents::scan(inside).system else {
        return Err(InitramfsError::NoKernel);
    };
    if let Some(release) = kernel::release(inside.open(&kernel)?) {
        return Ok(release);
    }
    if let Some(release) = kernel::release_in_name(&kernel) {
        return Ok(release.to_owned());
    }
    let kernels = inside.read_dir("/lib/modules", MAX_KERNELS).unwrap_or_default();
    match kernels.as_slice() {
        [only] => only.to_str().filter(|only| kernel::is_release(only)).map(str::to_owned),
        _ => None,
    }
    .ok_or(InitramfsError::NoRelease(kernel))
}

/// Why no RAM disk can be made.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// Something in the environment cannot be read.
    #[error(transparent)]
    Inside(#[from] InsideError),
    /// The drivers that were asked for are too many.
    #[error("modules or firmware of more than 256 MiB: choose fewer with --drivers")]
    Large,
    /// There is no busybox.
    #[error(
        "neither the boot environment nor this host has a static busybox with udhcpc for the \
         kernel's processor: install the package busybox-static in one of them, or say --busybox \
         FILE"
    )]
    NoBusybox,
    /// The kernel has no driver of those that were asked for.
    #[error(
        "kernel {0} has no network driver of that choice: choose more with --drivers all, or name \
         one with --module"
    )]
    NoDrivers(String),
    /// depmod has not run.
    #[error(
        "the boot environment has modules of kernel {0} and no modules.dep: run `depmod {0}` in it"
    )]
    NoIndex(String),
    /// There is no Linux in the environment.
    #[error("the boot environment has no Linux kernel: put one into /boot as vmlinuz-RELEASE")]
    NoKernel,
    /// The kernel lacks something.
    #[error("kernel {release} has no module {name}: choose another kernel with --kernel")]
    NoModule {
        /// The kernel's release.
        release: String,
        /// The module.
        name: String,
    },
    /// The modules are not there.
    #[error(
        "the boot environment has no /lib/modules/{0}: install that kernel's modules, or choose a \
         kernel with --kernel RELEASE"
    )]
    NoModules(String),
    /// Nothing says of which release the kernel is.
    #[error("{0} does not tell its release: say it with --kernel RELEASE")]
    NoRelease(String),
    /// The archive could not be made.
    #[error("the files do not fit into an initial RAM disk: {0}")]
    Pack(#[source] io::Error),
    /// A module or firmware is damaged.
    #[error("{path} cannot be unpacked: {source}")]
    Packed {
        /// The path in the environment.
        path: String,
        /// What is wrong.
        source: io::Error,
    },
    /// The busybox that was named cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: String,
        /// The host's reason.
        source: io::Error,
    },
    /// The busybox that was named cannot be used.
    #[error("{path} cannot be the RAM disk's busybox: {reason}")]
    Unfit {
        /// Which.
        path: String,
        /// Why.
        reason: &'static str,
    },
}

/// The first program of the RAM disk.
pub const INIT: &str = include_str!("init.sh");

const BOUND: &str = include_str!("bound.sh");
/// Packets for udhcpc, and the root.
const NEEDED: [&str; 3] = ["af_packet", "nfs", "nfsv3"];
/// Changes in memory, and random numbers early.
const USEFUL: [&str; 2] = ["overlay", "virtio_rng"];
/// More kernels than any environment has.
const MAX_KERNELS: usize = 256;

#[cfg(test)]
mod test;

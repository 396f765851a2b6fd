//! A small initial RAM disk for a Linux boot environment, made from what is in it.
//!
//! It has a busybox, the modules of network cards, NFS, 9P, virtiofs and overlays, and a first program
//! (`init.sh`) that finds the card, asks DHCP and mounts the root: all that a system needs whose own
//! RAM disk cannot mount one. What a guest's root arranged is read through [`Inside`] only, and the
//! same environment gives the same bytes.

mod archive;
mod busybox;
mod drivers;
mod modules;
mod packed;

use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use hostfs::{Inside, InsideError};
use serde::{Deserialize, Serialize};

pub(crate) use busybox::HostPrograms;
pub use drivers::Drivers;

use crate::contents::{Contents, System};
use crate::kernel;
use crate::worker::{self, Request, WorkerError};
use archive::Archive;
use busybox::Busybox;
use modules::{Firmware, Index, Module};

/// What the RAM disk is to be made of, where it is not what suits most.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Recipe {
    /// The kernel's release, if not that of the kernel that the environment boots.
    pub release: Option<String>,
    /// Which drivers it has.
    pub drivers: Drivers,
    /// Modules beside these, by name.
    pub modules: Vec<String>,
    /// A busybox of the host. The command opens it; its worker does not know the path.
    #[serde(skip)]
    pub busybox: Option<PathBuf>,
}

/// A RAM disk that was made, and what it consists of.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Made {
    /// The kernel's release.
    pub release: String,
    /// Where the environment has that kernel's modules.
    pub directory: String,
    /// What of its modules the kernel has in itself.
    pub built_in: Vec<String>,
    /// The names of the modules, and their sizes in bytes.
    pub modules: Vec<(String, usize)>,
    /// The names of their firmware below `/lib/firmware`, and the sizes.
    pub firmware: Vec<(String, usize)>,
    /// Where the one program was found, in words for a person, and its size.
    pub busybox: (String, usize),
    /// The RAM disk that the environment boots with now.
    pub booted: Option<String>,
    /// Its bytes.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

impl Made {
    /// Where it belongs in the boot environment: netbe boots its kernel with what lies there.
    #[must_use]
    pub fn place(&self) -> String {
        kernel::own_ram_disk(&self.release)
    }
}

/// Makes the RAM disk of a boot environment, in a worker that may only read.
pub fn make(inside: &Inside, recipe: &Recipe) -> Result<Made, InitramfsError> {
    let host = HostPrograms::open(recipe.busybox.as_deref())?;
    let copies = host.files.iter().map(|file| file.try_clone()).collect::<io::Result<Vec<_>>>();
    let copies = copies.map_err(WorkerError::from)?;
    let mut descriptors = vec![inside.as_fd()];
    descriptors.extend(copies.iter().map(|file| file.as_fd()));
    let (made, bytes) =
        worker::call::<Made>(&Request::Initramfs(recipe.clone(), host), &descriptors)?;
    // It becomes a part of a file's name.
    if !kernel::is_release(&made.release) {
        return Err(WorkerError::Reply.into());
    }
    Ok(Made { bytes, ..made })
}

/// Collects the parts of a RAM disk and puts them together; gives its bytes beside what they are.
pub(crate) fn build(
    inside: &Inside,
    recipe: &Recipe,
    host: &HostPrograms,
) -> Result<(Made, Vec<u8>), InitramfsError> {
    let parts = Initramfs::gather(inside, recipe, host)?;
    let bytes = parts.pack()?;
    let sizes = |name: &String, content: &Vec<u8>| (name.clone(), content.len());
    let booted = match Contents::scan(inside).system {
        Some(System::Linux { initrd, .. }) => initrd,
        Some(System::FreeBsd) | None => None,
    };
    let made = Made {
        modules: parts.modules.iter().map(|one| sizes(&one.name, &one.content)).collect(),
        firmware: parts.firmware.iter().map(|one| sizes(&one.name, &one.content)).collect(),
        busybox: sizes(&parts.busybox.origin, &parts.busybox.content),
        release: parts.release,
        directory: parts.directory,
        built_in: parts.built_in,
        booted,
        bytes: Vec::new(),
    };
    Ok((made, bytes))
}

/// What a RAM disk consists of.
#[derive(Clone, Debug)]
struct Initramfs {
    /// The kernel's release.
    release: String,
    /// Where the environment has that kernel's modules.
    directory: String,
    /// The modules, by name.
    modules: Vec<Module>,
    /// What of them the kernel has in itself.
    built_in: Vec<String>,
    /// Firmware of the modules, by name.
    firmware: Vec<Firmware>,
    /// The one program.
    busybox: Busybox,
    dependencies: String,
    aliases: String,
}

impl Initramfs {
    /// Collects what is needed from a boot environment, and from the host if that lacks a busybox.
    fn gather(
        inside: &Inside,
        recipe: &Recipe,
        host: &HostPrograms,
    ) -> Result<Self, InitramfsError> {
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
        let busybox = Busybox::find(inside, host, like)?;
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
    fn pack(&self) -> Result<Vec<u8>, InitramfsError> {
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
         kernel's processor: install the package busybox-static in one of them, or give --busybox FILE"
    )]
    NoBusybox,
    /// The kernel has no driver of those that were asked for.
    #[error(
        "kernel {0} has none of these network drivers: choose all with --drivers all, or name one with \
         --module"
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
    #[error("{0} has no release in its name: give it with --kernel RELEASE")]
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
    #[error("{path} cannot be used as busybox of the RAM disk: {reason}")]
    Unfit {
        /// Which.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// The process that makes it failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// The first program of the RAM disk.
pub const INIT: &str = include_str!("init.sh");

const BOUND: &str = include_str!("bound.sh");
/// Packets for udhcpc, and the root.
const NEEDED: [&str; 3] = ["af_packet", "nfs", "nfsv3"];
/// Changes in memory, random numbers early, and roots that a guest has from its host: not every kernel has these.
const USEFUL: [&str; 5] = ["overlay", "virtio_rng", "9p", "9pnet_virtio", "virtiofs"];
/// More kernels than any environment has.
const MAX_KERNELS: usize = 256;

#[cfg(test)]
mod test;

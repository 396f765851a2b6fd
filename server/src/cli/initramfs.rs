//! The initial RAM disk that netbe makes for a Linux boot environment: shown, or written to a file.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use hostfs::Inside;
use provision::initramfs::{self, Drivers, INIT, InitramfsError, Made, Recipe};
use store::EnvironmentName;

use super::{Failure, Reply, Site, Table};

/// What the RAM disk is to be made of.
#[derive(Args, Debug)]
pub(super) struct RecipeOptions {
    /// The network drivers in the initial RAM disk.
    #[arg(long, value_enum, default_value_t)]
    drivers: Drivers,
    /// A further kernel module for the initial RAM disk; may be repeated.
    #[arg(long = "module", value_name = "MODULE")]
    modules: Vec<String>,
    /// The kernel [default: the one that the environment boots].
    #[arg(long, value_name = "RELEASE")]
    kernel: Option<String>,
    /// A static busybox [default: the environment's, else this host's].
    #[arg(long, value_name = "FILE")]
    busybox: Option<PathBuf>,
}

impl RecipeOptions {
    /// Makes the RAM disk.
    pub(super) fn make(&self, inside: &Inside) -> Result<Made, Failure> {
        let recipe = Recipe {
            release: self.kernel.clone(),
            drivers: self.drivers,
            modules: self.modules.clone(),
            busybox: self.busybox.clone(),
        };
        Ok(initramfs::make(inside, &recipe)?)
    }
}

/// The initial RAM disk that netbe builds for a Linux boot environment with its root on NFS.
#[derive(Args, Debug)]
pub(super) struct ShowInitramfs {
    #[command(flatten)]
    recipe: RecipeOptions,
    /// Write it to this file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print its init script.
    #[arg(long, conflicts_with = "output")]
    init: bool,
    /// The boot environment.
    #[arg(required_unless_present = "init")]
    name: Option<EnvironmentName>,
}

impl ShowInitramfs {
    pub(super) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let Some(name) = self.name.as_ref().filter(|_| !self.init) else {
            return Ok(Reply::text(INIT));
        };
        let inside = Inside::from_fd(site.open()?.open_root(name)?);
        let made = self.recipe.make(&inside)?;
        match &self.output {
            Some(output) => write(output, &made.bytes),
            None => Ok(Reply::text(describe(name, &made))),
        }
    }
}

/// Writes a file of the host, all at once; never through a link, and never over a directory.
fn write(output: &Path, bytes: &[u8]) -> Result<Reply, Failure> {
    let name = output.file_name().filter(|_| !output.is_dir()).ok_or_else(|| {
        Failure::could_not(format_args!(
            "{} is a directory: give --output with the name of a file",
            output.display()
        ))
    })?;
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = Inside::enter(parent.unwrap_or_else(|| Path::new(".")));
    let written = folder.and_then(|folder| folder.write_atomic(name, bytes, 0o644));
    written.map(|()| Reply::done()).map_err(|error| {
        Failure::could_not(format_args!("{} cannot be written: {error}", output.display()))
    })
}

/// What it consists of, what it weighs, and whether its environment boots with it.
fn describe(name: &EnvironmentName, made: &Made) -> String {
    let Made { release, directory, modules, built_in, firmware, busybox, booted, bytes } = made;
    let (origin, size) = busybox;
    let mut text = format!("kernel    {release}\n");
    // Writing to a String does not fail.
    let _ = writeln!(text, "busybox   {origin}");
    let _ = writeln!(text, "modules   {} from {directory}", modules.len());
    if !built_in.is_empty() {
        let _ = writeln!(text, "built in  {}", built_in.join(" "));
    }
    let _ = writeln!(text, "size      {}", kib(bytes.len()));
    let place = made.place();
    let boots = match booted {
        Some(booted) if *booted == place => {
            format!("{place}, which netbe made before; `netbe install --initramfs` builds it anew")
        }
        Some(other) => format!("{other}; `netbe install --initramfs {name}` puts this one first"),
        None => format!("without a RAM disk; `netbe install --initramfs {name}` gives it this one"),
    };
    let _ = writeln!(text, "it boots  {boots}\n");
    let mut table = Table::new(&["FILE", "SIZE"]);
    for (name, size) in modules {
        table.row([format!("{name}.ko"), kib(*size)]);
    }
    for (name, size) in firmware {
        table.row([format!("firmware/{name}"), kib(*size)]);
    }
    table.row(["busybox".to_owned(), kib(*size)]);
    text + &table.columns()
}

fn kib(bytes: usize) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

impl From<InitramfsError> for Failure {
    fn from(error: InitramfsError) -> Self {
        Self::could_not(error)
    }
}

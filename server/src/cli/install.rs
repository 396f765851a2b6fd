//! The verb that puts something into a boot environment.

use clap::Args;
use hostfs::Inside;
use store::EnvironmentName;

use super::initramfs::RecipeOptions;
use super::{Failure, Reply, Site};

/// Put an initial RAM disk of netbe's into a Linux boot environment: its kernel boots with that one
/// from then on.
///
/// It lies at /boot/initrd-netbe-RELEASE.img; remove that file, and the environment's own is used
/// again. Machines that run notice nothing.
#[derive(Args, Debug)]
pub(crate) struct Install {
    /// Make the RAM disk of what the environment has.
    #[arg(long, required = true)]
    initramfs: bool,
    #[command(flatten)]
    recipe: RecipeOptions,
    /// The boot environment.
    name: EnvironmentName,
}

impl Install {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let inside = Inside::from_fd(site.open()?.open_root(&self.name)?);
        let initramfs = self.recipe.gather(&inside)?;
        let place = initramfs.place();
        let written = inside.write_atomic(&place, &initramfs.pack()?, 0o644);
        written.map_err(|error| {
            Failure::could_not(format_args!("{}: {error}: nothing was changed", self.name))
        })?;
        Ok(Reply::done())
    }
}

//! Initial RAM disks: busybox, kernel modules in the order in which they are loaded, and scripts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::Cache;
use crate::cpio::Archive;
use crate::failure::{During, Failure};
use crate::packages::Kernel;
use crate::process::Program;

/// A script in a RAM disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File<'a> {
    /// Where it is, without a slash in front; `init` is what the kernel starts.
    pub(crate) path: &'a str,
    /// What it says.
    pub(crate) content: &'a [u8],
}

/// Builds a RAM disk, or finds it in the cache.
///
/// The modules, with all that they need, are in `/modules`; `/modules/order` names them, each after
/// those that it depends on.
pub(crate) fn get(
    cache: &Cache,
    kernel: &Kernel,
    busybox: &Path,
    modules: &[&str],
    files: &[File<'_>],
) -> Result<PathBuf, Failure> {
    let binary = fs::read(busybox).during(busybox.display())?;
    let wanted = modules.join(" ");
    let mut inputs = vec![binary.as_slice(), kernel.version.as_bytes(), wanted.as_bytes()];
    inputs.extend(files.iter().flat_map(|file| [file.path.as_bytes(), file.content]));
    let key = cache.key(&inputs);
    let directory = cache.entry(&format!("initrd-{key}"), |directory| {
        let mut archive = Archive::default();
        for path in ["bin", "dev", "modules", "proc", "root", "run", "sys"] {
            archive.directory(path);
        }
        archive.program("bin/busybox", &binary);
        archive.symlink("bin/sh", "busybox");
        for file in files {
            archive.program(file.path, file.content);
        }
        let mut order = String::new();
        for module in modules_in_order(kernel, modules)? {
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

/// The modules, each after those that it depends on.
fn modules_in_order(kernel: &Kernel, modules: &[&str]) -> Result<Vec<PathBuf>, Failure> {
    let directory = kernel.modules();
    let list = directory.join("modules.dep");
    let text = fs::read_to_string(&list).during(list.display())?;
    let builtin = directory.join("modules.builtin");
    let builtin = fs::read_to_string(&builtin).during(builtin.display())?;
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for wanted in modules {
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

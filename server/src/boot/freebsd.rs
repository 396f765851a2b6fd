//! The files that FreeBSD's loader fetches by TFTP or HTTP, out of the environment that it boots.
//!
//! It may have what lies below `/boot`, and the few files outside that it reads. Two things are made for
//! it: by HTTP lists of folders, in which it looks for links, and the end of a `loader.conf.local`. There a
//! loader that does no DHCP of its own is told what it is told in no other way, and one that cannot list a
//! folder not to try.

use std::io::Read as _;
use std::path::Path;

use bootcfg::loader;

use super::catalog::Files;
use super::loader::LoaderLocation;
use super::plan::{Fetch, Next, Plan, ROOT};
use super::{ClientNetwork, FileError, FileProtocol, Role};
use crate::site::kenv::{self, Variable};

/// What is at a path of the environment.
pub(super) enum Found {
    /// The file itself.
    File,
    /// Bytes that were made for the loader, and their MIME type.
    Made(Vec<u8>, &'static str),
}

/// The path in the environment that a name of the loader's means, if it has any business there.
///
/// By TFTP a name is the root path and a path; the root path may be missing, and loaders before 11.0
/// take `tftp://SERVER/be/NAME` for a host, a colon and the path `//SERVER/be/NAME`. By HTTP a name is
/// the folder of the root and a path, with two slashes between them.
pub(super) fn path(plan: &Plan, protocol: FileProtocol, name: &str) -> Option<String> {
    let parts = name.split('/').filter(|part| !part.is_empty() && *part != ".");
    let name = parts.collect::<Vec<_>>().join("/");
    let path = match protocol {
        FileProtocol::Http if plan.fetch == Fetch::Http => {
            name.strip_prefix(ROOT)?.strip_prefix('/')?
        }
        FileProtocol::Http => return None,
        FileProtocol::Tftp => {
            let server = plan.server.to_string();
            let below = |root: &str| name.strip_prefix(root)?.strip_prefix('/');
            let exported = format!("be/{}", plan.name);
            let found = below(&exported).or_else(|| below(&format!("{server}/{exported}")));
            found.unwrap_or(&name)
        }
    };
    let climbs = path.split('/').any(|part| part == "..");
    let in_boot = path == "boot" || path.starts_with("boot/");
    let is_read = in_boot || matches!(path, "etc/fstab" | "etc/hostid");
    (is_read && !climbs).then(|| format!("/{path}"))
}

/// What a file is to the boot.
pub(super) fn role(plan: &Plan, path: &str) -> Role {
    let is_loader = match &plan.next {
        Next::Loader(own) | Next::Handed(own) => {
            own.place == LoaderLocation::Environment(path.to_owned())
        }
        Next::Kernel { .. } => false,
    };
    match path {
        _ if is_loader && plan.fetch == Fetch::Http => Role::Loader,
        "/boot/kernel/kernel" => Role::Kernel,
        _ => Role::Other,
    }
}

/// Finds what the loader gets for a path.
pub(super) fn find(
    plan: &Plan,
    files: &dyn Files,
    protocol: FileProtocol,
    path: &str,
) -> Result<Found, FileError> {
    if path == CONFIGURATION {
        return configuration(plan, files).map(|text| Found::Made(text, "text/plain"));
    }
    if protocol == FileProtocol::Tftp || files.is_file(path) {
        return Ok(Found::File);
    }
    let names = files.names(path).map_err(|_| FileError::NotFound)?;
    Ok(Found::Made(list(files, path, names), "text/html"))
}

/// The environment's own `loader.conf.local`, and behind it what this machine has to be told: all of it
/// by HTTP, by TFTP what DHCP cannot say, because `/boot/defaults/loader.conf` says otherwise.
fn configuration(plan: &Plan, files: &dyn Files) -> Result<Vec<u8>, FileError> {
    let mut text = Vec::new();
    if let Ok(file) = files.open(CONFIGURATION) {
        file.take(MAX_CONFIGURATION).read_to_end(&mut text).map_err(|error| {
            tracing::error!("{CONFIGURATION} of {}: {error}", plan.name);
            FileError::Io
        })?;
    }
    if text.len() as u64 >= MAX_CONFIGURATION {
        let name = &plan.name;
        return Err(FileError::Refused(format!(
            "{CONFIGURATION} of {name} is too large to be read"
        )));
    }
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    let variables = match plan.fetch {
        Fetch::Http => {
            let mut given = vec![look_for_no_kernels()];
            given.extend(names(plan));
            kenv::overlaid(given, &plan.variables, kenv::MAX_READ_SIZE)
        }
        Fetch::Nfs | Fetch::Tftp => vec![look_for_no_kernels()],
    };
    let variables = variables.iter().map(loader::Variable::from).collect::<Vec<_>>();
    let own = loader::render(&variables).map_err(|error| FileError::Refused(error.to_string()))?;
    text.extend(own.into_bytes());
    Ok(text)
}

/// Has a Lua loader not list `/boot` in search of more kernels. Those of 12.x stop where they cannot, as
/// by TFTP ("core.lua:241: attempt to call a nil value"); later ones find out that they cannot. `kernels`
/// in loader.conf(5) names more.
fn look_for_no_kernels() -> Variable {
    Variable::known("kernels_autodetect", "NO")
}

/// What the loader's own DHCP would leave for rc.d/hostname and rc.d/resolv: options 12, 15 and 6, by the
/// names and in the form of stand/libsa/bootp.c. What no variable can hold is left out.
fn names(plan: &Plan) -> impl Iterator<Item = Variable> {
    let ClientNetwork { name_servers, domain, .. } = &plan.network;
    let servers = name_servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let servers = Some(servers).filter(|servers| !servers.is_empty());
    let all = [
        ("dhcp.host-name", plan.machine.as_ref().map(ToString::to_string)),
        ("dhcp.domain-name", domain.clone()),
        ("dhcp.domain-name-servers", servers),
    ];
    all.into_iter().filter_map(|(name, value)| format!("{name}={}", value?).parse().ok())
}

/// A folder as the loader reads one (stand/efi/libefi/efihttp.c: efihttp_fs_readdir): it looks for
/// links, takes a slash at the end for a folder, and stops at a NUL, which it does not add itself.
fn list(files: &dyn Files, folder: &str, mut names: Vec<String>) -> Vec<u8> {
    names.retain(|name| {
        name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>&".contains(&byte))
    });
    names.sort();
    let mut text = "<!DOCTYPE html>\n".to_owned();
    for name in names {
        let path = Path::new(folder).join(&name);
        let end = if path.to_str().is_some_and(|path| files.is_file(path)) { "" } else { "/" };
        text.push_str(&format!("<a href=\"{name}{end}\">{name}{end}</a>\n"));
    }
    text.push('\0');
    text.into_bytes()
}

/// The last file that the loader reads its variables from.
const CONFIGURATION: &str = "/boot/loader.conf.local";

/// More than any of them has.
const MAX_CONFIGURATION: u64 = 1 << 18;

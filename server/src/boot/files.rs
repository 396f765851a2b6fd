//! Boot files: which bytes a name stands for, for the machine that asks.
//!
//! A name either says its boot (`/b/BOOTID/...`, in every URL that we give out) or is asked from an
//! address whose machine is in a boot. In both cases only files of that boot can be had: its script,
//! its kernel, its loaders, and for FreeBSD what its loader reads out of the environment.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::boots::{Boots, RootState};
use super::catalog::Environment;
use super::freebsd::{self, Found};
use super::loader::{Loader, LoaderLocation};
use super::plan::{Chosen, INITRD, KERNEL, Next, Plan, SCRIPT};
use super::refused::Refused;
use super::{
    BootFile, BootId, Booter as _, ClientAddress, Content, Event, FileError, FileProtocol,
    FileRequest, Role, Ticket, flaw, script,
};

/// Opens the boot file that is asked for, and tells what speaks against it.
pub(super) fn open(boots: &Boots, request: &FileRequest<'_>) -> Result<BootFile, FileError> {
    let file = find(boots, request)?;
    if let Some(client) = file.ticket.boot.and_then(|id| boots.client(id))
        && let Some(flaw) = flaw::of(&file, client)
    {
        let name = String::from_utf8_lossy(request.name).into_owned();
        boots.report(ClientAddress::Ip(request.peer), Event::Flawed { name, flaw });
    }
    Ok(file)
}

fn find(boots: &Boots, request: &FileRequest<'_>) -> Result<BootFile, FileError> {
    let name = std::str::from_utf8(request.name).map_err(|_| FileError::NotFound)?;
    let name = name.replace('\\', "/");
    let name = name.trim_start_matches('/');
    if let Some((id, rest)) = name.strip_prefix("b/").and_then(|rest| rest.split_once('/')) {
        let id = id.parse::<BootId>().map_err(|_| FileError::NotFound)?;
        let plan = boots.boot(id).ok_or_else(|| {
            FileError::Refused("this boot is over: switch the machine off and on".to_owned())
        })?;
        // Knowing a boot's id is not enough: URLs go over the wire in the clear.
        if !boots.may_be_at(id, request.peer) {
            let reason = "these files belong to another machine";
            return Err(FileError::Refused(reason.to_owned()));
        }
        return of_boot(boots, request, id, &plan, rest);
    }
    match boots.boot_at(request.peer) {
        // Another DHCP server knows no boot's id: it names the script alone.
        Ok(_) if request.protocol == FileProtocol::Http && name != SCRIPT => {
            Err(FileError::NotFound)
        }
        Ok((id, plan)) => of_boot(boots, request, id, &plan, name),
        Err(Some(refusal)) => {
            let machine = boots.machine_at(request.peer);
            Refused::new(&refusal, machine.as_ref(), &boots.loaders).open(request.protocol, name)
        }
        Err(None) if request.protocol == FileProtocol::Http && name != SCRIPT => {
            Err(FileError::NotFound)
        }
        Err(None) => Err(FileError::Refused("this machine boots nothing from here".to_owned())),
    }
}

fn of_boot(
    boots: &Boots,
    request: &FileRequest<'_>,
    id: BootId,
    plan: &Arc<Plan>,
    name: &str,
) -> Result<BootFile, FileError> {
    let ticket = |role| Ticket { boot: Some(id), role };
    // A loader that is not the system's own comes before anything of the root is needed.
    let chosen = plan.chosen.iter().flat_map(|chosen| &chosen.others);
    let mut loaders = plan.first.iter().filter(|first| !plan.is_own(first)).chain(chosen);
    let needs_root = loaders.all(|loader| loader.name != name);
    let plan = match boots.root(id, plan, request.waited) {
        RootState::Ready(plan) => plan,
        RootState::Missing(_) | RootState::Waiting(_) if !needs_root => Arc::clone(plan),
        RootState::Waiting(ready) => return Err(FileError::Waiting(ready)),
        // iPXE has time, and a screen to say why.
        RootState::Missing(reason) if name == SCRIPT && plan.has_script() => {
            let text = script::wait(plan, id, &reason).map_err(FileError::Refused)?;
            return Ok(generated(text, ticket(Role::Other)));
        }
        RootState::Missing(reason) => {
            let refused = Refused::rootless(reason, plan, &boots.loaders);
            // HTTP tells it as well as TFTP.
            return refused.open(FileProtocol::Tftp, name);
        }
    };
    let plan = &*plan;
    match &plan.next {
        Next::Kernel { kernel, initrd, .. } => match name {
            SCRIPT => {
                let text = script::render(plan, id).map_err(FileError::Refused)?;
                return Ok(generated(text, ticket(Role::Script)));
            }
            KERNEL => return inside(boots, plan, kernel, ticket(Role::Kernel)),
            INITRD => {
                let initrd = initrd.as_deref().ok_or(FileError::NotFound)?;
                return inside(boots, plan, initrd, ticket(Role::Initrd));
            }
            _ => {}
        },
        Next::Handed(_) if name == SCRIPT => {
            let text = script::render(plan, id).map_err(FileError::Refused)?;
            return Ok(generated(text, ticket(Role::Script)));
        }
        Next::Loader(own) | Next::Handed(own) => {
            if name == own.name {
                return load(boots, plan, own, ticket(Role::Loader));
            }
        }
    }
    if let Some(chosen) = &plan.chosen {
        if let Some(text) = script::configuration(plan, chosen, id, name) {
            return Ok(generated(text.map_err(FileError::Refused)?, ticket(Role::Script)));
        }
        if let Some(found) = of_loader(boots, plan, chosen, name, ticket) {
            return found;
        }
    }
    if let Some(first) = plan.first.as_ref().filter(|first| first.name == name) {
        return load(boots, plan, first, ticket(Role::Loader));
    }
    if plan.is_freebsd()
        && let Some(path) = freebsd::path(plan, request.protocol, name)
    {
        return of_freebsd(boots, request, id, plan, &path);
    }
    Err(FileError::NotFound)
}

/// A file that FreeBSD's loader fetches, out of the environment.
fn of_freebsd(
    boots: &Boots,
    request: &FileRequest<'_>,
    id: BootId,
    plan: &Plan,
    path: &str,
) -> Result<BootFile, FileError> {
    let ticket = Ticket { boot: Some(id), role: freebsd::role(plan, path) };
    let files = environment(boots, plan)?.files;
    match freebsd::find(plan, &*files, request.protocol, path)? {
        Found::File => inside(boots, plan, path, ticket),
        Found::Made(bytes, mime) => Ok(made(bytes, mime, ticket)),
    }
}

/// A file that the chosen loader consists of.
fn of_loader(
    boots: &Boots,
    plan: &Plan,
    chosen: &Chosen,
    name: &str,
    ticket: impl Fn(Role) -> Ticket,
) -> Option<Result<BootFile, FileError>> {
    if name == chosen.first.name {
        return Some(load(boots, plan, &chosen.first, ticket(Role::Loader)));
    }
    if let Some(other) = chosen.others.iter().find(|other| other.name == name) {
        return Some(load(boots, plan, other, ticket(Role::Loader)));
    }
    let module = format!("/{name}");
    let (folder, file) = module.rsplit_once('/')?;
    (chosen.modules() == Some(folder) && !matches!(file, "." | ".."))
        .then(|| inside(boots, plan, &module, ticket(Role::Other)))
}

pub(super) fn generated(text: String, ticket: Ticket) -> BootFile {
    made(text.into_bytes(), "text/plain", ticket)
}

fn made(bytes: Vec<u8>, mime: &'static str, ticket: Ticket) -> BootFile {
    let len = bytes.len() as u64;
    BootFile { content: Content::Bytes(bytes.into()), len, mime, ticket }
}

fn load(
    boots: &Boots,
    plan: &Plan,
    loader: &Loader,
    ticket: Ticket,
) -> Result<BootFile, FileError> {
    match &loader.place {
        LoaderLocation::Environment(path) => inside(boots, plan, path, ticket),
        LoaderLocation::Host(path) => {
            let file = File::open(path).map_err(|error| {
                tracing::error!("{}: {error}", path.display());
                FileError::Io
            })?;
            opened(file, path, ticket)
        }
    }
}

fn environment(boots: &Boots, plan: &Plan) -> Result<Environment, FileError> {
    let absent = || FileError::Refused(boots.catalog.why_absent(&plan.name));
    boots.catalog.environment(plan.environment).ok_or_else(absent)
}

/// Opens a file inside the plan's environment.
fn inside(boots: &Boots, plan: &Plan, path: &str, ticket: Ticket) -> Result<BootFile, FileError> {
    match environment(boots, plan)?.files.open(path) {
        Ok(file) => opened(file, Path::new(path), ticket),
        Err(error) => {
            // FreeBSD's loader asks for many files that need not be there.
            tracing::debug!("{path} of {}: {error}", plan.name);
            Err(FileError::NotFound)
        }
    }
}

pub(super) fn opened(file: File, path: &Path, ticket: Ticket) -> Result<BootFile, FileError> {
    let about = file.metadata().map_err(|_| FileError::Io)?;
    if !about.is_file() {
        return Err(FileError::NotFound);
    }
    // UEFI's HTTP boot tells by this type that the file is a program.
    let efi = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("efi"));
    let mime = if efi { "application/efi" } else { "application/octet-stream" };
    Ok(BootFile { content: Content::File(Arc::new(file)), len: about.len(), mime, ticket })
}

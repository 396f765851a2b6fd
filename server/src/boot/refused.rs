//! What a machine is sent that boots nothing, so that its own screen says why: iPXE, and a script for it
//! in the words of `netbe status`.

use std::fs::File;
use std::path::Path;

use bootcfg::ipxe::{self, Action, Script, Then};

use super::files;
use super::loader::{self, HostLoaders};
use super::plan::{NoPlan, SCRIPT, stable_url};
use super::{Answer, Ask, BootFile, Client, FileError, FileProtocol, Role, Ticket};

/// What DHCP tells the machine; nothing where what asks cannot show anything, or where another server may
/// have something for it.
pub(super) fn answer(
    refusal: &NoPlan,
    ask: &Ask,
    loaders: &HostLoaders,
    http_port: u16,
) -> Option<Answer> {
    let is_known = !matches!(refusal, NoPlan::Unknown);
    if ask.observed || ask.proxy && !is_known {
        return None;
    }
    let url = |name: &str| stable_url(ask.local, http_port, name);
    let ipxe = |arch| loader::ipxe_names(arch).iter().find(|name| loaders.get(name).is_some());
    let file = match ask.client {
        Client::Ipxe(_) => url(SCRIPT),
        Client::Pxe(arch) => (*ipxe(arch)?).to_owned(),
        Client::Http(arch) => url(ipxe(arch)?),
        Client::FreeBsdKernel | Client::FreeBsdLoader | Client::Ordinary => return None,
    };
    let (host_name, root_path, options, asked) = (None, None, Vec::new(), Vec::new());
    Some(Answer { file: Some(file), root_path, host_name, options, asked })
}

/// Opens a file for it: iPXE, or the script.
pub(super) fn open(
    refusal: &NoPlan,
    loaders: &HostLoaders,
    protocol: FileProtocol,
    name: &str,
) -> Result<BootFile, FileError> {
    // Of no boot: that it is fetched does not end the machine's trouble.
    let ticket = Ticket { boot: None, role: Role::Other };
    if name == SCRIPT {
        return Ok(files::generated(script(refusal)?, ticket));
    }
    let path = loaders.get(name).filter(|_| loader::is_ipxe(name));
    match (path, protocol) {
        (Some(path), _) => {
            let file = File::open(&path).map_err(|error| {
                tracing::error!("{}: {error}", path.display());
                FileError::Io
            })?;
            files::opened(file, Path::new(name), ticket)
        }
        (None, FileProtocol::Http) => Err(FileError::NotFound),
        (None, FileProtocol::Tftp) => Err(FileError::Refused(refusal.to_string())),
    }
}

/// A machine that an administrator has named begins anew, until it is given something to boot. Of another
/// one nobody knows that it is to boot from here: it goes on to its own disk.
fn script(refusal: &NoPlan) -> Result<String, FileError> {
    let then = if matches!(refusal, NoPlan::Unknown) { Then::NextDevice } else { Then::Restart };
    let script = Script {
        server: String::new(),
        machine: "this machine".to_owned(),
        environment: "nothing".to_owned(),
        boot: None,
        action: Action::Refuse { message: refusal.to_string(), then },
    };
    ipxe::render(&script).map_err(|error| FileError::Refused(error.to_string()))
}

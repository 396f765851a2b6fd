//! What was seen of a machine, in words.

use provision::terminal::Bytes;

use crate::boot::{Denial, Event};

/// An event in words.
#[must_use]
pub(super) fn describe(event: &Event) -> String {
    match event {
        Event::Discover(client) => format!("{client} asks for an address"),
        Event::Offered(address) => format!("offered {address}"),
        Event::Leased(address) => format!("took {address}"),
        Event::Elsewhere(address) => format!("took {address} from another DHCP server"),
        Event::Advised(advice) => advice.clone(),
        Event::Released(address) => format!("gave {address} back"),
        Event::Refused(address) => format!("was refused {address}"),
        Event::Declined(address) => {
            format!("found {address} in use by another machine: look for a second machine with it")
        }
        Event::ForeignServer(server) => format!("chose another DHCP server, {server}"),
        Event::Probed(_) => "asked for a file's size".to_owned(),
        Event::Sent { name, total, .. } => {
            format!("got {} ({})", shown(name), Bytes(*total))
        }
        Event::Abandoned { name, .. } => format!("{}: the client stopped answering", shown(name)),
        Event::Denied { name, protocol, denial: Denial::Missing } => {
            format!("asked for {} by {protocol}: no such file", shown(name))
        }
        Event::Denied { name, protocol, denial: Denial::Refused(reason) } => {
            format!("asked for {} by {protocol}: refused: {}", shown(name), shown(reason))
        }
        Event::Denied { name, protocol, denial: Denial::Unreadable } => {
            format!("asked for {} by {protocol}: this host cannot read it", shown(name))
        }
        Event::Flawed { name, flaw } => format!("{} {flaw}", shown(name)),
        Event::Panicked(text) => format!("its kernel says: {}", shown(text)),
        Event::NotAdmitted(reason) => safe(reason),
        Event::NotMounted { path, reason } => {
            format!("mounting {}: {}", shown(path), shown(reason))
        }
        Event::TermsRefused { name, code } => {
            format!("refused the terms for {} with TFTP ERROR {code}", shown(name))
        }
        Event::Failed { name, reason } => format!("{}: {}", shown(name), shown(reason)),
        Event::Mounted { path, .. } => format!("mounted {}", shown(path)),
        Event::Unmounted(path) => format!("unmounted {}", shown(path)),
        Event::Nfs { .. } => "uses its root".to_owned(),
        Event::Unserved(reason) => format!("got no address: {}", shown(reason)),
    }
}

/// Text from the network, fit for a terminal and short.
pub(super) fn shown(text: &str) -> String {
    safe(text).chars().take(120).collect()
}

/// A sentence of ours with names of others in it, fit for a terminal.
fn safe(text: &str) -> String {
    text.chars().map(|c: char| if c.is_control() { '?' } else { c }).collect()
}

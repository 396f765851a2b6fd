//! Why a machine does not go on: one cause, one sentence, one cure.
//!
//! A verdict says what was seen, and blames only what that leaves. Nothing is blamed for a packet that
//! never came while a later one shows that its like arrive.

use std::fmt;
use std::time::{Duration, Instant};

use provision::terminal::Bytes;
use serde::{Deserialize, Serialize};

use super::description::{describe, shown};
use super::evidence::{Denied, Evidence};
use super::{Cause, LOST, SILENT, Stage, Timeline, Trouble};
use crate::boot::{Arch, Client, Denial, Event, FileProtocol, Stall};

/// Why a machine does not go on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Verdict {
    /// The cause in one word, which programs tell apart.
    pub cause: Cause,
    /// What was seen and what that means, in a sentence.
    pub text: String,
    /// What to do, in a sentence; empty where the first one says it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cure: String,
}

/// What a verdict's words name beside the machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Context {
    /// The boot environment.
    pub environment: Option<String>,
    /// The port of boot files by HTTP; 0 where it is not known.
    pub http_port: u16,
}

impl Verdict {
    pub(super) fn new(cause: Cause, text: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { cause, text: text.into(), cure: cure.into() }
    }

    /// What there is to say of a machine that was never heard of.
    #[must_use]
    pub fn never_heard() -> Self {
        Self::new(
            Cause::NeverHeard,
            "the server has seen nothing of it since it started",
            "Is it switched on and set to boot from the network, in the network of an interface that \
             `netbe status` shows, and is the Ethernet address right?",
        )
    }

    /// What an event means that is a failure by itself.
    pub(super) fn of_event(event: &Event) -> Self {
        let text = describe(event);
        let (cause, cure) = match event {
            Event::Abandoned { name, stall, .. } => return stalled(&shown(name), *stall),
            Event::Declined(_) => (
                Cause::AddressInUse,
                "Find out who answers ARP for it (`arping -D`), or take it out of the range.",
            ),
            Event::Refused(_) => {
                (Cause::AddressRefused, "It asks again by itself; if it does not, start it again.")
            }
            Event::ForeignServer(_) => (
                Cause::ForeignServer,
                "Stop that server, or run netbe beside it with --mode proxy.",
            ),
            Event::NotAdmitted(_) => (Cause::NfsRefused, ""),
            Event::NotMounted { .. } => (Cause::MountRefused, ""),
            Event::Panicked(_) => (
                Cause::KernelPanicked,
                "`netbe log --console` has its last messages; then boot the environment that worked.",
            ),
            Event::Unserved(_) => (
                Cause::NoAddress,
                "Add addresses with --range, or reserve one with `netbe machine set --address`.",
            ),
            Event::Advised(_)
            | Event::Denied { .. }
            | Event::Discover(_)
            | Event::Elsewhere(_)
            | Event::Failed { .. }
            | Event::Flawed { .. }
            | Event::Leased(_)
            | Event::Mounted { .. }
            | Event::Nfs { .. }
            | Event::Offered(_)
            | Event::Probed(_)
            | Event::Released(_)
            | Event::Sent { .. }
            | Event::TermsRefused { .. }
            | Event::Unmounted(_) => {
                (Cause::TransferFailed, "See the machine's screen, then start it again.")
            }
        };
        Self::new(cause, text, cure)
    }

    /// What a trouble is that was told in words alone.
    pub(super) fn told(trouble: Trouble, text: String) -> Self {
        let cause = match trouble {
            Trouble::Failed => Cause::TransferFailed,
            Trouble::ForeignServer => Cause::ForeignServer,
            Trouble::Refused => Cause::Refused,
            Trouble::TwoMachines => Cause::TwoMachines,
        };
        let cure = if trouble == Trouble::TwoMachines {
            "Compare the Ethernet addresses of both; a copied virtual machine needs one of its own."
        } else {
            ""
        };
        Self::new(cause, text, cure)
    }
}

/// Why a machine whose timeline this is does not go on, as far as can be told at `now`.
pub(super) fn judge(timeline: &Timeline, now: Instant) -> Option<Verdict> {
    let seen = &timeline.evidence;
    if !timeline.heard {
        let text = "was in this boot before the server started, and was not seen since";
        return Some(Verdict::new(Cause::Unheard, text, ""));
    }
    if timeline.is_stuck() {
        return Some(Verdict::new(
            Cause::FramesLost,
            "its loader asks for the same piece of a file again and again: our answers do not reach it; is \
             a frame of that size lost on the way, or is nfs.read_size larger than a frame?",
            "Compare the MTU of both ends: `ping -M do -s 1472 ADDRESS`.",
        ));
    }
    if let Some((_, verdict)) = &timeline.trouble {
        return Some(verdict.clone());
    }
    if timeline.stage < Stage::Root
        && let Some(verdict) = flawed(seen, &timeline.context)
    {
        return Some(verdict);
    }
    let silent = now.saturating_duration_since(timeline.seen);
    let boot = if timeline.stage >= Stage::Root {
        of_root(timeline, silent)
    } else if timeline.by_loader {
        repeated(seen).or_else(|| (silent >= SILENT).then(|| of_loading(timeline, silent))?)
    } else {
        None
    };
    match (boot, looping(timeline, now)) {
        (Some(verdict), Some(looping)) => {
            let text = format!("{}; {}", verdict.text, looping.text);
            Some(Verdict { text, ..verdict })
        }
        (one, other) => one.or(other),
    }
}

/// A program that cannot be started, once the machine has all of it.
fn flawed(seen: &Evidence, context: &Context) -> Option<Verdict> {
    use crate::boot::flaw::Flaw;
    let (name, flaw) = seen.flaw.as_ref()?;
    let whole = |(file, bytes, total): &(String, u64, u64)| file == name && bytes == total;
    if !seen.file.as_ref().is_some_and(whole) {
        return None;
    }
    let is_kernel = name.ends_with("/kernel");
    let (cause, what) = match flaw {
        _ if is_kernel => (Cause::KernelBroken, "kernel"),
        Flaw::Foreign { .. } => (Cause::LoaderForeign, "loader"),
        Flaw::Empty | Flaw::Garbage => (Cause::LoaderBroken, "loader"),
    };
    let text = format!("its {what} {name} {flaw}: it cannot be started");
    let cure = match &context.environment {
        Some(environment) => format!(
            "Put the right file into {environment} (`netbe check {environment}`), or install the \
             host's loaders again."
        ),
        None => String::new(),
    };
    Some(Verdict::new(cause, text, cure))
}

/// What a machine does again and again, without ever being silent.
fn repeated(seen: &Evidence) -> Option<Verdict> {
    if let Some((name, code, times)) = seen.terms.as_ref().filter(|(.., times)| *times >= AGAIN) {
        return Some(Verdict::new(
            Cause::TermsRefused,
            format!(
                "asked for {name} {times} times by TFTP and refused our answer each time, with \
                 ERROR {code}: it does not take the terms of the transfer (RFC 2347)"
            ),
            "Update its firmware, or load iPXE from a disk or a USB stick.",
        ));
    }
    seen.denied.as_ref().filter(|denied| denied.times >= AGAIN).map(|one| denied(one, None))
}

/// Why a machine that was heard of before its kernel, or while that was loaded, is silent.
fn of_loading(timeline: &Timeline, silent: Duration) -> Option<Verdict> {
    let (seen, seconds) = (&timeline.evidence, silent.as_secs());
    if timeline.stage < Stage::Kernel {
        if let Some(one) = &seen.denied {
            return Some(denied(one, Some(seconds)));
        }
        if let Some((name, code, _)) = &seen.terms {
            return Some(Verdict::new(
                Cause::TermsRefused,
                format!(
                    "asked for {name} by TFTP, refused our answer with ERROR {code}, then nothing \
                     for {seconds} s: it does not take the terms of the transfer (RFC 2347)"
                ),
                "Update its firmware, or load iPXE from a disk or a USB stick.",
            ));
        }
        if let Some((name, stall)) = &seen.stalled {
            return Some(stalled(name, *stall));
        }
    }
    let verdict = match timeline.stage {
        Stage::Discover if seen.asked > 1 && seen.offered == 0 => Verdict::new(
            Cause::NotOffered,
            format!(
                "asked for an address {} times and was offered none, then nothing for {seconds} s",
                seen.asked
            ),
            "`netbe status` shows what DHCP does on each interface.",
        ),
        Stage::Offered => Verdict::new(
            Cause::OfferUnanswered,
            format!(
                "offered an address{}, then nothing for {seconds} s: our offer does not reach it, or \
                 it took another DHCP server's",
                times(seen.offered)
            ),
            "Let the switch port forward at once (spanning tree: edge port, portfast), and let UDP \
             ports 67 and 68 through.",
        ),
        Stage::Leased => no_request(seen, seconds, &timeline.context, "leased"),
        Stage::Loader => of_loader(timeline, seconds),
        Stage::Script => Verdict::new(
            Cause::ScriptSilent,
            format!("loaded its script, then nothing for {seconds} s: it asked for no kernel"),
            "See its screen: the loader prints its error there.",
        ),
        Stage::Kernel | Stage::Initrd => of_kernel(timeline, seconds),
        Stage::Off
        | Stage::Discover
        | Stage::Root
        | Stage::Running
        | Stage::Idle
        | Stage::Lost
        | Stage::Unheard => return None,
    };
    Some(verdict)
}

/// A program has an address and asked for no file.
fn no_request(seen: &Evidence, seconds: u64, context: &Context, done: &str) -> Verdict {
    match seen.program {
        Some(Client::Ipxe(_) | Client::Http(_)) => Verdict::new(
            Cause::HttpBlocked,
            format!(
                "{done}, then nothing for {seconds} s: no request came by HTTP ({}); a firewall \
                 blocks it, or the network did not forward yet",
                port(context)
            ),
            format!("Let {} of this host through for the machine's network.", port(context)),
        ),
        Some(Client::FreeBsdLoader) => Verdict::new(
            Cause::NfsBlocked,
            format!(
                "{done}, then nothing for {seconds} s: FreeBSD's loader has its address and asked for \
                 no file; a firewall blocks NFS (UDP ports 111, 2049 and MOUNT's)"
            ),
            "Let them through for the machine's network.",
        ),
        _ => Verdict::new(
            Cause::TftpBlocked,
            format!(
                "{done}, then nothing for {seconds} s: no request for its boot file came by TFTP \
                 (UDP port 69); a firewall blocks it, or the switch port did not forward yet \
                 (spanning tree)"
            ),
            "Let UDP port 69 of this host through, and its answers from high ports; make the switch \
             port an edge port.",
        ),
    }
}

/// The loader was fetched, all of it or a part.
fn of_loader(timeline: &Timeline, seconds: u64) -> Verdict {
    let seen = &timeline.evidence;
    if timeline.read > 0 {
        return Verdict::new(
            Cause::LoaderSilent,
            format!(
                "its loader read {} of its root, then nothing for {seconds} s: see its screen",
                Bytes(timeline.read)
            ),
            "",
        );
    }
    if let Some(part) = partial(seen, seconds) {
        return part;
    }
    // What asks for an address after the loader came is that loader.
    match seen.program {
        Some(client @ (Client::Ipxe(_) | Client::FreeBsdLoader))
            if Some(client) != timeline.firmware =>
        {
            let context = &timeline.context;
            return match seen.has_address {
                true => {
                    no_request(seen, seconds, context, &format!("{client} runs and has an address"))
                }
                false => Verdict::new(
                    Cause::OfferUnanswered,
                    format!(
                        "{client} runs and asked for an address, then nothing for {seconds} s: our \
                         answer does not reach it"
                    ),
                    "Its driver may not receive broadcasts: choose another with `netbe machine set \
                     --loader`.",
                ),
            };
        }
        _ => {}
    }
    let by_bios =
        matches!(timeline.firmware, Some(Client::Pxe(Arch::BIOS) | Client::Ipxe(Arch::BIOS)));
    let why = if by_bios {
        "it does not start, or hangs: see its screen"
    } else {
        "the firmware did not start it (with Secure Boot on, it starts only signed programs), or it \
         hangs: see its screen"
    };
    let cure = if by_bios {
        "Choose another loader with `netbe machine set --loader`."
    } else {
        "Switch Secure Boot off, or run `netbe machine set --loader shim`."
    };
    Verdict::new(
        Cause::LoaderSilent,
        format!("fetched its loader, then nothing for {seconds} s: {why}"),
        cure,
    )
}

/// The kernel or its initial RAM disk was fetched, all of it or a part.
fn of_kernel(timeline: &Timeline, seconds: u64) -> Verdict {
    let seen = &timeline.evidence;
    if let Some(part) = partial(seen, seconds) {
        return part;
    }
    let loaded = if timeline.stage == Stage::Kernel { "kernel" } else { "initrd" };
    let system = matches!(seen.program, Some(Client::Ordinary | Client::FreeBsdKernel));
    if system && seen.has_address {
        return Verdict::new(
            Cause::NoMount,
            format!(
                "loaded its {loaded} and its kernel has an address, then nothing for {seconds} s: it \
                 did not ask for its root"
            ),
            "Let NFS through (ports 111, 2049 and MOUNT's); see its screen whether its initial RAM \
             disk mounts by NFS.",
        );
    }
    Verdict::new(
        Cause::KernelSilent,
        format!(
            "loaded its {loaded}, then nothing for {seconds} s: its kernel did not start, or has no \
             driver for the network card: see its screen"
        ),
        "Put its console on the serial port (`netbe machine set --serial`), or have it sent here (`netbe \
         machine set --netconsole`).",
    )
}

/// A file that came in part.
fn partial(seen: &Evidence, seconds: u64) -> Option<Verdict> {
    let (name, bytes, total) = seen.file.as_ref().filter(|(_, bytes, total)| bytes < total)?;
    Some(Verdict::new(
        Cause::TransferFailed,
        format!(
            "got {} of {} of {name}, then nothing for {seconds} s: it was switched off, or its link \
             is down",
            Bytes(*bytes),
            Bytes(*total)
        ),
        "Start it again; if it stops there again, look at its cable and its switch port.",
    ))
}

/// Why a machine that has used its root is silent, or what it does wrong there.
fn of_root(timeline: &Timeline, silent: Duration) -> Option<Verdict> {
    let (seen, seconds) = (&timeline.evidence, silent.as_secs());
    let runs = timeline.stage == Stage::Running;
    if !runs && seen.lacks_init && silent >= PAUSE {
        return Some(Verdict::new(
            Cause::NoInit,
            "looked for init in its root and found none: its kernel has nothing to start",
            of_environment(timeline, "Install a system into NAME, or boot another environment."),
        ));
    }
    if !runs && seen.calls == 0 && silent >= SILENT {
        return Some(Verdict::new(
            Cause::NfsBlocked,
            format!("mounted its root, then nothing for {seconds} s: no call for a file came"),
            "Let port 2049 of this host through, by UDP and TCP.",
        ));
    }
    if !runs && silent >= super::IDLE {
        let used = Bytes(timeline.read);
        return Some(Verdict::new(
            Cause::Stopped,
            format!(
                "read {used} of its root and wrote nothing, then nothing for {seconds} s: its system \
                 stopped while it started, as in a kernel panic, or needs no more of its root"
            ),
            "See its screen, or its kernel's messages: `netbe log --console`.",
        ));
    }
    if silent >= LOST {
        return Some(Verdict::new(
            Cause::Lost,
            format!(
                "ran, then nothing for {} min: it is off, hangs, or its network is gone",
                seconds / 60
            ),
            "`ping` it; `netbe wake` switches it on, `netbe log --console` shows its last messages.",
        ));
    }
    (seen.denied_writes > 0).then(|| {
        Verdict::new(
            Cause::ReadOnlyRoot,
            format!(
                "tried to write to its root{}, which is read-only",
                match seen.denied_writes {
                    1 => String::new(),
                    times => format!(" {times} times"),
                }
            ),
            of_environment(
                timeline,
                "Give it a root of its own: `netbe sharepxe --machine MACHINE --root own NAME`.",
            ),
        )
    })
}

fn of_environment(timeline: &Timeline, cure: &str) -> String {
    match &timeline.context.environment {
        Some(environment) => cure.replace("NAME", environment),
        None => cure.to_owned(),
    }
}

/// A machine that begins one boot after the other.
fn looping(timeline: &Timeline, now: Instant) -> Option<Verdict> {
    let recent = timeline.before.iter().filter(|(began, _)| now.duration_since(*began) < LOOP);
    let (count, first) = (recent.clone().count(), recent.clone().next()?.0);
    if count < LOOPS {
        return None;
    }
    let furthest = recent.map(|(_, stage)| *stage).max()?;
    let minutes = now.duration_since(first).as_secs() / 60;
    let boots = count.saturating_add(1);
    Some(Verdict::new(
        Cause::Looping,
        format!(
            "starts again and again: {boots} boots in {} min, none of the earlier boots got further than {}",
            minutes.max(1),
            furthest.as_str()
        ),
        "See its screen when it restarts; `netbe log` shows each of its boots.",
    ))
}

fn denied(one: &Denied, silent: Option<u64>) -> Verdict {
    let Denied { name, protocol, denial, times: count } = one;
    let then = silent.map_or_else(String::new, |seconds| format!(", then nothing for {seconds} s"));
    let asked = format!("asked for {name} by {protocol}{}", times(*count));
    match denial {
        Denial::Missing => Verdict::new(
            Cause::FileMissing,
            format!("{asked}, and there is no such file{then}"),
            "Its firmware, or another DHCP server, names that file: have it use the name that netbe sends \
             (option 67).",
        ),
        Denial::Refused(reason) => Verdict::new(
            Cause::FileRefused,
            format!("{asked}, and was refused it: {}{then}", shown(reason)),
            "",
        ),
        Denial::Unreadable => Verdict::new(
            Cause::FileUnreadable,
            format!("{asked}, and this host cannot read it{then}"),
            "The server's log has the file and the error.",
        ),
    }
}

fn stalled(name: &str, stall: Stall) -> Verdict {
    match stall {
        Stall::Terms => Verdict::new(
            Cause::TermsUnanswered,
            format!(
                "asked for {name} by TFTP, and our answers (OACK) were never acknowledged: they do not \
                 reach it, because they come from another port than 69"
            ),
            "Let UDP from high ports of this host reach it: a firewall between needs a helper for \
             TFTP.",
        ),
        Stall::FirstBlock(size) => Verdict::new(
            Cause::FramesLost,
            format!(
                "asked for {name} by TFTP and never acknowledged its first block of {size} bytes: \
                 {}",
                if size > SMALL {
                    "a frame of that size is lost on the way"
                } else {
                    "it does not reach it"
                }
            ),
            if size > SMALL {
                "Compare the MTU of all links between: `ping -M do -s 1472 ADDRESS`."
            } else {
                "Let UDP from high ports of this host reach it."
            },
        ),
        Stall::Midway(bytes) => Verdict::new(
            Cause::TransferFailed,
            format!(
                "{name}: the client stopped answering after {}: it was switched off, or its link is \
                 down",
                Bytes(bytes)
            ),
            "Start it again; if it stops there again, look at its cable and its switch port.",
        ),
    }
}

fn port(context: &Context) -> String {
    match context.http_port {
        0 => "TCP port 80".to_owned(),
        port => format!("TCP port {port}"),
    }
}

fn times(count: u32) -> String {
    if count > 1 { format!(" {count} times") } else { String::new() }
}

impl fmt::Display for FileProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Tftp => "TFTP",
        })
    }
}

/// So often the same, with nothing between, is no chance.
const AGAIN: u32 = 5;

/// A kernel that finds no `init` tries other names at once.
const PAUSE: Duration = Duration::from_secs(5);

/// Boots that began and were followed by another within [`LOOP`].
const LOOPS: usize = 3;

/// How far back boots count as one after the other.
const LOOP: Duration = Duration::from_secs(15 * 60);

/// A block that every link takes whole (RFC 1350 §2).
const SMALL: u64 = 512;

#[cfg(test)]
mod test;

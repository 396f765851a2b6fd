//! Rules of a guest's fstab(5).

use super::site::{Findings, In, KnownRoot, Site, below, trimmed};
use crate::fstab::Entry;
use crate::rule::Rule;

pub(super) fn check(site: &Site<'_>, findings: &mut Findings) {
    let roots = site.roots();
    let locks = site.rcconf.iter().any(|setting| {
        setting.value.name == "rpc_lockd_enable" && setting.value.value.eq_ignore_ascii_case("yes")
    });
    for entry in &site.fstab {
        if entry.value.file == "/" {
            slash(site, entry, &roots, findings);
        }
        let later = site
            .fstab
            .iter()
            .filter(|later| later.source == entry.source && later.line > entry.line);
        order(entry, later, findings);
        if let Some((server, path)) = exported(&entry.value) {
            if entry.value.file != "/" && !locks {
                nolockd(entry, findings);
            }
            compare(site, entry, (server, path), &roots, findings);
        }
    }
}

fn slash(site: &Site<'_>, entry: &In<'_, Entry>, roots: &[KnownRoot<'_>], findings: &mut Findings) {
    let len = site.written(entry.source, entry.line).len();
    if len > crate::fstab::LOADER_LINE - 1 {
        let message = format!(
            "the line for / has {len} bytes, and the loader reads {}: use shorter names, or remove the line \
             if the kernel gets its root elsewhere",
            crate::fstab::LOADER_LINE - 1
        );
        findings.add(entry, Rule::FstabLong, message);
    }
    let kind = &entry.value.kind;
    if let Some(root) = roots.first().filter(|_| kind != "nfs" && kind != "xx") {
        let message = format!(
            "the root comes over NFS ({}), but this line makes the kernel try {kind} first: remove it",
            root.path.place()
        );
        findings.add(entry, Rule::FstabRoot, message);
    }
}

fn order<'s>(
    entry: &In<'s, Entry>,
    later: impl Iterator<Item = &'s In<'s, Entry>>,
    findings: &mut Findings,
) {
    let file = trimmed(&entry.value.file);
    let ignored = |entry: &Entry| {
        let words = ["noauto", "late", "xx"];
        entry.kind == "swap" || entry.options.iter().any(|option| words.contains(&option.as_str()))
    };
    if ignored(&entry.value) || !file.starts_with('/') {
        return;
    }
    for other in later.filter(|other| !ignored(&other.value)) {
        let parent = trimmed(&other.value.file);
        if parent == file {
            let message = format!("{} mounts {file} again: leave one of them out", other.place());
            findings.add(entry, Rule::FstabTwice, message);
        } else if below(file, parent).is_some() {
            let message = format!(
                "{file} is mounted before {parent}, which hides it: move this line behind {}",
                other.place()
            );
            findings.add(entry, Rule::FstabOrder, message);
        }
    }
}

fn nolockd(entry: &In<'_, Entry>, findings: &mut Findings) {
    let fourth = |option: &String| {
        let option = option.as_str();
        option == "nfsv4" || option.starts_with("vers=4") || option.starts_with("nfsvers=4")
    };
    let options = &entry.value.options;
    let local = options.iter().any(|option| option == "nolockd" || option == "nolock");
    if local || entry.value.kind == "nfs4" || options.iter().any(fourth) {
        return;
    }
    let message = format!(
        "locks below {} fail: netbe has no locks, and with other servers the guest needs rpc.lockd: add \
         nolockd, which keeps locks in the guest",
        entry.value.file
    );
    findings.add(entry, Rule::Nolockd, message);
}

/// Compares what is mounted with what a kernel is told, and with what is exported.
fn compare(
    site: &Site<'_>,
    entry: &In<'_, Entry>,
    (server, path): (&str, &str),
    roots: &[KnownRoot<'_>],
    findings: &mut Findings,
) {
    let file = trimmed(&entry.value.file);
    let belongs =
        |root: &&KnownRoot<'_>| path == root.path.value || below(path, &root.path.value).is_some();
    let strays = |root: &&KnownRoot<'_>| stray(&root.path.value, path, file);
    let own: Vec<_> = roots.iter().filter(belongs).collect();
    let renamed: Vec<_> = roots.iter().filter(strays).filter(|_| own.is_empty()).collect();
    let related = if own.is_empty() { &renamed } else { &own };
    // A name may be that of any address.
    let number = |text: &str| text.parse::<std::net::IpAddr>().ok();
    let servers = |root: &&&KnownRoot<'_>| {
        let own = root.server.as_deref().and_then(number);
        own.zip(number(server)).is_none_or(|(own, server)| own == server)
    };
    if let Some(root) = related.first().filter(|_| !related.iter().any(|root| servers(&root))) {
        let message = format!(
            "{path} is mounted from {server}, but the root comes from {} ({}): write one server",
            root.server.as_deref().unwrap_or_default(),
            root.path.place()
        );
        findings.add(entry, Rule::ServerDiffers, message);
    }
    let unexported = !site.exports.is_empty() && site.exporting(path).is_empty();
    if let Some(root) = renamed.first() {
        let base = root.path.value.trim_end_matches('/');
        let expected = if file == "/" { base.to_owned() } else { format!("{base}{file}") };
        let also = if unexported { ", and no line exports it" } else { "" };
        let message = format!(
            "{path} is not below {base}, the root of the guest ({}){also}: write {server}:{expected}",
            root.path.place()
        );
        findings.add(entry, Rule::PathDiffers, message);
    } else if unexported && entry.value.kind != "nfs4" {
        not_exported(site, entry, path, findings);
    }
}

/// Names a path that no line exports, at the place that mounts it.
pub(super) fn not_exported<T>(
    site: &Site<'_>,
    place: &In<'_, T>,
    path: &str,
    findings: &mut Findings,
) {
    let message = match site.meant(path) {
        Some(meant) => {
            format!("no line exports {path}: {} exports {}", meant.place(), meant.value)
        }
        None => format!("no line exports {path}: add one to the exports"),
    };
    findings.add(place, Rule::NotExported, message);
}

/// Whether a path is that of a guest's directory `file` below the root's name, but elsewhere.
fn stray(root: &str, path: &str, file: &str) -> bool {
    let Some(name) = root.rsplit('/').next().filter(|name| !name.is_empty()) else { return false };
    let file = if file == "/" { "" } else { file };
    path.ends_with(&format!("/{name}{file}"))
}

/// Server and path of what is mounted over NFS.
fn exported(entry: &Entry) -> Option<(&str, &str)> {
    let nfs = ["nfs", "nfs4"].contains(&entry.kind.as_str());
    let colon = entry.spec.find(":/").filter(|_| nfs)?;
    let (server, path) = entry.spec.split_at_checked(colon)?;
    Some((server.trim_matches(['[', ']']), trimmed(path.strip_prefix(':')?)))
}

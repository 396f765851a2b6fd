//! The files that a boot needs, as machines meet them over NFS: links that lead nowhere, modes that
//! shut out whom they act as, and access control lists.
//!
//! A file that is not there at all is somebody else's question: of what is looked for here no system
//! has everything.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use hostfs::{EntryKind, Inside};
use store::Identity;
use vfs::{Caller, FileKind, permission};

use super::{Finding, Superuser};
use crate::contents::System;
use crate::loader;

/// Looks at them.
pub(super) fn check(inside: &Inside, system: &System, superuser: &Superuser) -> Vec<Finding> {
    let Superuser { setting, uid, gids } = superuser;
    let identity = Identity { uid: *uid, gids: gids.clone() };
    let (gid, groups) = gids.split_first().map_or((NOBODY, &[][..]), |(gid, more)| (*gid, more));
    let caller = Caller::new(*uid, gid).with_groups(groups);
    let (mut shut, mut astray, mut listed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for path in needed(inside, system) {
        let trail = match walk(inside, &path) {
            Way::Found(trail) => trail,
            Way::Missing => continue,
            Way::Astray(link) => {
                astray.insert(link);
                continue;
            }
        };
        let open = |at: &PathBuf| {
            inside.attributes(at).is_ok_and(|attr| {
                let directory = attr.kind == FileKind::Directory;
                let may = if directory { permission::may_search } else { permission::may_read };
                may(&caller, &attr).is_ok()
            })
        };
        if let Some(at) = trail.iter().find(|at| !open(at)) {
            shut.push(at.clone());
        }
        // What cannot be opened has no list that matters.
        listed.extend(trail.into_iter().filter(|at| inside.has_list(at).unwrap_or(false)));
    }
    let leads_nowhere = |link: PathBuf| {
        Finding::doubt(format_args!(
            "{} is a symbolic link that leads nowhere in the environment: put the file itself there, or \
             link to a file inside",
            link.display()
        ))
    };
    let mut findings: Vec<_> = astray.into_iter().map(leads_nowhere).collect();
    shut.dedup();
    if let Some(first) = shut.first() {
        findings.push(Finding::doubt(format_args!(
            "machines act as {identity} on it ({setting}), who may not read {}, which a boot needs: make it readable with chmod(1), or run `netbe sharenfs --maproot 0:0` with the networks that it is \
             shared with",
            and_more(first, shut.len())
        )));
    }
    if let Some(first) = listed.first() {
        findings.push(Finding::doubt(format_args!(
            "NFSv3 neither shows nor asks the access control list of {}: machines have the rights of its \
             mode; set these rights by mode and group, and remove the list with `setfacl -b`",
            and_more(first, listed.len())
        )));
    }
    findings
}

fn and_more(first: &Path, count: usize) -> String {
    match count {
        0 | 1 => first.display().to_string(),
        _ => format!("{} and {} more", first.display(), count - 1),
    }
}

/// What the loader, the kernel and the first programs read over NFS.
fn needed(inside: &Inside, system: &System) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    match system {
        System::FreeBsd => {
            paths.extend(loader::FREEBSD.iter().map(|name| Path::new("/boot").join(name)));
            let modules = inside.read_dir("/boot/kernel", MAX_MODULES).unwrap_or_default();
            paths.extend(modules.iter().map(|name| Path::new("/boot/kernel").join(name)));
            paths.extend(FREEBSD.map(PathBuf::from));
        }
        // Kernel and RAM disk come by HTTP or TFTP.
        System::Linux { .. } => paths.extend(LINUX.map(PathBuf::from)),
    }
    paths
}

/// How a path is walked, link by link.
enum Way {
    /// Everything on it, without links: directories, and what is at its end.
    Found(Vec<PathBuf>),
    Missing,
    /// This link leads to nothing, or round in a circle.
    Astray(PathBuf),
}

fn walk(inside: &Inside, path: &Path) -> Way {
    let names = |path: &Path| -> Vec<Option<OsString>> {
        let parts = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(Some(name.to_owned())),
            Component::ParentDir => Some(None),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        });
        parts.rev().collect()
    };
    let root = PathBuf::from("/");
    let (mut here, mut trail) = (root.clone(), vec![root.clone()]);
    // Each link whose target is not walked to its end, with how many names were ahead behind it.
    let (mut ahead, mut open, mut links) = (names(path), Vec::<(usize, PathBuf)>::new(), 0);
    while let Some(name) = ahead.pop() {
        open.retain(|(behind, _)| *behind <= ahead.len());
        let Some(name) = name else {
            here.pop();
            continue;
        };
        let next = here.join(name);
        match inside.entry(&next).ok().flatten().map(|entry| entry.kind) {
            Some(EntryKind::Link(target)) if links < MAX_LINKS => {
                links += 1;
                if target.is_absolute() {
                    here.clone_from(&root);
                }
                open.push((ahead.len(), next));
                ahead.extend(names(&target));
            }
            Some(EntryKind::Directory | EntryKind::File | EntryKind::Other) => {
                here.clone_from(&next);
                trail.push(next);
            }
            Some(EntryKind::Link(_)) => return Way::Astray(next),
            None => {
                let link = open.into_iter().next();
                return link.map_or(Way::Missing, |(_, link)| Way::Astray(link));
            }
        }
    }
    Way::Found(trail)
}

const FREEBSD: [&str; 15] = [
    "/boot/defaults/loader.conf",
    "/boot/device.hints",
    "/boot/loader.conf",
    "/boot/lua/loader.lua",
    "/bin/sh",
    "/etc/defaults/rc.conf",
    "/etc/fstab",
    "/etc/login.conf",
    "/etc/rc",
    "/etc/rc.conf",
    "/etc/rc.subr",
    "/lib/libc.so.7",
    "/libexec/ld-elf.so.1",
    "/sbin/init",
    "/sbin/mount_nfs",
];
const LINUX: [&str; 13] = [
    "/bin/sh",
    "/etc/fstab",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/lib/aarch64-linux-gnu/libc.so.6",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/modules",
    "/lib/systemd/systemd",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib64/libc.so.6",
    "/sbin/init",
];
/// The group that owns nothing, on Linux and FreeBSD alike.
const NOBODY: u32 = 65_534;
/// A kernel of FreeBSD has fewer than a thousand modules.
const MAX_MODULES: usize = 4096;
/// As many as Linux follows (path_resolution(7)).
const MAX_LINKS: u32 = 40;

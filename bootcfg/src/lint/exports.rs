//! Rules of exports(5) beyond those of a single line.

use super::site::{Findings, In, Site, below};
use crate::exports::{Clients, Export, Options};
use crate::rule::Rule;

pub(super) fn check(site: &Site<'_>, findings: &mut Findings) {
    for export in &site.exports {
        world(export, findings);
        root_is_nobody(site, export, findings);
        all_directories(site, export, findings);
    }
    twice(site, findings);
    version4(site, findings);
}

fn world(export: &In<'_, Export>, findings: &mut Findings) {
    let Export { paths, options, clients } = &export.value;
    let as_root = |user: &Option<String>| {
        let user = user.as_deref().and_then(|user| user.split(':').next());
        user.is_some_and(|user| user == "root" || user == "0")
    };
    let root = as_root(&options.maproot) || as_root(&options.mapall);
    if root && !options.read_only && *clients == Clients::Everybody {
        let message = format!(
            "everybody who reaches this server may write to {} as root: add -network with the \
             guests' network",
            paths.join(" and ")
        );
        findings.add(export, Rule::ExportsWorld, message);
    }
}

/// mountd(8) makes root 65534:65533 where nothing is said, and an init that is nobody gets nowhere.
fn root_is_nobody(site: &Site<'_>, export: &In<'_, Export>, findings: &mut Findings) {
    let Options { maproot, mapall, .. } = &export.value.options;
    if maproot.is_some() || mapall.is_some() {
        return;
    }
    let roots = site.roots();
    for path in &export.value.paths {
        let told = roots.iter().any(|root| root.path.value == *path);
        let all = site.exports.iter().flat_map(|export| &export.value.paths);
        let below =
            all.filter_map(|other| below(other, path)).filter_map(|rest| rest.split('/').next());
        let system = ["etc", "tmp", "usr", "var"];
        if told || below.filter(|name| system.contains(name)).count() > 1 {
            let message = format!(
                "root is nobody on {path}, which is the root of a guest: write -maproot=root"
            );
            findings.add(export, Rule::ExportsMaproot, message);
        }
    }
}

fn all_directories(site: &Site<'_>, export: &In<'_, Export>, findings: &mut Findings) {
    let Export { paths, options, clients: _ } = &export.value;
    if !options.all_directories {
        return;
    }
    if let [path, _, ..] = paths.as_slice() {
        let message = format!(
            "-alldirs takes one path, the root of a file system: write only {path} if it is one"
        );
        findings.add(export, Rule::ExportsAlldirs, message);
        return;
    }
    for path in paths {
        let inside = site.exports.iter().find_map(|other| {
            let of_one_file_system = other.value.paths.contains(path);
            let parent = other.value.paths.iter().find(|parent| below(path, parent).is_some());
            parent.filter(|_| of_one_file_system).map(|parent| (other, parent))
        });
        if let Some((other, parent)) = inside {
            let message = format!(
                "-alldirs is for the root of a file system, but in {} {path} is a directory of {parent}: \
                 write -alldirs for {parent}, or leave it out",
                other.place()
            );
            findings.add(export, Rule::ExportsAlldirs, message);
        }
    }
}

fn twice(site: &Site<'_>, findings: &mut Findings) {
    for (index, export) in site.exports.iter().enumerate() {
        let earlier = site.exports.iter().take(index);
        let mut same = earlier.filter_map(|other| {
            let paths = &export.value.paths;
            let path = paths.iter().find(|path| other.value.paths.contains(path))?;
            let who = common(&export.value.clients, &other.value.clients)?;
            Some((other, path, who))
        });
        if let Some((other, path, who)) = same.next_back() {
            let message = format!(
                "{} already exports {path} to {who}, and mountd accepts a client only once for each file \
                 system: remove one of the lines",
                other.place()
            );
            findings.add(export, Rule::ExportsTwice, message);
        }
    }
}

fn common(left: &Clients, right: &Clients) -> Option<String> {
    match (left, right) {
        (Clients::Everybody, Clients::Everybody) => Some("everybody".into()),
        (Clients::Hosts(left), Clients::Hosts(right)) => {
            left.iter().find(|host| right.contains(host)).cloned()
        }
        (Clients::Named(left), Clients::Named(right)) => (left == right).then(|| left.clone()),
        (Clients::Network(left), Clients::Network(right)) => {
            (left == right).then(|| left.to_string())
        }
        (
            Clients::Everybody | Clients::Hosts(_) | Clients::Named(_) | Clients::Network(_),
            Clients::Everybody | Clients::Hosts(_) | Clients::Named(_) | Clients::Network(_),
        ) => None,
    }
}

fn version4(site: &Site<'_>, findings: &mut Findings) {
    let Some(first) = site.v4.first() else { return };
    for line in &site.v4 {
        let (root, options) = &line.value;
        if *root != first.value.0 {
            let message = format!(
                "the V4: lines name two roots, {} at {} and {root}: write the same path in all",
                first.value.0,
                first.place()
            );
            findings.add(line, Rule::ExportsV4, message);
        }
        if (Options { security: Vec::new(), ..options.clone() }) != Options::default() {
            let message = "a V4: line takes only the option -sec: write the other options on the lines that \
                           export directories";
            findings.add(line, Rule::ExportsV4, message);
        }
    }
    let root = &first.value.0;
    let paths = site.exports.iter().flat_map(|export| &export.value.paths);
    if !paths.clone().any(|path| path == root || below(path, root).is_some()) {
        let message = format!(
            "a V4: line exports nothing by itself: write a line for every file system below {root}"
        );
        findings.add(first, Rule::ExportsV4, message);
    }
}

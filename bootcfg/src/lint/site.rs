//! All files, as read: what stands where.

use super::{Finding, Kind, Source};
use crate::bhyve::{self, Load, Run, Step};
use crate::exports::{self, Clients, Export, Line, Options};
use crate::fstab::{self, Entry};
use crate::loader::{self, Variable};
use crate::rcconf::{self, Setting};
use crate::rule::{At, Diagnostic, Reading, Rule};
use crate::unit::{self, Section};
use crate::{cbsd, dhcp, libvirt, vmbhyve, vmtab};

/// Something that stands in one of the files.
#[derive(Clone, Copy, Debug)]
pub(super) struct In<'s, T> {
    pub(super) source: usize,
    pub(super) file: &'s str,
    pub(super) line: usize,
    pub(super) value: T,
}

impl<'s, T> In<'s, T> {
    /// Something else on a line of the same file.
    pub(super) fn beside<U>(&self, line: usize, value: U) -> In<'s, U> {
        In { source: self.source, file: self.file, line, value }
    }

    /// The place, for people.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// Everything that the files say.
#[derive(Debug, Default)]
pub(super) struct Site<'s> {
    pub(super) exports: Vec<In<'s, Export>>,
    pub(super) v4: Vec<In<'s, (String, Options)>>,
    pub(super) fstab: Vec<In<'s, Entry>>,
    pub(super) loads: Vec<In<'s, Load>>,
    pub(super) runs: Vec<In<'s, Run>>,
    pub(super) loader: Vec<In<'s, Variable>>,
    pub(super) rcconf: Vec<In<'s, Setting>>,
    pub(super) units: Vec<In<'s, Section>>,
    pub(super) vm_bhyve: Vec<In<'s, Variable>>,
    pub(super) bhyve_config: Vec<In<'s, Variable>>,
    pub(super) sources: Vec<&'s Source>,
}

/// The variables that a kernel finds, of one call of bhyveload(8) or one loader.conf(5).
#[derive(Debug)]
pub(super) struct Environment<'s> {
    /// The variables; of equal names the first counts.
    pub(super) variables: Vec<In<'s, Variable>>,
    /// The call, where it is one; loader.conf(5) has beside it what the loader finds out.
    pub(super) load: Option<In<'s, Load>>,
}

impl<'s> Environment<'s> {
    pub(super) fn find(&self, name: &str) -> Option<&In<'s, Variable>> {
        self.variables.iter().find(|variable| variable.value.name == name)
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.find(name).map(|variable| variable.value.value.as_str())
    }
}

/// A root that a kernel is told to mount.
#[derive(Debug)]
pub(super) struct KnownRoot<'s> {
    pub(super) path: In<'s, String>,
    pub(super) server: Option<String>,
}

impl<'s> Site<'s> {
    /// Reads all files; the diagnostics of their readers become findings.
    pub(super) fn read(sources: &'s [Source], findings: &mut Findings) -> Self {
        let mut site = Self { sources: sources.iter().collect(), ..Self::default() };
        for (source, Source { name: file, kind, text }) in sources.iter().enumerate() {
            let here = In { source, file: file.as_str(), line: 0, value: () };
            match kind {
                Kind::BhyveConfig => {
                    let entries = findings.entries(&here, bhyve::config::read(text));
                    let line = entries.first().map_or(1, |at| at.line);
                    site.runs.push(here.beside(line, bhyve::config::run(&entries)));
                    let entries = entries.into_iter();
                    site.bhyve_config.extend(entries.map(|at| here.beside(at.line, at.value)));
                }
                Kind::Cbsd => {
                    findings.entries(&here, cbsd::read(text));
                }
                // They are read by rules of their own.
                Kind::Consul | Kind::Jail | Kind::Resolv => {}
                Kind::DhcpHosts => {
                    findings.entries(&here, dhcp::hosts::dhcp_hosts(text));
                }
                Kind::Dhcpd => {
                    findings.entries(&here, dhcp::hosts::dhcpd(text));
                }
                Kind::Dnsmasq => {
                    findings.entries(&here, dhcp::hosts::dnsmasq(text));
                }
                Kind::Libvirt => {
                    findings.entries(&here, libvirt::read(text));
                }
                Kind::Unit => {
                    let entries = findings.entries(&here, unit::read(text)).into_iter();
                    site.units.extend(entries.map(|at| here.beside(at.line, at.value)));
                }
                Kind::VmBhyve => {
                    let entries = findings.entries(&here, vmbhyve::read(text)).into_iter();
                    site.vm_bhyve.extend(entries.map(|at| here.beside(at.line, at.value)));
                }
                Kind::Vmtab => {
                    findings.entries(&here, vmtab::read(text));
                }
                Kind::Exports => {
                    for line in findings.entries(&here, exports::read(text)) {
                        match line.value {
                            Line::Export(export) => {
                                site.exports.push(here.beside(line.line, export));
                            }
                            Line::Version4 { root, options, clients: _ } => {
                                site.v4.push(here.beside(line.line, (root, options)));
                            }
                        }
                    }
                }
                Kind::Fstab => {
                    let entries = findings.entries(&here, fstab::read(text)).into_iter();
                    site.fstab.extend(entries.map(|at| here.beside(at.line, at.value)));
                }
                Kind::Loader => {
                    let entries = findings.entries(&here, loader::read(text)).into_iter();
                    site.loader.extend(entries.map(|at| here.beside(at.line, at.value)));
                }
                Kind::RcConf => {
                    let entries = findings.entries(&here, rcconf::read(text)).into_iter();
                    site.rcconf.extend(entries.map(|at| here.beside(at.line, at.value)));
                }
                Kind::Script => {
                    for step in findings.entries(&here, bhyve::read(text)) {
                        match step.value {
                            Step::Load(load) => site.loads.push(here.beside(step.line, load)),
                            Step::Run(run) => site.runs.push(here.beside(step.line, run)),
                        }
                    }
                }
            }
        }
        site
    }

    /// The environments of kernels.
    pub(super) fn environments(&self) -> Vec<Environment<'s>> {
        let of_load = |load: &In<'s, Load>| Environment {
            variables: load
                .value
                .variables
                .iter()
                .map(|at| load.beside(at.line, at.value.clone()))
                .collect(),
            load: Some(load.clone()),
        };
        let mut environments: Vec<_> = self.loads.iter().map(of_load).collect();
        let files = (0..self.sources.len()).map(|source| Environment {
            // The loader reads on, and the last line of a name counts.
            variables: self
                .loader
                .iter()
                .rev()
                .filter(|variable| variable.source == source)
                .cloned()
                .collect(),
            load: None,
        });
        environments.extend(files.filter(|environment| !environment.variables.is_empty()));
        environments
    }

    /// The roots that kernels are told to mount.
    pub(super) fn roots(&self) -> Vec<KnownRoot<'s>> {
        let root = |environment: &Environment<'s>| {
            let path = environment.find("boot.nfsroot.path")?;
            let server = environment.value("boot.nfsroot.server").map(str::to_owned);
            let path = path.beside(path.line, trimmed(&path.value.value).to_owned());
            Some(KnownRoot { path, server })
        };
        self.environments().iter().filter_map(root).collect()
    }

    /// The lines that export a directory.
    pub(super) fn exporting(&self, path: &str) -> Vec<&In<'s, Export>> {
        let covers = |export: &&In<'s, Export>| {
            let Export { paths, options, clients: _ } = &export.value;
            paths
                .iter()
                .any(|own| own == path || (options.all_directories && below(path, own).is_some()))
        };
        self.exports.iter().filter(covers).collect()
    }

    /// The exported directory that was probably meant by one that is not: it has the same name.
    pub(super) fn meant(&self, path: &str) -> Option<In<'s, String>> {
        let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
        let paths = self.exports.iter().flat_map(|export| {
            export.value.paths.iter().map(|path| export.beside(export.line, path.clone()))
        });
        let mut same = paths.filter(|own| own.value != "/" && name(&own.value) == name(path));
        same.next().filter(|_| same.next().is_none())
    }

    /// A line of a file as it is written.
    pub(super) fn written(&self, source: usize, line: usize) -> &'s str {
        let lines = self.sources.get(source).map(|source| source.text.lines());
        lines.and_then(|mut lines| lines.nth(line.saturating_sub(1))).unwrap_or_default()
    }
}

/// Findings in the making.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(usize, Finding)>);

impl Findings {
    /// Adds what is wrong at a place.
    pub(super) fn add<T>(&mut self, place: &In<'_, T>, rule: Rule, message: impl AsRef<str>) {
        let mut clean = String::new();
        for c in message.as_ref().chars() {
            // Files may come from anywhere, and findings go to terminals.
            if c.is_control() {
                clean.extend(c.escape_default());
            } else {
                clean.push(c);
            }
        }
        let (file, line) = (place.file.to_owned(), place.line);
        self.0.push((place.source, Finding { file, line, rule, message: clean }));
    }

    /// Notes down a finding that is complete.
    pub(super) fn push(&mut self, source: usize, finding: Finding) {
        self.0.push((source, finding));
    }

    pub(super) fn entries<T>(&mut self, here: &In<'_, ()>, reading: Reading<T>) -> Vec<At<T>> {
        // What only another program knows is no mistake.
        let wrong = |one: &Diagnostic| one.rule != Rule::Unread;
        for diagnostic in reading.diagnostics.into_iter().filter(wrong) {
            self.add(&here.beside(diagnostic.line, ()), diagnostic.rule, diagnostic.message);
        }
        reading.entries
    }

    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|(source, finding)| (*source, finding.line, finding.rule));
        self.0.dedup();
        self.0.into_iter().map(|(_, finding)| finding).collect()
    }
}

/// What a path has below a directory, if it is below it.
pub(super) fn below<'p>(path: &'p str, directory: &str) -> Option<&'p str> {
    path.strip_prefix(directory.trim_end_matches('/'))?.strip_prefix('/')
}

/// A path without slashes at its end.
pub(super) fn trimmed(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// Whether an address may be among these clients; names may be anybody's.
pub(super) fn admits(clients: &Clients, address: std::net::IpAddr) -> bool {
    match clients {
        Clients::Everybody | Clients::Named(_) => true,
        Clients::Hosts(hosts) => hosts
            .iter()
            .any(|host| host.parse().map_or(true, |host: std::net::IpAddr| host == address)),
        Clients::Network(network) => network.contains(address),
    }
}

//! The verb that looks for mistakes in files that other programs read.

use std::fs::File;
use std::io::Read;

use bootcfg::lint::{self, Finding, Kind, Source};
use clap::Args;
use hostfs::Inside;
use serde::Serialize;
use store::{EnvironmentName, Store};

use super::{Failure, Reply, Site};

/// Find mistakes in files of servers, guests, jails and containers.
///
/// It reads exports, fstab, loader.conf, rc.conf, resolv.conf, jail.conf, dhcpd.conf, dnsmasq.conf, vmtab, units and
/// .nspawn files of systemd, domains of libvirt, the files of bhyve, vm-bhyve, CBSD and Consul, and scripts. Give all
/// files of one guest and its server together: netbe compares them with each other. The exit status is 1 if it
/// finds something.
#[derive(Args, Debug)]
pub(crate) struct Lint {
    /// Files; netbe recognizes their kind by name or content.
    #[arg(required_unless_present = "explicit")]
    files: Vec<String>,
    /// A file and its kind: bhyve, cbsd, consul, dhcp-hosts, dhcpd, dnsmasq, exports, fstab, jail, libvirt, loader,
    /// rcconf, resolv, script, unit, vm-bhyve or vmtab.
    #[arg(long = "as", num_args = 2, value_names = ["KIND", "FILE"])]
    explicit: Vec<String>,
    /// Print JSON, for programs.
    #[arg(short, long)]
    json: bool,
}

/// A finding as programs read it.
#[derive(Serialize)]
struct Record<'f> {
    file: &'f str,
    line: usize,
    rule: &'static str,
    message: &'f str,
}

impl<'f> From<&'f Finding> for Record<'f> {
    fn from(finding: &'f Finding) -> Self {
        let Finding { file, line, rule, message } = finding;
        Self { file, line: *line, rule: rule.name(), message }
    }
}

impl Lint {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open().ok();
        let mut sources = Vec::new();
        let mut failures = Vec::new();
        let explicit = self.explicit.chunks_exact(2).filter_map(|pair| match pair {
            [kind, file] => Some((Some(kind), file)),
            _ => None,
        });
        for (kind, file) in explicit.chain(self.files.iter().map(|file| (None, file))) {
            let kind = kind.map(|kind| kind.parse().map_err(Failure::could_not)).transpose()?;
            match source(file, kind, store.as_ref()) {
                Ok(source) => sources.push(source),
                Err(failure) => failures.push(failure),
            }
        }
        let findings = lint::lint(&sources);
        let text = if self.json { json(&findings)? } else { lines(&findings) };
        if !findings.is_empty() {
            failures.push(Failure::no(match findings.len() {
                1 => "1 finding".to_owned(),
                count => format!("{count} findings"),
            }));
        }
        Ok(Reply::text(text).but(failures))
    }
}

fn lines(findings: &[Finding]) -> String {
    let line = |Finding { file, line, rule, message }: &Finding| {
        format!("{}:{line}: {message} [{rule}]\n", file.escape_debug())
    };
    findings.iter().map(line).collect()
}

fn json(findings: &[Finding]) -> Result<String, Failure> {
    let records: Vec<Record<'_>> = findings.iter().map(Record::from).collect();
    let mut text = serde_json::to_string_pretty(&records).map_err(Failure::could_not)?;
    text.push('\n');
    Ok(text)
}

pub(super) fn source(
    name: &str,
    kind: Option<Kind>,
    store: Option<&Store>,
) -> Result<Source, Failure> {
    let inside = store.map(|store| read_inside(name, store)).transpose()?.flatten();
    let bytes = inside.map_or_else(|| read(name), Ok)?;
    // What is not UTF-8 is compared with itself at most.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let kind = kind.or_else(|| Kind::of(name, &text)).ok_or_else(|| {
        Failure::could_not(format_args!(
            "cannot recognize the kind of {0}: give `--as KIND {0}`, with KIND one of {1}",
            name.escape_debug(),
            lint::KINDS
        ))
    })?;
    Ok(Source { name: name.to_owned(), kind, text })
}

/// Reads a file below the root of a boot environment by the door that links cannot leave: it is a
/// guest's to arrange what lies there.
fn read_inside(name: &str, store: &Store) -> Result<Option<Vec<u8>>, Failure> {
    let Ok(path) = std::path::absolute(name) else { return Ok(None) };
    let environment = path.ancestors().find_map(|root| {
        let environment: EnvironmentName = root.file_name()?.to_str()?.parse().ok()?;
        (store.root(&environment) == root).then_some((environment, path.strip_prefix(root).ok()?))
    });
    let Some((environment, below)) = environment else { return Ok(None) };
    let inside = Inside::from_fd(store.open_root(&environment)?);
    inside.read_small(below, LIMIT).map(Some).map_err(|error| failed(name, error))
}

/// Reads a file of the host.
fn read(name: &str) -> Result<Vec<u8>, Failure> {
    let file = File::open(name).map_err(|error| failed(name, error))?;
    let mut bytes = Vec::new();
    let most = u64::try_from(LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(|error| failed(name, error))?;
    if bytes.len() > LIMIT {
        return Err(failed(name, "it is larger than 1 MiB, which is too much for such a file"));
    }
    Ok(bytes)
}

fn failed(name: &str, error: impl std::fmt::Display) -> Failure {
    Failure::could_not(format_args!("cannot read {}: {error}", name.escape_debug()))
}

/// The most that is read of a file, in bytes.
const LIMIT: usize = 1 << 20;

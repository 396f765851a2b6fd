//! Benchmarks: netbe and a peer do the same work in the same minutes, and what each costs is compared.
//!
//! The computer is usually shared, so times of day mean little. What is compared is the processor
//! time that a server needs for one operation, measured in turns (netbe, peer, peer, netbe, ...), as
//! medians over several rounds. How fast the network and the processor themselves are in that minute
//! is told beside it. A benchmark never fails because something is slow, only when an answer is wrong.

mod chart;
mod cost;
mod dhcp;
mod http;
mod limits;
mod nfs;
mod nfs_rounds;
mod report;
mod ring;
mod store;
mod storm;
mod tftp;
mod tftp_client;
mod trial;

use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
pub(crate) use store::Load;
pub(crate) use storm::{neighbours, play};

use crate::failure::{Failure, ensure};
use crate::lab::Lab;
use crate::packages;

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Subject {
    /// DHCP exchanges, beside Kea.
    Dhcp,
    /// Downloads by HTTP, beside nginx.
    Http,
    /// NFSv3 operations over TCP, beside NFS-Ganesha and nfsserve.
    Nfs,
    /// Whole boots of 1,000 and of 1,500 machines at once.
    Storm,
    /// Clones of boot environments, beside the file systems' own commands in a loop.
    Store,
    /// TFTP transfers, beside atftpd and async-tftp.
    Tftp,
}

/// Files that figures are written to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written<'a> {
    /// For programs.
    pub(crate) json: Option<&'a Path>,
    /// For people.
    pub(crate) chart: Option<&'a Path>,
}

/// Measures, prints a table, and writes it to files too if some are named. The peer of HTTP, NFS and TFTP is
/// the netbe `earlier`, if there is one.
pub(crate) fn run(
    subject: Subject,
    load: &Load,
    earlier: Option<&Path>,
    raise: bool,
    written: Written<'_>,
) -> Result<ExitCode, Failure> {
    let may_be_netbe = matches!(subject, Subject::Http | Subject::Nfs | Subject::Tftp);
    ensure(earlier.is_none() || may_be_netbe, || {
        "--beside names a peer for http, nfs and tftp only: leave it out".to_owned()
    })?;
    packages::install(&[packages::MACHINES])?;
    let lab = Lab::open()?;
    let report = match subject {
        Subject::Dhcp => dhcp::measure(&lab)?,
        Subject::Http => http::measure(&lab, earlier)?,
        Subject::Nfs => nfs::measure(&lab, earlier)?,
        Subject::Storm => storm::measure(&lab, raise)?,
        Subject::Store => store::measure(&lab, load)?,
        Subject::Tftp => tftp::measure(&lab, earlier)?,
    };
    print!("{}", report.table());
    if let Some(path) = written.json {
        report.write(path)?;
    }
    if let Some(path) = written.chart {
        let subject = subject.to_possible_value();
        let subject = subject.as_ref().map_or("", |subject| subject.get_name());
        report.write_chart(subject, path)?;
    }
    Ok(ExitCode::SUCCESS)
}

//! Boots machines from netbe in QEMU, and runs every test.
//!
//! netbe is used only as a program. Everything that the lab does on a network happens in network
//! namespaces of its own; everything that it writes lies in a scratch directory, but for its cache
//! of downloads.

mod attempt;
mod bench;
mod cache;
mod capture;
mod cases;
mod chain;
mod cpio;
mod debian;
mod demo;
mod dhcp_client;
mod disk;
mod failure;
mod faults;
mod forged;
mod freebsd;
mod guest;
mod guest_task;
mod interrupt;
mod kept;
mod lab;
mod lock;
mod manual;
mod net;
mod noise;
mod package;
mod packages;
mod peer;
mod picture;
mod pool;
mod power;
mod process;
mod progress;
mod proof;
mod ramdisk;
mod recorded;
mod release;
mod rpc;
mod scene;
mod server;
mod shell;
mod soak;
mod suite;
mod systemd;
mod timeline;
mod vm;
mod writes;
mod xdr;

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Boots machines from netbe in QEMU, and runs every test.
#[derive(Debug, Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare what netbe needs for its work with what another server needs; takes a few minutes.
    Bench {
        /// What to measure.
        #[arg(value_enum)]
        subject: bench::Subject,
        #[command(flatten)]
        load: bench::Load,
        /// The peer of `nfs`, `http` or `tftp`: a netbe that was built from another commit, instead of other servers.
        #[arg(long, value_name = "NETBE")]
        beside: Option<PathBuf>,
        /// Play `storm` once more with as large a table of neighbours of this host as netbe names; it is put
        /// back (sysctl net.ipv4.neigh.default).
        #[arg(long)]
        raise: bool,
        /// Write the figures to this file too.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Draw the figures into this file (SVG).
        #[arg(long, value_name = "FILE")]
        chart: Option<PathBuf>,
    },
    /// Boot one machine by one chain, and show its timeline.
    Boot {
        /// The chain.
        #[arg(required_unless_present = "list")]
        chain: Option<String>,
        /// Copy everything that went over the network to this file.
        #[arg(long, value_name = "FILE")]
        keep_capture: Option<PathBuf>,
        /// Print the names of the chains instead.
        #[arg(long)]
        list: bool,
    },
    /// Run one test in this process; `test` starts it so.
    #[command(hide = true)]
    Case {
        /// Its name.
        name: String,
        /// Where its files go.
        place: PathBuf,
        /// Where there is what all tests use.
        made: PathBuf,
        #[command(flatten)]
        wishes: lab::Wishes,
    },
    /// Serve a disk in memory in the place of a file; a test with a disk that hangs starts it so.
    #[command(hide = true)]
    Disk {
        /// The file.
        image: PathBuf,
        /// The disk's size in MiB.
        mib: u32,
        /// The file in which is noted what it is told.
        told: Option<PathBuf>,
    },
    /// Show how empty machines boot from netbe: first BIOS, then UEFI.
    Demo,
    /// Build netbe and its tests for a FreeBSD machine, with a script that runs them there.
    Freebsd {
        /// The directory that is to be copied to it: a new one, or that of an earlier build.
        #[arg(long, value_name = "DIR")]
        build: PathBuf,
    },
    /// Have system calls of verbs fail; a test in a guest starts it so.
    #[command(hide = true)]
    Faults {
        /// What the store is made of.
        #[arg(value_enum)]
        medium: faults::Medium,
        /// The program under test.
        netbe: PathBuf,
        /// For so many seconds at most.
        seconds: u64,
        /// So many for each verb at most.
        faults: usize,
        /// Which: the same for the same number.
        seed: u64,
    },
    /// Make a Debian package of netbe.
    Package {
        /// The directory that it is written into.
        #[arg(long, value_name = "DIR", default_value = "target/package")]
        into: PathBuf,
        /// Pack this program, which is built already, in the place of building one.
        #[arg(long, value_name = "NETBE")]
        program: Option<PathBuf>,
    },
    /// Cut the power of a store's disk, in this directory; a test in a guest starts it so.
    #[command(hide = true)]
    Power {
        /// What is on the disk.
        #[arg(value_enum)]
        medium: power::Medium,
        /// The program under test.
        netbe: PathBuf,
        /// How often.
        count: usize,
        /// When, and what is lost: the same for the same number.
        seed: u64,
        /// Let the disk refuse writes instead, so often for each verb.
        #[arg(long)]
        suspend: bool,
    },
    /// Boot machines again and again, among noise and kills, until counts are told; then let machines live
    /// for as long while everything goes wrong, and play the store's whole contract on ZFS.
    Soak {
        /// No round begins after so many minutes, and everything goes wrong for so many.
        #[arg(long, default_value_t = 60)]
        minutes: u32,
    },
    /// Run every test, from formatting to real boots; ends in a line that counts them.
    Test {
        #[command(flatten)]
        choice: suite::Choice,
        /// Print the names of the tests instead of running them.
        #[arg(long)]
        list: bool,
        /// How many processors the tests may take, at one for a machine: all, and no more than 8, when
        /// nobody says it.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        jobs: Option<u16>,
        #[command(flatten)]
        wishes: lab::Wishes,
    },
}

fn main() -> ExitCode {
    if let Err(error) = interrupt::install() {
        eprintln!("lab: Ctrl-C cannot be handled: {error}");
        return ExitCode::from(2);
    }
    let result = match Arguments::parse().command {
        Command::Bench { subject, load, beside, raise, json, chart } => {
            let written = bench::Written { json: json.as_deref(), chart: chart.as_deref() };
            bench::run(subject, &load, beside.as_deref(), raise, written)
        }
        Command::Boot { chain: Some(chain), keep_capture, list: false } => {
            manual::run(&chain, keep_capture.as_deref())
        }
        Command::Boot { .. } => {
            manual::list();
            Ok(ExitCode::SUCCESS)
        }
        Command::Case { name, place, made, wishes } => {
            attempt::carry_out(&name, &place, &made, wishes)
        }
        Command::Demo => demo::run(),
        Command::Disk { image, mib, told } => disk::serve(&image, mib, told.as_deref()),
        Command::Freebsd { build } => freebsd::build(&build),
        Command::Faults { medium, netbe, seconds, faults, seed } => {
            let extent = faults::Extent { time: Duration::from_secs(seconds), faults };
            faults::in_guest(medium, &netbe, extent, seed)
        }
        Command::Package { into, program } => package::build(&into, program.as_deref()),
        Command::Power { medium, netbe, count, seed, suspend } => {
            let extent = match suspend {
                true => power::Extent::Suspensions(count),
                false => power::Extent::Cuts(count),
            };
            power::in_guest(medium, &netbe, extent, seed)
        }
        Command::Soak { minutes } => soak::run(minutes),
        Command::Test { choice, list: true, .. } => suite::list(&choice),
        Command::Test { choice, list: false, jobs, wishes } => {
            suite::run(&choice, jobs.map_or_else(default_jobs, usize::from), wishes)
        }
    };
    match result {
        Ok(code) => code,
        Err(Failure::Interrupted) => {
            eprintln!("lab: interrupted; everything is cleaned up");
            ExitCode::from(130)
        }
        Err(failure @ Failure::Said(_)) => {
            eprintln!("lab: {failure}");
            ExitCode::from(2)
        }
    }
}

/// How many tests run at the same time when nobody says it.
fn default_jobs() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_JOBS)
}

/// The most of them: each may have machines of a gigabyte.
const MAX_JOBS: usize = 8;

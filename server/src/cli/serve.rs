//! The verb that runs the server.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::Args;

use super::{Failure, Reply, Site, server_log};
use crate::config::{Config, Raw, RawSubnet};
use crate::serve::{self, ServeError};

/// Serve boot environments to machines: DHCP, TFTP, HTTP and NFS, in the foreground.
///
/// netbe hands out addresses with --mode serve only. Flags override the file.
#[derive(Args, Clone, Debug)]
pub(crate) struct Serve {
    /// A configuration file (netbe.toml); none is needed.
    #[arg(short, long = "file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// An interface to answer DHCP on; may be repeated [default: all with an IPv4 address].
    #[arg(long = "interface", value_name = "IF")]
    interfaces: Vec<String>,
    /// The DHCP mode: serve (hand out addresses), proxy (boot machines beside another DHCP server)
    /// or passive (only listen).
    #[arg(long)]
    mode: Option<String>,
    /// Addresses to hand out, as in 10.0.0.100-10.0.0.199; may be repeated.
    #[arg(long = "range", value_name = "A-B")]
    ranges: Vec<String>,
    /// A subnet with its own settings, also one behind a relay agent, as in
    /// 10.1.0.0/24,range=10.1.0.100-10.1.0.199,router=10.1.0.1; may be repeated. The other keys are
    /// dns, domain, mtu, lease, relay and option=NUMBER:VALUE.
    #[arg(long = "subnet", value_name = "NETWORK,KEY=VALUE...")]
    subnets: Vec<String>,
    /// The machines' router [default: this host, if it forwards].
    #[arg(long, value_name = "IP")]
    router: Option<Ipv4Addr>,
    /// A name server for the machines; may be repeated.
    #[arg(long, value_name = "IP")]
    dns: Vec<Ipv4Addr>,
    /// The machines' domain name.
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// The MTU of the machines' network (DHCP option 26), sent to machines that request it.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u16>,
    /// The lease time.
    #[arg(long, value_name = "SECONDS")]
    lease: Option<u64>,
    /// Listen for HTTP here: PORT, ADDRESS or ADDRESS:PORT [default: 80].
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// The boot environment of machines that have none assigned; they get it read-only.
    #[arg(long, value_name = "NAME")]
    default: Option<String>,
    /// Check everything, print what would be served, and exit.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Serve {
    /// Whether it only says what it would do.
    pub(crate) const fn is_dry(&self) -> bool {
        self.dry_run
    }

    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let config = self.config(site)?;
        if self.dry_run {
            return serve::rehearse(&config).map(Reply::text).map_err(refused);
        }
        server_log::begin();
        let (this, site) = (self.clone(), site.clone());
        let reread = move || this.config(&site).map_err(|failure| failure.message);
        serve::run(config, Box::new(reread)).map_err(refused)?;
        Ok(Reply::done())
    }

    /// What the flags say, and the file as it is now.
    fn config(&self, site: &Site) -> Result<Config, Failure> {
        let subnets = self.subnets.iter().map(|text| {
            let of_flag = |error| Failure::could_not(format_args!("--subnet {text}: {error}"));
            RawSubnet::from_flag(text).map_err(of_flag)
        });
        let flags = Raw {
            store: site.named_store().map(ToString::to_string),
            state: site.named_state().map(ToOwned::to_owned),
            interfaces: self.interfaces.clone(),
            mode: self.mode.clone(),
            ranges: self.ranges.clone(),
            router: self.router.map(|address| address.to_string()),
            dns: self.dns.iter().map(ToString::to_string).collect(),
            domain: self.domain.clone(),
            mtu: self.mtu,
            lease: self.lease,
            subnets: subnets.collect::<Result<_, _>>()?,
            http: self.http.clone(),
            default: self.default.clone(),
            hooks: None,
            consul: None,
            machines: std::collections::BTreeMap::new(),
        };
        let Some(path) = &self.file else {
            return Config::try_from(flags).map_err(Failure::could_not);
        };
        let of_file = |error: &dyn std::fmt::Display| {
            Failure::could_not(format_args!("{}: {error}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            match error.kind() == ErrorKind::NotFound {
                true => of_file(&"there is no such file"),
                false => of_file(&error),
            }
        })?;
        let file = Raw::parse(&text).map_err(|error| of_file(&error))?;
        // A mistake of the file is told with the file's name, also where a flag would beat it.
        // The mode decides what else may stand there, so it is the one that will hold.
        let mode = self.mode.clone().or_else(|| file.mode.clone());
        Config::try_from(Raw { mode, ..file.clone() }).map_err(|error| of_file(&error))?;
        let config = Config::try_from(flags.or(file)).map_err(Failure::could_not)?;
        // Where the working directory is gone there is no whole path, and nothing is noted of the file.
        Ok(Config { file: std::path::absolute(path).ok(), ..config })
    }
}

/// Why there is no server: the answer is no where the store or a machine says so.
fn refused(error: ServeError) -> Failure {
    if let ServeError::Machine(error) = error {
        return error.into();
    }
    if let ServeError::Store(error) = error {
        return error.into();
    }
    Failure::could_not(error)
}

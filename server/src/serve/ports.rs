//! The ports of boot files and RPC: bound all, or none.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use wire::nlm;

use super::ServeError;
use super::appliance::Appliance;
use super::supervise::{Run, Service};
use crate::boot::Booter;
use crate::clock::SystemClock;
use crate::console;
use crate::net::datagram::{BindOptions, Datagrams};
use crate::net::rpc::{self, Peers, Program, Transport};
use crate::nfs::mount::Mount;
use crate::nfs::nlm::Nlm;
use crate::nfs::portmap::{self, Mapper, Portmap};
use crate::nfs::v3::Nfs3;

/// Everything that is bound, ready to be served.
pub(super) struct Ports {
    /// Where TFTP's requests come.
    pub(super) tftp: Datagrams,
    /// Where HTTP's connections come.
    pub(super) http: TcpListener,
    /// RPC on all its sockets.
    pub(super) rpc: Vec<Service>,
    /// The servers behind them, to be stopped.
    pub(super) servers: Vec<Arc<rpc::Server>>,
    /// What another port mapper was told.
    pub(super) registration: Registration,
    /// Where what machines say comes, unless this host has another receiver of syslog.
    pub(super) console: Option<Datagrams>,
    mount: u16,
}

impl Ports {
    /// Binds all ports: boot files in the network's runtime, RPC in that of the files,
    /// with its clients' connections in `peers`.
    pub(super) fn bind(
        appliance: &Appliance,
        network: &Runtime,
        files: &Runtime,
        peers: Arc<Peers>,
    ) -> Result<Self, ServeError> {
        let (tftp, http) = {
            let _inside = network.enter();
            let tftp = bind_tftp().map_err(|error| refused(&TFTP, 69, &error))?;
            let address = appliance.config().http;
            let http =
                rpc::listen(address).map_err(|error| refused(&HTTP, address.port(), &error))?;
            (tftp, http)
        };
        let _inside = files.enter();
        let booter = Arc::clone(appliance.boots()) as Arc<dyn Booter>;
        let exports = appliance.exports();
        let clock = Arc::new(SystemClock);
        let nfs = Arc::new(Nfs3::new(Arc::clone(exports), Arc::clone(&booter), clock.clone()));
        let mount = Mount::new(Arc::clone(exports), booter, clock);
        let mut bound = Bound { services: Vec::new(), servers: Vec::new(), peers };
        // Half of the files that the process may open are for what is read and written.
        let limit = hostfs::open_files_limit();
        let many = rpc::Options::default();
        let many = rpc::Options { connections: many.connections.min(limit / 4), ..many };
        let few = rpc::Options { threads: 8, connections: 1024.min(limit / 32), ..many.clone() };
        let told = Arc::clone(&nfs);
        let timeline = move || -> Run { Box::pin(Arc::clone(&told).tell()) };
        bound.services.push(Service::of("NFS's timeline", timeline));
        bound.serve(&NFS, NFS_PORT, vec![Arc::new(nfs), Arc::new(Nlm::default())], many)?;
        // Nobody insists on this port, but firewalls are told of it.
        let mount =
            bound.serve_near(&MOUNT, 20048, vec![Arc::new(Arc::new(mount))], few.clone())?;
        let files = services(&[(100_003, 3, NFS_PORT), (100_005, 3, mount), (100_005, 1, mount)]);
        let locks = [nlm::VERSION_4, nlm::VERSION_3, nlm::VERSION_1];
        let locks = services(&locks.map(|version| (nlm::PROGRAM, version, NFS_PORT)));
        let all = [&files[..], &locks].concat();
        let portmap = Portmap::new(all.iter().copied());
        let registration = match bound.serve(&PORTMAP, 111, vec![Arc::new(portmap)], few) {
            Ok(()) => Registration(Vec::new()),
            // A port mapper runs on this host already: it is told where our programs are.
            Err(ServeError::Port { .. }) => {
                portmap::register_with_locks(&Mapper::of_host(), &files, &locks)?;
                Registration(all)
            }
            Err(error) => return Err(error),
        };
        // Machines boot without it: it is asked for when all else is there.
        let console = {
            let _inside = network.enter();
            bind_console().inspect_err(|error| {
                let port = console::PORT;
                tracing::warn!(
                    "messages of machines are not kept: UDP port {port} cannot be opened: {error}"
                );
            })
        };
        let Bound { services, servers, peers: _ } = bound;
        let console = console.ok();
        Ok(Self { tftp, http, rpc: services, servers, registration, console, mount })
    }

    /// What is served where, for people.
    pub(super) fn services(&self) -> Vec<String> {
        let mapper = if self.registration.0.is_empty() {
            "port mapper 111".to_owned()
        } else {
            "registered with this host's port mapper".to_owned()
        };
        let http = self.http.local_addr().map_or_else(|_| String::new(), |at| format!(" {at}"));
        let mut services = vec![
            "TFTP port 69".to_owned(),
            format!("HTTP{http}"),
            format!("NFS port 2049, MOUNT port {}, {mapper}", self.mount),
        ];
        if self.console.is_some() {
            services.push(format!("syslog and netconsole port {}", console::PORT));
        }
        services
    }
}

/// What another port mapper was told of.
pub(super) struct Registration(Vec<portmap::Service>);

impl Drop for Registration {
    /// Takes it back.
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        if let Err(error) = portmap::unregister(&Mapper::of_host(), &self.0) {
            tracing::warn!("the port mapper still lists netbe's programs: {error}");
        }
    }
}

/// RPC services, as they are bound.
struct Bound {
    services: Vec<Service>,
    servers: Vec<Arc<rpc::Server>>,
    peers: Arc<Peers>,
}

impl Bound {
    /// Binds the port of programs for both transports and both families.
    fn serve(
        &mut self,
        service: &Known,
        port: u16,
        programs: Vec<Arc<dyn Program>>,
        options: rpc::Options,
    ) -> Result<(), ServeError> {
        let (udp, tcp) = both(service, port)?;
        let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        // A host without IPv6 is served by IPv4.
        let udp6 = datagrams(any6).map_err(|error| tracing::debug!("{any6}: {error}")).ok();
        let tcp6 = rpc::listen(any6).map_err(|error| tracing::debug!("{any6}: {error}")).ok();
        let server =
            rpc::Server::new(programs, options, Arc::clone(&self.peers), Arc::new(SystemClock));
        for socket in [Some(udp), udp6].into_iter().flatten() {
            let (address, server) = (socket.local_addr(), Arc::clone(&server));
            let run = move |socket| -> Run { Box::pin(Arc::clone(&server).serve_udp(socket)) };
            let name = format!("{} by UDP", service.name);
            self.services.push(Service::on(name, socket, move || datagrams(address), run));
        }
        for (listener, address) in [(Some(tcp), any4(port)), (tcp6, any6)] {
            let Some(listener) = listener else { continue };
            let server = Arc::clone(&server);
            let run = move |listener| -> Run { Box::pin(Arc::clone(&server).serve_tcp(listener)) };
            let name = format!("{} by TCP", service.name);
            self.services.push(Service::on(name, listener, move || rpc::listen(address), run));
        }
        self.servers.push(server);
        Ok(())
    }

    /// As [`Bound::serve`], on a port a little higher when that one is taken. Returns the port.
    fn serve_near(
        &mut self,
        service: &Known,
        port: u16,
        programs: Vec<Arc<dyn Program>>,
        options: rpc::Options,
    ) -> Result<u16, ServeError> {
        for port in port..port.saturating_add(NEAR) {
            if self.serve(service, port, programs.clone(), options.clone()).is_ok() {
                return Ok(port);
            }
        }
        self.serve(service, port, programs, options).map(|()| port)
    }
}

/// Binds all ports and gives them back, to know whether a server could have them.
///
/// # Errors
///
/// As [`Ports::bind`], but for what only a port mapper would say that other programs use.
pub(super) fn try_all(http: SocketAddr) -> Result<(), ServeError> {
    bind_tftp().map_err(|error| refused(&TFTP, 69, &error))?;
    rpc::listen(http).map_err(|error| refused(&HTTP, http.port(), &error))?;
    both(&NFS, 2049)?;
    if !(20048..20048 + NEAR).any(|port| both(&MOUNT, port).is_ok()) {
        both(&MOUNT, 20048)?;
    }
    match both(&PORTMAP, 111) {
        // That is what a port mapper is for: it would be told of our programs.
        Ok(_) | Err(ServeError::Port { in_use: true, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Binds a port of RPC for both transports by IPv4, which every host has.
fn both(service: &Known, port: u16) -> Result<(Datagrams, TcpListener), ServeError> {
    let fail = |error: io::Error| refused(service, port, &error);
    let udp = datagrams(any4(port)).map_err(fail)?;
    let tcp = rpc::listen(any4(port)).map_err(fail)?;
    Ok((udp, tcp))
}

/// Programs of these numbers, versions and ports, by both transports.
fn services(programs: &[(u32, u32, u16)]) -> Vec<portmap::Service> {
    let by_both = |&(program, version, port): &(u32, u32, u16)| {
        [Transport::Tcp, Transport::Udp].map(|transport| portmap::Service {
            program,
            version,
            transport,
            port,
        })
    };
    programs.iter().flat_map(by_both).collect()
}

/// The port of NFS.
pub(super) const NFS_PORT: u16 = 2049;

/// A service, and who else usually has its port.
struct Known {
    name: &'static str,
    instead: &'static str,
}

const TFTP: Known =
    Known { name: "TFTP", instead: "stop the other TFTP server (tftpd-hpa, atftpd, dnsmasq)" };
const HTTP: Known =
    Known { name: "HTTP", instead: "stop the other web server, or choose a port with --http PORT" };
const NFS: Known = Known { name: "NFS", instead: "stop the other NFS server (nfsd, ganesha)" };
const MOUNT: Known = Known { name: "MOUNT", instead: "stop the other NFS server (mountd)" };
const PORTMAP: Known = Known { name: "port mapper", instead: "stop it" };

fn refused(service: &Known, port: u16, error: &io::Error) -> ServeError {
    let trouble = if error.kind() == io::ErrorKind::AddrInUse {
        format!("is in use: {}", service.instead)
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "may not be bound: run netbe as root".to_owned()
    } else if error.kind() == io::ErrorKind::AddrNotAvailable {
        "cannot be bound: this host does not have that address".to_owned()
    } else {
        format!("cannot be bound: {error}")
    };
    let in_use = error.kind() == io::ErrorKind::AddrInUse;
    ServeError::Port { port, service: service.name, in_use, trouble }
}

/// Binds the port that TFTP's requests come to.
pub(super) fn bind_tftp() -> io::Result<Datagrams> {
    datagrams(any4(69))
}

/// Binds the port that what machines say comes to.
pub(super) fn bind_console() -> io::Result<Datagrams> {
    datagrams(any4(console::PORT))
}

fn datagrams(address: SocketAddr) -> io::Result<Datagrams> {
    // Room for a burst of 32 KiB requests from machines that start together.
    let options = BindOptions { buffer: Some(4 << 20), ..BindOptions::default() };
    Datagrams::bind(address, &options)
}

/// How many ports are tried for what nobody expects at a certain one.
const NEAR: u16 = 16;

fn any4(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

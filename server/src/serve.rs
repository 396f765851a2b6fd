//! Starting the server, serving, and ending: the order of things and nothing else.
//!
//! Everything that can be wrong is found before anything is answered: a server that could serve only
//! a part of what it was told to serves nothing, says one sentence and ends.

mod appliance;
mod check;
mod idle;
mod interfaces;
mod notify;
mod parts;
mod ports;
mod preparer;
mod publisher;
mod rehearsal;
mod supervise;
mod teller;
mod watchdog;

use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::geteuid;
use store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet, spawn_blocking};
use tokio::time;

pub use appliance::{Keys, Reread};
pub use interfaces::Interfaces;
pub use rehearsal::rehearse;

use crate::boot::{Booter, Boots, BootsError};
use crate::clock::SystemClock;
use crate::config::{Config, Mode};
use crate::console::Console;
use crate::dhcp::{Bound, Dhcp, JournalError, ListenError, Listener, Lost, Range};
use crate::net::arp;
use crate::net::datagram::Datagrams;
use crate::net::interface::Network;
use crate::net::{neighbour, rpc};
use crate::site::machine::MachineError;
use crate::site::state::{StateDir, StateError, site_key};
use crate::{control, dhcp, http, tftp};
use appliance::Appliance;
use check::check;
use notify::Notifier;
use ports::Ports;
use supervise::{Run, Service};
use watchdog::Sign;

/// Serves until SIGTERM or SIGINT; `reread` gives on SIGHUP what it was told, as it is then.
pub fn run(config: Config, reread: Reread) -> Result<(), ServeError> {
    if !geteuid().is_root() {
        return Err(ServeError::NotRoot);
    }
    refuse_old_kernel()?;
    // Hooks may need what the server gives up here.
    let settings = teller::settings(&config);
    for line in teller::describe(&config)?.iter().filter(|line| line.starts_with("not run")) {
        tracing::error!("{line}");
    }
    let runner = teller::Runner::start(settings.as_ref(), &config).map_err(ServeError::Hooks)?;
    // It acts on threads that are started later, so it comes before all of them.
    if !provision::confine_server().map_err(ServeError::Privileges)? {
        tracing::debug!("this host has no filter of system calls for a server");
    }
    let notifier = Arc::new(Notifier::of_environment());
    if let Err(error) = hostfs::raise_open_files_limit() {
        tracing::warn!("the limit of open files cannot be raised: {error}");
    }
    let network = runtime("network", 2)?;
    // From here on SIGHUP is what `reload` sends, and not the end of a server that still starts.
    let hang_up = {
        let _inside = network.enter();
        signal(SignalKind::hangup()).map_err(ServeError::Runtime)?
    };
    let state = StateDir::open(&config.state)?;
    let _claim = state.claim()?;
    let key = site_key(&state)?;
    settings.clone().unwrap_or_default().store(state.path())?;
    let store = Store::open(&config.store, &config.state)?;
    // Runtimes of their own, so that a stalled disk cannot stop DHCP, nor boot files NFS.
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let (files, http) = (runtime("files", processors)?, runtime("http", processors)?);
    let appliance = Appliance::start(config, reread, state, store, key)?;
    let ports = Ports::bind(&appliance, &network, &files, Arc::clone(appliance.peers()))?;
    let control = {
        let _inside = network.enter();
        let path = appliance.state().socket();
        control::bind(&path).map_err(|error| ServeError::Control { path, error })?
    };
    let (runner, tell) = runner.map(|runner| runner.listen(&appliance)).transpose()?.unzip();
    let ended = network.block_on(async {
        let dhcp = bind(&appliance).await?;
        appliance.set_bound(&dhcp, ports.services(), &ports.servers);
        announce(&appliance.summary()).map_err(ServeError::Output)?;
        let own = tell.map(teller::Tell::service);
        serve(&appliance, ports, dhcp, control, [&files, &http], (hang_up, notifier), own).await
    });
    // The socket of a server that ended must not look like one that was killed.
    let _ = std::fs::remove_file(appliance.state().socket());
    files.shutdown_timeout(GRACE);
    http.shutdown_timeout(GRACE);
    network.shutdown_timeout(GRACE);
    // Hooks that run come to their end, for a while.
    drop(runner);
    ended
}

fn refuse_old_kernel() -> Result<(), ServeError> {
    if hostfs::too_old() { Err(ServeError::Kernel) } else { Ok(()) }
}

fn runtime(name: &str, threads: usize) -> Result<Runtime, ServeError> {
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(threads.max(2)).thread_name(name).enable_all();
    builder.build().map_err(ServeError::Runtime)
}

/// Binds DHCP's ports on every interface.
async fn bind(appliance: &Appliance) -> Result<Vec<Bound>, ServeError> {
    let config = appliance.config();
    let booter = Arc::clone(appliance.boots()) as Arc<dyn Booter>;
    let journal = appliance.state().leases().join("leases.journal");
    let server = Dhcp::open(config.dhcp(), booter, &journal, Arc::new(SystemClock))?;
    let mut bound = Vec::new();
    for interface in appliance.found().all.clone() {
        bound.push(server.bind(interface, mode(&config)).await?);
    }
    appliance.set_dhcp(server);
    Ok(bound)
}

const fn mode(config: &Config) -> dhcp::Mode {
    match config.mode {
        Mode::Passive => dhcp::Mode::Passive,
        Mode::Proxy => dhcp::Mode::Proxy,
        Mode::Serve => dhcp::Mode::Serve,
    }
}

/// DHCP on an interface: what is bound first, and what is bound again when the interface was lost.
fn dhcp_on(appliance: &Arc<Appliance>, bound: Bound) -> Service {
    let (appliance, interface) = (Arc::clone(appliance), bound.interface().name.clone());
    let service = format!("DHCP on {interface}");
    let mut first = Some(bound);
    Service::of(service, move || {
        Box::pin(answer_dhcp(Arc::clone(&appliance), interface.clone(), first.take()))
    })
}

/// Does DHCP on an interface, once it is known whether another server is there. Everything else is
/// answered in the meantime: a machine that lives on its root does not wait for that. An interface
/// that goes away is waited for: bridges, VLANs and taps are made anew while machines run.
async fn answer_dhcp(
    appliance: Arc<Appliance>,
    interface: String,
    mut bound: Option<Bound>,
) -> io::Result<()> {
    let Some(server) = appliance.dhcp().cloned() else { return Ok(()) };
    loop {
        let ready = match bound.take() {
            Some(bound) => bound,
            None => server.bind_again(&interface, mode(&appliance.config())).await,
        };
        let lost = match ready.look().await {
            Ok(listener) => listen_on(&appliance, listener).await,
            Err(lost) => lost,
        };
        appliance.interface_down(&interface);
        tracing::warn!(
            "{interface}: {lost}; DHCP continues there as soon as it has an address again"
        );
    }
}

/// Answers on an interface until it is lost.
async fn listen_on(appliance: &Arc<Appliance>, listener: Listener) -> Lost {
    if let Err(error) = announce(&appliance.interface_up(&listener)) {
        tracing::warn!("standard output cannot be written: {error}");
    }
    if listener.mode() == dhcp::Mode::Passive {
        return listener.run().await;
    }
    let interface = listener.interface().clone();
    tokio::select! {
        lost = listener.run() => lost,
        never = neighbour::advertise(&interface, |mac| appliance.boots().is_loading(mac)) => {
            match never {}
        }
    }
}

/// Serves on all ports until a signal comes.
async fn serve(
    appliance: &Arc<Appliance>,
    ports: Ports,
    dhcp: Vec<Bound>,
    control: tokio::net::UnixListener,
    [files, http]: [&Runtime; 2],
    (hang_up, notifier): (Signal, Arc<Notifier>),
    tell: Option<Service>,
) -> Result<(), ServeError> {
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let own = services(appliance, ports.tftp, control);
    let said = ports.console.map(|socket| console_service(appliance, socket)).transpose()?;
    let boot_files = http_service(appliance, ports.http, &stopping);
    tasks.spawn_on(boot_files.run(stopping.clone()), http.handle());
    let dhcp = dhcp.into_iter().map(|bound| dhcp_on(appliance, bound));
    for service in dhcp.chain(own).chain(said).chain(tell) {
        tasks.spawn(service.run(stopping.clone()));
    }
    let descriptors = Arc::clone(appliance.descriptors());
    let sweep =
        Service::of("closing files", move || Box::pin(idle::close(Arc::clone(&descriptors))));
    let free = Service::of("giving memory back", || Box::pin(idle::give_back()));
    for service in ports.rpc.into_iter().chain([sweep, free]) {
        tasks.spawn_on(service.run(stopping.clone()), files.handle());
    }
    if let Some(period) = notifier.watchdog() {
        let watched = watched(appliance, [files, http], Arc::clone(&notifier), period);
        tasks.spawn(watched.run(stopping.clone()));
    }
    notifier.ready(&appliance.status_line());
    let outcome = signals(appliance, hang_up, &notifier).await;
    tracing::info!("ending");
    notifier.stopping();
    stop.send_replace(true);
    for server in &ports.servers {
        server.stop();
    }
    // Whoever is in the middle of an answer gets it; then it ends in any case.
    let rest = async { while tasks.join_next().await.is_some() {} };
    if time::timeout(GRACE, rest).await.is_err() {
        tracing::warn!("some clients were cut off");
    }
    drop(ports.registration);
    outcome
}

/// What is served in the network's runtime beside DHCP.
fn services(
    appliance: &Arc<Appliance>,
    tftp: Datagrams,
    control: tokio::net::UnixListener,
) -> [Service; 5] {
    let files = Arc::clone(appliance.boots()) as Arc<dyn Booter>;
    let tftp = Service::on("TFTP", tftp, ports::bind_tftp, move |socket| {
        let clock = Arc::new(SystemClock);
        Box::pin(tftp::serve(socket, Arc::clone(&files), tftp::Options::default(), clock))
    });
    let path = appliance.state().socket();
    let controlled = Arc::clone(appliance) as Arc<dyn control::Controlled>;
    let bind = move || control::bind(&path);
    let control = Service::on("the control socket", control, bind, move |listener| {
        Box::pin(control::serve(listener, Arc::clone(&controlled)))
    });
    let waiting = Arc::clone(appliance);
    let stores =
        Service::of("looking for stores", move || Box::pin(wait_for_stores(Arc::clone(&waiting))));
    let boots = Arc::clone(appliance.boots());
    let due = Service::of("telling what is due", move || Box::pin(tell_due(Arc::clone(&boots))));
    let machines = appliance.found().machines(&appliance.config(), &appliance.boots().roster());
    arp::TABLE.begin(machines);
    let neighbours = Service::of("looking for neighbours", || Box::pin(look_for_neighbours()));
    [tftp, control, stores, due, neighbours]
}

/// The receiver of what machines say.
fn console_service(appliance: &Appliance, socket: Datagrams) -> Result<Service, ServeError> {
    let (state, boots) = (appliance.state().path().to_owned(), Arc::clone(appliance.boots()));
    let console = Console::start(state, boots, Arc::new(SystemClock));
    let console = Arc::new(console.map_err(ServeError::Runtime)?);
    let serve = move |socket| -> Run { Box::pin(Arc::clone(&console).serve(socket)) };
    Ok(Service::on("syslog", socket, ports::bind_console, serve))
}

/// HTTP, which may have to wait for a disk now and then.
fn http_service(
    appliance: &Appliance,
    http: TcpListener,
    stopping: &watch::Receiver<bool>,
) -> Service {
    let booter = Arc::clone(appliance.boots()) as Arc<dyn Booter>;
    let options = http::Options::default();
    // Each may have a file open too; half of all descriptors are for what is read and written by NFS.
    let connections = options.connections.min(hostfs::open_files_limit() / 8);
    let per_address = options.per_address.min((connections / 4).max(1));
    let options = http::Options { connections, per_address, grace: GRACE, ..options };
    let (address, closing) = (appliance.config().http, stopping.clone());
    let mut http = Service::on(
        "HTTP",
        http,
        move || rpc::listen(address),
        move |listener| {
            let (booter, mut closing) = (Arc::clone(&booter), closing.clone());
            Box::pin(async move {
                let closed = async move {
                    // It fails when the server is gone, which is an end too.
                    let _ = closing.wait_for(|stop| *stop).await;
                };
                http::serve(listener, booter, options, closed).await;
                Ok(())
            })
        },
    );
    http.ends_itself = true;
    http
}

/// Feeds the service manager's watchdog.
fn watched(
    appliance: &Arc<Appliance>,
    [files, http]: [&Runtime; 2],
    notifier: Arc<Notifier>,
    period: Duration,
) -> Service {
    let (of_locks, network) = (Arc::clone(appliance), Handle::current());
    let signs = Arc::new([
        Sign::runtime("the network", network),
        Sign::runtime("files", files.handle().clone()),
        Sign::runtime("HTTP", http.handle().clone()),
        Sign::locks("boots and DHCP", move || {
            let _ = of_locks.boots().standings();
            let _ = of_locks.dhcp().map(|dhcp| dhcp.foreign());
        }),
        Sign::nfs_by_udp(ports::NFS_PORT),
        Sign::nfs_by_tcp(ports::NFS_PORT),
    ]);
    Service::of("feeding the watchdog", move || {
        let (signs, notifier) = (Arc::clone(&signs), Arc::clone(&notifier));
        Box::pin(async move { match watchdog::feed(&*signs, period, || notifier.alive()).await {} })
    })
}

/// Tells what no later event of a machine would tell.
async fn tell_due(boots: Arc<Boots>) -> io::Result<()> {
    let mut beats = time::interval(DUE_PERIOD);
    loop {
        beats.tick().await;
        boots.tell_due();
    }
}

/// Looks whether the kernel has room for all machines that are sent to.
async fn look_for_neighbours() -> io::Result<()> {
    let mut beats = time::interval(arp::PERIOD);
    loop {
        arp::TABLE.look(beats.tick().await.into_std());
    }
}

/// Looks again now and then for what of the store was not there, and at once for what a client has found
/// to be gone.
async fn wait_for_stores(appliance: Arc<Appliance>) -> io::Result<()> {
    let mut beats = time::interval(STORE_PERIOD);
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            () = appliance.exports().suspects().reported() => {}
        }
        let appliance = Arc::clone(&appliance);
        spawn_blocking(move || appliance.look_again()).await.map_err(io::Error::other)?;
    }
}

/// Waits for SIGTERM or SIGINT; SIGHUP reads everything again, which neither of them waits for.
async fn signals(
    appliance: &Arc<Appliance>,
    mut hang_up: Signal,
    notifier: &Notifier,
) -> Result<(), ServeError> {
    let on = |kind| signal(kind).map_err(ServeError::Runtime);
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut reload: Option<JoinHandle<Result<(), String>>> = None;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            // One at a time: a signal that comes meanwhile is kept.
            _ = hang_up.recv(), if reload.is_none() => {
                notifier.reloading();
                let read = Arc::clone(appliance);
                let again = move || control::Controlled::reconfigure(&*read, false).map(drop);
                reload = Some(spawn_blocking(again));
            }
            outcome = ended(&mut reload) => {
                reload = None;
                match outcome {
                    Ok(Ok(())) => {}
                    Ok(Err(message)) => tracing::error!("{message}"),
                    Err(panic) => tracing::error!("reading everything again failed: {panic}"),
                }
                notifier.ready(&appliance.status_line());
            }
        }
    }
}

/// What came of a task, once it has ended; never, if there is none.
async fn ended<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints what is served where.
fn announce(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Why the server does not start, or has ended, in one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Boots cannot be kept.
    #[error(transparent)]
    Boots(#[from] BootsError),
    /// The control socket cannot be made.
    #[error("{}: the control socket cannot be made: {error}", path.display())]
    Control {
        /// Where.
        path: std::path::PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What netbe.toml says now holds from the next start on.
    #[error("{0} cannot change while the server runs: restart the server")]
    Fixed(Keys),
    /// What runs hooks cannot be started.
    #[error("the process that runs hooks cannot be started: {0}")]
    Hooks(#[source] io::Error),
    /// What was said of hooks cannot be used.
    #[error("hooks: {0}")]
    HookSettings(#[from] hooks::settings::SettingsError),
    /// Interfaces cannot be listed.
    #[error("the network interfaces cannot be listed: {0}")]
    Interfaces(#[source] io::Error),
    /// The journal of leases cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An interface cannot be served.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Machines are not right.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// An interface has no IPv4 address.
    #[error("{0} has no IPv4 address: give it one first, with `ip address add` or `ifconfig`")]
    NoAddress(String),
    /// An interface does not exist.
    #[error("there is no interface {name}: this host has {known}")]
    NoInterface {
        /// What was named.
        name: String,
        /// What there is.
        known: String,
    },
    /// The kernel has no file handles that can be served.
    #[error(
        "netbe serve needs FreeBSD 13.2 or later on this host: older kernels cannot look up the \
         handle of a file below a directory; the machines that boot may run any release"
    )]
    Kernel,
    /// An interface with a range came after the server was started.
    #[error(
        "range {range} lies in a network of {interface}, on which DHCP does not listen yet: restart the \
         server"
    )]
    NotListened {
        /// The range.
        range: Range,
        /// The interface.
        interface: String,
    },
    /// There is nothing to serve on.
    #[error(
        "no interface could hand out addresses: none but the loopback has an IPv4 address; give \
         one an address, then name it with --interface"
    )]
    NoNetwork,
    /// The process is not root's.
    #[error("netbe serve has to be run as root: it opens files by handle and binds low ports")]
    NotRoot,
    /// Nothing could be handed out.
    #[error(
        "mode serve has no addresses to hand out: give some with --range A-B, or reserve one for a machine \
         with `netbe machine set --address`"
    )]
    NothingToHandOut,
    /// Standard output is closed.
    #[error("standard output cannot be written: {0}")]
    Output(#[source] io::Error),
    /// A port cannot be had.
    #[error("port {port} ({service}) {trouble}")]
    Port {
        /// The port.
        port: u16,
        /// For what.
        service: &'static str,
        /// Whether somebody has it.
        in_use: bool,
        /// What is wrong and what to do.
        trouble: String,
    },
    /// The port mapper of the host does not take our programs.
    #[error(transparent)]
    Portmap(#[from] crate::nfs::portmap::RegisterError),
    /// What is not needed of the superuser's privileges cannot be given up.
    #[error("the privileges that the server does not need cannot be given up: {0}")]
    Privileges(#[source] io::Error),
    /// A range does not belong to a network that is served.
    #[error("range {range} lies in no network that is served: {networks}")]
    RangeOutside {
        /// The range.
        range: Range,
        /// What is served.
        networks: String,
    },
    /// An address of ours would be handed out.
    #[error("range {range} holds {address}, this host's own address: leave it out")]
    RangeOwn {
        /// The range.
        range: Range,
        /// Our address.
        address: Ipv4Addr,
    },
    /// The router is out of the machines' reach.
    #[error(
        "router {router} lies in no network that is served: {networks}; a machine reaches only a router of \
         its own network"
    )]
    RouterOutside {
        /// The router.
        router: Ipv4Addr,
        /// What is served.
        networks: String,
    },
    /// A subnet is nearly that of an interface.
    #[error(
        "subnet {subnet} shares addresses with {network} of {interface}, but is another network: \
         write the prefix that the interface has, or change the interface's"
    )]
    SubnetUnlike {
        /// The subnet.
        subnet: Network,
        /// The interface.
        interface: String,
        /// Its network.
        network: Network,
    },
    /// What the server was told cannot be read again.
    #[error("{0}")]
    Reread(String),
    /// The system gives no threads or no signals.
    #[error("the server cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The secret of a webhook, or the token of Consul, cannot be used.
    #[error(transparent)]
    Secret(hooks::Untrusted),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How often it is looked for a pool that is not imported yet, or a key that is not loaded.
const STORE_PERIOD: Duration = Duration::from_secs(10);

/// How often machines are looked at of which something may be left to tell.
const DUE_PERIOD: Duration = Duration::from_secs(1);

/// How long clients may take to get what they were promised when the server ends.
const GRACE: Duration = Duration::from_secs(3);

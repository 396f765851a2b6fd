//! The running server as a whole: what it was told, what it serves, and how it reads that again.

mod reread;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::ops::Add as _;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use hostfs::Descriptors;
use store::{EnvironmentName, Store};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::publisher::{Publisher, Scope};
use super::{Interfaces, ServeError, lock, preparer};
use crate::boot::catalog::Catalog;
use crate::boot::decide::{Awaited, Writers};
use crate::boot::loader::{HostLoaders, SEARCH_PATH};
use crate::boot::usage::{Usage, User};
use crate::boot::{BootId, Boots, Order, Sources};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::control::{
    Controlled, Explanation, Holding, InterfaceStatus, Living, MachineStatus, Seen, Status, Visitor,
};
use crate::dhcp::{Bound, Dhcp, Listener, Mode, Timestamp};
use crate::net::interface::Interface;
use crate::net::rpc::{Counts, Peers, Server};
use crate::nfs::export::{Exports, SiteKey};
use crate::site::configured::Configured;
use crate::site::events::{Event, Events, journal};
use crate::site::machine::{self, MachineName, Roster};
use crate::site::state::StateDir;
pub use reread::{Keys, Reread};

use provision::roots::{Roots, Term};

/// The running server.
pub(super) struct Appliance {
    config: ArcSwap<Config>,
    /// Reads that again.
    reread: Reread,
    found: Interfaces,
    state: StateDir,
    store: Arc<Store>,
    exports: Arc<Exports>,
    descriptors: Arc<Descriptors>,
    publisher: Publisher,
    boots: Arc<Boots>,
    /// The connections of RPC clients.
    peers: Arc<Peers>,
    started: Instant,
    dhcp: OnceLock<Arc<Dhcp>>,
    services: OnceLock<Vec<String>>,
    /// The servers of RPC programs.
    servers: OnceLock<Vec<Arc<Server>>>,
    interfaces: Mutex<Vec<InterfaceStatus>>,
    /// Held while machines are read again.
    reading: Mutex<()>,
    /// Why they could not be.
    unread: Mutex<Option<String>>,
}

impl Appliance {
    /// Reads machines, boots and environments, and shares the environments.
    pub(super) fn start(
        config: Config,
        reread: Reread,
        state: StateDir,
        store: Store,
        key: [u8; 16],
    ) -> Result<Arc<Self>, ServeError> {
        machine::finish_renaming(&state)?;
        let roster = load(&config, &state)?;
        let found = Interfaces::of(&config, &roster)?;
        Configured::new(&config, &found.addresses(&config)).store(&state)?;
        let (orders, ordered) = mpsc::channel();
        let usage = Arc::new(Usage::new(Instant::now()));
        let events = Arc::new(Events::new(Arc::new(SystemClock)));
        journal::start(state.path(), events.subscribe()).map_err(ServeError::Runtime)?;
        let boots = Boots::open(Sources {
            catalog: Catalog::start().map_err(ServeError::Runtime)?,
            loaders: HostLoaders::search(SEARCH_PATH),
            http_port: config.http.port(),
            roster,
            state: Arc::new(state.clone()),
            clock: Arc::new(SystemClock),
            // Without random bytes there was no site key either, and the server would not be here.
            random: Box::new(|| getrandom::u64().unwrap_or_default()),
            usage: Arc::clone(&usage),
            events,
            // The thread that takes them ends only with the server.
            orders: Box::new(move |order| drop(orders.send(order))),
        })?;
        let (boots, store) = (Arc::new(boots), Arc::new(store));
        let exports = Arc::new(Exports::new(SiteKey::new(key), usage));
        let descriptors = Arc::new(Descriptors::within_limits());
        let publisher = Publisher::new(
            Arc::clone(&store),
            state.clone(),
            Arc::clone(&exports),
            Arc::clone(&descriptors),
            Arc::clone(&boots),
        )?;
        let appliance = Arc::new(Self {
            config: ArcSwap::from_pointee(config),
            reread,
            found,
            state,
            store,
            exports,
            descriptors,
            publisher,
            boots,
            peers: Arc::default(),
            started: Instant::now(),
            dhcp: OnceLock::new(),
            services: OnceLock::new(),
            servers: OnceLock::new(),
            interfaces: Mutex::default(),
            reading: Mutex::default(),
            unread: Mutex::default(),
        });
        // What cannot be read now is tried again, and told meanwhile: machines that run wait for it.
        let _ = appliance.publisher.publish(Scope::All);
        preparer::start(ordered, &Arc::downgrade(&appliance)).map_err(ServeError::Runtime)?;
        Ok(appliance)
    }

    /// What it was told.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// The interfaces that were found when the server started.
    pub(super) const fn found(&self) -> &Interfaces {
        &self.found
    }

    pub(super) const fn state(&self) -> &StateDir {
        &self.state
    }

    pub(super) const fn boots(&self) -> &Arc<Boots> {
        &self.boots
    }

    pub(super) const fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    pub(super) const fn exports(&self) -> &Arc<Exports> {
        &self.exports
    }

    pub(super) const fn descriptors(&self) -> &Arc<Descriptors> {
        &self.descriptors
    }

    /// The DHCP server, once its ports are bound.
    pub(super) fn dhcp(&self) -> Option<&Arc<Dhcp>> {
        self.dhcp.get()
    }

    /// Keeps the DHCP server, to ask it whom it heard.
    pub(super) fn set_dhcp(&self, dhcp: Arc<Dhcp>) {
        // It is told once.
        let _ = self.dhcp.set(dhcp);
    }

    /// Notes what was bound.
    pub(super) fn set_bound(&self, dhcp: &[Bound], services: Vec<String>, servers: &[Arc<Server>]) {
        let looking = |bound: &Bound| interface_status(bound.interface(), LOOKING, None);
        *lock(&self.interfaces) = dhcp.iter().filter_map(looking).collect();
        // It is told once.
        let _ = self.services.set(services);
        let _ = self.servers.set(servers.to_vec());
    }

    /// Notes what DHCP does on an interface, now that it is known who else is there; returns it in
    /// a line for the administrator.
    pub(super) fn interface_up(&self, dhcp: &Listener) -> String {
        let mode = match dhcp.mode() {
            Mode::Looking => LOOKING,
            Mode::Passive => "passive",
            Mode::Proxy => "proxy",
            Mode::Serve => "serve",
        };
        let Some(now) = interface_status(dhcp.interface(), mode, dhcp.foreign()) else {
            return String::new();
        };
        let lines = self.describe(&now, dhcp.interface());
        let mut interfaces = lock(&self.interfaces);
        if let Some(known) = interfaces.iter_mut().find(|known| known.name == now.name) {
            *known = now;
        }
        lines
    }

    /// Notes that an interface is not listened on until it is there again.
    pub(super) fn interface_down(&self, name: &str) {
        let mut interfaces = lock(&self.interfaces);
        if let Some(known) = interfaces.iter_mut().find(|known| known.name == name) {
            "absent".clone_into(&mut known.mode);
        }
    }

    fn describe(&self, status: &InterfaceStatus, interface: &Interface) -> String {
        let InterfaceStatus { name, address, mode, foreign } = status;
        match foreign {
            Some(foreign) => format!(
                "  DHCP {name} {address}: silent, because another DHCP server, {foreign}, answers \
                 there; stop it and start netbe again, or boot machines beside it with `{}`\n",
                self.config().beside(name)
            ),
            None if mode == "proxy" => format!(
                "  DHCP {name} {address}: sends boot files to machines; another DHCP server has to hand out \
                 the addresses\n"
            ),
            None if mode == "serve" => {
                let config = self.config();
                let networks = interface.networks.iter().map(|network| {
                    let address = network.address;
                    let handed_out = Interfaces::handed_out(&config, *network);
                    format!("  DHCP {name} {address}: serves {handed_out}\n")
                });
                networks.collect()
            }
            None => format!(
                "  DHCP {name} {address}: listens and hands out nothing; add --mode serve \
                 --range A-B to serve, or --mode proxy beside another DHCP server\n"
            ),
        }
    }

    /// What is served where, for the administrator who has just started it; DHCP's lines follow,
    /// as it becomes known who else serves.
    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        let version = env!("CARGO_PKG_VERSION");
        let (state, config) = (self.state.path().display(), self.config());
        // Writing to a string does not fail.
        let _ = writeln!(text, "netbe {version} serves {} (state {state})", config.store);
        for service in self.services.get().into_iter().flatten() {
            let _ = writeln!(text, "  {service}");
        }
        let names = self.boots.catalog().names();
        let roster = self.boots.roster();
        let default = roster.default_environment().map_or_else(
            || "unknown machines boot nothing".to_owned(),
            |name| match names.iter().any(|known| known == name) {
                true => format!("unknown machines boot {name}, read-only"),
                false => format!("unknown machines boot nothing, because {name} does not exist"),
            },
        );
        let count = roster.iter().count();
        let _ = match names.as_slice() {
            [] => writeln!(text, "  no boot environment yet: create one with `netbe create`"),
            names => writeln!(text, "  boot environments: {}", names.join(", ")),
        };
        let _ = writeln!(text, "  named machines: {count}; {default}");
        for relayed in self.found.describe_relayed(&config) {
            let _ = writeln!(text, "  {relayed}");
        }
        for stray in self.found.addresses(&config).strays(&roster) {
            let _ = writeln!(text, "  not handed out: {stray}");
        }
        let environments = names.iter().filter_map(|name| self.boots.catalog().named(name));
        for known in environments {
            if let Some(writers) = Writers::of(&roster, &known.name, known.read_only) {
                let _ = writeln!(text, "  several write: {writers}");
            }
        }
        if let Some(shortage) = self.found.shortage(&config, &roster) {
            let _ = writeln!(text, "  too many machines: {shortage}");
        }
        for reason in self.publisher.unserved() {
            let _ = writeln!(text, "  not served: {reason}");
        }
        text
    }

    /// What is served, in a line for who supervises the server.
    pub(super) fn status_line(&self) -> String {
        let (environments, roster) = (self.boots.catalog().names().len(), self.boots.roster());
        let machines = roster.iter().count();
        let config = self.config();
        let store = &config.store;
        format!("serving {store}: boot environments {environments}, named machines {machines}")
    }

    /// Makes a root for a machine, or finds the one that was made meanwhile, and serves it; gives its
    /// name.
    fn make_root(&self, machine: &MachineName, root: &Awaited) -> Result<String, String> {
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let roots = Roots::new(&self.store, self.state.path());
        let template = root.template.parse().map_err(|error: store::NameError| told(&error))?;
        if !root.fresh
            && let Some(own) =
                roots.own(machine.as_str(), &root.template).map_err(|error| told(&error))?
        {
            self.publish(Scope::Named(std::slice::from_ref(&own.name)))?;
            return Ok(own.name.to_string());
        }
        let term = if root.fresh { Term::Boot } else { Term::Kept };
        let made = roots.make(machine.as_str(), &template, term).map_err(|error| told(&error))?;
        self.publish(Scope::Named(std::slice::from_ref(&made.name)))?;
        Ok(made.name.to_string())
    }

    /// Destroys the roots for one boot of a machine whose boots are over and on which nobody lives.
    /// What cannot be destroyed now is tried again when the machine boots again.
    fn retire_roots(&self, machine: &MachineName) {
        let roots = match Roots::new(&self.store, self.state.path()).fresh(machine.as_str()) {
            Ok(roots) => roots,
            Err(error) => return tracing::warn!("the old roots of {machine} stay: {error}"),
        };
        for root in roots.iter().filter(|root| !self.boots.is_root(root.uuid)) {
            if let Err(error) = self.retire(root) {
                tracing::warn!("{} cannot be destroyed: {error}", root.name);
            }
        }
    }

    /// Asks whether the system of a boot still lives at this address, and tells the boots.
    fn ask(&self, address: Ipv4Addr, boot: BootId) {
        let boots = Arc::clone(&self.boots);
        let answer = move |life| boots.answered(boot, life);
        self.peers.ask(address.into(), SIGN_OF_LIFE, Box::new(answer));
    }

    /// Who lives on these environments.
    fn living(&self, environments: impl IntoIterator<Item = Uuid>) -> Living {
        let now = Instant::now();
        let mut living = Living::default();
        for environment in environments {
            living.machines.extend(self.boots.living_on(environment));
            for User { address, seen: at } in self.exports.usage().of(environment, now) {
                let seen = now.saturating_duration_since(at).as_secs_f64();
                let name = self.boots.visitor(address, environment, at);
                living.visitors.extend(name.map(|name| Visitor { name, seen }));
            }
        }
        living
    }

    /// Destroys a root for one boot, unless somebody lives on it.
    fn retire(&self, root: &store::Environment) -> Result<(), String> {
        let Ok(holding) = Controlled::hold(self, root.name.as_str(), false)? else {
            return Ok(());
        };
        let destroyed = self.store.destroy(&root.name).map_err(|error| error.to_string());
        if destroyed.is_ok() {
            self.publisher.end(&holding.environments, root.name.as_str());
        }
        self.resume(&holding, &[])?;
        destroyed
    }

    fn publish(&self, scope: Scope<'_>) -> Result<(), String> {
        self.publisher.publish(scope).map_err(|error| error.to_string())
    }

    /// Notes that a machine has begun to boot what it was to boot once.
    fn spend(&self, machine: &MachineName, once: &str) -> Result<(), ServeError> {
        let alone = self.state.hold()?;
        machine::spend(&self.state, machine, once)?;
        drop(alone);
        self.read_machines()
    }

    /// Looks whether the store is still there, and again for what was not.
    pub(super) fn look_again(&self) {
        self.publisher.look_again();
        if lock(&self.unread).is_some()
            && let Err(error) = self.read_machines()
        {
            tracing::debug!("{error}");
        }
    }

    /// Reads the machines again.
    fn read_machines(&self) -> Result<(), ServeError> {
        // It may wait for a command that changes machines: nobody waits for us meanwhile.
        let finished = machine::finish_renaming(&self.state);
        let _alone = lock(&self.reading);
        let config = self.config();
        let roster = finished
            .map_err(ServeError::from)
            .and_then(|()| load(&config, &self.state))
            .inspect_err(|error| *lock(&self.unread) = Some(error.to_string()))?;
        *lock(&self.unread) = None;
        for stray in self.found.addresses(&config).strays(&roster) {
            tracing::warn!("{stray}");
        }
        self.boots.set_roster(roster);
        Ok(())
    }
}

impl preparer::Orders for Appliance {
    fn carry_out(&self, order: Order) {
        match order {
            Order::Make { machine, root } => {
                self.boots.prepare(&machine, &root, || self.make_root(&machine, &root));
                // The machine goes on while what it had before is destroyed.
                if root.fresh {
                    self.retire_roots(&machine);
                }
            }
            Order::Retire { machine } => self.retire_roots(&machine),
            Order::Spent { machine, once } => {
                if let Err(error) = self.spend(&machine, &once) {
                    tracing::error!("{machine} may boot {once} more than once: {error}");
                }
            }
            Order::Ask { address, boot } => self.ask(address, boot),
        }
    }
}

impl Controlled for Appliance {
    fn status(&self) -> Status {
        let heard = self.dhcp.get().map(|dhcp| dhcp.foreign()).unwrap_or_default();
        let mut interfaces = lock(&self.interfaces).clone();
        for interface in &mut interfaces {
            let foreign = heard.iter().rev().find(|foreign| foreign.interface == interface.name);
            interface.foreign =
                interface.foreign.or_else(|| foreign.map(|foreign| foreign.address));
        }
        let now = Timestamp::from(SystemClock.wall());
        let leased = self.dhcp.get().map_or_else(Vec::new, |dhcp| dhcp.bindings());
        let leased = leased.iter().filter(|binding| binding.is_leased(now)).count();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            up: self.started.elapsed().as_secs_f64(),
            services: self.services.get().cloned().unwrap_or_default(),
            interfaces,
            leased,
            environments: self.boots.catalog().names(),
            unserved: lock(&self.unread).iter().cloned().chain(self.publisher.unserved()).collect(),
            rpc: {
                let servers = self.servers.get().into_iter().flatten();
                servers.map(|server| server.counts()).fold(Counts::default(), Counts::add)
            },
            machines: self.boots.standings().into_iter().map(MachineStatus::from).collect(),
        }
    }

    fn explain(&self, machine: &str) -> Result<Explanation, String> {
        let (standing, seen) = self.boots.explained(machine).ok_or_else(|| {
            format!("the server has not seen {machine}: `netbe status` shows the machines that it has seen")
        })?;
        let (now, wall) = (SystemClock.now(), SystemClock.wall());
        let wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let at = |at: Instant| wall - now.saturating_duration_since(at).as_secs_f64();
        let evidence = seen.into_iter().map(|one| {
            let (first, last) = (at(one.at), at(one.last));
            Seen { at: first, last, times: one.times, text: one.text }
        });
        Ok(Explanation { machine: standing.into(), evidence: evidence.collect() })
    }

    fn reload(&self, environments: Option<&[String]>) -> Result<(), String> {
        // An environment has to be there before a machine is told to boot it.
        let published = match environments {
            None => self.publish(Scope::All),
            Some([]) => Ok(()),
            Some(changed) => self.publish(Scope::Named(&names(changed)?)),
        };
        self.read_machines().map_err(|error| error.to_string())?;
        published?;
        if environments.is_none() {
            tracing::info!("machines, environments and exports were read again");
        }
        Ok(())
    }

    fn reconfigure(&self, dry: bool) -> Result<Vec<String>, String> {
        Ok(self.reread(dry)?.into_iter().map(str::to_owned).collect())
    }

    fn living_on(&self, environment: &str) -> Result<Living, String> {
        // Whoever lives on what is not served just now waits for it.
        let roots = self.publisher.needing(&name(environment)?);
        roots.map(|roots| self.living(roots)).map_err(|error| error.to_string())
    }

    fn hold(&self, environment: &str, force: bool) -> Result<Result<Holding, Living>, String> {
        let name = name(environment)?;
        let environments = self.publisher.needing(&name).map_err(|error| error.to_string())?;
        let living = || {
            let living = self.living(environments.iter().copied());
            (!force && !living.is_nobody()).then_some(living)
        };
        if let Some(living) = self.publisher.hold(&environments, living) {
            return Ok(Err(living));
        }
        let holding = Holding { name, environments };
        match self.publisher.close_held(&holding.environments, &holding.name, force) {
            Ok(()) => Ok(Ok(holding)),
            Err(error) => {
                // It could not be unmounted; whatever can be served of it is served again.
                let _ = self.resume(&holding, &[]);
                Err(error.to_string())
            }
        }
    }

    fn resume(&self, holding: &Holding, environments: &[String]) -> Result<(), String> {
        let mut changed = vec![holding.name.clone()];
        let named = names(environments).map(|names| changed.extend(names));
        let resumed = self.publisher.resume(&holding.environments, &changed);
        let machines = self.read_machines().map_err(|error| error.to_string());
        resumed.map_err(|error| error.to_string()).and(named).and(machines)
    }

    fn detach(&self) -> Result<Living, String> {
        // Whoever has an export holds its files open, which must be none below.
        let open = self.exports.all_open().into_iter().map(|export| export.environment);
        let living = self.living(open);
        self.publisher.detach().map_err(|error| error.to_string())?;
        Ok(living)
    }

    fn attach(&self) -> Result<(), String> {
        let attached = self.publisher.attach().map_err(|error| error.to_string());
        self.read_machines().map_err(|error| error.to_string())?;
        attached
    }

    fn watch(&self) -> broadcast::Receiver<Arc<Event>> {
        self.boots.events().subscribe()
    }
}

/// Reads the machines of the configuration and of the state.
fn load(config: &Config, state: &StateDir) -> Result<Roster, ServeError> {
    let default = config.default.as_ref().map(EnvironmentName::as_str);
    Ok(Roster::load(state, &config.machines, default)?)
}

/// What is done on an interface, if it still has an address.
fn interface_status(
    interface: &Interface,
    mode: &str,
    foreign: Option<Ipv4Addr>,
) -> Option<InterfaceStatus> {
    let (name, mode) = (interface.name.clone(), mode.to_owned());
    let address = interface.networks.first()?.address;
    Some(InterfaceStatus { name, address, mode, foreign })
}

fn name(text: &str) -> Result<EnvironmentName, String> {
    text.parse().map_err(|error: store::NameError| error.to_string())
}

fn names(texts: &[String]) -> Result<Vec<EnvironmentName>, String> {
    texts.iter().map(|text| name(text)).collect()
}

/// What is done on an interface until it is known whether another server is there.
const LOOKING: &str = "looking";

/// How long it may take until it is known whether a system lives: TCP asks several times.
const SIGN_OF_LIFE: Duration = Duration::from_secs(12);

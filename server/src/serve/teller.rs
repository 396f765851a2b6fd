//! What happens at the site, told to the process that runs hooks.
//!
//! The events of boots are told as they come, some at a time; that a machine is up or lost is found by looking at
//! all machines every few seconds. Whoever emits an event waits for nobody: between this and the other process there
//! is a bounded channel, and a thread that alone waits for the process to read.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, SystemTime};

use hooks::consul::{Life, Machine};
use hooks::runner::{Feed, Message, Start};
use hooks::settings::DEFAULT_DIRECTORY;
use hooks::{Event as Told, Occasion, Settings, directory};
use tokio::sync::broadcast::error::RecvError;
use tokio::time;

use super::ServeError;
use super::appliance::Appliance;
use super::supervise::Service;
use crate::boot::{BootId, Booter as _, Boots};
use crate::config::Config;
use crate::control::MachineStatus;
use crate::site::events::{Event, Kind, Stage};

/// What holds for hooks; `None` if nothing was written of them and nothing lies where they lie by themselves.
pub(super) fn settings(config: &Config) -> Option<Settings> {
    let lies_there = || Path::new(DEFAULT_DIRECTORY).is_dir().then(Settings::default);
    config.hooks.clone().or_else(lies_there)
}

/// What is to be told to whom, in lines; a secret that cannot be used keeps a server from starting.
pub(super) fn describe(config: &Config) -> Result<Vec<String>, ServeError> {
    let mut lines = Vec::new();
    let settings = settings(config);
    for webhook in settings.iter().flat_map(|settings| &settings.webhooks) {
        webhook.check().map_err(ServeError::Secret)?;
        lines.push(format!("webhook            {}", webhook.url.as_str()));
    }
    for (settings, occasion) in settings.iter().flat_map(|one| Occasion::ALL.map(|at| (one, at))) {
        match directory::own(settings, occasion) {
            Ok(steps) => {
                lines.extend(steps.iter().map(|step| format!("hook               {}", step.name)));
            }
            Err(error) => lines.push(format!("not run            {occasion}: {error}")),
        }
    }
    if let Some(consul) = &config.consul {
        consul.check().map_err(ServeError::Secret)?;
        lines.push(format!("Consul             {}", consul.url.as_str()));
    }
    Ok(lines)
}

/// The process that runs hooks, before the server serves. Dropped, it is waited for.
pub(super) struct Runner {
    /// Before `runner`, which ends only when this is closed: fields are dropped in their order.
    feed: Feed,
    runner: hooks::runner::Runner,
    unknown: bool,
    /// Whether Consul has the machines.
    in_consul: bool,
}

impl Runner {
    /// Starts the process, with the privileges that this one has now, if there is anything for it to do.
    pub(super) fn start(settings: Option<&Settings>, config: &Config) -> io::Result<Option<Self>> {
        if settings.is_none() && config.consul.is_none() {
            return Ok(None);
        }
        let settings = settings.cloned().unwrap_or_default();
        let (unknown, consul) = (settings.unknown, config.consul.clone());
        let in_consul = consul.is_some();
        let start = Start { settings, consul, state: config.state.clone() };
        let (runner, feed) = hooks::runner::Runner::start(&provision::program()?, &start)?;
        Ok(Some(Self { feed, runner, unknown, in_consul }))
    }

    /// Starts the thread that writes to it, and gives what tells that.
    pub(super) fn listen(
        self,
        appliance: &Appliance,
    ) -> Result<(hooks::runner::Runner, Tell), ServeError> {
        let (sender, receiver) = mpsc::sync_channel(WAITING);
        let feed = self.feed;
        let writer = thread::Builder::new().name("hooks".to_owned());
        writer.spawn(move || write(feed, &receiver)).map_err(ServeError::Runtime)?;
        let boots = Arc::clone(appliance.boots());
        let (unknown, in_consul) = (self.unknown, self.in_consul);
        Ok((self.runner, Tell { boots, sender, unknown, in_consul }))
    }
}

/// Writes to the process until there is nothing more to be written.
fn write(mut feed: Feed, messages: &Receiver<Message>) {
    while let Ok(message) = messages.recv() {
        if let Err(error) = feed.send(&message) {
            tracing::error!(
                "no hook is run any more, because the process that runs them has ended ({error}): start \
                 netbe again"
            );
            break;
        }
    }
    // Whoever sends is not to find a channel that is full.
    while messages.recv().is_ok() {}
}

/// Tells what happens.
#[derive(Clone)]
pub(super) struct Tell {
    boots: Arc<Boots>,
    sender: SyncSender<Message>,
    /// Whether machines without a name are told of.
    unknown: bool,
    /// Whether it is told how machines stand.
    in_consul: bool,
}

impl Tell {
    /// It, as a service.
    pub(super) fn service(self) -> Service {
        Service::of("telling hooks", move || Box::pin(self.clone().run()))
    }

    async fn run(self) -> io::Result<()> {
        let mut events = self.boots.events().subscribe();
        let (mut heard, mut machines) = (Vec::new(), Machines::default());
        let mut beats = time::interval(BEAT);
        beats.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut beat = 0_u32;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => {
                        if occasion(&event, self.unknown).is_some() && heard.len() < WAITING {
                            heard.push(event);
                        }
                    }
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!("{missed} events were too many at once: their hooks are not run");
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = beats.tick() => {
                    beat = beat.wrapping_add(1);
                    let looks = beat.is_multiple_of(LOOK);
                    if heard.is_empty() && !looks {
                        continue;
                    }
                    let known = self.standings();
                    let told = heard.drain(..).filter_map(|event| told(&event, self.unknown, &known));
                    told.for_each(|event| self.send(Message::Event(event)));
                    if looks {
                        let found = machines.compare(&known, self.unknown);
                        found.into_iter().for_each(|event| self.send(Message::Event(event)));
                        if self.in_consul {
                            self.send(Message::Machines(machines.living(&known)));
                        }
                    }
                }
            }
        }
    }

    /// How machines stand, by name or Ethernet address.
    fn standings(&self) -> HashMap<String, Standing> {
        let standings = self.boots.standings().into_iter();
        let named = standings.map(|standing| {
            let named = standing.name.is_some();
            let status = MachineStatus::from(standing);
            let lives = status.address.is_some_and(|address| self.boots.lives(address));
            (status.name.clone(), Standing { named, lives, status })
        });
        named.collect()
    }

    fn send(&self, message: Message) {
        match self.sender.try_send(message) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            // The next one has it too.
            Err(TrySendError::Full(Message::Machines(_))) => {}
            Err(TrySendError::Full(Message::Event(event))) => tracing::warn!(
                "{}: the process that runs hooks does not read: {} is left out",
                event.machine,
                event.event
            ),
        }
    }
}

/// How a machine stands.
struct Standing {
    named: bool,
    /// Whether it has a root that lives.
    lives: bool,
    status: MachineStatus,
}

/// What hooks there are of an event.
fn occasion(event: &Event, unknown: bool) -> Option<Occasion> {
    let occasion = match event.kind {
        Kind::AddressLeased => Occasion::Leased,
        Kind::RootMounted => Occasion::Mounted,
        Kind::AddressUnavailable | Kind::BootRefused | Kind::RootRefused => Occasion::Refused,
        Kind::AddressDeclined
        | Kind::AddressOffered
        | Kind::AddressRefused
        | Kind::AddressReleased
        | Kind::AddressRequested
        | Kind::BootBegan
        | Kind::BootEnded
        | Kind::Contradiction
        | Kind::EnvironmentGone
        | Kind::EnvironmentHeld
        | Kind::EnvironmentResumed
        | Kind::EnvironmentUnserved
        | Kind::EnvironmentsServed
        | Kind::FileFailed
        | Kind::FileProbed
        | Kind::FileSent
        | Kind::ForeignServer
        | Kind::KernelPanicked
        | Kind::Notice
        | Kind::RootFailed
        | Kind::RootReady
        | Kind::RootUnmounted
        | Kind::RootUsed
        | Kind::TwoMachines => return None,
    };
    (event.machine.is_some() && (event.named || unknown)).then_some(occasion)
}

/// An event in the words of hooks.
fn told(event: &Event, unknown: bool, known: &HashMap<String, Standing>) -> Option<Told> {
    let (occasion, machine) = (occasion(event, unknown)?, event.machine.as_ref()?);
    let at = event.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let standing = known.get(machine);
    let mut told = Told::new(occasion, machine);
    if let Some(standing) = standing {
        standing.describe(&mut told);
    }
    told.at = at;
    told.named = event.named;
    told.environment = event.environment.clone().or(told.environment);
    told.boot = event.boot.map(|boot| boot.to_string()).or(told.boot);
    told.text.clone_from(&event.text);
    Some(told)
}

impl Standing {
    fn describe(&self, told: &mut Told) {
        let status = &self.status;
        told.named = self.named;
        told.mac = status.mac.map(|mac| mac.to_string());
        told.address = status.address;
        told.environment.clone_from(&status.environment);
        told.boot = status.boot.map(|boot| boot.to_string());
    }

    fn tell(&self, occasion: Occasion, text: &str) -> Told {
        let mut told = Told::new(occasion, &self.status.name);
        self.describe(&mut told);
        text.clone_into(&mut told.text);
        told
    }
}

/// Which machines are up.
#[derive(Default)]
struct Machines {
    known: HashMap<String, Known>,
}

/// What was found of a machine when it was looked at last.
#[derive(Clone, Copy)]
struct Known {
    boot: Option<BootId>,
    is: Is,
    /// How often in a row its root was found not to live.
    dead: u32,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Is {
    /// Its system works on its root.
    Up,
    /// Nothing was heard of it since the server was started; it may have been up before.
    Unheard,
    /// Anything else.
    Down,
}

impl Machines {
    /// Gives who is up now and who is lost since this was asked before. A machine that was up when the server ended
    /// and goes on is not up anew.
    fn compare(&mut self, standings: &HashMap<String, Standing>, unknown: bool) -> Vec<Told> {
        let mut told = Vec::new();
        let before = std::mem::take(&mut self.known);
        for (name, standing) in standings {
            if !standing.named && !unknown {
                continue;
            }
            let before = before.get(name).copied();
            let before = before.unwrap_or(Known { boot: None, is: Is::Down, dead: 0 });
            let now = Self::of(standing, before);
            let same = now.boot == before.boot;
            match (before.is, now.is) {
                (Is::Unheard, Is::Up) if same => {}
                (Is::Down | Is::Unheard, Is::Up) => {
                    told.push(standing.tell(Occasion::Up, "its system works on its root"));
                }
                (Is::Up, Is::Up) if !same => {
                    told.push(
                        standing.tell(Occasion::Lost, "its boot is over: it has booted again"),
                    );
                    told.push(standing.tell(Occasion::Up, "its system works on its root"));
                }
                (Is::Up, Is::Down) => {
                    told.push(standing.tell(Occasion::Lost, lost(standing)));
                }
                (Is::Unheard, Is::Down) if standing.status.stage == Stage::Lost => {
                    told.push(standing.tell(Occasion::Lost, lost(standing)));
                }
                (Is::Up, Is::Up | Is::Unheard)
                | (Is::Unheard, Is::Unheard | Is::Down)
                | (Is::Down, Is::Down | Is::Unheard) => {}
            }
            self.known.insert(name.clone(), now);
        }
        told
    }

    /// The named machines that were up when this was compared last, or of which nothing was heard since the server was
    /// started; those without an address can be found by nobody.
    fn living(&self, standings: &HashMap<String, Standing>) -> Vec<Machine> {
        let named = standings.iter().filter(|(_, standing)| standing.named);
        let machine = |(name, standing): (&String, &Standing)| {
            let MachineStatus { address, mac, environment, stage, seen, .. } = &standing.status;
            let life = match self.known.get(name)?.is {
                Is::Up if *stage == Stage::Idle => Life::Idle,
                Is::Up => Life::Up,
                Is::Unheard => Life::Unheard,
                Is::Down => return None,
            };
            let (mac, environment) = (mac.map(|mac| mac.to_string()), environment.clone());
            Some(Machine {
                name: name.clone(),
                address: (*address)?,
                mac,
                environment,
                life,
                seen: *seen,
            })
        };
        let mut living: Vec<_> = named.filter_map(machine).collect();
        living.sort_by(|one, other| one.name.cmp(&other.name));
        living
    }

    fn of(standing: &Standing, before: Known) -> Known {
        let MachineStatus { boot, stage, .. } = standing.status;
        let works = matches!(stage, Stage::Running | Stage::Idle);
        // Anybody can begin a boot in its name: it goes on beside that until it is found to be dead.
        if before.is == Is::Up && stage < Stage::Root && standing.lives {
            return Known { dead: 0, ..before };
        }
        // One forged message can have a root look dead; a system that lives calls again.
        let dead = if works && !standing.lives { before.dead.saturating_add(1) } else { 0 };
        let is = if stage == Stage::Unheard {
            Is::Unheard
        } else if works && dead < DEAD {
            Is::Up
        } else {
            Is::Down
        };
        Known { boot, is, dead }
    }
}

/// Why a machine is lost.
fn lost(standing: &Standing) -> &'static str {
    let stage = standing.status.stage;
    if stage == Stage::Lost {
        "it has not used its root for ten minutes"
    } else if matches!(stage, Stage::Running | Stage::Idle) {
        "it has ended its use of its root"
    } else {
        "its boot is over: it begins anew"
    }
}

/// What waits for the other process, at most.
const WAITING: usize = 4096;

/// How often events are told.
const BEAT: Duration = Duration::from_millis(250);

/// After how many beats machines are looked at.
const LOOK: u32 = 8;

/// A root that was found not to live so often in a row is not used any more.
const DEAD: u32 = 5;

#[cfg(test)]
mod test {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_server_that_does_not_come_to_serve_waits_for_no_hooks() {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("runner");
        std::fs::write(&program, "#!/bin/sh\nexec cat >/dev/null\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let settings = Settings::default();
        let start = Start { settings, consul: None, state: place.path().to_owned() };
        let (runner, feed) = hooks::runner::Runner::start(&program, &start).unwrap();
        let runner = Runner { feed, runner, unknown: false, in_consul: false };
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            drop(runner);
            ended.send(()).unwrap();
        });
        end.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    fn standing(stage: Stage, boot: u64, lives: bool) -> HashMap<String, Standing> {
        let boot = Some(BootId(boot));
        let name = "web1".to_owned();
        let address = Some(std::net::Ipv4Addr::new(10, 0, 0, 7));
        let status = MachineStatus { name, boot, stage, address, ..MachineStatus::default() };
        [("web1".to_owned(), Standing { named: true, lives, status })].into()
    }

    fn occasions(machines: &mut Machines, now: &HashMap<String, Standing>) -> Vec<Occasion> {
        machines.compare(now, false).into_iter().map(|told| told.event).collect()
    }

    #[test]
    fn a_machine_is_up_once_in_a_boot_and_lost_once() {
        let mut machines = Machines::default();
        let mut at = |stage, boot, lives| occasions(&mut machines, &standing(stage, boot, lives));
        assert_eq!(at(Stage::Kernel, 1, false), []);
        assert_eq!(at(Stage::Running, 1, true), [Occasion::Up]);
        assert_eq!(at(Stage::Idle, 1, true), []);
        assert_eq!(at(Stage::Lost, 1, false), [Occasion::Lost]);
        assert_eq!(at(Stage::Lost, 1, false), []);
        assert_eq!(at(Stage::Running, 1, true), [Occasion::Up]);
        assert_eq!(at(Stage::Running, 2, true), [Occasion::Lost, Occasion::Up]);
        assert_eq!(at(Stage::Discover, 3, false), [Occasion::Lost]);
    }

    #[test]
    fn a_restart_of_the_server_is_none_of_the_machine() {
        let mut machines = Machines::default();
        let mut at = |stage, boot| occasions(&mut machines, &standing(stage, boot, true));
        assert_eq!(at(Stage::Unheard, 1), []);
        assert_eq!(at(Stage::Running, 1), []);
        assert_eq!(at(Stage::Unheard, 1), []);
        assert_eq!(at(Stage::Lost, 1), [Occasion::Lost]);
    }

    #[test]
    fn a_root_that_looks_dead_for_a_moment_is_not_lost() {
        let mut machines = Machines::default();
        let mut at = |lives| occasions(&mut machines, &standing(Stage::Running, 1, lives));
        assert_eq!(at(true), [Occasion::Up]);
        for _ in 1..DEAD {
            assert_eq!(at(false), []);
        }
        assert_eq!(at(true), []);
        for _ in 1..DEAD {
            assert_eq!(at(false), []);
        }
        assert_eq!(at(false), [Occasion::Lost]);
    }

    #[test]
    fn a_boot_that_somebody_begins_in_its_name_ends_no_machine() {
        let mut machines = Machines::default();
        let mut at = |stage, boot, lives| occasions(&mut machines, &standing(stage, boot, lives));
        assert_eq!(at(Stage::Running, 1, true), [Occasion::Up]);
        assert_eq!(at(Stage::Discover, 2, true), []);
        assert_eq!(at(Stage::Script, 2, true), []);
        assert_eq!(at(Stage::Running, 1, true), []);
        assert_eq!(at(Stage::Discover, 3, true), []);
        assert_eq!(at(Stage::Discover, 3, false), [Occasion::Lost]);
    }

    #[test]
    fn consul_is_told_of_named_machines_that_are_up() {
        let mut machines = Machines::default();
        let mut lives = |stage| {
            let now = standing(stage, 1, true);
            machines.compare(&now, false);
            machines.living(&now).into_iter().map(|one| (one.name, one.life)).collect::<Vec<_>>()
        };
        let web1 = |life| vec![("web1".to_owned(), life)];
        assert_eq!(lives(Stage::Unheard), web1(Life::Unheard));
        assert_eq!(lives(Stage::Kernel), []);
        assert_eq!(lives(Stage::Running), web1(Life::Up));
        assert_eq!(lives(Stage::Idle), web1(Life::Idle));
        assert_eq!(lives(Stage::Lost), []);
    }

    #[test]
    fn strangers_have_no_hooks_unless_that_was_said() {
        let event = Event {
            machine: Some("02:00:00:00:00:01".to_owned()),
            ..Event::new(Kind::BootRefused, "no".to_owned())
        };
        assert_eq!(told(&event, false, &HashMap::new()), None);
        let told = told(&event, true, &HashMap::new()).unwrap();
        assert_eq!((told.event, told.named, told.text.as_str()), (Occasion::Refused, false, "no"));
    }
}

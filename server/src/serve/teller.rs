//! What happens at the site, told to the process that runs hooks.
//!
//! The events of boots are told as they come, some at a time; that a machine is up or lost is found by looking at
//! all machines every few seconds. Whoever emits an event waits for nobody: between this and the other process there
//! is a bounded channel, and a thread that alone waits for the process to read.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use hooks::consul::{Life, Machine};
use hooks::runner::{Feed, Message, Start};
use hooks::settings::DEFAULT_DIRECTORY;
use hooks::{Event as Told, Occasion, Settings, directory};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time;

use super::ServeError;
use super::appliance::Appliance;
use super::supervise::Service;
use crate::boot::{Booter as _, Boots};
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
        lines.push(format!("webhook            {webhook}"));
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
        lines.push(format!("Consul             {}", consul.url));
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
        let (feed, file) = (self.feed, appliance.state().path().join(FILE));
        let mut up = read(&file);
        up.retain(|_, place| place.named || self.unknown);
        let machines = Arc::new(Mutex::new(Machines::were_up(up)));
        let writer = thread::Builder::new().name("hooks".to_owned());
        writer.spawn(move || write(feed, &file, &receiver)).map_err(ServeError::Runtime)?;
        let boots = Arc::clone(appliance.boots());
        let (unknown, in_consul) = (self.unknown, self.in_consul);
        Ok((self.runner, Tell { boots, machines, sender, unknown, in_consul }))
    }
}

/// What the thread is given that writes.
enum Post {
    /// What the process is told.
    Message(Message),
    /// Which machines are up, for the next start of the server.
    Up(Up),
}

/// Machines that are up, by name or Ethernet address.
type Up = BTreeMap<String, Place>;

/// Writes to the process, and who is up to the file, until there is nothing more to be written.
fn write(feed: Feed, file: &Path, posts: &Receiver<Post>) {
    let mut feed = Some(feed);
    while let Ok(post) = posts.recv() {
        match (post, &mut feed) {
            (Post::Message(message), Some(open)) => {
                if let Err(error) = open.send(&message) {
                    tracing::error!(
                        "hooks are no longer run, because the process that runs them has ended ({error}): \
                         restart netbe"
                    );
                    feed = None;
                }
            }
            // Whoever sends is not to find a channel that is full.
            (Post::Message(_), None) => {}
            (Post::Up(up), _) => {
                if let Err(error) = keep(file, &up) {
                    tracing::warn!(
                        "{}: the list of running machines cannot be written: {error}",
                        file.display()
                    );
                }
            }
        }
    }
}

/// Keeps who is up for the next start of the server.
fn keep(path: &Path, up: &Up) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(up)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Who was up when the server ended; nobody, where that was not kept.
fn read(path: &Path) -> Up {
    let text = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Tells what happens.
#[derive(Clone)]
pub(super) struct Tell {
    boots: Arc<Boots>,
    machines: Arc<Mutex<Machines>>,
    sender: SyncSender<Post>,
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
        let events = self.boots.events().subscribe();
        let mut heard = Heard { events, kept: Kept::default(), tell: self };
        let mut beats = time::interval(BEAT);
        beats.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut beat = 0_u32;
        loop {
            tokio::select! {
                event = heard.events.recv() => match event {
                    Ok(event) => heard.keep(event),
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!("{missed} events were too many at once: their hooks were not run");
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = beats.tick() => {
                    beat = beat.wrapping_add(1);
                    let looks = beat.is_multiple_of(LOOK);
                    if heard.kept.events.is_empty() && !looks {
                        continue;
                    }
                    let known = heard.tell.standings();
                    heard.pass_on(&known);
                    if looks {
                        heard.tell.look(&known);
                    }
                }
            }
        }
    }

    /// Tells who is up and who is lost since this was called before.
    fn look(&self, known: &HashMap<String, Standing>) {
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let found = machines.compare(known, self.unknown);
        found.into_iter().for_each(|event| self.send(Message::Event(event)));
        if self.in_consul {
            self.send(Message::Machines(machines.living(known)));
        }
        let up = machines.up();
        // Without room the next look keeps it.
        if up != machines.kept && self.sender.try_send(Post::Up(up.clone())).is_ok() {
            machines.kept = up;
        }
    }

    /// How machines stand, by name or Ethernet address.
    fn standings(&self) -> HashMap<String, Standing> {
        let standings = self.boots.standings().into_iter();
        let named = standings.map(|standing| {
            let (named, lives) = (standing.name.is_some(), standing.lives);
            // What was started by hand is in no boot, and has its root by its address.
            let by_hand = standing.boot.is_none();
            let status = MachineStatus::from(standing);
            let by_hand =
                || status.address.filter(|_| by_hand).is_some_and(|at| self.boots.lives(at));
            let lives = lives || by_hand();
            (status.name.clone(), Standing { named, lives, status })
        });
        named.collect()
    }

    fn send(&self, message: Message) {
        match self.sender.try_send(Post::Message(message)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            // The next one has it too.
            Err(TrySendError::Full(Post::Message(Message::Machines(_)) | Post::Up(_))) => {}
            Err(TrySendError::Full(Post::Message(Message::Event(event)))) => tracing::warn!(
                "{}: the process that runs hooks does not read: {} is left out",
                event.machine,
                event.event
            ),
        }
    }
}

/// What was heard and is not told yet: told at the next beat, or when the server ends.
struct Heard {
    events: broadcast::Receiver<Arc<Event>>,
    kept: Kept,
    tell: Tell,
}

/// Events of which hooks are told at the next beat.
#[derive(Default)]
struct Kept {
    events: Vec<Arc<Event>>,
    /// Those for which there was no room.
    missed: u64,
}

impl Kept {
    fn keep(&mut self, event: Arc<Event>) {
        if self.events.len() < WAITING {
            self.events.push(event);
        } else {
            self.missed += 1;
        }
    }

    /// Takes what is kept; says how many there was no room for since this was asked before.
    fn take(&mut self) -> (Vec<Arc<Event>>, Option<String>) {
        let Self { events, missed } = std::mem::take(self);
        let said = (missed > 0)
            .then(|| format!("{missed} events were too many at once: their hooks were not run"));
        (events, said)
    }
}

impl Heard {
    fn keep(&mut self, event: Arc<Event>) {
        if occasion(&event, self.tell.unknown).is_some() {
            self.kept.keep(event);
        }
    }

    fn pass_on(&mut self, known: &HashMap<String, Standing>) {
        let Self { kept, tell, .. } = self;
        let (events, missed) = kept.take();
        if let Some(missed) = missed {
            tracing::warn!("{missed}");
        }
        let told = events.into_iter().filter_map(|event| told(&event, tell.unknown, known));
        told.for_each(|event| tell.send(Message::Event(event)));
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.keep(event);
        }
        if !self.kept.events.is_empty() {
            self.pass_on(&self.tell.standings());
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
        standing.place().describe(&mut told);
    }
    told.at = at;
    told.named = event.named;
    told.environment = event.environment.clone().or(told.environment);
    told.boot = event.boot.map(|boot| boot.to_string()).or(told.boot);
    told.text.clone_from(&event.text);
    Some(told)
}

impl Standing {
    fn place(&self) -> Place {
        let MachineStatus { mac, address, environment, boot, .. } = &self.status;
        Place {
            named: self.named,
            mac: mac.map(|mac| mac.to_string()),
            address: *address,
            environment: environment.clone(),
            boot: boot.map(|boot| boot.to_string()),
        }
    }
}

/// What hooks are told of a machine that has a boot.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Place {
    named: bool,
    mac: Option<String>,
    address: Option<Ipv4Addr>,
    environment: Option<String>,
    boot: Option<String>,
}

impl Place {
    fn describe(&self, told: &mut Told) {
        let Self { named, mac, address, environment, boot } = self.clone();
        (told.named, told.mac, told.address) = (named, mac, address);
        (told.environment, told.boot) = (environment, boot);
    }

    fn tell(&self, name: &str, occasion: Occasion, text: &str) -> Told {
        let mut told = Told::new(occasion, name);
        self.describe(&mut told);
        text.clone_into(&mut told.text);
        told
    }
}

/// Which machines are up.
#[derive(Default)]
struct Machines {
    known: HashMap<String, Known>,
    /// Who is up, as it was kept for the next start of the server.
    kept: Up,
}

/// What was found of a machine when it was looked at last.
#[derive(Clone, Default)]
struct Known {
    place: Place,
    is: Is,
    /// How often in a row its root was found not to live.
    dead: u32,
}

#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Is {
    /// Its system works on its root.
    Up,
    /// It was up when the server ended, and its system was not seen at work on its root since.
    Unheard,
    /// Anything else.
    #[default]
    Down,
}

impl Machines {
    /// Those that were up when the server ended.
    fn were_up(up: Up) -> Self {
        let known = |(name, place): (&String, &Place)| {
            (name.clone(), Known { place: place.clone(), is: Is::Unheard, dead: 0 })
        };
        Self { known: up.iter().map(known).collect(), kept: up }
    }

    /// Those that are up; one of which nothing was seen yet is among them if it was up when the server ended.
    fn up(&self) -> Up {
        let up = self.known.iter().filter(|(_, known)| known.is != Is::Down);
        up.map(|(name, known)| (name.clone(), known.place.clone())).collect()
    }

    /// Gives who is up now and who is lost since this was asked before. A machine that was up when the server ended
    /// and goes on is not up anew; one that was not is not lost.
    fn compare(&mut self, standings: &HashMap<String, Standing>, unknown: bool) -> Vec<Told> {
        let mut told = Vec::new();
        let mut past = std::mem::take(&mut self.known);
        for (name, standing) in standings {
            if !standing.named && !unknown {
                continue;
            }
            let before = past.remove(name).unwrap_or_default();
            let now = Self::of(standing, &before);
            let same = now.place.boot == before.place.boot;
            let mut tell = |occasion, text| told.push(standing.place().tell(name, occasion, text));
            match (before.is, now.is) {
                (Is::Down, Is::Up) => tell(Occasion::Up, UP),
                (Is::Up | Is::Unheard, Is::Up) if !same => {
                    tell(Occasion::Lost, "its boot is over: it has booted again");
                    tell(Occasion::Up, UP);
                }
                (Is::Up | Is::Unheard, Is::Down) => tell(Occasion::Lost, lost(standing)),
                (Is::Up | Is::Unheard, Is::Up | Is::Unheard)
                | (Is::Down, Is::Down | Is::Unheard) => {}
            }
            self.known.insert(name.clone(), now);
        }
        // It was taken away, or has another name now, by which it is up.
        for (name, known) in past.iter().filter(|(_, known)| known.is != Is::Down) {
            told.push(known.place.tell(
                name,
                Occasion::Lost,
                "the site has no such machine any more",
            ));
        }
        told
    }

    /// The named machines that were up when this was compared last, or when the server ended; those without an address
    /// can be found by nobody.
    fn living(&self, standings: &HashMap<String, Standing>) -> Vec<Machine> {
        let named = standings.iter().filter(|(_, standing)| standing.named);
        let machine = |(name, standing): (&String, &Standing)| {
            let MachineStatus { stage, seen, .. } = &standing.status;
            let Known { place, is, .. } = self.known.get(name)?;
            let life = match is {
                Is::Up if *stage == Stage::Idle => Life::Idle,
                Is::Up => Life::Up,
                Is::Unheard => Life::Unheard,
                Is::Down => return None,
            };
            // Those of the system that is up, whoever has asked for another address in its name.
            let Place { mac, address, environment, .. } = place.clone();
            Some(Machine {
                name: name.clone(),
                address: address?,
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

    fn of(standing: &Standing, before: &Known) -> Known {
        let (stage, place) = (standing.status.stage, standing.place());
        let works = matches!(stage, Stage::Running | Stage::Idle);
        // Anybody can begin a boot in its name, and mount a root: it goes on beside that until it is found to be dead, or
        // until a system works on the root of the later boot.
        let same = before.place.boot == place.boot;
        let begins = stage < Stage::Root || (stage == Stage::Root && !same);
        if before.is != Is::Down && begins && standing.lives {
            return Known { dead: 0, ..before.clone() };
        }
        // One forged message can have a root look dead; a system that lives calls again.
        let dead = if works && !standing.lives { before.dead.saturating_add(1) } else { 0 };
        // The first that is heard of a boot that goes on shows no more than a root.
        let silent = matches!(stage, Stage::Root | Stage::Unheard);
        let is = if before.is == Is::Unheard && same && silent {
            Is::Unheard
        } else if works && dead < DEAD {
            Is::Up
        } else {
            Is::Down
        };
        Known { place, is, dead }
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

/// Why a machine is up.
const UP: &str = "its system works on its root";

/// The file in the state directory with the machines that are up.
const FILE: &str = "hooks-up.json";

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
        fs::write(&program, "#!/bin/sh\nexec cat >/dev/null\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
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
        let boot = Some(crate::boot::BootId(boot));
        let name = "web1".to_owned();
        let address = Some(Ipv4Addr::new(10, 0, 0, 7));
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

    /// The server, started again: what was kept of it is all that is known.
    fn restarted(machines: &Machines) -> Machines {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join(FILE);
        keep(&file, &machines.up()).unwrap();
        Machines::were_up(read(&file))
    }

    #[test]
    fn a_restart_of_the_server_is_none_of_the_machine() {
        let mut machines = Machines::default();
        assert_eq!(occasions(&mut machines, &standing(Stage::Running, 1, true)), [Occasion::Up]);
        for _ in 0..2 {
            machines = restarted(&machines);
            // The first that is heard of it shows that it has a root, and no more.
            for stage in [Stage::Unheard, Stage::Root] {
                let now = standing(stage, 1, true);
                assert_eq!(occasions(&mut machines, &now), []);
                assert_eq!(machines.living(&now)[0].life, Life::Unheard);
            }
        }
        assert_eq!(occasions(&mut machines, &standing(Stage::Running, 1, true)), []);
        let mut machines = restarted(&machines);
        let mut at = |stage, boot| occasions(&mut machines, &standing(stage, boot, true));
        assert_eq!(at(Stage::Running, 2), [Occasion::Lost, Occasion::Up]);
    }

    #[test]
    fn after_a_restart_of_the_server_only_who_was_up_is_lost() {
        let mut up = Machines::default();
        occasions(&mut up, &standing(Stage::Running, 1, true));
        let mut down = Machines::default();
        occasions(&mut down, &standing(Stage::Lost, 1, false));
        for (machines, expected) in [(up, vec![Occasion::Lost]), (down, vec![])] {
            let mut machines = restarted(&machines);
            assert_eq!(occasions(&mut machines, &standing(Stage::Unheard, 1, true)), []);
            assert_eq!(occasions(&mut machines, &standing(Stage::Lost, 1, false)), expected);
        }
    }

    #[test]
    fn a_machine_that_is_taken_away_is_lost_and_a_renamed_one_is_up_by_its_new_name() {
        let mut machines = Machines::default();
        let mut now = standing(Stage::Running, 1, true);
        occasions(&mut machines, &now);
        let mut renamed = now.remove("web1").unwrap();
        renamed.status.name = "web2".to_owned();
        let renamed = [("web2".to_owned(), renamed)].into();
        let told = |told: Told| (told.machine, told.event, told.address.is_some());
        let mut told: Vec<_> = machines.compare(&renamed, false).into_iter().map(told).collect();
        told.sort();
        let expected = [("web1", Occasion::Lost, true), ("web2", Occasion::Up, true)];
        assert_eq!(told, expected.map(|(name, event, place)| (name.to_owned(), event, place)));
        assert_eq!(occasions(&mut machines, &now), [Occasion::Lost]);
        assert_eq!(occasions(&mut machines, &now), []);
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
    fn a_root_that_somebody_mounts_in_its_name_ends_no_machine_and_consul_keeps_its_place() {
        let mut machines = Machines::default();
        let running = standing(Stage::Running, 1, true);
        assert_eq!(occasions(&mut machines, &running), [Occasion::Up]);
        let up = machines.living(&running);
        for (stage, address) in
            [(Stage::Discover, None), (Stage::Root, Some(66)), (Stage::Off, None)]
        {
            let mut forged = standing(stage, 2, true);
            let address = address.map(|last| Ipv4Addr::new(10, 0, 0, last));
            forged.get_mut("web1").unwrap().status.address = address;
            assert_eq!(occasions(&mut machines, &forged), []);
            assert_eq!(machines.living(&forged), up);
        }
        let anew = standing(Stage::Running, 2, true);
        assert_eq!(occasions(&mut machines, &anew), [Occasion::Lost, Occasion::Up]);
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
        assert_eq!(lives(Stage::Unheard), []);
        assert_eq!(lives(Stage::Kernel), []);
        assert_eq!(lives(Stage::Running), web1(Life::Up));
        assert_eq!(lives(Stage::Idle), web1(Life::Idle));
        assert_eq!(lives(Stage::Lost), []);
    }

    #[test]
    fn events_without_room_are_counted_and_told_once() {
        let mut kept = Kept::default();
        let event = Arc::new(Event::new(Kind::BootRefused, "no".to_owned()));
        for _ in 0..WAITING + 3 {
            kept.keep(Arc::clone(&event));
        }
        let (events, said) = kept.take();
        assert_eq!(events.len(), WAITING);
        assert_eq!(said.unwrap(), "3 events were too many at once: their hooks were not run");
        assert_eq!(kept.take().1, None);
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

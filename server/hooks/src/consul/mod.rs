//! Consul: machines as services that others find by name, and that are healthy while netbe sees them live.
//!
//! Every few seconds what Consul has is compared with the machines that are up, and what differs is registered, or
//! taken out ([`plan`], [`catalog`]). Nothing of it is remembered here: an agent that was away, that has lost its services or still
//! has some of a netbe that was killed, is right again after one round.

mod catalog;
mod plan;
mod settings;

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::file;
use plan::Call;
pub use settings::{Raw, RawService, Register, Service, Settings, SettingsError};

/// How a machine stands, as Consul is told.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: std::net::Ipv4Addr,
    /// Its Ethernet address.
    pub mac: Option<String>,
    /// The boot environment that it runs.
    pub environment: Option<String>,
    /// Whether it lives.
    pub life: Life,
    /// Seconds since it was heard of.
    pub seen: Option<f64>,
}

/// Whether a machine lives, as far as a server sees it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// It uses its root.
    Up,
    /// It has not used its root for a minute.
    Idle,
    /// Nothing was heard of it since the server was started: what Consul has stays as it is, and nobody says that
    /// it is healthy.
    Unheard,
}

/// What keeps Consul as the machines are.
#[derive(Debug)]
pub(crate) struct Consul {
    settings: Settings,
    machines: Mutex<Machines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Machines {
    /// How they stand, and when that was told.
    known: Option<(Vec<Machine>, Instant)>,
    /// Whether others are up since the last round.
    changed: bool,
}

impl Consul {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, machines: Mutex::default(), changed: Condvar::new() }
    }

    /// How all machines stand that are up, or of which nothing was seen.
    pub(crate) fn tell(&self, machines: Vec<Machine>) {
        let place = |machine: &Machine| {
            let Machine { name, address, environment, life, .. } = machine;
            (name.clone(), *address, environment.clone(), *life)
        };
        let mut known = self.machines();
        let before = known.known.as_ref().map(|(before, _)| before.iter().map(place).collect());
        let now: Vec<_> = machines.iter().map(place).collect();
        known.changed |= before.as_ref() != Some(&now);
        known.known = Some((machines, Instant::now()));
        if known.changed {
            self.changed.notify_one();
        }
    }

    /// Keeps Consul as the machines are, until it is over. What is registered then stays: a server that is started
    /// again finds it, and without one it gets critical by itself.
    pub(crate) fn keep(&self, is_over: &dyn Fn() -> bool) {
        let client = Client::new(PATIENCE);
        let (mut pause, mut trouble) = (Duration::ZERO, None::<String>);
        let mut refused = Refused::default();
        while let Some(machines) = self.next(pause, trouble.is_some(), is_over) {
            let outcome = self.round(&client, &machines, &mut refused, is_over);
            let url = &self.settings.url;
            match (&outcome, &trouble) {
                (Ok(()), Some(_)) => tracing::info!("Consul at {url} is up to date again"),
                (Err(new), Some(old)) if new == old => {}
                (Err(new), _) => {
                    tracing::warn!("Consul at {url} is out of date: {new}; netbe tries again")
                }
                (Ok(()), None) => {}
            }
            pause = match (&outcome, &trouble) {
                (Ok(()), _) => self.settings.ttl / 3,
                (Err(_), None) => FIRST_PAUSE,
                (Err(_), Some(_)) => LONGEST_PAUSE.min(pause * 2),
            };
            trouble = outcome.err();
        }
    }

    fn machines(&self) -> MutexGuard<'_, Machines> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next round: so long, or until others are up; that is not waited for where Consul is away. Gives
    /// how machines stand, which was told lately.
    fn next(
        &self,
        pause: Duration,
        away: bool,
        is_over: &dyn Fn() -> bool,
    ) -> Option<Vec<Machine>> {
        let begin = Instant::now();
        let mut machines = self.machines();
        loop {
            if is_over() {
                return None;
            }
            let due = begin.elapsed() >= pause || (machines.changed && !away);
            let fresh = machines.known.as_ref().filter(|(_, at)| at.elapsed() < STALE);
            if due && let Some((known, _)) = fresh {
                let known = known.clone();
                machines.changed = false;
                return Some(known);
            }
            let woken = self.changed.wait_timeout(machines, BEAT);
            machines = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Looks what Consul has, and makes it as it should be.
    fn round(
        &self,
        client: &Client,
        machines: &[Machine],
        refused: &mut Refused,
        is_over: &dyn Fn() -> bool,
    ) -> Result<(), String> {
        let token = self.settings.token_file.as_deref().map(file::secret).transpose();
        let token = token.map_err(|error| error.to_string())?;
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(token.as_deref().map(|token| ("X-Consul-Token", token)));
        let send = |call: &Call| -> Result<String, String> {
            let url = self.settings.url.below(&call.path).map_err(|error| error.to_string())?;
            let body = call.body.as_ref().map(ToString::to_string).unwrap_or_default();
            let answer = client.send(call.method, &url, &headers, body.as_bytes());
            let answer = answer.map_err(|error| error.to_string())?;
            if answer.is_success() {
                return Ok(answer.text);
            }
            let path = call.path.split('?').next().unwrap_or_default();
            Err(format!("{path}: {answer}"))
        };
        let settings = &self.settings;
        let (begin, mut first) = (Instant::now(), None);
        // What was told of the machines holds no longer: an answer that comes late is to bring back none that died since.
        let is_over = || is_over() || begin.elapsed() > STALE;
        let calls = match settings.register {
            Register::Agent => {
                let listed = plan::listed(settings, &send(&Call::get(plan::LIST.to_owned()))?);
                let listed =
                    listed.ok_or_else(|| "its list of services cannot be read".to_owned())?;
                plan::calls(settings, machines, &listed)
            }
            Register::Catalog => {
                let nodes = catalog::nodes(settings, &send(&catalog::list(settings))?);
                let nodes = nodes.ok_or_else(|| "its list of nodes cannot be read".to_owned())?;
                for told in refused.news(nodes.refused(machines)) {
                    tracing::warn!("Consul at {} {told}", settings.url);
                }
                let mut loads = BTreeMap::new();
                for node in nodes.ours().take_while(|_| !is_over()) {
                    let [services, checks] = catalog::looks(settings, node);
                    let load = send(&services).and_then(|services| {
                        let load = catalog::load(settings, &services, &send(&checks)?);
                        load.ok_or_else(|| format!("what is on its node {node} cannot be read"))
                    });
                    match load {
                        Ok(load) => drop(loads.insert(node.clone(), load)),
                        Err(reason) => drop(first.get_or_insert(reason)),
                    }
                }
                catalog::calls(settings, machines, &nodes, &loads)
            }
        };
        for call in calls {
            if is_over() {
                break;
            }
            // One service that is refused is not to keep the others from being right.
            if let Err(reason) = send(&call) {
                first.get_or_insert(reason);
            }
        }
        if begin.elapsed() > STALE {
            first.get_or_insert_with(|| "it answers too slowly".to_owned());
        }
        first.map_or(Ok(()), Err)
    }
}

/// Machines that cannot be registered, by name, each with a sentence that was told.
#[derive(Debug, Default)]
struct Refused(BTreeMap<String, String>);

impl Refused {
    /// Takes over which there are now; gives what was not told yet.
    fn news(&mut self, now: BTreeMap<String, String>) -> Vec<String> {
        let before = std::mem::replace(&mut self.0, now);
        let new = self.0.iter().filter(|(name, told)| before.get(*name) != Some(*told));
        new.map(|(_, told)| told.clone()).collect()
    }
}

/// How long Consul may take for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long what was told of machines holds: a server that hangs tells nothing.
const STALE: Duration = Duration::from_secs(30);

/// Before it is tried again; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often it is looked whether it is over.
const BEAT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod test {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::{Value, json};

    use super::catalog::test::{Fake, FakeNode};
    use super::plan::test::machine;
    use super::*;
    use crate::client::test::server;

    #[test]
    fn the_token_stands_in_a_header_and_a_refusal_is_told() {
        let (url, requests) = server(&[403]);
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("token");
        std::fs::write(&file, "word\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let raw = Raw { url: Some(url.into()), token_file: Some(file), ..Raw::default() };
        let consul = Consul::new(Settings::try_from(raw).unwrap());
        let refused = consul.round(&Client::new(PATIENCE), &[], &mut Refused::default(), &|| false);
        let refused = refused.unwrap_err();
        assert_eq!(refused, "/v1/agent/services: status 403: said");
        let request = requests.recv().unwrap();
        assert!(request.to_lowercase().contains("x-consul-token: word\r\n"), "{request}");
        assert!(!request.contains("token="), "{request}");
    }

    #[test]
    fn a_round_is_made_at_once_when_others_are_up_but_not_while_consul_is_away() {
        let consul = Consul::new(Settings::try_from(Raw::default()).unwrap());
        let hour = Duration::from_secs(3600);
        consul.tell(Vec::new());
        assert_eq!(consul.next(hour, false, &|| false), Some(Vec::new()));
        let over = Instant::now() + Duration::from_millis(300);
        assert_eq!(consul.next(hour, false, &|| Instant::now() > over), None);
        consul.machines().changed = true;
        let over = Instant::now() + Duration::from_millis(300);
        assert_eq!(consul.next(hour, true, &|| Instant::now() > over), None);
    }

    /// A fake catalog, and rounds that have it as machines are.
    struct Bench {
        consul: Consul,
        fake: std::sync::Arc<Mutex<Fake>>,
        refused: Refused,
    }

    impl Bench {
        fn new(nodes: impl IntoIterator<Item = (&'static str, FakeNode)>) -> Self {
            let nodes = nodes.into_iter().map(|(name, node)| (name.to_owned(), node)).collect();
            let (url, fake) = Fake { nodes, said: Vec::new() }.start();
            let service = RawService { machines: vec!["*".to_owned()], ..RawService::default() };
            let services = [("www".to_owned(), service)].into();
            let raw = Raw {
                url: Some(url.into()),
                register: Register::Catalog,
                site: Some("netbe".to_owned()),
                services,
                ..Raw::default()
            };
            let consul = Consul::new(Settings::try_from(raw).unwrap());
            Self { consul, fake, refused: Refused::default() }
        }

        /// What is in the catalog after a round, and what the round has said.
        fn round(&mut self, machines: &[Machine]) -> (BTreeMap<String, FakeNode>, Vec<Value>) {
            let Self { consul, refused, .. } = self;
            consul.round(&Client::new(PATIENCE), machines, refused, &|| false).unwrap();
            let mut fake = self.fake.lock().unwrap();
            (fake.nodes.clone(), std::mem::take(&mut fake.said))
        }
    }

    #[test]
    fn a_node_of_somebody_else_is_left_alone_whatever_becomes_of_the_machine_of_its_name() {
        let theirs = [
            ("web1", FakeNode::of_other(Value::Null)),
            ("web2", FakeNode::of_other(json!({"netbe-site": "other"}))),
        ];
        let mut bench = Bench::new(theirs.clone());
        let before = bench.fake.lock().unwrap().nodes.clone();
        let machines = [machine("web1", Life::Up), machine("web2", Life::Idle)];
        let (after, said) = bench.round(&machines);
        assert_eq!((&after, said), (&before, Vec::new()));
        let told: Vec<&String> = bench.refused.0.values().collect();
        assert!(told[0].contains("a node web1 that netbe has not registered"), "{told:?}");
        assert!(told[1].contains("site = \"other\""), "{told:?}");
        let (after, said) = bench.round(&[]);
        assert_eq!((after, said), (before, Vec::new()));
    }

    #[test]
    fn a_refusal_is_told_once_and_again_when_it_comes_again() {
        let mut refused = Refused::default();
        let now = || BTreeMap::from([("web1".to_owned(), "no".to_owned())]);
        assert_eq!(refused.news(now()), ["no"]);
        assert_eq!(refused.news(now()), [""; 0]);
        assert_eq!(refused.news(BTreeMap::new()), [""; 0]);
        assert_eq!(refused.news(now()), ["no"]);
    }

    #[test]
    fn of_a_node_of_ours_goes_what_is_ours() {
        let mut bench = Bench::new([]);
        let (nodes, _) = bench.round(&[machine("web1", Life::Up), machine("web2", Life::Up)]);
        let services: Vec<&String> = nodes["web1"].services.keys().collect();
        assert_eq!(services, ["netbe:web1:web1", "netbe:www:web1"]);
        // Somebody else has a service on one, and a check on the other.
        {
            let nodes = &mut bench.fake.lock().unwrap().nodes;
            let redis = json!({"ID": "redis", "Meta": {"netbe-site": "other"}});
            nodes.get_mut("web1").unwrap().services.insert("redis".to_owned(), redis);
            nodes.get_mut("web2").unwrap().checks.insert("disk".to_owned(), String::new());
        }
        let (nodes, _) = bench.round(&[]);
        assert_eq!(nodes["web1"].services.keys().collect::<Vec<_>>(), ["redis"]);
        assert_eq!(nodes["web2"].services.len(), 0);
        assert_eq!(nodes["web2"].checks.keys().collect::<Vec<_>>(), ["disk"]);
        assert_eq!(bench.round(&[]), (nodes, Vec::new()), "then there is nothing to be done");
        bench.fake.lock().unwrap().nodes.get_mut("web2").unwrap().checks.clear();
        let (nodes, _) = bench.round(&[]);
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["web1"]);
    }

    #[test]
    fn a_service_that_a_machine_offers_no_more_goes_while_the_machine_stays() {
        let mut bench = Bench::new([]);
        let machines = [machine("web1", Life::Up)];
        bench.round(&machines);
        bench.consul.settings.services.clear();
        let (nodes, _) = bench.round(&machines);
        assert_eq!(nodes["web1"].services.keys().collect::<Vec<_>>(), ["netbe:web1:web1"]);
    }
}

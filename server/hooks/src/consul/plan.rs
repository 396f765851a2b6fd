//! What has to be said to Consul's agent so that it has the machines that are up, and no others of ours; and what the
//! services of a machine are, which the [catalog](super::catalog) has too.
//!
//! This is a function of what is and what should be; it speaks to nobody. The calls are those of Consul's HTTP API:
//! `/v1/agent/service` and `/v1/agent/check/update`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::settings::Settings;
use super::{Life, Machine};
use crate::client::Method;

/// A call of Consul's API.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Value>,
}

impl Call {
    pub(super) const fn get(path: String) -> Self {
        Self { method: Method::Get, path, body: None }
    }

    pub(super) const fn put(path: String, body: Option<Value>) -> Self {
        Self { method: Method::Put, path, body }
    }
}

/// What an agent has of ours: of its services their machine, name, tags, address and port, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Listed {
    services: BTreeMap<String, Registered>,
}

/// A service, as an agent lists it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "PascalCase")]
struct Registered {
    service: String,
    #[serde(default, deserialize_with = "or_null")]
    tags: Vec<String>,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
    #[serde(default, deserialize_with = "or_null")]
    meta: BTreeMap<String, String>,
}

/// Go writes an empty list or table as `null`.
pub(super) fn or_null<'d, D: Deserializer<'d>, T: Default + Deserialize<'d>>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Where an agent lists what it has.
pub(super) const LIST: &str = "/v1/agent/services";

/// Reads what it lists; others' services are left out.
pub(super) fn listed(settings: &Settings, text: &str) -> Option<Listed> {
    let mut services: BTreeMap<String, Registered> = serde_json::from_str(text).ok()?;
    services.retain(|_, service| is_ours(settings, &service.meta));
    Some(Listed { services })
}

/// Whether what has this meta is ours.
pub(super) fn is_ours(settings: &Settings, meta: &BTreeMap<String, String>) -> bool {
    meta.get(SITE) == Some(&settings.site)
}

/// What has to be said to an agent.
pub(super) fn calls(settings: &Settings, machines: &[Machine], listed: &Listed) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut wanted = BTreeSet::new();
    let unheard =
        |name: &String| machines.iter().any(|one| one.name == *name && one.life == Life::Unheard);
    for machine in machines.iter().filter(|machine| machine.life != Life::Unheard) {
        for service in services(settings, machine) {
            let id = &service.id;
            if listed.services.get(id) != Some(&service.registered()) {
                let path = "/v1/agent/service/register?replace-existing-checks=true".to_owned();
                calls.push(Call::put(path, Some(service.json(settings, machine))));
            }
            let (status, output) = health(machine);
            let path = format!("/v1/agent/check/update/service:{id}");
            calls.push(Call::put(path, Some(json!({"Status": status, "Output": output}))));
            wanted.insert(service.id);
        }
    }
    for (id, service) in &listed.services {
        let keeps = service.meta.get(MACHINE).is_some_and(unheard);
        if !wanted.contains(id) && !keeps && is_plain(id) {
            calls.push(Call::put(format!("/v1/agent/service/deregister/{id}"), None));
        }
    }
    calls
}

/// A service of one machine, as it should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    address: String,
    pub(super) port: u16,
    pub(super) meta: BTreeMap<String, String>,
}

impl Wanted {
    /// As an agent lists it.
    fn registered(&self) -> Registered {
        let Self { name, tags, address, port, meta, .. } = self.clone();
        Registered { service: name, tags, address, port, meta }
    }

    /// As an agent is told.
    fn json(&self, settings: &Settings, machine: &Machine) -> Value {
        let (status, _) = health(machine);
        json!({
            "ID": self.id,
            "Name": self.name,
            "Tags": self.tags,
            "Address": self.address,
            "Port": self.port,
            "Meta": self.meta,
            "Check": {
                "Name": CHECK,
                "TTL": format!("{}s", settings.ttl.as_secs()),
                "Status": status,
                "DeregisterCriticalServiceAfter": FORGOTTEN_AFTER,
            },
        })
    }
}

/// The services of a machine: that of its own name, and those of which it is one of several.
pub(super) fn services(settings: &Settings, machine: &Machine) -> Vec<Wanted> {
    let of = |name: &str, port: Option<u16>, tags: &[String]| {
        let mut meta = BTreeMap::from([
            ("external-source".to_owned(), "netbe".to_owned()),
            (SITE.to_owned(), settings.site.clone()),
            (MACHINE.to_owned(), machine.name.clone()),
        ]);
        let more = [("netbe-environment", &machine.environment), ("netbe-mac", &machine.mac)];
        for (key, value) in more {
            meta.extend(value.clone().map(|value| (key.to_owned(), value)));
        }
        Wanted {
            id: format!("{}:{name}:{}", settings.site, machine.name),
            name: name.to_owned(),
            tags: settings.tags.iter().chain(tags).cloned().collect(),
            address: machine.address.to_string(),
            port: port.unwrap_or(0),
            meta,
        }
    };
    let offered = settings.services.iter().filter(|(_, service)| service.has(&machine.name));
    let offered = offered.map(|(name, service)| of(name, service.port, &service.tags));
    // Of a service that is called as the machine there is one only.
    let own = settings.services.get(&machine.name).is_none_or(|own| !own.has(&machine.name));
    let all = own.then(|| of(&machine.name, None, &[])).into_iter().chain(offered);
    // What stands in a path has to be a part of it.
    all.filter(|service| is_plain(&service.id)).collect()
}

/// Whether text is a part of a path as it stands.
pub(super) fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
}

/// How healthy a machine is, and why, in words. They hold for the length of its stage, so that nothing of Consul's is
/// written anew at every round.
pub(super) fn health(machine: &Machine) -> (&'static str, &'static str) {
    match machine.life {
        Life::Up | Life::Unheard => ("passing", "it uses its root"),
        Life::Idle => ("warning", "it has not used its root for a minute"),
    }
}

/// What tells our services from those of others, and whose they are.
pub(super) const SITE: &str = "netbe-site";
const MACHINE: &str = "netbe-machine";

/// The name of each check.
pub(super) const CHECK: &str = "netbe sees it live";

/// When an agent gives up a service that nobody has said to live: netbe was taken away for good.
const FORGOTTEN_AFTER: &str = "1h";

#[cfg(test)]
pub(super) mod test {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::consul::{Raw, RawService};

    fn settings() -> Settings {
        let service = RawService {
            machines: vec!["web*".to_owned()],
            port: Some(80),
            tags: vec!["http".to_owned()],
        };
        let services = [("www".to_owned(), service)].into();
        let raw = Raw { services, tags: vec!["lab".to_owned()], ..Raw::default() };
        Settings::try_from(raw).unwrap()
    }

    pub(in super::super) fn machine(name: &str, life: Life) -> Machine {
        Machine {
            name: name.to_owned(),
            address: Ipv4Addr::new(10, 0, 0, 7),
            mac: None,
            environment: Some("base".to_owned()),
            life,
            seen: Some(1.0),
        }
    }

    fn paths(calls: &[Call]) -> Vec<&str> {
        calls.iter().filter_map(|call| call.path.split('?').next()).collect()
    }

    /// What an agent lists when it was told all of that.
    fn told(calls: &[Call]) -> String {
        let mut services = serde_json::Map::new();
        for body in
            calls.iter().filter_map(|call| call.body.as_ref()).filter(|body| body["ID"].is_string())
        {
            let mut service = body.clone();
            service["Service"] = body["Name"].clone();
            services.insert(body["ID"].as_str().unwrap().to_owned(), service);
        }
        services.insert("redis".to_owned(), json!({"ID": "redis", "Service": "redis", "Meta": {}}));
        Value::Object(services).to_string()
    }

    #[test]
    fn a_machine_is_registered_once_with_a_plain_address_and_then_said_to_live() {
        let settings = settings();
        let machines = [machine("web1", Life::Up)];
        let first = calls(&settings, &machines, &Listed::default());
        let expected = [
            "/v1/agent/service/register",
            "/v1/agent/check/update/service:netbe:web1:web1",
            "/v1/agent/service/register",
            "/v1/agent/check/update/service:netbe:www:web1",
        ];
        assert_eq!(paths(&first), expected);
        let www = first[2].body.as_ref().unwrap();
        assert_eq!(www["Address"], "10.0.0.7");
        assert_eq!((&www["Port"], &www["Tags"]), (&json!(80), &json!(["lab", "http"])));
        assert_eq!(www["Check"]["TTL"], "60s");
        let listed = listed(&settings, &told(&first)).unwrap();
        let second = calls(&settings, &machines, &listed);
        assert_eq!(paths(&second), [expected[1], expected[3]]);
    }

    #[test]
    fn who_is_gone_is_taken_out_who_was_not_heard_of_stays_and_others_are_left_alone() {
        let settings = settings();
        let both = [machine("db1", Life::Up), machine("db2", Life::Idle)];
        let listed =
            listed(&settings, &told(&calls(&settings, &both, &Listed::default()))).unwrap();
        let now = [machine("db2", Life::Unheard)];
        assert_eq!(
            paths(&calls(&settings, &now, &listed)),
            ["/v1/agent/service/deregister/netbe:db1:db1"]
        );
    }

    #[test]
    fn an_idle_machine_is_told_as_such() {
        let settings = settings();
        let calls = calls(&settings, &[machine("db1", Life::Idle)], &Listed::default());
        assert_eq!(calls[1].body.as_ref().unwrap()["Status"], "warning");
    }

    #[test]
    fn what_consul_says_is_bounded_and_may_be_anything() {
        let settings = settings();
        assert_eq!(listed(&settings, "<html>"), None);
        let odd = r#"{"a/../b": {"Service": "x", "Meta": {"netbe-site": "netbe"}}}"#;
        let listed = listed(&settings, odd).unwrap();
        assert_eq!(calls(&settings, &[], &listed), []);
    }
}

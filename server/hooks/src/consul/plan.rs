//! What has to be said to Consul so that it has the machines that are up, and no others of ours.
//!
//! This is a function of what is and what should be; it speaks to nobody. The calls are those of Consul's HTTP API:
//! `/v1/agent/service`, `/v1/agent/check/update` and `/v1/catalog`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::settings::{Register, Settings};
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
    const fn put(path: String, body: Option<Value>) -> Self {
        Self { method: Method::Put, path, body }
    }
}

/// What Consul has of ours: of the agent's services their machine, name, tags, address and port, by id; of the catalog
/// the nodes, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Listed {
    services: BTreeMap<String, Registered>,
    nodes: BTreeSet<String>,
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

/// A node, as the catalog lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: String,
    #[serde(default, deserialize_with = "or_null")]
    meta: BTreeMap<String, String>,
}

/// Go writes an empty list or table as `null`.
fn or_null<'d, D: Deserializer<'d>, T: Default + Deserialize<'d>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Where Consul lists what it has.
pub(super) fn list(settings: &Settings) -> String {
    match settings.register {
        Register::Agent => "/v1/agent/services".to_owned(),
        Register::Catalog => {
            format!(
                "/v1/catalog/nodes?node-meta={SITE}:{}{}",
                settings.site,
                datacenter(settings, '&')
            )
        }
    }
}

/// Reads what it lists; others' services are left out.
pub(super) fn listed(settings: &Settings, text: &str) -> Option<Listed> {
    let is_ours = |meta: &BTreeMap<String, String>| meta.get(SITE) == Some(&settings.site);
    let mut listed = Listed::default();
    match settings.register {
        Register::Agent => {
            listed.services = serde_json::from_str(text).ok()?;
            listed.services.retain(|_, service| is_ours(&service.meta));
        }
        Register::Catalog => {
            // An empty list is `[]`, or `null` in older versions.
            let nodes: Option<Vec<Node>> = serde_json::from_str(text).ok()?;
            let ours = nodes.unwrap_or_default().into_iter();
            let ours = ours.filter(|node| is_ours(&node.meta));
            listed.nodes = ours.map(|node| node.node).collect();
        }
    }
    Some(listed)
}

/// What has to be said.
pub(super) fn calls(settings: &Settings, machines: &[Machine], listed: &Listed) -> Vec<Call> {
    match settings.register {
        Register::Agent => of_agent(settings, machines, listed),
        Register::Catalog => of_catalog(settings, machines, listed),
    }
}

fn of_agent(settings: &Settings, machines: &[Machine], listed: &Listed) -> Vec<Call> {
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

fn of_catalog(settings: &Settings, machines: &[Machine], listed: &Listed) -> Vec<Call> {
    let mut calls = Vec::new();
    for machine in machines.iter().filter(|machine| machine.life != Life::Unheard) {
        let (status, output) = health(machine);
        for service in services(settings, machine) {
            let mut body = json!({
                "Node": machine.name,
                "Address": machine.address.to_string(),
                // Consul's external service monitor looks for nodes of others by it.
                "NodeMeta": {
                    SITE: settings.site,
                    "external-node": "true",
                    "external-probe": "false",
                },
                "Service": {
                    "ID": service.id,
                    "Service": service.name,
                    "Tags": service.tags,
                    "Address": machine.address.to_string(),
                    "Port": service.port,
                    "Meta": service.meta,
                },
                "Check": {
                    "Node": machine.name,
                    "CheckID": format!("service:{}", service.id),
                    "ServiceID": service.id,
                    "Name": CHECK,
                    "Status": status,
                    "Output": output,
                },
            });
            if let (Some(datacenter), Some(body)) = (&settings.datacenter, body.as_object_mut()) {
                body.insert("Datacenter".to_owned(), json!(datacenter));
            }
            calls.push(Call::put("/v1/catalog/register".to_owned(), Some(body)));
        }
    }
    let known = |name: &String| machines.iter().any(|machine| machine.name == *name);
    for node in listed.nodes.iter().filter(|node| !known(node)) {
        let mut body = json!({"Node": node});
        if let (Some(datacenter), Some(body)) = (&settings.datacenter, body.as_object_mut()) {
            body.insert("Datacenter".to_owned(), json!(datacenter));
        }
        calls.push(Call::put("/v1/catalog/deregister".to_owned(), Some(body)));
    }
    calls
}

/// A service of one machine, as it should be.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    id: String,
    name: String,
    tags: Vec<String>,
    address: String,
    port: u16,
    meta: BTreeMap<String, String>,
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
fn services(settings: &Settings, machine: &Machine) -> Vec<Wanted> {
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
    let all = std::iter::once(of(&machine.name, None, &[])).chain(offered);
    // What stands in a path has to be a part of it.
    all.filter(|service| is_plain(&service.id)).collect()
}

/// Whether text is a part of a path as it stands.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
}

/// How healthy a machine is, and why, in words. They hold for the length of its stage, so that nothing of Consul's is
/// written anew at every round.
fn health(machine: &Machine) -> (&'static str, &'static str) {
    match machine.life {
        Life::Up | Life::Unheard => ("passing", "netbe sees it use its root"),
        Life::Idle => ("warning", "netbe has not seen it use its root for a minute"),
    }
}

fn datacenter(settings: &Settings, separator: char) -> String {
    let name = settings.datacenter.as_ref();
    name.map(|name| format!("{separator}dc={name}")).unwrap_or_default()
}

/// What tells our services from those of others, and whose they are.
const SITE: &str = "netbe-site";
const MACHINE: &str = "netbe-machine";

/// The name of each check.
const CHECK: &str = "netbe sees it live";

/// When an agent gives up a service that nobody has said to live: netbe was taken away for good.
const FORGOTTEN_AFTER: &str = "1h";

#[cfg(test)]
mod test {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::consul::{Raw, RawService};

    fn settings(register: Register) -> Settings {
        let service = RawService {
            machines: vec!["web*".to_owned()],
            port: Some(80),
            tags: vec!["http".to_owned()],
        };
        let services = [("www".to_owned(), service)].into();
        let raw = Raw { register, services, tags: vec!["lab".to_owned()], ..Raw::default() };
        Settings::try_from(raw).unwrap()
    }

    fn machine(name: &str, life: Life) -> Machine {
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
        let settings = settings(Register::Agent);
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
        let settings = settings(Register::Agent);
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
        let settings = settings(Register::Agent);
        let calls = calls(&settings, &[machine("db1", Life::Idle)], &Listed::default());
        assert_eq!(calls[1].body.as_ref().unwrap()["Status"], "warning");
    }

    #[test]
    fn in_the_catalog_a_machine_is_a_node() {
        let settings =
            Settings { datacenter: Some("dc1".to_owned()), ..settings(Register::Catalog) };
        let nodes = r#"[{"Node": "db1", "Meta": {"netbe-site": "netbe"}},
                        {"Node": "other", "Meta": null}]"#;
        let listed = listed(&settings, nodes).unwrap();
        let calls = calls(&settings, &[machine("db2", Life::Up)], &listed);
        assert_eq!(paths(&calls), ["/v1/catalog/register", "/v1/catalog/deregister"]);
        let body = calls[0].body.as_ref().unwrap();
        assert_eq!((&body["Node"], &body["Address"]), (&json!("db2"), &json!("10.0.0.7")));
        assert_eq!(body["Check"]["Status"], "passing");
        let gone = calls[1].body.as_ref().unwrap();
        assert_eq!(gone, &json!({"Node": "db1", "Datacenter": "dc1"}));
        assert_eq!(super::listed(&settings, "null"), Some(Listed::default()));
    }

    #[test]
    fn what_consul_says_is_bounded_and_may_be_anything() {
        let settings = settings(Register::Agent);
        assert_eq!(listed(&settings, "<html>"), None);
        let odd = r#"{"a/../b": {"Service": "x", "Meta": {"netbe-site": "netbe"}}}"#;
        let listed = listed(&settings, odd).unwrap();
        assert_eq!(calls(&settings, &[], &listed), []);
    }
}

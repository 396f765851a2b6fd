//! What has to be said to Consul's catalog so that it has the machines that are up as nodes, and no others of ours.
//!
//! A node of a machine's name may be somebody else's: of an agent, of another program, or of another netbe. To register
//! would overwrite it, and to deregister would take it away with all that is on it. So all nodes are listed first, with
//! their meta; a machine whose name another's node has is refused. Of a node of ours goes what is ours, service by
//! service; the node itself only when nothing else is on it.
//!
//! These are functions of what is and what should be; they speak to nobody. The calls are those of Consul's HTTP API:
//! `/v1/catalog` and `/v1/health/node`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::plan::{CHECK, Call, SITE, health, is_ours, is_plain, or_null, services};
use super::settings::Settings;
use super::{Life, Machine};

/// The nodes of a catalog, by name in small letters: Consul tells no others apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Nodes {
    /// Ours, with the names as they are written.
    ours: BTreeMap<String, String>,
    /// Those of others, with the site of the netbe whose they are.
    others: BTreeMap<String, Option<String>>,
}

/// A node, as the catalog lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    node: String,
    #[serde(default, deserialize_with = "or_null")]
    meta: BTreeMap<String, String>,
}

/// What is on a node of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Load {
    /// The services that are ours, by id.
    ours: BTreeSet<String>,
    /// Whether there are services or checks of others.
    others: bool,
}

/// All that is on a node, as the catalog shows it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    #[serde(default, deserialize_with = "or_null")]
    services: BTreeMap<String, Service>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(default, deserialize_with = "or_null")]
    meta: BTreeMap<String, String>,
}

/// A check of a node.
#[derive(Deserialize)]
struct Check {
    /// Of which service; empty for one of the node.
    #[serde(rename = "ServiceID", default)]
    service: String,
}

/// Asks for all nodes.
pub(super) fn list(settings: &Settings) -> Call {
    Call::get(within("/v1/catalog/nodes", settings))
}

/// Reads which there are.
pub(super) fn nodes(settings: &Settings, text: &str) -> Option<Nodes> {
    // An empty list is `[]`, or `null` in older versions.
    let listed: Option<Vec<Listed>> = serde_json::from_str(text).ok()?;
    let mut nodes = Nodes::default();
    for Listed { node, mut meta } in listed.unwrap_or_default() {
        let name = node.to_lowercase();
        if is_ours(settings, &meta) {
            nodes.ours.insert(name, node);
        } else {
            nodes.others.insert(name, meta.remove(SITE));
        }
    }
    Some(nodes)
}

impl Nodes {
    /// Ours, by their names as they are written.
    pub(super) fn ours(&self) -> impl Iterator<Item = &String> {
        // What stands in a path has to be a part of it.
        self.ours.values().filter(|name| is_plain(name))
    }

    /// Why machines cannot be nodes, by their name, each in a sentence.
    pub(super) fn refused(&self, machines: &[Machine]) -> BTreeMap<String, String> {
        let refused = machines.iter().filter_map(|machine| {
            let name = &machine.name;
            let whose = match self.others.get(&name.to_lowercase())? {
                Some(site) => format!("a node {name} of the netbe with site = {site:?}"),
                None => format!("a node {name} that netbe has not registered"),
            };
            let told = format!(
                "has {whose}: netbe leaves it alone, and the machine {name} is not in Consul until \
                 that node is deregistered or the machine renamed"
            );
            Some((name.clone(), told))
        });
        refused.collect()
    }
}

/// Asks what is on a node: its services, and its checks.
pub(super) fn looks(settings: &Settings, node: &str) -> [Call; 2] {
    [format!("/v1/catalog/node/{node}"), format!("/v1/health/node/{node}")]
        .map(|path| Call::get(within(&path, settings)))
}

/// Reads what is on a node.
pub(super) fn load(settings: &Settings, shown: &str, checks: &str) -> Option<Load> {
    let shown: Option<Shown> = serde_json::from_str(shown).ok()?;
    let checks: Option<Vec<Check>> = serde_json::from_str(checks).ok()?;
    let mut load = Load::default();
    for (id, service) in shown.map(|shown| shown.services).unwrap_or_default() {
        if is_ours(settings, &service.meta) {
            load.ours.insert(id);
        } else {
            load.others = true;
        }
    }
    load.others |=
        checks.unwrap_or_default().iter().any(|check| !load.ours.contains(&check.service));
    Some(load)
}

/// What has to be said. `loads` has what is on the nodes of ours of which that could be read; the others stay.
pub(super) fn calls(
    settings: &Settings,
    machines: &[Machine],
    nodes: &Nodes,
    loads: &BTreeMap<String, Load>,
) -> Vec<Call> {
    let mut calls = Vec::new();
    let refused = nodes.refused(machines);
    let live = machines.iter().filter(|machine| machine.life != Life::Unheard);
    for machine in live.filter(|machine| !refused.contains_key(&machine.name)) {
        for service in services(settings, machine) {
            let (status, output) = health(machine);
            let body = json!({
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
            calls.push(put("register", body, settings));
        }
    }
    for (node, load) in loads {
        let machine = machines.iter().find(|machine| machine.name.eq_ignore_ascii_case(node));
        let wanted: BTreeSet<String> = match machine {
            // What Consul has of it stays as it is.
            Some(Machine { life: Life::Unheard, .. }) => continue,
            Some(machine) => services(settings, machine).into_iter().map(|one| one.id).collect(),
            None => BTreeSet::new(),
        };
        if machine.is_none() && !load.others {
            calls.push(put("deregister", json!({"Node": node}), settings));
            continue;
        }
        for id in load.ours.difference(&wanted) {
            calls.push(put("deregister", json!({"Node": node, "ServiceID": id}), settings));
        }
    }
    calls
}

fn put(verb: &str, mut body: Value, settings: &Settings) -> Call {
    if let (Some(datacenter), Some(body)) = (&settings.datacenter, body.as_object_mut()) {
        body.insert("Datacenter".to_owned(), json!(datacenter));
    }
    Call::put(format!("/v1/catalog/{verb}"), Some(body))
}

/// What is asked of the datacenter of the settings.
fn within(path: &str, settings: &Settings) -> String {
    let name = settings.datacenter.as_ref();
    name.map_or_else(|| path.to_owned(), |name| format!("{path}?dc={name}"))
}

#[cfg(test)]
pub(super) mod test {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::client::Url;
    use crate::client::test::serving;
    use crate::consul::Raw;
    use crate::consul::plan::test::machine;
    use crate::consul::settings::Register;

    /// A catalog of nodes, each with its meta, its services and its checks, as Consul 1.8 keeps and shows them.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub(in super::super) struct Fake {
        pub(in super::super) nodes: BTreeMap<String, FakeNode>,
        /// The bodies that it was sent.
        pub(in super::super) said: Vec<Value>,
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    pub(in super::super) struct FakeNode {
        pub(in super::super) address: String,
        pub(in super::super) meta: Value,
        pub(in super::super) services: BTreeMap<String, Value>,
        /// The service of each check, by its id.
        pub(in super::super) checks: BTreeMap<String, String>,
    }

    impl FakeNode {
        /// A node of somebody else, with a service and a check of its own.
        pub(in super::super) fn of_other(meta: Value) -> Self {
            let redis = json!({"ID": "redis", "Service": "redis", "Meta": null});
            Self {
                address: "10.9.9.9".to_owned(),
                meta,
                services: [("redis".to_owned(), redis)].into(),
                checks: [("serfHealth".to_owned(), String::new())].into(),
            }
        }
    }

    impl Fake {
        pub(in super::super) fn start(self) -> (Url, Arc<Mutex<Self>>) {
            let fake = Arc::new(Mutex::new(self));
            let served = Arc::clone(&fake);
            let url = serving(move |request| served.lock().unwrap().answer(request));
            (url, fake)
        }

        fn answer(&mut self, request: &str) -> (u16, String) {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            let path = head.split(' ').nth(1).unwrap();
            let path = path.split('?').next().unwrap();
            let (above, last) = path.rsplit_once('/').unwrap();
            let body: Value = serde_json::from_str(body).unwrap_or_default();
            let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
            let answer = match (above, last) {
                ("/v1/catalog", "nodes") => {
                    let node = |(name, node): (&String, &FakeNode)| json!({"Node": name, "Meta": node.meta});
                    self.nodes.iter().map(node).collect()
                }
                ("/v1/catalog/node", name) => match self.nodes.get(name) {
                    Some(node) => json!({"Node": {"Node": name}, "Services": node.services}),
                    None => Value::Null,
                },
                ("/v1/health/node", name) => {
                    let checks = self.nodes.get(name).map(|node| &node.checks);
                    let check =
                        |(id, of): (&String, &String)| json!({"CheckID": id, "ServiceID": of});
                    checks.into_iter().flatten().map(check).collect()
                }
                ("/v1/catalog", "register") => {
                    self.said.push(body.clone());
                    let node = self.nodes.entry(text("Node")).or_default();
                    (node.address, node.meta) = (text("Address"), body["NodeMeta"].clone());
                    let id = body["Service"]["ID"].as_str().unwrap().to_owned();
                    node.checks
                        .insert(body["Check"]["CheckID"].as_str().unwrap().into(), id.clone());
                    node.services.insert(id, body["Service"].clone());
                    json!(true)
                }
                ("/v1/catalog", "deregister") => {
                    self.said.push(body.clone());
                    let (name, service) = (text("Node"), text("ServiceID"));
                    match self.nodes.get_mut(&name).filter(|_| !service.is_empty()) {
                        Some(node) => {
                            node.services.remove(&service);
                            node.checks.retain(|_, of| *of != service);
                        }
                        None => drop(self.nodes.remove(&name)),
                    }
                    json!(true)
                }
                _ => return (404, format!("no {path}")),
            };
            (200, answer.to_string())
        }
    }

    fn settings() -> Settings {
        let datacenter = Some("dc1".to_owned());
        let site = Some("netbe".to_owned());
        let raw = Raw { register: Register::Catalog, site, datacenter, ..Raw::default() };
        Settings::try_from(raw).unwrap()
    }

    #[test]
    fn a_machine_is_a_node_and_the_node_of_one_that_is_gone_goes() {
        let settings = settings();
        let listed = r#"[{"Node": "db1", "Meta": {"netbe-site": "netbe"}},
                         {"Node": "other", "Meta": null}]"#;
        let nodes = nodes(&settings, listed).unwrap();
        assert_eq!(nodes.ours().collect::<Vec<_>>(), ["db1"]);
        let loads = [("db1".to_owned(), Load::default())].into();
        let calls = calls(&settings, &[machine("db2", Life::Up)], &nodes, &loads);
        let [register, gone] = <[Call; 2]>::try_from(calls).unwrap();
        assert_eq!(register.path, "/v1/catalog/register");
        let body = register.body.unwrap();
        assert_eq!((&body["Node"], &body["Address"]), (&json!("db2"), &json!("10.0.0.7")));
        assert_eq!(
            (&body["Check"]["Status"], &body["Datacenter"]),
            (&json!("passing"), &json!("dc1"))
        );
        assert_eq!(gone.path, "/v1/catalog/deregister");
        assert_eq!(gone.body.unwrap(), json!({"Node": "db1", "Datacenter": "dc1"}));
        assert_eq!(list(&settings).path, "/v1/catalog/nodes?dc=dc1");
    }

    #[test]
    fn what_is_not_known_of_a_node_leaves_it_alone() {
        let settings = settings();
        assert_eq!(nodes(&settings, "null"), Some(Nodes::default()));
        assert_eq!(nodes(&settings, "<html>"), None);
        assert_eq!(load(&settings, "<html>", "[]"), None);
        assert_eq!(load(&settings, "null", "<html>"), None);
        let ours = r#"[{"Node": "db1", "Meta": {"netbe-site": "netbe"}},
                       {"Node": "a/../b", "Meta": {"netbe-site": "netbe"}}]"#;
        let nodes = nodes(&settings, ours).unwrap();
        assert_eq!(nodes.ours().collect::<Vec<_>>(), ["db1"]);
        assert_eq!(calls(&settings, &[], &nodes, &BTreeMap::new()), []);
        let loads = [("db1".to_owned(), Load::default())].into();
        assert_eq!(calls(&settings, &[machine("DB1", Life::Unheard)], &nodes, &loads), []);
    }

    #[test]
    fn a_node_of_the_same_name_in_other_letters_is_the_same() {
        let settings = settings();
        let nodes = nodes(&settings, r#"[{"Node": "DB1", "Meta": {"netbe-site": "b"}}]"#).unwrap();
        let machines = [machine("db1", Life::Up)];
        let refused = nodes.refused(&machines);
        assert!(refused["db1"].contains("of the netbe with site = \"b\""), "{refused:?}");
        assert_eq!(calls(&settings, &machines, &nodes, &BTreeMap::new()), []);
    }
}

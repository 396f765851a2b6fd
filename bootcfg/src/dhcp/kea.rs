//! Client classes and a reservation for Kea's `kea-dhcp4`, to be merged into its `Dhcp4`.
//!
//! The classes exclude each other, so that their order does not matter.

use serde_json::{Value, json};

use super::{Advice, Firmware, Machine, Read};
use crate::Mac;

pub(super) fn render(advice: &Advice) -> String {
    let server = advice.server.to_string();
    let (prefix, whose) = match &advice.machine {
        Some(Machine { name, mac, .. }) => {
            let digits = mac.to_string().replace(':', "");
            (format!("netbe-{name}"), format!("pkt4.mac == 0x{digits}"))
        }
        None => ("netbe".to_owned(), "member('ALL')".to_owned()),
    };
    let mut data = Vec::new();
    if let Some(path) = &advice.root_path {
        data.push(json!({ "name": "root-path", "data": path, "always-send": true }));
    }
    for (code, word) in advice.numbered() {
        let name = format!("netbe-{code}");
        data.push(json!({ "name": name, "data": word, "always-send": true }));
    }
    let mut classes = vec![json!({
        "name": &prefix, "test": &whose, "next-server": &server, "option-data": data,
    })];
    let class = |kind: &str, test: &str, file: &str| {
        json!({
            "name": format!("{prefix}-{kind}"),
            "test": format!("{whose} and ({test})"),
            "next-server": &server,
            "boot-file-name": file,
        })
    };
    let mut excluded = "";
    if let Some(url) = &advice.ipxe {
        classes.push(class("ipxe", "option[175].exists", url));
        excluded = " and not option[175].exists";
    }
    for (kind, file) in &advice.files {
        let numbers = kind.numbers().iter();
        let tests = numbers.map(|number| format!("option[93].hex == 0x00{number:02x}"));
        let test = format!("({}){excluded}", tests.collect::<Vec<_>>().join(" or "));
        classes.push(class(kind.name(), &test, file));
    }
    let definitions = advice.numbered().map(
        |(code, _)| json!({ "name": format!("netbe-{code}"), "code": code, "type": "string" }),
    );
    let definitions: Vec<Value> = definitions.collect();
    let mut whole = json!({ "option-def": definitions, "client-classes": classes });
    if let (Some(Machine { name, mac, address }), Some(whole)) =
        (&advice.machine, whole.as_object_mut())
    {
        let mut host = json!({ "hw-address": mac.to_string(), "hostname": name });
        if let (Some(address), Some(host)) = (address, host.as_object_mut()) {
            host.insert("ip-address".to_owned(), json!(address.to_string()));
        }
        whole.insert("reservations-global".to_owned(), json!(true));
        whole.insert("reservations".to_owned(), json!([host]));
    }
    format!("{:#}\n", json!({ "Dhcp4": whole }))
}

pub(super) fn read(text: &str) -> Read {
    let whole: Value =
        serde_json::from_str(text).map_err(|error| (error.line().max(1), error.to_string()))?;
    take(&whole).ok_or_else(|| (1, "its classes are not ours".to_owned()))
}

fn take(whole: &Value) -> Option<Advice> {
    let whole = whole.get("Dhcp4")?;
    let mut advice = Advice::empty();
    let text = |value: &Value, key: &str| Some(value.get(key)?.as_str()?.to_owned());
    if let Some(host) = whole.get("reservations").and_then(|hosts| hosts.get(0)) {
        let mac = Mac::parse(&text(host, "hw-address")?)?;
        let address = text(host, "ip-address").map(|address| address.parse()).transpose().ok()?;
        advice.machine = Some(Machine { name: text(host, "hostname")?, mac, address });
    }
    let prefix = match &advice.machine {
        Some(machine) => format!("netbe-{}", machine.name),
        None => "netbe".to_owned(),
    };
    for class in whole.get("client-classes")?.as_array()? {
        advice.server = text(class, "next-server")?.parse().ok()?;
        let name = text(class, "name")?;
        let Some(kind) = name.strip_prefix(&prefix)?.strip_prefix('-') else {
            for option in class.get("option-data")?.as_array()? {
                let data = text(option, "data")?;
                match text(option, "name")?.as_str() {
                    "root-path" => advice.root_path = Some(data),
                    _ => advice.variables.push(data),
                }
            }
            continue;
        };
        let file = text(class, "boot-file-name")?;
        match Firmware::by_name(kind) {
            Some(kind) => advice.files.push((kind, file)),
            None if kind == "ipxe" => advice.ipxe = Some(file),
            None => return None,
        }
    }
    (!advice.files.is_empty()).then_some(advice)
}

#[cfg(test)]
mod test {
    use super::super::test::{freebsd, linux};
    use super::*;

    #[test]
    fn a_machines_classes_are_told_by_its_ethernet_address() {
        let text = render(&linux());
        let test = "\"pkt4.mac == 0x525400000001 and ((option[93].hex == 0x0007 or option[93].hex \
                    == 0x0009) and not option[175].exists)\"";
        assert!(text.contains(test), "{text}");
        assert!(text.contains("\"ip-address\": \"10.77.0.9\""), "{text}");
    }

    #[test]
    fn everybodys_variables_are_defined_and_always_sent() {
        let whole: Value = serde_json::from_str(&render(&freebsd())).unwrap();
        assert_eq!(whole["Dhcp4"]["option-def"][0]["code"], 250);
        let data = &whole["Dhcp4"]["client-classes"][0]["option-data"];
        assert_eq!(data[0]["data"], "10.77.0.1:/be/free");
        assert_eq!(
            (&data[1]["name"], &data[1]["always-send"]),
            (&json!("netbe-250"), &json!(true))
        );
    }
}

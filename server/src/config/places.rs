//! Where in a netbe.toml something stands.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use crate::net::Mac;

/// The line of a text that has this byte, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    before.bytes().filter(|byte| *byte == b'\n').count().saturating_add(1)
}

/// What no two machines can have, and where it stands.
#[derive(Deserialize)]
struct Places {
    #[serde(default)]
    machines: BTreeMap<String, Own>,
}

#[derive(Deserialize)]
struct Own {
    #[serde(default)]
    macs: Vec<Spanned<String>>,
    address: Option<Spanned<String>>,
}

/// Refuses an Ethernet address or an address that stands twice in the text, which is known to be that of a
/// netbe.toml, and tells both places.
pub(super) fn refuse_twice(text: &str) -> Result<(), ConfigError> {
    let Ok(Places { machines }) = toml::from_str(text) else { return Ok(()) };
    let mut all = Vec::new();
    for (name, own) in &machines {
        let addresses = own.macs.iter().chain(&own.address);
        all.extend(addresses.map(|place| (place.span().start, name, place.get_ref())));
    }
    all.sort_by_key(|(at, ..)| *at);
    // An Ethernet address may be written in more than one way.
    let plain =
        |text: &String| text.parse().map_or_else(|_| text.clone(), |mac: Mac| mac.to_string());
    let mut seen = BTreeMap::new();
    for (at, name, what) in all {
        if let Some((first, other)) = seen.insert(plain(what), (at, name))
            && name != other
        {
            return Err(ConfigError::MachineTwice {
                line: line_of(text, at),
                what: what.clone(),
                name: name.clone(),
                other: other.clone(),
                other_line: line_of(text, first),
            });
        }
    }
    Ok(())
}

//! Who was refused an export, told to the operator once: a guest whose root is refused says no more than
//! EACCES on its console.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::export::{Export, Refusal};
use crate::boot::Roots;

/// The refusals that were told.
///
/// Whoever sends calls in many names has as many told as are remembered, and after that none for a while.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    who: HashSet<(IpAddr, Uuid)>,
    since: Option<Instant>,
}

impl Refusals {
    /// Takes note of a refusal, and tells it if it is a new one: in the log, and to the caller.
    pub fn note(
        &self,
        address: IpAddr,
        export: &Export,
        roots: &Roots,
        refusal: Refusal,
        now: Instant,
    ) -> Option<String> {
        tracing::debug!(%address, export = export.name, %refusal, "refused");
        self.is_news(address, export.environment, now).then(|| {
            let told = sentence(address, &export.name, roots, refusal);
            tracing::warn!("{told}");
            told
        })
    }

    fn is_news(&self, address: IpAddr, environment: Uuid, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |since: Instant| now.saturating_duration_since(since) >= FORGOTTEN;
        if told.since.is_some_and(is_old) {
            *told = Told::default();
        }
        if told.who.len() >= MAX_TOLD {
            return false;
        }
        told.since.get_or_insert(now);
        told.who.insert((address, environment))
    }
}

/// What was refused, why, and what lets it be.
fn sentence(address: IpAddr, name: &str, roots: &Roots, refusal: Refusal) -> String {
    if let Refusal::Port(_) = refusal {
        return format!("{address} is refused the root {name}: {refusal}");
    }
    let network = format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 });
    match roots.iter().next() {
        Some(root) => {
            let machine = &root.machine;
            format!(
                "{machine} ({address}) is refused the root {name}, which is not its own: assign it with \
                 `netbe sharepxe --machine {machine} {name}`, or share it with `netbe sharenfs --network \
                 {network} {name}`"
            )
        }
        None => format!(
            "{address} is refused the root {name}, because no machine with that address boots it: add one \
             with `netbe machine add --address {address} --mac MAC --environment {name} NAME`, or share the \
             root with `netbe sharenfs --network {network} {name}`"
        ),
    }
}

/// Refusals that are remembered.
const MAX_TOLD: usize = 256;

/// How long.
const FORGOTTEN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod test {
    use super::*;
    use crate::boot::Root;
    use crate::site::machine::View;

    #[test]
    fn a_refusal_is_told_once_an_hour_and_a_crowd_of_them_has_an_end() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let ip = |number: u32| IpAddr::from(number.to_be_bytes());
        let one = Uuid::from_u128(1);
        assert!(refusals.is_news(ip(1), one, now));
        assert!(!refusals.is_news(ip(1), one, now), "not for each call");
        assert!(refusals.is_news(ip(1), Uuid::from_u128(2), now));
        let told = (0..100_000).filter(|number| refusals.is_news(ip(*number), one, now)).count();
        assert!(told < MAX_TOLD, "{told}");
        assert!(refusals.is_news(ip(1), one, now + FORGOTTEN));
    }

    #[test]
    fn what_lets_it_be_is_told() {
        let address: IpAddr = "10.77.0.9".parse().unwrap();
        let refusal = Refusal::Address(address);
        let stranger = sentence(address, "head", &Roots::default(), refusal);
        assert!(
            stranger.contains("`netbe machine add --address 10.77.0.9 --mac MAC"),
            "{stranger}"
        );
        let (environment, read_only) = (Uuid::from_u128(2), false);
        let root = Root { machine: "web1".into(), environment, read_only, view: View::Joined };
        let named = sentence(address, "head", &Roots::new(Some(root), Vec::new()), refusal);
        assert!(named.starts_with("web1 (10.77.0.9) is refused the root head"), "{named}");
        assert!(named.contains("`netbe sharepxe --machine web1 head`"), "{named}");
    }
}

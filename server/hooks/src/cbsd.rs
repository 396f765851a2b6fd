//! CBSD's contract for hooks: which of its directories hold them, and what they find in their environment.
//!
//! Below CBSD's working directory each jail has `jails-system/NAME/master_EVENT.d` for what runs on the host. CBSD
//! itself runs these files in no order, without a limit in time, and ignores how they end; here they are hooks as
//! all others, but for one thing: they know no `undo`, and are not called for it.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::{Event, Occasion, Settings};

/// Where the hooks of a jail are, if CBSD has any for this event and for a jail of this name.
pub(crate) fn directory(settings: &Settings, event: &Event) -> Option<PathBuf> {
    let workdir = settings.cbsd.as_ref()?;
    let known = matches!(
        event.event,
        Occasion::Prestart | Occasion::Poststart | Occasion::Prestop | Occasion::Poststop
    );
    (known && is_jail(&event.machine))
        .then(|| workdir.join("jails-system").join(&event.machine))
        .map(|system| system.join(format!("master_{}.d", event.event)))
}

/// Whether a jail can have this name: it is a part of paths.
pub(crate) fn is_jail(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with(['.', '-']) && name.chars().all(plain)
}

/// The variables that CBSD exports for a hook (`export_jail_data_for_external_hook` in its subr/jcreate.subr), as far
/// as netbe knows them. What it does not know is not set: CBSD's own hooks test for that.
pub(crate) fn variables(settings: &Settings, event: &Event) -> Vec<(String, String)> {
    let Some(workdir) = settings.cbsd.as_ref().map(|path| path.display().to_string()) else {
        return Vec::new();
    };
    let name = &event.machine;
    let mut variables = vec![
        ("jname", name.clone()),
        ("host_hostname", name.clone()),
        ("workdir", workdir.clone()),
        ("data", format!("{workdir}/jails-data/{name}-data")),
        ("path", format!("{workdir}/jails/{name}")),
    ];
    if let Some(address) = event.address {
        let [public, private] = ["ipv4_first_public", "ipv4_first_private"];
        let kind = if is_private(address) { private } else { public };
        for variable in ["ip4_addr", "ipv4_first", kind] {
            variables.push((variable, address.to_string()));
        }
    }
    if let Some(mac) = &event.mac {
        variables.push(("nic_hwaddr0", mac.clone()));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// RFC 1918, as CBSD tells private addresses from public ones.
const fn is_private(address: Ipv4Addr) -> bool {
    address.is_private()
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::directory::steps;
    use crate::directory::test::{hook, settings};
    use crate::transaction::{self, Outcome};

    #[test]
    fn a_jails_hooks_run_with_cbsds_variables_and_are_not_undone() {
        let place = tempfile::tempdir().unwrap();
        let system = "cbsd/jails-system/web1/master_poststart.d";
        hook(
            place.path(),
            &format!("{system}/consul"),
            "echo $jname $ip4_addr $nic_hwaddr0 $data",
            0o755,
        );
        hook(place.path(), &format!("{system}/fails"), "exit 1", 0o755);
        let workdir = place.path().join("cbsd");
        let settings = Settings { cbsd: Some(workdir.clone()), ..settings(place.path()) };
        let event = Event {
            mac: Some("52:54:00:00:00:01".to_owned()),
            address: Some(Ipv4Addr::new(10, 0, 0, 7)),
            ..Event::new(Occasion::Poststart, "web1")
        };
        let steps = steps(&settings, &event).unwrap();
        let transcript = transaction::run(&steps, &event, &|_| false);
        let data = workdir.join("jails-data/web1-data");
        let expected = format!("web1 10.0.0.7 52:54:00:00:00:01 {}", data.display());
        assert_eq!(transcript.runs[0].said, expected);
        assert!(matches!(transcript.outcome, Outcome::Failed { .. }));
        assert_eq!(transcript.runs.len(), 2);
        assert_eq!(directory(&settings, &Event::new(Occasion::Up, "web1")), None);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in ["", "..", "a/b", "-f", "a b"] {
            assert!(!is_jail(name), "{name}");
        }
        assert!(is_jail("web-1.example_a"));
    }
}

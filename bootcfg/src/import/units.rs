//! What files of systemd say of containers.

use super::Run;
use super::files::File;
use crate::rule::At;
use crate::unit;

impl File<'_, '_> {
    /// Files of systemd: a container, its network, its drop-in, and the mount of its root.
    pub(super) fn unit(&mut self) {
        let reading = unit::read(&self.source.text);
        let sections = self.entries(reading);
        let folder = self.source.name.rsplit('/').nth(1).unwrap_or_default();
        let of_drop_in =
            folder.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service.d"));
        let is = |suffix: &str| self.source.name.ends_with(suffix);
        let (nspawn, network, mount) = (is(".nspawn"), is(".network"), is(".mount"));
        let name = of_drop_in.map_or_else(|| self.stem(), str::to_owned);
        let (mut rest, mut at_line) = (Vec::new(), 1);
        let mut mounted = (None, None);
        if nspawn || of_drop_in.is_some() {
            self.run_by(&name, 1, Run::Nspawn);
        }
        for At { line, value: section } in &sections {
            for (key, value) in &section.settings {
                match (section.name.as_str(), key.as_str()) {
                    ("Network", "Bridge") if nspawn => self.bridge(&name, *line, value),
                    ("Exec", "Boot" | "PrivateUsers" | "Hostname")
                    | ("Network", "Private" | "VirtualEthernet")
                        if nspawn => {}
                    ("Files", "PrivateUsersOwnership" | "BindReadOnly") if nspawn => {}
                    (_, key) if nspawn => {
                        at_line = *line;
                        rest.push(format!("{}=", key));
                    }
                    ("Link", "MACAddress") if network => self.mac(&name, *line, value),
                    ("Network" | "Address", "Address") if network => {
                        self.address(&name, *line, value)
                    }
                    ("Service", "Environment") if of_drop_in.is_some() => {
                        if let Some(mac) =
                            value.trim_matches('"').strip_prefix("SYSTEMD_NSPAWN_NETWORK_MAC=")
                        {
                            self.mac(&name, *line, mac);
                        }
                    }
                    ("Mount", "What") if mount => mounted.0 = Some((*line, value.clone())),
                    ("Mount", "Where") if mount => mounted.1 = Some(value.clone()),
                    _ => {}
                }
            }
        }
        if let (Some((line, what)), Some(at)) = mounted {
            match at.strip_prefix("/var/lib/machines/").or_else(|| at.strip_prefix("/var/lib/container/")) {
                Some(container) if !container.contains('/') => {
                    self.root(container, line, &what);
                    self.run_by(container, line, Run::Nspawn);
                }
                _ => self.leave(line, format!("{what} is mounted on {at}, which is no container's: netbe mounts nothing here")),
            }
        } else if !nspawn && !network && of_drop_in.is_none() {
            self.leave(1, "this unit is of no container: give .nspawn, .network and .mount files");
        }
        self.rest(at_line, &name, &rest);
    }
}

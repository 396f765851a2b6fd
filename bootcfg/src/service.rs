//! What starts guests with their host: units for systemd (systemd.unit(5)), a script for FreeBSD's rc(8).
//!
//! A guest's keeper is netbe itself, in the foreground, so that both have little to say.

use crate::conf::File;
use crate::error::refuse;
use crate::{ConfigError, shell, unit};

/// netbe on a host, as its services run it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// The path of the program.
    pub program: String,
    /// The options by which it finds its store and its state, each word by itself; none for the usual ones.
    pub site: Vec<String>,
}

/// The units: `netbe-guest@NAME` keeps one guest, `netbe-guests` starts all with autostart, in their order.
pub fn units(service: &Service) -> Result<Vec<File>, ConfigError> {
    let program = words(service)?;
    let guest = format!(
        "[Unit]\n\
         Description=Guest %i of netbe\n\
         Documentation=man:netbe-guest-run(8)\n\
         Wants=network-online.target\n\
         After=network-online.target local-fs.target zfs.target netbe.service\n\
         \n\
         [Service]\n\
         Type=exec\n\
         EnvironmentFile=-/etc/default/netbe\n\
         ExecStart={program} guest run %i\n\
         # The keeper starts the guest again as its machine's record says; this is for the keeper itself.\n\
         Restart=on-abnormal\n\
         RestartSec=5\n\
         # SIGTERM is for the keeper, which asks the guest. What is left when the keeper has ended is killed.\n\
         KillMode=mixed\n\
         TimeoutStopSec=120\n\
         # A container has groups of its own below.\n\
         Delegate=yes\n\
         Slice=machine.slice\n\
         TasksMax=16384\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    );
    let all = format!(
        "[Unit]\n\
         Description=Guests of netbe that start with this host\n\
         Documentation=man:netbe-start(8)\n\
         Wants=network-online.target\n\
         After=network-online.target local-fs.target zfs.target netbe.service\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         EnvironmentFile=-/etc/default/netbe\n\
         # One that cannot be started is told in the journal, and ends no other.\n\
         ExecStart=-{program} start --all\n\
         ExecStop={program} stop --all\n\
         TimeoutStartSec=infinity\n\
         TimeoutStopSec=30min\n\
         Delegate=yes\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    );
    let file = |name: &str, text| File { path: format!("etc/systemd/system/{name}"), text };
    Ok(vec![file("netbe-guest@.service", guest), file("netbe-guests.service", all)])
}

/// The script for rc(8), below the prefix of ports: `service netbe_guest start` starts all guests with
/// autostart, and `service netbe_guest start NAME` one.
pub fn rc_script(service: &Service, prefix: &str) -> Result<File, ConfigError> {
    let reason = "write a directory without spaces and quotes";
    refuse("the prefix", prefix, RC, reason, |c| c.is_whitespace() || "'\"\\$`".contains(c))?;
    let program =
        shell::line(&[std::slice::from_ref(&service.program), service.site.as_slice()].concat())?;
    let text = format!(
        "#!/bin/sh\n\
         \n\
         # PROVIDE: netbe_guest\n\
         # REQUIRE: netbe\n\
         # KEYWORD: shutdown\n\
         \n\
         # Add these lines to /etc/rc.conf to start guests with this host:\n\
         #\n\
         # netbe_guest_enable (bool):\tSet it to YES to start guests. Default: NO.\n\
         # netbe_guest_list (str):\tThe guests, by their names. Default: those with\n\
         #\t\t\tautostart, in their order.\n\
         # netbe_store, netbe_state:\tAs for netbe itself.\n\
         \n\
         . /etc/rc.subr\n\
         \n\
         name=netbe_guest\n\
         desc=\"Guests of netbe\"\n\
         rcvar=netbe_guest_enable\n\
         \n\
         load_rc_config netbe\n\
         load_rc_config $name\n\
         \n\
         : ${{netbe_guest_enable:=\"NO\"}}\n\
         : ${{netbe_guest_list:=\"\"}}\n\
         : ${{netbe_store:=\"\"}}\n\
         : ${{netbe_state:=\"\"}}\n\
         [ -z \"${{netbe_store}}\" ] || export NETBE_STORE=\"${{netbe_store}}\"\n\
         [ -z \"${{netbe_state}}\" ] || export NETBE_STATE=\"${{netbe_state}}\"\n\
         \n\
         start_cmd=\"netbe_guest_do start\"\n\
         stop_cmd=\"netbe_guest_do stop\"\n\
         restart_cmd=\"netbe_guest_do stop; netbe_guest_do start\"\n\
         status_cmd=netbe_guest_status\n\
         extra_commands=\"status\"\n\
         guests=\"${{netbe_guest_list}}\"\n\
         \n\
         # What stands behind the verb of service(8) are guests, too.\n\
         netbe_guest_do()\n\
         {{\n\
         \tif [ -n \"${{guests}}\" ]; then\n\
         \t\t{program} \"$1\" -- ${{guests}}\n\
         \telse\n\
         \t\t{program} \"$1\" --all\n\
         \tfi\n\
         }}\n\
         \n\
         netbe_guest_status()\n\
         {{\n\
         \t{program} guest list\n\
         }}\n\
         \n\
         verb=\"$1\"\n\
         [ $# -gt 0 ] && shift\n\
         [ $# -eq 0 ] || guests=\"$*\"\n\
         run_rc_command \"$verb\"\n"
    );
    Ok(File { path: format!("{}/etc/rc.d/netbe_guest", prefix.trim_start_matches('/')), text })
}

/// The program and its options as a unit has them (systemd.service(5), "Command lines").
fn words(service: &Service) -> Result<String, ConfigError> {
    let reason = "write it without spaces, quotes, backslashes and control characters";
    let bad = |c: char| c.is_control() || c.is_whitespace() || "'\"\\$;".contains(c);
    let mut line = String::new();
    for word in std::iter::once(&service.program).chain(&service.site) {
        refuse("the word", word, UNIT, reason, bad)?;
        line += if line.is_empty() { "" } else { " " };
        line += &unit::literal(word);
    }
    if service.program.starts_with('/') {
        return Ok(line);
    }
    let (what, reason) = ("the program", "write its whole path, from the slash on");
    Err(ConfigError::Character { what, value: service.program.clone(), format: UNIT, reason })
}

const UNIT: &str = "a unit of systemd";
const RC: &str = "a script for rc(8)";

#[cfg(test)]
mod test {
    use super::*;

    fn usual() -> Service {
        Service { program: "/usr/bin/netbe".into(), site: Vec::new() }
    }

    #[test]
    fn packages_have_what_is_written() {
        let units = units(&usual()).unwrap();
        assert_eq!(units[0].text, include_str!("../../server/dist/linux/netbe-guest@.service"));
        assert_eq!(units[1].text, include_str!("../../server/dist/linux/netbe-guests.service"));
        let port = Service { program: "%%PREFIX%%/bin/netbe".into(), site: Vec::new() };
        let script = rc_script(&port, "%%PREFIX%%").unwrap();
        assert_eq!(script.text, include_str!("../../server/dist/freebsd/files/netbe_guest.in"));
        assert_eq!(
            rc_script(&usual(), "/usr/local").unwrap().path,
            "usr/local/etc/rc.d/netbe_guest"
        );
    }

    #[test]
    fn the_script_has_its_words_once_in_quotes() {
        let site = ["--state", "/a $(b) `c` \"d\""].map(str::to_owned).to_vec();
        let script = rc_script(&Service { site, ..usual() }, "/usr/local").unwrap().text;
        let words = "/usr/bin/netbe --state '/a $(b) `c` \"d\"'";
        let lines: Vec<&str> = script.lines().filter(|line| line.contains("/usr/bin")).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.trim_start().starts_with(words)), "{lines:?}");
        assert!(script.contains("status_cmd=netbe_guest_status\n"));
    }

    #[test]
    fn units_are_read_as_they_were_meant() {
        let site = ["--state", "/srv/50%/state"].map(str::to_owned).to_vec();
        let units = units(&Service { site, ..usual() }).unwrap();
        let sections = unit::read(&units[0].text).whole().unwrap();
        let service = sections.iter().find(|section| section.name == "Service").unwrap();
        let start = service.settings.iter().find(|(name, _)| name == "ExecStart").unwrap();
        assert_eq!(start.1, "/usr/bin/netbe --state /srv/50%%/state guest run %i");
    }

    #[test]
    fn what_would_be_other_words_is_refused() {
        for program in ["netbe", "/usr/bin/net be", "/a\nExecStartPre=/bin/x", "/a$b", ""] {
            let service = Service { program: program.into(), site: Vec::new() };
            assert!(units(&service).is_err(), "{program}");
        }
        assert!(rc_script(&usual(), "/a b").is_err());
    }
}

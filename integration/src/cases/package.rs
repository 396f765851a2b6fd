//! netbe's Debian package, in a clean Debian where systemd runs: installed, started, upgraded, removed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cache::Cache;
use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::package;
use crate::packages::{self, PACKAGING};
use crate::suite::{Case, Outcome};
use crate::systemd::System;

pub(super) const CASES: &[Case] =
    &[Case::new("package installed started upgraded removed", lifetime).light()];

fn lifetime(lab: &Lab) -> Result<Outcome, Failure> {
    packages::install(&[PACKAGING])?;
    let directory = lab.directory("package")?;
    let netbe = lab.netbe()?;
    for version in [OLD, NEW] {
        let place = directory.join(version);
        fs::create_dir(&place).during(place.display())?;
        package::make(netbe, version, &place, &directory)?;
    }
    let system = match System::start(&Cache::open()?, &directory.join("system"))? {
        Ok(system) => system,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    for version in [OLD, NEW] {
        let name = format!("netbe_{version}_amd64.deb");
        let to = system.root().join(&name);
        fs::copy(directory.join(&name), &to).during(to.display())?;
    }
    installs(&system)?;
    is_watched(&system)?;
    is_closed_where_it_is_asked_for(&system)?;
    upgrades(&system)?;
    goes(&system)?;
    Ok(Outcome::Passed)
}

/// It is installed, says why it does not serve yet, and is started when that is right.
fn installs(system: &System) -> Result<(), Failure> {
    let done = system.inside(&format!("dpkg -i /netbe_{OLD}_amd64.deb"))?;
    let told = done.stderr.clone();
    done.success()?;
    contains(&told, "not started yet: netbe: there is no store")?;
    is(system, "systemctl is-enabled netbe", "enabled")?;
    is(system, "systemctl is-active netbe; true", "inactive")?;
    let program = system.root().join("usr/bin/netbe");
    let sections = crate::process::Program::new("readelf").arg("-S").arg(&program).run(MINUTE)?;
    ensure(!sections.contains(".symtab"), || "the program has its symbols".to_owned())?;
    for page in ["man8/netbe-serve.8.gz", "man5/netbe.toml.5.gz"] {
        let page = system.root().join("usr/share/man").join(page);
        ensure(page.exists(), || format!("{} is missing", page.display()))?;
    }
    system.run("netbe create base && netbe machine add --mac 52:54:00:12:34:56 web1")?;
    system.run("netbe sharepxe --machine web1 base && systemctl start netbe")?;
    is(system, "systemctl is-active netbe", "active")?;
    let status = system.run("cat /proc/$(systemctl show -P MainPID netbe)/status")?;
    // The same fourteen capabilities, in all sets but those that are empty.
    for line in
        ["CapEff:\t00000000882026ff", "CapBnd:\t00000000882026ff", "CapAmb:\t0000000000000000"]
    {
        contains(&status, line)?;
    }
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        contains(&status, line)?;
    }
    let text = system.run("systemctl show -P StatusText netbe")?;
    contains(&text, "boot environments 1, named machines 1")?;
    // Mounts of the server are to be everybody's.
    let own = "[ \"$(readlink /proc/$(systemctl show -P MainPID netbe)/ns/mnt)\" = \"$(readlink /proc/1/ns/mnt)\" ]";
    system.run(own)?;
    let complaints = system.inside("systemd-analyze verify --man=no netbe.service")?.stderr;
    ensure(!complaints.contains("netbe.service:"), || complaints.clone())?;
    system.run("systemctl reload netbe")?;
    is(system, "systemctl is-active netbe", "active")?;
    // journald has the times, and knows what is a warning.
    system.run("systemctl restart netbe")?;
    let lines = system.run("journalctl -u netbe -o cat -p 6..6")?;
    ensure(lines.lines().any(|line| line == "ending"), || format!("no bare line in:\n{lines}"))?;
    Ok(())
}

/// A server that hangs is started again by systemd.
fn is_watched(system: &System) -> Result<(), Failure> {
    drop_in(system, "watchdog.conf", "[Service]\nWatchdogSec=8\n")?;
    system.run("sleep 20")?;
    is(system, "systemctl show -P NRestarts netbe", "0")?;
    system.run("kill -STOP $(systemctl show -P MainPID netbe)")?;
    wait_for("another server", Duration::from_secs(90), || {
        let restarts = system.run("systemctl show -P NRestarts netbe")?;
        let active = system.run("systemctl is-active netbe || true")?;
        Ok((restarts.trim() == "1" && active.trim() == "active").then_some(()))
    })?;
    contains(&system.run("journalctl -u netbe")?, "Watchdog timeout")
}

/// With what closed.conf adds the server serves all the same, and cannot write to the host's programs.
fn is_closed_where_it_is_asked_for(system: &System) -> Result<(), Failure> {
    let text = fs::read_to_string(system.root().join("usr/share/netbe/closed.conf"));
    drop_in(system, "closed.conf", &text.during("closed.conf")?)?;
    let enter = "nsenter -t $(systemctl show -P MainPID netbe) -m -r";
    let tried = system.inside(&format!("{enter} touch /usr/bin/written"))?.stderr;
    contains(&tried, "Read-only file system")?;
    system.run("netbe clone base other && netbe machine add --mac 52:54:00:12:34:57 web2")?;
    system.run("netbe status | grep -q web2")?;
    system.run("rm -r /etc/systemd/system/netbe.service.d && systemctl daemon-reload").map(drop)
}

/// Another version takes the place of the first: state that an earlier release wrote is read, and the
/// server goes on with the same key.
fn upgrades(system: &System) -> Result<(), Failure> {
    let key = system.run("cat /var/lib/netbe/site.key")?;
    // An environment got another name, and a release that had no journal for that was killed over it.
    let script = "systemctl stop netbe && cd /var/lib/netbe/store && \
         uuid=$(sed -n 's/^uuid = //p' meta/base.toml) && mv be/base be/next && \
         mv meta/base.toml meta/next.toml && umask 077 && \
         printf 'store = \"dir:/var/lib/netbe/store\"\\nuuid = %s\\nold = \"base\"\\n' \"$uuid\" \
         >../renaming.toml && systemctl start netbe";
    system.run(script)?;
    let before = system.run("systemctl show -P MainPID netbe")?;
    system.run(&format!("dpkg -i /netbe_{NEW}_amd64.deb"))?;
    is(system, "systemctl is-active netbe", "active")?;
    let after = system.run("systemctl show -P MainPID netbe")?;
    ensure(before != after, || "the old program still runs".to_owned())?;
    contains(&system.run("netbe machine list")?, "next")?;
    ensure(!system.root().join("var/lib/netbe/renaming.toml").exists(), || {
        "renaming.toml is still there".to_owned()
    })?;
    ensure(system.run("cat /var/lib/netbe/site.key")? == key, || "another key".to_owned())?;
    // The state of a server that runs is kept, and put back only when none does.
    system.run("netbe backup /root/kept.tar")?;
    let refused = system.inside("netbe restore -f /root/kept.tar")?;
    ensure(refused.status.code() == Some(1), || "restored below a server".to_owned())?;
    contains(&refused.stderr, "already serves")
}

/// It is removed and purged; boot environments stay, and without any nothing stays.
fn goes(system: &System) -> Result<(), Failure> {
    system.run("dpkg -r netbe")?;
    is(system, "systemctl is-active netbe; true", "inactive")?;
    system.run("test -f /etc/netbe.toml && test -f /var/lib/netbe/site.key")?;
    // Installed again it serves again.
    system.run(&format!("dpkg -i /netbe_{NEW}_amd64.deb"))?;
    is(system, "systemctl is-active netbe", "active")?;
    let purged = system.inside("dpkg --purge netbe")?;
    let told = purged.stderr.clone();
    purged.success()?;
    contains(&told, "There are boot environments below /var/lib/netbe")?;
    system.run("test ! -e /etc/netbe.toml && test -d /var/lib/netbe/store/be/next")?;
    system.run("rm -r /var/lib/netbe")?;
    system.run(&format!("dpkg -i /netbe_{NEW}_amd64.deb && dpkg --purge netbe"))?;
    let left = system.run(
        "find / -xdev -name '*netbe*' ! -name '*.deb' ! -path '/proc/*' ! -path '/sys/*' ! -path '/tmp/*'",
    )?;
    ensure(left.trim().is_empty(), || format!("left behind:\n{left}"))
}

/// Adds to the unit, and starts the service again.
fn drop_in(system: &System, name: &str, text: &str) -> Result<(), Failure> {
    let folder = system.root().join("etc/systemd/system/netbe.service.d");
    fs::create_dir_all(&folder).during(folder.display())?;
    let file = folder.join(Path::new(name));
    fs::write(&file, text).during(file.display())?;
    system.run("systemctl daemon-reload && systemctl restart netbe").map(drop)
}

fn is(system: &System, script: &str, expected: &str) -> Result<(), Failure> {
    let said = system.run(script)?;
    ensure(said.trim() == expected, || format!("{script}: {said:?} and not {expected:?}"))
}

fn contains(text: &str, words: &str) -> Result<(), Failure> {
    ensure(text.contains(words), || format!("{words:?} is not in {text:?}"))
}

/// A version before this one, and a later one: what is in them is the same.
const OLD: &str = "0.0.9";
const NEW: &str = env!("CARGO_PKG_VERSION");
const MINUTE: Duration = Duration::from_secs(60);

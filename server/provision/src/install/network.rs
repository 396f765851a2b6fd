//! What DHCP tells a Linux machine besides its address: its initial RAM disk hears it, and leaves it where
//! no program of the system looks.

use std::path::Path;

use hostfs::{Entry, EntryKind, Inside, InsideError};

use super::InstallError;
use super::configure::Configured;

/// Has systemd tell it to resolv.conf(5), systemd-resolved and systemd-timesyncd. A resolv.conf that says
/// something stays.
pub(super) fn receive_dhcp(inside: &Inside, done: &mut Configured) -> Result<(), InstallError> {
    let has = |path: &str| inside.exists(path).map_err(on(path));
    if !has(SYSTEMD)? {
        return Ok(());
    }
    for (path, text) in [(SCRIPT, SCRIPT_TEXT), (SERVICE, SERVICE_TEXT)] {
        if let Some(folder) = Path::new(path).parent() {
            inside.make_dir(folder).map_err(on(path))?;
        }
        inside.write_atomic(path, text.as_bytes(), 0o644).map_err(on(path))?;
        done.written.push(path.into());
    }
    inside.make_dir(WANTS).map_err(on(WANTS))?;
    inside.put_link(WANTED, Path::new(SERVICE)).map_err(on(WANTED))?;
    let says = |line: &[u8]| !matches!(line.trim_ascii(), [] | [b'#' | b';', ..]);
    let is_wanted = match inside.entry(RESOLV_CONF).map_err(on(RESOLV_CONF))? {
        None => true,
        Some(Entry { kind: EntryKind::File, .. }) => inside
            .read_small(RESOLV_CONF, MAX_RESOLV_CONF)
            .is_ok_and(|text| !text.split(|byte| *byte == b'\n').any(says)),
        Some(_) => false,
    };
    if is_wanted {
        inside.put_link(RESOLV_CONF, Path::new(TOLD)).map_err(on(RESOLV_CONF))?;
        done.written.push(RESOLV_CONF.into());
    } else {
        done.kept.push(RESOLV_CONF.into());
    }
    Ok(())
}

fn on(path: &str) -> impl Fn(InsideError) -> InstallError {
    let path = path.to_owned();
    move |error| InstallError::Inside { archive: path.clone(), error }
}

const SYSTEMD: &str = "/lib/systemd/systemd";
const SCRIPT: &str = "/usr/local/lib/netbe/network.sh";
const SCRIPT_TEXT: &str = include_str!("network.sh");
const SERVICE: &str = "/etc/systemd/system/netbe-network.service";
const SERVICE_TEXT: &str = include_str!("network.service");
const WANTS: &str = "/etc/systemd/system/sysinit.target.wants";
const WANTED: &str = "/etc/systemd/system/sysinit.target.wants/netbe-network.service";
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where the script writes it, as seen from /etc.
const TOLD: &str = "../run/netbe/resolv.conf";
/// More than any of it has, in bytes.
const MAX_RESOLV_CONF: usize = 1 << 16;

#[cfg(test)]
mod test {
    use std::fs;
    use std::process::Command;

    use super::*;

    fn debian() -> (tempfile::TempDir, Inside) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("lib/systemd")).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::create_dir_all(root.path().join("usr/local/lib")).unwrap();
        fs::write(root.path().join("lib/systemd/systemd"), "").unwrap();
        let inside = Inside::enter(root.path()).unwrap();
        (root, inside)
    }

    #[test]
    fn a_resolv_conf_is_made_where_there_is_none() {
        let (root, inside) = debian();
        let mut done = Configured::default();
        receive_dhcp(&inside, &mut done).unwrap();
        let told = fs::read_link(root.path().join("etc/resolv.conf")).unwrap();
        assert_eq!(told, Path::new("../run/netbe/resolv.conf"));
        let service = fs::read_link(root.path().join(WANTED.trim_start_matches('/'))).unwrap();
        assert!(root.path().join(service.strip_prefix("/").unwrap()).exists());

        let (root, inside) = debian();
        fs::write(root.path().join("etc/resolv.conf"), "# none\n\n").unwrap();
        receive_dhcp(&inside, &mut Configured::default()).unwrap();
        assert!(root.path().join("etc/resolv.conf").is_symlink());

        let (root, inside) = debian();
        fs::write(root.path().join("etc/resolv.conf"), "nameserver 10.9.9.9\n").unwrap();
        let mut done = Configured::default();
        receive_dhcp(&inside, &mut done).unwrap();
        assert_eq!(done.kept, [Path::new(RESOLV_CONF)]);
        let text = fs::read_to_string(root.path().join("etc/resolv.conf")).unwrap();
        assert_eq!(text, "nameserver 10.9.9.9\n");
    }

    /// As klibc's ipconfig writes it, and with what a hostile server may say.
    #[test]
    fn the_script_tells_what_ipconfig_heard_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let heard = "DEVICE='eth0'\nIPV4DNS0='10.0.0.53'\nIPV4DNS1='0.0.0.0'\nHOSTNAME='web1'\n\
                     DNSDOMAIN='lab_1.example.org'\n";
        let cmdline = "root=/dev/nfs netbe.ntp=10.0.0.9,10.0.0.8 quiet\n";
        let run = |heard: &str, cmdline: &str| {
            match heard {
                "" => fs::remove_file(at("net-eth0.conf")).unwrap(),
                heard => fs::write(at("net-eth0.conf"), heard).unwrap(),
            }
            fs::write(at("cmdline"), cmdline).unwrap();
            let run = format!("{}/", dir.path().display());
            let script = SCRIPT_TEXT.replace("/run/", &run).replace("/proc/", &run);
            assert!(Command::new("sh").args(["-euc", &script]).status().unwrap().success());
            let read = |name: &str| fs::read_to_string(at(name)).unwrap_or_default();
            (read("netbe/resolv.conf"), read("systemd/timesyncd.conf.d/10-netbe.conf"))
        };
        assert_eq!(
            run(heard, cmdline),
            (
                "search lab_1.example.org\nnameserver 10.0.0.53\n".to_owned(),
                "[Time]\nNTP=10.0.0.9 10.0.0.8\n".to_owned()
            )
        );
        fs::remove_dir_all(at("systemd")).unwrap();
        let hostile = "IPV4DNS0='$(touch x)'\nDNSDOMAIN='a;b'\n";
        let nothing = "# The initial RAM disk left no name servers in /run/net-*.conf.\n";
        let nothing = (nothing.replace("/run", dir.path().to_str().unwrap()), String::new());
        assert_eq!(run(hostile, "netbe.ntp=;reboot\n"), nothing);
        assert_eq!(run("", "quiet\n"), nothing);
        assert!(!at("systemd").exists());
    }
}

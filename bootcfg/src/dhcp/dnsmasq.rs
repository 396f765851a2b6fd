//! Lines of dnsmasq.conf (dnsmasq(8)). The first `dhcp-boot` whose tags are all set counts.

use std::fmt::Write as _;

use super::{Advice, Firmware, Machine, Read};
use crate::Mac;

pub(super) fn render(advice: &Advice) -> String {
    let server = advice.server;
    let mut text = String::new();
    let mut own = String::new();
    // Writing to a string does not fail.
    if let Some(Machine { name, mac, address }) = &advice.machine {
        let address = address.map(|address| format!(",{address}")).unwrap_or_default();
        let _ = writeln!(text, "dhcp-host={mac},set:netbe-{name},{name}{address}");
        own = format!("tag:netbe-{name},");
    }
    let mut excluded = "";
    if let Some(url) = &advice.ipxe {
        let _ = writeln!(text, "dhcp-match=set:netbe-ipxe,175");
        let _ = writeln!(text, "dhcp-boot={own}tag:netbe-ipxe,{url},{server},{server}");
        excluded = ",tag:!netbe-ipxe";
    }
    for (kind, file) in &advice.files {
        let name = kind.name();
        for number in kind.numbers() {
            let _ = writeln!(text, "dhcp-match=set:netbe-{name},option:client-arch,{number}");
        }
        let _ =
            writeln!(text, "dhcp-boot={own}tag:netbe-{name}{excluded},{file},{server},{server}");
    }
    // Forced: FreeBSD 10's pxeboot asks for no option by name.
    if let Some(path) = &advice.root_path {
        let _ = writeln!(text, "dhcp-option-force={own}option:root-path,{path}");
    }
    for (code, word) in advice.numbered() {
        let _ = writeln!(text, "dhcp-option-force={own}{code},{word}");
    }
    text
}

pub(super) fn read(text: &str) -> Read {
    let mut advice = Advice::empty();
    for (index, line) in text.lines().enumerate() {
        let odd = || (index + 1, format!("{line}: this is no line of ours"));
        let known = line.is_empty() || line.starts_with('#') || take(&mut advice, line).is_some();
        if !known {
            return Err(odd());
        }
    }
    if advice.files.is_empty() {
        return Err((1, "no line says dhcp-boot for a kind of firmware".to_owned()));
    }
    Ok(advice)
}

fn take(advice: &mut Advice, line: &str) -> Option<()> {
    let (key, value) = line.split_once('=')?;
    let words: Vec<&str> = value.split(',').collect();
    let plain: Vec<&str> =
        words.iter().copied().skip_while(|word| word.starts_with("tag:")).collect();
    match (key, plain.as_slice()) {
        ("dhcp-host", [mac, tag, name, rest @ ..]) => {
            tag.strip_prefix("set:netbe-").filter(|tag| tag == name)?;
            let mac = Mac::parse(mac)?;
            let address = rest.first().map(|address| address.parse()).transpose().ok()?;
            advice.machine = Some(Machine { name: (*name).to_owned(), mac, address });
        }
        ("dhcp-match", [tag, ..]) => {
            tag.strip_prefix("set:netbe-")?;
        }
        ("dhcp-boot", [file, _, server]) => {
            advice.server = server.parse().ok()?;
            let tag = |word: &&str| word.strip_prefix("tag:netbe-").map(str::to_owned);
            // The machine's own tag may stand before that of the firmware.
            let kind = words.iter().filter_map(tag).next_back()?;
            match Firmware::by_name(&kind) {
                Some(kind) => advice.files.push((kind, (*file).to_owned())),
                None if kind == "ipxe" => advice.ipxe = Some((*file).to_owned()),
                None => return None,
            }
        }
        ("dhcp-option-force", ["option:root-path", path]) => {
            advice.root_path = Some((*path).to_owned());
        }
        ("dhcp-option-force", [code, word]) => {
            code.parse::<u8>().ok().filter(|code| *code >= 250)?;
            advice.variables.push((*word).to_owned());
        }
        (_, _) => return None,
    }
    Some(())
}

#[cfg(test)]
mod test {
    use super::super::test::{freebsd, linux};
    use super::*;

    #[test]
    fn a_linux_machine_is_told_by_its_ethernet_address() {
        assert_eq!(
            render(&linux()),
            "dhcp-host=52:54:00:00:00:01,set:netbe-web1,web1,10.77.0.9\n\
             dhcp-match=set:netbe-ipxe,175\n\
             dhcp-boot=tag:netbe-web1,tag:netbe-ipxe,http://10.77.0.1/boot.ipxe,10.77.0.1,10.77.0.1\n\
             dhcp-match=set:netbe-bios,option:client-arch,0\n\
             dhcp-boot=tag:netbe-web1,tag:netbe-bios,tag:!netbe-ipxe,undionly.kpxe,10.77.0.1,\
             10.77.0.1\n\
             dhcp-match=set:netbe-uefi,option:client-arch,7\n\
             dhcp-match=set:netbe-uefi,option:client-arch,9\n\
             dhcp-boot=tag:netbe-web1,tag:netbe-uefi,tag:!netbe-ipxe,snponly.efi,10.77.0.1,\
             10.77.0.1\n"
        );
    }

    #[test]
    fn freebsds_loader_is_told_its_root_whoever_it_is() {
        let text = render(&freebsd());
        assert!(text.contains("\ndhcp-option-force=option:root-path,10.77.0.1:/be/free\n"));
        assert!(text.contains("\ndhcp-option-force=250,boot.nfsroot.options=nolockd\n"), "{text}");
    }
}

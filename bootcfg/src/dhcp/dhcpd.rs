//! Statements of dhcpd.conf(5).

use std::fmt::Write as _;

use super::{Advice, Firmware, Machine, Read};
use crate::Mac;

pub(super) fn render(advice: &Advice) -> String {
    let mut text = "option netbe-arch code 93 = unsigned integer 16;\n".to_owned();
    // Writing to a string does not fail.
    for (code, _) in advice.numbered() {
        let _ = writeln!(text, "option netbe-{code} code {code} = text;");
    }
    let indent = match &advice.machine {
        Some(Machine { name, mac, address }) => {
            let _ = writeln!(text, "host {name} {{\n  hardware ethernet {mac};");
            let _ = writeln!(text, "  option host-name \"{name}\";");
            if let Some(address) = address {
                let _ = writeln!(text, "  fixed-address {address};");
            }
            "  "
        }
        None => "",
    };
    let _ = writeln!(text, "{indent}next-server {};", advice.server);
    if let Some(path) = &advice.root_path {
        let _ = writeln!(text, "{indent}option root-path \"{path}\";");
    }
    let mut list = String::new();
    for (code, word) in advice.numbered() {
        let _ = writeln!(text, "{indent}option netbe-{code} \"{word}\";");
        let _ = write!(list, ", {code:02x}");
    }
    if !list.is_empty() {
        // dhcpd sends only what a client asks for.
        let asked = "option dhcp-parameter-request-list";
        let _ = writeln!(text, "{indent}{asked} = concat({asked}{list});");
    }
    let mut word = "if";
    if let Some(url) = &advice.ipxe {
        let _ = writeln!(text, "{indent}if option user-class = \"iPXE\" {{ filename \"{url}\"; }}");
        word = "elsif";
    }
    for (kind, file) in &advice.files {
        let tests =
            kind.numbers().iter().map(|number| format!("option netbe-arch = 00:{number:02x}"));
        let test = tests.collect::<Vec<_>>().join(" or ");
        let _ = writeln!(text, "{indent}{word} {test} {{ filename \"{file}\"; }}");
        word = "elsif";
    }
    if advice.machine.is_some() {
        text += "}\n";
    }
    text
}

pub(super) fn read(text: &str) -> Read {
    let mut advice = Advice::empty();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if take(&mut advice, &words).is_none() {
            return Err((index + 1, format!("{line}: this is no statement of ours")));
        }
    }
    if advice.files.is_empty() {
        return Err((1, "no statement says the filename for a kind of firmware".to_owned()));
    }
    Ok(advice)
}

fn take(advice: &mut Advice, words: &[&str]) -> Option<()> {
    let bare = |word: &str| word.strip_suffix(';').map(str::to_owned);
    let quoted = |word: &str| {
        let inner = word.strip_suffix(';')?.strip_prefix('"')?.strip_suffix('"')?;
        (!inner.contains(['"', '\\'])).then(|| inner.to_owned())
    };
    match words {
        [] | ["}"] | ["option", _, "code", ..] | ["option", "dhcp-parameter-request-list", ..] => {}
        ["host", name, "{"] => {
            let (name, mac) = ((*name).to_owned(), Mac([0; 6]));
            advice.machine = Some(Machine { name, mac, address: None });
        }
        ["hardware", "ethernet", mac] => advice.machine.as_mut()?.mac = Mac::parse(&bare(mac)?)?,
        ["fixed-address", address] => {
            advice.machine.as_mut()?.address = Some(bare(address)?.parse().ok()?);
        }
        ["option", "host-name", name] => {
            advice.machine.as_ref().filter(|own| quoted(name).as_ref() == Some(&own.name))?;
        }
        ["next-server", server] => advice.server = bare(server)?.parse().ok()?,
        ["option", "root-path", path] => advice.root_path = Some(quoted(path)?),
        ["option", _, word] => advice.variables.push(quoted(word)?),
        ["if", "option", "user-class", "=", "\"iPXE\"", "{", "filename", url, "}"] => {
            advice.ipxe = Some(quoted(url)?);
        }
        ["if" | "elsif", "option", "netbe-arch", "=", number, .., "{", "filename", file, "}"] => {
            let number = u8::from_str_radix(number.strip_prefix("00:")?, 16).ok()?;
            let is = |kind: &Firmware| kind.numbers().first() == Some(&number);
            advice.files.push((Firmware::ALL.into_iter().find(is)?, quoted(file)?));
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod test {
    use super::super::test::{freebsd, linux};
    use super::*;

    #[test]
    fn a_linux_machine_is_a_host() {
        assert_eq!(
            render(&linux()),
            "option netbe-arch code 93 = unsigned integer 16;\n\
             host web1 {\n  \
               hardware ethernet 52:54:00:00:00:01;\n  \
               option host-name \"web1\";\n  \
               fixed-address 10.77.0.9;\n  \
               next-server 10.77.0.1;\n  \
               if option user-class = \"iPXE\" { filename \"http://10.77.0.1/boot.ipxe\"; }\n  \
               elsif option netbe-arch = 00:00 { filename \"undionly.kpxe\"; }\n  \
               elsif option netbe-arch = 00:07 or option netbe-arch = 00:09 { filename \
               \"snponly.efi\"; }\n\
             }\n"
        );
    }

    #[test]
    fn variables_are_sent_to_a_loader_that_does_not_ask_for_them() {
        let text = render(&freebsd());
        let list = "\noption dhcp-parameter-request-list = concat(option \
                    dhcp-parameter-request-list, fa);\n";
        assert!(text.contains(list), "{text}");
        assert!(text.contains("\noption netbe-250 \"boot.nfsroot.options=nolockd\";\n"), "{text}");
    }
}

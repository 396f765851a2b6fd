//! Reads which machines the configuration of another DHCP server knows: dhcpd.conf(5) of ISC, and dnsmasq's
//! `dhcp-host` lines and files of them.

use std::net::Ipv4Addr;

use crate::Mac;
use crate::rule::{Reading, Rule};

/// A machine that another server knows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Host {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Its Ethernet addresses.
    pub macs: Vec<Mac>,
    /// The address that is kept for it.
    pub address: Option<Ipv4Addr>,
    /// The path of its root, as `SERVER:PATH` or `PATH`.
    pub root: Option<String>,
    /// What is said of it besides.
    pub rest: Vec<String>,
}

/// Reads the hosts of a dhcpd.conf(5).
#[must_use]
pub fn dhcpd(text: &str) -> Reading<Host> {
    let mut reading = Reading::default();
    let mut blocks: Vec<Block> = vec![Block::default()];
    let mut words: Vec<String> = Vec::new();
    let mut begun = 1;
    let mut tokens = Tokens { rest: text.chars().peekable(), line: 1 };
    loop {
        let token = match tokens.next() {
            Ok(Some(token)) => token,
            Ok(None) => break,
            Err((line, message)) => {
                reading.report(line, Rule::Syntax, message);
                return reading;
            }
        };
        if words.is_empty() {
            begun = tokens.line;
        }
        match token.as_str() {
            "{" => {
                if blocks.len() >= DEEPEST {
                    reading.report(
                        begun,
                        Rule::Syntax,
                        "blocks are nested more deeply than dhcpd reads",
                    );
                    return reading;
                }
                let root = blocks.last().and_then(|block| block.root.clone());
                let host = match words.as_slice() {
                    [word, name] if word == "host" => {
                        Some(Host { name: Some(name.clone()), ..Host::default() })
                    }
                    _ => None,
                };
                blocks.push(Block { line: begun, root, host });
                words.clear();
            }
            "}" => {
                let ended = blocks.pop();
                if blocks.is_empty() {
                    reading.report(tokens.line, Rule::Syntax, "this } closes nothing");
                    return reading;
                }
                if let Some(Block { line, root, host: Some(host) }) = ended {
                    reading.add(line, Host { root: host.root.or(root), ..host });
                }
                words.clear();
            }
            ";" => {
                if let Some(block) = blocks.last_mut() {
                    block.statement(begun, &words, &mut reading);
                }
                words.clear();
            }
            _ => words.push(token),
        }
    }
    if let [_, .., open] = blocks.as_slice() {
        reading.report(open.line, Rule::Syntax, "the block that begins here is never closed");
    }
    reading
}

/// A block of dhcpd.conf(5), and what it says so far.
#[derive(Default)]
struct Block {
    line: usize,
    root: Option<String>,
    host: Option<Host>,
}

impl Block {
    fn statement(&mut self, line: usize, words: &[String], reading: &mut Reading<Host>) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let ["option", "root-path", path] = words.as_slice() {
            self.root = Some((*path).to_owned());
            return;
        }
        if let ["include", file] = words.as_slice() {
            let message = format!("netbe does not follow this to {file}: give that file too");
            return reading.report(line, Rule::Unread, message);
        }
        let Some(host) = &mut self.host else { return };
        match words.as_slice() {
            [] | ["option", "host-name", _] => {}
            ["hardware", "ethernet", mac] => match Mac::parse(mac) {
                Some(mac) => host.macs.push(mac),
                None => {
                    let message = format!("{mac} is no Ethernet address: write 52:54:00:12:34:56");
                    reading.report(line, Rule::Address, message);
                }
            },
            ["fixed-address", address] => match address.parse() {
                Ok(address) => host.address = Some(address),
                Err(_) => {
                    let message =
                        format!("netbe asks no name server for {address}: write its address");
                    reading.report(line, Rule::Unread, message);
                }
            },
            [first, second, ..] if ["option", "fixed-address"].contains(first) => {
                host.rest.push(format!("{first} {second}"));
            }
            [first, ..] => host.rest.push((*first).to_owned()),
        }
    }
}

/// What a dhcpd.conf(5) is made of: words, texts in double quotes, and `{ } ; ,`.
struct Tokens<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    line: usize,
}

impl Tokens<'_> {
    fn next(&mut self) -> Result<Option<String>, (usize, String)> {
        loop {
            let Some(c) = self.rest.next() else { return Ok(None) };
            match c {
                '\n' => self.line = self.line.saturating_add(1),
                '#' => while self.rest.next_if(|c| *c != '\n').is_some() {},
                ',' => {}
                c if c.is_whitespace() => {}
                '{' | '}' | ';' => return Ok(Some(c.to_string())),
                '"' => {
                    let (begun, mut text) = (self.line, String::new());
                    loop {
                        match self.rest.next() {
                            Some('"') => return Ok(Some(text)),
                            Some('\\') => text.extend(self.rest.next()),
                            Some(c) => {
                                self.line = self.line.saturating_add(usize::from(c == '\n'));
                                text.push(c);
                            }
                            None => {
                                let message =
                                    "the quote that begins here is never closed".to_owned();
                                return Err((begun, message));
                            }
                        }
                    }
                }
                c => {
                    let mut word = String::from(c);
                    let ends = |c: &char| c.is_whitespace() || "{};,\"#".contains(*c);
                    while let Some(c) = self.rest.next_if(|c| !ends(c)) {
                        word.push(c);
                    }
                    return Ok(Some(word));
                }
            }
        }
    }
}

/// Reads the hosts of a dnsmasq.conf.
#[must_use]
pub fn dnsmasq(text: &str) -> Reading<Host> {
    let mut reading = Reading::default();
    for (line, text) in lines(text) {
        let Some((name, value)) = text.split_once('=') else { continue };
        let (name, value) = (name.trim().trim_start_matches('-'), value.trim());
        match name {
            "dhcp-host" => host(line, value, &mut reading),
            "dhcp-hostsfile" | "dhcp-hostsdir" => {
                let message = format!(
                    "netbe does not follow this to {value}: give it with `--as dhcp-hosts`"
                );
                reading.report(line, Rule::Unread, message);
            }
            "conf-file" | "conf-dir" | "servers-file" => {
                let message =
                    format!("netbe does not follow this to {value}: give what is there too");
                reading.report(line, Rule::Unread, message);
            }
            _ => {}
        }
    }
    reading
}

/// Reads the hosts of a file that `dhcp-hostsfile` names.
#[must_use]
pub fn dhcp_hosts(text: &str) -> Reading<Host> {
    let mut reading = Reading::default();
    for (line, text) in lines(text) {
        host(line, text, &mut reading);
    }
    reading
}

/// Lines without comments, which begin a line or stand behind white space.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| {
        let comment = line.char_indices().find(|(at, c)| {
            let before = line.get(..*at).and_then(|before| before.chars().next_back());
            *c == '#' && before.is_none_or(char::is_whitespace)
        });
        let end = comment.map_or(line.len(), |(at, _)| at);
        (index.saturating_add(1), line.get(..end).unwrap_or(line).trim())
    });
    lines.filter(|(_, line)| !line.is_empty())
}

fn host(line: usize, text: &str, reading: &mut Reading<Host>) {
    let mut host = Host::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let hardware = word.strip_prefix("01-").unwrap_or(word);
        if let Some(mac) = Mac::parse(hardware) {
            host.macs.push(mac);
        } else if looks_like_mac(word) {
            let message = format!(
                "{word} means several Ethernet addresses, or another network's: write them out"
            );
            return reading.report(line, Rule::Address, message);
        } else if let Ok(address) = word.parse::<Ipv4Addr>() {
            host.address = Some(address);
        } else if word == "ignore" {
            let message = "netbe does not ignore single machines: leave the line out, or give the machine nothing to boot";
            return reading.report(line, Rule::Unread, message);
        } else if word.starts_with('[') || word.contains(':') || is_time(word) {
            host.rest.push(word.to_owned());
        } else {
            host.name = Some(word.to_owned());
        }
    }
    reading.add(line, host);
}

/// Six parts joined by colons, of digits and stars.
fn looks_like_mac(word: &str) -> bool {
    let part = |part: &str| {
        part.len() <= 5 && part.chars().all(|c| c.is_ascii_hexdigit() || "*-".contains(c))
    };
    word.split(':').count() == 6 && word.split(':').all(part)
}

/// A time of a lease: `45m`, `12h`, `infinite`.
fn is_time(word: &str) -> bool {
    let digits = word.trim_end_matches(['s', 'm', 'h', 'd', 'w']);
    word == "infinite" || (!digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()))
}

/// How deep blocks stand in each other.
const DEEPEST: usize = 64;

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::dhcp::{self, Server, test::linux};

    const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

    #[test]
    fn hosts_are_found_in_blocks_with_what_the_blocks_say() {
        let text = "# x\nauthoritative;\nsubnet 10.0.0.0 netmask 255.255.255.0 {\n  group {\n    option root-path \
                    \"10.0.0.1:/be/head\";\n    host web1 {\n hardware ethernet 52:54:0:0:0:1; fixed-address 10.0.0.9; \
                    filename \"x;y\"; option host-name \"web1\"; }\n  }\n  host db { fixed-address db.example; }\n}\ninclude \"/etc/x\";\n";
        let reading = dhcpd(text);
        let web = Host {
            name: Some("web1".into()),
            macs: vec![MAC],
            address: Some([10, 0, 0, 9].into()),
            root: Some("10.0.0.1:/be/head".into()),
            rest: vec!["filename".into()],
        };
        assert_eq!((reading.entries[0].line, &reading.entries[0].value), (6, &web));
        assert_eq!(reading.entries[1].value.root, None);
        let lines: Vec<usize> = reading.diagnostics.iter().map(|wrong| wrong.line).collect();
        assert_eq!(lines, [9, 11]);
        for text in ["host a {", "}", "host a { hardware ethernet x; }", "\"a"] {
            assert_eq!(dhcpd(text).diagnostics.len(), 1, "{text}");
        }
        assert_eq!(dhcpd(&"a {".repeat(100_000)).diagnostics.len(), 1);
    }

    #[test]
    fn lines_of_dnsmasq_are_hosts() {
        let text = "# x\ninterface=br0\ndhcp-host=52:54:00:00:00:01,web1,10.0.0.9,12h # y\n\
                    dhcp-host=52:54:00:00:00:01,02:00:00:00:00:02,set:red,db\ndhcp-host=*:*:*:*:*:*,x\n\
                    dhcp-host=52:54:00:00:00:03,ignore\ndhcp-hostsfile=/etc/hosts.d\n";
        let reading = dnsmasq(text);
        let web = &reading.entries[0];
        assert_eq!(
            (web.line, web.value.name.as_deref(), web.value.macs.as_slice()),
            (3, Some("web1"), &[MAC][..])
        );
        assert_eq!(
            (web.value.address, web.value.rest.as_slice()),
            (Some([10, 0, 0, 9].into()), &["12h".to_owned()][..])
        );
        assert_eq!(reading.entries[1].value.macs.len(), 2);
        let wrong: Vec<_> =
            reading.diagnostics.iter().map(|wrong| (wrong.line, wrong.rule)).collect();
        assert_eq!(wrong, [(5, Rule::Address), (6, Rule::Unread), (7, Rule::Unread)]);
        assert_eq!(
            dhcp_hosts("52:54:00:00:00:01,web1\n").entries[0].value.name.as_deref(),
            Some("web1")
        );
    }

    #[test]
    fn what_netbe_shows_for_other_servers_is_read() {
        let advice = linux();
        for server in [Server::Dhcpd, Server::Dnsmasq] {
            let text = dhcp::render(&advice, server).unwrap();
            let reading = if server == Server::Dhcpd { dhcpd(&text) } else { dnsmasq(&text) };
            let found = &reading.entries[0].value;
            let machine = advice.machine.as_ref().unwrap();
            assert_eq!(
                (&found.macs, found.address),
                (&vec![machine.mac], machine.address),
                "{text}"
            );
            assert_eq!(found.name.as_ref(), Some(&machine.name), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_panics(
            text in "([ -~\n]|host [a-c] \\{|\\}|hardware ethernet |dhcp-host=|52:54:0:0:0:1|,){0,40}"
        ) {
            let _ = (dhcpd(&text), dnsmasq(&text), dhcp_hosts(&text));
        }
    }
}

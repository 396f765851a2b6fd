//! Reads exports(5) as mountd(8) does, and reports where mountd would drop the line or take it
//! for something else.

use std::net::{IpAddr, Ipv4Addr};

use super::{Clients, Export, Line, Network, Options};
use crate::rule::{Reading, Rule};

/// Reads the text of an exports file.
#[must_use]
pub fn read(text: &str) -> Reading<Line> {
    let mut reading = Reading::default();
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((number, first)) = lines.next() {
        let mut whole = first.to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push(' ');
            whole += next;
        }
        if whole.trim_start().starts_with('#') || whole.trim().is_empty() {
            continue;
        }
        match Parser::default().line(&whole) {
            Ok((line, remarks)) => {
                for (rule, message) in remarks {
                    reading.report(number, rule, message);
                }
                reading.add(number, line);
            }
            Err((rule, message)) => reading.report(number, rule, message),
        }
    }
    reading
}

type Remark = (Rule, String);

/// One line, as far as it was read.
#[derive(Default)]
struct Parser {
    v4: bool,
    paths: Vec<String>,
    options: Options,
    network: Option<String>,
    mask: Option<String>,
    hosts: Vec<String>,
    optioned: bool,
    remarks: Vec<Remark>,
}

impl Parser {
    fn line(mut self, text: &str) -> Result<(Line, Vec<Remark>), Remark> {
        let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            if let Some(c) = word.chars().find(|c| "'\"\\".contains(*c)) {
                let message = format!(
                    "mountd cannot read {c} in a path: rename the directory, or write the \
                     word {word} without it"
                );
                return Err((Rule::ExportsPath, message));
            }
            if let Some(options) = word.strip_prefix('-') {
                if self.paths.is_empty() {
                    let message = format!("{word} stands before the path: write the path first");
                    return Err((Rule::ExportsOrder, message));
                }
                if let Some(host) = self.hosts.first().filter(|_| !self.optioned) {
                    let message = format!(
                        "{host} is read as a host: if it belongs to the path, rename the \
                         directory, for mountd reads no spaces in paths; if it is a host, write \
                         it behind the options"
                    );
                    return Err((Rule::ExportsPath, message));
                }
                self.optioned = true;
                self.options(options, &mut words)?;
            } else if word == "V4:" && self.paths.is_empty() && !self.v4 {
                self.v4 = true;
            } else if word.contains('(') && !word.starts_with('/') {
                let message = "this is how Linux writes exports: for mountd write \
                               `PATH -maproot=root -network 192.168.2.0/24`";
                return Err((Rule::LinuxForm, message.into()));
            } else if word.starts_with('/') {
                self.path(word)?;
            } else if self.paths.is_empty() {
                let message = format!("{word} is no absolute path: write the path first");
                return Err((Rule::Syntax, message));
            } else {
                self.hosts.push(word.to_owned());
            }
        }
        self.end()
    }

    fn path(&mut self, word: &str) -> Result<(), Remark> {
        if self.optioned || !self.hosts.is_empty() {
            let message = format!(
                "{word} stands behind options or hosts, and mountd drops the line: write all paths \
                 first, or the options a second time on a line of its own"
            );
            return Err((Rule::ExportsOrder, message));
        }
        if word.split('/').any(|part| part == "." || part == "..") {
            let message = format!("mountd refuses . and .. in {word}: write the real path");
            return Err((Rule::ExportsPath, message));
        }
        let trimmed = word.trim_end_matches('/');
        self.paths.push(if trimmed.is_empty() { "/" } else { trimmed }.to_owned());
        Ok(())
    }

    fn options<'a>(
        &mut self,
        list: &str,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Remark> {
        for option in list.split(',') {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option, None),
            };
            let mut value = || {
                let value = value.or_else(|| words.next()).filter(|value| !value.is_empty());
                let missing = || (Rule::Syntax, format!("-{name} has no value"));
                value.map(str::to_owned).ok_or_else(missing)
            };
            match name {
                "ro" | "o" => self.options.read_only = true,
                "maproot" | "root" | "r" => self.options.maproot = Some(value()?),
                "mapall" => self.options.mapall = Some(value()?),
                "network" | "n" => self.network = Some(value()?),
                "mask" | "m" => self.mask = Some(value()?),
                "alldirs" => self.options.all_directories = true,
                "sec" => self.options.security = value()?.split(':').map(str::to_owned).collect(),
                "index" => self.options.other.push(format!("index={}", value()?)),
                "public" | "quiet" | "tls" | "tlscert" | "tlscertuser" | "webnfs" => {
                    self.options.other.push(name.to_owned());
                }
                _ => {
                    let message = format!(
                        "mountd does not know -{name}, and drops the line: write -ro, -maproot=, \
                         -mapall=, -alldirs, -sec=, -network or -mask"
                    );
                    return Err((Rule::ExportsOption, message));
                }
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<(Line, Vec<Remark>), Remark> {
        let clients = match (self.network.take(), self.hosts.is_empty()) {
            (Some(network), false) => {
                let host = self.hosts.join(" ");
                let message = format!(
                    "-network {network} and {host} stand on one line, and mountd drops it: give \
                     each a line of its own"
                );
                return Err((Rule::ExportsHosts, message));
            }
            (Some(network), true) => self.network(&network)?,
            (None, _) if self.mask.is_some() => {
                return Err((Rule::Syntax, "-mask has no -network before it".into()));
            }
            (None, false) => Clients::Hosts(self.hosts),
            (None, true) => Clients::Everybody,
        };
        let (mut paths, options) = (self.paths.into_iter(), self.options);
        if !self.v4 {
            return Ok((
                Line::Export(Export { paths: paths.collect(), options, clients }),
                self.remarks,
            ));
        }
        match (paths.next(), paths.next()) {
            (Some(root), None) => Ok((Line::Version4 { root, options, clients }, self.remarks)),
            _ => Err((
                Rule::ExportsV4,
                "a V4: line has one path: the root of all that is shared".into(),
            )),
        }
    }

    fn network(&mut self, text: &str) -> Result<Clients, Remark> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let wrong =
            |what: &str| (Rule::Address, format!("{what} is none: write -network 192.168.2.0/24"));
        let Some(address) = network_address(address) else {
            // A name in /etc/networks; only digits that do not fit are a mistake for sure.
            let digits = address.chars().all(|c| c.is_ascii_digit() || c == '.');
            return if digits { Err(wrong(address)) } else { Ok(Clients::Named(text.to_owned())) };
        };
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let length = match (address, prefix, &self.mask) {
            (_, Some(prefix), _) => prefix.parse().ok().filter(|length| *length <= widest),
            (IpAddr::V4(_), None, Some(mask)) => mask.parse().ok().and_then(prefix_of),
            (IpAddr::V6(_), None, Some(_)) => {
                let message = "-mask is not for IPv6: write -network fd00::/64";
                return Err((Rule::ExportsMask, message.into()));
            }
            (IpAddr::V4(network), None, None) => {
                let length = classful(network);
                let message = format!(
                    "{text} has no mask, and mountd takes the class's, /{length}: write \
                     -network {network}/24, or how long it is"
                );
                self.remarks.push((Rule::ExportsMask, message));
                Some(length)
            }
            (IpAddr::V6(_), None, None) => {
                let message = format!("{text} has no length: write -network {text}/64");
                return Err((Rule::ExportsMask, message));
            }
        };
        let mask = self.mask.as_deref().unwrap_or(text);
        let length = length.ok_or_else(|| wrong(&format!("the mask of {mask}")))?;
        Ok(Clients::Network(Network(address, length)))
    }
}

/// An address of which the last numbers may be missing, as in `192.168.2`.
fn network_address(text: &str) -> Option<IpAddr> {
    let numbers = text.split('.').count();
    let v4 = numbers <= 4 && text.starts_with(|c: char| c.is_ascii_digit());
    if v4 && !text.contains(':') {
        let padded = format!("{text}{}", ".0".repeat(4_usize.saturating_sub(numbers)));
        return padded.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    text.parse().ok()
}

/// The length of the prefix that is a mask, if it is one.
pub(crate) fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones();
    let whole = bits.checked_shl(ones).unwrap_or(0) == 0;
    u8::try_from(ones).ok().filter(|_| whole)
}

fn classful(network: Ipv4Addr) -> u8 {
    match network.octets() {
        [0..=127, ..] => 8,
        [128..=191, ..] => 16,
        [192..=255, ..] => 24,
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn diagnostic(text: &str) -> (usize, Rule) {
        let reading = read(text);
        assert_eq!(reading.diagnostics.len(), 1, "{reading:?}");
        (reading.diagnostics[0].line, reading.diagnostics[0].rule)
    }

    fn export(text: &str) -> Export {
        match read(text).whole().unwrap().swap_remove(0) {
            Line::Export(export) => export,
            Line::Version4 { .. } => panic!("{text}"),
        }
    }

    #[test]
    fn the_slides_own_form_with_a_mask_is_read() {
        let export = export("/ROOT/head -maproot=root -network 192.168.2.0 -mask 255.255.255.0\n");
        assert_eq!(export.paths, ["/ROOT/head"]);
        assert_eq!(export.options.maproot.as_deref(), Some("root"));
        let lan = Network("192.168.2.0".parse().unwrap(), 24);
        assert_eq!(export.clients, Clients::Network(lan));
    }

    #[test]
    fn the_manual_pages_own_examples_are_read() {
        let text = "/usr /usr/local -maproot=0:10 friends\n\
             /usr -maproot=daemon grumpy.cis.uoguelph.ca 131.104.48.16\n/usr -ro -mapall=nobody\n\
             /u -maproot=bin: -network 131.104.48 -mask 255.255.255.0\n/a -network 192.168.0/24\n\
             /a -network 3ffe:1ce1:1:fe80::/64\n/u2 -alldirs -network cis-net -mask cis-mask\n\
             /cdrom -alldirs,quiet,ro -network 192.168.33.0 -mask 255.255.255.0\n\
             /private -sec=krb5i\nV4: /\t-sec=krb5:krb5i:krb5p -network 131.104.48 -mask 255.255.255.0\n";
        let reading = read(text);
        assert_eq!(reading.diagnostics, []);
        assert_eq!(reading.entries.len(), 10);
        let Line::Export(cdrom) = &reading.entries[7].value else { panic!() };
        assert!(cdrom.options.all_directories && cdrom.options.read_only);
        assert_eq!(cdrom.options.other, ["quiet"]);
        let Line::Version4 { root, options, .. } = &reading.entries[9].value else { panic!() };
        assert_eq!((root.as_str(), options.security.len()), ("/", 3));
    }

    #[test]
    fn long_lines_are_joined_and_count_from_their_first() {
        assert_eq!(export("/a \\\n  -ro \\\n -maproot=root\n").options.maproot.unwrap(), "root");
        assert_eq!(diagnostic("# x\n\n/a \\\n  -rw\n"), (3, Rule::ExportsOption));
    }

    #[test]
    fn what_mountd_drops_is_named() {
        for (text, rule) in [
            ("-ro /a", Rule::ExportsOrder),
            ("/a -ro /b", Rule::ExportsOrder),
            ("/a b -maproot=root", Rule::ExportsPath),
            ("\"/a b\" -ro", Rule::ExportsPath),
            ("/a\\040b -ro", Rule::ExportsPath),
            ("/a/../b -ro", Rule::ExportsPath),
            ("/a -rw", Rule::ExportsOption),
            ("/a -network 10.0.0.0/8 host", Rule::ExportsHosts),
            ("/a -network 192.168.2.0 -mask 255.0.255.0", Rule::Address),
            ("/a -network 192.168.2.0/33", Rule::Address),
            ("/a -network 10.0.0.0", Rule::ExportsMask),
            ("/a -network fd00:: -mask 255.0.0.0", Rule::ExportsMask),
            ("/a *(rw,no_root_squash)", Rule::LinuxForm),
            ("/a -mask 255.0.0.0", Rule::Syntax),
            ("a -ro", Rule::Syntax),
            ("/a -maproot", Rule::Syntax),
            ("V4: /a /b", Rule::ExportsV4),
        ] {
            assert_eq!(diagnostic(text), (1, rule), "{text}");
        }
    }

    #[test]
    fn a_network_without_a_mask_is_read_with_its_classs() {
        let reading = read("/a -network 172.16.0.0\n");
        let Line::Export(export) = &reading.entries[0].value else { panic!() };
        let network = Network("172.16.0.0".parse().unwrap(), 16);
        assert_eq!(export.clients, Clients::Network(network));
    }
}

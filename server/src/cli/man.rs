//! The verb that shows the manual pages: made of the help, and of what all verbs have in common.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use super::completion::unknown;
use super::{Failure, Reply, command};
use crate::config::DEFAULT_STATE;

/// Show the manual page of netbe, of a verb, or of netbe.toml.
///
/// `netbe man machine add` shows the page of a verb of two words, and `netbe man netbe.toml` that
/// of the configuration file. On a terminal mandoc(1) or man(1) shows it; elsewhere its source is
/// printed.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Write all pages to this directory: netbe.8, netbe-VERB.8 and netbe.toml.5.
    #[arg(long, value_name = "DIR", conflicts_with = "verb")]
    into: Option<PathBuf>,
    /// The verb.
    verb: Vec<String>,
}

impl Man {
    pub(crate) fn run(&self) -> Result<Reply, Failure> {
        let mut netbe = command("netbe");
        netbe.build();
        if let Some(directory) = &self.into {
            write(directory, "netbe.toml.5", CONFIGURATION)?;
            return write_all(directory, &netbe, "netbe").map(|()| Reply::done());
        }
        if matches!(self.verb.as_slice(), [name] if name == "netbe.toml") {
            return Ok(shown(CONFIGURATION));
        }
        let (mut found, mut name) = (&netbe, "netbe".to_owned());
        for verb in &self.verb {
            found = found.find_subcommand(verb).ok_or_else(|| unknown(&self.verb))?;
            name = format!("{name}-{}", found.get_name());
        }
        page(found, &name).map(|text| shown(&text))
    }
}

/// The page through a pager, if there is a terminal and a program that shows pages; else its source.
fn shown(text: &str) -> Reply {
    let pagers = [("mandoc", &["-a"][..]), ("man", &["-l", "-"])];
    if io::stdout().is_terminal()
        && pagers.into_iter().any(|(program, words)| page_by(program, words, text))
    {
        return Reply::done();
    }
    Reply::text(text)
}

/// Whether a program is here that shows a page.
fn page_by(program: &str, words: &[&str], text: &str) -> bool {
    let pager = Command::new(program).args(words).stdin(Stdio::piped()).spawn();
    let Ok(mut pager) = pager else { return false };
    if let Some(mut page) = pager.stdin.take() {
        // Whoever leaves the pager has read enough.
        let _ = page.write_all(text.as_bytes());
    }
    pager.wait().is_ok_and(|status| status.success())
}

/// Writes the page of a verb, and those of the verbs below it.
fn write_all(directory: &Path, verb: &clap::Command, name: &str) -> Result<(), Failure> {
    write(directory, &format!("{name}.8"), &page(verb, name)?)?;
    // Of a verb of two words only its first was built.
    for below in verb.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_all(directory, below, &format!("{name}-{}", below.get_name()))?;
    }
    Ok(())
}

fn write(directory: &Path, file: &str, text: &str) -> Result<(), Failure> {
    let path = directory.join(file);
    fs::write(&path, text).map_err(|error| {
        Failure::could_not(format_args!("{} cannot be written: {error}", path.display()))
    })
}

/// The page of a verb.
fn page(verb: &clap::Command, name: &str) -> Result<String, Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::could_not(format_args!("cannot write the page: {error}"))
    };
    let page = clap_mangen::Man::new(verb.clone())
        .title(name.to_uppercase())
        .section("8")
        .date(DATE)
        .source(concat!("netbe ", env!("CARGO_PKG_VERSION")))
        .manual("System Manager\u{2019}s Manual");
    let mut text = Vec::new();
    page.render(&mut text).map_err(|error| cannot(&error))?;
    let text = String::from_utf8(text).map_err(|error| cannot(&error))?;
    // clap_mangen breaks a line before and after an empty one, of which mandoc(1) warns.
    let text = text.replace("\n.br\n\n.br\n", "\n.sp\n");
    Ok(with_synopsis(&text, verb) + &common(name))
}

/// The page with the usage of the help for its synopsis: clap_mangen's lists every option, without the value
/// that it takes.
fn with_synopsis(page: &str, verb: &clap::Command) -> String {
    const HEADING: &str = ".SH SYNOPSIS\n";
    let parts = page.split_once(HEADING).and_then(|(head, rest)| {
        let (_, tail) = rest.split_once("\n.SH ")?;
        Some((head, tail))
    });
    let Some((head, tail)) = parts else { return page.to_owned() };
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.trim().trim_start_matches("Usage: ").trim_end();
    format!("{head}{HEADING}{}\n.SH {tail}", roff(usage))
}

/// The sections that every page has.
fn common(name: &str) -> String {
    let mut text = String::from(".SH ENVIRONMENT\n");
    let term = |text: &mut String, term: &str, what: &str| {
        // Writing to a String does not fail.
        let _ = write!(text, ".TP\n{}\n{}\n", roff(term), roff(what));
    };
    term(&mut text, "NETBE_STATE", "The state directory, where --state does not say it.");
    term(&mut text, "NETBE_STORE", "The store, where --store does not say it.");
    term(&mut text, "NETBE_LOG", LOG);
    text += ".SH FILES\n";
    term(
        &mut text,
        DEFAULT_STATE,
        "The state directory: site key, machines, leases, boots, history.",
    );
    term(
        &mut text,
        "/etc/netbe.toml, /usr/local/etc/netbe.toml",
        "What the service serves, on Linux and on FreeBSD.",
    );
    text += ".SH EXIT STATUS\n";
    term(&mut text, "0", "It is done.");
    term(&mut text, "1", "The answer is no: it is refused, or something was found.");
    term(&mut text, "2", "It could not be done or understood.");
    let mut examples = examples(name).peekable();
    if examples.peek().is_some() {
        text += ".SH EXAMPLES\n";
    }
    for (at, (_, line)) in examples.enumerate() {
        text += if at == 0 { "" } else { ".PP\n" };
        let _ = writeln!(text, "\\fB{}\\fR", roff(line));
    }
    text += ".SH SEE ALSO\n";
    let others = ["netbe(8)", "netbe.toml(5)"];
    let others: Vec<_> =
        others.into_iter().filter(|other| *other != format!("{name}(8)")).collect();
    text + &others.join(", ") + "\n"
}

/// The examples of a page; that of netbe itself has the first steps.
fn examples(name: &str) -> impl Iterator<Item = &(&'static str, &'static str)> {
    let verb = name.strip_prefix("netbe-").unwrap_or_default();
    EXAMPLES.iter().filter(move |(of, _)| of.replace(' ', "-") == verb)
}

/// Text that roff takes as it stands.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

/// The date of the pages: when what they say was last looked through.
const DATE: &str = "2026-11-22";
pub(super) const CONFIGURATION: &str = include_str!("../../../docs/man/netbe.toml.5");
const LOG: &str = "How much is logged on standard error, as in debug or netbe::dhcp=debug; by itself info for netbe serve, \
                   and warn for the other verbs.";

/// Verbs, and a command for each as it may be typed.
const EXAMPLES: &[(&str, &str)] = &[
    ("", "netbe install -o Debian -r bookworm -l flat base"),
    ("", "netbe machine add --mac 52:54:00:12:34:56 web1"),
    ("", "netbe sharepxe --machine web1 --root own base"),
    ("", "netbe serve --interface br0 --mode serve --range 10.0.0.100-10.0.0.199"),
    ("activate", "netbe activate -t web1 next"),
    ("backup", "netbe backup /var/backups/netbe"),
    ("bootnfs", "netbe bootnfs -n --machine web1 base"),
    ("bootpxe", "netbe bootpxe --machine web1 --firmware uefi base"),
    ("check", "netbe check base"),
    ("clone", "netbe clone base@monday web2"),
    ("completion", "netbe completion bash"),
    ("console", "netbe console web1"),
    ("create", "netbe create -l freebsd base"),
    ("destroy", "netbe destroy -n base@monday"),
    ("diff", "netbe diff base@monday"),
    ("explain", "netbe explain web1"),
    ("get", "netbe get -o property,value all base"),
    ("guest list", "netbe guest list"),
    ("guest run", "netbe guest run web1"),
    ("help", "netbe help machine add"),
    ("history", "netbe history -a web1"),
    ("hooks list", "netbe hooks list up"),
    ("hooks log", "netbe hooks log web1"),
    ("hooks run", "netbe hooks run -n up web1"),
    ("hunt", "netbe hunt --on base@ -- /bin/selftest"),
    ("import", "netbe import -n /etc/jail.conf /usr/local/etc/dhcpd.conf"),
    (
        "install",
        "netbe install -o FreeBSD -r 14.3 -u https://download.freebsd.org/ftp -l freebsd base",
    ),
    ("jail", "netbe jail -n --machine web1 base"),
    ("lint", "netbe lint /etc/exports fstab"),
    ("list", "netbe list -o name,active,booted-by -c created"),
    ("log", "netbe log -l 20 web1"),
    (
        "machine add",
        "netbe machine add --mac 52:54:00:12:34:56 --address 10.0.0.9 --environment base web1",
    ),
    ("machine diff", "netbe machine diff web1"),
    ("machine keep", "netbe machine keep web1 web1-before"),
    ("machine list", "netbe machine list -j"),
    ("machine promote", "netbe machine promote web1 base2"),
    ("machine remove", "netbe machine remove -n web1"),
    ("machine rename", "netbe machine rename web1 web2"),
    ("machine reset", "netbe machine reset -n web1"),
    ("machine set", "netbe machine set --serial --cmdline quiet web1"),
    ("machine show", "netbe machine show web1"),
    ("man", "netbe man netbe.toml"),
    ("mount", "netbe mount base@monday /mnt"),
    ("pause", "netbe pause zpool export tank"),
    ("promote", "netbe promote web2"),
    ("receive", "netbe receive base"),
    ("reload", "netbe reload -n"),
    ("rename", "netbe rename base base-old"),
    ("nspawn", "netbe nspawn --bridge br0 base"),
    ("restart", "netbe restart web1"),
    ("restore", "netbe restore -n /var/backups/netbe"),
    ("rollback", "netbe rollback -r base@monday"),
    ("send", "netbe send -i sunday base@monday"),
    ("serve", "netbe serve -n -f /etc/netbe.toml"),
    ("set", "netbe set role=template base"),
    ("settle", "netbe settle -n"),
    ("sharenfs", "netbe sharenfs --ro --network 10.0.0.0/24 base"),
    ("sharepxe", "netbe sharepxe --default base"),
    ("show bhyve", "netbe show bhyve base"),
    ("show bhyve-config", "netbe show bhyve-config --machine web1 base"),
    ("show bhyve-script", "netbe show bhyve-script --machine web1 base"),
    ("show bhyveload", "netbe show bhyveload --machine web1 base"),
    ("show cbsd", "netbe show cbsd --machine web1 base"),
    ("show conf", "netbe show conf --machine web1 base"),
    ("show dhcp", "netbe show dhcp --for dnsmasq base"),
    ("show exports", "netbe show exports base"),
    ("show fstab", "netbe show fstab --machine web1 base"),
    ("show hosts", "netbe show hosts --domain example.org"),
    ("show initramfs", "netbe show initramfs base"),
    ("show ipxe", "netbe show ipxe --url http://10.0.0.1/base base"),
    ("show jail", "netbe show jail web1"),
    ("show libvirt", "netbe show libvirt --machine web1 base"),
    ("show loader", "netbe show loader --machine web1 base"),
    ("show mount", "netbe show mount --at /srv/base base"),
    ("show nspawn", "netbe show nspawn --machine web1 base"),
    ("show qemu", "netbe show qemu base"),
    ("show rcconf", "netbe show rcconf --machine web1 base"),
    ("show units", "netbe show units --into /"),
    ("show vm-bhyve", "netbe show vm-bhyve --machine web1 base"),
    ("show vmtab", "netbe show vmtab web1 web2"),
    ("show zone", "netbe show zone --domain example.org"),
    ("snapshot", "netbe snapshot base@monday"),
    ("start", "netbe start web1"),
    ("status", "netbe status"),
    ("stop", "netbe stop --timeout 30 web1"),
    ("thin", "netbe thin -n base"),
    ("unmount", "netbe unmount base /mnt"),
    ("upgrade", "netbe upgrade -n web1 base2"),
    ("wake", "netbe wake web1"),
    ("watch", "netbe watch --json"),
];

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn examples_may_be_typed() {
        for (verb, line) in EXAMPLES {
            let parsed = command("netbe").try_get_matches_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            assert!(line.starts_with(&format!("netbe {verb}")), "{line}");
        }
    }

    fn without_an_example(verb: &clap::Command, words: &str) -> Vec<String> {
        let mut below = verb.get_subcommands().filter(|below| !below.is_hide_set()).peekable();
        if below.peek().is_none() {
            let has_one = EXAMPLES.iter().any(|(of, _)| *of == words);
            return if has_one { Vec::new() } else { vec![words.to_owned()] };
        }
        below
            .flat_map(|below| {
                let words = format!("{words} {}", below.get_name());
                without_an_example(below, words.trim_start())
            })
            .collect()
    }

    #[test]
    fn every_verb_has_an_example() {
        assert_eq!(without_an_example(&command("netbe"), ""), Vec::<String>::new());
    }

    #[test]
    fn text_is_no_request_of_roffs() {
        assert_eq!(roff(".TP -x 'y'"), "\\&.TP \\-x \\(aqy\\(aq");
        assert_eq!(roff("a\\b"), "a\\eb");
    }
}

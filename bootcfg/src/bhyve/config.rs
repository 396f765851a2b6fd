//! bhyve_config(5): what `bhyve -k FILE` reads, one variable on each line.
//!
//! bhyve takes what it does not know for a variable of somebody else's, without a word. A value with a percent
//! sign is expanded when it is used, and only then a backslash means the character behind it (config.c).

use std::collections::BTreeMap;

use super::{Console, FORMAT, ROOT_SLOT, Run, absolute, host_root, interface, memory};
use crate::bhyve::Device;
use crate::error::refuse;
use crate::host_root::TAG;
use crate::loader::Variable;
use crate::rule::{At, Reading, Rule};
use crate::{ConfigError, Guest};

/// The variables of a guest: one that bhyveload(8) has loaded, or one that its UEFI boots, of which
/// `firmware` is the file. They are those of the command that [`bhyve`](super::bhyve()) makes.
pub fn variables(
    guest: &Guest,
    tap: &str,
    console: Console,
    firmware: Option<&str>,
) -> Result<Vec<Variable>, ConfigError> {
    let tap = interface(tap)?;
    let mut variables = vec![
        variable("name", guest.checked_name(FORMAT)?),
        variable("cpus", &guest.cpus.to_string()),
        variable("memory.size", &memory(guest)),
        variable("acpi_tables", "true"),
        variable("x86.vmexit_on_hlt", "true"),
        variable("x86.vmexit_on_pause", "true"),
        variable("pci.0.0.0.device", "hostbridge"),
        variable("pci.0.2.0.device", "virtio-net"),
        variable("pci.0.2.0.backend", tap),
        variable("pci.0.2.0.mac", &guest.mac.to_string()),
    ];
    variables.extend(guest.mtu.map(|mtu| variable("pci.0.2.0.mtu", &mtu.to_string())));
    if firmware.is_some() {
        // Newer builds of edk2 do no network boot without a source of random numbers.
        variables.push(variable("pci.0.3.0.device", "virtio-rnd"));
    }
    if let Some(directory) = host_root(guest)? {
        let slot = |key: &str| format!("pci.0.{ROOT_SLOT}.0.{key}");
        variables.push(variable(&slot("device"), "virtio-9p"));
        variables.push(variable(&slot("sharename"), TAG));
        variables.push(variable(&slot("path"), directory));
        if guest.root.read_only {
            variables.push(variable(&slot("ro"), "true"));
        }
    }
    variables.push(variable("pci.0.31.0.device", "lpc"));
    variables.push(variable("lpc.com1.path", &console.device(guest)?));
    if let Some(file) = firmware {
        let file = absolute("the firmware", file, |c| c == '\0')?;
        variables.push(variable("lpc.bootrom", file));
    }
    Ok(variables)
}

fn variable(name: &str, value: &str) -> Variable {
    Variable { name: name.to_owned(), value: value.to_owned() }
}

/// The text of such a file.
pub fn render(variables: &[Variable]) -> Result<String, ConfigError> {
    let mut text = String::new();
    for Variable { name, value } in variables {
        let reason = "it is made of letters, digits, underscores, hyphens and dots, with a word at both ends";
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        refuse("the variable", name, FILE, reason, |c| !plain(c))?;
        if name.split('.').any(str::is_empty) {
            return Err(wrong("the variable", name, reason));
        }
        // getline(3) ends a line, and a string of C ends, whatever stands before.
        refuse("the value", value, FILE, "it has a line feed or a NUL", |c| {
            matches!(c, '\n' | '\0')
        })?;
        if value.is_empty() {
            return Err(wrong("the value", value, "it is empty, which bhyve refuses"));
        }
        let value = if value.contains('%') {
            value.replace('\\', "\\\\").replace('%', "\\%")
        } else {
            value.clone()
        };
        text += &format!("{name}={value}\n");
    }
    Ok(text)
}

/// Reads such a text, as bhyve uses the values: a later line for a variable counts.
#[must_use]
pub fn read(text: &str) -> Reading<Variable> {
    let mut reading = Reading::default();
    let mut written: Vec<(usize, &str, &str)> = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                written.push((index + 1, name, value));
            }
            _ => {
                let message =
                    "bhyve ends at this line: write NAME=VALUE, or # in front of a comment";
                reading.report(index + 1, Rule::Syntax, message);
            }
        }
    }
    for (line, name, value) in &written {
        match expanded(value, &written, 0) {
            Ok(value) => reading.add(*line, Variable { name: (*name).to_owned(), value }),
            Err(message) => reading.report(*line, Rule::Syntax, message),
        }
    }
    reading
}

/// A value as bhyve uses it.
fn expanded(value: &str, all: &[(usize, &str, &str)], depth: usize) -> Result<String, String> {
    if !value.contains('%') {
        return Ok(value.to_owned());
    }
    if depth > DEEPEST {
        return Err(format!("{value} refers to itself: write the value"));
    }
    let mut text = String::new();
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' if rest.as_str().starts_with('(') => {
                let inner = rest.as_str().get(1..).unwrap_or_default();
                let Some((name, after)) = inner.split_once(')') else {
                    return Err(format!(
                        "{value} has %( without a ): write \\% for a percent sign"
                    ));
                };
                let found = all.iter().rev().find(|(_, known, _)| *known == name);
                let Some((_, _, other)) = found else {
                    return Err(format!(
                        "no variable is called {name}, which {value} refers to: write the value"
                    ));
                };
                text += &expanded(other, all, depth.saturating_add(1))?;
                rest = after.chars();
            }
            '\\' => match rest.next() {
                Some(c) => text.push(c),
                None => return Err(format!("{value} ends with a backslash: take it away")),
            },
            plain => text.push(plain),
        }
        if text.len() > LONGEST {
            return Err("the value is longer than any that bhyve can use".to_owned());
        }
    }
    Ok(text)
}

/// The run of bhyve(8) that such a file describes.
#[must_use]
pub fn run(variables: &[At<Variable>]) -> Run {
    // Of equal names the last counts.
    let all: BTreeMap<&str, &At<Variable>> =
        variables.iter().map(|at| (at.value.name.as_str(), at)).collect();
    let find = |name: &str| all.get(name).copied();
    let mut run = Run {
        name: find("name").map(|at| at.value.value.clone()),
        memory: find("memory.size").map(|at| At { line: at.line, value: at.value.value.clone() }),
        cpus: find("cpus").and_then(|at| at.value.value.parse().ok()),
        devices: Vec::new(),
    };
    for at in variables {
        let Some(slot) = at.value.name.strip_suffix(".device") else { continue };
        let model = at.value.value.clone();
        if slot.starts_with("pci.") && ["virtio-net", "e1000"].contains(&model.as_str()) {
            let of_slot =
                |name: &str| find(&format!("{slot}.{name}")).map(|found| found.value.value.clone());
            let (mac, tap) = (of_slot("mac"), of_slot("backend"));
            run.devices
                .push(At { line: at.line, value: Device { model, mac, tap, unknown: false } });
        }
    }
    run
}

/// Whether bhyve has variables of that name, as far as its first word says.
#[must_use]
pub fn is_known(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or(name);
    KNOWN.contains(&first)
}

fn wrong(what: &'static str, value: &str, reason: &'static str) -> ConfigError {
    ConfigError::Character { what, value: value.to_owned(), format: FILE, reason }
}

/// The first words of bhyve's own variables (bhyve_config(5)).
const KNOWN: [&str; 28] = [
    "acpi_tables",
    "acpi_tables_in_memory",
    "bios",
    "board",
    "bootrom",
    "bvmcons",
    "chassis",
    "config",
    "console",
    "cores",
    "cpus",
    "destroy_on_poweroff",
    "gdb",
    "keyboard",
    "lpc",
    "memory",
    "name",
    "pci",
    "rtc",
    "sockets",
    "system",
    "threads",
    "tpm",
    "uuid",
    "vcpu",
    "virtio",
    "virtio_msix",
    "x86",
];
/// How deep references go (config.c).
const DEEPEST: usize = 16;
const LONGEST: usize = 64 * 1024;
const FILE: &str = "a bhyve_config(5) file";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::bhyve::{self, Step};
    use crate::guest::strategy;
    use crate::shell;

    #[test]
    fn the_slides_guest_has_a_file() {
        let guest = strategy::head();
        let uefi = Some("/usr/local/share/uefi-firmware/BHYVE_UEFI.fd");
        let text = render(&variables(&guest, "tap0", Console::NullModem, uefi).unwrap()).unwrap();
        assert_eq!(
            text,
            "name=head\ncpus=2\nmemory.size=1024M\nacpi_tables=true\nx86.vmexit_on_hlt=true\n\
             x86.vmexit_on_pause=true\npci.0.0.0.device=hostbridge\npci.0.2.0.device=virtio-net\n\
             pci.0.2.0.backend=tap0\npci.0.2.0.mac=02:01:02:03:04:05\npci.0.3.0.device=virtio-rnd\n\
             pci.0.31.0.device=lpc\nlpc.com1.path=/dev/nmdm-head.1A\n\
             lpc.bootrom=/usr/local/share/uefi-firmware/BHYVE_UEFI.fd\n"
        );
    }

    #[test]
    fn a_percent_sign_is_written_so_that_bhyve_does_not_expand_it() {
        let one = [variable("lpc.bootrom", "/a%(b)\\c.fd"), variable("x", "a\\b")];
        let text = render(&one).unwrap();
        assert_eq!(text, "lpc.bootrom=/a\\%(b)\\\\c.fd\nx=a\\b\n");
        assert_eq!(read(&text).whole(), Ok(one.to_vec()));
    }

    #[test]
    fn references_are_followed_and_rings_are_found() {
        let all = read("# x\nname=web\na=/v/%(name)/%(b)\nb=%(name)\n").whole().unwrap();
        assert_eq!(all[1], variable("a", "/v/web/web"));
        for text in ["a=%(b)\nb=%(a)\n", "a=%(c)\n", "a=%(c\n", "a=%\\\n", "a\n", "a=\n", "=b\n"] {
            assert!(!read(text).diagnostics.is_empty(), "{text}");
        }
        let bomb: String = (0..16)
            .map(|n| format!("v{n}={}\n", format!("%(v{})", n + 1).repeat(9)))
            .chain(["v16=%%%%%%%%%\n".into()])
            .collect();
        assert!(!read(&bomb).diagnostics.is_empty());
    }

    #[test]
    fn hostile_values_are_refused() {
        for (name, value) in [
            ("a", ""),
            ("a", "b\nname=c"),
            ("a\n", "b"),
            ("#a", "b"),
            ("a=b", "c"),
            (".a", "b"),
            ("", "b"),
        ] {
            assert!(render(&[variable(name, value)]).is_err(), "{name:?} {value:?}");
        }
        assert!(variables(&strategy::head(), "tap0,x", Console::Stdio, None).is_err());
    }

    proptest! {
        #[test]
        fn file_and_command_describe_one_guest(guest in strategy::guest(), uefi in any::<bool>()) {
            let uefi = uefi.then_some("/f.fd");
            let words = bhyve::bhyve(&guest, "tap0", Console::Stdio, uefi).unwrap();
            let entries = bhyve::read(&shell::line(&words).unwrap()).entries;
            let Some(At { value: Step::Run(mut from_words), .. }) = entries.into_iter().next() else {
                panic!()
            };
            let text = render(&variables(&guest, "tap0", Console::Stdio, uefi).unwrap()).unwrap();
            let mut from_file = run(&read(&text).entries);
            let ours = from_words.devices.iter_mut().chain(&mut from_file.devices);
            ours.for_each(|device| device.line = 0);
            from_words.memory.as_mut().unwrap().line = 0;
            from_file.memory.as_mut().unwrap().line = 0;
            prop_assert_eq!(from_file, from_words);
        }

        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            pairs in prop::collection::vec(("[a-z.0-9]{1,4}|[ -~]{0,3}", "[ -~\n%\\\\(]{0,8}"), 0..4),
        ) {
            let pairs: Vec<Variable> =
                pairs.iter().map(|(name, value)| variable(name, value)).collect();
            if let Ok(text) = render(&pairs) {
                prop_assert_eq!(read(&text).whole(), Ok(pairs));
            }
        }

        #[test]
        fn nothing_that_is_read_panics(text in "([a-c]=|[ -~\n]|%\\(|\\)){0,60}") {
            let _ = run(&read(&text).entries);
        }
    }
}

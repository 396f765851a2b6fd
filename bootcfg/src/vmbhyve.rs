//! The configuration of a guest of vm-bhyve, `NAME.conf` in its directory.
//!
//! vm-bhyve reads lines that begin with a small letter, cuts them at the first number sign, and takes all
//! double quotes away (lib/vm-config): nothing can be escaped. Of equal keys the first counts.

use std::collections::BTreeSet;

use crate::error::refuse;
use crate::loader::Variable;
use crate::rule::{Reading, Rule};
use crate::{ConfigError, Guest};

/// The settings of a guest that its UEFI boots over the network, on a switch of vm-bhyve.
///
/// It has no disk. One whose kernel bhyveload(8) loads has to have one there, and cannot be written.
pub fn settings(guest: &Guest, switch: &str) -> Result<Vec<Variable>, ConfigError> {
    guest.checked_name(FORMAT)?;
    let reason = "it is the name of a switch of vm-bhyve: letters, digits, underscores and hyphens";
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    refuse("the switch", switch, FORMAT, reason, |c| !plain(c))?;
    if switch.is_empty() {
        return Err(wrong("the switch", switch, reason));
    }
    let setting = |name: &str, value: String| Variable { name: name.to_owned(), value };
    Ok(vec![
        setting("loader", "uefi".to_owned()),
        setting("cpu", guest.cpus.to_string()),
        setting("memory", format!("{}M", guest.memory)),
        setting("network0_type", "virtio-net".to_owned()),
        setting("network0_switch", switch.to_owned()),
        setting("network0_mac", guest.mac.to_string()),
        // Newer builds of edk2 do no network boot without a source of random numbers.
        setting("virt_random", "yes".to_owned()),
    ])
}

/// The text of such a file.
pub fn render(settings: &[Variable]) -> Result<String, ConfigError> {
    let mut text = String::new();
    for Variable { name, value } in settings {
        let reason =
            "it begins with a small letter, and goes on with letters, digits and underscores";
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        refuse("the setting", name, FORMAT, reason, |c| !plain(c))?;
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(wrong("the setting", name, reason));
        }
        let reason = "vm-bhyve cuts a value at #, removes double quotes and trailing spaces, and reads one \
                      line";
        refuse("the value", value, FORMAT, reason, |c| c.is_control() || "#\"".contains(c))?;
        if value.ends_with(' ') {
            return Err(wrong("the value", value, reason));
        }
        text += &format!("{name}=\"{value}\"\n");
    }
    Ok(text)
}

/// Reads such a text as vm-bhyve does, and reports what it leaves out.
#[must_use]
pub fn read(text: &str) -> Reading<Variable> {
    let mut reading = Reading::default();
    let mut seen = BTreeSet::new();
    for (index, line) in text.split('\n').enumerate() {
        let number = index.saturating_add(1);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with(|c: char| c.is_ascii_lowercase()) {
            if !line.trim_start().starts_with('#') {
                let message =
                    "vm-bhyve ignores this line: begin it with the setting, in small letters";
                reading.report(number, Rule::VmBhyveLine, message);
            }
            continue;
        }
        let kept = line.split('#').next().unwrap_or_default();
        if kept.len() < line.len() && kept.matches('"').count() % 2 == 1 {
            let message =
                "the # cuts this value, although it stands between quotes: write it without #";
            reading.report(number, Rule::VmBhyveLine, message);
        }
        let plain: String = kept.trim_end_matches(' ').chars().filter(|c| *c != '"').collect();
        let Some((name, value)) = plain.split_once('=') else {
            reading.report(number, Rule::Syntax, "a setting and = are expected here");
            continue;
        };
        if !seen.insert(name.to_owned()) {
            let message = format!("{name} is set above, which counts: leave one of the lines out");
            reading.report(number, Rule::Twice, message);
            continue;
        }
        reading.add(number, Variable { name: name.to_owned(), value: value.to_owned() });
    }
    reading
}

fn wrong(what: &'static str, value: &str, reason: &'static str) -> ConfigError {
    ConfigError::Character { what, value: value.to_owned(), format: FORMAT, reason }
}

const FORMAT: &str = "vm-bhyve's configuration";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy;

    fn setting(name: &str, value: &str) -> Variable {
        Variable { name: name.into(), value: value.into() }
    }

    #[test]
    fn the_slides_guest_boots_by_its_uefi() {
        assert_eq!(
            render(&settings(&strategy::head(), "public").unwrap()).unwrap(),
            "loader=\"uefi\"\ncpu=\"2\"\nmemory=\"1024M\"\nnetwork0_type=\"virtio-net\"\n\
             network0_switch=\"public\"\nnetwork0_mac=\"02:01:02:03:04:05\"\nvirt_random=\"yes\"\n"
        );
    }

    #[test]
    fn what_vm_bhyve_would_cut_is_refused() {
        for value in ["a#b", "a\"b", "a\nb", "a "] {
            assert!(render(&[setting("a", value)]).is_err(), "{value:?}");
        }
        for name in ["", "A", "1a", "a b", "#a", "a="] {
            assert!(render(&[setting(name, "x")]).is_err(), "{name:?}");
        }
        for switch in ["", "a b", "a;b", "-a#"] {
            assert!(settings(&strategy::head(), switch).is_err(), "{switch:?}");
        }
    }

    #[test]
    fn it_is_read_as_vm_bhyve_reads_it() {
        let text =
            "# x\n cpu=1\nCPU=2\ncpu=\"3\"   # three\ncpu=4\nbhyve_options=\"-a #1\"\nnonsense\n";
        let reading = read(text);
        let values: Vec<_> = reading.entries.iter().map(|at| (at.line, at.value.clone())).collect();
        assert_eq!(values, [(4, setting("cpu", "3")), (6, setting("bhyve_options", "-a"))]);
        let rules: Vec<_> =
            reading.diagnostics.iter().map(|wrong| (wrong.line, wrong.rule)).collect();
        assert_eq!(
            rules,
            [
                (2, Rule::VmBhyveLine),
                (3, Rule::VmBhyveLine),
                (5, Rule::Twice),
                (6, Rule::VmBhyveLine),
                (7, Rule::Syntax)
            ]
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            pairs in prop::collection::btree_map("[a-z_0-9]{1,4}|[ -~]{0,3}", "[ -~\t\n]{0,8}", 0..4),
        ) {
            let pairs: Vec<Variable> = pairs.iter().map(|(name, value)| setting(name, value)).collect();
            if let Ok(text) = render(&pairs) {
                prop_assert_eq!(read(&text).whole(), Ok(pairs));
            }
        }

        #[test]
        fn nothing_that_is_read_panics(text in "([a-c]=|[ -~\n\r]){0,60}") {
            let _ = read(&text);
        }
    }
}

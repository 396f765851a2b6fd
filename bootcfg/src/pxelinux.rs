//! Configurations of pxelinux and lpxelinux.
//!
//! A line is a keyword and the rest of the line; there are no quotes and no escapes.

use crate::ConfigError;
use crate::entry::{BootEntry, place};
use crate::error::{limit, refuse};

/// The text of a configuration that boots its one entry at once.
///
/// When that fails, pxelinux shows its prompt and tries again after ten seconds, so that a machine
/// without a screen comes up when its server does.
pub fn render(entry: &BootEntry) -> Result<String, ConfigError> {
    let arguments = arguments(&entry.arguments)?;
    // It wants this before anything else.
    let serial = entry.serial.map(|serial| format!("SERIAL {} {}", serial.unit(), serial.speed()));
    let mut lines: Vec<String> = serial.into_iter().collect();
    lines.extend([
        format!("SAY {}", entry.heading()),
        format!("DEFAULT {LABEL}"),
        "PROMPT 0".to_owned(),
        "TIMEOUT 100".to_owned(),
        format!("ONTIMEOUT {LABEL}"),
        format!("LABEL {LABEL}"),
        format!("LINUX {}", place(&entry.kernel, FORMAT)?),
    ]);
    if let Some(initrd) = &entry.initrd {
        // It may name several files, between commas.
        refuse("the place of a file", initrd, FORMAT, "it has a comma", |c| c == ',')?;
        lines.push(format!("INITRD {}", place(initrd, FORMAT)?));
    }
    if !arguments.is_empty() {
        lines.push(format!("APPEND {arguments}"));
    }
    for line in &lines {
        limit("a line", line, FORMAT, LINE)?;
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// Arguments that pxelinux hands to the kernel as they are.
fn arguments(text: &str) -> Result<String, ConfigError> {
    let what = "the kernel argument";
    refuse(what, text, FORMAT, "it has a control character", char::is_control)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    // It loads what `initrd=` names, in place of INITRD, and takes a lone hyphen for no words at all.
    if words.iter().any(|word| word.starts_with("initrd=")) || words == ["-"] {
        let reason = "pxelinux would act on initrd= or a lone hyphen";
        let value = text.to_owned();
        return Err(ConfigError::Character { what, value, format: FORMAT, reason });
    }
    Ok(words.join(" "))
}

const FORMAT: &str = "a configuration of pxelinux";
const LABEL: &str = "netbe";
/// The kernel's command line on x86 is at most 2,048 bytes; pxelinux reads lines of 4,096.
const LINE: usize = 3072;

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::test::entry;

    /// Reads a configuration as pxelinux does: kernel, initial RAM disk and arguments of its label.
    fn read(text: &str) -> (String, Option<String>, String) {
        let (mut kernel, mut initrd, mut arguments) = (String::new(), None, String::new());
        let mut label = None;
        for line in text.lines() {
            let (keyword, rest) = line.trim_start().split_once(' ').unwrap();
            match keyword.to_ascii_lowercase().as_str() {
                "label" => label = Some(rest.to_owned()),
                "linux" => kernel = rest.to_owned(),
                "initrd" => initrd = Some(rest.to_owned()),
                "append" => arguments = rest.to_owned(),
                "say" | "default" | "prompt" | "timeout" | "ontimeout" => assert_eq!(label, None),
                other => panic!("pxelinux knows no {other:?}"),
            }
        }
        assert_eq!(label.as_deref(), Some(LABEL));
        (kernel, initrd, arguments)
    }

    #[test]
    fn a_linux_kernel_is_booted_at_once_and_again_after_a_failure() {
        assert_eq!(
            render(&entry("root=/dev/nfs  rw")).unwrap(),
            "SAY netbe 10.0.0.1: desk boots debian (boot 0123456789abcdef)\n\
             DEFAULT netbe\n\
             PROMPT 0\n\
             TIMEOUT 100\n\
             ONTIMEOUT netbe\n\
             LABEL netbe\n\
             LINUX http://10.0.0.1/b/1/kernel\n\
             INITRD http://10.0.0.1/b/1/initrd\n\
             APPEND root=/dev/nfs rw\n"
        );
    }

    #[test]
    fn what_pxelinux_would_act_on_is_refused() {
        for arguments in ["a\nLABEL b", "-", "initrd=/etc/x rw", "a\0"] {
            assert!(render(&entry(arguments)).is_err(), "{arguments:?}");
        }
        let two = Some("a,b".to_owned());
        assert!(render(&BootEntry { initrd: two, ..entry("rw") }).is_err());
    }

    #[test]
    fn a_serial_port_stands_in_the_first_line() {
        let serial = Some("ttyS1/9600".parse().unwrap());
        let text = render(&BootEntry { serial, ..entry("rw") }).unwrap();
        assert!(text.starts_with("SERIAL 1 9600\nSAY "), "{text}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            kernel in "\\PC{0,20}|[a-z:/.]{1,20}", initrd in prop::option::of("[ -~]{0,12}"),
            arguments in "\\PC{0,40}", name in "(?s).{0,20}",
        ) {
            let arguments = arguments.split_whitespace().collect::<Vec<_>>().join(" ");
            let entry = BootEntry { kernel, initrd, environment: name, ..entry(&arguments) };
            if let Ok(text) = render(&entry) {
                prop_assert_eq!(read(&text), (entry.kernel, entry.initrd, entry.arguments));
            }
        }
    }
}

//! Configurations of GRUB.
//!
//! They are programs of a small shell. Everything that comes from outside stands between single
//! quotes, where the shell acts on nothing; what has a single quote itself is refused.

use crate::ConfigError;
use crate::entry::{BootEntry, place};
use crate::error::{limit, refuse};

/// The text of a configuration that boots its one entry at once.
///
/// When that fails, it says so and tries again after ten seconds, so that a machine without a screen
/// comes up when its server does; the Escape key gives a prompt instead.
pub fn render(entry: &BootEntry) -> Result<String, ConfigError> {
    let mut linux = format!("linux {}", quoted("the kernel", place(&entry.kernel, FORMAT)?)?);
    for word in entry.arguments.split_whitespace() {
        linux.push(' ');
        linux += &quoted("the kernel argument", word)?;
    }
    let mut lines = Vec::new();
    if let Some(serial) = entry.serial {
        let (unit, speed) = (serial.unit(), serial.speed());
        // Not every image has the command; a machine without it boots all the same.
        lines.push(format!("if serial --unit={unit} --speed={speed}; then"));
        lines.push("  terminal_input console serial; terminal_output console serial".to_owned());
        lines.push("fi".to_owned());
    }
    lines.extend([
        format!("echo {}", quoted("the heading", &entry.heading())?),
        "while true; do".to_owned(),
        format!("  if {linux}; then"),
    ]);
    if let Some(initrd) = &entry.initrd {
        let initrd = quoted("the initial RAM disk", place(initrd, FORMAT)?)?;
        lines.push(format!("    if initrd {initrd}; then boot; fi"));
    } else {
        lines.push("    boot".to_owned());
    }
    lines.push("  fi".to_owned());
    lines.push(
        "  echo 'netbe: booting failed. Trying again in 10 seconds; press Escape for a prompt.'"
            .to_owned(),
    );
    lines.push("  if sleep --interruptible 10; then true; else break; fi".to_owned());
    lines.push("done".to_owned());
    for line in &lines {
        limit("a line", line, FORMAT, LINE)?;
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// A word between single quotes.
fn quoted(what: &'static str, word: &str) -> Result<String, ConfigError> {
    // GRUB puts a backslash before quotes and backslashes when it writes the kernel's command line
    // (its lib/cmdline.c), so that the kernel would read something else.
    let reason = "GRUB cannot hand quotes, backslashes and control characters to a kernel";
    let bad = |c: char| c.is_control() || "'\"\\".contains(c);
    refuse(what, word, FORMAT, reason, bad)?;
    Ok(format!("'{word}'"))
}

const FORMAT: &str = "a configuration of GRUB";
/// The kernel's command line on x86 is at most 2,048 bytes; with two quotes around every word.
const LINE: usize = 6144;

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::test::entry;

    /// The words of a line as GRUB's shell splits them, up to the `;` that ends the command.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut inside) = (Vec::new(), None::<String>, false);
        for c in line.chars() {
            match c {
                '\'' => {
                    inside = !inside;
                    word.get_or_insert_default();
                }
                ' ' | ';' if !inside => {
                    words.extend(word.take());
                    if c == ';' {
                        return words;
                    }
                }
                c => {
                    let plain = c.is_ascii_alphanumeric() || "-_".contains(c);
                    assert!(inside || plain, "GRUB would act on {c:?} in {line:?}");
                    word.get_or_insert_default().push(c);
                }
            }
        }
        assert!(!inside, "{line:?} does not end");
        words.extend(word);
        words
    }

    /// What a configuration would load: kernel, initial RAM disk and arguments.
    fn read(text: &str) -> (String, Option<String>, String) {
        let lines = text.lines().map(|line| words(line.trim_start())).collect::<Vec<_>>();
        let of = |name: &str| lines.iter().find(|words| words.get(1).is_some_and(|w| w == name));
        let linux = of("linux").unwrap();
        let initrd = of("initrd").map(|words| words[2].clone());
        (linux[2].clone(), initrd, linux[3..].join(" "))
    }

    #[test]
    fn a_linux_kernel_is_booted_at_once_and_again_after_a_failure() {
        let kernel = "(http,10.0.0.1)/b/1/kernel".to_owned();
        let initrd = Some("(http,10.0.0.1)/b/1/initrd".to_owned());
        assert_eq!(
            render(&BootEntry { kernel, initrd, ..entry("root=/dev/nfs rw") }).unwrap(),
            "echo 'netbe 10.0.0.1: desk boots debian (boot 0123456789abcdef)'\n\
             while true; do\n  \
               if linux '(http,10.0.0.1)/b/1/kernel' 'root=/dev/nfs' 'rw'; then\n    \
                 if initrd '(http,10.0.0.1)/b/1/initrd'; then boot; fi\n  \
               fi\n  \
               echo 'netbe: booting failed. Trying again in 10 seconds; press Escape for a prompt.'\n  \
               if sleep --interruptible 10; then true; else break; fi\n\
             done\n"
        );
    }

    #[test]
    fn a_kernel_without_a_ram_disk_is_booted_alone() {
        let text = render(&BootEntry { initrd: None, ..entry("rw") }).unwrap();
        assert!(text.contains("'rw'; then\n    boot\n  fi\n"), "{text}");
    }

    #[test]
    fn a_serial_port_comes_before_anything_is_shown() {
        let serial = Some("ttyS1/9600".parse().unwrap());
        let text = render(&BootEntry { serial, ..entry("rw") }).unwrap();
        let expected = "if serial --unit=1 --speed=9600; then\n  \
                        terminal_input console serial; terminal_output console serial\nfi\necho ";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn what_grub_cannot_hand_on_is_refused() {
        for arguments in ["a='b'", "\"a b\"", "a\\b", "a\0"] {
            assert!(render(&entry(arguments)).is_err(), "{arguments:?}");
        }
        assert!(render(&entry("a=$b ${c} ; reboot # {d}")).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            kernel in "\\PC{0,20}|[a-z:/.(),]{1,20}", initrd in prop::option::of("[ -~]{0,12}"),
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

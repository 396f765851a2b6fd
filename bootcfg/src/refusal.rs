//! What GRUB and pxelinux show on a machine that boots nothing. iPXE has a script for it ([`crate::ipxe`]).

use crate::Serial;
use crate::ipxe::Then;

/// A configuration of GRUB that says why, and boots nothing.
#[must_use]
pub fn grub(message: &str, then: Then, serial: Option<Serial>) -> String {
    let (says, does) = match then {
        Then::Restart => ("Restarting", "reboot"),
        Then::NextDevice => ("Going on to the next boot device", "exit"),
    };
    let mut text = String::new();
    if let Some(serial) = serial {
        let (unit, speed) = (serial.unit(), serial.speed());
        text += &format!("if serial --unit={unit} --speed={speed}; then\n");
        text += "  terminal_input console serial; terminal_output console serial\nfi\n";
    }
    for line in shown(message) {
        // Its shell acts on nothing between single quotes.
        text += &format!("echo '{}'\n", line.replace('\'', "\""));
    }
    text + &format!("echo '{says} in 10 seconds.'\nsleep 10\n{does}\n")
}

/// A configuration of pxelinux that says why, and boots nothing. `has_reboot` is whether it can load
/// `reboot.c32` from where it was loaded itself; without that the firmware goes on.
#[must_use]
pub fn pxelinux(message: &str, then: Then, serial: Option<Serial>, has_reboot: bool) -> String {
    let (says, does) = match then {
        Then::Restart if has_reboot => ("Restarting", "COM32 reboot.c32"),
        Then::Restart | Then::NextDevice => ("Going on to the next boot device", "LOCALBOOT -1"),
    };
    // It wants this before anything else.
    let port = |serial: Serial| format!("SERIAL {} {}\n", serial.unit(), serial.speed());
    let mut text = serial.map_or_else(String::new, port);
    for line in shown(message) {
        text += &format!("SAY {line}\n");
    }
    text + &format!(
        "SAY {says} in 10 seconds.\nDEFAULT next\nPROMPT 1\nTIMEOUT 100\nONTIMEOUT next\n\
         LABEL next\n{does}\n"
    )
}

/// The lines that are shown: a heading, and the reason cut between words, of what every console has.
fn shown(message: &str) -> Vec<String> {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    let mut lines = vec!["netbe: this machine boots nothing".to_owned()];
    let mut line = String::new();
    for word in message.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() >= COLUMNS {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().map(plain).take(COLUMNS));
    }
    lines.push(line);
    lines.truncate(LINES);
    lines
}

/// A console's width.
const COLUMNS: usize = 78;
/// No reason is longer.
const LINES: usize = 16;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_reason_is_shown_in_lines_that_fit() {
        let why = "boot environment 'a b' cannot be booted: spaces, colons, commas and quotes in its name \
                   break a kernel's command line; clone it to a plain name";
        assert_eq!(
            grub(why, Then::Restart, None),
            "echo 'netbe: this machine boots nothing'\n\
             echo 'boot environment \"a b\" cannot be booted: spaces, colons, commas and quotes in'\n\
             echo 'its name break a kernel\"s command line; clone it to a plain name'\n\
             echo 'Restarting in 10 seconds.'\nsleep 10\nreboot\n"
        );
        let serial = "ttyS1/9600".parse().ok();
        let text = grub("x", Then::NextDevice, serial);
        assert!(text.starts_with("if serial --unit=1 --speed=9600; then\n"), "{text}");
        assert!(text.ends_with("\nexit\n"), "{text}");
    }

    #[test]
    fn pxelinux_starts_anew_where_it_can() {
        let text = pxelinux("it is 'off'", Then::Restart, "ttyS0/115200".parse().ok(), true);
        assert_eq!(
            text,
            "SERIAL 0 115200\nSAY netbe: this machine boots nothing\nSAY it is 'off'\n\
             SAY Restarting in 10 seconds.\nDEFAULT next\nPROMPT 1\nTIMEOUT 100\nONTIMEOUT next\n\
             LABEL next\nCOM32 reboot.c32\n"
        );
        for then in [Then::Restart, Then::NextDevice] {
            assert!(pxelinux("x", then, None, false).ends_with("\nLOCALBOOT -1\n"));
        }
    }

    #[test]
    fn no_reason_adds_a_command() {
        let hostile = "x'; reboot; echo '\nLABEL evil\r\nKERNEL y \u{1b}[2J ü $(z) \\";
        let text = grub(hostile, Then::NextDevice, None);
        assert!(text.is_ascii() && text.lines().count() == 5, "{text}");
        assert!(text.lines().nth(1).unwrap().matches('\'').count() == 2, "{text}");
        let text = pxelinux(hostile, Then::NextDevice, None, false);
        assert_eq!(text.lines().filter(|line| line.starts_with("LABEL")).count(), 1, "{text}");
        let long = "word ".repeat(10_000) + &"y".repeat(10_000);
        assert!(grub(&long, Then::Restart, None).len() < 4096);
    }
}

//! All commands of a guest's life, in the order in which they are run.

use super::{Console, FORMAT, absolute, bhyve, check_interface, destroy, interface, node};
use crate::{ConfigError, Guest, shell};

/// A guest of bhyve: what its commands are made of, but for its interface on this host.
///
/// [`Virtual::modules`], [`make_tap`] and [`attach`] come once; then, for every boot, [`switch_on`],
/// [`Virtual::load`], [`Virtual::run`] and [`destroy`]; and [`detach`] at the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Virtual<'g> {
    /// The guest.
    pub guest: &'g Guest,
    /// What boots it.
    pub boot: Boot,
    /// Where its console is.
    pub console: Console,
}

/// What boots a guest of bhyve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Boot {
    /// This command of [`bhyveload`](super::bhyveload()), before each run.
    Load(Vec<String>),
    /// UEFI, of which this is the file.
    Firmware(String),
}

impl Virtual<'_> {
    /// The command that loads what the kernel of this host needs for it, where that is not loaded yet.
    #[must_use]
    pub fn modules(&self) -> Vec<String> {
        let null_modem = (self.console == Console::NullModem).then_some("nmdm");
        let words = ["kldload", "-n", "vmm"].into_iter().chain(null_modem);
        words.map(str::to_owned).collect()
    }

    /// The command that has to be run before each [`Virtual::run`], if there is one.
    #[must_use]
    pub fn load(&self) -> Option<&[String]> {
        match &self.boot {
            Boot::Load(words) => Some(words),
            Boot::Firmware(_) => None,
        }
    }

    /// The command that runs it, with this interface, until it reboots or is off.
    pub fn run(&self, tap: &str) -> Result<Vec<String>, ConfigError> {
        let firmware = match &self.boot {
            Boot::Load(_) => None,
            Boot::Firmware(file) => Some(absolute("the firmware", file, |c| c == '\0')?),
        };
        bhyve(self.guest, tap, self.console, firmware)
    }

    /// A script for sh(1) that runs the guest until it is switched off: on an interface that it makes
    /// and puts into the bridge, or on `tap`, which is there already.
    pub fn script(&self, bridge: &str, tap: Option<&str>) -> Result<String, ConfigError> {
        let (name, node) = (self.guest.checked_name(FORMAT)?, node(self.guest)?);
        let modules = shell::line(&self.modules())?;
        let destroy = shell::line(&destroy(self.guest)?)?;
        let console = match self.console.terminal(self.guest)? {
            Some(terminal) => format!("# Its console is {terminal}: `cu -l {terminal}`.\n"),
            None => String::new(),
        };
        let mut text = format!(
            "#!/bin/sh\n\
             # Runs {name} under bhyve(8) until it is switched off.\n\
             {console}\
             # bhyve exits with 0 when the guest reboots, with 1 or 2 when it is off, and with more when\n\
             # it failed. SIGTERM to bhyve is the guest's power button.\n\
             \n\
             if [ -e {node} ]; then\n    \
             echo 'there is a virtual machine {name} already: if nothing runs it, {destroy} frees it' >&2\n    \
             exit 2\n\
             fi\n\
             {modules} || exit\n"
        );
        let (tap, end) = match tap {
            Some(tap) => {
                check_interface(tap)?;
                (tap, String::new())
            }
            None => {
                text += &format!("tap=$({}) || exit\n", shell::line(&make_tap())?);
                (TAP, format!("; {}", in_shell(&detach(TAP)?)?))
            }
        };
        text += &format!("trap '{destroy} 2>/dev/null{end}' EXIT\ntrap 'exit 1' HUP INT TERM\n");
        if tap == TAP {
            text += &format!("{} || exit\n", in_shell(&attach(bridge, TAP)?)?);
        }
        text += &format!("while :; do\n    {} || exit\n", in_shell(&switch_on(tap)?)?);
        if let Some(load) = self.load() {
            text += &format!("    {} || exit\n", shell::lines(load, "    ")?);
        }
        text += &format!("    {}\n    status=$?\n", in_shell_lines(&self.run(tap)?)?);
        text +=
            &format!("    {destroy}\n    [ $status -eq 0 ] || break\ndone\n[ $status -le 2 ]\n");
        Ok(text)
    }
}

/// The command that makes an interface for a guest, and prints its name.
#[must_use]
pub fn make_tap() -> Vec<String> {
    ["ifconfig", "tap", "create"].map(str::to_owned).to_vec()
}

/// The command that puts a guest's interface into a bridge.
pub fn attach(bridge: &str, tap: &str) -> Result<Vec<String>, ConfigError> {
    ifconfig(bridge, &["addm", interface(tap)?])
}

/// The command that switches a guest's interface on: before every run, because it goes off when bhyve
/// closes it (tap(4)).
pub fn switch_on(tap: &str) -> Result<Vec<String>, ConfigError> {
    ifconfig(tap, &["up"])
}

/// The command that removes a guest's interface, from its bridge too.
pub fn detach(tap: &str) -> Result<Vec<String>, ConfigError> {
    ifconfig(tap, &["destroy"])
}

fn ifconfig(name: &str, rest: &[&str]) -> Result<Vec<String>, ConfigError> {
    let words = ["ifconfig", interface(name)?].into_iter().chain(rest.iter().copied());
    Ok(words.map(str::to_owned).collect())
}

/// A command on an interface that the shell has in a variable.
fn in_shell(words: &[String]) -> Result<String, ConfigError> {
    shell::line(words).map(|text| text.replace(TAP, "$tap"))
}

/// The same, with each option on a line of its own.
fn in_shell_lines(words: &[String]) -> Result<String, ConfigError> {
    shell::lines(words, "    ").map(|text| text.replace(TAP, "$tap"))
}

/// Stands in commands for the interface whose name only the shell knows: longer than the name of any
/// guest, so that none has it in it.
pub(super) const TAP: &str = "the_interface_that_this_script_makes_for_its_guest";

#[cfg(test)]
mod test {
    use super::*;
    use crate::bhyve::bhyveload;
    use crate::guest::strategy::{self, lan};

    fn loaded(guest: &Guest, console: Console) -> Virtual<'_> {
        let load = bhyveload(guest, &lan(), "/ROOT/head", &[0x63, 0x10], console).unwrap();
        Virtual { guest, boot: Boot::Load(load), console }
    }

    #[test]
    fn the_slides_guest_is_run_until_it_is_off() {
        let guest = strategy::head();
        let script = loaded(&guest, Console::NullModem).script("bridge0", None).unwrap();
        assert_eq!(script, include_str!("slides.sh"));
    }

    /// Runs the script with commands that note down what they were given. Those of `failing` fail, and
    /// bhyve ends as it is told, time after time.
    fn run(script: &str, statuses: &str, failing: &str) -> (Vec<String>, Option<i32>) {
        let fakes = format!(
            "left='{statuses} '\n\
             note() {{ echo \"$*\" >&3; case \"$*\" in {failing}) return 7;; esac; }}\n\
             kldload() {{ note kldload \"$@\"; }}\n\
             ifconfig() {{ [ \"$2\" != create ] || echo tap3; note ifconfig \"$@\"; }}\n\
             bhyvectl() {{ note bhyvectl \"$@\"; }}\n\
             bhyveload() {{ note bhyveload; }}\n\
             bhyve() {{ note bhyve \"${{11}}\"; status=${{left%% *}}; left=${{left#* }}; return $status; }}\n\
             exec 3>&1\n"
        );
        let out = std::process::Command::new("sh").arg("-c").arg(fakes + script).output().unwrap();
        let out_text = String::from_utf8(out.stdout).unwrap();
        (out_text.lines().map(str::to_owned).collect(), out.status.code())
    }

    const PREPARED: [&str; 3] =
        ["kldload -n vmm nmdm", "ifconfig tap create", "ifconfig bridge0 addm tap3"];
    const ROUND: [&str; 4] = [
        "ifconfig tap3 up",
        "bhyveload",
        "bhyve 2,virtio-net,tap3,mac=02:01:02:03:04:05",
        "bhyvectl --destroy --vm=head",
    ];
    const END: [&str; 2] = ["bhyvectl --destroy --vm=head", "ifconfig tap3 destroy"];

    #[test]
    fn the_script_loads_again_for_every_reboot_and_ends_when_the_guest_is_off() {
        let guest = strategy::head();
        let script = loaded(&guest, Console::NullModem).script("bridge0", None).unwrap();
        for (statuses, rounds, status) in
            [("0 0 1", 3, 0), ("1", 1, 0), ("2", 1, 0), ("3", 1, 1), ("4", 1, 1)]
        {
            let rounds = std::iter::repeat_n(ROUND, rounds).flatten();
            let expected: Vec<&str> = PREPARED.into_iter().chain(rounds).chain(END).collect();
            let (commands, ended) = run(&script, statuses, "nothing");
            assert_eq!(
                (commands, ended),
                (expected.iter().map(|&w| w.into()).collect(), Some(status))
            );
        }
    }

    #[test]
    fn whatever_fails_the_script_leaves_no_interface_and_no_machine() {
        let guest = strategy::head();
        let script = loaded(&guest, Console::NullModem).script("bridge0", None).unwrap();
        for (failing, done) in [("kldload*", 1), ("'ifconfig tap create'", 2)] {
            let (commands, ended) = run(&script, "1", failing);
            assert_eq!(
                (commands.as_slice(), ended),
                (&PREPARED.map(str::to_owned)[..done], Some(7))
            );
        }
        for (failing, rounds) in
            [("'ifconfig bridge0 '*", 0), ("'ifconfig tap3 up'", 1), ("bhyveload", 2)]
        {
            let (commands, ended) = run(&script, "1", failing);
            let expected = PREPARED.iter().chain(&ROUND[..rounds]).chain(&END);
            assert_eq!(
                (commands, ended),
                (expected.map(|&w| w.into()).collect(), Some(7)),
                "{failing}"
            );
        }
    }

    #[test]
    fn an_interface_that_was_there_stays_as_it_was() {
        let guest = strategy::head();
        let script = loaded(&guest, Console::Stdio).script("bridge0", Some("tap3")).unwrap();
        let (commands, ended) = run(&script, "1", "nothing");
        let begin = ["kldload -n vmm"].into_iter();
        let expected: Vec<String> = begin.chain(ROUND).chain([END[0]]).map(str::to_owned).collect();
        assert_eq!((commands, ended), (expected, Some(0)));
    }

    #[test]
    fn a_guest_with_firmware_is_loaded_by_that() {
        let guest = strategy::head();
        let boot = Boot::Firmware("/f.fd".to_owned());
        let machine = Virtual { guest: &guest, boot, console: Console::Stdio };
        assert_eq!(machine.load(), None);
        let script = machine.script("bridge0", None).unwrap();
        assert!(!script.contains("bhyveload"), "{script}");
        assert!(script.contains("        -l bootrom,/f.fd \\\n"), "{script}");
    }
}

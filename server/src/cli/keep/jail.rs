//! A guest that is a jail: no process, but what this host's kernel has until it is removed.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use bootcfg::jail::{self, Definition, Jail, Network, Parameter, Vnet};

use crate::cli::Failure;
use crate::cli::child::{Runner, cannot_run, command};
use crate::cli::guest::{Subject, mac_of};
use crate::guests::End;
use crate::site::machine::Machine;

/// The jail that a machine is: in its bridge with the machine's Ethernet and IP address, or without a bridge with
/// that address of this host.
pub(super) fn definition(subject: &Subject, machine: &Machine) -> Result<Definition, Failure> {
    let environment = &subject.environment;
    if !subject.store.capabilities().in_place
        && environment.datasets.iter().any(|set| set.mounted())
    {
        let name = &environment.name;
        return Err(Failure::no(format_args!(
            "the data sets of {name} are mounted nowhere by themselves: run `netbe mount {name} DIR` when the \
             host starts, and the jail by `netbe show jail`"
        )));
    }
    let network = match (&machine.bridge, machine.address) {
        (Some(bridge), address) => {
            let addresses = match address {
                Some(_) => {
                    let known = subject.address()?;
                    vec![(known.address.into(), known.prefix)]
                }
                None => Vec::new(),
            };
            let mac = machine.macs.first().map(|mac| bootcfg::Mac(mac.0));
            let mac = mac.unwrap_or_else(|| mac_of(environment.uuid));
            let bridge = bridge.as_str().to_owned();
            Network::Own(Vnet { bridge, mac, addresses, gateways: Vec::new() })
        }
        (None, Some(address)) => {
            Network::Shared { addresses: vec![address.into()], interface: None }
        }
        (None, None) => Network::None,
    };
    let (name, path) = (subject.guest.name.clone(), subject.directory()?);
    jail::define(&Jail { name, path, fstab: None, network }).map_err(Failure::could_not)
}

/// Creates a jail by its definition, which is written to `file`, and removes it when somebody asks for the
/// end: by its own `exec.stop`, and, where that does not end in its time, without. `began` is told once it is
/// there.
pub(super) fn live(
    definition: &Definition,
    file: &Path,
    runner: &mut dyn Runner,
    began: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<End, Failure> {
    let name = &definition.name;
    let path = crate::cli::guest::text(file)?.to_owned();
    write(definition, file)?;
    done(runner, &["jail", "-q", "-f", &path, "-c", name])?;
    began()?;
    while is_there(runner, name)? {
        if !runner.is_stopping() {
            runner.pause(BEAT);
            continue;
        }
        // jail(8), exec.timeout: what takes longer is given up, and the jail stays.
        let grace = runner.grace();
        let mut patient = definition.clone();
        let seconds = grace.as_secs().max(1).to_string();
        patient
            .parameters
            .push(Parameter { name: "exec.timeout".to_owned(), values: vec![seconds] });
        write(&patient, file)?;
        let asked = if grace.is_zero() {
            None
        } else {
            Some(done(runner, &["jail", "-q", "-f", &path, "-r", name]))
        };
        if !matches!(asked, Some(Ok(()))) && is_there(runner, name)? {
            runner.killed();
            done(runner, &["jail", "-q", "-R", name])?;
        }
        return Ok(End::Off);
    }
    Ok(End::Off)
}

/// Whether there is a jail of this name (jls(8)).
fn is_there(runner: &mut dyn Runner, name: &str) -> Result<bool, Failure> {
    ask(runner, &["jls", "-j", name, "name"]).map(|output| output.status.success())
}

fn done(runner: &mut dyn Runner, words: &[&str]) -> Result<(), Failure> {
    let output = ask(runner, words)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(Failure::could_not(format_args!("`{}` failed: {said}", words.join(" "))))
}

fn ask(runner: &mut dyn Runner, words: &[&str]) -> Result<Output, Failure> {
    let owned: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let program = words.first().copied().unwrap_or_default();
    runner.ask(command(&owned)).map_err(|error| cannot_run(program, &error))
}

fn write(definition: &Definition, file: &Path) -> Result<(), Failure> {
    let text = jail::render(std::slice::from_ref(definition)).map_err(Failure::could_not)?;
    fs::write(file, text)
        .map_err(|error| Failure::could_not(format_args!("{}: {error}", file.display())))
}

/// How often it is looked whether a jail is there.
const BEAT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod test {
    use std::io;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    use super::*;
    use crate::cli::child::Terminal;

    /// A host that notes down what is asked of it, whose commands that begin so fail, and where somebody asks for
    /// the end after some looks.
    #[derive(Default)]
    struct Noted {
        commands: Vec<String>,
        failing: &'static str,
        looks: u32,
        there: bool,
        killed: bool,
        grace: u64,
    }

    impl Runner for Noted {
        fn ask(&mut self, command: Command) -> io::Result<Output> {
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
            let words = words.join(" ");
            let fails = !self.failing.is_empty() && words.contains(self.failing);
            let mut good = !fails;
            if words.starts_with("jls") {
                good = self.there;
            } else {
                self.there = words.contains(" -c ") || (self.there && fails);
                self.commands.push(words);
            }
            let status = ExitStatus::from_raw(if good { 0 } else { 1 << 8 });
            Ok(Output { status, stdout: Vec::new(), stderr: b"no\n".to_vec() })
        }

        fn run(&mut self, _command: Command, _terminal: Terminal) -> io::Result<ExitStatus> {
            Ok(ExitStatus::default())
        }

        fn is_stopping(&mut self) -> bool {
            self.looks += 1;
            self.looks > 3
        }

        fn exists(&mut self, _path: &Path) -> bool {
            false
        }

        fn pause(&mut self, _time: Duration) {}

        fn grace(&mut self) -> Duration {
            Duration::from_secs(self.grace)
        }

        fn killed(&mut self) {
            self.killed = true;
        }
    }

    fn played(mut host: Noted) -> (Result<End, Failure>, Vec<String>, bool, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jail.conf");
        let jail = Jail {
            name: "web1".to_owned(),
            path: "/be/web1".to_owned(),
            fstab: None,
            network: Network::None,
        };
        let mut began = 0;
        let end = live(&jail::define(&jail).unwrap(), &file, &mut host, &mut || {
            began += 1;
            Ok(())
        });
        assert_eq!(began == 1, end.is_ok());
        let place = format!("{} ", file.display());
        let commands =
            host.commands.iter().map(|command| command.replace(&place, "FILE ")).collect();
        (end, commands, host.killed, fs::read_to_string(&file).unwrap())
    }

    #[test]
    fn a_jail_is_created_and_asked_to_end() {
        let (end, commands, killed, file) = played(Noted { grace: 7, ..Noted::default() });
        assert_eq!(end.unwrap(), End::Off);
        assert_eq!(commands, ["jail -q -f FILE -c web1", "jail -q -f FILE -r web1"]);
        assert!(!killed && file.contains("exec.timeout = \"7\";"), "{file}");
    }

    #[test]
    fn what_does_not_end_in_its_time_is_removed() {
        let stuck = Noted { failing: " -r ", grace: 7, ..Noted::default() };
        let (end, commands, killed, _) = played(stuck);
        assert_eq!(end.unwrap(), End::Off);
        assert!(killed);
        assert_eq!(commands.last().unwrap(), "jail -q -R web1");
        // Nobody waits where there is no time.
        let (_, commands, killed, _) = played(Noted::default());
        assert!(killed);
        assert_eq!(commands, ["jail -q -f FILE -c web1", "jail -q -R web1"]);
    }

    #[test]
    fn a_jail_that_cannot_be_created_is_told() {
        let (end, ..) = played(Noted { failing: " -c ", ..Noted::default() });
        let said = end.unwrap_err().message;
        assert!(said.starts_with("`jail -q -f ") && said.ends_with("failed: no"), "{said}");
    }
}

//! A guest that is a jail: no process, but what this host's kernel has until it is removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootcfg::jail::{self, Definition, Jail, Network, Vnet};

use crate::cli::Failure;
use crate::cli::child::{ANSWER, Ask, Runner, not_done};
use crate::cli::guest::{Subject, mac_of};
use crate::guests::End;
use crate::site::machine::Machine;

/// The jail that a machine is: in its bridge with the machine's Ethernet and IP address, or without a bridge with
/// that address of this host.
pub(super) fn definition(subject: &Subject, machine: &Machine) -> Result<Definition, Failure> {
    let environment = &subject.environment;
    subject.expect_of_host()?;
    if !subject.store.capabilities().in_place
        && environment.datasets.iter().any(|set| set.mounted())
    {
        let name = &environment.name;
        return Err(Failure::no(format_args!(
            "netbe does not mount the data sets of {name}: run `netbe mount {name} DIR` when the \
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
    let text = jail::render(std::slice::from_ref(definition)).map_err(Failure::could_not)?;
    write(file, &text)?;
    if let Some(path) = path_of(name, &mut |words| runner.ask(words, ANSWER))? {
        return Err(Failure::no(format_args!(
            "there is a jail {name} already, on {path}: `jail -r {name}` ends it"
        )));
    }
    let created = limited(file, CREATION)
        .and_then(|limited| done(runner, CREATION + ANSWER, &["-f", &limited, "-c", name]));
    if let Err(failure) = created {
        // jail(8) takes down what fails or is late, unless it was late itself.
        if is_there(runner, name) {
            done(runner, ANSWER, &["-R", name])?;
        }
        return Err(failure);
    }
    began()?;
    follow(name, file, runner)
}

/// Waits for the end of a jail that was created by the definition in `file`, and removes it when somebody asks
/// for that, as [`live`] does.
pub(super) fn follow(name: &str, file: &Path, runner: &mut dyn Runner) -> Result<End, Failure> {
    while is_there(runner, name) {
        if !runner.is_stopping() {
            runner.pause(BEAT);
            continue;
        }
        let grace = runner.grace();
        if !grace.is_zero() {
            runner.asked();
        }
        let asked = (!grace.is_zero()).then(|| {
            let limited = limited(file, grace)?;
            done(runner, grace + ANSWER, &["-f", &limited, "-r", name])
        });
        if !matches!(asked, Some(Ok(()))) && is_there(runner, name) {
            runner.killed();
            done(runner, ANSWER, &["-R", name])?;
        }
        return Ok(End::Off);
    }
    Ok(End::Off)
}

/// Refuses a host that has no jails.
pub(super) fn expect_jails() -> Result<(), Failure> {
    if cfg!(target_os = "freebsd") {
        return Ok(());
    }
    Err(Failure::could_not(
        "jails run on FreeBSD hosts only: `netbe machine set --run nspawn` has a Linux run as a container",
    ))
}

/// Where the jail of this name has its root, if there is one (jls(8)).
pub(super) fn path_of(name: &str, ask: &mut Ask<'_>) -> Result<Option<String>, Failure> {
    let words = ["jls", "name", "path"].map(str::to_owned);
    let said = ask(&words).map_err(|error| not_done(&words.join(" "), &error, ""))?;
    let said = String::from_utf8_lossy(&said);
    let mut jails = said.lines().filter_map(|line| line.split_once(' '));
    Ok(jails.find(|(known, _)| *known == name).map(|(_, path)| path.trim().to_owned()))
}

/// Whether there may be a jail of this name: one that cannot be looked for has not ended for that.
fn is_there(runner: &mut dyn Runner, name: &str) -> bool {
    !matches!(path_of(name, &mut |words| runner.ask(words, ANSWER)), Ok(None))
}

/// Runs jail(8).
fn done(runner: &mut dyn Runner, limit: Duration, options: &[&str]) -> Result<(), Failure> {
    let words: Vec<String> =
        ["jail", "-q"].iter().chain(options).map(|&word| word.to_owned()).collect();
    let done = runner.ask(&words, limit);
    done.map(drop).map_err(|error| not_done(&words.join(" "), &error, ""))
}

/// Writes the definition in `file` to another file, with a limit of time for each of the jail's own commands
/// (jail(8), `exec.timeout`); gives that file.
fn limited(file: &Path, limit: Duration) -> Result<String, Failure> {
    let text = fs::read_to_string(file).map_err(|error| wrong(file, &error))?;
    let (text, _end) = text.rsplit_once('}').unwrap_or((&text, ""));
    let seconds = limit.as_secs().max(1);
    let path: PathBuf = file.with_extension("limited.conf");
    write(&path, &format!("{text}    exec.timeout = \"{seconds}\";\n}}\n"))?;
    crate::cli::guest::text(&path).map(str::to_owned)
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|error| wrong(file, &error))
}

fn wrong(file: &Path, error: &std::io::Error) -> Failure {
    Failure::could_not(format_args!("{}: {error}", file.display()))
}

/// How long each command may take that a jail is started by: its rc(8) may wait for a network.
const CREATION: Duration = Duration::from_secs(600);
/// How often it is looked whether a jail is there.
const BEAT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod test {
    use std::io;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    use ::child::{Error, Why};

    use super::*;
    use crate::cli::child::Terminal;

    /// A host that notes down what is asked of it, whose commands that have these words in them fail, and where
    /// somebody asks for the end after some looks.
    #[derive(Default)]
    struct Noted {
        commands: Vec<String>,
        limits: Vec<Duration>,
        failing: &'static str,
        /// How often jls(8) fails.
        blind: u32,
        looks: u32,
        there: bool,
        killed: bool,
        grace: u64,
    }

    impl Runner for Noted {
        fn ask(&mut self, words: &[String], limit: Duration) -> Result<Vec<u8>, Error> {
            let words = words.join(" ");
            let fails = !self.failing.is_empty() && words.contains(self.failing);
            let why = Why::Ended(ExitStatus::from_raw(1 << 8));
            let error = Error { call: words.clone(), why, said: "no".to_owned() };
            if words == "jls name path" {
                if self.blind > 0 {
                    self.blind -= 1;
                    return Err(error);
                }
                let own = if self.there { "web1 /be/web1\n" } else { "" };
                return Ok(format!("web10 /be/web10\n{own}").into());
            }
            self.there =
                (words.contains(" -c ") && self.failing != " -c ") || (self.there && fails);
            self.commands.push(words);
            self.limits.push(limit);
            if fails { Err(error) } else { Ok(Vec::new()) }
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

    /// How a jail's life went, what was run for it, and what jail(8) read last.
    fn played(host: &mut Noted) -> (Result<End, Failure>, Vec<String>, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jail.conf");
        let jail = Jail {
            name: "web1".to_owned(),
            path: "/be/web1".to_owned(),
            fstab: None,
            network: Network::None,
        };
        let mut began = 0;
        let end = live(&jail::define(&jail).unwrap(), &file, host, &mut || {
            began += 1;
            Ok(())
        });
        assert_eq!(began == 1, end.is_ok());
        let limited = file.with_extension("limited.conf");
        let place = format!("{} ", limited.display());
        let commands =
            host.commands.iter().map(|command| command.replace(&place, "FILE ")).collect();
        (end, commands, fs::read_to_string(&limited).unwrap_or_default())
    }

    #[test]
    fn a_jail_is_created_and_asked_to_end() {
        let mut host = Noted { grace: 7, ..Noted::default() };
        let (end, commands, file) = played(&mut host);
        assert_eq!(end.unwrap(), End::Off);
        assert_eq!(commands, ["jail -q -f FILE -c web1", "jail -q -f FILE -r web1"]);
        // Nothing is run without a limit of time.
        assert_eq!(host.limits, [CREATION + ANSWER, Duration::from_secs(7) + ANSWER]);
        assert!(!host.killed && file.ends_with("    exec.timeout = \"7\";\n}\n"), "{file}");
        let read = jail::file::read(&[&file]);
        assert!(read.iter().all(|reading| reading.diagnostics.is_empty()), "{read:?}");
    }

    #[test]
    fn what_does_not_end_in_its_time_is_removed() {
        let mut host = Noted { failing: " -r ", grace: 7, ..Noted::default() };
        let (end, commands, _) = played(&mut host);
        assert_eq!(end.unwrap(), End::Off);
        assert!(host.killed);
        assert_eq!(commands.last().unwrap(), "jail -q -R web1");
        // Nobody waits where there is no time.
        let mut host = Noted::default();
        let (_, commands, _) = played(&mut host);
        assert!(host.killed);
        assert_eq!(commands, ["jail -q -f FILE -c web1", "jail -q -R web1"]);
    }

    #[test]
    fn a_jail_that_cannot_be_created_is_told() {
        let mut host = Noted { failing: " -c ", ..Noted::default() };
        let said = played(&mut host).0.unwrap_err().message;
        assert!(said.starts_with("`jail -q -f ") && said.ends_with("failed: no"), "{said}");
    }

    #[test]
    fn what_was_killed_while_it_created_a_jail_leaves_none() {
        let mut host = Noted { failing: " -f ", ..Noted::default() };
        let (end, commands, _) = played(&mut host);
        end.unwrap_err();
        assert_eq!(commands, ["jail -q -f FILE -c web1", "jail -q -R web1"]);
    }

    #[test]
    fn a_jail_of_that_name_is_not_created_again_and_stays() {
        let mut host = Noted { there: true, ..Noted::default() };
        let (end, commands, _) = played(&mut host);
        let said = "there is a jail web1 already, on /be/web1: `jail -r web1` ends it";
        assert_eq!(end.unwrap_err().message, said);
        assert!(commands.is_empty());
    }

    #[test]
    fn a_jail_that_is_taken_over_is_waited_for_and_asked_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jail.conf");
        fs::write(&file, "web1 {\n    path = \"/be/web1\";\n}\n").unwrap();
        // That it cannot be looked at for a while is not its end.
        let mut host = Noted { there: true, blind: 2, grace: 7, ..Noted::default() };
        assert_eq!(follow("web1", &file, &mut host).unwrap(), End::Off);
        assert_eq!(host.looks, 4);
        let limited = file.with_extension("limited.conf");
        assert_eq!(host.commands, [format!("jail -q -f {} -r web1", limited.display())]);
        let read = fs::read_to_string(&limited).unwrap();
        assert_eq!(read, "web1 {\n    path = \"/be/web1\";\n    exec.timeout = \"7\";\n}\n");
    }
}

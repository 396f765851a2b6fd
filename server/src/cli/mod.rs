//! The command line: what may be typed, and what is answered.
//!
//! Manners are those of bectl(8) and zfs(8): a verb, its flags, its names; silence when all went
//! well; `-H` for scripts. The exit status is 0 when it is done, 1 when the answer is no, and 2 when
//! it could not be done. Each family of verbs is a file, and each verb a type with a `run`.

mod access;
mod active;
mod backup;
mod bhyve;
mod boot;
mod check;
mod child;
mod completion;
mod conf;
mod console;
mod dhcp;
mod dry;
mod environment;
mod explain;
mod files;
mod foreign;
mod guard;
mod guest;
mod guests;
mod history;
mod hooks;
mod hunt;
mod hypervisor;
mod import;
mod initramfs;
mod install;
mod jail;
mod keep;
mod line;
mod lint;
mod list;
mod log;
mod machine;
mod man;
mod mount;
mod mounts;
mod names;
mod nspawn;
mod order;
mod password;
mod pause;
mod property;
mod reference;
mod reload;
mod root;
mod screen;
mod serve;
mod server_log;
mod settle;
mod share;
mod show;
mod site;
mod snapshot;
mod start;
mod status;
mod stop;
mod table;
mod thin;
mod transfer;
mod units;
mod upgrade;
mod virtiofsd;
mod wake;
mod warning;
mod watch;

use std::error::Error as _;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use provision::interrupt::Farewell;
use provision::{progress, terminal};
use store::StoreError;

pub(crate) use dry::Dry;
pub(crate) use site::Site;
pub(crate) use table::{Format, Table};

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(status) = provision::worker::run_if_asked(&arguments) {
        return status;
    }
    if let Some(status) = ::hooks::runner::run_if_asked(&arguments, server_log::begin) {
        return status;
    }
    let program = program(arguments.first());
    let outcome = parse(program, &arguments).and_then(|(mut arguments, typed)| {
        arguments.site.dry = typed.dry;
        if !arguments.verb.keeps_a_log() {
            warning::show(program, arguments.site.is_verbose());
            if !arguments.quiet {
                progress::show();
            }
        }
        let _farewell = arguments.verb.farewell(program, &typed);
        history::noted(&arguments.site, &typed, || arguments.verb.run(&arguments.site))
    });
    let (text, mut failures) = match outcome {
        Ok(Reply { text, failures }) => (text, failures),
        Err(failure) => (String::new(), vec![failure]),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(terminal::escaped(&text).as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        // Whoever closes the pipe has read enough: `netbe list | head -1`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(error) => failures.push(unwritten(&error)),
    }
    for Failure { message, .. } in &failures {
        terminal::say(&format!("{program}: {message}"));
    }
    ExitCode::from(failures.iter().map(|failure| failure.status).max().unwrap_or(0))
}

/// Nobody gets what was to be printed.
fn unwritten(error: &std::io::Error) -> Failure {
    let reason = match error.kind() == std::io::ErrorKind::StorageFull {
        true => "the file system is full".to_owned(),
        false => error.to_string(),
    };
    Failure::could_not(format_args!("standard output: {reason}"))
}

/// What is printed when a verb has done what it was asked to do.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    text: String,
    failures: Vec<Failure>,
}

impl Reply {
    /// Silence.
    pub(crate) fn done() -> Self {
        Self::default()
    }

    /// Text for standard output, with its line feeds.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), failures: Vec::new() }
    }

    /// The same, with more text behind it.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.text.push_str(more);
        self
    }

    /// The same, but for what could not be done of it.
    pub(crate) fn but(self, failures: impl IntoIterator<Item = Failure>) -> Self {
        Self { failures: failures.into_iter().collect(), ..self }
    }
}

/// Why a verb did not do it, in one sentence without a full stop that says what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    /// The answer is no: exit status 1.
    pub(crate) fn no(message: impl ToString) -> Self {
        Self { message: message.to_string(), status: 1 }
    }

    /// It could not be done, or not be understood: exit status 2.
    pub(crate) fn could_not(message: impl ToString) -> Self {
        Self { message: message.to_string(), status: 2 }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy { .. }
            | StoreError::Dependants { .. }
            | StoreError::Exists(_)
            | StoreError::Half(_)
            | StoreError::Lacking { .. }
            | StoreError::Modified(_)
            | StoreError::Mounted { .. }
            | StoreError::Newer { .. }
            | StoreError::NoDataset { .. }
            | StoreError::NoEnvironment(_)
            | StoreError::NoOrigin(_)
            | StoreError::NoSnapshot(_)
            | StoreError::NotMounted(..)
            | StoreError::NotOlder { .. }
            | StoreError::SnapshotExists(_)
            | StoreError::Thin(_) => Self::no(error),
            StoreError::Away { .. }
            | StoreError::Broken { .. }
            | StoreError::Deep(_)
            | StoreError::Foreign(_)
            | StoreError::Full { .. }
            | StoreError::Io { .. }
            | StoreError::Key { .. }
            | StoreError::Lost(_)
            | StoreError::Missing(_)
            | StoreError::MountTarget(_)
            | StoreError::Name { .. }
            | StoreError::NotBtrfs(_)
            | StoreError::Obstacle { .. }
            | StoreError::Open(_)
            | StoreError::Property { .. }
            | StoreError::Setting(_)
            | StoreError::Stalled { .. }
            | StoreError::Stream(_)
            | StoreError::Tool { .. }
            | StoreError::Twice { .. }
            | StoreError::Unsettled { .. }
            | StoreError::Unsupported(_)
            | StoreError::Unknown(_) => Self::could_not(error),
        }
    }
}

/// Network boot server for machines whose roots are boot environments in one store.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true, max_term_width = 100, after_help = BEGIN)]
struct Arguments {
    #[command(flatten)]
    site: Site,
    /// Do not show progress.
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    quiet: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Activate(upgrade::Activate),
    Backup(backup::Backup),
    Bootnfs(boot::Bootnfs),
    Bootpxe(boot::Bootpxe),
    Check(check::Check),
    Clone(environment::Clone),
    Completion(completion::Completion),
    Console(console::Console),
    Create(environment::Create),
    Destroy(environment::Destroy),
    Diff(snapshot::Diff),
    Explain(explain::Explain),
    Get(property::Get),
    Guest(guests::GuestVerb),
    Help(completion::Help),
    History(history::History),
    Hooks(hooks::Hooks),
    Hunt(hunt::Hunt),
    Import(import::Import),
    Install(install::Install),
    Jail(keep::Jail),
    Lint(lint::Lint),
    List(list::List),
    Log(log::Log),
    Machine(machine::MachineVerb),
    Man(man::Man),
    Mount(mount::Mount),
    #[command(hide = true)]
    Names(completion::Names),
    Nspawn(keep::Nspawn),
    #[command(alias = "release")]
    Pause(pause::Pause),
    Promote(environment::Promote),
    #[command(visible_alias = "recv")]
    Receive(transfer::Receive),
    Reference(reference::Reference),
    Reload(reload::Reload),
    Rename(environment::Rename),
    Restart(stop::RestartVerb),
    Restore(backup::Restore),
    Rollback(snapshot::Rollback),
    Send(transfer::Send),
    Serve(serve::Serve),
    Set(property::Set),
    Settle(settle::Settle),
    Sharenfs(share::Sharenfs),
    Sharepxe(machine::Sharepxe),
    Show(show::Show),
    #[command(visible_alias = "snap")]
    Snapshot(snapshot::Snapshot),
    Start(start::Start),
    Status(status::Status),
    Stop(stop::Stop),
    Thin(thin::Thin),
    #[command(visible_alias = "umount")]
    Unmount(mount::Unmount),
    Upgrade(upgrade::Upgrade),
    Wake(wake::Wake),
    Watch(watch::Watch),
}

impl Verb {
    /// Whether it runs on and has a log of its own.
    fn keeps_a_log(&self) -> bool {
        matches!(self, Self::Serve(verb) if !verb.is_dry())
    }

    /// Says what becomes of a change of the store that a signal cuts off.
    fn farewell(&self, program: &str, typed: &Typed) -> Option<Farewell> {
        let changes = matches!(
            self,
            Self::Clone(_)
                | Self::Create(_)
                | Self::Destroy(_)
                | Self::Promote(_)
                | Self::Receive(_)
                | Self::Rename(_)
                | Self::Rollback(_)
                | Self::Snapshot(_)
                | Self::Thin(_)
        );
        let line = format!(
            "{program}: {} was interrupted: the next command undoes or completes it, and so does `netbe settle`",
            typed.verb
        );
        // Without it a signal ends the process as well.
        (changes && !typed.dry).then(|| Farewell::prepare(line).ok()).flatten()
    }

    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        match self {
            Self::Activate(verb) => verb.run(site),
            Self::Backup(verb) => verb.run(site),
            Self::Bootnfs(verb) => verb.run(site),
            Self::Bootpxe(verb) => verb.run(site),
            Self::Check(verb) => verb.run(site),
            Self::Clone(verb) => verb.run(site),
            Self::Completion(verb) => verb.run(),
            Self::Console(verb) => verb.run(site),
            Self::Create(verb) => verb.run(site),
            Self::Destroy(verb) => verb.run(site),
            Self::Diff(verb) => verb.run(site),
            Self::Explain(verb) => verb.run(site),
            Self::Get(verb) => verb.run(site),
            Self::Guest(verb) => verb.run(site),
            Self::Help(verb) => verb.run(),
            Self::History(verb) => verb.run(site),
            Self::Hooks(verb) => verb.run(site),
            Self::Hunt(verb) => verb.run(site),
            Self::Import(verb) => verb.run(site),
            Self::Install(verb) => verb.run(site),
            Self::Jail(verb) => verb.run(site),
            Self::Lint(verb) => verb.run(site),
            Self::List(verb) => verb.run(site),
            Self::Log(verb) => verb.run(site),
            Self::Machine(verb) => verb.run(site),
            Self::Man(verb) => verb.run(),
            Self::Mount(verb) => verb.run(site),
            Self::Names(verb) => verb.run(site),
            Self::Nspawn(verb) => verb.run(site),
            Self::Pause(verb) => verb.run(site),
            Self::Promote(verb) => verb.run(site),
            Self::Receive(verb) => verb.run(site),
            Self::Reference(verb) => verb.run(),
            Self::Reload(verb) => verb.run(site),
            Self::Rename(verb) => verb.run(site),
            Self::Restart(verb) => verb.run(site),
            Self::Restore(verb) => verb.run(site),
            Self::Rollback(verb) => verb.run(site),
            Self::Send(verb) => verb.run(site),
            Self::Serve(verb) => verb.run(site),
            Self::Set(verb) => verb.run(site),
            Self::Settle(verb) => verb.run(site),
            Self::Sharenfs(verb) => verb.run(site),
            Self::Sharepxe(verb) => verb.run(site),
            Self::Show(verb) => verb.run(site),
            Self::Snapshot(verb) => verb.run(site),
            Self::Start(verb) => verb.run(site),
            Self::Status(verb) => verb.run(site),
            Self::Stop(verb) => verb.run(site),
            Self::Thin(verb) => verb.run(site),
            Self::Unmount(verb) => verb.run(site),
            Self::Upgrade(verb) => verb.run(site),
            Self::Wake(verb) => verb.run(site),
            Self::Watch(verb) => verb.run(site),
        }
    }
}

/// Where in the help the options of every verb stand.
pub(crate) const GLOBAL: &str = "Options of every verb";

/// Where somebody begins who has not used it yet.
const BEGIN: &str = "To begin: `install -l flat` installs a system, `machine add` adds a machine, \
                     `sharepxe` assigns the system to it, and `serve` boots it. `help VERB` \
                     explains each.";

/// What may be typed, under the name that the program was started by.
fn command(program: &'static str) -> clap::Command {
    Arguments::command().name(program).bin_name(program)
}

/// Reads the arguments. Asked for help or for the version, it prints that and ends with status 0.
fn parse(program: &'static str, arguments: &[OsString]) -> Result<(Arguments, Typed), Failure> {
    let mut command = command(program);
    let parsed = command.try_get_matches_from_mut(arguments).and_then(|matches| {
        Ok((Arguments::from_arg_matches(&matches)?, Typed::of(arguments, &matches, &command)))
    });
    parsed.map_err(|error| {
        let kind = error.kind();
        if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            // Help is a reply, but of clap's own making: it knows the terminal's width.
            return match error.print() {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => unwritten(&error),
                Ok(()) | Err(_) => std::process::exit(0),
            };
        }
        let verb = verb(&command, arguments);
        let silent = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        if matches!(kind, ErrorKind::MissingSubcommand) || kind == silent {
            return Failure::could_not(format_args!(
                "no verb is given: `{program}{verb} --help` lists the verbs"
            ));
        }
        Failure::could_not(sentence(&error, program, &verb))
    })
}

/// A command as it was typed.
#[derive(Debug)]
struct Typed {
    /// The verb, of one word or of two.
    verb: String,
    /// What stands behind it.
    arguments: Vec<String>,
    /// Whether it is only to say what it would do.
    dry: bool,
}

impl Typed {
    fn of(arguments: &[OsString], matches: &ArgMatches, command: &clap::Command) -> Self {
        let mut rest = arguments.iter().skip(1);
        let (mut verb, mut dry) = (Vec::new(), false);
        let (mut next, mut known) = (matches.subcommand(), Some(command));
        while let Some((word, below)) = next {
            known = known.and_then(|known| known.find_subcommand(word));
            let names = || known.into_iter().flat_map(clap::Command::get_all_aliases).chain([word]);
            rest.by_ref().any(|argument| names().any(|name| *argument == *name));
            verb.push(word);
            dry = matches!(below.try_get_one::<bool>("dry_run"), Ok(Some(true)));
            next = below.subcommand();
        }
        let arguments = rest.map(|argument| argument.to_string_lossy().into_owned()).collect();
        Self { verb: verb.join(" "), arguments, dry }
    }
}

/// The words of the verb among what was typed, each with a space in front; nothing if there is none. What is no
/// verb before it may be the value of an option that every verb takes.
fn verb(command: &clap::Command, arguments: &[OsString]) -> String {
    let (mut known, mut words) = (command, String::new());
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        match known.find_subcommand(word) {
            Some(below) => {
                words += &format!(" {}", below.get_name());
                known = below;
            }
            None if words.is_empty() || word.starts_with('-') => {}
            None => break,
        }
    }
    words
}

/// One sentence of clap's several lines: what is wrong, and where it is explained.
///
/// clap shows how the verb is used unless the value of a flag is wrong: then it is that which was `typed`.
fn sentence(error: &clap::Error, program: &str, typed: &str) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or(&text);
    let words = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = words.strip_prefix("error: ").unwrap_or(&words);
    if error.kind() == ErrorKind::ValueValidation {
        // What our own types refuse they explain themselves, others do not.
        let reason = error.source().map(ToString::to_string).unwrap_or_default();
        return crate::config::plain(&reason).map_or_else(
            || words.to_owned(),
            |plain| {
                format!("{}, and see `{program}{typed} --help`", words.replace(&reason, &plain))
            },
        );
    }
    if error.kind() == ErrorKind::MissingRequiredArgument && typed == " set" {
        // Of one word clap cannot know that it is the property and not the name.
        return format!(
            "give a property and a boot environment, as in `{program} set role=template base`: see \
             `{program} set --help`"
        );
    }
    let usage = format!("Usage: {program} ");
    // `machine add` is a verb of two words.
    let verb = text.split_once(&usage).map_or("", |(_, rest)| rest).split_whitespace();
    let verb = verb.take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
    let asked: String = verb.flat_map(|word| [" ", word]).collect();
    let asked = if asked.is_empty() { typed } else { &asked };
    if let Some(ours) = foreign_words(error, asked) {
        return format!("{words} ({ours}): see `{program}{asked} --help`");
    }
    let meant =
        suggestion(error).map_or_else(String::new, |meant| format!(" (did you mean {meant}?)"));
    format!("{words}{meant}: see `{program}{asked} --help`")
}

/// What there is that looks like what was typed.
fn suggestion(error: &clap::Error) -> Option<String> {
    let kinds = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg];
    let meant = kinds.into_iter().find_map(|kind| error.get(kind))?.to_string();
    (!meant.is_empty()).then(|| meant.replace(", ", " or "))
}

/// What is said here of a word that zfs(8) or bectl(8) has and this has not, if that is what was typed.
fn foreign_words(error: &clap::Error, verb: &str) -> Option<String> {
    if error.kind() == ErrorKind::UnknownArgument {
        let flag = error.get(ContextKind::InvalidArg)?.to_string();
        return foreign::flag(verb.trim_start(), &flag).map(str::to_owned);
    }
    if error.kind() == ErrorKind::InvalidSubcommand {
        let word = error.get(ContextKind::InvalidSubcommand)?.to_string();
        return foreign::verb(&word).map(|ours| format!("did you mean `netbe {ours}`?"));
    }
    None
}

/// The name that the program was started by: the slides' own `be` stays what they call it.
fn program(started: Option<&OsString>) -> &'static str {
    let name = started.and_then(|path| Path::new(path).file_name());
    if name.is_some_and(|name| name == "be") { "be" } else { "netbe" }
}

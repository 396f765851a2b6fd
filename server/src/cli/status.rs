//! The verbs that show how machines stand: `status` once, `watch` live.

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::Args;
use provision::terminal;
use serde::Serialize;
use store::Tries;

use super::settle::{Left, renaming};
use super::{Failure, Format, Reply, Site, Table};
use crate::boot::timeline::{Bytes, Stage};
use crate::control::{self, Client, MachineStatus, Request};
use crate::site::events::{Event, Kind};

/// Show the state of every machine, and what is not served.
///
/// -j also prints the server's state: `machines`, `unserved`, `left` (what interrupted commands
/// left; `left_unread` says why that cannot be read), and `rpc` (counts of NFS calls). -H prints
/// the machines alone.
#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    format: Format,
}

impl Status {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let reply = ask(&mut server(site)?, &Request::Status)?;
        let control::Reply::Status(status) = reply else { return Err(unexpected(&reply)) };
        // What is wrong with the store itself the server tells.
        let left = site.open().map_or_else(|_| Ok(Vec::new()), |store| store.pending());
        let mut unread = Vec::new();
        let mut left = left.unwrap_or_else(|error| {
            unread.push(error.to_string());
            Vec::new()
        });
        match renaming(site, Tries::None) {
            Ok(renaming) => left.extend(renaming),
            Err(error) => unread.push(error.message),
        }
        let left: Vec<Left> = left.iter().map(Left::of).collect();
        let mut unsettled: String = left
            .iter()
            .map(|left| format!("left: {}; see `netbe settle`\n", left.told()))
            .collect();
        for error in &unread {
            unsettled += &format!("what commands left cannot be told: {error}\n");
        }
        let told = Told { status: &status, left, left_unread: unread };
        let told = self.format.reply(&told, |Told { status, .. }| {
            let header = ["NAME", "STAGE", "ENVIRONMENT", "ADDRESS", "SENT", "SEEN"];
            let mut table = Table::new(&header);
            for machine in &status.machines {
                table.row([
                    machine.name.clone(),
                    stage(machine),
                    environment(machine),
                    machine.address.map_or_else(String::new, |address| address.to_string()),
                    if machine.seen.is_some() {
                        Bytes(machine.sent).to_string()
                    } else {
                        String::new()
                    },
                    machine.seen.map_or_else(String::new, ago),
                ]);
            }
            table
        })?;
        Ok(match self.format.is_for_people() {
            true => told.and(&(messages(&status) + &unserved(&status).concat() + &unsettled)),
            false => told,
        })
    }
}

/// How the server stands, and what commands left.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    status: &'a control::Status,
    left: Vec<Left>,
    /// Why that cannot be told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_unread: Vec<String>,
}

/// What is wrong with machines, or may be, line by line.
fn messages(status: &control::Status) -> String {
    let told = |machine: &MachineStatus| {
        let message = machine.message.as_ref()?;
        Some(format!("{}: {message}\n", machine.name))
    };
    status.machines.iter().filter_map(told).collect()
}

/// What is not served, line by line.
fn unserved(status: &control::Status) -> Vec<String> {
    status.unserved.iter().map(|reason| format!("not served: {reason}\n")).collect()
}

/// Watch machines boot. It reconnects when the server restarts.
#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// Print events line by line, also on a terminal.
    #[arg(short, long)]
    lines: bool,
}

impl Watch {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut watched = server(site)?;
        let mut screen = Screen::default();
        let live = !self.lines && io::stdout().is_terminal();
        loop {
            if follow(&mut watched, &mut screen, live)? == Watched::Enough {
                return Ok(Reply::done());
            }
            // A server that is started again, as for an upgrade, is watched on.
            if say(&mut screen, live, "the server has ended: waiting until it runs again").is_err()
            {
                return Ok(Reply::done());
            }
            watched = loop {
                thread::sleep(AGAIN);
                if let Some(server) = site.server()? {
                    break server;
                }
            };
            if say(&mut screen, live, "the server runs again").is_err() {
                return Ok(Reply::done());
            }
        }
    }
}

/// Why nothing more is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Watched {
    /// Whoever closed the pipe has seen enough.
    Enough,
    /// The server has ended.
    Ended,
}

/// Shows what one server tells, until it ends.
fn follow(server: &mut Client, screen: &mut Screen, live: bool) -> Result<Watched, Failure> {
    let silent = |error: io::Error| {
        let ended = matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::UnexpectedEof
        );
        if ended {
            return Ok(Watched::Ended);
        }
        Err(Failure::could_not(format_args!("the server does not answer any more: {error}")))
    };
    let mut next = server.ask(&Request::Watch).map(Some);
    loop {
        let reply = match next {
            Ok(Some(reply)) => reply,
            Ok(None) => return Ok(Watched::Ended),
            Err(error) => return silent(error),
        };
        let shown = match &reply {
            control::Reply::Event(event) if live => {
                screen.note(event);
                Ok(())
            }
            control::Reply::Event(event) => {
                print(&terminal::escaped(&line(event, screen.began(event.at))))
            }
            control::Reply::Status(status) if live => {
                print(&screen.draw(status, Size::of_terminal()))
            }
            control::Reply::Status(_) => Ok(()),
            other @ (control::Reply::Done
            | control::Reply::Failed { .. }
            | control::Reply::Held { .. }
            | control::Reply::Living { .. }
            | control::Reply::Reconfigured { .. }) => return Err(unexpected(other)),
        };
        if shown.is_err() {
            return Ok(Watched::Enough);
        }
        next = server.go_on();
    }
}

/// Says what became of the server: in the picture, or in a line as of an event.
fn say(screen: &mut Screen, live: bool, text: &str) -> io::Result<()> {
    let at = SystemTime::now();
    let event = Event { at, ..Event::new(Kind::Notice, text.to_owned()) };
    if !live {
        return print(&line(&event, screen.began(at)));
    }
    screen.note(&event);
    let last = screen.last.take().unwrap_or_default();
    let drawn = screen.draw(&last, Size::of_terminal());
    print(&drawn)
}

fn server(site: &Site) -> Result<Client, Failure> {
    site.server()?.ok_or_else(|| {
        Failure::no(format_args!(
            "no server runs on {}: start it with `netbe serve`",
            site.state().display()
        ))
    })
}

fn ask(server: &mut Client, request: &Request) -> Result<control::Reply, Failure> {
    server.ask(request).map_err(|error| {
        Failure::could_not(format_args!("the running server does not answer: {error}"))
    })
}

fn unexpected(reply: &control::Reply) -> Failure {
    match reply {
        control::Reply::Failed { message } => Failure::could_not(message),
        control::Reply::Done
        | control::Reply::Held { .. }
        | control::Reply::Living { .. }
        | control::Reply::Event(_)
        | control::Reply::Reconfigured { .. }
        | control::Reply::Status(_) => {
            Failure::could_not("the running server is of another version: restart it")
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// How much a terminal shows.
#[derive(Clone, Copy, Debug)]
struct Size {
    columns: usize,
    rows: usize,
}

impl Size {
    /// That of the terminal at standard output, which may change at any time.
    fn of_terminal() -> Self {
        match terminal_size::terminal_size() {
            Some((columns, rows)) if columns.0 > 0 && rows.0 > 0 => {
                Self { columns: columns.0.into(), rows: rows.0.into() }
            }
            // A serial console may not tell.
            Some(_) | None => Self { columns: 80, rows: 24 },
        }
    }
}

/// The live picture: a table of machines, the stages of each, and what was seen last.
#[derive(Default)]
struct Screen {
    /// Lines that the last picture has.
    drawn: usize,
    began: Option<SystemTime>,
    seen: Vec<String>,
    /// How everything stood last.
    last: Option<control::Status>,
}

impl Screen {
    fn note(&mut self, event: &Event) {
        let line = line(event, self.began(event.at));
        self.seen.push(line);
        let surplus = self.seen.len().saturating_sub(LINES);
        self.seen.drain(..surplus);
    }

    /// When the first thing was seen: times are shown from there.
    fn began(&mut self, at: SystemTime) -> SystemTime {
        *self.began.get_or_insert(at)
    }

    /// The picture, drawn over the last one.
    fn draw(&mut self, status: &control::Status, size: Size) -> String {
        let mut lines = picture(status);
        // What goes beyond the terminal cannot be drawn over, so it is left out.
        let below = if self.seen.is_empty() { 0 } else { self.seen.len().saturating_add(1) };
        let room = size.rows.saturating_sub(1).saturating_sub(below).max(LEAST);
        if lines.len() > room {
            lines.truncate(room.saturating_sub(1));
            lines.push("more than fits here: `netbe status` shows all".to_owned());
        }
        if !self.seen.is_empty() {
            lines.push(String::new());
            lines.extend(self.seen.iter().map(|line| line.trim_end().to_owned()));
        }
        lines.truncate(size.rows.saturating_sub(1).max(1));
        let lines = lines.iter().map(|line| cut(&terminal::escaped(line), size.columns));
        let lines = lines.collect::<Vec<_>>();
        // Up to the first line of the last picture; each line is erased before it is written, and
        // what is left below as well.
        let up = match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"),
        };
        self.drawn = lines.len();
        self.last = Some(status.clone());
        let text: String = lines.iter().map(|line| format!("\r\x1b[2K{line}\n")).collect();
        format!("{up}{text}\x1b[J")
    }
}

/// The lines of a live picture.
fn picture(status: &control::Status) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<18} {:<22} {:<14} {:<15} {:>9} {:>9} {:>9} {:>8}",
        "NAME", "STAGE", "ENVIRONMENT", "ADDRESS", "SENT", "READ", "WRITTEN", "SECONDS"
    )];
    for machine in &status.machines {
        let address = machine.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        lines.push(format!(
            "{:<18} {:<22} {:<14} {:<15} {:>9} {:>9} {:>9} {:>8.1}",
            cut(&machine.name, 18),
            bar(machine),
            cut(&environment(machine), 14),
            address,
            Bytes(machine.sent).to_string(),
            Bytes(machine.read).to_string(),
            Bytes(machine.written).to_string(),
            machine.seconds,
        ));
        let stages = machine.stages.iter();
        let stages = stages.map(|(stage, took)| format!("{} {took:.1} s", stage.as_str()));
        let stages = stages.collect::<Vec<_>>().join(" > ");
        if !stages.is_empty() {
            lines.push(format!("    {}", cut(&stages, 110)));
        }
        if let Some(message) = &machine.message {
            lines.push(format!("    ! {}", cut(message, 108)));
        }
    }
    if status.machines.is_empty() {
        lines.push("no machine was heard yet: switch one on".to_owned());
    }
    lines.extend(unserved(status).iter().map(|line| line.trim_end().to_owned()));
    lines
}

/// One thing that happened, with seconds since the first.
fn line(event: &Event, began: SystemTime) -> String {
    format!(
        "{:>8.1}  {:<17}  {:<8}  {}\n",
        event.at.duration_since(began).unwrap_or_default().as_secs_f64(),
        event.subject(),
        event.stage.map_or("", Stage::as_str),
        event.text
    )
}

/// The stage in a word, with how much of a file is there; or the trouble.
fn stage(machine: &MachineStatus) -> String {
    if let Some(trouble) = &machine.trouble {
        return trouble.clone();
    }
    match percent(machine) {
        Some(percent) => format!("{} {percent}%", machine.stage.as_str()),
        None => machine.stage.as_str().to_owned(),
    }
}

/// The stage with a bar for the file on its way.
fn bar(machine: &MachineStatus) -> String {
    let Some(percent) = percent(machine).filter(|_| machine.trouble.is_none()) else {
        return stage(machine);
    };
    let full = usize::try_from(percent / 10).unwrap_or(10).min(10);
    let bar = "#".repeat(full) + &".".repeat(10 - full);
    format!("{:<7} {bar} {percent:>2}%", machine.stage.as_str())
}

fn percent(machine: &MachineStatus) -> Option<u64> {
    let (bytes, total) = machine.progress?;
    let within = machine.stage > Stage::Leased && machine.stage < Stage::Root;
    bytes.saturating_mul(100).checked_div(total).filter(|_| within)
}

fn environment(machine: &MachineStatus) -> String {
    let name = machine.environment.clone().unwrap_or_default();
    if machine.read_only == Some(true) { format!("{name} (ro)") } else { name }
}

pub(super) fn ago(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

/// How often a server that has ended is looked for.
const AGAIN: Duration = Duration::from_millis(500);

/// Lines of the table that are shown on the lowest terminal.
const LEAST: usize = 4;

/// What was seen last, below the table: so many lines.
const LINES: usize = 8;

#[cfg(test)]
mod test {
    use super::*;

    const SIZE: Size = Size { columns: 120, rows: 24 };

    fn machine() -> MachineStatus {
        MachineStatus {
            name: "web1".to_owned(),
            mac: None,
            address: Some([10, 0, 0, 9].into()),
            environment: Some("base".to_owned()),
            read_only: Some(false),
            boot: None,
            stage: Stage::Kernel,
            trouble: None,
            message: None,
            sent: 3 << 20,
            read: 0,
            written: 0,
            progress: Some((42, 100)),
            seconds: 7.25,
            stages: vec![(Stage::Loader, 4.0), (Stage::Kernel, 3.25)],
            seen: Some(75.0),
        }
    }

    #[test]
    fn a_stage_shows_how_much_is_there() {
        assert_eq!(stage(&machine()), "kernel 42%");
        assert_eq!(bar(&machine()), "kernel  ####...... 42%");
        let root = MachineStatus { stage: Stage::Root, ..machine() };
        assert_eq!(bar(&root), "root");
    }

    #[test]
    fn trouble_comes_before_the_stage() {
        let refused = MachineStatus { trouble: Some("refused".to_owned()), ..machine() };
        assert_eq!((stage(&refused), bar(&refused)), ("refused".to_owned(), "refused".to_owned()));
    }

    #[test]
    fn the_picture_has_each_machines_stages_and_message() {
        let message = Some("see its screen".to_owned());
        let machines = vec![MachineStatus { message, ..machine() }];
        let lines = picture(&control::Status { machines, ..control::Status::default() });
        assert_eq!(lines.len(), 4);
        assert!(lines[1].starts_with("web1               kernel  ####...... 42% base"));
        assert_eq!(lines[2], "    loader 4.0 s > kernel 3.2 s");
        assert_eq!(lines[3], "    ! see its screen");
    }

    #[test]
    fn a_picture_is_drawn_over_the_last_one() {
        let mut screen = Screen::default();
        let status = control::Status { machines: vec![machine()], ..control::Status::default() };
        assert!(screen.draw(&status, SIZE).starts_with("\r\x1b[2KNAME"));
        assert!(screen.draw(&status, SIZE).starts_with("\x1b[3A\r\x1b[2KNAME"));
    }

    fn leased(machine: String, text: String) -> Event {
        let (machine, stage) = (Some(machine), Some(Stage::Leased));
        Event { machine, stage, ..Event::new(Kind::AddressLeased, text) }
    }

    #[test]
    fn a_picture_never_goes_beyond_the_terminal() {
        let mut screen = Screen::default();
        let message = Some("x".repeat(100));
        let machines = vec![MachineStatus { message, ..machine() }; 100];
        let status = control::Status { machines, ..control::Status::default() };
        for number in 0..20 {
            let text = "y".repeat(200);
            let machine = format!("web{number}");
            screen.note(&leased(machine, text));
        }
        for rows in [1, 5, 10, 24, 50] {
            let size = Size { columns: 60, rows };
            let drawn =
                Screen { seen: screen.seen.clone(), ..Screen::default() }.draw(&status, size);
            let lines = drawn.lines().map(|line| line.trim_start_matches("\r\x1b[2K"));
            let lines = lines.filter(|line| *line != "\x1b[J").collect::<Vec<_>>();
            assert!(lines.len() < rows.max(2), "{} lines of {rows}", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() <= 60), "{drawn:?}");
        }
        let drawn = screen.draw(&status, SIZE);
        assert!(drawn.contains("more than fits here") && drawn.contains("web19"), "{drawn}");
    }

    #[test]
    fn what_a_machine_says_does_not_command_the_terminal() {
        let mut screen = Screen::default();
        let (machine, text) = ("web1".to_owned(), "\u{1b}]0;title\u{7}".to_owned());
        screen.note(&leased(machine, text));
        let drawn = screen.draw(&control::Status::default(), SIZE);
        assert!(drawn.contains("\\u001b]0;title\\u0007"), "{drawn:?}");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(ago(0.4), "0s ago");
        assert_eq!(ago(75.0), "1m ago");
        assert_eq!(ago(f64::NAN), "0s ago");
        assert_eq!(ago(200_000.0), "2d ago");
    }
}

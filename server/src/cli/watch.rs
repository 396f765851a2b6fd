//! The verb that shows machines boot: a live picture on a terminal, else line by line.

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::Args;
use provision::terminal;

use super::screen::{Screen, Size, line};
use super::status::{server, unexpected};
use super::{Failure, Reply, Site};
use crate::control::{self, Client, Request};
use crate::site::events::{Event, Kind};

/// Watch machines boot. It reconnects when the server restarts.
///
/// On a terminal it is a live picture: machines that boot or have trouble come first. NO_COLOR (not empty)
/// switches the colours off.
#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// Print events line by line, also on a terminal.
    #[arg(short, long)]
    lines: bool,
    /// Print a line of JSON for each event, for programs.
    #[arg(short, long, conflicts_with = "lines")]
    json: bool,
}

/// How it is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shown {
    Lines,
    Json,
    Picture,
}

impl Watch {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut watched = server(site)?;
        let mut screen = Screen::for_terminal();
        let shown = match (self.json, self.lines || !io::stdout().is_terminal()) {
            (true, _) => Shown::Json,
            (false, true) => Shown::Lines,
            (false, false) => Shown::Picture,
        };
        loop {
            if follow(&mut watched, &mut screen, shown)? == Watched::Enough {
                return Ok(Reply::done());
            }
            // A server that is started again, as for an upgrade, is watched on.
            if say(&mut screen, shown, "the server has ended: waiting for its restart").is_err() {
                return Ok(Reply::done());
            }
            watched = loop {
                thread::sleep(AGAIN);
                if let Some(server) = site.server()? {
                    break server;
                }
            };
            if say(&mut screen, shown, "the server runs again").is_err() {
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
fn follow(server: &mut Client, screen: &mut Screen, how: Shown) -> Result<Watched, Failure> {
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
        Err(Failure::could_not(format_args!("the server no longer answers: {error}")))
    };
    let mut next = server.ask(&Request::Watch).map(Some);
    loop {
        let reply = match next {
            Ok(Some(reply)) => reply,
            Ok(None) => return Ok(Watched::Ended),
            Err(error) => return silent(error),
        };
        let shown = match &reply {
            control::Reply::Event(event) if how == Shown::Picture => {
                screen.note(event);
                Ok(())
            }
            control::Reply::Event(event) => print(&told(screen, event, how)?),
            control::Reply::Status(status) if how == Shown::Picture => {
                print(&screen.draw(status, Size::of_terminal()))
            }
            control::Reply::Status(_) => Ok(()),
            other @ (control::Reply::Done
            | control::Reply::Explanation(_)
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
fn say(screen: &mut Screen, how: Shown, text: &str) -> io::Result<()> {
    let at = SystemTime::now();
    let event = Event { at, ..Event::new(Kind::Notice, text.to_owned()) };
    if how != Shown::Picture {
        return print(&told(screen, &event, how).unwrap_or_default());
    }
    screen.note(&event);
    let last = screen.last.take().unwrap_or_default();
    let drawn = screen.draw(&last, Size::of_terminal());
    print(&drawn)
}

/// An event in a line, for people or for programs.
fn told(screen: &mut Screen, event: &Event, how: Shown) -> Result<String, Failure> {
    Ok(match how {
        Shown::Json => serde_json::to_string(event).map_err(Failure::could_not)? + "\n",
        Shown::Lines | Shown::Picture => {
            terminal::escaped(&line(event, screen.began(event.at))).into_owned()
        }
    })
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// How often a server that has ended is looked for.
const AGAIN: Duration = Duration::from_millis(500);

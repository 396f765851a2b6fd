//! The verb that tells why a machine is where it is: the sentence, what was seen, and what to do.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;
use store::Timestamp;

use super::status::{ask, server, unexpected};
use super::{Failure, Reply, Site};
use crate::console::{self, Said};
use crate::control::{self, Explanation, Request};

/// Explain why a machine does not boot, or where it is: the reason, what to do, and what the server saw.
///
/// What it saw are the packets, files and calls of the present boot, in seconds since the first of them.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// Print JSON, for programs.
    #[arg(short, long)]
    json: bool,
    /// The machine, by name, Ethernet address or IP address.
    #[arg(value_name = "MACHINE")]
    machine: String,
}

impl Explain {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let request = Request::Explain { machine: self.machine.clone() };
        let reply = ask(&mut server(site)?, &request)?;
        let explained = match reply {
            control::Reply::Explanation(explained) => explained,
            control::Reply::Failed { message } => return Err(Failure::no(message)),
            other @ (control::Reply::Done
            | control::Reply::Event(_)
            | control::Reply::Held { .. }
            | control::Reply::Living(_)
            | control::Reply::Reconfigured { .. }
            | control::Reply::Status(_)) => return Err(unexpected(&other)),
        };
        let said = console::read(site.state(), &explained.machine.name).unwrap_or_default();
        let said = said.get(said.len().saturating_sub(LAST)..).unwrap_or_default();
        if self.json {
            let explained = Told { explained: &explained, said };
            let mut text = serde_json::to_string_pretty(&explained).map_err(Failure::could_not)?;
            text.push('\n');
            return Ok(Reply::text(text));
        }
        Ok(Reply::text(told(&explained) + &last_words(said)))
    }
}

/// What is told to programs.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    explained: &'a Explanation,
    /// What the machine said last.
    said: &'a [Said],
}

fn last_words(said: &[Said]) -> String {
    if said.is_empty() {
        return String::new();
    }
    let lines = said.iter().map(|said| {
        let program = if said.program.is_empty() { "" } else { &format!("{}: ", said.program) };
        format!("    {}  {program}{}\n", Timestamp::from(said.at), said.text)
    });
    "it said last:\n".to_owned() + &lines.collect::<String>()
}

fn told(Explanation { machine, evidence }: &Explanation) -> String {
    let mut text = machine.name.clone();
    let mac = machine.mac.map(|mac| mac.to_string()).filter(|mac| *mac != machine.name);
    let known = mac.into_iter().chain(machine.address.map(|address| address.to_string()));
    let known: Vec<_> = known.collect();
    // Writing to a string does not fail.
    if !known.is_empty() {
        let _ = write!(text, " ({})", known.join(", "));
    }
    if let Some(environment) = &machine.environment {
        let _ = write!(text, " boots {environment}");
    }
    let _ = writeln!(text, "; stage: {}", machine.stage.as_str());
    match &machine.message {
        Some(message) => {
            let cause = machine.cause.map_or_else(String::new, |cause| format!(" [{cause}]"));
            let _ = writeln!(text, "why:   {message}{cause}");
        }
        None => text.push_str("why:   the server sees nothing wrong\n"),
    }
    if let Some(cure) = &machine.cure {
        let _ = writeln!(text, "cure:  {cure}");
    }
    let Some(first) = evidence.first() else {
        text.push_str("seen:  nothing since the server started\n");
        return text;
    };
    let began = Duration::try_from_secs_f64(first.at).ok();
    let began = began.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    if let Some(began) = began {
        let _ = writeln!(text, "seen since {}:", Timestamp::from(began));
    }
    for seen in evidence {
        let _ = write!(text, "{:>9.1} s  {}", seen.at - first.at, seen.text);
        let _ = match seen.times {
            0 | 1 if seen.last - seen.at < 1.0 => writeln!(text),
            0 | 1 => writeln!(text, ", until {:.1} s", seen.last - first.at),
            times => writeln!(text, ", {times} times until {:.1} s", seen.last - first.at),
        };
    }
    text
}

/// Lines of what a machine said that are shown.
const LAST: usize = 5;

#[cfg(test)]
mod test {
    use super::*;
    use crate::boot::timeline::{Cause, Stage};
    use crate::control::{MachineStatus, Seen};

    #[test]
    fn the_sentence_comes_first_then_the_cure_then_what_was_seen() {
        let machine = MachineStatus {
            name: "web1".to_owned(),
            address: Some([10, 0, 0, 9].into()),
            environment: Some("base".to_owned()),
            stage: Stage::Leased,
            message: Some("leased, then nothing for 45 s".to_owned()),
            cause: Some(Cause::TftpBlocked),
            cure: Some("Let UDP port 69 through.".to_owned()),
            ..MachineStatus::default()
        };
        let seen = |at, last, times, text: &str| Seen { at, last, times, text: text.to_owned() };
        let evidence = vec![
            seen(1_000_000.0, 1_000_004.0, 3, "UEFI PXE asks for an address"),
            seen(1_000_004.5, 1_000_004.5, 1, "took 10.0.0.9"),
        ];
        let text = told(&Explanation { machine: machine.clone(), evidence });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "web1 (10.0.0.9) boots base; stage: leased");
        assert_eq!(lines[1], "why:   leased, then nothing for 45 s [tftp-blocked]");
        assert_eq!(lines[2], "cure:  Let UDP port 69 through.");
        assert_eq!(lines[4], "      0.0 s  UEFI PXE asks for an address, 3 times until 4.0 s");
        assert_eq!(lines[5], "      4.5 s  took 10.0.0.9");
        let text = told(&Explanation { machine, evidence: Vec::new() });
        assert!(text.ends_with("seen:  nothing since the server started\n"), "{text}");
    }
}

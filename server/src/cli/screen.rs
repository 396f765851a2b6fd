//! The live picture of `netbe watch`: machines, those first that boot or have a trouble, and what was seen
//! last.
//!
//! It is a function of what is known and of the terminal's size, drawn over the picture before it.

use std::cmp::Ordering;
use std::time::SystemTime;

use provision::terminal;

use super::order::natural;
use super::status::{environment, stage, unserved};
use crate::boot::timeline::{Bytes, Stage};
use crate::control::{self, MachineStatus};
use crate::site::events::Event;

/// How much a terminal shows, and whether in colours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Size {
    /// That of the terminal at standard output, which may change at any time.
    pub(super) fn of_terminal() -> Self {
        match terminal_size::terminal_size() {
            Some((columns, rows)) if columns.0 > 0 && rows.0 > 0 => {
                Self { columns: columns.0.into(), rows: rows.0.into() }
            }
            // A serial console may not tell.
            Some(_) | None => Self { columns: 80, rows: 24 },
        }
    }
}

/// The live picture.
#[derive(Default)]
pub(super) struct Screen {
    colours: bool,
    /// Lines that the last picture has, and for which size.
    drawn: usize,
    size: Option<Size>,
    began: Option<SystemTime>,
    seen: Vec<String>,
    /// How everything stood last.
    pub(super) last: Option<control::Status>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Style {
    Plain,
    Head,
    Trouble,
    Boots,
    Runs,
    Away,
}

impl Style {
    /// The sequence that begins it (ECMA-48 §8.3.117, SGR).
    const fn begin(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Head => "\x1b[1m",
            Self::Trouble => "\x1b[31m",
            Self::Boots => "\x1b[33m",
            Self::Runs => "\x1b[32m",
            Self::Away => "\x1b[2m",
        }
    }
}

struct Line {
    style: Style,
    text: String,
}

impl Line {
    fn plain(text: impl Into<String>) -> Self {
        Self { style: Style::Plain, text: text.into() }
    }
}

impl Screen {
    /// A picture in colours where the terminal and the user want them (no-color.org).
    pub(super) fn for_terminal() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { colours: !is_set("NO_COLOR") && !is_dumb, ..Self::default() }
    }

    pub(super) fn note(&mut self, event: &Event) {
        let line = line(event, self.began(event.at));
        self.seen.push(line);
        let surplus = self.seen.len().saturating_sub(LINES);
        self.seen.drain(..surplus);
    }

    /// When the first thing was seen: times are shown from there.
    pub(super) fn began(&mut self, at: SystemTime) -> SystemTime {
        *self.began.get_or_insert(at)
    }

    /// The picture, drawn over the last one.
    pub(super) fn draw(&mut self, status: &control::Status, size: Size) -> String {
        let lines = self.lines(status, size);
        let up = match self.size.replace(size) {
            // Lines that were wrapped anew are more than were drawn.
            Some(before) if before != size => "\x1b[H\x1b[2J".to_owned(),
            _ if self.drawn == 0 => String::new(),
            _ => format!("\x1b[{}A", self.drawn),
        };
        self.drawn = lines.len();
        self.last = Some(status.clone());
        // Each line is erased before it is written, and what is left below as well.
        let text: String = lines.iter().map(|line| self.line(line)).collect();
        format!("{up}{text}\x1b[J")
    }

    fn line(&self, Line { style, text }: &Line) -> String {
        if *style == Style::Plain || !self.colours {
            return format!("\r\x1b[2K{text}\n");
        }
        format!("\r\x1b[2K{}{text}\x1b[0m\n", style.begin())
    }

    /// What is shown: never more lines than the terminal has, nor longer ones.
    fn lines(&self, status: &control::Status, size: Size) -> Vec<Line> {
        let room = size.rows.saturating_sub(1).max(1);
        // What was seen last keeps its place, however many machines there are.
        let most = (room / 3).max(1);
        let log = self.seen.get(self.seen.len().saturating_sub(most)..).unwrap_or_default();
        let below = if log.is_empty() { 0 } else { log.len().saturating_add(1) };
        let mut lines = picture(status, size.columns, room.saturating_sub(below).max(LEAST));
        if !log.is_empty() {
            lines.push(Line::plain(""));
            lines.extend(log.iter().map(|line| Line::plain(line.trim_end())));
        }
        lines.truncate(room);
        for line in &mut lines {
            line.text = cut(&terminal::escaped(&line.text), size.columns).trim_end().to_owned();
        }
        lines
    }
}

/// The lines of a picture of so many columns and at most so many rows.
fn picture(status: &control::Status, columns: usize, rows: usize) -> Vec<Line> {
    let mut machines: Vec<_> = status.machines.iter().collect();
    machines.sort_by(|one, other| order(one, other));
    let layout = Layout::of(&machines, columns);
    let mut lines = vec![summary(status, &machines)];
    lines.push(Line { style: Style::Head, text: layout.header() });
    let mut tail: Vec<_> = unserved(status).iter().map(|one| one.trim_end().to_owned()).collect();
    tail.truncate(rows / 4);
    let tail: Vec<_> = tail.into_iter().map(|text| Line { style: Style::Trouble, text }).collect();
    let room = rows.saturating_sub(lines.len()).saturating_sub(tail.len());
    let blocks: Vec<_> = machines.iter().map(|machine| layout.block(machine)).collect();
    let all: usize = blocks.iter().map(Vec::len).sum();
    let fits = if all <= room { usize::MAX } else { room.saturating_sub(1) };
    let (mut shown, mut used) = (0_usize, 0_usize);
    for block in blocks {
        if used.saturating_add(block.len()) > fits {
            break;
        }
        used = used.saturating_add(block.len());
        shown = shown.saturating_add(1);
        lines.extend(block);
    }
    if let Some(rest) = machines.get(shown..).filter(|rest| !rest.is_empty()) {
        lines.push(Line { style: Style::Away, text: left_out(rest) });
    }
    if machines.is_empty() {
        lines.push(Line::plain("no machine has been seen yet: switch one on"));
    }
    lines.extend(tail);
    lines
}

/// How many machines are how far, and what DHCP does.
fn summary(status: &control::Status, machines: &[&MachineStatus]) -> Line {
    let count = |wanted: Rank| machines.iter().filter(|one| rank(one) == wanted).count();
    let all = machines.len();
    let mut parts = vec![format!("{all} machine{}", if all == 1 { "" } else { "s" })];
    let kinds = [
        (Rank::Trouble, "in trouble"),
        (Rank::Boots, "booting"),
        (Rank::Runs, "running"),
        (Rank::Away, "silent"),
        (Rank::Off, "off"),
    ];
    let told = kinds.into_iter().map(|(rank, word)| (count(rank), word));
    parts.extend(
        told.filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")),
    );
    let dhcp = status.interfaces.iter().map(|one| format!("DHCP {} {}", one.name, one.mode));
    let text = parts.into_iter().chain(dhcp).collect::<Vec<_>>().join(" · ");
    Line { style: Style::Head, text }
}

fn left_out(rest: &[&MachineStatus]) -> String {
    let off = rest.iter().filter(|one| rank(one) == Rank::Off).count();
    match (rest.len(), off) {
        (all, off) if all == off => format!("and {all} more, all of them off"),
        (all, 0) => format!("and {all} more: `netbe status` shows all"),
        (all, off) => format!("and {all} more, {off} of them off: `netbe status` shows all"),
    }
}

/// Who comes first: what an administrator looks for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Rank {
    Trouble,
    Boots,
    Runs,
    Away,
    Off,
}

fn rank(machine: &MachineStatus) -> Rank {
    let is_trouble = machine.trouble.is_some() || machine.message.is_some();
    match machine.stage {
        Stage::Off if machine.trouble.is_none() => Rank::Off,
        Stage::Idle | Stage::Lost | Stage::Unheard if machine.trouble.is_none() => Rank::Away,
        Stage::Running if !is_trouble => Rank::Runs,
        Stage::Discover
        | Stage::Offered
        | Stage::Leased
        | Stage::Loader
        | Stage::Script
        | Stage::Kernel
        | Stage::Initrd
        | Stage::Root
            if !is_trouble =>
        {
            Rank::Boots
        }
        Stage::Off
        | Stage::Discover
        | Stage::Offered
        | Stage::Leased
        | Stage::Loader
        | Stage::Script
        | Stage::Kernel
        | Stage::Initrd
        | Stage::Root
        | Stage::Running
        | Stage::Idle
        | Stage::Lost
        | Stage::Unheard => Rank::Trouble,
    }
}

fn order(one: &MachineStatus, other: &MachineStatus) -> Ordering {
    rank(one).cmp(&rank(other)).then_with(|| natural(&one.name, &other.name))
}

/// Which columns there is room for, and how wide they are.
struct Layout {
    columns: usize,
    name: usize,
    environment: usize,
    /// Whether bytes are shown apart: sent, read and written.
    bytes: bool,
    /// Room for the stages or the reason at the end of the line; 0 if they have lines of their own.
    why: usize,
}

impl Layout {
    fn of(machines: &[&MachineStatus], columns: usize) -> Self {
        let widest = |width: fn(&MachineStatus) -> usize, least: usize, most: usize| {
            machines.iter().map(|machine| width(machine)).max().unwrap_or(0).clamp(least, most)
        };
        let wide = columns >= WIDE;
        let name = widest(|one| one.name.chars().count(), 4, if wide { 32 } else { 17 });
        let most = if wide { 24 } else { 13 };
        let environment = widest(|one| environment(one).chars().count(), 11, most);
        let bytes = columns >= 100;
        let fixed = name + environment + STAGE + ADDRESS + 4 * GAP + if bytes { 40 } else { 18 };
        let left = columns.saturating_sub(fixed.saturating_add(GAP));
        Self { columns, name, environment, bytes, why: if left >= 50 { left } else { 0 } }
    }

    fn row(&self, cells: [&str; 5], bytes: [&str; 3], why: &str) -> String {
        let [name, stage, environment, address, seconds] = cells;
        let (width, place) = (self.name, self.environment);
        let mut text = format!(
            "{:<width$}  {stage:<STAGE$}  {:<place$}  {address:<ADDRESS$}",
            cut(name, width),
            cut(environment, place)
        );
        let [sent, read, written] = bytes;
        text += &format!("  {seconds:>7} {sent:>8}");
        if self.bytes {
            text += &format!("  {read:>9}  {written:>9}");
        }
        if self.why > 0 {
            text += &format!("  {}", cut(why, self.why));
        }
        text
    }

    fn header(&self) -> String {
        let cells = ["NAME", "STAGE", "ENVIRONMENT", "ADDRESS", "SECONDS"];
        self.row(cells, ["SENT", "READ", "WRITTEN"], "STAGES SO FAR, OR WHAT IS WRONG")
    }

    /// The lines of one machine.
    fn block(&self, machine: &MachineStatus) -> Vec<Line> {
        let rank = rank(machine);
        let style = match rank {
            Rank::Trouble => Style::Trouble,
            Rank::Boots => Style::Boots,
            Rank::Runs => Style::Runs,
            Rank::Away | Rank::Off => Style::Away,
        };
        let address = machine.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        let is_seen = rank != Rank::Off;
        let seconds = if is_seen { format!("{:.1}", machine.seconds) } else { "-".to_owned() };
        let bytes = [machine.sent, machine.read, machine.written];
        let [sent, read, written] =
            bytes.map(|count| if is_seen { Bytes(count).to_string() } else { "-".to_owned() });
        let (stage, environment) = (bar(machine), environment(machine));
        let cells = [&machine.name, &stage, &environment, &address, &seconds];
        let bytes = [&*sent, &*read, &*written];
        let stages =
            machine.stages.iter().map(|(stage, took)| format!("{} {took:.1}", stage.as_str()));
        let stages = stages.collect::<Vec<_>>().join(" > ");
        let why = machine.message.clone().unwrap_or(stages);
        let row = self.row(cells.map(|cell| &**cell), bytes, &why);
        let mut lines = vec![Line { style, text: row }];
        // Where the reason does not fit, it has lines of its own.
        let fits = self.why > 0 && why.chars().count() <= self.why;
        let apart = rank == Rank::Trouble || (self.why == 0 && rank == Rank::Boots);
        if !fits && apart && !why.is_empty() {
            let width = self.columns.saturating_sub(4).max(20);
            let told = wrapped(&why, width).into_iter().take(MOST);
            lines.extend(told.map(|text| Line { style, text: format!("    {text}") }));
        }
        lines
    }
}

/// The stage with a bar for the file on its way.
fn bar(machine: &MachineStatus) -> String {
    let Some(percent) = super::status::percent(machine).filter(|_| machine.trouble.is_none())
    else {
        return cut(&stage(machine), STAGE);
    };
    let full = usize::try_from(percent / 10).unwrap_or(10).min(10);
    let bar = "#".repeat(full) + &".".repeat(10 - full);
    format!("{:<6} {bar}{percent:>2}%", machine.stage.as_str())
}

/// One thing that happened, with seconds since the first.
pub(super) fn line(event: &Event, began: SystemTime) -> String {
    format!(
        "{:>8.1}  {:<17}  {:<8}  {}\n",
        event.at.duration_since(began).unwrap_or_default().as_secs_f64(),
        event.subject(),
        event.stage.map_or("", Stage::as_str),
        event.text
    )
}

/// The text in lines of at most so many characters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let long = |line: &String| line.chars().count() + 1 + word.chars().count() > width;
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if !long(line) => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// Columns of a stage with its bar.
const STAGE: usize = 20;

/// Columns of an IPv4 address.
const ADDRESS: usize = 15;

/// Columns between two others.
const GAP: usize = 2;

/// From so many columns on, names are shown whole.
const WIDE: usize = 120;

/// Lines of one reason.
const MOST: usize = 3;

/// Lines of the table that are shown on the lowest terminal.
const LEAST: usize = 4;

/// What was seen last, below the table: so many lines are kept.
const LINES: usize = 8;

#[cfg(test)]
mod test;

//! Shows how far long work is: on a terminal one line with a bar, elsewhere now and then a line.
//!
//! What ends within a second is not shown. Work that is a part of other work is shown together with it, in one
//! line: what is done is said by all of them, how far it is by the last that counts something.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use store::progress::{self, Task, Unit, Watcher, Work};

use crate::terminal::{self, Bytes};

/// Has everything that this process does from now on shown on standard error.
pub fn show() {
    let display = DISPLAY.get_or_init(|| Mutex::new(Display::new(ProgressBar::no_length())));
    progress::watch(Box::new(Screen(display)));
}

/// Whether it is shown by a line on a terminal, which needs no others beside it.
pub(crate) fn is_live() -> bool {
    DISPLAY.get().is_some_and(|display| lock(display).is_live())
}

/// Writes something to standard error, where the line that moves may be.
pub fn beside<T>(write: impl FnOnce() -> T) -> T {
    match DISPLAY.get() {
        None => write(),
        Some(display) => {
            let shown = lock(display);
            if shown.drawn { shown.bar.suspend(write) } else { write() }
        }
    }
}

/// Whether what this process does is shown.
pub(crate) fn is_shown() -> bool {
    DISPLAY.get().is_some()
}

/// Reads a file of the host, and shows how much of it was read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    file: &'a File,
    work: Work,
}

impl<'a> Reader<'a> {
    /// Begins to read a file.
    pub(crate) fn new(file: &'a File, what: impl FnOnce() -> String) -> Self {
        Self { file, work: Work::begin(what, Unit::Bytes, size(file)) }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(room)?;
        self.work.advance(u64::try_from(read).unwrap_or(0));
        Ok(read)
    }
}

/// The same in a process that does nothing else, and has no other thread.
pub(crate) struct Alone {
    file: File,
    task: Arc<Task>,
    display: Display,
    looked: Instant,
}

impl Alone {
    /// Begins to read a file.
    pub(crate) fn new(file: File, what: String) -> Self {
        let task = Arc::new(Task::new(what, Unit::Bytes, size(&file)));
        let (mut display, looked) = (Display::new(ProgressBar::no_length()), Instant::now());
        display.begin(&task, looked);
        Self { file, task, display, looked }
    }
}

impl Read for Alone {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(room)?;
        self.task.advance(u64::try_from(read).unwrap_or(0));
        let now = Instant::now();
        if now.saturating_duration_since(self.looked) >= GLANCE {
            self.looked = now;
            if let Some(line) = self.display.glance(now) {
                terminal::say(&line);
            }
        }
        Ok(read)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.display.end(&self.task);
    }
}

fn size(file: &File) -> Option<u64> {
    file.metadata().ok().map(|metadata| metadata.len())
}

struct Screen(&'static Mutex<Display>);

impl Watcher for Screen {
    fn begun(&self, task: &Arc<Task>) {
        let mut display = lock(self.0);
        display.begin(task, Instant::now());
        if !display.looked_at {
            display.looked_at = true;
            let display = self.0;
            // Where there is no thread, nothing is shown.
            let _ = thread::Builder::new().spawn(move || look(display));
        }
    }

    fn ended(&self, task: &Arc<Task>) {
        lock(self.0).end(task);
    }
}

/// Looks at what is being done until nothing is.
fn look(display: &Mutex<Display>) {
    loop {
        thread::sleep(GLANCE);
        let mut shown = lock(display);
        if shown.tasks.is_empty() {
            shown.looked_at = false;
            return;
        }
        if let Some(line) = shown.glance(Instant::now()) {
            drop(shown);
            terminal::say(&line);
        }
    }
}

fn lock(display: &Mutex<Display>) -> MutexGuard<'_, Display> {
    display.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is being done, and what is shown of it.
struct Display {
    /// The line on a terminal; hidden where there is none.
    bar: ProgressBar,
    drawn: bool,
    tasks: Vec<Running>,
    /// When something was said last, or when the first of the tasks began.
    said: Option<Instant>,
    looked_at: bool,
}

/// A task, and how fast it was lately.
struct Running {
    task: Arc<Task>,
    begun: Instant,
    seen: VecDeque<(Instant, u64)>,
}

impl Display {
    fn new(bar: ProgressBar) -> Self {
        Self { bar, drawn: false, tasks: Vec::new(), said: None, looked_at: false }
    }

    fn is_live(&self) -> bool {
        !self.bar.is_hidden()
    }

    fn begin(&mut self, task: &Arc<Task>, now: Instant) {
        if self.tasks.is_empty() {
            self.said = Some(now);
        }
        self.tasks.push(Running { task: task.clone(), begun: now, seen: VecDeque::new() });
    }

    fn end(&mut self, task: &Arc<Task>) {
        self.tasks.retain(|known| !Arc::ptr_eq(&known.task, task));
        if self.tasks.is_empty() && self.drawn {
            self.drawn = false;
            self.bar.finish_and_clear();
        }
    }

    /// Draws the line where there is a terminal; elsewhere gives one that is to be said, if it is time for that.
    fn glance(&mut self, now: Instant) -> Option<String> {
        for known in &mut self.tasks {
            known.note(now);
        }
        let age = now.saturating_duration_since(self.tasks.first()?.begun);
        let words: Vec<String> = self.tasks.iter().map(|known| known.task.what()).collect();
        let mut words: Vec<&str> =
            words.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        // A command and the verb of the store that it is may say the same.
        words.dedup();
        let what = terminal::escaped(&words.join(": ")).into_owned();
        let counting = self.tasks.iter().rev().find(|known| known.task.unit() != Unit::Nothing);
        let far = counting.map_or_else(|| time(age), |known| known.told(now));
        if self.is_live() {
            if age >= SOON {
                let total =
                    counting.and_then(|known| known.task.total()).filter(|total| *total > 0);
                self.draw(what, far, total, counting.map_or(0, |known| known.task.done()));
            }
            return None;
        }
        let pause = if counting.is_some() { PAUSE } else { LONG_PAUSE };
        if now.saturating_duration_since(self.said?) < pause {
            return None;
        }
        self.said = Some(now);
        Some(format!("{what}: {far}"))
    }

    fn draw(&mut self, what: String, far: String, total: Option<u64>, done: u64) {
        let template =
            if total.is_some() { "{prefix} {wide_bar} {msg}" } else { "{prefix} {wide_msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        let short: String = what.chars().take(MOST).collect();
        self.bar.set_prefix(short);
        self.bar.set_message(far);
        if let Some(total) = total {
            self.bar.set_length(total);
            self.bar.set_position(done.min(total));
        }
        if !self.drawn {
            // One that was cleared draws nothing before.
            self.bar.reset();
            self.drawn = true;
        }
        self.bar.tick();
    }
}

impl Running {
    /// Remembers how far it is now.
    fn note(&mut self, now: Instant) {
        let old = |(at, _): &(Instant, u64)| now.saturating_duration_since(*at) > LATELY;
        while self.seen.len() > 2 && self.seen.front().is_some_and(old) {
            self.seen.pop_front();
        }
        self.seen.push_back((now, self.task.done()));
    }

    /// How much was done in a second lately.
    fn rate(&self) -> Option<u64> {
        let (&(before, from), &(after, to)) = (self.seen.front()?, self.seen.back()?);
        let millis = after.saturating_duration_since(before).as_millis();
        let done = u128::from(to.saturating_sub(from));
        // Less time tells nothing.
        (millis >= SOON.as_millis() / 2)
            .then(|| u64::try_from(done * 1000 / millis).unwrap_or(u64::MAX))
    }

    /// How far it is, how fast, and how long it will take; without a total, how long it took so far.
    fn told(&self, now: Instant) -> String {
        let (unit, done, total) = (self.task.unit(), self.task.done(), self.task.total());
        let mut text = match total {
            Some(total) => format!("{} of {}", number(unit, done.min(total)), amount(unit, total)),
            None => amount(unit, done),
        };
        let rate = self.rate().filter(|rate| *rate > 0);
        if let Some(rate) = rate {
            // Writing to a String does not fail.
            let _ = write!(text, ", {}/s", number(unit, rate));
        }
        match (total.map(|total| total.saturating_sub(done)), rate) {
            (Some(left), Some(rate)) if left > 0 => {
                let _ = write!(text, ", {} left", time(Duration::from_secs(left.div_ceil(rate))));
            }
            (Some(_), _) => {}
            (None, _) => {
                let _ = write!(text, ", {}", time(now.saturating_duration_since(self.begun)));
            }
        }
        text
    }
}

fn number(unit: Unit, count: u64) -> String {
    match unit {
        Unit::Bytes => Bytes(count).to_string(),
        Unit::Environments | Unit::Files | Unit::Nothing => count.to_string(),
    }
}

fn amount(unit: Unit, count: u64) -> String {
    let text = number(unit, count);
    match unit {
        Unit::Bytes | Unit::Nothing => text,
        Unit::Environments => format!("{text} environments"),
        Unit::Files => format!("{text} files"),
    }
}

/// Minutes and seconds, and hours in front of them where there are.
fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

static DISPLAY: OnceLock<Mutex<Display>> = OnceLock::new();
/// How often it is looked how far work is.
const GLANCE: Duration = Duration::from_millis(100);
/// What takes no longer is not shown.
const SOON: Duration = Duration::from_secs(1);
/// How long nothing is said, where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);
/// The same of what counts nothing: longer than any verb waits for another one.
const LONG_PAUSE: Duration = Duration::from_secs(30);
/// How much of the past tells how fast work is.
const LATELY: Duration = Duration::from_secs(5);
/// So many letters say what is done, so that the rest of a line has room.
const MOST: usize = 32;

#[cfg(test)]
mod test;

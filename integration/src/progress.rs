//! What the lab is doing, told to whoever watches: a line that moves on a terminal, plain lines
//! elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A step that takes a while.
#[derive(Debug)]
pub(crate) struct Step {
    what: String,
    begin: Instant,
    bar: Option<ProgressBar>,
}

/// Begins a step and says so.
pub(crate) fn step(what: &str) -> Step {
    let bar = stderr().is_terminal().then(|| spinner(what));
    if bar.is_none() {
        eprintln!("  {what} ...");
    }
    Step { what: what.to_owned(), begin: Instant::now(), bar }
}

impl Step {
    /// Says how far it has come.
    pub(crate) fn at(&self, how_far: &str) {
        let line = format!("{}: {how_far}", self.what);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None => eprintln!("  {line}"),
        }
    }

    /// Ends the step and says what came of it.
    pub(crate) fn done(self, result: &str) {
        let seconds = self.begin.elapsed().as_secs_f32();
        let line = format!("  {}: {result} ({seconds:.1} s)", self.what);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{line}");
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line that tells whoever watches a terminal what runs; elsewhere there is none.
#[derive(Debug)]
pub(crate) struct Line {
    bar: Option<ProgressBar>,
}

/// Begins such a line.
pub(crate) fn line() -> Line {
    Line { bar: stderr().is_terminal().then(|| spinner("")) }
}

impl Line {
    /// What the line says from now on.
    pub(crate) fn say(&self, words: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(words.to_owned());
        }
    }

    /// Prints a text that stays.
    pub(crate) fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn spinner(words: &str) -> ProgressBar {
    // Longer words than the terminal is wide are cut off.
    let style = ProgressStyle::with_template("  {spinner} {wide_msg} ({elapsed})");
    let bar = ProgressBar::new_spinner().with_message(words.to_owned());
    bar.set_style(style.unwrap_or_else(|_error| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

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
    let bar = stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})");
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        bar.set_style(style.unwrap_or_else(|_error| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    });
    if bar.is_none() {
        eprintln!("  {what} ...");
    }
    Step { what: what.to_owned(), begin: Instant::now(), bar }
}

impl Step {
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

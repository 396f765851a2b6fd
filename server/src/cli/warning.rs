//! Warnings of commands: what is not as it should be and yet stopped nothing.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use provision::{progress, terminal};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::line;

/// Has warnings printed on standard error, a line each, as failures are; with `verbose` what goes on too.
/// `NETBE_LOG` may ask for more.
pub(super) fn show(program: &'static str, verbose: bool) {
    let level = if verbose { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("NETBE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Beside)
        .with_ansi(false)
        // It would tell of a closed standard error there, by a macro that panics.
        .log_internal_errors(false)
        .event_format(Line { program, told: Mutex::default() })
        .init();
}

/// Standard error, on which there may be a line that moves.
struct Beside;

impl io::Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::beside(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A line that begins with the program's name. What a command comes upon twice it tells once.
struct Line {
    program: &'static str,
    told: Mutex<HashSet<String>>,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let text = line::text(context, event)?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(text.clone()) {
            writeln!(writer, "{}: {}", self.program, terminal::escaped(&text))
        } else {
            Ok(())
        }
    }
}

//! The server's log: lines on standard error, in the form that their reader wants.
//!
//! journald(8) has a time for each line, and takes how urgent it is from a number in front of it
//! (sd-daemon(3)). Everybody else reads both in the line.

use std::fmt;
use std::io::{self, IsTerminal as _};

use provision::terminal;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::line;

/// Logs to standard error from now on; `NETBE_LOG` says how much, as in `debug` or `netbe::dhcp=debug`.
pub(super) fn begin() {
    let filter = EnvFilter::try_from_env("NETBE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false);
    if is_read_by_journald() {
        lines.with_ansi(false).event_format(Journal).init();
    } else {
        lines.with_ansi(io::stderr().is_terminal()).with_target(false).init();
    }
}

/// Whether standard error is the pipe that systemd says it is (systemd.exec(5), `$JOURNAL_STREAM`). Who
/// sends it elsewhere leaves the variable as it was.
fn is_read_by_journald() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|about| named == format!("{}:{}", about.st_dev, about.st_ino))
}

/// A line for journald.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
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
        // A line feed would begin a message of its own.
        let text = text.trim_end().replace('\n', " ");
        writeln!(writer, "<{}>{}", priority(*event.metadata().level()), terminal::escaped(&text))
    }
}

/// The number that syslog(3) has for it.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod test {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A place for lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn journald_is_told_how_urgent_a_line_is_and_no_time() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(Journal)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("it hangs");
            tracing::warn!("two\nlines and \x1b[31m");
            tracing::info!(machine = "web1", "boots");
            tracing::debug!("a packet");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!((lines[0], lines[3]), ("<3>it hangs", "<7>a packet"));
        assert!(lines[1].starts_with("<4>two lines and ") && !lines[1].contains('\x1b'), "{text}");
        assert_eq!(lines[2], "<6>boots machine=\"web1\"");
    }
}

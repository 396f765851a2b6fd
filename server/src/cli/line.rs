//! The text of a line of a log: what there is of an event, for the server's log and for warnings of
//! commands.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// The message and the fields of an event.
///
/// # Errors
///
/// A field cannot be written.
pub(super) fn text<S, N>(
    context: &FmtContext<'_, S, N>,
    event: &Event<'_>,
) -> Result<String, fmt::Error>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut text = String::new();
    context.field_format().format_fields(Writer::new(&mut text), event)?;
    Ok(text)
}

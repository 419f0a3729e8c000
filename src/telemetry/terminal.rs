//! Lines for people at a terminal: the time of day, what happened, and styles. A request is one line of less than 120
//! columns.

use std::error::Error;
use std::fmt::{self, Write as _};

use anstyle::{AnsiColor, Style};
use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::telemetry::chain::ErrorChain;
use crate::telemetry::safe_line::{EVENT_BYTES_MAX, cut, escaped};

const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();

/// The target of the event that terminals show for a request; elsewhere the longer event of the request itself is shown.
/// Its fields are those of [`Access`].
pub(crate) const ACCESS_LINE: &str = "qwen_bridge::access_line";
/// The columns that the line of a request stays below.
const COLUMNS: usize = 120;
/// The most bytes of one value, and of all of them: styles and names come on top.
const VALUE_BYTES_MAX: usize = 1024;
const VALUES_BYTES_MAX: usize = EVENT_BYTES_MAX - 2048;

/// Formats events for a terminal.
pub(crate) struct TerminalLines;

impl<S, N> FormatEvent<S, N> for TerminalLines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let time = Zoned::now().strftime("%H:%M:%S").to_string();
        if event.metadata().target() == ACCESS_LINE {
            let mut access = Access::default();
            event.record(&mut access);
            return writeln!(out, "{DIM}{time}{DIM:#} {}", access.line(COLUMNS - 1 - time.len() - 1));
        }
        let mut values = Values { message: String::new(), fields: String::new(), left: VALUES_BYTES_MAX };
        event.record(&mut values);
        let (word, style) = match *event.metadata().level() {
            Level::ERROR => ("ERROR", RED),
            Level::WARN => ("WARN", YELLOW),
            Level::INFO => ("INFO", GREEN),
            Level::DEBUG => ("DEBUG", DIM),
            Level::TRACE => ("TRACE", DIM),
        };
        let Values { message, mut fields, mut left } = values;
        for span in ctx.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            if let Some(of_span) = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                let text = cut(&escaped(of_span), left.min(VALUE_BYTES_MAX));
                left = left.saturating_sub(text.len());
                let _ = write!(fields, " {text}");
            }
        }
        writeln!(out, "{DIM}{time}{DIM:#} {style}{word}{style:#} {message}{DIM}{fields}{DIM:#}")
    }
}

/// The values of an event, safe.
struct Values {
    message: String,
    fields: String,
    /// Bytes that still fit.
    left: usize,
}

impl Values {
    fn take(&mut self, field: &Field, text: &str) {
        let text = cut(&escaped(text), self.left.min(VALUE_BYTES_MAX));
        self.left = self.left.saturating_sub(text.len());
        if field.name() == "message" {
            self.message = text;
        } else {
            let _ = write!(self.fields, " {}={text}", field.name());
        }
    }
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.take(field, &ErrorChain(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, &format!("{value:?}"));
    }
}

/// The values in the line of a request.
#[derive(Default)]
struct Access {
    method: String,
    path: String,
    status: u64,
    model: String,
    account: String,
    tokens_in: u64,
    tokens_out: u64,
    first_ms: Option<u64>,
    total_ms: u64,
    outcome: String,
}

impl Access {
    /// The line, of at most so many characters without its styles. The path and the model are cut first.
    fn line(&self, columns: usize) -> String {
        let tokens = match (self.tokens_in, self.tokens_out) {
            (0, 0) => String::new(),
            (prompt, answer) => format!(" {prompt}+{answer} tokens"),
        };
        let seconds = |ms: u64| format!("{}.{}", ms / 1000, ms % 1000 / 100);
        let first = self.first_ms.map(|ms| format!("{}/", seconds(ms))).unwrap_or_default();
        let account = spaced(&short(&self.account, 20));
        let figures = format!("{account}{tokens} {first}{} s ", seconds(self.total_ms));
        let method = short(&self.method, 8);
        let outcome = short(&self.outcome, 32);
        let fixed = method.chars().count() + 2 + 4 + figures.chars().count() + outcome.chars().count();
        let left = columns.saturating_sub(fixed);
        let model = spaced(&short(&self.model, left.saturating_sub(16).min(32)));
        let path = short(&self.path, left.saturating_sub(model.chars().count()));
        let status = match self.status {
            0 => "-".to_owned(),
            status => status.to_string(),
        };
        let style = match self.status {
            200..400 => GREEN,
            500.. => RED,
            _ => YELLOW,
        };
        let end = if self.outcome == "ok" { DIM } else { YELLOW };
        format!("{method} {path} {style}{status}{style:#}{model}{DIM}{figures}{DIM:#}{end}{outcome}{end:#}")
    }
}

impl Visit for Access {
    fn record_str(&mut self, field: &Field, value: &str) {
        let text = escaped(value).into_owned();
        match field.name() {
            "method" => self.method = text,
            "path" => self.path = text,
            "model" => self.model = text,
            "account" => self.account = text,
            "outcome" => self.outcome = text,
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "http.status" => self.status = value,
            "tokens_in" => self.tokens_in = value,
            "tokens_out" => self.tokens_out = value,
            "first_ms" => self.first_ms = Some(value),
            "total_ms" => self.total_ms = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The text with a space in front of it, or nothing.
fn spaced(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" {text}") }
}

/// The beginning of a text in at most so many characters, with `…` at its end when something was cut off.
fn short(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    format!("{kept}…")
}

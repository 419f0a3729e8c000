//! Log lines: one event, one line, on standard error, as text or JSON.
//!
//! Nothing that a stranger wrote can break a line, forge one or steer a terminal: control characters and marks that
//! reorder text are escaped wherever they come from, and no line is longer than [`EVENT_BYTES_MAX`].
//! Never imports another room. Called by `main`, which installs the subscriber once.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::{io, panic};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};

/// `LOG_LEVEL`, `LOG_FORMAT`.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A level (`info`) or a filter in the syntax of `tracing-subscriber`'s `EnvFilter`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

/// `LOG_FORMAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One human-readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// The longest line in bytes, its newline included.
pub const EVENT_BYTES_MAX: usize = 8 * 1024;

/// Sends the events of the whole process to standard error, panics included. Once, before anything else runs.
///
/// # Errors
/// The filter cannot be read, or a subscriber is installed already.
pub fn install(settings: &LogSettings) -> Result<(), TelemetryError> {
    tracing::subscriber::set_global_default(subscriber(settings, io::stderr)?)
        .map_err(|_| TelemetryError::Installed)?;
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(panic = panic.payload_as_str().unwrap_or("(no text)"), location, "panicked");
    }));
    Ok(())
}

/// The subscriber that [`install`] installs, with another place to write to.
///
/// # Errors
/// The filter cannot be read.
pub fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, TelemetryError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&settings.filter).map_err(|_| TelemetryError::Filter)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .log_internal_errors(false)
        .fmt_fields(Pairs(settings.format))
        .event_format(Line(settings.format));
    Ok(Registry::default().with(filter).with(lines))
}

/// Whether a text is a filter that [`install`] takes.
#[must_use]
pub fn is_filter(text: &str) -> bool {
    EnvFilter::try_new(text).is_ok()
}

/// Why logging could not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not in the syntax of `EnvFilter`.
    #[error("the log filter cannot be read")]
    Filter,
    /// This process has a subscriber already.
    #[error("a log subscriber is installed already")]
    Installed,
}

/// Shows an error with everything below it: `reading the file: permission denied`.
///
/// A source that its parent already repeats at the end is not said twice.
#[derive(Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut below = self.0.source();
        // Chains are short; the bound keeps a circular one from writing for ever.
        for _ in 0..CHAIN_LINKS_MAX {
            let Some(source) = below else { break };
            let text = source.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            below = source.source();
        }
        Ok(())
    }
}

impl fmt::Debug for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes one event as one line.
struct Line(LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let metadata = event.metadata();
        let mut fields = Fields::new(self.0);
        event.record(&mut fields);
        let mut line = match self.0 {
            LogFormat::Text => format!(
                "{time} {:>5} {}: {}{}",
                level(*metadata.level()),
                metadata.target(),
                fields.message,
                fields.pairs
            ),
            LogFormat::Json => {
                let mut line = format!("{{\"timestamp\":\"{time}\",\"level\":\"");
                line.push_str(level(*metadata.level()));
                line.push_str("\",\"target\":");
                push_json(&mut line, metadata.target());
                line.push_str(",\"message\":");
                push_json(&mut line, &fields.message);
                let _ = write!(line, ",\"fields\":{{{}}}", without_comma(&fields.pairs));
                line
            }
        };
        let mut spans = String::new();
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.fields.as_str());
            let mut text = String::new();
            match self.0 {
                LogFormat::Text => {
                    let _ = write!(text, " {}{{{}}}", span.name(), fields.trim_start());
                }
                LogFormat::Json => {
                    text.push_str(",{\"name\":");
                    push_json(&mut text, span.name());
                    text.push_str(fields);
                    text.push('}');
                }
            }
            // The innermost spans come first and say most; outer ones give way when a line would grow too long.
            if line.len() + spans.len() + text.len() + LINE_END_BYTES > EVENT_BYTES_MAX {
                break;
            }
            spans.push_str(&text);
        }
        match self.0 {
            LogFormat::Text => line.push_str(&spans),
            LogFormat::Json => {
                if !spans.is_empty() {
                    let _ = write!(line, ",\"spans\":[{}]", without_comma(&spans));
                }
                line.push('}');
            }
        }
        writeln!(writer, "{line}")
    }
}

/// Writes the fields of a span, each with what separates it from the one before in front.
struct Pairs(LogFormat);

impl<'writer> FormatFields<'writer> for Pairs {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut pairs = Fields::new(self.0);
        fields.record(&mut pairs);
        writer.write_str(&pairs.pairs)
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        if current.fields.len() > PAIRS_BYTES_MAX {
            return Ok(());
        }
        self.format_fields(current.as_writer(), fields)
    }
}

/// Collects the fields of one event or span.
struct Fields {
    format: LogFormat,
    message: String,
    /// Text: ` name=value …`. JSON: `,"name":value…`.
    pairs: String,
}

impl Fields {
    fn new(format: LogFormat) -> Self {
        Self { format, message: String::new(), pairs: String::new() }
    }

    /// A value that is a text, whoever wrote it.
    fn text(&mut self, field: &Field, value: &dyn fmt::Display) {
        if field.name() == "message" {
            let cut = Cut::of(value, MESSAGE_BYTES_MAX);
            match self.format {
                LogFormat::Text => push_escaped(&mut self.message, &cut, ""),
                LogFormat::Json => self.message = cut,
            }
            return;
        }
        let value = Cut::of(value, VALUE_BYTES_MAX);
        let mut pair = String::new();
        match self.format {
            LogFormat::Text => {
                let _ = write!(pair, " {}=", field.name());
                // Quoted, so that a value cannot pretend to be the next field.
                if !value.is_empty() && value.chars().all(|c| !c.is_whitespace() && !"\"=\\{}".contains(c)) {
                    push_escaped(&mut pair, &value, "");
                } else {
                    pair.push('"');
                    push_escaped(&mut pair, &value, "\"\\");
                    pair.push('"');
                }
            }
            LogFormat::Json => {
                pair.push(',');
                push_json(&mut pair, field.name());
                pair.push(':');
                push_json(&mut pair, &value);
            }
        }
        self.push(&pair);
    }

    /// A value that is a number or a truth value.
    fn plain(&mut self, field: &Field, value: &dyn fmt::Display) {
        let pair = match self.format {
            LogFormat::Text => format!(" {}={value}", field.name()),
            LogFormat::Json => {
                let mut pair = String::from(",");
                push_json(&mut pair, field.name());
                let _ = write!(pair, ":{value}");
                pair
            }
        };
        self.push(&pair);
    }

    fn push(&mut self, pair: &str) {
        if self.pairs.len() + pair.len() <= PAIRS_BYTES_MAX {
            self.pairs.push_str(pair);
        } else if self.pairs.len() <= PAIRS_BYTES_MAX {
            // Once: now it is longer than the limit, and nothing more is added.
            self.pairs.push_str(match self.format {
                LogFormat::Text => " cut=true",
                LogFormat::Json => ",\"cut\":true",
            });
            while self.pairs.len() <= PAIRS_BYTES_MAX {
                self.pairs.push(' ');
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, &value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, &ErrorChain(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for infinity.
        if value.is_finite() {
            self.plain(field, &value);
        } else {
            self.text(field, &value);
        }
    }
}

/// A text that stops growing at a limit, at the edge of a character, and says so with `…`.
struct Cut {
    text: String,
    bytes_max: usize,
    is_full: bool,
}

impl Cut {
    fn of(value: &dyn fmt::Display, bytes_max: usize) -> String {
        let mut cut = Self { text: String::new(), bytes_max, is_full: false };
        // The only error is our own, which says that the limit is reached.
        let _ = write!(cut, "{value}");
        cut.text
    }
}

impl fmt::Write for Cut {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.is_full {
            return Err(fmt::Error);
        }
        let room = self.bytes_max.saturating_sub(self.text.len());
        if piece.len() <= room {
            self.text.push_str(piece);
            return Ok(());
        }
        let end = piece.floor_char_boundary(room);
        self.text.push_str(piece.get(..end).unwrap_or_default());
        self.text.push('…');
        self.is_full = true;
        Err(fmt::Error)
    }
}

/// Appends a text with everything escaped that could break a line or steer a terminal, and the characters of `also`.
fn push_escaped(into: &mut String, text: &str, also: &str) {
    for c in text.chars() {
        if is_unsafe(c) || also.contains(c) {
            into.extend(c.escape_default());
        } else {
            into.push(c);
        }
    }
}

/// Appends a text as a JSON string, with the same characters escaped as in text lines.
fn push_json(into: &mut String, text: &str) {
    into.push('"');
    for c in text.chars() {
        match c {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            c if is_unsafe(c) => {
                // All of them are in the basic plane, so four digits are enough.
                let _ = write!(into, "\\u{:04x}", u32::from(c));
            }
            c => into.push(c),
        }
    }
    into.push('"');
}

/// Control characters (C0, DEL, C1), line separators, and the marks that turn the reading direction.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn without_comma(pairs: &str) -> &str {
    pairs.strip_prefix(',').unwrap_or(pairs)
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// How many causes of an error are shown.
const CHAIN_LINKS_MAX: usize = 16;
/// The longest message before escaping, which makes it at most six times as long.
const MESSAGE_BYTES_MAX: usize = 512;
/// The longest value before escaping.
const VALUE_BYTES_MAX: usize = 512;
/// The longest run of fields.
const PAIRS_BYTES_MAX: usize = 4 * 1024;
/// What closes a line after its spans.
const LINE_END_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{Span, error, info, info_span, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn captured(format: LogFormat, run: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let settings = LogSettings { filter: "info".to_owned(), format };
        let subscriber = subscriber(&settings, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, run);
        let bytes = captured.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// What an attacker would put into a model name, a header or an upstream's message.
    const HOSTILE: &str =
        "a\nERROR forged line\r\u{1b}[2J\u{1b}]0;title\u{7}\0\u{7f}\u{9b}31m\u{85}\u{2028}\u{202e}gpj.exe b=1 \"q\" \\";

    #[derive(Debug, thiserror::Error)]
    #[error("outer {HOSTILE}")]
    struct Outer(#[source] io::Error);

    fn log_hostile() {
        let outer = Outer(io::Error::other(HOSTILE));
        let span = info_span!("request", model.name = HOSTILE, late = tracing::field::Empty);
        span.record("late", HOSTILE);
        let _entered = span.enter();
        info!(plain = HOSTILE, "str");
        info!(shown = %HOSTILE, "display");
        info!(debugged = ?HOSTILE, "debug");
        info!("message {HOSTILE}");
        warn!(error = &outer as &dyn Error, "as error");
        error!(error = %ErrorChain(&outer), "as chain");
        Span::current().record("late", HOSTILE);
        info!(count = 3, ratio = f64::INFINITY, is_fine = true, "numbers");
    }

    #[test]
    fn hostile_values_stay_inside_their_line() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = captured(format, log_hostile);
            let lines: Vec<&str> = log.split_terminator('\n').collect();
            assert_eq!(lines.len(), 7, "{log}");
            for line in &lines {
                assert!(!line.chars().any(is_unsafe), "{line:?}");
            }
            if format == LogFormat::Json {
                for line in lines {
                    let value: serde_json::Value = serde_json::from_str(line).unwrap();
                    let model = &value["spans"][0]["model.name"];
                    assert_eq!(model, HOSTILE, "nothing is lost either");
                }
            }
        }
    }

    #[test]
    fn lines_read_as_expected() {
        let log = captured(LogFormat::Text, || {
            let span = info_span!("request", request.id = "r-1");
            let _entered = span.enter();
            info!(identity.id = "identity-1", attempt = 2, note = "two words", "lease refused");
        });
        insta::assert_snapshot!(without_time(&log), @r#"  INFO qwen_bridge::telemetry::tests: lease refused identity.id=identity-1 attempt=2 note="two words" request{request.id=r-1}"#);
        let log = captured(LogFormat::Json, || {
            let span = info_span!("request", request.id = "r-1");
            let _entered = span.enter();
            info!(attempt = 2, is_probe = true, "lease refused");
        });
        let (head, tail) = log.split_once("\"level\"").unwrap();
        assert!(head.starts_with("{\"timestamp\":\""), "{head}");
        insta::assert_snapshot!(tail.trim(), @r#":"INFO","target":"qwen_bridge::telemetry::tests","message":"lease refused","fields":{"attempt":2,"is_probe":true},"spans":[{"name":"request","request.id":"r-1"}]}"#);
    }

    fn without_time(line: &str) -> &str {
        line.split_once('Z').unwrap().1.trim_end()
    }

    #[test]
    fn no_line_is_longer_than_the_limit() {
        for format in [LogFormat::Text, LogFormat::Json] {
            for filler in ["x", "\u{1b}", "\u{202e}", "\u{10ffff}", "ü", "\"", "\\"] {
                let long = filler.repeat(20_000);
                let log = captured(format, || {
                    let spans: Vec<_> = (0..20).map(|_| info_span!("request", a = %long, b = long).entered()).collect();
                    info!(a = %long, b = ?long, c = %long, d = %long, e = %long, f = %long, "{long}");
                    drop(spans);
                });
                assert_eq!(log.matches('\n').count(), 1);
                assert!(log.len() <= EVENT_BYTES_MAX, "{} for {filler:?}", log.len());
                if format == LogFormat::Json {
                    serde_json::from_str::<serde_json::Value>(&log).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("reading the file")]
        struct Reading(#[source] io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("starting: {0}")]
        struct Starting(#[source] Reading);
        let error = Starting(Reading(io::Error::other("disk on fire")));
        assert_eq!(ErrorChain(&error).to_string(), "starting: reading the file: disk on fire");
    }

    #[test]
    fn filters_are_checked() {
        for (text, expected) in [("info", true), ("info,qwen_bridge=debug", true), ("a=b=c", false)] {
            assert_eq!(is_filter(text), expected, "{text}");
        }
    }
}

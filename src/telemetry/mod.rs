//! Log lines: one line for each event, on standard error, as text or JSON.
//!
//! tracing-subscriber formats events. `SafeLines` stands between it and the output: control characters and marks that
//! reorder text are escaped wherever they come from, so that a value cannot break a line, forge one or steer a
//! terminal, and no line is longer than [`EVENT_BYTES_MAX`]. Imports no other room. `main` installs the subscriber once.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::{io, panic};

use serde_json::Value;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::{EnvFilter, Layer as _, reload};

/// Settings of the log: `LOG_LEVEL` and `LOG_FORMAT`.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A level (`info`) or a filter in the syntax of `tracing-subscriber`'s `EnvFilter`.
    pub filter: String,
    /// Text or JSON, `LOG_FORMAT`.
    pub format: LogFormat,
}

/// The form of log lines, `LOG_FORMAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One human-readable line for each event.
    Text,
    /// One JSON object for each event.
    Json,
}

/// The longest line in bytes, its newline included.
pub const EVENT_BYTES_MAX: usize = 8 * 1024;

/// Sends the events of the whole process to standard error, panics included. Once, before anything else runs. What is
/// logged can be changed by what this gives back.
///
/// # Errors
/// [`TelemetryError`].
pub fn install(settings: &LogSettings) -> Result<LogControl, TelemetryError> {
    let (subscriber, control) = controlled(settings, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Installed)?;
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(panic = panic.payload_as_str().unwrap_or("(no text)"), location, "panicked");
    }));
    Ok(control)
}

/// The subscriber that [`install`] installs, with another writer.
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, TelemetryError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    controlled(settings, writer).map(|(subscriber, _)| subscriber)
}

fn controlled<W>(
    settings: &LogSettings,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + use<W>, LogControl), TelemetryError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&settings.filter).map_err(|_| TelemetryError::Filter)?;
    let (filter, control) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(SafeLines { inner: writer, format: settings.format })
        .with_ansi(false)
        .log_internal_errors(false);
    let lines = match settings.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    Ok((Registry::default().with(filter).with(lines), LogControl(control)))
}

/// Changes the filter of the log while the process runs.
#[derive(Clone, Debug)]
pub struct LogControl(reload::Handle<EnvFilter, Registry>);

impl LogControl {
    /// Logs by another filter from now on. One that cannot be read changes nothing.
    pub fn set_filter(&self, filter: &str) {
        if let Ok(filter) = EnvFilter::try_new(filter)
            && let Err(error) = self.0.reload(filter)
        {
            tracing::warn!(%error, "what is logged stays as it was");
        }
    }
}

/// Whether [`install`] accepts this text as a filter.
#[must_use]
pub fn is_filter(text: &str) -> bool {
    EnvFilter::try_new(text).is_ok()
}

/// Reasons why logging cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not in the syntax of `EnvFilter`.
    #[error("the log filter cannot be read")]
    Filter,
    /// This process already has a subscriber.
    #[error("a log subscriber is installed already")]
    Installed,
}

/// Shows an error with its causes, `reading the file: permission denied`. A cause that its parent already repeats at
/// the end is left out.
#[derive(Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut below = self.0.source();
        // Chains are short; the bound ends a circular one.
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

/// Makes the writers of a [`MakeWriter`] write safe lines.
struct SafeLines<M> {
    inner: M,
    format: LogFormat,
}

impl<'writer, M: MakeWriter<'writer>> MakeWriter<'writer> for SafeLines<M> {
    type Writer = SafeLine<M::Writer>;

    fn make_writer(&'writer self) -> Self::Writer {
        SafeLine { inner: self.inner.make_writer(), format: self.format }
    }

    fn make_writer_for(&'writer self, metadata: &Metadata<'_>) -> Self::Writer {
        SafeLine { inner: self.inner.make_writer_for(metadata), format: self.format }
    }
}

struct SafeLine<W> {
    inner: W,
    format: LogFormat,
}

impl<W: io::Write> io::Write for SafeLine<W> {
    /// Takes one whole event, its newline included: tracing-subscriber formats into a buffer and writes that once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = safe_line(text.strip_suffix('\n').unwrap_or(&text), self.format);
        self.inner.write_all(&[line.as_bytes(), b"\n"].concat())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A formatted event as a line that is safe to write, without its newline and short of [`EVENT_BYTES_MAX`].
fn safe_line(event: &str, format: LogFormat) -> Cow<'_, str> {
    let line = escaped(event);
    if line.len() < EVENT_BYTES_MAX {
        return line;
    }
    match format {
        LogFormat::Text => Cow::Owned(cut(&line, EVENT_BYTES_MAX - 1)),
        LogFormat::Json => Cow::Owned(shortened(event)),
    }
}

/// The text with each unsafe character as a JSON escape, which is valid in JSON strings and readable elsewhere.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if is_unsafe(c) => {
                // All of them are in the basic plane, so four digits are enough.
                let _ = write!(safe, "\\u{:04x}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Control characters (C0, DEL, C1), line separators, and marks that change the reading direction.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The beginning of a text in at most `bytes_max` bytes, with `…` at its end when something was cut off.
fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(MARK.len()));
    format!("{}{MARK}", text.get(..end).unwrap_or_default())
}

/// A JSON event that is too long, with values cut until it fits: first long values, then the spans, then all.
fn shortened(event: &str) -> String {
    const STEPS: [(usize, bool); 4] = [(512, true), (512, false), (64, false), (8, false)];
    // The formatter writes objects only.
    let Ok(Value::Object(event)) = serde_json::from_str(event) else {
        return String::new();
    };
    let mut line = String::new();
    for (bytes_max, has_spans) in STEPS {
        let mut event = event.clone();
        if !has_spans {
            event.remove("spans");
        }
        let mut event = Value::Object(event);
        cut_strings(&mut event, bytes_max);
        line = escaped(&event.to_string()).into_owned();
        if line.len() < EVENT_BYTES_MAX {
            break;
        }
    }
    line
}

fn cut_strings(value: &mut Value, bytes_max: usize) {
    match value {
        Value::String(text) => *text = cut(text, bytes_max),
        Value::Array(values) => values.iter_mut().for_each(|value| cut_strings(value, bytes_max)),
        Value::Object(values) => values.values_mut().for_each(|value| cut_strings(value, bytes_max)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Most causes of an error that are shown.
const CHAIN_LINKS_MAX: usize = 16;

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

    /// Text that an attacker might put into a model name, a header or an upstream's message.
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
                    let value: Value = serde_json::from_str(line).unwrap();
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
        insta::assert_snapshot!(without_time(&log), @r#"  INFO request{request.id="r-1"}: qwen_bridge::telemetry::tests: lease refused identity.id="identity-1" attempt=2 note="two words""#);
        let log = captured(LogFormat::Json, || {
            let span = info_span!("request", request.id = "r-1");
            let _entered = span.enter();
            info!(attempt = 2, is_probe = true, "lease refused");
        });
        let (head, tail) = log.split_once("\"level\"").unwrap();
        assert!(head.starts_with("{\"timestamp\":\""), "{head}");
        insta::assert_snapshot!(tail.trim(), @r#":"INFO","message":"lease refused","attempt":2,"is_probe":true,"target":"qwen_bridge::telemetry::tests","spans":[{"request.id":"r-1","name":"request"}]}"#);
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
                    serde_json::from_str::<Value>(&log).unwrap();
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

//! Log lines: one line for each event, on standard error: JSON, text, or short lines with styles on a terminal.
//!
//! tracing-subscriber formats events. `SafeLines` stands between it and the output: control characters and marks that
//! reorder text are escaped wherever they come from, so that a value cannot break a line, forge one or steer a
//! terminal, and no line is longer than [`EVENT_BYTES_MAX`]. Imports no other room. `main` installs the subscriber once.

mod chain;
mod safe_line;
mod terminal;

use std::{io, panic};

use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::{EnvFilter, Layer as _, reload};

use crate::telemetry::safe_line::SafeLines;
use crate::telemetry::terminal::TerminalLines;

pub use crate::telemetry::chain::ErrorChain;
pub use crate::telemetry::safe_line::EVENT_BYTES_MAX;
pub(crate) use crate::telemetry::terminal::ACCESS_LINE;

/// A field that every event of a request has at its end.
const STATUS_FIELD: &str = "http.status";

/// Settings of the log: `LOG_LEVEL` and `LOG_FORMAT`.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A level (`info`) or a filter in the syntax of `tracing-subscriber`'s `EnvFilter`.
    pub filter: String,
    /// Text, JSON, or lines for a terminal, `LOG_FORMAT`.
    pub format: LogFormat,
}

/// The form of log lines, `LOG_FORMAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One human-readable line for each event.
    Text,
    /// One JSON object for each event.
    Json,
    /// Short lines for people at a terminal, with styles.
    Terminal,
}

/// Sends the events of the whole process to standard error, panics included. Once, before anything else runs. What is
/// logged can be changed by what this gives back.
///
/// # Errors
/// [`TelemetryError`].
pub fn install(settings: &LogSettings) -> Result<LogControl, TelemetryError> {
    let control = match settings.format {
        // anstream takes the styles out where colours are not wanted.
        LogFormat::Terminal => {
            let (subscriber, control) = controlled(settings, anstream::stderr)?;
            tracing::subscriber::set_global_default(subscriber).map(|()| control)
        }
        LogFormat::Text | LogFormat::Json => {
            let (subscriber, control) = controlled(settings, io::stderr)?;
            tracing::subscriber::set_global_default(subscriber).map(|()| control)
        }
    };
    let control = control.map_err(|_| TelemetryError::Installed)?;
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
    let is_terminal = settings.format == LogFormat::Terminal;
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).log_internal_errors(false);
    let safe = |inner| SafeLines { inner, is_json: settings.format == LogFormat::Json };
    let lines = match settings.format {
        LogFormat::Text => lines.with_writer(safe(writer)).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_writer(safe(writer)).boxed(),
        // Makes its values safe by itself, since it writes styles between them.
        LogFormat::Terminal => lines.event_format(TerminalLines).with_writer(writer).boxed(),
    };
    let lines = lines.with_filter(filter_fn(move |metadata| is_shown(metadata, is_terminal)));
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
            tracing::warn!(%error, "the log level was not changed");
        }
    }
}

/// Of the two events at the end of a request, the one for this place.
fn is_shown(metadata: &Metadata<'_>, is_terminal: bool) -> bool {
    let is_short = metadata.target() == ACCESS_LINE;
    let is_long = !is_short && metadata.is_event() && metadata.fields().field(STATUS_FIELD).is_some();
    if is_terminal { !is_long } else { !is_short }
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

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::Value;
    use tracing::{Span, error, info, info_span, warn};

    use super::*;
    use crate::telemetry::safe_line::is_unsafe;

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

    /// What a request at its end logs, in both forms.
    fn log_request(status: u16, path: &str) {
        info!(
            target: ACCESS_LINE, method = "POST", path, http.status = status, model = "qwen3-max", account = "work",
            tokens_in = 12_u64, tokens_out = 345_u64, first_ms = 420_u64, total_ms = 2_345_u64, outcome = "ok", "request"
        );
        info!(http.status = status, http.path = path, "request");
    }

    #[test]
    fn a_request_is_one_line_in_the_form_of_its_place() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = captured(format, || log_request(200, "/v1/x"));
            assert!(log.contains("http.status") && !log.contains("tokens_in"), "{log}");
            assert_eq!(log.lines().count(), 1, "{log}");
        }
        let shown = |status, path: &str| {
            let log = captured(LogFormat::Terminal, || log_request(status, path));
            let plain = anstream::adapter::strip_str(&log).to_string();
            let (time, rest) = plain.split_at(9);
            assert!(time.bytes().filter(|byte| *byte == b':').count() == 2 && time.ends_with(' '), "{plain}");
            assert!(plain.chars().count() <= 120, "{plain}");
            (log.clone(), rest.trim_end().to_owned())
        };
        let (log, line) = shown(200, "/v1/chat/completions");
        assert_eq!(line, "POST /v1/chat/completions 200 qwen3-max work 12+345 tokens 0.4/2.3 s ok");
        assert!(log.contains("\u{1b}[32m200\u{1b}[0m"), "{log:?}");
        assert!(shown(429, "/v1/x").0.contains("\u{1b}[33m429"), "of the caller, or for now");
        assert!(shown(502, "/v1/x").0.contains("\u{1b}[31m502"), "of the server");
        let (_, line) = shown(404, &format!("/{}", "x\u{1b}[2J/".repeat(60)));
        assert!(line.contains("… 404 ") && line.ends_with("ok"), "{line}");
    }

    #[test]
    fn other_lines_on_a_terminal_are_short_and_as_safe() {
        let log = captured(LogFormat::Terminal, log_hostile);
        let plain = anstream::adapter::strip_str(&log).to_string();
        let lines: Vec<&str> = plain.split_terminator('\n').collect();
        assert_eq!(lines.len(), 7, "{plain}");
        assert!(lines.iter().all(|line| !line.chars().any(is_unsafe)), "{plain:?}");
        assert!(lines[4].contains(" WARN as error error=outer "), "{}", lines[4]);
        let log = captured(LogFormat::Terminal, || warn!(state = "memory", count = 2, "the state cannot be kept"));
        let line = anstream::adapter::strip_str(&log).to_string();
        assert_eq!(line.get(9..), Some("WARN the state cannot be kept state=memory count=2\n"));
        assert!(log.contains("\u{1b}[33mWARN"), "{log:?}");
    }

    #[test]
    fn no_line_is_longer_than_the_limit() {
        for format in [LogFormat::Text, LogFormat::Json, LogFormat::Terminal] {
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

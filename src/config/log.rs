//! What is logged and how: `LOG_LEVEL`, `LOG_FORMAT` and `DEBUG_MODE` together.

use crate::config::settings::{Draft, SETTINGS};
use crate::telemetry::{LogFormat, LogSettings};

/// The setting that says which lines are logged.
pub(super) const LEVEL: &str = "LOG_LEVEL";

/// Filter and form of log lines.
pub(super) fn log_settings(draft: &Draft, is_terminal: bool) -> LogSettings {
    let by_place = if is_terminal { LogFormat::Terminal } else { LogFormat::Json };
    let filter = match draft.origins.contains_key(LEVEL) {
        true => filter_of(&draft.log_level),
        false => default_filter(draft.http.debug_mode),
    };
    LogSettings { filter, format: draft.log_format.unwrap_or(by_place) }
}

/// The filter where `LOG_LEVEL` is not set.
pub(super) fn default_filter(debug_mode: bool) -> String {
    let default = SETTINGS.iter().find(|setting| setting.name == LEVEL).map_or("info", |setting| setting.default);
    filter_of(if debug_mode { "debug" } else { default })
}

fn filter_of(level: &str) -> String {
    match level.to_ascii_lowercase().as_str() {
        // Other crates log much at these levels, and not all of it is fit for a log.
        level @ ("debug" | "trace") => format!("info,qwen_bridge={level}"),
        _ => level.to_owned(),
    }
}

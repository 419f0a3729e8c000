//! The script of a deep research of the web chat.

use serde::Deserialize;

/// The script of a completion of the chat type `deep_research`. Its report is the `answer` or the `pieces` of the
/// stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResearchScript {
    /// Whether it asks the user back and ends. Left out: only for a chat's first message, unless that has `echo:`.
    pub asks: Option<bool>,
    /// Keep-alive frames during the search. Left out: 2.
    pub keep_alives: usize,
    /// Phase of the report. Left out: [`ReportPhase::Writing`].
    pub report: ReportPhase,
    /// Whether the last frame of an answer follows; without it the stream ends behind the last frame of its phase.
    pub has_last_frame: bool,
}

/// The phase of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportPhase {
    /// `Writing`, the phase of deep research.
    #[default]
    Writing,
    /// `answer`, the phase of ordinary answers.
    Answer,
}

impl Default for ResearchScript {
    fn default() -> Self {
        Self { asks: None, keep_alives: 2, report: ReportPhase::Writing, has_last_frame: true }
    }
}

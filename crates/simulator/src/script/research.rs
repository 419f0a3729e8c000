//! What a deep research of the web chat does.

use serde::Deserialize;

/// How a completion of the chat type `deep_research` goes. Its report is the `answer` or the `pieces` of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResearchScript {
    /// It asks the user back and ends. Left out: it does for the first message of a chat, unless that says `echo:`.
    pub asks: Option<bool>,
    /// How many keep-alive frames come while it searches.
    pub keep_alives: usize,
    /// The phase of the report.
    pub report: ReportPhase,
    /// Whether the last frame of an answer follows; without it the stream ends behind the last frame of its phase.
    pub has_last_frame: bool,
}

/// The phase of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportPhase {
    /// `Writing`.
    #[default]
    Writing,
    /// `answer`.
    Answer,
}

impl Default for ResearchScript {
    fn default() -> Self {
        Self { asks: None, keep_alives: 2, report: ReportPhase::Writing, has_last_frame: true }
    }
}

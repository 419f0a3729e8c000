//! Metrics of ended requests.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::chat::reply::RejectedAs;
use crate::gateway::answer::trace::{History, What};
use crate::gateway::requests::EndedRequest;

/// Bounds of durations in seconds: answers take from milliseconds to the half hour of a research.
const SECONDS: [f64; 16] =
    [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 600.0, 1800.0];

/// A tool call was wrong in form, and given to the caller in the right form.
const REPAIRED: &str = "repaired";
/// An answer had a tool call that cannot be repaired: it was asked for again, or failed.
const REFUSED: &str = "refused";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    /// The path as the route names it, or `other`: as many as there are routes.
    route: String,
    status: u16,
    /// `ok`, `caller_left`, or the code of a failure.
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    /// `web`, `oauth` or `key`.
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    /// The class of the failure; `ok` for the attempt that answers.
    class: &'static str,
    /// The next step: `answered`, `repeat`, `renew_token`, `next_identity` or `give_up`.
    next: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tokens {
    kind: &'static str,
    /// `prompt`, `completion`, `reasoning` (a part of `completion`) or `cached` (a part of `prompt`).
    of: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fate {
    /// `repaired` or `refused`.
    fate: &'static str,
}

/// Counters and histograms of requests. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct RequestMetrics {
    requests: Family<Route, Counter>,
    durations: Family<OfRoute, Histogram>,
    first_content: Family<OfKind, Histogram>,
    waits: Histogram,
    attempts: Family<Attempt, Counter>,
    tokens: Family<Tokens, Counter>,
    pictures: Counter,
    asked_again: Family<Code, Counter>,
    tool_calls: Family<Fate, Counter>,
    tools_in_text: Counter,
    continued: Counter,
    not_continued: Counter,
    saved_bytes: Counter,
    token_waits: Histogram,
    files: Counter,
}

/// Both fates from the beginning, so that a rate of none is zero.
fn tool_calls() -> Family<Fate, Counter> {
    let family: Family<Fate, Counter> = Family::default();
    for fate in [REPAIRED, REFUSED] {
        drop(family.get_or_create(&Fate { fate }));
    }
    family
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds),
            first_content: Family::new_with_constructor(seconds),
            waits: seconds(),
            attempts: Family::default(),
            tokens: Family::default(),
            pictures: Counter::default(),
            asked_again: Family::default(),
            tool_calls: tool_calls(),
            tools_in_text: Counter::default(),
            continued: Counter::default(),
            not_continued: Counter::default(),
            saved_bytes: Counter::default(),
            token_waits: seconds(),
            files: Counter::default(),
        }
    }
}

impl RequestMetrics {
    /// Takes up a request that has ended.
    pub(crate) fn ended(&self, request: &EndedRequest) {
        let EndedRequest { head, status, outcome, total, history } = request;
        let route = head.route.clone();
        let ended = Route { route: route.clone(), status: *status, outcome };
        self.requests.get_or_create(&ended).inc();
        self.durations.get_or_create(&OfRoute { route }).observe(total.as_secs_f64());
        self.tool_calls.get_or_create(&Fate { fate: REPAIRED }).inc_by(u64::from(history.repaired_calls));
        if *outcome == RejectedAs::ToolCall.code() {
            self.tool_calls.get_or_create(&Fate { fate: REFUSED }).inc();
        }
        let Some((kind, _)) = &history.account else {
            self.steps(history);
            return;
        };
        let kind = kind.as_str();
        if let Some(first) = history.first_content {
            self.first_content.get_or_create(&OfKind { kind }).observe(first.as_secs_f64());
        }
        let counts = history.tokens;
        for (of, count) in [
            ("prompt", counts.prompt),
            ("completion", counts.completion),
            ("reasoning", counts.reasoning),
            ("cached", counts.cached),
        ] {
            if count > 0 {
                self.tokens.get_or_create(&Tokens { kind, of }).inc_by(count);
            }
        }
        self.pictures.inc_by(u64::from(history.pictures));
        self.steps(history);
    }

    fn steps(&self, history: &History) {
        // Bytes that a continued chat saved, unless it turns out that it cannot be continued.
        let mut saved: Option<usize> = None;
        for entry in &history.entries {
            match &entry.what {
                What::Chosen { waited, .. } | What::NoAccount { waited, .. } => {
                    self.waits.observe(waited.as_secs_f64());
                }
                What::Token { took, .. } => self.token_waits.observe(took.as_secs_f64()),
                What::Files { count, .. } => {
                    self.files.inc_by(u64::try_from(*count).unwrap_or(u64::MAX));
                }
                What::Continued { saved_bytes } => self.count_continued(saved.replace(*saved_bytes)),
                What::NotContinued { .. } => {
                    saved = None;
                    self.not_continued.inc();
                }
                What::ToolsInText => {
                    self.tools_in_text.inc();
                }
                What::Failed { class, next, .. } => {
                    self.attempts.get_or_create(&Attempt { class, next }).inc();
                }
                What::Answered { .. } => {
                    self.attempts.get_or_create(&Attempt { class: "ok", next: "answered" }).inc();
                }
                What::AskedAgain { code } => {
                    self.asked_again.get_or_create(&Code { code }).inc();
                    if *code == RejectedAs::ToolCall.code() {
                        self.tool_calls.get_or_create(&Fate { fate: REFUSED }).inc();
                    }
                }
                What::Understood { .. } | What::PassedOver { .. } | What::FirstContent => {}
            }
        }
        self.count_continued(saved);
    }

    fn count_continued(&self, saved_bytes: Option<usize>) {
        if let Some(saved_bytes) = saved_bytes {
            self.continued.inc();
            self.saved_bytes.inc_by(u64::try_from(saved_bytes).unwrap_or(u64::MAX));
        }
    }

    /// Registers every family under its name.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests that have ended, by route, status and outcome", self.requests.clone());
        let help = "Time from a request's arrival to the end of its answer";
        registry.register_with_unit("request_duration", help, Unit::Seconds, self.durations.clone());
        let help = "Time from a request's arrival to the first content for its caller";
        registry.register_with_unit("first_content", help, Unit::Seconds, self.first_content.clone());
        let help = "Time that requests waited in the queue for an account";
        registry.register_with_unit("queue_wait", help, Unit::Seconds, self.waits.clone());
        let help = "Time that requests waited for a new token of an account, where it was not there";
        registry.register_with_unit("token_wait", help, Unit::Seconds, self.token_waits.clone());
        registry.register(
            "attempts",
            "Attempts on accounts, by the class of their failure and what followed",
            self.attempts.clone(),
        );
        registry.register(
            "tokens",
            "Tokens of answers; reasoning and cached ones are parts of the others",
            self.tokens.clone(),
        );
        registry.register("pictures", "Pictures that were made", self.pictures.clone());
        registry.register("files", "Files of requests that were handed over to the upstream", self.files.clone());
        registry.register(
            "asked_again",
            "Answers of the wrong form that the model was asked for once more, such as tool calls with wrong arguments",
            self.asked_again.clone(),
        );
        registry.register(
            "tool_calls",
            "Tool calls that were wrong in form and repaired, and answers that were refused for a call that cannot be repaired",
            self.tool_calls.clone(),
        );
        registry.register(
            "tools_in_text",
            "Questions that were put once more with tools in text, since the account does not take native ones",
            self.tools_in_text.clone(),
        );
        registry.register(
            "continued_turns",
            "Turns that went on in the chat of the last answer",
            self.continued.clone(),
        );
        registry.register(
            "not_continued_turns",
            "Turns whose chat could not be continued, so that the whole conversation was sent",
            self.not_continued.clone(),
        );
        let help = "Bytes of prompts that did not have to be sent again, because their chat was continued";
        registry.register_with_unit("continued_saved", help, Unit::Bytes, self.saved_bytes.clone());
    }
}

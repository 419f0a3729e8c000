//! The history of one request, in order, without any text of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::facts::AccountKind;
use crate::base::ids::IdentityId;
use crate::base::secret::SignedLink;
use crate::chat::job::Notes;
use crate::chat::reply::TokenCounts;
use crate::store::MadeKind;

/// The history of one request, filled while it runs. Clones share it.
///
/// The request's log line, its usage, the metrics and `GET /admin/requests` are made from it.
#[derive(Clone, Debug)]
pub(crate) struct Trace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    history: Mutex<History>,
}

/// The content of a trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Events of the request, oldest first; at most [`ENTRIES_MAX`].
    pub entries: Vec<Entry>,
    /// The account that was asked last, or that could not be asked.
    pub account: Option<(AccountKind, IdentityId)>,
    /// Number of questions to an upstream.
    pub attempts: usize,
    /// Time from the request's arrival to the caller's first content.
    pub first_content: Option<Duration>,
    /// Tokens of all answers of the request: the upstream's counts, or estimates.
    pub tokens: TokenCounts,
    /// Number of pictures that were made.
    pub pictures: u32,
    /// Tool calls that were wrong in form and repaired.
    pub repaired_calls: u32,
    /// Where pictures and videos lie that were made; at most [`MADE_MAX`].
    pub made: Vec<Made>,
    /// Tokens of an answer that is asked for again. The answer that follows counts them as its own.
    discarded: TokenCounts,
}

/// A picture or a video that the upstream made for a request.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// Which of the two.
    pub kind: MadeKind,
    /// The upstream's link.
    pub link: SignedLink,
}

/// One event of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Time since the request's arrival.
    pub at: Duration,
    /// The event with its details.
    pub what: What,
}

/// The events of a request. Names of accounts are the labels that logs show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A note on how the request was understood, as [`Notes::named`] gives it.
    Understood {
        /// Name of the note: `ignored`, `tools-shortened`, …
        name: &'static str,
        /// The ignored parameters, the degree of shortening, …
        value: String,
    },
    /// An account was not available when one was looked for.
    PassedOver {
        /// The account that was passed over.
        identity: IdentityId,
        /// The word for the reason, as `/admin/accounts` shows it.
        reason: &'static str,
    },
    /// An account was chosen.
    Chosen {
        /// The account that was chosen.
        identity: IdentityId,
        /// Time that the request waited in the queue for it.
        waited: Duration,
    },
    /// No account was available.
    NoAccount {
        /// The kind that was asked for.
        kind: AccountKind,
        /// Time that the request waited in the queue.
        waited: Duration,
    },
    /// The account's token was checked or renewed before the question, which took a while or failed.
    Token {
        /// The account that has the token.
        identity: IdentityId,
        /// Time that the request waited for it.
        took: Duration,
        /// Whether a usable token was there afterwards.
        is_usable: bool,
    },
    /// Files were uploaded to the upstream.
    Files {
        /// Number of uploaded files.
        count: usize,
        /// Time that the uploads took.
        took: Duration,
    },
    /// The conversation continues in the chat of its last answer, so that only the new messages are sent.
    Continued {
        /// Bytes of the prompt that did not have to be sent again.
        saved_bytes: usize,
    },
    /// The upstream's chat could not be continued, and the whole conversation goes to a new one.
    NotContinued {
        /// The class of the failure.
        class: &'static str,
    },
    /// The upstream does not take native tools from this account; the question was repeated with tools in text.
    ToolsInText,
    /// An attempt failed, or an account had no usable token.
    Failed {
        /// The account that failed.
        identity: IdentityId,
        /// Whether a request was sent to the upstream.
        was_asked: bool,
        /// The class of the failure.
        class: &'static str,
        /// The next step, as [`NextStep::as_str`](crate::gateway::answer::next_step::NextStep::as_str) names it.
        next: &'static str,
    },
    /// An attempt succeeded, and its answer is under way.
    Answered {
        /// The account that answers.
        identity: IdentityId,
    },
    /// The first content for the caller has arrived.
    FirstContent,
    /// The answer was not in the requested form; the model was told the fault and asked once more.
    AskedAgain {
        /// Code of the fault, as in the failure.
        code: &'static str,
    },
}

/// Most entries of one request; with its few retries, there are rarely as many.
const ENTRIES_MAX: usize = 64;
/// Pictures and videos of one request that are noted.
const MADE_MAX: usize = 32;
/// Shorter waits for a token are not noted: the token was there.
const TOKEN_WAIT_SHOWN: Duration = Duration::from_millis(1);

impl Default for Trace {
    /// The trace of a request that arrives now.
    fn default() -> Self {
        Self(Arc::new(Inner { began: Instant::now(), history: Mutex::default() }))
    }
}

impl Trace {
    /// Arrival of the request.
    pub(crate) fn began(&self) -> Instant {
        self.0.began
    }

    /// Adds an event that happens now.
    pub(crate) fn note(&self, what: What) {
        let at = self.0.began.elapsed();
        let mut history = self.0.history.lock();
        history.attempts += usize::from(matches!(what, What::Answered { .. } | What::Failed { was_asked: true, .. }));
        if matches!(what, What::FirstContent) {
            history.first_content.get_or_insert(at);
        }
        if history.entries.len() < ENTRIES_MAX {
            history.entries.push(Entry { at, what });
        }
    }

    /// Notes how the request was understood. A request that is asked several times was understood once.
    pub(crate) fn understood(&self, notes: &Notes) {
        for (name, value) in notes.named() {
            let what = What::Understood { name, value };
            let is_known = self.0.history.lock().entries.iter().any(|entry| entry.what == what);
            if !is_known {
                self.note(what);
            }
        }
    }

    /// Notes the wait for an account's token, if it took a while or failed.
    pub(crate) fn note_token(&self, identity: &IdentityId, since: Instant, is_usable: bool) {
        let took = since.elapsed();
        if took >= TOKEN_WAIT_SHOWN || !is_usable {
            self.note(What::Token { identity: identity.clone(), took, is_usable });
        }
    }

    /// Notes that this account is asked now.
    pub(crate) fn asks(&self, kind: AccountKind, identity: &IdentityId) {
        self.0.history.lock().account = Some((kind, identity.clone()));
    }

    /// Adds the tokens of an answer that has ended, and those of an answer that it replaces.
    pub(crate) fn spent(&self, tokens: TokenCounts) {
        let mut history = self.0.history.lock();
        history.tokens = history.tokens.and(tokens);
        history.discarded = TokenCounts::default();
    }

    /// Notes the cost of an answer that is asked for again.
    pub(crate) fn discarded(&self, tokens: TokenCounts) {
        self.0.history.lock().discarded = tokens;
    }

    /// Adds to the number of pictures.
    pub(crate) fn pictures(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let mut history = self.0.history.lock();
        history.pictures = history.pictures.saturating_add(count);
    }

    /// So many more tool calls were repaired.
    pub(crate) fn repaired_calls(&self, count: u32) {
        let mut history = self.0.history.lock();
        history.repaired_calls = history.repaired_calls.saturating_add(count);
    }

    /// A picture or a video was made. The same link counts once.
    pub(crate) fn made(&self, kind: MadeKind, link: &str) {
        let mut history = self.0.history.lock();
        if history.made.len() < MADE_MAX && history.made.iter().all(|made| made.link.expose() != link) {
            history.made.push(Made { kind, link: SignedLink::new(link) });
        }
    }

    /// A copy of the history so far.
    #[must_use]
    pub(crate) fn history(&self) -> History {
        self.0.history.lock().clone().settled()
    }

    /// Takes the history and leaves an empty one, so that a long one is not copied.
    #[must_use]
    pub(crate) fn take(&self) -> History {
        std::mem::take(&mut *self.0.history.lock()).settled()
    }
}

impl History {
    /// Adds the tokens of a discarded answer that was not replaced: they were spent all the same.
    fn settled(mut self) -> Self {
        self.tokens = self.tokens.and(std::mem::take(&mut self.discarded));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(completion: u64) -> TokenCounts {
        TokenCounts { completion, ..TokenCounts::default() }
    }

    #[test]
    fn attempts_are_what_an_upstream_was_asked() {
        let (trace, identity) = (Trace::default(), IdentityId::named("a"));
        let failed = |was_asked| What::Failed { identity: identity.clone(), was_asked, class: "x", next: "y" };
        trace.note(failed(false));
        trace.note(failed(true));
        trace.note(What::Answered { identity: identity.clone() });
        assert_eq!(trace.history().attempts, 2);
        for _ in 0..100 {
            trace.note(failed(true));
        }
        let history = trace.take();
        assert_eq!((history.attempts, history.entries.len()), (102, ENTRIES_MAX));
        assert_eq!(trace.history().attempts, 0, "it was taken");
    }

    #[test]
    fn an_answer_that_replaces_another_counts_its_tokens_once() {
        let trace = Trace::default();
        trace.discarded(tokens(5));
        assert_eq!(trace.history().tokens, tokens(5), "paid for, if nothing follows");
        // The answer that follows counts both.
        trace.spent(tokens(12));
        assert_eq!(trace.history().tokens, tokens(12));
        trace.spent(tokens(1));
        assert_eq!(trace.take().tokens, tokens(13));
    }

    #[test]
    fn a_token_that_was_there_is_no_news() {
        let (trace, identity) = (Trace::default(), IdentityId::named("a"));
        let now = Instant::now() + Duration::from_secs(60);
        trace.note_token(&identity, now, true);
        assert!(trace.history().entries.is_empty());
        trace.note_token(&identity, now, false);
        assert_eq!(trace.history().entries.len(), 1);
    }
}

//! What happened to one request, in order, without anything that it says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::facts::AccountKind;
use crate::base::ids::IdentityId;
use crate::chat::reply::TokenCounts;

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

/// What a trace holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// What happened, oldest first; at most [`ENTRIES_MAX`].
    pub entries: Vec<Entry>,
    /// The account that was asked last, or that could not be asked.
    pub account: Option<(AccountKind, IdentityId)>,
    /// How many times an upstream was asked.
    pub attempts: usize,
    /// When the caller's first content was there, counted from the request's arrival.
    pub first_content: Option<Duration>,
    /// Tokens of all answers of the request: the upstream's counts, or estimates.
    pub tokens: TokenCounts,
    /// Pictures that were made.
    pub pictures: u32,
    /// Tokens of an answer that is asked for again. The answer that follows counts them as its own.
    discarded: TokenCounts,
}

/// One moment of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Counted from the request's arrival.
    pub at: Duration,
    /// What happened.
    pub what: What,
}

/// What can happen to a request. Names of accounts are the labels that logs show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// An account was no choice when one was looked for.
    PassedOver {
        /// Which.
        identity: IdentityId,
        /// The word for the reason, as `/admin/accounts` shows it.
        reason: &'static str,
    },
    /// An account was chosen.
    Chosen {
        /// Which.
        identity: IdentityId,
        /// How long the request waited in the queue for it.
        waited: Duration,
    },
    /// No account could be had.
    NoAccount {
        /// The kind that was asked for.
        kind: AccountKind,
        /// How long the request waited in the queue.
        waited: Duration,
    },
    /// The account's token was looked after before it was asked, and that took a while or failed.
    Token {
        /// Whose.
        identity: IdentityId,
        /// How long the request waited for it.
        took: Duration,
        /// Whether there is a usable one now.
        is_usable: bool,
    },
    /// Files were handed over to the upstream.
    Files {
        /// How many.
        count: usize,
        /// How long it took.
        took: Duration,
    },
    /// The conversation goes on in the chat of its last answer, so that only what is new is sent.
    Continued {
        /// Bytes of the prompt that did not have to be sent again.
        saved_bytes: usize,
    },
    /// The upstream's chat could not be continued, and the whole conversation goes to a new one.
    NotContinued {
        /// The class of the failure.
        class: &'static str,
    },
    /// The upstream does not take native tools from this account; the question was put once more with tools in text.
    ToolsInText,
    /// An attempt failed, or an account had no usable token.
    Failed {
        /// Which account.
        identity: IdentityId,
        /// Whether a request was sent to the upstream.
        was_asked: bool,
        /// The class of the failure.
        class: &'static str,
        /// What was done next.
        next: &'static str,
    },
    /// An attempt answers.
    Answered {
        /// Which account.
        identity: IdentityId,
    },
    /// The first content for the caller is there.
    FirstContent,
    /// The answer was not of the form that was asked for; the model was told what is wrong and asked once more.
    AskedAgain {
        /// The code of the fault.
        code: &'static str,
    },
}

/// Entries that are kept of one request. With the retries that one request may make, there are rarely as many.
const ENTRIES_MAX: usize = 64;
/// Waiting for a token below this is no news: it was there.
const TOKEN_WAIT_SHOWN: Duration = Duration::from_millis(1);

impl Default for Trace {
    /// The trace of a request that comes now.
    fn default() -> Self {
        Self(Arc::new(Inner { began: Instant::now(), history: Mutex::default() }))
    }
}

impl Trace {
    /// When the request came.
    pub(crate) fn began(&self) -> Instant {
        self.0.began
    }

    /// Adds what happened just now.
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

    /// Notes that the account's token was waited for, if that took a while or failed.
    pub(crate) fn note_token(&self, identity: &IdentityId, since: Instant, is_usable: bool) {
        let took = since.elapsed();
        if took >= TOKEN_WAIT_SHOWN || !is_usable {
            self.note(What::Token { identity: identity.clone(), took, is_usable });
        }
    }

    /// This account is asked now.
    pub(crate) fn asks(&self, kind: AccountKind, identity: &IdentityId) {
        self.0.history.lock().account = Some((kind, identity.clone()));
    }

    /// Adds the tokens of an answer that has ended, and those of an answer that it replaces.
    pub(crate) fn spent(&self, tokens: TokenCounts) {
        let mut history = self.0.history.lock();
        history.tokens = history.tokens.and(tokens);
        history.discarded = TokenCounts::default();
    }

    /// An answer that cost so much is asked for again.
    pub(crate) fn discarded(&self, tokens: TokenCounts) {
        self.0.history.lock().discarded = tokens;
    }

    /// So many more pictures were made.
    pub(crate) fn pictures(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let mut history = self.0.history.lock();
        history.pictures = history.pictures.saturating_add(count);
    }

    /// What has happened so far.
    #[must_use]
    pub(crate) fn history(&self) -> History {
        self.0.history.lock().clone().settled()
    }

    /// What has happened. Leaves an empty trace, so that a long one is not copied.
    #[must_use]
    pub(crate) fn take(&self) -> History {
        std::mem::take(&mut *self.0.history.lock()).settled()
    }
}

impl History {
    /// An answer that was discarded and not replaced was paid for all the same.
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

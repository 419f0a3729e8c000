//! Failures of upstreams: what went wrong, whom it is charged to, and how to continue.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;
use std::{fmt, io};

use secrecy::SecretString;

use crate::upstream::way::WayFault;
use crate::upstream::words::{Quote, known_code};

/// A failed call of the upstream. Shown and logged, it holds words of this program and known codes only.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {kind}{}", Hints(.note, *.code))]
pub struct UpstreamError {
    /// The action that failed, such as `creating a chat`.
    pub doing: &'static str,
    /// The class of the failure.
    pub kind: UpstreamErrorKind,
    /// A fact of this program beside the class, such as the file that failed; never the upstream's text.
    pub note: String,
    /// The upstream's code, if it is one that upstreams are known to use.
    pub code: Option<&'static str>,
    /// The upstream's text, which cannot be printed before it was cleaned.
    pub quote: Quote,
    /// Whether it was an upload that failed; the request itself is not affected.
    pub is_of_upload: bool,
    /// Wait that the upstream asked for, from `Retry-After`.
    pub retry_after: Option<Duration>,
    /// What is wrong on the way to the upstream, if no connection could be made because of that.
    pub way: Option<WayFault>,
    /// The transport's error, if the failure was one.
    #[source]
    pub source: Option<reqwest::Error>,
}

/// Kinds of failures. Each has one blame and one remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamErrorKind {
    /// The access token is expired or refused: refresh once, then another identity.
    Unauthorized,
    /// The account may not do this: it waits for activation, or is closed.
    Forbidden,
    /// The account may not use this model; it may use others, and another account may use this one.
    ModelDenied,
    /// The upstream counts too many requests of this account.
    RateLimited,
    /// The quota is used up for this many hours, if the upstream tells.
    QuotaExhausted {
        /// Hours until it returns.
        hours: Option<u64>,
    },
    /// The quota of the model that was asked for is gone; the same identity may have some of others.
    ModelQuotaExhausted,
    /// The risk engine demands a check by a human. It is never answered, and no retry follows.
    Challenged,
    /// The chat does not exist (any more), or belongs to another account.
    LostChat,
    /// An earlier answer of the chat is still being made.
    BusyChat,
    /// The content policy refused.
    ContentPolicy,
    /// The upstream judges the request itself to be wrong.
    InvalidRequest,
    /// The upstream does not have the model.
    ModelNotFound,
    /// The risk engine refuses the size of the request, on every account.
    TooLarge,
    /// The input is longer than the model's context.
    TooLong,
    /// Connection, TLS, DNS, 5xx, overload, or an error without information.
    Unavailable,
    /// A deadline of this server passed.
    Timeout,
    /// The answer broke off before its last frame.
    Truncated,
    /// An answer without content.
    Empty,
    /// An answer that this version cannot read.
    Protocol,
    /// This process may open no further connection: a fault of the server, not of the upstream.
    OutOfDescriptors,
}

/// The party that a failure is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The request, or this server: no identity is marked.
    Caller,
    /// The identity: its credential, its quota, its standing.
    Identity,
    /// The upstream as a whole, or the way to it; counted on the identity until it shows on several.
    Upstream,
}

impl fmt::Display for UpstreamErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unauthorized => "the access token was refused",
            Self::Forbidden => "the account may not do this",
            Self::ModelDenied => "the account may not use this model",
            Self::RateLimited => "too many requests",
            Self::QuotaExhausted { .. } => "the quota is used up",
            Self::ModelQuotaExhausted => "the quota of this model is used up",
            Self::Challenged => "the upstream wants a human to pass its check",
            Self::LostChat => "the chat is gone",
            Self::BusyChat => "the chat is still busy",
            Self::ContentPolicy => "refused by the upstream's content policy",
            Self::InvalidRequest => "the upstream finds the request wrong",
            Self::ModelNotFound => "the upstream does not have this model",
            Self::TooLarge => "the request is too large for the upstream",
            Self::TooLong => "the request is longer than the model reads",
            Self::Unavailable => "the upstream failed",
            Self::Timeout => "the upstream did not answer in time",
            Self::Truncated => "the upstream broke off its answer",
            Self::Empty => "the upstream gave an empty answer",
            Self::Protocol => "the upstream's answer cannot be read",
            Self::OutOfDescriptors => "this server may open no further connection",
        })
    }
}

impl UpstreamErrorKind {
    /// The party that a failure of this kind is charged to.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::ContentPolicy
            | Self::InvalidRequest
            | Self::ModelNotFound
            | Self::ModelDenied
            | Self::TooLarge
            | Self::TooLong
            | Self::LostChat
            | Self::BusyChat
            | Self::OutOfDescriptors => Blame::Caller,
            Self::Unauthorized
            | Self::Forbidden
            | Self::RateLimited
            | Self::QuotaExhausted { .. }
            | Self::ModelQuotaExhausted
            | Self::Challenged => Blame::Identity,
            Self::Unavailable | Self::Timeout | Self::Truncated | Self::Empty | Self::Protocol => Blame::Upstream,
        }
    }

    /// Whether the upstream's text tells the caller what to change: a wrong request, the content policy, a quota, a
    /// length. For other kinds the class is enough.
    #[must_use]
    pub fn has_helpful_text(self) -> bool {
        matches!(
            self,
            Self::InvalidRequest
                | Self::ContentPolicy
                | Self::QuotaExhausted { .. }
                | Self::ModelQuotaExhausted
                | Self::TooLong
        )
    }

    /// A short word for logs, metrics and the rule of correlated failures.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::ModelDenied => "model_denied",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted { .. } => "quota_exhausted",
            Self::ModelQuotaExhausted => "model_quota_exhausted",
            Self::Challenged => "challenged",
            Self::LostChat => "lost_chat",
            Self::BusyChat => "busy_chat",
            Self::ContentPolicy => "content_policy",
            Self::InvalidRequest => "invalid_request",
            Self::ModelNotFound => "model_not_found",
            Self::TooLarge => "too_large",
            Self::TooLong => "too_long",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Empty => "empty",
            Self::Protocol => "protocol",
            Self::OutOfDescriptors => "out_of_descriptors",
        }
    }
}

impl UpstreamError {
    /// An error without any text of the upstream.
    #[must_use]
    pub fn new(doing: &'static str, kind: UpstreamErrorKind) -> Self {
        let quote = Quote::default();
        let (note, is_of_upload) = (String::new(), false);
        Self { doing, kind, note, code: None, quote, is_of_upload, retry_after: None, way: None, source: None }
    }

    /// The first word of an answer did not come in time.
    #[must_use]
    pub(crate) fn first_word_late() -> Self {
        Self::new("waiting for the first word", UpstreamErrorKind::Timeout)
    }

    /// An error with a fact of this program beside its class.
    #[must_use]
    pub fn noted(doing: &'static str, kind: UpstreamErrorKind, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..Self::new(doing, kind) }
    }

    /// An error by a fault on the way that was told by an answer.
    #[must_use]
    pub(crate) fn on_the_way(doing: &'static str, way: WayFault) -> Self {
        Self { way: Some(way), ..Self::noted(doing, UpstreamErrorKind::Unavailable, way.problem()) }
    }

    /// An error with the code and the text that the upstream gave.
    #[must_use]
    pub fn told(doing: &'static str, kind: UpstreamErrorKind, code: &str, text: &str) -> Self {
        Self { code: known_code(code), quote: Quote::of(text), ..Self::new(doing, kind) }
    }

    /// Whether the failure has neither code nor text of the upstream: a gateway in between may have answered.
    #[must_use]
    pub fn is_wordless(&self) -> bool {
        self.quote.is_empty() && self.code.is_none()
    }

    /// Whether the connection could not be made, so that nothing was sent.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.source.as_ref().is_some_and(reqwest::Error::is_connect)
    }

    /// Cleans the upstream's text for the caller, in the classes where it helps to mend the request.
    ///
    /// `secrets` are those of the identity that was used, `asked` gives the texts of the request and is called only for
    /// a text that can be shown. Until this was called, [`UpstreamError::words`] is empty.
    pub fn clean<'a>(&mut self, secrets: &[SecretString], asked: impl FnOnce() -> Vec<Cow<'a, str>>) {
        if self.kind.has_helpful_text() && !self.quote.is_empty() {
            self.quote.clean(secrets, &asked());
        }
    }

    /// The cleaned text of the upstream; empty for classes where it does not help.
    #[must_use]
    pub fn words(&self) -> &str {
        self.quote.shown()
    }

    /// A failure of the transport. The URL is removed from it, since it may carry secrets.
    #[must_use]
    pub fn transport(doing: &'static str, error: reqwest::Error) -> Self {
        let kind = if error.is_timeout() {
            UpstreamErrorKind::Timeout
        } else if is_out_of_descriptors(&error) {
            UpstreamErrorKind::OutOfDescriptors
        } else {
            UpstreamErrorKind::Unavailable
        };
        let error = error.without_url();
        let way = if kind == UpstreamErrorKind::Unavailable { WayFault::of(&error) } else { None };
        let note = way.map_or_else(String::new, |way| way.problem().to_owned());
        Self { way, note, source: Some(error), ..Self::new(doing, kind) }
    }
}

/// Whether the system refused a socket or a file because this process, or the machine, has too many open.
fn is_out_of_descriptors(error: &(dyn Error + 'static)) -> bool {
    let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    // ENFILE and EMFILE have these numbers on every Unix.
    let is_it = cfg!(unix) && matches!(code, Some(23 | 24));
    is_it || error.source().is_some_and(is_out_of_descriptors)
}

/// Shows a note and a code in brackets, or nothing.
struct Hints<'a>(&'a str, Option<&'static str>);

impl fmt::Display for Hints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            ("", None) => Ok(()),
            ("", Some(code)) => write!(f, " ({code})"),
            (note, None) => write!(f, " ({note})"),
            (note, Some(code)) => write!(f, " ({note}, {code})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::UpstreamErrorKind as Kind;
    use super::*;

    #[test]
    fn the_texts_of_a_request_are_read_for_words_that_are_shown() {
        let check = |kind: Kind, text: &str, expected: (bool, &str)| {
            let mut error = UpstreamError::told("asking", kind, "", text);
            let mut is_read = false;
            error.clean(&[], || {
                is_read = true;
                vec![Cow::Borrowed("the secret plan of the garden")]
            });
            assert_eq!((is_read, error.words()), expected, "{kind:?} {text}");
        };
        check(Kind::InvalidRequest, "bad: the secret plan of the garden", (true, "bad: […]"));
        check(Kind::InvalidRequest, "", (false, ""));
        check(Kind::Unavailable, "bad: the secret plan of the garden", (false, ""));
        check(Kind::Unauthorized, "bad", (false, ""));
    }
}

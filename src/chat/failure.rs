//! Failures of requests, independent of dialects: a closed set of kinds, each with a code and a message.
//!
//! `http::failure` gives each kind its status, each dialect gives it a class and writes the body.

use std::time::Duration;

use crate::base::bilingual::Bilingual;

/// Longest wait that a client is asked to retry after by itself: SDKs sleep for as long as they are told.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// Kinds of failure, as far as statuses and the dialects' classes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The key or credential is missing or wrong.
    Unauthenticated,
    /// The caller may not do this with any key.
    Forbidden,
    /// The request is wrong, unsupported, too long for the model, or refused by the content policy.
    Invalid,
    /// No such path, model or object.
    NotFound,
    /// The path exists, but not for this method.
    WrongMethod,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The request conflicts with an existing object, or with one that belongs to another caller.
    Conflict,
    /// The object existed and has expired.
    Gone,
    /// The body is larger than this server, or the upstream, takes.
    TooLarge,
    /// The body is of a type or an encoding that is not read.
    UnsupportedMedia,
    /// The range lies outside of the file.
    RangeNotSatisfiable,
    /// Too many requests: by the upstream's count, or by this server's.
    RateLimited,
    /// The quota of every account is used up.
    QuotaExhausted,
    /// A fault of this server.
    Internal,
    /// No configured upstream can do this.
    NotImplemented,
    /// The upstream failed, answered nothing, or broke off.
    Upstream,
    /// No account can answer now, or the server is not ready for this.
    Unavailable,
    /// The upstream did not answer in time.
    UpstreamTimeout,
}

impl FailureKind {
    pub const ALL: [Self; 18] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Invalid,
        Self::NotFound,
        Self::WrongMethod,
        Self::BodyTimeout,
        Self::Conflict,
        Self::Gone,
        Self::TooLarge,
        Self::UnsupportedMedia,
        Self::RangeNotSatisfiable,
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::Internal,
        Self::NotImplemented,
        Self::Upstream,
        Self::Unavailable,
        Self::UpstreamTimeout,
    ];
}

/// A failure as the caller is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind, from which the HTTP status and the dialect's class follow.
    pub kind: FailureKind,
    /// Machine-readable code, one of a closed list, such as `model_not_found`.
    pub code: &'static str,
    /// For people: the fault and its remedy. Holds no secret; of the upstream's text at most a short cleaned excerpt.
    pub message: String,
    /// The message in both languages of the owner's page, where that shows it.
    pub words: Option<Box<Bilingual>>,
    /// The field of the request that is at fault: `messages[0].content`.
    pub param: Option<String>,
    /// Wait until another try can succeed, sent as `Retry-After` in whole seconds; `None`: not known, not sent.
    pub retry_after: Option<Duration>,
    /// Whether the client is told not to retry by itself (`x-should-retry: false`).
    pub is_final: bool,
    /// Class named in place of the dialect's own, for clients of a forerunner that expect it.
    pub class: Option<&'static str>,
}

impl Failure {
    /// A failure without field, wait or class.
    #[must_use]
    pub fn new(kind: FailureKind, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, code, message, words: None, param: None, retry_after: None, is_final: false, class: None }
    }

    /// A failure that the owner's page shows in either language.
    #[must_use]
    pub fn bilingual(kind: FailureKind, code: &'static str, words: Bilingual) -> Self {
        Self { words: Some(Box::new(words.clone())), ..Self::new(kind, code, words.en) }
    }

    /// The same, with the field that is at fault.
    #[must_use]
    pub fn about(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// The same, with the advice not to try again by itself.
    #[must_use]
    pub fn finally(self) -> Self {
        Self { is_final: true, ..self }
    }

    /// The same, with the time after which another try can succeed. A wait of more than [`WAIT_MAX`], or of unknown
    /// length, is final: no SDK should sit through it.
    #[must_use]
    pub fn after(self, wait: Option<Duration>) -> Self {
        let is_long = wait.is_none_or(|wait| wait > WAIT_MAX);
        Self { retry_after: wait, is_final: self.is_final || is_long, ..self }
    }

    /// The same under another class.
    #[must_use]
    pub fn typed(self, class: &'static str) -> Self {
        Self { class: Some(class), ..self }
    }
}

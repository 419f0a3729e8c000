//! The gateway's errors as failures: one conversion for each of its error types.

use std::time::Duration;

use crate::base::facts::{AccountKind, CoolingReason};
use crate::chat::error::{RequestError, RequestErrorKind};
use crate::chat::failure::{Failure, FailureKind, WAIT_MAX};
use crate::chat::reply::RejectedAs;
use crate::gateway::accounts::device_login::{LoginFailure, StartError};
use crate::gateway::accounts::error::RefreshError;
use crate::gateway::answer::error::ChatError;
use crate::gateway::route::NoUpstream;
use crate::http::refusals::sentence;
use crate::pool::LeaseError;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::way::WayFault;

/// The wait after which a token that is being renewed is there, as a rule.
const TOKEN_WAIT: Duration = Duration::from_secs(30);

impl Failure {
    /// Code and message of a failure that is told without a status: a video's `error`.
    #[must_use]
    pub fn told(error: &ChatError) -> (String, String) {
        let failure = Self::from(error);
        (failure.code.to_owned(), failure.message)
    }
}

impl From<NoUpstream> for Failure {
    fn from(missing: NoUpstream) -> Self {
        Self::model_not_found(&missing.name, &missing.hint())
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let (kind, code) = match error.kind {
            RequestErrorKind::InvalidBody => (FailureKind::Invalid, "invalid_type"),
            RequestErrorKind::Missing => (FailureKind::Invalid, "missing_required_parameter"),
            RequestErrorKind::InvalidType => (FailureKind::Invalid, "invalid_type"),
            RequestErrorKind::InvalidValue => (FailureKind::Invalid, "invalid_value"),
            RequestErrorKind::EmptyArray => (FailureKind::Invalid, "empty_array"),
            RequestErrorKind::UnsupportedParameter => (FailureKind::Invalid, "unsupported_parameter"),
            RequestErrorKind::UnsupportedValue => (FailureKind::Invalid, "unsupported_value"),
            RequestErrorKind::ModelNotFound => (FailureKind::NotFound, "model_not_found"),
            RequestErrorKind::TooLong => (FailureKind::Invalid, "context_length_exceeded"),
            RequestErrorKind::InvalidFile => (FailureKind::Invalid, "invalid_file"),
            RequestErrorKind::UnsupportedFile => (FailureKind::Invalid, "unsupported_file_type"),
            RequestErrorKind::FileTooLarge => (FailureKind::Invalid, "file_too_large"),
            RequestErrorKind::FileUnreachable => (FailureKind::Invalid, "file_unreachable"),
            RequestErrorKind::TooManyFiles => (FailureKind::Invalid, "too_many_files"),
        };
        Self { param: error.param, ..Self::new(kind, code, error.message) }
    }
}

impl From<&ChatError> for Failure {
    fn from(error: &ChatError) -> Self {
        match error {
            ChatError::Lease(error, kind) => of_lease(*error, *kind),
            ChatError::Upstream { error, attempts } => of_upstream(error, *attempts),
            ChatError::OwnCredential(_) => Self::new(
                FailureKind::Unauthenticated,
                "upstream_unauthorized",
                "The upstream refuses the token and cookie that you sent. Log in at chat.qwen.ai and copy them anew.",
            ),
            ChatError::AccountGone => no_account("The account that this was begun in was removed.", AccountKind::Web),
            ChatError::NotKept(_) => Self::internal(),
            ChatError::Rejected(kind) => {
                let message = match kind {
                    RejectedAs::ToolCall => {
                        "The model did not call the tool that this request requires, or called a tool that is not \
                         declared, or with arguments that do not follow its schema, twice in a row. Ask again, or \
                         describe the tools more plainly."
                    }
                    RejectedAs::StructuredOutput => {
                        "The model's answer is not JSON of the form that was asked for, twice in a row. Ask again, or \
                         simplify the schema."
                    }
                };
                Self::new(FailureKind::Upstream, kind.code(), message).finally()
            }
            ChatError::Session(RefreshError::Refused { .. }, kind) => {
                no_account("The upstream refuses the account's session.", *kind)
            }
            ChatError::Session(RefreshError::OtherAccount { .. }, kind) => {
                no_account("The upstream answered for another account than the one that is configured.", *kind)
            }
            ChatError::Session(RefreshError::Gone { .. }, kind) => no_account("The account was removed.", *kind),
            ChatError::Session(error @ RefreshError::Failed { .. }, _)
                if let Some(way) = error.upstream().and_then(|error| error.way) =>
            {
                unreachable(way)
            }
            ChatError::Session(RefreshError::Failed { .. } | RefreshError::File { .. }, _) => {
                let message =
                    "No account has a usable token right now; a new one is being fetched. Try again in a moment.";
                Self::new(FailureKind::Unavailable, "no_available_account", message).after(Some(TOKEN_WAIT))
            }
        }
    }
}

fn of_lease(error: LeaseError, kind: AccountKind) -> Failure {
    let message = match error {
        LeaseError::Unusable { retry_after, needs_login: true } => {
            let begin = match retry_after {
                Some(_) => format!("{}, or let", LeaseError::Unusable { retry_after, needs_login: false }),
                None => "no account can be used now: let".to_owned(),
            };
            sentence(&format!("{begin} the owner of this server {}", kind.remedy()))
        }
        error => sentence(&error.to_string()),
    };
    let unavailable = || Failure::new(FailureKind::Unavailable, "no_available_account", message.clone());
    let limited = |kind, code| Failure::new(kind, code, message.clone());
    match error {
        LeaseError::NoneConfigured | LeaseError::AllTried => unavailable().finally(),
        LeaseError::Unusable { retry_after, .. } => unavailable().after(retry_after),
        LeaseError::Busy { retry_after } => limited(FailureKind::RateLimited, "server_busy").after(Some(retry_after)),
        LeaseError::Resting { reason: CoolingReason::Rate, retry_after } => {
            limited(FailureKind::RateLimited, "rate_limit_exceeded").after(Some(retry_after))
        }
        LeaseError::Resting { reason: CoolingReason::Quota, retry_after } => {
            limited(FailureKind::QuotaExhausted, "insufficient_quota").after(Some(retry_after)).finally()
        }
        LeaseError::Resting { reason: CoolingReason::Owner, retry_after } => unavailable().after(Some(retry_after)),
        LeaseError::Resting { reason: CoolingReason::Challenge, retry_after } | LeaseError::Paused { retry_after } => {
            challenged(Some(retry_after))
        }
    }
}

/// Wait after which a connection may have been closed.
const DESCRIPTORS_WAIT: Duration = Duration::from_secs(1);

fn of_upstream(error: &UpstreamError, attempts: u32) -> Failure {
    use UpstreamErrorKind as Kind;
    let said = said(error);
    let tries = if attempts > 1 { format!(" on {attempts} attempts") } else { String::new() };
    let failed = |code, what: &str| {
        let message = format!("{what}{tries}. This is not the fault of your request; try again later.{said}");
        Failure::new(FailureKind::Upstream, code, message).finally()
    };
    match error.kind {
        Kind::Unauthorized | Kind::Forbidden => {
            let message = "The upstream refuses the account's session. Let the owner of this server look at it with \
                           `qwen-bridge check`.";
            Failure::new(FailureKind::Unavailable, "no_available_account", message).finally()
        }
        Kind::RateLimited => {
            let message = format!("The upstream limits how often it may be asked.{said}");
            let wait = error.retry_after.unwrap_or(WAIT_MAX);
            Failure::new(FailureKind::RateLimited, "rate_limit_exceeded", message).after(Some(wait))
        }
        Kind::QuotaExhausted { hours } => {
            let message = format!("The upstream's quota of the account that answers is used up.{said}");
            let wait = hours.map(|hours| Duration::from_secs(hours.saturating_mul(3600))).or(error.retry_after);
            Failure::new(FailureKind::QuotaExhausted, "insufficient_quota", message).after(wait).finally()
        }
        Kind::ModelQuotaExhausted => {
            let message =
                format!("The upstream's quota of this model is used up for today; others may have some left.{said}");
            Failure::new(FailureKind::QuotaExhausted, "insufficient_quota", message).after(error.retry_after).finally()
        }
        Kind::Challenged => challenged(None),
        Kind::ContentPolicy => {
            let message = format!("The upstream's content policy refused this conversation.{said}");
            Failure::new(FailureKind::Invalid, "content_filter", message)
        }
        Kind::InvalidRequest => {
            let message = format!("The upstream finds this request wrong.{said}");
            Failure::new(FailureKind::Invalid, "rejected_by_upstream", message)
        }
        Kind::ModelNotFound => {
            let message = format!("The upstream does not have this model.{said}");
            Failure::new(FailureKind::NotFound, "model_not_found", message).about("model")
        }
        Kind::ModelDenied => {
            let message = "The account behind this server may not use this model; GET /v1/models lists others. The \
                           owner of this server can ask the upstream for access to it.";
            Failure::new(FailureKind::Forbidden, "model_access_denied", message).about("model")
        }
        Kind::TooLarge => {
            let message = "The upstream refuses a request of this size: shorten or drop older messages to stay \
                           under its maximum context length for one request, about 100 kB.";
            Failure::new(FailureKind::TooLarge, "context_length_exceeded", message).about("messages")
        }
        Kind::TooLong => {
            let message = format!("The messages are longer than this model's maximum context length.{said}");
            Failure::new(FailureKind::Invalid, "context_length_exceeded", message).about("messages")
        }
        Kind::Timeout => {
            let message =
                format!("The upstream did not answer in time{tries}. Try again later, or ask for less.{said}");
            Failure::new(FailureKind::UpstreamTimeout, "upstream_timeout", message).finally()
        }
        Kind::Truncated => failed("upstream_truncated", "The upstream broke off its answer"),
        Kind::Empty => failed("upstream_empty", "The upstream gave an empty answer"),
        Kind::OutOfDescriptors => {
            let message = "This server has as many connections open as it may. Try again in a moment; its owner can \
                           raise the limit of open files (`ulimit -n`).";
            Failure::new(FailureKind::Internal, "internal_error", message).after(Some(DESCRIPTORS_WAIT))
        }
        Kind::Unavailable if let Some(way) = error.way => unreachable(way),
        Kind::LostChat | Kind::BusyChat | Kind::Unavailable | Kind::Protocol => {
            failed("upstream_error", "The upstream failed")
        }
    }
}

/// No connection to the upstream can be made, which the caller cannot mend.
fn unreachable(way: WayFault) -> Failure {
    let message = format!(
        "The upstream cannot be reached: {}. This is not the fault of your request; the owner of this server can {}.",
        way.problem(),
        way.mend()
    );
    Failure::new(FailureKind::Upstream, "upstream_error", message).finally()
}

fn no_account(why: &str, kind: AccountKind) -> Failure {
    let message = format!("{why} Let the owner of this server {}.", kind.remedy());
    Failure::new(FailureKind::Unavailable, "no_available_account", message).finally()
}

fn challenged(wait: Option<Duration>) -> Failure {
    let message = "The upstream wants a human: the owner of this server has to open chat.qwen.ai in a browser, \
                   pass its check and wait a few minutes. Nothing is sent meanwhile.";
    Failure::new(FailureKind::Unavailable, "upstream_challenge", message).after(wait)
}

/// The known facts of a failure beside its class, to follow a sentence: the failed action, the upstream's code, and its
/// cleaned text where it helps.
fn said(error: &UpstreamError) -> String {
    let note = if error.note.is_empty() { String::new() } else { format!(" What failed: {}.", error.note) };
    let said = match (error.code, error.words()) {
        (None, "") => String::new(),
        (Some(code), "") => format!(" Its code: {code}."),
        (None, words) => format!(" It said: {words}"),
        (Some(code), words) => format!(" It said ({code}): {words}"),
    };
    note + &said
}

impl From<&StartError> for Failure {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::TooMany => {
                let words = sentence(&error.to_string());
                let message = format!("{words} An unfinished login ends when its code expires.");
                Self::new(FailureKind::RateLimited, "server_busy", message).after(Some(WAIT_MAX))
            }
            StartError::Upstream(error) => of_login_service(error),
        }
    }
}

impl From<&LoginFailure> for Failure {
    fn from(failure: &LoginFailure) -> Self {
        let over = |kind, code, message: &str| Self::new(kind, code, message).finally();
        match failure {
            LoginFailure::Denied => {
                let message = "The owner of the account refused this login. Start a new one and approve it in the \
                               browser.";
                over(FailureKind::Invalid, "login_denied", message)
            }
            LoginFailure::Expired => {
                let message = "The code of this login has expired. Start a new login and approve it in time.";
                over(FailureKind::Gone, "login_expired", message)
            }
            LoginFailure::Cancelled => {
                let message = "This login was cancelled: a later one of the same account was started, or the server \
                               is stopping. Go on with the later one.";
                over(FailureKind::Gone, "login_cancelled", message)
            }
            LoginFailure::RateLimited { retry_after } => logins_limited(*retry_after),
            LoginFailure::Failed(why) => {
                let message = format!("The login failed: {} Start a new one.", sentence(why));
                Self::new(FailureKind::Upstream, "login_failed", message).finally()
            }
        }
    }
}

impl From<&RefreshError> for Failure {
    fn from(error: &RefreshError) -> Self {
        match error.upstream() {
            Some(error) => of_login_service(error),
            None => {
                let message = format!("{} The server's log tells more.", sentence(&error.to_string()));
                Self::new(FailureKind::Unavailable, "no_available_account", message).after(Some(TOKEN_WAIT))
            }
        }
    }
}

/// A failure of the service that logs accounts in.
fn of_login_service(error: &UpstreamError) -> Failure {
    use UpstreamErrorKind as Kind;
    match error.kind {
        Kind::Challenged => challenged(None),
        Kind::RateLimited | Kind::QuotaExhausted { .. } => logins_limited(error.retry_after),
        Kind::Timeout => {
            let message = "Qwen's login service did not answer in time. Try again in a moment.";
            Failure::new(FailureKind::UpstreamTimeout, "upstream_timeout", message).finally()
        }
        _ => {
            let message = format!(
                "Qwen's login service failed. Try again in a moment; if that does not help, check that this machine \
                 reaches it (QWEN_OAUTH_BASE_URL).{}",
                said(error)
            );
            Failure::new(FailureKind::Upstream, "upstream_error", message).finally()
        }
    }
}

fn logins_limited(wait: Option<Duration>) -> Failure {
    let message = "Qwen's login service takes no more logins for now. Start a new one later.";
    Failure::new(FailureKind::RateLimited, "rate_limit_exceeded", message).after(Some(wait.unwrap_or(WAIT_MAX)))
}

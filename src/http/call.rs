//! The shared part of every route that asks an upstream: the caller, the way in which the answer goes out, and the
//! headers that tell how the request was understood.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::chat::failure::Failure;
use crate::chat::job::Notes;
use crate::chat::reply::{Ending, ReplySink};
use crate::dialect::writer::StreamWriter;
use crate::gateway::answer::context::RequestContext;
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::run::Prepared;
use crate::gateway::answer::settings::AnswerSettings;
use crate::gateway::route::{Route, without_kind};
use crate::http::serve::admission::caller::Caller;
use crate::http::serve::record::access::{NOTE_PREFIX, RequestRecord};
use crate::http::serve::socket::server::PollCount;
use crate::http::settings::HttpSettings;
use crate::http::state::AppState;
use crate::http::stream::{Following, Opening, ReplyBody, StreamContext};
use crate::shutdown::Cancelled;

/// Most characters of a question that are logged.
const PROMPT_CHARS_MAX: usize = 200;

/// A request of an accepted caller.
pub(crate) struct Call {
    /// Handles to the parts of the server.
    pub(crate) state: AppState,
    /// Settings of this side of HTTP for this request.
    pub(crate) settings: Arc<HttpSettings>,
    /// Settings of answers for this request.
    pub(crate) answering: Arc<AnswerSettings>,
    /// The caller, whose key was accepted.
    pub(crate) caller: Caller,
    /// The request's line in the log.
    pub(crate) record: RequestRecord,
    /// Earlier attempts of the caller's SDK at this request, by its `x-stainless-retry-count` header.
    pub(crate) client_retries: u32,
    /// Whether answers may be continued later; `false` on routes without conversations.
    pub(crate) is_continuable: bool,
    polls: PollCount,
}

impl FromRequestParts<AppState> for Call {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        let extensions = &parts.extensions;
        let found = (extensions.get::<Caller>(), extensions.get::<RequestRecord>(), extensions.get::<PollCount>());
        // The layers around these routes add all three extensions.
        let (Some(caller), Some(record), Some(polls)) = found else {
            return Err(Failure::internal().into_response());
        };
        Ok(Self {
            state: state.clone(),
            settings: state.settings(),
            answering: state.0.answers.settings(),
            caller: caller.clone(),
            record: record.clone(),
            client_retries: client_retries(&parts.headers),
            is_continuable: true,
            polls: polls.clone(),
        })
    }
}

impl Call {
    /// Logs the beginning of the question, if the owner wants that.
    pub(crate) fn log_question(&self, text: impl FnOnce() -> Option<String>) {
        log_question(&self.settings, &self.record, text);
    }

    /// Further identities that this request may try.
    pub(crate) fn retries_max(&self) -> u32 {
        self.answering.retries_max.saturating_sub(self.client_retries)
    }

    /// The facts of the request for the gateway.
    pub(crate) fn context(&self) -> RequestContext {
        RequestContext {
            caller: self.caller.id,
            owner: self.is_continuable.then(|| self.caller.hash()),
            own: self.caller.own.clone(),
            retries_max: self.retries_max(),
            trace: self.record.trace(),
        }
    }

    /// Chooses the upstream of a request for this model; `None` for a request that names none.
    ///
    /// # Errors
    /// No upstream has the model, or the caller's key may not use it.
    pub(crate) async fn choose(&self, model: Option<&str>) -> Result<Route, Failure> {
        let route = self.state.0.upstreams.choose(&self.answering, model).await?;
        if let Route::Relay(_, upstream_model) = &route
            && model.is_none_or(|model| model.trim().is_empty())
        {
            self.allow(Some(upstream_model))?;
        } else {
            self.allow(model)?;
        }
        Ok(route)
    }

    /// Checks whether the caller's key may use this model, by its name or by its target in `MODEL_MAP`. `None` means
    /// `DEFAULT_MODEL`.
    ///
    /// # Errors
    /// 404, as for an unknown model: the caller's list does not have it.
    pub(crate) fn allow(&self, model: Option<&str>) -> Result<(), Failure> {
        let model = model.map(str::trim).filter(|model| !model.is_empty());
        let model = model.unwrap_or(&self.answering.default_model);
        if self.may_use(model) { Ok(()) } else { Err(Failure::model_not_for_key(self.caller.key_name(), model)) }
    }

    /// Whether the caller's key may use this model.
    pub(crate) fn may_use(&self, model: &str) -> bool {
        may_use(&self.caller, &self.answering, model)
    }

    /// Begins streamed answers of this request.
    pub(crate) fn opener(&self) -> Opener {
        Opener { context: self.context(), ending: self.state.0.ending.clone() }
    }

    /// Waits for `work`, but no longer than the server runs.
    ///
    /// # Errors
    /// The failure of the work, or 503 when the server stops.
    pub(crate) async fn until_the_end<T>(
        &self,
        work: impl Future<Output = Result<T, ChatError>>,
    ) -> Result<T, Failure> {
        let done = Cancelled::of(self.state.0.ending.clone()).or(work).await;
        done.ok_or_else(Failure::shutting_down)?.map_err(|error| Failure::from(&error))
    }

    /// Collects a whole answer.
    ///
    /// # Errors
    /// As [`Call::until_the_end`].
    pub(crate) async fn whole(
        &self,
        prepared: &Prepared,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<Ending, Failure> {
        let context = self.context();
        // Boxed, as the futures around it would be as large as this one, and are moved.
        let (_, ending) = self.until_the_end(Box::pin(prepared.complete(&context, sink))).await?;
        Ok(ending)
    }

    /// Answers with an event stream.
    ///
    /// # Errors
    /// The failure, as long as the status waits for the answer.
    pub(crate) async fn stream<S: StreamWriter + Unpin + Send + 'static>(
        self,
        prepared: Prepared,
        mut sink: S,
    ) -> Result<Response, Failure> {
        let head = sink.head();
        let opening = self.opener().open(prepared, sink);
        self.event_stream(head, opening, None).await
    }

    /// Waits for the first content as long as the status may wait; afterwards the answer's body waits for it. Further
    /// answers in the same stream cannot change the status.
    pub(crate) async fn event_stream<S: StreamWriter + Unpin + Send + 'static>(
        self,
        head: Option<Bytes>,
        mut opening: Opening<S>,
        following: Option<Following<S>>,
    ) -> Result<Response, Failure> {
        let Self { state, settings, record, polls, .. } = self;
        record.streamed();
        // Callers receive bytes at least once in each interval, headers included.
        let hold = settings.headers_hold.min(settings.keepalive_interval);
        let context = StreamContext {
            head,
            record,
            keepalive: settings.keepalive_interval,
            ending: state.0.ending.clone(),
            polls,
        };
        let body = match timeout(hold, &mut opening).await {
            Ok((Ok(turn), sink)) => ReplyBody::streaming(turn, sink, context),
            Ok((Err(failure), _)) => return Err(failure),
            Err(_) => ReplyBody::opening(opening, context),
        }
        .followed_by(following);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok((headers, axum::body::Body::new(body)).into_response())
    }
}

/// Begins streamed answers of one request.
#[derive(Clone)]
pub(crate) struct Opener {
    context: RequestContext,
    ending: CancellationToken,
}

impl Opener {
    /// Waits for the first content of an answer, but no longer than the server runs.
    pub(crate) fn open<S: StreamWriter + Send + 'static>(&self, prepared: Prepared, mut sink: S) -> Opening<S> {
        let Self { context, ending } = self.clone();
        Box::pin(async move {
            let opened = Cancelled::of(ending).or(prepared.open(&context, &mut sink)).await;
            let opened = opened.ok_or_else(Failure::shutting_down);
            let opened = opened.and_then(|opened| opened.map_err(|error| Failure::from(&error)));
            if opened.is_err() {
                // Output of an abandoned attempt must not be shown.
                sink.reset();
            }
            (opened, sink)
        })
    }
}

/// Earlier attempts of the caller's SDK at this request; 0 without a valid header.
fn client_retries(headers: &HeaderMap) -> u32 {
    let value = headers.get("x-stainless-retry-count").and_then(|value| value.to_str().ok());
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Whether the caller's key allows a model of this name.
pub(crate) fn may_use(caller: &Caller, answering: &AnswerSettings, model: &str) -> bool {
    let Some(key) = &caller.key else { return true };
    let target = answering.model_map.apply(model);
    key.limits.allow_model([model, target].into_iter().flat_map(|name| [name, without_kind(name)]))
}

/// A whole answer in JSON.
pub(crate) fn json_response(body: impl Into<axum::body::Body>) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// Logs the beginning of the question on routes without a [`Call`].
pub(crate) fn log_question(settings: &HttpSettings, record: &RequestRecord, text: impl FnOnce() -> Option<String>) {
    if !settings.log_prompts {
        return;
    }
    let Some(text) = text() else { return };
    let one_line = |c: char| if c.is_control() { ' ' } else { c };
    let prompt: String = text.chars().map(one_line).take(PROMPT_CHARS_MAX).collect();
    info!(request.id = %record.id(), prompt, "question");
}

/// The headers that tell how a request was understood.
pub(crate) fn note_headers(notes: &Notes) -> HeaderMap {
    let header = |(name, value): (&str, String)| {
        let name = HeaderName::try_from(format!("{NOTE_PREFIX}{name}")).ok()?;
        Some((name, HeaderValue::try_from(value).ok()?))
    };
    notes.named().into_iter().filter_map(header).collect()
}

/// Header for a whole answer whose token counts are estimates; `None` for counts of the upstream.
pub(crate) fn usage_header(is_estimated: bool) -> Option<(HeaderName, HeaderValue)> {
    is_estimated.then_some((HeaderName::from_static(USAGE), HeaderValue::from_static("estimated")))
}

/// `estimated` if this server estimated the tokens, and the upstream did not count them.
pub(crate) const USAGE: &str = "x-bridge-usage";
/// Parameters that were read but have no effect.
pub(crate) const IGNORED: &str = "x-bridge-ignored";
/// The model that answers in place of one that cannot take the files.
pub(crate) const FALLBACK_MODEL: &str = "x-bridge-fallback-model";
/// Number of older files that had no room beside the newer ones.
pub(crate) const OMITTED_FILES: &str = "x-bridge-omitted-files";
/// The name of the file that the conversation was sent as, when it was too long for a prompt.
pub(crate) const PROMPT_AS_FILE: &str = "x-bridge-prompt-file";
/// How much the definitions of tools were shortened: `prose`, `keywords` or `index`.
pub(crate) const TOOLS_SHORTENED: &str = "x-bridge-tools-shortened";
/// The ratio of the picture or video, which may differ from the requested size.
pub(crate) const ASPECT_RATIO: &str = "x-bridge-aspect-ratio";

/// Current time in Unix seconds; 0 if the clock is set before 1970.
pub(crate) fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

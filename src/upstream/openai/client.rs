//! Upstreams that speak OpenAI's dialect: the portal for OAuth accounts, and endpoints for static keys.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::base::live::Live;
use crate::base::session::Session;
use crate::upstream::call_log::CallLog;
use crate::upstream::connections;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::openai::encode::Profile;
use crate::upstream::openai::error::classify_answer;
use crate::upstream::settings::AnswerTimeouts;
use crate::upstream::stream::ReplyStream;
use crate::upstream::web::answer::retry_after;
use crate::upstream::web::client::WebClientError;

/// Most bytes read of a whole answer.
const WHOLE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most bytes read of a failure.
const FAILURE_BYTES_MAX: usize = 64 * 1024;
/// Time limit of a short call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// `User-Agent` of this program.
const PRODUCT: &str = concat!("qwen-bridge/", env!("CARGO_PKG_VERSION"));

const ASKING: &str = "asking";

/// The client. Its connections are shared by all identities and clones; credentials travel in headers only.
#[derive(Clone, Debug)]
pub(crate) struct OpenAiApi {
    client: reqwest::Client,
    timeouts: Live<AnswerTimeouts>,
}

/// The endpoint of a request and its kind of upstream.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Base URL, such as `https://portal.qwen.ai/v1`.
    pub base: Url,
    /// The kind of endpoint, which decides about headers and fields.
    pub profile: Profile,
}

impl OpenAiApi {
    /// A client with limits for connecting and for the next byte of a whole answer. `is_direct`: no proxy of the
    /// environment is used.
    ///
    /// # Errors
    /// [`WebClientError`].
    pub(crate) fn new(
        connect_timeout: Duration,
        timeouts: Live<AnswerTimeouts>,
        is_direct: bool,
    ) -> Result<Self, WebClientError> {
        let builder = || connections::client(connect_timeout, is_direct);
        // A machine without certificates can still reach a simulator.
        let client = builder().build().or_else(|_| builder().tls_certs_only([]).build());
        Ok(Self { client: client.map_err(WebClientError::Client)?, timeouts })
    }

    /// Asks for a stream and waits, at most until `deadline`, for its head.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn stream(
        &self,
        session: &Session,
        target: &Target,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<ReplyStream, UpstreamError> {
        let request = request(session, target, Method::POST, "chat/completions", Some((body, true)));
        let response = self.send(ASKING, request, deadline).await?;
        if response.status().is_success() && is(&response, "text/event-stream") {
            let response: http::Response<reqwest::Body> = response.into();
            return Ok(ReplyStream::relayed(response.into_body()));
        }
        Err(self.failure(ASKING, response, deadline).await)
    }

    /// Asks for a whole answer, at most until `deadline`.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn whole(
        &self,
        session: &Session,
        target: &Target,
        path: &str,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<Bytes, UpstreamError> {
        let request = request(session, target, Method::POST, path, Some((body, false)));
        let response = self.send(ASKING, request, deadline).await?;
        if !response.status().is_success() || is(&response, "text/html") {
            return Err(self.failure(ASKING, response, deadline).await);
        }
        self.read(ASKING, response, WHOLE_BYTES_MAX, deadline).await
    }

    /// The names of the models that an endpoint lists.
    ///
    /// # Errors
    /// [`UpstreamError`]; the portal has no such list.
    pub(crate) async fn models(&self, session: &Session, target: &Target) -> Result<Vec<String>, UpstreamError> {
        const DOING: &str = "listing models";
        let deadline = Instant::now() + CALL_TIMEOUT;
        let response = self.send(DOING, request(session, target, Method::GET, "models", None), deadline).await?;
        if !response.status().is_success() {
            return Err(self.failure(DOING, response, deadline).await);
        }
        let body = self.read(DOING, response, WHOLE_BYTES_MAX, deadline).await?;
        let list: Option<Value> = serde_json::from_slice(&body).ok();
        let entries = list.as_ref().and_then(|list| list.get("data")?.as_array());
        let entries = entries.ok_or_else(|| UpstreamError::new(DOING, UpstreamErrorKind::Protocol))?;
        let id = |entry: &Value| entry.get("id")?.as_str().filter(|id| !id.trim().is_empty()).map(str::to_owned);
        Ok(entries.iter().filter_map(id).collect())
    }

    async fn send(
        &self,
        doing: &'static str,
        request: reqwest::Request,
        deadline: Instant,
    ) -> Result<reqwest::Response, UpstreamError> {
        match timeout_at(deadline, CallLog::execute(&self.client, "openai", request)).await {
            Ok(sent) => sent.map_err(|error| UpstreamError::transport(doing, error)),
            Err(_) => Err(UpstreamError::new(doing, UpstreamErrorKind::Timeout)),
        }
    }

    async fn failure(&self, doing: &'static str, response: reqwest::Response, deadline: Instant) -> UpstreamError {
        // This API does not redirect, so a redirect comes from something else and counts as 502.
        let status = if response.status().is_redirection() { 502 } else { response.status().as_u16() };
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let content_type = header(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        let wait = header(RETRY_AFTER).and_then(|value| retry_after(value, std::time::SystemTime::now()));
        match self.read(doing, response, FAILURE_BYTES_MAX, deadline).await {
            Ok(body) => UpstreamError { retry_after: wait, ..classify_answer(doing, status, &content_type, &body) },
            Err(error) => error,
        }
    }

    /// Reads a body to its end, as long as bytes keep coming.
    async fn read(
        &self,
        doing: &'static str,
        response: reqwest::Response,
        limit: usize,
        deadline: Instant,
    ) -> Result<Bytes, UpstreamError> {
        let response: http::Response<reqwest::Body> = response.into();
        let mut body = Limited::new(response.into_body(), limit);
        let mut bytes = Vec::new();
        let idle = self.timeouts.now().idle;
        loop {
            let next = timeout_at(deadline.min(Instant::now() + idle), body.frame()).await;
            match next {
                Err(_) => return Err(UpstreamError::new(doing, UpstreamErrorKind::Timeout)),
                Ok(None) => return Ok(bytes.into()),
                Ok(Some(Ok(frame))) => bytes.extend(frame.into_data().unwrap_or_default()),
                Ok(Some(Err(error))) => {
                    return Err(match error.downcast::<reqwest::Error>() {
                        Ok(error) => UpstreamError::transport(doing, *error),
                        Err(_) => UpstreamError::new(doing, UpstreamErrorKind::Protocol),
                    });
                }
            }
        }
    }
}

fn is(response: &reqwest::Response, essence: &str) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.to_ascii_lowercase().starts_with(essence)
}

fn request(
    session: &Session,
    target: &Target,
    method: Method,
    path: &str,
    body: Option<(Vec<u8>, bool)>,
) -> reqwest::Request {
    let mut url = target.base.clone();
    let joined = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&joined);
    let mut request = reqwest::Request::new(method, url);
    let is_stream = body.as_ref().is_some_and(|(_, is_stream)| *is_stream);
    let headers = request.headers_mut();
    let accept = if is_stream { "text/event-stream" } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert(USER_AGENT, HeaderValue::from_static(PRODUCT));
    headers.extend(session.authorization().map(|value| (http::header::AUTHORIZATION, value)));
    if target.profile == Profile::Portal {
        portal_headers(headers);
    }
    if let Some((body, _)) = body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(body.into());
    }
    request
}

/// Headers that the portal checks, with this product's own name.
fn portal_headers(headers: &mut HeaderMap) {
    headers.insert("x-dashscope-useragent", HeaderValue::from_static(PRODUCT));
    headers.insert("x-dashscope-authtype", HeaderValue::from_static("qwen-oauth"));
    headers.insert("x-dashscope-cachecontrol", HeaderValue::from_static("enable"));
}

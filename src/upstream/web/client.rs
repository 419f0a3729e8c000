//! The calls of chat.qwen.ai: make a chat, ask, stop, delete, list models.

use std::time::{Duration, SystemTime};

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, ORIGIN, REFERER};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::base::ids::UnixSeconds;
use crate::base::live::Live;
use crate::base::session::Session;
use crate::chat::models::{ModelInfo, parse_catalogue};
use crate::upstream::call_log::CallLog;
use crate::upstream::connections;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::settings::{AnswerTimeouts, WebSettings};
use crate::upstream::stream::ReplyStream;
use crate::upstream::web::answer::{Answer, date_of, effective_status, envelope, failure, may_be_event_stream, read};
use crate::upstream::web::decode::QwenReplyDecoder;
use crate::upstream::web::encode::{self, ChatPlace, FileRef, MessageIds};
use crate::upstream::web::headers;
use crate::upstream::web::request::{Task, WebRequest};
use crate::upstream::web::skew::ClockSkew;

/// Most pages of an account's list of chats that are searched.
const CHAT_PAGES_MAX: u32 = 20;

/// Time limit of a short call (models, stop, delete, a new chat).
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The client of the web chat. Cheap to share; its connections are kept alive and used for every identity, which
/// is safe since credentials travel in headers only.
#[derive(Debug)]
pub(crate) struct QwenWeb {
    client: reqwest::Client,
    /// Client for the object storage, which never gets a cookie or token of a session.
    pub(crate) storage: reqwest::Client,
    pub(crate) settings: WebSettings,
    /// Time limits of answers, which may change while the server runs.
    pub(crate) timeouts: Live<AnswerTimeouts>,
    pub(crate) web_headers: HeaderMap,
    auth_headers: HeaderMap,
    skew: ClockSkew,
}

/// Reasons why the client cannot be built from its settings.
#[derive(Debug, thiserror::Error)]
pub enum WebClientError {
    /// The TLS or DNS machinery did not start.
    #[error("cannot set up the HTTP client (on a bare system, install the package ca-certificates)")]
    Client(#[source] reqwest::Error),
    /// A configured header has an invalid name or value.
    #[error("QWEN_WEB_HEADERS: {0:?} is not a header that can be sent")]
    Header(String),
}

/// The host of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Web,
    Auth,
}

/// The credentials that a call carries.
#[derive(Clone, Copy)]
pub(crate) enum Credential<'a> {
    /// No cookie and no token.
    None,
    /// The cookie jar: for calls that give out tokens, where an old token would interfere.
    Cookies(&'a Session),
    /// The jar and the access token that belongs to it.
    Full(&'a Session),
}

impl<'a> Credential<'a> {
    fn session(self) -> Option<&'a Session> {
        match self {
            Self::None => None,
            Self::Cookies(session) | Self::Full(session) => Some(session),
        }
    }
}

/// A chat that was not created yet.
pub(crate) struct NewChat {
    model: String,
    chat_type: &'static str,
}

impl QwenWeb {
    /// A client for these settings.
    ///
    /// # Errors
    /// [`WebClientError`].
    pub(crate) fn new(settings: WebSettings) -> Result<Self, WebClientError> {
        let timeouts = Live::new(settings.timeouts());
        let builder = || connections::client(settings.connect_timeout, settings.is_direct);
        // A simulator on this machine needs no certificates, and a machine without any can still run one.
        let is_plain = [&settings.web_base, &settings.auth_base].iter().all(|base| base.scheme() == "http");
        let client = if is_plain { builder().tls_certs_only([]) } else { builder() };
        let client = client.build().map_err(WebClientError::Client)?;
        // Behind a recording proxy without TLS the storage is still the real one, so certificates are tried for it.
        let storage = match builder().build() {
            Err(_) if is_plain => builder().tls_certs_only([]).build(),
            built => built,
        };
        let storage = storage.map_err(WebClientError::Client)?;
        let web_headers = headers::standard(&settings.headers).map_err(WebClientError::Header)?;
        let mut auth_headers = web_headers.clone();
        if let Some(origin) = web_headers.get(ORIGIN) {
            // Without this header the host answers "Missing origin".
            auth_headers.insert("x-request-origin", origin.clone());
        }
        auth_headers.insert("sec-fetch-site", HeaderValue::from_static("same-site"));
        Ok(Self { client, storage, settings, timeouts, web_headers, auth_headers, skew: ClockSkew::default() })
    }

    /// Seconds by which this machine's clock is ahead of the upstream's, by the `Date` of its newest answers; negative
    /// when it is behind, 0 within half a minute.
    #[must_use]
    pub(crate) fn clock_skew(&self) -> i64 {
        self.skew.seconds()
    }

    /// A chat for this job, to be made.
    #[must_use]
    pub(crate) fn new_chat(job: &WebRequest) -> NewChat {
        NewChat { model: job.upstream_model.clone(), chat_type: job.chat_type() }
    }

    /// Creates a chat and returns its id.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn create_chat(
        &self,
        session: &Session,
        chat: &NewChat,
        title: &str,
    ) -> Result<String, UpstreamError> {
        const DOING: &str = "creating a chat";
        let body = encode::encode_new_chat(&chat.model, chat.chat_type, title, now());
        let body = body.map_err(|_| UpstreamError::new(DOING, UpstreamErrorKind::Protocol))?;
        let answer = self
            .call(DOING, Host::Web, Method::POST, "/api/v2/chats/new", Credential::Full(session), Some(body))
            .await?;
        let value = envelope(DOING, &answer)?;
        let data = value.get("data").unwrap_or(&value);
        let chat = data.get("chat").unwrap_or(data);
        let id = chat.get("id").or_else(|| data.get("chat_id")).and_then(Value::as_str);
        match id.filter(|id| is_chat_id(id)) {
            Some(id) => Ok(id.to_owned()),
            None => Err(UpstreamError::new(DOING, UpstreamErrorKind::Protocol)),
        }
    }

    /// Sends a message to a chat and waits, at most until `deadline`, for an answer that is an event stream.
    ///
    /// # Errors
    /// [`UpstreamError`]: any other answer, classified by status, content type and envelope.
    pub(crate) async fn ask(
        &self,
        session: &Session,
        job: &WebRequest,
        files: &[FileRef],
        place: ChatPlace<'_>,
        deadline: Instant,
    ) -> Result<ReplyStream, UpstreamError> {
        const DOING: &str = "asking";
        let body = message_body(DOING, job, files, place)?;
        let response = self.complete(DOING, session, place.chat_id, body, deadline).await?;
        let status = effective_status(&response);
        if (200..300).contains(&status) && may_be_event_stream(response.headers()) {
            let decoder = match job.task {
                Task::Image(_) | Task::ImageEdit(_) => QwenReplyDecoder::for_pictures(),
                Task::Text if job.has_tools => QwenReplyDecoder::new().with_tools(),
                Task::Text | Task::Work(_) | Task::Video(_) => QwenReplyDecoder::new(),
            };
            let response: http::Response<reqwest::Body> = response.into();
            return Ok(ReplyStream::new(response.into_body(), decoder));
        }
        let read = tokio::time::timeout_at(deadline, read(DOING, response));
        let answer = read.await.map_err(|_| UpstreamError::new(DOING, UpstreamErrorKind::Timeout))??;
        Err(failure(DOING, &answer).unwrap_or_else(|| UpstreamError::new(DOING, UpstreamErrorKind::Protocol)))
    }

    /// Sends a completion and waits, at most until `deadline`, for the head of its answer.
    pub(crate) async fn complete(
        &self,
        doing: &'static str,
        session: &Session,
        chat_id: &str,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<reqwest::Response, UpstreamError> {
        let path = format!("/api/v2/chat/completions?chat_id={chat_id}");
        let mut request = self.request(Host::Web, Method::POST, &path, Credential::Full(session), Some(body));
        let headers = request.headers_mut();
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        let referer = format!("{}/c/{chat_id}", headers::SITE);
        if let Ok(referer) = HeaderValue::try_from(referer) {
            headers.insert(REFERER, referer);
        }
        let sent = tokio::time::timeout_at(deadline, CallLog::execute(&self.client, "web", request)).await;
        let response = match sent {
            Err(_) => return Err(UpstreamError::new(doing, UpstreamErrorKind::Timeout)),
            Ok(sent) => sent.map_err(|error| UpstreamError::transport(doing, error))?,
        };
        session.absorb(response.headers());
        if let Some(date) = date_of(response.headers()) {
            self.skew.note(date, now());
        }
        Ok(response)
    }

    /// Stops an answer whose reader has left.
    ///
    /// # Errors
    /// [`UpstreamError`]; harmless, since the answer ends by itself.
    pub(crate) async fn stop(
        &self,
        session: &Session,
        chat_id: &str,
        response_id: Option<&str>,
    ) -> Result<(), UpstreamError> {
        const DOING: &str = "stopping an answer";
        let body = match response_id {
            Some(response_id) => json!({"chat_id": chat_id, "response_id": response_id}),
            None => json!({"chat_id": chat_id}),
        };
        let path = format!("/api/v2/chat/completions/stop?chat_id={chat_id}");
        let answer = self
            .call(DOING, Host::Web, Method::POST, &path, Credential::Full(session), Some(body.to_string().into()))
            .await?;
        failure(DOING, &answer).map_or(Ok(()), Err)
    }

    /// Deletes chats that this server made: one by its own route, several in one call. A chat that is not there
    /// counts as deleted.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn delete_chats(&self, session: &Session, chat_ids: &[String]) -> Result<(), UpstreamError> {
        const DOING: &str = "deleting a chat";
        let (method, path, body) = match chat_ids {
            [] => return Ok(()),
            [id] => (Method::DELETE, format!("/api/v2/chats/{id}"), None),
            ids => {
                (Method::POST, "/api/v2/chats/batch_delete".to_owned(), Some(json!({ "ids": ids }).to_string().into()))
            }
        };
        let answer = self.call(DOING, Host::Web, method, &path, Credential::Full(session), body).await?;
        match failure(DOING, &answer) {
            Some(error) if error.kind != UpstreamErrorKind::LostChat => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    /// Finds chats with one of these titles among those changed since then; returns their ids.
    ///
    /// # Errors
    /// [`UpstreamError`] when the list cannot be read.
    pub(crate) async fn chats_titled(
        &self,
        session: &Session,
        titles: &[&str],
        since: UnixSeconds,
    ) -> Result<Vec<String>, UpstreamError> {
        const DOING: &str = "listing chats";
        let mut found = Vec::new();
        for page in 1..=CHAT_PAGES_MAX {
            let path = format!("/api/v2/chats/?page={page}&exclude_project=true");
            let answer = self.call(DOING, Host::Web, Method::GET, &path, Credential::Full(session), None).await?;
            let value = envelope(DOING, &answer)?;
            let chats = value.get("data").and_then(Value::as_array);
            let chats = chats.ok_or_else(|| UpstreamError::new(DOING, UpstreamErrorKind::Protocol))?;
            for chat in chats {
                let text = |key: &str| chat.get(key).and_then(Value::as_str);
                if let (Some(id), Some(title)) = (text("id").filter(|id| is_chat_id(id)), text("title"))
                    && titles.contains(&title)
                {
                    found.push(id.to_owned());
                }
            }
            // The list is sorted, newest first.
            let last = chats.last().and_then(|chat| chat.get("updated_at")?.as_i64());
            if last.is_none_or(|last| last < since.0) {
                break;
            }
        }
        Ok(found)
    }

    /// The live model list. Needs no account.
    ///
    /// # Errors
    /// [`UpstreamError`] when neither the older nor the newer route gives a list.
    pub(crate) async fn models(&self) -> Result<Vec<ModelInfo>, UpstreamError> {
        match self.models_at("/api/models").await {
            Ok(models) => Ok(models),
            Err(error) if error.kind == UpstreamErrorKind::Challenged || error.source.is_some() => Err(error),
            Err(_) => self.models_at("/api/v2/models/").await,
        }
    }

    async fn models_at(&self, path: &str) -> Result<Vec<ModelInfo>, UpstreamError> {
        const DOING: &str = "listing models";
        let answer = self.call(DOING, Host::Web, Method::GET, path, Credential::None, None).await?;
        match failure(DOING, &answer) {
            Some(error) => Err(error),
            None => parse_catalogue(&answer.body).ok_or_else(|| UpstreamError::new(DOING, UpstreamErrorKind::Protocol)),
        }
    }

    /// Asks whether the session is accepted, by a call that changes nothing.
    ///
    /// # Errors
    /// [`UpstreamError`]: the reason of the refusal.
    pub(crate) async fn probe(&self, session: &Session) -> Result<(), UpstreamError> {
        const DOING: &str = "checking the account";
        let path = "/api/v2/users/user/settings";
        let answer = self.call(DOING, Host::Web, Method::GET, path, Credential::Full(session), None).await?;
        envelope(DOING, &answer).map(|_| ())
    }

    /// One short call, read to its end.
    pub(crate) async fn call(
        &self,
        doing: &'static str,
        host: Host,
        method: Method,
        path: &str,
        credential: Credential<'_>,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, UpstreamError> {
        let request = self.request(host, method, path, credential, body);
        let call = async {
            let name = if host == Host::Web { "web" } else { "auth" };
            let sent = CallLog::execute(&self.client, name, request).await;
            let response = sent.map_err(|error| UpstreamError::transport(doing, error))?;
            if let Some(session) = credential.session() {
                session.absorb(response.headers());
            }
            read(doing, response).await
        };
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => {
                if let Some(date) = answer.as_ref().ok().and_then(|answer| answer.date) {
                    self.skew.note(date, now());
                }
                answer
            }
            Err(_) => Err(UpstreamError::new(doing, UpstreamErrorKind::Timeout)),
        }
    }

    fn request(
        &self,
        host: Host,
        method: Method,
        path: &str,
        credential: Credential<'_>,
        body: Option<Vec<u8>>,
    ) -> reqwest::Request {
        let (base, headers) = match host {
            Host::Web => (&self.settings.web_base, &self.web_headers),
            Host::Auth => (&self.settings.auth_base, &self.auth_headers),
        };
        let mut request = reqwest::Request::new(method, joined(base, path));
        *request.headers_mut() = headers.clone();
        let headers = request.headers_mut();
        if let Ok(id) = HeaderValue::try_from(Uuid::new_v4().to_string()) {
            headers.insert("x-request-id", id);
        }
        if let Ok(moment) = HeaderValue::try_from(headers::timezone(now())) {
            headers.insert("timezone", moment);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(credential.session().and_then(Session::cookie_header).map(|value| (COOKIE, value)));
        if let Credential::Full(session) = credential {
            headers.extend(session.authorization().map(|value| (AUTHORIZATION, value)));
        }
        *request.body_mut() = body.map(reqwest::Body::from);
        request
    }
}

/// The body of a completion: one message, with fresh ids.
pub(crate) fn message_body(
    doing: &'static str,
    job: &WebRequest,
    files: &[FileRef],
    place: ChatPlace<'_>,
) -> Result<Vec<u8>, UpstreamError> {
    let fresh = || Uuid::new_v4().to_string();
    let ids = MessageIds { fid: fresh(), child: fresh(), files: files.iter().map(|_| [fresh(), fresh()]).collect() };
    encode::encode(job, files, place, &ids, now()).map_err(|_| UpstreamError::new(doing, UpstreamErrorKind::Protocol))
}

/// A base URL has no path, so joining an absolute path cannot fail; if it did, the base itself is asked.
fn joined(base: &Url, path: &str) -> Url {
    base.join(path).unwrap_or_else(|_| base.clone())
}

pub(crate) fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Whether an id of a chat or a task is safe in a path: letters, digits and dashes only.
pub(crate) fn is_chat_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_ids_cannot_lead_elsewhere() {
        assert!(is_chat_id("2fb2073a-54ff-4c92-87f6-bce70be16134"));
        for bad in ["", "a/b", "..", "a?b", "a b", &"x".repeat(200)] {
            assert!(!is_chat_id(bad), "{bad}");
        }
    }
}

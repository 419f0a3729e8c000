//! Videos: the upstream makes them in the background and is polled for them.

use http::Method;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use crate::base::session::Session;
use crate::sse::{SseDecoder, SseError};
use crate::upstream::classify::{Said, classify, classify_body};
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::answer::{Answer, envelope, is_missing, read};
use crate::upstream::web::client::{Credential, Host, QwenWeb, is_chat_id, message_body};
use crate::upstream::web::encode::{ChatPlace, FileRef};
use crate::upstream::web::request::WebRequest;

/// The state of a video task of the upstream.
pub(crate) enum TaskStatus {
    /// Not finished; the upstream tells no progress.
    Running,
    /// The video is finished.
    Done {
        /// The signed link to the video, http or https. It is a secret until it expires.
        url: String,
    },
    /// Given up by the upstream.
    Failed(Box<UpstreamError>),
}

impl std::fmt::Debug for TaskStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running => f.write_str("Running"),
            Self::Done { .. } => f.debug_struct("Done").finish_non_exhaustive(),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl QwenWeb {
    /// Sends a job for a video into a chat and gives the id of the task.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`UpstreamErrorKind::Protocol`] for an answer without a task.
    pub(crate) async fn start_video(
        &self,
        session: &Session,
        job: &WebRequest,
        files: &[FileRef],
        chat_id: &str,
        deadline: Instant,
    ) -> Result<String, UpstreamError> {
        let body = message_body(STARTING, job, files, ChatPlace { chat_id, parent_id: None })?;
        let response = Box::pin(self.complete(STARTING, session, chat_id, body, deadline)).await?;
        let answer = tokio::time::timeout_at(deadline, read(STARTING, response)).await;
        let answer = answer.map_err(|_| UpstreamError::new(STARTING, UpstreamErrorKind::Timeout))??;
        started(&answer)
    }

    /// Polls a task by the newer route, and by the older one if that is missing, fails, or does not know the task.
    ///
    /// # Errors
    /// [`UpstreamErrorKind::LostChat`] if neither route knows the task: it never existed, belongs to another account,
    /// or is too old. Any other [`UpstreamError`] does not tell about the task.
    pub(crate) async fn task_status(&self, session: &Session, task_id: &str) -> Result<TaskStatus, UpstreamError> {
        if !is_chat_id(task_id) {
            return Err(UpstreamError::new(FOLLOWING, UpstreamErrorKind::LostChat));
        }
        let mut first = None;
        for route in ["/api/v2/task/status", "/api/v1/tasks/status"] {
            let path = format!("{route}/{task_id}");
            let call = self.call(FOLLOWING, Host::Web, Method::GET, &path, Credential::Full(session), None);
            let looked = match call.await {
                Ok(answer) if is_missing(FOLLOWING, &answer) => continue,
                Ok(answer) => envelope(FOLLOWING, &answer).and_then(|value| status(&value)),
                Err(error) => Err(error),
            };
            match looked {
                // A failing route tells nothing about the other one.
                Err(error) if matches!(error.kind, UpstreamErrorKind::Unavailable | UpstreamErrorKind::Protocol) => {
                    first = first.or(Some(error));
                }
                looked => return looked,
            }
        }
        Err(first.unwrap_or_else(|| UpstreamError::new(FOLLOWING, UpstreamErrorKind::LostChat)))
    }

    /// The whole chat as the upstream keeps it, at most 8 MiB: what [`crate::upstream::web::detail`] reads.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`UpstreamErrorKind::LostChat`] when it is gone.
    pub(crate) async fn chat_detail(&self, session: &Session, chat_id: &str) -> Result<Value, UpstreamError> {
        const DOING: &str = "reading a chat";
        if !is_chat_id(chat_id) {
            return Err(UpstreamError::new(DOING, UpstreamErrorKind::LostChat));
        }
        let path = format!("/api/v2/chats/{chat_id}");
        let answer = self.call(DOING, Host::Web, Method::GET, &path, Credential::Full(session), None).await?;
        match envelope(DOING, &answer)? {
            Value::Object(mut value) if value.get("data").is_some_and(Value::is_object) => {
                Ok(value.remove("data").unwrap_or_default())
            }
            value => Ok(value),
        }
    }
}

/// The task of an answer. A failure may also come as the one frame of a stream that was not asked for.
fn started(answer: &Answer) -> Result<String, UpstreamError> {
    struct Framing;
    impl From<SseError> for Framing {
        fn from(_: SseError) -> Self {
            Self
        }
    }
    let unreadable = || UpstreamError::noted(STARTING, UpstreamErrorKind::Protocol, "the answer names no task");
    if !answer.body.trim_ascii_start().starts_with(b"data:") {
        return task_id(&envelope(STARTING, answer)?).ok_or_else(unreadable);
    }
    let mut outcome = None;
    let mut sse = SseDecoder::new();
    let mut look = |data: &[u8]| {
        let told = classify_body(STARTING, answer.status, "application/json", data).map(Err);
        let found = || serde_json::from_slice(data).ok().as_ref().and_then(task_id).map(Ok);
        outcome = outcome.take().or(told).or_else(found);
        Ok::<(), Framing>(())
    };
    // Broken framing after the id does no harm; before it, the answer has no task.
    let _ = sse.push(&answer.body, &mut look);
    let _ = sse.finish(&mut look);
    outcome.unwrap_or_else(|| Err(unreadable()))
}

/// The id at `data.messages[0].extra.wanx.task_id`, or at the other places where it was seen: other makers in `extra`, the
/// The id at `data.messages[0].extra.wanx.task_id`, or at another known place: other makers in `extra`, or the top.
fn task_id(value: &Value) -> Option<String> {
    let data = value.get("data").unwrap_or(value);
    let messages = data.get("messages").and_then(Value::as_array).into_iter().flatten();
    let extras = messages.filter_map(|message| message.get("extra")?.as_object());
    let makers = extras.flat_map(|extra| extra.get("wanx").into_iter().chain(extra.values()));
    let places = makers.chain([data, value]);
    let mut ids = places.filter_map(|place| place.get("task_id")?.as_str());
    ids.find(|id| is_chat_id(id)).map(str::to_owned)
}

/// `task_status`, in an envelope or flat.
fn status(value: &Value) -> Result<TaskStatus, UpstreamError> {
    let data = value.get("data").filter(|data| data.is_object()).unwrap_or(value);
    let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default().trim();
    let protocol = |note: &str| UpstreamError::noted(FOLLOWING, UpstreamErrorKind::Protocol, note);
    let word = [text("task_status"), text("status")].into_iter().find(|word| !word.is_empty()).unwrap_or_default();
    match word.to_ascii_lowercase().as_str() {
        "" => Err(protocol("the answer tells no state")),
        "running" | "pending" | "queued" | "queuing" | "waiting" | "processing" | "submitted" => {
            Ok(TaskStatus::Running)
        }
        "success" | "succeeded" => {
            let is_link = |url: &&str| Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            let url = [text("content"), text("url"), text("video_url")].into_iter().find(is_link);
            let url = url.ok_or_else(|| protocol("the result has no link"))?;
            Ok(TaskStatus::Done { url: url.to_owned() })
        }
        // No failure was ever recorded, so any other word is taken as one.
        _ => {
            let told = [text("message"), text("error_message"), text("content")];
            let told = told.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
            Ok(TaskStatus::Failed(Box::new(task_failure(text("code"), told))))
        }
    }
}

/// A task that failed. Only faults of the request and quotas are read from its text: the account was able to begin it.
fn task_failure(code: &str, told: &str) -> UpstreamError {
    use UpstreamErrorKind as Kind;
    let kind = match classify(200, &Said { code, details: told, hours: None }) {
        kind @ (Kind::ContentPolicy | Kind::InvalidRequest | Kind::QuotaExhausted { .. }) => kind,
        _ => Kind::Unavailable,
    };
    UpstreamError::told(MAKING, kind, code, told)
}

const STARTING: &str = "starting a video";
const MAKING: &str = "making a video";
const FOLLOWING: &str = "asking after a video";

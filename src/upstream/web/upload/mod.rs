//! Files on their way to the upstream: a credential for a few minutes, one `PUT` to the object storage, and for
//! documents a wait until the upstream has read them.
//!
//! The storage gets no cookie or token of the session, and the credential goes into headers only, never into logs.

mod blob_body;
mod sts;

use std::fmt;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use crate::base::session::Session;
use crate::files::attachment::{Attachment, MediaKind, UploadedFile};
use crate::upstream::call_log::CallLog;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::answer::{envelope, is_missing};
use crate::upstream::web::client::{Credential, Host, QwenWeb, now};
use crate::upstream::web::oss_sign::{self, Signable, UNSIGNED_PAYLOAD};
use crate::upstream::web::upload::blob_body::BlobBody;
use crate::upstream::web::upload::sts::StsCredential;
use crate::upstream::words::Quote;

/// An uploaded file, ready to go with a message.
pub(crate) struct Uploaded {
    /// The fields of its entry in a message.
    pub file: UploadedFile,
    /// Time for which its link may be put into a new message: the rest of its life, less half a minute for the upstream
    /// to follow it. Zero if that has passed.
    pub lives_for: Duration,
}

impl fmt::Debug for Uploaded {
    /// Without the link, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, lives_for } = self;
        let mut shown = f.debug_struct("Uploaded");
        shown.field("file_id", &file.file_id).field("lives_for", lives_for).finish_non_exhaustive()
    }
}

/// Waits of an upload; tests use shorter ones.
pub(crate) struct Pace {
    /// The wait before each further `PUT`; as many as there are, and a quarter more or less.
    pub(crate) backoff: [Duration; 2],
    /// Longest time without progress of the `PUT` in either direction.
    pub(crate) idle: Duration,
    /// First and longest wait between two polls of the parser.
    pub(crate) poll: (Duration, Duration),
    /// Longest time for the parser to finish.
    pub(crate) reading: Duration,
}

/// A whole `PUT` has no limit but the caller's deadline: a video of 500 MB may take long.
const PACE: Pace = Pace {
    backoff: [Duration::from_millis(250), Duration::from_secs(1)],
    idle: Duration::from_secs(60),
    poll: (Duration::from_millis(500), Duration::from_secs(1)),
    reading: Duration::from_secs(60),
};

impl QwenWeb {
    /// Uploads a file to the account of this session, and waits until the upstream can use it.
    ///
    /// The file belongs to that account. At most three tries of the `PUT`; everything ends at `deadline`.
    ///
    /// # Errors
    /// An [`UpstreamError`] whose `note` names the attachment where it is to blame:
    /// [`UpstreamErrorKind::Unavailable`] when the storage does not take it, [`UpstreamErrorKind::InvalidRequest`]
    /// when the upstream does not take it or cannot read it, [`UpstreamErrorKind::Timeout`] at the deadline or when
    /// a document is not read within a minute, [`UpstreamErrorKind::Protocol`] when the credential makes no sense or
    /// leads elsewhere; all others as for any call.
    pub(crate) async fn upload(
        &self,
        session: &Session,
        file: &Attachment,
        deadline: Instant,
    ) -> Result<Uploaded, UpstreamError> {
        self.upload_paced(session, file, deadline, &PACE).await
    }

    pub(crate) async fn upload_paced(
        &self,
        session: &Session,
        file: &Attachment,
        deadline: Instant,
        pace: &Pace,
    ) -> Result<Uploaded, UpstreamError> {
        let began = Instant::now();
        let whole = Box::pin(async {
            let sts = self.store(session, file, pace).await?;
            if file.kind == MediaKind::Document {
                self.have_read(session, file, &sts.file_id, pace).await?;
            }
            Ok(sts)
        });
        let sts = match timeout_at(deadline, whole).await {
            Ok(stored) => stored?,
            Err(_) => {
                return Err(failed(UPLOADING, UpstreamErrorKind::Timeout, file, "could not be handed over in time"));
            }
        };
        debug!(
            identity.id = %session.identity(),
            file.kind = file.kind.noun(),
            file.bytes = file.content.len(),
            duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "file handed over"
        );
        let user = sts.key.split_once('/').map(|(user, _)| user).filter(|user| *user != "anonymous");
        let lives_for = (sts.lent_at + sts.link_life).saturating_duration_since(Instant::now());
        let file = UploadedFile {
            user_id: user.map(str::to_owned),
            file_id: sts.file_id,
            url: sts.link,
            name: file.name.clone(),
            kind: file.kind,
            content_type: file.content_type.clone(),
            size: file.content.len(),
        };
        Ok(Uploaded { file, lives_for: lives_for.saturating_sub(LINK_MARGIN) })
    }

    /// Uploads the file to the storage, with retries where they can help.
    async fn store(&self, session: &Session, file: &Attachment, pace: &Pace) -> Result<StsCredential, UpstreamError> {
        let mut sts = self.lend(session, file).await?;
        let mut is_renewed = false;
        let mut waits = pace.backoff.iter();
        loop {
            let (error, remedy) = match self.put(&sts, file, pace).await {
                Ok(()) => return Ok(sts),
                Err(refused) => refused,
            };
            let is_hopeless = match remedy {
                Remedy::None => true,
                Remedy::Again => false,
                Remedy::NewCredential => std::mem::replace(&mut is_renewed, true),
            };
            let Some(wait) = waits.next().filter(|_| !is_hopeless) else {
                return Err(error);
            };
            sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            if remedy == Remedy::NewCredential {
                sts = self.lend(session, file).await?;
            }
        }
    }

    /// Asks for a credential, by the newer route or, where that is missing or out of order, by the older one.
    async fn lend(&self, session: &Session, file: &Attachment) -> Result<StsCredential, UpstreamError> {
        let kind = match file.kind {
            MediaKind::Image => "image",
            MediaKind::Video => "video",
            MediaKind::Audio => "audio",
            MediaKind::Document => "file",
        };
        // The site's page has sent the size as a string since 0.3.11; the upstream accepts numbers as well.
        let body = json!({"filename": file.name, "filesize": file.content.len().to_string(), "filetype": kind});
        let mut first = None;
        for path in ["/api/v2/files/getstsToken", "/api/v1/files/getstsToken"] {
            let body = Some(body.to_string().into());
            let error = match self.lend_by(path, session, file, body).await {
                Ok(Some(sts)) => return Ok(sts),
                Ok(None) => continue,
                Err(error) => error,
            };
            // A failing or unreadable route tells nothing about the other one, and no credential was spent yet.
            if !matches!(error.kind, UpstreamErrorKind::Unavailable | UpstreamErrorKind::Protocol) {
                return Err(error);
            }
            first = first.or(Some(error));
        }
        let missing =
            || UpstreamError::noted(LENDING, UpstreamErrorKind::Protocol, "the upstream has no route for uploads");
        Err(first.unwrap_or_else(missing))
    }

    /// A credential by one route; `None` if the upstream lacks that route.
    async fn lend_by(
        &self,
        path: &str,
        session: &Session,
        file: &Attachment,
        body: Option<Vec<u8>>,
    ) -> Result<Option<StsCredential>, UpstreamError> {
        let lent_at = Instant::now();
        let answer = self.call(LENDING, Host::Web, Method::POST, path, Credential::Full(session), body).await?;
        if is_missing(LENDING, &answer) {
            return Ok(None);
        }
        let value = envelope(LENDING, &answer).map_err(|error| blamed(error, file))?;
        let sts = StsCredential::parse(&value, self.settings.oss_base.as_ref(), lent_at);
        sts.map(Some).map_err(|what| UpstreamError::noted(LENDING, UpstreamErrorKind::Protocol, what))
    }

    /// One `PUT` of the whole file, without retry.
    async fn put(&self, sts: &StsCredential, file: &Attachment, pace: &Pace) -> Result<(), (UpstreamError, Remedy)> {
        let (progress, mut taken) = watch::channel(0);
        let body = BlobBody { blob: file.content.clone(), at: 0, reading: None, progress };
        let mut request = reqwest::Request::new(Method::PUT, sts.target.clone());
        *request.headers_mut() = self.storage_headers(sts, file);
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        // The path holds the account's id and the file's name, so it is not logged.
        let mut log = CallLog::begin("storage", &request, Some("/{object}"));
        let mut sending = Box::pin(self.storage.execute(request));
        let sent = loop {
            tokio::select! {
                sent = &mut sending => break sent,
                Ok(()) = taken.changed() => {}
                () = sleep(pace.idle) => {
                    let what = "could not be handed over (the storage stood still)";
                    return Err((failed(UPLOADING, UpstreamErrorKind::Unavailable, file, what), Remedy::Again));
                }
            }
        };
        log.answered(&sent);
        drop(log);
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                let what = "could not be handed over (the connection to the storage failed)";
                let source = UpstreamError::transport(UPLOADING, error).source;
                let error = UpstreamError { source, ..failed(UPLOADING, UpstreamErrorKind::Unavailable, file, what) };
                return Err((error, Remedy::Again));
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let remedy = match status.as_u16() {
            403 => Remedy::NewCredential,
            408 | 429 | 500.. => Remedy::Again,
            _ => Remedy::None,
        };
        // The storage explains refusals in a short XML document.
        let code = timeout(pace.idle.min(ERROR_READING), error_code(response)).await.ok().flatten().unwrap_or_default();
        let space = if code.is_empty() { "" } else { " " };
        let what = format!("could not be handed over (storage answered {}{space}{code})", status.as_u16());
        Err((failed(UPLOADING, UpstreamErrorKind::Unavailable, file, &what), remedy))
    }

    fn storage_headers(&self, sts: &StsCredential, file: &Attachment) -> HeaderMap {
        // The storage checks the signed time by its own clock, which is the upstream's.
        let at = now().plus(self.clock_skew().saturating_neg());
        let mut headers = HeaderMap::new();
        let content_type = HeaderValue::try_from(&file.content_type);
        let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(file.content.len()));
        headers.insert("x-oss-content-sha256", HeaderValue::from_static(UNSIGNED_PAYLOAD));
        headers.insert("x-oss-security-token", sts.security_token.clone());
        if let Ok(date) = HeaderValue::try_from(oss_sign::date(at)) {
            headers.insert("x-oss-date", date);
        }
        let signable = Signable {
            method: "PUT",
            bucket: &sts.bucket,
            key: &sts.key,
            query: &[],
            headers: &headers,
            additional: &[],
            region: &sts.region,
            at,
        };
        let authorization = oss_sign::authorization(&signable, &sts.access_key_id, &sts.access_key_secret);
        if let Ok(mut authorization) = HeaderValue::try_from(authorization) {
            authorization.set_sensitive(true);
            headers.insert(AUTHORIZATION, authorization);
        }
        headers.extend(self.web_headers.get(USER_AGENT).map(|value| (USER_AGENT, value.clone())));
        headers
    }

    /// Hands a document to the parser, and waits until it has finished.
    async fn have_read(
        &self,
        session: &Session,
        file: &Attachment,
        file_id: &str,
        pace: &Pace,
    ) -> Result<(), UpstreamError> {
        let ask = async |path: &str, body: Value| {
            let body = Some(body.to_string().into());
            let answer = self.call(READING, Host::Web, Method::POST, path, Credential::Full(session), body).await?;
            envelope(READING, &answer).map_err(|error| blamed(error, file))
        };
        ask("/api/v2/files/parse", json!({ "file_id": file_id })).await?;
        let end = Instant::now() + pace.reading;
        let (mut wait, longest) = pace.poll;
        let mut failures = 0;
        loop {
            match ask("/api/v2/files/parse/status", json!({ "file_id_list": [file_id] })).await {
                Ok(value) => match parse_state(&value, file_id) {
                    ParseState::Done => return Ok(()),
                    ParseState::Pending => failures = 0,
                    ParseState::Failed(quote) => {
                        let what = "could not be read by the upstream";
                        let error = failed(READING, UpstreamErrorKind::InvalidRequest, file, what);
                        return Err(UpstreamError { quote, ..error });
                    }
                },
                // A failed poll does not stop the parser.
                Err(error) if error.kind == UpstreamErrorKind::Unavailable && failures < POLL_FAILURES_MAX => {
                    failures += 1;
                }
                Err(error) => return Err(error),
            }
            if Instant::now() + wait > end {
                return Err(failed(READING, UpstreamErrorKind::Timeout, file, "was not read by the upstream in time"));
            }
            sleep(wait).await;
            wait = longest.min(wait + wait / 4);
        }
    }
}

/// The remedy after a failed `PUT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    None,
    Again,
    NewCredential,
}

enum ParseState {
    Pending,
    Done,
    Failed(Quote),
}

/// The state of one file: in a list, as an object, or flat.
fn parse_state(value: &Value, file_id: &str) -> ParseState {
    let data = value.get("data").unwrap_or(value);
    let entry = match data {
        Value::Array(entries) => {
            let is_ours = |entry: &&Value| entry.get("file_id").and_then(Value::as_str) == Some(file_id);
            entries.iter().find(is_ours)
        }
        other => Some(other),
    };
    let text = |name: &str| entry.and_then(|entry| entry.get(name)?.as_str()).unwrap_or_default();
    match text("status").trim().to_ascii_lowercase().as_str() {
        "success" | "succeeded" => ParseState::Done,
        "failed" | "failure" | "error" => ParseState::Failed(Quote::of(text("error_msg"))),
        _ => ParseState::Pending,
    }
}

/// The code in the storage's error document: letters and digits only, so that no secret can be part of it.
async fn error_code(response: reqwest::Response) -> Option<String> {
    let response: http::Response<reqwest::Body> = response.into();
    let body = Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await.ok()?.to_bytes();
    let text = std::str::from_utf8(&body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    (code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| code.to_owned())
}

fn failed(doing: &'static str, kind: UpstreamErrorKind, file: &Attachment, what: &str) -> UpstreamError {
    UpstreamError::noted(doing, kind, format!("{} {what}", file.at))
}

/// Adds the attachment's name to an error that is about it.
fn blamed(error: UpstreamError, file: &Attachment) -> UpstreamError {
    match error.kind {
        UpstreamErrorKind::InvalidRequest | UpstreamErrorKind::TooLarge | UpstreamErrorKind::ContentPolicy => {
            UpstreamError { note: format!("{} was not accepted", file.at), ..error }
        }
        _ => error,
    }
}

const LENDING: &str = "preparing an upload";

const UPLOADING: &str = "handing over a file";

const READING: &str = "having a file read";

/// Time that the upstream needs to follow a link.
const LINK_MARGIN: Duration = Duration::from_secs(30);

/// Most failed polls of the parser in a row.
const POLL_FAILURES_MAX: u32 = 2;

/// Most bytes read of the storage's error document; the next constant is the time for it.
const ERROR_BYTES_MAX: usize = 16 * 1024;

const ERROR_READING: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;

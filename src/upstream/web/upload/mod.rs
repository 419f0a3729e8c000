//! Files on their way to the upstream: a credential for a few minutes, one `PUT` to the object storage, and for
//! documents a wait until the upstream has read them.
//!
//! The storage gets nothing of the session, and nothing of the credential is ever shown: it goes into headers only.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;
use url::Url;

use crate::base::session::Session;
use crate::files::attachment::{Attachment, MediaKind, UploadedFile};
use crate::files::blob::Blob;
use crate::upstream::call_log::CallLog;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::client::{Credential, Host, QwenWeb, envelope, is_chat_id, is_missing, now};
use crate::upstream::web::oss_sign::{self, Signable, UNSIGNED_PAYLOAD};
use crate::upstream::words::Quote;

/// A file that the upstream has.
pub(crate) struct Uploaded {
    /// How the upstream names it.
    pub file: UploadedFile,
    /// How much longer its link may be put into a new message: what is left of its life, less half a minute for the
    /// upstream to follow it. Zero when that is over already.
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

/// How patient an upload is. Tests are less so.
pub(crate) struct Pace {
    /// The wait before each further `PUT`; as many as there are, and a quarter more or less.
    pub(crate) backoff: [Duration; 2],
    /// How long the storage may take nothing and say nothing.
    pub(crate) idle: Duration,
    /// The first and the longest wait between two questions whether a document is read.
    pub(crate) poll: (Duration, Duration),
    /// How long the upstream may read.
    pub(crate) reading: Duration,
}

/// There is no limit for a whole `PUT` but the caller's deadline: a video of 500 MB may take its time.
const PACE: Pace = Pace {
    backoff: [Duration::from_millis(250), Duration::from_secs(1)],
    idle: Duration::from_secs(60),
    poll: (Duration::from_millis(500), Duration::from_secs(1)),
    reading: Duration::from_secs(60),
};

impl QwenWeb {
    /// Hands a file over to the account of this session, and waits until the upstream can use it.
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

    /// Puts the file into the storage, again where that can help.
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
        // The frontend has sent the size as a string since 0.3.11; both are accepted.
        let body = json!({"filename": file.name, "filesize": file.content.len().to_string(), "filetype": kind});
        let mut first = None;
        for path in ["/api/v2/files/getstsToken", "/api/v1/files/getstsToken"] {
            let body = Some(body.to_string().into());
            let error = match self.lend_by(path, session, file, body).await {
                Ok(Some(sts)) => return Ok(sts),
                Ok(None) => continue,
                Err(error) => error,
            };
            // A route that fails, or says what cannot be read, says nothing of the other one; nothing was spent yet.
            if !matches!(error.kind, UpstreamErrorKind::Unavailable | UpstreamErrorKind::Protocol) {
                return Err(error);
            }
            first = first.or(Some(error));
        }
        let missing =
            || UpstreamError::noted(LENDING, UpstreamErrorKind::Protocol, "the upstream has no route for uploads");
        Err(first.unwrap_or_else(missing))
    }

    /// A credential by one route; `None` where there is no such route.
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

    /// One try.
    async fn put(&self, sts: &StsCredential, file: &Attachment, pace: &Pace) -> Result<(), (UpstreamError, Remedy)> {
        let (progress, mut taken) = watch::channel(0);
        let body = BlobBody { blob: file.content.clone(), at: 0, reading: None, progress };
        let mut request = reqwest::Request::new(Method::PUT, sts.target.clone());
        *request.headers_mut() = self.storage_headers(sts, file);
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        // The path tells the account and the file's name.
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
        // The storage says what it minds in a short XML document.
        let code = timeout(pace.idle.min(ERROR_READING), error_code(response)).await.ok().flatten().unwrap_or_default();
        let space = if code.is_empty() { "" } else { " " };
        let what = format!("could not be handed over (storage answered {}{space}{code})", status.as_u16());
        Err((failed(UPLOADING, UpstreamErrorKind::Unavailable, file, &what), remedy))
    }

    fn storage_headers(&self, sts: &StsCredential, file: &Attachment) -> HeaderMap {
        let at = now();
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

    /// Has the upstream read a document, and waits until it has.
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
                // The document is being read whether or not one question about it is answered.
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

/// What may help after a `PUT` that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    None,
    Again,
    NewCredential,
}

/// The right to put one object into the storage, for a few minutes. Cannot be printed.
struct StsCredential {
    access_key_id: String,
    access_key_secret: SecretString,
    security_token: HeaderValue,
    bucket: String,
    region: String,
    /// The object's key, not encoded.
    key: String,
    /// Where to put it.
    target: Url,
    file_id: String,
    /// What the upstream later finds the file by.
    link: String,
    /// How long the link lives from `lent_at` on.
    link_life: Duration,
    lent_at: Instant,
}

impl StsCredential {
    /// Reads an answer, in an envelope or flat; the error says what is wrong with it and shows nothing of it.
    fn parse(value: &Value, oss_base: Option<&Url>, lent_at: Instant) -> Result<Self, &'static str> {
        let data = value.get("data").filter(|data| data.is_object()).unwrap_or(value);
        let text = |names: &[&str], missing: &'static str| {
            let found = names.iter().find_map(|name| data.get(name)?.as_str()).map(str::trim);
            found.filter(|text| !text.is_empty()).ok_or(missing)
        };
        let access_key_id = text(&["access_key_id"], "the upload credential has no key id")?;
        if !access_key_id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b',') {
            return Err("the upload credential's key id is odd");
        }
        let access_key_secret = text(&["access_key_secret"], "the upload credential has no secret")?;
        let security_token = text(&["security_token"], "the upload credential has no token")?;
        let mut security_token =
            HeaderValue::try_from(security_token).map_err(|_| "the upload credential's token fits no header")?;
        security_token.set_sensitive(true);
        let file_id = text(&["file_id"], "the upload credential has no file id")?;
        if !is_chat_id(file_id) {
            return Err("the upload credential's file id is odd");
        }
        let key = text(&["file_path"], "the upload credential has no path")?;
        let key = key.strip_prefix('/').unwrap_or(key);
        if !is_object_key(key) {
            return Err("the upload credential's path is not safe");
        }
        let bucket = text(&["bucketname", "bucket"], "the upload credential has no bucket")?;
        if !is_label(bucket) || !(3..=63).contains(&bucket.len()) {
            return Err("the upload credential's bucket is no name of one");
        }
        let region = text(&["region"], "").unwrap_or(REGION);
        let region = region.strip_prefix("oss-").unwrap_or(region);
        if !is_label(region) {
            return Err("the upload credential's region is odd");
        }
        let mut target = match oss_base {
            Some(base) => base.clone(),
            None => storage_host(bucket, text(&["endpoint"], "the upload credential has no endpoint")?)?,
        };
        let base_path = target.path().trim_end_matches('/').to_owned();
        target.set_path(&format!("{base_path}/{}", oss_sign::key_path(key)));
        let link = text(&["file_url"], "the upload credential has no link to the file")?;
        let parsed = Url::parse(link).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let link_life = link_life(&parsed.ok_or("the link to the file is none")?);
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            access_key_secret: SecretString::from(access_key_secret),
            security_token,
            bucket: bucket.to_owned(),
            region: region.to_owned(),
            key: key.to_owned(),
            target,
            file_id: file_id.to_owned(),
            link: link.to_owned(),
            link_life,
            lent_at,
        })
    }
}

/// The root of the bucket: https, on a host of `aliyuncs.com`, and nothing else.
fn storage_host(bucket: &str, endpoint: &str) -> Result<Url, &'static str> {
    const ELSEWHERE: &str = "the upload credential leads to a host that is not the storage's";
    let host = endpoint.strip_prefix("https://").unwrap_or(endpoint).trim_end_matches('/');
    let host = host.strip_prefix(bucket).and_then(|rest| rest.strip_prefix('.')).unwrap_or(host);
    // Labels only: what could be a port, a path or a user is not even looked at.
    let is_storage = host.strip_suffix(".aliyuncs.com").is_some_and(|name| name.split('.').all(is_label));
    if !is_storage {
        return Err(ELSEWHERE);
    }
    Url::parse(&format!("https://{bucket}.{host}/")).map_err(|_| ELSEWHERE)
}

fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A key that stays the key it is on its way through URLs.
fn is_object_key(key: &str) -> bool {
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
    let is_plain = |c: char| !c.is_control() && c != '\\';
    key.len() <= 1023 && key.split('/').all(is_segment) && key.chars().all(is_plain)
}

/// How long a signed link lives, from its own words.
fn link_life(link: &Url) -> Duration {
    let told = link.query_pairs().find(|(name, _)| name == "x-oss-expires").and_then(|(_, value)| value.parse().ok());
    Duration::from_secs(told.unwrap_or(LINK_LIFE_SECONDS)).min(LINK_LIFE_MAX)
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

/// The code in the storage's error document: letters and digits only, so that nothing else of it gets out.
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

/// Says which attachment it was, where that is what the error is about.
fn blamed(error: UpstreamError, file: &Attachment) -> UpstreamError {
    match error.kind {
        UpstreamErrorKind::InvalidRequest | UpstreamErrorKind::TooLarge | UpstreamErrorKind::ContentPolicy => {
            UpstreamError { note: format!("{} was not accepted", file.at), ..error }
        }
        _ => error,
    }
}

/// The bytes of a blob as a body: one chunk in memory at a time, however large it is. A file is read by a blocking
/// thread, and only when the connection has taken what came before.
struct BlobBody {
    blob: Blob,
    at: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// How many bytes the connection has asked for.
    progress: watch::Sender<u64>,
}

impl Body for BlobBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.at >= this.blob.len() {
            return Poll::Ready(None);
        }
        let chunk = match this.blob.in_memory() {
            Some(bytes) => {
                let start = usize::try_from(this.at).unwrap_or(bytes.len()).min(bytes.len());
                bytes.slice(start..bytes.len().min(start + CHUNK_BYTES))
            }
            None => {
                let (blob, at) = (&this.blob, this.at);
                let reading = this.reading.get_or_insert_with(|| {
                    let blob = blob.clone();
                    tokio::task::spawn_blocking(move || {
                        let mut chunk = vec![0; CHUNK_BYTES];
                        let count = blob.read_at(at, &mut chunk)?;
                        chunk.truncate(count);
                        Ok(Bytes::from(chunk))
                    })
                });
                let read = ready!(Pin::new(reading).poll(cx));
                this.reading = None;
                read.map_err(io::Error::other)??
            }
        };
        if chunk.is_empty() {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        this.at += chunk.len() as u64;
        this.progress.send_replace(this.at);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.blob.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.blob.len().saturating_sub(self.at))
    }
}

const LENDING: &str = "preparing an upload";
const UPLOADING: &str = "handing over a file";
const READING: &str = "having a file read";
/// How much of a file is in memory at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// Where the upstream's storage is, if the credential does not tell.
const REGION: &str = "ap-southeast-1";
/// How long a link lives that does not tell.
const LINK_LIFE_SECONDS: u64 = 300;
/// What is believed of a link that tells.
const LINK_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// What the upstream gets to follow a link.
const LINK_MARGIN: Duration = Duration::from_secs(30);
/// How many questions in a row about a document may fail.
const POLL_FAILURES_MAX: u32 = 2;
/// The most that is read of the storage's error document, and for how long.
const ERROR_BYTES_MAX: usize = 16 * 1024;
const ERROR_READING: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;

//! Fetches media from other servers: what a caller's request points to, and results of the upstream.
//!
//! This client alone connects to addresses that strangers choose, so it carries no cookie, no credential and no referer
//! and uses no proxy. [`crate::upstream::media::guard`] decides what it may reach, once for the URL and once more for
//! every address that a name resolves to; it connects to exactly those addresses.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED,
    LOCATION, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::timeout;
use tracing::{debug, warn};
use url::{Position, Url};

use crate::base::live::Live;
use crate::files::blob::{Blob, BlobWriter};
use crate::telemetry::ErrorChain;
use crate::upstream::media::guard::{NOT_PUBLIC, Reach, follow, is_public, permit};
use crate::upstream::settings::{HostRule, MediaFetch};
use crate::upstream::web::client::WebClientError;

/// Time limit for fetching a picture, a sound or a document as a whole.
pub(crate) const WHOLE: Duration = Duration::from_secs(30);
/// Time limit for fetching a video as a whole.
pub(crate) const WHOLE_VIDEO: Duration = Duration::from_secs(300);

/// Host from which the upstream serves the pictures and videos that it made.
const RESULTS_HOST: &str = "cdn.qwenlm.ai";
/// Path of results on that host, part of what their links are signed with.
const RESULTS_PATH: &str = "/output/";
const RESULTS_KEY: &str = "key";

/// The client for media. Make one and keep it; its methods keep no connection.
#[derive(Debug)]
pub(crate) struct MediaFetcher {
    /// Addresses that callers may name (`MEDIA_FETCH`).
    callers: Live<MediaFetch>,
    /// Addresses that the upstream may name.
    results: MediaFetch,
    /// Connects to public addresses only.
    guarded: reqwest::Client,
    /// Connects to hosts that the owner named.
    trusting: reqwest::Client,
}

/// A file that was fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Its bytes, in memory or in a nameless file.
    pub content: Blob,
    /// The last part of the URL's path: letters, digits, `.`, `-` and `_`, at most 128 characters, no dot in front.
    pub name: Option<String>,
}

/// A result on its way, to be streamed on.
#[derive(Debug)]
pub(crate) struct OpenResult {
    /// HTTP status: 200, 206 or 416.
    pub status: StatusCode,
    /// Type, length and range, entity tag and date, as far as the server gave them; nothing else.
    pub headers: HeaderMap,
    /// The bytes, not decoded. Ends with an error after 10 s without any.
    pub body: reqwest::Body,
}

/// Reasons why a fetch failed. The text is for logs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The rules of this client forbid the address or the content.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// No connection, or it broke.
    #[error("cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The content is larger than allowed.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// Most bytes that were allowed.
        limit: u64,
    },
    /// Too slow: to connect, between two chunks, or as a whole.
    #[error("did not answer in time")]
    Timeout,
    /// The server answered with a status that is not a success.
    #[error("answered {0}")]
    Status(u16),
    /// The spool directory refused to keep the content.
    #[error("cannot keep what was fetched")]
    Spool(#[source] io::Error),
}

/// Time limits for the other server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) connect: Duration,
    pub(crate) idle: Duration,
}

impl MediaFetcher {
    /// A client. `own_hosts` are host and port of the upstream, which may be a simulator on this machine: only results
    /// may come from there, even if callers name it.
    ///
    /// # Errors
    /// [`WebClientError`].
    pub(crate) fn new(callers: MediaFetch, own_hosts: &[(String, u16)]) -> Result<Self, WebClientError> {
        Self::with_patience(callers, own_hosts, Patience { connect: CONNECT_TIMEOUT, idle: IDLE_TIMEOUT })
    }

    pub(crate) fn with_patience(
        callers: MediaFetch,
        own_hosts: &[(String, u16)],
        patience: Patience,
    ) -> Result<Self, WebClientError> {
        let hosts = own_hosts.iter().filter_map(|(host, port)| HostRule::exact(host, *port)).collect();
        let client = |reach: Reach| {
            let plain = || builder(patience, reach);
            plain().build().or_else(|error| {
                // A machine without certificates can still fetch without TLS; the main client says more about it.
                warn!(error = %ErrorChain(&error), "media cannot be fetched by https");
                plain().tls_certs_only([]).build().map_err(WebClientError::Client)
            })
        };
        Ok(Self {
            callers: Live::new(callers),
            results: MediaFetch { is_public: true, hosts },
            guarded: client(Reach::Public)?,
            trusting: client(Reach::Anywhere)?,
        })
    }

    /// Addresses that callers may name, to be changed while the server runs.
    #[must_use]
    pub(crate) fn callers(&self) -> &Live<MediaFetch> {
        &self.callers
    }

    /// Whether a URL is one from which the upstream serves results. The upstream can read such a file itself.
    #[must_use]
    pub(crate) fn is_own_link(&self, url: &str) -> bool {
        let Ok(url) = Url::parse(url) else {
            return false;
        };
        let Some((host, port)) = url.host().zip(url.port_or_known_default()) else {
            return false;
        };
        let is_storage = url.scheme() == "https" && matches!(host, url::Host::Domain(RESULTS_HOST));
        // The host of the web chat serves more than results, and a link to a result goes to the upstream unread.
        let is_result =
            || url.path().starts_with(RESULTS_PATH) || url.query_pairs().any(|(name, _)| name == RESULTS_KEY);
        is_storage || (self.results.hosts.iter().any(|rule| rule.names(&host, port)) && is_result())
    }

    /// Fetches what a caller's request points to, at most `limit` bytes within `whole`. Large content goes to a
    /// nameless file in `spool_dir`.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) async fn fetch(
        &self,
        url: &str,
        limit: u64,
        spool_dir: &Path,
        whole: Duration,
    ) -> Result<Fetched, FetchError> {
        let fetching = Box::pin(async {
            let response = self.get(&self.callers.now(), url, None).await?;
            let mut chunks = Chunks::new(response, limit)?;
            let mut spool = Spool { writer: Some(BlobWriter::new(spool_dir)), waiting: BytesMut::new() };
            while let Some(chunk) = chunks.next().await? {
                spool.push(&chunk).await?;
            }
            Ok(Fetched { content: spool.finish().await?, name: name(url) })
        });
        logged(url, timeout(whole, fetching).await.unwrap_or(Err(FetchError::Timeout)))
    }

    /// Fetches a picture that the upstream made, at most `limit` bytes within [`WHOLE`], into memory.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) async fn fetch_result(&self, url: &str, limit: u64) -> Result<Bytes, FetchError> {
        let fetching = Box::pin(async {
            let response = self.get(&self.results, url, None).await?;
            let mut chunks = Chunks::new(response, limit)?;
            let mut content = BytesMut::new();
            while let Some(chunk) = chunks.next().await? {
                content.extend_from_slice(&chunk);
            }
            Ok(content.freeze())
        });
        logged(url, timeout(WHOLE, fetching).await.unwrap_or(Err(FetchError::Timeout)))
    }

    /// Opens a result, or the `range` of it, to stream it on. Its head has to come within [`WHOLE`].
    ///
    /// # Errors
    /// [`FetchError`]; any status but 200, 206 and 416 is an error.
    pub(crate) async fn open_result(&self, url: &str, range: Option<&HeaderValue>) -> Result<OpenResult, FetchError> {
        let opening = Box::pin(self.get(&self.results, url, range));
        let response = logged(url, timeout(WHOLE, opening).await.unwrap_or(Err(FetchError::Timeout)))?;
        let (head, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        // Storages may answer 200 with a page when a link has expired.
        let is_page = |found: String| {
            let found = found.to_ascii_lowercase();
            found.starts_with("text/") || found.starts_with("application/json") || found.starts_with("application/xml")
        };
        if head.status.is_success() && content_type(&head.headers).is_some_and(is_page) {
            return Err(FetchError::Refused("the result is a page"));
        }
        let passed = |name: &HeaderName| head.headers.get(name).map(|value| (name.clone(), value.clone()));
        Ok(OpenResult { status: head.status, headers: PASSED_ON.iter().filter_map(passed).collect(), body })
    }

    /// A good answer, after at most [`REDIRECTS_MAX`] redirects.
    async fn get(
        &self,
        rules: &MediaFetch,
        url: &str,
        range: Option<&HeaderValue>,
    ) -> Result<reqwest::Response, FetchError> {
        let (mut url, mut reach) = permit(rules, url).map_err(FetchError::Refused)?;
        for _ in 0..=REDIRECTS_MAX {
            let client = match reach {
                Reach::Public => &self.guarded,
                Reach::Anywhere => &self.trusting,
            };
            let mut request = reqwest::Request::new(Method::GET, url.clone());
            request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            request.headers_mut().extend(range.map(|range| (RANGE, range.clone())));
            let response = client.execute(request).await.map_err(broken)?;
            let status = response.status();
            let location = response.headers().get(LOCATION).filter(|_| status.is_redirection());
            if let Some(location) = location {
                let location = location.to_str().map_err(|_| FetchError::Refused("the redirect cannot be read"))?;
                (url, reach) = follow(rules, &url, location).map_err(FetchError::Refused)?;
                continue;
            }
            let is_ranged = matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE);
            if status != StatusCode::OK && !(range.is_some() && is_ranged) {
                return Err(FetchError::Status(status.as_u16()));
            }
            let mut encodings = response.headers().get_all(CONTENT_ENCODING).iter();
            if encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
                return Err(FetchError::Refused("the content is encoded, though that was not asked for"));
            }
            return Ok(response);
        }
        Err(FetchError::Refused("too many redirects"))
    }
}

fn builder(patience: Patience, reach: Reach) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // A proxy would resolve names by itself, past every check.
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .connect_timeout(patience.connect)
        .read_timeout(patience.idle)
        .pool_max_idle_per_host(0);
    match reach {
        Reach::Public => builder.dns_resolver(PublicOnly),
        Reach::Anywhere => builder,
    }
}

/// Resolves names and refuses those that lead to other than public addresses.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(all_public(found)?.into_iter()) as Addrs)
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the name leads to an address that is not a public one")]
struct NotPublic;

/// One non-public address refuses the whole name: an honest name server has no reason to mix them.
fn all_public(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, NotPublic> {
    if found.iter().all(|address| is_public(address.ip())) { Ok(found) } else { Err(NotPublic) }
}

/// Classifies a failed call, without its URL.
fn broken(error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    let mut cause: Option<&dyn Error> = Some(&error);
    while let Some(inner) = cause {
        if inner.is::<NotPublic>() {
            return FetchError::Refused(NOT_PUBLIC);
        }
        cause = inner.source();
    }
    if error.is_timeout() { FetchError::Timeout } else { FetchError::Unreachable(error) }
}

/// The chunks of a body, as long as they are within the limit, even if the server tells another length.
struct Chunks {
    response: reqwest::Response,
    limit: u64,
    left: u64,
}

impl Chunks {
    fn new(response: reqwest::Response, limit: u64) -> Result<Self, FetchError> {
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(FetchError::TooLarge { limit });
        }
        Ok(Self { response, limit, left: limit })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let Some(chunk) = self.response.chunk().await.map_err(broken)? else {
            return Ok(None);
        };
        let left = self.left.checked_sub(chunk.len() as u64);
        self.left = left.ok_or(FetchError::TooLarge { limit: self.limit })?;
        Ok(Some(chunk))
    }
}

/// Writes to a blob on a blocking thread, many chunks at a time.
struct Spool {
    /// `None` only while a write is under way.
    writer: Option<BlobWriter>,
    waiting: BytesMut,
}

impl Spool {
    async fn push(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        self.waiting.extend_from_slice(chunk);
        if self.waiting.len() < SPOOL_BYTES { Ok(()) } else { self.write().await }
    }

    async fn write(&mut self) -> Result<(), FetchError> {
        let chunk = self.waiting.split();
        let Some(mut writer) = self.writer.take() else {
            return Err(FetchError::Spool(io::ErrorKind::BrokenPipe.into()));
        };
        let written = tokio::task::spawn_blocking(move || writer.push(&chunk).map(|()| writer)).await;
        let writer = written.map_err(io::Error::other).flatten().map_err(FetchError::Spool)?;
        self.writer = Some(writer);
        Ok(())
    }

    async fn finish(mut self) -> Result<Blob, FetchError> {
        self.write().await?;
        self.writer.map(BlobWriter::finish).ok_or_else(|| FetchError::Spool(io::ErrorKind::BrokenPipe.into()))
    }
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= 255).then(|| text.to_owned())
}

/// The last part of a URL's path as a file name that is safe everywhere.
fn name(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let segment = url.path_segments()?.next_back()?;
    let decoded = percent_decode_str(segment).decode_utf8_lossy();
    let kept = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let name: String = decoded.trim_start_matches('.').chars().take(NAME_CHARS_MAX).map(kept).collect();
    name.chars().any(char::is_alphanumeric).then_some(name)
}

/// Logs the reason and the host. Paths identify accounts, and with some services they are keys.
fn logged<T>(url: &str, outcome: Result<T, FetchError>) -> Result<T, FetchError> {
    if let Err(error) = &outcome {
        let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let host = url.as_ref().map_or("", |url| &url[Position::BeforeHost..Position::AfterPort]);
        let host = host.chars().take(200).collect::<String>();
        debug!(media.host = ?host, error = %ErrorChain(error), "media not fetched");
    }
    outcome
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const REDIRECTS_MAX: usize = 3;
/// Bytes collected before each write to disk.
const SPOOL_BYTES: usize = 256 * 1024;
const NAME_CHARS_MAX: usize = 128;
/// Headers of a result that are passed on.
const PASSED_ON: [HeaderName; 6] = [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_RANGE, ACCEPT_RANGES, ETAG, LAST_MODIFIED];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_private_address_spoils_all() {
        let check = |addresses: &[&str], expected: bool| {
            let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let checked = all_public(addresses.clone());
            assert_eq!(checked.is_ok_and(|checked| checked == addresses), expected, "{addresses:?}");
        };
        check(&["8.8.8.8:0", "[2606:4700::1]:0"], true);
        check(&["8.8.8.8:0", "127.0.0.1:0"], false);
        check(&["[::1]:0", "8.8.8.8:0"], false);
        check(&["8.8.8.8:0", "[::ffff:10.0.0.1]:0"], false);
    }

    /// `localhost` is refused by its name long before, but no other name is sure to lead to this machine.
    #[tokio::test]
    async fn names_are_refused_by_their_addresses() {
        let fetcher = MediaFetcher::new(MediaFetch::parse("public").unwrap(), &[]).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let error = fetcher.guarded.get(url).send().await.unwrap_err();
        assert_eq!(broken(error).to_string(), "refused: the address is not a public one");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "no connection was made");
    }

    #[test]
    fn names() {
        let check = |url: &str, expected: Option<&str>| assert_eq!(name(url).as_deref(), expected, "{url}");
        check("http://a.b/c/d.png?e=f.gif#g", Some("d.png"));
        check("http://a.b/%C3%A4%2F..%2Fx%00.png", Some("ä_.._x_.png"));
        check("http://a.b/%2e%2e%2e.htaccess", Some("htaccess"));
        check("http://a.b/", None);
        check("http://a.b/c/", None);
        check("http://a.b/---", None);
        check(&format!("http://a.b/{}", "x".repeat(300)), Some(&"x".repeat(128)));
    }
}

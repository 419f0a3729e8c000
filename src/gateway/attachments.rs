//! Files of a request: fetched and checked before an account is asked, handed over to the account that answers.
//!
//! A file belongs to the account that uploaded it, so each attempt hands over anew; the same bytes go to the same
//! account once, for as long as the upstream's link to them lives.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tracing::debug;

use crate::base::ids::CredentialKey;
use crate::base::live::Live;
use crate::base::session::Session;
use crate::chat::error::{RequestError, RequestErrorKind};
use crate::chat::file_part::file_error;
use crate::files::attachment::{Attachment, FileFault, JobFile, RemoteFile, UploadedFile};
use crate::files::blob::ContentHash;
use crate::files::media_type::{MediaKind, MediaType};
use crate::upstream::MediaFetch;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::media::fetch::{FetchError, MediaFetcher, OpenResult, WHOLE, WHOLE_VIDEO};
use crate::upstream::web::client::QwenWeb;
use crate::upstream::web::encode::FileRef;

/// Uploads that are remembered; of more, those that end first are forgotten.
const KEPT_MAX: usize = 1024;
/// The most bytes of a picture that the upstream made.
const RESULT_BYTES_MAX: u64 = 64_000_000;
/// Bytes of a result that tell its type.
const HEAD_BYTES: usize = 8192;

/// Fetches and hands over files. Clones share what is remembered.
#[derive(Clone)]
pub(crate) struct Attachments(Arc<Shared>);

struct Shared {
    upstream: Arc<QwenWeb>,
    fetcher: Arc<MediaFetcher>,
    /// Folder for large files while they pass through.
    spool: PathBuf,
    kept: Mutex<HashMap<Key, Arc<OnceCell<Kept>>>>,
}

/// The same bytes in the same account.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key(CredentialKey, ContentHash, MediaKind);

struct Kept {
    file: UploadedFile,
    until: Instant,
}

impl Attachments {
    /// Files that pass through `spool` on their way.
    #[must_use]
    pub(crate) fn new(upstream: Arc<QwenWeb>, fetcher: Arc<MediaFetcher>, spool: PathBuf) -> Self {
        Self(Arc::new(Shared { upstream, fetcher, spool, kept: Mutex::default() }))
    }

    /// Addresses whose files are fetched for callers, to be changed while the server runs.
    #[must_use]
    pub(crate) fn fetched_for_callers(&self) -> &Live<MediaFetch> {
        self.0.fetcher.callers()
    }

    /// Fetches what a request names by its address, all at once, and checks it. Links of the upstream itself stay.
    ///
    /// # Errors
    /// The first file, in order, that cannot be had or used. Nothing was uploaded.
    pub(crate) async fn gather(&self, files: Vec<JobFile>) -> Result<Vec<JobFile>, RequestError> {
        let gathered = join_all(files.into_iter().map(|file| async {
            match file {
                JobFile::Remote(file) if self.0.fetcher.is_own_link(&file.url) && file.kind == MediaKind::Image => {
                    Ok(JobFile::Link(file))
                }
                JobFile::Remote(file) => self.fetch(&file).await.map(JobFile::Ready),
                ready @ (JobFile::Ready(_) | JobFile::Link(_)) => Ok(ready),
            }
        }));
        gathered.await.into_iter().collect()
    }

    async fn fetch(&self, file: &RemoteFile) -> Result<Attachment, RequestError> {
        let RemoteFile { at, label, kind, url } = file;
        let whole = if *kind == MediaKind::Video { WHOLE_VIDEO } else { WHOLE };
        // A caller must not learn whether something answers at an address, or what.
        let useless = || {
            let noun = kind.noun();
            let message = format!(
                "The {noun} in '{at}' cannot be fetched from its address; it has to be public, answer within the time, \
                 and be a file of that kind. You can send the file itself as a data URI."
            );
            RequestError::new(RequestErrorKind::FileUnreachable, at, message)
        };
        let fetched = self.0.fetcher.fetch(url, kind.bytes_max(), &self.0.spool, whole).await;
        let fetched = fetched.map_err(|error| match error {
            FetchError::TooLarge { limit } => file_error(at, *kind, &FileFault::TooLarge(limit)),
            _ => useless(),
        })?;
        let label = match kind {
            // The name tells a reader more than a number.
            MediaKind::Document => fetched.name.as_deref().unwrap_or(label),
            MediaKind::Image | MediaKind::Video | MediaKind::Audio => label,
        };
        // The head of a file on the disk is read here; that takes a page of memory for files of any size.
        Attachment::check(at, label, *kind, fetched.content).map_err(|fault| match fault {
            FileFault::TooLarge(_) | FileFault::TooManyPixels(..) => file_error(at, *kind, &fault),
            FileFault::Empty | FileFault::Unsupported(_) | FileFault::Broken => {
                debug!(media.at = at, ?fault, "what was fetched cannot be used");
                useless()
            }
        })
    }

    /// Fetches a picture that the upstream made.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) async fn result(&self, url: &str) -> Result<Bytes, FetchError> {
        let result = self.0.fetcher.fetch_result(url, RESULT_BYTES_MAX).await?;
        // Storages answer 200 with a page, or with nothing, when a link has expired.
        let head = result.get(..result.len().min(HEAD_BYTES)).unwrap_or_default();
        match MediaType::of_bytes(head, "") {
            Some(MediaType { kind: MediaKind::Image, .. }) => Ok(result),
            _ => Err(FetchError::Refused("the result is not a picture")),
        }
    }

    /// Whether an address is one under which the upstream gives out what it made.
    pub(crate) fn is_own_link(&self, url: &str) -> bool {
        self.0.fetcher.is_own_link(url)
    }

    /// Opens what the upstream made, or a `range` of it, to be streamed on.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) async fn open_result(&self, url: &str, range: Option<&HeaderValue>) -> Result<OpenResult, FetchError> {
        self.0.fetcher.open_result(url, range).await
    }

    /// Hands the files over to the account of this session, all at once.
    ///
    /// # Errors
    /// [`UpstreamError`] of the first that fails, marked as that of an upload.
    pub(crate) async fn hand_over(
        &self,
        session: &Session,
        files: &[JobFile],
        is_pooled: bool,
        deadline: Instant,
    ) -> Result<Vec<FileRef>, UpstreamError> {
        let handed = try_join_all(files.iter().map(|file| async move {
            match file {
                JobFile::Ready(file) if is_pooled => self.once(session, file, deadline).await.map(FileRef::Uploaded),
                // Uploads to a caller's own account are not remembered.
                JobFile::Ready(file) => {
                    self.0.upstream.upload(session, file, deadline).await.map(|it| FileRef::Uploaded(it.file))
                }
                JobFile::Link(link) => Ok(FileRef::Link(link.clone())),
                JobFile::Remote(_) => Err(UpstreamError::new("handing files over", UpstreamErrorKind::InvalidRequest)),
            }
        }));
        handed.await.map_err(|error| UpstreamError { is_of_upload: true, ..error })
    }

    async fn once(
        &self,
        session: &Session,
        file: &Attachment,
        deadline: Instant,
    ) -> Result<UploadedFile, UpstreamError> {
        let key = Key(session.key().clone(), file.content.hash(), file.kind);
        let cell = self.cell(key);
        let kept = cell
            .get_or_try_init(|| async {
                let uploaded = self.0.upstream.upload(session, file, deadline).await?;
                Ok::<_, UpstreamError>(Kept { file: uploaded.file, until: Instant::now() + uploaded.lives_for })
            })
            .await?;
        Ok(UploadedFile { name: file.name.clone(), ..kept.file.clone() })
    }

    /// The place of an upload: a new one if the file has none or its link has expired.
    fn cell(&self, key: Key) -> Arc<OnceCell<Kept>> {
        let now = Instant::now();
        let mut kept = self.0.kept.lock();
        let is_over = |cell: &Arc<OnceCell<Kept>>| cell.get().is_some_and(|kept| kept.until <= now);
        if kept.len() >= KEPT_MAX {
            // An upload that failed and is not waited for leaves nothing behind.
            kept.retain(|_, cell| !is_over(cell) && (cell.initialized() || Arc::strong_count(cell) > 1));
        }
        if kept.len() >= KEPT_MAX {
            let first = kept.iter().filter_map(|(key, cell)| Some((cell.get()?.until, key))).min_by_key(|(at, _)| *at);
            if let Some(key) = first.map(|(_, key)| key.clone()) {
                kept.remove(&key);
            }
        }
        let cell = kept.entry(key).or_default();
        if is_over(cell) {
            *cell = Arc::default();
        }
        Arc::clone(cell)
    }

    /// Forgets uploads that the upstream does not want to know.
    pub(crate) fn forget(&self, session: &Session, files: &[JobFile]) {
        let mut kept = self.0.kept.lock();
        for file in files {
            if let JobFile::Ready(file) = file {
                kept.remove(&Key(session.key().clone(), file.content.hash(), file.kind));
            }
        }
    }
}

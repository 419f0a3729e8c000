//! Videos as jobs: taken up at once, made in the background, kept in the state file.
//!
//! A job belongs to the caller who asked for it. Each step is on the disk before the next one begins: the job before
//! the caller is told of it, the chat before the question is sent to it, the task as soon as it is known. So a restart
//! continues where a run ended, even by a crash, and no job ever makes two videos.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::secret::SignedLink;
use crate::base::session::Session;
use crate::chat::job::VIDEO_SECONDS;
use crate::files::attachment::JobFile;
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::web::WebGateway;
use crate::gateway::attachments::Attachments;
use crate::gateway::chats::janitor::Janitor;
use crate::pool::{IdentityPool, Now};
use crate::shutdown::Supervisor;
use crate::store::{Store, StoreError, VideoJob, VideoPicture, VideoState};
use crate::telemetry::ErrorChain;
use crate::upstream::media::fetch::{FetchError, OpenResult};
use crate::upstream::web::request::WebRequest;

/// Most jobs that are worked on at once.
const UNFINISHED_MAX: usize = 32;

/// Most jobs that are kept; beyond it the oldest are dropped.
const KEPT_MAX: usize = 2_000;

/// Seconds for which a job is kept. The upstream's link to its video expires some time before; its lifetime is unknown.
const KEPT_SECONDS: u64 = 7 * 24 * 3600;

/// Code and message of a failure. The words for callers are chosen elsewhere.
pub(crate) type Describe = fn(&ChatError) -> (String, String);

/// Accepts, makes, shows and deletes videos. Clones share the jobs.
#[derive(Clone)]
pub(crate) struct VideoJobs(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) chats: WebGateway,
    pub(super) attachments: Attachments,
    pub(super) pool: IdentityPool,
    pub(super) janitor: Janitor,
    pub(super) store: Arc<Store>,
    pub(super) supervisor: Supervisor,
    pub(super) describe: Describe,
    pub(super) jobs: Mutex<HashMap<String, Entry>>,
    /// Held from the reading of a job to the end of its write, so that disk and memory agree.
    pub(super) writing: tokio::sync::Mutex<()>,
}

pub(super) struct Entry {
    pub(super) job: VideoJob,
    /// Stops the task that works on it; `None` if no task does.
    pub(super) work: Option<CancellationToken>,
}

/// A video to be made.
#[derive(Debug)]
pub(crate) struct NewVideo {
    /// The caller who asked for it.
    pub owner: VideoOwner,
    /// The request for the web chat, its files already fetched.
    pub job: WebRequest,
    /// The size as the caller wrote it.
    pub size: String,
    /// The idempotency key and the body's hash; `None` if the caller sent no key.
    pub once: Option<Once>,
    /// Further identities that may be tried, as in [`RequestContext`](crate::gateway::answer::context::RequestContext).
    pub retries_max: u32,
}

/// A caller, identified by hashes that survive a restart.
#[derive(Clone, Debug)]
pub(crate) struct VideoOwner {
    /// Hash of the caller's key; the same for all callers if no keys are configured.
    pub hash: String,
    /// The caller's own credential, in client mode. It is held while the job is worked on, and never stored.
    pub own: Option<Arc<Session>>,
}

/// The facts by which a repeated request is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Once {
    /// Hash of the caller's `Idempotency-Key`.
    pub key: String,
    /// Hash of the request's body.
    pub fingerprint: String,
}

/// A finished video, for the owner's gallery.
pub(crate) struct FinishedVideo {
    /// URL from which it can be fetched without a key.
    pub link: SignedLink,
    /// End of the making.
    pub completed_at: UnixSeconds,
    /// The model's name as the caller gave it.
    pub model: String,
}

/// A page of a caller's jobs.
#[derive(Debug)]
pub(crate) struct VideoPage {
    pub jobs: Vec<VideoJob>,
    /// Whether further jobs follow after the last one.
    pub has_more: bool,
}

/// Reasons why a video is not accepted, shown or deleted.
#[derive(Debug, thiserror::Error)]
pub enum VideoJobError {
    /// The caller has no job of this id.
    #[error("no such video")]
    NotFound,
    /// The idempotency key was used with another body.
    #[error("the idempotency key belongs to another request")]
    KeyReused,
    /// [`UNFINISHED_MAX`] jobs are in the making.
    #[error("too many videos are in the making")]
    Busy,
    /// The state file cannot keep the job.
    #[error("the video cannot be saved in the state file")]
    NotKept(#[from] StoreError),
    /// A file cannot be read again.
    #[error("the picture cannot be read")]
    Unreadable(#[source] io::Error),
}

/// The parts of [`VideoJobs`].
pub(crate) struct VideoParts {
    /// Starts and follows videos.
    pub chats: WebGateway,
    /// Fetches the videos and pictures.
    pub attachments: Attachments,
    /// Gives the accounts in which videos were begun.
    pub pool: IdentityPool,
    /// Deletes the chats of finished videos.
    pub janitor: Janitor,
    /// Stores the jobs in the state file.
    pub store: Arc<Store>,
    /// Owns the tasks that work on jobs.
    pub supervisor: Supervisor,
    /// Gives code and message of a failure.
    pub describe: Describe,
}

impl VideoJobs {
    /// Jobs of an earlier run. No work begins before [`VideoJobs::resume`].
    #[must_use]
    pub(crate) fn new(parts: VideoParts, jobs: Vec<VideoJob>) -> Self {
        let VideoParts { chats, attachments, pool, janitor, store, supervisor, describe } = parts;
        let jobs = jobs.into_iter().map(|job| (job.id.clone(), Entry { job, work: None })).collect();
        let writing = tokio::sync::Mutex::default();
        let jobs = Mutex::new(jobs);
        Self(Arc::new(Shared { chats, attachments, pool, janitor, store, supervisor, describe, jobs, writing }))
    }

    /// Whether a chat belongs to an unfinished video, and must not be deleted.
    #[must_use]
    pub(crate) fn needs_chat(&self, chat_id: &str) -> bool {
        let jobs = self.0.jobs.lock();
        jobs.values().any(|entry| is_open(&entry.job) && entry.job.chat_id.as_deref() == Some(chat_id))
    }

    /// Resumes the jobs that an earlier run left unfinished. A job of a caller's own account waits for its caller.
    pub(crate) fn resume(&self) {
        let jobs = self.clone();
        self.0.supervisor.spawn("resume videos", async move {
            {
                let _writing = jobs.0.writing.lock().await;
                jobs.prune(Now::read().unix).await;
            }
            let open: Vec<String> = {
                let entries = jobs.0.jobs.lock();
                let open = entries.values().filter(|entry| is_open(&entry.job) && entry.job.is_pooled);
                open.map(|entry| entry.job.id.clone()).collect()
            };
            for id in open {
                jobs.work_on(&id, None, 0);
            }
        });
    }

    /// The earlier job of this caller with this idempotency key, if any.
    ///
    /// # Errors
    /// [`VideoJobError::KeyReused`].
    pub(crate) fn asked_before(&self, owner: &VideoOwner, once: &Once) -> Result<Option<VideoJob>, VideoJobError> {
        let jobs = self.0.jobs.lock();
        let is_same = |job: &&VideoJob| job.owner == owner.hash && job.idempotency.as_ref() == Some(&once.key);
        match jobs.values().map(|entry| &entry.job).find(is_same) {
            None => Ok(None),
            Some(job) if job.fingerprint.as_ref() == Some(&once.fingerprint) => Ok(Some(job.clone())),
            Some(_) => Err(VideoJobError::KeyReused),
        }
    }

    /// Accepts a job, and returns when a crash cannot lose it any more. It is accepted even if the caller has left.
    ///
    /// # Errors
    /// [`VideoJobError`]: no job was accepted.
    pub(crate) async fn create(&self, video: NewVideo) -> Result<VideoJob, VideoJobError> {
        let jobs = self.clone();
        let taking_up = self.0.supervisor.finish("take up a video", async move { jobs.take_up(video).await });
        taking_up.await.unwrap_or(Err(VideoJobError::NotKept(StoreError::Closed)))
    }

    /// One job. An unfinished job without a running task is resumed.
    ///
    /// # Errors
    /// [`VideoJobError::NotFound`].
    pub(crate) fn get(&self, owner: &VideoOwner, id: &str) -> Result<VideoJob, VideoJobError> {
        let job = self.owned(owner, id)?;
        if is_open(&job) && (job.is_pooled || owner.own.is_some()) {
            self.work_on(id, owner.own.clone(), 0);
        }
        Ok(job)
    }

    /// A page of a caller's jobs in the order of their requests, or newest first if `is_newest_first`, beginning after
    /// the job `after`.
    ///
    /// # Errors
    /// [`VideoJobError::NotFound`] when there is no job `after`.
    pub(crate) fn list(
        &self,
        owner: &VideoOwner,
        after: Option<&str>,
        limit: usize,
        is_newest_first: bool,
    ) -> Result<VideoPage, VideoJobError> {
        let entries = self.0.jobs.lock();
        let mut jobs: Vec<&VideoJob> =
            entries.values().map(|entry| &entry.job).filter(|job| job.owner == owner.hash).collect();
        jobs.sort_by_key(|job| age(job));
        if is_newest_first {
            jobs.reverse();
        }
        let skipped = match after {
            None => 0,
            Some(id) => jobs.iter().position(|job| job.id == id).ok_or(VideoJobError::NotFound)? + 1,
        };
        let has_more = jobs.len() > skipped + limit;
        Ok(VideoPage { jobs: jobs.into_iter().skip(skipped).take(limit).cloned().collect(), has_more })
    }

    /// The finished videos of the server's own accounts, each with its link, for the owner of the server.
    pub(crate) fn finished(&self) -> Vec<FinishedVideo> {
        let entries = self.0.jobs.lock();
        let finished = |entry: &Entry| {
            let job = &entry.job;
            let (link, completed_at) = (job.link.as_ref().filter(|_| job.is_pooled)?, job.completed_at?);
            Some(FinishedVideo { link: SignedLink::new(link.expose_secret()), completed_at, model: job.model.clone() })
        };
        entries.values().filter_map(finished).collect()
    }

    /// Opens a finished video, or a `range` of it, at its link.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) async fn open(
        &self,
        link: &SecretString,
        range: Option<&HeaderValue>,
    ) -> Result<OpenResult, FetchError> {
        self.0.attachments.open_result(link.expose_secret(), range).await
    }

    /// Deletes a job and ends the work on it. The upstream finishes a video that it has begun; it cannot be stopped.
    ///
    /// # Errors
    /// [`VideoJobError`].
    pub(crate) async fn delete(&self, owner: &VideoOwner, id: &str) -> Result<(), VideoJobError> {
        self.owned(owner, id)?;
        let (jobs, id) = (self.clone(), id.to_owned());
        let forgetting = self.0.supervisor.finish("forget a video", async move {
            let _writing = jobs.0.writing.lock().await;
            jobs.0.store.forget_video(&id).await?;
            jobs.remove(&id);
            Ok(())
        });
        forgetting.await.unwrap_or(Err(VideoJobError::NotKept(StoreError::Closed)))
    }

    fn owned(&self, owner: &VideoOwner, id: &str) -> Result<VideoJob, VideoJobError> {
        let jobs = self.0.jobs.lock();
        let entry = jobs.get(id).filter(|entry| entry.job.owner == owner.hash);
        entry.map(|entry| entry.job.clone()).ok_or(VideoJobError::NotFound)
    }

    async fn take_up(&self, video: NewVideo) -> Result<VideoJob, VideoJobError> {
        let NewVideo { owner, job, size, once, retries_max } = video;
        let picture = picture_of(job.files.first()).await.map_err(VideoJobError::Unreadable)?;
        let _writing = self.0.writing.lock().await;
        if let Some(once) = &once
            && let Some(known) = self.asked_before(&owner, once)?
        {
            return Ok(known);
        }
        let now = Now::read().unix;
        self.prune(now).await;
        if self.0.jobs.lock().values().filter(|entry| entry.work.is_some()).count() >= UNFINISHED_MAX {
            return Err(VideoJobError::Busy);
        }
        let no_owner = || CredentialKey::from_stored("");
        let job = VideoJob {
            // Version 7 UUIDs sort by time; the order of the list within a second relies on it.
            id: format!("video_{}", Uuid::now_v7().simple()),
            owner: owner.hash,
            key: owner.own.as_ref().map_or_else(no_owner, |own| own.key().clone()),
            is_pooled: owner.own.is_none(),
            state: VideoState::Queued,
            model: job.model.clone(),
            upstream_model: job.upstream_model.clone(),
            picture,
            size,
            ratio: job.aspect().unwrap_or_default().to_string(),
            seconds: VIDEO_SECONDS.to_owned(),
            prompt: job.prompt,
            created_at: now,
            completed_at: None,
            chat_id: None,
            task_id: None,
            link: None,
            error: None,
            idempotency: once.as_ref().map(|once| once.key.clone()),
            fingerprint: once.map(|once| once.fingerprint),
        };
        self.0.store.save_video(job.clone()).await?;
        self.0.jobs.lock().insert(job.id.clone(), Entry { job: job.clone(), work: None });
        info!(video.id = %job.id, "video taken up");
        self.work_on(&job.id, owner.own, retries_max);
        Ok(job)
    }

    /// Drops jobs that are too old or beyond the limit. The caller holds [`Shared::writing`].
    async fn prune(&self, now: UnixSeconds) {
        let old: Vec<String> = {
            let entries = self.0.jobs.lock();
            let mut jobs: Vec<&VideoJob> = entries.values().map(|entry| &entry.job).collect();
            jobs.sort_by_key(|job| age(job));
            let surplus = jobs.len().saturating_sub(KEPT_MAX);
            let is_old = |job: &VideoJob| now.seconds_since(job.created_at) > KEPT_SECONDS;
            let dropped =
                jobs.iter().enumerate().filter(|(place, job)| is_old(job) || (*place < surplus && !is_open(job)));
            dropped.map(|(_, job)| job.id.clone()).collect()
        };
        for id in old {
            if let Err(error) = self.0.store.forget_video(&id).await {
                warn!(video.id = %id, error = %ErrorChain(&error), "an old video job could not be deleted");
                continue;
            }
            self.remove(&id);
        }
    }

    fn remove(&self, id: &str) {
        let removed = self.0.jobs.lock().remove(id);
        if let Some(work) = removed.and_then(|entry| entry.work) {
            work.cancel();
        }
    }

    /// Changes a job, in memory and on the disk. A deleted one stays deleted.
    pub(super) async fn write(&self, id: &str, change: impl FnOnce(&mut VideoJob)) -> Result<(), StoreError> {
        let _writing = self.0.writing.lock().await;
        let Some(mut job) = self.0.jobs.lock().get(id).map(|entry| entry.job.clone()) else {
            return Err(StoreError::Closed);
        };
        change(&mut job);
        self.0.store.save_video(job.clone()).await?;
        if let Some(entry) = self.0.jobs.lock().get_mut(id) {
            entry.job = job;
        }
        Ok(())
    }
}

pub(super) fn is_open(job: &VideoJob) -> bool {
    matches!(job.state, VideoState::Queued | VideoState::Running)
}

fn age(job: &VideoJob) -> (UnixSeconds, &str) {
    (job.created_at, &job.id)
}

/// The first picture of a new job, if it has one. A large one is read from the disk.
async fn picture_of(file: Option<&JobFile>) -> Result<Option<VideoPicture>, io::Error> {
    match file {
        None | Some(JobFile::Remote(_)) => Ok(None),
        Some(JobFile::Link(link)) => Ok(Some(VideoPicture::Link(SecretString::from(link.url.as_str())))),
        Some(JobFile::Ready(file)) => {
            let at_hand = file.content.in_memory().cloned();
            let bytes = match at_hand {
                Some(bytes) => bytes,
                None => {
                    let content = file.content.clone();
                    let reading = tokio::task::spawn_blocking(move || content.head(usize::MAX));
                    Bytes::from(reading.await.map_err(io::Error::other)??)
                }
            };
            Ok(Some(VideoPicture::Bytes(bytes)))
        }
    }
}

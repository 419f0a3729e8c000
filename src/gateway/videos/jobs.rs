//! Videos as jobs: taken up at once, made in the background, kept in the state file.
//!
//! A job belongs to the caller who asked for it. Each step is on the disk before the next one is taken: the job before
//! the caller hears of it, the chat before the question is asked in it, the task as soon as it is known. So a restart
//! goes on where a run ended, however it ended, and no job ever makes two videos.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::session::Session;
use crate::chat::aspect::Aspect;
use crate::chat::job::{MediaJob, VIDEO_SECONDS};
use crate::chat::suffix::Product;
use crate::files::attachment::{Attachment, JobFile, RemoteFile};
use crate::files::blob::Blob;
use crate::files::media_type::MediaKind;
use crate::gateway::accounts::error::RefreshError;
use crate::gateway::answer::attempt::{StartedVideo, VideoDiary};
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::failover::RequestContext;
use crate::gateway::answer::trace::Trace;
use crate::gateway::answer::web::WebGateway;
use crate::gateway::attachments::Attachments;
use crate::gateway::janitor::{Janitor, OwnChat};
use crate::gateway::videos::task::Found;
use crate::pool::{CallerId, IdentityPool, Now, Outcome};
use crate::shutdown::Supervisor;
use crate::store::{Store, StoreError, VideoJob, VideoPicture, VideoState};
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::media::fetch::{FetchError, OpenResult};
use crate::upstream::web::request::WebRequest;

/// Jobs that are worked on at once.
const UNFINISHED_MAX: usize = 32;
/// Jobs that are kept; of more, those that were asked for first are dropped.
const KEPT_MAX: usize = 2_000;
/// How long a job is kept. The upstream's link to its video dies some time before; how long one lives is not known.
const KEPT_SECONDS: u64 = 7 * 24 * 3600;
/// How long a job may take, waiting included. The upstream was seen to need up to six minutes.
const JOB_SECONDS_MAX: u64 = 25 * 60;
/// What a job has at least after a restart, so that a video which was made meanwhile is found.
const RESUMED_SECONDS_MIN: u64 = 60;
/// A job that could begin after this long waits for it.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often a job waits to begin.
const WAITS_MAX: u32 = 30;
/// When to look again for a token that is being fetched.
const TOKEN_WAIT: Duration = Duration::from_secs(30);

/// Where the picture came in.
const PICTURE_FIELD: &str = "input_reference";

/// The words for a failure: a code and a message. Callers are spoken to in one place, and not here.
pub type Describe = fn(&ChatError) -> (String, String);

/// Takes up, makes, shows and forgets videos. Clones share the jobs.
#[derive(Clone)]
pub struct VideoJobs(Arc<Shared>);

struct Shared {
    chats: WebGateway,
    attachments: Attachments,
    pool: IdentityPool,
    janitor: Janitor,
    store: Arc<Store>,
    supervisor: Supervisor,
    describe: Describe,
    jobs: Mutex<HashMap<String, Entry>>,
    /// Held from the look at a job to the end of its writing, so that what is on the disk is what is here.
    writing: tokio::sync::Mutex<()>,
}

struct Entry {
    job: VideoJob,
    /// Ends the task that works on it.
    work: Option<CancellationToken>,
}

/// A video to be made.
#[derive(Debug)]
pub struct NewVideo {
    /// Whose it is.
    pub owner: VideoOwner,
    /// What is to be made, files at hand.
    pub job: WebRequest,
    /// The size as the caller named it.
    pub size: String,
    /// Asked for with an idempotency key.
    pub once: Option<Once>,
    /// As [`RequestContext::client_retries`].
    pub client_retries: u32,
}

/// A caller, in words that survive a restart.
#[derive(Clone, Debug)]
pub struct VideoOwner {
    /// A hash of the caller's key; the same one for all where no keys are.
    pub hash: String,
    /// The caller's own credential, in client mode. It is held while the job is worked on, and never kept.
    pub own: Option<Arc<Session>>,
}

/// What makes two requests one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// A hash of the caller's idempotency key.
    pub key: String,
    /// A hash of the body.
    pub fingerprint: String,
}

/// A page of jobs.
#[derive(Debug)]
pub struct VideoPage {
    /// The jobs.
    pub jobs: Vec<VideoJob>,
    /// Whether more follow.
    pub has_more: bool,
}

/// Why a video is not taken up, shown or forgotten.
#[derive(Debug, thiserror::Error)]
pub enum VideoJobError {
    /// There is none of this name that belongs to the caller.
    #[error("no such video")]
    NotFound,
    /// The idempotency key was used with another body.
    #[error("the idempotency key belongs to another request")]
    KeyReused,
    /// Too many are in the making.
    #[error("too many videos are in the making")]
    Busy,
    /// It cannot be written down.
    #[error("the state file does not take it")]
    NotKept(#[from] StoreError),
    /// A file cannot be read again.
    #[error("the picture cannot be read")]
    Unreadable(#[source] std::io::Error),
}

/// What [`VideoJobs`] is made of.
pub struct VideoParts {
    /// Starts and follows videos.
    pub chats: WebGateway,
    /// Fetches what was made.
    pub attachments: Attachments,
    /// For the accounts that videos were begun in.
    pub pool: IdentityPool,
    /// Deletes the chats of videos that are done.
    pub janitor: Janitor,
    /// Keeps the jobs.
    pub store: Arc<Store>,
    /// Owns the work.
    pub supervisor: Supervisor,
    /// Says why a video failed.
    pub describe: Describe,
}

impl VideoJobs {
    /// Jobs that go on from these, of an earlier run. Nothing is worked on before [`VideoJobs::resume`].
    #[must_use]
    pub fn new(parts: VideoParts, jobs: Vec<VideoJob>) -> Self {
        let VideoParts { chats, attachments, pool, janitor, store, supervisor, describe } = parts;
        let jobs = jobs.into_iter().map(|job| (job.id.clone(), Entry { job, work: None })).collect();
        let writing = tokio::sync::Mutex::default();
        let jobs = Mutex::new(jobs);
        Self(Arc::new(Shared { chats, attachments, pool, janitor, store, supervisor, describe, jobs, writing }))
    }

    /// Whether a chat belongs to a video that is not done, and must not be deleted.
    #[must_use]
    pub fn needs_chat(&self, chat_id: &str) -> bool {
        let jobs = self.0.jobs.lock();
        jobs.values().any(|entry| is_open(&entry.job) && entry.job.chat_id.as_deref() == Some(chat_id))
    }

    /// Goes on with what an earlier run left unfinished. A job of a caller's own account waits for its caller.
    pub fn resume(&self) {
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

    /// The job that this caller has asked for with this key before, if there is one.
    ///
    /// # Errors
    /// [`VideoJobError::KeyReused`].
    pub fn asked_before(&self, owner: &VideoOwner, once: &Once) -> Result<Option<VideoJob>, VideoJobError> {
        let jobs = self.0.jobs.lock();
        let is_same = |job: &&VideoJob| job.owner == owner.hash && job.idempotency.as_ref() == Some(&once.key);
        match jobs.values().map(|entry| &entry.job).find(is_same) {
            None => Ok(None),
            Some(job) if job.fingerprint.as_ref() == Some(&once.fingerprint) => Ok(Some(job.clone())),
            Some(_) => Err(VideoJobError::KeyReused),
        }
    }

    /// Takes up a job, and returns when a crash cannot lose it any more. It is taken up even if the caller has left.
    ///
    /// # Errors
    /// [`VideoJobError`]: nothing was taken up.
    pub async fn create(&self, video: NewVideo) -> Result<VideoJob, VideoJobError> {
        let jobs = self.clone();
        self.apart("take up a video", async move { jobs.take_up(video).await }).await
    }

    /// One job. A job that is neither done nor worked on is set going again.
    ///
    /// # Errors
    /// [`VideoJobError::NotFound`].
    pub fn get(&self, owner: &VideoOwner, id: &str) -> Result<VideoJob, VideoJobError> {
        let job = self.owned(owner, id)?;
        if is_open(&job) && (job.is_pooled || owner.own.is_some()) {
            self.work_on(id, owner.own.clone(), 0);
        }
        Ok(job)
    }

    /// A page of a caller's jobs, in the order in which they were asked for or, if `is_newest_first`, the other way
    /// round; beginning after the job `after`.
    ///
    /// # Errors
    /// [`VideoJobError::NotFound`] when there is no job `after`.
    pub fn list(
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

    /// Opens a video that was made, or a `range` of it, at its link.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn open(&self, link: &SecretString, range: Option<&HeaderValue>) -> Result<OpenResult, FetchError> {
        self.0.attachments.open_result(link.expose_secret(), range).await
    }

    /// Forgets a job and ends the work on it. The upstream finishes a video that it has begun; it cannot be stopped.
    ///
    /// # Errors
    /// [`VideoJobError`].
    pub async fn delete(&self, owner: &VideoOwner, id: &str) -> Result<(), VideoJobError> {
        self.owned(owner, id)?;
        let (jobs, id) = (self.clone(), id.to_owned());
        self.apart("forget a video", async move {
            let _writing = jobs.0.writing.lock().await;
            jobs.0.store.forget_video(&id).await?;
            jobs.remove(&id);
            Ok(())
        })
        .await
    }

    fn owned(&self, owner: &VideoOwner, id: &str) -> Result<VideoJob, VideoJobError> {
        let jobs = self.0.jobs.lock();
        let entry = jobs.get(id).filter(|entry| entry.job.owner == owner.hash);
        entry.map(|entry| entry.job.clone()).ok_or(VideoJobError::NotFound)
    }

    /// Does something to its end, whether or not the caller stays.
    async fn apart<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, VideoJobError>> + Send + 'static,
    ) -> Result<T, VideoJobError> {
        let (done, result) = oneshot::channel();
        self.0.supervisor.spawn(name, async move {
            // The caller has left.
            let _ = done.send(work.await);
        });
        result.await.unwrap_or(Err(VideoJobError::NotKept(StoreError::Closed)))
    }

    async fn take_up(&self, video: NewVideo) -> Result<VideoJob, VideoJobError> {
        let NewVideo { owner, job, size, once, client_retries } = video;
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
        let nobody = || CredentialKey::from_stored("");
        let job = VideoJob {
            // Ids of this kind sort by time, which the list's order within a second rests on.
            id: format!("video_{}", Uuid::now_v7().simple()),
            owner: owner.hash,
            key: owner.own.as_ref().map_or_else(nobody, |own| own.key().clone()),
            is_pooled: owner.own.is_none(),
            state: VideoState::Queued,
            model: job.model.clone(),
            upstream_model: job.upstream_model.clone(),
            picture: picture_of(&job).map_err(VideoJobError::Unreadable)?,
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
        self.work_on(&job.id, owner.own, client_retries);
        Ok(job)
    }

    /// Drops what is too old or too much. The caller holds [`Shared::writing`].
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
                warn!(video.id = %id, error = %ErrorChain(&error), "old video not forgotten");
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

    /// Sets a job going, unless it is worked on already.
    fn work_on(&self, id: &str, own: Option<Arc<Session>>, client_retries: u32) {
        let stop = self.0.supervisor.stopping();
        let Some(working) = Working::begin(self, id).filter(|_| !stop.is_cancelled()) else {
            return;
        };
        let jobs = self.clone();
        self.0.supervisor.spawn("make a video", async move {
            tokio::select! {
                () = Box::pin(jobs.work(&working.id, own, client_retries)) => {}
                () = working.end.cancelled() => debug!(video.id = working.id, "video forgotten while it was made"),
                () = stop.cancelled() => debug!(video.id = working.id, "video left for the next start"),
            }
        });
    }

    /// Works on a job until it is done, well or not.
    async fn work(&self, id: &str, own: Option<Arc<Session>>, client_retries: u32) {
        let Some(job) = self.0.jobs.lock().get(id).map(|entry| entry.job.clone()).filter(is_open) else {
            return;
        };
        // The chat is let go only when the end is written down.
        let mut chat = None;
        let made = self.make(&job, own, client_retries, &mut chat).await;
        let ended_at = Now::read().unix;
        let ending = |job: &mut VideoJob| {
            job.completed_at = Some(ended_at);
            job.picture = None;
            match &made {
                Ok(link) => {
                    job.state = VideoState::Completed;
                    job.link = Some(SecretString::from(link.as_str()));
                }
                Err(error) => {
                    job.state = VideoState::Failed;
                    job.error = Some((self.0.describe)(error));
                }
            }
        };
        match &made {
            Ok(_) => info!(video.id = id, seconds = ended_at.seconds_since(job.created_at), "video made"),
            Err(error) => warn!(video.id = id, error = %ErrorChain(error), "video failed"),
        }
        if let Err(error) = self.write(id, ending).await {
            warn!(video.id = id, error = %ErrorChain(&error), "the end of a video is not written down");
            // This run knows it at least.
            if let Some(entry) = self.0.jobs.lock().get_mut(id) {
                ending(&mut entry.job);
            }
        }
    }

    /// Makes the video, from whatever point an earlier run came to, and gives the link to it.
    async fn make(
        &self,
        job: &VideoJob,
        own: Option<Arc<Session>>,
        client_retries: u32,
        chat: &mut Option<OwnChat>,
    ) -> Result<String, ChatError> {
        let own = own.filter(|_| !job.is_pooled);
        let left = JOB_SECONDS_MAX.saturating_sub(Now::read().unix.seconds_since(job.created_at));
        let deadline = Instant::now() + Duration::from_secs(left.max(RESUMED_SECONDS_MIN));
        let (session, task) = match self.begun_earlier(job, own.as_ref(), chat, deadline).await? {
            Some(begun) => begun,
            None => self.start(job, own, client_retries, chat, deadline).await?,
        };
        let followed = self.0.chats.videos().follow(&session, &task, &job.prompt, deadline).await;
        followed.map_err(|error| ChatError::Upstream { error, attempts: 1 })
    }

    /// What an earlier run began, and whose account has it; `None` when it certainly began nothing.
    async fn begun_earlier(
        &self,
        job: &VideoJob,
        own: Option<&Arc<Session>>,
        chat: &mut Option<OwnChat>,
        deadline: Instant,
    ) -> Result<Option<(Arc<Session>, String)>, ChatError> {
        let Some(chat_id) = &job.chat_id else {
            return Ok(None);
        };
        let of_pool = || self.0.pool.sessions().into_iter().find(|session| *session.key() == job.key);
        let session = own.cloned().or_else(of_pool).ok_or(ChatError::AccountGone)?;
        *chat = Some(self.0.janitor.adopt_again(&session, chat_id, job.is_pooled));
        if let Some(task) = &job.task_id {
            return Ok(Some((session, task.clone())));
        }
        match self.0.chats.videos().find(&session, chat_id, deadline).await {
            Found::Task(task) => {
                self.note_task(&job.id, &task).await;
                Ok(Some((session, task)))
            }
            Found::Nothing => {
                self.write(&job.id, |job| job.chat_id = None).await.map_err(ChatError::NotKept)?;
                *chat = None;
                Ok(None)
            }
            Found::Unclear => {
                let note = "whether the video was begun cannot be told";
                let error = UpstreamError::noted("finding a video again", UpstreamErrorKind::Unavailable, note);
                Err(ChatError::Upstream { error, attempts: 1 })
            }
        }
    }

    /// Starts the video on the first identity that can, waiting where that helps soon.
    async fn start(
        &self,
        job: &VideoJob,
        own: Option<Arc<Session>>,
        client_retries: u32,
        chat: &mut Option<OwnChat>,
        deadline: Instant,
    ) -> Result<(Arc<Session>, String), ChatError> {
        // A picture that was good when it came in and is not now was damaged where it was kept.
        let wish = wish(job).ok_or(ChatError::NotKept(StoreError::Closed))?;
        let mut hasher = DefaultHasher::new();
        job.owner.hash(&mut hasher);
        let trace = Trace::default();
        let context = RequestContext { caller: CallerId(hasher.finish()), owner: None, own, client_retries, trace };
        let mut waits = 0;
        loop {
            let mut diary = Diary { jobs: self, id: &job.id, fault: None };
            let started = Box::pin(self.0.chats.start_video(&wish, &context, &mut diary, deadline)).await;
            let error = match (started, diary.fault) {
                (Ok(StartedVideo { lease, chat: made, task }), _) => {
                    // Making a video is no use of the account that others would have to wait for.
                    let session = Arc::clone(lease.session());
                    lease.finish(Outcome::Success, Now::read());
                    *chat = Some(made);
                    self.note_task(&job.id, &task).await;
                    return Ok((session, task));
                }
                (Err(_), Some(fault)) => return Err(ChatError::NotKept(fault)),
                (Err(error), None) => error,
            };
            let wait = wait_for(&error).filter(|wait| waits < WAITS_MAX && Instant::now() + *wait < deadline);
            let Some(wait) = wait else {
                return Err(error);
            };
            debug!(video.id = %job.id, error = %ErrorChain(&error), "video waits to begin");
            sleep(wait).await;
            waits += 1;
        }
    }

    async fn note_task(&self, id: &str, task: &str) {
        let noted = self.write(id, |job| {
            job.task_id = Some(task.to_owned());
            job.state = VideoState::Running;
            job.picture = None;
        });
        if let Err(error) = noted.await {
            // The chat, which is written down, leads to it as well.
            warn!(video.id = id, error = %ErrorChain(&error), "the task of a video is not written down");
        }
    }

    /// Changes a job, here and on the disk. One that was forgotten stays so.
    async fn write(&self, id: &str, change: impl FnOnce(&mut VideoJob)) -> Result<(), StoreError> {
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

/// The only one who works on a job, until dropped.
struct Working {
    jobs: VideoJobs,
    id: String,
    end: CancellationToken,
}

impl Working {
    fn begin(jobs: &VideoJobs, id: &str) -> Option<Self> {
        let mut entries = jobs.0.jobs.lock();
        let entry = entries.get_mut(id).filter(|entry| entry.work.is_none() && is_open(&entry.job))?;
        let end = CancellationToken::new();
        entry.work = Some(end.clone());
        Some(Self { jobs: jobs.clone(), id: id.to_owned(), end })
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(entry) = self.jobs.0.jobs.lock().get_mut(&self.id) {
            entry.work = None;
        }
    }
}

/// Writes the start of one job down.
struct Diary<'a> {
    jobs: &'a VideoJobs,
    id: &'a str,
    fault: Option<StoreError>,
}

impl VideoDiary for Diary<'_> {
    async fn asks(&mut self, session: &Session, chat: &mut OwnChat) -> bool {
        let (key, chat_id) = (session.key().clone(), chat.id().to_owned());
        let written = self.jobs.write(self.id, |job| {
            job.key = key;
            job.chat_id = Some(chat_id);
        });
        match written.await {
            Ok(()) => chat.outlive_process(),
            Err(fault) => self.fault = Some(fault),
        }
        self.fault.is_none()
    }

    async fn refused(&mut self) {
        if let Err(error) = self.jobs.write(self.id, |job| job.chat_id = None).await {
            warn!(video.id = self.id, error = %ErrorChain(&error), "the refusal of a video is not written down");
        }
    }
}

fn is_open(job: &VideoJob) -> bool {
    matches!(job.state, VideoState::Queued | VideoState::Running)
}

fn age(job: &VideoJob) -> (UnixSeconds, &str) {
    (job.created_at, &job.id)
}

/// The picture of a job that was just asked for.
fn picture_of(job: &WebRequest) -> Result<Option<VideoPicture>, std::io::Error> {
    match job.files.first() {
        None | Some(JobFile::Remote(_)) => Ok(None),
        Some(JobFile::Link(link)) => Ok(Some(VideoPicture::Link(SecretString::from(link.url.as_str())))),
        Some(JobFile::Ready(file)) => {
            let at_hand = file.content.in_memory().cloned();
            let bytes = match at_hand {
                Some(bytes) => bytes,
                None => Bytes::from(file.content.head(usize::MAX)?),
            };
            Ok(Some(VideoPicture::Bytes(bytes)))
        }
    }
}

/// What the upstream is asked for; `None` if the picture cannot be read, which was checked when it came in.
fn wish(job: &VideoJob) -> Option<WebRequest> {
    let picture = match &job.picture {
        None => None,
        Some(VideoPicture::Bytes(bytes)) => {
            let content = Blob::from(bytes.to_vec());
            let file = Attachment::check(PICTURE_FIELD, "first-frame", MediaKind::Image, content).ok()?;
            Some(JobFile::Ready(file))
        }
        Some(VideoPicture::Link(url)) => Some(JobFile::Link(RemoteFile {
            at: PICTURE_FIELD.to_owned(),
            label: "first-frame".to_owned(),
            kind: MediaKind::Image,
            url: url.expose_secret().to_owned(),
        })),
    };
    let media = MediaJob {
        model: job.model.clone(),
        upstream_model: job.upstream_model.clone(),
        product: Product::Video,
        aspect: Aspect::of_size(&job.ratio),
        prompt: job.prompt.clone(),
        files: picture.into_iter().collect(),
        ignored: Vec::new(),
    };
    WebRequest::media(media).ok()
}

/// How long to wait before a video that could not begin is tried again; `None` where that does not help soon.
fn wait_for(error: &ChatError) -> Option<Duration> {
    let wait = match error {
        ChatError::Lease(error) => error.retry_after(),
        ChatError::Upstream { error, .. } if error.kind == UpstreamErrorKind::RateLimited => error.retry_after,
        ChatError::Session(RefreshError::Failed { .. }) => Some(TOKEN_WAIT),
        _ => None,
    };
    wait.filter(|wait| *wait <= WAIT_MAX).map(|wait| wait.max(Duration::from_secs(1)))
}

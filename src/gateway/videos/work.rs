//! The work on a video: begun or found again, followed to its end, and each step written down before the next.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::base::session::Session;
use crate::chat::aspect::Aspect;
use crate::chat::job::MediaJob;
use crate::chat::suffix::Product;
use crate::files::attachment::{Attachment, JobFile, RemoteFile};
use crate::files::blob::Blob;
use crate::files::media_type::MediaKind;
use crate::gateway::accounts::error::RefreshError;
use crate::gateway::answer::context::RequestContext;
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::trace::Trace;
use crate::gateway::answer::video_start::{StartedVideo, VideoDiary};
use crate::gateway::chats::janitor::OwnChat;
use crate::gateway::videos::jobs::{VideoJobs, is_open};
use crate::gateway::videos::task::Found;
use crate::pool::{CallerId, Now, Outcome};
use crate::store::{StoreError, VideoJob, VideoPicture, VideoState};
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::request::WebRequest;

/// Time limit of a job in seconds, waiting included. The upstream was seen to need up to six minutes.
const JOB_SECONDS_MAX: u64 = 25 * 60;

/// Least time of a job after a restart in seconds, so that a video which was made meanwhile is found.
const RESUMED_SECONDS_MIN: u64 = 60;

/// A job that could begin after this long waits for it.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Most waits of a job before it begins.
const WAITS_MAX: u32 = 30;

/// Pause before the next look for a token that is being fetched.
const TOKEN_WAIT: Duration = Duration::from_secs(30);

/// The form field of the picture.
const PICTURE_FIELD: &str = "input_reference";

impl VideoJobs {
    /// Sets a job going, unless it is worked on already.
    pub(super) fn work_on(&self, id: &str, own: Option<Arc<Session>>, retries_max: u32) {
        let stop = self.0.supervisor.stopping();
        let Some(working) = Working::begin(self, id).filter(|_| !stop.is_cancelled()) else {
            return;
        };
        let jobs = self.clone();
        self.0.supervisor.spawn("make a video", async move {
            tokio::select! {
                () = Box::pin(jobs.work(&working.id, own, retries_max)) => {}
                () = working.end.cancelled() => debug!(video.id = working.id, "video forgotten while it was made"),
                () = stop.cancelled() => debug!(video.id = working.id, "video left for the next start"),
            }
        });
    }

    /// Works on a job until it is done, well or not.
    async fn work(&self, id: &str, own: Option<Arc<Session>>, retries_max: u32) {
        let Some(job) = self.0.jobs.lock().get(id).map(|entry| entry.job.clone()).filter(is_open) else {
            return;
        };
        // The chat is let go only when the end is written down.
        let mut chat = None;
        let made = self.make(&job, own, retries_max, &mut chat).await;
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

    /// Makes the video, from the point that an earlier run reached, and returns the link to it.
    async fn make(
        &self,
        job: &VideoJob,
        own: Option<Arc<Session>>,
        retries_max: u32,
        chat: &mut Option<OwnChat>,
    ) -> Result<String, ChatError> {
        let own = own.filter(|_| !job.is_pooled);
        let left = JOB_SECONDS_MAX.saturating_sub(Now::read().unix.seconds_since(job.created_at));
        let deadline = Instant::now() + Duration::from_secs(left.max(RESUMED_SECONDS_MIN));
        let (session, task) = match self.begun_earlier(job, own.as_ref(), chat, deadline).await? {
            Some(begun) => begun,
            None => self.start(job, own, retries_max, chat, deadline).await?,
        };
        let followed = self.0.chats.videos().follow(&session, &task, &job.prompt, deadline).await;
        followed.map_err(|error| ChatError::Upstream { error, attempts: 1 })
    }

    /// The video that an earlier run may have begun, with its account; `None` if it certainly began none.
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
        retries_max: u32,
        chat: &mut Option<OwnChat>,
        deadline: Instant,
    ) -> Result<(Arc<Session>, String), ChatError> {
        // A picture that was good when it came in and is not now was damaged where it was kept.
        let wish = wish(job).ok_or(ChatError::NotKept(StoreError::Closed))?;
        let mut hasher = DefaultHasher::new();
        job.owner.hash(&mut hasher);
        let trace = Trace::default();
        let context = RequestContext { caller: CallerId(hasher.finish()), owner: None, own, retries_max, trace };
        let mut waits = 0;
        loop {
            let mut diary = Diary { jobs: self, id: &job.id, fault: None };
            let started = Box::pin(self.0.chats.start_video(&wish, &context, &mut diary, deadline)).await;
            let error = match (started, diary.fault) {
                (Ok(StartedVideo { lease, chat: made, task }), _) => {
                    // Making a video does not occupy the account, so others need not wait for it.
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
}

/// The right to work on a job, held by one task at a time and given back on drop.
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

/// The request for the upstream; `None` if the picture cannot be read, which was checked when it arrived.
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

/// Pause before a video that could not begin is tried again; `None` if waiting does not help soon.
fn wait_for(error: &ChatError) -> Option<Duration> {
    let wait = match error {
        ChatError::Lease(error, _) => error.retry_after(),
        ChatError::Upstream { error, .. } if error.kind == UpstreamErrorKind::RateLimited => error.retry_after,
        ChatError::Session(RefreshError::Failed { .. }, _) => Some(TOKEN_WAIT),
        _ => None,
    };
    wait.filter(|wait| *wait <= WAIT_MAX).map(|wait| wait.max(Duration::from_secs(1)))
}

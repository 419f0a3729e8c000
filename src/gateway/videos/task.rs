//! Follows a video that the upstream makes, by polls with the identity that started it; and finds it when the answer
//! that named it was lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::base::session::Session;
use crate::gateway::accounts::web::WebAccounts;
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::client::QwenWeb;
use crate::upstream::web::detail::{is_untouched, video_task};
use crate::upstream::web::tasks::TaskStatus;

/// First pause between two polls; each further one is half as long again.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause between two polls; the site's own page polls every ten seconds.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Pause after a challenge: further polls would meet it too.
const CHALLENGE_PAUSE: Duration = Duration::from_secs(300);
/// Polls in a row after which an unknown task is lost. A new task may not be known everywhere yet.
const UNKNOWN_MAX: u32 = 4;

/// Reads of a chat without a question after which it counts as untouched: a question that was just sent may not be
/// stored yet.
const UNTOUCHED_LOOKS: u32 = 3;
/// Reads of a chat with a question but without a task after which no task is expected.
const TASKLESS_LOOKS: u32 = 6;

/// Unreadable answers, or refusals of the account, in a row after which no better one is expected.
const USELESS_MAX: u32 = 12;

const DOING: &str = "making a video";

/// Follows video tasks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct VideoTasks {
    pub(crate) upstream: Arc<QwenWeb>,
    pub(crate) accounts: WebAccounts,
}

/// The content of a chat in which a video may have been begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The id of the task that makes the video.
    Task(String),
    /// No question was sent to the chat.
    Nothing,
    /// Unknown: the chat is gone, cannot be read, or has a question and no task.
    Unclear,
}

impl VideoTasks {
    /// Reads a chat for its video, repeatedly where that may help, until `deadline` at most.
    pub(crate) async fn find(&self, session: &Arc<Session>, chat_id: &str, deadline: Instant) -> Found {
        let (mut pause, mut untouched, mut taskless) = (PAUSE_MIN, 0, 0);
        loop {
            self.freshen(session).await;
            let generation = session.token_generation();
            let mut wait = pause;
            match self.upstream.chat_detail(session, chat_id).await {
                Ok(detail) => {
                    if let Some(task) = video_task(&detail) {
                        return Found::Task(task);
                    }
                    let is_untouched = is_untouched(&detail);
                    untouched = if is_untouched { untouched + 1 } else { 0 };
                    taskless += u32::from(!is_untouched);
                    if untouched >= UNTOUCHED_LOOKS {
                        return Found::Nothing;
                    }
                    if taskless >= TASKLESS_LOOKS {
                        return Found::Unclear;
                    }
                }
                Err(error) if error.kind == UpstreamErrorKind::LostChat => return Found::Unclear,
                Err(error) => wait = self.after_failure(session, generation, &error, pause).await,
            }
            if Instant::now() + wait >= deadline {
                return Found::Unclear;
            }
            sleep(wait).await;
            pause = (pause * 3 / 2).min(PAUSE_MAX);
        }
    }

    /// Waits for the link to a video. A failed poll is not a failed task: the task ends by the upstream's answer, when
    /// the upstream no longer knows it, or at the deadline.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn follow(
        &self,
        session: &Arc<Session>,
        task: &str,
        prompt: &str,
        deadline: Instant,
    ) -> Result<String, UpstreamError> {
        let (mut pause, mut unknown, mut useless) = (PAUSE_MIN, 0, 0);
        loop {
            self.freshen(session).await;
            let generation = session.token_generation();
            let looked = self.upstream.task_status(session, task).await;
            let mut wait = pause;
            match looked {
                Ok(TaskStatus::Done { url }) => return Ok(url),
                Ok(TaskStatus::Failed(mut error)) => {
                    // The only known facts of a failed task are these words, so the caller gets them in every class.
                    error.quote.clean(&session.secrets(), &[prompt.into()]);
                    return Err(*error);
                }
                Ok(TaskStatus::Running) => (unknown, useless) = (0, 0),
                Err(error) => {
                    use UpstreamErrorKind as Kind;
                    unknown += u32::from(error.kind == Kind::LostChat);
                    useless += u32::from(matches!(error.kind, Kind::Protocol | Kind::Unauthorized | Kind::Forbidden));
                    if useless >= USELESS_MAX {
                        return Err(error);
                    }
                    wait = self.after_failure(session, generation, &error, pause).await;
                }
            }
            if unknown >= UNKNOWN_MAX {
                let note = "the upstream lost the video";
                return Err(UpstreamError::noted(DOING, UpstreamErrorKind::Unavailable, note));
            }
            if Instant::now() + wait >= deadline {
                return Err(UpstreamError::new(DOING, UpstreamErrorKind::Timeout));
            }
            sleep(wait).await;
            pause = (pause * 3 / 2).min(PAUSE_MAX);
        }
    }

    /// Renews the session's token, since making a video may outlast one. A failure shows at the next poll.
    async fn freshen(&self, session: &Arc<Session>) {
        let _ = self.accounts.ensure_fresh(session).await;
    }

    /// Handles a failed poll, and returns the pause before the next one.
    async fn after_failure(
        &self,
        session: &Arc<Session>,
        generation: u64,
        error: &UpstreamError,
        pause: Duration,
    ) -> Duration {
        debug!(identity.id = %session.identity(), error = %ErrorChain(error), "video not asked after");
        match error.kind {
            UpstreamErrorKind::Unauthorized => {
                // A failure shows at the next poll.
                let _ = self.accounts.replace(session, generation).await;
                pause
            }
            UpstreamErrorKind::Challenged => CHALLENGE_PAUSE,
            UpstreamErrorKind::RateLimited => error.retry_after.unwrap_or(PAUSE_MAX).max(pause),
            _ => pause,
        }
    }
}

//! Following a video that the upstream makes: asked after now and then, by the identity that started it. And
//! finding it, when the answer that named it was lost.

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

/// The first pause between two looks; each further one is half as long again.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The site's own page looks every ten seconds.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The pause after the upstream asked for a human: nothing is gained by asking on.
const CHALLENGE_PAUSE: Duration = Duration::from_secs(300);
/// A task that is not known this often in a row is lost. One that was just begun may not be known everywhere yet.
const UNKNOWN_MAX: u32 = 4;

/// A chat that is seen without a question this often is one that nothing was asked in: a question that was just sent
/// may not be written down yet.
const UNTOUCHED_LOOKS: u32 = 3;
/// A chat that is seen with a question but without a task this often will not have one.
const TASKLESS_LOOKS: u32 = 6;

/// So many answers in a row that make no sense, or refuse the account, will not be followed by a better one.
const USELESS_MAX: u32 = 12;

const DOING: &str = "making a video";

/// Follows tasks. Clones are the same.
#[derive(Clone)]
pub(crate) struct VideoTasks {
    pub(crate) upstream: Arc<QwenWeb>,
    pub(crate) accounts: WebAccounts,
}

/// What a chat tells of the video that was, or was not, begun in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This task makes it.
    Task(String),
    /// Nothing was asked.
    Nothing,
    /// It cannot be told: the chat is gone, cannot be read, or has a question and no task.
    Unclear,
}

impl VideoTasks {
    /// Looks into a chat for its video, again and again where that may help, until `deadline` at most.
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

    /// Waits for the link to a video. A failed look is no failed task: the task ends by the upstream's word, when the
    /// upstream does not know it any more, or at the deadline.
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
                    // Of a task nothing else is known than these words, so they are told whatever the class is.
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

    /// A video takes longer than many a token lives. What comes of it shows at the next look.
    async fn freshen(&self, session: &Arc<Session>) {
        let _ = self.accounts.ensure_fresh(session).await;
    }

    /// What a failed look asks for, and the pause before the next one.
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
                // What comes of it shows at the next look.
                let _ = self.accounts.replace(session, generation).await;
                pause
            }
            UpstreamErrorKind::Challenged => CHALLENGE_PAUSE,
            UpstreamErrorKind::RateLimited => error.retry_after.unwrap_or(PAUSE_MAX).max(pause),
            _ => pause,
        }
    }
}

//! Following a video that the upstream makes: asked after now and then, by the identity that started it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::base::session::Session;
use crate::gateway::refresher::Refresher;
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::qwen_web::QwenWeb;
use crate::upstream::tasks::TaskStatus;

/// The first pause between two looks; each further one is half as long again.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The site's own page looks every ten seconds.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The pause after the upstream asked for a human: nothing is gained by asking on.
const CHALLENGE_PAUSE: Duration = Duration::from_secs(300);
/// A task that is not known this often in a row is lost. One that was just begun may not be known everywhere yet.
const UNKNOWN_MAX: u32 = 4;

const DOING: &str = "making a video";

/// Follows tasks. Clones are the same.
#[derive(Clone)]
pub(crate) struct VideoTasks {
    pub(crate) upstream: Arc<QwenWeb>,
    pub(crate) refresher: Refresher,
}

impl VideoTasks {
    /// Waits for the link to a video. A failed look is no failed task; only the upstream's word, a task that nobody
    /// knows any more, or the deadline ends it.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn follow(
        &self,
        session: &Arc<Session>,
        task: &str,
        deadline: Instant,
    ) -> Result<String, UpstreamError> {
        let (mut pause, mut unknown) = (PAUSE_MIN, 0);
        loop {
            let generation = session.token_generation();
            let looked = self.upstream.task_status(session, task).await;
            let mut wait = pause;
            match looked {
                Ok(TaskStatus::Done { url }) => return Ok(url),
                Ok(TaskStatus::Failed { message }) => {
                    let detail = if message.is_empty() { "the upstream gives no reason".to_owned() } else { message };
                    return Err(UpstreamError { detail, ..UpstreamError::new(DOING, UpstreamErrorKind::Unavailable) });
                }
                Ok(TaskStatus::Running) => unknown = 0,
                Err(error) => {
                    debug!(identity.id = %session.identity(), error = %ErrorChain(&error), "video not asked after");
                    match error.kind {
                        UpstreamErrorKind::LostChat => unknown += 1,
                        UpstreamErrorKind::Unauthorized => {
                            // What comes of it shows at the next look.
                            let _ = self.refresher.replace(session, generation).await;
                        }
                        UpstreamErrorKind::Challenged => wait = CHALLENGE_PAUSE,
                        UpstreamErrorKind::RateLimited => wait = error.retry_after.unwrap_or(PAUSE_MAX).max(pause),
                        _ => {}
                    }
                }
            }
            if unknown >= UNKNOWN_MAX {
                let detail = "the upstream lost the video".to_owned();
                return Err(UpstreamError { detail, ..UpstreamError::new(DOING, UpstreamErrorKind::Unavailable) });
            }
            if Instant::now() + wait >= deadline {
                return Err(UpstreamError::new(DOING, UpstreamErrorKind::Timeout));
            }
            sleep(wait).await;
            pause = (pause * 3 / 2).min(PAUSE_MAX);
        }
    }
}

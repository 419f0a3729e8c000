//! The start of a video: the diary that outlives the process, and the result.

use crate::base::session::Session;
use crate::gateway::chats::janitor::OwnChat;
use crate::pool::Lease;

/// Writes down how far the start of a video is, before the next step is taken.
pub(crate) trait VideoDiary: Send {
    /// The question is about to be asked in this chat. If this says no, it is not.
    fn asks(&mut self, session: &Session, chat: &mut OwnChat) -> impl Future<Output = bool> + Send;

    /// It was refused, so nothing was begun in that chat.
    fn refused(&mut self) -> impl Future<Output = ()> + Send;
}

/// For videos of a streamed chat, which are lost with the process.
pub(crate) struct NoDiary;

impl VideoDiary for NoDiary {
    async fn asks(&mut self, _: &Session, _: &mut OwnChat) -> bool {
        true
    }

    async fn refused(&mut self) {}
}

/// A video that the upstream makes.
pub(crate) struct StartedVideo {
    pub(crate) lease: Lease,
    pub(crate) chat: OwnChat,
    /// The upstream's id of the task.
    pub(crate) task: String,
}

//! The titles of the chats that this server makes.
//!
//! A title is random and stored before the first chat is made under it. If the process is killed before the ids of its
//! chats are stored, the next start finds them by their title, and no chat of the owner can have it. The chats of an
//! account share a title for [`TITLE_SECONDS`], so that a chat needs no write before it is made.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::store::{ChatIntent, Store};

/// Prefix of every title: the upstream's own title for a chat without messages.
pub(crate) const TITLE: &str = "New Chat";

/// Seconds for which chats are made under one title. The next start reads an account's list back to when the title was
/// drawn.
const TITLE_SECONDS: u64 = 3600;

/// Longest wait for a title to be stored.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// The titles in use, one for each account.
pub(crate) struct ChatTitles {
    store: Arc<Store>,
    titles: Mutex<HashMap<CredentialKey, Arc<ChatTitle>>>,
}

/// A title in use. It is deleted when the last chat under it was made and no other will be.
pub(crate) struct ChatTitle {
    text: String,
    drawn_at: UnixSeconds,
    store: Arc<Store>,
    is_noted: OnceCell<()>,
    /// Chats requested under it of which it is unknown whether they were made.
    unsettled: AtomicUsize,
}

impl ChatTitles {
    /// No titles yet; later ones are stored in this store.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, titles: Mutex::default() }
    }

    /// The title for a chat of this account, once it is stored. The wait is limited, so that a disk that hangs does not
    /// stop the answers too.
    pub(crate) async fn noted(&self, key: &CredentialKey, now: UnixSeconds) -> Arc<ChatTitle> {
        let title = self.current(key, now);
        let noting = async {
            let intent = ChatIntent { title: title.text.clone(), key: key.clone(), created_at: title.drawn_at };
            if !matches!(timeout(DISK_PATIENCE, self.store.note_intent(intent)).await, Ok(Ok(_))) {
                debug!("chats are made under a title that is not written down yet");
            }
        };
        title.is_noted.get_or_init(|| noting).await;
        title
    }

    fn current(&self, key: &CredentialKey, now: UnixSeconds) -> Arc<ChatTitle> {
        let mut titles = self.titles.lock();
        if let Some(title) = titles.get(key).filter(|title| now.seconds_since(title.drawn_at) < TITLE_SECONDS) {
            return Arc::clone(title);
        }
        let title = Arc::new(ChatTitle {
            text: format!("{TITLE} {}", Uuid::new_v4().simple()),
            drawn_at: now,
            store: Arc::clone(&self.store),
            is_noted: OnceCell::new(),
            unsettled: AtomicUsize::new(0),
        });
        titles.insert(key.clone(), Arc::clone(&title));
        title
    }

    /// Gives up the titles when the server stops: those without a chat in the making are deleted at once.
    pub(crate) fn close(&self) {
        self.titles.lock().clear();
    }
}

impl ChatTitle {
    /// The title as the upstream gets it.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Notes that a chat is requested. Until [`ChatTitle::settles`] is called for it, the next start has to look for
    /// it.
    pub(crate) fn asks(&self) {
        self.unsettled.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a requested chat is known by its id, or was not made.
    pub(crate) fn settles(&self) {
        self.unsettled.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for ChatTitle {
    fn drop(&mut self) {
        if self.is_noted.initialized() && self.unsettled.load(Ordering::Relaxed) == 0 {
            self.store.forget_intent(&self.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_title_is_forgotten_when_nothing_under_it_can_be_lost() {
        // A chat that was asked for and never settled: the call was dropped, or its answer tells nothing.
        for (asked, settled, is_left) in [(0, 0, false), (2, 2, false), (1, 0, true), (3, 2, true)] {
            let dir = tempfile::tempdir().unwrap();
            let (store, _) = Store::open(dir.path()).unwrap();
            let store = Arc::new(store);
            let titles = ChatTitles::new(Arc::clone(&store));
            let title = titles.noted(&CredentialKey::of("a"), UnixSeconds(5)).await;
            (0..asked).for_each(|_| title.asks());
            (0..settled).for_each(|_| title.settles());
            titles.close();
            drop(title);
            store.close().await;
            let intents = Store::open(dir.path()).unwrap().1.intents;
            assert_eq!(intents.len(), usize::from(is_left), "{settled} of {asked}");
        }
    }

    #[tokio::test]
    async fn chats_of_an_account_share_a_title_for_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let titles = ChatTitles::new(Arc::new(Store::open(dir.path()).unwrap().0));
        let text =
            async |name: &str, now| titles.noted(&CredentialKey::of(name), UnixSeconds(now)).await.as_str().to_owned();
        let first = text("a", 0).await;
        assert!(first.starts_with(TITLE));
        assert_eq!(text("a", 3599).await, first);
        assert_ne!(text("b", 0).await, first);
        assert_ne!(text("a", 3600).await, first);
    }
}

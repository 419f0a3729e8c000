//! Cleans up at the upstream: stops answers that are no longer read, and deletes chats that this server made.
//!
//! Only chats of the ledger are ever deleted. The ledger of pool identities is on disk, so that a restart continues
//! where the last run ended. The account's own list is read only after a crash, for chats with a title that this server
//! drew for them and whose ids were not stored.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::session::Session;
use crate::gateway::accounts::error::RefreshError;
use crate::gateway::accounts::web::WebAccounts;
use crate::gateway::chats::titles::{ChatTitles, TITLE};
use crate::pool::Now;
use crate::shutdown::Supervisor;
use crate::store::{ChatIntent, KeptAnswer, OwnedChat, Store};
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::client::{NewChat, QwenWeb};

/// Most chats that wait to be deleted; further ones stay in the ledger until the next start.
const QUEUE_MAX: usize = 4096;
/// Most stop calls at once.
const STOPS_MAX: usize = 16;
/// Pause between two deletions for one identity, and before the first: chats collect, and go in one call.
const PACE: Duration = Duration::from_secs(2);
/// Longest pause after failed deletions.
const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// Most accounts whose chats are deleted at once: one that hangs must not hold up the others.
const DELETIONS_MAX: usize = 8;
/// Most chats in one call.
const BATCH_MAX: usize = 50;
/// Failed calls after which a chat is left until the next start.
const ATTEMPTS_MAX: u32 = 8;
/// Pause before an account is looked at again that has no token.
const TOKEN_WAIT: Duration = Duration::from_secs(30);
/// Failed calls after which an account's list is left for later.
const LOOKS_MAX: u32 = 3;
/// After this time a chat that was asked for is in the account's list, or was never made.
const MAKING_TIME: Duration = Duration::from_secs(60);
/// Age at which a chat of the ledger is given up, in seconds.
const AGE_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// Longest duration of the last round when the server stops.
const LAST_ROUND: Duration = Duration::from_secs(3);

/// Takes chats over when their turn has ended. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Janitor(Arc<Shared>);

struct Shared {
    upstream: Arc<QwenWeb>,
    accounts: WebAccounts,
    supervisor: Supervisor,
    store: Arc<Store>,
    titles: ChatTitles,
    /// Whether chats stay in their accounts (`KEEP_CHATS`).
    keeps_chats: watch::Sender<bool>,
    stops: Arc<Semaphore>,
    retired: mpsc::Sender<Retired>,
    /// Chats that the running janitor took from the queue and has not deleted yet.
    due: AtomicUsize,
}

struct Retired {
    session: Arc<Session>,
    chat_id: String,
    in_ledger: bool,
}

/// The receiving end, for [`run`].
pub(crate) struct JanitorQueue(mpsc::Receiver<Retired>);

/// A chat that this server made, for the time of its turn. On drop it goes to the janitor.
pub(crate) struct OwnChat {
    janitor: Janitor,
    session: Arc<Session>,
    chat_id: String,
    in_ledger: bool,
    /// `Some` while an answer may be under way upstream, with its id if known.
    answering: Option<Option<String>>,
    /// Whether the chat is needed after a restart, so that it is not deleted at the end of the process.
    outlives_process: bool,
    /// Whether the chat stays in its account for now.
    is_left: bool,
}

impl Janitor {
    /// A janitor and the queue that [`run`] works off.
    #[must_use]
    pub(crate) fn new(
        upstream: Arc<QwenWeb>,
        accounts: WebAccounts,
        supervisor: Supervisor,
        store: Arc<Store>,
        keep_chats: bool,
    ) -> (Self, JanitorQueue) {
        let (retired, queue) = mpsc::channel(QUEUE_MAX);
        let stops = Arc::new(Semaphore::new(STOPS_MAX));
        let titles = ChatTitles::new(Arc::clone(&store));
        (
            Self(Arc::new(Shared {
                upstream,
                accounts,
                supervisor,
                store,
                titles,
                keeps_chats: watch::Sender::new(keep_chats),
                stops,
                retired,
                due: AtomicUsize::new(0),
            })),
            JanitorQueue(queue),
        )
    }

    /// Whether chats stay in their accounts.
    fn keeps_chats(&self) -> bool {
        *self.0.keeps_chats.borrow()
    }

    /// Sets whether chats whose answers end from now on stay in their accounts. Once they do not, the chats that earlier
    /// runs left in the ledger are deleted too.
    pub(crate) fn keep_chats(&self, keep: bool) {
        self.0.keeps_chats.send_replace(keep);
    }

    /// Number of chats that wait to be deleted.
    pub(crate) fn waiting(&self) -> usize {
        let queued = self.0.retired.max_capacity() - self.0.retired.capacity();
        queued + self.0.due.load(Ordering::Relaxed)
    }

    /// Creates a chat. The call continues when its caller leaves: the upstream makes the chat all the same, and only
    /// the answer tells which one has to be deleted.
    ///
    /// A chat of a pool identity is made under a title that was stored before, so that a crash leaves none behind: the
    /// next start finds it by [`find_lost`]. A chat of a caller's own credential is not stored, since that credential
    /// is not kept either; it is deleted while the server runs.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn make(
        &self,
        session: &Arc<Session>,
        chat: NewChat,
        is_pooled: bool,
    ) -> Result<OwnChat, UpstreamError> {
        let (done, made) = oneshot::channel();
        let (janitor, session) = (self.clone(), Arc::clone(session));
        self.0.supervisor.spawn("make a chat", async move {
            let in_ledger = is_pooled && !janitor.keeps_chats();
            let made = if in_ledger {
                janitor.make_noted(&session, &chat).await
            } else {
                let id = janitor.0.upstream.create_chat(&session, &chat, TITLE).await;
                id.map(|id| janitor.own(&session, id, false))
            };
            // A chat that is no longer wanted is dropped here, and so deleted.
            let _ = done.send(made);
        });
        let lost = || UpstreamError::new("creating a chat", UpstreamErrorKind::Unavailable);
        made.await.unwrap_or_else(|_| Err(lost()))
    }

    async fn make_noted(&self, session: &Arc<Session>, chat: &NewChat) -> Result<OwnChat, UpstreamError> {
        use UpstreamErrorKind as Kind;
        let Shared { upstream, titles, .. } = &*self.0;
        let now = Now::read().unix;
        let title = titles.noted(session.key(), now).await;
        // When this future is dropped here, the chat stays unsettled.
        title.asks();
        let made = upstream.create_chat(session, chat, title.as_str()).await;
        // If the upstream did not answer, the chat may have been made all the same.
        let is_settled = made.as_ref().map_or_else(
            |error| {
                let is_doubtful = matches!(error.kind, Kind::Timeout | Kind::Protocol | Kind::Unavailable);
                error.is_unsent() || (error.source.is_none() && !is_doubtful)
            },
            |_| true,
        );
        let made = made.map(|chat_id| self.note(session, chat_id, now));
        if is_settled {
            title.settles();
        }
        made
    }

    /// Takes over a chat of a pool identity that the ledger lacks, and stores it.
    fn note(&self, session: &Arc<Session>, chat_id: String, now: UnixSeconds) -> OwnChat {
        self.0.store.note_chat(OwnedChat {
            chat_id: chat_id.clone(),
            key: session.key().clone(),
            created_at: now,
            kept_until: None,
            answers: Vec::new(),
        });
        self.own(session, chat_id, true)
    }

    /// Takes over a chat that an earlier run made and left in the ledger because it was still needed. It outlives this
    /// process too, if necessary.
    pub(crate) fn adopt_again(&self, session: &Arc<Session>, chat_id: &str, is_pooled: bool) -> OwnChat {
        let mut chat = self.own(session, chat_id.to_owned(), is_pooled && !self.keeps_chats());
        chat.outlive_process();
        chat
    }

    /// Takes over a chat of a pool identity that an earlier run kept, for its answers.
    pub(crate) fn adopt_kept(&self, session: &Arc<Session>, chat_id: String) -> OwnChat {
        self.own(session, chat_id, !self.keeps_chats())
    }

    fn own(&self, session: &Arc<Session>, chat_id: String, in_ledger: bool) -> OwnChat {
        let session = Arc::clone(session);
        OwnChat {
            janitor: self.clone(),
            session,
            chat_id,
            in_ledger,
            answering: None,
            outlives_process: false,
            is_left: false,
        }
    }

    fn stop(&self, session: Arc<Session>, chat_id: String, response_id: Option<String>) {
        let Shared { upstream, accounts, stops, .. } = &*self.0;
        let (upstream, accounts, stops) = (Arc::clone(upstream), accounts.clone(), Arc::clone(stops));
        self.0.supervisor.spawn("stop an answer", async move {
            let Ok(_permit) = stops.acquire().await else { return };
            if accounts.silent_until(session.key()).is_some() {
                return;
            }
            if let Err(error) = upstream.stop(&session, &chat_id, response_id.as_deref()).await {
                debug!(identity.id = %session.identity(), error = %ErrorChain(&error), "answer not stopped");
            }
        });
    }
}

impl OwnChat {
    /// The upstream's id of the chat.
    #[must_use]
    pub(crate) fn id(&self) -> &str {
        &self.chat_id
    }

    /// The session of the account that has the chat.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Uses another session of the same account from now on.
    pub(crate) fn move_to(&mut self, session: &Arc<Session>) {
        self.session = Arc::clone(session);
    }

    /// Notes that an answer begins, which has to be stopped if the chat is dropped.
    pub(crate) fn answer_begins(&mut self) {
        self.answering = Some(None);
    }

    /// Sets the id of the answer under way.
    pub(crate) fn answer_is(&mut self, response_id: Option<&str>) {
        if let Some(answering) = &mut self.answering {
            *answering = response_id.map(str::to_owned);
        }
    }

    /// Notes that the answer ended by itself.
    pub(crate) fn answer_ended(&mut self) {
        self.answering = None;
    }

    /// Stops the answer that may be under way. The chat itself stays.
    pub(crate) fn stop_answer(&mut self) {
        if let Some(response_id) = self.answering.take() {
            self.janitor.stop(Arc::clone(&self.session), self.chat_id.clone(), response_id);
        }
    }

    /// Stores until when the chat is kept, and a further answer in it.
    pub(crate) fn note_kept(&self, until: UnixSeconds, answer: Option<KeptAnswer>) {
        if self.in_ledger {
            self.janitor.0.store.keep_chat(&self.chat_id, until, answer);
        }
    }

    /// Leaves the chat in its account, where the next run finds it by the ledger. A chat that the ledger lacks goes to
    /// the janitor.
    pub(crate) fn leave_to_ledger(mut self) {
        self.is_left = self.in_ledger;
    }

    /// Keeps the chat from being deleted when it is dropped because the process stops: the next run needs it. The
    /// ledger still has it, so the reader of the ledger has to know that it is needed.
    pub(crate) fn outlive_process(&mut self) {
        self.outlives_process = true;
    }
}

impl Drop for OwnChat {
    fn drop(&mut self) {
        if self.outlives_process && self.janitor.0.supervisor.stopping().is_cancelled() {
            return;
        }
        self.stop_answer();
        if self.is_left {
            return;
        }
        if self.janitor.keeps_chats() {
            if self.in_ledger {
                // It was made while chats were still deleted; no later run may delete it.
                self.janitor.0.store.forget_chat(&self.chat_id);
            }
            return;
        }
        let chat_id = std::mem::take(&mut self.chat_id);
        let retired = Retired { session: Arc::clone(&self.session), chat_id, in_ledger: self.in_ledger };
        if self.janitor.0.retired.try_send(retired).is_err() {
            warn!(identity.id = %self.session.identity(), "too many chats to delete, this one waits for the next start");
        }
    }
}

/// The chats that wait for one identity.
struct Due {
    session: Arc<Session>,
    chats: VecDeque<(String, bool, u32)>,
    not_before: Instant,
    failures: u32,
    /// Number of chats at the front that a running call deletes; 0 without one. They stay until it has ended, so that
    /// dropping the call loses none.
    asked: usize,
}

impl Due {
    /// The ids of the next chats, for a call that deletes them.
    fn ask(&mut self) -> Vec<String> {
        self.asked = self.chats.len().min(BATCH_MAX);
        self.chats.iter().take(self.asked).map(|(id, ..)| id.clone()).collect()
    }
}

/// Works through the queue until `stop`, beginning with the chats that the last run left in the ledger, as soon as chats
/// are not kept.
pub(crate) async fn run(
    janitor: Janitor,
    mut queue: JanitorQueue,
    mut ledger: Vec<OwnedChat>,
    sessions: Vec<Arc<Session>>,
    now: UnixSeconds,
    stop: CancellationToken,
) {
    let mut due: HashMap<CredentialKey, Due> = HashMap::new();
    let mut keeping = janitor.0.keeps_chats.subscribe();
    let mut calls = FuturesUnordered::new();
    loop {
        if !*keeping.borrow_and_update() {
            for chat in ledger.drain(..) {
                match sessions.iter().find(|session| *session.key() == chat.key) {
                    Some(session) => add(&mut due, Arc::clone(session), chat.chat_id, true),
                    // The account may return; its chats are remembered for a while.
                    None if now.seconds_since(chat.created_at) > AGE_SECONDS_MAX => {
                        janitor.0.store.forget_chat(&chat.chat_id);
                    }
                    None => {}
                }
            }
        }
        janitor.0.due.store(due.values().map(|due| due.chats.len()).sum(), Ordering::Relaxed);
        let next = due.values().filter(|due| due.asked == 0).map(|due| due.not_before).min();
        let pause = sleep_until(next.unwrap_or_else(|| Instant::now() + BACKOFF_MAX));
        tokio::select! {
            () = stop.cancelled() => break,
            retired = queue.0.recv() => match retired {
                Some(Retired { session, chat_id, in_ledger }) => add(&mut due, session, chat_id, in_ledger),
                None => break,
            },
            _ = keeping.changed() => {}
            Some((key, result)) = calls.next() => {
                if let Some(entry) = due.get_mut(&key) {
                    janitor.settle(entry, result);
                }
                due.retain(|_, entry| !entry.chats.is_empty());
            }
            () = pause, if next.is_some() && calls.len() < DELETIONS_MAX => {
                let now = Instant::now();
                let ready = due.iter_mut().filter(|(_, entry)| entry.asked == 0 && entry.not_before <= now);
                for (key, entry) in ready.take(DELETIONS_MAX - calls.len()) {
                    let (key, session, ids) = (key.clone(), Arc::clone(&entry.session), entry.ask());
                    let janitor = &janitor;
                    calls.push(async move { (key, janitor.delete(&session, &ids).await) });
                }
            }
        }
    }
    drop(calls);
    while let Ok(Retired { session, chat_id, in_ledger }) = queue.0.try_recv() {
        add(&mut due, session, chat_id, in_ledger);
    }
    let last_round = stream::iter(due.values_mut()).for_each_concurrent(DELETIONS_MAX, async |entry| {
        let ids = entry.ask();
        let result = janitor.delete(&entry.session, &ids).await;
        janitor.settle(entry, result);
    });
    let _ = timeout(LAST_ROUND, last_round).await;
    janitor.0.titles.close();
}

/// Chats of the last run whose ids were never stored, because it was killed or a connection was lost.
pub(crate) struct LostChats {
    /// The titles that they were made under.
    intents: Vec<ChatIntent>,
    /// The ids that were stored.
    known: HashSet<String>,
}

impl LostChats {
    /// The chats under these titles that the ledger lacks.
    pub(crate) fn of(intents: Vec<ChatIntent>, ledger: &[OwnedChat]) -> Self {
        Self { intents, known: ledger.iter().map(|chat| chat.chat_id.clone()).collect() }
    }
}

/// Finds chats that the last run lost, and has them deleted. Their titles are random, so no chat of the owner can have
/// one. Each account is searched twice: soon, and when no chat can be in the making any more.
pub(crate) async fn find_lost(janitor: Janitor, lost: LostChats, sessions: Vec<Arc<Session>>, stop: CancellationToken) {
    let LostChats { intents, mut known } = lost;
    if intents.is_empty() {
        return;
    }
    let looking = async {
        // An error would say that the janitor is gone, which this task holds.
        let _ = janitor.0.keeps_chats.subscribe().wait_for(|keeps| !keeps).await;
        let begun_at = Instant::now();
        let looks = sessions.iter().map(|session| Look { session, at: begun_at + PACE, is_last: false });
        let mut looks: Vec<Look<'_>> = looks.collect();
        while let Some((next, _)) = looks.iter().enumerate().min_by_key(|(_, look)| look.at) {
            let Look { session, at, is_last } = looks.swap_remove(next);
            let its: Vec<&ChatIntent> = intents.iter().filter(|intent| intent.key == *session.key()).collect();
            if its.is_empty() {
                continue;
            }
            sleep_until(at).await;
            match janitor.find_lost_of(session, &its, &mut known).await {
                Err(Later(at)) => looks.push(Look { session, at, is_last }),
                Ok(_) if !is_last => looks.push(Look { session, at: Instant::now() + MAKING_TIME, is_last: true }),
                Ok(true) => its.iter().for_each(|intent| janitor.0.store.forget_intent(&intent.title)),
                Ok(false) => {}
            }
        }
    };
    stop.run_until_cancelled(looking).await;
}

/// A search for lost chats that is still to be made.
struct Look<'a> {
    session: &'a Arc<Session>,
    at: Instant,
    /// Whether no chat can be in the making any more by then.
    is_last: bool,
}

/// Moment before which nothing is sent for an account.
struct Later(Instant);

fn add(due: &mut HashMap<CredentialKey, Due>, session: Arc<Session>, chat_id: String, in_ledger: bool) {
    let entry = due.entry(session.key().clone()).or_insert_with(|| Due {
        session,
        chats: VecDeque::new(),
        not_before: Instant::now() + PACE,
        failures: 0,
        asked: 0,
    });
    entry.chats.push_back((chat_id, in_ledger, 0));
}

impl Janitor {
    /// An error while nothing may be sent for the account of this session.
    fn may_send(&self, session: &Session) -> Result<(), Later> {
        match self.0.accounts.silent_until(session.key()) {
            Some(until) => Err(Later(until.min(Instant::now() + BACKOFF_MAX))),
            None => Ok(()),
        }
    }

    /// As [`Janitor::may_send`], once the session has a token that is still good. One of an account that is gone, or of a
    /// caller, stays what it is.
    async fn ready(&self, session: &Arc<Session>) -> Result<(), Later> {
        self.may_send(session)?;
        match self.0.accounts.ensure_fresh_in_turn(session).await {
            Ok(()) | Err(RefreshError::Gone { .. }) => Ok(()),
            Err(_) => Err(Later(Instant::now() + TOKEN_WAIT)),
        }
    }

    /// Tells the pool that a call was answered by a challenge. An error, as the account then has to be left alone; a session
    /// that the pool does not have is left to the usual backoff.
    fn take_up(&self, session: &Session, error: &UpstreamError) -> Result<(), Later> {
        if error.kind == UpstreamErrorKind::Challenged {
            self.0.accounts.challenged(session.key());
            return self.may_send(session);
        }
        Ok(())
    }

    /// Searches the account's list for chats with these titles. Returns whether the list could be read.
    async fn find_lost_of(
        &self,
        session: &Arc<Session>,
        intents: &[&ChatIntent],
        known: &mut HashSet<String>,
    ) -> Result<bool, Later> {
        let titles: Vec<&str> = intents.iter().map(|intent| &*intent.title).collect();
        let since = intents.iter().map(|intent| intent.created_at).min().unwrap_or(UnixSeconds(0));
        let mut failures = 0;
        let found = loop {
            self.ready(session).await?;
            // An hour earlier, since the upstream's clock may differ.
            match self.0.upstream.chats_titled(session, &titles, since.plus(-3600)).await {
                Ok(found) => break found,
                Err(error) => {
                    debug!(identity.id = %session.identity(), error = %ErrorChain(&error), "lost chats not looked for");
                    self.take_up(session, &error)?;
                    failures += 1;
                    if failures == LOOKS_MAX {
                        return Ok(false);
                    }
                    sleep(PACE * 2_u32.saturating_pow(failures)).await;
                }
            }
        };
        for chat_id in found {
            if !known.insert(chat_id.clone()) {
                continue;
            }
            info!(identity.id = %session.identity(), "a chat was found that an earlier run has lost");
            // Dropped here, and so deleted.
            drop(self.note(session, chat_id, Now::read().unix));
        }
        Ok(true)
    }

    /// Deletes chats of one account. An error if it has to be left alone for now or has no token.
    async fn delete(&self, session: &Arc<Session>, ids: &[String]) -> Result<Result<(), UpstreamError>, Later> {
        self.ready(session).await?;
        let deleted = self.0.upstream.delete_chats(session, ids).await;
        if let Err(error) = &deleted {
            warn!(identity.id = %session.identity(), error = %ErrorChain(error), "own chats not deleted, later again");
            self.take_up(session, error)?;
        }
        Ok(deleted)
    }

    /// Takes up the result of a call for the chats at the front. One that was not made costs no attempt.
    fn settle(&self, entry: &mut Due, result: Result<Result<(), UpstreamError>, Later>) {
        let asked = std::mem::take(&mut entry.asked);
        let result = match result {
            Ok(result) => result,
            Err(Later(at)) => {
                entry.not_before = at;
                return;
            }
        };
        let batch: Vec<_> = entry.chats.drain(..asked).collect();
        match result {
            Ok(()) => {
                entry.failures = 0;
                entry.not_before = Instant::now() + PACE;
                debug!(identity.id = %entry.session.identity(), chats = batch.len(), "own chats deleted");
                for (id, _, _) in batch.iter().filter(|(_, in_ledger, _)| *in_ledger) {
                    self.0.store.forget_chat(id);
                }
            }
            Err(error) => {
                entry.failures = entry.failures.saturating_add(1);
                let is_challenge = error.kind == UpstreamErrorKind::Challenged;
                let failures = if is_challenge { u32::MAX } else { entry.failures };
                entry.not_before = Instant::now() + (PACE * 2_u32.saturating_pow(failures.min(16))).min(BACKOFF_MAX);
                let kept = batch.into_iter().map(|(id, in_ledger, attempts)| (id, in_ledger, attempts + 1));
                entry.chats.extend(kept.filter(|(_, _, attempts)| *attempts < ATTEMPTS_MAX));
            }
        }
    }
}

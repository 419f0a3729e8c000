//! Chats that can be continued: in which chat each answer of each caller is.
//!
//! An answer is identified by its [`Place`], a hash of the caller, the model, and the conversation up to it. Only
//! hashes are kept, no text. A chat is in the table only while no answer is made in it: a second continuation at the
//! same time finds nothing and begins a new chat. A chat that is not continued for `CONTINUE_IDLE` leaves the table and
//! goes to the janitor. The table outlives the process: the ledger of chats has a copy of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::live::Live;
use crate::base::session::Session;
use crate::chat::history::{AnswerHasher, History};
use crate::chat::reply::ReplyEvent;
use crate::gateway::chats::janitor::{Janitor, OwnChat};
use crate::pool::Now;
use crate::store::{KeptAnswer, OwnedChat};
use crate::upstream::web::request::WebRequest;

/// Most chats in the table; beyond it the one that was idle longest leaves.
const CHATS_MAX: usize = 4000;
/// Most answers of one chat that can be continued; beyond it the oldest cannot.
const ANSWERS_MAX: usize = 500;

/// One answer of one caller's conversation, as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place([u8; 32]);

/// The caller of a conversation, and the facts that must stay the same for it to be continued.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    /// Hash that names the caller in the state file.
    owner: CredentialKey,
    /// The upstream's id of the model.
    model: String,
    /// The upstream's chat type, such as `t2t`.
    chat_type: &'static str,
    /// Whether the tools are declared in each message of the chat, and no prompt in it describes them.
    is_native: bool,
}

impl Asker {
    /// The asker of a request.
    pub(crate) fn of(owner: &CredentialKey, request: &WebRequest) -> Self {
        Self {
            owner: owner.clone(),
            model: request.upstream_model.clone(),
            chat_type: request.chat_type(),
            is_native: false,
        }
    }

    /// The same asker, for chats in which the tools are declared instead of described.
    pub(crate) fn natively(self) -> Self {
        Self { is_native: true, ..self }
    }

    /// The place of the answer that ends this history.
    pub(crate) fn place(&self, history: History) -> Place {
        let mut hasher = Sha256::new();
        for field in [self.owner.as_str(), &self.model, self.chat_type] {
            hasher.update(field.len().to_be_bytes());
            hasher.update(field.as_bytes());
        }
        hasher.update(history.as_bytes());
        if self.is_native {
            hasher.update(b"native");
        }
        Place(hasher.finalize().into())
    }
}

/// A chat with the answers in it that can be continued.
struct Thread {
    chat: OwnChat,
    /// Places with the upstream's ids of the answers, oldest first.
    answers: Vec<(Place, String)>,
}

/// All chats that can be continued. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Continuations(Arc<Shared>);

struct Shared {
    /// Time after which an idle chat leaves; `None`: chats are not continued.
    idle: Live<Option<Duration>>,
    table: Mutex<Table>,
    /// Notified when the first chat enters the table.
    filled: Notify,
}

#[derive(Default)]
struct Table {
    /// Chats by number, which is the order in which they leave: all are kept for the same time. After `CONTINUE_IDLE` was
    /// lowered, a chat waits for those before it.
    threads: BTreeMap<u64, Kept>,
    places: HashMap<Place, u64>,
    next_number: u64,
    /// Whether the server stops, so that no chat is taken in.
    is_closed: bool,
}

struct Kept {
    thread: Thread,
    expires_at: Instant,
}

impl Table {
    fn insert(&mut self, thread: Thread, expires_at: Instant) {
        let number = self.next_number;
        self.next_number += 1;
        for (place, _) in &thread.answers {
            self.places.insert(*place, number);
        }
        self.threads.insert(number, Kept { thread, expires_at });
    }

    fn remove(&mut self, number: u64) -> Option<Thread> {
        let Kept { thread, .. } = self.threads.remove(&number)?;
        for (place, _) in &thread.answers {
            // The same conversation may since have been held in another chat.
            if self.places.get(place) == Some(&number) {
                self.places.remove(place);
            }
        }
        Some(thread)
    }

    /// The chat that leaves first, and the time.
    fn first(&self) -> Option<(u64, Instant)> {
        self.threads.first_key_value().map(|(number, kept)| (*number, kept.expires_at))
    }
}

impl Continuations {
    /// An empty table whose chats leave it after `idle`; `None` continues no chats.
    #[must_use]
    pub(crate) fn new(idle: Option<Duration>) -> Self {
        Self(Arc::new(Shared { idle: Live::new(idle), table: Mutex::default(), filled: Notify::new() }))
    }

    /// Keeps chats for as long from now on. Those that are kept already leave when they were meant to; with `None` no
    /// request goes to them any more.
    pub(crate) fn keep_for(&self, idle: Option<Duration>) {
        self.0.idle.put(idle);
    }

    /// The credential whose account has the chat of this answer.
    pub(crate) fn holder(&self, place: &Place) -> Option<CredentialKey> {
        (*self.0.idle.now())?;
        let table = self.0.table.lock();
        let kept = table.threads.get(table.places.get(place)?)?;
        Some(kept.thread.chat.session().key().clone())
    }

    /// Takes the chat of this answer out of the table, if it is in the account of this session. Returns the upstream's
    /// id of the answer too.
    fn take(&self, place: &Place, session: &Session) -> Option<(Thread, String)> {
        (*self.0.idle.now())?;
        let mut table = self.0.table.lock();
        let number = *table.places.get(place)?;
        let thread = &table.threads.get(&number)?.thread;
        if thread.chat.session().key() != session.key() {
            return None;
        }
        let (_, response_id) = thread.answers.iter().rfind(|(known, _)| known == place)?.clone();
        Some((table.remove(number)?, response_id))
    }

    /// Moves the chats of an account to the session that replaces the one with this credential.
    pub(crate) fn hand_over(&self, from: &CredentialKey, to: &Arc<Session>) {
        let mut table = self.0.table.lock();
        let kept = table.threads.values_mut().filter(|kept| kept.thread.chat.session().key() == from);
        kept.for_each(|kept| kept.thread.chat.move_to(to));
    }

    /// Lets the chats of an account go that was removed, while its session is still known.
    pub(crate) fn let_go_of(&self, key: &CredentialKey) {
        let gone: Vec<Thread> = {
            let mut table = self.0.table.lock();
            let its = table.threads.iter().filter(|(_, kept)| kept.thread.chat.session().key() == key);
            let numbers: Vec<u64> = its.map(|(number, _)| *number).collect();
            numbers.into_iter().filter_map(|number| table.remove(number)).collect()
        };
        // Dropped after the lock: they go to the janitor.
        drop(gone);
    }

    /// Takes over the chats that the last run kept. Returns those that are to be deleted, and those of missing
    /// accounts.
    #[must_use]
    pub(crate) fn restore(
        &self,
        ledger: Vec<OwnedChat>,
        janitor: &Janitor,
        sessions: &[Arc<Session>],
        now: UnixSeconds,
    ) -> Vec<OwnedChat> {
        let mut others = Vec::new();
        for chat in ledger {
            let left = chat.kept_until.map_or(0, |until| until.seconds_since(now));
            let session = sessions.iter().find(|session| *session.key() == chat.key);
            match (*self.0.idle.now(), session) {
                (Some(idle), Some(session)) if left > 0 => {
                    let answers = chat.answers.into_iter().map(|kept| (Place(kept.place), kept.response_id)).collect();
                    let chat = janitor.adopt_kept(session, chat.chat_id);
                    // A clock that stepped back must not prolong the time.
                    self.insert(Thread { chat, answers }, idle.min(Duration::from_secs(left)));
                }
                _ => others.push(chat),
            }
        }
        others
    }

    /// Takes a chat in, with the answer that was just given in it, or leaves the chat to the janitor.
    fn keep(&self, mut thread: Thread, answer: Option<(Place, String)>) {
        let Some(idle) = *self.0.idle.now() else { return };
        let until = Now::read().unix.plus(i64::try_from(idle.as_secs()).unwrap_or(i64::MAX));
        let kept = answer.clone().map(|(Place(place), response_id)| KeptAnswer { place, response_id });
        thread.chat.note_kept(until, kept);
        thread.answers.extend(answer);
        self.insert(thread, idle);
    }

    fn insert(&self, mut thread: Thread, idle: Duration) {
        let excess = thread.answers.len().saturating_sub(ANSWERS_MAX);
        thread.answers.drain(..excess);
        let dropped = {
            let mut table = self.0.table.lock();
            if table.is_closed {
                Some(thread)
            } else {
                table.insert(thread, Instant::now() + idle);
                let over = table.first().filter(|_| table.threads.len() > CHATS_MAX);
                over.and_then(|(number, _)| table.remove(number))
            }
        };
        // Dropped after the lock: it goes to the janitor.
        drop(dropped);
        self.0.filled.notify_one();
    }

    /// Lets chats go that were not continued for a while, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.let_go()).await.is_some() {}
    }

    /// Waits until the next chat has to leave, and lets it go.
    async fn let_go(&self) {
        let first = self.0.table.lock().first();
        // Chats that come later leave later.
        match first {
            Some((_, at)) => sleep_until(at).await,
            None => return self.0.filled.notified().await,
        }
        let now = Instant::now();
        loop {
            let mut table = self.0.table.lock();
            let Some((number, _)) = table.first().filter(|(_, at)| *at <= now) else { return };
            let thread = table.remove(number);
            drop(table);
            drop(thread);
        }
    }

    /// Empties the table, as the server stops. Chats that the ledger has stay in their accounts until the next start.
    pub(crate) fn close(&self) {
        let threads: Vec<Kept> = {
            let mut table = self.0.table.lock();
            table.is_closed = true;
            table.places.clear();
            std::mem::take(&mut table.threads).into_values().collect()
        };
        for Kept { thread, .. } in threads {
            thread.chat.leave_to_ledger();
        }
    }
}

/// The chat of one attempt. On drop it goes back to the table if it has earlier answers, else to the janitor.
pub(crate) struct TurnChat {
    /// `None` after it was given away.
    chat: Option<OwnChat>,
    /// `None` for an answer that is not continued.
    follow: Option<Box<Follow>>,
}

/// The facts that are needed to continue an answer later.
struct Follow {
    continuations: Continuations,
    asker: Asker,
    /// The conversation that is answered.
    asked: History,
    shown: AnswerHasher,
    /// Earlier answers of the chat that can be continued.
    earlier: Vec<(Place, String)>,
}

impl TurnChat {
    /// The chat of an answer that is not continued.
    pub(crate) fn alone(chat: OwnChat) -> Self {
        Self { chat: Some(chat), follow: None }
    }

    /// A new chat for a whole conversation.
    pub(crate) fn begun(
        chat: OwnChat,
        continuations: &Continuations,
        asker: Option<&Asker>,
        request: &WebRequest,
    ) -> Self {
        let follow = match (asker, &request.thread) {
            (Some(asker), Some(thread)) if continuations.0.idle.now().is_some() => {
                Some(Box::new(Follow::new(continuations, asker, thread.asked, Vec::new())))
            }
            _ => None,
        };
        Self { chat: Some(chat), follow }
    }

    /// The chat that a request continues, and the upstream's id of the answer that it follows; `None` if the account of
    /// this session has none.
    pub(crate) fn known(
        continuations: &Continuations,
        asker: &Asker,
        request: &WebRequest,
        session: &Session,
    ) -> Option<(Self, String)> {
        let thread = request.thread.as_ref()?;
        let place = asker.place(thread.turn.as_ref()?.before);
        let (Thread { chat, answers }, response_id) = continuations.take(&place, session)?;
        let follow = Follow::new(continuations, asker, thread.asked, answers);
        Some((Self { chat: Some(chat), follow: Some(Box::new(follow)) }, response_id))
    }

    /// The upstream's id of the chat; empty after it was given away.
    pub(crate) fn id(&self) -> &str {
        self.chat.as_ref().map_or("", OwnChat::id)
    }

    /// Notes that an answer begins, which has to be stopped if the chat is dropped.
    pub(crate) fn answer_begins(&mut self) {
        self.chat.iter_mut().for_each(OwnChat::answer_begins);
    }

    /// Sets the id of the answer under way.
    pub(crate) fn answer_is(&mut self, response_id: Option<&str>) {
        self.chat.iter_mut().for_each(|chat| chat.answer_is(response_id));
    }

    /// Notes that the answer ended by itself.
    pub(crate) fn answer_ended(&mut self) {
        self.chat.iter_mut().for_each(OwnChat::answer_ended);
    }

    /// Takes the next event that the caller is shown.
    pub(crate) fn shown(&mut self, event: &ReplyEvent<'_>) {
        if let Some(follow) = &mut self.follow {
            follow.shown.event(event);
        }
    }

    /// Keeps the chat: the caller was shown exactly the answer, so it can be continued.
    pub(crate) fn answered(mut self, response_id: &str) {
        if let (Some(chat), Some(follow)) = (self.chat.take(), self.follow.take()) {
            let Follow { continuations, asker, asked, shown, earlier: answers } = *follow;
            let answer = (asker.place(asked.answered(shown.finish())), response_id.to_owned());
            continuations.keep(Thread { chat, answers }, Some(answer));
        }
    }

    /// Marks every answer of the chat as not to be continued.
    pub(crate) fn forget(&mut self) {
        self.follow = None;
    }
}

impl Follow {
    fn new(continuations: &Continuations, asker: &Asker, asked: History, earlier: Vec<(Place, String)>) -> Self {
        let (continuations, asker) = (continuations.clone(), asker.clone());
        Self { continuations, asker, asked, shown: AnswerHasher::default(), earlier }
    }
}

impl Drop for TurnChat {
    fn drop(&mut self) {
        if let (Some(mut chat), Some(follow)) = (self.chat.take(), self.follow.take())
            && !follow.earlier.is_empty()
        {
            chat.stop_answer();
            follow.continuations.keep(Thread { chat, answers: follow.earlier }, None);
        }
    }
}

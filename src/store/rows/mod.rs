//! The rows of the state file, written and read. No SQL outside of this folder, `responses.rs`, `usage.rs` and `schema.rs`.
//!
//! This is one long file because each table has its writer and its reader side by side.

pub(crate) mod facts;
pub(crate) mod keys;
pub(crate) mod made;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::debug;
use url::Url;

use crate::base::facts::IdentityFacts;
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::secret::{ApiKey, Cookie};
use crate::store::daily::{Daily, DaySpent, Spent, UtcDay};
use crate::store::disk::fault::Fault;
use crate::store::disk::files;
use crate::store::records::{
    ChatIntent, KeptAlert, KeptAnswer, Loaded, Note, OwnedChat, StoredAccount, StoredSession, VideoJob, VideoPicture,
    VideoState,
};
use crate::store::responses;
use crate::store::schema;
use crate::store::usage;

/// An open state file, or the same tables in memory.
pub(super) struct Rows {
    connection: Connection,
    /// The most bytes that responses may take together.
    responses_bytes_max: i64,
    /// Whether each commit waits for the disk.
    is_synchronous: bool,
}

impl Rows {
    /// Opens the file, creates the tables when it is new, and reads all rows.
    pub(super) fn open(path: &Path) -> Result<(Self, Loaded, Daily), Fault> {
        files::prepare_file(path)?;
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // A write-ahead log needs one fsync for a commit where a rollback journal needs three; see `set_synchronous`.
        // The mode is only asked for: on a file system without shared memory SQLite stays with the journal.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;")?;
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(Fault::Content(verdict));
        }
        schema::migrate(&mut connection)?;
        prune(&connection)?;
        let now = connection.query_row("SELECT unixepoch()", [], |row| row.get(0)).map(UnixSeconds)?;
        responses::prune(&connection, now, responses::BYTES_MAX)?;
        let rows = Self { connection, responses_bytes_max: responses::BYTES_MAX, is_synchronous: true };
        let (loaded, daily) = (rows.load()?, rows.load_days()?);
        Ok((rows, loaded, daily))
    }

    /// The same tables in memory, empty, for as long as the process runs.
    pub(super) fn in_memory() -> Result<Self, Fault> {
        let mut connection = Connection::open_in_memory()?;
        schema::migrate(&mut connection)?;
        Ok(Self { connection, responses_bytes_max: responses::MEMORY_BYTES_MAX, is_synchronous: true })
    }

    /// Reads everything from a file that cannot be written. It has to be of this version, and closed cleanly or with
    /// its side files beside it.
    pub(super) fn read_only(path: &Path) -> Result<(Loaded, Daily), Fault> {
        // Without its side files SQLite reads a file in a folder that it cannot write only if told that it will not
        // change. A log that is there must not be passed over.
        let mut address =
            Url::from_file_path(path).map_err(|()| Fault::Files(std::io::ErrorKind::InvalidFilename.into()))?;
        let has_log = path.with_extension("db-wal").metadata().is_ok_and(|log| log.len() > 0);
        address.set_query(Some(if has_log { "mode=ro" } else { "immutable=1" }));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(address.as_str(), flags)?;
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if verdict != "ok" || version != schema::version() {
            return Err(Fault::Content(format!("{verdict}, version {version}")));
        }
        let rows = Self { connection, responses_bytes_max: 0, is_synchronous: true };
        Ok((rows.load()?, rows.load_days()?))
    }

    /// Whether each commit from now on waits until the disk has it. Without that a commit outlives the process, however
    /// it ends, but not a power cut: a rotated credential could be taken back after it was acknowledged.
    pub(super) fn set_synchronous(&mut self, is_synchronous: bool) -> rusqlite::Result<()> {
        if self.is_synchronous != is_synchronous {
            let level = if is_synchronous { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.is_synchronous = is_synchronous;
        }
        Ok(())
    }

    /// Writes several facts, or none of them. `write` is told how many bytes responses may take together.
    pub(super) fn in_one_transaction(
        &mut self,
        write: impl FnOnce(&Transaction<'_>, i64) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write(&transaction, self.responses_bytes_max)?;
        transaction.commit()
    }

    /// Copies the log into the file as far as that is possible now. The next commit then begins at the log's front
    /// and needs no new space.
    pub(super) fn checkpoint(&self) {
        let copied = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = copied {
            debug!(%error, "the log of the state file could not be copied into it");
        }
    }

    /// The open file, for reading.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Closes the file, which folds the log into it.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        self.connection.close().map_err(|(_, error)| error)
    }

    fn load(&self) -> Result<Loaded, Fault> {
        let sessions = self
            .connection
            .prepare("SELECT key, cookies, token, saved_at, earlier FROM sessions")?
            .query_map([], |row| {
                let session = StoredSession {
                    cookies: SecretString::from(row.get::<_, String>(1)?),
                    token: row.get::<_, Option<String>>(2)?.map(SecretString::from),
                    saved_at: UnixSeconds(row.get(3)?),
                    earlier: row.get::<_, Option<String>>(4)?.map(SecretString::from),
                };
                Ok((key(&row.get::<_, String>(0)?), session))
            })?
            .collect::<Result<_, _>>()?;
        let oauth = self
            .connection
            .prepare("SELECT key, credentials FROM oauth")?
            .query_map([], |row| Ok((key(&row.get::<_, String>(0)?), SecretString::from(row.get::<_, String>(1)?))))?
            .collect::<Result<_, _>>()?;
        let facts = facts::load(&self.connection)?;
        let (accounts, labels) = (self.load_accounts()?, self.load_labels()?);
        let chats = self
            .connection
            .prepare("SELECT chat_id, key, created_at, kept_until FROM chats ORDER BY created_at, chat_id")?
            .query_map([], |row| {
                Ok(OwnedChat {
                    chat_id: row.get(0)?,
                    key: key(&row.get::<_, String>(1)?),
                    created_at: UnixSeconds(row.get(2)?),
                    kept_until: row.get::<_, Option<i64>>(3)?.map(UnixSeconds),
                    answers: Vec::new(),
                })
            })?
            .collect::<Result<_, _>>()?;
        let chats = self.with_answers(chats)?;
        let intents = self
            .connection
            .prepare("SELECT title, key, created_at FROM intents ORDER BY created_at, title")?
            .query_map([], |row| {
                let key = key(&row.get::<_, String>(1)?);
                Ok(ChatIntent { title: row.get(0)?, key, created_at: UnixSeconds(row.get(2)?) })
            })?
            .collect::<Result<_, _>>()?;
        let videos = self
            .connection
            .prepare(
                "SELECT id, owner, key, is_pooled, state, model, upstream_model, prompt, size, ratio, seconds,
                 created_at, completed_at, chat_id, task_id, link, error_code, error_message, idempotency, fingerprint,
                 picture, picture_link FROM videos ORDER BY created_at, id",
            )?
            .query_map([], video)?
            .collect::<Result<_, _>>()?;
        let generated_key = self
            .connection
            .query_row("SELECT value FROM meta WHERE name = ?1", [GENERATED_KEY], |row| row.get::<_, String>(0))
            .optional()?
            .map(|key| ApiKey::new(&key));
        let now = self.connection.query_row("SELECT unixepoch()", [], |row| row.get(0)).map(UnixSeconds)?;
        let usage = usage::load(&self.connection, now)?;
        let note = |note: Note| -> rusqlite::Result<Option<String>> {
            let mut query = self.connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
            query.query_row([note.name()], |row| row.get(0)).optional()
        };
        let generated_admin_key = note(Note::AdminKey)?.map(|key| ApiKey::new(&key));
        let mut notes = HashMap::new();
        for about in [Note::Audit, Note::ListedModels, Note::Settings] {
            notes.extend(note(about)?.map(|text| (about, text)));
        }
        let made_keys = keys::load(&self.connection)?;
        let alerts = self.load_alerts()?;
        let made = made::load(&self.connection, now)?;
        Ok(Loaded {
            sessions,
            oauth,
            accounts,
            labels,
            facts,
            chats,
            intents,
            videos,
            made_keys,
            alerts,
            made,
            usage,
            generated_key,
            generated_admin_key,
            notes,
        })
    }

    fn load_accounts(&self) -> rusqlite::Result<Vec<StoredAccount>> {
        let mut accounts =
            self.connection.prepare("SELECT id, cookie, created_at FROM accounts ORDER BY created_at, id")?;
        let rows = accounts.query_map([], |row| {
            let (id, cookie): (String, String) = (row.get(0)?, row.get(1)?);
            let created_at = UnixSeconds(row.get(2)?);
            // A row that this program did not write is skipped.
            Ok(Cookie::parse(&cookie).ok().map(|cookie| StoredAccount { id, cookie, created_at }))
        })?;
        rows.filter_map(Result::transpose).collect()
    }

    fn load_labels(&self) -> rusqlite::Result<HashMap<CredentialKey, String>> {
        let mut labels = self.connection.prepare("SELECT key, label FROM labels")?;
        let rows = labels.query_map([], |row| Ok((key(&row.get::<_, String>(0)?), row.get(1)?)))?;
        rows.collect()
    }

    fn load_alerts(&self) -> rusqlite::Result<Vec<KeptAlert>> {
        let mut alerts = self.connection.prepare("SELECT event, subject, since FROM alerts")?;
        let rows = alerts.query_map([], |row| {
            Ok(KeptAlert { event: row.get(0)?, of: row.get(1)?, since: UnixSeconds(row.get(2)?) })
        })?;
        rows.collect()
    }

    fn with_answers(&self, mut chats: Vec<OwnedChat>) -> rusqlite::Result<Vec<OwnedChat>> {
        let places: HashMap<String, usize> = chats.iter().map(|chat| chat.chat_id.clone()).zip(0..).collect();
        let mut answers = self.connection.prepare("SELECT chat_id, place, response_id FROM answers ORDER BY rowid")?;
        let mut rows = answers.query([])?;
        while let Some(row) = rows.next()? {
            let chat = places.get(&row.get::<_, String>(0)?).and_then(|place| chats.get_mut(*place));
            // An answer with a malformed hash is not continued.
            if let (Some(chat), Ok(place)) = (chat, <[u8; 32]>::try_from(row.get::<_, Vec<u8>>(1)?)) {
                chat.answers.push(KeptAnswer { place, response_id: row.get(2)? });
            }
        }
        Ok(chats)
    }

    fn load_days(&self) -> rusqlite::Result<Daily> {
        let mut days = self.connection.prepare("SELECT key, day, requests, prompt, completion, cached FROM days")?;
        let rows = days.query_map([], |row| {
            let count = |column| row.get::<_, i64>(column).map(|count| count.try_into().unwrap_or(0));
            let spent = Spent { requests: count(2)?, prompt: count(3)?, completion: count(4)?, cached: count(5)? };
            Ok((key(&row.get::<_, String>(0)?), DaySpent { day: UtcDay::numbered(row.get(1)?), spent }))
        })?;
        Ok(Daily::of(rows.collect::<rusqlite::Result<Vec<_>>>()?))
    }
}

/// Writes a session over the earlier one.
pub(super) fn put_session(
    transaction: &Transaction<'_>,
    key: &CredentialKey,
    session: &StoredSession,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO sessions (key, cookies, token, saved_at, earlier) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            key.as_str(),
            session.cookies.expose_secret(),
            session.token.as_ref().map(|token| token.expose_secret()),
            session.saved_at.0,
            session.earlier.as_ref().map(|earlier| earlier.expose_secret()),
        ))?;
    Ok(())
}

/// Deletes the session of an account that was removed, and the facts learnt about it.
pub(super) fn remove_session(transaction: &Transaction<'_>, key: &CredentialKey) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM sessions WHERE key = ?1")?.execute([key.as_str()])?;
    facts::put_facts(transaction, key, IdentityFacts::default())
}

/// Writes an account that the owner added over the earlier one of its name.
pub(super) fn put_account(transaction: &Transaction<'_>, account: &StoredAccount) -> rusqlite::Result<()> {
    // A replaced credential keeps the account's position in the order.
    transaction
        .prepare_cached(
            "INSERT INTO accounts (id, cookie, created_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET cookie = excluded.cookie",
        )?
        .execute((&account.id, account.cookie.expose(), account.created_at.0))?;
    Ok(())
}

/// Deletes an account that the owner removed.
pub(super) fn remove_account(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM accounts WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Writes the owner's name for an account, or deletes it.
pub(super) fn put_label(
    transaction: &Transaction<'_>,
    key: &CredentialKey,
    label: Option<&str>,
) -> rusqlite::Result<()> {
    match label {
        Some(label) => transaction
            .prepare_cached("INSERT OR REPLACE INTO labels (key, label) VALUES (?1, ?2)")?
            .execute((key.as_str(), label))?,
        None => transaction.prepare_cached("DELETE FROM labels WHERE key = ?1")?.execute([key.as_str()])?,
    };
    Ok(())
}

/// Writes renewed OAuth credentials over the earlier ones.
pub(super) fn put_oauth(
    transaction: &Transaction<'_>,
    key: &CredentialKey,
    credentials: &SecretString,
    now: UnixSeconds,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO oauth (key, credentials, saved_at) VALUES (?1, ?2, ?3)")?
        .execute((key.as_str(), credentials.expose_secret(), now.0))?;
    Ok(())
}

/// Writes days of accounts over the earlier counts, and deletes the oldest beyond the limit.
pub(super) fn put_days(transaction: &Transaction<'_>, days: &[(CredentialKey, DaySpent)]) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached(
        "INSERT OR REPLACE INTO days (key, day, requests, prompt, completion, cached) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let mut prune = transaction.prepare_cached(
        "DELETE FROM days WHERE key = ?1 AND day NOT IN (SELECT day FROM days WHERE key = ?1 ORDER BY day DESC LIMIT ?2)",
    )?;
    let column = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    for (key, DaySpent { day, spent }) in days {
        let Spent { requests, prompt, completion, cached } = *spent;
        let (requests, prompt) = (column(requests), column(prompt));
        put.execute((key.as_str(), day.number(), requests, prompt, column(completion), column(cached)))?;
        prune.execute((key.as_str(), Daily::DAYS_MAX))?;
    }
    Ok(())
}

/// Writes an alert that the owner was told of, or deletes one whose condition has ended.
pub(super) fn put_alert(transaction: &Transaction<'_>, alert: &KeptAlert, is_over: bool) -> rusqlite::Result<()> {
    let KeptAlert { event, of, since } = alert;
    if is_over {
        transaction.prepare_cached("DELETE FROM alerts WHERE event = ?1 AND subject = ?2")?.execute((event, of))?;
    } else {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO alerts (event, subject, since) VALUES (?1, ?2, ?3)")?
            .execute((event, of, since.0))?;
    }
    Ok(())
}

/// Writes the title of a chat that is about to be made.
pub(super) fn put_intent(transaction: &Transaction<'_>, intent: &ChatIntent) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO intents (title, key, created_at) VALUES (?1, ?2, ?3)")?
        .execute((&intent.title, intent.key.as_str(), intent.created_at.0))?;
    Ok(())
}

/// Deletes the title of a chat that was to be made.
pub(super) fn remove_intent(transaction: &Transaction<'_>, title: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM intents WHERE title = ?1")?.execute([title])?;
    Ok(())
}

/// Writes a chat that was made.
pub(super) fn put_chat(transaction: &Transaction<'_>, chat: &OwnedChat) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO chats (chat_id, key, created_at) VALUES (?1, ?2, ?3)")?
        .execute((&chat.chat_id, chat.key.as_str(), chat.created_at.0))?;
    Ok(())
}

/// Writes the moment until which a chat is kept, and an answer in it.
pub(super) fn keep_chat(
    transaction: &Transaction<'_>,
    chat_id: &str,
    until: UnixSeconds,
    answer: Option<&KeptAnswer>,
) -> rusqlite::Result<()> {
    transaction.prepare_cached("UPDATE chats SET kept_until = ?2 WHERE chat_id = ?1")?.execute((chat_id, until.0))?;
    if let Some(KeptAnswer { place, response_id }) = answer {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO answers (chat_id, place, response_id) VALUES (?1, ?2, ?3)")?
            .execute((chat_id, place.as_slice(), response_id))?;
    }
    Ok(())
}

/// Deletes a chat and its answers.
pub(super) fn remove_chat(transaction: &Transaction<'_>, chat_id: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM chats WHERE chat_id = ?1")?.execute([chat_id])?;
    transaction.prepare_cached("DELETE FROM answers WHERE chat_id = ?1")?.execute([chat_id])?;
    Ok(())
}

/// Writes a video job over its earlier state.
pub(super) fn put_video(transaction: &Transaction<'_>, job: &VideoJob) -> rusqlite::Result<()> {
    let (error_code, error_message) = job.error.as_ref().map(|(code, message)| (code, message)).unzip();
    let (picture, picture_link) = match &job.picture {
        None => (None, None),
        Some(VideoPicture::Bytes(bytes)) => (Some(bytes.as_ref()), None),
        Some(VideoPicture::Link(link)) => (None, Some(link.expose_secret())),
    };
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO videos (id, owner, key, is_pooled, state, model, upstream_model, prompt, size,
             ratio, seconds, created_at, completed_at, chat_id, task_id, link, error_code, error_message,
             idempotency, fingerprint, picture, picture_link)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
             ?21, ?22)",
        )?
        .execute(params![
            job.id,
            job.owner,
            job.key.as_str(),
            job.is_pooled,
            job.state.as_str(),
            job.model,
            job.upstream_model,
            job.prompt,
            job.size,
            job.ratio,
            job.seconds,
            job.created_at.0,
            job.completed_at.map(|at| at.0),
            job.chat_id,
            job.task_id,
            job.link.as_ref().map(|link| link.expose_secret()),
            error_code,
            error_message,
            job.idempotency,
            job.fingerprint,
            picture,
            picture_link,
        ])?;
    Ok(())
}

/// Deletes a video job.
pub(super) fn remove_video(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM videos WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Writes the generated key over the earlier one.
pub(super) fn put_generated_key(transaction: &Transaction<'_>, key: &SecretString) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute((GENERATED_KEY, key.expose_secret()))?;
    Ok(())
}

/// Writes a note over the earlier one.
pub(super) fn put_note(transaction: &Transaction<'_>, note: Note, text: &SecretString) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute((note.name(), text.expose_secret()))?;
    Ok(())
}

/// Deletes rows that are too old or beyond a limit.
fn prune(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM chats WHERE chat_id NOT IN (SELECT chat_id FROM chats ORDER BY created_at DESC LIMIT ?1)",
        [CHATS_MAX],
    )?;
    connection.execute(
        "DELETE FROM intents WHERE title NOT IN (SELECT title FROM intents ORDER BY created_at DESC LIMIT ?1)",
        [INTENTS_MAX],
    )?;
    connection.execute("DELETE FROM answers WHERE chat_id NOT IN (SELECT chat_id FROM chats)", [])?;
    connection.execute(
        "DELETE FROM videos WHERE id NOT IN (SELECT id FROM videos ORDER BY created_at DESC, id DESC LIMIT ?1)",
        [VIDEOS_MAX],
    )?;
    Ok(())
}

fn video(row: &Row<'_>) -> rusqlite::Result<VideoJob> {
    let state = VideoState::of(&row.get::<_, String>("state")?);
    let error = match (row.get("error_code")?, row.get::<_, Option<String>>("error_message")?) {
        _ if state.is_none() => Some(UNKNOWN_STATE.map(str::to_owned).into()),
        (Some(code), message) => Some((code, message.unwrap_or_default())),
        (None, _) => None,
    };
    let picture = match (row.get::<_, Option<Vec<u8>>>("picture")?, row.get::<_, Option<String>>("picture_link")?) {
        (Some(bytes), _) => Some(VideoPicture::Bytes(bytes.into())),
        (None, link) => link.map(|link| VideoPicture::Link(link.into())),
    };
    Ok(VideoJob {
        id: row.get("id")?,
        owner: row.get("owner")?,
        key: key(&row.get::<_, String>("key")?),
        is_pooled: row.get("is_pooled")?,
        // The job cannot continue, and its caller has to see an end.
        state: state.unwrap_or(VideoState::Failed),
        model: row.get("model")?,
        upstream_model: row.get("upstream_model")?,
        prompt: row.get("prompt")?,
        size: row.get("size")?,
        ratio: row.get("ratio")?,
        seconds: row.get("seconds")?,
        created_at: UnixSeconds(row.get("created_at")?),
        completed_at: row.get::<_, Option<i64>>("completed_at")?.map(UnixSeconds),
        chat_id: row.get("chat_id")?,
        task_id: row.get("task_id")?,
        link: row.get::<_, Option<String>>("link")?.map(SecretString::from),
        error,
        picture,
        idempotency: row.get("idempotency")?,
        fingerprint: row.get("fingerprint")?,
    })
}

fn key(text: &str) -> CredentialKey {
    CredentialKey::from_stored(text)
}

/// The row of `meta` that holds the generated key.
const GENERATED_KEY: &str = "generated_key";

/// Most chats kept across a restart, the newest ones.
const CHATS_MAX: i64 = 50_000;

/// Most chats kept of which it is unknown whether they were made, the newest ones.
const INTENTS_MAX: i64 = 1000;

/// Most video jobs kept across a restart, the newest ones.
const VIDEOS_MAX: i64 = 10_000;

/// The error of a video job in a state that this version does not know.
const UNKNOWN_STATE: [&str; 2] = ["unknown_state", "the job was left in a state that this version does not know"];

/// Longest wait for another process, such as an instance that is being replaced.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

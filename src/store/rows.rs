//! The state file as tables. The only place with SQL.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior};
use secrecy::{ExposeSecret as _, SecretString};

use crate::base::facts::{Cooling, CoolingReason, IdentityFacts};
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::secret::ApiKey;
use crate::store::fault::Fault;
use crate::store::files;
use crate::store::records::{Loaded, OwnedChat, StoredSession};

/// An open state file.
pub(super) struct Rows {
    connection: Connection,
}

impl Rows {
    /// Opens the file, makes the tables when it is new, and reads all of it.
    pub(super) fn open(path: &Path) -> Result<(Self, Loaded), Fault> {
        files::prepare_file(path)?;
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // A write-ahead log needs one fsync for a commit where a rollback journal needs three. FULL does it at each
        // commit: NORMAL would acknowledge a rotated credential that a power cut could still take back.
        // The mode is only asked for: on a file system without shared memory SQLite stays with the journal.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;")?;
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(Fault::Content(verdict));
        }
        migrate(&mut connection)?;
        connection.execute(
            "DELETE FROM chats WHERE chat_id NOT IN (SELECT chat_id FROM chats ORDER BY created_at DESC LIMIT ?1)",
            [CHATS_MAX],
        )?;
        let rows = Self { connection };
        let loaded = rows.load()?;
        Ok((rows, loaded))
    }

    /// Writes several facts, or none of them.
    pub(super) fn in_one_transaction(
        &mut self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write(&transaction)?;
        transaction.commit()
    }

    /// Closes the file, which folds the log into it.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        self.connection.close().map_err(|(_, error)| error)
    }

    fn load(&self) -> Result<Loaded, Fault> {
        let sessions = self
            .connection
            .prepare("SELECT key, cookies, token, saved_at FROM sessions")?
            .query_map([], |row| {
                let session = StoredSession {
                    cookies: SecretString::from(row.get::<_, String>(1)?),
                    token: row.get::<_, Option<String>>(2)?.map(SecretString::from),
                    saved_at: UnixSeconds(row.get(3)?),
                };
                Ok((key(&row.get::<_, String>(0)?), session))
            })?
            .collect::<Result<_, _>>()?;
        let facts = self
            .connection
            .prepare("SELECT key, cooling_reason, cooling_until, cooling_set_at, dead_since FROM facts")?
            .query_map([], |row| {
                let (reason, until, set_at): (Option<String>, Option<i64>, Option<i64>) =
                    (row.get(1)?, row.get(2)?, row.get(3)?);
                // A reason that this version does not know is no reason to rest.
                let cooling = match (reason.as_deref().and_then(reason_of), until, set_at) {
                    (Some(reason), Some(until), Some(set_at)) => {
                        Some(Cooling { reason, until: UnixSeconds(until), set_at: UnixSeconds(set_at) })
                    }
                    _ => None,
                };
                let facts = IdentityFacts { cooling, dead_since: row.get::<_, Option<i64>>(4)?.map(UnixSeconds) };
                Ok((key(&row.get::<_, String>(0)?), facts))
            })?
            .collect::<Result<_, _>>()?;
        let chats = self
            .connection
            .prepare("SELECT chat_id, key, created_at FROM chats ORDER BY created_at, chat_id")?
            .query_map([], |row| {
                Ok(OwnedChat {
                    chat_id: row.get(0)?,
                    key: key(&row.get::<_, String>(1)?),
                    created_at: UnixSeconds(row.get(2)?),
                })
            })?
            .collect::<Result<_, _>>()?;
        let generated_key = self
            .connection
            .query_row("SELECT value FROM meta WHERE name = ?1", [GENERATED_KEY], |row| row.get::<_, String>(0))
            .optional()?
            .map(|key| ApiKey::new(&key));
        Ok(Loaded { sessions, facts, chats, generated_key })
    }
}

/// Writes a session over the earlier one.
pub(super) fn put_session(
    transaction: &Transaction<'_>,
    key: &CredentialKey,
    session: &StoredSession,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO sessions (key, cookies, token, saved_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute((
            key.as_str(),
            session.cookies.expose_secret(),
            session.token.as_ref().map(|token| token.expose_secret()),
            session.saved_at.0,
        ))?;
    Ok(())
}

/// Writes the facts of an identity over the earlier ones; removes the row when they say nothing.
pub(super) fn put_facts(
    transaction: &Transaction<'_>,
    key: &CredentialKey,
    facts: IdentityFacts,
) -> rusqlite::Result<()> {
    if facts == IdentityFacts::default() {
        transaction.prepare_cached("DELETE FROM facts WHERE key = ?1")?.execute([key.as_str()])?;
        return Ok(());
    }
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO facts (key, cooling_reason, cooling_until, cooling_set_at, dead_since)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            key.as_str(),
            facts.cooling.map(|cooling| reason_text(cooling.reason)),
            facts.cooling.map(|cooling| cooling.until.0),
            facts.cooling.map(|cooling| cooling.set_at.0),
            facts.dead_since.map(|since| since.0),
        ))?;
    Ok(())
}

/// Remembers a chat.
pub(super) fn put_chat(transaction: &Transaction<'_>, chat: &OwnedChat) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO chats (chat_id, key, created_at) VALUES (?1, ?2, ?3)")?
        .execute((&chat.chat_id, chat.key.as_str(), chat.created_at.0))?;
    Ok(())
}

/// Forgets a chat.
pub(super) fn remove_chat(transaction: &Transaction<'_>, chat_id: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM chats WHERE chat_id = ?1")?.execute([chat_id])?;
    Ok(())
}

/// Writes the generated key over the earlier one.
pub(super) fn put_generated_key(transaction: &Transaction<'_>, key: &SecretString) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute((GENERATED_KEY, key.expose_secret()))?;
    Ok(())
}

fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        VERSION => {}
        0 => transaction.execute_batch(SCHEMA)?,
        _ => {
            return Err(Fault::Content(format!("it has version {version}, and this program writes version {VERSION}")));
        }
    }
    transaction.commit()?;
    Ok(())
}

fn key(text: &str) -> CredentialKey {
    CredentialKey::from_stored(text)
}

fn reason_text(reason: CoolingReason) -> &'static str {
    match reason {
        CoolingReason::Rate => "rate",
        CoolingReason::Quota => "quota",
        CoolingReason::Challenge => "challenge",
    }
}

fn reason_of(text: &str) -> Option<CoolingReason> {
    match text {
        "rate" => Some(CoolingReason::Rate),
        "quota" => Some(CoolingReason::Quota),
        "challenge" => Some(CoolingReason::Challenge),
        _ => None,
    }
}

/// What `user_version` says of a file with the tables below.
const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE sessions (
    key TEXT PRIMARY KEY NOT NULL,
    cookies TEXT NOT NULL,
    token TEXT,
    saved_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE facts (
    key TEXT PRIMARY KEY NOT NULL,
    cooling_reason TEXT,
    cooling_until INTEGER,
    cooling_set_at INTEGER,
    dead_since INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE chats (
    chat_id TEXT PRIMARY KEY NOT NULL,
    key TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";

/// The row of `meta` that holds the generated key.
const GENERATED_KEY: &str = "generated_key";
/// How many chats are kept in mind across a restart, the newest ones.
const CHATS_MAX: i64 = 50_000;
/// How long to wait for another process, such as an instance that is just being replaced.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

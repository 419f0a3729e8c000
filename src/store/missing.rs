//! Rows of accounts and of callers' keys that are gone: they stay for a while, in case the account comes back, and are
//! then deleted.
//!
//! The age of an absence is counted in days on which the server ran, not by the calendar: a server that was off for
//! months, or a clock that is wrong once, costs nothing.

use std::collections::HashSet;

use rusqlite::{Connection, Transaction};

use crate::base::ids::CredentialKey;
use crate::base::secret::Cookie;
use crate::store::daily::UtcDay;

/// Days for which an account or key may be missing before its rows are deleted.
const MISSING_DAYS_MAX: i64 = 30;

/// The accounts and keys that exist at a moment.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// All names that the accounts in use have in the state: of their credentials, and of tokens that were refused.
    pub accounts: HashSet<CredentialKey>,
    /// The names of the keys that callers may send.
    pub keys: HashSet<String>,
}

/// Counts a day for each missing account or key, and deletes the rows of those that were missing for too many.
pub(super) fn note(transaction: &Transaction<'_>, present: &Present, today: UtcDay) -> rusqlite::Result<()> {
    let accounts = ACCOUNT_TABLES.map(|table| format!("SELECT key FROM {table}")).join(" UNION ");
    let known = known(transaction, &accounts)?;
    // An account that the owner added counts as present until the owner removes it, even while a file gives it too.
    let added: HashSet<CredentialKey> = added(transaction)?;
    let is_there = |key: &str| {
        let key = CredentialKey::from_stored(key);
        present.accounts.contains(&key) || added.contains(&key)
    };
    for key in count(transaction, "account", &known, is_there, today)? {
        for table in ACCOUNT_TABLES {
            transaction.prepare_cached(&format!("DELETE FROM {table} WHERE key = ?1"))?.execute([&key])?;
        }
    }
    transaction.execute("DELETE FROM answers WHERE chat_id NOT IN (SELECT chat_id FROM chats)", [])?;
    let known = self::known(transaction, "SELECT key FROM key_uses")?;
    for key in count(transaction, "key", &known, |key| present.keys.contains(key), today)? {
        transaction.prepare_cached("DELETE FROM key_uses WHERE key = ?1")?.execute([&key])?;
    }
    Ok(())
}

fn known(connection: &Connection, query: &str) -> rusqlite::Result<HashSet<String>> {
    connection.prepare_cached(query)?.query_map([], |row| row.get(0))?.collect()
}

/// The names of the accounts that the owner added.
fn added(connection: &Connection) -> rusqlite::Result<HashSet<CredentialKey>> {
    let mut cookies = connection.prepare_cached("SELECT cookie FROM accounts")?;
    let keys =
        cookies.query_map([], |row| Ok(Cookie::parse(&row.get::<_, String>(0)?).ok().map(|cookie| cookie.key())))?;
    keys.filter_map(Result::transpose).collect()
}

/// Counts a day for each of the known that is not there; gives those that were missing on too many.
fn count(
    transaction: &Transaction<'_>,
    what: &str,
    known: &HashSet<String>,
    is_there: impl Fn(&str) -> bool,
    today: UtcDay,
) -> rusqlite::Result<Vec<String>> {
    let mut counted = transaction.prepare_cached("SELECT key FROM missing WHERE what = ?1")?;
    let counted: Vec<String> = counted.query_map([what], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut found = transaction.prepare_cached("DELETE FROM missing WHERE what = ?1 AND key = ?2")?;
    for key in counted.iter().filter(|key| is_there(key) || !known.contains(*key)) {
        found.execute((what, key))?;
    }
    let mut missed = transaction.prepare_cached(
        "INSERT INTO missing (what, key, days, day) VALUES (?1, ?2, 1, ?3)
         ON CONFLICT DO UPDATE SET days = days + (day <> excluded.day), day = excluded.day",
    )?;
    for key in known.iter().filter(|key| !is_there(key)) {
        missed.execute((what, key, today.number()))?;
    }
    let mut over = transaction.prepare_cached("DELETE FROM missing WHERE what = ?1 AND days > ?2 RETURNING key")?;
    over.query_map((what, MISSING_DAYS_MAX), |row| row.get(0))?.collect()
}

/// The tables whose rows belong to an account, or to a token of one, by `key`.
const ACCOUNT_TABLES: [&str; 9] =
    ["sessions", "oauth", "facts", "rests", "breakers", "labels", "days", "chats", "intents"];

//! Kept responses: their input, their answer, and the response that each continues.
//!
//! Unlike the rest of the state file they are not held in memory: the thread that writes also reads them, one at a
//! time.

use std::fmt;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::base::ids::UnixSeconds;

/// A response as the state file keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptResponse {
    /// Id of the response, `resp_…`.
    pub id: String,
    /// Hash of the caller's key or credential. Only the same caller may see the response.
    pub owner: String,
    /// Id of the response that it continues, if any.
    pub previous: Option<String>,
    /// Whether another response may continue it, which is `false` for a failed one.
    pub is_continuable: bool,
    /// End of its keeping; a response that continues it moves it.
    pub expires_at: UnixSeconds,
    /// The items that came with its request: a JSON array. Not for logs.
    pub input: String,
    /// The whole response as JSON. Not for logs.
    pub response: String,
}

impl fmt::Debug for KeptResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptResponse")
            .field("id", &self.id)
            .field("previous", &self.previous)
            .field("is_continuable", &self.is_continuable)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A response and all responses that it continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Oldest first; the last is the response itself.
    Found(Vec<KeptResponse>),
    /// The response, or one that it continues, is not kept, has expired, or belongs to another caller.
    Missing,
    /// It has more than [`CHAIN_MAX`] responses, or more than 64 MiB of JSON.
    TooLong,
}

/// The most responses that one conversation may have.
pub const CHAIN_MAX: usize = 1_000;
/// The most bytes of JSON that one conversation may have.
pub(super) const CHAIN_BYTES_MAX: usize = 64 << 20;
/// Most bytes of JSON kept in all; beyond it the responses that expire first are deleted.
pub(super) const BYTES_MAX: i64 = 1 << 30;
/// As [`BYTES_MAX`], where the state is kept in memory.
pub(super) const MEMORY_BYTES_MAX: i64 = 64 << 20;

/// Keeps a response, extends the responses that it continues, and deletes expired ones and those beyond `bytes_max`.
pub(super) fn put(
    transaction: &Transaction<'_>,
    kept: &KeptResponse,
    now: UnixSeconds,
    bytes_max: i64,
) -> rusqlite::Result<()> {
    let KeptResponse { id, owner, previous, is_continuable, expires_at, input, response } = kept;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO responses (id, owner, previous, is_continuable, expires_at, bytes, input, response)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            id,
            owner,
            previous,
            is_continuable,
            expires_at.0,
            i64::try_from(input.len() + response.len()).unwrap_or(i64::MAX),
            input,
            response,
        ])?;
    if let Some(previous) = previous {
        transaction
            .prepare_cached(
                "WITH RECURSIVE chain (id, previous) AS (
                     SELECT id, previous FROM responses WHERE id = ?1 AND owner = ?2
                     UNION SELECT earlier.id, earlier.previous FROM responses AS earlier
                     JOIN chain ON earlier.id = chain.previous WHERE earlier.owner = ?2)
                 UPDATE responses SET expires_at = ?3 WHERE expires_at < ?3 AND id IN (SELECT id FROM chain)",
            )?
            .execute((previous, owner, expires_at.0))?;
    }
    prune(transaction, now, bytes_max)
}

/// Deletes a response of this caller.
pub(super) fn remove(transaction: &Transaction<'_>, owner: &str, id: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM responses WHERE id = ?1 AND owner = ?2")?.execute((id, owner))?;
    Ok(())
}

/// Deletes expired responses, and those beyond `bytes_max` together.
pub(super) fn prune(connection: &Connection, now: UnixSeconds, bytes_max: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM responses WHERE expires_at <= ?1")?.execute([now.0])?;
    let bytes: Option<i64> =
        connection.prepare_cached("SELECT sum(bytes) FROM responses")?.query_row([], |row| row.get(0))?;
    if bytes.is_some_and(|bytes| bytes > bytes_max) {
        connection
            .prepare_cached(
                "DELETE FROM responses WHERE id IN (SELECT id FROM (
                     SELECT id, sum(bytes) OVER (ORDER BY expires_at DESC, id DESC) AS total FROM responses)
                 WHERE total > ?1)",
            )?
            .execute([bytes_max])?;
    }
    Ok(())
}

/// Finds a response of this caller.
pub(super) fn find(
    connection: &Connection,
    owner: &str,
    id: &str,
    now: UnixSeconds,
) -> rusqlite::Result<Option<KeptResponse>> {
    connection
        .prepare_cached("SELECT * FROM responses WHERE id = ?1 AND owner = ?2 AND expires_at > ?3")?
        .query_row((id, owner, now.0), kept)
        .optional()
}

/// Finds a response of this caller and all responses that it continues.
pub(super) fn chain(connection: &Connection, owner: &str, id: &str, now: UnixSeconds) -> rusqlite::Result<Chain> {
    let mut found = Vec::new();
    let mut next = Some(id.to_owned());
    let mut bytes = 0;
    while let Some(id) = next {
        let Some(response) = find(connection, owner, &id, now)? else {
            return Ok(Chain::Missing);
        };
        bytes += response.input.len() + response.response.len();
        if found.len() == CHAIN_MAX || bytes > CHAIN_BYTES_MAX {
            return Ok(Chain::TooLong);
        }
        next = response.previous.clone();
        found.push(response);
    }
    found.reverse();
    Ok(Chain::Found(found))
}

fn kept(row: &Row<'_>) -> rusqlite::Result<KeptResponse> {
    Ok(KeptResponse {
        id: row.get("id")?,
        owner: row.get("owner")?,
        previous: row.get("previous")?,
        is_continuable: row.get("is_continuable")?,
        expires_at: UnixSeconds(row.get("expires_at")?),
        input: row.get("input")?,
        response: row.get("response")?,
    })
}

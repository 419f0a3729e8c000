//! The rows of keys that the owner made.

use rusqlite::{Connection, Transaction};

use crate::base::caller_key::{KeyLimits, KeyName};
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::store::records::MadeKey;

/// Writes a key over the one of its name.
pub(crate) fn put(transaction: &Transaction<'_>, key: &MadeKey) -> rusqlite::Result<()> {
    let limits =
        serde_json::to_string(&key.limits).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO made_keys (name, digest, owner, shown, limits, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((
            key.name.as_str(),
            key.digest.as_slice(),
            key.owner.as_str(),
            &key.shown,
            limits,
            key.created_at.0,
        ))?;
    Ok(())
}

/// Deletes the key of this name.
pub(crate) fn remove(transaction: &Transaction<'_>, name: &KeyName) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM made_keys WHERE name = ?1")?.execute([name.as_str()])?;
    Ok(())
}

/// All keys, oldest first. A row that cannot be understood is left out: its limits are unknown.
pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Vec<MadeKey>> {
    let mut found = connection
        .prepare("SELECT name, digest, owner, shown, limits, created_at FROM made_keys ORDER BY created_at, name")?;
    let mut rows = found.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let name = row.get::<_, String>(0)?.parse::<KeyName>();
        let digest = <[u8; 32]>::try_from(row.get::<_, Vec<u8>>(1)?);
        let limits = serde_json::from_str::<KeyLimits>(&row.get::<_, String>(4)?);
        if let (Ok(name), Ok(digest), Ok(limits)) = (name, digest, limits) {
            let owner = CredentialKey::from_stored(&row.get::<_, String>(2)?);
            keys.push(MadeKey {
                name,
                digest,
                owner,
                shown: row.get(3)?,
                limits,
                created_at: UnixSeconds(row.get(5)?),
            });
        }
    }
    Ok(keys)
}

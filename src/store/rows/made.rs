//! The rows of pictures and videos that were made.

use rusqlite::{Connection, Transaction};

use crate::base::ids::UnixSeconds;
use crate::base::secret::SignedLink;
use crate::store::records::{MADE_MAX, MadeItem, MadeKind};

/// Writes an item, and forgets the ones whose links have ended when it was made, and the oldest of too many.
pub(crate) fn put(transaction: &Transaction<'_>, item: &MadeItem) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO made (link, kind, model, at, ends_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((item.link.expose(), item.kind.as_str(), &item.model, item.at.0, item.ends_at.0))?;
    transaction.prepare_cached("DELETE FROM made WHERE ends_at <= ?1")?.execute([item.at.0])?;
    let surplus =
        "DELETE FROM made WHERE link IN (SELECT link FROM made ORDER BY at DESC, rowid DESC LIMIT -1 OFFSET ?1)";
    transaction.prepare_cached(surplus)?.execute([i64::try_from(MADE_MAX).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// The items whose links live at `now`, newest first. A row that cannot be understood is left out.
pub(crate) fn load(connection: &Connection, now: UnixSeconds) -> rusqlite::Result<Vec<MadeItem>> {
    let query = "SELECT kind, link, model, at, ends_at FROM made WHERE ends_at > ?1 ORDER BY at DESC, rowid DESC";
    let mut found = connection.prepare(query)?;
    let rows = found.query_map([now.0], |row| {
        let kind = MadeKind::of(&row.get::<_, String>(0)?);
        let item = |kind| -> rusqlite::Result<MadeItem> {
            Ok(MadeItem {
                kind,
                link: SignedLink::new(&row.get::<_, String>(1)?),
                model: row.get(2)?,
                at: UnixSeconds(row.get(3)?),
                ends_at: UnixSeconds(row.get(4)?),
            })
        };
        kind.map(item).transpose()
    })?;
    rows.filter_map(Result::transpose).collect()
}

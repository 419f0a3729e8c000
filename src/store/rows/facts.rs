//! The rows of an identity's facts: rests, open breakers and dead credentials, with the words for usages and reasons.

use std::collections::HashMap;

use rusqlite::{Connection, Row, Transaction};

use crate::base::facts::{Cooling, CoolingReason, IdentityFacts, OpenBreaker, Usage};
use crate::base::ids::{CredentialKey, UnixSeconds};

/// Writes the facts of an identity over the earlier ones; what they do not say leaves no row.
pub(crate) fn put_facts(
    transaction: &Transaction<'_>,
    key: &CredentialKey,
    facts: IdentityFacts,
) -> rusqlite::Result<()> {
    match facts.dead_since {
        Some(since) => transaction
            .prepare_cached("INSERT OR REPLACE INTO facts (key, dead_since) VALUES (?1, ?2)")?
            .execute((key.as_str(), since.0))?,
        None => transaction.prepare_cached("DELETE FROM facts WHERE key = ?1")?.execute([key.as_str()])?,
    };
    for (usage, cooling) in facts.cooling.iter() {
        match cooling {
            Some(Cooling { reason, until, set_at, strikes }) => transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO rests (key, usage, reason, until, set_at, strikes)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute((key.as_str(), usage.as_str(), reason.as_str(), until.0, set_at.0, strikes))?,
            None => transaction
                .prepare_cached("DELETE FROM rests WHERE key = ?1 AND usage = ?2")?
                .execute((key.as_str(), usage.as_str()))?,
        };
    }
    match facts.breaker {
        Some(OpenBreaker { until, set_at, trips, refusals, is_refused }) => transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO breakers (key, until, set_at, trips, refusals, is_refused)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((key.as_str(), until.0, set_at.0, trips, refusals, is_refused))?,
        None => transaction.prepare_cached("DELETE FROM breakers WHERE key = ?1")?.execute([key.as_str()])?,
    };
    Ok(())
}

/// The facts of all identities.
pub(crate) fn load(connection: &Connection) -> rusqlite::Result<HashMap<CredentialKey, IdentityFacts>> {
    let mut facts: HashMap<CredentialKey, IdentityFacts> = HashMap::new();
    let key = |row: &Row<'_>| Ok::<_, rusqlite::Error>(CredentialKey::from_stored(&row.get::<_, String>(0)?));
    let count = |row: &Row<'_>, column| row.get::<_, i64>(column).map(|count| count.try_into().unwrap_or(0));
    let mut deaths = connection.prepare("SELECT key, dead_since FROM facts")?;
    let mut rows = deaths.query([])?;
    while let Some(row) = rows.next()? {
        let dead_since = row.get::<_, Option<i64>>(1)?.map(UnixSeconds);
        facts.entry(key(row)?).or_default().dead_since = dead_since;
    }
    let mut rests = connection.prepare("SELECT key, usage, reason, until, set_at, strikes FROM rests")?;
    let mut rows = rests.query([])?;
    while let Some(row) = rows.next()? {
        let (usage, reason): (String, String) = (row.get(1)?, row.get(2)?);
        // A word that this version does not know does not make an identity rest.
        if let (Some(usage), Some(reason)) = (usage_of(&usage), reason_of(&reason)) {
            let (until, set_at) = (UnixSeconds(row.get(3)?), UnixSeconds(row.get(4)?));
            let cooling = Cooling { reason, until, set_at, strikes: count(row, 5)? };
            *facts.entry(key(row)?).or_default().cooling.get_mut(usage) = Some(cooling);
        }
    }
    let mut breakers = connection.prepare("SELECT key, until, set_at, trips, refusals, is_refused FROM breakers")?;
    let mut rows = breakers.query([])?;
    while let Some(row) = rows.next()? {
        let breaker = OpenBreaker {
            until: UnixSeconds(row.get(1)?),
            set_at: UnixSeconds(row.get(2)?),
            trips: count(row, 3)?,
            refusals: count(row, 4)?,
            is_refused: row.get(5)?,
        };
        facts.entry(key(row)?).or_default().breaker = Some(breaker);
    }
    Ok(facts)
}

fn usage_of(text: &str) -> Option<Usage> {
    Usage::ALL.into_iter().find(|usage| usage.as_str() == text)
}

fn reason_of(text: &str) -> Option<CoolingReason> {
    CoolingReason::ALL.into_iter().find(|reason| reason.as_str() == text)
}

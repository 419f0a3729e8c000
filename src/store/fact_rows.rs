//! The rows of an identity's facts, with the words for usages and reasons.

use rusqlite::Transaction;

use crate::base::facts::{Cooling, CoolingReason, IdentityFacts, Usage};
use crate::base::ids::CredentialKey;

/// Writes the facts of an identity over the earlier ones; what they do not say leaves no row.
pub(super) fn put_facts(
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
            Some(Cooling { reason, until, set_at }) => transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO rests (key, usage, reason, until, set_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((key.as_str(), usage.as_str(), reason_text(*reason), until.0, set_at.0))?,
            None => transaction
                .prepare_cached("DELETE FROM rests WHERE key = ?1 AND usage = ?2")?
                .execute((key.as_str(), usage.as_str()))?,
        };
    }
    Ok(())
}

pub(crate) fn usage_of(text: &str) -> Option<Usage> {
    Usage::ALL.into_iter().find(|usage| usage.as_str() == text)
}

pub(crate) fn reason_text(reason: CoolingReason) -> &'static str {
    match reason {
        CoolingReason::Rate => "rate",
        CoolingReason::Quota => "quota",
        CoolingReason::Challenge => "challenge",
        CoolingReason::Owner => "owner",
    }
}

pub(crate) fn reason_of(text: &str) -> Option<CoolingReason> {
    match text {
        "rate" => Some(CoolingReason::Rate),
        "quota" => Some(CoolingReason::Quota),
        "challenge" => Some(CoolingReason::Challenge),
        "owner" => Some(CoolingReason::Owner),
        _ => None,
    }
}

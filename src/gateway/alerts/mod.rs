//! The job that sends alerts to the owner at `ALERT_URL`: one when a condition begins, and one when it ends.

mod conditions;
mod words;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::base::facts::{AccountKind, Cooling, CoolingReason, Usage};
use crate::base::ids::UnixSeconds;
use crate::base::live::Live;
use crate::gateway::alerts::conditions::{AlertKind, News, Trouble, Troubles};
use crate::gateway::drift::Drift;
use crate::pool::{IdentityPool, IdentityReason, IdentityView, Now};
use crate::store::{KeptAlert, StorageState, Store};
use crate::telemetry::ErrorChain;
use crate::upstream::webhook::Webhook;

/// Watches conditions and alerts the owner.
pub(crate) struct Alerts {
    /// The owner's address and the time after which a challenge has ended.
    pub settings: Live<AlertSettings>,
    /// The accounts of each kind.
    pub pools: Vec<(AccountKind, IdentityPool)>,
    /// Counts of frames that this version does not know, by kind of upstream.
    pub drifts: Vec<Drift>,
    /// Keeps the alerts, and is itself watched.
    pub store: Arc<Store>,
    /// Alerts of earlier runs whose conditions have not ended.
    pub told: Vec<KeptAlert>,
}

/// The settings of alerts.
pub(crate) struct AlertSettings {
    /// The owner's address, `ALERT_URL`; `None` sends no alerts.
    pub webhook: Option<Webhook>,
    /// `CHALLENGE_REST`: a challenge has ended when the account was not challenged again for this long.
    pub challenge_rest: Duration,
}

impl Alerts {
    /// Looks at the conditions every two seconds until `stop`. A message that is under way then is finished and written
    /// down, so that the next run does not send it again; one that a crash cuts off is sent again.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let told = self
            .told
            .iter()
            .filter_map(|kept| Some((Trouble { kind: AlertKind::of(&kept.event)?, of: kept.of.clone() }, kept.since)));
        let mut troubles = Troubles::of(told);
        while !stop.is_cancelled() {
            let (now, settings) = (Now::read(), self.settings.now());
            if let Some(webhook) = &settings.webhook {
                let rest = settings.challenge_rest;
                let news = troubles.look(&self.seen(now), now.unix, |kind| settle_seconds(kind, rest));
                for one in news.into_iter().take_while(|_| !stop.is_cancelled()) {
                    let was_told = tell(webhook, &one, now.unix).await;
                    if troubles.tried(&one, was_told, Now::read().unix) {
                        self.keep(&one);
                    }
                }
            }
            stop.run_until_cancelled(sleep(LOOK_EVERY)).await;
        }
    }

    /// The conditions that hold now.
    fn seen(&self, now: Now) -> BTreeSet<Trouble> {
        let mut seen = BTreeSet::new();
        for (kind, pool) in &self.pools {
            let views = pool.views(now);
            for view in &views {
                let trouble = match view.reason {
                    Some(IdentityReason::LoginNeeded) => AlertKind::LoginNeeded,
                    Some(IdentityReason::Resting(_, CoolingReason::Challenge)) => AlertKind::Challenge,
                    _ => continue,
                };
                seen.insert(Trouble { kind: trouble, of: view.id.to_string() });
            }
            if is_quota_gone(&views) {
                seen.insert(Trouble { kind: AlertKind::QuotaGone, of: kind.as_str().to_owned() });
            }
            if *kind == AccountKind::Web {
                for session in pool.sessions() {
                    let ends_at = session.ends_at(now.unix);
                    if ends_at.is_some_and(|at| at.0.saturating_sub(now.unix.0) <= SOON_SECONDS) {
                        seen.insert(Trouble { kind: AlertKind::EndsSoon, of: session.identity().to_string() });
                    }
                }
            }
        }
        for drift in &self.drifts {
            let kinds = drift.counts().into_keys();
            seen.extend(kinds.map(|what| Trouble { kind: AlertKind::Drift, of: what }));
        }
        if self.store.status().state != StorageState::Disk {
            seen.insert(Trouble { kind: AlertKind::StateNotWritable, of: String::new() });
        }
        seen
    }

    /// Stores that the owner was told, or deletes what has ended.
    fn keep(&self, news: &News) {
        let Trouble { kind, of } = &news.trouble;
        let kept = KeptAlert { event: kind.as_str().to_owned(), of: of.clone(), since: news.since };
        self.store.note_alert(kept, news.is_over);
    }
}

/// Seconds for which a condition must be gone until it has ended.
fn settle_seconds(kind: AlertKind, challenge_rest: Duration) -> i64 {
    match kind {
        AlertKind::Challenge => i64::try_from(challenge_rest.as_secs()).unwrap_or(i64::MAX),
        AlertKind::LoginNeeded
        | AlertKind::EndsSoon
        | AlertKind::QuotaGone
        | AlertKind::Drift
        | AlertKind::StateNotWritable => 0,
    }
}

/// Sends a message. Returns whether it was taken.
async fn tell(webhook: &Webhook, news: &News, now: UnixSeconds) -> bool {
    let event = news.trouble.kind.as_str();
    match webhook.send(&words::message(news, now)).await {
        Ok(()) => {
            info!(event, subject = news.trouble.of, is_over = news.is_over, "the owner was alerted");
            true
        }
        Err(error) => {
            warn!(event, error = %ErrorChain(&error), "the owner could not be alerted at ALERT_URL");
            false
        }
    }
}

/// Whether no account of a kind has quota: each that could be used but for that rests for it. Accounts that need a login
/// have none to give.
fn is_quota_gone(views: &[IdentityView]) -> bool {
    let mut usable = views.iter().filter(|view| view.reason != Some(IdentityReason::LoginNeeded)).peekable();
    usable.peek().is_some() && usable.all(has_no_quota)
}

/// Whether a used-up chat quota is the reason why an account is not used.
fn has_no_quota(view: &IdentityView) -> bool {
    matches!(view.cooling.get(Usage::Chat), Some(Cooling { reason: CoolingReason::Quota, .. }))
}

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Time before the end of a session at which the owner is alerted, in seconds: 72 hours.
const SOON_SECONDS: i64 = 72 * 3600;

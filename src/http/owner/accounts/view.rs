//! Accounts as the owner's page shows them: state, advice, counts. Holds no credential.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use serde::Serialize;

use crate::base::bilingual::Bilingual;
use crate::base::facts::AccountKind;
use crate::base::ids::UnixSeconds;
use crate::base::session::Session;
use crate::gateway::answer::trace::What;
use crate::http::owner::accounts::words::advice;
use crate::http::state::AppState;
use crate::pool::{IdentityView, Now, PoolSummary};
use crate::store::Spent;

/// The body of `GET /admin/accounts`.
#[derive(Serialize)]
pub(crate) struct Accounts {
    summary: Summary,
    accounts: Vec<Account>,
}

#[derive(Serialize)]
struct Summary {
    total: usize,
    healthy: usize,
    degraded: usize,
    down: usize,
    in_flight: usize,
    queued: usize,
    upstream_degraded: bool,
    paused_until: Option<UnixSeconds>,
}

/// An account with its state, advice and counts.
#[derive(Serialize)]
pub(crate) struct Account {
    pub id: String,
    /// The owner's name for it; `null` without one.
    label: Option<String>,
    /// `web`, `oauth` or `key`.
    kind: &'static str,
    /// `page` for one that can be changed here, `file` for one of a file or a setting.
    origin: &'static str,
    status: &'static str,
    reason: Option<&'static str>,
    advice: Bilingual,
    fails: u32,
    in_flight: u32,
    next_at: Option<UnixSeconds>,
    token_expires_at: Option<UnixSeconds>,
    /// The rests by usage; usages without a rest are left out.
    cooling: BTreeMap<&'static str, Cooling>,
    dead_since: Option<UnixSeconds>,
    today: Today,
    last_fault: Option<LastFault>,
    /// Requests in each of the last 24 hours, oldest first.
    hours: Vec<u64>,
    /// Whether there is a session of before the last renewal to go back to.
    has_earlier_session: bool,
}

#[derive(Serialize)]
struct Cooling {
    reason: &'static str,
    until: UnixSeconds,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Today {
    requests: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    cached_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct LastFault {
    /// The code of the failure.
    class: &'static str,
    at: u64,
}

/// All accounts, in the order of configuration.
pub(crate) fn accounts(state: &AppState, now: Now) -> Accounts {
    let PoolSummary { total, healthy, degraded, down, in_flight, queued, upstream_degraded, paused_until } =
        state.summary(now);
    let summary = Summary { total, healthy, degraded, down, in_flight, queued, upstream_degraded, paused_until };
    let (spent, faults) = (state.spent_today(now.unix), last_faults(state));
    let mut accounts = Vec::new();
    for (kind, pool) in state.pools() {
        for (view, session) in pool.members(now) {
            let today = spent.get(&view.id).copied().unwrap_or_default().into();
            let last_fault = faults.get(view.id.as_str()).copied();
            accounts.push(shown(state, kind, &view, &session, today, last_fault, now));
        }
    }
    Accounts { summary, accounts }
}

/// One account by its id.
pub(crate) fn account(state: &AppState, id: &str, now: Now) -> Option<Account> {
    accounts(state, now).accounts.into_iter().find(|account| account.id == id)
}

fn shown(
    state: &AppState,
    kind: AccountKind,
    view: &IdentityView,
    session: &Session,
    today: Today,
    last_fault: Option<LastFault>,
    now: Now,
) -> Account {
    let cooling = view.cooling.iter().filter_map(|(usage, cooling)| {
        let cooling = cooling.filter(|cooling| cooling.until > now.unix)?;
        Some((usage.as_str(), Cooling { reason: cooling.reason.as_str(), until: cooling.until }))
    });
    Account {
        id: view.id.to_string(),
        label: state.0.book.label(session.key()),
        kind: kind.as_str(),
        origin: if state.0.book.place_of(&view.id).is_none() { "page" } else { "file" },
        status: view.status.as_str(),
        reason: view.reason.map(|reason| reason.as_str()),
        advice: advice(view.reason, kind),
        fails: view.fails,
        in_flight: view.in_flight,
        next_at: view.next_at,
        token_expires_at: view.token_expires_at,
        cooling: cooling.collect(),
        dead_since: view.dead_since,
        today,
        last_fault,
        hours: state.0.usage.hours(&view.id, now.unix),
        has_earlier_session: session.has_earlier(),
    }
}

impl From<Spent> for Today {
    fn from(spent: Spent) -> Self {
        let Spent { requests, prompt, completion, cached } = spent;
        Self { requests, prompt_tokens: prompt, completion_tokens: completion, cached_tokens: cached }
    }
}

/// The newest failed attempt of each account among the requests that are kept.
fn last_faults(state: &AppState) -> HashMap<String, LastFault> {
    let mut faults = HashMap::new();
    for request in state.0.observers.requests.all_ended() {
        let came = request.head.came_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for entry in request.history.entries.iter().rev() {
            if let What::Failed { identity, class, .. } = &entry.what {
                let fault = LastFault { class, at: (came + entry.at).as_secs() };
                faults.entry(identity.to_string()).or_insert(fault);
            }
        }
    }
    faults
}

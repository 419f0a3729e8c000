//! Gauges that are read at each scrape: accounts, queues, drift, memory.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::base::facts::AccountKind;
use crate::http::owner::health::resident_bytes;
use crate::http::state::AppState;
use crate::pool::{IdentityStatus, IdentityView, Now};
use crate::store::StorageState;

/// Accounts that have series of their own. Of more, the first ones have, and the sums count all.
const ACCOUNTS_MAX: usize = 1000;

/// Reads the state of a server for each scrape.
pub(crate) struct StateCollector(pub(crate) AppState);

impl fmt::Debug for StateCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StateCollector").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindState {
    kind: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAccount {
    kind: &'static str,
    account: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    kind: &'static str,
    account: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rest {
    kind: &'static str,
    account: String,
    usage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Unknown {
    kind: &'static str,
    what: String,
}

/// Writes one gauge whose values have these labels.
fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&str, &str, Option<&Unit>),
    values: impl IntoIterator<Item = (L, i64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Writes one gauge without labels.
fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, unit: Option<&Unit>, value: i64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
}

fn int(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

impl Collector for StateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (state, now) = (&self.0, Now::read());
        let encoder = &mut encoder;
        self.process(encoder)?;
        let kinds = state.pools().map(|(kind, pool)| (kind.as_str(), pool.summary(now)));
        let counts = kinds.iter().flat_map(|(kind, summary)| {
            let states = [("healthy", summary.healthy), ("degraded", summary.degraded), ("down", summary.down)];
            states.map(|(state, count)| (KindState { kind, state }, int(count)))
        });
        gauges(encoder, ("accounts", "Accounts by kind and state", None), counts)?;
        let of_kinds = |value: fn(&crate::pool::PoolSummary) -> i64| {
            kinds.iter().map(move |(kind, summary)| (OfKind { kind }, value(summary))).collect::<Vec<_>>()
        };
        gauges(encoder, ("in_flight", "Requests under way on accounts", None), of_kinds(|sum| int(sum.in_flight)))?;
        gauges(encoder, ("queue_depth", "Requests that wait for an account", None), of_kinds(|sum| int(sum.queued)))?;
        let help = "Whether all accounts fail in the same way, so that the upstream is blamed";
        gauges(encoder, ("upstream_degraded", help, None), of_kinds(|sum| i64::from(sum.upstream_degraded)))?;
        let help = "Whether nothing is sent, because several accounts were challenged together";
        gauges(encoder, ("upstream_paused", help, None), of_kinds(|sum| i64::from(sum.paused_until.is_some())))?;
        let mut views = state.views(now);
        views.truncate(ACCOUNTS_MAX);
        accounts(encoder, &views, now)?;
        let drift = [
            (AccountKind::Web, state.0.chats.drift().counts()),
            (AccountKind::OAuth, state.0.upstreams.oauth().drift().counts()),
            (AccountKind::Key, state.0.upstreams.keys().drift().counts()),
        ];
        let help = "Things in the upstream's streams that this version does not know, by what they are";
        let mut metric = encoder.encode_descriptor("drift", help, None, MetricType::Counter)?;
        for (kind, counts) in drift {
            for (what, count) in counts {
                let labels = Unknown { kind: kind.as_str(), what };
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl StateCollector {
    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let state = &self.0.0;
        let counts = state.observers.counters.now();
        gauge(encoder, "uptime", "Time since the start", Some(&Unit::Seconds), int(counts.uptime.as_secs()))?;
        gauge(encoder, "open_requests", "Requests whose answer has not ended", None, int(counts.open_requests))?;
        gauge(encoder, "open_streams", "Of them those that are streams", None, int(counts.open_streams))?;
        gauge(encoder, "connections", "Open connections of callers", None, int(counts.connections))?;
        let help = "Chats that this server made and that wait to be deleted";
        gauge(encoder, "own_chats_waiting", help, None, int(state.janitor.waiting()))?;
        let is_good = state.store.status().state == StorageState::Disk;
        gauge(encoder, "state_writable", "Whether the state is written to the disk", None, i64::from(is_good))?;
        if let Some(bytes) = resident_bytes() {
            gauge(encoder, "resident_memory", "Memory of this process", Some(&Unit::Bytes), int(bytes))?;
        }
        Ok(())
    }
}

/// The series of each account.
fn accounts(encoder: &mut DescriptorEncoder<'_>, views: &[(AccountKind, IdentityView)], now: Now) -> fmt::Result {
    let of = |kind: AccountKind, view: &IdentityView| OfAccount { kind: kind.as_str(), account: view.id.to_string() };
    let up = views.iter().map(|(kind, view)| (of(*kind, view), i64::from(view.status != IdentityStatus::Down)));
    gauges(encoder, ("account_up", "Whether an account is used", None), up)?;
    let reasons = views.iter().filter_map(|(kind, view)| {
        let labels = Reason { kind: kind.as_str(), account: view.id.to_string(), reason: view.reason?.as_str() };
        Some((labels, 1))
    });
    gauges(
        encoder,
        ("account_reason", "Why an account is not healthy; the breaker's state is among these", None),
        reasons,
    )?;
    let failures = views.iter().map(|(kind, view)| (of(*kind, view), i64::from(view.fails)));
    gauges(encoder, ("account_failures", "Failures of an account in a row", None), failures)?;
    let rests = views.iter().flat_map(|(kind, view)| {
        view.cooling.iter().filter_map(move |(usage, cooling)| {
            let left = cooling.as_ref()?.until.seconds_since(now.unix);
            let labels = Rest { kind: kind.as_str(), account: view.id.to_string(), usage: usage.as_str() };
            Some((labels, int(left)))
        })
    });
    gauges(
        encoder,
        ("account_rest", "Time until the upstream takes this use of an account again", Some(&Unit::Seconds)),
        rests,
    )?;
    let ends = views.iter().filter_map(|(kind, view)| {
        let left = view.token_expires_at?.0.saturating_sub(now.unix.0);
        Some((of(*kind, view), left))
    });
    let help = "Time until an account's access token ends; below zero when it has";
    gauges(encoder, ("account_token_expires_in", help, Some(&Unit::Seconds)), ends)
}

//! The pool as people see it: one of three states for each identity, and the reason. Holds no secret.

use crate::base::facts::{Cooling, CoolingReason, PerUsage, Usage};
use crate::base::ids::{IdentityId, UnixSeconds};

/// The states of identities, in the words that people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityStatus {
    /// In use without any fault.
    Healthy,
    /// Still in use after some failures, short of a token, or not used for everything.
    Degraded,
    /// Not used before its next time, or its owner's help.
    Down,
}

impl IdentityStatus {
    /// Word for JSON and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// Reasons why an identity is not healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityReason {
    /// The login itself is refused: its owner has to log in again.
    LoginNeeded,
    /// It is not used for this usage because the upstream asked for a rest. Among several usages chats are named first.
    Resting(Usage, CoolingReason),
    /// It failed too often, and waits for the end of its cooldown or for a request to try it.
    Tripped,
    /// The upstream refuses it although its credential is fresh. It waits for one request to try it.
    Refused,
    /// Its cooldown is over and one request tries it right now.
    Probing,
    /// It has no access token, and the exchange for one failed or is still to come.
    TokenMissing,
    /// It failed a few times in a row.
    Failing,
}

impl IdentityReason {
    /// Word for JSON and logs. It names the usage, unless that is chats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoginNeeded => "login_needed",
            Self::Resting(_, CoolingReason::Challenge) => "challenged",
            Self::Resting(_, CoolingReason::Owner) => "resting",
            Self::Resting(Usage::Chat, CoolingReason::Rate) => "rate_limited",
            Self::Resting(Usage::Chat, CoolingReason::Quota) => "quota_exhausted",
            Self::Resting(Usage::Image, CoolingReason::Rate) => "image_rate_limited",
            Self::Resting(Usage::Image, CoolingReason::Quota) => "image_quota_exhausted",
            Self::Resting(Usage::Video, CoolingReason::Rate) => "video_rate_limited",
            Self::Resting(Usage::Video, CoolingReason::Quota) => "video_quota_exhausted",
            Self::Resting(Usage::Research, CoolingReason::Rate) => "research_rate_limited",
            Self::Resting(Usage::Research, CoolingReason::Quota) => "research_quota_exhausted",
            Self::Resting(Usage::Upload, CoolingReason::Rate) => "upload_rate_limited",
            Self::Resting(Usage::Upload, CoolingReason::Quota) => "upload_quota_exhausted",
            Self::Tripped => "tripped",
            Self::Refused => "refused",
            Self::Probing => "probing",
            Self::TokenMissing => "token_missing",
            Self::Failing => "failing",
        }
    }
}

/// One identity at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityView {
    /// The name of the identity in logs and on pages.
    pub id: IdentityId,
    /// Healthy, degraded or down.
    pub status: IdentityStatus,
    /// The reason; `None` when healthy.
    pub reason: Option<IdentityReason>,
    /// Transient failures in a row; 0 while the breaker is open.
    pub fails: u32,
    /// Leases that are in use now.
    pub in_flight: u32,
    /// When it may be used again, for the usage in `reason`, else for chats; `None` if it may now, or if time alone
    /// does not heal it.
    pub next_at: Option<UnixSeconds>,
    /// End of its access token, if it has one with a known end.
    pub token_expires_at: Option<UnixSeconds>,
    /// The present rest of each usage.
    pub cooling: PerUsage<Option<Cooling>>,
    /// Moment from which the upstream has refused the credential.
    pub dead_since: Option<UnixSeconds>,
}

/// The whole pool at one moment. `healthy + degraded + down = total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSummary {
    /// Number of configured identities.
    pub total: usize,
    /// Identities in use without any fault.
    pub healthy: usize,
    /// Identities in use, but with a fault.
    pub degraded: usize,
    /// Identities that are not used now.
    pub down: usize,
    /// Leases of all identities that are in use now.
    pub in_flight: usize,
    /// Requests that wait in the queue.
    pub queued: usize,
    /// Whether all fail in the same way, so that the upstream is blamed and not the identities.
    pub upstream_degraded: bool,
    /// Moment until which no request is sent, because several identities were challenged together.
    pub paused_until: Option<UnixSeconds>,
}

impl PoolSummary {
    /// The sum of two pools.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            healthy: self.healthy + other.healthy,
            degraded: self.degraded + other.degraded,
            down: self.down + other.down,
            in_flight: self.in_flight + other.in_flight,
            queued: self.queued + other.queued,
            upstream_degraded: self.upstream_degraded || other.upstream_degraded,
            paused_until: self.paused_until.max(other.paused_until),
        }
    }
}

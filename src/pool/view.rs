//! What people see of the pool: one of three states for each identity, and why. No secret is in here.

use crate::base::facts::{Cooling, CoolingReason, PerUsage, Usage};
use crate::base::ids::{IdentityId, UnixSeconds};

/// How an identity is, in the words that people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityStatus {
    /// In use.
    Healthy,
    /// Still in use after some failures, short of a token, or not used for everything.
    Degraded,
    /// Not used until its time.
    Down,
}

impl IdentityStatus {
    /// The word for it in JSON and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// Why an identity is not healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityReason {
    /// The login itself is refused: its owner has to log in again.
    LoginNeeded,
    /// It is not used for this because the upstream asked for a rest. One that rests from several things has chats
    /// named, if they are among them.
    Resting(Usage, CoolingReason),
    /// It failed too often, and waits for its cooldown to end or for a request to try it.
    Tripped,
    /// The upstream refuses it although its credential is as fresh as can be. It waits for one request to try it.
    Refused,
    /// Its cooldown is over and one request tries it right now.
    Probing,
    /// It has no access token, and the exchange for one failed or is still to come.
    TokenMissing,
    /// It failed a few times in a row.
    Failing,
}

impl IdentityReason {
    /// The word for it in JSON and logs. It names what the identity is not used for, unless that is chats.
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
    /// The name that logs and pages call it by.
    pub id: IdentityId,
    /// How it is.
    pub status: IdentityStatus,
    /// Why; `None` when healthy.
    pub reason: Option<IdentityReason>,
    /// Transient failures in a row.
    pub fails: u32,
    /// Requests under way.
    pub in_flight: u32,
    /// When it may be used again, for what `reason` names or else for chats; `None` when it may now, or when no time
    /// will heal it.
    pub next_at: Option<UnixSeconds>,
    /// When its access token ends, if it has one that says so.
    pub token_expires_at: Option<UnixSeconds>,
    /// The rest that the upstream asked for, for each usage, while it lasts.
    pub cooling: PerUsage<Option<Cooling>>,
    /// Since when the upstream refuses the credential.
    pub dead_since: Option<UnixSeconds>,
}

/// The whole pool at one moment. `healthy + degraded + down = total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSummary {
    /// Identities configured.
    pub total: usize,
    /// Of them in use.
    pub healthy: usize,
    /// Of them in use, but not well.
    pub degraded: usize,
    /// Of them not used at present.
    pub down: usize,
    /// Requests under way.
    pub in_flight: usize,
    /// Requests that wait for an identity.
    pub queued: usize,
    /// Whether all fail in the same way, so that the upstream is blamed and not they.
    pub upstream_degraded: bool,
    /// Until when nothing is sent, because several identities were challenged together.
    pub paused_until: Option<UnixSeconds>,
}

impl PoolSummary {
    /// Two pools as one.
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

//! What is learnt about an identity and has to outlive the process.

use crate::base::ids::UnixSeconds;

/// Facts of one identity that a restart must not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityFacts {
    /// A rest that the upstream asked for.
    pub cooling: Option<Cooling>,
    /// Since when the upstream refuses the credential for good.
    pub dead_since: Option<UnixSeconds>,
}

/// A rest until a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooling {
    /// Why.
    pub reason: CoolingReason,
    /// Until when.
    pub until: UnixSeconds,
    /// When it was decided, so that a clock that steps back cannot prolong it for ever.
    pub set_at: UnixSeconds,
}

/// Why an identity rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoolingReason {
    /// Too many requests.
    Rate,
    /// The day's quota is gone.
    Quota,
    /// The upstream wants a human.
    Challenge,
}

/// What an identity is asked for. Each has rests of its own: a day's quota of videos says nothing about chats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Usage {
    /// Text.
    #[default]
    Chat,
    /// Making and changing pictures.
    Image,
    /// Making videos.
    Video,
    /// Handing over files.
    Upload,
}

//! Facts about identities that outlive the process.

use crate::base::ids::UnixSeconds;

/// The kind of upstream that an identity belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountKind {
    /// An account of the web chat, chat.qwen.ai.
    Web,
    /// An OAuth account, served by the portal.
    OAuth,
    /// A static key of a DashScope-shaped endpoint.
    Key,
}

impl AccountKind {
    /// The word for it, which is also the prefix of its models.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::OAuth => "oauth",
            Self::Key => "key",
        }
    }

    /// Advice for the owner of an identity of this kind whose credential is refused.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Web => "log in to chat.qwen.ai again and replace the cookie",
            Self::OAuth => "log the account in again with `qwen-bridge auth add`",
            Self::Key => "replace the key in QWEN_API_KEYS by one that its endpoint accepts",
        }
    }
}

/// Facts of one identity that a restart must not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityFacts {
    /// The rest that the upstream asked for, for each usage.
    pub cooling: PerUsage<Option<Cooling>>,
    /// The moment from which the upstream has refused the credential permanently; `None` while it is accepted.
    pub dead_since: Option<UnixSeconds>,
    /// The circuit breaker, while it is open.
    pub breaker: Option<OpenBreaker>,
}

/// A rest until a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooling {
    /// The kind of refusal that caused the rest.
    pub reason: CoolingReason,
    /// End of the rest, by the wall clock.
    pub until: UnixSeconds,
    /// Start of the rest: bounds its length when the wall clock steps back.
    pub set_at: UnixSeconds,
    /// Rests in a row whose length the upstream did not give: the next one is longer.
    pub strikes: u32,
}

/// A circuit breaker that is open, or that was and whose next cooldown is longer for it: its identity is parked until a
/// moment, after faults or a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenBreaker {
    /// End of the cooldown, by the wall clock; of a closed breaker the moment since which it has had no failure.
    pub until: UnixSeconds,
    /// A moment at which it was open, which bounds the cooldown when the wall clock steps back; the same as `until` if the
    /// breaker is closed.
    pub set_at: UnixSeconds,
    /// Times it opened since it was last calm: the next cooldown is longer.
    pub trips: u32,
    /// Refusals of the identity since it last worked: the next wait after one is longer.
    pub refusals: u32,
    /// Whether it is open because the upstream refused the identity.
    pub is_refused: bool,
}

/// Reasons why an identity rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoolingReason {
    /// Too many requests for one usage.
    Rate,
    /// The daily quota of one usage is used up.
    Quota,
    /// The upstream demands a check by a human. This concerns the whole account.
    Challenge,
    /// The account's owner sent it to rest, from everything.
    Owner,
}

impl CoolingReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::Rate, Self::Quota, Self::Challenge, Self::Owner];

    /// The word for it on disk and for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Quota => "quota",
            Self::Challenge => "challenge",
            Self::Owner => "owner",
        }
    }
}

/// The kinds of use of an identity. Each has its own rests: a used-up quota of videos leaves chats usable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Usage {
    /// Answers in text, from text or files.
    #[default]
    Chat,
    /// Making and changing pictures.
    Image,
    /// Making videos, from words or from a picture.
    Video,
    /// Deep research, whose quota the upstream counts apart from chats.
    Research,
    /// Handing over files, as a part of any of the others.
    Upload,
}

/// The demands of one request on an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The kind of use.
    pub usage: Usage,
    /// Whether files have to be handed over for it.
    pub uploads: bool,
}

impl From<Usage> for Need {
    fn from(usage: Usage) -> Self {
        Self { usage, uploads: false }
    }
}

impl Usage {
    /// Every usage, in the order of declaration; the order of [`PerUsage::iter`].
    pub const ALL: [Self; 5] = [Self::Chat, Self::Image, Self::Video, Self::Research, Self::Upload];
    /// The usages that decide whether an account is down: it is when it rests from all of them.
    pub const ASKED: [Self; 3] = [Self::Chat, Self::Image, Self::Video];

    /// The word for it on disk and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Image => "image",
            Self::Video => "video",
            Self::Research => "research",
            Self::Upload => "upload",
        }
    }
}

/// One thing for each usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerUsage<T> {
    chat: T,
    image: T,
    video: T,
    research: T,
    upload: T,
}

impl<T> PerUsage<T> {
    /// Makes a value for each usage by `make`.
    pub fn of(mut make: impl FnMut(Usage) -> T) -> Self {
        Self {
            chat: make(Usage::Chat),
            image: make(Usage::Image),
            video: make(Usage::Video),
            research: make(Usage::Research),
            upload: make(Usage::Upload),
        }
    }

    /// The one for a usage.
    pub fn get(&self, usage: Usage) -> &T {
        match usage {
            Usage::Chat => &self.chat,
            Usage::Image => &self.image,
            Usage::Video => &self.video,
            Usage::Research => &self.research,
            Usage::Upload => &self.upload,
        }
    }

    /// The one for a usage, to change it.
    pub fn get_mut(&mut self, usage: Usage) -> &mut T {
        match usage {
            Usage::Chat => &mut self.chat,
            Usage::Image => &mut self.image,
            Usage::Video => &mut self.video,
            Usage::Research => &mut self.research,
            Usage::Upload => &mut self.upload,
        }
    }

    /// Each usage with its own, in the order of [`Usage::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Usage, &T)> {
        Usage::ALL.into_iter().map(|usage| (usage, self.get(usage)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_usage_has_its_own() {
        let mut words = PerUsage::of(|usage| usage.as_str().to_owned());
        assert_eq!(Usage::ALL.map(|usage| words.get(usage).clone()), ["chat", "image", "video", "research", "upload"]);
        for usage in Usage::ALL {
            words.get_mut(usage).push('!');
        }
        let all: Vec<_> = words.iter().map(|(usage, word)| format!("{usage:?} {word}")).collect();
        assert_eq!(all, ["Chat chat!", "Image image!", "Video video!", "Research research!", "Upload upload!"]);
    }
}

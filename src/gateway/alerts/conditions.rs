//! Conditions that the owner has to know of, and their changes: pure, with explicit moments.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::UnixSeconds;

/// The kinds of alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum AlertKind {
    /// The account's login is refused permanently.
    LoginNeeded,
    /// The account's session ends within 72 hours, and nothing renews it.
    EndsSoon,
    /// The upstream demands a check by a human.
    Challenge,
    /// The chat quota of every account of a kind is used up.
    QuotaGone,
    /// The upstream sent a frame that this version does not know.
    Drift,
    /// The state file cannot be written.
    StateNotWritable,
}

impl AlertKind {
    const ALL: [Self; 6] =
        [Self::LoginNeeded, Self::EndsSoon, Self::Challenge, Self::QuotaGone, Self::Drift, Self::StateNotWritable];

    /// Word for messages to programs and for the state file.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::LoginNeeded => "login_needed",
            Self::EndsSoon => "session_ends_soon",
            Self::Challenge => "challenge",
            Self::QuotaGone => "quota_gone",
            Self::Drift => "drift",
            Self::StateNotWritable => "state_not_writable",
        }
    }

    /// The kind of a word in the state file.
    #[must_use]
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether it ends when it is no longer seen. An unknown frame is reported once and does not end.
    fn recovers(self) -> bool {
        self != Self::Drift
    }
}

/// One condition with its subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Trouble {
    /// The kind of alert.
    pub kind: AlertKind,
    /// Subject: an account, a kind of accounts, or a kind of unknown frames; empty for the server.
    pub of: String,
}

/// The known facts of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    since: UnixSeconds,
    /// Whether the owner was told, or the most tries were made.
    is_told: bool,
    /// Moment since which it is no longer seen.
    gone_since: Option<UnixSeconds>,
    tries: u32,
    next_try: UnixSeconds,
}

/// A message to the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// The condition that it is about.
    pub trouble: Trouble,
    /// Moment since which the condition has held.
    pub since: UnixSeconds,
    /// Whether the condition has ended.
    pub is_over: bool,
}

/// The conditions of a server.
#[derive(Debug, Default)]
pub(crate) struct Troubles(BTreeMap<Trouble, Known>);

impl Troubles {
    /// Continues with the alerts of earlier runs.
    #[must_use]
    pub(crate) fn of(told: impl IntoIterator<Item = (Trouble, UnixSeconds)>) -> Self {
        let known = |since| Known { since, is_told: true, gone_since: None, tries: 0, next_try: since };
        Self(told.into_iter().map(|(trouble, since)| (trouble, known(since))).collect())
    }

    /// Takes the present conditions. One that is gone counts as ended after the seconds that `settle` gives for it.
    /// Returns the messages that are due now.
    pub(crate) fn look(
        &mut self,
        seen: &BTreeSet<Trouble>,
        now: UnixSeconds,
        settle: impl Fn(AlertKind) -> i64,
    ) -> Vec<News> {
        for trouble in seen {
            if self.0.len() >= TROUBLES_MAX && !self.0.contains_key(trouble) {
                continue;
            }
            let fresh = Known { since: now, is_told: false, gone_since: None, tries: 0, next_try: now };
            let known = self.0.entry(trouble.clone()).or_insert(fresh);
            if known.gone_since.take().is_some() {
                // The condition is back, so its end is not reported.
                (known.tries, known.next_try) = (0, now);
            }
        }
        for (trouble, known) in &mut self.0 {
            if !seen.contains(trouble) && trouble.kind.recovers() {
                known.gone_since.get_or_insert(now);
            }
        }
        let is_over = |trouble: &Trouble, known: &Known| {
            known.gone_since.is_some_and(|since| now.0.saturating_sub(since.0) >= settle(trouble.kind))
        };
        // A condition that ended before it was reported is dropped.
        self.0.retain(|trouble, known| known.is_told || !is_over(trouble, known));
        let due = self.0.iter().filter(|(_, known)| known.next_try <= now);
        let news = due.filter_map(|(trouble, known)| {
            let is_over = is_over(trouble, known);
            let is_new = !known.is_told && known.gone_since.is_none();
            (is_over || is_new).then(|| News { trouble: trouble.clone(), since: known.since, is_over })
        });
        news.take(NEWS_MAX).collect()
    }

    /// Notes whether the owner was told. Returns whether the message is finished: it was delivered, or will not be
    /// tried again.
    pub(crate) fn tried(&mut self, news: &News, was_told: bool, now: UnixSeconds) -> bool {
        let Some(known) = self.0.get_mut(&news.trouble) else { return true };
        known.tries = known.tries.saturating_add(1);
        let is_done = was_told || known.tries >= TRIES_MAX;
        if !is_done {
            known.next_try = now.plus(RETRY_SECONDS.saturating_mul(1 << known.tries.min(12)));
            return false;
        }
        if news.is_over {
            self.0.remove(&news.trouble);
        } else {
            known.is_told = true;
            (known.tries, known.next_try) = (0, now);
        }
        true
    }
}

/// Most conditions that are known at once.
const TROUBLES_MAX: usize = 2000;
/// Most messages of one round.
const NEWS_MAX: usize = 20;
/// Most tries of one message, with growing pauses: about half a day in all.
const TRIES_MAX: u32 = 20;
/// Half the pause before the second try, in seconds.
const RETRY_SECONDS: i64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(of: &str) -> Trouble {
        Trouble { kind: AlertKind::LoginNeeded, of: of.to_owned() }
    }

    fn at(seconds: i64) -> UnixSeconds {
        UnixSeconds(seconds)
    }

    /// The messages at a moment at which these conditions hold, in words.
    fn told(troubles: &mut Troubles, seen: &[&Trouble], now: i64, succeeds: bool) -> Vec<String> {
        let news = troubles.look(&seen.iter().copied().cloned().collect(), at(now), |_| 30);
        for one in &news {
            troubles.tried(one, succeeds, at(now));
        }
        let words = |news: &News| format!("{} {}", if news.is_over { "over" } else { "new" }, news.trouble.of);
        news.iter().map(words).collect()
    }

    #[test]
    fn each_trouble_is_told_once_until_it_is_over() {
        let mut troubles = Troubles::default();
        let (a, b) = (trouble("a"), trouble("b"));
        assert_eq!(told(&mut troubles, &[&a], 0, true), ["new a"]);
        assert_eq!(told(&mut troubles, &[&a, &b], 5, true), ["new b"]);
        assert_eq!(told(&mut troubles, &[&a, &b], 5000, true), Vec::<String>::new());
        // A condition that is gone for a moment has not ended.
        assert_eq!(told(&mut troubles, &[&b], 5010, true), Vec::<String>::new());
        assert_eq!(told(&mut troubles, &[&a, &b], 5020, true), Vec::<String>::new());
        assert_eq!(told(&mut troubles, &[&b], 5030, true), Vec::<String>::new());
        assert_eq!(told(&mut troubles, &[&b], 5059, true), Vec::<String>::new());
        assert_eq!(told(&mut troubles, &[&b], 5060, true), ["over a"]);
        assert_eq!(told(&mut troubles, &[&b], 9000, true), Vec::<String>::new());
        assert_eq!(told(&mut troubles, &[&a, &b], 9001, true), ["new a"], "it came back");
    }

    #[test]
    fn a_restart_tells_nothing_twice_and_still_tells_the_end() {
        let mut troubles = Troubles::of([(trouble("a"), at(0)), (trouble("b"), at(0))]);
        assert_eq!(told(&mut troubles, &[&trouble("a")], 100, true), Vec::<String>::new());
        assert_eq!(told(&mut troubles, &[&trouble("a")], 130, true), ["over b"]);
    }

    #[test]
    fn what_cannot_be_told_is_tried_again_less_and_less_often_and_not_for_ever() {
        let mut troubles = Troubles::default();
        let mut tries = Vec::new();
        for now in 0..200_000 {
            if !told(&mut troubles, &[&trouble("a")], now, false).is_empty() {
                tries.push(now);
            }
        }
        assert_eq!(tries.len(), TRIES_MAX as usize, "{tries:?}");
        assert_eq!(&tries[..4], [0, 2, 6, 14]);
        assert!((8 * 3600..16 * 3600).contains(&tries[19]), "{tries:?}");
        // The end of an unreported condition is not reported.
        let mut troubles = Troubles::default();
        told(&mut troubles, &[&trouble("b")], 0, false);
        for now in 1..1000 {
            assert_eq!(told(&mut troubles, &[], now, true), Vec::<String>::new());
        }
    }

    #[test]
    fn what_the_upstream_sent_once_is_news_once() {
        let drift = Trouble { kind: AlertKind::Drift, of: "phase x".to_owned() };
        let mut troubles = Troubles::default();
        assert_eq!(told(&mut troubles, &[&drift], 0, true), ["new phase x"]);
        assert_eq!(told(&mut troubles, &[], 1000, true), Vec::<String>::new());
        for kind in AlertKind::ALL {
            assert_eq!(AlertKind::of(kind.as_str()), Some(kind));
        }
    }
}

//! Correlated failures: when all identities fail in the same way, the upstream (or this server) is at fault. Pure.

use std::time::{Duration, Instant};

/// Gathers transient failures by code until a success.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blame {
    suspects: Vec<Suspect>,
    is_upstream: bool,
    last_failure: Option<Instant>,
}

/// One kind of failure and the identities that had it.
#[derive(Clone, Debug)]
struct Suspect {
    code: &'static str,
    identities: Vec<usize>,
}

impl Blame {
    /// Whether the upstream is blamed at `now`.
    pub(crate) fn is_upstream(&self, now: Instant) -> bool {
        self.is_upstream && !self.is_over(now)
    }

    /// An identity failed; `in_use` is how many identities could be asked at all. Returns whether the upstream
    /// is blamed, which then includes this failure.
    pub(crate) fn fail(&mut self, code: &'static str, identity: usize, in_use: usize, now: Instant) -> bool {
        if self.is_over(now) {
            self.succeed();
        }
        self.last_failure = Some(now);
        // With a single identity the two cannot be told apart.
        let needed = in_use.clamp(2, IDENTITIES);
        let seen = self.note(code, identity);
        self.is_upstream |= in_use > 1 && seen >= needed;
        self.is_upstream
    }

    /// An identity succeeded: the upstream is well.
    pub(crate) fn succeed(&mut self) {
        if self.last_failure.is_some() {
            *self = Self::default();
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.last_failure.is_none_or(|at| now.saturating_duration_since(at) >= QUIET)
    }

    /// Adds an identity to those that had this code and returns how many they are.
    fn note(&mut self, code: &'static str, identity: usize) -> usize {
        if let Some(suspect) = self.suspects.iter_mut().find(|known| known.code == code) {
            if suspect.identities.len() < IDENTITIES && !suspect.identities.contains(&identity) {
                suspect.identities.push(identity);
            }
            return suspect.identities.len();
        }
        if self.suspects.len() >= CODES_MAX {
            self.suspects.remove(0);
        }
        self.suspects.push(Suspect { code, identities: vec![identity] });
        1
    }
}

/// Identities with the same failure that make it the upstream's.
const IDENTITIES: usize = 3;
/// Time without a failure after which it is forgotten.
const QUIET: Duration = Duration::from_secs(120);
const CODES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blame_needs_three_or_all_with_one_code() {
        for (in_use, failures, expected) in [
            (5, vec![("a", 0), ("a", 1)], false),
            (5, vec![("a", 0), ("a", 1), ("a", 2)], true),
            (5, vec![("a", 0), ("a", 1), ("a", 1), ("a", 0)], false),
            (5, vec![("a", 0), ("a", 1), ("b", 2)], false),
            (5, vec![("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)], true),
            (3, vec![("a", 0), ("a", 1)], false),
            (2, vec![("a", 0), ("a", 1)], true),
            (2, vec![("a", 0), ("a", 0)], false),
            (1, vec![("a", 0), ("a", 1), ("a", 2)], false),
            (0, vec![("a", 0), ("a", 1), ("a", 2)], false),
        ] {
            let (mut blame, now) = (Blame::default(), Instant::now());
            let mut last = false;
            for (code, identity) in &failures {
                last = blame.fail(code, *identity, in_use, now);
            }
            assert_eq!(last, expected, "{in_use} {failures:?}");
            assert_eq!(blame.is_upstream(now), expected);
        }
    }

    #[test]
    fn blame_ends_with_a_success_or_two_quiet_minutes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut blame = Blame::default();
        blame.fail("a", 0, 2, at(0));
        blame.succeed();
        assert!(!blame.fail("a", 1, 2, at(1)), "a success in between");
        assert!(blame.fail("a", 0, 2, at(2)));
        assert!(blame.fail("other", 0, 2, at(100)), "any failure keeps it up");
        assert!(blame.is_upstream(at(219)));
        assert!(!blame.is_upstream(at(220)));
        assert!(!blame.fail("a", 0, 2, at(220)));
        assert!(blame.fail("a", 1, 2, at(221)));
        blame.succeed();
        assert!(!blame.is_upstream(at(221)));
    }

    #[test]
    fn failures_of_another_hour_are_not_added_up() {
        let start = Instant::now();
        let mut blame = Blame::default();
        blame.fail("a", 0, 2, start);
        assert!(!blame.fail("a", 1, 2, start + Duration::from_secs(120)));
        assert!(blame.fail("a", 0, 2, start + Duration::from_secs(239)));
    }

    #[test]
    fn the_list_of_codes_is_bounded() {
        let codes: Vec<&'static str> = "a b c d e f g h i j k l m n o p q r s t".split(' ').collect();
        let (mut blame, now) = (Blame::default(), Instant::now());
        for code in codes {
            blame.fail(code, 0, 2, now);
        }
        assert_eq!(blame.suspects.len(), CODES_MAX);
        assert!(!blame.fail("a", 1, 2, now), "forgotten first");
        assert!(blame.fail("t", 1, 2, now));
    }
}

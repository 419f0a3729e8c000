//! The ability of accounts to take tools that are declared beside the prompt.
//!
//! The upstream opened this to some accounts only, and does not tell which. An account without the ability refuses a
//! declaration, or ignores it and answers as if there were no tools. So an account is on trial until one of its answers
//! calls a declared tool in the upstream's own form. An answer on trial without a call proves nothing, and is taken for
//! that of an account without the ability: the question is asked once more with the tools in the prompt, which every
//! account reads.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::pool::Now;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};

/// Time for which a call in the upstream's own form counts as proof.
const PROVEN_FOR: Duration = Duration::from_hours(6);
/// Time for which an account that refused a declaration gets no other one.
const REFUSED_FOR: Duration = Duration::from_hours(6);
/// Time for which an account that called no tool on trial gets no other declaration.
const SILENT_FOR: Duration = Duration::from_hours(1);
/// Most accounts that are remembered; in client mode their names come from callers.
const KEPT_MAX: usize = 10_000;

/// The known ability of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not known: its next declaration is a trial.
    Unknown,
    /// The account takes declarations.
    Proven,
    /// The account does not take declarations.
    Gated,
}

/// Reasons to ask a question again with the tools in the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The upstream refused the request that had the declaration.
    Refused,
    /// The answer on trial called no tool.
    Silent,
}

/// The known abilities of all accounts. Lost with the process: a trial finds them again.
#[derive(Debug, Default)]
pub(crate) struct NativeAccounts(Mutex<HashMap<CredentialKey, (Standing, UnixSeconds)>>);

impl NativeAccounts {
    /// The known ability of an account at `now`.
    pub(crate) fn standing(&self, key: &CredentialKey, now: Now) -> Standing {
        let known = self.0.lock().get(key).copied();
        known.filter(|(_, until)| *until > now.unix).map_or(Standing::Unknown, |(standing, _)| standing)
    }

    /// An account called a declared tool in the upstream's own form.
    pub(crate) fn prove(&self, key: &CredentialKey, now: Now) {
        self.note(key, Standing::Proven, PROVEN_FOR, now);
    }

    /// An account does not take declarations.
    pub(crate) fn gate(&self, key: &CredentialKey, gate: Gate, now: Now) {
        let length = match gate {
            Gate::Refused => REFUSED_FOR,
            Gate::Silent => SILENT_FOR,
        };
        self.note(key, Standing::Gated, length, now);
    }

    fn note(&self, key: &CredentialKey, standing: Standing, length: Duration, now: Now) {
        let mut known = self.0.lock();
        known.retain(|_, (_, until)| *until > now.unix);
        if known.len() < KEPT_MAX {
            let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
            known.insert(key.clone(), (standing, now.unix.plus(seconds)));
        }
    }
}

/// Whether a failure may come from the declaration, so that the same question without it may succeed. For a proven
/// account only a request that is judged wrong is tried again.
pub(crate) fn may_be_gate(error: &UpstreamError, standing: Standing) -> bool {
    use UpstreamErrorKind as Kind;
    match error.kind {
        Kind::InvalidRequest => !error.is_of_upload,
        Kind::Empty => standing == Standing::Unknown,
        // An error of the upstream itself that does not tell its subject.
        Kind::Unavailable => standing == Standing::Unknown && error.source.is_none() && !error.is_wordless(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_ends_by_its_date() {
        let (accounts, now) = (NativeAccounts::default(), Now::read());
        let [one, two] = ["one", "two"].map(CredentialKey::of);
        let later = |hours: i64| Now { unix: now.unix.plus(hours * 3600), ..now };
        assert_eq!(accounts.standing(&one, now), Standing::Unknown);
        accounts.prove(&one, now);
        accounts.gate(&two, Gate::Silent, now);
        assert_eq!(
            (accounts.standing(&one, later(5)), accounts.standing(&one, later(6))),
            (Standing::Proven, Standing::Unknown)
        );
        assert_eq!(
            (accounts.standing(&two, now), accounts.standing(&two, later(1))),
            (Standing::Gated, Standing::Unknown)
        );
        accounts.gate(&one, Gate::Refused, now);
        assert_eq!(
            (accounts.standing(&one, later(5)), accounts.standing(&one, later(6))),
            (Standing::Gated, Standing::Unknown)
        );
        accounts.prove(&one, later(7));
        assert_eq!(accounts.0.lock().len(), 1, "what is over is forgotten");
    }

    #[test]
    fn failures_that_may_come_from_a_declaration() {
        use UpstreamErrorKind as Kind;
        let check = |error: &UpstreamError, on_trial: bool, proven: bool| {
            let found = (may_be_gate(error, Standing::Unknown), may_be_gate(error, Standing::Proven));
            assert_eq!(found, (on_trial, proven), "{error}");
        };
        let new = |kind| UpstreamError::new("asking", kind);
        check(&UpstreamError::told("asking", Kind::InvalidRequest, "Bad_Request", "Something wrong"), true, true);
        check(&UpstreamError { is_of_upload: true, ..new(Kind::InvalidRequest) }, false, false);
        check(&new(Kind::Empty), true, false);
        check(&UpstreamError::told("asking", Kind::Unavailable, "internal_error", "Internal Error"), true, false);
        for kind in [Kind::Unavailable, Kind::Timeout, Kind::Truncated, Kind::Challenged, Kind::TooLong, Kind::LostChat]
        {
            check(&new(kind), false, false);
        }
    }
}

//! The step after a failure: one question, answered by a table.

use crate::upstream::error::{Blame, UpstreamErrorKind};

/// The failure of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureClass {
    /// The identity had no usable token, so nothing was sent.
    NoToken,
    /// The upstream failed, or refused.
    Upstream(UpstreamErrorKind),
}

impl FailureClass {
    /// Word for the trace and for logs.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Upstream(kind) => kind.code(),
        }
    }
}

/// The facts that the decision depends on, beside the failure.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of one request, each read once")]
pub(crate) struct Facts {
    /// The identity is the caller's own credential, the only one that the request may use.
    pub(crate) is_own: bool,
    /// A refused token of this kind of identity can be replaced by a new one.
    pub(crate) can_renew: bool,
    /// The token had ended when it was used.
    pub(crate) token_was_stale: bool,
    /// The present identity was asked a second time, or may not be: an earlier one was, and no retry is left.
    pub(crate) has_repeated: bool,
    /// Something was begun upstream that must not be begun twice.
    pub(crate) is_final: bool,
    /// Challenges that this request met so far, this one included.
    pub(crate) challenges: u32,
    /// Further identities that this request may still try.
    pub(crate) retries_left: u32,
    /// The identities have different models, because their endpoints differ.
    pub(crate) models_differ: bool,
    /// Enough time is left for another attempt.
    pub(crate) has_time: bool,
    /// The same failure shows on all identities, and a second one was already asked.
    pub(crate) is_hopeless: bool,
}

/// The step after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Ask the same identity once more, in a new chat.
    Repeat,
    /// Get a new token for the identity and ask it once more.
    RenewToken,
    /// Ask another identity, which costs a retry if a request was sent.
    NextIdentity,
    /// Report the failure to the caller.
    GiveUp,
}

impl NextStep {
    /// Word for the trace and for logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Repeat => "repeat",
            Self::RenewToken => "renew_token",
            Self::NextIdentity => "next_identity",
            Self::GiveUp => "give_up",
        }
    }
}

/// Most challenges that one request may meet. The next account from the same address would meet one too.
const CHALLENGES_MAX: u32 = 2;

/// Decides by a table what follows a failure of one attempt; it looks at nothing but its arguments.
pub(crate) fn next_step(failure: FailureClass, facts: &Facts) -> NextStep {
    use UpstreamErrorKind as Kind;
    let may_repeat = !facts.has_repeated && !facts.is_final;
    let may_move = !facts.is_own && !facts.is_final && facts.has_time && !facts.is_hopeless;
    match failure {
        // Nothing was sent, so this costs none of the request's retries.
        FailureClass::NoToken if may_move => NextStep::NextIdentity,
        FailureClass::Upstream(Kind::Unauthorized) if facts.can_renew && may_repeat => NextStep::RenewToken,
        // An expired token draws a challenge too.
        FailureClass::Upstream(Kind::Challenged) if facts.token_was_stale && facts.can_renew && may_repeat => {
            NextStep::RenewToken
        }
        FailureClass::Upstream(Kind::LostChat | Kind::BusyChat) if may_repeat => NextStep::Repeat,
        FailureClass::Upstream(Kind::Challenged) if facts.challenges >= CHALLENGES_MAX => NextStep::GiveUp,
        FailureClass::Upstream(kind) if may_move && facts.retries_left > 0 => {
            let is_elsewhere = match kind {
                // Another account may be allowed what this one is not.
                Kind::ModelDenied => true,
                Kind::ModelNotFound => facts.models_differ,
                kind => kind.blame() != Blame::Caller,
            };
            if is_elsewhere { NextStep::NextIdentity } else { NextStep::GiveUp }
        }
        FailureClass::NoToken | FailureClass::Upstream(_) => NextStep::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::FailureClass::{NoToken, Upstream};
    use super::NextStep::{GiveUp, NextIdentity, RenewToken, Repeat};
    use super::UpstreamErrorKind as Kind;
    use super::*;

    /// A pooled web account at its first failure, with one more identity to try.
    const FRESH: Facts = Facts {
        is_own: false,
        can_renew: true,
        token_was_stale: false,
        has_repeated: false,
        is_final: false,
        challenges: 0,
        retries_left: 1,
        models_differ: false,
        has_time: true,
        is_hopeless: false,
    };

    fn check(failure: FailureClass, facts: Facts, expected: NextStep) {
        assert_eq!(next_step(failure, &facts), expected, "{failure:?} {facts:?}");
    }

    #[test]
    fn every_failure_at_first() {
        let all = [
            (Kind::Unauthorized, RenewToken),
            (Kind::Forbidden, NextIdentity),
            (Kind::ModelDenied, NextIdentity),
            (Kind::RateLimited, NextIdentity),
            (Kind::QuotaExhausted { hours: Some(1) }, NextIdentity),
            (Kind::ModelQuotaExhausted, NextIdentity),
            (Kind::Challenged, NextIdentity),
            (Kind::LostChat, Repeat),
            (Kind::BusyChat, Repeat),
            (Kind::ContentPolicy, GiveUp),
            (Kind::InvalidRequest, GiveUp),
            (Kind::ModelNotFound, GiveUp),
            (Kind::TooLarge, GiveUp),
            (Kind::TooLong, GiveUp),
            (Kind::Unavailable, NextIdentity),
            (Kind::Timeout, NextIdentity),
            (Kind::Truncated, NextIdentity),
            (Kind::Empty, NextIdentity),
            (Kind::Protocol, NextIdentity),
        ];
        for (kind, expected) in all {
            check(Upstream(kind), FRESH, expected);
        }
        check(NoToken, FRESH, NextIdentity);
    }

    #[test]
    fn the_same_identity_is_asked_twice_at_most() {
        let facts = Facts { has_repeated: true, ..FRESH };
        check(Upstream(Kind::Unauthorized), facts, NextIdentity);
        check(Upstream(Kind::LostChat), facts, GiveUp);
        check(Upstream(Kind::BusyChat), facts, GiveUp);
        check(Upstream(Kind::Unauthorized), Facts { can_renew: false, ..FRESH }, NextIdentity);
        // A repeat needs no retry to be left.
        check(Upstream(Kind::Unauthorized), Facts { retries_left: 0, ..FRESH }, RenewToken);
        check(Upstream(Kind::LostChat), Facts { retries_left: 0, ..FRESH }, Repeat);
    }

    #[test]
    fn a_challenge_may_mean_a_token_that_has_ended() {
        check(Upstream(Kind::Challenged), Facts { token_was_stale: true, challenges: 1, ..FRESH }, RenewToken);
        check(Upstream(Kind::Challenged), Facts { token_was_stale: true, has_repeated: true, ..FRESH }, NextIdentity);
        check(Upstream(Kind::Challenged), Facts { challenges: 1, ..FRESH }, NextIdentity);
        check(Upstream(Kind::Challenged), Facts { challenges: 2, ..FRESH }, GiveUp);
    }

    #[test]
    fn nothing_else_is_tried_when() {
        let reasons = [
            Facts { is_own: true, can_renew: false, ..FRESH },
            Facts { is_final: true, ..FRESH },
            Facts { has_time: false, has_repeated: true, ..FRESH },
            Facts { is_hopeless: true, has_repeated: true, ..FRESH },
        ];
        for facts in reasons {
            for failure in [NoToken, Upstream(Kind::Unauthorized), Upstream(Kind::Unavailable)] {
                check(failure, facts, GiveUp);
            }
        }
        check(Upstream(Kind::Unavailable), Facts { retries_left: 0, ..FRESH }, GiveUp);
    }

    #[test]
    fn a_model_that_one_endpoint_lacks_may_be_at_another() {
        check(Upstream(Kind::ModelNotFound), Facts { models_differ: true, ..FRESH }, NextIdentity);
        check(Upstream(Kind::ModelNotFound), Facts { models_differ: true, retries_left: 0, ..FRESH }, GiveUp);
        check(Upstream(Kind::ModelDenied), Facts { retries_left: 0, ..FRESH }, GiveUp);
        check(Upstream(Kind::ModelDenied), Facts { is_own: true, can_renew: false, ..FRESH }, GiveUp);
        check(Upstream(Kind::InvalidRequest), Facts { models_differ: true, ..FRESH }, GiveUp);
    }

    #[test]
    fn an_identity_without_a_token_costs_no_retry() {
        check(NoToken, Facts { retries_left: 0, ..FRESH }, NextIdentity);
    }

    #[test]
    fn a_callers_own_chat_that_is_lost_is_made_anew() {
        check(Upstream(Kind::LostChat), Facts { is_own: true, ..FRESH }, Repeat);
    }
}

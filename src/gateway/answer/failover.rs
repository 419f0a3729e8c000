//! Tries a request on one identity after the other. After each failure `next_step` decides, and the loop here obeys. A
//! failure goes to the pool with its blame, and each attempt into the request's [`Trace`].

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use crate::base::facts::{AccountKind, CoolingReason};
use crate::base::ids::CredentialKey;
use crate::base::session::Session;
use crate::gateway::accounts::error::RefreshError;
use crate::gateway::accounts::tokens::Tokens;
use crate::gateway::answer::context::{Progress, RequestContext};
use crate::gateway::answer::error::{ChatError, until_midnight};
use crate::gateway::answer::model_rests::ModelRests;
use crate::gateway::answer::next_step::{Facts, FailureClass, NextStep, next_step};
use crate::gateway::answer::trace::{Trace, What};
use crate::gateway::answer::usage::Accounting;
use crate::pool::{IdentityPool, Lease, LeaseError, Now, Outcome, Wanted};
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};

/// Longest wait for a token while other identities are left to try.
const TOKEN_PATIENCE: Duration = Duration::from_secs(5);

/// Least time left for which a further attempt is made.
const ATTEMPT_TIME_MIN: Duration = Duration::from_secs(5);

/// `Retry-After` when an identity that was not tried is free.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Most accounts that are named in the trace as passed over.
const PASSED_OVER_MAX: usize = 8;

/// Prompts of this size, in bytes, may themselves be the reason for a challenge.
const SUSPICIOUS_PROMPT_BYTES: usize = 100 * 1024;

/// An attempt that can be made on one identity after the other.
pub(crate) trait Attempt: Send {
    /// The result of a successful attempt.
    type Done: Send;

    /// Makes one attempt, the `number`th, counted from 1. Returns the lease when it fails.
    fn run(
        &mut self,
        lease: Lease,
        number: u32,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Done, Failed>> + Send;

    /// The texts of the request, which an upstream may repeat in its failures.
    fn asked(&self) -> Vec<Cow<'_, str>>;

    /// Length in bytes of the prompt that was sent last; 0 where no upstream refuses a prompt for its size alone.
    fn prompt_bytes(&self) -> usize {
        0
    }

    /// Discards the output of a failed attempt.
    fn reset(&mut self);
}

/// A failed attempt, and the lease to report it on.
pub(crate) struct Failed {
    pub(crate) error: UpstreamError,
    pub(crate) lease: Lease,
    /// Whether another attempt would make, and charge, the same thing twice.
    pub(crate) is_final: bool,
}

/// Reasons why one identity gave no answer.
enum Failure {
    /// The identity has no usable token.
    Session(RefreshError),
    /// The upstream failed on this identity.
    Upstream(UpstreamError),
}

impl Failure {
    fn class(&self) -> FailureClass {
        match self {
            Self::Session(_) => FailureClass::NoToken,
            Self::Upstream(error) => FailureClass::Upstream(error.kind),
        }
    }

    /// The failure as that of the whole request, which was tried on identities of this kind.
    fn told(self, is_own: bool, kind: AccountKind, attempts: u32) -> ChatError {
        use UpstreamErrorKind as Kind;
        match self {
            Self::Session(RefreshError::Refused { .. } | RefreshError::OtherAccount { .. }) if is_own => {
                ChatError::OwnCredential(UpstreamError::new("refreshing a token", Kind::Unauthorized))
            }
            Self::Session(error) => ChatError::Session(error, kind),
            Self::Upstream(error) if is_own && matches!(error.kind, Kind::Unauthorized | Kind::Forbidden) => {
                ChatError::OwnCredential(error)
            }
            Self::Upstream(error) => ChatError::Upstream { error, attempts },
        }
    }
}

/// Tries requests on the identities of one pool.
pub(crate) struct Failover {
    pub(crate) pool: IdentityPool,
    pub(crate) tokens: Tokens,
    pub(crate) accounting: Accounting,
    pub(crate) model_rests: ModelRests,
}

impl Failover {
    /// Tries until an attempt works or [`next_step`] gives up.
    ///
    /// # Errors
    /// [`ChatError`]: the last failure, or no identity was available.
    pub(crate) async fn run<A: Attempt>(
        &self,
        context: &RequestContext,
        attempt: &mut A,
        progress: &mut Progress,
    ) -> Result<A::Done, ChatError> {
        let is_own = context.own.is_some();
        let mut last: Option<ChatError> = None;
        // The lease of an identity that is to be asked once more.
        let mut held: Option<Lease> = None;
        loop {
            let lease = match held.take() {
                Some(lease) => lease,
                None => match self.lease(context, progress).await {
                    Ok(lease) => {
                        progress.takes_up(last.is_none());
                        lease
                    }
                    // If no other identity can take over, the failure itself is the answer.
                    Err(error) => return Err(last.map_or(error, |last| self.in_sum(progress, last))),
                },
            };
            let session = Arc::clone(lease.session());
            let (mut failure, mut lease) = match self.ask(lease, is_own, attempt, progress, &context.trace).await {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            attempt.reset();
            match next_step(failure.class(), &self.facts(&session, is_own, progress)) {
                NextStep::Repeat => {
                    note(&context.trace, &session, &failure, NextStep::Repeat);
                    progress.repeats();
                    held = lease;
                    continue;
                }
                NextStep::RenewToken => {
                    note(&context.trace, &session, &failure, NextStep::RenewToken);
                    let since = Instant::now();
                    let renewed = self.renew(lease.take(), &session, is_own, progress).await;
                    context.trace.note_token(session.identity(), since.into_std(), renewed.is_ok());
                    match renewed {
                        Ok(renewed) => {
                            // Only a second question counts as a retry of the request.
                            progress.repeats();
                            progress.is_renewed = true;
                            held = renewed;
                            continue;
                        }
                        Err(error) => failure = Failure::Session(error),
                    }
                }
                NextStep::NextIdentity | NextStep::GiveUp => {}
            }
            if let (Some(lease), Failure::Upstream(error)) = (lease, &failure) {
                self.settle(lease, error, progress, is_own);
            }
            // Decided once more, now that the pool knows of the failure: it may show that all identities fail alike.
            let facts = Facts { has_repeated: true, ..self.facts(&session, is_own, progress) };
            let step = next_step(failure.class(), &facts);
            note(&context.trace, &session, &failure, step);
            let costs_retry = matches!(failure, Failure::Upstream(_));
            let error = failure.told(is_own, self.tokens.kind(), progress.attempts);
            if step != NextStep::NextIdentity || (costs_retry && !self.pool.allow_retry(Now::read())) {
                let error_chain = ErrorChain(&error);
                warn!(identity.id = %session.identity(), attempts = progress.attempts, error = %error_chain, "no answer");
                return Err(if is_own { error } else { self.in_sum(progress, error) });
            }
            info!(identity.id = %session.identity(), attempt = progress.attempts, error = %ErrorChain(&error), "trying another identity");
            progress.moves_on(session.key(), costs_retry);
            last = Some(error);
        }
    }

    /// Whether another identity may be asked for the whole answer again, after it broke in the middle.
    pub(crate) fn may_begin_anew(&self, progress: &mut Progress, key: &CredentialKey, error: &UpstreamError) -> bool {
        let facts = Facts { has_repeated: true, ..self.common_facts(progress) };
        let step = next_step(FailureClass::Upstream(error.kind), &facts);
        if step != NextStep::NextIdentity || !self.pool.allow_retry(Now::read()) {
            return false;
        }
        progress.moves_on(key, true);
        true
    }

    async fn lease(&self, context: &RequestContext, progress: &Progress) -> Result<Lease, ChatError> {
        if let Some(session) = &context.own {
            return Ok(IdentityPool::detached(self.tokens.own(session)));
        }
        let now = Now::read();
        let resting = self.resting_for_model(progress, now);
        let without_quota = resting.iter().map(|(key, _)| key);
        let wanted = Wanted {
            caller: context.caller,
            usage: progress.limits.usage,
            uploads: progress.limits.uploads,
            tried: without_quota.chain(&progress.avoided).chain(&progress.tried).cloned().collect(),
            preferred: progress.preferred.clone(),
            deadline: progress.deadline.into_std(),
        };
        let since = Instant::now();
        let leased = self.pool.lease(&wanted).await;
        self.note_choice(&context.trace, &leased, progress, since.elapsed());
        leased.map_err(|error| {
            ChatError::Lease(self.refusal(error, &resting, &wanted.tried, progress), self.tokens.kind())
        })
    }

    /// The identities that have no quota of the requested model, with the time until it is back.
    fn resting_for_model(&self, progress: &Progress, now: Now) -> Vec<(CredentialKey, Duration)> {
        progress.model.as_deref().map(|model| self.model_rests.of(model, now)).unwrap_or_default()
    }

    /// The reason why none but the `tried` identities could be lent. If there are none, or they lack a credential that
    /// works, it is the quota of the model, which those that are `resting` have used up.
    fn refusal(
        &self,
        error: LeaseError,
        resting: &[(CredentialKey, Duration)],
        tried: &[CredentialKey],
        progress: &Progress,
    ) -> LeaseError {
        let is_by_quota = match error {
            LeaseError::AllTried => true,
            LeaseError::Unusable { .. } => self.pool.lack_credentials(progress.limits.need(), tried, Now::read()),
            _ => false,
        };
        match resting.iter().map(|(_, wait)| *wait).min() {
            Some(retry_after) if is_by_quota => LeaseError::Resting { reason: CoolingReason::Quota, retry_after },
            _ => error,
        }
    }

    /// The reason why no identity could be lent to a new request for the same; `None` if one could.
    fn outlook(&self, progress: &Progress) -> Option<LeaseError> {
        let now = Now::read();
        let resting = self.resting_for_model(progress, now);
        let tried: Vec<_> = resting.iter().map(|(key, _)| key.clone()).collect();
        let error = self.pool.outlook_without(progress.limits.need(), &tried, now)?;
        Some(self.refusal(error, &resting, &tried, progress))
    }

    /// Notes which account was chosen, and which ones were passed over.
    fn note_choice(&self, trace: &Trace, leased: &Result<Lease, LeaseError>, progress: &Progress, waited: Duration) {
        for (identity, reason) in self.pool.blocked(progress.limits.need(), PASSED_OVER_MAX, Now::read()) {
            trace.note(What::PassedOver { identity, reason: reason.as_str() });
        }
        trace.note(match leased {
            Ok(lease) => What::Chosen { identity: lease.identity().clone(), waited },
            Err(_) => What::NoAccount { kind: self.tokens.kind(), waited },
        });
    }

    /// One attempt on one identity: a token first, then the question. The lease comes back with an upstream's failure;
    /// without a token it has already ended.
    async fn ask<A: Attempt>(
        &self,
        lease: Lease,
        is_own: bool,
        attempt: &mut A,
        progress: &mut Progress,
        trace: &Trace,
    ) -> Result<A::Done, (Failure, Option<Lease>)> {
        let session = Arc::clone(lease.session());
        trace.asks(self.tokens.kind(), session.identity());
        if !is_own {
            let (deadline, since) = (self.token_deadline(progress), Instant::now());
            let fresh = in_time(&session, deadline, self.tokens.ensure_fresh(&session)).await;
            trace.note_token(session.identity(), since.into_std(), fresh.is_ok());
            if let Err(error) = fresh {
                lease.finish(Outcome::Neutral, Now::read());
                return Err((Failure::Session(error), None));
            }
        }
        let is_over = || session.token().is_some_and(|token| !token.is_live(Now::read().unix));
        if is_own && self.tokens.can_renew_own(&session) && is_over() {
            // If the renewal fails, the upstream refuses the token that the caller sent.
            let renewing = self.tokens.replace_own(&session, session.token_generation());
            let _ = in_time(&session, self.token_deadline(progress), renewing).await;
        }
        progress.generation = session.token_generation();
        progress.attempts += 1;
        let is_probe = lease.is_probe();
        let tried = Box::pin(attempt.run(lease, progress.attempts, progress.deadline));
        match tried.await {
            Ok(done) => {
                self.accounting.count_request(&session);
                if is_probe {
                    self.accounting.probe_answered(&session);
                }
                trace.note(What::Answered { identity: session.identity().clone() });
                Ok(done)
            }
            Err(Failed { mut error, lease, is_final }) => {
                error.clean(&session.secrets(), || attempt.asked());
                progress.is_final |= is_final;
                // A body of that size is challenged from every account.
                if error.kind == UpstreamErrorKind::Challenged && attempt.prompt_bytes() > SUSPICIOUS_PROMPT_BYTES {
                    error.kind = UpstreamErrorKind::TooLarge;
                }
                progress.challenges += u32::from(error.kind == UpstreamErrorKind::Challenged);
                Err((Failure::Upstream(error), Some(lease)))
            }
        }
    }

    /// Replaces a token that was refused, and hands the lease on for a second try.
    async fn renew(
        &self,
        lease: Option<Lease>,
        session: &Arc<Session>,
        is_own: bool,
        progress: &Progress,
    ) -> Result<Option<Lease>, RefreshError> {
        if let Some(lease) = &lease {
            lease.report(Outcome::Unauthorized, Now::read());
        }
        let renewing = async {
            match is_own {
                true => self.tokens.replace_own(session, progress.generation).await,
                false => self.tokens.replace(session, progress.generation).await,
            }
        };
        let renewed = in_time(session, self.token_deadline(progress), renewing).await;
        match renewed {
            Ok(()) => Ok(lease),
            Err(error) => {
                lease.into_iter().for_each(|lease| lease.finish(Outcome::Neutral, Now::read()));
                Err(error)
            }
        }
    }

    /// Ends a lease with its failure, and reports to the tokens.
    fn settle(&self, lease: Lease, error: &UpstreamError, progress: &Progress, is_own: bool) {
        let session = Arc::clone(lease.session());
        if let (UpstreamErrorKind::ModelQuotaExhausted, Some(model), false) = (error.kind, &progress.model, is_own) {
            let now = Now::read();
            let rest = error.retry_after.unwrap_or_else(|| until_midnight(now));
            info!(identity.id = %session.identity(), model.name = %model, rest_seconds = rest.as_secs(), "quota of a model used up");
            self.model_rests.begin(session.key(), model, rest, now);
        }
        let is_fresh = progress.is_renewed || self.has_fresh_token(&session, progress);
        self.accounting.charge_token(lease, error, is_fresh, Now::read());
        if !is_own && !is_fresh && error.kind == UpstreamErrorKind::Unauthorized {
            self.tokens.replace_later(&session, progress.generation);
        }
    }

    /// Time limit for a token. An identity without one must not delay a request while others could answer.
    fn token_deadline(&self, progress: &Progress) -> Instant {
        let has_others = self.pool.len() > progress.tried.len() + 1;
        let timeout = progress.limits.first_event_timeout;
        let patience = if has_others { timeout.min(TOKEN_PATIENCE) } else { timeout };
        progress.deadline.min(Instant::now() + patience)
    }

    fn facts(&self, session: &Session, is_own: bool, progress: &Progress) -> Facts {
        Facts {
            is_own,
            // A token that was just renewed was not refused because of its age.
            can_renew: if is_own {
                self.tokens.can_renew_own(session)
            } else {
                self.tokens.are_renewed() && !self.has_fresh_token(session, progress)
            },
            token_was_stale: session.token().is_some_and(|token| !token.is_live(Now::read().unix)),
            has_repeated: progress.has_repeated,
            ..self.common_facts(progress)
        }
    }

    /// Whether the sent token is one that a refresh has just brought, for an account that was refused with such a token
    /// before: another refresh would not help.
    fn has_fresh_token(&self, session: &Session, progress: &Progress) -> bool {
        session.token_generation() == progress.generation
            && self.tokens.is_fresh(session)
            && self.pool.is_refused(session.key(), Now::read())
    }

    fn common_facts(&self, progress: &Progress) -> Facts {
        Facts {
            is_final: progress.is_final,
            challenges: progress.challenges,
            retries_left: progress.retries_left,
            models_differ: !self.tokens.are_renewed(),
            has_time: progress.deadline.saturating_duration_since(Instant::now()) >= ATTEMPT_TIME_MIN,
            is_hopeless: self.pool.is_upstream_degraded(Now::read()) && !progress.tried.is_empty(),
            ..Facts::default()
        }
    }

    /// The advice for a caller when the tried identities have to rest: not the rest of the last one, but the time until
    /// the first of all is back. If one is free already, the advice is to retry at once.
    pub(crate) fn in_sum(&self, progress: &Progress, error: ChatError) -> ChatError {
        use UpstreamErrorKind as Kind;
        let (error, attempts) = match error {
            ChatError::Upstream { error, attempts } => (error, attempts),
            // The caller waits for the accounts that have a token.
            ChatError::Session(error, kind) => {
                return match self.outlook(progress) {
                    Some(limit @ LeaseError::Resting { reason: CoolingReason::Rate | CoolingReason::Quota, .. }) => {
                        ChatError::Lease(limit, kind)
                    }
                    _ => ChatError::Session(error, kind),
                };
            }
            error => return error,
        };
        if error.kind == Kind::ModelQuotaExhausted {
            let retry_after = error.retry_after.or_else(|| Some(until_midnight(Now::read())));
            return ChatError::Upstream { error: UpstreamError { retry_after, ..error }, attempts };
        }
        let is_of_identities = matches!(
            error.kind,
            Kind::RateLimited | Kind::QuotaExhausted { .. } | Kind::Challenged | Kind::Unauthorized | Kind::Forbidden
        );
        if !is_of_identities {
            return ChatError::Upstream { error, attempts };
        }
        match self.outlook(progress) {
            Some(resting) => ChatError::Lease(resting, self.tokens.kind()),
            None if matches!(error.kind, Kind::Unauthorized | Kind::Forbidden) => {
                let error = LeaseError::Unusable { retry_after: Some(TRY_AGAIN_AFTER), needs_login: false };
                ChatError::Lease(error, self.tokens.kind())
            }
            None if error.kind == Kind::Challenged => ChatError::Upstream { error, attempts },
            None => {
                let error = UpstreamError { kind: Kind::RateLimited, retry_after: Some(TRY_AGAIN_AFTER), ..error };
                ChatError::Upstream { error, attempts }
            }
        }
    }
}

fn note(trace: &Trace, session: &Session, failure: &Failure, next: NextStep) {
    let (reason, step) = (failure.class().code(), next.as_str());
    debug!(identity.id = %session.identity(), reason, next = step, "attempt failed");
    trace.note(What::Failed {
        identity: session.identity().clone(),
        was_asked: matches!(failure, Failure::Upstream(_)),
        class: reason,
        next: step,
    });
}

/// Waits for a token no longer than the request may; the refresh itself continues, for later requests.
async fn in_time(
    session: &Session,
    deadline: Instant,
    refresh: impl Future<Output = Result<(), RefreshError>>,
) -> Result<(), RefreshError> {
    let late = || {
        let source = Some(UpstreamError::new("waiting for a token", UpstreamErrorKind::Timeout).into());
        RefreshError::Failed { identity: session.identity().clone(), source }
    };
    timeout_at(deadline, refresh).await.unwrap_or_else(|_| Err(late()))
}

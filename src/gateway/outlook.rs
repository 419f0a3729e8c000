//! Warnings for the owner before callers notice: models in the settings that no upstream has, and sessions that end
//! soon.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::base::ids::UnixSeconds;
use crate::base::live::Live;
use crate::base::session::Session;
use crate::gateway::answer::settings::AnswerSettings;
use crate::gateway::route::Upstreams;
use crate::pool::{IdentityPool, Now};

/// Time before its end at which a session is warned of, in seconds.
const SOON_SECONDS: i64 = 7 * 24 * 3600;
/// The pause between two looks at the sessions.
const SESSIONS_EVERY: Duration = Duration::from_secs(24 * 3600);
/// The pause between two tries to see the lists of models.
const MODELS_EVERY: Duration = Duration::from_secs(60);
/// The pause between two looks at the settings that name models.
const SETTINGS_EVERY: Duration = Duration::from_secs(2);

/// The background job that warns.
pub(crate) struct Outlook {
    /// The upstreams whose lists of models are searched.
    pub upstreams: Upstreams,
    /// The accounts of the web chat.
    pub pool: IdentityPool,
    /// Settings that name models.
    pub answering: Live<AnswerSettings>,
}

/// A setting and a model that it names.
type Named = (&'static str, String);

impl Outlook {
    /// Looks at each model that the settings name once its list is there, and at the sessions every day, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let looking = async { tokio::join!(self.models(), self.sessions()) };
        stop.run_until_cancelled(looking).await;
    }

    async fn models(&self) {
        let mut seen: BTreeSet<Named> = BTreeSet::new();
        loop {
            let named = self.named();
            seen.retain(|one| named.contains(one));
            let pause = match named.into_iter().find(|one| !seen.contains(one)) {
                None => SETTINGS_EVERY,
                Some((setting, model)) => match self.upstreams.lacks(&model).await {
                    None => MODELS_EVERY,
                    Some(is_lacking) => {
                        if is_lacking {
                            warn!(
                                model.name = model,
                                "{setting} names a model that no upstream has; GET /v1/models lists those that are there"
                            );
                        }
                        seen.insert((setting, model));
                        Duration::ZERO
                    }
                },
            };
            sleep(pause).await;
        }
    }

    /// The models that the settings name now, in the order of the settings. Without web accounts the fallback model for
    /// pictures is not used, nor a default model that the owner did not choose, so neither is looked at.
    fn named(&self) -> Vec<Named> {
        let (settings, upstreams) = (self.answering.now(), &self.upstreams);
        let map = &settings.model_map;
        let models = [
            ("DEFAULT_MODEL", map.apply(settings.default_model.trim())),
            ("VISION_FALLBACK_MODEL", map.apply(settings.vision_fallback.trim())),
        ];
        let is_chosen = settings.default_model_is_set && !upstreams.lists_web();
        let is_used = |name: &str| upstreams.has_web() || (is_chosen && name == "DEFAULT_MODEL");
        let models = models.into_iter().filter(|(name, model)| is_used(name) && !model.is_empty());
        let mapped = map.entries().map(|(_, target)| ("MODEL_MAP", target));
        models.chain(mapped).map(|(name, model)| (name, model.to_owned())).collect()
    }

    async fn sessions(&self) {
        loop {
            let now = Now::read().unix;
            for session in self.pool.sessions() {
                if let Some(ends_at) = ends_soon(&session, now) {
                    warn!(
                        identity.id = %session.identity(),
                        "the session ends in {} and has no refresh_token cookie to be renewed with; log in again and paste the whole Cookie header",
                        in_words(ends_at.0 - now.0)
                    );
                }
            }
            sleep(SESSIONS_EVERY).await;
        }
    }
}

/// End of a session, if that is within a week and it is not renewed.
#[must_use]
pub(crate) fn ends_soon(session: &Session, now: UnixSeconds) -> Option<UnixSeconds> {
    session.ends_at(now).filter(|ends_at| (1..=SOON_SECONDS).contains(&(ends_at.0 - now.0)))
}

/// A time in whole days, hours or minutes, whichever is the largest that it has.
#[must_use]
pub(crate) fn in_words(seconds: i64) -> String {
    let units = [(24 * 3600, "day"), (3600, "hour"), (60, "minute")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((60, "minute"));
    // Just short of three days is three days for people.
    let count = ((seconds + size / 2) / size).max(1);
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_words() {
        for (seconds, expected) in [
            (3 * 24 * 3600, "3 days"),
            (3 * 24 * 3600 - 5, "3 days"),
            (24 * 3600, "1 day"),
            (2 * 3600, "2 hours"),
            (3600, "1 hour"),
            (900, "15 minutes"),
            (5, "1 minute"),
        ] {
            assert_eq!(in_words(seconds), expected);
        }
    }
}

//! Quotas of single models: an identity whose quota of one model is used up still has the others.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::pool::Now;

/// The identities that rest from single models, each until a date. Lost with the process: one more question tells.
#[derive(Debug, Default)]
pub(crate) struct ModelRests(Mutex<HashMap<(CredentialKey, String), UnixSeconds>>);

/// Rests that are kept at most; names of models come from callers.
const KEPT_MAX: usize = 10_000;

impl ModelRests {
    /// Begins a rest of an identity from a model, for at least a second.
    pub(crate) fn begin(&self, key: &CredentialKey, model: &str, length: Duration, now: Now) {
        let mut rests = self.0.lock();
        rests.retain(|_, until| *until > now.unix);
        if rests.len() < KEPT_MAX {
            let seconds = i64::try_from(length.as_secs().max(1)).unwrap_or(i64::MAX);
            rests.insert((key.clone(), model.to_owned()), now.unix.plus(seconds));
        }
    }

    /// The identities that rest from a model at `now`, and for how much longer.
    pub(crate) fn of(&self, model: &str, now: Now) -> Vec<(CredentialKey, Duration)> {
        let rests = self.0.lock();
        let of_model = rests.iter().filter(|((_, its), until)| its == model && **until > now.unix);
        of_model.map(|((key, _), until)| (key.clone(), Duration::from_secs(until.seconds_since(now.unix)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_of_one_identity_and_one_model_and_ends_by_its_date() {
        let (rests, now) = (ModelRests::default(), Now::read());
        let key = CredentialKey::of("one");
        rests.begin(&key, "m", Duration::from_secs(60), now);
        let later = |seconds| Now { unix: now.unix.plus(seconds), ..now };
        assert_eq!(rests.of("m", later(20)), [(key, Duration::from_secs(40))]);
        assert!(rests.of("n", now).is_empty());
        assert!(rests.of("m", later(60)).is_empty());
        rests.begin(&CredentialKey::of("two"), "n", Duration::ZERO, later(60));
        assert_eq!(rests.0.lock().len(), 1, "what is over is forgotten");
    }
}

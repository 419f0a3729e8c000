//! Counts of the upstream's frames that this version does not know: the first sign that its protocol has changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::warn;

use crate::upstream::words::is_opaque;

/// Kinds of unknown things that are told apart.
const DRIFT_KINDS_MAX: usize = 64;

/// Things in the upstream's streams that this version does not know, counted by kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drift(Arc<Mutex<BTreeMap<String, u64>>>);

impl Drift {
    /// Counts one; the first of each kind is logged.
    pub(crate) fn note(&self, what: &str) {
        // A name that is long and says nothing may be anything but a name.
        let what = if is_opaque(what) { "opaque" } else { what };
        let mut kinds = self.0.lock();
        if kinds.len() >= DRIFT_KINDS_MAX && !kinds.contains_key(what) {
            return;
        }
        let count = kinds.entry(what.to_owned()).or_default();
        *count += 1;
        if *count == 1 {
            warn!(kind = ?what, "the upstream sent something that this version does not know");
        }
    }

    /// The number of each kind since the start.
    #[must_use]
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.0.lock().clone()
    }

    /// The number of all kinds together since the start.
    #[must_use]
    pub(crate) fn total(&self) -> u64 {
        self.0.lock().values().sum()
    }
}

//! The list of changes by owners: time, session, route. Never the body of a request, which may hold a credential.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::base::ids::UnixSeconds;

/// Most changes that are kept.
const CHANGES_MAX: usize = 500;

/// A change on one of the owner's routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// Time of the change, in Unix seconds.
    pub at: i64,
    /// `key`, or the session of the page such as `page session 3` or `link session 1`.
    pub who: String,
    /// Method and path, such as `DELETE /admin/keys/phone`.
    pub what: String,
}

/// The newest changes, at most [`CHANGES_MAX`].
#[derive(Default)]
pub(crate) struct Audit(Mutex<VecDeque<Change>>);

impl Audit {
    /// The changes of earlier runs, newest first; unreadable text counts as none.
    pub(crate) fn restored(text: Option<&str>) -> Self {
        let changes = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        Self(Mutex::new(changes))
    }

    /// Adds a change. Returns the whole list as text, to be stored.
    pub(crate) fn add(&self, at: UnixSeconds, who: String, what: String) -> String {
        let mut changes = self.0.lock();
        changes.push_front(Change { at: at.0, who, what });
        changes.truncate(CHANGES_MAX);
        serde_json::to_string(&*changes).unwrap_or_default()
    }

    /// All changes, newest first.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_changes_are_kept_and_read_again() {
        let audit = Audit::default();
        let mut text = String::new();
        for number in 0..600 {
            text = audit.add(UnixSeconds(number), "key".to_owned(), format!("DELETE /admin/keys/{number}"));
        }
        let changes = audit.changes();
        assert_eq!((changes.len(), changes[0].at, changes[499].at), (500, 599, 100));
        assert_eq!(Audit::restored(Some(&text)).changes(), changes);
        for broken in [None, Some(""), Some("{}"), Some("[1]")] {
            assert!(Audit::restored(broken).changes().is_empty(), "{broken:?}");
        }
    }
}

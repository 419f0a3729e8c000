//! Sessions that callers bring in client mode: what their refresh cookies renewed is kept in memory, by a hash of the
//! whole credential, so that only the same credential finds it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::session::Session;

/// The newest renewed sessions, the latest last.
#[derive(Default)]
pub(crate) struct OwnSessions(Mutex<Vec<Arc<Session>>>);

/// Renewed sessions that are kept at once; the one that was used longest ago goes first.
const KEPT_MAX: usize = 256;

impl OwnSessions {
    /// The renewed session of the same credential, or the one that the caller sent.
    pub(crate) fn newest(&self, given: &Arc<Session>) -> Arc<Session> {
        let mut kept = self.0.lock();
        match kept.iter().position(|session| session.key() == given.key()) {
            Some(place) => {
                let session = kept.remove(place);
                kept.push(Arc::clone(&session));
                session
            }
            None => Arc::clone(given),
        }
    }

    /// Keeps a session that was renewed.
    pub(crate) fn keep(&self, session: &Arc<Session>) {
        let mut kept = self.0.lock();
        kept.retain(|known| known.key() != session.key());
        if kept.len() >= KEPT_MAX {
            kept.remove(0);
        }
        kept.push(Arc::clone(session));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{CredentialKey, IdentityId};

    fn session(credential: &str) -> Arc<Session> {
        Arc::new(Session::new(IdentityId::named("caller"), CredentialKey::of(credential), None, None))
    }

    #[test]
    fn a_renewed_session_is_found_by_the_whole_credential_and_their_number_is_bounded() {
        let (sessions, first) = (OwnSessions::default(), session("token;cookie-0"));
        assert!(Arc::ptr_eq(&sessions.newest(&first), &first), "nothing is kept yet");
        sessions.keep(&first);
        assert!(Arc::ptr_eq(&sessions.newest(&session("token;cookie-0")), &first));
        let other = session("token;cookie-1");
        assert!(Arc::ptr_eq(&sessions.newest(&other), &other));
        for number in 1..KEPT_MAX {
            sessions.keep(&session(&format!("token;cookie-{number}")));
        }
        assert!(Arc::ptr_eq(&sessions.newest(&session("token;cookie-0")), &first), "and it is the latest again");
        sessions.keep(&session("one more"));
        assert!(Arc::ptr_eq(&sessions.newest(&session("token;cookie-0")), &first));
        assert!(Arc::ptr_eq(&sessions.newest(&other), &other), "the one used longest ago is gone");
        assert_eq!(sessions.0.lock().len(), KEPT_MAX);
    }
}

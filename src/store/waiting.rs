//! The newest facts that could not be written, one for each subject, until the disk takes them.

use std::collections::HashMap;

use crate::base::caller_key::KeyName;
use crate::base::facts::IdentityFacts;
use crate::base::ids::CredentialKey;
use crate::store::daily::UtcDay;
use crate::store::fact::Fact;
use crate::store::records::Note;
use crate::store::usage::UsageDeltas;

/// Facts that wait for the disk. A newer fact takes the place of the earlier one about the same thing.
#[derive(Default)]
pub(super) struct Waiting {
    /// Sessions, credentials and keys; never dropped.
    credentials: HashMap<Thing, Fact>,
    /// At most [`WAITING_MAX`] facts and one for usage, each with its number in the order of arrival.
    others: HashMap<Thing, (u64, Fact)>,
    /// Number of facts that arrived so far.
    count: u64,
}

/// The subject of a fact.
#[derive(PartialEq, Eq, Hash)]
enum Thing {
    Session(CredentialKey),
    Account(String),
    Label(CredentialKey),
    OAuth(CredentialKey),
    GeneratedKey,
    Note(Note),
    MadeKey(KeyName),
    Facts(CredentialKey),
    Day(CredentialKey, UtcDay),
    /// Event and subject of an alert.
    Alert(String, String),
    /// What was made, by its link.
    Made(String),
    /// Usage of requests, summed up.
    Usage,
    /// Days of usage that are to be forgotten.
    UsageGone,
    /// The accounts and keys that exist.
    Present,
    /// Chats that are about to be made, by their title.
    Intent(String),
    Chat(String),
    /// The answer at this place in a chat, or until when the chat is kept.
    InChat(String, Option<[u8; 32]>),
    Video(String),
}

impl Waiting {
    /// Keeps a fact; returns how many facts were lost by it. Responses do not wait, since they are too large.
    pub(super) fn put(&mut self, mut fact: Fact) -> u64 {
        // Usage is a sum, so that the later one is added to the earlier one.
        if let Fact::Usage(later) = &mut fact
            && let Some((_, Fact::Usage(earlier))) = self.others.get_mut(&Thing::Usage)
        {
            earlier.merge(std::mem::take(later));
            return 0;
        }
        let thing = match &fact {
            Fact::Session(key, _) => {
                self.session_returns(key);
                Thing::Session(key.clone())
            }
            Fact::SessionGone(key) => {
                self.credentials.remove(&Thing::Session(key.clone()));
                Thing::Session(key.clone())
            }
            Fact::Account(account) => {
                // The credentials are written first, so the deletion of the earlier account would delete this one.
                self.others.remove(&Thing::Account(account.id.clone()));
                Thing::Account(account.id.clone())
            }
            Fact::AccountGone(id) => {
                self.credentials.remove(&Thing::Account(id.clone()));
                Thing::Account(id.clone())
            }
            Fact::Label(key, _) => Thing::Label(key.clone()),
            Fact::OAuth(key, ..) => Thing::OAuth(key.clone()),
            Fact::GeneratedKey(_) => Thing::GeneratedKey,
            Fact::Note(note, _) => Thing::Note(*note),
            Fact::MadeKey(key) => Thing::MadeKey(key.name.clone()),
            Fact::MadeKeyGone(name) => Thing::MadeKey(name.clone()),
            Fact::Facts(key, _) => Thing::Facts(key.clone()),
            Fact::Intent(intent) => Thing::Intent(intent.title.clone()),
            Fact::IntentGone(title) => Thing::Intent(title.clone()),
            Fact::Chat(chat) => Thing::Chat(chat.chat_id.clone()),
            Fact::ChatKept { chat_id, answer, .. } => {
                Thing::InChat(chat_id.clone(), answer.as_ref().map(|answer| answer.place))
            }
            Fact::ChatGone(chat_id) => {
                self.others.retain(|thing, _| !matches!(thing, Thing::InChat(of, _) if of == chat_id));
                let thing = Thing::Chat(chat_id.clone());
                // A chat is written once, so one that waits was never written.
                if let Some((_, Fact::Chat(_))) = self.others.get(&thing) {
                    self.others.remove(&thing);
                    return 0;
                }
                thing
            }
            Fact::Video(job) => Thing::Video(job.id.clone()),
            Fact::VideoGone(id) => Thing::Video(id.clone()),
            Fact::Days(days) => {
                let each = |(key, day): &(CredentialKey, _)| Fact::Days(vec![(key.clone(), *day)]);
                return days.iter().map(|row| self.put_other(Thing::Day(row.0.clone(), row.1.day), each(row))).sum();
            }
            Fact::Alert(alert, _) => Thing::Alert(alert.event.clone(), alert.of.clone()),
            Fact::Made(item) => Thing::Made(item.link.expose().to_owned()),
            Fact::Usage(_) => Thing::Usage,
            Fact::UsageGone(_) => Thing::UsageGone,
            Fact::Present(..) => Thing::Present,
            Fact::Response(..) | Fact::ResponseGone { .. } => return 1,
        };
        if fact.is_credential() {
            self.credentials.insert(thing, fact);
            0
        } else {
            self.put_other(thing, fact)
        }
    }

    /// Drops the deletion of a session that is there again: the credentials are written first, so it would delete the
    /// new one. What was learnt about the removed account is forgotten all the same.
    fn session_returns(&mut self, key: &CredentialKey) {
        let Some((gone_at, _)) = self.others.remove(&Thing::Session(key.clone())) else {
            return;
        };
        let facts = Thing::Facts(key.clone());
        if self.others.get(&facts).is_none_or(|(arrived, _)| *arrived < gone_at) {
            self.others.insert(facts, (gone_at, Fact::Facts(key.clone(), IdentityFacts::default())));
        }
    }

    fn put_other(&mut self, thing: Thing, fact: Fact) -> u64 {
        // Usage is one fact for all requests, so there is always room for it.
        let is_full = self.others.len() >= WAITING_MAX && thing != Thing::Usage;
        if is_full && !self.others.contains_key(&thing) {
            return 1;
        }
        self.count += 1;
        self.others.insert(thing, (self.count, fact));
        0
    }

    /// Usage that the disk has not taken; `None` if all was taken.
    pub(super) fn usage(&self) -> Option<&UsageDeltas> {
        match self.others.get(&Thing::Usage) {
            Some((_, Fact::Usage(deltas))) => Some(deltas),
            _ => None,
        }
    }

    /// Number of waiting facts.
    pub(super) fn len(&self) -> usize {
        self.credentials.len() + self.others.len()
    }

    /// Sessions, OAuth credentials and keys of callers.
    pub(super) fn credentials(&self) -> impl Iterator<Item = &Fact> {
        self.credentials.values()
    }

    /// All facts in the order of arrival: an answer belongs to a chat that came before.
    pub(super) fn all(&self) -> impl Iterator<Item = &Fact> {
        let mut others: Vec<&(u64, Fact)> = self.others.values().collect();
        others.sort_unstable_by_key(|(number, _)| *number);
        self.credentials.values().chain(others.into_iter().map(|(_, fact)| fact))
    }

    /// Drops the credentials, which were written.
    pub(super) fn clear_credentials(&mut self) {
        self.credentials.clear();
    }

    /// Takes everything out, in the order of [`Waiting::all`].
    pub(super) fn take(&mut self) -> Vec<Fact> {
        let Self { credentials, others, .. } = std::mem::take(self);
        let mut others: Vec<(u64, Fact)> = others.into_values().collect();
        others.sort_unstable_by_key(|(number, _)| *number);
        credentials.into_values().chain(others.into_iter().map(|(_, fact)| fact)).collect()
    }
}

/// Most waiting facts other than credentials.
const WAITING_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::base::ids::UnixSeconds;
    use crate::base::secret::Cookie;
    use crate::store::records::{StoredAccount, StoredSession};
    use crate::store::rows::Rows;

    fn session(key: &CredentialKey) -> Fact {
        let cookies = SecretString::from("token=1");
        Fact::Session(key.clone(), StoredSession { cookies, token: None, saved_at: UnixSeconds(5), earlier: None })
    }

    fn account(cookie: &str) -> Fact {
        let cookie = Cookie::parse(cookie).unwrap();
        Fact::Account(StoredAccount { id: "account-1".to_owned(), cookie, created_at: UnixSeconds(5) })
    }

    fn count(rows: &Rows, table: &str) -> i64 {
        rows.connection().query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_was_removed_and_is_there_again_is_not_deleted() {
        let key = CredentialKey::of("a");
        let learnt = || IdentityFacts { dead_since: Some(UnixSeconds(7)), ..IdentityFacts::default() };
        let dead = || Fact::Facts(key.clone(), learnt());
        for (name, facts_after, learnt_rows) in [("forgotten", false, 0), ("learnt anew", true, 1)] {
            let mut rows = Rows::in_memory().unwrap();
            Fact::write_all(&mut rows, [&account("token=old"), &session(&key), &dead()]).unwrap();
            let mut waiting = Waiting::default();
            let gone = [dead(), Fact::AccountGone("account-1".to_owned()), Fact::SessionGone(key.clone())];
            let again = [account("token=new"), session(&key)];
            for fact in gone.into_iter().chain(facts_after.then(dead)).chain(again) {
                assert_eq!(waiting.put(fact), 0);
            }
            Fact::write_all(&mut rows, waiting.all()).unwrap();
            let cookie = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
            let cookie = rows.connection().query_row("SELECT cookie FROM accounts", [], cookie).unwrap();
            assert_eq!(cookie, "token=new", "{name}");
            assert_eq!((count(&rows, "sessions"), count(&rows, "facts")), (1, learnt_rows), "{name}");
            // Removed for good: deleted.
            waiting.put(Fact::AccountGone("account-1".to_owned()));
            waiting.put(Fact::SessionGone(key.clone()));
            Fact::write_all(&mut rows, waiting.all()).unwrap();
            assert_eq!((count(&rows, "accounts"), count(&rows, "sessions"), count(&rows, "facts")), (0, 0, 0));
        }
    }
}

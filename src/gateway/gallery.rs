//! The pictures and videos that were made, for the owner: links and facts, nothing of what was asked.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use url::Url;

use crate::base::ids::UnixSeconds;
use crate::base::secret::{AccessToken, SignedLink};
use crate::gateway::answer::trace::Made;
use crate::store::{MADE_MAX, MadeItem, MadeKind, Store};

/// The longest link that is remembered, in bytes.
const LINK_BYTES_MAX: usize = 4096;
/// How long a link lives that does not say so itself, in seconds: seven days.
const LINK_SECONDS: i64 = 7 * DAY_SECONDS;
/// The longest that a link is believed to live, in seconds: thirty days.
const LINK_SECONDS_MAX: i64 = 30 * DAY_SECONDS;
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// What was made, newest first, in memory and in the state file. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Gallery(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    items: Mutex<VecDeque<MadeItem>>,
    store: Arc<Store>,
}

impl Gallery {
    /// A gallery of what earlier runs kept, newest first.
    #[must_use]
    pub(crate) fn new(store: Arc<Store>, kept: Vec<MadeItem>) -> Self {
        Self(Arc::new(Inner { items: Mutex::new(kept.into()), store }))
    }

    /// Remembers what a request for this model made at `now`. A link that is known already counts once; one that is
    /// no address or ends at once is left out.
    pub(crate) fn add(&self, made: Vec<Made>, model: &str, now: UnixSeconds) {
        for Made { kind, link } in made {
            let Some(item) = item(kind, link, model, now) else { continue };
            let mut items = self.0.items.lock();
            if items.iter().any(|known| is_same(known, &item)) {
                continue;
            }
            items.retain(|known| known.ends_at > now);
            items.push_front(item.clone());
            items.truncate(MADE_MAX);
            drop(items);
            self.0.store.note_made(item);
        }
    }

    /// The items whose links live, newest first.
    pub(crate) fn items(&self, now: UnixSeconds) -> Vec<MadeItem> {
        self.0.items.lock().iter().filter(|item| item.ends_at > now).cloned().collect()
    }
}

/// An item of this link, made `at` this moment; `None` when it is not a valid URL, or has ended by then.
pub(crate) fn item(kind: MadeKind, link: SignedLink, model: &str, at: UnixSeconds) -> Option<MadeItem> {
    let url = Url::parse(link.expose()).ok()?;
    let is_address = matches!(url.scheme(), "https" | "http") && url.as_str().len() <= LINK_BYTES_MAX;
    let ends_at = ends_at(&url, at).unwrap_or(at.plus(LINK_SECONDS)).min(at.plus(LINK_SECONDS_MAX));
    let item = MadeItem { kind, link, model: model.to_owned(), at, ends_at };
    (is_address && ends_at > at).then_some(item)
}

/// Whether two items are of one link.
pub(crate) fn is_same(one: &MadeItem, other: &MadeItem) -> bool {
    one.link.expose() == other.link.expose()
}

/// When a link ends by its own signature: `Expires` of OSS, the date and seconds of OSS V4 and S3 V4, or the claim
/// `exp` of the JWT in `key`. `None` when it does not say so.
fn ends_at(url: &Url, at: UnixSeconds) -> Option<UnixSeconds> {
    let value = |wanted: &str| {
        let mut pairs = url.query_pairs();
        pairs.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.into_owned())
    };
    let signed = |family: &str| {
        let seconds: i64 = value(&format!("x-{family}-expires"))?.parse().ok()?;
        let began = value(&format!("x-{family}-date"))?;
        let began = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &began).ok()?;
        let began: Timestamp = began.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(UnixSeconds(began.as_second()).plus(seconds))
    };
    let plain = || Some(UnixSeconds(value("expires")?.parse().ok()?));
    let claimed = || AccessToken::parse(&value("key")?, at).ok()?.expires_at();
    signed("oss").or_else(|| signed("amz")).or_else(plain).or_else(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixSeconds = UnixSeconds(1_772_616_000);

    #[test]
    fn a_link_ends_when_its_signature_does() {
        let check = |query: &str, seconds: Option<i64>| {
            let link = SignedLink::new(&format!("https://cdn.example/a.png?{query}"));
            let found = item(MadeKind::Image, link, "m", AT).map(|item| item.ends_at.0 - AT.0);
            assert_eq!(found, seconds, "{query}");
        };
        check("", Some(LINK_SECONDS));
        check("key=opaque", Some(LINK_SECONDS));
        check("Expires=1772616300&OSSAccessKeyId=x", Some(300));
        check("Expires=soon", Some(LINK_SECONDS));
        // 2026-03-04T09:20:00Z is the moment `AT`.
        check("x-oss-date=20260304T092000Z&x-oss-expires=600", Some(600));
        check("X-Amz-Date=20260304T091900Z&X-Amz-Expires=120", Some(60));
        check("x-oss-expires=600", Some(LINK_SECONDS));
        // Ended, or further away than links live.
        check("Expires=1772616000", None);
        check("Expires=9999999999", Some(LINK_SECONDS_MAX));
        // {"alg":"HS256"}.{"exp":1772620000}
        check("key=eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3NzI2MjAwMDB9.c2ln", Some(4000));
    }

    #[test]
    fn what_is_no_address_is_left_out() {
        for link in ["", "data:image/png;base64,AA==", "javascript:alert(1)", "/output/a.png"] {
            assert!(item(MadeKind::Image, SignedLink::new(link), "m", AT).is_none(), "{link}");
        }
    }
}

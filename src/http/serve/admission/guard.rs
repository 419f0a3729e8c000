//! The shared part of the checks of both kinds of keys: the address of a request, and the cost of being refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};

use crate::base::secret::ApiKey;
use crate::chat::failure::Failure;
use crate::gateway::caller_keys::CallerKeys;
use crate::http::serve::admission::rate_limit::{RateLimiter, TakenAt};
use crate::http::serve::admission::sessions::Sessions;
use crate::http::serve::admission::wrong_keys::{RightKey, WrongKeys};
use crate::http::serve::record::access::caller_address;
use crate::http::serve::socket::drain::Drain;
use crate::http::settings::HttpSettings;

/// Counts refused requests by address.
pub(crate) struct KeyGuard {
    settings: HttpSettings,
    keys: CallerKeys,
    wrong_keys: WrongKeys,
    limiter: Arc<RateLimiter>,
    sessions: Arc<Sessions>,
}

impl KeyGuard {
    /// A guard that counts refused requests against this limiter as well.
    pub(crate) fn new(
        settings: &HttpSettings,
        keys: CallerKeys,
        limiter: Arc<RateLimiter>,
        sessions: Arc<Sessions>,
    ) -> Self {
        Self { settings: settings.clone(), keys, wrong_keys: WrongKeys::default(), limiter, sessions }
    }

    /// The key of the owner's routes; `None` if it is not set.
    pub(crate) fn admin_key(&self) -> Option<&ApiKey> {
        self.settings.admin_key.as_ref()
    }

    /// The sessions of the owner's page.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Counts a wrong key. After too many it waits, and returns the time until the next try.
    pub(crate) async fn wrong(&self, address: IpAddr) -> Option<Duration> {
        self.wrong_keys.wrong(address).await
    }

    /// The set of keys that callers may present.
    pub(crate) fn keys(&self) -> &CallerKeys {
        &self.keys
    }

    /// The mode of the server, and the owner's key.
    pub(crate) fn settings(&self) -> &HttpSettings {
        &self.settings
    }

    /// The caller's address, by the trusted proxies.
    pub(crate) fn address(&self, request: &Request) -> IpAddr {
        caller_address(&self.settings, request)
    }

    /// Lets a request with a right key pass.
    ///
    /// # Errors
    /// The time until the next try, for a request from an address that sends wrong keys.
    pub(crate) async fn admit(&self, address: IpAddr, key: RightKey) -> Result<(), Duration> {
        self.wrong_keys.right(address, key).await
    }

    /// Answers a request that was refused. `is_wrong` tells whether it carried a wrong key, rather than none. `answer`
    /// gets the time until the next try after too many of them.
    pub(crate) async fn refuse(
        &self,
        request: Request,
        is_wrong: bool,
        answer: impl FnOnce(Option<Duration>) -> Response,
    ) -> Response {
        let taken = self.limiter.take(&request);
        let address = self.address(&request);
        Drain::refuse(request);
        let mut response = match taken.as_ref().and_then(TakenAt::wait) {
            Some(wait) => Failure::too_many_requests(wait).into_response(),
            None if is_wrong => answer(self.wrong_keys.wrong(address).await),
            None => answer(None),
        };
        if let Some(taken) = taken {
            taken.write(response.headers_mut());
        }
        response
    }
}

//! The checks in front of each group of routes, in their order. Each group has all of them in one layer, since every
//! layer puts the request's future into one more box.

#![expect(clippy::result_large_err, reason = "a refusal is moved once, and the request is as large")]

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::chat::failure::Failure;
use crate::http::serve::admission::admin_key::require_admin_key;
use crate::http::serve::admission::auth::require_key;
use crate::http::serve::admission::guard::KeyGuard;
use crate::http::serve::admission::rate_limit::{RateLimiter, TakenAt};
use crate::http::serve::admission::{key_limits, own_machine};
use crate::http::serve::content::bodies::Bodies;
use crate::http::serve::content::encoding;
use crate::http::serve::socket::drain::Drain;
use crate::http::serve::socket::server::OverCapacity;
use crate::http::state::AppState;

/// The parts of the server that the checks ask.
pub(crate) struct Gate {
    state: AppState,
    guard: Arc<KeyGuard>,
    limiter: Arc<RateLimiter>,
    bodies: Bodies,
}

impl Gate {
    /// A gate with a limiter of its own.
    pub(crate) fn new(state: AppState) -> Self {
        let limiter = Arc::new(RateLimiter::new(state.0.settings.clone()));
        let sessions = Arc::clone(&state.0.owner.sessions);
        let guard = KeyGuard::new(&state.settings(), state.0.keys.clone(), Arc::clone(&limiter), sessions);
        Self { state, guard: Arc::new(guard), limiter, bodies: Bodies::default() }
    }

    /// The check of keys.
    pub(crate) fn guard(&self) -> Arc<KeyGuard> {
        Arc::clone(&self.guard)
    }

    /// Whether the request may come from where it comes from, and whether there is a place for it.
    fn may_come(&self, request: Request) -> Result<Request, Response> {
        let came = self.is_welcome(&request);
        let over_capacity = request.extensions().get::<OverCapacity>();
        let placed = came.and_then(|()| over_capacity.map_or(Ok(()), |_| Err(Failure::too_many_connections())));
        unless_refused(placed, request)
    }

    fn is_welcome(&self, request: &Request) -> Result<(), Failure> {
        own_machine::check(&self.state.settings(), &self.state.0.keys, request.headers())
    }

    /// Runs a request if its caller's rate allows one more and `may_pass` lets it through. This comes after the check of
    /// keys, so that a wrong key counts against its address and against no caller.
    async fn within_limits(
        &self,
        request: Request,
        next: Next,
        may_pass: impl FnOnce(&Request) -> Result<(), Failure>,
    ) -> Response {
        let taken = self.limiter.take(&request);
        let wait = taken.as_ref().and_then(TakenAt::wait);
        let passed = unless_refused(wait.map_or(Ok(()), |wait| Err(Failure::too_many_requests(wait))), request)
            .and_then(encoding::decode)
            .and_then(|request| unless_refused(may_pass(&request), request));
        let mut response = match passed {
            Ok(mut request) => {
                request.extensions_mut().insert(self.bodies.clone());
                next.run(request).await
            }
            Err(refusal) => refusal,
        };
        if let Some(taken) = taken {
            taken.write(response.headers_mut());
        }
        response
    }
}

/// The layer of the routes that need no key. They answer beyond capacity as well, so that the server's health can be
/// asked for at any time.
pub(crate) async fn public(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Result<Response, Response> {
    Ok(next.run(unless_refused(gate.is_welcome(&request), request)?).await)
}

/// The layer of the callers' routes: a key, then the caller's rate, then what the key has left today.
pub(crate) async fn callers(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Result<Response, Response> {
    let request = require_key(&gate.guard, gate.may_come(request)?).await?;
    Ok(gate.within_limits(request, next, |request| key_limits::check(&gate.state, request)).await)
}

/// The layer of the page's files and of its login, which checks keys itself.
pub(crate) async fn page(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Result<Response, Response> {
    Ok(gate.within_limits(gate.may_come(request)?, next, |_| Ok(())).await)
}

/// The layer of the owner's routes: the owner's key or a session of the page.
pub(crate) async fn owners(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Result<Response, Response> {
    let request = require_admin_key(&gate.guard, gate.may_come(request)?).await?;
    Ok(gate.within_limits(request, next, |_| Ok(())).await)
}

/// The request itself, or the answer to a refused one, whose body is left to the connection.
fn unless_refused(outcome: Result<(), Failure>, request: Request) -> Result<Request, Response> {
    match outcome {
        Ok(()) => Ok(request),
        Err(failure) => {
            Drain::refuse(request);
            Err(failure.into_response())
        }
    }
}

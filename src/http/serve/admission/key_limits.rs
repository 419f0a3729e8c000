//! Daily limits of the callers' keys: the check in front of every route that asks a model.

use axum::extract::Request;

use crate::chat::failure::Failure;
use crate::http::serve::admission::caller::Caller;
use crate::http::serve::record::asking::asked_for;
use crate::http::state::AppState;
use crate::pool::Now;

/// Lets a request pass that asks no model, or whose key has something left today.
///
/// # Errors
/// 429 until midnight in UTC.
pub(crate) fn check(state: &AppState, request: &Request) -> Result<(), Failure> {
    let key = request.extensions().get::<Caller>().and_then(|caller| caller.key.as_ref());
    let Some(key) = key.filter(|_| asked_for(request.method().as_str(), request.uri().path()).is_some()) else {
        return Ok(());
    };
    state.0.usage.admit(key, Now::read().unix).map_err(|reached| Failure::key_limit_reached(&reached))
}

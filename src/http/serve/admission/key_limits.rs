//! Daily limits of the callers' keys: the layer in front of every route that asks a model.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::chat::failure::Failure;
use crate::http::serve::admission::caller::Caller;
use crate::http::serve::record::asking::asked_for;
use crate::http::serve::socket::drain::Drain;
use crate::http::state::AppState;
use crate::pool::Now;

/// Lets a request pass that asks no model, or whose key has something left today; else 429 until midnight in UTC.
pub(crate) async fn limit(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let key = request.extensions().get::<Caller>().and_then(|caller| caller.key.clone());
    let Some(key) = key.filter(|_| asked_for(request.method().as_str(), request.uri().path()).is_some()) else {
        return next.run(request).await;
    };
    match state.0.usage.admit(&key, Now::read().unix) {
        Ok(()) => next.run(request).await,
        Err(reached) => {
            Drain::refuse(request);
            Failure::key_limit_reached(&reached).into_response()
        }
    }
}

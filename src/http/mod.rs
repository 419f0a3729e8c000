//! Our side of HTTP: routes, the key check, answers in OpenAI's shape.

pub mod failure;
pub mod openai;
mod outcomes;
pub mod owner;
mod refusals;
pub mod serve;
pub mod settings;
pub mod state;
pub mod stream;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use http::header::{ACCEPT_ENCODING, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::decompression::RequestDecompressionLayer;

use crate::chat::failure::Failure;
use crate::http::openai::{call, chat, completions, embeddings, images, models, responses, videos};
use crate::http::owner::{admin, detailed, login, status};
use crate::http::serve::drain::Drain;
use crate::http::serve::rate_limit::RateLimiter;
use crate::http::serve::{access, auth, rate_limit};
use crate::http::settings::HttpSettings;
use crate::http::state::AppState;

/// How long a browser may remember the answer to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(86_400);

/// Every route and every layer. From outside in: the log line and common headers, CORS (its preflight needs no
/// key), panics, the key, how often it asks, decoding of
/// bodies.
pub fn router(state: AppState) -> Router {
    let cors = cors(&state.0.settings);
    let limiter = RateLimiter::new(&state.0.settings).map(Arc::new);
    // Without DEBUG_MODE these paths are as unknown as any other.
    let debug = if state.0.settings.debug_mode { login::debug_routes() } else { Router::new() };
    let routes = Router::new()
        .merge(admin::routes())
        .merge(chat::routes())
        .merge(completions::routes())
        .merge(debug)
        .merge(detailed::routes())
        .merge(embeddings::routes())
        .merge(images::routes())
        .merge(login::routes())
        .merge(models::routes())
        .merge(responses::routes())
        .merge(status::routes())
        .merge(videos::routes())
        .fallback(async |request: Request| refuse(Failure::unknown_path(request.uri().path()), request))
        .method_not_allowed_fallback(async |request: Request| refuse(Failure::wrong_method(request.method()), request))
        .layer(RequestDecompressionLayer::new())
        .layer(map_response(as_failure));
    let routes = match limiter {
        Some(limiter) => routes.layer(from_fn_with_state(limiter, rate_limit::limit)),
        None => routes,
    };
    routes
        .layer(from_fn_with_state(state.clone(), auth::require_key))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors)
        .layer(from_fn_with_state(state.clone(), access::access))
        .with_state(state)
}

fn cors(settings: &HttpSettings) -> CorsLayer {
    let is_closed = settings.keys.is_empty() && settings.server_mode && !settings.allow_open;
    let origins = match &settings.cors_origins {
        Some(origins) => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok())),
        // Without a key, only pages of this machine may use the server.
        None if is_closed => AllowOrigin::predicate(|origin, _| auth::is_own_origin(origin)),
        None => AllowOrigin::any(),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE, Method::OPTIONS])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            HeaderName::from_static("x-request-id"),
            RETRY_AFTER,
            HeaderName::from_static("x-should-retry"),
            rate_limit::LIMIT,
            rate_limit::REMAINING,
            rate_limit::RESET,
            HeaderName::from_static(call::IGNORED),
            HeaderName::from_static(call::FALLBACK_MODEL),
            HeaderName::from_static(call::OMITTED_FILES),
            HeaderName::from_static(call::PROMPT_AS_FILE),
            HeaderName::from_static(call::TOOLS_SHORTENED),
            HeaderName::from_static(call::ASPECT_RATIO),
        ])
        .max_age(PREFLIGHT_AGE)
}

fn refuse(error: Failure, request: Request) -> Failure {
    Drain::refuse(request);
    error
}

/// A refusal of the decoding layer, which answers in plain text, as a failure of ours.
async fn as_failure(response: Response) -> Response {
    if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE && response.extensions().get::<Failure>().is_none() {
        let mut refusal = Failure::unsupported_encoding().into_response();
        if let Some(supported) = response.headers().get(ACCEPT_ENCODING) {
            refusal.headers_mut().insert(ACCEPT_ENCODING, supported.clone());
        }
        return refusal;
    }
    response
}

/// A bug must not cost the caller a torn connection, nor others anything.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Failure::internal().into_response()
}

//! Our side of HTTP: routes, the key check, answers in OpenAI's shape.

pub mod access;
pub mod auth;
pub mod chat;
pub mod drain;
pub mod error;
pub mod json;
pub mod models;
pub mod server;
pub mod sse;
pub mod state;
pub mod status;

use std::any::Any;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use http::header::{ACCEPT_ENCODING, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use ipnet::IpNet;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::decompression::RequestDecompressionLayer;

use crate::base::secret::ApiKey;
use crate::http::drain::Drain;
use crate::http::error::ApiError;
use crate::http::state::AppState;
use crate::transform::job::ReasoningFormat;

/// How long a browser may remember the answer to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(86_400);

/// Every route and every layer. From outside in: the log line and common headers, CORS (its preflight needs no
/// key), panics, the key, decoding of bodies.
pub fn router(state: AppState) -> Router {
    let cors = cors(&state.0.settings);
    Router::new()
        .merge(chat::routes())
        .merge(models::routes())
        .merge(status::routes())
        .fallback(async |request: Request| refuse(ApiError::not_found(request.uri().path()), request))
        .method_not_allowed_fallback(async |request: Request| refuse(ApiError::wrong_method(request.method()), request))
        .layer(RequestDecompressionLayer::new())
        .layer(map_response(in_our_shape))
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
            HeaderName::from_static("x-bridge-ignored"),
        ])
        .max_age(PREFLIGHT_AGE)
}

fn refuse(error: ApiError, request: Request) -> ApiError {
    Drain::refuse(request);
    error
}

/// A refusal of the decoding layer, which speaks plain text, in OpenAI's shape.
async fn in_our_shape(response: Response) -> Response {
    if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE
        && response.extensions().get::<error::ErrorCode>().is_none()
    {
        let mut refusal = ApiError::unsupported_encoding().into_response();
        if let Some(supported) = response.headers().get(ACCEPT_ENCODING) {
            refusal.headers_mut().insert(ACCEPT_ENCODING, supported.clone());
        }
        return refusal;
    }
    response
}

/// A bug must not cost the caller a torn connection, nor others anything.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal().into_response()
}

/// How our own side of HTTP behaves.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Where to listen: `SERVER_HOST` (127.0.0.1) and `SERVER_PORT`, else `PORT` (8000).
    pub listen: SocketAddr,
    /// `API_KEY`, `OPENAI_API_KEYS`, `OPENAI_API_KEY` as one set.
    pub keys: Vec<ApiKey>,
    /// `SERVER_MODE`, true. False: each caller brings their own credential.
    pub server_mode: bool,
    /// `DEBUG_MODE`, false.
    pub debug_mode: bool,
    /// `ALLOW_OPEN`, false: serve without a key on addresses that are not loopback.
    pub allow_open: bool,
    /// `MAX_BODY`, 50 MB: the largest request body, decoded.
    pub body_bytes_max: usize,
    /// `KEEPALIVE_INTERVAL`, 15 s: between comments on a silent stream.
    pub keepalive_interval: Duration,
    /// `HEADERS_HOLD`, 10 s: how long the status waits for the upstream's first word.
    pub headers_hold: Duration,
    /// `READ_TIMEOUT`, 30 s: for the head of a request, and between two pieces of its body.
    pub read_timeout: Duration,
    /// `WRITE_TIMEOUT`, 60 s: for a caller who does not read.
    pub write_timeout: Duration,
    /// `TRUSTED_PROXIES`: networks whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `CORS_ORIGINS`: `None` for any.
    pub cors_origins: Option<Vec<String>>,
    /// `REASONING_FORMAT`: where thoughts go when the caller does not say.
    pub reasoning_format: ReasoningFormat,
}

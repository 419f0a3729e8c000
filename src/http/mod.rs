//! Our side of HTTP: routes, the key check, answers in the dialect of the path.

pub(crate) mod anthropic;
pub(crate) mod call;
pub(crate) mod failure;
pub(crate) mod metrics;
pub(crate) mod openai;
mod outcomes;
pub(crate) mod owner;
mod refusals;
pub(crate) mod results;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod stream;
pub(crate) mod traces;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use axum::{Extension, Router};
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Uri};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::chat::failure::Failure;
use crate::dialect::Dialect;
use crate::gateway::caller_keys::CallerKeys;
use crate::http::anthropic::{count_tokens, messages};
use crate::http::openai::{chat, completions, embeddings, images, models, responses, videos};
use crate::http::owner::accounts::{login, logins, refresh, routes as accounts};
use crate::http::owner::{
    admin_health, audit, gallery, health, keys, models as owner_models, page, reload, requests, session,
    settings as owner_settings, usage,
};
use crate::http::serve::admission::gate::{self, Gate};
use crate::http::serve::admission::{own_machine, rate_limit};
use crate::http::serve::base_path::{self, Inside};
use crate::http::serve::paths;
use crate::http::serve::record::access;
use crate::http::serve::socket::drain::Drain;
use crate::http::settings::HttpSettings;
use crate::http::state::AppState;

/// Time for which a browser may keep the answer to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(86_400);

/// Every route and every layer.
///
/// The routes are four groups: public, callers with a key, the owner's page (its files and its login), the owner. A path
/// that is in no group is the callers', so that nothing is open unless it is named in `public_routes`. From outside in, a
/// request passes the mending of its path; the log line and common headers; CORS, which answers preflights without a key
/// and which the owner's routes do not have; the catching of panics; the check of the machine's own names; the key; the
/// rate limit; the decoding of bodies; for callers, what their key has left today.
pub(crate) fn router(state: AppState) -> Router {
    let settings = &state.settings();
    let cors = cors(settings, &state.0.keys);
    let catch_panic = CatchPanicLayer::custom(panicked);
    let gate = Arc::new(Gate::new(state.clone()));
    let noted = from_fn_with_state(state.clone(), audit::note_changes);

    // Each group gets its layers as one stack: a router puts every route into a box for each call of `layer`.
    let public = ServiceBuilder::new().layer(cors.clone()).layer(catch_panic);
    let public = public.layer(from_fn_with_state(Arc::clone(&gate), gate::public));
    let public = public_routes().method_not_allowed_fallback(wrong_method).layer(public);
    let callers = ServiceBuilder::new().layer(cors).layer(catch_panic);
    let callers = callers.layer(from_fn_with_state(Arc::clone(&gate), gate::callers));
    let callers = caller_routes().method_not_allowed_fallback(wrong_method).layer(callers);
    let page = ServiceBuilder::new().layer(catch_panic).layer(Extension(gate.guard()));
    let page = page.layer(from_fn_with_state(Arc::clone(&gate), gate::page));
    let page_routes = page::owner_routes().merge(session::routes()).method_not_allowed_fallback(wrong_method);
    let page = page_routes.layer(page);
    let owners = ServiceBuilder::new().layer(catch_panic).layer(from_fn_with_state(gate, gate::owners)).layer(noted);
    let own_metrics = if settings.metrics_listen.is_none() { metrics::routes(&state) } else { Router::new() };
    let owner_routes = owner_routes(settings).merge(own_metrics).method_not_allowed_fallback(wrong_method);
    let owners = owner_routes.layer(owners);
    let routes = public.merge(callers).merge(page).merge(owners);
    let routes = routes.layer(from_fn_with_state(state.clone(), access::access));
    let base = settings.base_path.clone();
    // Before a route is looked for, so that the key and the dialect are those of the path that is meant.
    let find = move |request| with_the_path_meant(request, &base);
    let meant = ServiceBuilder::new().map_request(find).service(routes.with_state(state));
    Router::new().fallback_service(meant)
}

/// The routes of `METRICS_ADDRESS`, where no key is asked for.
pub(crate) fn metrics_router(state: AppState) -> Router {
    metrics::routes(&state).fallback(unknown_path).layer(map_response(with_openai_error)).with_state(state)
}

/// Writes the body of a failure where no record of the request does.
async fn with_openai_error(mut response: Response) -> Response {
    failure::write_body(&mut response, Dialect::OpenAi, "");
    response
}

/// Routes that need no key, for any method.
fn public_routes() -> Router<AppState> {
    page::routes().merge(health::public_routes())
}

/// Routes that need a caller's key, and every unknown path.
fn caller_routes() -> Router<AppState> {
    Router::new()
        .merge(chat::routes())
        .merge(completions::routes())
        .merge(count_tokens::routes())
        .merge(health::caller_routes())
        .merge(embeddings::routes())
        .merge(images::routes())
        .merge(messages::routes())
        .merge(models::routes())
        .merge(refresh::routes())
        .merge(responses::routes())
        .merge(videos::routes())
        .fallback(unknown_path)
}

/// Routes that need the owner's key, unknown paths below them included. No page of another origin can use these.
fn owner_routes(settings: &HttpSettings) -> Router<AppState> {
    let routes = Router::new()
        .merge(accounts::routes())
        .merge(admin_health::routes())
        .merge(login::routes())
        .merge(logins::routes())
        .merge(reload::routes())
        .merge(requests::routes())
        .merge(usage::routes())
        .merge(keys::routes())
        .merge(audit::routes())
        .merge(gallery::routes())
        .merge(owner_models::routes())
        .merge(owner_settings::routes())
        .route("/admin/{*rest}", any(unknown_path));
    if !settings.debug_mode {
        // Without DEBUG_MODE these paths are as unknown as any other.
        return routes;
    }
    let routes = routes.merge(login::debug_routes());
    ["/v1/debug", "/v1/debug/", "/v1/debug/{*rest}"]
        .into_iter()
        .fold(routes, |routes, path| routes.route(path, any(unknown_path)))
}

fn with_the_path_meant(mut request: Request, base: &str) -> Request {
    let uri = request.uri();
    let inside = match base_path::inside(uri, base) {
        Inside::At(inside) => paths::meant(&inside).unwrap_or(inside),
        // The front page leads its readers to the base path with a slash, where its links fit.
        Inside::Root => {
            request.extensions_mut().insert(page::NoSlash);
            Uri::from_static("/")
        }
        Inside::Outside => {
            let outside = Outside { path: uri.path().to_owned(), base: base.to_owned() };
            request.extensions_mut().insert(outside);
            Uri::from_static("/outside-of-the-base-path")
        }
    };
    *request.uri_mut() = inside;
    request
}

/// A request for a path that is not below the base path.
#[derive(Clone)]
struct Outside {
    path: String,
    base: String,
}

async fn unknown_path(request: Request) -> Failure {
    let failure = match request.extensions().get() {
        Some(Outside { path, base }) => Failure::outside_base_path(path, base),
        None => Failure::unknown_path(request.uri().path()),
    };
    refuse(failure, request)
}

async fn wrong_method(request: Request) -> Failure {
    refuse(Failure::wrong_method(request.method(), request.uri().path()), request)
}

fn cors(settings: &HttpSettings, keys: &CallerKeys) -> CorsLayer {
    let origins = match &settings.cors_origins {
        Some(origins) => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok())),
        // Without a key, only pages of this machine may use the server.
        None if own_machine::is_for_this_machine(settings, keys) => {
            AllowOrigin::predicate(|origin, _| own_machine::is_own_origin(origin))
        }
        None => AllowOrigin::any(),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE, Method::OPTIONS])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("request-id"),
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
            HeaderName::from_static(call::USAGE),
            HeaderName::from_static(call::ASPECT_RATIO),
        ])
        .max_age(PREFLIGHT_AGE)
}

fn refuse(error: Failure, request: Request) -> Failure {
    Drain::refuse(request);
    error
}

/// A bug must not cost the caller a torn connection, nor others anything.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Failure::internal().into_response()
}

//! `GET /auth` and `/v1/debug/*`: state of the OAuth accounts for the owner of this server, and remote logins.
//! The admin key is checked in `admin_key`. No answer holds a token or the PKCE verifier of a login.

use std::cmp::Reverse;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode, Uri};
use serde::Serialize;
use serde_json::Value;
use url::form_urlencoded;

use crate::base::ids::IdentityId;
use crate::base::oauth::AccountId;
use crate::chat::failure::Failure;
use crate::gateway::accounts::device_login::{Flow, FlowState};
use crate::gateway::accounts::error::RefreshError;
use crate::gateway::accounts::oauth_account::{AccountState, AccountView};
use crate::http::owner::accounts::login_wire::{
    AccountReport, AuthTest, Authenticated, CredentialsReport, Initiated, Login, NotAuthenticated, Outcome, TokenReport,
};
use crate::http::owner::present::{SERVICE, moment};
use crate::http::serve::content::json::read_json;
use crate::http::state::AppState;
use crate::pool::Now;

/// The words by which clients of this project's forerunners know what failed.
const INITIATE_ERROR: &str = "auth_initiate_error";
const POLL_ERROR: &str = "auth_poll_error";
const NO_ACCOUNT: &str = "there is no OAuth account: log one in with GET /auth, or with: qwen-bridge auth add ID";
const WHAT_TO_DO: &str = "Open verification_uri_complete in a browser, on any device, and agree. The account is in use \
                          a few seconds later.";

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/auth", get(auth))
}

/// Those that are served in debug mode only.
pub(crate) fn debug_routes() -> Router<AppState> {
    Router::new()
        .route("/v1/debug/auth/initiate", post(initiate))
        .route("/v1/debug/auth/poll", post(poll))
        .route("/v1/debug/auth/test", get(test))
        .route("/v1/debug/token", get(token).delete(forget))
        .route("/v1/debug/account/{id}", get(account))
}

async fn auth(State(state): State<AppState>, method: Method, uri: Uri) -> Result<Response, Failure> {
    in_server_mode(&state)?;
    if method == Method::HEAD {
        // Link checkers and monitors send it, and a login is more than they ask for.
        return Ok(answer(StatusCode::OK, &serde_json::Map::<String, Value>::new()));
    }
    let named = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .find(|(name, _)| name == "account")
        .map(|(_, text)| AccountId::parse(&text).map_err(Failure::invalid_account))
        .transpose()?;
    let wanted = named.as_ref().map(AccountId::identity);
    match usable(&state, wanted.as_ref()).await {
        Ok(Some((account, message))) => {
            let resource_url = resource_url(&state, &account);
            let resource_url = resource_url.as_deref();
            Ok(answer(StatusCode::OK, &Authenticated { authenticated: true, message: &message, resource_url }))
        }
        Ok(None) | Err(RefreshError::Refused { .. } | RefreshError::Gone { .. }) => {
            let account = named.unwrap_or_else(AccountId::unnamed);
            let flow = state.0.logins.join_or_start(account).await.map_err(|error| Failure::from(&error))?;
            let status = "authentication_initiated";
            let login = shown(&flow);
            Ok(answer(StatusCode::OK, &NotAuthenticated { authenticated: false, message: WHAT_TO_DO, status, login }))
        }
        Err(error) => Err(Failure::from(&error)),
    }
}

async fn initiate(State(state): State<AppState>, request: Request) -> Response {
    let account = match fields(&state, request).await {
        Ok(body) => match body.get("account") {
            None | Some(Value::Null) => Ok(AccountId::unnamed()),
            Some(account) => AccountId::parse(account.as_str().unwrap_or_default()).map_err(Failure::invalid_account),
        },
        Err(refusal) => return refusal,
    };
    let begun = async {
        in_server_mode(&state)?;
        state.0.logins.start(account?).await.map_err(|error| Failure::from(&error))
    };
    match begun.await {
        Ok(flow) => answer(StatusCode::OK, &Initiated { status: "pending", message: WHAT_TO_DO, login: shown(&flow) }),
        Err(error) => error.typed(INITIATE_ERROR).into_response(),
    }
}

async fn poll(State(state): State<AppState>, request: Request) -> Response {
    let body = match fields(&state, request).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(flow_id) = body.get("flow_id").and_then(Value::as_str).map(str::trim).filter(|id| !id.is_empty()) else {
        return Failure::no_flow_id().into_response();
    };
    let failed = |error: Failure| error.typed(POLL_ERROR).into_response();
    match state.0.logins.state(flow_id) {
        None => failed(Failure::login_not_found()),
        Some(FlowState::Pending) => {
            let message = "The owner has not decided yet. Ask again after the interval.";
            answer(StatusCode::ACCEPTED, &Outcome { status: "pending", message })
        }
        Some(FlowState::Done(identity)) => {
            let message = format!("The account {identity} is logged in and in use.");
            answer(StatusCode::OK, &Outcome { status: "success", message: &message })
        }
        Some(FlowState::Failed(failure)) => failed(Failure::from(&failure)),
    }
}

async fn test(State(state): State<AppState>) -> Response {
    let (code, status, message) = match usable(&state, None).await {
        Ok(Some((_, message))) => (StatusCode::OK, "authenticated", message),
        Ok(None) => (StatusCode::UNAUTHORIZED, "not_authenticated", NO_ACCOUNT.to_owned()),
        Err(error @ (RefreshError::Refused { .. } | RefreshError::Gone { .. })) => {
            (StatusCode::UNAUTHORIZED, "not_authenticated", format!("{error}: GET /auth"))
        }
        Err(error) => (StatusCode::UNAUTHORIZED, "authentication_failed", error.to_string()),
    };
    answer(code, &AuthTest { status, message: &message, has_token: code == StatusCode::OK })
}

async fn token(State(state): State<AppState>) -> Response {
    let now = Now::read();
    let view = best(&state, None, now);
    let held = view.as_ref().filter(|view| view.has_token);
    let left = held.and_then(|view| view.expires_at).map(|at| at.0.saturating_sub(now.unix.0));
    let message = match &view {
        None => NO_ACCOUNT,
        Some(_) => "no token is in memory; the next request gets one",
    };
    let report = TokenReport {
        service: SERVICE,
        status: "active",
        cached: held.is_some(),
        account: view.as_ref().map(|view| view.identity.as_str()),
        cached_at: held.map(|view| moment(view.taken_at)),
        expires_at: held.and_then(|view| view.expires_at).map(moment),
        time_until_expiry_seconds: left,
        is_expired: held.map(|_| left.is_some_and(|left| left <= 0)),
        message: held.is_none().then_some(message),
    };
    answer(StatusCode::OK, &report)
}

async fn forget(State(state): State<AppState>) -> Response {
    let message = match state.0.accounts.forget_tokens() {
        0 => "No token was in memory that can be renewed.".to_owned(),
        1 => "The token in memory is forgotten; the next request gets a new one.".to_owned(),
        count => format!("The tokens of {count} accounts are forgotten; each gets a new one when it is next used."),
    };
    answer(StatusCode::OK, &Outcome { status: "success", message: &message })
}

async fn account(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, Failure> {
    let name = AccountId::parse(id.strip_prefix("oauth:").unwrap_or(&id)).map_err(Failure::invalid_account)?;
    let now = Now::read();
    let Some(view) = best(&state, Some(&name.identity()), now) else {
        let message = Some(format!("There is no OAuth account {name}. Add it with: qwen-bridge auth add {name}"));
        let report = AccountReport { account: name.as_str(), status: "not_found", message, credentials: None };
        return Ok(answer(StatusCode::OK, &report));
    };
    let resource_url = resource_url(&state, &view.identity);
    let left = view.expiry_date.map(|at| at.0.saturating_sub(now.unix.0.saturating_mul(1000)));
    let credentials = CredentialsReport {
        has_access_token: view.has_access_token,
        has_refresh_token: view.has_refresh_token,
        token_type: &view.token_type,
        expiry_date: view.expiry_date.map(|at| at.0),
        expiry_date_iso: view.expiry_date.map(|at| moment(at.seconds())),
        time_until_expiry_ms: left,
        time_until_expiry_min: left.map(|left| left.div_euclid(60_000)),
        is_expired: left.map(|left| left <= 0),
        resource_url: resource_url.as_deref(),
    };
    let message = (view.state != AccountState::Ready).then(|| view.state.advice().to_owned());
    let credentials = Some(credentials);
    Ok(answer(StatusCode::OK, &AccountReport { account: name.as_str(), status: "found", message, credentials }))
}

/// In client mode nothing is kept, so there is nothing to log in.
fn in_server_mode(state: &AppState) -> Result<(), Failure> {
    if state.settings().server_mode { Ok(()) } else { Err(Failure::not_in_client_mode()) }
}

/// The account that is used first, or the one of this name, once it has a token; and what to say of it. `None` when
/// there is none.
async fn usable(state: &AppState, wanted: Option<&IdentityId>) -> Result<Option<(IdentityId, String)>, RefreshError> {
    let Some(view) = best(state, wanted, Now::read()) else {
        return Ok(None);
    };
    let identity = view.identity;
    match view.state {
        AccountState::NeedsLogin => Err(RefreshError::Refused { identity }),
        // Another login would end the same way.
        AccountState::PortalRefuses => {
            let message = format!("The account {identity} is logged in, but {}.", view.state.advice());
            Ok(Some((identity, message)))
        }
        AccountState::Ready | AccountState::Expired => {
            let Some(session) = state.0.accounts.session(&identity) else {
                return Err(RefreshError::Gone { identity });
            };
            state.0.accounts.ensure_fresh(&session).await?;
            let message = format!("The account {identity} is logged in.");
            Ok(Some((identity, message)))
        }
    }
}

/// The account that is best off, or the one of this name.
fn best(state: &AppState, wanted: Option<&IdentityId>, now: Now) -> Option<AccountView> {
    let views = state.0.accounts.views(now).into_iter();
    let views = views.filter(|view| wanted.is_none_or(|wanted| *wanted == view.identity));
    views.min_by_key(|view| {
        let rank = match view.state {
            AccountState::Ready => 0,
            AccountState::Expired => 1,
            AccountState::PortalRefuses => 2,
            AccountState::NeedsLogin => 3,
        };
        (rank, Reverse(view.expires_at))
    })
}

fn resource_url(state: &AppState, identity: &IdentityId) -> Option<String> {
    state.0.accounts.api_base(identity)?.ok().map(String::from)
}

fn shown(flow: &Flow) -> Login<'_> {
    Login {
        verification_uri: &flow.verification_uri,
        verification_uri_complete: &flow.verification_uri_complete,
        user_code: &flow.user_code,
        expires_in: flow.expires_in.as_secs(),
        interval: flow.interval.as_secs(),
        flow_id: &flow.flow_id,
    }
}

/// The fields of a body that may be left out altogether.
async fn fields(state: &AppState, request: Request) -> Result<Value, Response> {
    // The body itself does not tell: layers around it have hidden its end.
    let length = request.headers().get(CONTENT_LENGTH);
    let has_body = request.headers().contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0");
    if !has_body {
        return Ok(Value::Null);
    }
    read_json(request, &state.settings()).await.map(|body| body.value)
}

/// An answer with `Cache-Control: no-store`: codes and states are short-lived.
fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

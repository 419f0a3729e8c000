//! `/admin/session`: the owner logs in to the page, asks for the state of the session, and logs out.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::header::{HeaderValue, SET_COOKIE};
use serde_json::{Value, json};

use crate::chat::failure::Failure;
use crate::http::owner::audit;
use crate::http::owner::present::{VERSION, not_stored};
use crate::http::serve::admission::admin_key::{AdminRefusal, Owner};
use crate::http::serve::admission::guard::KeyGuard;
use crate::http::serve::admission::page_check::{check_page, is_from_own_page, is_of_this_machine, page_session};
use crate::http::serve::admission::sessions::{COOKIE_NAME, SESSION_SECONDS, Way};
use crate::http::serve::admission::wrong_keys::RightKey;
use crate::http::serve::content::json::read_json;
use crate::http::serve::record::access::is_behind_tls;
use crate::http::state::AppState;
use crate::pool::Now;

/// The routes of this file. They make the check of the owner's routes themselves.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/session", get(look).post(log_in).delete(log_out))
}

/// The state of the session. Needs no key: without a session it tells the version, the mode of the server, and whether it has
/// an admin key.
async fn look(
    State(state): State<AppState>,
    Extension(guard): Extension<Arc<KeyGuard>>,
    request: Request,
) -> Result<Response, Response> {
    let mut body = json!({
        "logged_in": false,
        "needs_key": guard.admin_key().is_some(),
        "version": VERSION,
        "server_mode": state.settings().server_mode,
    });
    let session = page_session(&guard, request.headers());
    if let Some(session) = session.filter(|session| check_page(guard.settings(), session, &request, false).is_ok())
        && let Some(fields) = body.as_object_mut()
    {
        fields.insert("csrf".to_owned(), json!(session.csrf()));
        fields.insert("who".to_owned(), json!(Owner::Page(session).name()));
        fields.insert("logged_in".to_owned(), json!(true));
    }
    Ok(not_stored(Json(body).into_response()))
}

/// Takes `{"key"}`, or `{"link"}` with the secret of the printed link. A wrong one counts for its address.
async fn log_in(
    State(state): State<AppState>,
    Extension(guard): Extension<Arc<KeyGuard>>,
    request: Request,
) -> Result<Response, Response> {
    let refuse = |refusal: AdminRefusal| refusal.into_response(true);
    let (address, is_tls) = (guard.address(&request), is_behind_tls(&state, &request));
    let is_here = is_of_this_machine(request.headers());
    if !is_from_own_page(&state.settings(), &request) {
        return Err(refuse(AdminRefusal::ForeignPage));
    }
    let body = read_json(request, &state.settings()).await?.value;
    let field = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (way, is_right) = match (field("key"), field("link")) {
        (Some(offered), _) => {
            let key = guard.admin_key().ok_or_else(|| refuse(AdminRefusal::NotConfigured))?;
            (Way::Key, key.matches(offered.trim()))
        }
        (None, Some(_)) if !is_here => return Err(refuse(AdminRefusal::ForeignPage)),
        (None, Some(offered)) => (Way::Link, guard.sessions().is_link(offered)),
        (None, None) => return Err(refuse(AdminRefusal::Missing)),
    };
    if !is_right {
        let wait = guard.wrong(address).await;
        return Err(refuse(wait.map_or(AdminRefusal::Wrong, AdminRefusal::TooManyWrong)));
    }
    guard.admit(address, RightKey::Admin).await.map_err(|wait| refuse(AdminRefusal::TooManyWrong(wait)))?;
    // Only an admitted request spends the link. Another one may have been first.
    if let (Way::Link, Some(offered)) = (way, field("link"))
        && !guard.sessions().use_link(offered)
    {
        return Err(refuse(AdminRefusal::Wrong));
    }
    let opened = guard.sessions().open(way, guard.admin_key(), Now::read().unix);
    let (cookie, session) = opened.ok_or_else(|| Failure::internal().into_response())?;
    let csrf = session.csrf().to_owned();
    audit::note(&state, Owner::Page(session).name(), "POST /admin/session".to_owned()).await;
    Ok(with_cookie(&state, Json(json!({ "csrf": csrf })), &cookie, SESSION_SECONDS, is_tls))
}

async fn log_out(
    State(state): State<AppState>,
    Extension(guard): Extension<Arc<KeyGuard>>,
    request: Request,
) -> Result<Response, Response> {
    let is_tls = is_behind_tls(&state, &request);
    if let Some(session) = page_session(&guard, request.headers()) {
        check_page(guard.settings(), &session, &request, true)
            .map_err(|fault| AdminRefusal::from(fault).into_response(true))?;
        guard.sessions().close(&session);
        audit::note(&state, Owner::Page(session).name(), "DELETE /admin/session".to_owned()).await;
    }
    Ok(with_cookie(&state, Json(json!({ "logged_in": false })), "", 0, is_tls))
}

/// An answer that sets the cookie of the session, or takes it back with no seconds to live.
fn with_cookie(state: &AppState, body: Json<Value>, cookie: &str, seconds: i64, is_tls: bool) -> Response {
    let settings = state.settings();
    let path = match settings.base_path.as_str() {
        "" => "/",
        base => base,
    };
    let secure = if is_tls { "; Secure" } else { "" };
    let cookie = format!("{COOKIE_NAME}={cookie}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut response = not_stored(body.into_response());
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

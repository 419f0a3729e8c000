//! `/admin/accounts`: the account actions of the owner's page. No answer holds a credential.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::base::bilingual::Bilingual;
use crate::base::facts::AccountKind;
use crate::base::ids::{IdentityId, UnixSeconds};
use crate::base::session::Session;
use crate::chat::failure::{Failure, FailureKind};
use crate::gateway::accounts::book::BookError;
use crate::gateway::answer::error::ChatError;
use crate::http::owner::accounts::view::{account, accounts};
use crate::http::owner::accounts::words::{is_refusal, refused, verdict};
use crate::http::serve::content::json::{JsonBody, read_json};
use crate::http::state::AppState;
use crate::pasted::report::{Credential, Report, report};
use crate::pool::Now;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};

/// Time limit for asking the upstream about one account, a token renewal included.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest rest that an owner can give, in seconds: a day and an hour, as the longest of the upstream.
const REST_SECONDS_MAX: u64 = 25 * 3600;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/admin/accounts", get(list).post(add))
        .route("/admin/accounts/check", post(check))
        .route("/admin/accounts/{id}", patch(rename).put(replace).delete(remove))
        .route("/admin/accounts/{id}/test", post(test))
        .route("/admin/accounts/{id}/wake", post(wake))
        .route("/admin/accounts/{id}/rest", post(rest))
        .route("/admin/accounts/{id}/renew", post(renew))
        .route("/admin/accounts/{id}/restore-session", post(restore_session))
}

async fn list(State(state): State<AppState>) -> Response {
    answer(StatusCode::OK, &accounts(&state, Now::read()))
}

async fn add(State(state): State<AppState>, request: Request) -> Result<Response, Response> {
    in_server_mode(&state).map_err(Failure::into_response)?;
    let (pasted, body) = Paste::read(&state, request).await?;
    let label = body.get("label").and_then(Value::as_str).filter(|label| !label.trim().is_empty());
    let credential = pasted.into_credential().map_err(Failure::into_response)?;
    let book = &state.0.book;
    let added = match credential {
        Credential::Web(cookie) => book.add_web(cookie, label).await,
        Credential::OAuth(credentials) => book.add_oauth(*credentials, label).await,
    };
    let newcomer = added.map_err(|error| refused(&error).into_response())?;
    // One call that changes nothing. A login that is refused is not kept; one that cannot be asked about is.
    if let Err(error) = probe(&state, newcomer.kind(), newcomer.session()).await
        && is_refusal(&error)
    {
        newcomer.refuse().await;
        return Err(Failure::bilingual(FailureKind::Invalid, "login_refused", verdict(&Err(error))).into_response());
    }
    Ok(shown(&state, &newcomer.accept(), StatusCode::CREATED))
}

async fn replace(
    State(state): State<AppState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    in_server_mode(&state).map_err(Failure::into_response)?;
    let (kind, session) = find(&state, &id).ok_or_else(|| unknown(&id))?;
    let identity = session.identity().clone();
    let (pasted, _) = Paste::read(&state, request).await?;
    let book = &state.0.book;
    let replaced = match (kind, pasted.into_credential().map_err(Failure::into_response)?) {
        (AccountKind::Web, Credential::Web(cookie)) => book.replace_web(&identity, cookie).await,
        (AccountKind::OAuth, Credential::OAuth(credentials)) => book.replace_oauth(&identity, *credentials).await,
        (AccountKind::Key, _) => Err(BookError::OfFile("QWEN_API_KEYS".to_owned())),
        _ => Err(BookError::OtherKind),
    };
    replaced.map_err(|error| refused(&error).into_response())?;
    Ok(shown(&state, &identity, StatusCode::OK))
}

async fn rename(State(state): State<AppState>, Path(id): Path<String>, request: Request) -> Result<Response, Response> {
    let (_, session) = find(&state, &id).ok_or_else(|| unknown(&id))?;
    let body = read_body(&state, request).await?;
    let label = match body.get("label") {
        Some(Value::Null) => None,
        Some(Value::String(label)) => Some(label.as_str()),
        _ => return Err(missing("label", "the new name, or null for none", "新的名称，或 null 表示没有名称")),
    };
    state.0.book.rename(session.key(), label).map_err(|error| refused(&error).into_response())?;
    Ok(shown(&state, session.identity(), StatusCode::OK))
}

async fn remove(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, Response> {
    let (_, session) = find(&state, &id).ok_or_else(|| unknown(&id))?;
    state.0.book.remove(session.identity()).await.map_err(|error| refused(&error).into_response())?;
    Ok(answer(StatusCode::OK, &serde_json::json!({"removed": id})))
}

/// The result of asking about an account.
#[derive(Serialize)]
struct Tried {
    ok: bool,
    message: Bilingual,
    ms: u64,
}

async fn test(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, Response> {
    let (kind, session) = find(&state, &id).ok_or_else(|| unknown(&id))?;
    let began = Instant::now();
    let result = probe(&state, kind, &session).await;
    Ok(tried(&result, began))
}

async fn renew(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, Response> {
    let (kind, session) = find(&state, &id).ok_or_else(|| unknown(&id))?;
    let began = Instant::now();
    let renewed = match kind {
        AccountKind::Web => state.0.web_accounts.force(&session).await,
        AccountKind::OAuth => state.0.accounts.force(&session).await,
        AccountKind::Key => {
            let words = Bilingual::new("A static key has no token to renew.", "静态密钥没有可续期的令牌。");
            return Err(Failure::bilingual(FailureKind::Invalid, "not_renewable", words).into_response());
        }
    };
    Ok(tried(&renewed.map_err(|error| ChatError::Session(error, kind)), began))
}

/// Goes back to the session of before the last renewal.
async fn restore_session(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, Response> {
    let (kind, session) = find(&state, &id).ok_or_else(|| unknown(&id))?;
    if kind == AccountKind::Web && state.0.web_accounts.restore_earlier(&session).await {
        return Ok(shown(&state, session.identity(), StatusCode::OK));
    }
    Err(refused(&BookError::NoEarlierSession(session.identity().clone())).into_response())
}

async fn wake(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, Response> {
    let (kind, session) = find(&state, &id).ok_or_else(|| unknown(&id))?;
    let now = Now::read();
    let (_, pool) = state.pools().into_iter().find(|(its, _)| *its == kind).ok_or_else(|| unknown(&id))?;
    pool.reset(session.key(), now);
    if kind == AccountKind::Web {
        state.0.web_accounts.revive(&session, now);
    }
    state.0.store.save_facts(session.key().clone(), || pool.facts(session.key(), now));
    Ok(shown(&state, session.identity(), StatusCode::OK))
}

async fn rest(State(state): State<AppState>, Path(id): Path<String>, request: Request) -> Result<Response, Response> {
    let (kind, session) = find(&state, &id).ok_or_else(|| unknown(&id))?;
    let body = read_body(&state, request).await?;
    let seconds =
        body.get("seconds").and_then(Value::as_u64).filter(|seconds| (1..=REST_SECONDS_MAX).contains(seconds));
    let seconds = seconds.ok_or_else(|| missing("seconds", "a whole number from 1 to 90000", "1 到 90000 的整数"))?;
    let (_, pool) = state.pools().into_iter().find(|(its, _)| *its == kind).ok_or_else(|| unknown(&id))?;
    let now = Now::read();
    pool.rest(session.key(), Duration::from_secs(seconds), now);
    state.0.store.save_facts(session.key().clone(), || pool.facts(session.key(), now));
    Ok(shown(&state, session.identity(), StatusCode::OK))
}

/// The account with this id, its kind and its session.
fn find(state: &AppState, id: &str) -> Option<(AccountKind, Arc<Session>)> {
    state.pools().into_iter().find_map(|(kind, pool)| {
        let session = pool.sessions().into_iter().find(|session| session.identity().as_str() == id)?;
        Some((kind, session))
    })
}

/// Asks the upstream about an account, by a call that changes nothing and costs no quota.
async fn probe(state: &AppState, kind: AccountKind, session: &Arc<Session>) -> Result<(), ChatError> {
    let asking = async {
        match kind {
            AccountKind::Web => state.0.chats.probe(session).await,
            AccountKind::OAuth => state.0.upstreams.oauth().probe(session).await,
            AccountKind::Key => state.0.upstreams.keys().probe(session).await,
        }
    };
    match timeout(PROBE_TIMEOUT, asking).await {
        Ok(result) => result,
        Err(_) => {
            let error = UpstreamError::new("asking about an account", UpstreamErrorKind::Timeout);
            Err(ChatError::Upstream { error, attempts: 1 })
        }
    }
}

fn tried(result: &Result<(), ChatError>, began: Instant) -> Response {
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    answer(StatusCode::OK, &Tried { ok: result.is_ok(), message: verdict(result), ms })
}

fn shown(state: &AppState, identity: &IdentityId, status: StatusCode) -> Response {
    // Another owner may have removed it in the meantime.
    match account(state, identity.as_str(), Now::read()) {
        Some(account) => answer(status, &account),
        None => unknown(identity.as_str()),
    }
}

fn unknown(id: &str) -> Response {
    refused(&BookError::Unknown(id.chars().take(60).collect())).into_response()
}

fn missing(field: &'static str, what: &str, what_zh: &str) -> Response {
    let words =
        Bilingual::new(format!("`{field}` is missing or wrong: {what}."), format!("{field} 缺失或有误：{what_zh}。"));
    Failure::bilingual(FailureKind::Invalid, "invalid_field", words).about(field).into_response()
}

fn in_server_mode(state: &AppState) -> Result<(), Failure> {
    if state.settings().server_mode { Ok(()) } else { Err(Failure::not_in_client_mode()) }
}

/// The body of `POST /admin/accounts/check`: the form and the faults of a pasted text.
#[derive(Serialize)]
struct Checked {
    recognised: Bilingual,
    missing: Option<Bilingual>,
    /// `web` or `oauth`; `null` if it is not known.
    kind: Option<&'static str>,
    label: Option<String>,
    /// End of the access token, in Unix seconds; `null` if it is renewed or unknown.
    token_expires_at: Option<UnixSeconds>,
    is_usable: bool,
}

async fn check(State(state): State<AppState>, request: Request) -> Result<Response, Response> {
    let (pasted, _) = Paste::read(&state, request).await?;
    let Report { recognised, missing, kind, label, expires_at, credential } = pasted.report;
    let kind = kind.map(AccountKind::as_str);
    let is_usable = credential.is_some();
    Ok(answer(StatusCode::OK, &Checked { recognised, missing, kind, label, token_expires_at: expires_at, is_usable }))
}

/// A body with a pasted text.
struct Paste {
    report: Report,
}

impl Paste {
    /// Reads `{"text": …}` and recognises the text.
    ///
    /// # Errors
    /// The finished error answer.
    async fn read(state: &AppState, request: Request) -> Result<(Self, Value), Response> {
        let JsonBody { value: mut body, share, .. } = read_whole(state, request).await?;
        let Some(Value::String(text)) = body.get_mut("text").map(Value::take) else {
            let words = Bilingual::new("`text` is missing: the pasted text.", "缺少 text：粘贴的内容。");
            return Err(Failure::bilingual(FailureKind::Invalid, "text_missing", words).about("text").into_response());
        };
        let now = Now::read().unix;
        // Reading a recording of many megabytes takes long, so it goes to a blocking thread.
        let read = share.work(text.len(), move || report(&text, now)).await;
        let (_share, report) = read.map_err(Failure::into_response)?;
        Ok((Self { report }, body))
    }

    /// The credential of the text.
    ///
    /// # Errors
    /// The recognised form, and the missing part.
    fn into_credential(self) -> Result<Credential, Failure> {
        let Report { recognised, missing, credential, .. } = self.report;
        credential.ok_or_else(|| {
            let missing = missing.unwrap_or_else(|| Bilingual::new("", ""));
            let en = format!("{}. {}", recognised.en.trim_end_matches('.'), missing.en);
            let zh = format!("{}。{}", recognised.zh.trim_end_matches('。'), missing.zh);
            Failure::bilingual(FailureKind::Invalid, "not_a_credential", Bilingual::new(en, zh)).about("text")
        })
    }
}

/// Reads the JSON of a body. The message for one that is too large fits a paste.
pub(crate) async fn read_body(state: &AppState, request: Request) -> Result<Value, Response> {
    read_whole(state, request).await.map(|body| body.value)
}

async fn read_whole(state: &AppState, request: Request) -> Result<JsonBody, Response> {
    match read_json(request, &state.settings()).await {
        Ok(body) => Ok(body),
        Err(refusal) if refusal.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let limit = state.settings().json_bytes_max / 1_000_000;
            let words = Bilingual::new(
                format!(
                    "The text is larger than {limit} MB (MAX_JSON). Instead of a whole recording, right-click one request to \
                     chat.qwen.ai in the developer tools and use Copy as cURL."
                ),
                format!(
                    "内容超过 {limit} MB（MAX_JSON）。不必粘贴整个网络记录：在开发者工具里右键点击一个发往 chat.qwen.ai 的请求，选择“复制为 cURL”。"
                ),
            );
            Err(Failure::bilingual(FailureKind::TooLarge, "paste_too_large", words).into_response())
        }
        Err(refusal) => Err(refusal),
    }
}

/// An answer that caches must not keep.
pub(crate) fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

//! `/admin/logins`: logging an OAuth account in from the owner's page, with a code and a picture of it.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Serialize;
use serde_json::{Value, json};

use crate::base::bilingual::Bilingual;
use crate::base::ids::UnixSeconds;
use crate::base::oauth::AccountId;
use crate::chat::failure::{Failure, FailureKind};
use crate::gateway::accounts::device_login::{Flow, FlowState, LoginFailure};
use crate::http::owner::accounts::routes::{answer, read_body};
use crate::http::state::AppState;
use crate::pool::Now;

/// The smallest side of the picture, in pixels of its own.
const PICTURE_SIDE_MIN: u32 = 240;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/logins", post(begin)).route("/admin/logins/{login}", get(look).delete(cancel))
}

/// `POST /admin/logins`: what its owner is shown.
#[derive(Serialize)]
struct Begun<'a> {
    /// Id by which its state is queried.
    login: &'a str,
    verification_uri: &'a str,
    /// The same with the code in it.
    verification_uri_complete: &'a str,
    user_code: &'a str,
    /// QR code of `verification_uri_complete`, as SVG.
    qr_svg: Option<String>,
    expires_at: UnixSeconds,
    /// Seconds between two questions how it goes.
    interval: u64,
}

async fn begin(State(state): State<AppState>, request: Request) -> Result<Response, Response> {
    if !state.settings().server_mode {
        return Err(Failure::not_in_client_mode().into_response());
    }
    let body = read_body(&state, request).await?;
    let account = match body.get("id").and_then(Value::as_str) {
        Some(id) => AccountId::parse(id).map_err(|error| Failure::invalid_account(error).into_response())?,
        None => AccountId::unnamed(),
    };
    let flow = state.0.logins.start(account).await.map_err(|error| Failure::from(&error).into_response())?;
    Ok(answer(StatusCode::CREATED, &shown(&flow)))
}

fn shown(flow: &Flow) -> Begun<'_> {
    let picture = QrCode::new(flow.verification_uri_complete.as_bytes()).ok().map(|code| {
        let mut picture = code.render::<svg::Color<'_>>();
        picture.min_dimensions(PICTURE_SIDE_MIN, PICTURE_SIDE_MIN).build()
    });
    Begun {
        login: &flow.flow_id,
        verification_uri: &flow.verification_uri,
        verification_uri_complete: &flow.verification_uri_complete,
        user_code: &flow.user_code,
        qr_svg: picture,
        expires_at: Now::read().unix.plus(i64::try_from(flow.expires_in.as_secs()).unwrap_or(0)),
        interval: flow.interval.as_secs(),
    }
}

async fn look(State(state): State<AppState>, Path(login): Path<String>) -> Result<Response, Failure> {
    let flow = state.0.logins.state(&login).ok_or_else(unknown)?;
    let body = match flow {
        FlowState::Pending => json!({"state": "waiting"}),
        FlowState::Done(identity) => json!({"state": "done", "account": identity.as_str()}),
        FlowState::Failed(LoginFailure::Expired) => json!({"state": "expired", "error": told(&LoginFailure::Expired)}),
        FlowState::Failed(failure) => json!({"state": "failed", "error": told(&failure)}),
    };
    Ok(answer(StatusCode::OK, &body))
}

async fn cancel(State(state): State<AppState>, Path(login): Path<String>) -> Result<Response, Failure> {
    if !state.0.logins.cancel(&login) {
        return Err(unknown());
    }
    Ok(answer(StatusCode::OK, &json!({"state": "failed"})))
}

fn told(failure: &LoginFailure) -> Bilingual {
    let zh = match failure {
        LoginFailure::Denied => "已在浏览器中拒绝登录。",
        LoginFailure::Expired => "验证码已过期，请重新开始。",
        LoginFailure::RateLimited { .. } => "登录次数过多，请稍后再试。",
        LoginFailure::Failed(_) => "登录失败。",
        LoginFailure::Cancelled => "登录已取消。",
    };
    Bilingual::new(failure.to_string(), zh)
}

fn unknown() -> Failure {
    let words = Bilingual::new("There is no such login; it may have ended.", "没有这个登录，或已不存在。");
    Failure::bilingual(FailureKind::NotFound, "login_not_found", words)
}

//! The OAuth door of the chat host: device codes, polls, refreshes.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST};
use serde_json::{Value, json};

use crate::answers::{Answer, JSON, Payload};
use crate::api::authorize;
use crate::api::oauth::{Poll, SCOPE, Tokens, Worth};
use crate::script::queues::Stage;
use crate::script::{Endpoint, OAuthErrorScript, OAuthFailure, ScriptedFailure, ScriptedReply, TokenBody, TokenScript};
use crate::web::stream::steps::Step;
use crate::world::{Call, World};

/// Answers a call of the OAuth door.
pub(crate) async fn answer(world: &World, call: &Call, endpoint: Endpoint) -> Answer {
    if let Some(refused) = check(call, endpoint) {
        return Answer::oauth(&OAuthFailure::Other(refused));
    }
    match endpoint {
        Endpoint::DeviceCode => device_code(world, call).await,
        Endpoint::RefreshToken => refresh(world, call).await,
        _ => poll(world, call).await,
    }
}

/// The OAuth error for a form with missing or wrong fields.
fn check(call: &Call, endpoint: Endpoint) -> Option<OAuthErrorScript> {
    let invalid = |text: &str| Some(OAuthErrorScript::new(400, "invalid_request", text));
    let content_type = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.starts_with("application/x-www-form-urlencoded") {
        return invalid("The body must be a form");
    }
    let mut needed = vec!["client_id"];
    needed.extend(match endpoint {
        Endpoint::DeviceCode => &["scope", "code_challenge", "code_challenge_method"][..],
        Endpoint::RefreshToken => &["refresh_token"],
        _ => &["device_code", "code_verifier"],
    });
    if endpoint == Endpoint::DeviceToken && call.form("grant_type").as_deref() != Some(DEVICE_GRANT) {
        return Some(OAuthErrorScript::new(400, "unsupported_grant_type", "Unsupported grant type"));
    }
    if let Some(missing) = needed.into_iter().find(|name| call.form(name).is_none_or(|value| value.is_empty())) {
        return invalid(&format!("Missing parameter: {missing}"));
    }
    let form = |name: &str| call.form(name).unwrap_or_default();
    if form("client_id") != CLIENT_ID {
        return Some(OAuthErrorScript::new(400, "invalid_client", "Unknown client"));
    }
    if endpoint == Endpoint::DeviceCode {
        if form("scope") != SCOPE {
            return Some(OAuthErrorScript::new(400, "invalid_scope", "Unknown scope"));
        }
        if form("code_challenge_method") != "S256" || form("code_challenge").len() != 43 {
            return invalid("Invalid code challenge");
        }
    }
    None
}

async fn device_code(world: &World, call: &Call) -> Answer {
    let reply = world.reply(call, Endpoint::DeviceCode, Stage::Behind).unwrap_or_default();
    wait(&reply).await;
    if let Some(failure) = &reply.fail {
        return failed(failure, call).with_headers(&reply.headers);
    }
    let script = &reply.device;
    let codes = world.oauth.begin(&call.form("code_challenge").unwrap_or_default(), script);
    let host = call.headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or("127.0.0.1");
    let page = format!("http://{host}{}", authorize::PATH);
    let user_code = &codes.user_code;
    let mut body = json!({
        "device_code": codes.device_code, "user_code": user_code, "verification_uri": page,
        "expires_in": script.expires_in,
    });
    if !script.lacks_complete_uri {
        set(&mut body, "verification_uri_complete", format!("{page}?user_code={user_code}&client=qwen-code").into());
    }
    if let Some(interval) = script.interval {
        set(&mut body, "interval", interval.into());
    }
    Answer::flat(200, &body).with_headers(&reply.headers)
}

async fn poll(world: &World, call: &Call) -> Answer {
    let device_code = call.form("device_code").unwrap_or_default();
    let (poll, faults) = world.oauth.poll(&device_code, &call.form("code_verifier").unwrap_or_default());
    for fault in faults {
        world.violation(call, &fault);
    }
    let (stage, account) = match &poll {
        Poll::Refused(failure) => return Answer::oauth(failure),
        Poll::Waiting(_) => (Stage::Failing, None),
        Poll::Ready(account) => (Stage::Behind, Some(account.as_str())),
    };
    let reply = world.reply(call, Endpoint::DeviceToken, stage).unwrap_or_default();
    wait(&reply).await;
    let answer = match (&reply.fail, &poll, account) {
        (Some(failure), _, _) => failed(failure, call),
        (None, Poll::Waiting(failure), _) => {
            world.oauth.waited(&device_code);
            Answer::oauth(failure)
        }
        (None, _, Some(_)) if reply.token.null_access_token => given(None, &reply.token),
        (None, _, account) => match world.oauth.log_in(&device_code, account.unwrap_or_default(), &reply.token) {
            Some(tokens) => given(Some(&tokens), &reply.token),
            None => Answer::oauth(&OAuthFailure::InvalidGrant),
        },
    };
    answer.with_headers(&reply.headers)
}

async fn refresh(world: &World, call: &Call) -> Answer {
    let token = call.form("refresh_token").unwrap_or_default();
    let dead = || Answer::oauth(&OAuthFailure::InvalidRefreshToken);
    let reused = || {
        world.violation(call, "reuse of a rotated refresh token");
        dead()
    };
    match world.oauth.refresh_worth(&token) {
        Worth::Good => {}
        Worth::Expired => return reused(),
        Worth::Revoked | Worth::Unknown => return dead(),
    }
    let reply = world.reply(call, Endpoint::RefreshToken, Stage::Behind).unwrap_or_default();
    if let Some(failure) = &reply.fail {
        wait(&reply).await;
        return failed(failure, call).with_headers(&reply.headers);
    }
    if reply.token.null_access_token {
        wait(&reply).await;
        return given(None, &reply.token).with_headers(&reply.headers);
    }
    // The tokens change before the wait: a client that gives up in the meantime has lost them.
    let tokens = world.oauth.refresh(&token, &reply.token);
    wait(&reply).await;
    match tokens {
        Some(tokens) => given(Some(&tokens), &reply.token).with_headers(&reply.headers),
        None => reused(),
    }
}

/// A token answer; without tokens the one whose access token is `null`.
fn given(tokens: Option<&Tokens>, script: &TokenScript) -> Answer {
    match script.body {
        TokenBody::Whole => {}
        TokenBody::Empty => return Answer::text(JSON, ""),
        TokenBody::NotJson => return Answer::text(JSON, "<!doctype html><title>One moment, please</title>"),
        TokenBody::Lost => return Answer { payload: Payload::Reset, ..Answer::text(JSON, "") },
    }
    let Some(tokens) = tokens else {
        let nothing = json!({
            "access_token": null, "refresh_token": null, "token_type": "Bearer", "expires_in": null, "scope": null,
        });
        return Answer::flat(200, &nothing);
    };
    let mut body = json!({ "access_token": tokens.access_token, "token_type": "Bearer", "scope": SCOPE });
    if let Some(token) = &tokens.refresh_token {
        set(&mut body, "refresh_token", token.as_str().into());
    }
    if !script.lacks_expires_in {
        set(&mut body, "expires_in", tokens.expires_in.into());
    }
    if let Some(url) = &tokens.resource_url {
        set(&mut body, "resource_url", url.as_str().into());
    }
    Answer::flat(200, &body)
}

fn failed(failure: &ScriptedFailure, call: &Call) -> Answer {
    let answer = Answer::failure(failure, &call.request_id, &call.path);
    answer.unwrap_or_else(|| Answer::api_steps(JSON, vec![Step::Hold], None))
}

async fn wait(reply: &ScriptedReply) {
    tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// The public client of the vendor's command line.
const CLIENT_ID: &str = "f0304373b74a44d2b584a3fb70ca9e56";

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

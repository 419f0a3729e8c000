//! The endpoints of the web chat, completions excepted: sessions, chats, settings, and what uploads and videos ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::answers::{Answer, JSON};
use crate::errors::{CHAT_GONE, REVOKED};
use crate::script::queues::Stage;
use crate::script::{Endpoint, ScriptedReply};
use crate::storage::{files, oss};
use crate::web::accounts::{Account, Standing};
use crate::web::catalogue;
use crate::web::chats::Deleted;
use crate::web::stream::steps::Step;
use crate::web::works::videos;
use crate::world::{Call, World};

/// Answers a request for anything but completions.
pub(crate) async fn answer(world: &World, call: &Call, endpoint: Endpoint) -> Answer {
    let account = match endpoint {
        Endpoint::Models | Endpoint::Auths | Endpoint::Session | Endpoint::Refresh => None,
        _ if endpoint.is_elsewhere() => None,
        _ => match refuse_caller(call) {
            Ok(account) => Some(account),
            Err(_) if call.is_v1() => return signed_out(),
            Err(answer) => return *answer,
        },
    };
    let reply = world.reply(call, endpoint, Stage::Behind).unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
    let answer = match &reply.fail {
        Some(failure) => Answer::failure(failure, &call.request_id, &call.path)
            .unwrap_or_else(|| Answer::steps(JSON, vec![Step::Hold], None)),
        None => match &account {
            Some(account) => signed_in(world, call, endpoint, account, &reply),
            None => at_the_door(world, call, endpoint),
        },
    };
    answer.with_headers(&reply.headers)
}

fn at_the_door(world: &World, call: &Call, endpoint: Endpoint) -> Answer {
    match endpoint {
        Endpoint::Models => models(call),
        Endpoint::Auths => auths(world, call),
        Endpoint::Session => session(world, call),
        Endpoint::OssGet => oss::get(world, call),
        Endpoint::MediaLink => oss::generated(world, call),
        _ => refresh(world, call),
    }
}

fn signed_in(world: &World, call: &Call, endpoint: Endpoint, account: &Arc<Account>, reply: &ScriptedReply) -> Answer {
    match endpoint {
        Endpoint::NewChat => new_chat(world, call, account),
        Endpoint::ListChats => list_chats(world, call, account),
        Endpoint::ReadChat => read_chat(world, call, account),
        Endpoint::DeleteChat => delete(world, call, account),
        Endpoint::Stop => stop(world, call, account),
        Endpoint::Settings => settings(world, call, account),
        Endpoint::Sts | Endpoint::StsV1 => files::grant(world, call, account, reply),
        Endpoint::FileParse => files::parse(world, call, account, reply),
        Endpoint::FileParseStatus => files::parse_status(world, call, account),
        Endpoint::TaskStatus | Endpoint::TaskStatusV1 => videos::status(world, call, account),
        _ => Answer::envelope(&call.request_id, &json!(true)),
    }
}

/// The answer for an unknown path.
pub(crate) fn nowhere(call: &Call) -> Answer {
    if call.bare_path().starts_with("/api/v2/") {
        return Answer::refusal(&call.request_id, "Not_Found");
    }
    Answer::flat(404, &json!({ "detail": "Not Found" }))
}

/// The account of an accepted caller, or the refusal.
pub(crate) fn refuse_caller(call: &Call) -> Result<Arc<Account>, Box<Answer>> {
    let id = &call.request_id;
    let is_mixed = call.caller.mixed.is_some();
    let refused = match (call.caller.standing, &call.caller.account) {
        (Standing::Good | Standing::SessionOnly, Some(account)) if !is_mixed => {
            return Ok(Arc::clone(account));
        }
        (Standing::Expired, _) => Answer::refusal(id, "unauthorized"),
        (Standing::Revoked, _) => Answer::refusal_with(id, "Unauthorized", REVOKED),
        _ => Answer::refusal(id, "Unauthorized"),
    };
    Err(Box::new(refused))
}

/// The refusal of the older routes.
fn signed_out() -> Answer {
    let detail = "Your session has expired or the token is invalid. Please sign in again.";
    Answer::flat(401, &json!({ "detail": detail }))
}

fn models(call: &Call) -> Answer {
    let list = json!({ "data": catalogue::models() });
    if call.bare_path() == "/api/models" {
        return Answer::flat(200, &list);
    }
    Answer::envelope(&call.request_id, &list)
}

/// Era A. Gives a fresh token and puts it into the jar, which is how an open page of the site loses its session.
fn auths(world: &World, call: &Call) -> Answer {
    let account = match refuse_caller(call) {
        Ok(account) => account,
        Err(_) => return signed_out(),
    };
    let token = world.accounts.renew_session(&account);
    let body = json!({
        "id": account.user_id, "email": account.email(), "name": &*account.name, "role": "user",
        "profile_image_url": "/static/user.png", "token": token, "token_type": "Bearer",
    });
    let mut answer = Answer::flat(200, &body);
    let age = account.script.session_seconds;
    let cookie = format!("token={token}; Max-Age={age}; Path=/; HttpOnly; SameSite=lax");
    answer.headers.push(("set-cookie".to_owned(), cookie));
    answer
}

fn session(world: &World, call: &Call) -> Answer {
    let (standing, account) = world.accounts.refresh_standing(&call.headers);
    match (standing, account) {
        (Standing::Good, Some(account)) if call.caller.mixed.is_none() => {
            Answer::envelope(&call.request_id, &account.profile())
        }
        _ => match refuse_caller(call) {
            Ok(account) => Answer::envelope(&call.request_id, &account.profile()),
            Err(answer) => *answer,
        },
    }
}

fn refresh(world: &World, call: &Call) -> Answer {
    let id = &call.request_id;
    if !call.has("x-request-origin") && !call.has("origin") {
        return Answer::refusal_with(id, "Bad_Request", "Missing origin");
    }
    if !call.has("x-request-id") || !call.has("timezone") {
        return Answer::refusal_with(id, "Bad_Request", "Invalid request header");
    }
    if call.caller.mixed.is_some() {
        return Answer::refusal(id, "Unauthorized");
    }
    let account = match world.accounts.refresh_standing(&call.headers) {
        (Standing::Good, Some(account)) => account,
        (Standing::Revoked, _) => return Answer::refusal_with(id, "Unauthorized", REVOKED),
        _ => return Answer::refusal(id, "Unauthorized"),
    };
    let grant = world.accounts.refresh(&account);
    let mut data = json!({ "access_token": grant.access_token });
    if let Some(token) = &grant.refresh_token {
        set(&mut data, "refresh_token", json!(token));
    }
    if let Some(expires_at) = grant.expires_at {
        set(&mut data, "expires_at", json!(expires_at));
    }
    let mut answer = Answer::envelope(id, &data);
    if let Some(token) = grant.refresh_token.filter(|_| grant.is_rotated) {
        let age = account.script.session_seconds;
        let cookie =
            format!("refresh_token={token}; Domain=.qwen.ai; Max-Age={age}; Path=/; HttpOnly; Secure; SameSite=None");
        answer.headers.push(("set-cookie".to_owned(), cookie));
    }
    answer
}

fn new_chat(world: &World, call: &Call, account: &Account) -> Answer {
    let body = call.json().filter(|body| body.get("models").is_some());
    let Some(body) = body else {
        let details = "[\"Field 'models': Field required\"]";
        return Answer::refusal_with(&call.request_id, "RequestValidationError", details);
    };
    let id = world.chats.create(&account.name, &body);
    Answer::envelope(&call.request_id, &json!({ "id": id }))
}

fn list_chats(world: &World, call: &Call, account: &Account) -> Answer {
    let number = |name: &str| call.query(name).and_then(|text| text.parse::<usize>().ok());
    let size = number("limit").unwrap_or(world.page_size);
    let page = world.chats.page(&account.name, number("page").unwrap_or(1), size);
    Answer::envelope(&call.request_id, &page)
}

fn read_chat(world: &World, call: &Call, account: &Account) -> Answer {
    match world.chats.read(&account.name, call.last_segment()) {
        Some(chat) => Answer::envelope(&call.request_id, &chat),
        None => Answer::refusal_with(&call.request_id, "Not_Found", CHAT_GONE),
    }
}

fn delete(world: &World, call: &Call, account: &Account) -> Answer {
    let id = &call.request_id;
    let deletes = &world.journal.tallies.deletes;
    let done = Answer::envelope(id, &json!({ "status": true }));
    let path = call.bare_path().trim_end_matches('/');
    if path == "/api/v2/chats" {
        let (gone, old) = world.chats.delete_all(&account.name);
        deletes.fetch_add(gone, Ordering::SeqCst);
        if old > 0 {
            world.violation(call, &format!("deletion of {old} chats of the owner"));
        }
        return done;
    }
    if path == "/api/v2/chats/batch_delete" {
        let body = call.json().unwrap_or_default();
        let Some(ids) = body.get("ids").and_then(Value::as_array) else {
            let details = "[\"Field 'ids': Field required\"]";
            return Answer::refusal_with(id, "RequestValidationError", details);
        };
        for chat in ids.iter().filter_map(Value::as_str) {
            delete_one(world, call, account, chat);
        }
        return done;
    }
    if delete_one(world, call, account, call.last_segment()) {
        return done;
    }
    Answer::refusal_with(id, "Not_Found", CHAT_GONE)
}

fn delete_one(world: &World, call: &Call, account: &Account, chat: &str) -> bool {
    match world.chats.delete(&account.name, chat) {
        Deleted::Done { was_old } => {
            let deletes = &world.journal.tallies.deletes;
            deletes.fetch_add(1, Ordering::SeqCst);
            if was_old {
                world.violation(call, &format!("deletion of the owner's old chat {chat}"));
            }
            true
        }
        Deleted::Foreign => {
            world.violation(call, &format!("deletion of another account's chat {chat}"));
            false
        }
        Deleted::Missing => false,
    }
}

fn stop(world: &World, call: &Call, account: &Account) -> Answer {
    let body = call.json().unwrap_or_default();
    let named = body.get("chat_id").and_then(Value::as_str);
    let chat = call.query("chat_id").or(named.map(str::to_owned));
    let chat = chat.unwrap_or_default();
    if world.chats.stop(&account.name, &chat) {
        return Answer::envelope(&call.request_id, &json!({ "status": true }));
    }
    Answer::refusal(&call.request_id, "CHAT_NOT_FOUND")
}

fn settings(world: &World, call: &Call, account: &Account) -> Answer {
    let mut all = world.settings.lock();
    let own = all.entry(Arc::clone(&account.name)).or_insert_with(|| {
        json!({
            "model_config": { "qwen3-max": { "thinking_budget": 81_920 } },
            "tools_enabled": { "web_search": true, "code_interpreter": true },
            "memory": { "enable_memory": false, "enable_history_memory": false },
            "mcp": {},
            "personalization": { "instruction": "", "enable_for_new_chat": true },
        })
    });
    if call.method == Method::POST
        && let Some(Value::Object(changes)) = call.json()
    {
        for (key, value) in changes {
            set(own, &key, value);
        }
    }
    Answer::envelope(&call.request_id, own)
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

//! The OpenAI-shaped endpoints: the portal behind OAuth, and the one with static keys.

use std::time::Duration;

use http::header::USER_AGENT;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::answers::{Answer, EVENT_STREAM, JSON};
use crate::api::chunks::{Chunks, Said, Wish};
use crate::api::embeddings::embeddings;
use crate::api::oauth::Worth;
use crate::clock::now_ms;
use crate::script::queues::Stage;
use crate::script::{
    ApiErrorScript, ApiFailure, End, Endpoint, Packets, PlanWindow, PortalScript, ScriptedFailure, ScriptedReply,
    ToolCallScript,
};
use crate::web::model::small_talk::is_chinese;
use crate::web::stream::speech::Question;
use crate::web::stream::steps::Step;
use crate::web::stream::turn::plan_frames;
use crate::world::{Call, World};

/// Answers a call of an OpenAI-shaped endpoint.
pub(crate) async fn answer(world: &World, call: &Call, endpoint: Endpoint, attempt: u64) -> Answer {
    let portal = world.portal.lock().clone();
    let checked = match endpoint {
        Endpoint::PortalModels if !portal.lists_models => {
            Err(ApiFailure::Other(ApiErrorScript::new(404, "not_found", "Not Found")))
        }
        Endpoint::PortalChat | Endpoint::PortalModels => check_token(world, call, &portal),
        _ => check_key(world, call),
    };
    let body = match endpoint {
        Endpoint::PortalChat => {
            checked.and_then(|()| check_chat(call)).and_then(|body| check_portal(call, &portal, body))
        }
        Endpoint::KeyChat => checked.and_then(|()| check_chat(call)).and_then(|body| check_window(world, call, body)),
        Endpoint::KeyEmbeddings => checked.and_then(|()| call.json().ok_or(ApiFailure::InvalidParameter)),
        _ => checked.map(|()| Value::Null),
    };
    let body = match body {
        Ok(body) => body,
        Err(failure) => return Answer::api(&failure, &call.request_id),
    };
    let reply = world.reply(call, endpoint, Stage::Behind).unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
    let answer = match &reply.fail {
        Some(failure) => failed(failure, call, &body),
        None => match endpoint {
            Endpoint::PortalChat | Endpoint::KeyChat => chat(world, call, &body, &reply, attempt),
            Endpoint::KeyEmbeddings => match embeddings(&body, &call.request_id) {
                Ok(list) => Answer::flat(200, &list),
                Err(error) => Answer::api(&ApiFailure::Other(error), &call.request_id),
            },
            Endpoint::PortalModels if !portal.models.is_empty() => models(portal.models.iter().map(String::as_str)),
            Endpoint::PortalModels => models(PORTAL_MODELS.iter().copied()),
            _ => models(KEY_MODELS.iter().copied()),
        },
    };
    answer.with_headers(&reply.headers)
}

fn check_token(world: &World, call: &Call, portal: &PortalScript) -> Result<(), ApiFailure> {
    let token = call.bearer().unwrap_or_default();
    if world.oauth.key_owner(token).is_some() {
        world.violation(call, "a static key sent to the portal");
    }
    if portal.free_tier_closed || world.oauth.worth(token) != Worth::Good {
        return Err(ApiFailure::InvalidToken);
    }
    Ok(())
}

fn check_key(world: &World, call: &Call) -> Result<(), ApiFailure> {
    let key = call.bearer().unwrap_or_default();
    if world.oauth.owner(key).is_some() {
        world.violation(call, "an OAuth token sent to the endpoint with keys");
    }
    if world.oauth.key_worth(key) == Worth::Good { Ok(()) } else { Err(ApiFailure::IncorrectKey) }
}

/// Counts what is good so far.
fn check_window(world: &World, call: &Call, body: Value) -> Result<Value, ApiFailure> {
    let owner = call.bearer().and_then(|key| world.oauth.key_owner(key));
    if owner.is_some_and(|owner| !world.oauth.uses(owner)) {
        return Err(ApiFailure::Window(PlanWindow::Hour));
    }
    Ok(body)
}

fn check_chat(call: &Call) -> Result<Value, ApiFailure> {
    let body = call.json().ok_or(ApiFailure::InvalidParameter)?;
    let has_messages = messages(&body).is_some_and(|messages| !messages.is_empty());
    let has_model = body.get("model").and_then(Value::as_str).is_some_and(|model| !model.is_empty());
    if has_messages && has_model { Ok(body) } else { Err(ApiFailure::InvalidParameter) }
}

fn check_portal(call: &Call, portal: &PortalScript, body: Value) -> Result<Value, ApiFailure> {
    let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_the_vendors = header(USER_AGENT.as_str()).starts_with("QwenCode/")
        && header("x-dashscope-useragent").starts_with("QwenCode/")
        && header("x-dashscope-authtype") == "qwen-oauth";
    if portal.needs_identity && !is_the_vendors {
        return Err(ApiFailure::Quota);
    }
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if !portal.models.is_empty() && !portal.models.iter().any(|known| known == model) {
        return Err(ApiFailure::ModelNotSupported);
    }
    if portal.needs_system_parts && !begins_with_parts(&body) {
        return Err(ApiFailure::InvalidParameter);
    }
    Ok(body)
}

/// Whether the first message is a system message of text parts, one of which is to be cached.
fn begins_with_parts(body: &Value) -> bool {
    let first = messages(body).and_then(|messages| messages.first());
    let Some(first) = first.filter(|first| first.get("role").and_then(Value::as_str) == Some("system")) else {
        return false;
    };
    let parts = first.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_cached = |part: &Value| part.pointer("/cache_control/type").and_then(Value::as_str) == Some("ephemeral");
    parts.iter().any(is_cached)
}

fn failed(failure: &ScriptedFailure, call: &Call, body: &Value) -> Answer {
    Answer::failure(failure, &call.request_id, &call.path).unwrap_or_else(|| {
        let content_type = if is_stream(body) { EVENT_STREAM } else { JSON };
        Answer::api_steps(content_type, vec![Step::Hold], None)
    })
}

fn chat(world: &World, call: &Call, body: &Value, reply: &ScriptedReply, attempt: u64) -> Answer {
    let wish = wish(body, attempt, world.small_talk);
    let said = Said::new(&reply.stream, &reply.chat, &wish);
    let id = Uuid::new_v4();
    let chunks = Chunks {
        id: format!("chatcmpl-{id}"),
        request_id: call.request_id.clone(),
        model: body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned(),
        created: now_ms() / 1000,
        form: reply.chat.chunks,
    };
    if is_stream(body) {
        let frames = chunks.frames(&said, &reply.stream, &reply.chat, wish.wants_usage);
        let steps = plan_frames(&reply.stream, &chunks, frames, world.pace_ms);
        return Answer::api_steps(EVENT_STREAM, steps, Some(chunks.id));
    }
    let whole = chunks.whole(&said);
    let script = &reply.stream;
    let is_plain = script.cut.is_none() && script.packets == Packets::Frames && script.first_event_ms == 0;
    if is_plain && script.end == End::Finished {
        return Answer::flat(200, &whole);
    }
    // The second frame is for an end to take away.
    let steps = plan_frames(script, &chunks, vec![whole.to_string(), String::new()], 0);
    Answer::api_steps(JSON, steps, None)
}

fn wish(body: &Value, attempt: u64, small_talk: bool) -> Wish {
    let last = messages(body).and_then(|messages| messages.last());
    let last_role = last.and_then(|last| last.get("role")).and_then(Value::as_str);
    let of_user = messages(body).into_iter().flatten().rev();
    let mut of_user = of_user.filter(|message| message.get("role").and_then(Value::as_str) == Some("user"));
    let asked = of_user.next().map(text_of).unwrap_or_default();
    let prompt = match (last, last_role) {
        (Some(last), Some("tool")) if small_talk && is_chinese(&asked) => format!("echo: 查到了：{}", text_of(last)),
        (Some(last), Some("tool")) => format!("echo: The tool said: {}", text_of(last)),
        _ => asked,
    };
    let is_of_model = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("assistant");
    let of_model = messages(body).into_iter().flatten().filter(is_of_model);
    // Only how many there were, which a model to talk to changes its answers by.
    let earlier = of_model.filter(|_| small_talk).map(|_| ("assistant", String::new())).collect();
    let pictures = messages(body).into_iter().flatten().map(pictures_of).sum();
    let wants_thinking = body.get("enable_thinking").and_then(Value::as_bool) == Some(true);
    let tokens_max = [body.get("max_tokens"), body.get("max_completion_tokens")];
    let tokens_max = tokens_max.into_iter().flatten().find_map(Value::as_u64);
    Wish {
        calls: if last_role == Some("tool") { Vec::new() } else { calls(body, &prompt) },
        question: Question {
            prompt,
            earlier,
            reads_tools: false,
            small_talk,
            declared: Vec::new(),
            wants_thinking,
            wants_raw_thinking: true,
            wants_search: false,
            seen: (pictures > 0).then(|| format!("Pictures that came along: {pictures}.")),
            pictures,
            document_tokens: 0,
            attempt,
            second_response_id: String::new(),
        },
        tokens_max: tokens_max.and_then(|most| usize::try_from(most).ok()),
        wants_usage: body.pointer("/stream_options/include_usage").and_then(Value::as_bool) == Some(true),
    }
}

/// Lines `call: NAME ARGUMENTS` of the prompt, as far as there are such tools; else the first tool, if one has to be
/// called.
fn calls(body: &Value, prompt: &str) -> Vec<ToolCallScript> {
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<&str> = tools.filter_map(|tool| tool.pointer("/function/name").and_then(Value::as_str)).collect();
    let choice = body.get("tool_choice");
    if choice.and_then(Value::as_str) == Some("none") {
        return Vec::new();
    }
    let lines = prompt.lines().filter_map(|line| line.trim().strip_prefix("call:"));
    let asked = lines.filter_map(|line| {
        let line = line.trim();
        let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, "{}"));
        names.contains(&name).then(|| called(name, arguments.trim()))
    });
    let asked: Vec<_> = asked.collect();
    if !asked.is_empty() {
        return asked;
    }
    let named = choice.and_then(|choice| choice.pointer("/function/name")).and_then(Value::as_str);
    let is_required = choice.and_then(Value::as_str) == Some("required");
    let forced = named.or(names.first().copied().filter(|_| is_required));
    forced.map(|name| called(name, "{}")).into_iter().collect()
}

fn called(name: &str, arguments: &str) -> ToolCallScript {
    ToolCallScript { name: name.to_owned(), arguments: arguments.to_owned(), id: None }
}

fn models<'a>(ids: impl Iterator<Item = &'a str>) -> Answer {
    let list = ids.map(|id| json!({ "id": id, "object": "model", "created": 1_754_686_206, "owned_by": "system" }));
    Answer::flat(200, &json!({ "object": "list", "data": list.collect::<Vec<_>>() }))
}

fn messages(body: &Value) -> Option<&Vec<Value>> {
    body.get("messages").and_then(Value::as_array)
}

fn is_stream(body: &Value) -> bool {
    body.get("stream").and_then(Value::as_bool) == Some(true)
}

fn text_of(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
            texts.collect::<Vec<_>>().concat()
        }
        _ => String::new(),
    }
}

fn pictures_of(message: &Value) -> u64 {
    let parts = message.get("content").and_then(Value::as_array).into_iter().flatten();
    parts.map(|part| u64::from(part.get("image_url").is_some())).sum()
}

const PORTAL_MODELS: &[&str] = &["coder-model", "vision-model", "qwen3-coder-plus", "qwen3-coder-flash"];

const KEY_MODELS: &[&str] = &["qwen3.7-max", "qwen3.7-plus", "qwen3-coder-plus", "qwen3-vl-plus", "text-embedding-v4"];

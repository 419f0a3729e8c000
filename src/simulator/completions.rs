//! `POST /api/v2/chat/completions`: the checks in their order, then the stream.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::simulator::accounts::{Account, Standing, now_ms};
use crate::simulator::answers::{Answer, EVENT_STREAM};
use crate::simulator::catalogue::always_thinks;
use crate::simulator::chats::{Asked, Turn, TurnRefused};
use crate::simulator::endpoints::refuse_caller;
use crate::simulator::errors::INVALID_INPUT;
use crate::simulator::frames::Voice;
use crate::simulator::reply::{Challenge, ChallengeForm, ErrorScript, Failure, Reply};
use crate::simulator::scenario::Endpoint;
use crate::simulator::scripts::Stage;
use crate::simulator::speech::Question;
use crate::simulator::steps::Step;
use crate::simulator::stream::{Bench, Content, StreamError, StreamScript};
use crate::simulator::turn::{bench_packets, plan, plan_bench};
use crate::simulator::world::{BenchStream, Call, World};

/// What a good request asks for.
struct Request {
    asked: Asked,
    role: String,
    chat_type: String,
    wants_thinking: bool,
    wants_raw_thinking: bool,
    has_phases: bool,
}

/// Answers a completion.
pub(crate) async fn complete(world: &World, call: &Call, attempt: u64) -> Answer {
    let (account, request) = match check(world, call) {
        Ok(checked) => checked,
        Err(answer) => return *answer,
    };
    let is_text = TEXT_TYPES.contains(&&*request.chat_type);
    let stage = if is_text { Stage::Behind } else { Stage::Failing };
    let reply = world.reply(call, Endpoint::Completions, stage);
    let reply = reply.unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
    let failure = reply.fail.as_ref();
    let failed = failure.and_then(|one| Answer::failure(one, &call.request_id, &call.path));
    if let Some(answer) = failed {
        return answer.with_headers(&reply.headers);
    }
    if !is_text && reply.fail.is_none() {
        return Answer::error(&call.request_id, &no_media());
    }
    let bench = reply.stream.bench.map(|bench| bench_stream(world, bench));
    let response_id = bench.as_ref().map(|bench| bench.response_id.clone());
    let response_id = response_id.unwrap_or_else(|| Uuid::new_v4().to_string());
    match world.chats.begin(&account.name, &request.asked, response_id) {
        Ok(turn) => stream(world, &reply, turn, &request, attempt, bench).with_headers(&reply.headers),
        Err(refused) => refuse_turn(world, call, &request, &refused),
    }
}

fn stream(
    world: &World,
    reply: &Reply,
    mut turn: Turn,
    request: &Request,
    attempt: u64,
    bench: Option<BenchStream>,
) -> Answer {
    let voice = Voice {
        chat_id: turn.chat_id.clone(),
        parent_id: turn.parent_id.clone(),
        response_id: turn.response_id.clone(),
        index: 0,
        timestamp: now_ms() / 1000,
        has_phases: request.has_phases,
    };
    if reply.fail == Some(Failure::Silence) {
        return Answer::steps(EVENT_STREAM, vec![Step::Hold], Some(turn));
    }
    if let Some(bench) = bench {
        let steps = plan_bench(&reply.stream, &voice, bench.packets, world.pace_ms);
        return Answer::steps(EVENT_STREAM, steps, Some(turn));
    }
    let refuses_haste = always_thinks(&request.asked.model) && !request.wants_thinking;
    let script = if request.role == "system" {
        &StreamScript { content: Content::Created, ..StreamScript::default() }
    } else if refuses_haste {
        &StreamScript {
            error: Some(StreamError {
                after: 1,
                code: "invalid_input".to_owned(),
                details: INVALID_INPUT.to_owned(),
                ..StreamError::default()
            }),
            ..StreamScript::default()
        }
    } else {
        &reply.stream
    };
    let question = Question {
        prompt: request.asked.content.clone(),
        wants_thinking: request.wants_thinking,
        wants_raw_thinking: request.wants_raw_thinking,
        wants_search: request.chat_type == "search",
        attempt,
        second_response_id: Uuid::new_v4().to_string(),
    };
    let plan = plan(script, &voice, &question, world.pace_ms);
    turn.answer = plan.answer;
    Answer::steps(EVENT_STREAM, plan.steps, Some(turn))
}

/// The checks that need no chat, in the order of the real one: edge, session, body.
fn check(world: &World, call: &Call) -> Result<(Arc<Account>, Request), Box<Answer>> {
    let id = &call.request_id;
    let challenged = call.body.len() > BODY_BYTES_MAX || (call.caller.has_bearer && !call.caller.has_cookies);
    if challenged {
        let challenge = Challenge { form: ChallengeForm::Json, status: 200 };
        return Err(Box::new(Answer::challenge(challenge, &call.path)));
    }
    let account = refuse_caller(call)?;
    if call.caller.standing == Standing::SessionOnly {
        return Err(Box::new(Answer::refusal(id, "Unauthorized")));
    }
    let bad = |details: &str| Err(Box::new(Answer::refusal_with(id, "Bad_Request", details)));
    if !call.has("version") {
        return bad(INTERNAL);
    }
    let Some(body) = call.json() else {
        let details = "[\"Body: JSON decode error\"]";
        let answer = Answer::refusal_with(id, "RequestValidationError", details);
        return Err(Box::new(answer));
    };
    let Some(chat_id) = body.get("chat_id").and_then(Value::as_str) else {
        return Err(Box::new(Answer::refusal(id, "RequestValidationError")));
    };
    if call.query("chat_id").as_deref() != Some(chat_id) {
        world.violation(call, "chat_id of the query and of the body differ");
    }
    let messages = body.get("messages").and_then(Value::as_array);
    let message = match messages.map(Vec::as_slice) {
        Some([message]) => message,
        Some([_, _, ..]) => return bad("Invalid input too many messages."),
        Some([]) | None => {
            let details = "[\"Field 'messages': Field required\"]";
            let answer = Answer::refusal_with(id, "RequestValidationError", details);
            return Err(Box::new(answer));
        }
    };
    let request = Request::read(&body, message, chat_id);
    if !CHAT_TYPES.contains(&&*request.chat_type) {
        return bad(INTERNAL);
    }
    let sub_types = [message.get("sub_chat_type"), message.pointer("/extra/meta/subChatType")];
    let given = sub_types.into_iter().flatten().filter_map(Value::as_str);
    if given.into_iter().any(|sub| sub != request.chat_type) && request.chat_type != "artifacts" {
        world.violation(call, "the three chat types of the message differ");
    }
    if request.role == "function" {
        return bad("Something wrong with request!");
    }
    // Refusals that depend on the chat come before any scripted reply is used up.
    match world.chats.would_refuse(&account.name, &request.asked) {
        Some(refused) => Err(Box::new(refuse_turn(world, call, &request, &refused))),
        None => Ok((account, request)),
    }
}

/// What pictures and videos are answered until they are simulated.
fn no_media() -> ErrorScript {
    ErrorScript { code: "internal_error".to_owned(), effective_status: Some(400), ..ErrorScript::default() }
}

fn refuse_turn(world: &World, call: &Call, request: &Request, refused: &TurnRefused) -> Answer {
    let id = &call.request_id;
    let chat = &request.asked.chat_id;
    match refused {
        TurnRefused::NoSuchChat => Answer::refusal(id, "CHAT_NOT_FOUND"),
        TurnRefused::ForeignChat => {
            world.violation(call, &format!("message to another account's chat {chat}"));
            Answer::refusal(id, "CHAT_NOT_FOUND")
        }
        TurnRefused::NoSuchParent => Answer::refusal(id, "PARENT_NOT_FOUND"),
        TurnRefused::Busy => {
            world.violation(call, &format!("a second answer at the same time in chat {chat}"));
            Answer::refusal_with(id, "Bad_Request", "The chat is in progress!")
        }
    }
}

impl Request {
    fn read(body: &Value, message: &Value, chat_id: &str) -> Self {
        let text = |value: Option<&Value>| {
            let text = value.and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let features = message.get("feature_config");
        let feature = |name: &str| features.and_then(|features| features.get(name));
        let parents = [body.get("parent_id"), message.get("parent_id"), message.get("parentId"), body.get("parentId")];
        let mut parents = parents.into_iter().flatten().filter_map(Value::as_str);
        let content = match message.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        Self {
            asked: Asked {
                chat_id: chat_id.to_owned(),
                parent_id: parents.find(|id| !id.is_empty()).map(str::to_owned),
                content,
                model: text(body.get("model")),
            },
            role: text(message.get("role")),
            chat_type: text(message.get("chat_type")),
            wants_thinking: feature("thinking_enabled").and_then(Value::as_bool) == Some(true),
            wants_raw_thinking: feature("thinking_format").and_then(Value::as_str) == Some("full"),
            has_phases: feature("output_schema").and_then(Value::as_str) == Some("phase"),
        }
    }
}

fn bench_stream(world: &World, bench: Bench) -> BenchStream {
    let mut benches = world.benches.lock();
    let stream = benches.entry(bench).or_insert_with(|| {
        let response_id = Uuid::new_v4().to_string();
        let voice = Voice {
            chat_id: String::new(),
            parent_id: String::new(),
            response_id: response_id.clone(),
            index: 0,
            timestamp: now_ms() / 1000,
            has_phases: true,
        };
        let packets = bench_packets(bench, &voice);
        BenchStream { response_id, packets }
    });
    stream.clone()
}

/// Above this the risk engine answers.
const BODY_BYTES_MAX: usize = 131_072;

const INTERNAL: &str = "Internal error, please try again later.";

/// All that the site knows.
const CHAT_TYPES: &[&str] = &[
    "t2t",
    "search",
    "t2i",
    "image_edit",
    "t2v",
    "i2v",
    "deep_research",
    "web_dev",
    "artifacts",
    "learn",
    "slides",
    "travel",
    "translate",
    "aipodcast",
    "deep_research_webdev",
    "agent_mode",
];

/// Those that are simulated. Pictures and videos come later.
const TEXT_TYPES: &[&str] = &["t2t", "search", "artifacts", "web_dev", "learn"];

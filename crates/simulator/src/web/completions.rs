//! `POST /api/v2/chat/completions`: the checks in their order, then the stream.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::answers::{Answer, EVENT_STREAM};
use crate::clock::now_ms;
use crate::script::queues::Stage;
use crate::script::{
    Bench, Challenge, ChallengeForm, Content, DeclaredTools, Endpoint, ErrorScript, ScriptedFailure, ScriptedReply,
    StreamError, StreamScript,
};
use crate::web::accounts::{Account, Standing};
use crate::web::attachments::{self, Attached, invalid_input, sentence};
use crate::web::catalogue::always_thinks;
use crate::web::chats::{Asked, Turn, TurnRefused};
use crate::web::model::prompt::Tool;
use crate::web::site::refuse_caller;
use crate::web::stream::frames::Voice;
use crate::web::stream::speech::Question;
use crate::web::stream::steps::Step;
use crate::web::stream::turn::{bench_packets, plan, plan_bench, plan_frames};
use crate::web::works::media::{Size, size_of};
use crate::web::works::pictures::{self, count_in};
use crate::web::works::research;
use crate::web::works::videos::{self, Wish};
use crate::world::{BenchStream, Call, World};

/// The fields of an accepted request.
struct Request {
    asked: Asked,
    role: String,
    wants_thinking: bool,
    wants_raw_thinking: bool,
    has_phases: bool,
    mode: Mode,
    size: Option<String>,
    /// Tools of the client, as far as the account takes them.
    declared: Vec<Tool>,
    /// The attached files, or the error frame that refuses them.
    files: Result<Vec<Attached>, StreamError>,
}

/// The kind of answer, by the chat type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Text,
    Research,
    Picture,
    Video,
    /// A chat type that the site knows and the simulator refuses.
    Other,
}

/// Checks a message, then answers it with a stream, an envelope or a scripted failure.
pub(crate) async fn complete(world: &World, call: &Call, attempt: u64) -> Answer {
    let (account, request) = match check(world, call) {
        Ok(checked) => checked,
        Err(answer) => return *answer,
    };
    let stage = if request.mode == Mode::Other { Stage::Failing } else { Stage::Behind };
    // A message with unusable files uses up no scripted reply.
    let reply = request.files.as_ref().ok().and_then(|_| world.reply(call, Endpoint::Completions, stage));
    let reply = reply.unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
    let failure = reply.fail.as_ref();
    let failed = failure.and_then(|one| Answer::failure(one, &call.request_id, &call.path));
    if let Some(answer) = failed {
        return answer.with_headers(&reply.headers);
    }
    match (&request.files, request.mode, &reply.fail) {
        (_, Mode::Other, None) => return Answer::error(&call.request_id, &not_simulated()),
        (Err(fault), Mode::Video, _) => return Answer::refusal_with(&call.request_id, &fault.code, &fault.details),
        _ => {}
    }
    let bench = reply.stream.bench.map(|bench| bench_stream(world, bench));
    let response_id = bench.as_ref().map(|bench| bench.response_id.clone());
    let response_id = response_id.unwrap_or_else(|| Uuid::new_v4().to_string());
    let turn = match world.chats.begin(&account.name, &request.asked, response_id) {
        Ok(turn) => turn,
        Err(refused) => return refuse_turn(world, call, &request, &refused),
    };
    let answer = match request.mode {
        Mode::Video if reply.fail.is_none() => {
            let wish = Wish { chat_type: &request.asked.chat_type, ratio: request.size.as_deref().unwrap_or("16:9") };
            videos::begin(world, call, &account, turn, &wish, &reply.video)
        }
        _ => {
            let play = Play { world, call, account: &account, reply: &reply, request: &request, attempt };
            play.stream(turn, bench)
        }
    };
    answer.with_headers(&reply.headers)
}

/// Everything that a stream depends on.
struct Play<'a> {
    world: &'a World,
    call: &'a Call,
    account: &'a Arc<Account>,
    reply: &'a ScriptedReply,
    request: &'a Request,
    attempt: u64,
}

impl Play<'_> {
    fn stream(&self, mut turn: Turn, bench: Option<BenchStream>) -> Answer {
        let Self { world, reply, request, .. } = self;
        let voice = Voice {
            chat_id: turn.chat_id.clone(),
            parent_id: turn.parent_id.clone(),
            response_id: turn.response_id.clone(),
            index: 0,
            timestamp: now_ms() / 1000,
            has_phases: request.has_phases,
        };
        if reply.fail == Some(ScriptedFailure::Silence) {
            return Answer::steps(EVENT_STREAM, vec![Step::Hold], Some(turn));
        }
        if let Some(bench) = bench {
            let steps = plan_bench(&reply.stream, &voice, bench.packets, world.pace_ms);
            return Answer::steps(EVENT_STREAM, steps, Some(turn));
        }
        if let Some(error) = self.fault() {
            let script = StreamScript { error: Some(error), ..StreamScript::default() };
            let steps = plan_frames(&script, &voice, vec![voice.created()], world.pace_ms);
            return Answer::steps(EVENT_STREAM, steps, Some(turn));
        }
        if request.mode == Mode::Picture {
            return self.pictures(turn, &voice);
        }
        let nothing = StreamScript { content: Content::Created, ..StreamScript::default() };
        let script = if request.role == "system" { &nothing } else { &reply.stream };
        let files = request.files.as_deref().unwrap_or_default();
        let question = Question {
            prompt: request.asked.content.clone(),
            earlier: world.chats.before(&turn),
            reads_tools: true,
            small_talk: world.small_talk,
            declared: request.declared.clone(),
            wants_thinking: request.wants_thinking,
            wants_raw_thinking: request.wants_raw_thinking,
            wants_search: request.asked.chat_type == "search",
            seen: sentence(files),
            pictures: files.iter().map(|file| u64::from(file.is_picture())).sum(),
            document_tokens: files.iter().map(|file| file.tokens).sum(),
            attempt: self.attempt,
            second_response_id: Uuid::new_v4().to_string(),
        };
        if request.mode == Mode::Research {
            let (frames, answer) = research::frames(&reply.research, &reply.stream, &voice, &question);
            turn.answer = answer;
            let steps = plan_frames(&reply.stream, &voice, frames, world.pace_ms);
            return Answer::steps(EVENT_STREAM, steps, Some(turn));
        }
        let plan = plan(script, reply.tools.as_ref(), &voice, &question, world.pace_ms);
        turn.answer = plan.answer;
        Answer::steps(EVENT_STREAM, plan.steps, Some(turn))
    }

    /// The error frame in place of an answer, for a request that cannot be answered.
    fn fault(&self) -> Option<StreamError> {
        let request = self.request;
        let files = match &request.files {
            Ok(files) => files,
            Err(fault) => return Some(fault.clone()),
        };
        let has_picture = files.iter().any(Attached::is_picture);
        let is_at_fault = match request.mode {
            Mode::Picture => request.asked.chat_type == "image_edit" && !has_picture,
            _ => always_thinks(&request.asked.model) && !request.wants_thinking && request.role != "system",
        };
        is_at_fault.then(invalid_input)
    }

    fn pictures(&self, mut turn: Turn, voice: &Voice) -> Answer {
        let Self { world, reply, request, .. } = self;
        let script = &reply.picture;
        let size = size_of(request.size.as_deref().unwrap_or("1:1")).unwrap_or(Size { width: 256, height: 256 });
        let count = script.count.unwrap_or_else(|| count_in(&request.asked.content));
        let ids = (turn.chat_id.as_str(), turn.response_id.as_str());
        let base = world.media_base(self.call);
        let pictures: Vec<_> = (0..count).map(|_| world.media.picture(&base, self.account, ids, size)).collect();
        let frames = pictures::frames(script, &reply.stream, voice, &pictures);
        let remembered = pictures::remembered(script, &reply.stream, &pictures);
        turn.answer = remembered.content;
        turn.parts = Some(remembered.parts);
        turn.late_reads = script.late_reads;
        let steps = plan_frames(&reply.stream, voice, frames, world.pace_ms);
        Answer::steps(EVENT_STREAM, steps, Some(turn))
    }
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
    let mut request = Request::read(&body, message, chat_id);
    if !CHAT_TYPES.contains(&&*request.asked.chat_type) {
        return bad(INTERNAL);
    }
    if request.mode != Mode::Text && request.size.as_deref().is_some_and(|size| size_of(size).is_none()) {
        return bad("Invalid size.");
    }
    inspect(world, call, &request, &body, message);
    let is_refused = !request.declared.is_empty() && account.script.declared_tools == DeclaredTools::Refused;
    if request.role == "function" || is_refused {
        return bad("Something wrong with request!");
    }
    if account.script.declared_tools == DeclaredTools::Ignored {
        request.declared.clear();
    }
    // Refusals that depend on the chat come before any scripted reply is used up.
    if let Some(refused) = world.chats.would_refuse(&account.name, &request.asked) {
        return Err(Box::new(refuse_turn(world, call, &request, &refused)));
    }
    if request.mode == Mode::Video
        && let Some(limit) = world.tasks.refusal(&account)
    {
        return Err(Box::new(Answer::error(id, &limit)));
    }
    let entries = message.get("files").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    request.files = attachments::check(world, call, &account, entries);
    if let Ok(files) = &request.files {
        let needs_frame = request.asked.chat_type == "i2v" && !files.first().is_some_and(Attached::is_picture);
        if needs_frame {
            request.files = Err(invalid_input());
        } else if request.mode == Mode::Text {
            attachments::inspect_senses(world, call, &request.asked.model, files);
        }
    }
    Ok((account, request))
}

/// Records violations: fields that the site would have sent differently.
fn inspect(world: &World, call: &Call, request: &Request, body: &Value, message: &Value) {
    let chat_type = &*request.asked.chat_type;
    let sub_types = [message.get("sub_chat_type"), message.pointer("/extra/meta/subChatType")];
    let given = sub_types.into_iter().flatten().filter_map(Value::as_str);
    if given.into_iter().any(|sub| sub != chat_type) && chat_type != "artifacts" {
        world.violation(call, "the three chat types of the message differ");
    }
    let declared = message.pointer("/feature_config/local_mcp");
    if declared.is_some_and(|declared| !is_declaration(declared)) {
        world.violation(call, "local_mcp is no declaration of tools");
    }
    if request.asked.parent_id.is_none()
        && matches!(request.mode, Mode::Text | Mode::Research)
        && world.chats.is_used(&request.asked.chat_id)
    {
        world.violation(call, "a later message of a chat without a parent");
    }
    if !matches!(request.mode, Mode::Picture | Mode::Video) {
        return;
    }
    let streams = body.get("stream").and_then(Value::as_bool) == Some(true);
    if streams != (request.mode == Mode::Picture) {
        world.violation(call, &format!("stream is {streams} for chat type {chat_type}"));
    }
    let inner = message.pointer("/extra/meta/size").and_then(Value::as_str);
    if inner.is_some_and(|inner| inner != "auto" && Some(inner) != request.size.as_deref()) {
        world.violation(call, "the two sizes of the message differ");
    }
    let made_for = world.chats.type_of_unused(&request.asked.chat_id);
    if let Some(made_for) = made_for.filter(|made_for| made_for != chat_type) {
        world.violation(call, &format!("chat type {chat_type} in a new chat that was made for {made_for}"));
    }
}

/// Whether `local_mcp` has servers, each with tools that have a description and a schema.
fn is_declaration(declared: &Value) -> bool {
    let is_tool = |tool: &Value| {
        tool.get("description").is_some_and(Value::is_string)
            && tool.pointer("/input_schema/type").is_some_and(|kind| kind == "object")
    };
    let is_server = |server: &Value| server.as_object().is_some_and(|tools| tools.values().all(is_tool));
    declared.as_object().is_some_and(|servers| servers.values().all(is_server))
}

/// The tools of `local_mcp`.
fn declared_tools(declared: &Value) -> Vec<Tool> {
    let servers = declared.as_object().into_iter().flat_map(Map::values);
    let tools = servers.filter_map(Value::as_object).flatten();
    let tool = |(name, tool): (&String, &Value)| Tool {
        name: name.clone(),
        parameters: tool.get("input_schema").cloned().unwrap_or_default(),
    };
    tools.map(tool).collect()
}

/// The error envelope for chat types that are not simulated.
fn not_simulated() -> ErrorScript {
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

impl Mode {
    fn of(chat_type: &str) -> Self {
        match chat_type {
            "t2t" | "search" | "artifacts" | "web_dev" | "learn" | "translate" | "vqa" => Self::Text,
            "deep_research" => Self::Research,
            "t2i" | "image_edit" => Self::Picture,
            "t2v" | "i2v" => Self::Video,
            _ => Self::Other,
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
        let chat_type = text(message.get("chat_type"));
        Self {
            asked: Asked {
                chat_id: chat_id.to_owned(),
                parent_id: parents.find(|id| !id.is_empty()).map(str::to_owned),
                content,
                model: text(body.get("model")),
                files: message.get("files").cloned().unwrap_or_else(|| Value::Array(Vec::new())),
                chat_type: chat_type.clone(),
            },
            role: text(message.get("role")),
            wants_thinking: feature("thinking_enabled").and_then(Value::as_bool) == Some(true),
            wants_raw_thinking: feature("thinking_format").and_then(Value::as_str) == Some("full"),
            has_phases: feature("output_schema").and_then(Value::as_str) == Some("phase"),
            mode: Mode::of(&chat_type),
            size: body.get("size").and_then(Value::as_str).map(str::to_owned),
            declared: feature("local_mcp").map(declared_tools).unwrap_or_default(),
            files: Ok(Vec::new()),
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

/// Larger bodies are answered by the risk engine, in bytes.
const BODY_BYTES_MAX: usize = 131_072;

const INTERNAL: &str = "Internal error, please try again later.";

/// The chat types that the site knows.
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
    "vqa",
    "aipodcast",
    "deep_research_webdev",
    "agent_mode",
];

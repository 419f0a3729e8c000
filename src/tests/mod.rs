//! The whole way of an answer: upstream bytes to events, to OpenAI's stream and to OpenAI's whole answer.

mod cuts;
mod drift;
mod files;
mod files_for_web;
mod fixtures;
mod golden;
mod openai_dialect;
mod phases;
mod replies;
mod requests;
mod responses;
mod tool_stage;

use serde_json::{Value, json};

use crate::chat::error::RequestError;
use crate::chat::job::ReasoningFormat;
use crate::chat::model_map::ModelMap;
use crate::chat::models::ModelInfo;
use crate::chat::reply::{Extra, FinishReason, ReplyError, ReplyEvent, ReplySink, TokenCounts};
use crate::chat::resolve::Rules;
use crate::chat::stages::{StagePlan, Stages};
use crate::dialect::openai::reply::{CallForm, ChunkEncoder, ChunkStream, WholeReply};
use crate::dialect::openai::request::ChatCompletionRequest;
use crate::dialect::writer::StreamWriter as _;
use crate::files::blob::Blob;
use crate::sse::{SseDecoder, SseError};
use crate::upstream::web::decode::QwenReplyDecoder;
use crate::upstream::web::request::WebRequest;
use crate::upstream::web::request::tools::WebTools;

/// The result of reading one upstream stream.
#[derive(Debug, PartialEq)]
struct Answer {
    events: Vec<String>,
    outcome: Result<(), ReplyError>,
    response_id: Option<String>,
    counts: Option<TokenCounts>,
    /// As the caller gets it; without its end when the answer failed.
    stream: String,
    whole: Value,
}

#[derive(Debug)]
enum Failure {
    Framing,
    Reply(ReplyError),
}

impl From<SseError> for Failure {
    fn from(_: SseError) -> Self {
        Self::Framing
    }
}

/// The stages of the answer to a request with one user message and `more`.
fn job(more: &Value) -> StagePlan {
    let mut body = json!({"model": "qwen3-max", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let chat = ChatCompletionRequest::parse(&body, &[]).unwrap().chat;
    let job = chat.resolve(&rules(&[], false)).unwrap();
    let wishes = job.wishes.clone();
    let request = WebRequest::plan(job, &rules(&[], false), WebTools::Prompt).unwrap();
    StagePlan::of(&wishes, request.prompt_tokens())
}

/// The web chat's request for a body of OpenAI's dialect.
fn planned(body: &Value, lifted: &[Blob], rules: &Rules<'_>) -> Result<WebRequest, RequestError> {
    WebRequest::plan(ChatCompletionRequest::parse(body, lifted)?.chat.resolve(rules)?, rules, WebTools::Prompt)
}

/// The rules of a server whose upstream has these models.
fn rules(models: &[ModelInfo], is_live: bool) -> Rules<'_> {
    let reasoning_format = ReasoningFormat::Parsed;
    Rules {
        default_model: "free",
        model_map: ModelMap::NONE,
        reasoning_format,
        vision_fallback: "sees",
        models,
        is_live,
    }
}

/// Sends the parts through everything. Only reply errors can come back: no test breaks the limits of the framing.
fn answer(parts: &[&[u8]], plan: &StagePlan) -> Answer {
    let mut stages = Stages::new(plan);
    let mut stream = ChunkStream::new(ChunkEncoder::new("chatcmpl-1", 1_790_000_000, "qwen3-max", true));
    let mut whole = WholeReply::of_events(CallForm::ToolCalls);
    let (mut sse, mut decoder, mut events) = (SseDecoder::new(), QwenReplyDecoder::new(), Vec::new());
    let mut push = |data: &[u8]| {
        let mut sink = |event: ReplyEvent<'_>| {
            events.push(described(&event));
            stages.push(event, &mut |event| {
                stream.event(again(&event));
                whole.event(event);
            });
        };
        decoder.push(data, &mut sink).map_err(Failure::Reply)
    };
    let mut outcome = Ok(());
    for part in parts {
        outcome = outcome.and_then(|()| sse.push(part, &mut push));
    }
    outcome = outcome.and_then(|()| sse.finish(&mut push));
    let outcome = match outcome {
        Ok(()) => decoder.finish(&mut |_| {}),
        Err(Failure::Reply(error)) => Err(error),
        Err(Failure::Framing) => panic!("a limit of the framing was met"),
    };
    let counts = decoder.usage();
    let is_whole = outcome.is_ok();
    let ending = stages.finish(FinishReason::Stop, counts, &mut |event| {
        if is_whole {
            stream.event(again(&event));
        }
        whole.event(event);
    });
    if is_whole {
        stream.finish(&ending);
    }
    let stream = [stream.head().unwrap_or_default(), stream.take().unwrap_or_default()].concat();
    let whole = whole.finish("chatcmpl-1", 1_790_000_000, "qwen3-max", &ending);
    Answer {
        events,
        outcome,
        response_id: decoder.response_id().map(str::to_owned),
        counts,
        stream: String::from_utf8(stream.to_vec()).unwrap(),
        whole: serde_json::from_slice(&whole).unwrap(),
    }
}

/// A copy of an event. Only tests need one.
fn again<'a>(event: &'a ReplyEvent<'_>) -> ReplyEvent<'a> {
    match event {
        ReplyEvent::Started { response_id } => ReplyEvent::Started { response_id },
        ReplyEvent::Text(text) => ReplyEvent::Text(*text),
        ReplyEvent::Reasoning(text) => ReplyEvent::Reasoning(*text),
        ReplyEvent::Image { url } => ReplyEvent::Image { url },
        ReplyEvent::Video { url } => ReplyEvent::Video { url },
        ReplyEvent::ToolCall { index, id, name } => ReplyEvent::ToolCall { index: *index, id, name },
        ReplyEvent::ToolArguments { index, json } => ReplyEvent::ToolArguments { index: *index, json },
        ReplyEvent::ToolCallDone { index } => ReplyEvent::ToolCallDone { index: *index },
        ReplyEvent::Refusal(text) => ReplyEvent::Refusal(*text),
        ReplyEvent::Extra(extra) => ReplyEvent::Extra(Extra { frame: extra.frame, ..*extra }),
        ReplyEvent::Source(source) => ReplyEvent::Source(source.clone()),
        ReplyEvent::Activity => ReplyEvent::Activity,
        ReplyEvent::Unknown { what } => ReplyEvent::Unknown { what },
        ReplyEvent::Finished { reason } => ReplyEvent::Finished { reason: *reason },
    }
}

fn described(event: &ReplyEvent<'_>) -> String {
    match event {
        ReplyEvent::Text(text) => format!("Text {:?}", text.plain()),
        ReplyEvent::Reasoning(text) => format!("Reasoning {:?}", text.plain()),
        ReplyEvent::Finished { reason: FinishReason::Stop } => "Finished".to_owned(),
        other => format!("{other:?}"),
    }
}

impl Answer {
    /// The chunks of the stream, each checked for what every client needs.
    fn chunks(&self) -> Vec<Value> {
        let mut chunks: Vec<Value> = Vec::new();
        for event in self.stream.split_terminator("\n\n") {
            let data = event.strip_prefix("data: ").unwrap();
            assert!(event.len() < 64 * 1024 && !data.contains('\n'), "{event}");
            if data == "[DONE]" {
                continue;
            }
            let chunk: Value = serde_json::from_str(data).unwrap();
            assert_eq!(chunk["id"], "chatcmpl-1");
            assert_eq!(chunk["object"], "chat.completion.chunk");
            assert_eq!(chunk["created"], 1_790_000_000);
            assert_eq!(chunk["model"], "qwen3-max");
            for choice in chunk["choices"].as_array().unwrap() {
                assert_eq!(choice["index"], 0);
                let delta = choice["delta"].as_object().unwrap();
                assert!(choice.get("finish_reason").is_some() && choice.get("logprobs").is_some());
                assert_eq!(delta.contains_key("role"), chunks.is_empty(), "the role comes first and once: {chunk}");
            }
            chunks.push(chunk);
        }
        chunks
    }

    /// A field of all deltas, joined.
    fn joined(&self, field: &str) -> String {
        let deltas = self.chunks();
        deltas.iter().filter_map(|chunk| chunk["choices"][0]["delta"][field].as_str()).collect()
    }

    fn content(&self) -> String {
        self.joined("content")
    }

    fn reasoning(&self) -> String {
        self.joined("reasoning_content")
    }
}

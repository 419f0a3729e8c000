//! The answers of the OpenAI-shaped endpoints, as chunks of a stream or whole.

use serde_json::{Map, Value, json};

use crate::errors::details_of;
use crate::script::{
    ApiErrorScript, ChatScript, ChunkForm, Content, End, ErrorForm, Inserted, StreamError, StreamScript,
    ToolCallScript, UsageChunk, UsageScript,
};
use crate::web::stream::speech::{Question, Speech, small_pieces};
use crate::web::stream::turn::Interjections;
use crate::web::stream::usage::{FRAME_TOKENS, PICTURE_TOKENS, tokens};

/// The fields that every chunk of one answer repeats.
pub(crate) struct Chunks {
    /// Id of the answer, `chatcmpl-…`; the prefix of the ids of its tool calls.
    pub(crate) id: String,
    pub(crate) request_id: String,
    pub(crate) model: String,
    /// `created` of the chunks and of the whole answer, in Unix seconds.
    pub(crate) created: u64,
    pub(crate) form: ChunkForm,
}

/// The content of an answer, before it is written as chunks or as one body.
pub(crate) struct Said {
    thoughts: Vec<String>,
    pieces: Vec<String>,
    calls: Vec<ToolCallScript>,
    finish: String,
    usage: Value,
}

/// The wishes of a request beyond its question.
pub(crate) struct Wish {
    pub(crate) question: Question,
    /// Tools that the prompt and the request agree on.
    pub(crate) calls: Vec<ToolCallScript>,
    pub(crate) tokens_max: Option<usize>,
    pub(crate) wants_usage: bool,
}

impl Said {
    pub(crate) fn new(stream: &StreamScript, chat: &ChatScript, wish: &Wish) -> Self {
        let speech = Speech::new(stream, None, &wish.question);
        let is_scripted = stream.answer.is_some() || stream.pieces.is_some() || stream.numbered.is_some();
        let calls =
            chat.tool_calls.clone().unwrap_or_else(|| if is_scripted { Vec::new() } else { wish.calls.clone() });
        let thoughts = speech.reasoning.iter().flatten().flat_map(|(_, thought)| small_pieces(thought));
        let thoughts: Vec<String> = thoughts.collect();
        let mut pieces = speech.pieces;
        if !calls.is_empty() && !is_scripted {
            pieces.clear();
        }
        let mut finish = if calls.is_empty() { "stop" } else { "tool_calls" };
        if let Some(most) = wish.tokens_max.filter(|most| !is_scripted && *most < pieces.len()) {
            pieces.truncate(most);
            finish = "length";
        }
        let called: u64 = calls.iter().map(|call| 10 + tokens(&call.arguments)).sum();
        let thought = count(thoughts.len());
        let image_tokens = wish.question.pictures * PICTURE_TOKENS;
        let usage = stream.usage.unwrap_or(UsageScript {
            input_tokens: FRAME_TOKENS + tokens(&wish.question.prompt) + image_tokens,
            output_tokens: thought + count(pieces.len()) + called,
            reasoning_tokens: thought,
            cached_tokens: 0,
            image_tokens,
        });
        let finish = chat.finish.clone().unwrap_or_else(|| finish.to_owned());
        Self { thoughts, pieces, calls, finish, usage: figures(usage) }
    }
}

impl Chunks {
    /// The frames of a stream. The last one is what a script leaves out that wants no end.
    pub(crate) fn frames(
        &self,
        said: &Said,
        stream: &StreamScript,
        chat: &ChatScript,
        wants_usage: bool,
    ) -> Vec<String> {
        let opening = if said.thoughts.is_empty() {
            json!({ "role": "assistant", "content": "" })
        } else {
            json!({ "role": "assistant", "content": null, "reasoning_content": "" })
        };
        let mut frames = vec![self.delta(opening, Value::Null)];
        if stream.content == Content::Created {
            return frames;
        }
        for piece in &said.thoughts {
            frames.push(self.delta(json!({ "content": null, "reasoning_content": piece }), Value::Null));
        }
        if stream.content == Content::Reasoning {
            return frames;
        }
        for piece in &said.pieces {
            frames.push(self.delta(json!({ "content": piece }), Value::Null));
        }
        for (index, call) in said.calls.iter().enumerate() {
            self.call(index, call, &mut frames);
        }
        let ends = matches!(stream.end, End::Finished | End::Open);
        if ends {
            frames.push(self.delta(json!({ "content": "" }), json!(said.finish)));
            let has_usage = match chat.usage_chunk {
                UsageChunk::AsAsked => wants_usage,
                UsageChunk::Always => true,
                UsageChunk::Never => false,
            };
            if has_usage {
                frames.push(self.chunk(json!([]), &said.usage));
            }
        }
        if !ends || !chat.lacks_done {
            frames.push("data: [DONE]\n\n".to_owned());
        }
        frames
    }

    /// The JSON body of a completion that does not stream (`object` is `chat.completion`).
    pub(crate) fn whole(&self, said: &Said) -> Value {
        let mut message = json!({ "role": "assistant", "content": said.pieces.concat() });
        if !said.thoughts.is_empty() {
            set(&mut message, "reasoning_content", json!(said.thoughts.concat()));
        }
        if !said.calls.is_empty() {
            let calls = said.calls.iter().enumerate().map(|(index, call)| {
                json!({
                    "index": index, "id": call_id(call, index, &self.id), "type": "function",
                    "function": { "name": call.name, "arguments": call.arguments },
                })
            });
            set(&mut message, "tool_calls", Value::Array(calls.collect()));
        }
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "system_fingerprint": null, "usage": said.usage,
            "choices": [{ "index": 0, "message": message, "finish_reason": said.finish, "logprobs": null }],
        })
    }

    /// Frames of one tool call: first its id and name, then its arguments in pieces without the id.
    fn call(&self, index: usize, call: &ToolCallScript, frames: &mut Vec<String>) {
        let id = call_id(call, index, &self.id);
        let opening = json!({
            "index": index, "id": id, "type": "function", "function": { "name": call.name, "arguments": "" },
        });
        frames.push(self.delta(json!({ "content": null, "tool_calls": [opening] }), Value::Null));
        for piece in small_pieces(&call.arguments) {
            let more = json!({ "index": index, "id": "", "type": "function", "function": { "arguments": piece } });
            frames.push(self.delta(json!({ "content": null, "tool_calls": [more] }), Value::Null));
        }
    }

    fn delta(&self, mut delta: Value, finish: Value) -> String {
        match self.form {
            ChunkForm::Usual => {}
            ChunkForm::RoleOnEach => set(&mut delta, "role", json!("assistant")),
            ChunkForm::Bare => {
                if let Some(delta) = delta.as_object_mut() {
                    delta.remove("role");
                }
            }
        }
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish, "logprobs": null });
        self.chunk(json!([choice]), &Value::Null)
    }

    fn chunk(&self, choices: Value, usage: &Value) -> String {
        let mut chunk = Map::new();
        chunk.insert("choices".to_owned(), choices);
        chunk.insert("object".to_owned(), json!("chat.completion.chunk"));
        chunk.insert("usage".to_owned(), usage.clone());
        chunk.insert("system_fingerprint".to_owned(), Value::Null);
        chunk.insert("model".to_owned(), json!(self.model));
        if self.form != ChunkForm::Bare {
            chunk.insert("id".to_owned(), json!(self.id));
            chunk.insert("created".to_owned(), json!(self.created));
        }
        format!("data: {}\n\n", Value::Object(chunk))
    }
}

impl Interjections for Chunks {
    fn inserted(&self, what: &Inserted) -> String {
        match what {
            Inserted::KeepAlive => ": keep-alive\n\n".to_owned(),
            Inserted::Comment(text) => format!(": {text}\n\n"),
            Inserted::StrayTrue => "data: true\n\n".to_owned(),
            Inserted::Done => "data: [DONE]\n\n".to_owned(),
            Inserted::Text(text) => format!("{text}\n\n"),
            Inserted::UnknownPhase { phase, content, .. } if phase == "answer" => {
                self.delta(json!({ "content": content }), Value::Null)
            }
            Inserted::UnknownPhase { phase, content, .. } => {
                let mut delta = json!({});
                set(&mut delta, phase, json!(content));
                self.delta(delta, Value::Null)
            }
        }
    }

    fn broken(&self, error: &StreamError) -> String {
        let details = if error.details.is_empty() { details_of(&error.code) } else { &error.details };
        let json = match error.form {
            ErrorForm::Text => json!({ "error": details }).to_string(),
            ErrorForm::Object => ApiErrorScript::new(500, &error.code, details).body(&self.request_id).1,
            ErrorForm::Envelope => {
                json!({ "code": error.code, "message": details, "request_id": self.request_id }).to_string()
            }
        };
        format!("data: {json}\n\n")
    }
}

fn figures(usage: UsageScript) -> Value {
    let mut figures = json!({
        "prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens.saturating_add(usage.output_tokens),
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens },
    });
    if usage.reasoning_tokens > 0 {
        let details = json!({ "reasoning_tokens": usage.reasoning_tokens });
        set(&mut figures, "completion_tokens_details", details);
    }
    figures
}

fn call_id(call: &ToolCallScript, index: usize, answer: &str) -> String {
    call.id.clone().unwrap_or_else(|| {
        let tail: String = answer.chars().rev().take(20).collect();
        format!("call_{tail}{index:02}")
    })
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

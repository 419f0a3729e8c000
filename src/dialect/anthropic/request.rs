//! The body of `POST /v1/messages` into the middle.
//!
//! As with chat completions, sampling parameters are kept for upstreams that have them, unknown fields are ignored, and
//! parameters that would change the shape of the answer are refused by name.

use serde_json::Value;

use crate::chat::conversation::{Conversation, Part, Role};
use crate::chat::error::{RequestError, type_name};
use crate::chat::job::{ChatRequest, Question, Wishes};
use crate::dialect::anthropic::blocks::drafts;
use crate::dialect::anthropic::error::THREAD;
use crate::dialect::anthropic::parameters::{Thinking, ignored, output, sampling, stop};
use crate::dialect::anthropic::tools::Tools;
use crate::dialect::openai::fields::Fields;
use crate::dialect::openai::messages::messages;
use crate::files::blob::Blob;

/// Longest search query, in characters: the beginning of the user's text.
const QUERY_CHARS_MAX: usize = 200;

/// The body of `POST /v1/messages`, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MessagesRequest {
    /// The question and its wishes, independent of the dialect.
    pub chat: ChatRequest,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// The search tool that the caller declared, for which the pages of a search are shown as blocks.
    pub search: Option<SearchTool>,
}

/// The search tool of a request, `web_search_20250305` or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SearchTool {
    /// Its name, `web_search` by Anthropic's rules.
    pub name: String,
    /// Query shown with the pages: the beginning of the user's last text.
    pub query: String,
}

/// The route that a body was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An answer, so `max_tokens` is required.
    Answer,
    /// The number of its tokens.
    Count,
}

impl MessagesRequest {
    /// Reads a body. `lifted` holds the files that were taken out of the JSON while it was read.
    ///
    /// # Errors
    /// The first fault found, by the field that has it.
    pub(crate) fn parse(body: &Value, purpose: Purpose, lifted: &[Blob]) -> Result<Self, RequestError> {
        let Value::Object(map) = body else {
            return Err(RequestError::not_an_object(type_name(body)));
        };
        let fields = Fields(map);
        let model = match fields.text("model")? {
            Some(model) if !model.trim().is_empty() => model.to_owned(),
            Some(_) => return Err(RequestError::invalid_value("model", "the name of a model")),
            None => return Err(RequestError::missing("model")),
        };
        let tokens_max = match (fields.count("max_tokens", 1)?, purpose) {
            (None, Purpose::Answer) => return Err(RequestError::missing("max_tokens")),
            (tokens, _) => tokens,
        };
        if fields.get(THREAD).is_some() {
            let why = "Conversations are not held here; send the whole one with each request.";
            return Err(RequestError::unsupported(THREAD, why));
        }
        let drafts = drafts(&fields)?;
        let tools = Tools::read(&fields)?;
        let thinking = Thinking::read(&fields)?;
        let (output, output_ignored) = output(&fields)?;
        let mut without_effect = ignored(&fields);
        without_effect.extend(output_ignored);
        without_effect.extend(&tools.ignored);
        let conversation = Conversation {
            messages: messages(drafts, lifted)?,
            tools: tools.specs,
            tool_choice: tools.choice,
            parallel_tool_calls: !tools.is_serial,
            output,
        };
        let search = tools.search.map(|name| SearchTool { name, query: query(&conversation) });
        let wishes = Wishes {
            stop: stop(&fields)?,
            tokens_max,
            thinking: thinking.wish.map(|wish| (wish, "thinking")),
            thinking_budget: thinking.budget,
            search: search.is_some().then_some((true, "tools.web_search")),
            reasoning_format: thinking.format,
            sampling: sampling(&fields)?,
        };
        let question = Question::Conversation(conversation);
        let chat = ChatRequest { model: Some(model), question, size: None, wishes, ignored: without_effect };
        Ok(Self { chat, stream: fields.flag("stream")?.unwrap_or(false), search })
    }
}

/// The beginning of the user's last text.
fn query(conversation: &Conversation) -> String {
    let users = conversation.messages.iter().rev().filter(|message| message.role == Role::User);
    let mut texts = users.flat_map(|message| message.parts.iter().rev()).filter_map(|part| match part {
        Part::Text(text) => Some(text.trim()),
        Part::File(_) => None,
    });
    texts.find(|text| !text.is_empty()).unwrap_or_default().chars().take(QUERY_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::conversation::{Message, OutputFormat, ToolChoice};
    use crate::chat::job::{ReasoningFormat, ThinkingWish};

    fn body(change: &Value) -> Value {
        let mut body = json!({"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "x"}]});
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    }

    fn read(change: Value) -> MessagesRequest {
        let body = body(&change);
        MessagesRequest::parse(&body, Purpose::Answer, &[]).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    fn refused(change: Value, expected: &str) {
        let error = MessagesRequest::parse(&body(&change), Purpose::Answer, &[]).unwrap_err();
        let found = format!("{:?} {}", error.kind, error.param.unwrap_or_default());
        assert_eq!(found, expected, "{change}");
        let field = expected.split(' ').next_back().unwrap();
        assert!(error.message.contains(field), "a message names the field: {}", error.message);
    }

    fn conversation(request: &MessagesRequest) -> &Conversation {
        match &request.chat.question {
            Question::Conversation(conversation) => conversation,
            Question::Verbatim(body) => panic!("{body:?}"),
        }
    }

    /// The conversation in short: a line for each message.
    fn outline(change: Value) -> String {
        let request = read(change);
        let line = |message: &Message| {
            let role = match &message.role {
                Role::System => "system".to_owned(),
                Role::User => "user".to_owned(),
                Role::Assistant { calls } => {
                    let calls: Vec<String> =
                        calls.iter().map(|call| format!(" {}:{}{}", call.id, call.name, call.arguments)).collect();
                    format!("assistant{}", calls.concat())
                }
                Role::ToolResult { call_id, name } => {
                    format!("result {}:{}", call_id.as_deref().unwrap(), name.as_deref().unwrap())
                }
            };
            let parts = message.parts.iter().map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::File(file) => format!("<{}>", file.label),
            });
            format!("{role}| {}", parts.collect::<Vec<_>>().join("+"))
        };
        conversation(&request).messages.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn picture() -> Value {
        json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="})
    }

    #[test]
    fn what_claude_code_sends() {
        let ephemeral = json!({"type": "ephemeral"});
        let billing = "x-anthropic-billing-header: cc_version=2.1.197; cc_entrypoint=sdk-cli; cch=0a1b2;";
        let request = json!({
            "max_tokens": 32000, "stream": true, "metadata": {"user_id": "u"}, "thinking": {"type": "adaptive"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "high"},
            "system": [
                {"type": "text", "text": billing},
                {"type": "text", "text": "You are", "cache_control": ephemeral},
                {"type": "text", "text": "an agent", "cache_control": ephemeral},
            ],
            "tools": [
                {"name": "Bash", "description": "Runs", "input_schema": {"type": "object"}},
                {"name": "Later", "input_schema": {"type": "object"}, "defer_loading": true},
            ],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": ephemeral},
                ]},
                {"role": "system", "content": "late words"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "files", "is_error": false,
                     "cache_control": ephemeral},
                    {"type": "text", "text": "go on"},
                ]},
            ],
        });
        insta::assert_snapshot!(outline(request.clone()), @r#"
        system| You are+an agent
        user| a+b
        system| late words
        assistant t1:Bash{"command":"ls"}| 
        result t1:Bash| files
        user| go on
        "#);
        let read = read(request);
        assert!(read.stream && read.search.is_none());
        assert_eq!(read.chat.ignored, ["output_config.effort"]);
        assert_eq!(read.chat.wishes.thinking, Some((ThinkingWish::Auto, "thinking")));
        assert_eq!(read.chat.wishes.tokens_max, Some(32000));
        let names: Vec<&str> = conversation(&read).tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["Bash", "Later"]);
    }

    #[test]
    fn messages_in_every_form() {
        let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
        let text = |text: &str| json!({"type": "text", "text": text});
        assert_eq!(outline(json!({"system": "s"})), "system| s\nuser| x");
        assert_eq!(outline(json!({"system": null})), "user| x");
        assert_eq!(outline(json!({"system": [text(""), text("s")]})), "system| s\nuser| x");
        let two = json!([{"role": "user", "content": "a"}, {"role": "user", "content": [text("b")]}]);
        assert_eq!(outline(json!({"messages": two})), "user| a\nuser| b");
        let prefill = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "{"}]);
        assert_eq!(outline(json!({"messages": prefill})), "user| a\nassistant| {");
        assert_eq!(outline(user(json!([{"type": "image", "source": picture()}, text("?")]))), "user| <image-1>+?");
        let linked = json!({"type": "image", "source": {"type": "url", "url": "https://e.org/a.png"}});
        assert_eq!(outline(user(json!([linked]))), "user| <image-1>");
        let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQKJSVFT0YK"});
        let document = json!({"type": "document", "source": pdf, "title": "a.pdf", "citations": {"enabled": true}});
        assert_eq!(outline(user(json!([document]))), "user| <a.pdf>");
        let plain = json!({"type": "text", "media_type": "text/plain", "data": "words"});
        let document = json!({"type": "document", "source": plain, "title": "t", "context": "c"});
        assert_eq!(outline(user(json!([document]))), "user| t+c+words");
        let nested = json!({"type": "content", "content": [text("w"), {"type": "image", "source": picture()}]});
        let document = json!({"type": "document", "source": nested});
        assert_eq!(outline(user(json!([document]))), "user| w+<image-1>");
        let found = json!({"type": "search_result", "source": "https://e.org", "title": "t", "content": [text("c")]});
        assert_eq!(outline(user(json!([found]))), "user| t+https://e.org+c");
    }

    #[test]
    fn results_of_tools() {
        let history = |result: Value| {
            let calls = json!([
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {}},
                {"type": "tool_use", "id": "t2", "name": "see", "input": {"a": [1]}},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
            ]);
            json!({"messages": [{"role": "assistant", "content": calls}, {"role": "user", "content": result}]})
        };
        let picture = json!({"type": "image", "source": picture()});
        let results = json!([
            {"type": "text", "text": "before"},
            {"type": "tool_result", "tool_use_id": "t2", "is_error": true, "content": [{"type": "text", "text": "no"}]},
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "yes"}, picture]},
        ]);
        insta::assert_snapshot!(outline(history(results)), @r#"
        assistant t1:look{} t2:see{"a":[1]}| I look.
        result t2:see| The tool failed:+no
        result t1:look| yes+<image-1>
        user| before
        "#);
        let silent = json!([{"type": "tool_result", "tool_use_id": "t1"}]);
        assert!(outline(history(silent)).ends_with("result t1:look| "));
        refused(
            history(json!([{"type": "tool_result", "tool_use_id": "t9", "content": ""}])),
            "InvalidValue messages[1].content[0].tool_use_id",
        );
        refused(history(json!([{"type": "tool_result"}])), "Missing messages[1].content[0].tool_use_id");
        refused(
            history(json!([{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "teapot"}]}])),
            "InvalidValue messages[1].content[0].content[0].type",
        );
    }

    #[test]
    fn tools_and_choices() {
        let tool = |name: &str| json!({"name": name, "input_schema": {"type": "object"}});
        let check = |change: Value, choice: ToolChoice, parallel: bool| {
            let read = read(change.clone());
            let conversation = conversation(&read);
            assert_eq!((&conversation.tool_choice, conversation.parallel_tool_calls), (&choice, parallel), "{change}");
        };
        let with = |choice: Value| json!({"tools": [tool("a"), tool("b")], "tool_choice": choice});
        check(with(json!(null)), ToolChoice::Auto, true);
        check(with(json!({"type": "auto", "disable_parallel_tool_use": true})), ToolChoice::Auto, false);
        check(with(json!({"type": "any"})), ToolChoice::Required, true);
        check(with(json!({"type": "none"})), ToolChoice::None, true);
        check(with(json!({"type": "tool", "name": "b"})), ToolChoice::Named("b".to_owned()), true);
        check(json!({"tools": [{"type": "custom", "name": "c", "input_schema": {}}]}), ToolChoice::Auto, true);
        refused(with(json!({"type": "tool", "name": "c"})), "InvalidValue tool_choice.name");
        refused(with(json!({"type": "maybe"})), "InvalidValue tool_choice.type");
        refused(with(json!("auto")), "InvalidType tool_choice");
        refused(json!({"tool_choice": {"type": "any"}}), "InvalidValue tool_choice");
        refused(json!({"tools": [tool("a"), tool("a")]}), "InvalidValue tools[1].name");
        refused(json!({"tools": [tool("a b")]}), "InvalidValue tools[0].name");
        refused(json!({"tools": [{"input_schema": {}}]}), "Missing tools[0].name");
        refused(json!({"tools": [{"name": "a"}]}), "Missing tools[0].input_schema");
        refused(json!({"tools": [{"name": "a", "input_schema": []}]}), "InvalidType tools[0].input_schema");
        refused(json!({"tools": {}}), "InvalidType tools");
        refused(json!({"tools": [5]}), "InvalidType tools[0]");
    }

    #[test]
    fn tools_of_the_server() {
        let search = json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 8});
        let named = json!({"type": "tool", "name": "web_search"});
        let read_with = |change: Value| {
            let request = read(change);
            let choice = conversation(&request).tool_choice.clone();
            (request.search, request.chat.wishes.search.map(|(on, _)| on), choice, request.chat.ignored)
        };
        let tool = SearchTool { name: "web_search".to_owned(), query: "x".to_owned() };
        for choice in [json!(null), named, json!({"type": "any"})] {
            let found = read_with(json!({"tools": [search], "tool_choice": choice}));
            assert_eq!(found, (Some(tool.clone()), Some(true), ToolChoice::Auto, Vec::new()));
        }
        let found = read_with(json!({"tools": [search], "tool_choice": {"type": "none"}}));
        assert_eq!((found.0, found.1), (None, None));
        let function = json!({"name": "a", "input_schema": {}});
        let found = read_with(json!({"tools": [search, function]}));
        assert_eq!(found, (None, None, ToolChoice::Auto, vec!["tools.web_search"]));
        let others = json!([
            {"type": "bash_20250124", "name": "bash"}, {"type": "code_execution_20250825", "name": "code_execution"},
            {"type": "brand_new_20300101", "name": "n"}, {"type": "brand_newer_20300101", "name": "m"},
        ]);
        assert_eq!(read_with(json!({"tools": others})).3, ["tools.bash", "tools.code_execution", "tools"]);
    }

    #[test]
    fn wishes() {
        let thinking = |thinking: Value| {
            let wishes = read(json!({"thinking": thinking})).chat.wishes;
            (wishes.thinking.map(|(wish, _)| wish), wishes.thinking_budget, wishes.reasoning_format)
        };
        let (parsed, hidden) = (Some(ReasoningFormat::Parsed), Some(ReasoningFormat::Hidden));
        assert_eq!(thinking(json!(null)), (None, None, None));
        let enabled = json!({"type": "enabled", "budget_tokens": 2048});
        assert_eq!(thinking(enabled), (Some(ThinkingWish::On), Some(2048), parsed));
        assert_eq!(thinking(json!({"type": "disabled"})), (Some(ThinkingWish::Off), None, hidden));
        let omitted = json!({"type": "adaptive", "display": "omitted"});
        assert_eq!(thinking(omitted), (Some(ThinkingWish::Auto), None, hidden));
        assert_eq!(read(json!({"stop_sequences": ["a", "", "b"]})).chat.wishes.stop, ["a", "b"]);
        let sampled = json!({"temperature": 1, "top_p": 0.5, "top_k": 5, "service_tier": "auto", "mcp_servers": [1]});
        let read_sampled = read(sampled).chat;
        assert_eq!(read_sampled.ignored, ["service_tier", "mcp_servers"]);
        let expected = [("temperature", json!(1)), ("top_p", json!(0.5)), ("top_k", json!(5))];
        assert_eq!(read_sampled.wishes.sampling, expected);
        let schema = json!({"type": "object"});
        let format = json!({"type": "json_schema", "schema": schema});
        for (change, at) in [
            (json!({"output_config": {"format": format}}), "output_config.format.schema"),
            (json!({"output_format": format}), "output_format.schema"),
        ] {
            let read = read(change);
            let expected = OutputFormat::JsonSchema {
                name: "answer".to_owned(),
                schema: schema.clone(),
                at: at.to_owned(),
                strict: Some(true),
            };
            assert_eq!(conversation(&read).output, expected);
        }
    }

    #[test]
    fn faults() {
        let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
        refused(json!({"model": null}), "Missing model");
        refused(json!({"model": 5}), "InvalidType model");
        refused(json!({"model": " "}), "InvalidValue model");
        refused(json!({"max_tokens": null}), "Missing max_tokens");
        refused(json!({"max_tokens": 0}), "InvalidValue max_tokens");
        refused(json!({"max_tokens": "5"}), "InvalidType max_tokens");
        refused(json!({"messages": null}), "Missing messages");
        refused(json!({"messages": []}), "EmptyArray messages");
        refused(json!({"messages": {}}), "InvalidType messages");
        refused(json!({"messages": ["x"]}), "InvalidType messages[0]");
        refused(json!({"messages": [{"content": "x"}]}), "Missing messages[0].role");
        refused(json!({"messages": [{"role": "tool", "content": "x"}]}), "InvalidValue messages[0].role");
        refused(json!({"messages": [{"role": "user"}]}), "Missing messages[0].content");
        refused(user(json!("  ")), "InvalidValue messages");
        refused(user(json!(5)), "InvalidType messages[0].content");
        refused(user(json!([{"type": "text"}])), "Missing messages[0].content[0].text");
        refused(user(json!([{"text": "x"}])), "Missing messages[0].content[0].type");
        refused(user(json!([{"type": "teapot"}])), "InvalidValue messages[0].content[0].type");
        refused(user(json!([{"type": "tool_use"}])), "InvalidValue messages[0].content[0].type");
        refused(user(json!([{"type": "image"}])), "Missing messages[0].content[0].source");
        refused(
            user(json!([{"type": "image", "source": {"type": "file", "file_id": "f"}}])),
            "UnsupportedParameter messages[0].content[0].source",
        );
        refused(
            user(json!([{"type": "image", "source": {"type": "base64", "data": "%"}}])),
            "InvalidFile messages[0].content[0]",
        );
        let called = |call: Value| json!({"messages": [{"role": "assistant", "content": [call]}]});
        refused(called(json!({"type": "tool_use", "name": "a"})), "Missing messages[0].content[0].id");
        refused(
            called(json!({"type": "tool_use", "id": "t", "name": "a", "input": "x"})),
            "InvalidType messages[0].content[0].input",
        );
        refused(json!({"system": 5}), "InvalidType system");
        refused(json!({"system": [{"type": "image"}]}), "InvalidValue system[0].type");
        refused(json!({"thinking": {"type": "maybe"}}), "InvalidValue thinking.type");
        refused(
            json!({"thinking": {"type": "enabled", "budget_tokens": "many"}}),
            "InvalidType thinking.budget_tokens",
        );
        refused(json!({"stop_sequences": "x"}), "InvalidType stop_sequences");
        refused(json!({"stop_sequences": [5]}), "InvalidType stop_sequences[0]");
        refused(json!({"temperature": 3}), "InvalidValue temperature");
        refused(json!({"stream": "yes"}), "InvalidType stream");
        refused(json!({"output_config": {"format": {"type": "text"}}}), "InvalidValue output_config.format.type");
        refused(json!({"output_format": {"type": "json_schema"}}), "Missing output_format.schema");
        let no_limit = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        assert!(MessagesRequest::parse(&no_limit, Purpose::Count, &[]).is_ok());
        assert!(MessagesRequest::parse(&json!([]), Purpose::Count, &[]).is_err());
    }
}

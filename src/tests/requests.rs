//! Every field of a chat request: what it does, or how it is refused.

use serde_json::{Value, json};

use crate::chat::job::ChatJob;
use crate::chat::models::{Abilities, Makes, ModelInfo, Thinking};
use crate::dialect::openai::request::ChatCompletionRequest;
use crate::files::attachment::JobFile;
use crate::tests::{planned, rules};
use crate::upstream::web::limits::PROMPT_JSON_BYTES_MAX;
use crate::upstream::web::request::WebRequest;
use crate::upstream::web::request::tools::WebTools;

/// Differences from `{"messages": [one user message]}`, or the kind and the field of the fault.
fn described(body: &Value) -> String {
    let ChatCompletionRequest { chat, stream, include_usage, .. } = match ChatCompletionRequest::parse(body, &[]) {
        Ok(request) => request,
        Err(error) => return format!("{:?} {}", error.kind, error.param.as_deref().unwrap_or("-")),
    };
    let mut words = Vec::new();
    let request = chat.wishes;
    words.extend(chat.model.map(|model| format!("model={model}")));
    words.extend(stream.then(|| "stream".to_owned()));
    words.extend(include_usage.then(|| "usage".to_owned()));
    words.extend((!request.stop.is_empty()).then(|| format!("stop={:?}", request.stop)));
    words.extend(request.tokens_max.map(|tokens| format!("tokens={tokens}")));
    words.extend(request.thinking.map(|(wish, field)| format!("{wish:?}({field})")));
    words.extend(request.thinking_budget.map(|budget| format!("budget={budget}")));
    words.extend(request.search.map(|(search, _)| format!("search={search}")));
    words.extend(request.reasoning_format.map(|format| format!("{format:?}")));
    let without_effect: Vec<_> = request.sampling_names().chain(chat.ignored).collect();
    words.extend((!without_effect.is_empty()).then(|| format!("ignored={}", without_effect.join(","))));
    words.join(" ")
}

/// `more` is added to a request with one user message.
fn check(more: Value, expected: &str) {
    let mut body = json!({"messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!(described(&body), expected, "{more}");
}

/// `messages` as they are: the prompt's kind of fault, or the prompt.
fn check_messages(messages: Value, expected: &str) {
    let body = json!({"messages": messages});
    let found = match planned(&body, &[], &rules(&[], false)) {
        Ok(request) => request.prompt,
        Err(error) => format!("! {:?} {}", error.kind, error.param.as_deref().unwrap_or("-")),
    };
    assert_eq!(found, expected, "{messages}");
}

/// One user message with this content.
fn check_content(content: Value, expected: &str) {
    check_messages(json!([{"role": "user", "content": content}]), expected);
}

#[test]
fn bodies() {
    for body in [json!(null), json!([]), json!("x"), json!(1), json!(true)] {
        assert_eq!(described(&body), "InvalidBody -", "{body}");
    }
    assert_eq!(described(&json!({})), "Missing messages");
}

#[test]
fn what_has_an_effect() {
    check(json!({"model": "m"}), "model=m");
    check(json!({"model": " "}), "InvalidValue model");
    check(json!({"model": 5}), "InvalidType model");
    check(json!({"stream": true}), "stream");
    check(json!({"stream": null}), "");
    check(json!({"stream": "yes"}), "InvalidType stream");
    check(json!({"stream": 1}), "InvalidType stream");
    check(json!({"stream_options": {"include_usage": true}}), "usage");
    check(json!({"stream_options": {"include_usage": null, "include_obfuscation": false, "x": 1}}), "");
    check(json!({"stream_options": null}), "");
    check(json!({"stream_options": []}), "InvalidType stream_options");
    check(json!({"stream_options": {"include_usage": 1}}), "InvalidType stream_options.include_usage");
    check(json!({"stop": "END"}), "stop=[\"END\"]");
    check(json!({"stop": ["a", "", "b"]}), "stop=[\"a\", \"b\"]");
    check(json!({"stop": []}), "");
    check(json!({"stop": ""}), "");
    check(json!({"stop": ["a", "b", "c", "d", "e"]}), "InvalidValue stop");
    check(json!({"stop": ["a", 1]}), "InvalidType stop[1]");
    check(json!({"stop": {}}), "InvalidType stop");
    check(json!({"max_tokens": 1}), "tokens=1");
    check(json!({"max_tokens": 100_000}), "tokens=100000");
    check(json!({"max_tokens": 1.0}), "tokens=1");
    check(json!({"max_tokens": 9_000_000_000_u64}), "tokens=4294967295");
    check(json!({"max_tokens": 5, "max_completion_tokens": 7}), "tokens=7");
    check(json!({"max_tokens": 0}), "InvalidValue max_tokens");
    check(json!({"max_tokens": -1}), "InvalidValue max_tokens");
    check(json!({"max_completion_tokens": 1.5}), "InvalidType max_completion_tokens");
    check(json!({"max_tokens": "5"}), "InvalidType max_tokens");
    check(json!({"enable_search": true}), "search=true");
    check(json!({"enable_search": false, "web_search_options": {}}), "search=false");
    check(json!({"web_search_options": {"search_context_size": "low"}}), "search=true");
    check(json!({"web_search_options": true}), "InvalidType web_search_options");
}

#[test]
fn thinking() {
    check(json!({"enable_thinking": true}), "On(enable_thinking)");
    check(json!({"enable_thinking": "yes"}), "InvalidType enable_thinking");
    check(json!({"enable_thinking": false, "reasoning_effort": "high"}), "Off(enable_thinking)");
    check(json!({"chat_template_kwargs": {"enable_thinking": false}}), "Off(chat_template_kwargs)");
    check(json!({"chat_template_kwargs": {"enable_thinking": 0}}), "InvalidType chat_template_kwargs.enable_thinking");
    check(json!({"thinking": {"type": "enabled", "budget_tokens": 99}}), "On(thinking) budget=99");
    check(json!({"thinking": {"type": "disabled"}}), "Off(thinking)");
    check(json!({"thinking": {"type": "adaptive"}}), "Auto(thinking)");
    check(json!({"thinking": {"type": "maybe"}}), "InvalidValue thinking.type");
    check(json!({"thinking": true}), "InvalidType thinking");
    check(json!({"reasoning": {"enabled": false}}), "Off(reasoning)");
    check(json!({"reasoning": {"effort": "low"}}), "On(reasoning)");
    check(json!({"reasoning": {"effort": "none"}}), "Off(reasoning)");
    check(json!({"reasoning": {"effort": 3}}), "InvalidType reasoning.effort");
    check(json!({"reasoning": {"exclude": true}}), "Hidden");
    check(json!({"reasoning": {"exclude": false}}), "");
    check(json!({"reasoning_effort": "minimal"}), "On(reasoning_effort)");
    check(json!({"reasoning_effort": "none"}), "Off(reasoning_effort)");
    check(json!({"reasoning_effort": null}), "");
    check(json!({"reasoning_effort": 1}), "InvalidType reasoning_effort");
    check(json!({"thinking_budget": 1024}), "On(thinking_budget) budget=1024");
    check(json!({"thinking_budget": 0}), "Off(thinking_budget)");
    check(json!({"thinking_budget": -1}), "InvalidValue thinking_budget");
    check(json!({"reasoning_format": "raw"}), "Raw");
    check(json!({"reasoning_format": "loud"}), "InvalidValue reasoning_format");
}

#[test]
fn what_is_ignored() {
    for (name, value) in [
        ("temperature", json!(0.7)),
        ("top_p", json!(1)),
        ("presence_penalty", json!(-2)),
        ("frequency_penalty", json!(2.0)),
        ("seed", json!(42)),
        ("logit_bias", json!({"5": -100})),
        ("top_k", json!(40)),
        ("min_p", json!(0)),
        ("repetition_penalty", json!(1.1)),
        ("verbosity", json!("low")),
        ("prediction", json!({})),
        ("service_tier", json!("auto")),
    ] {
        check(json!({name: value}), &format!("ignored={name}"));
        check(json!({name: null}), "");
    }
    check(json!({"temperature": 2.1}), "InvalidValue temperature");
    check(json!({"temperature": "hot"}), "InvalidType temperature");
    check(json!({"top_p": -0.1}), "InvalidValue top_p");
    check(json!({"presence_penalty": 3}), "InvalidValue presence_penalty");
    check(json!({"frequency_penalty": true}), "InvalidType frequency_penalty");
    check(json!({"seed": 1.5}), "InvalidType seed");
    check(json!({"top_k": 1.5}), "InvalidType top_k");
    check(json!({"logit_bias": [1]}), "InvalidType logit_bias");
    // Bookkeeping fields, and fields of other servers.
    check(
        json!({"user": "u", "metadata": {"a": "b"}, "store": false, "safety_identifier": "s", "prompt_cache_key": "k",
            "prompt_cache_retention": "24h", "parallel_tool_calls": true, "n": 1, "logprobs": false, "top_logprobs": null,
            "modalities": ["text"], "audio": null, "response_format": {"type": "text"}, "tools": [], "tool_choice": "auto",
            "functions": null, "function_call": "none", "keep_alive": 5, "num_ctx": 1}),
        "",
    );
}

#[test]
fn what_is_refused() {
    check(json!({"n": 2}), "UnsupportedValue n");
    check(json!({"n": 0}), "InvalidValue n");
    check(json!({"n": 1.5}), "InvalidType n");
    check(json!({"n": "1"}), "InvalidType n");
    check(json!({"logprobs": true}), "UnsupportedParameter logprobs");
    check(json!({"top_logprobs": 3}), "UnsupportedParameter top_logprobs");
    check(json!({"top_logprobs": 0}), "");
    check(json!({"response_format": {"type": "json_schema"}}), "Missing response_format.json_schema");
    check(json!({"response_format": {"type": "yaml"}}), "InvalidValue response_format.type");
    check(json!({"response_format": {}}), "InvalidValue response_format.type");
    check(json!({"response_format": "text"}), "InvalidType response_format");
    check(json!({"tools": {}}), "InvalidType tools");
    check(json!({"tool_choice": "required"}), "InvalidValue tool_choice");
    check(json!({"function_call": {"name": "f"}}), "InvalidValue function_call");
    check(json!({"modalities": ["text", "audio"]}), "UnsupportedValue modalities");
    check(json!({"modalities": "text"}), "InvalidType modalities");
    check(json!({"audio": {"voice": "v"}}), "UnsupportedParameter audio");
}

#[test]
fn messages() {
    check_messages(json!(null), "! Missing messages");
    check_messages(json!({}), "! InvalidType messages");
    check_messages(json!("hello"), "! InvalidType messages");
    check_messages(json!(r#"[{"role": "user", "content": "Hi"}]"#), "Hi");
    check_messages(json!([]), "! EmptyArray messages");
    check_messages(json!(["Hi"]), "! InvalidType messages[0]");
    check_messages(json!([{"content": "Hi"}]), "! Missing messages[0].role");
    check_messages(json!([{"role": 5, "content": "Hi"}]), "! InvalidType messages[0].role");
    check_messages(json!([{"role": "wizard", "content": "Hi"}]), "! InvalidValue messages[0].role");
    check_messages(json!([{"role": "user"}]), "! Missing messages[0].content");
    check_messages(json!([{"role": "user", "content": "a"}, {"role": "system"}]), "! Missing messages[1].content");
    check_messages(
        json!([{"role": "assistant", "content": "a", "tool_calls": {}}]),
        "! InvalidType messages[0].tool_calls",
    );
    check_messages(
        json!([{"role": "assistant", "content": null, "tool_calls": [{"id": "c"}]}]),
        "! Missing messages[0].tool_calls[0].function",
    );
    let call = |id: Value, function: Value| json!([{"role": "assistant", "tool_calls": [{"id": id, "type": "function", "function": function}]}]);
    check_messages(json!([{"role": "assistant", "tool_calls": [5]}]), "! InvalidType messages[0].tool_calls[0]");
    check_messages(call(json!("c"), json!("f")), "! InvalidType messages[0].tool_calls[0].function");
    check_messages(call(json!("c"), json!({})), "! Missing messages[0].tool_calls[0].function.name");
    check_messages(call(json!("c"), json!({"name": 5})), "! InvalidType messages[0].tool_calls[0].function.name");
    check_messages(call(json!(5), json!({"name": "f"})), "! InvalidType messages[0].tool_calls[0].id");
    let mut answered = call(json!("c"), json!({"name": "f", "arguments": {}}));
    answered.as_array_mut().unwrap().push(json!({"role": "tool", "tool_call_id": 5, "content": "r"}));
    check_messages(answered, "! InvalidType messages[1].tool_call_id");
    check_messages(json!([{"role": "user", "content": " "}]), "! InvalidValue messages");
    check_messages(json!([{"role": "assistant", "content": null}]), "! InvalidValue messages");
    let long = "x".repeat(PROMPT_JSON_BYTES_MAX);
    check_messages(json!([{"role": "user", "content": long}]), &long);
    let longer = json!({"messages": [{"role": "user", "content": format!("{long}y")}]});
    let longer = planned(&longer, &[], &rules(&[], false)).unwrap();
    let [JobFile::Ready(file)] = longer.files.as_slice() else { panic!("{:?}", longer.files) };
    assert!(file.content.len() > long.len() as u64);
}

#[test]
fn content_parts() {
    check_content(json!("Hi"), "Hi");
    check_content(json!([{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}, "c"]), "a\nb\nc");
    check_content(json!([{"type": "refusal", "refusal": "no"}, {"type": "thinking", "thinking": "hm"}]), "no");
    check_content(json!(null), "! InvalidType messages[0].content");
    check_content(json!(5), "! InvalidType messages[0].content");
    check_content(json!({"type": "text", "text": "a"}), "! InvalidType messages[0].content");
    check_content(json!([5]), "! InvalidType messages[0].content[0]");
    check_content(json!([{"text": "a"}]), "! Missing messages[0].content[0].type");
    check_content(json!([{"type": 5}]), "! InvalidType messages[0].content[0].type");
    check_content(json!(["a", {"type": "hologram"}]), "! InvalidValue messages[0].content[1].type");
    check_content(json!([{"type": "text"}]), "! Missing messages[0].content[0].text");
    check_content(json!([{"type": "text", "text": 5}]), "! InvalidType messages[0].content[0].text");
}

#[test]
fn history_as_clients_replay_it() {
    let messages = json!([
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "u", "name": "n"},
        {"role": "assistant", "content": null, "refusal": null, "annotations": [], "audio": null, "function_call": null,
            "reasoning_content": "r", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "t"}]},
        {"role": "assistant", "content": "a", "tool_calls": null, "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "function", "name": "g", "content": "h"},
    ]);
    let prompt = planned(&json!({"messages": messages}), &[], &rules(&[], false)).unwrap().prompt;
    insta::assert_snapshot!(prompt);
}

#[test]
fn what_the_catalogue_has_to_say() {
    let model = |id: &str, thinking| ModelInfo {
        id: id.to_owned(),
        created: 1,
        owned_by: "qwen".to_owned(),
        thinking,
        search: true,
        writes: vec![],
        tells_chat_types: true,
        abilities: Abilities::default(),
        makes: Makes::default(),
        context_length: None,
    };
    let catalogue =
        [model("free", Thinking::OnRequest), model("never", Thinking::Never), model("always", Thinking::Always)];
    let check = |body: Value, is_live: bool, expected: &str| {
        let mut full = json!({"messages": [{"role": "user", "content": "Hi"}]});
        full.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let rules = rules(&catalogue, is_live);
        let request = ChatCompletionRequest::parse(&full, &[]).unwrap();
        let format = |job: &ChatJob| job.wishes.reasoning_format.unwrap();
        let resolved = request.chat.resolve(&rules);
        let found = match resolved.and_then(|job| Ok((format(&job), WebRequest::plan(job, &rules, WebTools::Prompt)?)))
        {
            Ok((format, job)) => format!(
                "{} {} {:?} {} {:?} {}",
                job.model,
                job.upstream_model,
                job.thinking,
                job.chat_type(),
                format,
                job.notes.ignored.join(",")
            ),
            Err(error) => format!("{:?} {}", error.kind, error.param.unwrap()),
        };
        assert_eq!(found.trim_end(), expected, "{body}");
    };
    check(json!({}), true, "free free Off t2t Parsed");
    check(json!({"model": "free-thinking-search"}), true, "free-thinking-search free On search Parsed");
    check(json!({"model": "free-thinking", "enable_thinking": false}), true, "free-thinking free Off t2t Parsed");
    check(json!({"model": "free-search", "enable_search": false}), true, "free-search free Off t2t Parsed");
    check(json!({"model": "web/free", "reasoning_format": "raw"}), true, "web/free free Off t2t Raw");
    check(json!({"model": "never", "reasoning_effort": "high"}), true, "never never Off t2t Parsed reasoning_effort");
    check(json!({"model": "never-thinking"}), true, "never-thinking never Off t2t Parsed model");
    check(json!({"model": "never", "enable_thinking": false}), true, "never never Off t2t Parsed");
    check(json!({"model": "always"}), true, "always always On t2t Parsed");
    check(json!({"model": "always", "enable_thinking": false}), true, "always always On t2t Parsed enable_thinking");
    check(json!({"model": "gone"}), true, "ModelNotFound model");
    check(json!({"model": "gone-thinking"}), false, "gone-thinking gone On t2t Parsed");
}

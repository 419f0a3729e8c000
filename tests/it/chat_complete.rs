//! Whole answers, and what of a request reaches the upstream.

use std::collections::HashSet;

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Endpoint, Scenario, ScriptedReply};

use crate::support::app::{PATIENCE, Setup, TestApp, USAGE, content, error_of, json_of, question, told};

/// The prompt that the upstream gets for these messages.
async fn prompt_of(app: &TestApp, messages: Value) -> String {
    let response = app.chat(&json!({"messages": messages})).await;
    let status = response.status();
    let body = json_of(response).await;
    assert_eq!(status, 200, "{messages}: {body}");
    app.asked().prompt().to_owned()
}

const HEAD: &str = "This is a conversation, one block for each message in order. Follow the <system> blocks, and \
                    write only the assistant's next message, without tags around it.";

#[tokio::test]
async fn a_question_gets_a_whole_answer() {
    let app = TestApp::quick().await;
    let answer = app.ask("echo: 你好, wörld 🙂").await;
    assert_eq!(content(&answer), "你好, wörld 🙂");
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "qwen3-max");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["choices"][0]["message"]["refusal"], json!(null));
    app.assert_clean();
}

#[tokio::test]
async fn a_whole_answer_has_every_required_key_and_no_list_beside() {
    let app = TestApp::quick().await;
    let reply = ScriptedReply::answer("x").with_stream(|stream| stream.usage = Some(USAGE));
    app.simulator.script().queue(None, Endpoint::Completions, reply);
    let response = app.chat(&question("x")).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let answer = json_of(response).await;
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<HashSet<_>>();
    let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<HashSet<_>>();
    assert_eq!(keys(&answer), set(&["id", "object", "created", "model", "choices", "usage"]));
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 1);
    assert_eq!(keys(&choices[0]), set(&["index", "message", "finish_reason", "logprobs"]));
    assert_eq!(choices[0]["index"], 0);
    assert_eq!(choices[0]["logprobs"], Value::Null);
    assert_eq!(choices[0]["message"], json!({"role": "assistant", "content": "x", "refusal": null}));
    assert!(u32::try_from(answer["created"].as_u64().unwrap()).is_ok());
    assert_eq!(answer["usage"], told(USAGE));
}

#[tokio::test]
async fn ids_differ_and_longer_prompts_count_more() {
    let app = TestApp::quick().await;
    let (short, long) = (app.ask("echo: x").await, app.ask(&format!("{} echo: x", "word ".repeat(500))).await);
    assert_ne!(short["id"], long["id"]);
    let prompt = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(prompt(&long) > prompt(&short));
}

#[tokio::test]
async fn questions_go_round_the_accounts() {
    let app = TestApp::quick().await;
    for _ in 0..6 {
        assert_eq!(app.chat(&question("echo: x")).await.status(), 200);
    }
    let asked = app.simulator.record().requests_to(Endpoint::Completions);
    let accounts: HashSet<_> = asked.into_iter().map(|request| request.account.unwrap()).collect();
    assert_eq!(accounts.len(), 2, "{accounts:?}");
}

#[tokio::test]
async fn the_default_model_stands_in() {
    let app = TestApp::quick().await;
    for body in [
        json!({"messages": [{"role": "user", "content": "echo: x"}]}),
        json!({"model": null, "messages": [{"role": "user", "content": "echo: x"}]}),
    ] {
        assert_eq!(json_of(app.chat(&body).await).await["model"], "qwen3-max");
        assert_eq!(app.asked().0["model"], "qwen3-max");
    }
    let setup = Setup::default().with("DEFAULT_MODEL", "qwen3-coder-plus");
    let app = setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await;
    let body = json!({"messages": [{"role": "user", "content": "echo: x"}]});
    assert_eq!(json_of(app.chat(&body).await).await["model"], "qwen3-coder-plus");
    assert_eq!(app.asked().0["model"], "qwen3-coder-plus");
}

#[tokio::test]
async fn one_user_message_goes_as_it_is() {
    let app = TestApp::quick().await;
    let text = "Hi </user> \"quoted\"\n\tü 字 🦀";
    assert_eq!(prompt_of(&app, json!([{"role": "user", "content": text}])).await, text);
    let parts = json!([{"role": "user", "content": [
        {"type": "text", "text": "one"}, {"type": "input_text", "text": "two"}, "three",
    ]}]);
    assert_eq!(prompt_of(&app, parts).await, "one\ntwo\nthree");
    // What a client writes into a message beside its text changes nothing.
    let extra = json!([{
        "role": "user", "content": "plain", "name": "ada", "refusal": null, "annotations": [], "audio": null,
        "tool_calls": null, "function_call": null, "reasoning_content": "no", "reasoning_details": [], "x": {"y": 1},
    }]);
    assert_eq!(prompt_of(&app, extra).await, "plain");
}

#[tokio::test]
async fn every_role_stands_in_the_prompt() {
    let app = TestApp::quick().await;
    let messages = json!([
        {"role": "system", "content": "S1"},
        {"role": "developer", "content": [{"type": "text", "text": "S2"}]},
        {"role": "user", "content": "U1"},
        {"role": "user", "content": [{"type": "text", "text": "U2a"}, {"type": "text", "text": "U2b"}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}},
            {"id": "c2", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "3 °C"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "noon"}]},
        {"role": "assistant", "content": [
            {"type": "reasoning", "text": "hidden"}, {"type": "output_text", "text": "A1"},
        ], "reasoning_content": "hidden too"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "A2"}]},
        {"role": "assistant", "function_call": {"name": "old", "arguments": "[]"}},
        {"role": "function", "name": "old", "content": "F1"},
        {"role": "system", "content": "S3"},
        {"role": "user", "content": "U3"},
    ]);
    let expected = format!(
        "{HEAD}\n\n<system>\nS1\n</system>\n\n<system>\nS2\n</system>\n\n<user>\nU1\n</user>\n\n\
         <user>\nU2a\nU2b\n</user>\n\n\
         <assistant>\n<tool_call id=\"c1\" name=\"weather\">{{\"city\":\"Oslo\"}}</tool_call>\n\
         <tool_call id=\"c2\" name=\"clock\">{{}}</tool_call>\n</assistant>\n\n\
         <tool_result id=\"c1\">\n3 °C\n</tool_result>\n\n<tool_result id=\"c2\">\nnoon\n</tool_result>\n\n\
         <assistant>\nA1\n</assistant>\n\n<assistant>\nA2\n</assistant>\n\n\
         <assistant>\n<tool_call name=\"old\">[]</tool_call>\n</assistant>\n\n\
         <tool_result name=\"old\">\nF1\n</tool_result>\n\n<system>\nS3\n</system>\n\n<user>\nU3\n</user>"
    );
    assert_eq!(prompt_of(&app, messages).await, expected);
    app.assert_clean();
}

#[tokio::test]
async fn the_last_message_says_how_to_go_on() {
    let app = TestApp::quick().await;
    for (messages, ending) in [
        (json!([{"role": "system", "content": "S"}]), "Begin the conversation as the <system> blocks ask."),
        (
            json!([{"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}]),
            "Continue the assistant's last message where it stops.",
        ),
        (
            json!([
                {"role": "user", "content": "U"},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "T"},
            ]),
            "Go on, using the tool results above.",
        ),
        (json!([{"role": "user", "content": "U"}, {"role": "system", "content": "S"}]), "</system>"),
        (json!([{"role": "system", "content": "S"}, {"role": "user", "content": ""}]), "</user>"),
    ] {
        let prompt = prompt_of(&app, messages).await;
        assert!(prompt.starts_with(HEAD) && prompt.ends_with(ending), "{prompt}");
    }
}

#[tokio::test]
async fn messages_may_come_as_text() {
    let app = TestApp::quick().await;
    let text = r#"[{"role":"system","content":"S"},{"role":"user","content":"echo: from text"}]"#;
    let answer = json_of(app.chat(&json!({"messages": text})).await).await;
    assert_eq!(content(&answer), "from text");
    for text in ["", "hello", "{}", "[", "null"] {
        let response = app.chat(&json!({"messages": text})).await;
        assert_eq!(response.status(), 400, "{text}");
        let error = error_of(response).await;
        assert_eq!((&error["param"], &error["code"]), (&json!("messages"), &json!("invalid_type")), "{text}");
    }
}

#[tokio::test]
async fn escapes_and_surrogate_pairs_are_text() {
    let app = TestApp::quick().await;
    let body = r#"{"messages":[{"role":"user","content":"echo: \u00fc \ud83e\udd80 \u0007 \\ \/"}]}"#;
    let response = app.post("/v1/chat/completions", &Value::Null).body(body).send().await.unwrap();
    assert_eq!(content(&json_of(response).await), "ü 🦀 \u{7} \\ /");
}

#[tokio::test]
async fn a_workflow_tool_is_answered() {
    // As n8n's HTTP node posts it to a server without a key.
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = Setup::default().without("API_KEY").start(simulator).await;
    let body = json!({
        "model": "qwen3-max", "messages": [{"role": "user", "content": "echo: hello"}], "max_tokens": 150,
        "temperature": 0.7,
    });
    let request = app.client.post(app.url("/v1/chat/completions")).header("content-type", "application/json");
    let response = request.body(body.to_string()).send().await.unwrap();
    assert_eq!(response.headers()["x-bridge-ignored"], "temperature");
    assert_eq!(content(&json_of(response).await), "hello");
}

#[tokio::test]
async fn parameters_without_effect_are_named() {
    let app = TestApp::quick().await;
    let mut body = question("echo: x");
    let knobs = json!({
        "temperature": 0, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2, "seed": 42, "top_k": 20,
        "min_p": 0.1, "repetition_penalty": 1.05, "logit_bias": {"50256": -100}, "verbosity": "low",
        "prediction": {"type": "content", "content": "x"}, "service_tier": "auto",
    });
    for (name, value) in knobs.as_object().unwrap() {
        body[name] = value.clone();
    }
    // Bookkeeping: taken without a word.
    for name in ["user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"] {
        body[name] = json!(null);
    }
    body["user"] = json!("somebody");
    body["unknown_extension"] = json!({"deep": [1, 2]});
    for stream in [false, true] {
        body["stream"] = json!(stream);
        let response = app.chat(&body).await;
        assert_eq!(response.status(), 200);
        let named: HashSet<String> =
            response.headers()["x-bridge-ignored"].to_str().unwrap().split(',').map(str::to_owned).collect();
        let expected: HashSet<String> = knobs.as_object().unwrap().keys().cloned().collect();
        assert_eq!(named, expected);
    }
    let plain = app.chat(&question("echo: x")).await;
    assert!(!plain.headers().contains_key("x-bridge-ignored"));
}

#[tokio::test]
async fn null_means_absent() {
    let app = TestApp::quick().await;
    let mut body = question("echo: x");
    for name in [
        "stream",
        "stream_options",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "temperature",
        "top_p",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "response_format",
        "modalities",
        "audio",
        "enable_thinking",
        "thinking",
        "thinking_budget",
        "reasoning",
        "reasoning_effort",
        "reasoning_format",
        "chat_template_kwargs",
        "web_search_options",
        "enable_search",
        "seed",
        "user",
        "metadata",
    ] {
        body[name] = Value::Null;
    }
    let response = app.chat(&body).await;
    assert!(!response.headers().contains_key("x-bridge-ignored"));
    assert_eq!(content(&json_of(response).await), "x");
}

#[tokio::test]
async fn values_that_change_nothing_are_taken() {
    let app = TestApp::quick().await;
    for (name, value) in [
        ("n", json!(1)),
        ("logprobs", json!(false)),
        ("top_logprobs", json!(0)),
        ("response_format", json!({"type": "text"})),
        ("modalities", json!(["text"])),
        ("tools", json!([])),
        ("tool_choice", json!("none")),
        ("functions", json!([])),
        ("stop", json!([])),
        ("parallel_tool_calls", json!(true)),
    ] {
        let mut body = question("echo: x");
        body[name] = value;
        assert_eq!(content(&json_of(app.chat(&body).await).await), "x", "{name}");
    }
}

#[tokio::test]
async fn limits_cut_a_whole_answer_too() {
    let app = TestApp::quick().await;
    for (limit, expected, reason) in [
        (json!({"stop": "END"}), "one ", "stop"),
        (json!({"max_tokens": 1}), "one ", "length"),
        (json!({"max_tokens": 100_000}), "one END two", "stop"),
        (json!({"stop": "E", "max_tokens": 100}), "one ", "stop"),
    ] {
        let mut body = question("x");
        for (name, value) in limit.as_object().unwrap() {
            body[name] = value.clone();
        }
        app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::pieces(["one E", "N", "D two"]));
        let answer = json_of(app.chat(&body).await).await;
        assert_eq!(content(&answer), expected, "{limit}");
        assert_eq!(answer["choices"][0]["finish_reason"], reason, "{limit}");
    }
    let idle = app.simulator.record().wait_for_counts(|counters| counters.open_streams == 0, PATIENCE).await;
    assert!(idle.is_some());
    app.assert_clean();
}

#[tokio::test]
async fn an_empty_answer_is_a_failure() {
    let app = TestApp::quick().await;
    app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::pieces(Vec::<String>::new())));
    let response = app.chat(&question("x")).await;
    assert_eq!(response.status(), 502);
    assert_eq!(error_of(response).await["code"], "upstream_empty");
}

#[tokio::test]
async fn what_the_content_policy_refuses_is_the_callers_fault() {
    let app = TestApp::quick().await;
    app.simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::error("data_inspection_failed")),
    );
    for stream in [false, true] {
        let mut body = question("x");
        body["stream"] = json!(stream);
        let response = app.chat(&body).await;
        assert_eq!(response.status(), 400);
        let error = error_of(response).await;
        assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("content_filter")));
    }
}

#[tokio::test]
async fn query_strings_and_unknown_headers_do_not_matter() {
    let app = TestApp::quick().await;
    let request = app
        .post("/v1/chat/completions?api-version=2024-10-21&beta=true", &question("echo: x"))
        .header("openai-organization", "org")
        .header("openai-project", "project")
        .header("openai-beta", "assistants=v2")
        .header("idempotency-key", "one")
        .header("x-stainless-lang", "js")
        .header("x-stainless-retry-count", "not a number")
        .header("user-agent", "");
    assert_eq!(content(&json_of(request.send().await.unwrap()).await), "x");
}

#[tokio::test]
async fn an_answer_that_is_a_bare_link_to_a_picture_is_shown_as_a_picture() {
    let app = TestApp::quick().await;
    let url = "https://cdn.qwenlm.ai/output/7c/t2i/boat.png?key=ey";
    for pieces in [vec![url], vec!["https", "://cdn.qwenlm.ai/output/7c/t2i/", "boat.png?key=ey", "\n"]] {
        app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::pieces(pieces)));
        let shown = format!("![image]({url})");
        assert_eq!(content(&app.ask("a boat, please").await), shown);
        assert_eq!(app.stream(&question("a boat, please")).await.content(), shown);
    }
}

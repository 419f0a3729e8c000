//! The Responses API, streamed and whole, on every kind of upstream.

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{CutHow, Endpoint, Scenario, ScriptedReply, StreamError};

use crate::support::app::{Setup, TestApp, json_of, with_keys};
use crate::support::files::{data_uri, hash, png};
use crate::support::responses::{ask, assert_response, output, text};

#[tokio::test]
async fn a_text_gets_a_whole_response() {
    let app = TestApp::quick().await;
    let response = app.respond(&ask("echo: Grüße 🙂")).await;
    assert_eq!((text(&response), &response["status"]), ("Grüße 🙂".to_owned(), &json!("completed")));
    assert_eq!((&response["error"], &response["incomplete_details"]), (&json!(null), &json!(null)));
    assert_eq!(response["model"], "qwen3-max");
    let [message] = output(&response) else { panic!("{response}") };
    assert_eq!((&message["type"], &message["status"]), (&json!("message"), &json!("completed")));
    let part = json!({"type": "output_text", "text": "Grüße 🙂", "annotations": [], "logprobs": []});
    assert_eq!(message["content"], json!([part]));
    assert_eq!(app.asked().prompt(), "echo: Grüße 🙂");
    app.assert_clean();
}

#[tokio::test]
async fn a_text_gets_a_streamed_response() {
    let app = TestApp::quick().await;
    let events = app.respond_streamed(&ask("echo: 你好, wörld")).await;
    assert_eq!(
        events.outline(),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!(text(events.response()), "你好, wörld");
    let whole = app.respond(&ask("echo: 你好, wörld")).await;
    assert_eq!(whole["usage"], events.response()["usage"], "streamed and whole agree");
}

#[tokio::test]
async fn the_request_is_repeated_in_the_response() {
    let app = TestApp::quick().await;
    let mut body = ask("echo: x");
    for (key, value) in [
        ("instructions", json!("Be brief.")),
        ("metadata", json!({"a": "b"})),
        ("temperature", json!(0.5)),
        ("max_output_tokens", json!(100)),
        ("parallel_tool_calls", json!(false)),
        ("reasoning", json!({"effort": "none", "summary": "auto"})),
        ("truncation", json!("auto")),
        ("user", json!("u")),
        ("prompt_cache_key", json!("k")),
        ("client_metadata", json!({"unknown": true})),
        ("include", json!(["reasoning.encrypted_content"])),
        ("service_tier", json!("auto")),
        ("top_p", json!(null)),
    ] {
        body[key] = value;
    }
    let response = app.post("/v1/responses", &body).send().await.unwrap();
    let ignored = response.headers()["x-bridge-ignored"].to_str().unwrap().to_owned();
    assert_eq!(ignored, "temperature,service_tier,include");
    let response = json_of(response).await;
    assert_response(&response);
    for key in
        ["instructions", "metadata", "temperature", "max_output_tokens", "parallel_tool_calls", "truncation", "user"]
    {
        assert_eq!(response[key], body[key], "{key}");
    }
    assert_eq!((&response["top_p"], &response["reasoning"]), (&json!(1.0), &body["reasoning"]));
    assert_eq!(response["text"], json!({"format": {"type": "text"}}));
    assert!(app.asked().prompt().contains("<system>\nBe brief.\n</system>"), "{}", app.asked().prompt());
}

#[tokio::test]
async fn thoughts_are_a_reasoning_item() {
    let app = TestApp::quick().await;
    let mut body = ask("echo: x");
    body["reasoning"] = json!({"effort": "high"});
    let events = app.respond_streamed(&body).await;
    assert_eq!(
        events.outline()[2..8],
        [
            "response.output_item.added",
            "response.reasoning_summary_part.added",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "response.output_item.done",
        ]
    );
    for response in [events.response().clone(), app.respond(&body).await] {
        let [reasoning, message] = output(&response) else { panic!("{response}") };
        assert_eq!((&reasoning["type"], &message["type"]), (&json!("reasoning"), &json!("message")));
        assert_eq!(reasoning["summary"][0]["type"], "summary_text");
        assert!(!reasoning["summary"][0]["text"].as_str().unwrap().is_empty());
        assert!(reasoning.get("encrypted_content").is_none());
        assert!(response["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 0);
    }
}

#[tokio::test]
async fn an_answer_over_its_limit_is_incomplete() {
    let app = TestApp::quick().await;
    let mut body = ask("echo: one two three four five six seven");
    body["max_output_tokens"] = json!(2);
    let events = app.respond_streamed(&body).await;
    for response in [events.response().clone(), app.respond(&body).await] {
        assert_eq!(response["status"], "incomplete");
        assert_eq!(response["incomplete_details"], json!({"reason": "max_output_tokens"}));
        assert_eq!(output(&response)[0]["status"], "incomplete");
        assert_eq!(text(&response), "one two ");
    }
}

#[tokio::test]
async fn a_policy_that_cuts_an_answer_leaves_it_incomplete() {
    let refused = StreamError { after: 3, code: "data_inspection_failed".to_owned(), ..StreamError::default() };
    let reply = ScriptedReply::pieces(["one ", "two "]).breaking(refused);
    let scenario = Scenario::default().paced_ms(0).replying(Endpoint::Completions, reply);
    let app = Setup::default().start(Simulator::start(scenario).await.unwrap()).await;
    let events = app.respond_streamed(&ask("x")).await;
    assert_eq!(events.response()["incomplete_details"], json!({"reason": "content_filter"}));
}

#[tokio::test]
async fn an_answer_that_breaks_off_fails_inside_the_stream() {
    let reply = ScriptedReply::pieces(["one ", "two ", "three"]).cut_after(3, CutHow::CleanEnd);
    let scenario = Scenario::default().paced_ms(0).replying(Endpoint::Completions, reply);
    let app = Setup::default().start(Simulator::start(scenario).await.unwrap()).await;
    let events = app.respond_streamed(&ask("x")).await;
    let response = events.response();
    assert_eq!((&response["status"], &response["error"]["code"]), (&json!("failed"), &json!("server_error")));
    assert!(response["error"]["message"].as_str().unwrap().contains("upstream_truncated"), "{response}");
    assert_eq!(output(response)[0]["status"], "incomplete");
}

#[tokio::test]
async fn a_failure_before_the_stream_has_a_status() {
    let app = with_keys(Scenario::default()).await;
    for stream in [false, true] {
        for (key, value, status, code, param) in [
            ("input", json!(null), 400, "missing_required_parameter", "input"),
            ("input", json!([]), 400, "empty_array", "input"),
            ("input", json!(7), 400, "invalid_type", "input"),
            ("input", json!(" "), 400, "invalid_value", "input"),
            ("input", json!([{"role": "tool", "content": "x"}]), 400, "invalid_value", "input[0].role"),
            ("input", json!([{"role": "user"}]), 400, "missing_required_parameter", "input[0].content"),
            ("input", json!([{"type": "what", "role": "user"}]), 400, "invalid_value", "input[0].type"),
            (
                "input",
                json!([{"role": "user", "content": [{"type": "what"}]}]),
                400,
                "invalid_value",
                "input[0].content[0].type",
            ),
            (
                "input",
                json!([{"type": "function_call_output", "call_id": "c", "output": "x"}]),
                400,
                "invalid_value",
                "input[0].call_id",
            ),
            ("input", json!([{"type": "item_reference", "id": "msg_1"}]), 400, "invalid_value", "input[0].id"),
            ("model", json!("no-such-model"), 404, "model_not_found", "model"),
            ("model", json!(7), 400, "invalid_type", "model"),
            ("background", json!(true), 400, "unsupported_value", "background"),
            ("conversation", json!("conv_1"), 400, "unsupported_parameter", "conversation"),
            ("prompt", json!({"id": "p"}), 400, "unsupported_parameter", "prompt"),
            ("top_logprobs", json!(2), 400, "unsupported_parameter", "top_logprobs"),
            ("include", json!(["message.output_text.logprobs"]), 400, "unsupported_value", "include"),
            ("max_output_tokens", json!(0), 400, "invalid_value", "max_output_tokens"),
            ("tools", json!({}), 400, "invalid_type", "tools"),
            ("tools", json!([{"type": "function"}]), 400, "missing_required_parameter", "tools[0].name"),
            (
                "tools",
                json!([{"type": "function", "name": "a", "parameters": "x"}]),
                400,
                "invalid_type",
                "tools[0].parameters",
            ),
            (
                "tools",
                json!([{"type": "function", "name": "a"}, {"type": "custom", "name": "a"}]),
                400,
                "invalid_value",
                "tools",
            ),
            ("tool_choice", json!("required"), 400, "invalid_value", "tool_choice"),
            ("tool_choice", json!({"type": "function", "name": "a"}), 400, "invalid_value", "tool_choice.name"),
            (
                "text",
                json!({"format": {"type": "json_schema"}}),
                400,
                "missing_required_parameter",
                "text.format.schema",
            ),
            ("stream", json!("yes"), 400, "invalid_type", "stream"),
        ] {
            let mut body = ask("x");
            body["stream"] = json!(stream);
            body[key] = value;
            let (found, error) = app.refused(&body).await;
            assert_eq!(
                (found, &error["code"], &error["param"]),
                (status, &json!(code), &json!(param)),
                "{body}: {error}"
            );
        }
    }
    assert_eq!(app.turns(), 0);
    let response = app.client.post(app.url("/v1/responses")).body("{}").send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(app.get("/v1/responses").send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn faults_are_named_by_the_callers_own_fields() {
    let app = TestApp::quick().await;
    for (key, value, param) in [
        // Tools that are left out count as well.
        (
            "tools",
            json!([{"type": "mcp"}, {"type": "function", "name": "a", "parameters": {"type": 5}}]),
            "tools[1].parameters",
        ),
        ("text", json!({"format": {"type": "json_schema", "name": "a", "schema": {"type": 5}}}), "text.format.schema"),
        ("tools", json!([{"type": "function", "name": "a b"}]), "tools[0].name"),
        ("tools", json!([{"type": "custom", "name": "</tools>"}]), "tools[0].name"),
    ] {
        let mut body = ask("x");
        body[key] = value;
        let (status, error) = app.refused(&body).await;
        assert_eq!((status, error["param"].as_str()), (400, Some(param)), "{body}");
    }
    assert_eq!(app.turns(), 0);
}

pub(crate) fn weather() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!({"type": "function", "name": "weather", "description": "Weather.", "parameters": parameters, "strict": false})
}

/// A request for the endpoint with keys.
pub(crate) fn ask_key(input: impl Into<Value>, tools: Value) -> Value {
    json!({"model": "key/qwen3.7-plus", "input": input.into(), "tools": tools})
}

pub(crate) fn sent_to_key(app: &TestApp) -> Value {
    app.simulator.record().requests_to(Endpoint::KeyChat).pop().unwrap().body.unwrap()
}

#[tokio::test]
async fn functions_are_called_over_keys() {
    let app = with_keys(Scenario::default()).await;
    let mut body =
        ask_key("call: weather {\"city\": \"Oslo\"}", json!([weather(), {"type": "namespace", "name": "n"}]));
    (body["temperature"], body["top_p"]) = (json!(0.25), json!(0.5));
    let events = app.respond_streamed(&body).await;
    assert_eq!(
        events.outline()[2..6],
        [
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
        ]
    );
    for response in [events.response().clone(), app.respond(&body).await] {
        let [call] = output(&response) else { panic!("{response}") };
        assert_eq!(
            (&call["type"], &call["name"], &call["status"]),
            (&json!("function_call"), &json!("weather"), &json!("completed"))
        );
        let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
        assert_eq!(arguments, json!({"city": "Oslo"}));
        assert!(call["call_id"].as_str().is_some_and(|id| !id.is_empty()));
        assert_eq!(response["tools"], json!([weather()]), "what has no effect is not repeated");
    }
    let sent = sent_to_key(&app);
    assert_eq!(sent["tools"][0]["function"]["parameters"], weather()["parameters"]);
    assert_eq!(sent["tool_choice"], "auto");
    assert_eq!((&sent["temperature"], &sent["top_p"]), (&json!(0.25), &json!(0.5)));
    let response = app.post("/v1/responses", &body).send().await.unwrap();
    assert_eq!(response.headers()["x-bridge-ignored"], "tools.namespace");
}

#[tokio::test]
async fn the_loop_of_a_function_ends_in_text() {
    let app = with_keys(Scenario::default()).await;
    let first = app.respond(&ask_key("call: weather {\"city\": \"Oslo\"}", json!([weather()]))).await;
    let mut input = vec![json!({"role": "user", "content": "Weather?"})];
    input.extend(output(&first).iter().cloned());
    let call_id = output(&first)[0]["call_id"].clone();
    input.push(
        json!({"type": "function_call_output", "call_id": call_id, "output": [{"type": "input_text", "text": "3 °C"}]}),
    );
    input.push(json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}));
    input.push(json!({"role": "user", "content": [{"type": "input_text", "text": "echo: done"}]}));
    let second = app.respond(&ask_key(input, json!([weather()]))).await;
    assert_eq!(text(&second), "done");
    let messages = sent_to_key(&app)["messages"].clone();
    let roles: Vec<&str> =
        messages.as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "user"]);
    assert_eq!(messages[1]["tool_calls"][0]["id"], call_id);
    assert_eq!((&messages[2]["tool_call_id"], &messages[2]["content"]), (&call_id, &json!("3 °C")));
}

#[tokio::test]
async fn freeform_tools_take_plain_text() {
    let app = with_keys(Scenario::default()).await;
    let patch = "*** Begin Patch\n+ \"x\"";
    let grammar = json!({"type": "grammar", "syntax": "lark", "definition": "start: begin"});
    let tool = json!({"type": "custom", "name": "apply_patch", "description": "Patches.", "format": grammar});
    let body = ask_key(format!("call: apply_patch {}", json!({"input": patch})), json!([tool]));
    let events = app.respond_streamed(&body).await;
    assert_eq!(
        events.outline()[2..6],
        [
            "response.output_item.added",
            "response.custom_tool_call_input.delta",
            "response.custom_tool_call_input.done",
            "response.output_item.done",
        ]
    );
    for response in [events.response().clone(), app.respond(&body).await] {
        let [call] = output(&response) else { panic!("{response}") };
        assert_eq!(
            (&call["type"], &call["name"], &call["input"]),
            (&json!("custom_tool_call"), &json!("apply_patch"), &json!(patch))
        );
        assert_eq!(response["tools"], json!([tool]));
    }
    let parameters = sent_to_key(&app)["tools"][0]["function"]["parameters"].clone();
    assert_eq!(parameters["required"], json!(["input"]));
    let description = parameters["properties"]["input"]["description"].as_str().unwrap();
    assert!(description.contains("start: begin"), "{description}");
    let call = output(events.response())[0].clone();
    let result = json!({"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "Done"});
    app.respond(&ask_key(json!([call, result, {"role": "user", "content": "echo: x"}]), json!([tool]))).await;
    let messages = sent_to_key(&app)["messages"].clone();
    let arguments: Value =
        serde_json::from_str(messages[0]["tool_calls"][0]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!((arguments, &messages[1]["content"]), (json!({"input": patch}), &json!("Done")));
}

#[tokio::test]
async fn which_tools_may_be_called() {
    let app = with_keys(Scenario::default()).await;
    let other = json!({"type": "function", "name": "other"});
    let search = json!({"type": "web_search"});
    for (choice, tools, sent) in [
        (json!("required"), json!([weather(), other, search]), json!("required")),
        (json!("none"), json!([weather(), other]), json!("none")),
        (
            json!({"type": "function", "name": "other"}),
            json!([weather(), other]),
            json!({"type": "function", "function": {"name": "other"}}),
        ),
        (
            json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}),
            json!([weather(), other]),
            json!("required"),
        ),
    ] {
        let mut body = ask_key("echo: x", tools.clone());
        body["tool_choice"] = choice.clone();
        body["parallel_tool_calls"] = json!(false);
        let response = app.respond(&body).await;
        assert_eq!(response["tool_choice"], choice);
        let body = sent_to_key(&app);
        assert_eq!((&body["tool_choice"], &body["parallel_tool_calls"]), (&sent, &json!(false)));
        let count = if choice["type"] == "allowed_tools" { 1 } else { 2 };
        assert_eq!(body["tools"].as_array().unwrap().len(), count);
        assert!(body.get("enable_search").is_none(), "functions come first: {body}");
    }
    let response = app.post("/v1/responses", &ask_key("echo: x", json!([weather(), search]))).send().await.unwrap();
    assert_eq!(response.headers()["x-bridge-ignored"], "tools.web_search");
    app.respond(&ask_key("echo: x", json!([search]))).await;
    assert_eq!(sent_to_key(&app)["enable_search"], true);
}

#[tokio::test]
async fn a_search_is_cited() {
    let app = TestApp::quick().await;
    let mut body = ask("echo: Water boils.[[1]] So it does.");
    body["tools"] = json!([{"type": "web_search"}]);
    let events = app.respond_streamed(&body).await;
    assert_eq!(app.asked().chat_type(), "search");
    let added = events.all.iter().filter(|event| event["type"] == "response.output_text.annotation.added");
    let added: Vec<&Value> = added.map(|event| &event["annotation"]).collect();
    assert!(!added.is_empty(), "{:?}", events.names());
    let annotations = output(events.response())[0]["content"][0]["annotations"].clone();
    assert_eq!(json!(added), annotations);
    for annotation in annotations.as_array().unwrap() {
        assert_eq!(annotation["type"], "url_citation");
        assert!(annotation["url"].is_string() && annotation["title"].is_string(), "{annotation}");
        assert!(annotation["start_index"].as_u64() <= annotation["end_index"].as_u64(), "{annotation}");
    }
}

#[tokio::test]
async fn every_form_of_message_is_read() {
    let app = TestApp::quick().await;
    let input = json!([
        {"type": "message", "id": "m1", "role": "developer", "content": [{"type": "input_text", "text": "One."}]},
        {"role": "system", "content": "Two."},
        {"role": "user", "content": [{"type": "input_text", "text": "Three."}, {"type": "text", "text": "Four."}]},
        {"type": "message", "id": "m2", "role": "assistant", "status": "completed", "content": [
            {"type": "output_text", "text": "Five.", "annotations": [], "logprobs": []}, {"type": "refusal", "refusal": "Six."},
        ]},
        {"role": "assistant", "content": "Seven."},
        {"type": "local_shell_call", "id": "l1", "call_id": "c", "action": {}, "status": "completed"},
        {"role": "user", "content": "Eight."},
    ]);
    let response = app.post("/v1/responses", &ask(input)).send().await.unwrap();
    assert_eq!(response.headers()["x-bridge-ignored"], "input.local_shell_call");
    assert_eq!(response.status(), 200);
    let asked = app.asked();
    let blocks = "<system>\nOne.\n</system>\n\n<system>\nTwo.\n</system>\n\n<user>\nThree.\nFour.\n</user>\n\n\
                  <assistant>\nFive.\nSix.\n</assistant>\n\n<assistant>\nSeven.\n</assistant>\n\n<user>\nEight.\n</user>";
    assert!(asked.prompt().ends_with(blocks), "{}", asked.prompt());
}

#[tokio::test]
async fn pictures_and_files_go_along() {
    let app = TestApp::quick().await;
    let picture = data_uri("image/png", &png(1));
    let input = json!([{"role": "user", "content": [
        {"type": "input_text", "text": "echo: seen"},
        {"type": "input_image", "image_url": picture, "detail": "auto"},
        {"type": "input_file", "filename": "notes.txt", "file_data": "data:text/plain;base64,SGVsbG8="},
    ]}]);
    let body = json!({"model": "qwen3-vl-plus", "input": input});
    let said = text(&app.respond(&body).await);
    for part in ["1 picture", "1 document", "notes.txt", &hash(&png(1)), &hash(b"Hello")] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for (part, code, param) in [
        (json!({"type": "input_image", "file_id": "f"}), "unsupported_parameter", "input[0].content[0].file_id"),
        (json!({"type": "input_image"}), "missing_required_parameter", "input[0].content[0].image_url"),
        (json!({"type": "input_image", "image_url": "ftp://x/y.png"}), "invalid_value", "input[0].content[0]"),
    ] {
        let (status, error) = app.refused(&ask(json!([{"role": "user", "content": [part]}]))).await;
        assert_eq!((status, &error["code"], &error["param"]), (400, &json!(code), &json!(param)), "{error}");
    }
}

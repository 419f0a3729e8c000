//! Tool calls over the web chat, which has no tools: asked for in the prompt, read out of the answer's text.

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{CallShape, CutHow, Endpoint, ModelCall, Scenario, ScriptedReply, ThinkingForm, ToolScript};

use crate::support::app::{Setup, TestApp, error_of, json_of, question};

const LS: &str = r#"<tool_call>{"name": "list_files", "arguments": {"path": "src"}}</tool_call>"#;
const CLOCK: &str = r#"<tool_call>{"name": "clock", "arguments": {}}</tool_call>"#;
const WRONG: &str = r#"<tool_call>{"name": "list_files", "arguments": {}}</tool_call>"#;

async fn answering_with(setup: Setup, answers: &[&str]) -> TestApp {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    for answer in answers {
        let pieces: Vec<String> =
            answer.chars().collect::<Vec<_>>().chunks(3).map(|piece| piece.iter().collect()).collect();
        simulator.script().queue(None, Endpoint::Completions, ScriptedReply::pieces(pieces));
    }
    setup.start(simulator).await
}

async fn answering(answers: &[&str]) -> TestApp {
    answering_with(Setup::default(), answers).await
}

fn tools() -> Value {
    let path = json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    json!([
        {"type": "function", "function": {"name": "list_files", "description": "Lists a folder.", "parameters": path}},
        {"type": "function", "function": {"name": "clock"}},
    ])
}

fn asking(more: &Value) -> Value {
    let mut body = question("What is in src?");
    body["tools"] = tools();
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The calls of a message, as `name arguments`, after a look at what every client needs.
fn calls(message: &Value) -> Vec<String> {
    let calls = message["tool_calls"].as_array().unwrap();
    let ids: std::collections::BTreeSet<&str> = calls.iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), calls.len(), "each id is unique");
    let call = |call: &Value| {
        assert_eq!(call["type"], "function");
        let arguments = call["function"]["arguments"].as_str().unwrap();
        serde_json::from_str::<Value>(arguments).unwrap();
        format!("{} {arguments}", call["function"]["name"].as_str().unwrap())
    };
    calls.iter().map(call).collect()
}

/// The message that the deltas of a stream add up to.
fn joined(chunks: &[Value]) -> Value {
    let mut calls: Vec<Value> = Vec::new();
    let mut content = String::new();
    for chunk in chunks {
        let delta = &chunk["choices"][0]["delta"];
        content.push_str(delta["content"].as_str().unwrap_or_default());
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(piece["index"].as_u64().unwrap()).unwrap();
            if index == calls.len() {
                assert!(piece["id"].is_string() && piece["function"]["name"].is_string(), "{piece}");
                assert_eq!(
                    (&piece["type"], &piece["function"]["arguments"]),
                    (&json!("function"), &json!("")),
                    "{piece}"
                );
                calls.push(piece.clone());
                continue;
            }
            assert!(piece.get("id").is_none() && piece["function"].get("name").is_none(), "never again: {piece}");
            let more = piece["function"]["arguments"].as_str().unwrap();
            let so_far = calls[index]["function"]["arguments"].as_str().unwrap().to_owned();
            calls[index]["function"]["arguments"] = json!(so_far + more);
        }
    }
    json!({"content": content, "tool_calls": calls})
}

#[tokio::test]
async fn calls_whole_and_streamed() {
    for (answer, text, expected) in [
        (LS.to_owned(), "", vec![r#"list_files {"path": "src"}"#]),
        (format!("I look.\n\n{LS}"), "I look.", vec![r#"list_files {"path": "src"}"#]),
        (format!("{LS}\n{CLOCK}"), "", vec![r#"list_files {"path": "src"}"#, "clock {}"]),
        (format!("{LS} And then I wait."), "", vec![r#"list_files {"path": "src"}"#]),
        (
            r#"<tool_call>{"name": "LIST-FILES", "arguments": {"path": "src"}}"#.to_owned(),
            "",
            vec![r#"list_files {"path": "src"}"#],
        ),
        ("```json\n{\"name\": \"clock\", \"arguments\": {}}\n```".to_owned(), "", vec!["clock {}"]),
        (
            "<function=list_files><parameter=path>src</parameter></function>".to_owned(),
            "",
            vec![r#"list_files {"path":"src"}"#],
        ),
    ] {
        let app = answering(&[&answer, &answer]).await;
        let whole = json_of(app.chat(&asking(&json!({}))).await).await;
        let choice = &whole["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{answer}: {whole}");
        assert_eq!(calls(&choice["message"]), expected, "{answer}");
        assert_eq!(choice["message"]["content"], if text.is_empty() { Value::Null } else { json!(text) }, "{answer}");
        let streamed = app.stream(&asking(&json!({}))).await;
        assert_eq!(streamed.finish_reasons(), ["tool_calls"], "{answer}");
        let message = joined(&streamed.chunks);
        assert_eq!(calls(&message), expected, "{answer}");
        assert_eq!(message["content"], text, "{answer}");
    }
}

#[tokio::test]
async fn text_that_talks_of_markup_stays_text() {
    for answer in [
        "The sea is blue.",
        "Write `<tool_call>` around it.",
        "Use ```json\n{\"name\": \"clock\", \"arguments\": {}}\n``` as an example.",
        "<b>bold</b> {\"a\": 1}",
    ] {
        let app = answering(&[answer, answer]).await;
        let whole = json_of(app.chat(&asking(&json!({}))).await).await;
        assert_eq!(whole["choices"][0]["message"]["content"], answer);
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
        assert_eq!(app.stream(&asking(&json!({}))).await.content(), answer);
    }
}

#[tokio::test]
async fn the_prompt_shows_the_tools_and_the_loop_goes_on() {
    let app = answering_with(Setup::default().with("CONTINUE_CHATS", "false"), &[LS, "Two files."]).await;
    let first = json_of(app.chat(&asking(&json!({}))).await).await;
    let asked = app.asked();
    let prompt = asked.prompt();
    assert!(prompt.contains("<tools>\n{\"name\":\"list_files\",\"description\":\"Lists a folder.\""), "{prompt}");
    let message = &first["choices"][0]["message"];
    let id = message["tool_calls"][0]["id"].as_str().unwrap();
    let mut body = asking(&json!({}));
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(message.clone());
    messages.push(json!({"role": "tool", "tool_call_id": id, "content": "main.rs lib.rs"}));
    let second = json_of(app.chat(&body).await).await;
    assert_eq!(second["choices"][0]["message"]["content"], "Two files.");
    let asked = app.asked();
    let prompt = asked.prompt();
    assert!(prompt.contains(LS) && prompt.contains("name=\"list_files\">\nmain.rs lib.rs\n</tool_result>"), "{prompt}");
}

#[tokio::test]
async fn a_wrong_call_is_asked_for_once_more() {
    for stream in [false, true] {
        let app = answering(&[WRONG, LS]).await;
        let message = if stream {
            joined(&app.stream(&asking(&json!({}))).await.chunks)
        } else {
            json_of(app.chat(&asking(&json!({}))).await).await["choices"][0]["message"].clone()
        };
        assert_eq!(calls(&message), [r#"list_files {"path": "src"}"#]);
        let asked = app.asked();
        assert!(asked.prompt().contains("\"path\" is a required property"), "{}", asked.prompt());
        assert_eq!(app.turns(), 4);
    }
    // A second wrong call goes out as the text that it is, unless a call is demanded.
    let app = answering(&[WRONG, WRONG, WRONG, WRONG, "No.", "No."]).await;
    let whole = json_of(app.chat(&asking(&json!({}))).await).await;
    assert_eq!(whole["choices"][0]["message"]["content"], WRONG);
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    for _ in 0..2 {
        let response = app.chat(&asking(&json!({"tool_choice": "required"}))).await;
        assert_eq!(response.status(), 502);
        assert_eq!(error_of(response).await["code"], "tool_call_invalid");
    }
}

#[tokio::test]
async fn a_cut_answer_never_calls() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    for _ in 0..6 {
        let cut = ScriptedReply::pieces(["Now. ", LS]).cut_after(3, CutHow::CleanEnd);
        simulator.script().queue(None, Endpoint::Completions, cut);
    }
    let app = Setup::default().start(simulator).await;
    let streamed = app.stream(&asking(&json!({}))).await;
    assert!(streamed.error().is_some() && joined(&streamed.chunks)["tool_calls"] == json!([]));
}

/// An answer that thinks `thought` and says `answer`, as the upstream streams raw thoughts.
fn thinking(thought: &str, answer: &[&str]) -> ScriptedReply {
    let reply = ScriptedReply::pieces(answer.iter().copied()).reasoning(&[&[("Thinking", thought)]]);
    reply.with_stream(|stream| stream.thinking = Some(ThinkingForm::Raw))
}

#[tokio::test]
async fn a_call_in_thoughts_counts_where_nothing_else_is_said() {
    let call = format!("I look. {LS}");
    for (thought, answer, expected) in [
        (&*call, &[] as &[&str], "tool_calls, list_files {\"path\": \"src\"}"),
        (&call, &["\n"], "tool_calls, list_files {\"path\": \"src\"}"),
        (&call, &["Plain."], "stop, Plain."),
        (&call, &[CLOCK], "tool_calls, clock {}"),
        ("Hm.", &[], "upstream_empty"),
        ("I could <tool_call>{}</tool_call>", &["Plain."], "stop, Plain."),
    ] {
        let mut scenario = Scenario::default().paced_ms(0);
        scenario.defaults.insert(Endpoint::Completions, thinking(thought, answer));
        let app = TestApp::start(scenario).await;
        let mut body = asking(&json!({"reasoning_format": "hidden"}));
        body["model"] = json!("qwen3-max-thinking");
        let response = app.chat(&body).await;
        let status = response.status();
        let found = if status == 200 {
            let choice = json_of(response).await["choices"][0].clone();
            let said = match choice["finish_reason"].as_str().unwrap() {
                "tool_calls" => calls(&choice["message"]).concat(),
                _ => choice["message"]["content"].as_str().unwrap().to_owned(),
            };
            format!("{}, {said}", choice["finish_reason"].as_str().unwrap())
        } else {
            error_of(response).await["code"].as_str().unwrap().to_owned()
        };
        assert_eq!(found, expected, "{thought} {answer:?}");
        if expected.starts_with("tool_calls") {
            // Thoughts that are shown commit the answer before its end; the calls come all the same.
            body["reasoning_format"] = json!("parsed");
            let streamed = app.stream(&body).await;
            assert_eq!(streamed.finish_reasons(), ["tool_calls"], "{thought} {answer:?}");
            let message = joined(&streamed.chunks);
            assert_eq!(format!("tool_calls, {}", calls(&message).concat()), expected);
            assert!(!streamed.reasoning().contains("tool_call"), "{}", streamed.reasoning());
        }
    }
}

/// Nothing of a whole answer has left the server before its end, whatever it said before the call.
#[tokio::test]
async fn a_whole_answer_that_calls_wrongly_after_words_or_thoughts_is_asked_for_once_more() {
    for (first, more) in [
        (thinking("Hm.", &[WRONG]), json!({})),
        (thinking("Hm.", &["No."]), json!({"tool_choice": "required"})),
        (thinking("Hm.", &[]), json!({"tool_choice": "required"})),
        (ScriptedReply::pieces(["I look. ", WRONG]), json!({})),
    ] {
        let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
        simulator.script().queue(None, Endpoint::Completions, first.clone());
        simulator.script().queue(None, Endpoint::Completions, thinking("So.", &[LS]));
        let app = Setup::default().start(simulator).await;
        let mut body = asking(&more);
        body["model"] = json!("qwen3-max-thinking");
        let whole = json_of(app.chat(&body).await).await;
        assert_eq!(calls(&whole["choices"][0]["message"]), [r#"list_files {"path": "src"}"#], "{first:?} {whole}");
        assert_eq!(whole["choices"][0]["message"]["reasoning_content"], "So.");
        assert_eq!(app.turns(), 4, "{first:?}");
    }
}

#[tokio::test]
async fn choices() {
    let both = format!("{LS}{CLOCK}");
    let app = answering(&[&both, "Plain.", LS, LS, CLOCK]).await;
    let one = json_of(app.chat(&asking(&json!({"parallel_tool_calls": false}))).await).await;
    assert_eq!(calls(&one["choices"][0]["message"]).len(), 1);
    let none = json_of(app.chat(&asking(&json!({"tool_choice": "none"}))).await).await;
    assert_eq!(none["choices"][0]["message"]["content"], "Plain.");
    assert_eq!(app.asked().prompt(), "What is in src?", "no tools in the prompt");
    let required = json_of(app.chat(&asking(&json!({"tool_choice": "required"}))).await).await;
    assert_eq!(required["choices"][0]["finish_reason"], "tool_calls");
    // A named function is called even when the model calls another one first.
    let named = json!({"tool_choice": {"type": "function", "function": {"name": "clock"}}});
    let named = json_of(app.chat(&asking(&named)).await).await;
    assert_eq!(calls(&named["choices"][0]["message"]), ["clock {}"]);
}

#[tokio::test]
async fn only_the_allowed_tools_are_shown_and_called() {
    let app = answering(&[LS, CLOCK]).await;
    let allowed = json!([{"type": "function", "function": {"name": "clock"}}]);
    let choice = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": allowed}});
    let called = json_of(app.chat(&asking(&json!({"tool_choice": choice}))).await).await;
    assert_eq!(
        calls(&called["choices"][0]["message"]),
        ["clock {}"],
        "the first answer called no tool of this request"
    );
    let asked = app.asked();
    let prompt = asked.prompt();
    assert!(prompt.contains("clock") && !prompt.contains("Lists a folder."), "{prompt}");
}

#[tokio::test]
async fn the_older_functions_get_a_function_call() {
    let mut body = question("What time is it?");
    body["functions"] = json!([{"name": "clock", "parameters": {"type": "object", "properties": {}}}]);
    let app = answering(&[CLOCK, CLOCK]).await;
    let whole = json_of(app.chat(&body).await).await;
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "function_call");
    assert_eq!(choice["message"]["function_call"], json!({"name": "clock", "arguments": "{}"}));
    assert!(choice["message"].get("tool_calls").is_none());
    let streamed = app.stream(&body).await;
    assert_eq!(streamed.finish_reasons(), ["function_call"]);
    let names =
        streamed.chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["function_call"]["name"].as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["clock"]);
}

#[tokio::test]
async fn long_lists_are_shortened_and_it_is_said() {
    let app = answering(&["Hello.", "Hello."]).await;
    let tool = |place: usize| {
        let parameters =
            json!({"type": "object", "properties": {"x": {"type": "string", "description": "prose ".repeat(100)}}});
        json!({"type": "function", "function": {"name": format!("tool_{place}"), "description": "prose ".repeat(200), "parameters": parameters}})
    };
    for (count, level) in [(2, None), (36, Some("prose"))] {
        let mut body = question("Hello");
        body["tools"] = (0..count).map(tool).collect();
        let response = app.chat(&body).await;
        let said = response.headers().get("x-bridge-tools-shortened").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((response.status().as_u16(), said.as_deref()), (200, level), "{count}");
    }
}

#[tokio::test]
async fn tools_that_are_none() {
    let app = TestApp::quick().await;
    let tool = |function: Value| json!([{"type": "function", "function": function}]);
    for (tools, param) in [
        (tool(json!({})), "tools[0].function.name"),
        (tool(json!({"name": "a", "parameters": {"type": 5}})), "tools[0].function.parameters"),
        (
            json!([tool(json!({"name": "a"}))[0], tool(json!({"name": "b", "parameters": {"$ref": "#/none"}}))[0]]),
            "tools[1].function.parameters",
        ),
        (json!([tool(json!({"name": "a"}))[0], tool(json!({"name": "a"}))[0]]), "tools[1]"),
    ] {
        let response = app.chat(&asking(&json!({"tools": tools}))).await;
        assert_eq!(response.status(), 400, "{tools}");
        assert_eq!(error_of(response).await["param"], param);
    }
    let functions = json!({"tools": null, "functions": [{"name": "a", "parameters": {"type": 5}}]});
    assert_eq!(error_of(app.chat(&asking(&functions)).await).await["param"], "functions[0].parameters");
    let mut body = asking(&json!({}));
    body["messages"] =
        json!([{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "nope", "content": "y"}]);
    let response = app.chat(&body).await;
    assert_eq!(error_of(response).await["param"], "messages[1].tool_call_id");
}

#[tokio::test]
async fn tools_can_be_switched_off() {
    let app = answering_with(Setup::default().with("WEB_TOOLS", "off"), &[LS]).await;
    let response = app.chat(&asking(&json!({}))).await;
    assert_eq!(response.headers()["x-bridge-ignored"], "tools");
    assert_eq!(json_of(response).await["choices"][0]["message"]["content"], LS);
    assert_eq!(app.asked().prompt(), "What is in src?");
}

#[tokio::test]
async fn the_upstreams_own_calls_are_calls_of_declared_tools_only() {
    let own_call = || {
        let calls = [ModelCall::new("list_files", json!({"path": "src"})), ModelCall::new("clock", json!({}))];
        ScriptedReply::calling(ToolScript::new(CallShape::LocalTool, calls))
    };
    let app = answering(&[]).await;
    app.simulator.script().set_default(None, Endpoint::Completions, Some(own_call()));
    let expected = [r#"list_files {"path":"src"}"#, "clock {}"];
    let whole = json_of(app.chat(&asking(&json!({}))).await).await;
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls", "{whole}");
    assert_eq!(calls(&whole["choices"][0]["message"]), expected);
    let streamed = app.stream(&asking(&json!({}))).await;
    assert_eq!(
        (streamed.finish_reasons(), calls(&joined(&streamed.chunks))),
        (vec!["tool_calls"], expected.map(str::to_owned).to_vec())
    );
    // A call of another tool is asked for once more; it has no text that could stand in for it.
    let foreign = ToolScript::new(CallShape::LocalTool, [ModelCall::new("format_disk", json!({}))]);
    app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::calling(foreign)));
    for stream in [false, true] {
        let turns = app.turns();
        let response = app.chat(&asking(&json!({"stream": stream}))).await;
        assert_eq!((response.status().as_u16(), app.turns()), (502, turns + 4), "two questions, each in a new chat");
        assert_eq!(error_of(response).await["code"], "tool_call_invalid");
    }
    // Without tools of the caller it is activity, and an answer of nothing else is empty.
    for (setup, body) in [
        (Setup::default(), question("What is in src?")),
        (Setup::default(), asking(&json!({"tool_choice": "none"}))),
        (Setup::default().with("WEB_TOOLS", "off"), asking(&json!({}))),
    ] {
        let app = answering_with(setup, &[]).await;
        app.simulator.script().set_default(None, Endpoint::Completions, Some(own_call()));
        let response = app.chat(&body).await;
        assert_eq!(response.status(), 502);
        assert_eq!(error_of(response).await["code"], "upstream_empty");
    }
}

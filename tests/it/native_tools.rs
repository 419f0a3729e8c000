//! `WEB_TOOLS=native`: tools are declared in the upstream's own form, where the account takes that.

use serde_json::{Value, json};
use simulator::script::{
    AccountScript, CallShape, DeclaredTools, Endpoint, Era, ErrorScript, ModelCall, Scenario, ScriptedFailure,
    ScriptedReply, ToolScript,
};
use simulator::{RecordedRequest, Simulator};

use crate::support::app::{KEY, Setup, TestApp, error_of, json_of};

/// A dialect of callers.
#[derive(Clone, Copy, Debug)]
enum Dialect {
    Chat,
    Responses,
    Messages,
}

const DIALECTS: [Dialect; 3] = [Dialect::Chat, Dialect::Responses, Dialect::Messages];

fn schema() -> Value {
    json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]})
}

impl Dialect {
    fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        }
    }

    /// One question with two tools.
    fn body(self) -> Value {
        let question = "What is in src?";
        let message = json!({"role": "user", "content": question});
        let (name, about) = ("list_files", "Lists a folder.");
        match self {
            Self::Chat => json!({"model": "qwen3-max", "messages": [message], "tools": [
                {"type": "function", "function": {"name": name, "description": about, "parameters": schema()}},
                {"type": "function", "function": {"name": "clock"}},
            ]}),
            Self::Responses => json!({"model": "qwen3-max", "input": question, "tools": [
                {"type": "function", "name": name, "description": about, "parameters": schema()},
                {"type": "function", "name": "clock", "parameters": null},
            ]}),
            Self::Messages => json!({"model": "qwen3-max", "max_tokens": 900, "messages": [message], "tools": [
                {"name": name, "description": about, "input_schema": schema()},
                {"name": "clock", "input_schema": {"type": "object", "properties": {}}},
            ]}),
        }
    }

    /// The calls of a whole answer, as `name arguments`.
    fn calls(self, answer: &Value) -> Vec<String> {
        let list = match self {
            Self::Chat => &answer["choices"][0]["message"]["tool_calls"],
            Self::Responses => &answer["output"],
            Self::Messages => &answer["content"],
        };
        let list = list.as_array().unwrap_or_else(|| panic!("{answer}"));
        let call = |entry: &Value| match self {
            Self::Chat => Some((entry["function"]["name"].clone(), entry["function"]["arguments"].clone())),
            Self::Responses => {
                (entry["type"] == "function_call").then(|| (entry["name"].clone(), entry["arguments"].clone()))
            }
            Self::Messages => {
                (entry["type"] == "tool_use").then(|| (entry["name"].clone(), entry["input"].to_string().into()))
            }
        };
        let calls = list.iter().filter_map(call);
        calls.map(|(name, arguments)| format!("{} {}", name.as_str().unwrap(), arguments.as_str().unwrap())).collect()
    }

    async fn ask(self, app: &TestApp) -> Value {
        let response = app.post(self.path(), &self.body()).header("x-api-key", KEY).send().await.unwrap();
        let status = response.status();
        let answer = json_of(response).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The text of a streamed answer's body.
    async fn stream(self, app: &TestApp) -> String {
        let mut body = self.body();
        body["stream"] = json!(true);
        let response = app.post(self.path(), &body).header("x-api-key", KEY).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }
}

const CALL: &str = r#"list_files {"path":"."}"#;

/// A server in front of one account that does this with declared tools. A failure has no other account to go to.
async fn start(declared_tools: DeclaredTools) -> TestApp {
    let account = AccountScript { declared_tools, ..AccountScript::new("ada", Era::A) };
    let simulator = Simulator::start(Scenario::with_accounts([account])).await.unwrap();
    Setup::default().with("WEB_TOOLS", "native").with("MAX_RETRIES", "0").start(simulator).await
}

fn sent(app: &TestApp) -> Vec<RecordedRequest> {
    app.simulator.record().requests_to(Endpoint::Completions)
}

/// The messages sent from the `first` on: whether each declares tools, whether it describes them, and whether it goes on
/// in a chat.
fn forms(app: &TestApp, first: usize) -> Vec<(bool, bool, bool)> {
    let form = |request: &RecordedRequest| {
        let body = request.body.as_ref().unwrap();
        let message = &body["messages"][0];
        let is_described = message["content"].as_str().unwrap().contains("<tools>");
        (message["feature_config"].get("local_mcp").is_some(), is_described, body["parent_id"].is_string())
    };
    sent(app).iter().skip(first).map(form).collect()
}

const DECLARED: (bool, bool, bool) = (true, false, false);
const DESCRIBED: (bool, bool, bool) = (false, true, false);

#[tokio::test]
async fn tools_are_declared_and_calls_are_read_in_every_dialect() {
    for dialect in DIALECTS {
        let app = start(DeclaredTools::Taken).await;
        for _ in 0..2 {
            assert_eq!(dialect.calls(&dialect.ask(&app).await), [CALL]);
        }
        let streamed = dialect.stream(&app).await;
        assert!(streamed.contains("list_files") && !streamed.contains("<tool_call>"), "{streamed}");
        assert_eq!(forms(&app, 0), [DECLARED; 3], "{dialect:?}");
        let asked = app.asked();
        let empty = json!({"type": "object", "properties": {}});
        let expected = json!({"LocalTools": {
            "list_files": {"description": "Lists a folder.", "input_schema": schema()},
            "clock": {"description": "", "input_schema": empty},
        }});
        assert_eq!(asked.message()["feature_config"]["local_mcp"], expected);
        assert_eq!((asked.prompt(), asked.message()["role"].as_str()), ("What is in src?", Some("user")));
        app.assert_clean();
    }
}

#[tokio::test]
async fn an_account_without_the_ability_gets_the_tools_in_the_prompt() {
    for declared_tools in [DeclaredTools::Ignored, DeclaredTools::Refused] {
        for dialect in DIALECTS {
            let app = start(declared_tools).await;
            assert_eq!(dialect.calls(&dialect.ask(&app).await), [CALL], "{declared_tools:?}");
            assert_eq!(forms(&app, 0), [DECLARED, DESCRIBED], "{declared_tools:?} {dialect:?}");
            // The next request of this account does not try again, in whichever dialect.
            for dialect in DIALECTS {
                let streamed = dialect.stream(&app).await;
                assert!(streamed.contains("list_files") && !streamed.contains("<tool_call>"), "{streamed}");
            }
            assert_eq!(forms(&app, 2), [DESCRIBED; 3]);
            app.assert_clean();
        }
    }
}

#[tokio::test]
async fn nothing_of_an_answer_on_trial_is_shown() {
    let app = start(DeclaredTools::Ignored).await;
    let thinking = ScriptedReply::pieces(["I have ", "no tools."]).reasoning(&[&[("Hm", "No tools here.")]]);
    app.simulator.script().queue(None, Endpoint::Completions, thinking);
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::pieces(["All ", "fine."]));
    let streamed = app.stream(&Dialect::Chat.body()).await;
    assert_eq!((streamed.content().as_str(), streamed.reasoning().as_str()), ("All fine.", ""));
    assert_eq!(streamed.finish_reasons(), ["stop"]);
    assert_eq!(forms(&app, 0), [DECLARED, DESCRIBED]);
    // What the trial cost is counted.
    let app = start(DeclaredTools::Ignored).await;
    let usage = json_of(app.chat(&Dialect::Chat.body()).await).await["usage"].clone();
    let tried = start(DeclaredTools::Ignored).await;
    tried.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::failing(ScriptedFailure::Error(bad())));
    let alone = json_of(tried.chat(&Dialect::Chat.body()).await).await["usage"].clone();
    assert!(usage["total_tokens"].as_u64() > alone["total_tokens"].as_u64(), "{usage} {alone}");
}

fn bad() -> ErrorScript {
    let details = Some("Something wrong with request!".to_owned());
    ErrorScript { code: "Bad_Request".to_owned(), details, ..ErrorScript::default() }
}

#[tokio::test]
async fn an_answer_without_calls_is_believed_once_an_account_has_called() {
    let app = start(DeclaredTools::Taken).await;
    Dialect::Chat.ask(&app).await;
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::pieces(["No ", "need."]));
    assert_eq!(app.stream(&Dialect::Chat.body()).await.content(), "No need.");
    // A call in the text is a call too, but proves nothing: the next answer is on trial as well.
    let unproven = start(DeclaredTools::Taken).await;
    let script = ToolScript::new(CallShape::Documented, [ModelCall::new("clock", json!({}))]);
    unproven.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::calling(script));
    assert_eq!(Dialect::Chat.calls(&Dialect::Chat.ask(&unproven).await), ["clock {}"]);
    for app in [&app, &unproven] {
        assert!(forms(app, 0).iter().all(|form| *form == DECLARED), "{:?}", forms(app, 0));
    }
    unproven.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::pieces(["None."]));
    assert_eq!(Dialect::Chat.calls(&Dialect::Chat.ask(&unproven).await), [CALL]);
    assert_eq!(forms(&unproven, 1), [DECLARED, DESCRIBED]);
}

#[tokio::test]
async fn results_stand_in_the_prompt() {
    let app = start(DeclaredTools::Taken).await;
    let first = Dialect::Chat.ask(&app).await;
    let message = first["choices"][0]["message"].clone();
    let mut body = Dialect::Chat.body();
    let messages = body["messages"].as_array_mut().unwrap();
    let id = message["tool_calls"][0]["id"].clone();
    messages.push(message);
    messages.push(json!({"role": "tool", "tool_call_id": id, "content": "No files."}));
    let second = json_of(app.chat(&body).await).await;
    let text = second["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(text.contains("No files."), "{second}");
    // The chat of a call waits for a result in a form that the upstream refuses, so the conversation begins anew.
    assert_eq!(forms(&app, 1), [DECLARED]);
    let asked = app.asked();
    let prompt = asked.prompt();
    assert!(
        prompt.contains("<tool_call>{\"name\": \"list_files\", \"arguments\": {\"path\":\".\"}}</tool_call>"),
        "{prompt}"
    );
    assert!(prompt.contains("name=\"list_files\">\nNo files.\n</tool_result>"), "{prompt}");
    assert!(prompt.ends_with("Go on, using the tool results above."), "{prompt}");
    // An answer in words is continued, with the tools declared again.
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": text}));
    messages.push(json!({"role": "user", "content": "echo: thanks"}));
    let third = json_of(app.chat(&body).await).await;
    assert_eq!(third["choices"][0]["message"]["content"], "thanks");
    assert_eq!((forms(&app, 2), app.asked().prompt()), (vec![(true, false, true)], "echo: thanks"));
    app.assert_clean();
}

#[tokio::test]
async fn a_chat_with_declared_tools_is_not_continued_with_described_ones() {
    let app = start(DeclaredTools::Taken).await;
    Dialect::Chat.ask(&app).await;
    let mut body = Dialect::Chat.body();
    body["messages"] = json!([{"role": "user", "content": "echo: one"}]);
    let mut say = async |text: &str| {
        let answer = json_of(app.chat(&body).await).await;
        assert_eq!(answer["choices"][0]["message"]["content"], text, "{answer}");
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": text}));
        messages.push(json!({"role": "user", "content": "echo: more"}));
    };
    say("one").await;
    // The upstream takes the tools no more: neither in the chat nor in another one.
    for _ in 0..2 {
        app.simulator.script().queue(
            None,
            Endpoint::Completions,
            ScriptedReply::failing(ScriptedFailure::Error(bad())),
        );
    }
    say("more").await;
    assert_eq!(forms(&app, 2), [(true, false, true), DECLARED, DESCRIBED]);
    assert!(app.asked().prompt().contains("<assistant>\none\n</assistant>"), "the whole conversation");
    say("more").await;
    assert_eq!(forms(&app, 5), [(false, false, true)], "the new chat is continued in its own form");
    app.assert_clean();
}

#[tokio::test]
async fn a_chat_with_described_tools_goes_on_so() {
    let simulator = Simulator::start(Scenario::with_accounts([AccountScript::new("ada", Era::A)])).await.unwrap();
    let app = Setup::default().start(simulator).await;
    let mut body = Dialect::Chat.body();
    body["messages"] = json!([{"role": "user", "content": "echo: one"}]);
    json_of(app.chat(&body).await).await;
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().with("WEB_TOOLS", "native").in_dir(state_dir).start(simulator).await;
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": "one"}));
    messages.push(json!({"role": "user", "content": "echo: two"}));
    assert_eq!(json_of(app.chat(&body).await).await["choices"][0]["message"]["content"], "two");
    assert_eq!(forms(&app, 1), [(false, false, true)]);
}

#[tokio::test]
async fn other_failures_say_nothing_of_declarations() {
    let app = start(DeclaredTools::Taken).await;
    let limited = ErrorScript { code: "RateLimited".to_owned(), num: Some(2), ..ErrorScript::default() };
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::failing(ScriptedFailure::Error(limited)));
    let response = app.chat(&Dialect::Chat.body()).await;
    assert_eq!(response.status(), 429);
    error_of(response).await;
    assert_eq!(forms(&app, 0), [DECLARED]);
}

#[tokio::test]
async fn a_wrong_native_call_is_asked_for_once_more() {
    let app = start(DeclaredTools::Taken).await;
    let wrong = ToolScript::new(CallShape::LocalTool, [ModelCall::new("list_files", json!({}))]);
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::calling(wrong));
    assert_eq!(Dialect::Chat.calls(&Dialect::Chat.ask(&app).await), [CALL]);
    assert_eq!(forms(&app, 0), [DECLARED; 2]);
    assert!(app.asked().prompt().contains("\"path\" is a required property"), "{}", app.asked().prompt());
}

//! Static keys: endpoints that speak OpenAI's dialect themselves, beside the web chat.

use serde_json::{Value, json};
use simulator::script::{
    ApiErrorScript, ApiFailure, ChunkForm, CutHow, End, Endpoint, KeyScript, RawScript, Scenario, ScriptedFailure,
    ScriptedReply, UsageChunk,
};
use simulator::{Simulator, TokenLife};

use crate::support::app::{PATIENCE, Setup, TestApp, USAGE, content, error_of, json_of, question, told, with_keys};
use crate::support::oracle::until_all_healthy;
use crate::support::program::Program;

fn ask(model: &str, text: &str) -> Value {
    let mut body = question(text);
    body["model"] = json!(model);
    body
}

#[tokio::test]
async fn a_key_answers_whole_and_streamed() {
    let app = with_keys(Scenario::default()).await;
    let mut body = ask("key/qwen3.7-plus", "echo: Grüße");
    body["temperature"] = json!(0);
    body["response_format"] = json!({"type": "text"});
    body["stop"] = json!(["never"]);
    let reply = ScriptedReply::answer("Grüße").with_stream(|stream| stream.usage = Some(USAGE));
    app.simulator.script().set_default(None, Endpoint::KeyChat, Some(reply));
    let answer = json_of(app.chat(&body).await).await;
    assert_eq!((content(&answer), &answer["model"]), ("Grüße", &json!("key/qwen3.7-plus")));
    assert_eq!(answer["usage"], told(USAGE));
    let sent = app.simulator.record().requests_to(Endpoint::KeyChat).pop().unwrap().body.unwrap();
    assert_eq!(
        (&sent["temperature"], &sent["stop"], &sent["model"]),
        (&json!(0), &json!(["never"]), &json!("qwen3.7-plus"))
    );
    let transcript = app.stream(&body).await;
    assert!(transcript.is_done && transcript.error().is_none(), "{transcript:?}");
    assert_eq!(transcript.content(), "Grüße");
    assert_eq!(transcript.finish_reasons(), ["stop"]);
    let roles = transcript.chunks.iter().filter(|chunk| chunk["choices"][0]["delta"]["role"].is_string()).count();
    assert_eq!(roles, 1);
    assert!(transcript.chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    body["stream_options"] = json!({"include_usage": true});
    let transcript = app.stream(&body).await;
    let last = transcript.chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], told(USAGE));
    app.assert_clean();
}

#[tokio::test]
async fn an_endpoint_without_a_list_of_models_serves_what_is_asked_for() {
    let scenario = Scenario { accounts: Vec::new(), ..Scenario::default() };
    let simulator = Simulator::start(scenario).await.unwrap();
    simulator.script().set_default(None, Endpoint::KeyModels, Some(ScriptedReply::status(404)));
    let base = simulator.urls().keys;
    let keys: Vec<String> =
        simulator.keys().names().iter().map(|name| format!("{}@{base}", simulator.keys().secret(name))).collect();
    let app = Setup::default().without("COOKIE").with("QWEN_API_KEYS", &keys.join(",")).start(simulator).await;
    let answer = json_of(app.chat(&ask("qwen3.7-plus", "echo: x")).await).await;
    assert_eq!((content(&answer), &answer["model"]), ("x", &json!("qwen3.7-plus")));
}

#[tokio::test]
async fn thoughts_go_where_the_settings_say() {
    let thinking = || ScriptedReply::answer("The answer.").reasoning(&[&[("Looking", "First I look.")]]);
    for (setting, field, is_shown) in
        [("hidden", json!(null), false), ("parsed", json!("hidden"), false), ("hidden", json!("parsed"), true)]
    {
        let simulator = Simulator::start(Scenario::default()).await.unwrap();
        simulator.script().set_default(None, Endpoint::KeyChat, Some(thinking()));
        let key = simulator.keys().secret(&simulator.keys().names()[0]);
        let key = format!("{key}@{}", simulator.urls().keys);
        let setup = Setup::default().with("QWEN_API_KEYS", &key).with("REASONING_FORMAT", setting);
        let app = setup.start(simulator).await;
        let mut body = ask("key/qwen3.7-plus", "x");
        body["reasoning_format"] = field.clone();
        let transcript = app.stream(&body).await;
        assert_eq!(transcript.content(), "The answer.");
        assert_eq!(!transcript.reasoning().is_empty(), is_shown, "{setting} {field}");
        let whole = json_of(app.chat(&body).await).await;
        let thought = whole["choices"][0]["message"]["reasoning_content"].as_str().unwrap_or_default();
        assert_eq!(!thought.is_empty(), is_shown, "{setting} {field}: {whole}");
    }
}

#[tokio::test]
async fn tools_and_thoughts_pass_through() {
    let app = with_keys(Scenario::default()).await;
    let mut body = ask("key/qwen3.7-plus", "call: weather {\"city\": \"Oslo\"}");
    body["tools"] = json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]);
    let answer = json_of(app.chat(&body).await).await;
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "weather");
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"city": "Oslo"}));
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let transcript = app.stream(&body).await;
    assert_eq!(transcript.finish_reasons(), ["tool_calls"]);
    let mut body = ask("key/qwen3.7-plus", "echo: x");
    body["reasoning_effort"] = json!("low");
    let transcript = app.stream(&body).await;
    assert!(!transcript.reasoning().is_empty(), "{transcript:?}");
}

/// Thoughts may come under another name, and are thoughts in every dialect.
#[tokio::test]
async fn thoughts_by_their_shorter_name() {
    let app = with_keys(Scenario::default()).await;
    let frame = |delta: Value, reason: Value| {
        json!({"id": "u", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}).to_string()
    };
    let frames =
        [frame(json!({"reasoning": "Hm, so."}), Value::Null), frame(json!({"content": "Yes."}), json!("stop"))];
    let streamed = format!("data: {}\n\ndata: {}\n\ndata: [DONE]\n\n", frames[0], frames[1]);
    let message = json!({"role": "assistant", "content": "Yes.", "reasoning": "Hm, so."});
    let whole = json!({"id": "u", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).to_string();
    for (stream, content_type, body) in [(true, "text/event-stream", streamed), (false, "application/json", whole)] {
        let raw = RawScript { status: 200, content_type: content_type.to_owned(), body, base64: false };
        app.simulator.script().set_default(
            None,
            Endpoint::KeyChat,
            Some(ScriptedReply::failing(ScriptedFailure::Raw(raw))),
        );
        let answer = async |path: &str, more: Value| {
            let mut body = ask("key/qwen3.7-plus", "x");
            body["stream"] = json!(stream);
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            app.post(path, &body).send().await.unwrap().text().await.unwrap()
        };
        let thinking = json!({"type": "enabled", "budget_tokens": 1024});
        let message = answer("/v1/messages", json!({"max_tokens": 4096, "thinking": thinking})).await;
        assert!(message.contains(r#""thinking":"Hm, so.""#), "{message}");
        let response = answer("/v1/responses", json!({"input": "x"})).await;
        assert!(response.contains("reasoning") && response.contains("Hm, so."), "{response}");
        let chat = answer("/v1/chat/completions", json!({})).await;
        assert!(chat.contains(r#""reasoning":"Hm, so.""#) && !chat.contains("reasoning_content"), "{chat}");
    }
}

#[tokio::test]
async fn whose_model_it_is() {
    let app = with_keys(Scenario::default()).await;
    let listed = json_of(app.get("/v1/models").send().await.unwrap()).await;
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    let key_models: Vec<&str> = ids.iter().filter_map(|id| id.strip_prefix("key/")).collect();
    assert!(!key_models.is_empty(), "{ids:?}");
    let web = |id: &&&str| ids.iter().filter(|other| *other == *id).count() == 1;
    assert!(ids.iter().filter(web).count() == ids.len(), "each name once: {ids:?}");
    // A name that the web chat has is the web chat's; one that only the key has is the key's.
    let web_turns = || app.simulator.record().requests_to(Endpoint::Completions).len();
    let key_turns = || app.simulator.record().requests_to(Endpoint::KeyChat).len();
    json_of(app.chat(&ask("qwen3-max", "echo: x")).await).await;
    assert_eq!((web_turns(), key_turns()), (1, 0));
    json_of(app.chat(&ask("web/qwen3-max", "echo: x")).await).await;
    assert_eq!((web_turns(), key_turns()), (2, 0));
    let only_key = key_models.iter().find(|id| {
        ids.contains(*id)
            && listed["data"]
                .as_array()
                .unwrap()
                .iter()
                .any(|model| model["id"] == **id && model.get("context_length").is_none_or(Value::is_null))
    });
    if let Some(id) = only_key {
        json_of(app.chat(&ask(id, "echo: x")).await).await;
        assert_eq!((web_turns(), key_turns()), (2, 1), "{id}");
    }
    let response = app.chat(&ask("no-such-model", "x")).await;
    assert_eq!(response.status(), 404);
    assert_eq!(error_of(response).await["code"], "model_not_found");
}

#[tokio::test]
async fn a_whole_answer_that_hangs_goes_to_another_key() {
    let simulator = Simulator::start(Scenario::default().key(KeyScript::new("lee")).paced_ms(0)).await.unwrap();
    let key = |name: &str| format!("{}@{}", simulator.keys().secret(name), simulator.urls().keys);
    let keys = format!("{},{}", key("kay"), key("lee"));
    let setup = Setup::default().with("QWEN_API_KEYS", &keys).with("FIRST_EVENT_TIMEOUT", "500ms");
    let app = setup.start(simulator).await;
    for stream in [false, true] {
        app.simulator.script().queue(None, Endpoint::KeyChat, ScriptedReply::failing(ScriptedFailure::Silence));
        let mut body = ask("key/qwen3.7-plus", "echo: x");
        body["stream"] = json!(stream);
        let response = app.chat(&body).await;
        assert_eq!(response.status(), 200, "{stream}");
        assert!(response.text().await.unwrap().contains('x'));
    }
    let asked = app.simulator.record().requests_to(Endpoint::KeyChat);
    assert_eq!(asked.len(), 4);
    assert_ne!(asked[0].account, asked[1].account);
}

#[tokio::test]
async fn what_a_server_with_keys_alone_says() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let key = format!("{}@{}", simulator.keys().secret("kay"), simulator.urls().keys);
    let app = Setup::default().without("COOKIE").with("QWEN_API_KEYS", &key).start(simulator).await;
    let listed = json_of(app.get("/v1/models").send().await.unwrap()).await;
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert!(!ids.is_empty());
    for id in &ids {
        let answer = app.chat(&ask(id, "echo: x")).await;
        assert_eq!(answer.status(), 200, "{id} is listed");
        assert_eq!(app.get(&format!("/v1/models/{id}")).send().await.unwrap().status(), 200, "{id}");
    }
    let health = json_of(app.get("/health").send().await.unwrap()).await;
    let token = &health["token"];
    assert_eq!((&token["valid"], &token["reason"]), (&json!(true), &json!("a static key does not end")));
    let refreshed = app.post("/refresh-token", &json!({})).send().await.unwrap();
    assert_eq!(refreshed.status(), 200);
    assert!(json_of(refreshed).await["message"].as_str().unwrap().contains("1 static keys"));
    app.simulator.keys().set_revoked("kay", true);
    let response = app.chat(&ask(ids[0], "x")).await;
    assert_eq!(response.status(), 503);
    let message = error_of(response).await["message"].as_str().unwrap().to_owned();
    assert!(!message.contains("cookie"), "{message}");
    let health = json_of(app.get("/health").send().await.unwrap()).await;
    let token = &health["token"];
    assert_eq!((&token["valid"], &token["reason"]), (&json!(false), &json!("the upstream refuses the token")));
}

#[tokio::test]
async fn check_asks_about_keys_and_oauth_accounts() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cleo = simulator.oauth().credentials("cleo", TokenLife::Fresh);
    let key = format!("{}@{}", simulator.keys().secret("kay"), simulator.urls().keys);
    let (own, empty) = (dir.path().join("own"), dir.path().join("empty"));
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("oauth_creds_cleo.json"), cleo).unwrap();
    let run = async |keys: &str, accounts: &std::path::Path| {
        let settings = [
            ("QWEN_API_KEYS", keys.to_owned()),
            ("QWEN_DIR", accounts.display().to_string()),
            ("QWEN_OAUTH_BASE_URL", simulator.urls().web.to_string()),
            ("QWEN_WEB_BASE_URL", simulator.urls().web.to_string()),
            ("QWEN_AUTH_BASE_URL", simulator.urls().auth.to_string()),
        ];
        let mut program = Program::start(&["check"], &settings);
        let code = program.code().await;
        (code, program.stdout() + &program.stderr())
    };
    let (code, told) = run(&key, &empty).await;
    assert!(code == 0 && told.contains("key-1") && !told.contains("cookie"), "{told}");
    // The portal has no list of models, which is no fault of the account.
    let (code, told) = run("", &own).await;
    assert!(code == 0 && told.contains("oauth:cleo") && !told.contains("cookie"), "{told}");
    let (code, told) = run("", &empty).await;
    assert!(code == 1 && told.contains("No account is configured"), "{told}");
    simulator.keys().set_revoked("kay", true);
    let (code, told) = run(&key, &empty).await;
    assert!(code == 1 && told.contains("refused") && told.contains("QWEN_API_KEYS"), "{told}");
}

#[tokio::test]
async fn keys_alone_are_enough() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let key = format!("{}@{}", simulator.keys().secret("kay"), simulator.urls().keys);
    let app = Setup::default().without("COOKIE").with("QWEN_API_KEYS", &key).start(simulator).await;
    let mut body = question("echo: x");
    body.as_object_mut().unwrap().remove("model");
    let answer = json_of(app.chat(&body).await).await;
    assert_eq!(content(&answer), "x");
    let response = app.chat(&ask("qwen-turbo", "x")).await;
    assert_eq!(response.status(), 404);
    let health = json_of(app.get("/health").send().await.unwrap()).await;
    assert_eq!(health["identityPool"]["healthy"], 1, "{health}");
}

#[tokio::test]
async fn without_a_key_the_prefix_leads_nowhere() {
    let app = TestApp::quick().await;
    for model in ["key/qwen3-max", "key/"] {
        let response = app.chat(&ask(model, "x")).await;
        assert_eq!(response.status(), 404, "{model}");
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn failures_have_their_own_status() {
    let app = with_keys(Scenario::default()).await;
    for (failure, status, code) in [
        (ApiFailure::Quota, 429, "insufficient_quota"),
        (ApiFailure::Quota403, 429, "insufficient_quota"),
        (ApiFailure::FreeTierOnly, 429, "insufficient_quota"),
        (ApiFailure::Throttled("7".to_owned()), 429, "rate_limit_exceeded"),
        (ApiFailure::InvalidParameter, 400, "rejected_by_upstream"),
        (ApiFailure::ContextOverflow(1000), 400, "context_length_exceeded"),
        (ApiFailure::ModelNotSupported, 404, "model_not_found"),
        (ApiFailure::Inspection, 400, "content_filter"),
        (ApiFailure::StreamTimeout, 504, "upstream_timeout"),
        (ApiFailure::StreamTimeoutJson, 504, "upstream_timeout"),
        (ApiFailure::Server(502), 502, "upstream_error"),
    ] {
        for stream in [false, true] {
            // A server of its own each: a quota that is gone stays gone.
            let app = if matches!(status, 429) { &with_keys(Scenario::default()).await } else { &app };
            app.simulator.script().queue(None, Endpoint::KeyChat, ScriptedReply::api(failure.clone()));
            let mut body = ask("key/qwen3.7-plus", "x");
            body["stream"] = json!(stream);
            let response = app.chat(&body).await;
            assert_eq!(response.status(), status, "{failure:?} {stream}");
            assert_eq!(error_of(response).await["code"], code, "{failure:?}");
        }
    }
}

/// Gateways tell failures with status 200 too, in place of an answer of any kind.
#[tokio::test]
async fn failures_with_status_200_are_judged_alike() {
    for (name, status, code) in [
        ("context_length_exceeded", 400, "context_length_exceeded"),
        ("AllocationQuota.FreeTierOnly", 429, "insufficient_quota"),
        ("Throttling.RateQuota", 429, "rate_limit_exceeded"),
    ] {
        for body in [json!({"error": {"code": name, "message": "no"}}), json!({"code": name, "message": "no"})] {
            for (path, content_type) in [
                ("/v1/chat/completions", "application/json"),
                ("/v1/chat/completions", "text/event-stream"),
                ("/v1/embeddings", "application/json"),
            ] {
                let app = with_keys(Scenario::default()).await;
                let raw = RawScript {
                    status: 200,
                    content_type: content_type.to_owned(),
                    body: body.to_string(),
                    base64: false,
                };
                let reply = ScriptedReply::failing(ScriptedFailure::Raw(raw));
                let is_chat = path.ends_with("completions");
                let endpoint = if is_chat { Endpoint::KeyChat } else { Endpoint::KeyEmbeddings };
                app.simulator.script().set_default(None, endpoint, Some(reply));
                for stream in if is_chat { &[false, true] as &[bool] } else { &[false] } {
                    let mut asked = ask("key/qwen3.7-plus", "x");
                    asked["stream"] = json!(stream);
                    let asked = if is_chat { asked } else { json!({"input": "one"}) };
                    let response = app.post(path, &asked).send().await.unwrap();
                    let found = (response.status().as_u16(), error_of(response).await["code"].clone());
                    assert_eq!(found, (status, json!(code)), "{path} {content_type} {stream} {body}");
                }
            }
        }
    }
}

#[tokio::test]
async fn another_key_takes_over() {
    let app = with_keys(Scenario::default().key(KeyScript { name: "lee".to_owned(), ..KeyScript::default() })).await;
    for failure in [ApiFailure::Server(503), ApiFailure::IncorrectKey] {
        app.simulator.script().queue(None, Endpoint::KeyChat, ScriptedReply::api(failure.clone()));
        let answer = json_of(app.chat(&ask("key/qwen3.7-plus", "echo: x")).await).await;
        assert_eq!(content(&answer), "x", "{failure:?}");
    }
    // The key that was refused rests.
    let before = app.simulator.record().requests_to(Endpoint::KeyChat).len();
    for _ in 0..4 {
        json_of(app.chat(&ask("key/qwen3.7-plus", "echo: x")).await).await;
    }
    let asked = app.simulator.record().requests_to(Endpoint::KeyChat);
    let mut owners: Vec<_> = asked.iter().skip(before).map(|request| request.account.clone()).collect();
    owners.dedup();
    assert_eq!(owners.len(), 1, "{owners:?}");
}

/// An error of an endpoint with a status, a code and a message.
fn refusal(status: u16, code: &str, message: &str) -> ScriptedReply {
    ScriptedReply::api(ApiFailure::Other(ApiErrorScript::new(status, code, message)))
}

#[tokio::test]
async fn a_model_that_no_key_may_use_marks_no_key() {
    let app = with_keys(Scenario::default().key(KeyScript::new("lee"))).await;
    until_all_healthy(&app).await;
    for (reply, status, code) in [
        (refusal(403, "", "access to model denied"), 403, "model_access_denied"),
        (refusal(403, "AccessDenied.Unpurchased", "Access denied."), 403, "model_access_denied"),
        (refusal(403, "model_not_found", "The project has no access to it."), 404, "model_not_found"),
        (refusal(404, "", "unknown"), 404, "model_not_found"),
    ] {
        for stream in [false, true] {
            let before = app.simulator.record().requests_to(Endpoint::KeyChat).len();
            app.simulator.script().set_default(None, Endpoint::KeyChat, Some(reply.clone()));
            let mut body = ask("key/qwen-secret", "x");
            body["stream"] = json!(stream);
            let response = app.chat(&body).await;
            assert_eq!(response.status(), status, "{reply:?}");
            assert_eq!(error_of(response).await["code"], code, "{reply:?}");
            let asked = app.simulator.record().requests_to(Endpoint::KeyChat);
            assert_eq!(asked.len() - before, 2, "another key might be allowed to: {reply:?}");
        }
    }
    app.simulator.script().set_default(None, Endpoint::KeyChat, None);
    let health = json_of(app.get("/health").send().await.unwrap()).await;
    assert_eq!(health["identityPool"]["healthy"], health["identityPool"]["total"], "{health}");
    assert_eq!(content(&json_of(app.chat(&ask("key/qwen3.7-plus", "echo: x")).await).await), "x");
    // One key may, the other may not.
    app.simulator.script().set_default(
        Some("kay"),
        Endpoint::KeyChat,
        Some(refusal(403, "Model.AccessDenied", "Model access denied.")),
    );
    for _ in 0..4 {
        assert_eq!(content(&json_of(app.chat(&ask("key/qwen3.7-plus", "echo: x")).await).await), "x");
    }
}

#[tokio::test]
async fn a_refused_key_rests_and_one_probe_brings_it_back() {
    // First waits of a sixtieth and a fifth of the cooldown.
    for (reply, cooldown) in [
        (ScriptedReply::api(ApiFailure::IncorrectKey), "60s"),
        (refusal(403, "AccessDenied", "Access denied."), "5s"),
        (refusal(400, "Arrearage", "Access denied, please make sure your account is in good standing."), "5s"),
    ] {
        let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
        let key = format!("{}@{}", simulator.keys().secret("kay"), simulator.urls().keys);
        let app = Setup::default()
            .without("COOKIE")
            .with("QWEN_API_KEYS", &key)
            .with("COOLDOWN_BASE", cooldown)
            .with("ADMIN_SECRET_KEY", "sk-of-the-owner")
            .start(simulator)
            .await;
        app.simulator.script().set_default(None, Endpoint::KeyChat, Some(reply.clone()));
        let mut left = PATIENCE.as_millis() / 50;
        let response = app.chat(&ask("qwen3.7-plus", "x")).await;
        assert_eq!(response.status(), 503, "{reply:?}");
        assert!(response.headers().contains_key("retry-after"), "{reply:?}");
        assert_eq!(error_of(response).await["code"], "no_available_account");
        let owner = app.client.get(app.url("/admin/health")).bearer_auth("sk-of-the-owner");
        let seen = json_of(owner.send().await.unwrap()).await;
        assert_eq!(
            (&seen["accounts"][0]["status"], &seen["accounts"][0]["error"]),
            (&json!("error"), &json!("refused"))
        );
        app.simulator.script().set_default(None, Endpoint::KeyChat, None);
        while app.chat(&ask("qwen3.7-plus", "echo: x")).await.status() != 200 {
            left = left.checked_sub(1).expect("never back");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let health = json_of(app.get("/health").send().await.unwrap()).await;
        assert_eq!(health["identityPool"]["healthy"], 1, "{health}");
    }
}

#[tokio::test]
async fn a_quota_of_one_model_is_told_although_another_key_is_refused() {
    let app = with_keys(Scenario::default().key(KeyScript::new("lee"))).await;
    app.simulator.script().queue(Some("kay"), Endpoint::KeyChat, ScriptedReply::api(ApiFailure::FreeTierOnly));
    app.simulator.script().set_default(
        Some("lee"),
        Endpoint::KeyChat,
        Some(ScriptedReply::api(ApiFailure::IncorrectKey)),
    );
    for _ in 0..3 {
        let response = app.chat(&ask("key/qwen3.7-plus", "x")).await;
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["x-should-retry"], "false");
        assert_eq!(error_of(response).await["code"], "insufficient_quota");
    }
}

#[tokio::test]
async fn a_quota_of_one_model_leaves_the_other_models_alone() {
    let app = with_keys(Scenario::default().key(KeyScript::new("lee"))).await;
    // An account of the web chat is not healthy before its first token has come.
    until_all_healthy(&app).await;
    for name in ["kay", "lee"] {
        app.simulator.script().queue(Some(name), Endpoint::KeyChat, ScriptedReply::api(ApiFailure::FreeTierOnly));
    }
    for stream in [false, true, false] {
        let mut body = ask("key/qwen3.7-plus", "x");
        body["stream"] = json!(stream);
        let response = app.chat(&body).await;
        assert_eq!(response.status(), 429);
        let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=86_400).contains(&wait), "{wait}");
        assert_eq!(error_of(response).await["code"], "insufficient_quota");
    }
    assert_eq!(app.simulator.record().requests_to(Endpoint::KeyChat).len(), 2, "each key was asked once");
    assert_eq!(content(&json_of(app.chat(&ask("key/qwen3.7-max", "echo: x")).await).await), "x");
    let health = json_of(app.get("/health").send().await.unwrap()).await;
    assert_eq!(health["identityPool"]["healthy"], health["identityPool"]["total"], "{health}");
    // A quota of the whole key is the key's.
    app.simulator.script().set_default(None, Endpoint::KeyChat, Some(ScriptedReply::api(ApiFailure::CurrentQuota)));
    assert_eq!(app.chat(&ask("key/qwen3.7-max", "x")).await.status(), 429);
    assert_eq!(app.chat(&ask("key/qwen-plus", "x")).await.status(), 429);
    assert_eq!(app.simulator.record().requests_to(Endpoint::KeyChat).len(), 5);
}

#[tokio::test]
async fn a_key_serves_more_at_once_than_an_account_of_the_web_chat() {
    let app = with_keys(Scenario::default()).await;
    let held = ScriptedReply::numbered(3).ending(End::Stalled);
    app.simulator.script().set_default(None, Endpoint::KeyChat, Some(held));
    let mut body = ask("key/qwen3.7-plus", "x");
    body["stream"] = json!(true);
    let asking = futures_util::future::join_all((0..40).map(|_| app.chat(&body)));
    // Each has begun, and none has ended.
    let streams = tokio::time::timeout(PATIENCE, asking).await.expect("some wait for others to end");
    assert!(streams.iter().all(|stream| stream.status() == 200));
    app.simulator.record().wait_for_counts(|counters| counters.open_streams == 40, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn odd_streams_come_out_even() {
    let app = with_keys(Scenario::default()).await;
    for reply in [
        ScriptedReply::default().with_chat(|chat| chat.chunks = ChunkForm::Bare),
        ScriptedReply::default().with_chat(|chat| chat.chunks = ChunkForm::RoleOnEach),
        ScriptedReply::default().with_chat(|chat| chat.lacks_done = true),
        ScriptedReply::default().with_chat(|chat| chat.usage_chunk = UsageChunk::Never),
    ] {
        let shown = format!("{reply:?}");
        app.simulator.script().queue(None, Endpoint::KeyChat, reply);
        let transcript = app.stream(&ask("key/qwen3.7-plus", "echo: even")).await;
        assert_eq!((transcript.content().as_str(), transcript.is_done), ("even", true), "{shown}");
        let ids: std::collections::HashSet<_> = transcript.chunks.iter().map(|chunk| chunk["id"].to_string()).collect();
        assert_eq!(ids.len(), 1, "{shown}");
        assert!(
            transcript
                .chunks
                .iter()
                .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["created"].is_i64())
        );
    }
    for how in [CutHow::Fin, CutHow::Reset, CutHow::CleanEnd] {
        app.simulator.script().queue(None, Endpoint::KeyChat, ScriptedReply::pieces(["a", "b", "c"]).cut_after(3, how));
        let transcript = app.stream(&ask("key/qwen3.7-plus", "x")).await;
        assert!(!transcript.is_done, "{how:?}");
        assert_eq!(transcript.error().unwrap()["code"], "upstream_truncated", "{how:?}");
    }
}

#[tokio::test]
async fn a_key_is_never_shown() {
    let app = with_keys(Scenario::default()).await;
    let key = app.simulator.keys().secret("kay");
    for path in ["/health", "/", "/v1/models"] {
        let text = app.get(path).send().await.unwrap().text().await.unwrap();
        assert!(!text.contains(&key), "{path}");
    }
    app.simulator.script().queue(None, Endpoint::KeyChat, ScriptedReply::api(ApiFailure::IncorrectKey));
    let text = app.chat(&ask("key/qwen3.7-plus", "x")).await.text().await.unwrap();
    assert!(!text.contains(&key), "{text}");
}

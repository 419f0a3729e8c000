//! Whole answers.

use serde_json::json;

use crate::app::{TestApp, content, question};

#[tokio::test]
async fn a_question_gets_a_whole_answer() {
    let app = TestApp::quick().await;
    let answer = app.ask("echo: 你好, wörld 🙂").await;
    assert_eq!(content(&answer), "你好, wörld 🙂");
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "qwen3-max");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["choices"][0]["message"]["refusal"], json!(null));
    assert_eq!(app.simulator.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn two_questions_use_two_accounts() {
    let app = TestApp::quick().await;
    for _ in 0..4 {
        assert_eq!(app.chat(&question("echo: x")).await.status(), 200);
    }
    let accounts: Vec<_> = app
        .simulator
        .requests_to(qwen_bridge::simulator::scenario::Endpoint::Completions)
        .into_iter()
        .map(|request| request.account)
        .collect();
    assert_eq!(accounts[0], accounts[2]);
    assert_ne!(accounts[0], accounts[1]);
}

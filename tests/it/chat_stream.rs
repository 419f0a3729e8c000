//! Streamed answers.

use serde_json::json;

use crate::app::{TestApp, question};

#[tokio::test]
async fn a_question_gets_a_streamed_answer() {
    let app = TestApp::quick().await;
    let transcript = app.stream(&question("echo: 你好, wörld 🙂")).await;
    assert_eq!(transcript.content(), "你好, wörld 🙂");
    assert_eq!(transcript.finish_reasons(), ["stop"]);
    assert!(transcript.is_done);
    assert_eq!(transcript.chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(app.simulator.violations(), Vec::<String>::new());
}

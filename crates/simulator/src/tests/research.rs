//! Deep research: it asks back first, then searches and writes a report.

use serde_json::Value;

use crate::script::{Endpoint, ReportPhase, ResearchScript, ScriptedReply};
use crate::tests::client::{Caller, frames, question, start};

/// The phases of a stream in their order, each once in a row.
fn phases(text: &str) -> Vec<String> {
    let phase = |frame: &Value| frame["choices"][0]["delta"]["phase"].as_str().map(str::to_owned);
    let mut phases: Vec<String> = frames(text).iter().filter_map(phase).collect();
    phases.dedup();
    phases
}

fn research(chat: &str, prompt: &str) -> Value {
    let mut body = question(chat, prompt);
    let message = &mut body["messages"][0];
    for place in ["chat_type", "sub_chat_type"] {
        message[place] = "deep_research".into();
    }
    message["extra"]["meta"]["subChatType"] = "deep_research".into();
    body
}

#[tokio::test]
async fn it_asks_back_in_the_first_message_of_a_chat() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat_for("deep_research").await;
    let asked = caller.complete(&chat, &research(&chat, "fog")).await;
    assert_eq!(phases(&asked.text), ["ResearchNotice", "answer"]);
    assert!(simulator.record().violations().is_empty());
    let chat = caller.chat_for("deep_research").await;
    let told = caller.complete(&chat, &research(&chat, "echo: fog")).await;
    let steps = ["ResearchPlanning", "ResearchSearching", "KeepAlive", "ResearchSearching", "ResearchReading"];
    assert_eq!(phases(&told.text), [&steps[..], &["Writing", "answer"]].concat());
}

#[tokio::test]
async fn the_report_can_come_in_either_phase_and_end_without_a_last_frame() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let script =
        ResearchScript { asks: Some(false), keep_alives: 0, report: ReportPhase::Answer, has_last_frame: false };
    simulator.script().queue(None, Endpoint::Completions, ScriptedReply::researching(script));
    let chat = caller.chat_for("deep_research").await;
    let told = caller.complete(&chat, &research(&chat, "fog")).await;
    assert_eq!(phases(&told.text).last().unwrap(), "answer");
    assert!(!told.text.contains("\"status\": \"finished\", \"phase\": \"answer\""), "{}", told.text);
}

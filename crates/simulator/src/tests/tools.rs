//! Tool calls over the web chat: scripted in any shape, and those of the built-in answer.

use serde_json::{Value, json};

use crate::script::{CallShape, ModelCall, Packets, ScriptedReply, ToolScript};
use crate::tests::client::{Caller, answer_of, frames, question, start};

const TOOLS: &str = r#"{"name":"ls","description":"Lists","parameters":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}}"#;

fn prompt(rest: &str) -> String {
    format!("Head.\n\n<tools>\n{TOOLS}\n</tools>\n\nHow to call.\n\n<user>\nWhat is here?\n</user>{rest}")
}

#[tokio::test]
async fn a_scripted_call_arrives_however_it_is_cut() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let call = ModelCall::new("ls", json!({ "path": "Größe 字 🦀" }));
    let tools = ToolScript {
        before: "I look. ".to_owned(),
        after: " Done.".to_owned(),
        ..ToolScript::new(CallShape::Invoke, [call])
    };
    for piece_chars in [None, Some(1), Some(7)] {
        for packets in [Packets::Frames, Packets::Size(1), Packets::Size(5)] {
            let tools = ToolScript { piece_chars, ..tools.clone() };
            let said = caller.ask_scripted(ScriptedReply::calling(tools.clone()).packets(packets)).await.text;
            assert_eq!(answer_of(&said), tools.text());
        }
    }
}

#[tokio::test]
async fn the_upstreams_own_phase_has_no_text() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let tools = ToolScript::new(CallShape::LocalTool, [ModelCall::new("ls", json!({ "path": "." }))]);
    let said = caller.ask_scripted(ScriptedReply::calling(tools)).await.text;
    assert_eq!(answer_of(&said), "");
    let frames = frames(&said);
    let deltas = frames.iter().map(|frame| &frame["choices"][0]["delta"]);
    let local: Vec<&Value> = deltas.filter(|delta| delta["phase"] == "local_tool").collect();
    let expected = json!({ "LocalTools": [{ "tool_name": "ls", "params": { "path": "." } }] });
    assert_eq!((local.len(), &local[0]["extra"]["local_mcp"]), (1, &expected));
}

#[tokio::test]
async fn a_loop_turns_without_any_script() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let call = answer_of(&caller.ask(&prompt("")).await.text);
    assert_eq!(call, r#"<tool_call>{"name": "ls", "arguments": {"path":"."}}</tool_call>"#);
    let result = "<tool_result id=\"a\" name=\"ls\">\nREADME.md\n</tool_result>";
    let turn = format!("\n\n<assistant>\n{call}\n</assistant>\n\n{result}\n\nWrite on.");
    let said = answer_of(&caller.ask(&prompt(&turn)).await.text);
    assert!(said.contains("`ls` returned:\n\nREADME.md"), "{said}");
}

#[tokio::test]
async fn a_loop_turns_in_one_chat() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let asked = |text: &str, parent: Option<&str>| {
        let mut body = question(&chat, text);
        body["parent_id"] = json!(parent);
        body
    };
    let first = caller.complete(&chat, &asked(&prompt(""), None)).await.text;
    let answer = caller.last_completion().await.response_id.unwrap();
    assert!(answer_of(&first).starts_with(r#"<tool_call>{"name": "ls""#));
    let result = "<tool_result id=\"a\" name=\"ls\">\nREADME.md\n</tool_result>";
    let second = answer_of(&caller.complete(&chat, &asked(result, Some(&answer))).await.text);
    assert!(second.contains("`ls` returned:\n\nREADME.md"), "{second}");
    let answer = caller.last_completion().await.response_id.unwrap();
    let third = caller.complete(&chat, &asked("And now?", Some(&answer))).await.text;
    assert!(answer_of(&third).starts_with(r#"<tool_call>{"name": "ls""#), "{third}");
}

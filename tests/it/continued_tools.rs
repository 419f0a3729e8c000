//! Continued conversations of agents: the results of tools go up, and nothing that the chat has already.

use serde_json::{Value, json};
use simulator::script::{Endpoint, ScriptedReply};

use crate::continued::{chats_made, must_have_continued, parent, sent, start, user};
use crate::support::app::json_of;
use crate::support::oracle::accounts_of;

fn tools() -> Value {
    let path = json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": path}});
    json!([tool("list_files"), tool("read_file")])
}

#[tokio::test]
async fn an_agents_second_turn_sends_the_results_only() {
    let app = start(1).await;
    let mut messages = vec![json!({"role": "system", "content": "Be terse. ".repeat(3000)}), user("What is in src?")];
    let asking = |messages: &[Value]| json!({"model": "qwen3-max", "messages": messages, "tools": tools()});
    let first = json_of(app.chat(&asking(&messages)).await).await;
    let mut replay = first["choices"][0]["message"].clone();
    let id = replay["tool_calls"][0]["id"].as_str().unwrap().to_owned();
    // Python's and JavaScript's JSON differ in white space.
    let arguments: Value =
        serde_json::from_str(replay["tool_calls"][0]["function"]["arguments"].as_str().unwrap()).unwrap();
    replay["tool_calls"][0]["function"]["arguments"] = json!(arguments.to_string());
    messages.push(replay);
    messages.push(json!({"role": "tool", "tool_call_id": id, "content": "nothing\nat all"}));
    let second = json_of(app.chat(&asking(&messages)).await).await;
    let said = second["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(said.contains("nothing\nat all"), "{said}");
    let prompt = format!(
        "The conversation goes on, one block for each message in order. Write only the assistant's next message, without \
         tags around it.\n\n<tool_result id=\"{id}\" name=\"list_files\">\nnothing\nat all\n</tool_result>\n\nWrite the \
         assistant's next message: an answer, or tool calls in <tool_call> blocks."
    );
    must_have_continued(&app, 0, &prompt);
    let bytes: Vec<usize> = sent(&app).iter().map(|request| request.body_bytes).collect();
    assert!(bytes[0] > 30_000 && bytes[1] < 2_500, "{bytes:?}");
    // The tools stand in the chat already, and are called again.
    messages.push(second["choices"][0]["message"].clone());
    messages.push(user("call: read_file {\"path\": \"lib.rs\"}"));
    let mut demanding = asking(&messages);
    demanding["tool_choice"] = json!({"type": "function", "function": {"name": "read_file"}});
    let third = json_of(app.chat(&demanding).await).await;
    assert_eq!(third["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "read_file", "{third}");
    let asked = app.asked();
    assert!(asked.prompt().ends_with("It has to call the tool read_file."), "{}", asked.prompt());
    assert_eq!((chats_made(&app), accounts_of(&sent(&app)).len()), (1, 3));
}

#[tokio::test]
async fn results_of_several_calls_are_told_apart() {
    let both = "<tool_call>{\"name\": \"list_files\", \"arguments\": {\"path\": \"a\"}}</tool_call>\
                <tool_call>{\"name\": \"list_files\", \"arguments\": {\"path\": \"b\"}}</tool_call>";
    for (order, is_continued) in [(vec![0, 1], true), (vec![1, 0], true), (vec![0], false)] {
        let app = start(1).await;
        app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::answer(both));
        let mut messages = vec![user("What is in a and b?")];
        let asking = |messages: &[Value]| json!({"model": "qwen3-max", "messages": messages, "tools": tools()});
        let first = json_of(app.chat(&asking(&messages)).await).await;
        let replay = first["choices"][0]["message"].clone();
        let result = |place: usize| {
            let id = replay["tool_calls"][place]["id"].clone();
            json!({"role": "tool", "tool_call_id": id, "content": format!("result {place}")})
        };
        let results: Vec<Value> = order.iter().map(|place| result(*place)).collect();
        messages.push(replay.clone());
        messages.extend(results);
        assert_eq!(app.chat(&asking(&messages)).await.status(), 200);
        let asked = app.asked();
        let (prompt, parent) = (asked.prompt(), parent(&asked));
        assert_eq!(parent.is_some(), is_continued, "{order:?}");
        if is_continued {
            let places = ["result 0", "result 1"].map(|text| prompt.find(text).unwrap());
            assert!(places[0] < places[1], "in the order of the calls: {prompt}");
        }
    }
}

#[tokio::test]
async fn an_answer_with_words_left_out_is_not_continued() {
    let call = "<tool_call>{\"name\": \"list_files\", \"arguments\": {\"path\": \"a\"}}</tool_call>";
    for (answers, is_continued) in [
        (vec![call.to_owned()], true),
        (vec![format!("I look.\n{call}")], true),
        (vec![format!("{call}\n<tool_result>\nb.txt\n</tool_result>\nThere is b.txt.")], false),
        (vec![format!("{call} And then I wait.")], false),
        // Asked for a second time in a chat of its own, which has a wrong call.
        (vec![call.replace("path", "folder"), call.to_owned()], false),
    ] {
        let app = start(1).await;
        for answer in &answers {
            app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::answer(answer));
        }
        let asking = |messages: &[Value]| json!({"model": "qwen3-max", "messages": messages, "tools": tools()});
        let first = json_of(app.chat(&asking(&[user("What is in a?")])).await).await;
        let replay = first["choices"][0]["message"].clone();
        let id = replay["tool_calls"][0]["id"].clone();
        let messages = [user("What is in a?"), replay, json!({"role": "tool", "tool_call_id": id, "content": "c.txt"})];
        assert_eq!(app.chat(&asking(&messages)).await.status(), 200);
        assert_eq!(parent(&app.asked()).is_some(), is_continued, "{answers:?}");
    }
}

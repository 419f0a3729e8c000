use serde_json::{Value, json};

use crate::script::{
    Bench, Content, Endpoint, Inserted, LineEnding, Packets, ScriptedReply, SearchForm, SearchResult, SearchScript,
    ThinkingForm, UsageScript,
};
use crate::tests::client::{Caller, answer_of, deep_question, frames, question, search_question, start};

fn delta(frame: &Value) -> &Value {
    &frame["choices"][0]["delta"]
}

#[tokio::test]
async fn a_fast_answer_is_spelled_as_recorded() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let usage =
        UsageScript { input_tokens: 1049, output_tokens: 2, reasoning_tokens: 0, cached_tokens: 0, image_tokens: 0 };
    let reply = ScriptedReply::pieces(["Grüß", " dich"]).with_stream(|stream| stream.usage = Some(usage));
    let chat = caller.chat().await;
    simulator.script().queue(Some("ada"), Endpoint::Completions, reply);
    let read = caller.complete(&chat, &question(&chat, "x")).await;
    assert_eq!((read.status, read.effective), (200, 200));
    assert_eq!(read.content_type, "text/event-stream; charset=utf-8");
    let created = &frames(&read.text)[0]["response.created"];
    let id = created["response_id"].as_str().unwrap();
    let parent = created["parent_id"].as_str().unwrap();
    let time = frames(&read.text)[1]["timestamp"].as_u64().unwrap();
    let typing = |content: &str, output: u64| {
        format!(
            "data: {{\"choices\": [{{\"delta\": {{\"role\": \"assistant\", \"content\": \"{content}\", \"phase\": \
             \"answer\", \"status\": \"typing\"}}}}], \"response_id\": \"{id}\", \"usage\": {{\"input_tokens\": 1049, \
             \"output_tokens\": {output}, \"characters\": 0, \"total_tokens\": {total}, \"input_tokens_details\": \
             {{\"text_tokens\": 1049}}, \"output_tokens_details\": {{\"text_tokens\": {output}}}, \
             \"prompt_tokens_details\": {{\"cached_tokens\": 0}}}}, \"timestamp\": {time}}}\n\n",
            total = 1049 + output
        )
    };
    let expected = [
        format!(
            "data: {{\"response.created\":{{\"chat_id\": \"{chat}\", \"parent_id\": \"{parent}\", \
             \"response_id\":\"{id}\", \"response_index\": \"0\"}}}} \n\n"
        ),
        typing("Grüß", 1),
        typing(" dich", 2),
        typing("", 2),
        typing("", 2),
        format!(
            "data: {{\"choices\": [{{\"delta\": {{\"content\": \"\", \"role\": \"assistant\", \"status\": \
             \"finished\", \"phase\": \"answer\"}}}}], \"response_id\": \"{id}\"}}\n\n"
        ),
    ];
    assert_eq!(read.text, expected.concat());
}

#[tokio::test]
async fn thoughts_accumulate() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let steps = [("One", "abcd"), ("Two", "efgh")];
    let reply = ScriptedReply::answer("ok").reasoning(&[&steps]);
    simulator.script().queue(None, Endpoint::Completions, reply);
    let read = caller.complete(&chat, &deep_question(&chat, "x")).await;
    let frames = frames(&read.text);
    let thoughts: Vec<_> = frames
        .iter()
        .filter(|frame| delta(frame)["phase"] == "thinking_summary")
        .map(|frame| {
            let extra = &delta(frame)["extra"];
            let content = |key: &str| extra[key]["content"].clone();
            (content("summary_title"), content("summary_thought"))
        })
        .collect();
    assert_eq!(
        thoughts,
        [
            (json!(["One"]), json!(["ab"])),
            (json!(["One"]), json!(["abcd"])),
            (json!(["One", "Two"]), json!(["abcd", "ef"])),
            (json!(["One", "Two"]), json!(["abcd", "efgh"])),
            (Value::Null, Value::Null),
        ]
    );
    assert_eq!(delta(&frames[5])["status"], "finished");
    assert!(frames[5].get("usage").is_none() && frames[5].get("timestamp").is_some());
    assert_eq!(frames[4]["usage"]["output_tokens_details"]["reasoning_tokens"], 2);
    assert_eq!(answer_of(&read.text), "ok");
}

#[tokio::test]
async fn thinking_follows_the_request() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    assert!(!caller.ask("x").await.text.contains("think"));
    let chat = caller.chat().await;
    let deep = caller.complete(&chat, &deep_question(&chat, "x")).await;
    assert!(deep.text.contains("thinking_summary"));
    let chat = caller.chat().await;
    let mut body = deep_question(&chat, "x");
    body["messages"][0]["feature_config"]["thinking_format"] = json!("full");
    let raw = caller.complete(&chat, &body).await;
    assert!(raw.text.contains(r#""phase": "think", "status": "typing""#));
    assert!(raw.text.contains(r#""phase": "think", "status": "finished""#));
    let forced = ScriptedReply::answer("x")
        .reasoning(&[&[("t", "raw words")]])
        .with_stream(|stream| stream.thinking = Some(ThinkingForm::Raw));
    let forced = caller.ask_scripted(forced).await;
    let said: String = frames(&forced.text)
        .iter()
        .filter(|frame| delta(frame)["phase"] == "think")
        .map(|frame| delta(frame)["content"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(said, "raw words");
}

#[tokio::test]
async fn a_search_has_calls_results_and_a_second_round() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let read = caller.complete(&chat, &search_question(&chat, "the sea")).await;
    let frames = frames(&read.text);
    let calls: Vec<_> = frames.iter().filter_map(|frame| delta(frame)["function_call"]["arguments"].as_str()).collect();
    let whole = r#"{"queries": ["the sea"]}"#;
    assert_eq!(calls, ["", r#"{"queries": "#, r#"{"queries": ["the sea"]"#, whole, whole]);
    let found = frames.iter().find(|frame| delta(frame)["role"] == "function").unwrap();
    assert_eq!(delta(found)["extra"]["web_search_info"].as_array().unwrap().len(), 2);
    assert_eq!(found["usage"], json!({}));
    let ends = frames
        .iter()
        .filter(|frame| delta(frame)["phase"] == "thinking_summary" && delta(frame)["status"] == "finished");
    assert_eq!(ends.count(), 2);
    let last_thought = frames.iter().rfind(|frame| delta(frame)["extra"].get("summary_title").is_some());
    let titles = &delta(last_thought.unwrap())["extra"]["summary_title"]["content"];
    assert_eq!(titles, &json!(["Weighing what was found"]), "the arrays start again");
    assert!(answer_of(&read.text).contains("[[1]]"));
}

#[tokio::test]
async fn scripted_searches_accumulate() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let round = |url: &str, form| SearchScript {
        queries: vec![url.to_owned()],
        results: vec![SearchResult { url: url.to_owned(), ..SearchResult::default() }],
        form,
    };
    let reply = ScriptedReply::answer("x").with_stream(|stream| {
        stream.searches =
            Some(vec![round("https://a.example/", SearchForm::Info), round("https://b.example/", SearchForm::Both)]);
    });
    let read = caller.ask_scripted(reply).await;
    let results: Vec<_> = frames(&read.text)
        .iter()
        .filter(|frame| delta(frame)["role"] == "function")
        .map(|frame| delta(frame)["extra"].clone())
        .collect();
    assert_eq!(results[0]["web_search_info"].as_array().unwrap().len(), 1);
    assert_eq!(results[1]["web_search_info"].as_array().unwrap().len(), 2);
    assert_eq!(results[1]["tool_result"]["docs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn echo_gives_the_text_back() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let text = "Zeile eins\n\"zwei\" – 字字 🦀👩‍👩‍👧 \\ \u{202e}\tend";
    let prompt = format!("User: echo: no\n\nUser: echo: {text}");
    assert_eq!(answer_of(&caller.ask(&prompt).await.text), text);
    let plain = caller.ask("What is this?").await.text;
    assert!(answer_of(&plain).contains("simulated"));
}

#[tokio::test]
async fn bytes_may_come_in_any_packets() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let text = "Ünï – 字 🦀";
    for (packets, count) in [
        (Packets::Frames, None),
        (Packets::One, Some(1)),
        (Packets::Size(1), None),
        (Packets::At(vec![3, 700, 701, 702]), Some(5)),
    ] {
        let read = caller.ask_scripted(ScriptedReply::answer(text).packets(packets.clone())).await;
        assert_eq!(answer_of(&read.text), text);
        let record = caller.last_completion().await;
        assert!(record.finish_sent);
        assert_eq!(record.bytes_sent, read.text.len() as u64);
        if let Some(count) = count {
            assert_eq!(record.packets_sent, count, "{packets:?}");
        }
    }
    assert_eq!(caller.last_completion().await.packets_sent, 5);
}

#[tokio::test]
async fn packets_arrive_one_by_one() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let reply = ScriptedReply::answer("äöü").packets(Packets::Size(3));
    simulator.script().queue(None, Endpoint::Completions, reply);
    let chat = caller.chat().await;
    let mut response = caller.completion(&chat, &question(&chat, "x")).send().await.unwrap();
    let mut has_torn_character = false;
    while let Some(chunk) = response.chunk().await.unwrap() {
        assert!(chunk.len() <= 3);
        has_torn_character |= std::str::from_utf8(&chunk).is_err();
    }
    assert!(has_torn_character);
}

#[tokio::test]
async fn lines_may_end_otherwise() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    for (ending, text) in [(LineEnding::Crlf, "\r\n"), (LineEnding::Cr, "\r")] {
        let reply = ScriptedReply::answer("a").with_stream(|stream| {
            stream.line_ending = ending;
            stream.bom = true;
        });
        let read = caller.ask_scripted(reply).await;
        assert!(read.text.starts_with("\u{feff}data: {\"response.created\""));
        assert!(read.text.ends_with(&format!("}}{text}{text}")));
        let normal = read.text.replace(text, "\n");
        assert_eq!(answer_of(normal.trim_start_matches('\u{feff}')), "a");
    }
}

#[tokio::test]
async fn odd_things_may_come_between() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let phase = |tool| Inserted::UnknownPhase { phase: "daydream".into(), content: "blue".into(), tool };
    let reply = ScriptedReply::pieces(["a"])
        .inserting(0, Inserted::Comment("hello".into()))
        .inserting(1, Inserted::KeepAlive)
        .inserting(1, phase(false))
        .inserting(2, phase(true))
        .inserting(5, Inserted::StrayTrue)
        .inserting(5, Inserted::Done)
        .inserting(5, Inserted::Text("id: 7\nevent: none\ndata: {".into()));
    let text = caller.ask_scripted(reply).await.text;
    assert!(text.starts_with(": hello\n\ndata: {\"response.created\""));
    assert!(text.contains("\n\ndata: {\"response.info\": {\"action\": \"keep_alive\", \"chat_id\": \""));
    assert!(text.contains(r#""content": "blue", "phase": "daydream", "status": "typing""#));
    assert!(text.contains(r#""function_call": {"name": "daydream", "arguments": "blue"}"#));
    assert!(text.ends_with("data: true\n\ndata: [DONE]\n\nid: 7\nevent: none\ndata: {\n\n"));
}

#[tokio::test]
async fn two_answers_interleave() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let reply = ScriptedReply::pieces(["a", "b"]).with_stream(|stream| stream.two_answers = true);
    let text = caller.ask_scripted(reply).await.text;
    let frames = frames(&text);
    assert_eq!(frames[0]["response.created"]["response_index"], "0");
    assert_eq!(frames[1]["response.created"]["response_index"], "1");
    assert_ne!(frames[2]["response_id"], frames[3]["response_id"]);
    assert_eq!(answer_of(&text), "ab");
    let last = frames.last().unwrap();
    assert_eq!(last["response_id"], frames[0]["response.created"]["response_id"]);
}

#[tokio::test]
async fn less_than_an_answer() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let only =
        |content| ScriptedReply::answer("x").reasoning(&[&[("t", "thought")]]).with_stream(|one| one.content = content);
    let created = caller.ask_scripted(only(Content::Created)).await.text;
    assert_eq!(frames(&created).len(), 1);
    let thought = caller.ask_scripted(only(Content::Reasoning)).await.text;
    assert!(thought.contains("thinking_summary") && !thought.contains("\"answer\""));
    assert!(!caller.last_completion().await.finish_sent);
}

#[tokio::test]
async fn pieces_are_numbered_by_attempt() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    for attempt in 1..=2 {
        let text = caller.ask_scripted(ScriptedReply::numbered(3)).await.text;
        assert_eq!(answer_of(&text), format!("⟨{attempt}:0⟩⟨{attempt}:1⟩⟨{attempt}:2⟩"));
    }
}

#[tokio::test]
async fn bench_streams_are_ordinary_streams() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let bench = Bench { events: 2_000, content_bytes: 10, per_packet: 50 };
    simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::bench(bench)));
    for _ in 0..2 {
        let text = caller.ask("x").await.text;
        assert_eq!(answer_of(&text), "x".repeat(20_000));
        assert_eq!(frames(&text).len(), 2_004);
        let record = caller.last_completion().await;
        assert!(record.finish_sent);
        assert_eq!(record.packets_sent, 1 + 2_003_u64.div_ceil(50));
    }
}

#[tokio::test]
async fn a_stream_may_drip() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let drip = ScriptedReply::answer("x").packets(Packets::Size(1)).paced(std::time::Duration::from_secs(1));
    simulator.script().queue(None, Endpoint::Completions, drip);
    let chat = caller.chat().await;
    let mut response = caller.completion(&chat, &question(&chat, "x")).send().await.unwrap();
    let begin = std::time::Instant::now();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "d");
    assert_eq!(response.chunk().await.unwrap().unwrap(), "a");
    assert!(begin.elapsed().as_millis() >= 900);
}

#[tokio::test]
async fn usage_follows_what_was_sent() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let used = async |prompt: &str| {
        let frames = frames(&caller.ask(prompt).await.text);
        let last = frames.iter().rfind(|frame| frame["usage"]["input_tokens"].is_u64()).unwrap();
        (last["usage"]["input_tokens"].clone(), last["usage"]["output_tokens"].clone())
    };
    assert_eq!(used("Hello").await.0, 11);
    assert_eq!(used("echo: 12345678").await, (json!(13), json!(2)));
    assert_eq!(used(&"word ".repeat(4_000)).await.0, 5_009);
}

#[tokio::test]
async fn only_the_newest_user_message_is_echoed() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let first = answer_of(&caller.ask("Hello").await.text);
    assert!(first.contains("`echo: something`"), "{first}");
    let turn = |text: &str| {
        format!(
            "Head.\n\n<user>\nHello\n</user>\n\n<assistant>\n{first}\n</assistant>\n\n<user>\n{text}\n</user>\n\nWrite on."
        )
    };
    let second = answer_of(&caller.ask(&turn("And now?")).await.text);
    assert!(second.contains("Your message of 2 words"), "{second}");
    assert_eq!(answer_of(&caller.ask(&turn("echo: this")).await.text), "this");
    // Without anything behind it, the word is one like others, and not an empty answer.
    for nothing in ["echo:", "What does echo: \n"] {
        let answer = answer_of(&caller.ask(nothing).await.text);
        assert!(answer.contains("This is a simulated answer"), "{nothing}: {answer}");
    }
}

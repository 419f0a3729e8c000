//! Phases other than the answer: research, tools with their pictures, and the places of search hits.

use serde_json::{Value, json};

use crate::chat::reply::ReplyEvent;
use crate::upstream::web::decode::QwenReplyDecoder;

use super::described;
use super::drift::{A, A_SAYS, END, check, check_delta};

/// A delta of a deep research.
fn step(phase: &str, content: &str, status: &str) -> String {
    let delta = json!({"role": "assistant", "content": content, "phase": phase, "status": status});
    json!({"choices": [{"delta": delta}]}).to_string()
}

/// A deep research of these frames, to the end of its stream.
fn check_research(steps: &[(&str, &str, &str)], expected: &str) {
    let mut decoder = QwenReplyDecoder::new();
    let mut events = Vec::new();
    let mut sink = |event: ReplyEvent<'_>| events.push(described(&event));
    for (phase, content, status) in steps {
        decoder.push(step(phase, content, status).as_bytes(), &mut sink).unwrap();
    }
    let outcome = decoder.finish(&mut sink);
    events.retain(|event| event != "Activity");
    events.extend(outcome.err().map(|error| format!("! {error:?}")));
    assert_eq!(events.join(" | "), expected, "{steps:?}");
}

#[test]
fn a_research_is_thoughts_and_a_report_or_a_question() {
    let (plan, end) = (("ResearchPlanning", "Plan.", "typing"), ("answer", "", "finished"));
    let (planned, search) = (("ResearchPlanning", "", "finished"), ("ResearchSearching", "Look.", "typing"));
    let (write, written) = (("Writing", "Report.", "typing"), ("Writing", "", "finished"));
    let done = "Reasoning \"Plan.\" | Reasoning \"\\n\\n\" | Reasoning \"Look.\" | Text \"Report.\" | Finished";
    check_research(&[plan, planned, search, write, written, end], done);
    check_research(&[plan, planned, search, write, written], done);
    check_research(&[plan, planned, search, ("answer", "Report.", "typing"), end], done);
    check_research(&[plan, search, ("WebResearch", "x", "typing"), ("DeepThinking", "y", "typing"), write, end], done);
    // Text that nothing follows is a question to the user.
    let asked = "Text \"Plan.\" | Finished";
    check_research(&[plan, end], asked);
    check_research(&[plan, planned], asked);
    check_research(&[("ResearchNotice", "Plan.", "typing"), ("KeepAlive", "", "typing"), end], asked);
    // Text that breaks off is neither.
    check_research(&[plan], "! Empty");
    check_research(&[plan, search], "Reasoning \"Plan.\" | Reasoning \"\\n\\n\" | Reasoning \"Look.\" | ! Empty");
    check_research(
        &[plan, planned, search, write],
        "Reasoning \"Plan.\" | Reasoning \"\\n\\n\" | Reasoning \"Look.\" | Text \"Report.\" | ! Truncated",
    );
}

fn tool(phase: &str, extra: &str) -> String {
    format!(
        r#"{{"choices": [{{"delta": {{"role": "function", "content": "", "phase": "{phase}", "status": "finished", "extra": {extra}}}}}], "response_id": "A"}}"#
    )
}

#[test]
fn a_tool_that_fails_does_not_end_the_turn() {
    let failed = |extra: &str| {
        format!(
            r#"{{"choices": [{{"delta": {{"role": "function", "content": "", "phase": "web_search", "status": "error", "extra": {extra}}}}}]}}"#
        )
    };
    let spoken = failed(r#"{"error": "search is down"}"#);
    check(&[A, &spoken, A_SAYS, END], "Started { response_id: \"A\" } | Activity | Text \"a\" | Finished");
    check(&[A, &spoken, END], "Started { response_id: \"A\" } | Activity | ! tool_error: search is down None");
    check(&[A, &failed("{}"), END], "Started { response_id: \"A\" } | Activity | ! tool_error: a tool failed None");
}

#[test]
fn pictures_of_tools() {
    let shown = |extra: &str| {
        let mut urls = Vec::new();
        let mut decoder = QwenReplyDecoder::new();
        for frame in [tool("image_gen_tool", extra), tool("image_gen_tool", extra)] {
            let taken = decoder.push(frame.as_bytes(), &mut |event| match event {
                ReplyEvent::Image { url } => urls.push(url.to_owned()),
                ReplyEvent::Source(source) => panic!("{source:?}"),
                _ => {}
            });
            taken.unwrap();
        }
        urls.join(" ")
    };
    assert_eq!(
        shown(r#"{"image_list": [{"image": "https://c/d.png"}], "tool_result": [{"image": "https://c/o.png"}]}"#),
        "https://c/d.png"
    );
    assert_eq!(
        shown(r#"{"tool_result": [{"image": "https://c/o.png"}, {"image": "https://c/p.png"}]}"#),
        "https://c/o.png https://c/p.png"
    );
    assert_eq!(shown(r#"{"image_list": [], "tool_result": [{"image": "https://c/o.png"}]}"#), "https://c/o.png");
    check_delta(
        r#"{"content": [{"image": "https://c/l.png"}], "phase": "image_gen", "status": "typing"}"#,
        "Image { url: \"https://c/l.png\" }",
    );
}

#[test]
fn hits_are_numbered_over_the_whole_turn() {
    let numbered = |frames: &[String]| {
        let mut urls = Vec::new();
        let mut decoder = QwenReplyDecoder::new();
        for frame in frames {
            let taken = decoder.push(frame.as_bytes(), &mut |event| {
                if let ReplyEvent::Source(source) = event {
                    urls.push(source.url);
                }
            });
            taken.unwrap();
        }
        urls.join(" ")
    };
    let hits = |urls: &[&str]| {
        let hits: Vec<Value> = urls.iter().map(|url| json!({"url": url, "title": "t"})).collect();
        Value::from(hits).to_string()
    };
    let search = |extra: String| tool("web_search", &extra);
    let both = |docs: &[&str], info: &[&str], used: u64| {
        search(format!(
            r#"{{"tool_result": {{"docs": {}, "used_id": {used}}}, "web_search_info": {}}}"#,
            hits(docs),
            hits(info)
        ))
    };
    // Rounds with both lists: repeats keep their number.
    assert_eq!(
        numbered(&[both(&["a", "b", "a"], &["a", "b"], 4), both(&["b", "c"], &["b", "c", "d"], 7)]),
        "a b a b c d"
    );
    // Hits of a round beside those of all rounds so far.
    let grows = |docs: &[&str], info: &[&str]| {
        search(format!(r#"{{"tool_result": {}, "web_search_info": {}}}"#, hits(docs), hits(info)))
    };
    let rounds =
        [grows(&["a", "b"], &["a", "b"]), grows(&["c"], &["a", "b", "c"]), grows(&["d"], &["a", "b", "c", "d"])];
    assert_eq!(numbered(&rounds), "a b c d");
    // The same frame again, by its numbers or by its list.
    assert_eq!(numbered(&[both(&["a", "b"], &[], 3), both(&["a", "b"], &[], 3)]), "a b");
    // A further round that found the same takes numbers of its own.
    assert_eq!(numbered(&[both(&["a", "b"], &[], 3), both(&["a", "b"], &[], 5), both(&["c"], &[], 6)]), "a b a b c");
    let info = |urls: &[&str]| search(format!(r#"{{"web_search_info": {}}}"#, hits(urls)));
    assert_eq!(numbered(&[info(&["a", "b"]), info(&["a", "b"])]), "a b");
    // A cumulative list, and one that is not.
    assert_eq!(numbered(&[info(&["a", "b"]), info(&["a", "b", "c"])]), "a b c");
    assert_eq!(numbered(&[info(&["a", "b"]), info(&["c"])]), "a b c");
    // Numbers that were skipped keep their place.
    assert_eq!(numbered(&[both(&["a"], &[], 2), both(&["b"], &[], 5)]), "a   b");
    // A list outside of any tool.
    assert_eq!(numbered(&[format!(r#"{{"sources": {}}}"#, hits(&["x"]))]), "x");
}

#[test]
fn places_of_search_hits() {
    let frame = |urls: &[&str]| {
        let hits: Vec<Value> = urls.iter().map(|url| json!({"url": url, "title": "t"})).collect();
        json!({"choices": [{"delta": {"role": "function", "phase": "web_search", "extra": {"web_search_info": hits}}}]})
            .to_string()
    };
    let urls = |lists: &[&[&str]]| {
        let mut decoder = QwenReplyDecoder::new();
        let mut urls = Vec::new();
        for list in lists {
            let mut sink = |event: ReplyEvent<'_>| {
                if let ReplyEvent::Source(source) = event {
                    urls.push(source.url);
                }
            };
            decoder.push(frame(list).as_bytes(), &mut sink).unwrap();
        }
        urls.join(" ")
    };
    assert_eq!(urls(&[&["a"], &["a", "b"], &["a", "b"]]), "a b", "a list that grows");
    assert_eq!(urls(&[&["a", "a", "", "b"]]), "a a  b", "each hit keeps its place");
    assert_eq!(urls(&[&["a", "b"], &["c", "b", ""]]), "a b c b ", "a further search with its own list");
}

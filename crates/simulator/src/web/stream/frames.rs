//! One SSE frame after the other, byte for byte as the upstream spells them.
//!
//! Key order differs from frame to frame in the recordings, so each kind is a struct whose fields are in that order.

use serde::Serialize;
use serde_json::{Value, json};

use crate::script::{ErrorForm, SearchForm, SearchResult, StreamError};
use crate::web::stream::python::python;
use crate::web::stream::usage::{PictureUsage, Usage};
use crate::web::works::media::Size;

/// The fields that all frames of one answer share.
#[derive(Clone)]
pub(crate) struct Voice {
    pub(crate) chat_id: String,
    pub(crate) parent_id: String,
    pub(crate) response_id: String,
    /// `response_index` of `response.created`: 0, or 1 for a second answer.
    pub(crate) index: u8,
    /// `timestamp` of the frames, in Unix seconds.
    pub(crate) timestamp: u64,
    /// Whether deltas name their phase: only if the request had `output_schema: "phase"`.
    pub(crate) has_phases: bool,
}

#[derive(Serialize)]
struct Frame<'a, D> {
    choices: [Choice<D>; 1],
    response_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
}

#[derive(Serialize)]
struct Choice<D> {
    delta: D,
}

#[derive(Serialize)]
struct TextDelta<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'a str>,
    status: &'static str,
}

#[derive(Serialize)]
struct PictureDelta<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    extra: PictureExtra,
    status: &'static str,
}

#[derive(Serialize)]
struct PictureExtra {
    output_image_hw: [[u32; 2]; 1],
}

#[derive(Serialize)]
struct SummaryDelta<'a> {
    role: &'static str,
    content: &'static str,
    phase: &'static str,
    extra: SummaryExtra<'a>,
    status: &'static str,
}

#[derive(Serialize)]
struct SummaryExtra<'a> {
    summary_title: Strings<'a>,
    summary_thought: Strings<'a>,
}

#[derive(Serialize)]
struct Strings<'a> {
    content: &'a [String],
}

#[derive(Serialize)]
struct CallDelta<'a> {
    role: &'static str,
    content: &'static str,
    phase: &'a str,
    status: &'static str,
    function_call: FunctionCall<'a>,
    function_id: &'a str,
    extra: Value,
}

#[derive(Serialize)]
struct FunctionCall<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct ResultDelta<'a> {
    role: &'static str,
    content: &'static str,
    phase: &'a str,
    extra: ResultExtra<'a>,
    status: &'static str,
    name: &'a str,
    function_id: &'a str,
}

#[derive(Serialize)]
struct ResultExtra<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    function_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_result: Option<ToolResult<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    web_search_info: Option<Vec<Hit<'a>>>,
    display_position: &'static str,
}

#[derive(Serialize)]
struct ToolResult<'a> {
    docs: Vec<Document<'a>>,
}

#[derive(Serialize)]
struct Document<'a> {
    url: &'a str,
    title: &'a str,
    snippet: &'a str,
    date: &'a str,
}

#[derive(Serialize)]
struct Hit<'a> {
    url: &'a str,
    title: &'a str,
    snippet: &'a str,
    hostname: String,
    hostlogo: &'static str,
    date: String,
}

#[derive(Serialize)]
struct FinishedDelta<'a> {
    content: &'static str,
    role: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'a str>,
}

impl Voice {
    /// The first frame: odd spacing, one space before the line feed.
    pub(crate) fn created(&self) -> String {
        let Self { chat_id, parent_id, response_id, index, .. } = self;
        format!(
            "data: {{\"response.created\":{{\"chat_id\": \"{chat_id}\", \"parent_id\": \"{parent_id}\", \
             \"response_id\":\"{response_id}\", \"response_index\": \"{index}\"}}}} \n\n"
        )
    }

    /// `response.info` with action `keep_alive`.
    pub(crate) fn keep_alive(&self) -> String {
        let Self { chat_id, response_id, timestamp, .. } = self;
        format!(
            "data: {{\"response.info\": {{\"action\": \"keep_alive\", \"chat_id\": \"{chat_id}\", \
             \"response_id\": \"{response_id}\", \"timestamp\": {timestamp}}}}}\n\n"
        )
    }

    /// A piece of text of a phase that streams text.
    pub(crate) fn text(&self, phase: &str, content: &str, usage: Usage) -> String {
        let delta = TextDelta { role: "assistant", content, phase: self.has_phases.then_some(phase), status: "typing" };
        self.delta(delta, Some(usage), true)
    }

    /// A frame of phase `image_gen`: the link of one picture and its size in pixels.
    pub(crate) fn picture(&self, url: &str, size: Size) -> String {
        let Size { width, height } = size;
        let delta = PictureDelta {
            role: "assistant",
            content: url,
            phase: self.has_phases.then_some("image_gen"),
            extra: PictureExtra { output_image_hw: [[height, width]] },
            status: "typing",
        };
        self.delta(delta, Some(Usage::Picture(PictureUsage::new(width, height))), true)
    }

    /// The result of the tool that edits pictures.
    pub(crate) fn edited(&self, urls: &[&str], id: &str) -> String {
        let images: Vec<_> = urls.iter().map(|url| json!({ "image": url })).collect();
        let delta = json!({
            "role": "function", "content": "", "phase": "image_edit_tool", "status": "finished",
            "name": "image_edit_tool", "function_id": id,
            "extra": { "image_list": images, "function_id": id, "display_position": "answer" },
        });
        self.delta(delta, Some(Usage::Empty {}), true)
    }

    /// Everything thought so far in this round.
    pub(crate) fn summary(&self, titles: &[String], thoughts: &[String], usage: Usage) -> String {
        let delta = SummaryDelta {
            role: "assistant",
            content: "",
            phase: "thinking_summary",
            extra: SummaryExtra {
                summary_title: Strings { content: titles },
                summary_thought: Strings { content: thoughts },
            },
            status: "typing",
        };
        self.delta(delta, Some(usage), true)
    }

    /// The end of a round of thought: a time, but no usage.
    pub(crate) fn thought_finished(&self, phase: &str) -> String {
        let delta = TextDelta { role: "assistant", content: "", phase: Some(phase), status: "finished" };
        self.delta(delta, None, true)
    }

    /// A tool is being called; `arguments` is everything so far.
    pub(crate) fn call(&self, tool: &str, arguments: &str, id: &str, usage: Usage) -> String {
        let delta = CallDelta {
            role: "assistant",
            content: "",
            phase: tool,
            status: "typing",
            function_call: FunctionCall { name: tool, arguments },
            function_id: id,
            extra: json!({ "display_position": "think" }),
        };
        self.delta(delta, Some(usage), true)
    }

    /// A step of a deep research, with the hits of a search if they are not null.
    pub(crate) fn research(&self, phase: &str, content: &str, status: &str, hits: Value, usage: Usage) -> String {
        let stage = json!({ "stage": phase, "lang_code": "en", "status": status, "version": "v4" });
        let mut extra = json!({ "deep_research": stage });
        if let (Some(extra), false) = (extra.as_object_mut(), hits.is_null()) {
            extra.insert("web_search_info".to_owned(), hits);
        }
        let delta =
            json!({ "role": "assistant", "content": content, "phase": phase, "status": status, "extra": extra });
        self.delta(delta, Some(usage), true)
    }

    /// Calls of tools that the client declared, all in one delta.
    pub(crate) fn local_tool(&self, calls: &[Value], usage: Usage) -> String {
        let delta = json!({
            "role": "assistant", "content": "", "phase": "local_tool", "status": "finished",
            "extra": { "local_mcp": { "LocalTools": calls } },
        });
        self.delta(delta, Some(usage), true)
    }

    /// The hits of a search: `new` of this round, `all` up to now.
    pub(crate) fn found(&self, form: SearchForm, id: &str, new: &[SearchResult], all: &[SearchResult]) -> String {
        let has_docs = form != SearchForm::Info;
        let documents =
            new.iter().map(|one| Document { url: &one.url, title: &one.title, snippet: &one.snippet, date: &one.date });
        let hits = all.iter().map(|one| Hit {
            url: &one.url,
            title: &one.title,
            snippet: &one.snippet,
            hostname: url::Url::parse(&one.url)
                .ok()
                .and_then(|url| url.host_str().map(str::to_owned))
                .unwrap_or_default(),
            hostlogo: "",
            date: if one.date.is_empty() { String::new() } else { format!(" ({})", one.date) },
        });
        let delta = ResultDelta {
            role: "function",
            content: "",
            phase: "web_search",
            extra: ResultExtra {
                function_id: has_docs.then_some("1"),
                tool_result: has_docs.then(|| ToolResult { docs: documents.collect() }),
                web_search_info: (form != SearchForm::Docs).then(|| hits.collect()),
                display_position: "think",
            },
            status: "finished",
            name: "web_search",
            function_id: id,
        };
        self.delta(delta, Some(Usage::Empty {}), true)
    }

    /// The last frame of an answer: neither usage nor time.
    pub(crate) fn finished(&self, phase: &str) -> String {
        let delta = FinishedDelta {
            content: "",
            role: "assistant",
            status: "finished",
            phase: self.has_phases.then_some(phase),
        };
        self.delta(delta, None, false)
    }

    /// A frame of a phase that no client knows.
    pub(crate) fn unknown(&self, phase: &str, content: &str, tool: bool, usage: Usage) -> String {
        if tool {
            return self.call(phase, content, "round_0_call_0badcafe", usage);
        }
        self.text(phase, content, usage)
    }

    /// An error in the place of a frame; compact, as the recorded ones.
    pub(crate) fn error(&self, error: &StreamError, details: &str) -> String {
        let (code, details) = (quoted(&error.code), quoted(details));
        let num = error.num.map_or(String::new(), |num| format!(",\"num\":{num}"));
        let id = quoted(&self.response_id);
        let json = match error.form {
            ErrorForm::Text => format!("{{\"error\":{details}}}"),
            ErrorForm::Object => {
                format!("{{\"error\":{{\"code\":{code},\"details\":{details}{num}}},\"response_id\":{id}}}")
            }
            ErrorForm::Envelope => {
                format!("{{\"success\":false,\"data\":{{\"code\":{code}{num},\"details\":{details}}}}}")
            }
        };
        format!("data: {json}\n\n")
    }

    fn delta<D: Serialize>(&self, delta: D, usage: Option<Usage>, is_timed: bool) -> String {
        let frame = Frame {
            choices: [Choice { delta }],
            response_id: &self.response_id,
            usage,
            timestamp: is_timed.then_some(self.timestamp),
        };
        format!("data: {}\n\n", python(&frame))
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::UsageScript;

    fn voice() -> Voice {
        Voice {
            chat_id: "c-1".into(),
            parent_id: "p-1".into(),
            response_id: "r-1".into(),
            index: 0,
            timestamp: 1_790_000_000,
            has_phases: true,
        }
    }

    fn usage() -> Usage {
        Usage::from(UsageScript {
            input_tokens: 40,
            output_tokens: 7,
            reasoning_tokens: 3,
            cached_tokens: 0,
            image_tokens: 0,
        })
    }

    const USAGE: &str = r#""usage": {"input_tokens": 40, "output_tokens": 7, "characters": 0, "total_tokens": 47, "input_tokens_details": {"text_tokens": 40}, "output_tokens_details": {"reasoning_tokens": 3, "text_tokens": 4}, "prompt_tokens_details": {"cached_tokens": 0}}, "timestamp": 1790000000}"#;

    #[test]
    fn frames_are_spelled_as_recorded() {
        let voice = voice();
        let titles = ["一".to_owned(), "b".to_owned()];
        for (found, expected) in [
            (
                voice.created(),
                r#"{"response.created":{"chat_id": "c-1", "parent_id": "p-1", "response_id":"r-1", "response_index": "0"}} "#.to_owned(),
            ),
            (
                voice.keep_alive(),
                r#"{"response.info": {"action": "keep_alive", "chat_id": "c-1", "response_id": "r-1", "timestamp": 1790000000}}"#.to_owned(),
            ),
            (
                voice.text("answer", "Привет \"q\"\n", usage()),
                format!(r#"{{"choices": [{{"delta": {{"role": "assistant", "content": "Привет \"q\"\n", "phase": "answer", "status": "typing"}}}}], "response_id": "r-1", {USAGE}"#),
            ),
            (
                voice.summary(&titles, &titles[..1], usage()),
                format!(r#"{{"choices": [{{"delta": {{"role": "assistant", "content": "", "phase": "thinking_summary", "extra": {{"summary_title": {{"content": ["一", "b"]}}, "summary_thought": {{"content": ["一"]}}}}, "status": "typing"}}}}], "response_id": "r-1", {USAGE}"#),
            ),
            (
                voice.thought_finished("thinking_summary"),
                r#"{"choices": [{"delta": {"role": "assistant", "content": "", "phase": "thinking_summary", "status": "finished"}}], "response_id": "r-1", "timestamp": 1790000000}"#.to_owned(),
            ),
            (
                voice.call("web_search", "{\"queries\": ", "round_0_call_1", usage()),
                format!(r#"{{"choices": [{{"delta": {{"role": "assistant", "content": "", "phase": "web_search", "status": "typing", "function_call": {{"name": "web_search", "arguments": "{{\"queries\": "}}, "function_id": "round_0_call_1", "extra": {{"display_position": "think"}}}}}}], "response_id": "r-1", {USAGE}"#),
            ),
            (
                voice.finished("answer"),
                r#"{"choices": [{"delta": {"content": "", "role": "assistant", "status": "finished", "phase": "answer"}}], "response_id": "r-1"}"#.to_owned(),
            ),
        ] {
            assert_eq!(found, format!("data: {expected}\n\n"));
        }
    }

    #[test]
    fn search_results_have_both_shapes() {
        let hit = [SearchResult {
            url: "https://library.example/a".into(),
            title: "A".into(),
            snippet: "s".into(),
            date: "2026-06-09".into(),
        }];
        let text = |form| voice().found(form, "round_0_call_1", &hit, &hit);
        let docs = r#""tool_result": {"docs": [{"url": "https://library.example/a", "title": "A", "snippet": "s", "date": "2026-06-09"}]}"#;
        let info = r#""web_search_info": [{"url": "https://library.example/a", "title": "A", "snippet": "s", "hostname": "library.example", "hostlogo": "", "date": " (2026-06-09)"}]"#;
        assert!(text(SearchForm::Docs).contains(docs) && !text(SearchForm::Docs).contains(info));
        assert!(text(SearchForm::Info).contains(info) && !text(SearchForm::Info).contains(docs));
        assert!(text(SearchForm::Both).contains(info) && text(SearchForm::Both).contains(docs));
        let tail = r#""status": "finished", "name": "web_search", "function_id": "round_0_call_1"}}], "response_id": "r-1", "usage": {}, "timestamp": 1790000000}"#;
        assert!(text(SearchForm::Info).trim_end().ends_with(tail));
    }

    #[test]
    fn errors_have_three_shapes() {
        let text = |form| {
            let error = StreamError { form, code: "RateLimited".into(), num: Some(2), ..StreamError::default() };
            voice().error(&error, "too \"much\"")
        };
        assert_eq!(text(ErrorForm::Text), "data: {\"error\":\"too \\\"much\\\"\"}\n\n");
        assert_eq!(
            text(ErrorForm::Object),
            "data: {\"error\":{\"code\":\"RateLimited\",\"details\":\"too \\\"much\\\"\",\"num\":2},\"response_id\":\"r-1\"}\n\n"
        );
        assert_eq!(
            text(ErrorForm::Envelope),
            "data: {\"success\":false,\"data\":{\"code\":\"RateLimited\",\"num\":2,\"details\":\"too \\\"much\\\"\"}}\n\n"
        );
    }

    #[test]
    fn without_the_schema_there_is_no_phase() {
        let voice = Voice { has_phases: false, ..voice() };
        assert!(!voice.text("answer", "x", usage()).contains("phase"));
        assert!(!voice.finished("answer").contains("phase"));
    }
}

//! The pages of a search: as links below the text, and as blocks for callers who declared the search tool.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::chat::reply::Source;
use crate::dialect::anthropic::reply::message::MessageHead;

/// Lists the pages of a search as Markdown links. Their numbers are those of marks like `[[1]]` in the text.
pub(crate) fn append_sources(sources: &[Source], is_behind_text: bool, out: &mut String) {
    let pages = sources.iter().zip(1..).filter(|(source, _)| !source.url.is_empty());
    for (place, (source, number)) in pages.enumerate() {
        if place == 0 {
            out.push_str(if is_behind_text { "\n\nSources:" } else { "Sources:" });
        }
        let title: String = source.title.chars().map(|c| if "[]\r\n".contains(c) { ' ' } else { c }).collect();
        let url = source.url.replace('(', "%28").replace(')', "%29").replace(' ', "%20");
        // Writing into memory cannot fail.
        let _ = write!(out, "\n{number}. [{}]({url})", title.trim());
    }
}

/// The blocks of a search, for callers who declared the tool; `None` where nothing was searched.
pub(crate) fn search_blocks(head: &MessageHead, sources: &[Source]) -> Option<[Value; 2]> {
    let tool = head.search.as_ref().filter(|_| !sources.is_empty())?;
    let id = format!("srvtoolu_{}", head.id.strip_prefix("msg_").unwrap_or(&head.id));
    let results: Vec<Value> = sources
        .iter()
        .filter(|source| !source.url.is_empty())
        .map(|source| {
            json!({
                "type": "web_search_result", "url": source.url, "title": source.title, "encrypted_content": "",
                "page_age": null,
            })
        })
        .collect();
    Some([
        json!({"type": "server_tool_use", "id": id, "name": tool.name, "input": {"query": tool.query}}),
        json!({"type": "web_search_tool_result", "tool_use_id": id, "content": results}),
    ])
}

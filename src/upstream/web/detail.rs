//! Reads a chat as the upstream keeps it, for answers whose stream is lost.
//!
//! The chat holds its messages twice, as a list and as a map; which of the two is complete is not certain, so both
//! are read. `detail` is always the answer's `data`.

use serde_json::Value;

/// The links to pictures in an answer: http or https, in their order, each once.
///
/// From the message with this `response_id` when it is there, else from the last answer.
#[must_use]
pub(crate) fn image_links(detail: &Value, response_id: Option<&str>) -> Vec<String> {
    let by_id = response_id.and_then(|id| messages(detail).find(|(key, message)| is_named(*key, message, id)));
    let Some(message) = by_id.map(|(_, message)| message).or_else(|| last_answer(detail)) else {
        return Vec::new();
    };
    let mut links = Vec::new();
    links_of(message, &mut links);
    for part in message.get("content_list").and_then(Value::as_array).into_iter().flatten() {
        links_of(part, &mut links);
    }
    for file in message.get("files").and_then(Value::as_array).into_iter().flatten() {
        strings(file.get("url"), &mut links);
    }
    links
}

/// The task that makes the video of the last answer.
#[must_use]
pub(crate) fn video_task(detail: &Value) -> Option<String> {
    let message = last_answer(detail)?;
    let parts = message.get("content_list").and_then(Value::as_array).into_iter().flatten();
    let mut extras = std::iter::once(message).chain(parts).filter_map(|part| part.get("extra"));
    let id = extras.find_map(|extra| extra.get("wanx")?.get("task_id")?.as_str())?;
    Some(id.to_owned())
}

/// Whether nothing was ever asked in the chat. A shape that this version does not know says nothing.
#[must_use]
pub(crate) fn is_untouched(detail: &Value) -> bool {
    let chat = detail.get("chat").unwrap_or(detail);
    let list = chat.get("messages").and_then(Value::as_array).map(Vec::len);
    let map = chat.get("history").and_then(|history| history.get("messages")?.as_object()).map(serde_json::Map::len);
    (list.is_some() || map.is_some()) && list.unwrap_or(0) == 0 && map.unwrap_or(0) == 0
}

/// All messages, those of the list first, each with its key if it comes from the map.
fn messages(detail: &Value) -> impl Iterator<Item = (Option<&str>, &Value)> {
    let chat = detail.get("chat").unwrap_or(detail);
    let list = chat.get("messages").and_then(Value::as_array).into_iter().flatten();
    let map = chat.get("history").and_then(|history| history.get("messages")?.as_object()).into_iter().flatten();
    list.map(|message| (None, message)).chain(map.map(|(key, message)| (Some(key.as_str()), message)))
}

fn is_named(key: Option<&str>, message: &Value, id: &str) -> bool {
    let has = |name: &str| message.get(name).and_then(Value::as_str) == Some(id);
    key == Some(id) || has("id") || has("response_id")
}

fn is_answer(message: &Value) -> bool {
    message.get("role").and_then(Value::as_str) == Some("assistant")
}

/// The last answer of the list; without a list the current message of the map, or the youngest answer in it.
fn last_answer(detail: &Value) -> Option<&Value> {
    let listed = messages(detail).filter(|(key, message)| key.is_none() && is_answer(message)).last();
    if let Some((_, message)) = listed {
        return Some(message);
    }
    let chat = detail.get("chat").unwrap_or(detail);
    let places = [chat.get("history"), Some(chat), Some(detail)];
    let current = places.into_iter().flatten().find_map(|place| place.get("currentId")?.as_str());
    let current = current.and_then(|id| messages(detail).find(|(key, message)| is_named(*key, message, id)));
    if let Some((_, message)) = current.filter(|(_, message)| is_answer(message)) {
        return Some(message);
    }
    let age = |message: &Value| message.get("timestamp").and_then(Value::as_f64).unwrap_or_default();
    let answers = messages(detail).map(|(_, message)| message).filter(|message| is_answer(message));
    answers.max_by(|one, other| age(one).total_cmp(&age(other)))
}

/// Links in the text of a message or of a part of it, and in the lists of pictures beside it.
fn links_of(part: &Value, links: &mut Vec<String>) {
    links_in(part.get("content").and_then(Value::as_str).unwrap_or_default(), links);
    let Some(extra) = part.get("extra") else {
        return;
    };
    // Only what is named for pictures: hits of a search stand here too.
    for name in ["image_list", "images", "image_url", "image_urls"] {
        match extra.get(name) {
            Some(Value::Array(images)) => images.iter().for_each(|image| image_of(image, links)),
            image => image.into_iter().for_each(|image| image_of(image, links)),
        }
    }
}

fn image_of(image: &Value, links: &mut Vec<String>) {
    strings(Some(image), links);
    for name in ["image", "url", "image_url"] {
        strings(image.get(name), links);
    }
}

fn strings(value: Option<&Value>, links: &mut Vec<String>) {
    links_in(value.and_then(Value::as_str).unwrap_or_default(), links);
}

/// Bare links and those of Markdown or HTML.
fn links_in(text: &str, links: &mut Vec<String>) {
    let is_end =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '<' | '>' | ')' | ']' | '`' | '\\');
    let mut rest = text;
    while let Some((_, from)) = rest.find("http").and_then(|at| rest.split_at_checked(at)) {
        let whole = from.split(is_end).next().unwrap_or_default();
        // Punctuation at the end of a sentence is not part of the link before it.
        let link = whole.trim_end_matches(['.', ',', ';', ':', '!']);
        let host = link.strip_prefix("https://").or_else(|| link.strip_prefix("http://"));
        let is_link = host.is_some_and(|host| !host.is_empty());
        if is_link && !links.iter().any(|known| known == link) {
            links.push(link.to_owned());
        }
        // A link inside of another's query is a part of that one.
        rest = from.get(if is_link { whole.len() } else { 4 }..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn links() {
        let check = |message: Value, expected: &[&str]| {
            let detail = json!({"chat": {"messages": [{"id": "u", "role": "user", "content": "https://a.b/user"},
                message]}});
            assert_eq!(image_links(&detail, Some("r")), expected, "{detail}");
        };
        let answer = |more: Value| {
            let mut message = json!({"id": "r", "role": "assistant", "content": ""});
            message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            message
        };
        check(answer(json!({"content": "https://cdn.x/1.png?key=a.b-c"})), &["https://cdn.x/1.png?key=a.b-c"]);
        check(
            answer(
                json!({"content": "![one](https://c.x/1.png?key=1) and\nhttps://c.x/2.png, <img src=\"http://c.x/3\">"}),
            ),
            &["https://c.x/1.png?key=1", "https://c.x/2.png", "http://c.x/3"],
        );
        check(
            answer(json!({"content_list": [
                {"phase": "image_gen", "content": "https://c.x/1", "extra": {"image_list": [
                    {"image": "https://c.x/1"}, {"url": "https://c.x/2"}, "https://c.x/3"]}},
                {"phase": "answer", "content": "Here.", "extra": {"web_search_info": [{"url": "https://hit.x/"}]}}]})),
            &["https://c.x/1", "https://c.x/2", "https://c.x/3"],
        );
        check(answer(json!({"extra": {"image_url": "https://c.x/1"}})), &["https://c.x/1"]);
        check(answer(json!({"files": [{"url": "https://c.x/f"}, {"url": "ftp://c.x/"}]})), &["https://c.x/f"]);
        check(answer(json!({"content": "https://c.x/1?from=https://d.x/2"})), &["https://c.x/1?from=https://d.x/2"]);
        check(answer(json!({"content": "hhttp://a.b/c。http://a.b/d!"})), &["http://a.b/c。http://a.b/d"]);
        check(answer(json!({"content": "http, https:// and httpx://a javascript:alert(1)"})), &[]);
        check(answer(json!({"content": null, "content_list": "odd", "extra": [1], "files": {}})), &[]);
    }

    #[test]
    fn which_message() {
        let check = |chat: Value, id: Option<&str>, expected: &[&str]| {
            assert_eq!(image_links(&chat, id), expected, "{chat} {id:?}");
        };
        let said = |id: &str, role: &str, at: u64| json!({"id": id, "role": role, "timestamp": at, "content": format!("https://x/{id}")});
        let list = json!({"chat": {"messages": [said("q", "user", 1), said("a", "assistant", 2),
            said("b", "assistant", 3), said("z", "user", 4)]}});
        check(list.clone(), Some("a"), &["https://x/a"]);
        check(list.clone(), Some("gone"), &["https://x/b"]);
        check(list, None, &["https://x/b"]);
        let map = |current: &str| {
            json!({"chat": {"history": {"currentId": current, "messages": {"1": said("a", "assistant", 3),
                "2": said("b", "assistant", 2), "3": said("q", "user", 9)}}}})
        };
        check(map("2"), None, &["https://x/b"]);
        check(map("3"), None, &["https://x/a"]);
        check(map("none"), Some("2"), &["https://x/b"]);
        check(
            json!({"currentId": "b", "chat": {"history": {"messages": {"b": said("b", "assistant", 0),
            "c": said("c", "assistant", 1)}}}}),
            None,
            &["https://x/b"],
        );
        check(json!({"messages": [said("a", "assistant", 0)]}), None, &["https://x/a"]);
        for odd in [json!(null), json!([]), json!({"chat": 1}), json!({"chat": {"messages": [1, null]}})] {
            check(odd, Some("a"), &[]);
        }
    }

    #[test]
    fn chats_without_a_question() {
        for (detail, expected) in [
            (json!({"chat": {"messages": [], "history": {"messages": {}}}}), true),
            (json!({"chat": {"messages": []}}), true),
            (json!({"chat": {"history": {"messages": {}}}}), true),
            (json!({"messages": []}), true),
            (json!({"chat": {"messages": [{"role": "user"}], "history": {"messages": {}}}}), false),
            (json!({"chat": {"messages": [], "history": {"messages": {"a": {}}}}}), false),
            (json!({"chat": {}}), false),
            (json!({"chat": {"messages": "later"}}), false),
            (json!(null), false),
        ] {
            assert_eq!(is_untouched(&detail), expected, "{detail}");
        }
    }

    #[test]
    fn tasks() {
        let check = |message: Value, expected: Option<&str>| {
            let detail = json!({"chat": {"messages": [message]}});
            assert_eq!(video_task(&detail).as_deref(), expected, "{detail}");
        };
        check(json!({"role": "assistant", "extra": {"wanx": {"task_id": "t-1"}}}), Some("t-1"));
        check(json!({"role": "assistant", "content_list": [{"extra": {"wanx": {"task_id": "t-2"}}}]}), Some("t-2"));
        check(json!({"role": "user", "extra": {"wanx": {"task_id": "t-1"}}}), None);
        check(json!({"role": "assistant", "extra": {"wanx": {"task_id": 1}}}), None);
        check(json!({"role": "assistant"}), None);
    }
}

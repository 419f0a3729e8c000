//! A whole conversation as one prompt.
//!
//! The web chat takes one user message and honours no system role, so everything else is written into that
//! message. The template is stable, since callers come to depend on it:
//!
//! - A conversation that is one user message goes as it is, without any mark.
//! - Everything else is one block for each message, in order: `<system>`, `<user>`, `<assistant>`,
//!   `<tool_result id="…" name="…">`; calls of tools stand inside the assistant's block as
//!   `<tool_call id="…" name="…">arguments</tool_call>`. One sentence at the head says how to read it, and one
//!   at the end says what to do when the last message is not the user's.
//!
//! Files stand where they were sent, as `<file name="…"/>`, with `omitted="true"` where an older one had no room.
//!
//! A turn that continues a chat is written likewise, without the messages that the chat has already, under another
//! sentence.
//!
//! Nothing is left out and nothing is shortened. A conversation over the upstream's limit goes as a text file, with
//! the system messages and the newest ones written out once more beside it: models read files less faithfully.

use std::fmt::Write as _;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::chat::conversation::ToolCall;
use crate::upstream::web::request::tools::ToolPrompt;

/// One message as the prompt shows it, marks of files included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// `system` or `developer`: instructions.
    System(String),
    /// `user`: the person, or the program that speaks for it.
    User(String),
    /// `assistant`, with the calls that it made.
    Assistant {
        /// Text of the message; may be empty.
        text: String,
        /// Tool calls of the message, in order.
        calls: Vec<ToolCall>,
    },
    /// `tool` or the older `function`.
    ToolResult {
        /// Id of the call that it answers, if the caller gave one.
        id: Option<String>,
        /// Name of the tool, if known.
        name: Option<String>,
        /// The result as text.
        text: String,
    },
}

const HEAD: &str = "This is a conversation, one block for each message in order. Follow the <system> blocks, \
                    and write only the assistant's next message, without tags around it.";
const TURN_HEAD: &str = "The conversation goes on, one block for each message in order. Write only the assistant's next \
                         message, without tags around it.";
const AFTER_ASSISTANT: &str = "Continue the assistant's last message where it stops.";
const AFTER_TOOL: &str = "Go on, using the tool results above.";
const AFTER_SYSTEM: &str = "Begin the conversation as the <system> blocks ask.";

/// Writes the conversation as one prompt, with the part that asks for tool calls if there is one.
#[must_use]
pub(crate) fn render(messages: &[Block], tools: Option<&ToolPrompt>) -> String {
    if let ([Block::User(text)], None) = (messages, tools.filter(|tools| !tools.is_empty())) {
        return text.clone();
    }
    let head = std::iter::once(HEAD.to_owned()).chain(part_of(tools));
    let blocks = messages.iter().map(|message| block(message, tools.is_some()));
    head.chain(blocks).chain(ending(messages, tools)).collect::<Vec<_>>().join("\n\n")
}

/// Writes the messages that are new in a chat which has all earlier ones.
#[must_use]
pub(crate) fn render_turn(messages: &[Block], tools: Option<&ToolPrompt>) -> String {
    let later = tools.map(|tools| tools.later.clone()).filter(|later| !later.is_empty());
    if let ([Block::User(text)], None) = (messages, &later) {
        return text.clone();
    }
    let blocks = messages.iter().map(|message| block(message, tools.is_some()));
    let ending = later.or_else(|| ending(messages, None));
    std::iter::once(TURN_HEAD.to_owned()).chain(blocks).chain(ending).collect::<Vec<_>>().join("\n\n")
}

/// The two texts of a conversation that is too long for a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LongPrompt {
    /// The prompt: how to read the file, and the newest part once more.
    pub inline: String,
    /// The whole conversation, for the file.
    pub file: String,
}

/// Writes a long conversation as a file called `file_name` and a prompt of at most about `inline_max` bytes beside the
/// part about tools, which always stands inline.
#[must_use]
pub(crate) fn render_long(
    messages: &[Block],
    tools: Option<&ToolPrompt>,
    file_name: &str,
    inline_max: usize,
) -> LongPrompt {
    let blocks: Vec<String> = messages.iter().map(|message| block(message, tools.is_some())).collect();
    let is_system = |place: &usize| matches!(messages.get(*place), Some(Block::System(_)));
    let mut shown: Vec<Option<String>> = vec![None; blocks.len()];
    let mut room = inline_max;
    // System messages may take half of the room; then the newest messages take what they can, from the end on.
    let systems = (0..blocks.len()).filter(is_system);
    let others = (0..blocks.len()).rev().filter(|place| !is_system(place));
    for (places, share) in [(systems.collect::<Vec<_>>(), inline_max / 2), (others.collect(), inline_max)] {
        let mut left = room.min(share);
        for place in places {
            let Some(block) = blocks.get(place) else { continue };
            let is_last = place + 1 == blocks.len();
            let text = if block.len() <= left {
                block.clone()
            } else if is_last || is_system(&place) {
                excerpt(block, left)
            } else {
                break;
            };
            left = left.saturating_sub(text.len());
            room = room.saturating_sub(text.len());
            shown.get_mut(place).into_iter().for_each(|slot| *slot = Some(text.clone()));
        }
    }
    let head = format!(
        "The whole conversation is in the attached file {file_name}, one block for each message in order; read it. \
         Follow the <system> blocks, and write only the assistant's next message, without tags around it. Its newest \
         part stands here once more."
    );
    let blocks_shown = shown.into_iter().flatten();
    let head = std::iter::once(head).chain(part_of(tools));
    let inline = head.chain(blocks_shown).chain(ending(messages, tools)).collect::<Vec<_>>().join("\n\n");
    LongPrompt { inline, file: blocks.join("\n\n") }
}

/// The beginning and the end of a text, with a mark between them.
fn excerpt(text: &str, bytes: usize) -> String {
    let half = bytes / 2;
    let start = text.get(..text.floor_char_boundary(half)).unwrap_or_default();
    let end = text.get(text.ceil_char_boundary(text.len().saturating_sub(half))..).unwrap_or_default();
    format!("{start}\n[… what is between is in the file …]\n{end}")
}

/// The part about tools; `None` if it is empty.
fn part_of(tools: Option<&ToolPrompt>) -> Option<String> {
    tools.map(|tools| tools.text.clone()).filter(|text| !text.is_empty())
}

fn ending(messages: &[Block], tools: Option<&ToolPrompt>) -> Option<String> {
    if let Some(tools) = tools.filter(|tools| !tools.reminder.is_empty()) {
        return Some(tools.reminder.to_owned());
    }
    let ending = match messages.last()? {
        Block::Assistant { .. } => AFTER_ASSISTANT,
        Block::ToolResult { .. } => AFTER_TOOL,
        Block::System(_) if !messages.iter().any(|message| matches!(message, Block::User(_))) => AFTER_SYSTEM,
        Block::System(_) | Block::User(_) => return None,
    };
    Some(ending.to_owned())
}

/// One message. With tools, calls are written as the model is asked to write them.
fn block(message: &Block, has_tools: bool) -> String {
    match message {
        Block::System(text) => format!("<system>\n{text}\n</system>"),
        Block::User(text) => format!("<user>\n{text}\n</user>"),
        Block::Assistant { text, calls } => {
            let mut inner = text.clone();
            for call in calls {
                if !inner.is_empty() {
                    inner.push('\n');
                }
                // Writing into a String cannot fail.
                let _ = if has_tools {
                    // Ids tell several calls apart; results have the same.
                    let id = (calls.len() > 1).then_some(call.id.as_str()).filter(|id| !id.is_empty());
                    write!(inner, "<tool_call>{}</tool_call>", written_call(id, &call.name, &call.arguments))
                } else {
                    let attributes = attributes(Some(&call.id), Some(&call.name));
                    write!(inner, "<tool_call{attributes}>{}</tool_call>", call.arguments)
                };
            }
            format!("<assistant>\n{inner}\n</assistant>")
        }
        Block::ToolResult { id, name, text } => {
            let attributes = attributes(id.as_deref(), name.as_deref());
            format!("<tool_result{attributes}>\n{text}\n</tool_result>")
        }
    }
}

/// A call as the model is asked to write it. Arguments that are not JSON are written as a string.
fn written_call(id: Option<&str>, name: &str, arguments: &str) -> String {
    let arguments = match arguments.trim() {
        "" => "{}".to_owned(),
        json if serde_json::from_str::<IgnoredAny>(json).is_ok() => json.to_owned(),
        text => Value::from(text).to_string(),
    };
    let id = id.map(|id| format!("\"id\": {}, ", Value::from(id))).unwrap_or_default();
    format!("{{{id}\"name\": {}, \"arguments\": {arguments}}}", Value::from(name))
}

fn attributes(id: Option<&str>, name: Option<&str>) -> String {
    let one = |key: &str, value: Option<&str>| {
        value.filter(|value| !value.is_empty()).map(|value| format!(" {key}=\"{value}\"")).unwrap_or_default()
    };
    one("id", id) + &one("name", name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::web::request::tools::Shortening;

    #[test]
    fn a_single_user_message_goes_as_it_is() {
        assert_eq!(render(&[Block::User("Hi <b>".to_owned())], None), "Hi <b>");
    }

    #[test]
    fn a_whole_conversation() {
        let call = ToolCall { id: "c1".into(), name: "weather".into(), arguments: "{\"city\":\"Oslo\"}".into() };
        insta::assert_snapshot!(render(&[
            Block::System("Be terse.".into()),
            Block::User("Weather in Oslo?".into()),
            Block::Assistant { text: String::new(), calls: vec![call] },
            Block::ToolResult { id: Some("c1".into()), name: None, text: "3 °C".into() },
        ], None), @r#"
        This is a conversation, one block for each message in order. Follow the <system> blocks, and write only the assistant's next message, without tags around it.

        <system>
        Be terse.
        </system>

        <user>
        Weather in Oslo?
        </user>

        <assistant>
        <tool_call id="c1" name="weather">{"city":"Oslo"}</tool_call>
        </assistant>

        <tool_result id="c1">
        3 °C
        </tool_result>

        Go on, using the tool results above.
        "#);
    }

    #[test]
    fn a_conversation_with_tools() {
        let call =
            |id: &str, arguments: &str| ToolCall { id: id.into(), name: "weather".into(), arguments: arguments.into() };
        let tools = ToolPrompt {
            text: "(tools)".into(),
            reminder: "(go on)",
            later: "(go on, named)".into(),
            shortening: Shortening::None,
        };
        let result =
            |id: &str| Block::ToolResult { id: Some(id.into()), name: Some("weather".into()), text: "3 °C".into() };
        insta::assert_snapshot!(render(&[
            Block::User("Weather in Oslo?".into()),
            Block::Assistant { text: "I look.".into(), calls: vec![call("c1", "{\"city\":\"Oslo\"}")] },
            result("c1"),
            Block::Assistant { text: String::new(), calls: vec![call("c2", ""), call("c3", "not JSON")] },
            result("c2"),
            result("c3"),
        ], Some(&tools)), @r#"
        This is a conversation, one block for each message in order. Follow the <system> blocks, and write only the assistant's next message, without tags around it.

        (tools)

        <user>
        Weather in Oslo?
        </user>

        <assistant>
        I look.
        <tool_call>{"name": "weather", "arguments": {"city":"Oslo"}}</tool_call>
        </assistant>

        <tool_result id="c1" name="weather">
        3 °C
        </tool_result>

        <assistant>
        <tool_call>{"id": "c2", "name": "weather", "arguments": {}}</tool_call>
        <tool_call>{"id": "c3", "name": "weather", "arguments": "not JSON"}</tool_call>
        </assistant>

        <tool_result id="c2" name="weather">
        3 °C
        </tool_result>

        <tool_result id="c3" name="weather">
        3 °C
        </tool_result>

        (go on)
        "#);
        insta::assert_snapshot!(render_turn(&[result("c3"), Block::User("Hi".into())], Some(&tools)), @r#"
        The conversation goes on, one block for each message in order. Write only the assistant's next message, without tags around it.

        <tool_result id="c3" name="weather">
        3 °C
        </tool_result>

        <user>
        Hi
        </user>

        (go on, named)
        "#);
        assert_eq!(render_turn(&[Block::User("Hi".into())], None), "Hi");
        let alone = render(&[Block::User("Hi".into())], Some(&tools));
        assert!(alone.ends_with("(tools)\n\n<user>\nHi\n</user>\n\n(go on)"), "{alone}");
    }

    #[test]
    fn a_long_conversation_keeps_its_newest_part_inline() {
        let user = |text: String| Block::User(text);
        let says = |text: &str| Block::Assistant { text: text.to_owned(), calls: vec![] };
        let messages =
            [Block::System("Be terse.".into()), user("old ".repeat(500)), says("Noted."), user("And now?".into())];
        let long = render_long(&messages, None, "conversation.txt", 200);
        assert_eq!(long.file, messages.iter().map(|message| block(message, false)).collect::<Vec<_>>().join("\n\n"));
        let (_, shown) = long.inline.split_once("\n\n").unwrap();
        assert_eq!(
            shown,
            "<system>\nBe terse.\n</system>\n\n<assistant>\nNoted.\n</assistant>\n\n<user>\nAnd now?\n</user>"
        );
        assert!(long.inline.contains("conversation.txt"));
    }

    #[test]
    fn a_long_message_shows_its_beginning_and_its_end() {
        let text = format!("First: {} :last ü", "ü".repeat(5000));
        let long = render_long(&[Block::User(text.clone())], None, "c.txt", 100);
        assert!(long.inline.len() < 500, "{}", long.inline);
        assert!(long.inline.contains("<user>\nFirst: ") && long.inline.contains(":last ü\n</user>"), "{}", long.inline);
        assert!(long.file.contains(&text));
        let system = render_long(&[Block::System("s".repeat(5000)), Block::User("Hi".into())], None, "c.txt", 1000);
        assert!(system.inline.len() < 1400 && system.inline.ends_with("<user>\nHi\n</user>"), "{}", system.inline);
    }

    fn check(messages: &[Block], expected: &str) {
        let prompt = render(messages, None);
        let blocks = prompt.strip_prefix(HEAD).unwrap_or(&prompt).trim_start();
        assert_eq!(blocks, expected, "{messages:?}");
    }

    #[test]
    fn blocks_and_endings() {
        let user = |text: &str| Block::User(text.to_owned());
        let system = || Block::System("s".to_owned());
        let says = |text: &str, calls: Vec<ToolCall>| Block::Assistant { text: text.to_owned(), calls };
        let call =
            |id: &str, name: &str| ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: "{}".to_owned() };
        let result = |id: Option<&str>, name: Option<&str>| Block::ToolResult {
            id: id.map(str::to_owned),
            name: name.map(str::to_owned),
            text: "r".to_owned(),
        };
        check(&[], "");
        check(&[user("")], "");
        check(&[user("a"), user("b")], "<user>\na\n</user>\n\n<user>\nb\n</user>");
        check(&[system()], &format!("<system>\ns\n</system>\n\n{AFTER_SYSTEM}"));
        check(&[user("a"), system()], "<user>\na\n</user>\n\n<system>\ns\n</system>");
        check(&[says("a", vec![])], &format!("<assistant>\na\n</assistant>\n\n{AFTER_ASSISTANT}"));
        check(
            &[says("a", vec![call("1", "f"), call("", "")]), user("u")],
            "<assistant>\na\n<tool_call id=\"1\" name=\"f\">{}</tool_call>\n<tool_call>{}</tool_call>\n</assistant>\n\n<user>\nu\n</user>",
        );
        check(&[result(None, Some("f"))], &format!("<tool_result name=\"f\">\nr\n</tool_result>\n\n{AFTER_TOOL}"));
        check(&[result(Some(""), None), user("u")], "<tool_result>\nr\n</tool_result>\n\n<user>\nu\n</user>");
    }
}

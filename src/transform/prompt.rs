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
//! Nothing is left out and nothing is shortened.

use std::fmt::Write as _;

/// One message of a conversation, already checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// `system` or `developer`.
    System(String),
    /// `user`.
    User(String),
    /// `assistant`, with the calls that it made.
    Assistant {
        /// Its text, maybe empty.
        text: String,
        /// Its calls.
        calls: Vec<ToolCall>,
    },
    /// `tool` or the older `function`.
    ToolResult {
        /// Which call it answers.
        id: Option<String>,
        /// Which tool gave it.
        name: Option<String>,
        /// What it gave.
        text: String,
    },
}

/// A call that an assistant made earlier in the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments as the assistant wrote them.
    pub arguments: String,
}

const HEAD: &str = "This is a conversation, one block for each message in order. Follow the <system> blocks, \
                    and write only the assistant's next message, without tags around it.";
const AFTER_ASSISTANT: &str = "Continue the assistant's last message where it stops.";
const AFTER_TOOL: &str = "Go on, using the tool results above.";
const AFTER_SYSTEM: &str = "Begin the conversation as the <system> blocks ask.";

/// Writes the conversation as one prompt.
#[must_use]
pub fn render(messages: &[Message]) -> String {
    if let [Message::User(text)] = messages {
        return text.clone();
    }
    let mut prompt = String::from(HEAD);
    for message in messages {
        prompt.push_str("\n\n");
        match message {
            Message::System(text) => block(&mut prompt, "system", text),
            Message::User(text) => block(&mut prompt, "user", text),
            Message::Assistant { text, calls } => {
                let mut inner = text.clone();
                for call in calls {
                    if !inner.is_empty() {
                        inner.push('\n');
                    }
                    let attributes = attributes(Some(&call.id), Some(&call.name));
                    // Writing into a String cannot fail.
                    let _ = write!(inner, "<tool_call{attributes}>{}</tool_call>", call.arguments);
                }
                block(&mut prompt, "assistant", &inner);
            }
            Message::ToolResult { id, name, text } => {
                let attributes = attributes(id.as_deref(), name.as_deref());
                let _ = write!(prompt, "<tool_result{attributes}>\n{text}\n</tool_result>");
            }
        }
    }
    let ending = match messages.last() {
        Some(Message::Assistant { .. }) => AFTER_ASSISTANT,
        Some(Message::ToolResult { .. }) => AFTER_TOOL,
        Some(Message::System(_)) if !messages.iter().any(|message| matches!(message, Message::User(_))) => AFTER_SYSTEM,
        Some(Message::System(_) | Message::User(_)) | None => "",
    };
    if !ending.is_empty() {
        prompt.push_str("\n\n");
        prompt.push_str(ending);
    }
    prompt
}

fn block(prompt: &mut String, tag: &str, text: &str) {
    let _ = write!(prompt, "<{tag}>\n{text}\n</{tag}>");
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

    #[test]
    fn a_single_user_message_goes_as_it_is() {
        assert_eq!(render(&[Message::User("Hi <b>".to_owned())]), "Hi <b>");
    }

    #[test]
    fn a_whole_conversation() {
        let call = ToolCall { id: "c1".into(), name: "weather".into(), arguments: "{\"city\":\"Oslo\"}".into() };
        insta::assert_snapshot!(render(&[
            Message::System("Be terse.".into()),
            Message::User("Weather in Oslo?".into()),
            Message::Assistant { text: String::new(), calls: vec![call] },
            Message::ToolResult { id: Some("c1".into()), name: None, text: "3 °C".into() },
        ]), @r#"
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

    fn check(messages: &[Message], expected: &str) {
        let prompt = render(messages);
        let blocks = prompt.strip_prefix(HEAD).unwrap_or(&prompt).trim_start();
        assert_eq!(blocks, expected, "{messages:?}");
    }

    #[test]
    fn blocks_and_endings() {
        let user = |text: &str| Message::User(text.to_owned());
        let system = || Message::System("s".to_owned());
        let says = |text: &str, calls: Vec<ToolCall>| Message::Assistant { text: text.to_owned(), calls };
        let call =
            |id: &str, name: &str| ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: "{}".to_owned() };
        let result = |id: Option<&str>, name: Option<&str>| Message::ToolResult {
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

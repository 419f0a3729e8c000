//! Reading a prompt. The web chat takes one message, so a whole conversation comes as one text, with a block for each
//! message: `<user>`, `<assistant>`, … on lines of their own (`docs/tools.md` of the server shows one).

use serde_json::{Value, json};

/// A tool that a prompt shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// Its JSON Schema; `null` where the prompt shows none.
    pub(crate) parameters: Value,
}

/// The tools of the first `<tools>` block, one JSON object a line; lines that are not are left out.
pub(crate) fn tools(prompt: &str) -> Vec<Tool> {
    let Some((_, rest)) = prompt.split_once("<tools>\n") else {
        return Vec::new();
    };
    let Some((list, _)) = rest.split_once("\n</tools>") else {
        return Vec::new();
    };
    let tools = list.lines().filter_map(|line| {
        let mut tool: Value = serde_json::from_str(line).ok()?;
        let name = tool.get("name")?.as_str()?.to_owned();
        let parameters = tool.get_mut("parameters").map_or(Value::Null, Value::take);
        Some(Tool { name, parameters })
    });
    tools.collect()
}

/// Name and text of the `<tool_result>` blocks after the assistant's last message. The name is empty where the block
/// has none.
pub(crate) fn newest_results(prompt: &str) -> Vec<(String, &str)> {
    let last = prompt.rfind("\n</assistant>").unwrap_or(0);
    let rest = prompt.get(last..).unwrap_or_default();
    let blocks = rest.split("\n<tool_result").skip(1);
    let results = blocks.filter_map(|block| {
        let (head, text) = block.split_once(">\n")?;
        let (text, _) = text.split_once("\n</tool_result>")?;
        let name = head.split_once("name=\"").and_then(|(_, name)| name.split_once('"'));
        Some((name.map_or_else(String::new, |(name, _)| name.to_owned()), text))
    });
    results.collect()
}

/// Names of the tools that were called since the assistant's last message without a call, oldest first.
pub(crate) fn calls_of_task(prompt: &str) -> Vec<String> {
    let rounds = rounds(prompt);
    let calls = rounds.iter().flat_map(|(message, _)| message.split("<tool_call>").skip(1));
    calls.filter_map(name_of_call).collect()
}

/// The users' texts since the assistant's last message without a call.
pub(crate) fn task(prompt: &str) -> String {
    let rounds = rounds(prompt);
    let blocks = rounds.iter().flat_map(|(_, behind)| behind.split("<user>\n").skip(1));
    let texts = blocks.map(|block| block.split("\n</user>").next().unwrap_or_default());
    texts.collect::<Vec<_>>().join("\n")
}

/// The newest task, oldest first: messages of the assistant with calls, each with what stands behind it. In front of
/// the first of them the message is empty.
fn rounds(prompt: &str) -> Vec<(&str, &str)> {
    let mut rounds = Vec::new();
    let mut rest = prompt;
    loop {
        let (before, behind) = rest.rsplit_once("\n</assistant>").unwrap_or(("", rest));
        let (earlier, message) = before.rsplit_once("<assistant>\n").unwrap_or_default();
        if !message.contains("<tool_call>") {
            rounds.push(("", behind));
            rounds.reverse();
            return rounds;
        }
        rounds.push((message, behind));
        rest = earlier;
    }
}

fn name_of_call(text: &str) -> Option<String> {
    let (json, _) = text.split_once("</tool_call>")?;
    let call: Value = serde_json::from_str(json).ok()?;
    Some(call.get("name")?.as_str()?.to_owned())
}

/// The JSON Schema that the answer has to follow, when it has to be JSON.
pub(crate) fn json_schema(prompt: &str) -> Option<Value> {
    if let Some((_, schema)) = prompt.rsplit_once("It has to follow this JSON Schema:\n") {
        return serde_json::from_str(schema.lines().next()?).ok();
    }
    let is_wished = prompt.contains("Write the assistant's next message as one JSON object and nothing else");
    let text = json!({ "type": "string" });
    is_wished.then(|| json!({ "type": "object", "properties": { "content": text }, "required": ["content"] }))
}

/// The folder that agents name in their texts, as in `Working directory: /home/ada` or `<cwd>/home/ada</cwd>`.
pub(crate) fn working_directory(prompt: &str) -> Option<&str> {
    let lines = prompt.lines().filter_map(|line| line.split_once(':'));
    let names = |words: &str| {
        let words = words.to_ascii_lowercase();
        ["working directory", "working in the directory", "current directory"].iter().any(|name| words.ends_with(name))
    };
    let named = lines.filter(|(words, _)| names(words.trim_end()));
    let mut folders = named.filter_map(|(_, folder)| folder.split_whitespace().next());
    let tagged = || prompt.split_once("<cwd>")?.1.split_once("</cwd>").map(|(folder, _)| folder.trim());
    folders.find(|folder| folder.starts_with('/')).or_else(tagged).filter(|folder| folder.starts_with('/'))
}

/// A conversation as one prompt: what was said in a chat so far, by role, and the newest message.
pub(crate) fn joined(earlier: &[(&'static str, String)], newest: &str) -> String {
    let mut text = String::new();
    for (role, content) in earlier {
        let is_prompt = *role == "user" && has_blocks(content);
        let block = if is_prompt { content.clone() } else { format!("<{role}>\n{content}\n</{role}>") };
        text.push_str(&block);
        text.push_str("\n\n");
    }
    if earlier.is_empty() || has_blocks(newest) {
        text.push_str(newest);
    } else {
        text.push_str(&format!("<user>\n{newest}\n</user>"));
    }
    text
}

/// Whether a message has blocks for messages of a conversation.
fn has_blocks(text: &str) -> bool {
    ["<user>\n", "<tool_result", "<system>\n"]
        .iter()
        .any(|mark| text.starts_with(mark) || text.contains(&format!("\n{mark}")))
}

/// The newest message of the user: the last `<user>` block, or the prompt itself when it has none.
pub(crate) fn newest_user_message(prompt: &str) -> &str {
    let begins = |at: &usize| *at == 0 || prompt.as_bytes().get(at - 1) == Some(&b'\n');
    let Some(start) = prompt.match_indices("<user>\n").map(|(at, _)| at).filter(begins).last() else {
        // A wish for JSON stands behind it.
        return prompt.split("\n\nWrite the assistant's next message as ").next().unwrap_or(prompt);
    };
    let message = prompt.get(start + "<user>\n".len()..).unwrap_or_default();
    message.rsplit_once("\n</user>").map_or(message, |(message, _)| message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_told_from_earlier_ones() {
        let call = |name: &str| format!("<assistant>\n<tool_call>{{\"name\": \"{name}\"}}</tool_call>\n</assistant>");
        let prompt = format!(
            "<user>\none\n</user>\n\n{}\n\n<assistant>\ndone\n</assistant>\n\n<user>\ntwo\n</user>\n\n{}\n\n<user>\n\
             three\n</user>\n\n{}\n\nWrite on.",
            call("a"),
            call("b"),
            call("c")
        );
        assert_eq!(calls_of_task(&prompt), ["b", "c"]);
        assert_eq!(task(&prompt), "two\nthree");
        assert_eq!((calls_of_task("Hello"), task("<user>\nHi\n</user>")), (Vec::new(), "Hi".to_owned()));
    }

    #[test]
    fn a_continued_chat_reads_as_one_prompt() {
        let earlier = [("user", "<user>\none\n</user>".to_owned()), ("assistant", "two".to_owned())];
        let before = "<user>\none\n</user>\n\n<assistant>\ntwo\n</assistant>\n\n";
        assert_eq!(joined(&earlier, "three"), format!("{before}<user>\nthree\n</user>"));
        let result = "<tool_result id=\"a\">\nthree\n</tool_result>";
        assert_eq!(joined(&earlier, result), format!("{before}{result}"));
        assert_eq!(joined(&[], "three"), "three");
    }

    #[test]
    fn the_newest_message_is_found() {
        for (prompt, newest) in [
            ("Hello", "Hello"),
            ("", ""),
            ("Write a <user>\nin a line", "Write a <user>\nin a line"),
            ("<user>\nHi\n</user>", "Hi"),
            (
                "Head.\n\n<user>\none\n</user>\n\n<assistant>\ntwo\n</assistant>\n\n<user>\nthree\n\nfour\n</user>",
                "three\n\nfour",
            ),
            ("<user>\none\n</user>\n\n<tool_result id=\"a\">\ntwo\n</tool_result>\n\nGo on.", "one"),
            ("<user>\na </user> in the text\n</user>\n\nGo on.", "a </user> in the text"),
            ("<user>\ncut off", "cut off"),
        ] {
            assert_eq!(newest_user_message(prompt), newest, "{prompt}");
        }
    }
}

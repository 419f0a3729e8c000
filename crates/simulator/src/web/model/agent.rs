//! The built-in answer to a prompt that shows tools. It works as a small agent does: it lists the folder, then reads
//! one of its files or writes the one that the task names, then says what the tools returned. With other tools it calls
//! those that the task speaks of, one after the other.

use crate::script::ModelCall;
use crate::web::model::arguments::{Wish, filled, simple};
use crate::web::model::prompt::{
    Tool, calls_of_task, json_schema, newest_results, newest_user_message, task, tools, working_directory,
};
use crate::web::model::small_talk::is_chinese;

/// The model's next step.
pub(crate) enum Next {
    /// Calls of tools, at least one, in their order.
    Calls(Vec<ModelCall>),
    /// An answer in words, which ends the task.
    Says(String),
}

/// The model's next step; `None` if it knows no fitting tool and is not asked for JSON. It knows the tools that the
/// prompt shows and those that are `declared` beside it. `small_talk`: it makes conversation of what tools returned.
pub(crate) fn next(prompt: &str, declared: &[Tool], small_talk: bool) -> Option<Next> {
    let message = newest_user_message(prompt);
    if message.contains("echo:") {
        return None;
    }
    let mut tools = tools(prompt);
    tools.extend_from_slice(declared);
    let results = newest_results(prompt);
    let calls = if results.is_empty() { asked(message, &tools) } else { Vec::new() };
    let calls = if calls.is_empty() { Agent::new(prompt, message, &tools).next(&results) } else { calls };
    if !calls.is_empty() {
        return Some(Next::Calls(calls));
    }
    if let Some(schema) = json_schema(prompt) {
        let wish = Wish { content: message, ..Wish::of(".", message) };
        return Some(Next::Says(filled(&schema, &wish).to_string()));
    }
    (!results.is_empty()).then(|| Next::Says(if small_talk { told(&results, message) } else { report(&results) }))
}

/// An answer that quotes what the tools returned.
fn report(results: &[(String, &str)]) -> String {
    let quoted = results.iter().map(|(name, result)| {
        let name = if name.is_empty() { "The tool".to_owned() } else { format!("The tool `{name}`") };
        format!("{name} returned:\n\n{}", shown(result))
    });
    let quoted: Vec<_> = quoted.collect();
    format!("{}\n\nThis is a simulated answer: no model was asked.", quoted.join("\n\n"))
}

/// The same in the language of the message, as one says it in conversation.
fn told(results: &[(String, &str)], message: &str) -> String {
    let (said, end) = if is_chinese(message) {
        ("查到了", "需要我再细看哪一点吗？")
    } else {
        ("Here is what I found", "Shall I look into any of it more closely?")
    };
    let quoted = results.iter().map(|(name, result)| {
        let source = if name.is_empty() { String::new() } else { format!(" (`{name}`)") };
        format!("{said}{source}:\n\n{}", shown(result))
    });
    let quoted: Vec<_> = quoted.collect();
    format!("{}\n\n{end}", quoted.join("\n\n"))
}

/// The beginning of a tool's result.
fn shown(result: &str) -> String {
    let shown: String = result.chars().take(RESULT_CHARS_MAX).collect();
    let rest = if shown.len() < result.len() { " […]" } else { "" };
    format!("{shown}{rest}")
}

/// Lines `call: NAME ARGUMENTS` of the message, as far as there are such tools.
fn asked(message: &str, tools: &[Tool]) -> Vec<ModelCall> {
    let lines = message.lines().filter_map(|line| line.trim().strip_prefix("call:"));
    let calls = lines.filter_map(|line| {
        let line = line.trim();
        let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, "{}"));
        tools.iter().any(|tool| tool.name == name).then(|| ModelCall::raw(name, arguments.trim()))
    });
    calls.collect()
}

/// The facts by which a call is chosen.
struct Agent<'a> {
    prompt: &'a str,
    message: &'a str,
    tools: &'a [Tool],
    /// Names of the tools that were called since the last answer in words.
    called: Vec<String>,
    folder: &'a str,
}

impl<'a> Agent<'a> {
    fn new(prompt: &'a str, message: &'a str, tools: &'a [Tool]) -> Self {
        let folder = working_directory(prompt).unwrap_or(".");
        Self { prompt, message, tools, called: calls_of_task(prompt), folder }
    }

    /// The calls of the next message; none when it is time to answer.
    fn next(&self, results: &[(String, &str)]) -> Vec<ModelCall> {
        let call = if results.is_empty() { self.first() } else { self.further(results) };
        call.or_else(|| self.required()).into_iter().collect()
    }

    /// A call that looks around, else one of a tool that the message speaks of.
    fn first(&self) -> Option<ModelCall> {
        if let Some(tool) = self.forced() {
            return Some(call(tool, &self.wish_to_list()));
        }
        let tool = self.named(LISTING).or_else(|| self.named(SHELLS));
        let tool = tool.or_else(|| self.spoken_of(self.message))?;
        Some(call(tool, &self.wish_to_list()))
    }

    /// A call that uses the results.
    fn further(&self, results: &[(String, &str)]) -> Option<ModelCall> {
        let has_listed = self.called.first().is_some_and(|first| {
            let first = simple(first);
            LISTING.contains(&&*first) || SHELLS.contains(&&*first)
        });
        if !has_listed {
            let tool = self.spoken_of(&task(self.prompt)).filter(|_| self.called.len() < CALLS_MAX)?;
            return Some(call(tool, &self.wish_to_list()));
        }
        if self.called.len() > 1 {
            return None;
        }
        if let Some(name) = file_to_write(&task(self.prompt)) {
            let path = self.path_of(&name);
            let command = format!("printf '%s\\n' '{CONTENT}' > {name}");
            return self.use_file(WRITING, &path, &command, "Write the file");
        }
        let name = results.iter().find_map(|(_, result)| file_to_read(result))?;
        self.use_file(READING, &self.path_of(&name), &format!("cat {name}"), "Read the file")
    }

    /// A call of one of these tools with a path, else of a shell with a command.
    fn use_file(&self, names: &[&str], path: &str, command: &str, purpose: &str) -> Option<ModelCall> {
        let wish = Wish { command, purpose, ..Wish::of(path, self.message) };
        if let Some(tool) = self.named(names) {
            return Some(call(tool, &Wish { fills_path: true, ..wish }));
        }
        Some(call(self.named(SHELLS)?, &Wish { path: self.folder, ..wish }))
    }

    /// A call, when there has to be one.
    fn required(&self) -> Option<ModelCall> {
        let is_required = self.prompt.contains("The next message has to call a tool.");
        // The last one may be how the caller wants the answer: one that was not called goes first.
        let others = || self.tools.iter().find(|tool| !self.called.contains(&tool.name));
        let any = || others().or(self.tools.first()).filter(|_| is_required);
        let tool = self.forced().or_else(any)?;
        Some(call(tool, &self.wish_to_list()))
    }

    /// The tool that has to be called.
    fn forced(&self) -> Option<&Tool> {
        self.tools.iter().find(|tool| self.prompt.contains(&format!("has to call the tool {}.", tool.name)))
    }

    /// The first of these names, best first, that a tool has.
    fn named(&self, names: &[&str]) -> Option<&Tool> {
        names.iter().find_map(|name| self.tools.iter().find(|tool| simple(&tool.name) == *name))
    }

    /// The tool not called so far that the text speaks of first: with all words of its name, else, for a first
    /// call, with one of them.
    fn spoken_of(&self, text: &str) -> Option<&Tool> {
        let text = text.to_lowercase();
        let place = |tool: &Tool| {
            let words = tool.name.split(['_', '-', '.']).filter(|word| word.len() >= 4);
            let places: Vec<_> = words.map(|word| text.find(&word.to_lowercase())).collect();
            let first = places.iter().flatten().min()?;
            Some((places.contains(&None), *first)).filter(|(is_partly, _)| self.called.is_empty() || !is_partly)
        };
        let others = self.tools.iter().filter(|tool| !self.called.contains(&tool.name));
        others.filter_map(|tool| Some((place(tool)?, tool))).min_by_key(|(place, _)| *place).map(|(_, tool)| tool)
    }

    fn path_of(&self, name: &str) -> String {
        if self.folder.starts_with('/') && !name.starts_with('/') {
            format!("{}/{name}", self.folder.trim_end_matches('/'))
        } else {
            name.to_owned()
        }
    }

    fn wish_to_list(&self) -> Wish<'_> {
        Wish::of(self.folder, self.message)
    }
}

fn call(tool: &Tool, wish: &Wish<'_>) -> ModelCall {
    ModelCall::new(&tool.name, filled(&tool.parameters, wish))
}

/// The file that a task wants written: the first name of one behind `write`, `create` or `save`.
fn file_to_write(task: &str) -> Option<String> {
    let mut words = task.split_whitespace();
    let mut found = None;
    while let Some(word) = words.next() {
        let word: String = word.chars().filter(char::is_ascii_alphabetic).collect();
        if ["write", "create", "save"].contains(&&*word.to_lowercase()) {
            // The person's own words stand behind those that an agent puts into the message.
            found = words.clone().take(NAME_WITHIN_WORDS).find_map(file_name).or(found);
        }
    }
    found
}

/// The file of a listing that tells most about the folder.
fn file_to_read(listing: &str) -> Option<String> {
    // Some tools answer in JSON.
    let listing = listing.replace("\\n", "\n");
    let names: Vec<String> = listing.split(|letter: char| !is_of_name(letter)).filter_map(file_name).collect();
    let readme = names.iter().find(|name| simple(name.rsplit('/').next().unwrap_or_default()).starts_with("readme"));
    let of_kind = |kind: &str| names.iter().find(|name| name.ends_with(kind));
    let best = readme.or_else(|| EXTENSIONS.iter().find_map(|kind| of_kind(kind)));
    best.cloned()
}

/// The name of a file of text in a word, without what stands around it.
fn file_name(word: &str) -> Option<String> {
    let name = word.trim_start_matches(|letter: char| !is_of_name(letter));
    let name = name.trim_end_matches(|letter: char| !is_of_name(letter) || letter == '.');
    let name = name.strip_prefix("./").unwrap_or(name);
    let is_text = EXTENSIONS.iter().any(|kind| name.len() > kind.len() && name.ends_with(kind));
    (is_text && name.chars().all(is_of_name)).then(|| name.to_owned())
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-' | '/')
}

impl<'a> Wish<'a> {
    /// The wish for a first look at this folder.
    fn of(path: &'a str, message: &'a str) -> Self {
        let purpose = "List the files of the folder";
        Self { path, fills_path: false, command: "ls", content: CONTENT, purpose, message }
    }
}

/// Tools that list a folder, without case and separators, best first.
const LISTING: &[&str] =
    &["listfiles", "listdirectory", "listdir", "ls", "list", "listfolder", "readdirectory", "listdirectorycontents"];

/// Tools that run a command, likewise.
const SHELLS: &[&str] = &[
    "bash",
    "shell",
    "runshellcommand",
    "executecommand",
    "shellcommand",
    "execcommand",
    "exec",
    "runcommands",
    "runcommand",
    "runterminalcommand",
    "terminal",
];

/// Tools that read a file, likewise.
const READING: &[&str] =
    &["readfile", "read", "viewfile", "view", "readfiles", "readtextfile", "openfile", "getfilecontents", "cat"];

/// Tools that write a whole file, likewise.
const WRITING: &[&str] =
    &["writefile", "write", "createfile", "createnewfile", "writetofile", "savefile", "createorupdatefile", "editor"];

/// Ends of names of files of text, those that tell most first.
const EXTENSIONS: &[&str] = &[
    ".md", ".txt", ".toml", ".json", ".yaml", ".yml", ".py", ".rs", ".ts", ".js", ".go", ".java", ".c", ".html", ".csv",
];

/// Content of a written file.
const CONTENT: &str = "Written by the simulated model.";

/// Most words between `write` and the name of a file.
const NAME_WITHIN_WORDS: usize = 8;

/// The most calls of tools that a task only speaks of.
const CALLS_MAX: usize = 4;

/// Most characters of a result that are quoted.
const RESULT_CHARS_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::script::{CallShape, ToolScript};

    /// The text that the model writes for a prompt.
    fn answer(prompt: &str) -> Option<String> {
        next(prompt, &[], false).map(|next| match next {
            Next::Calls(calls) => ToolScript::new(CallShape::Documented, calls).text(),
            Next::Says(text) => text,
        })
    }

    fn prompt(tools: &[Value], rest: &str) -> String {
        let lines: Vec<String> = tools.iter().map(Value::to_string).collect();
        format!("Head.\n\n<tools>\n{}\n</tools>\n\nHow to call.\n\n{rest}", lines.join("\n"))
    }

    fn tool(name: &str, properties: &Value, required: &[&str]) -> Value {
        let parameters = json!({ "type": "object", "properties": properties, "required": required });
        json!({ "name": name, "description": "d", "parameters": parameters })
    }

    fn call_of(tools: &[Value], rest: &str) -> Value {
        let said = answer(&prompt(tools, rest)).unwrap();
        let json = said.strip_prefix("<tool_call>").and_then(|rest| rest.strip_suffix("</tool_call>"));
        serde_json::from_str(json.unwrap_or_else(|| panic!("{said}"))).unwrap()
    }

    fn text() -> Value {
        json!({ "type": "string" })
    }

    /// A call and its result, as the blocks of a prompt.
    fn round(name: &str, result: &str) -> String {
        format!(
            "\n\n<assistant>\n<tool_call>{{\"name\": \"{name}\", \"arguments\": {{}}}}</tool_call>\n</assistant>\n\n\
             <tool_result id=\"a\" name=\"{name}\">\n{result}\n</tool_result>"
        )
    }

    const USER: &str = "<user>\nWhat is here?\n</user>\n\nWrite on.";

    #[test]
    fn a_folder_is_listed_with_the_tool_that_is_there() {
        let weather = tool("get_weather", &json!({ "city": { "type": "string" } }), &["city"]);
        for (tool, name, arguments) in [
            (tool("list_files", &json!({ "path": text() }), &["path"]), "list_files", json!({ "path": "." })),
            (tool("List", &json!({ "dirpath": text() }), &["dirpath"]), "List", json!({ "dirpath": "." })),
            (
                tool("Bash", &json!({ "command": text(), "timeout": { "type": "number" } }), &["command"]),
                "Bash",
                json!({ "command": "ls" }),
            ),
            (
                tool("shell", &json!({ "command": { "type": "array", "items": text() } }), &["command"]),
                "shell",
                json!({ "command": ["ls"] }),
            ),
            (
                tool("run_commands", &json!({ "commands": { "type": "array", "items": text() } }), &["commands"]),
                "run_commands",
                json!({ "commands": ["ls"] }),
            ),
            (tool("LS", &json!({ "path": text() }), &[]), "LS", json!({})),
        ] {
            let call = call_of(&[weather.clone(), tool], USER);
            assert_eq!(call, json!({ "name": name, "arguments": arguments }));
        }
        let list = tool("list_directory", &json!({ "path": text() }), &["path"]);
        for said in [
            "Working directory: /home/ada/app",
            " - Primary working directory: /home/ada/app",
            "4. Working Directory: /home/ada/app",
            "I'm currently working in the directory: /home/ada/app",
            "<environment_context>\n  <cwd>/home/ada/app</cwd>",
        ] {
            let rest = format!("<system>\n{said}\n</system>\n\n<user>\nHi\n</user>");
            assert_eq!(call_of(std::slice::from_ref(&list), &rest)["arguments"]["path"], "/home/ada/app", "{said}");
        }
    }

    #[test]
    fn a_file_of_the_folder_is_read() {
        let (bash, read) = (
            tool("Bash", &json!({ "command": text() }), &["command"]),
            tool("Read", &json!({ "file_path": text() }), &[]),
        );
        let listed =
            |system: &str, listing: &str| format!("{system}<user>\nWhat is here?\n</user>{}", round("Bash", listing));
        for (tools, system, listing, expected) in [
            (vec![bash.clone(), read.clone()], "", "a.py\nnotes.txt", json!({ "file_path": "notes.txt" })),
            (
                vec![bash.clone(), read.clone()],
                "<system>\nWorking directory: /home/ada\n</system>\n\n",
                "Output:\n./notes.txt\nReadme.rst\nREADME.md.",
                json!({ "file_path": "/home/ada/README.md" }),
            ),
            (vec![bash.clone()], "", "{\"files\": [\"src/main.rs\", \"x\"]}", json!({ "command": "cat src/main.rs" })),
            (vec![bash.clone()], "", "{\"result\":\"b.md\\na.md\\n\"}", json!({ "command": "cat b.md" })),
        ] {
            assert_eq!(call_of(&tools, &listed(system, listing))["arguments"], expected, "{listing}");
        }
        // Nothing to read, and nothing to read it with.
        for (tools, listing) in [(vec![bash.clone(), read], "total 0"), (vec![tool("ls", &json!({}), &[])], "a.txt")] {
            let said = answer(&prompt(&tools, &listed("", listing))).unwrap();
            assert!(
                said.starts_with(&format!("The tool `Bash` returned:\n\n{listing}\n\nThis is a simulated")),
                "{said}"
            );
        }
    }

    #[test]
    fn the_file_that_a_task_names_is_written() {
        let bash = tool("Bash", &json!({ "command": text() }), &["command"]);
        let write = tool("Write", &json!({ "file_path": text(), "content": text() }), &["file_path", "content"]);
        let task =
            format!("<user>\nList the files, then write a summary to \"sum.txt\".\n</user>{}", round("Bash", "a.md"));
        let written = json!({ "file_path": "sum.txt", "content": "Written by the simulated model." });
        assert_eq!(call_of(&[bash.clone(), write], &task)["arguments"], written);
        let command = "printf '%s\\n' 'Written by the simulated model.' > sum.txt";
        assert_eq!(call_of(&[bash], &task)["arguments"], json!({ "command": command }));
    }

    #[test]
    fn the_second_result_is_reported() {
        let tools =
            [tool("Bash", &json!({ "command": text() }), &["command"]), tool("Read", &json!({ "path": text() }), &[])];
        let two = format!("<user>\nHi\n</user>{}{}", round("Bash", "a.md\nb.md"), round("Read", "See b.md."));
        let reminded = format!("{two}\n\n<user>\nRemember the plan.\n</user>");
        for rest in [two, reminded] {
            let said = answer(&prompt(&tools, &rest)).unwrap();
            assert!(said.starts_with("The tool `Read` returned:\n\nSee b.md.\n\nThis is a simulated"), "{said}");
            // A result of an earlier turn answers nothing new.
            let later = format!("{rest}\n\n<assistant>\n{said}\n</assistant>\n\n<user>\nAgain\n</user>");
            assert_eq!(call_of(&tools, &later)["name"], "Bash");
        }
    }

    #[test]
    fn a_tool_that_is_named_or_required_is_called() {
        let tools = ["get_weather", "send_mail"].map(|name| tool(name, &json!({ "q": { "type": "string" } }), &["q"]));
        assert_eq!(call_of(&tools, "<user>\nHow is the weather?\n</user>")["name"], "get_weather");
        let required = "The next message has to call a tool.\n\n<user>\nHi\n</user>";
        assert_eq!(call_of(&tools, required)["name"], "get_weather");
        let told = format!("{required}{}", round("get_weather", "sunny"));
        assert_eq!(call_of(&tools, &told)["name"], "send_mail");
        let named = "The next message has to call the tool send_mail.\n\n<user>\nHi\n</user>";
        assert_eq!(call_of(&tools, named)["name"], "send_mail");
        let asked = "<user>\ncall: send_mail {\"q\": 1}\n</user>";
        assert_eq!(call_of(&tools, asked), json!({ "name": "send_mail", "arguments": { "q": 1 } }));
        for rest in ["<user>\nHello\n</user>", "<user>\necho: weather\n</user>"] {
            assert_eq!(answer(&prompt(&tools, rest)), None, "{rest}");
        }
        assert_eq!(answer("<user>\nHow is the weather?\n</user>"), None);
    }

    #[test]
    fn tools_that_the_task_speaks_of_are_called_one_after_the_other() {
        let tools = ["send_mail", "get_weather"].map(|name| tool(name, &json!({ "q": { "type": "string" } }), &["q"]));
        let task = "<user>\nLook up the weather and send a mail about it.\n</user>";
        let first = format!("{task}{}", round("get_weather", "sunny"));
        assert_eq!(call_of(&tools, task)["name"], "get_weather");
        assert_eq!(call_of(&tools, &first)["name"], "send_mail");
        let said = answer(&prompt(&tools, &format!("{first}{}", round("send_mail", "sent")))).unwrap();
        assert!(said.starts_with("The tool `send_mail` returned:\n\nsent"), "{said}");
    }

    #[test]
    fn json_is_answered_where_it_is_wished_for() {
        let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
        let asks = |rest: &str| {
            format!(
                "{rest}\n\nWrite the assistant's next message as JSON and nothing else: no code fence, no text around \
                 it. It has to follow this JSON Schema:\n{schema}"
            )
        };
        assert_eq!(answer(&asks("<user>\nHow many?\n</user>")).unwrap(), "{\"n\":1}");
        let text = json!({ "type": "object", "properties": { "s": { "type": "string" } }, "required": ["s"] });
        assert_eq!(
            answer(&asks("How many?").replace(&schema.to_string(), &text.to_string())).unwrap(),
            "{\"s\":\"How many?\"}"
        );
        let tools = [tool("get_weather", &json!({}), &[])];
        let task = "<user>\nHow is the weather?\n</user>";
        assert_eq!(call_of(&tools, &asks(task))["name"], "get_weather");
        let told = prompt(&tools, &asks(&format!("{task}{}", round("get_weather", "sunny"))));
        assert_eq!(answer(&told).unwrap(), "{\"n\":1}");
    }
}

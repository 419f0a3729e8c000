use proptest::prelude::*;

use super::*;

fn names() -> Arc<ToolNames> {
    Arc::new(ToolNames::new(["ls", "read_file", "Write-File"].map(str::to_owned)))
}

/// The text handed on before the end, and the result of the end.
fn read(pieces: &[&str]) -> (String, Reading) {
    let mut reader = CallReader::new(names());
    let mut shown = String::new();
    for piece in pieces {
        reader.push(Text::Plain(piece), &mut |text| text.append_to(&mut shown));
    }
    let reading = reader.finish();
    assert!(reading.calls.is_empty() == reading.raw.is_empty(), "{reading:?}");
    (shown, reading)
}

/// The text that is shown and the calls of an answer, as `text | name{arguments} | !` with `!` for an invalid call.
fn told(pieces: &[&str]) -> String {
    let (mut told, reading) = read(pieces);
    told.push_str(&reading.text);
    for call in reading.calls {
        match call {
            Ok(call) => told.push_str(&format!(" | {}{}", call.name, call.arguments)),
            Err(_) => told.push_str(" | !"),
        }
    }
    told
}

fn check(answer: &str, expected: &str) {
    assert_eq!(told(&[answer]), expected, "{answer}");
    let letters: Vec<String> = answer.chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(told(&letters), expected, "letter by letter: {answer}");
}

fn same(text: &str) {
    check(text, text);
}

#[test]
fn the_documented_form() {
    check(r#"<tool_call>{"name": "ls", "arguments": {"a": 1}}</tool_call>"#, r#" | ls{"a": 1}"#);
    check("I look.\n\n<tool_call>\n{\"name\": \"ls\", \"arguments\": {}}\n</tool_call>\n", "I look. | ls{}");
    check("I look. <tool_call>{\"name\": \"ls\", \"arguments\": {}}</tool_call> Done!", "I look. | ls{}");
    check(r#"<tool_call>{"name": "ls"}</tool_call>"#, " | ls{}");
    check(r#"<tool_call>{"name": "ls", "arguments": null}</tool_call>"#, " | ls{}");
    check(r#"<tool_call>{"arguments": {"a": [1, {}]}, "name": "ls"}</tool_call>"#, r#" | ls{"a": [1, {}]}"#);
    check(r#"<tool_call>{"name": "none", "arguments": {}}</tool_call>"#, " | none{}");
    check("<tool_call>{\"name\": \"ls\", \"arguments\": {}}", " | ls{}");
    check("<tool_call>{\"name\": \"ls\", \"arguments\": {}} and so on", " | ls{}");
    check("<tool_call>{\"name\": \"ls\", \"arguments\": {}}</tool", " | ls{}");
}

#[test]
fn several_calls() {
    let two = r#" | ls{"a":1} | ls{"a":2}"#;
    let (one, other) = (r#"{"name":"ls","arguments":{"a":1}}"#, r#"{"name":"ls","arguments":{"a":2}}"#);
    check(&format!("<tool_call>{one}</tool_call><tool_call>{other}</tool_call>"), two);
    check(&format!("<tool_call>{one}</tool_call>\nand\n<tool_call>{other}</tool_call>"), two);
    check(&format!("<tool_call>\n{one}\n{other}\n</tool_call>"), two);
    check(&format!("<tool_call>[{one}, {other}]</tool_call>"), two);
    check(&format!("<tool_call>{one}\n<tool_call>{other}</tool_call>"), two);
    check(&format!("<tool_calls><tool_call>{one}</tool_call><tool_call>{other}</tool_call></tool_calls>"), two);
    check(&format!("<tool_call>{one}</tool_call>\n```json\n{other}\n```"), two);
    check(&format!("<tool_call>{one}</tool_call>\n```json\n{other}\n```\nwas an example"), r#" | ls{"a":1}"#);
    check(&format!("```json\n{one}\n```\n```json\n{other}\n```"), two);
    check(&format!("```json\n{one}\n{other}\n```"), two);
    check(&format!("```json\n[{one},\n{other}]\n```"), two);
    check(&format!("{one}\n{other}"), two);
    check(&format!("{one}{other}"), two);
    check("ls(a=1)\nls(a=2)\n", two);
    check("<function=ls><parameter=a>1</parameter></function><ls/>", r#" | ls{"a":"1"} | ls{}"#);
}

#[test]
fn json_without_tags() {
    check(r#"{"name": "ls", "arguments": {"a": 1}}"#, r#" | ls{"a": 1}"#);
    check(r#"{"tool": "ls", "parameters": {"a": 1}}"#, r#" | ls{"a": 1}"#);
    check(r#"{"name": "LS", "parameters": {"a": 1}}"#, r#" | LS{"a": 1}"#);
    check(r#"{"function": {"name": "ls", "arguments": {}}}"#, " | ls{}");
    check(
        r#"{"type": "function", "id": "x", "function": {"name": "ls", "arguments": "{\"a\": 1}"}}"#,
        r#" | ls"{\"a\": 1}""#,
    );
    check(
        r#"{"tool_calls": [{"id": "1", "type": "function", "function": {"name": "ls", "arguments": {}}}]}"#,
        " | ls{}",
    );
    check(r#"[{"name": "ls", "arguments": {}}]"#, " | ls{}");
    check("Now:\n```json\n{\"name\": \"ls\", \"arguments\": {}}\n```", "Now: | ls{}");
    check("Now: {\"name\": \"ls\", \"arguments\": {}}", "Now: | ls{}");
    check("调用：{\"name\": \"ls\", \"arguments\": {}}", "调用： | ls{}");
    check("```json\n{\"name\": \"ls\", \"arguments\": {}}", " | ls{}");
    check(
        "```\n{\"name\": \"ls\", \"arguments\": {\"text\": \"```rust\\n```\"}}\n```\n",
        r#" | ls{"text": "```rust\n```"}"#,
    );
    check("{\"name\": \"ls\", \"arguments\": {}}\n</tool_call>", " | ls{}");
    check("```xml\n<tool_call>{\"name\": \"ls\", \"arguments\": {}}</tool_call>\n```", " | ls{}");
}

#[test]
fn tags_of_functions() {
    let read = r#" | read_file{"path":"a.rs"}"#;
    check("<function=read_file><parameter=path>a.rs</parameter></function>", read);
    check("<tool_call>\n<function=read_file>\n<parameter=path>\na.rs\n</parameter>\n</function>\n</tool_call>", read);
    check(
        "<function_calls>\n<invoke name=\"read_file\">\n<parameter name=\"path\">a.rs</parameter>\n</invoke>\n</function_calls>",
        read,
    );
    check("<invoke name=\"read_file\"><parameter name=\"path\">a.rs</parameter></invoke> so", read);
    check("<function=read_file>{\"path\":\"a.rs\"}</function>", read);
    check("<function=read_file><parameter=path>a.rs</parameter>", read);
    check("<function=read_file><parameter=path>a.rs", read);
    check("<function=read_file><parameter=path>a.rs</function></tool_call>", read);
    check("<read_file><path>a.rs</path></read_file>", read);
    check("I read it. <read-file>{\"path\":\"a.rs\"}</read-file>", r#"I read it. | read-file{"path":"a.rs"}"#);
    check("<read_file>\n<path>a.rs</path>\n", read);
    check("<ls></ls>", " | ls{}");
    check("<ls />", " | ls{}");
    check("<function=ls></function>", " | ls{}");
    check("<function=other><parameter=a>1</parameter></function>", r#" | other{"a":"1"}"#);
    check(
        "<function=ls>\n<parameter=a>\n</parameter> of\n\n<b>\n</parameter>\n</function>",
        r#" | ls{"a":"</parameter> of\n\n<b>"}"#,
    );
    check(
        "<function=ls><parameter=a>1</parameter><parameter=b>\n2\n3\n</parameter></function>",
        r#" | ls{"a":"1","b":"2\n3"}"#,
    );
    // A line break at one end only is part of the value.
    check(
        "<function=ls><parameter=a>line\n</parameter><parameter=b>\nline</parameter></function>",
        r#" | ls{"a":"line\n","b":"\nline"}"#,
    );
    check("<read_file><path>a\n</path></read_file>", r#" | read_file{"path":"a\n"}"#);
}

#[test]
fn lines_of_functions() {
    check("read_file(path=\"a.rs\", n=3)", r#" | read_file{"path":"a.rs","n":3}"#);
    check("I do:\nls()\n", "I do: | ls{}");
    check("ls({\"a\": 1})", r#" | ls{"a": 1}"#);
    check(
        "ls(a='it\\'s \"so\"', b=True, c=None, d=[1, 2], e={\"x\": \")\"})",
        r#" | ls{"a":"it's \"so\"","b":true,"c":null,"d":[1, 2],"e":{"x": ")"}}"#,
    );
    check("ls(\n  a=1,\n)", r#" | ls{"a":1}"#);
    check("```tool_code\nls()\nls(a=1)\n```", r#" | ls{} | ls{"a":1}"#);
    same("```tool_code\nprint(ls())\n```");
    same("```python\nls()\n```");
    same("ls() lists files.");
    same("ls(a) lists a.");
    same("I call ls()");
    same("lsof()");
    same("other()");
    same("ls(a == 1)");
    same("ls(");
    same("ls(a=1");
    same("ls(a=b)");
}

#[test]
fn results_that_the_model_made_up() {
    let call = "<tool_call>{\"name\": \"ls\", \"arguments\": {}}</tool_call>";
    check(&format!("{call}\n<tool_result>\na\n</tool_result>\n{call}"), " | ls{}");
    check(&format!("ls()\n<tool_response>a</tool_response>\n{call} Done."), " | ls{}");
    same("ls()\n<tool_resort> ");
    same("<tool_result>a</tool_result>\nDone.");
}

#[test]
fn every_byte_of_arguments() {
    for argument in [
        r#""</tool_call>""#,
        r#""</parameter></function></invoke>""#,
        r#""```json\n{}\n```""#,
        r#""<div class=\"a\">\\</div>""#,
        r#""{\"name\": \"ls\"} ' } ] [ {""#,
        r#""你好 \u4f60\ud83d\ude00 😀 \\\" \/ \u003c""#,
        "[\n  1e3,\n\t-0.50,\r\n  true\n]",
        r#"{"a": {"b": [[], {}, null]}}"#,
    ] {
        let call = format!("{{\"name\": \"ls\", \"arguments\": {{\"a\":  {argument} }}}}");
        let expected = format!(" | ls{{\"a\":  {argument} }}");
        check(&format!("<tool_call>{call}</tool_call>"), &expected);
        check(&format!("<tool_call>\n{call}\n</tool_call>\nmore"), &expected);
        check(&format!("```json\n{call}\n```"), &expected);
        check(&call, &expected);
    }
    check("<tool_call>{\"name\": \"ls\", \"arguments\": {\"a\": \"1\n\t2\"}}</tool_call>", r#" | ls{"a": "1\n\t2"}"#);
}

#[test]
fn broken_calls() {
    check("<tool_call>{\"name\": \"ls\", \"arguments\": {\"a\": }}</tool_call> more", " | !");
    check("<tool_call>{\"name\": \"ls\", \"arguments\": {\"a\": \"b}}</tool_call>", " | !");
    check("<tool_call>{\"name\": \"ls\", \"arguments\": {\"a\": 1}</tool_call>", " | !");
    check("<tool_call>{\"name\": \"ls\", \"arguments\": {}}}</tool_call>", " | !");
    check("<tool_call>{\"name\": \"ls\"", " | !");
    check("<tool_call>{'name': 'ls'}</tool_call>", " | !");
    check("<tool_call>{\"arguments\": {}}</tool_call>", " | !");
    check("<tool_call>{}</tool_call>", " | !");
    check("Now\n<tool_call>\nls of this folder\n</tool_call>", "Now | !");
    check("<function=ls>{\"a\": </function>", " | !");
}

#[test]
fn talk_of_calls_is_text() {
    same("Use <tool_call> to call a tool, and </tool_call> behind it.");
    same("Write `<tool_call>{\"name\": \"ls\", \"arguments\": {}}</tool_call>` for that.");
    same("`` <tool_call>{\"name\": \"ls\"}</tool_call> ` ``");
    same("```xml\n<tool_call>{\"name\": \"ls\", \"arguments\": {}}</tool_call>\n```\nis how it is done.");
    same("```json\n{\"name\": \"ls\", \"arguments\": {}}\n```\nis how it is done.");
    same("{\"name\": \"ls\", \"arguments\": {}} is how it is done.");
    same("{\"name\": \"ls\", \"arguments\": {}}\n{\"name\": \"ls\", \"arguments\": {}}\n\nare two.");
    same("```\nUser: hi\n<tool_call>{\"name\": \"ls\", \"arguments\": {}}</tool_call>\n```");
    same("```json\n{\"name\": \"Bob\", \"arguments\": {}}\n```");
    same("```json\n{\"name\": \"ls\"}\n```");
    same("{\"name\": \"ls\"}");
    same("[{\"a\": 1}] [link](url) [x] {");
    same("{\"tools\": [{\"name\": \"ls\", \"parameters\": {}}]}");
    same("fn main() {\n    ls(); // {\"name\"\n}");
    same("<ls> lists files, <lsx> does not, <read_file>a.rs</read_file>, a <b>c</b> < d <");
    same("<function=NAME> begins a function, <function= also. <invoke name=\"x\"> too");
    same("<tool_call><b>bold</b></tool_call>");
    same("<tool_call></tool_call>");
    same("<tool_call>");
    same("A ``` within a line <tool");
    same("```rust\nlet a = \"<tool_call>\";\n```\n");
    same("~~~\n`x\n<y\n");
    same("");
    same(" \n\t ");
    same("\n lead and trail \n\n");
    same("一　段　文字　");
    same("`open <tool_call>\nnext line");
    same("````\n```json\n{\"name\": \"ls\", \"arguments\": {}}\n```\n````");
    same("```json\n{\"name\": \"ls\", \"arguments\": {");
    same("{\"name\": \"ls\", \"arguments\": {\"a\": \"b");
}

#[test]
fn text_is_not_held_longer_than_it_has_to_be() {
    let shown = |pieces: &[&str]| read(pieces).0;
    assert_eq!(shown(&["a <too", "th> b"]), "a <tooth> b");
    assert_eq!(shown(&["a <b"]), "a <b");
    assert_eq!(shown(&["x {", "\"y\": 1"]), "x {\"y\": 1");
    assert_eq!(shown(&["```json\n{\"name\": \"Bob\""]), "```json\n{\"name\": \"Bob\"");
    let example = "```json\n{\"name\": \"ls\", \"arguments\": {}}\n```\n so";
    assert_eq!(shown(&[example]), example);
    assert_eq!(shown(&["text \n", "lsx"]), "text \nlsx");
    assert_eq!(shown(&["a `b", "` c"]), "a `b` c");
    assert_eq!(shown(&["So <tool_call> is", " a tag"]), "So <tool_call> is a tag");
    assert_eq!(shown(&["<tool_call> is a tag.\n\nSo"]), "<tool_call> is a tag.\n\nSo");
}

#[test]
fn a_stray_bracket_ends_the_calls() {
    let call = r#"{"name": "ls", "arguments": {}}"#;
    let text = format!("{call}}}{call}");
    assert_eq!(told(&[&text]), text);
    assert_eq!(told(&[call, "}", call]), text);
}

#[test]
fn the_first_bytes_tell_a_fence_from_inline_code() {
    let long = "x".repeat(40);
    let call = "<tool_call>{\"name\": \"ls\", \"arguments\": {}}</tool_call>";
    // A fenced block that does not end: all of it is text.
    let fence = format!("```{long}``` {call}");
    assert_eq!(told(&[&fence]), fence);
    assert_eq!(told(&["```", &long, "``` ", call]), fence);
    let code = format!("```x``` {call}");
    assert_eq!(told(&[&code]), told(&["```x", "``` ", call]));
    assert_eq!(told(&[&code]), "```x``` | ls{}");
}

#[test]
fn cut_answers_have_no_call() {
    let cut = |answer: &str| {
        let mut reader = CallReader::new(names());
        let mut shown = String::new();
        reader.push(Text::Plain(answer), &mut |text| text.append_to(&mut shown));
        shown + &reader.cut()
    };
    assert_eq!(cut("I look. <tool_call>{\"name\": \"ls\", \"arguments\": {}}</tool_call>"), "I look.");
    assert_eq!(cut("I look. <tool_call>{\"name\""), "I look.");
    assert_eq!(cut("I look. <tool_c"), "I look.");
    assert_eq!(cut("{\"name\": \"ls\", \"arguments\": {}}"), "");
    assert_eq!(cut("```rust\nlet a\n``"), "```rust\nlet a\n``");
}

#[test]
fn thoughts_lose_their_calls_only() {
    let mut reader = CallReader::of_thoughts(names());
    let mut shown = String::new();
    let thoughts = "I could <tool_call>{\"name\": \"ls\", \"arguments\": {}}</tool_call> or not.";
    reader.push(Text::Plain(thoughts), &mut |text| text.append_to(&mut shown));
    let reading = reader.finish();
    assert_eq!((shown + &reading.text, reading.calls.len()), ("I could or not.".to_owned(), 1));
}

#[test]
fn too_much_is_text() {
    let long = format!("<tool_call>{{\"name\": \"ls\", \"arguments\": \"{}", "x".repeat(HELD_BYTES_MAX));
    assert_eq!(told(&["a ", &long, "b"]), format!("a {long}b"));
}

#[test]
fn endless_markup_ends() {
    for piece in [
        "<ls>",
        "<tool_call>",
        "{\"arguments\":",
        "ls(\n",
        "```\n{\"name\": \"ls\"",
        "<function=ls>",
        "`",
        "[",
        "<ls><a>",
    ] {
        let text = piece.repeat(40_000);
        let (shown, reading) = read(&[&text]);
        assert!(shown.len() + reading.text.len() + reading.raw.len() > 0, "{piece}");
    }
}

/// Spellings of one call of a declared tool, with text behind them allowed or not.
fn spelled(shape: usize, path: &str) -> (String, String, bool) {
    let json = serde_json::Value::from(path).to_string();
    let object = format!("{{\"path\":{json}}}");
    let call = format!("{{\"name\": \"read_file\", \"arguments\": {object}}}");
    let markup = match shape {
        0 => format!("<tool_call>\n{call}\n</tool_call>"),
        1 => format!("<tool_call>[{call}]</tool_call>"),
        2 => format!("<function=read_file>\n<parameter=path>\n{path}\n</parameter>\n</function>"),
        3 => {
            format!("<tool_call><function=read_file><parameter=path>\n{path}\n</parameter></function></tool_call>")
        }
        4 => format!(
            "<function_calls><invoke name=\"read_file\"><parameter name=\"path\">\n{path}\n</parameter></invoke></function_calls>"
        ),
        5 => format!("<read_file><path>\n{path}\n</path></read_file>"),
        6 => format!("<read_file>{object}</read_file>"),
        7 => format!("```json\n{call}\n```\n"),
        8 => {
            format!("\n{{\"tool_calls\": [{{\"function\": {{\"name\": \"read_file\", \"arguments\": {object}}}}}]}}\n")
        }
        9 => format!("\n{{\"tool\": \"read_file\", \"parameters\": {object}}}\n"),
        10 => format!("```tool_call\n{{\"function\": {call}}}\n```\n"),
        _ => format!("\nread_file(path={json})\n"),
    };
    (markup, format!(" | read_file{object}"), shape < 7)
}

fn split<'a>(text: &'a str, cuts: &[prop::sample::Index]) -> Vec<&'a str> {
    let places: Vec<usize> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| places[cut.index(places.len())]).collect();
    ends.extend([0, text.len()]);
    ends.sort_unstable();
    ends.windows(2).map(|pair| text.get(pair[0]..pair[1]).unwrap()).collect()
}

proptest! {
    #[test]
    fn scripts_of_shapes_give_their_calls(
        before in "([a-zA-Z你é.,;:!? #*|>-]{0,12}\n|```rust\nx <y>\n```\n|`<tool_call>` a\n){0,6}[a-z你é.,;:!?]{0,8}",
        script in prop::collection::vec((0_usize..12, "[a-z/ .\"'\\\\{}\\[\\]()<>`你😀]{0,12}"), 1..5),
        behind in "[a-zA-Z.,!? \n]{0,12}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut answer = format!("{before} ");
        let mut expected = before.trim_end().to_owned();
        let mut takes_words = false;
        for (shape, path) in &script {
            let (markup, call, is_tagged) = spelled(*shape, path);
            answer.push_str(&markup);
            expected.push_str(&call);
            takes_words = is_tagged;
        }
        if takes_words {
            answer.push_str(&behind);
        }
        prop_assert_eq!(told(&split(&answer, &cuts)), expected, "{}", answer);
    }

    #[test]
    fn pieces_do_not_matter(
        parts in prop::collection::vec(prop::sample::select(vec![
            "<tool_call>", "</tool_call>", "{\"name\": \"ls\", \"arguments\": {}}", "{", "}", "\"", "```", "```json\n",
            "\n", " ", "a", "<", ">", "ls", "(", ")", "<ls>", "</ls>", "<function=ls>", "</function>", "[", "]", "`",
            "<parameter=a>", "</parameter>", "<invoke name=\"ls\">", "你", "=", ",", "/", "1", ":", "\\", "<a>", "</a>",
        ]), 0..14),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let text: String = parts.concat();
        let (shown, reading) = read(&[&text]);
        let whole = format!("{shown}{}", reading.text);
        let (pieces_shown, pieces) = read(&split(&text, &cuts));
        prop_assert_eq!(&whole, &format!("{pieces_shown}{}", pieces.text));
        prop_assert_eq!((&reading.calls, &reading.raw), (&pieces.calls, &pieces.raw));
        if reading.calls.is_empty() {
            prop_assert_eq!(whole, text);
        } else {
            prop_assert!(text.starts_with(&whole));
            prop_assert_eq!(text.strip_prefix(&whole), Some(reading.raw.as_str()));
        }
    }

    #[test]
    fn literals_and_plain_text_agree(text in "[a-z <`\n\"{你]{0,30}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut reader = CallReader::new(names());
        let mut shown = String::new();
        for piece in split(&text, &cuts) {
            let literal = serde_json::Value::from(piece).to_string();
            reader.push(Text::Literal(&literal), &mut |text| text.append_to(&mut shown));
        }
        shown.push_str(&reader.finish().text);
        prop_assert_eq!(shown, text);
    }
}

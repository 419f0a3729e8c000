//! `docs/simulator.md` names everything that the parser takes, and its examples can be played.

use std::collections::BTreeSet;

use crate::script::{CallShape, Scenario, ScenarioError};

const PAGE: &str = include_str!("../../../../docs/simulator.md");

/// The JSON of the example under this heading.
pub(crate) fn example(title: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("## Example: {title}\n\n```json\n")).unwrap();
    rest.split_once("\n```").unwrap().0
}

#[test]
fn every_example_is_a_scenario() {
    let blocks: Vec<_> = PAGE.split("```json\n").skip(1).map(|rest| rest.split_once("\n```").unwrap().0).collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        Scenario::from_json(block).unwrap_or_else(|error| panic!("{error:?}: {block}"));
    }
    let tools = Scenario::from_json(example("tool calls")).unwrap();
    let replies = tools.replies.into_values().next().unwrap();
    let called = replies[0].tools.as_ref().unwrap();
    assert_eq!((called.shape, called.piece_chars), (CallShape::Invoke, Some(1)));
    assert!(replies[1].tools.as_ref().unwrap().calls[0].raw_arguments.is_some());
}

/// The names that the parser would have taken in place of `?`, by its own complaint.
fn names(file: &str) -> BTreeSet<String> {
    let complaint = match Scenario::from_json(file).unwrap_err() {
        ScenarioError::Json(error) => error.to_string(),
        ScenarioError::Nonsense(text) => panic!("{file}: {text}"),
    };
    assert!(complaint.starts_with("unknown field `?`") || complaint.starts_with("unknown variant `?`"), "{complaint}");
    let (_, expected) = complaint.split_once(", expected ").unwrap_or_else(|| panic!("{complaint}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A wrong name at each place of a stream.
const STREAMS: &[&str] = &[
    r#"{"?":1}"#,
    r#"{"thinking":"?"}"#,
    r#"{"searches":[{"?":1}]}"#,
    r#"{"searches":[{"form":"?"}]}"#,
    r#"{"searches":[{"results":[{"?":1}]}]}"#,
    r#"{"pauses":[{"?":1}]}"#,
    r#"{"packets":"?"}"#,
    r#"{"line_ending":"?"}"#,
    r#"{"inserts":[{"?":1}]}"#,
    r#"{"inserts":[{"after":1,"what":"?"}]}"#,
    r#"{"inserts":[{"after":1,"what":{"unknown_phase":{"?":1}}}]}"#,
    r#"{"usage":{"?":1}}"#,
    r#"{"error":{"?":1}}"#,
    r#"{"error":{"form":"?"}}"#,
    r#"{"content":"?"}"#,
    r#"{"end":"?"}"#,
    r#"{"end":{"endless":{"?":1}}}"#,
    r#"{"cut":{"?":1}}"#,
    r#"{"cut":{"how":"?"}}"#,
    r#"{"bench":{"?":1}}"#,
];

/// The parser lists its own names when it is given a wrong one; each of them has to be on the page.
#[test]
fn every_name_of_the_format_is_on_the_page() {
    let reply = |endpoint: &str, reply: &str| format!(r#"{{"replies":{{"{endpoint}":[{reply}]}}}}"#);
    let of_fail = |fail: &str| reply("stop", &format!(r#"{{"fail":{fail}}}"#));
    let mut files: Vec<String> = [
        r#"{"?":1}"#,
        r#"{"accounts":[{"?":1}]}"#,
        r#"{"accounts":[{"era":"?"}]}"#,
        r#"{"accounts":[{"refresh_rotation":"?"}]}"#,
        r#"{"oauth_accounts":[{"?":1}]}"#,
        r#"{"oauth_accounts":[{"refresh_rotation":"?"}]}"#,
        r#"{"oauth_accounts":[{"resource_url":"?"}]}"#,
        r#"{"keys":[{"?":1}]}"#,
        r#"{"portal":{"?":1}}"#,
        r#"{"replies":{"?":[]}}"#,
    ]
    .map(str::to_owned)
    .into();
    files.push(reply("stop", r#"{"?":1}"#));
    files.extend(
        [
            r#""?""#,
            r#"{"error":{"?":1}}"#,
            r#"{"status":{"?":1}}"#,
            r#"{"status":{"code":1,"body":"?"}}"#,
            r#"{"challenge":{"?":1}}"#,
            r#"{"challenge":{"form":"?"}}"#,
            r#"{"raw":{"?":1}}"#,
            r#"{"oauth":"?"}"#,
            r#"{"oauth":{"other":{"?":1}}}"#,
            r#"{"api":"?"}"#,
            r#"{"api":{"window":"?"}}"#,
            r#"{"api":{"other":{"?":1}}}"#,
            r#"{"api":{"other":{"status":1,"form":"?"}}}"#,
        ]
        .map(of_fail),
    );
    files.extend(STREAMS.iter().map(|stream| reply("completions", &format!(r#"{{"stream":{stream}}}"#))));
    files.extend(
        [
            ("completions", r#"{"tools":{"?":1}}"#),
            ("completions", r#"{"tools":{"shape":"?"}}"#),
            ("completions", r#"{"tools":{"calls":[{"?":1}]}}"#),
            ("completions", r#"{"picture":{"?":1}}"#),
            ("completions", r#"{"picture":{"form":"?"}}"#),
            ("completions", r#"{"video":{"?":1}}"#),
            ("completions", r#"{"video":{"end":"?"}}"#),
            ("completions", r#"{"research":{"?":1}}"#),
            ("completions", r#"{"research":{"report":"?"}}"#),
            ("sts", r#"{"grant":{"?":1}}"#),
            ("oss_put", r#"{"put":{"?":1}}"#),
            ("oss_put", r#"{"put":{"how":"?"}}"#),
            ("file_parse", r#"{"parse":{"?":1}}"#),
            ("file_parse", r#"{"parse":{"end":"?"}}"#),
            ("device_code", r#"{"device":{"?":1}}"#),
            ("device_code", r#"{"device":{"approval":"?"}}"#),
            ("device_token", r#"{"token":{"?":1}}"#),
            ("device_token", r#"{"token":{"body":"?"}}"#),
            ("key_chat", r#"{"chat":{"?":1}}"#),
            ("key_chat", r#"{"chat":{"chunks":"?"}}"#),
            ("key_chat", r#"{"chat":{"usage_chunk":"?"}}"#),
            ("key_chat", r#"{"chat":{"tool_calls":[{"?":1}]}}"#),
        ]
        .map(|(endpoint, part)| reply(endpoint, part)),
    );
    let words: BTreeSet<&str> = PAGE.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).collect();
    let missing: Vec<String> = files
        .iter()
        .flat_map(|file| names(file).into_iter().map(move |name| (file, name)))
        .filter(|(_, name)| !words.contains(name.as_str()))
        .map(|(file, name)| format!("{name} of {file}"))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

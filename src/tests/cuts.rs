//! However the bytes of a stream are cut, spelled and framed, the answer is the same.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::{answer, job};

/// A text as deltas: `(is a thought, pieces as JSON literals)`, cut between any two UTF-16 units, all escaped or not.
fn literals(text: &str, cuts: &[Index], escaped: bool) -> Vec<String> {
    let units: Vec<u16> = text.encode_utf16().collect();
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(units.len() + 1)).collect();
    places.extend([0, units.len()]);
    places.sort_unstable();
    let literal = |pair: &[usize]| {
        let piece = &units[pair[0]..pair[1]];
        match String::from_utf16(piece) {
            Ok(text) if !escaped => serde_json::to_string(&text).unwrap(),
            _ => piece.iter().fold("\"".to_owned(), |literal, unit| format!("{literal}\\u{unit:04X}")) + "\"",
        }
    };
    places.windows(2).map(literal).collect()
}

/// A spelling of a stream that says `thoughts` and `text`.
#[derive(Clone, Debug)]
struct Spelling {
    line_end: &'static str,
    bom: bool,
    comments: bool,
    space: &'static str,
    final_newlines: bool,
    escaped: bool,
    cuts: Vec<Index>,
}

fn spelling() -> impl Strategy<Value = Spelling> {
    let line_end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
    let cuts = prop::collection::vec(any::<Index>(), 0..10);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (line_end, flags, prop_oneof![Just(""), Just(" "), Just("  ")], cuts).prop_map(
        |(line_end, (bom, comments, final_newlines, escaped), space, cuts)| Spelling {
            line_end,
            bom,
            comments,
            space,
            final_newlines,
            escaped,
            cuts,
        },
    )
}

fn spelled(thoughts: &str, text: &str, spelling: &Spelling) -> Vec<u8> {
    let Spelling { line_end, space, .. } = spelling;
    let mut frames = vec![format!("{{\"response.created\":{{\"response_id\":{space}\"r\"}}}}{space}")];
    for (phase, text) in [("think", thoughts), ("answer", text)] {
        for literal in literals(text, &spelling.cuts, spelling.escaped) {
            frames.push(format!(
                "{{\"choices\":{space}[{{\"delta\":{space}{{\"content\":{space}{literal},\"phase\":{space}\"{phase}\"}}}}],{space}\"response_id\":\"r\"}}"
            ));
        }
    }
    frames.push("{\"choices\":[{\"delta\":{\"phase\":\"answer\",\"status\":\"finished\"}}]}".to_owned());
    let mut stream = String::from(if spelling.bom { "\u{feff}" } else { "" });
    for frame in frames {
        if spelling.comments {
            let _ = write!(stream, ": ping{line_end}{line_end}event: message{line_end}");
        }
        let _ = write!(stream, "data:{space}{frame}{line_end}{line_end}");
    }
    if !spelling.final_newlines {
        stream.truncate(stream.trim_end().len());
    }
    stream.into_bytes()
}

fn parts<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Titles and thoughts as they grow: each state is what one frame says.
fn growth(items: &[(String, String)], steps: &[Index]) -> Vec<Value> {
    let mut states = Vec::new();
    let frame = |titles: &[&str], thoughts: &[&str]| {
        json!({"choices": [{"delta": {"phase": "thinking_summary", "content": "",
        "extra": {"summary_title": {"content": titles}, "summary_thought": {"content": thoughts}}}}]})
    };
    for (place, (title, thought)) in items.iter().enumerate() {
        let (mut titles, mut thoughts): (Vec<&str>, Vec<&str>) =
            items[..place].iter().map(|(title, thought)| (title.as_str(), thought.as_str())).unzip();
        titles.push(title);
        states.push(frame(&titles, &thoughts));
        let characters: Vec<usize> = thought.char_indices().map(|(at, _)| at).chain([thought.len()]).collect();
        let mut ends: Vec<usize> = steps.iter().map(|step| characters[step.index(characters.len())]).collect();
        ends.push(thought.len());
        ends.sort_unstable();
        for end in ends {
            thoughts.truncate(place);
            thoughts.push(thought.get(..end).unwrap());
            // The upstream repeats frames.
            states.extend([frame(&titles, &thoughts), frame(&titles, &thoughts)]);
        }
    }
    states
}

proptest! {
    #[test]
    fn any_cut_and_any_spelling(
        thoughts in "[a-z\u{1f600}\u{4e16}é\"\\\\\n]{0,20}",
        text in "[a-z\u{1f600}\u{4e16}é\"\\\\\n\u{1}]{1,30}",
        spelling in spelling(),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let job = job(&json!({}));
        let bytes = spelled(&thoughts, &text, &spelling);
        let whole = answer(&[&bytes], &job);
        prop_assert_eq!(&whole.outcome, &Ok(()));
        prop_assert_eq!(whole.content(), text);
        prop_assert_eq!(whole.reasoning(), thoughts);
        prop_assert_eq!(answer(&parts(&bytes, &cuts), &job), whole);
    }

    #[test]
    fn any_cut_of_a_fixture(cuts in prop::collection::vec(any::<Index>(), 0..40), which in any::<Index>()) {
        const NAMES: [&str; 5] = ["fast", "thinking_summary_after_tool", "web_search_2026_06", "image_gen", "escaped_surrogates"];
        let path = format!("{}/tests/fixtures/qwen_web/{}.sse", env!("CARGO_MANIFEST_DIR"), NAMES[which.index(NAMES.len())]);
        let bytes = std::fs::read(path).unwrap();
        let job = job(&json!({"stop": ["[[3]]", "lighthouse."], "enable_search": true}));
        prop_assert_eq!(answer(&parts(&bytes, &cuts), &job), answer(&[&bytes], &job));
    }

    #[test]
    fn each_item_of_a_growing_summary_comes_once(
        rounds in prop::collection::vec(prop::collection::vec(("[A-Z][a-z ]{0,8}", "[a-z 世\u{1f600}]{1,20}"), 1..4), 1..4),
        steps in prop::collection::vec(any::<Index>(), 0..4),
    ) {
        let mut stream = String::new();
        let mut expected = Vec::new();
        for (round, items) in rounds.iter().enumerate() {
            // Each round begins with a title of its own, as after a tool call.
            let mut items = items.clone();
            items[0].0.insert_str(0, &format!("Round {round}: "));
            for state in growth(&items, &steps) {
                let _ = write!(stream, "data: {state}\n\n");
            }
            stream.push_str("data: {\"choices\":[{\"delta\":{\"phase\":\"thinking_summary\",\"status\":\"finished\"}}]}\n\n");
            expected.extend(items.iter().map(|(title, thought)| format!("**{title}**\n\n{thought}")));
        }
        stream.push_str("data: {\"choices\":[{\"delta\":{\"phase\":\"answer\",\"content\":\"x\",\"status\":\"finished\"}}]}\n\n");
        let answer = answer(&[stream.as_bytes()], &job(&json!({})));
        prop_assert_eq!(answer.reasoning(), expected.join("\n\n"));
    }
}

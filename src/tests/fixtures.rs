//! Every stream in `tests/fixtures/qwen_web`: the shapes of recorded streams with invented content.

use serde_json::json;

use super::{answer, job};

#[test]
fn every_fixture() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/qwen_web");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let job = job(&json!({"enable_search": name.starts_with("web_search") || name.starts_with("deep_research")}));
        let answer = answer(&[&bytes], &job);
        let message = &answer.whole["choices"][0]["message"];
        assert_eq!(answer.content(), message["content"].as_str().unwrap(), "{name}");
        assert_eq!(answer.reasoning(), message["reasoning_content"].as_str().unwrap_or_default(), "{name}");
        let mut report = format!(
            "{}\n=> {:?}, {:?}\n\n{}",
            answer.events.join("\n"),
            answer.outcome,
            answer.counts,
            answer.stream.trim_end()
        );
        if answer.outcome.is_ok() {
            report += &format!("\n\n{:#}", answer.whole);
        }
        insta::assert_snapshot!(name, report);
    }
}

//! The documents: each link to a file of the repository leads to one, and each link to a heading finds it.
#![expect(clippy::string_slice, reason = "every index comes from a search in the same text")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files of the root and of `docs`.
fn documents() -> Vec<PathBuf> {
    let folders = [root().to_owned(), root().join("docs")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut documents: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.sort();
    documents
}

/// The text without code, in which brackets mean something else.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn links(text: &str) -> Vec<&str> {
    let starts = text.match_indices("](").map(|(start, _)| start + 2);
    starts.map(|start| &text[start..start + text[start..].find(')').unwrap()]).collect()
}

/// The name of a heading in a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// What is wrong with a link of a document, if anything is.
fn fault(document: &Path, link: &str) -> Option<String> {
    if link.starts_with("http://") || link.starts_with("https://") {
        return None;
    }
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { document.to_owned() } else { document.parent().unwrap().join(path) };
    if !target.exists() {
        return Some(format!("{}: there is no {link}", document.display()));
    }
    let is_found = heading.is_empty()
        || prose(&fs::read_to_string(&target).unwrap())
            .lines()
            .any(|line| line.starts_with('#') && anchor(line) == heading);
    (!is_found).then(|| format!("{}: there is no heading {link}", document.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 10, "{documents:?}");
    let mut faults = Vec::new();
    for document in &documents {
        let text = prose(&fs::read_to_string(document).unwrap());
        faults.extend(links(&text).into_iter().filter_map(|link| fault(document, link)));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let readme = root().join("README.md");
    assert_eq!(links("[a](b.md) and [c](d.md#e)"), ["b.md", "d.md#e"]);
    assert!(fault(&readme, "docs/settings.md").is_none());
    assert!(fault(&readme, "docs/nowhere.md").is_some());
    assert!(fault(&readme, "docs/settings.md#nowhere").is_some());
    assert_eq!(prose("a\n```\n[x](y)\n```\nb"), "a\nb");
    assert_eq!(anchor("## What is ignored, and what is refused"), "what-is-ignored-and-what-is-refused");
    assert_eq!(anchor("### OpenAI's SDKs"), "openais-sdks");
}

/// The facts of a README that a machine can compare, section by section: levels of headings, programs without their
/// comments, code, numbers, targets of links and pictures, rows of tables.
fn facts(text: &str) -> Vec<(String, Vec<String>)> {
    let mut sections = vec![("the beginning".to_owned(), Vec::new())];
    let mut is_code = false;
    for line in text.lines() {
        let facts = &mut sections.last_mut().unwrap().1;
        if line.starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            facts.push(format!("line: {}", line.split(" # ").next().unwrap().trim_end()));
        } else if let Some(level) = line.split(' ').next().filter(|word| word.starts_with('#')) {
            sections.push((line.to_owned(), vec![format!("heading: {level}")]));
        } else {
            facts.extend(facts_of_prose(line));
        }
    }
    for (_, facts) in &mut sections {
        facts.sort();
        // One language may have to name a thing once more.
        facts.dedup();
    }
    sections
}

fn facts_of_prose(line: &str) -> Vec<String> {
    let mut facts: Vec<String> = Vec::new();
    if line.starts_with('|') {
        facts.push(format!("row of {} cells", line.replace("\\|", "").matches('|').count() - 1));
    }
    facts.extend(links(line).into_iter().map(|link| format!("link: {}", link.replace("-chinese", ""))));
    let mut words = String::new();
    for (place, part) in line.split('`').enumerate() {
        if place % 2 == 1 {
            facts.push(format!("code: {part}"));
        } else {
            let (first, behind) = part.split_once("](").unwrap_or((part, ""));
            let behind = behind.split("](").map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
            words.extend(std::iter::once(first).chain(behind));
            words.push(' ');
        }
    }
    let numbers = words.split(|c: char| !(c.is_ascii_digit() || c == '.')).map(|number| number.trim_matches('.'));
    facts.extend(numbers.filter(|number| !number.is_empty()).map(|number| format!("number: {number}")));
    facts
}

#[test]
fn the_chinese_readme_states_the_same_facts() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    // The two name each other, and a greeting is one in each language.
    let (english, chinese) = (read("README.md").replace("README.zh.md", "README.md"), read("README.zh.md"));
    let (english, chinese) = (facts(&english.replace("Hello", "你好")), facts(&chinese));
    assert_eq!(english.len(), chinese.len());
    for ((title, expected), (other, found)) in english.iter().zip(&chinese) {
        assert_eq!(found, expected, "{title} / {other}");
    }
    assert!(english.iter().map(|(_, facts)| facts.len()).sum::<usize>() > 150, "{english:?}");
}

#[test]
fn a_fact_that_differs_is_found() {
    let text = "# a\n\nIt takes 14 minutes: `x`, see [b](c.md).\n\n| `A` | 1 |\n\n```sh\nrun it   # so\n```";
    assert_eq!(facts(text), facts(&text.replace("It takes", "需要").replace("# so", "# 这样")));
    for (from, to) in
        [("14", "15"), ("`x`", "`y`"), ("c.md", "d.md"), ("| 1 |", "| 1 | 2 |"), ("run", "walk"), ("# a", "## a")]
    {
        assert_ne!(facts(text), facts(&text.replacen(from, to, 1)), "{from}");
    }
}

//! The documents: each link to a file of the repository leads to one, and each link to a heading finds it.
#![expect(clippy::string_slice, reason = "every index comes from a search in the same text")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;
use qwen_bridge::cli::Cli;

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

/// Lines of programs and code within sentences.
fn code(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            found.push(line.split(" # ").next().unwrap().trim());
        } else {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let folders = ["src/", "tests/", "docs/", "deploy/", "crates/", "benches/", ".ci/", ".github/"];
    let mut faults = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let named = code(&text).into_iter().flat_map(str::split_whitespace);
        // The name in an example.
        let named = named.filter(|word| !word.ends_with("/a.rs"));
        let named = named.filter(|word| folders.iter().any(|folder| word.starts_with(folder)));
        let is_path = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
        faults.extend(
            named
                .filter(is_path)
                .filter(|word| !root().join(word).exists())
                .map(|word| format!("{}: there is no {word}", document.file_name().unwrap().display())),
        );
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A command line of this program in a text, as its words; quotes keep words together.
fn words_of(command: &str) -> Option<Vec<String>> {
    let begins = ["qwen-bridge ", "cargo run --release -- ", "cargo run -- "];
    let rest = begins.iter().find_map(|begin| {
        let at = command.find(begin).filter(|at| *at == 0 || command[..*at].ends_with([' ', '/']))?;
        Some(&command[at + begin.len()..])
    })?;
    let rest = rest.split(['|', '>', '<', ';', '(']).next().unwrap().trim();
    let mut words = vec!["qwen-bridge".to_owned()];
    for (place, part) in rest.split('"').enumerate() {
        if place % 2 == 1 {
            words.push(part.to_owned());
        } else {
            // Brackets name what may be left out, capitals what is yours to choose.
            let chosen = |word: &str| match word.trim_matches(['[', ']']) {
                "PORT" => "8000".to_owned(),
                "SHELL" => "bash".to_owned(),
                word => word.to_owned(),
            };
            words.extend(part.split_whitespace().map(chosen));
        }
    }
    Some(words)
}

#[test]
fn every_command_that_a_document_names_is_one() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for command in code(&text) {
            // Lines of Docker, systemd and the like have options of their own around the name.
            let is_other =
                ["docker ", "sudo ", "systemctl ", "install ", "kubectl "].iter().any(|word| command.starts_with(word));
            let Some(words) = words_of(command).filter(|_| !is_other) else { continue };
            count += 1;
            let error = Cli::try_parse_from(&words).err();
            let is_shown = |kind| {
                use ErrorKind as Kind;
                matches!(
                    kind,
                    Kind::DisplayHelp | Kind::DisplayVersion | Kind::DisplayHelpOnMissingArgumentOrSubcommand
                )
            };
            if let Some(error) = error.filter(|error| !is_shown(error.kind())) {
                let name = document.file_name().unwrap().display();
                faults.push(format!("{name}: {command}: {}", error.to_string().lines().next().unwrap()));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(count > 20, "{count}");
}

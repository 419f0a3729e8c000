//! Tests that the files for people say what the table of settings says, and that the samples load.

use std::fmt::Write as _;

use super::*;
use crate::base::ids::UnixSeconds;

fn load(file: Option<&str>, cookie_file: Option<&str>) -> Config {
    let sources = Sources {
        file: file.map(str::to_owned),
        cookie_file: cookie_file.map(str::to_owned),
        ..Sources::empty(UnixSeconds(1_800_000_000))
    };
    Config::load(&sources).unwrap_or_else(|error| panic!("{error}"))
}

/// `config.json.example` as the table says it.
fn example() -> String {
    let mut text = String::from(
        "// Settings of qwen-bridge. Copy this file to config.json and take the // away in front of what you change.\n\
         // The same names work as environment variables and in a file .env; those win over this file.\n\
         // Times: 500ms, 30s, 1m30s, 2h or a number of seconds. Sizes: 50MB, 1MiB or a number of bytes.\n{\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            section = setting.section;
            let _ = writeln!(text, "{gap}  // ---- {section} ----");
        }
        let _ = writeln!(text, "\n  // {}", setting.help);
        let default = match (setting.name, setting.default) {
            ("COOKIE", _) => "[\"\"]".to_owned(),
            ("QWEN_WEB_HEADERS", _) => "{}".to_owned(),
            (_, plain) if plain.parse::<f64>().is_ok() || plain.parse::<bool>().is_ok() => plain.to_owned(),
            (_, text) => format!("{text:?}"),
        };
        let _ = writeln!(text, "  // \"{}\": {default},", setting.name);
    }
    text.push_str("}\n");
    text
}

/// The README's table as the table says it.
fn readme_table() -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            let _ = write!(text, "\n**{section}**\n\n| setting | default | what it does |\n|---|---|---|\n");
        }
        let default = match setting.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let help = setting.help.replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {default} | {help} |", setting.name);
    }
    text
}

/// Compares a file, or a part of it between two marks, with what the table makes of it. With `UPDATE_DOCS` set the
/// file is written instead.
fn check_document(name: &str, marks: Option<(&str, &str)>, expected: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    let whole = std::fs::read_to_string(&path).unwrap();
    let (before, found, after) = match marks {
        None => (String::new(), whole.as_str(), String::new()),
        Some((begin, end)) => {
            let (before, rest) = whole.split_once(begin).unwrap();
            let (found, after) = rest.split_once(end).unwrap();
            let found = found.strip_prefix('\n').unwrap();
            (format!("{before}{begin}\n"), found, format!("{end}{after}"))
        }
    };
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{expected}{after}")).unwrap();
        return;
    }
    assert_eq!(found, expected, "{name} differs from the table of settings; UPDATE_DOCS=1 cargo test writes it");
}

#[test]
fn the_sample_file_and_the_readme_say_what_the_table_says() {
    check_document("config.json.example", None, &example());
    check_document(
        "README.md",
        Some(("<!-- settings: made from the code -->", "<!-- end of settings -->")),
        &readme_table(),
    );
}

#[test]
fn the_sample_files_load_as_they_are() {
    load(Some(&example()), None);
    // With every setting taken as it stands there, too, except the one that cannot stand there.
    let active: Vec<String> = example()
        .lines()
        .filter(|line| !line.contains("\"CONFIG_FILE\""))
        .map(|line| match line.strip_prefix("  // \"") {
            Some(rest) => format!("\"{rest}"),
            None => line.to_owned(),
        })
        .collect();
    let config = load(Some(&active.join("\n")), None);
    assert!(config.identities.is_empty() && config.http.keys.is_empty());
    load(None, Some(include_str!("../../cookie.txt.example")));
}

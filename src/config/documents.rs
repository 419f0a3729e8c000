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

/// `docs/settings.md` as the table says it: an introduction, then one table for each section.
fn document() -> String {
    let mut text = String::from(INTRODUCTION);
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            let about = ABOUT.iter().find(|(name, _)| *name == section).map_or("", |(_, about)| about);
            let gap = if about.is_empty() { "" } else { "\n\n" };
            let _ = write!(text, "\n## {section}\n\n{about}{gap}{TABLE_HEAD}");
        }
        let row = table_row(setting);
        let marked = row.replacen("` |", "` ⟳ |", 1);
        text.push_str(if setting.needs_restart { &marked } else { &row });
    }
    text
}

/// The README's short table: the settings that a newcomer needs.
fn readme_table() -> String {
    let mut text = String::from(TABLE_HEAD);
    for name in FOR_NEWCOMERS {
        let setting = SETTINGS.iter().find(|setting| setting.name == *name).unwrap();
        text.push_str(&table_row(setting));
    }
    text
}

fn table_row(setting: &Setting) -> String {
    let default = match setting.default {
        "" => String::new(),
        default => format!("`{default}`"),
    };
    format!("| `{}` | {default} | {} |\n", setting.name, setting.help.replace('|', "\\|"))
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
fn the_documents_say_what_the_table_says() {
    check_document("config.json.example", None, &example());
    check_document("docs/settings.md", None, &document());
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

const TABLE_HEAD: &str = "| setting | default | what it does |\n|---|---|---|\n";

/// The settings that the README lists; all others are in `docs/settings.md` only.
const FOR_NEWCOMERS: &[&str] = &[
    "COOKIE",
    "COOKIE_FILE",
    "API_KEY",
    "ADMIN_SECRET_KEY",
    "SERVER_HOST",
    "SERVER_PORT",
    "DEFAULT_MODEL",
    "MODEL_MAP",
    "STATE_DIR",
    "LOG_LEVEL",
];

const INTRODUCTION: &str = "\
# Settings

This file is made from the code by `UPDATE_DOCS=1 cargo test --lib config`; edit `src/config/settings.rs` instead.

Each setting is taken from the first of these places that has it:

1. a flag of the command line (`qwen-bridge --help` lists the few settings that have one),
2. the owner's page, which keeps what is changed there in `STATE_DIR`,
3. the environment,
4. the file `.env` in the working folder (`NAME=value`, one a line),
5. `config.json`, one JSON object in which comments are allowed; [config.json.example](../config.json.example) has every setting,
6. the default below.

The names are the same everywhere. An empty value counts as not set, and quotes around a value are removed. Where two settings mean the same, the place still comes first: `PORT` in the environment beats `SERVER_PORT` in a file. A value that Kubernetes sets for a service (`SERVER_PORT=tcp://…`) is ignored with a warning.

- Times: `500ms`, `30s`, `1m30s`, `2h`, or a number of seconds.
- Sizes: `50MB`, `1MiB`, or a number of bytes.
- Lists: separated by commas; in `config.json` an array works too.

A changed file is read while the server runs, also at SIGHUP and `POST /admin/reload`; requests in flight end on the values that they began with. A setting with ⟳ is in use after a restart only.

A wrong configuration ends the program with exit status 64 and a list of all faults. No fault shows the value of a secret.

Proxies: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` (also `socks4://`, `socks5://` and `socks5h://`) and `NO_PROXY` are read from the environment and used for everything that is sent upstream. A proxy address that cannot be used is a fault too. Addresses of files that callers name are fetched without a proxy.
";

/// One or two sentences under the heading of a section.
const ABOUT: &[(&str, &str)] = &[
    (
        "Accounts and keys",
        "Credentials of your accounts on chat.qwen.ai, and the keys that callers of this server send.",
    ),
    (
        "OAuth accounts and static keys",
        "Two other kinds of upstream, used beside the web chat or instead of it. Both speak OpenAI's dialect.",
    ),
    ("Listening", "Where the server listens, who may call it, and the limits of one request."),
    ("Chats and models", "How requests are answered."),
    (
        "The pool of identities",
        "An identity is one account, or one static key. These settings decide how requests are shared between identities, \
         and how long an identity rests after failures.",
    ),
    ("The upstream", "Addresses of chat.qwen.ai, and how long the server waits for an answer."),
    ("Files, logs, stopping", "The process itself."),
];

//! The shape of the house, as far as a machine can hold it: floors, no circles, pure rooms.
#![expect(clippy::string_slice, reason = "every index comes from a search in the same text")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms on their floors, lowest first. A file imports its own room and rooms on lower floors.
const FLOORS: &[&[&str]] = &[
    &["base", "shutdown", "sse", "telemetry"],
    &["files", "pasted"],
    &["chat"],
    &["dialect", "pool", "store"],
    &["upstream"],
    &["gateway"],
    &["http"],
    &["config"],
    &["reload"],
    &["app"],
    &["cli"],
    &["main", "lib"],
];

/// Rooms that do not wait, read a clock, draw, log or touch the network.
const PURE: &[&str] = &["base", "chat", "dialect", "pasted", "sse"];

/// Files of other rooms that are as pure.
const PURE_FILES: &[&str] = &[
    "upstream/openai/decode.rs",
    "upstream/openai/encode.rs",
    "upstream/web/decode/mod.rs",
    "upstream/web/detail.rs",
    "upstream/web/encode.rs",
    "upstream/web/limits.rs",
    "upstream/web/request/prompt.rs",
    "upstream/web/request/mod.rs",
    "upstream/web/request/tools.rs",
    "gateway/answer/next_step.rs",
];

struct File {
    /// As `gateway/chat.rs`.
    name: String,
    room: String,
    /// The source without tests and comments.
    code: String,
}

fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
            if path.is_dir() && !is_test {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                let room = name.split(['/', '.']).next().unwrap().to_owned();
                files.push(File { name, room, code: code_of(&fs::read_to_string(&path).unwrap()) });
            }
        }
    }
    let only_for_tests: Vec<String> = files.iter().flat_map(test_modules).collect();
    files.retain(|file| !only_for_tests.contains(&file.name));
    assert!(files.len() > 50, "{}", files.len());
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files
}

/// The files that a roof declares under `#[cfg(test)]`.
fn test_modules(roof: &File) -> Vec<String> {
    let lines: Vec<&str> = roof.code.lines().collect();
    let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
    let names = declared.filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';'));
    let folder = roof.name.rsplit_once('/').map_or("", |(folder, _)| folder);
    names.map(|name| format!("{folder}/{name}.rs")).collect()
}

fn code_of(source: &str) -> String {
    let lines: Vec<&str> = source.lines().collect();
    let tests = lines.iter().position(|line| line.starts_with("mod ") && line.ends_with("tests {"));
    let kept = &lines[..tests.unwrap_or(lines.len())];
    let code = kept.iter().filter(|line| !line.trim_start().starts_with("//"));
    code.copied().collect::<Vec<_>>().join("\n")
}

/// All paths that begin with `crate::`, lists written out.
fn crate_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches(':');
        let list = rest[end..].strip_prefix('{').and_then(|list| Some(list.split_once('}')?.0));
        match list {
            Some(list) => paths.extend(
                list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(|item| format!("{path}::{item}")),
            ),
            None => paths.push(path.to_owned()),
        }
    }
    paths
}

fn floor_of(room: &str) -> usize {
    FLOORS.iter().position(|rooms| rooms.contains(&room)).unwrap_or_else(|| panic!("{room} is on no floor"))
}

fn room_of(path: &str) -> &str {
    path.split("::").nth(1).unwrap()
}

#[test]
fn nobody_imports_from_above_or_from_beside() {
    let mut wrong = Vec::new();
    for file in files() {
        for path in crate_paths(&file.code) {
            let room = room_of(&path);
            if room != file.room && floor_of(room) >= floor_of(&file.room) {
                wrong.push(format!("{} uses {path}", file.name));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// N dialects and M upstreams need N + M translations, as long as they meet in the middle only.
#[test]
fn dialects_and_upstreams_never_meet() {
    for file in files() {
        let rooms: Vec<String> = crate_paths(&file.code).iter().map(|path| room_of(path).to_owned()).collect();
        let banned: &[&str] = match file.room.as_str() {
            "dialect" => &["upstream", "gateway", "pool"],
            "upstream" | "gateway" | "pool" | "store" => &["dialect"],
            "chat" => &["dialect", "upstream"],
            _ => &[],
        };
        assert!(!rooms.iter().any(|room| banned.contains(&room.as_str())), "{} uses {rooms:?}", file.name);
    }
}

#[test]
fn imports_are_written_out() {
    for file in files() {
        for line in file.code.lines() {
            let line = line.trim();
            let is_use =
                line.starts_with("use ") || line.starts_with("pub use ") || line.starts_with("pub(crate) use ");
            assert!(!is_use || !(line.contains("super::") || line.contains("self::")), "{}: {line}", file.name);
            assert!(!line.contains("crate::{"), "{}: {line}", file.name);
        }
    }
}

/// The file that a path leads to, re-exports followed.
fn target(path: &str, names: &BTreeSet<&str>, exports: &BTreeMap<String, String>) -> Option<String> {
    if let Some(real) = exports.get(path) {
        return target(real, names, exports);
    }
    let parts: Vec<&str> = path.split("::").skip(1).collect();
    (1..=parts.len()).rev().find_map(|count| {
        let stem = parts[..count].join("/");
        [format!("{stem}.rs"), format!("{stem}/mod.rs")].into_iter().find(|name| names.contains(name.as_str()))
    })
}

#[test]
fn no_circle_between_files_and_no_roof_is_used_from_below() {
    let files = files();
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let mut exports = BTreeMap::new();
    for file in files.iter().filter(|file| file.name.ends_with("/mod.rs")) {
        for line in file.code.split(';').map(str::trim) {
            let Some(used) = line.rfind("pub use crate::").map(|at| &line[at + "pub use ".len()..]) else {
                continue;
            };
            for path in crate_paths(used) {
                let name = path.rsplit("::").next().unwrap();
                exports.insert(format!("crate::{}::{name}", file.room), path.clone());
            }
        }
    }
    let mut uses: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for file in &files {
        let targets = crate_paths(&file.code).into_iter().filter_map(|path| target(&path, &names, &exports));
        uses.insert(&file.name, targets.filter(|name| *name != file.name).collect());
    }
    let mut wrong = Vec::new();
    for (name, targets) in &uses {
        let roof = name.rsplit_once('/').map(|(folder, _)| format!("{folder}/mod.rs"));
        // Plain types of a roof without code, such as its errors, make no circle; the search below sees the others.
        let is_circular = |roof: &String| targets.contains(roof) && uses[roof.as_str()].contains(*name);
        if roof.is_some_and(|roof| is_circular(&roof)) {
            wrong.push(format!("{name} uses its roof, which uses it"));
        }
    }
    for start in uses.keys() {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&str> = uses[start].iter().map(String::as_str).collect();
        while let Some(name) = open.pop() {
            if seen.insert(name) {
                open.extend(uses[name].iter().map(String::as_str));
            }
        }
        if seen.contains(start) {
            wrong.push(format!(
                "{start} is in a circle with {:?}",
                seen.iter().filter(|name| { uses[**name].contains(*start) }).collect::<Vec<_>>()
            ));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn pure_rooms_are_pure() {
    const BANNED: &[&str] = &[
        "tokio",
        "reqwest",
        "axum",
        "hyper",
        "tracing",
        "fastrand",
        "async fn",
        ".await",
        "Instant::now",
        "SystemTime",
        "std::env",
        "std::fs",
        "std::net::Tcp",
        "new_v4",
    ];
    let is_pure = |file: &&File| PURE.contains(&file.room.as_str()) || PURE_FILES.contains(&file.name.as_str());
    let files = files();
    assert!(PURE_FILES.iter().all(|name| files.iter().any(|file| file.name == *name)), "a file of the list moved");
    for file in files.iter().filter(is_pure) {
        for word in BANNED {
            assert!(!file.code.contains(word), "{} has {word}", file.name);
        }
    }
}

#[test]
fn only_one_place_reads_the_environment() {
    for file in files() {
        let reads = file.code.contains("env::var") || file.code.contains("env::vars");
        assert!(!reads || file.room == "config", "{}", file.name);
    }
}

#[test]
fn secrets_are_exposed_in_a_short_list_of_files() {
    let exposing: Vec<String> =
        files().into_iter().filter(|file| file.code.contains("expose_secret")).map(|file| file.name).collect();
    assert!(exposing.len() <= 12, "{exposing:?}");
    let may = [
        "base/",
        "config/",
        "gateway/accounts/web.rs",
        "gateway/videos/jobs.rs",
        "gateway/videos/work.rs",
        "store/",
        "upstream/",
        "app/",
    ];
    for name in exposing {
        assert!(may.iter().any(|allowed| name.starts_with(allowed)), "{name}");
    }
}

/// The rows of `docs/forerunners.md`: its number of promise `S000-07` is (0, 7).
fn promises(table: &str) -> Vec<((u32, u32), &str)> {
    let rows = table.lines().filter(|line| line.starts_with("| S"));
    rows.map(|row| {
        let name = row.split('|').nth(1).unwrap().trim();
        let (program, number) = name.strip_prefix('S').unwrap().split_once('-').unwrap();
        ((program.parse().unwrap(), number.parse().unwrap()), row)
    })
    .collect()
}

/// No promise is left out of the table: the numbers of each program run from 1 without a gap.
#[test]
fn every_promise_has_a_row() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/forerunners.md")).unwrap();
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    for ((program, number), row) in promises(&table) {
        let count = counts.entry(program).or_default();
        *count += 1;
        assert_eq!(number, *count, "{row}");
        let outcome = row.split('|').nth(3).unwrap().trim();
        assert!(["kept", "kept differently", "replaced", "left out"].contains(&outcome), "{row}");
    }
    let counts: Vec<(u32, u32)> = counts.into_iter().collect();
    assert_eq!(counts, [(0, 68), (1, 25), (2, 25), (3, 90), (4, 66)]);
}

/// A promise counts as kept because a test holds it.
#[test]
fn what_is_kept_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("docs/forerunners.md")).unwrap();
    let mut wrong = Vec::new();
    for (_, row) in promises(&table) {
        let tests: Vec<_> = row.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::")).collect();
        if row.contains("| kept") && tests.is_empty() {
            wrong.push(row.to_owned());
        }
        for (file, test) in tests {
            let sources = ["tests/it", "src"].map(|folder| root.join(folder).join(format!("{file}.rs")));
            let has =
                |path: &PathBuf| fs::read_to_string(path).is_ok_and(|source| source.contains(&format!("fn {test}(")));
            if !sources.iter().any(has) {
                wrong.push(format!("{file}::{test}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

//! Pictures and videos that an answer made: their links, and the files that they are saved in.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use url::Url;

use crate::cli::chat::error::ChatError;
use crate::files::media_type::MediaType;

/// Files of one name that are tried before saving fails.
const NAMES_MAX: u32 = 1000;

/// The links of pictures and videos in an answer, in order.
pub(crate) fn links(answer: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in answer.match_indices("](") {
        let (before, after) = answer.split_at(at);
        let is_made = before.rsplit_once('[').is_some_and(|(head, word)| head.ends_with('!') || word == "video");
        let link = after.get(2..).and_then(|rest| rest.split_once(')')).map(|(link, _)| link.trim());
        let is_address = |link: &&str| Url::parse(link).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if let Some(link) = link.filter(|_| is_made).filter(is_address)
            && !found.iter().any(|other| other == link)
        {
            found.push(link.to_owned());
        }
    }
    found
}

/// Writes what was made to a file, or into a folder under the name of its link. A file that is there already is kept,
/// and the new one gets a number. Gives the path.
///
/// # Errors
/// [`ChatError::Save`].
pub(crate) fn save(target: &Path, link: &str, bytes: &[u8]) -> Result<PathBuf, ChatError> {
    let path = if target.is_dir() { target.join(name_of(link, bytes)) } else { target.to_owned() };
    let failed = |error| ChatError::Save(path.display().to_string(), error);
    for number in 1..=NAMES_MAX {
        let tried = if number == 1 { path.clone() } else { numbered(&path, number) };
        match OpenOptions::new().write(true).create_new(true).open(&tried) {
            Ok(mut file) => return file.write_all(bytes).map(|()| tried).map_err(failed),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(std::io::ErrorKind::AlreadyExists.into()))
}

/// The file's name in the link, with the ending of what the bytes are.
fn name_of(link: &str, bytes: &[u8]) -> String {
    let url = Url::parse(link).ok();
    let last = url.as_ref().and_then(|url| url.path_segments()?.next_back()).unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = last.chars().filter(is_plain).take(80).collect();
    let name = if name.trim_matches('.').is_empty() { "made".to_owned() } else { name };
    let found = MediaType::of_bytes(bytes.get(..8192).unwrap_or(bytes), &name);
    match found {
        Some(found) if Path::new(&name).extension().is_none() => format!("{name}.{}", found.extension),
        _ => name,
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{number}{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_what_was_made_are_found() {
        let answer = "Here:\n\n![image](https://e.org/a.png?x=1)\n\n![b](https://e.org/b.png) [video](http://e.org/c.mp4)\
                      [page](https://e.org/) ![x](file:///etc/passwd) ![image](https://e.org/a.png?x=1) ![open](";
        assert_eq!(links(answer), ["https://e.org/a.png?x=1", "https://e.org/b.png", "http://e.org/c.mp4"]);
    }

    #[test]
    fn saving_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let link = "https://e.org/files/fog.png?key=1";
        let file = folder.path().join("a.png");
        assert_eq!(save(&file, link, b"1").unwrap(), file);
        assert_eq!(save(&file, link, b"2").unwrap(), folder.path().join("a-2.png"));
        assert_eq!(std::fs::read(&file).unwrap(), b"1");
        assert_eq!(save(folder.path(), link, b"3").unwrap(), folder.path().join("fog.png"));
        assert!(matches!(save(&folder.path().join("no/where.png"), link, b""), Err(ChatError::Save(..))));
    }

    #[test]
    fn names_come_from_links_and_leave_no_folder() {
        for (link, name) in [
            ("https://e.org/a/b.mp4", "b.mp4"),
            ("https://e.org/..%2f..%2fetc", "..2f..2fetc"),
            ("https://e.org/", "made"),
            ("nonsense", "made"),
        ] {
            assert!(name_of(link, b"").starts_with(name), "{link}: {}", name_of(link, b""));
        }
        assert_eq!(name_of("https://e.org/x", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "x.png");
    }
}

//! Reads what people paste as a credential into one Cookie header for each account. Pure.
//!
//! Extensions export JSON, `cookies.txt` of Netscape or one pair a line; developer tools copy cURL, `fetch` and
//! PowerShell commands, tables, and blocks of headers. All of it may stand in one text, with `#` comments between.

mod command;
mod json;
mod lines;
mod pairs;

use crate::base::quotes::unquoted;
use crate::pasted::lines::is_comment;
use crate::pasted::pairs::is_cookie_name;

/// One account in a pasted text.
pub(crate) struct Pasted {
    /// Its first line, from 1.
    pub(crate) first_line: usize,
    /// Its last line.
    pub(crate) last_line: usize,
    /// What it was, when it was no plain Cookie header.
    pub(crate) form: Option<&'static str>,
    /// The Cookie header, or what is wrong.
    pub(crate) header: Result<String, &'static str>,
}

/// Reads a text. Plain headers are one a line, and given as they stand, without quotes around them.
pub(crate) fn read(text: &str) -> Vec<Pasted> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    let mut accounts = Vec::new();
    let mut at = 0;
    let mut offset = 0;
    while let (Some(here), Some(rest)) = (lines.get(at..).filter(|here| !here.is_empty()), text.get(offset..)) {
        let (found, count) = first(here, rest);
        let count = count.max(1);
        accounts.extend(found.into_iter().map(|(form, header)| Pasted {
            first_line: at + 1,
            last_line: at + count,
            form,
            header,
        }));
        offset += here.iter().take(count).map(|line| line.len() + 1).sum::<usize>();
        at += count;
    }
    accounts
}

type Found = (Option<&'static str>, Result<String, &'static str>);

/// What stands at the start, and how many lines it takes. `text` is the same as `lines`.
fn first(lines: &[&str], text: &str) -> (Vec<Found>, usize) {
    let line = lines.first().map(|line| line.trim()).unwrap_or_default();
    if line.is_empty() || is_comment(line) || line.starts_with("```") {
        return (Vec::new(), 1);
    }
    let one = |form: &'static str, header| vec![(Some(form), header)];
    let count_of = |bytes: usize| text.get(..bytes).map_or(lines.len(), |taken| taken.trim_end().lines().count());
    let text = text.trim_start_matches([' ', '\t']);
    if line.starts_with(['[', '{']) {
        return match json::first(text) {
            Some((value, bytes)) => {
                let found = json::headers(&value).into_iter().map(|header| (Some("JSON"), header));
                (found.collect(), count_of(bytes))
            }
            None => (one("JSON", Err("begins like JSON and cannot be read as such")), lines.len()),
        };
    }
    for (form, is_begun, read) in COMMANDS {
        if is_begun(line) {
            let (header, bytes) = read(text);
            return (one(form, header), count_of(bytes));
        }
    }
    for (form, read) in FORMS {
        if let Some((header, count)) = read(lines) {
            return (one(form, header), count);
        }
    }
    (vec![(None, Ok(plain(line)))], 1)
}

/// A line with a Cookie header, without what a list, a shell or a script put around it.
fn plain(line: &str) -> String {
    let line = DECLARATIONS.iter().find_map(|word| line.strip_prefix(word)).unwrap_or(line);
    let line = assigned(line).or_else(|| labelled(line)).unwrap_or(line);
    let unlisted = line.trim_end().trim_end_matches([',', ';']);
    let unlisted =
        if unquoted(unlisted).len() < unlisted.len() { unlisted } else { line.trim_end().trim_end_matches(',') };
    let bare = unquoted(unlisted);
    let begins_with_pair = bare.split_once('=').is_some_and(|(name, _)| is_cookie_name(name.trim()));
    let is_header = bare.get(..7).is_some_and(|name| name.eq_ignore_ascii_case("cookie:"));
    if bare.len() < unlisted.len() && (begins_with_pair || is_header) { bare.to_owned() } else { line.to_owned() }
}

/// The header in `COOKIE=…` or `document.cookie = …`, whose value begins with a pair.
fn assigned(line: &str) -> Option<&str> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let begins_with_pair = value.split(';').next().is_some_and(|pair| pair.contains('='));
    let is_assignment = ["cookie", "cookies", "document.cookie"].contains(&name.as_str()) && begins_with_pair;
    is_assignment.then(|| value.trim_start())
}

/// The header behind words and `cookie:`, as in `my cookie: …`. Words have no `=`, a pair has one.
fn labelled(line: &str) -> Option<&str> {
    let at = line.to_ascii_lowercase().find("cookie:").filter(|at| *at > 0)?;
    let (label, header) = line.split_at_checked(at)?;
    (!label.contains(['=', ';']) && header.contains('=')).then_some(header)
}

type Reader = fn(&str) -> (Result<String, &'static str>, usize);

type Command = (&'static str, fn(&str) -> bool, Reader);

/// Commands: what they are called, how they begin, what reads them.
const COMMANDS: &[Command] = &[
    ("a cURL command", command::is_curl, command::curl),
    ("a request of a command line", command::is_request, command::request),
    ("a fetch call", command::is_fetch, command::fetch),
    ("a PowerShell request", command::is_powershell, command::powershell),
];

type LinesReader = fn(&[&str]) -> Option<(Result<String, &'static str>, usize)>;

/// Forms that are made of lines, the most special first.
const FORMS: &[(&str, LinesReader)] = &[
    ("a cookies.txt or table of cookies", lines::table),
    ("a block of request headers", lines::block),
    ("Set-Cookie headers", lines::set_cookies),
    ("one cookie a line", lines::column),
];

/// What declares a variable in front of its name.
const DECLARATIONS: &[&str] = &["export ", "const ", "let ", "var ", "set "];

#[cfg(test)]
mod tests;

//! Reads what people paste as a credential into one Cookie header for each account. Pure.
//!
//! Extensions export JSON, `cookies.txt` of Netscape or one pair a line; developer tools copy cURL, `fetch` and
//! PowerShell commands, tables, and blocks of headers. All of it may stand in one text, with `#` comments between.

mod command;
mod given;
mod json;
mod lines;
mod pairs;
pub(crate) mod report;
mod words;
mod wrapped;

use crate::base::quotes::unquoted;
use crate::pasted::lines::is_comment;
use crate::pasted::pairs::is_cookie_name;

pub(crate) use crate::pasted::given::{Given, SignIn, owner_of, shortened};
pub(crate) use crate::pasted::words::{Form, Mistake};

/// One account in a pasted text, or several lines in a row that are wrong in the same way.
#[derive(Debug)]
pub(crate) struct Pasted {
    /// First line of the account in the text, from 1.
    pub(crate) first_line: usize,
    /// Last line of the account in the text, from 1.
    pub(crate) last_line: usize,
    /// The form that was recognised; `None` for a plain Cookie header.
    pub(crate) form: Option<Form>,
    /// The credential, or the mistake in its place.
    pub(crate) given: Result<Given, Mistake>,
}

/// The most accounts in one text.
pub(crate) const ACCOUNTS_MAX: usize = 1000;

/// Reads a text. Plain headers stand one on a line and are returned unchanged, without quotes around them. A text with
/// more than [`ACCOUNTS_MAX`] accounts ends with [`Mistake::TooMany`].
pub(crate) fn read(text: &str) -> Vec<Pasted> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    let mut accounts: Vec<Pasted> = Vec::new();
    let mut at = 0;
    let mut offset = 0;
    while let (Some(here), Some(rest)) = (lines.get(at..).filter(|here| !here.is_empty()), text.get(offset..)) {
        let (found, count) = first(here, rest);
        let count = count.max(1);
        for (form, given) in found {
            let one = Pasted { first_line: at + 1, last_line: at + count, form, given };
            let is_full = accounts.len() >= ACCOUNTS_MAX;
            match accounts.last_mut().filter(|last| is_same_mistake(last, &one)) {
                Some(last) => last.last_line = one.last_line,
                None if is_full => {
                    accounts.push(Pasted { form: None, given: Err(Mistake::TooMany), ..one });
                    return accounts;
                }
                None => accounts.push(one),
            }
        }
        offset += here.iter().take(count).map(|line| line.len() + 1).sum::<usize>();
        at += count;
    }
    accounts
}

/// Whether a text has anything beside comments and blank lines.
pub(crate) fn has_content(text: &str) -> bool {
    text.lines().any(|line| !line.trim().is_empty() && !is_comment(line))
}

/// Whether two parts in a row have the same mistake, as all lines of another kind of text have.
fn is_same_mistake(last: &Pasted, next: &Pasted) -> bool {
    let mistake = |one: &Pasted| one.given.as_ref().err().copied();
    mistake(last).is_some_and(|mistake| matches!(mistake, Mistake::Unknown | Mistake::WebPage))
        && (mistake(last) == mistake(next) || mistake(next) == Some(Mistake::Unknown))
}

type Found = (Option<Form>, Result<Given, Mistake>);

/// Reads the first account of the lines; returns it and its number of lines. `text` is the same as `lines`.
fn first(lines: &[&str], text: &str) -> (Vec<Found>, usize) {
    let line = lines.first().map(|line| line.trim()).unwrap_or_default();
    if line.is_empty() || is_comment(line) || line.starts_with("```") {
        return (Vec::new(), 1);
    }
    let one = |form: Form, header: Result<String, Mistake>| vec![(Some(form), header.map(Given::Cookie))];
    let count_of = |bytes: usize| text.get(..bytes).map_or(lines.len(), |taken| taken.trim_end().lines().count());
    let text = text.trim_start_matches([' ', '\t']);
    if line.starts_with(['[', '{']) {
        return match json::first(text) {
            Some((value, bytes)) => {
                let found = json::accounts(&value).into_iter().map(|(form, given)| (Some(form), given));
                (found.collect(), count_of(bytes))
            }
            None => (one(Form::Json, Err(Mistake::BrokenJson)), lines.len()),
        };
    }
    for (form, is_begun, read) in COMMANDS {
        if is_begun(line) {
            let (header, bytes) = read(text);
            let is_elsewhere = command::is_of_another_site(text.get(..bytes).unwrap_or(text));
            let header = if is_elsewhere { Err(Mistake::OtherSite) } else { header };
            return (one(*form, header), count_of(bytes));
        }
    }
    let plain = plain(line);
    let token = given::token(&plain);
    for (form, read) in FORMS {
        match read(lines) {
            // `Authorization: Bearer …` on its own is a header too.
            Some((Err(Mistake::BlockWithoutCookie), _)) if token.is_some() => {}
            Some((header, count)) => return (one(*form, header), count),
            None => {}
        }
    }
    if let Some(token) = token {
        return (one(Form::Token, Ok(format!("token={token}"))), 1);
    }
    let given = if plain.contains('=') { Ok(Given::Cookie(plain)) } else { Err(unreadable(&plain)) };
    (vec![(None, given)], 1)
}

/// The mistake of a line without any pair.
fn unreadable(line: &str) -> Mistake {
    if line.starts_with('<') {
        Mistake::WebPage
    } else if line.starts_with("sk-") {
        Mistake::ApiKey
    } else {
        Mistake::Unknown
    }
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

type Reader = fn(&str) -> (Result<String, Mistake>, usize);

type Command = (Form, fn(&str) -> bool, Reader);

/// Commands: names, first words and readers.
const COMMANDS: &[Command] = &[
    (Form::Curl, command::is_curl, command::curl),
    (Form::Request, command::is_request, command::request),
    (Form::Fetch, command::is_fetch, command::fetch),
    (Form::PowerShell, command::is_powershell, command::powershell),
];

type LinesReader = fn(&[&str]) -> Option<(Result<String, Mistake>, usize)>;

/// Forms that are made of lines, the most special first.
const FORMS: &[(Form, LinesReader)] = &[
    (Form::Table, lines::table),
    (Form::Block, lines::block),
    (Form::SetCookie, lines::set_cookies),
    (Form::Column, lines::column),
    (Form::Token, wrapped::token_of_lines),
    (Form::Wrapped, wrapped::header),
];

/// Keywords that declare a variable, in front of its name.
const DECLARATIONS: &[&str] = &["export ", "const ", "let ", "var ", "set "];

#[cfg(test)]
mod browser_tests;
#[cfg(test)]
mod tests;

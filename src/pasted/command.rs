//! Requests as the developer tools of browsers copy them: cURL for bash and for cmd, `fetch`, PowerShell.

use crate::pasted::json;
use crate::pasted::pairs::{self, Pair, is_of_site};
use crate::pasted::words::Mistake;

/// Whether a line begins a cURL command.
pub(super) fn is_curl(line: &str) -> bool {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    ["curl ", "curl.exe ", "curl\t"].iter().any(|name| line.starts_with(name))
}

/// The cookies of a cURL command at the start of a text, and how many bytes the command takes.
///
/// # Errors
/// The command has no cookies.
pub(super) fn curl(text: &str) -> (Result<String, Mistake>, usize) {
    // cmd escapes with a caret: `^"` begins each of its arguments, and `^` ends each of its lines.
    let is_cmd = text.lines().next().is_some_and(|line| line.contains("^\"") || line.trim_end().ends_with('^'));
    let (arguments, bytes) = if is_cmd { cmd_words(text) } else { bash_words(text) };
    let mut found = Vec::new();
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        let long = argument.split_once('=').filter(|(name, _)| matches!(*name, "--header" | "--cookie"));
        let (option, value) = match (argument, long) {
            (_, Some((name, value))) => (name, Some(value)),
            ("-H" | "--header" | "-b" | "--cookie", None) => (argument, arguments.next()),
            _ => match argument.split_at_checked(2) {
                Some((option @ ("-H" | "-b"), value)) => (option, Some(value)),
                _ => continue,
            },
        };
        let value = value.unwrap_or_default();
        match option {
            "-H" | "--header" => found.extend(cookie_of_line(value)),
            // Without a pair it is the name of a file.
            _ if value.contains('=') => found.push(value.to_owned()),
            _ => {}
        }
    }
    (joined(&found, Mistake::CurlWithoutCookie), bytes)
}

/// Whether a line begins a request of another command line program: `wget`, `http` or `xh`.
pub(super) fn is_request(line: &str) -> bool {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    ["wget ", "http ", "https ", "xh ", "xhs "].iter().any(|name| line.starts_with(name))
}

/// The cookies of such a request at the start of a text, and how many bytes the command takes. A header is a word of its
/// own, or the value of `--header`.
///
/// # Errors
/// The command has no cookies.
pub(super) fn request(text: &str) -> (Result<String, Mistake>, usize) {
    let (words, bytes) = bash_words(text);
    let found: Vec<String> =
        words.iter().filter_map(|word| cookie_of_line(word.strip_prefix("--header=").unwrap_or(word))).collect();
    (joined(&found, Mistake::RequestWithoutCookie), bytes)
}

/// The value of a header line if it is the header `cookie`.
pub(super) fn cookie_of_line(line: &str) -> Option<String> {
    let (name, value) = line.split_once(':')?;
    name.trim().eq_ignore_ascii_case("cookie").then(|| value.trim().to_owned())
}

/// Several `cookie` headers as one: HTTP/2 may send each cookie by itself.
pub(super) fn joined(headers: &[String], why_none: Mistake) -> Result<String, Mistake> {
    let headers: Vec<&str> = headers.iter().map(|header| header.trim().trim_end_matches(';')).collect();
    if headers.iter().all(|header| header.is_empty()) { Err(why_none) } else { Ok(headers.join("; ")) }
}

/// The words of a command for a POSIX shell, up to the first line end that is neither quoted nor escaped.
fn bash_words(text: &str) -> (Vec<String>, usize) {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => {
                end = at;
                break;
            }
            // PowerShell continues a line with a backtick.
            '\\' | '`' => match chars.next() {
                Some((_, '\n')) | None => {}
                Some((_, c)) => word.get_or_insert_default().push(c),
            },
            '\'' => {
                // `$'…'` has escapes, `'…'` has none.
                let has_escapes = word.as_ref().is_some_and(|word| word.ends_with('$'));
                let word = word.get_or_insert_default();
                if has_escapes {
                    word.pop();
                }
                while let Some((_, c)) = chars.next() {
                    match c {
                        '\'' => break,
                        '\\' if has_escapes => word.extend(ansi_escape(&mut chars)),
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                while let Some((_, c)) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => match chars.next() {
                            Some((_, c @ ('"' | '\\' | '$' | '`'))) => word.push(c),
                            Some((_, '\n')) | None => {}
                            Some((_, c)) => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (words, end)
}

/// The character of an escape behind a backslash in `$'…'`.
fn ansi_escape(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    let (_, c) = chars.next()?;
    let digits = match c {
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'x' => 2,
        'u' => 4,
        c => return Some(c),
    };
    let mut code = 0;
    for _ in 0..digits {
        let mut ahead = chars.clone();
        let Some(digit) = ahead.next().and_then(|(_, c)| c.to_digit(16)) else {
            break;
        };
        *chars = ahead;
        code = code * 16 + digit;
    }
    char::from_u32(code)
}

/// The words of a command for cmd: carets taken away, then arguments in double quotes with `\"` and `\\`.
fn cmd_words(text: &str) -> (Vec<String>, usize) {
    let mut plain = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => {
                end = at;
                break;
            }
            '^' => match chars.next() {
                Some((_, '\n')) => plain.push(' '),
                Some((_, c)) => plain.push(c),
                None => {}
            },
            c => plain.push(c),
        }
    }
    (bash_words(&plain).0, end)
}

/// Whether a line begins a call of `fetch`.
pub(super) fn is_fetch(line: &str) -> bool {
    let line = line.strip_prefix("await ").unwrap_or(line);
    line.starts_with("fetch(")
}

/// The cookies of a call of `fetch` at the start of a text, and how many bytes the call takes.
///
/// # Errors
/// The call has no cookies, as every one that is meant for a browser.
pub(super) fn fetch(text: &str) -> (Result<String, Mistake>, usize) {
    let options = text.find('{').and_then(|at| Some((at, json::first(text.get(at..)?)?)));
    let Some((at, (options, bytes))) = options else {
        return match literal_header(text) {
            Some((header, bytes)) => (Ok(header), bytes),
            None => (Err(Mistake::FetchWithoutCookie), text.find('\n').unwrap_or(text.len())),
        };
    };
    let header = options.get("headers").and_then(json::of_headers).ok_or(Mistake::FetchWithoutCookie);
    (header, at + bytes)
}

/// The header in `{ headers: { Cookie: '…' } }`, as people write it, and how many bytes the call takes.
fn literal_header(text: &str) -> Option<(String, usize)> {
    let name = text.to_ascii_lowercase().find("cookie")? + "cookie".len();
    let rest = text.get(name..)?.trim_start_matches(['"', '\'', ' ']).strip_prefix(':')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let (value, rest) = rest.get(1..)?.split_once(quote)?;
    let end = rest.find(')').map_or(rest.len(), |at| at + 1);
    Some((value.to_owned(), text.len() - rest.get(end..)?.len()))
}

/// Whether a line begins a request for PowerShell.
pub(super) fn is_powershell(line: &str) -> bool {
    line.starts_with("$session") || is_invoke(line)
}

/// The cookies of a request for PowerShell at the start of a text, and how many bytes the request takes.
///
/// # Errors
/// The request has no cookies.
pub(super) fn powershell(text: &str) -> (Result<String, Mistake>, usize) {
    let mut end = 0;
    let mut has_invoked = false;
    let mut depth = 0_usize;
    let mut goes_on = false;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if !goes_on && depth == 0 && !trimmed.is_empty() && (has_invoked || !is_powershell(trimmed)) {
            break;
        }
        has_invoked |= is_invoke(trimmed);
        depth = (depth + trimmed.matches('{').count()).saturating_sub(trimmed.matches('}').count());
        goes_on = trimmed.ends_with('`');
        end += line.len();
    }
    let request = text.get(..end).unwrap_or(text);
    let cookies: Vec<Pair> = request
        .split("System.Net.Cookie(")
        .skip(1)
        .filter_map(|call| {
            let (name, rest) = powershell_text(call)?;
            let (value, rest) = powershell_text(rest)?;
            // Then come the path and the domain.
            let domain = powershell_text(rest).and_then(|(_, rest)| powershell_text(rest));
            Some(match domain {
                Some((domain, _)) => Pair::of(&domain, &name, &value),
                None => Pair::new(&name, &value),
            })
        })
        .collect();
    let header = match (cookies.is_empty(), powershell_header(request)) {
        (false, _) => pairs::header(cookies),
        (true, Some(header)) => Ok(header),
        (true, None) => Err(Mistake::PowerShellWithoutCookie),
    };
    (header, end)
}

fn is_invoke(line: &str) -> bool {
    ["Invoke-WebRequest", "Invoke-RestMethod"].iter().any(|name| line.starts_with(name))
}

/// The header in `-Headers @{ "Cookie"="…" }`.
fn powershell_header(request: &str) -> Option<String> {
    let lower = request.to_ascii_lowercase();
    let name = ["\"cookie\"", "'cookie'"].into_iter().find(|name| lower.contains(name))?;
    let (value, _) = powershell_text(request.get(lower.find(name)? + name.len()..)?)?;
    Some(value)
}

/// The next text in quotes, and what follows it. In double quotes a backtick escapes, and `$([char]34)` is a character by
/// its number; in single quotes every character is itself.
fn powershell_text(text: &str) -> Option<(String, &str)> {
    let (at, quote) = text.char_indices().find(|(_, c)| matches!(c, '"' | '\''))?;
    let rest = text.get(at + 1..)?;
    if quote == '\'' {
        return rest.split_once('\'').map(|(value, rest)| (value.to_owned(), rest));
    }
    let mut value = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '`' => value.push(chars.next()?),
            '$' => match chars.as_str().strip_prefix("([char]").and_then(|rest| rest.split_once(')')) {
                Some((code, rest)) => {
                    value.extend(code.parse().ok().and_then(char::from_u32));
                    chars = rest.chars();
                }
                None => value.push('$'),
            },
            c => value.push(c),
        }
    }
}

/// Whether a request goes to another site: its text has addresses, and none of them is of the site or of this machine.
pub(super) fn is_of_another_site(request: &str) -> bool {
    let mut hosts = request.split("://").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']')));
        rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
    });
    let is_ours = |host: &str| is_of_site(host) || matches!(host, "localhost" | "127.0.0.1");
    request.contains("://") && !hosts.any(is_ours)
}

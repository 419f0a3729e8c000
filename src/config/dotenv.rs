//! The `.env` file. Own code, because the usual crates put the environment in the place of `$name`, which eats the
//! `$o1$g1` of Google's cookies, and refuse an unquoted value with spaces, which every pasted Cookie header is.

use std::collections::BTreeMap;

use crate::config::fault::Fault;

/// Reads `NAME=value` lines. A value is taken as it stands to the end of the line, or between `'…'` (as it stands) or
/// `"…"` (with `\n`, `\r`, `\t`, `\"`, `\\`), which may span lines. `#` begins a comment at the start of a line and
/// after a space. `export` in front is accepted. A name that comes twice has its last value.
pub(super) fn parse(text: &str, faults: &mut Vec<Fault>) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = after;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let assignment = line
            .strip_prefix("export ")
            .unwrap_or(line)
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim_start()));
        let Some((name, value)) = assignment.filter(|(name, _)| is_name(name)) else {
            faults.push(Fault::at(
                format!(".env line {number}"),
                "is not NAME=value",
                "write one setting a line, and # in front of comments",
            ));
            continue;
        };
        let Some(quote) = value.chars().next().filter(|c| "'\"".contains(*c)) else {
            values.insert(name.to_owned(), without_comment(value).to_owned());
            continue;
        };
        // A quoted value may go on in the lines below.
        let opened_at = number;
        let mut quoted = value.get(1..).unwrap_or_default().to_owned();
        let closed = loop {
            if let Some(closed) = close(&quoted, quote) {
                break Some(closed);
            }
            if rest.is_empty() {
                break None;
            }
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            rest = after;
            number += 1;
            quoted.push('\n');
            quoted.push_str(line.trim_end_matches('\r'));
        };
        match closed {
            Some((value, after)) if without_comment(after).is_empty() => {
                values.insert(name.to_owned(), value);
            }
            Some(_) => faults.push(Fault::at(
                format!(".env line {number}"),
                format!("has text after the closing {quote}"),
                "put the whole value between quotes, or none of it",
            )),
            None => faults.push(Fault::at(
                format!(".env line {opened_at}"),
                format!("has a {quote} that is never closed"),
                "close it at the end of the value",
            )),
        }
    }
    values
}

/// The value up to its closing quote, and what follows; `None` when it does not close.
fn close(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Some((value, chars.as_str())),
            '\\' if quote == '"' => match chars.next()? {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                c @ ('"' | '\\' | '$') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
    None
}

fn without_comment(value: &str) -> &str {
    let value = match value.find([' ', '\t']) {
        _ if value.starts_with('#') => "",
        Some(_) => value.split(" #").next().unwrap_or_default(),
        None => value,
    };
    value.trim()
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let mut faults = Vec::new();
        let values = parse(text, &mut faults);
        let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!((values.as_slice(), faults.as_slice()), (expected, [].as_slice()), "{text:?}");
    }

    #[test]
    fn values_are_read_as_written() {
        check("", &[]);
        check("\u{feff}A=1\r\nB = 2 \n\n# C=3\nexport D=4", &[("A", "1"), ("B", "2"), ("D", "4")]);
        check("A=cna=1; token=a.b.c; _ga=GS2.1.s17$o1$g1", &[("A", "cna=1; token=a.b.c; _ga=GS2.1.s17$o1$g1")]);
        check("A=1 # one", &[("A", "1")]);
        check("A=#", &[("A", "")]);
        check("A=a#b", &[("A", "a#b")]);
        check("A=it's \"fine\"", &[("A", "it's \"fine\"")]);
        check("A='$x \\n # \"'", &[("A", "$x \\n # \"")]);
        check("A=\"a\\nb\\\"c\\d$x\" # why", &[("A", "a\nb\"c\\d$x")]);
        check("A=\"\na=1\nb=2\"\nB=3", &[("A", "\na=1\nb=2"), ("B", "3")]);
        check("A=1\nA=2", &[("A", "2")]);
        check("A=", &[("A", "")]);
    }

    #[test]
    fn faults_name_the_line() {
        let mut faults = Vec::new();
        parse("A=1\nsecret\n1A=secret\nB='secret'x\nC=\"secret\n\n", &mut faults);
        let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(text.join("\n"), @r#"
        .env line 2: is not NAME=value; write one setting a line, and # in front of comments
        .env line 3: is not NAME=value; write one setting a line, and # in front of comments
        .env line 4: has text after the closing '; put the whole value between quotes, or none of it
        .env line 5: has a " that is never closed; close it at the end of the value
        "#);
    }
}

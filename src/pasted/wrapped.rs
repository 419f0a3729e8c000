//! A Cookie header or a token that an editor, a terminal or a mail broke into lines.

use crate::pasted::command::cookie_of_line;
use crate::pasted::given::{JWT_START, is_token_byte, token};
use crate::pasted::lines::is_comment;
use crate::pasted::pairs::{is_cookie_name, is_known};
use crate::pasted::words::Mistake;

/// The token at the start that goes on in the lines below, and how many lines it takes.
pub(super) fn token_of_lines(lines: &[&str]) -> Option<(Result<String, Mistake>, usize)> {
    let mut whole = token(lines.first()?)?.to_owned();
    let mut count = 1;
    while let Some(next) = lines.get(count).map(|line| line.trim()).filter(|line| !line.is_empty()) {
        let dots = |text: &str| text.bytes().filter(|byte| *byte == b'.').count();
        let begins_anew = next.starts_with(JWT_START) && !whole.ends_with('.');
        if begins_anew || !next.bytes().all(is_token_byte) || dots(&whole) + dots(next) > 2 {
            break;
        }
        whole.push_str(next);
        count += 1;
    }
    (count > 1).then(|| (Ok(format!("token={whole}")), count))
}

/// The Cookie header at the start that goes on in the lines below, and how many lines it takes. A line goes on in the
/// next one when that does not begin with a pair, when it ends within a name, or when it is as long as a line of an
/// editor and the next one cannot be an account of its own.
pub(super) fn header(lines: &[&str]) -> Option<(Result<String, Mistake>, usize)> {
    let first = lines.first()?.trim();
    let labelled = cookie_of_line(first);
    let mut whole = labelled.as_deref().unwrap_or(first).to_owned();
    if !begins_with_pair(&whole) {
        return None;
    }
    let (mut count, mut width) = (1, first.len());
    while let Some(next) = lines.get(count).map(|line| line.trim()).filter(|line| is_part(line)) {
        let open = whole.rsplit(';').next().unwrap_or_default().trim();
        let ends_in_name = !open.is_empty() && !open.contains('=') && next.contains('=');
        let is_full = width >= EDITOR_WIDTH && next.len() <= width && !whole.ends_with(';') && !signs_in(next);
        let is_rest = !begins_with_pair(next) && (next.contains([';', '=']) || is_full);
        if !(ends_in_name || is_full || is_rest) {
            break;
        }
        if whole.ends_with(';') {
            whole.push(' ');
        }
        whole.push_str(next);
        width = next.len();
        count += 1;
    }
    let is_header = whole.split(';').filter_map(|pair| pair.split_once('=')).any(|(name, _)| is_known(name.trim()));
    (count > 1 && is_header).then_some((Ok(whole), count))
}

/// Whether a line can be a part of a header: not a comment, command or quoted text, and without spaces in front.
fn is_part(line: &str) -> bool {
    let first = line.split(';').next().unwrap_or_default();
    let is_value = !first.is_empty() && first.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'"');
    is_value && !is_comment(line) && !line.starts_with(['[', '{', '\'', '<', '`']) && !line.contains("://")
}

fn begins_with_pair(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| is_cookie_name(name.trim()))
}

/// Whether a line has a cookie that signs in, so that it may be an account of its own.
fn signs_in(line: &str) -> bool {
    let mut names = line.split(';').filter_map(|pair| pair.split_once('='));
    names.any(|(name, _)| matches!(name.trim(), "token" | "refresh_token"))
}

/// The shortest line that counts as full. Terminals and mails break lines at 72 or more characters.
const EDITOR_WIDTH: usize = 60;

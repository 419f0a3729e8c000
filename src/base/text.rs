//! Text: the encoding of bytes that may not be UTF-8, and long texts in pieces.

/// The text of these bytes: UTF-16 when a byte order mark says so (what Windows writes as "Unicode", `PowerShell` by
/// `>`) or when most units have a zero byte on the same side, else UTF-8. The mark is left out. `None` when the bytes
/// are neither.
#[must_use]
pub(crate) fn decoded(bytes: Vec<u8>) -> Option<String> {
    match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => Some(str::from_utf8(rest).ok()?.to_owned()),
        unmarked => match unmarked_utf16(unmarked) {
            Some(read) => utf16(unmarked, read),
            None => String::from_utf8(bytes).ok(),
        },
    }
}

fn utf16(bytes: &[u8], read: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text: Option<String> = char::decode_utf16(pairs.iter().map(|pair| read(*pair))).map(Result::ok).collect();
    text.filter(|_| rest.is_empty())
}

/// The order of bytes of a text that has no mark and can only be UTF-16: the ASCII in it has a zero byte in each unit,
/// which no text in UTF-8 has.
fn unmarked_utf16(bytes: &[u8]) -> Option<fn([u8; 2]) -> u16> {
    let (pairs, _) = bytes.as_chunks::<2>();
    let is_most = |count: usize| count * 2 > pairs.len();
    if is_most(pairs.iter().filter(|[low, high]| *low != 0 && *high == 0).count()) {
        Some(u16::from_le_bytes)
    } else if is_most(pairs.iter().filter(|[high, low]| *high == 0 && *low != 0).count()) {
        Some(u16::from_be_bytes)
    } else {
        None
    }
}

/// A text in pieces of at most `bytes_max` bytes, cut between characters. `bytes_max` is at least 4, the longest
/// character; an empty text has no pieces.
pub(crate) fn pieces(text: &str, bytes_max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, tail) = rest.split_at(rest.floor_char_boundary(bytes_max.max(4)));
        rest = tail;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_tells_the_encoding() {
        let check = |bytes: &[u8], expected: Option<&str>| assert_eq!(decoded(bytes.to_vec()).as_deref(), expected);
        check("aé✓".as_bytes(), Some("aé✓"));
        check(b"\xef\xbb\xbfa", Some("a"));
        check(b"\xff\xfea\0\xe9\0\x3d\xd8\x00\xde", Some("aé😀"));
        check(b"\xfe\xff\0a", Some("a"));
        check(b"", Some(""));
        check(b"\xff\xfe", Some(""));
        check(b"\xff\xfea", None);
        check(b"\xff\xfe\x00\xd8", None);
        check(b"\xff", None);
        // Without a mark.
        check(b"a\0=\0\xe9\0", Some("a=é"));
        check(b"\0a\0=\x5b\x57\0b", Some("a=字b"));
        check(b"a\0=\0b", None);
        check(b"a\0bcde", Some("a\0bcde"));
    }

    #[test]
    fn pieces_end_between_characters() {
        let check = |text: &str, bytes_max: usize, expected: &[&str]| {
            assert_eq!(pieces(text, bytes_max).collect::<Vec<_>>(), expected);
        };
        check("", 4, &[]);
        check("abcd", 4, &["abcd"]);
        check("abcde", 4, &["abcd", "e"]);
        check("abcé", 4, &["abc", "é"]);
        check("😀😀", 7, &["😀", "😀"]);
        check("😀", 0, &["😀"]);
    }
}

//! Text: the encoding of bytes that may not be UTF-8, and long texts in pieces.

/// The text of these bytes: UTF-16 when a byte order mark says so (what Windows writes as "Unicode", `PowerShell` by
/// `>`), else UTF-8. The mark is left out. `None` when the bytes are neither.
#[must_use]
pub(crate) fn decoded(bytes: Vec<u8>) -> Option<String> {
    let units = |read: fn([u8; 2]) -> u16| -> Option<String> {
        let (pairs, rest) = bytes.get(2..)?.as_chunks::<2>();
        let text: Option<String> = char::decode_utf16(pairs.iter().map(|pair| read(*pair))).map(Result::ok).collect();
        text.filter(|_| rest.is_empty())
    };
    match bytes.as_slice() {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => units(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => Some(str::from_utf8(rest).ok()?.to_owned()),
        _ => String::from_utf8(bytes).ok(),
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

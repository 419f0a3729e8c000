//! The text of a body as UTF-8, piece by piece. Some Windows programs write a byte order mark, or UTF-16. Pure.

use std::borrow::Cow;

/// Makes UTF-8 of what arrives. What is neither marked nor begins as UTF-16 does passes as it is.
#[derive(Debug, Default)]
pub(crate) struct ToUtf8 {
    form: Form,
    /// Bytes that do not yet say anything.
    kept: Vec<u8>,
    /// The first half of a character of four bytes.
    high: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Form {
    #[default]
    Unknown,
    Utf8,
    Utf16(fn([u8; 2]) -> u16),
}

/// The text is not valid UTF-16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl ToUtf8 {
    /// The text of the next bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn push<'a>(&mut self, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, Malformed> {
        match self.form {
            Form::Utf8 => Ok(Cow::Borrowed(bytes)),
            Form::Utf16(read) => self.transcoded(bytes, read).map(Cow::Owned),
            Form::Unknown => {
                self.kept.extend_from_slice(bytes);
                if self.kept.len() < HEAD_BYTES { Ok(Cow::Borrowed(&[])) } else { self.begun().map(Cow::Owned) }
            }
        }
    }

    /// The bytes that are left at the end.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, Malformed> {
        let text = if matches!(self.form, Form::Unknown) { self.begun()? } else { Vec::new() };
        let is_cut = matches!(self.form, Form::Utf16(_)) && !(self.kept.is_empty() && self.high.is_none());
        if is_cut { Err(Malformed) } else { Ok(text) }
    }

    /// Decides by the first bytes. JSON begins with a character of ASCII, so that a zero beside it means UTF-16.
    fn begun(&mut self) -> Result<Vec<u8>, Malformed> {
        let kept = std::mem::take(&mut self.kept);
        let (form, text) = match kept.as_slice() {
            [0xff, 0xfe, rest @ ..] => (Form::Utf16(u16::from_le_bytes), rest),
            [0xfe, 0xff, rest @ ..] => (Form::Utf16(u16::from_be_bytes), rest),
            [1..=0x7f, 0, ..] => (Form::Utf16(u16::from_le_bytes), kept.as_slice()),
            [0, 1..=0x7f, ..] => (Form::Utf16(u16::from_be_bytes), kept.as_slice()),
            [0xef, 0xbb, 0xbf, rest @ ..] => (Form::Utf8, rest),
            _ => (Form::Utf8, kept.as_slice()),
        };
        self.form = form;
        match form {
            Form::Utf16(read) => self.transcoded(text, read),
            Form::Utf8 | Form::Unknown => Ok(text.to_vec()),
        }
    }

    fn transcoded(&mut self, bytes: &[u8], read: fn([u8; 2]) -> u16) -> Result<Vec<u8>, Malformed> {
        let bytes = if self.kept.is_empty() {
            Cow::Borrowed(bytes)
        } else {
            Cow::Owned([std::mem::take(&mut self.kept).as_slice(), bytes].concat())
        };
        let (pairs, rest) = bytes.as_chunks::<2>();
        self.kept = rest.to_vec();
        let mut text = String::with_capacity(bytes.len());
        for unit in self.high.take().into_iter().chain(pairs.iter().map(|pair| read(*pair))) {
            let whole = match (self.high.take(), unit) {
                (None, 0xd800..=0xdbff) => {
                    self.high = Some(unit);
                    continue;
                }
                (high, unit) => high.into_iter().chain([unit]),
            };
            for character in char::decode_utf16(whole) {
                text.push(character.map_err(|_| Malformed)?);
            }
        }
        Ok(text.into_bytes())
    }
}

/// The longest byte order mark.
const HEAD_BYTES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], cut: usize) -> Result<String, Malformed> {
        let mut reader = ToUtf8::default();
        let mut text = Vec::new();
        for piece in bytes.chunks(cut) {
            text.extend_from_slice(&reader.push(piece)?);
        }
        text.extend(reader.finish()?);
        Ok(String::from_utf8(text).unwrap())
    }

    fn utf16(text: &str, write: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(write).collect()
    }

    #[test]
    fn marks_and_utf16_are_read_however_they_are_cut() {
        let json = "{\"a\":\"é字😀\"}";
        let marked = format!("\u{feff}{json}");
        for cut in 1..10 {
            for bytes in [
                json.as_bytes().to_vec(),
                marked.as_bytes().to_vec(),
                utf16(json, u16::to_le_bytes),
                utf16(json, u16::to_be_bytes),
                utf16(&marked, u16::to_le_bytes),
                utf16(&marked, u16::to_be_bytes),
            ] {
                assert_eq!(read(&bytes, cut).as_deref(), Ok(json), "{cut} {bytes:?}");
            }
            assert_eq!(read(b"", cut).as_deref(), Ok(""));
            assert_eq!(read(b"{}", cut).as_deref(), Ok("{}"));
            assert_eq!(read(b"\0", cut).as_deref(), Ok("\0"));
            assert_eq!(read(b"\xff\xfe", cut).as_deref(), Ok(""));
            for broken in [&b"\xff\xfe{"[..], b"\xff\xfe\x00\xd8", b"\xff\xfe\x00\xd8a\0", b"\xfe\xff\xdc\x00\0a"] {
                assert_eq!(read(broken, cut), Err(Malformed), "{cut} {broken:?}");
            }
        }
    }
}

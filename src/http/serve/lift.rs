//! Takes large files out of a JSON body while it arrives: base64 is decoded once, on the way, and what is left is
//! small JSON. A body of hundreds of megabytes passes without ever being in memory.
//!
//! Lifted is a long string that is a base64 `data:` URI, or that stands under one of the keys that are for bare
//! base64. Its text is replaced by [`LIFTED_PREFIX`] and the place of its bytes.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memchr2};
use serde_json::Value;

use crate::chat::file_part::LIFTED_PREFIX;
use crate::files::blob::{Blob, BlobWriter};

/// Strings shorter than this stay where they are.
const LIFT_BYTES_MIN: usize = 64 * 1024;
/// How far into a string its `;base64,` has to stand.
const URI_HEAD_MAX: usize = 200;
/// The keys under which bare base64 is expected.
const BARE_KEYS: [&[u8]; 4] = [b"file_data", b"data", b"b64_json", b"image"];
/// The keys under which a string is what somebody says, whatever it looks like.
const TEXT_KEYS: [&[u8]; 4] = [b"content", b"text", b"prompt", b"arguments"];

/// Copies JSON and takes files out of it.
pub(crate) struct Lifter {
    dir: PathBuf,
    json: Vec<u8>,
    state: State,
    lifted: Vec<Blob>,
}

enum State {
    Outside,
    /// In a string that began at this place of `json`; whether it was looked at already.
    Text {
        start: usize,
        is_seen: bool,
        is_escaped: bool,
    },
    Lifting(Lifting),
}

/// A string whose bytes are being decoded.
struct Lifting {
    writer: BlobWriter,
    /// Up to three characters that wait for a fourth.
    rest: Vec<u8>,
    /// Padding was seen: nothing may follow.
    is_ended: bool,
    is_broken: bool,
    is_escaped: bool,
}

impl Lifter {
    /// A lifter that puts large files into `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), json: Vec::new(), state: State::Outside, lifted: Vec::new() }
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                State::Outside => match memchr(b'"', bytes) {
                    Some(quote) => {
                        let (before, after) = bytes.split_at(quote + 1);
                        self.json.extend_from_slice(before);
                        self.state = State::Text { start: self.json.len(), is_seen: false, is_escaped: false };
                        after
                    }
                    None => {
                        self.json.extend_from_slice(bytes);
                        &[]
                    }
                },
                State::Text { .. } => self.text(bytes)?,
                State::Lifting(_) => self.lifting(bytes)?,
            };
        }
        Ok(())
    }

    /// The JSON that is left, and the files.
    pub(crate) fn finish(self) -> (Vec<u8>, Vec<Blob>) {
        (self.json, self.lifted)
    }

    fn text<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let State::Text { start, is_seen, is_escaped } = &mut self.state else {
            return Ok(bytes);
        };
        if std::mem::take(is_escaped) {
            let (escape, after) = bytes.split_at(1);
            self.json.extend_from_slice(escape);
            return Ok(after);
        }
        let found = memchr2(b'"', b'\\', bytes);
        let (run, after) = bytes.split_at(found.unwrap_or(bytes.len()));
        self.json.extend_from_slice(run);
        if !*is_seen && self.json.len() - *start >= LIFT_BYTES_MIN {
            *is_seen = true;
            let start = *start;
            if let Some(encoded) = encoded_from(&self.json, start) {
                let head = self.json.split_off(encoded);
                self.state = State::Lifting(Lifting::new(&self.dir));
                let mut head = head.as_slice();
                while !head.is_empty() {
                    head = self.lifting(head)?;
                }
                return Ok(after);
            }
        }
        let Some((mark, after)) = after.split_first() else {
            return Ok(after);
        };
        self.json.push(*mark);
        match (mark, &mut self.state) {
            (b'\\', State::Text { is_escaped, .. }) => *is_escaped = true,
            (_, state) => *state = State::Outside,
        }
        Ok(after)
    }

    fn lifting<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let State::Lifting(lifting) = &mut self.state else {
            return Ok(bytes);
        };
        if std::mem::take(&mut lifting.is_escaped) {
            let (escape, after) = bytes.split_at(1);
            // A slash may be escaped; no other character of base64 needs it.
            if escape == b"/" {
                lifting.push(escape)?;
            } else {
                lifting.is_broken = true;
            }
            return Ok(after);
        }
        let found = memchr2(b'"', b'\\', bytes);
        let (run, after) = bytes.split_at(found.unwrap_or(bytes.len()));
        lifting.push(run)?;
        let Some((mark, after)) = after.split_first() else {
            return Ok(after);
        };
        if *mark == b'\\' {
            lifting.is_escaped = true;
            return Ok(after);
        }
        let State::Lifting(lifting) = std::mem::replace(&mut self.state, State::Outside) else {
            return Ok(after);
        };
        // A place that is none says that the bytes are no good.
        let place = match lifting.finish() {
            Some(blob) => {
                self.lifted.push(blob);
                (self.lifted.len() - 1).to_string()
            }
            None => "broken".to_owned(),
        };
        let escaped = LIFTED_PREFIX.replace('\0', "\\u0000");
        self.json.extend_from_slice(format!("{escaped}{place}\"").as_bytes());
        Ok(after)
    }
}

/// Puts what was taken out back where it was, for whoever needs the body as it came.
///
/// # Errors
/// The disk's.
pub(crate) fn put_back(value: &mut Value, lifted: &[Blob]) -> io::Result<()> {
    match value {
        Value::String(text) => {
            let Some((head, place)) = text.split_once(LIFTED_PREFIX) else {
                return Ok(());
            };
            if let Some(blob) = place.parse::<usize>().ok().and_then(|place| lifted.get(place)) {
                let mut bytes = Vec::new();
                blob.reader().read_to_end(&mut bytes)?;
                *text = format!("{head}{}", STANDARD.encode(bytes));
            }
            Ok(())
        }
        Value::Array(list) => list.iter_mut().try_for_each(|entry| put_back(entry, lifted)),
        Value::Object(map) => map.values_mut().try_for_each(|entry| put_back(entry, lifted)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Where the base64 of the string at `start` begins, if it is a string to be lifted.
fn encoded_from(json: &[u8], start: usize) -> Option<usize> {
    let (before, text) = json.split_at_checked(start)?;
    let is_under = |names: &[&[u8]]| {
        let before = before.strip_suffix(b"\"").map(<[u8]>::trim_ascii_end);
        let before = before.and_then(|before| before.strip_suffix(b":")).map(<[u8]>::trim_ascii_end);
        let key = before.and_then(|before| before.strip_suffix(b"\""));
        let is_key =
            |name: &&[u8]| key.and_then(|key| key.strip_suffix(*name)).is_some_and(|rest| rest.ends_with(b"\""));
        names.iter().any(is_key)
    };
    let head = text.get(..URI_HEAD_MAX.min(text.len()))?;
    if head.get(..5)?.eq_ignore_ascii_case(b"data:") {
        let marker = b";base64,";
        let at = head.windows(marker.len()).position(|window| window.eq_ignore_ascii_case(marker))?;
        return (!is_under(&TEXT_KEYS)).then_some(start + at + marker.len());
    }
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    (is_under(&BARE_KEYS) && text.iter().all(is_base64)).then_some(start)
}

impl Lifting {
    fn new(dir: &Path) -> Self {
        let writer = BlobWriter::new(dir);
        Self { writer, rest: Vec::new(), is_ended: false, is_broken: false, is_escaped: false }
    }

    fn push(&mut self, encoded: &[u8]) -> io::Result<()> {
        if self.is_broken || encoded.is_empty() {
            return Ok(());
        }
        let mut encoded = encoded;
        // What waits is made whole first, so that the rest can be decoded where it lies.
        if !self.rest.is_empty() {
            let missing = (4 - self.rest.len()).min(encoded.len());
            let (first, after) = encoded.split_at(missing);
            self.rest.extend_from_slice(first);
            encoded = after;
            if self.rest.len() < 4 {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.rest);
            self.decode(&whole)?;
        }
        let (whole, rest) = encoded.split_at(encoded.len() - encoded.len() % 4);
        self.decode(whole)?;
        self.rest.extend_from_slice(rest);
        Ok(())
    }

    fn decode(&mut self, whole: &[u8]) -> io::Result<()> {
        if whole.is_empty() || self.is_broken {
            return Ok(());
        }
        match STANDARD.decode(whole) {
            Ok(bytes) if !self.is_ended => {
                self.is_ended = whole.ends_with(b"=");
                self.writer.push(&bytes)
            }
            _ => {
                self.is_broken = true;
                Ok(())
            }
        }
    }

    fn finish(self) -> Option<Blob> {
        (!self.is_broken && self.rest.is_empty()).then(|| self.writer.finish())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn lifted(json: &str, cut: usize) -> (Value, Vec<Vec<u8>>) {
        let dir = tempfile::tempdir().unwrap();
        let mut lifter = Lifter::new(dir.path());
        json.as_bytes().chunks(cut.max(1)).for_each(|chunk| lifter.push(chunk).unwrap());
        let (json, blobs) = lifter.finish();
        let read = |blob: &Blob| {
            let mut bytes = Vec::new();
            blob.reader().read_to_end(&mut bytes).unwrap();
            bytes
        };
        (serde_json::from_slice(&json).unwrap(), blobs.iter().map(read).collect())
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
    }

    #[test]
    fn large_files_are_taken_out() {
        for len in [100_000, 100_001, 100_002] {
            let file = bytes(len);
            let encoded = STANDARD.encode(&file);
            let body = json!({
                "a": "\"\\ü", "url": format!("data:image/png;base64,{encoded}"), "file_data" : encoded,
                "small": "data:image/png;base64,AAAA", "text": encoded,
            });
            for cut in [1, 7, 1000, usize::MAX] {
                let (json, files) = lifted(&body.to_string(), cut);
                assert_eq!(files.len(), 2, "{cut}");
                assert!(files.iter().all(|found| *found == file), "{cut}");
                let token = |place: usize| format!("{LIFTED_PREFIX}{place}");
                // Keys are in alphabetical order here.
                assert_eq!(json["file_data"], token(0));
                assert_eq!(json["url"], format!("data:image/png;base64,{}", token(1)));
                assert_eq!((&json["a"], &json["small"], &json["text"]), (&body["a"], &body["small"], &body["text"]));
            }
        }
    }

    #[test]
    fn what_somebody_says_stays() {
        let uri = format!("data:image/png;base64,{}", STANDARD.encode(bytes(90_000)));
        let body = json!({"messages": [
            {"content": uri}, {"content": format!("{uri} is what?")}, {"content": [{"text": uri}]},
            {"tool_calls": [{"function": {"arguments": uri}}]},
        ], "prompt": uri});
        for cut in [999, usize::MAX] {
            assert_eq!(lifted(&body.to_string(), cut), (body.clone(), Vec::new()));
        }
        let body = json!({"context": uri, "content": [uri]});
        assert_eq!(lifted(&body.to_string(), 999).1.len(), 2);
    }

    #[test]
    fn broken_files_are_named() {
        let encoded = STANDARD.encode(bytes(90_000));
        let broken = json!(format!("data:image/png;base64,{LIFTED_PREFIX}broken"));
        let mut late = encoded.clone();
        late.replace_range(80_000..80_001, "%");
        for bad in [
            format!("{encoded}A"),
            format!("{encoded}=AAA"),
            format!("{}==AA", encoded.get(..80_002).unwrap()),
            format!("{encoded}\\n"),
            format!("{encoded} "),
            late,
        ] {
            let body = format!("{{\"url\":\"data:image/png;base64,{bad}\"}}");
            for cut in [999, usize::MAX] {
                let (json, files) = lifted(&body, cut);
                assert_eq!((&json["url"], files.len()), (&broken, 0));
            }
        }
        // Escaped slashes are what some writers of JSON make of every slash.
        let body = json!({"url": format!("data:image/png;base64,{encoded}")}).to_string().replace('/', "\\/");
        assert_eq!(lifted(&body, 1000).1, [bytes(90_000)]);
    }

    #[test]
    fn what_was_taken_out_can_be_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let encoded = STANDARD.encode(bytes(90_001));
        let body = json!({"a": [{"url": format!("data:image/png;base64,{encoded}")}], "data": encoded, "b": 1});
        let mut lifter = Lifter::new(dir.path());
        lifter.push(body.to_string().as_bytes()).unwrap();
        let (json, blobs) = lifter.finish();
        let mut value = serde_json::from_slice(&json).unwrap();
        assert_ne!(value, body);
        put_back(&mut value, &blobs).unwrap();
        assert_eq!(value, body);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        /// Whatever is no large file comes through as it is.
        #[test]
        fn everything_else_stays(text in ".{0,200}", key in ".{0,20}", cut in 1_usize..50) {
            let body = json!({key: [text, {"n": 1.5, "t": text}]});
            let (json, files) = lifted(&body.to_string(), cut);
            prop_assert_eq!(json, body);
            prop_assert!(files.is_empty());
        }
    }
}

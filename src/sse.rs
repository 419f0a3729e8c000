//! Server-sent events: bytes in, event data out, for any cut of the bytes.
//!
//! Follows the event stream grammar of the WHATWG HTML standard, section 9.2, with one deliberate difference:
//! an event that the end of the stream cuts off before its blank line is still handed out by
//! [`SseDecoder::finish`], since the upstream does not always end with one. Pure: it never waits, and it copies only
//! events that a chunk boundary cuts in two.

use memchr::memchr2;

/// The longest accepted line in bytes. The longest lines of the upstream are cumulative thinking summaries and
/// search results, some hundred kilobytes.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most data that one event may collect from its lines, in bytes.
pub const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Cuts a byte stream into events. Feed it with [`SseDecoder::push`] and end with [`SseDecoder::finish`].
#[derive(Debug, Default)]
pub struct SseDecoder {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The `data` lines of the event under way, joined by newlines.
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a CR: a LF that follows belongs to the same line end.
    after_cr: bool,
    /// The byte order mark, if there was one, has been skipped.
    past_bom: bool,
}

/// A limit that the stream breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// One line has no end within the limit.
    #[error("a line of the event stream is longer than {limit_bytes} bytes")]
    LineTooLong {
        /// The limit that was broken, [`LINE_BYTES_MAX`].
        limit_bytes: usize,
    },
    /// One event collects more data than the limit.
    #[error("an event of the event stream is longer than {limit_bytes} bytes")]
    EventTooLong {
        /// The limit that was broken, [`EVENT_BYTES_MAX`].
        limit_bytes: usize,
    },
}

impl SseDecoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and hands the data of each completed event to `on_event`, which may end the run with
    /// an error of its own.
    ///
    /// # Errors
    /// [`SseError`] when a limit is broken, or any error of `on_event`. The decoder cannot be used afterwards.
    pub fn push<E: From<SseError>>(
        &mut self,
        chunk: &[u8],
        mut on_event: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = chunk;
        // The data of an event that began and may end in this chunk needs no copy.
        let mut borrowed: Option<&[u8]> = None;
        loop {
            if self.after_cr && !rest.is_empty() {
                self.after_cr = false;
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            let end = match rest.first() {
                None => break,
                // A blank line, as behind each event.
                Some(b'\n') => 0,
                Some(_) => match memchr2(b'\n', b'\r', rest) {
                    Some(end) => end,
                    None => break,
                },
            };
            let (head, tail) = rest.split_at(end);
            self.after_cr = tail.first() == Some(&b'\r');
            rest = tail.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                self.line_ended(head, &mut borrowed, &mut on_event)?;
            } else {
                self.keep(head)?;
                let line = std::mem::take(&mut self.line);
                self.carried_line_ended(&line, &mut borrowed, &mut on_event)?;
                self.line = line;
                self.line.clear();
            }
        }
        if let Some(data) = borrowed {
            self.collect(data)?;
        }
        self.keep(rest)?;
        Ok(())
    }

    /// Ends the stream: hands out an event whose last line or blank line is missing.
    ///
    /// # Errors
    /// As [`SseDecoder::push`].
    pub fn finish<E: From<SseError>>(&mut self, mut on_event: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let line = std::mem::take(&mut self.line);
        let mut borrowed = None;
        if !line.is_empty() {
            self.carried_line_ended(&line, &mut borrowed, &mut on_event)?;
        }
        self.line_ended(&[], &mut borrowed, &mut on_event)
    }

    fn line_ended<'a, E: From<SseError>>(
        &mut self,
        line: &'a [u8],
        borrowed: &mut Option<&'a [u8]>,
        on_event: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if line.is_empty() {
            // "If the line is empty (a blank line): dispatch the event." Without data there is nothing to dispatch.
            self.past_bom = true;
            if let Some(data) = borrowed.take() {
                return on_event(data);
            }
            if self.has_data {
                self.has_data = false;
                let mut data = std::mem::take(&mut self.data);
                let outcome = on_event(&data);
                data.clear();
                self.data = data;
                return outcome;
            }
            return Ok(());
        }
        let Some(data) = self.data_of(line) else {
            return Ok(());
        };
        if self.has_data || borrowed.is_some() {
            if let Some(first) = borrowed.take() {
                self.collect(first)?;
            }
            self.collect(data)?;
        } else {
            *borrowed = Some(data);
        }
        Ok(())
    }

    /// As [`Self::line_ended`], for a line whose bytes do not outlive the call.
    fn carried_line_ended<E: From<SseError>>(
        &mut self,
        line: &[u8],
        borrowed: &mut Option<&[u8]>,
        on_event: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if line.is_empty() {
            return self.line_ended(&[], borrowed, on_event);
        }
        if let Some(data) = self.data_of(line) {
            if let Some(first) = borrowed.take() {
                self.collect(first)?;
            }
            self.collect(data)?;
        }
        Ok(())
    }

    /// The value of a `data` field; `None` for comments and for fields that the upstream does not use.
    fn data_of<'a>(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        let line = if self.past_bom { line } else { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) };
        self.past_bom = true;
        if line == b"data" {
            return Some(&[]);
        }
        let value = line.strip_prefix(b"data:")?;
        // "If value starts with a U+0020 SPACE character, remove it from value."
        Some(value.strip_prefix(b" ").unwrap_or(value))
    }

    fn collect(&mut self, data: &[u8]) -> Result<(), SseError> {
        if self.data.len() + data.len() >= EVENT_BYTES_MAX {
            return Err(SseError::EventTooLong { limit_bytes: EVENT_BYTES_MAX });
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(data);
        Ok(())
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), SseError> {
        if self.line.len() + part.len() > LINE_BYTES_MAX {
            return Err(SseError::LineTooLong { limit_bytes: LINE_BYTES_MAX });
        }
        self.line.extend_from_slice(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events_of(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = SseDecoder::new();
        let mut events = Vec::new();
        let mut on_event = |data: &[u8]| -> Result<(), SseError> {
            events.push(String::from_utf8(data.to_vec()).unwrap());
            Ok(())
        };
        for chunk in chunks {
            decoder.push(chunk, &mut on_event).unwrap();
        }
        decoder.finish(&mut on_event).unwrap();
        events
    }

    fn check(stream: &str, expected: &[&str]) {
        assert_eq!(events_of(&[stream.as_bytes()]), expected, "{stream:?}");
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(events_of(&bytes), expected, "byte by byte: {stream:?}");
    }

    #[test]
    fn the_grammar() {
        check("data: a\n\n", &["a"]);
        check("data:a\n\n", &["a"]);
        check("data:  a\n\n", &[" a"]);
        check("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]);
        check("data: a\r\rdata: b\r\r", &["a", "b"]);
        check("data: a\n\rdata: b\r\n\n", &["a", "b"]);
        check("\u{feff}data: a\n\n", &["a"]);
        check("data: \u{feff}\n\n", &["\u{feff}"]);
        check(": comment\n\ndata: a\n: another\n\n", &["a"]);
        check("event: x\nid: 1\nretry: 5\ndata: a\nunknown\n\n", &["a"]);
        check("data: a\ndata: b\n\n", &["a\nb"]);
        check("data: a\ndata\ndata:\n\n", &["a\n\n"]);
        check("data\n\n", &[""]);
        check("\n\n\n", &[]);
        check("", &[]);
        check("data: last", &["last"]);
        check("data: last\n", &["last"]);
        check("data: last\r", &["last"]);
        check("data: {\"a\": \"\u{1f642}\"} \n\n", &["{\"a\": \"\u{1f642}\"} "]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut decoder = SseDecoder::new();
        let chunk = vec![b'x'; 64 * 1024];
        let mut outcome = Ok(());
        for _ in 0..=LINE_BYTES_MAX / chunk.len() {
            outcome = decoder.push(&chunk, |_| Ok::<(), SseError>(()));
        }
        assert_eq!(outcome, Err(SseError::LineTooLong { limit_bytes: LINE_BYTES_MAX }));
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut decoder = SseDecoder::new();
        let line = [b"data: ".as_slice(), &vec![b'x'; 64 * 1024], b"\n"].concat();
        let mut outcome = Ok(());
        for _ in 0..=EVENT_BYTES_MAX / line.len() + 1 {
            outcome = decoder.push(&line, |_| Ok::<(), SseError>(()));
            if outcome.is_err() {
                break;
            }
        }
        assert_eq!(outcome, Err(SseError::EventTooLong { limit_bytes: EVENT_BYTES_MAX }));
    }

    fn line_end() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("\n"), Just("\r\n"), Just("\r")]
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_events(
            texts in prop::collection::vec("[^\r\n]{0,12}", 0..8),
            end in line_end(),
            comment in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut stream = String::new();
            for text in &texts {
                if comment {
                    stream.push_str(&format!(": note{end}{end}"));
                }
                stream.push_str(&format!("data: {text}{end}{end}"));
            }
            let bytes = stream.as_bytes();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events_of(&chunks), texts);
        }
    }
}

//! Counts the parts of a JSON text while it arrives, before any value is built: a value in memory costs up to a hundred
//! times its bytes.
//!
//! Pure. Called by `lift`, which passes everything outside of strings.

/// Most keys of all objects together. Each costs up to 700 bytes in memory.
pub(crate) const KEYS_MAX: usize = 40_000;
/// Most values of all kinds together; OpenAI's limit for token arrays of one embeddings request is 300,000.
pub(crate) const VALUES_MAX: usize = 320_000;
/// Most levels of objects and arrays inside one another.
pub(crate) const DEPTH_MAX: usize = 100;
/// Most messages of a conversation, or items of a response's input.
pub(crate) const MESSAGES_MAX: usize = 10_000;
/// Most content parts of one message.
pub(crate) const PARTS_MAX: usize = 1_000;
/// Most tools or functions of a request.
pub(crate) const TOOLS_MAX: usize = 512;

/// Largest cost of a key in memory, in bytes.
const KEY_COST: usize = 700;
/// Largest cost of a value in memory without its text, in bytes.
const VALUE_COST: usize = 100;

/// The counts of one JSON text, valid or not.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    keys: usize,
    values: usize,
    /// The objects and arrays that are open, outermost first.
    open: Vec<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    place: Place,
    /// Number of objects that began in it so far.
    objects: usize,
    /// Place of the next value, if it is an object or array.
    next: Place,
}

/// The role of an object or array, as far as it has a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Root,
    Messages(List),
    Message(List),
    Parts(List),
    Tools(List),
    Other,
}

/// The names of lists with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Messages,
    Input,
    Tools,
    Functions,
}

/// The limit that a JSON text breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShapeError {
    /// More than [`KEYS_MAX`] keys.
    #[error("The request body has more than {KEYS_MAX} keys in its objects. Send fewer or shorter messages and tools.")]
    Keys,
    /// More than [`VALUES_MAX`] values.
    #[error("The request body has more than {VALUES_MAX} values. Send it in several requests.")]
    Values,
    /// More levels than [`DEPTH_MAX`].
    #[error("The request body nests objects and arrays deeper than {DEPTH_MAX} levels.")]
    Depth,
    /// A list is longer than its limit.
    #[error("Invalid '{param}': array too long. Expected an array with maximum length {max}.")]
    List { param: String, max: usize },
}

impl Shape {
    /// Takes the next bytes outside of strings. `key` is the last string before them, without quotes, which is a key
    /// if the bytes begin with a colon.
    ///
    /// # Errors
    /// [`ShapeError`], at the byte that breaks a limit.
    pub(crate) fn outside(&mut self, bytes: &[u8], key: &[u8]) -> Result<(), ShapeError> {
        for byte in bytes {
            match byte {
                b'{' | b'[' => self.begin(*byte == b'[')?,
                b'}' | b']' => drop(self.open.pop()),
                b':' => {
                    self.keys += 1;
                    if self.keys > KEYS_MAX {
                        return Err(ShapeError::Keys);
                    }
                    if let Some(open) = self.open.last_mut() {
                        open.next = open.place.under(key);
                    }
                }
                b',' => self.count_value()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Memory cost of the parsed text without its strings, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.keys * KEY_COST + self.values * VALUE_COST
    }

    fn begin(&mut self, is_list: bool) -> Result<(), ShapeError> {
        self.count_value()?;
        if self.open.len() >= DEPTH_MAX {
            return Err(ShapeError::Depth);
        }
        if !is_list {
            self.count_object()?;
        }
        let place = match (self.open.last().map(|open| open.next), is_list) {
            (None, false) => Place::Root,
            (Some(place @ (Place::Messages(_) | Place::Parts(_) | Place::Tools(_))), true) => place,
            (Some(place @ Place::Message(_)), false) => place,
            _ => Place::Other,
        };
        let next = if let Place::Messages(list) = place { Place::Message(list) } else { Place::Other };
        self.open.push(Open { place, objects: 0, next });
        Ok(())
    }

    /// Counts an object as an element of its list.
    fn count_object(&mut self) -> Result<(), ShapeError> {
        let Some(open) = self.open.last_mut() else {
            return Ok(());
        };
        open.objects += 1;
        let (place, objects) = (open.place, open.objects);
        let (max, param) = match place {
            Place::Messages(list) if objects > MESSAGES_MAX => (MESSAGES_MAX, list.name().to_owned()),
            Place::Tools(list) if objects > TOOLS_MAX => (TOOLS_MAX, list.name().to_owned()),
            Place::Parts(list) if objects > PARTS_MAX => (PARTS_MAX, self.content_of(list)),
            _ => return Ok(()),
        };
        Err(ShapeError::List { param, max })
    }

    fn count_value(&mut self) -> Result<(), ShapeError> {
        self.values += 1;
        if self.values > VALUES_MAX { Err(ShapeError::Values) } else { Ok(()) }
    }

    /// The content of the message that is open: `messages[3].content`.
    fn content_of(&self, list: List) -> String {
        let messages = self.open.iter().find(|open| open.place == Place::Messages(list));
        let place = messages.map_or(0, |open| open.objects.saturating_sub(1));
        format!("{}[{place}].content", list.name())
    }
}

impl Place {
    /// The place of the value under a key of an object at this place.
    fn under(self, key: &[u8]) -> Self {
        match (self, key) {
            (Self::Root, b"messages") => Self::Messages(List::Messages),
            (Self::Root, b"input") => Self::Messages(List::Input),
            (Self::Root, b"tools") => Self::Tools(List::Tools),
            (Self::Root, b"functions") => Self::Tools(List::Functions),
            (Self::Message(list), b"content") => Self::Parts(list),
            _ => Self::Other,
        }
    }
}

impl List {
    fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Input => "input",
            Self::Tools => "tools",
            Self::Functions => "functions",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts a text that is cut at its quotes, as the lifter does it. No string in it may have an escape.
    fn count(json: &str) -> Result<Shape, ShapeError> {
        let mut shape = Shape::default();
        let mut key = "";
        for (place, piece) in json.split('"').enumerate() {
            if place % 2 == 0 {
                shape.outside(piece.as_bytes(), key.as_bytes())?;
            } else {
                key = piece;
            }
        }
        Ok(shape)
    }

    fn list(param: &str, max: usize) -> ShapeError {
        ShapeError::List { param: param.to_owned(), max }
    }

    fn many(element: &str, count: usize) -> String {
        vec![element; count].join(",")
    }

    #[test]
    fn lists_by_name() {
        let check = |json: &str, expected: Option<ShapeError>| {
            assert_eq!(count(json).err(), expected, "{}", json.chars().take(100).collect::<String>());
        };
        for name in ["messages", "input"] {
            let body = |count| format!(r#"{{"model":"m","{name}":[{}],"x":1}}"#, many("{}", count));
            check(&body(MESSAGES_MAX), None);
            check(&body(MESSAGES_MAX + 1), Some(list(name, MESSAGES_MAX)));
            let content =
                |count| format!(r#"{{"{name}":[{{}},{{"content":[{}]}}]}}"#, many(r#"{"type":"text"}"#, count));
            check(&content(PARTS_MAX), None);
            check(&content(PARTS_MAX + 1), Some(list(&format!("{name}[1].content"), PARTS_MAX)));
        }
        for name in ["tools", "functions"] {
            let body = |count| format!(r#"{{"{name}": [ {} ]}}"#, many("{ }", count));
            check(&body(TOOLS_MAX), None);
            check(&body(TOOLS_MAX + 1), Some(list(name, TOOLS_MAX)));
        }
        // Tokens and texts for embeddings are not messages, and lists deeper down have no limit of their own.
        check(&format!(r#"{{"input":[{}]}}"#, many("1", 50_000)), None);
        check(&format!(r#"{{"input":[{}]}}"#, many("[1]", 50_000)), None);
        check(&format!(r#"{{"x":{{"messages":[{}]}},"y":[{}]}}"#, many("{}", 15_000), many("{}", 15_000)), None);
    }

    #[test]
    fn keys_values_and_depth() {
        let keys = |count| format!("[{}]", many(r#"{"":1}"#, count));
        assert!(count(&keys(KEYS_MAX)).is_ok());
        assert_eq!(count(&keys(KEYS_MAX + 1)).unwrap_err(), ShapeError::Keys);
        assert!(count(&format!("[{}]", many("1", VALUES_MAX))).is_ok());
        for element in ["1", "\"a\"", "[]", "null"] {
            assert_eq!(count(&format!("[{}]", many(element, 2 * VALUES_MAX))).unwrap_err(), ShapeError::Values);
        }
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(count(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(count(&nested(DEPTH_MAX + 1)).unwrap_err(), ShapeError::Depth);
        assert_eq!(count(&r#"{"a":"#.repeat(DEPTH_MAX + 1)).unwrap_err(), ShapeError::Depth);
        assert!(count(&many("[[]]", 1000)).is_ok(), "what is closed is not deep");
    }

    #[test]
    fn the_largest_shape_costs_less_than_64_mib() {
        let text = format!("[{},{}]", many(r#"{"":1}"#, KEYS_MAX), many("1", VALUES_MAX - 2 * KEYS_MAX - 1));
        let cost = count(&text).unwrap().cost();
        assert!(cost <= 64 << 20, "{cost}");
    }
}

//! The frames of the web chat's event stream, read member by member.
//!
//! Members that may change their type without notice are kept as raw JSON, so that one odd member does not cost a whole
//! frame.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// One frame of the event stream, of any kind. Every key may be missing or of another type than expected.
#[derive(Debug, Default)]
pub(crate) struct StreamObject<'a> {
    /// `response.created`: the first frame of an answer.
    pub created: Option<Created<'a>>,
    /// `response.info`: a keep-alive, or the end of the thoughts.
    pub info: Option<&'a RawValue>,
    /// The generation of an answer was stopped: by this server, or by the person in the page.
    pub stopped: Option<&'a RawValue>,
    /// Pages of a search, outside of any tool's result.
    pub sources: Option<&'a RawValue>,
    /// A mark like `[DONE]`, which does not tell whether the answer is complete.
    pub done: Option<&'a RawValue>,
    /// Whether the frame had a list of choices, even an empty one.
    pub has_choices: bool,
    /// `delta` of the first choice; further choices, never seen, are skipped.
    pub delta: Option<Delta<'a>>,
    /// Id of the answer that this frame belongs to.
    pub response_id: Option<&'a RawValue>,
    /// `usage`: token counts of the answer so far.
    pub usage: Option<&'a RawValue>,
    /// A failure in the stream: a string or an object.
    pub error: Option<&'a RawValue>,
    /// `false` in an error envelope that came as a frame.
    pub success: Option<&'a RawValue>,
    /// `data` of an envelope that came as a frame.
    pub data: Option<&'a RawValue>,
    /// Error code at top level, as some frames have it.
    pub code: Option<&'a RawValue>,
    /// Error text at top level, beside `code`.
    pub details: Option<&'a RawValue>,
    /// `ret` of an answer of the risk engine.
    pub ret: Option<&'a RawValue>,
}

/// `response.created`: the ids of an answer.
#[derive(Debug, Default)]
pub(crate) struct Created<'a> {
    /// The id of the answer, needed to stop or continue it.
    pub response_id: Option<&'a RawValue>,
    /// A string; absent in older streams.
    pub response_index: Option<&'a RawValue>,
}

/// `choices[0].delta` of a frame.
#[derive(Debug, Default)]
pub(crate) struct Delta<'a> {
    /// `assistant`, or `function` for a tool's result.
    pub role: Option<&'a RawValue>,
    /// Text, or the link of a picture.
    pub content: Option<&'a RawValue>,
    /// The kind of content, such as `answer` or `thinking_summary`.
    pub phase: Option<&'a RawValue>,
    /// `typing`, or `finished` at the end of a phase.
    pub status: Option<&'a RawValue>,
    /// A call of a built-in tool.
    pub function_call: Option<&'a RawValue>,
    /// Further fields; their shape depends on the phase.
    pub extra: Option<&'a RawValue>,
}

/// `delta.extra` of the phase `thinking_summary`.
#[derive(Debug, Default)]
pub(crate) struct SummaryExtra<'a> {
    /// All titles of the round so far, as [`ContentList`].
    pub titles: Option<&'a RawValue>,
    /// All thoughts of the round so far, as [`ContentList`].
    pub thoughts: Option<&'a RawValue>,
}

/// A list inside of `extra`: `{"content": ["…"]}`.
#[derive(Debug, Default)]
pub(crate) struct ContentList<'a> {
    /// All items so far, an array of strings.
    pub content: Option<&'a RawValue>,
}

/// An object of which some members are read. Derived readers would refuse a whole frame for one member of another
/// type or for a repeated key; these skip what they do not know and let the last of two equal keys win.
trait Members<'de>: Default {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

impl<'de> Members<'de> for StreamObject<'de> {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let place = match key {
            "choices" => {
                let choice = map.next_value_seed(First(PhantomData::<Choice<'de>>))?;
                self.has_choices = true;
                self.delta = choice.and_then(|choice| choice.delta);
                return Ok(());
            }
            "response.created" => {
                self.created = map.next_value_seed(Object(PhantomData))?;
                return Ok(());
            }
            "response.info" => &mut self.info,
            "response.stopped" => &mut self.stopped,
            "sources" => &mut self.sources,
            "done" => &mut self.done,
            "response_id" => &mut self.response_id,
            "usage" => &mut self.usage,
            "error" => &mut self.error,
            "success" => &mut self.success,
            "data" => &mut self.data,
            "code" => &mut self.code,
            "details" => &mut self.details,
            "ret" => &mut self.ret,
            _ => return skip(map),
        };
        *place = map.next_value()?;
        Ok(())
    }
}

impl<'de> Members<'de> for Created<'de> {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let place = match key {
            "response_id" => &mut self.response_id,
            "response_index" => &mut self.response_index,
            _ => return skip(map),
        };
        *place = map.next_value()?;
        Ok(())
    }
}

/// An element of `choices`.
#[derive(Default)]
struct Choice<'a> {
    delta: Option<Delta<'a>>,
}

impl<'de> Members<'de> for Choice<'de> {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key == "delta" {
            self.delta = map.next_value_seed(Object(PhantomData))?;
            return Ok(());
        }
        skip(map)
    }
}

impl<'de> Members<'de> for Delta<'de> {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let place = match key {
            "role" => &mut self.role,
            "content" => &mut self.content,
            "phase" => &mut self.phase,
            "status" => &mut self.status,
            "function_call" => &mut self.function_call,
            "extra" => &mut self.extra,
            _ => return skip(map),
        };
        *place = map.next_value()?;
        Ok(())
    }
}

impl<'de> Members<'de> for SummaryExtra<'de> {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let place = match key {
            "summary_title" => &mut self.titles,
            "summary_thought" => &mut self.thoughts,
            _ => return skip(map),
        };
        *place = map.next_value()?;
        Ok(())
    }
}

impl<'de> Members<'de> for ContentList<'de> {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key == "content" {
            self.content = map.next_value()?;
            return Ok(());
        }
        skip(map)
    }
}

fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

macro_rules! deserialize_members {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Object(PhantomData).deserialize(deserializer)?.unwrap_or_default())
            }
        }
    )*};
}

deserialize_members!(StreamObject, SummaryExtra, ContentList);

/// Reads any value; `Some` only for an object.
struct Object<T>(PhantomData<T>);

/// Reads any value; of a list the first element counts, if it is an object, and an object counts as a list of one.
struct First<T>(PhantomData<T>);

macro_rules! nothing_else {
    () => {
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("JSON")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(None)
        }
    };
}

impl<'de, T: Members<'de>> DeserializeSeed<'de> for Object<T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Members<'de>> Visitor<'de> for Object<T> {
    type Value = Option<T>;

    nothing_else!();

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = T::default();
        while let Some(key) = map.next_key::<Key<'de>>()? {
            object.member(&key.0, &mut map)?;
        }
        Ok(Some(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl<'de, T: Members<'de>> DeserializeSeed<'de> for First<T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Members<'de>> Visitor<'de> for First<T> {
    type Value = Option<T>;

    nothing_else!();

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Object(PhantomData).visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let first = seq.next_element_seed(Object(PhantomData))?.flatten();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }
}

/// A key, borrowed unless it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

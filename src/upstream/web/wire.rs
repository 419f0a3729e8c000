//! The shapes of chat.qwen.ai's web API, late 2026. Names are the upstream's.
//!
//! Whatever may change its type without notice is kept as raw JSON, so that one odd field does not cost a whole
//! frame.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Body of `POST /api/v2/chats/new`.
#[derive(Debug, Serialize)]
pub struct NewChat<'a> {
    /// Empty for a new chat.
    #[serde(rename = "chatId")]
    pub chat_id: &'a str,
    /// Always `New Chat`; the upstream finds a title by itself.
    pub title: &'a str,
    /// The one model of the chat.
    pub models: [&'a str; 1],
    /// Empty: no project.
    pub project_id: &'a str,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The same word as in the message that follows.
    pub chat_type: &'a str,
    /// `normal`.
    pub chat_mode: &'a str,
}

/// Body of `POST /api/v2/chat/completions`: exactly one message.
#[derive(Debug, Serialize)]
pub struct ChatPayload<'a> {
    /// True for everything but videos.
    pub stream: bool,
    /// `2.1`.
    pub version: &'a str,
    /// Always true.
    pub incremental_output: bool,
    /// The chat, as newer frontends spell it.
    #[serde(rename = "chatId")]
    pub chat_id_camel: &'a str,
    /// The chat; the upstream refuses a body without it.
    pub chat_id: &'a str,
    /// Empty on a first turn.
    #[serde(rename = "parentId")]
    pub parent_id_camel: &'a str,
    /// Null on a first turn, else the `response_id` of the answer before.
    pub parent_id: Option<&'a str>,
    /// `normal`.
    pub chat_mode: &'a str,
    /// The upstream's model id.
    pub model: &'a str,
    /// One message, never more.
    pub messages: [ChatMessage<'a>; 1],
    /// Seconds since 1970.
    pub timestamp: i64,
    /// The ratio of a picture or a video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<&'a str>,
}

/// The one message of a [`ChatPayload`].
#[derive(Debug, Serialize)]
pub struct ChatMessage<'a> {
    /// Null; the upstream gives its own id.
    pub id: Option<&'a str>,
    /// A fresh UUID.
    pub fid: &'a str,
    /// As in the payload.
    #[serde(rename = "parentId")]
    pub parent_id_camel: Option<&'a str>,
    /// As in the payload.
    pub parent_id: Option<&'a str>,
    /// One fresh UUID for the answer to come.
    #[serde(rename = "childrenIds")]
    pub children_ids: [&'a str; 1],
    /// `user`; a system role is not honoured.
    pub role: &'a str,
    /// The prompt.
    pub content: &'a str,
    /// `chat`.
    pub user_action: &'a str,
    /// Uploaded files.
    pub files: Vec<FileEntry<'a>>,
    /// Seconds since 1970.
    pub timestamp: i64,
    /// The one model.
    pub models: [&'a str; 1],
    /// Empty.
    pub model: &'a str,
    /// `t2t`, `search`, `t2i`, `image_edit`, `t2v` or `i2v`.
    pub chat_type: &'a str,
    /// The same.
    pub sub_chat_type: &'a str,
    /// Thinking and search.
    pub feature_config: FeatureConfig,
    /// Repeats the chat type.
    pub extra: MessageExtra<'a>,
}

/// An entry of `files`: of a file that this account uploaded, or, with the first group of fields alone, of a link
/// that the upstream gave out.
#[derive(Debug, Serialize)]
pub struct FileEntry<'a> {
    /// `image`, `video`, `audio` or `file`.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The file's name.
    pub name: &'a str,
    /// Its media type.
    pub file_type: &'a str,
    /// The same word as `type`.
    #[serde(rename = "showType")]
    pub show_type: &'a str,
    /// `vision`, `video`, `audio` or `document`.
    pub file_class: &'a str,
    /// `uploaded`.
    pub status: &'a str,
    /// Where the upstream finds it, query included.
    pub url: &'a str,
    /// What only uploads have.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub upload: Option<FileUpload<'a>>,
}

/// The part of a [`FileEntry`] that tells of an upload.
#[derive(Debug, Serialize)]
pub struct FileUpload<'a> {
    /// The file once more, as the site's page keeps it.
    pub file: FileRecord<'a>,
    /// The upstream's id.
    pub id: &'a str,
    /// Empty.
    pub collection_name: &'a str,
    /// 0 even when it is done.
    pub progress: u8,
    /// `success`.
    #[serde(rename = "greenNet")]
    pub green_net: &'a str,
    /// Bytes.
    pub size: u64,
    /// Empty.
    pub error: &'a str,
    /// A fresh UUID.
    #[serde(rename = "itemId")]
    pub item_id: &'a str,
    /// A fresh UUID.
    #[serde(rename = "uploadTaskId")]
    pub upload_task_id: &'a str,
}

/// `file` of a [`FileUpload`].
#[derive(Debug, Serialize)]
pub struct FileRecord<'a> {
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// `{}`.
    pub data: Empty,
    /// The name.
    pub filename: &'a str,
    /// Null.
    pub hash: Option<&'a str>,
    /// The upstream's id.
    pub id: &'a str,
    /// Absent for a guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a str>,
    /// Name, size and type.
    pub meta: FileMeta<'a>,
    /// Milliseconds since 1970; the page spells it so.
    pub update_at: i64,
    /// What only documents have.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentRecord<'a>>,
}

/// An empty object.
#[derive(Debug, Serialize)]
pub struct Empty {}

/// `meta` of a [`FileRecord`].
#[derive(Debug, Serialize)]
pub struct FileMeta<'a> {
    /// The name.
    pub name: &'a str,
    /// Bytes.
    pub size: u64,
    /// The media type.
    pub content_type: &'a str,
    /// For documents, which the upstream reads beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parse_meta: Option<ParseMeta<'a>>,
}

/// `parse_meta` of a [`FileMeta`].
#[derive(Debug, Serialize)]
pub struct ParseMeta<'a> {
    /// `success`.
    pub parse_status: &'a str,
}

/// What a browser knows of a file, for documents.
#[derive(Debug, Serialize)]
pub struct DocumentRecord<'a> {
    /// Milliseconds since 1970.
    #[serde(rename = "lastModified")]
    pub last_modified: i64,
    /// The name.
    pub name: &'a str,
    /// Empty.
    #[serde(rename = "webkitRelativePath")]
    pub webkit_relative_path: &'a str,
    /// Bytes.
    pub size: u64,
    /// The media type.
    #[serde(rename = "type")]
    pub kind: &'a str,
}

/// `feature_config` of a message.
#[derive(Debug, Serialize)]
pub struct FeatureConfig {
    /// Whether the model thinks.
    pub thinking_enabled: bool,
    /// `phase`: without it the deltas carry no phase.
    pub output_schema: &'static str,
    /// `normal`.
    pub research_mode: &'static str,
    /// Whether the model may decide by itself.
    pub auto_thinking: bool,
    /// `Thinking`, `Auto` or `Fast`.
    pub thinking_mode: &'static str,
    /// `summary`; absent when thinking is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_format: Option<&'static str>,
    /// Tokens to think with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<u32>,
    /// Whether the model may search by itself.
    pub auto_search: bool,
}

/// `extra` of a message.
#[derive(Debug, Serialize)]
pub struct MessageExtra<'a> {
    /// See [`MessageMeta`].
    pub meta: MessageMeta<'a>,
}

/// `extra.meta` of a message.
#[derive(Debug, Serialize)]
pub struct MessageMeta<'a> {
    /// The chat type once more.
    #[serde(rename = "subChatType")]
    pub sub_chat_type: &'a str,
    /// The ratio once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<&'a str>,
}

/// One frame of the event stream, of any kind. Every key may be missing or of another type than expected.
#[derive(Debug, Default)]
pub struct StreamObject<'a> {
    /// First frame of an answer.
    pub created: Option<Created<'a>>,
    /// Keep-alive, or the end of the thoughts.
    pub info: Option<&'a RawValue>,
    /// The generation of an answer was stopped: by this server, or by the person in the page.
    pub stopped: Option<&'a RawValue>,
    /// Sources outside of any tool.
    pub sources: Option<&'a RawValue>,
    /// A mark like `[DONE]`, which says nothing about completeness.
    pub done: Option<&'a RawValue>,
    /// There was a list of choices, be it empty.
    pub has_choices: bool,
    /// The delta of the one choice; further choices, never seen, are skipped.
    pub delta: Option<Delta<'a>>,
    /// Whose answer this frame belongs to.
    pub response_id: Option<&'a RawValue>,
    /// Counts so far.
    pub usage: Option<&'a RawValue>,
    /// A failure in the stream: a string or an object.
    pub error: Option<&'a RawValue>,
    /// `false` in an error envelope that came as a frame.
    pub success: Option<&'a RawValue>,
    /// The envelope's content.
    pub data: Option<&'a RawValue>,
    /// Error code at top level, as some frames have it.
    pub code: Option<&'a RawValue>,
    /// Error text at top level.
    pub details: Option<&'a RawValue>,
    /// The risk engine's answer.
    pub ret: Option<&'a RawValue>,
}

/// `response.created`.
#[derive(Debug, Default)]
pub struct Created<'a> {
    /// The id of the assistant's message.
    pub response_id: Option<&'a RawValue>,
    /// A string; absent in older streams.
    pub response_index: Option<&'a RawValue>,
}

/// `choices[0].delta`.
#[derive(Debug, Default)]
pub struct Delta<'a> {
    /// `assistant`, or `function` for a tool's result.
    pub role: Option<&'a RawValue>,
    /// Text, or the link of a picture.
    pub content: Option<&'a RawValue>,
    /// What kind of content this is.
    pub phase: Option<&'a RawValue>,
    /// `typing` or `finished`.
    pub status: Option<&'a RawValue>,
    /// A call of a built-in tool.
    pub function_call: Option<&'a RawValue>,
    /// Depends on the phase.
    pub extra: Option<&'a RawValue>,
}

/// `delta.extra` of the phase `thinking_summary`.
#[derive(Debug, Default)]
pub struct SummaryExtra<'a> {
    /// Titles, cumulative.
    pub titles: Option<&'a RawValue>,
    /// Thoughts, cumulative.
    pub thoughts: Option<&'a RawValue>,
}

/// `{"content": ["…"]}`.
#[derive(Debug, Default)]
pub struct ContentList<'a> {
    /// The items so far.
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

/// Any value; it counts only when it is an object.
struct Object<T>(PhantomData<T>);

/// Any value; of a list the first element counts, if it is an object, and an object counts as a list of one.
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

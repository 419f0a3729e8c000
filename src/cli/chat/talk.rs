//! A conversation as it is sent: messages, files for the next question, the model.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::chat::suffix::{ModelSpec, Product};
use crate::cli::chat::error::ChatError;
use crate::cli::terminal::bytes_in_words;
use crate::files::media_type::{MediaKind, MediaType};

/// The largest file that is read, in bytes. The server has a limit of its own for a whole body, `MAX_BODY`.
const FILE_BYTES_MAX: u64 = 500 * 1024 * 1024;

/// A conversation, ready to be sent.
#[derive(Default)]
pub(crate) struct Talk {
    /// The model; `None` for the server's own choice.
    pub(crate) model: Option<String>,
    messages: Vec<Value>,
    /// Parts that go with the next question, each with the name of its file.
    files: Vec<(String, Value)>,
}

impl Talk {
    /// A conversation that begins, with this model.
    pub(crate) fn with(model: Option<String>) -> Self {
        Self { model, ..Self::default() }
    }

    /// Attaches a file to the next question. Gives its kind and size, for people.
    ///
    /// # Errors
    /// [`ChatError::File`], [`ChatError::TooLarge`].
    pub(crate) fn attach(&mut self, path: &str) -> Result<String, ChatError> {
        let failed = |error| ChatError::File(path.to_owned(), error);
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        let size = bytes_in_words(bytes.len() as u64);
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(ChatError::TooLarge(path.to_owned(), size, bytes_in_words(FILE_BYTES_MAX)));
        }
        let name = Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy()).into_owned();
        let (kind, part) = part(&name, &bytes);
        self.files.push((name, part));
        Ok(format!("{} of {size}", kind.noun()))
    }

    /// Takes all attached files off. Gives how many there were.
    pub(crate) fn detach(&mut self) -> usize {
        std::mem::take(&mut self.files).len()
    }

    /// The names of the attached files.
    pub(crate) fn attached(&self) -> Vec<&str> {
        self.files.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Clears messages and attached files; the model stays.
    pub(crate) fn begin_anew(&mut self) {
        self.messages.clear();
        self.files.clear();
    }

    /// The body for this question, with the attached files and the earlier messages.
    pub(crate) fn body(&self, question: &str) -> Bytes {
        let mut messages = self.messages.clone();
        messages.push(self.message(question));
        let mut body = json!({
            "messages": messages, "stream": true, "stream_options": {"include_usage": true},
        });
        if let (Some(model), Value::Object(fields)) = (&self.model, &mut body) {
            fields.insert("model".to_owned(), model.as_str().into());
        }
        body.to_string().into()
    }

    /// The question was answered, at least in part: both stay in the conversation, and the files went with it.
    pub(crate) fn said(&mut self, question: &str, answer: &str) {
        let message = self.message(question);
        self.files.clear();
        self.messages.push(message);
        self.messages.push(json!({"role": "assistant", "content": answer}));
    }

    /// The product in place of text, as far as the model's name tells.
    pub(crate) fn product(&self) -> Option<Product> {
        ModelSpec::parse(self.model.as_deref()?, |_| false).product
    }

    fn message(&self, question: &str) -> Value {
        if self.files.is_empty() {
            return json!({"role": "user", "content": question});
        }
        let text = (!question.is_empty()).then(|| json!({"type": "text", "text": question}));
        let parts: Vec<Value> = self.files.iter().map(|(_, part)| part.clone()).chain(text).collect();
        json!({"role": "user", "content": parts})
    }
}

/// The part of a message that carries a file, in the form that OpenAI's clients use for its kind. The bytes decide what
/// it is; what is not known goes as a document, and the server says what it takes.
fn part(name: &str, bytes: &[u8]) -> (MediaKind, Value) {
    let found = MediaType::of_bytes(bytes.get(..8192).unwrap_or(bytes), name);
    let kind = found.as_ref().map_or(MediaKind::Document, |found| found.kind);
    let essence = found.as_ref().map_or("application/octet-stream", |found| &found.essence);
    let encoded = STANDARD.encode(bytes);
    let part = match kind {
        MediaKind::Image => {
            json!({"type": "image_url", "image_url": {"url": format!("data:{essence};base64,{encoded}")}})
        }
        MediaKind::Video => {
            json!({"type": "video_url", "video_url": {"url": format!("data:{essence};base64,{encoded}")}})
        }
        MediaKind::Audio => {
            let format = found.as_ref().map_or("", |found| &found.extension);
            json!({"type": "input_audio", "input_audio": {"data": encoded, "format": format}})
        }
        MediaKind::Document => {
            json!({"type": "file", "file": {"filename": name, "file_data": format!("data:{essence};base64,{encoded}")}})
        }
    };
    (kind, part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(talk: &Talk, question: &str) -> Value {
        serde_json::from_slice(&talk.body(question)).unwrap()
    }

    #[test]
    fn a_conversation_is_sent_whole_and_files_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("note.txt");
        std::fs::write(&file, "the note").unwrap();
        let mut talk = Talk::default();
        assert_eq!(sent(&talk, "a")["messages"], json!([{"role": "user", "content": "a"}]));
        assert!(sent(&talk, "a").get("model").is_none(), "the server chooses");
        talk.model = Some("m".to_owned());
        assert!(talk.attach(file.to_str().unwrap()).unwrap().ends_with("8 bytes"));
        assert_eq!(talk.attached(), ["note.txt"]);
        let body = sent(&talk, "a");
        assert_eq!(body["model"], "m");
        assert_eq!(body["messages"][0]["content"][0]["file"]["filename"], "note.txt");
        assert_eq!(body["messages"][0]["content"][1], json!({"type": "text", "text": "a"}));
        talk.said("a", "b");
        let body = sent(&talk, "c");
        assert_eq!(body["messages"].as_array().unwrap().len(), 3);
        assert_eq!(body["messages"][2], json!({"role": "user", "content": "c"}));
        talk.begin_anew();
        assert_eq!(sent(&talk, "d")["messages"].as_array().unwrap().len(), 1);
        assert!(matches!(talk.attach("/no/such/file"), Err(ChatError::File(..))));
    }

    #[test]
    fn the_bytes_decide_in_which_part_a_file_goes() {
        let (_, picture) = part("odd.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
        assert!(picture["image_url"]["url"].as_str().unwrap().starts_with("data:image/png;base64,"), "{picture}");
        let (_, sound) = part("a.mp3", b"ID3\x04\0\0\0\0\0\0");
        assert_eq!(sound["input_audio"]["format"], "mp3", "{sound}");
        let (_, text) = part("main.rs", b"fn main() {}");
        assert_eq!(text["file"]["filename"], "main.rs", "{text}");
    }

    #[test]
    fn the_name_of_a_model_tells_what_it_makes() {
        for (model, product) in [
            (Some("qwen3-max"), None),
            (Some("qwen3-max-image"), Some(Product::Image)),
            (Some("web/qwen3-max-video"), Some(Product::Video)),
            (None, None),
        ] {
            let talk = Talk::with(model.map(str::to_owned));
            assert_eq!(talk.product(), product, "{model:?}");
        }
    }
}

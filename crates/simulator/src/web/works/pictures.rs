//! Chat types `t2i` and `image_edit`: frames that carry links.

use serde_json::{Value, json};

use crate::script::{Content, PictureForm, PictureScript, StreamScript, UsageScript};
use crate::web::stream::frames::Voice;
use crate::web::stream::python::python;
use crate::web::stream::speech::small_pieces;
use crate::web::stream::usage::Usage;
use crate::web::works::media::Picture;

/// Text and `content_list` that the chat stores for pictures.
pub(crate) struct Remembered {
    pub(crate) content: String,
    pub(crate) parts: Value,
}

/// The frames of pictures, from the first to the finished one.
pub(crate) fn frames(
    script: &PictureScript,
    stream: &StreamScript,
    voice: &Voice,
    pictures: &[Picture],
) -> Vec<String> {
    let mut frames = vec![voice.created()];
    if stream.content != Content::Whole {
        return frames;
    }
    frames.extend((0..script.keep_alives).map(|_| voice.keep_alive()));
    let shown = if script.lost { &[] } else { pictures };
    let usage = Usage::from(UsageScript {
        input_tokens: 40,
        output_tokens: 20,
        reasoning_tokens: 0,
        cached_tokens: 0,
        image_tokens: 0,
    });
    let said = |frames: &mut Vec<String>, text: &str| {
        frames.extend(small_pieces(text).iter().map(|piece| voice.text("answer", piece, usage)));
        frames.push(voice.finished("answer"));
    };
    match script.form {
        PictureForm::ImageGen => {
            frames.extend(shown.iter().map(|picture| voice.picture(&picture.url, picture.size)));
            frames.push(voice.finished("image_gen"));
        }
        PictureForm::EditTool => {
            let id = "round_0_call_0badca11";
            let arguments = python(&json!({ "prompt": "simulated" }));
            frames.push(voice.call("image_edit_tool", &arguments, id, usage));
            let urls: Vec<_> = shown.iter().map(|picture| picture.url.as_str()).collect();
            frames.push(voice.edited(&urls, id));
            said(&mut frames, stream.answer.as_deref().unwrap_or_default());
        }
        PictureForm::Answer => {
            let urls: Vec<_> = shown.iter().map(|picture| picture.url.as_str()).collect();
            said(&mut frames, &urls.join("\n"));
        }
        PictureForm::Text => said(&mut frames, stream.answer.as_deref().unwrap_or_default()),
    }
    frames
}

/// The text and parts that the chat stores.
pub(crate) fn remembered(script: &PictureScript, stream: &StreamScript, pictures: &[Picture]) -> Remembered {
    if script.form == PictureForm::Text {
        let content = stream.answer.clone().unwrap_or_default();
        let parts = json!([part("answer", &content, &Value::Null)]);
        return Remembered { content, parts };
    }
    let urls: Vec<_> = pictures.iter().map(|picture| picture.url.as_str()).collect();
    let parts = pictures.iter().map(|picture| match script.form {
        PictureForm::EditTool => part("image_edit_tool", "", &json!({ "image_list": [{ "image": picture.url }] })),
        PictureForm::Answer => part("answer", &picture.url, &Value::Null),
        PictureForm::ImageGen | PictureForm::Text => {
            part("image_gen", &picture.url, &json!({ "output_image_hw": [[picture.size.height, picture.size.width]] }))
        }
    });
    Remembered { content: urls.join("\n"), parts: Value::Array(parts.collect()) }
}

/// The number of pictures that a prompt asks for: `two pictures`, `3 more images`; one if it does not say.
pub(crate) fn count_in(prompt: &str) -> usize {
    let prompt = prompt.to_lowercase();
    let words: Vec<_> =
        prompt.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let is_picture = |word: &&str| ["picture", "image", "photo"].iter().any(|noun| word.starts_with(noun));
    let asked = words.iter().enumerate().find_map(|(place, word)| {
        let named = NUMBERS.iter().position(|number| number == word);
        let count = named.or_else(|| word.parse().ok()).filter(|count| (1..=9).contains(count))?;
        words.iter().skip(place + 1).take(3).any(is_picture).then_some(count)
    });
    asked.unwrap_or(1)
}

fn part(phase: &str, content: &str, extra: &Value) -> Value {
    json!({
        "phase": phase, "content": content, "status": "finished", "role": "assistant", "extra": extra, "usage": {},
    })
}

const NUMBERS: &[&str] = &["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_say_how_many() {
        for (prompt, count) in [
            ("A lighthouse", 1),
            ("Two pictures of a lighthouse", 2),
            ("draw 3 small red images", 3),
            ("one image, two boats", 1),
            ("12 photos", 1),
        ] {
            assert_eq!(count_in(prompt), count, "{prompt}");
        }
    }
}

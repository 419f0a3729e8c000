//! Scripted replies, for any endpoint.
//!
//! Plain data: read from a scenario file, or built in Rust; the endpoints obey it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::errors::oss_error_xml;
use crate::script::api::{ApiFailure, ChatScript};
use crate::script::media::{
    GrantScript, ParseEnd, ParseScript, PictureForm, PictureScript, PutScript, PutStop, VideoEnd, VideoScript,
};
use crate::script::oauth::{DeviceScript, OAuthFailure, TokenScript};
use crate::script::research::ResearchScript;
use crate::script::stream::{Bench, Cut, CutHow, End, Insert, Inserted, Packets, Pause, StreamError, StreamScript};
use crate::script::tools::ToolScript;

/// One scripted reply. Everything left out is as an ordinary call would have it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptedReply {
    /// Milliseconds before the first byte of the answer's head. Left out: 0.
    pub delay_ms: u64,
    /// Headers of the answer by name; each replaces the ordinary header of the same name.
    pub headers: BTreeMap<String, String>,
    /// Failure in place of the ordinary answer.
    pub fail: Option<ScriptedFailure>,
    /// How a completion streams; refused at other endpoints.
    pub stream: StreamScript,
    /// The tool calls that a completion of the web chat writes in place of its answer.
    pub tools: Option<ToolScript>,
    /// The pictures of a completion of chat type `t2i` or `image_edit`.
    pub picture: PictureScript,
    /// The video of a completion of chat type `t2v` or `i2v`.
    pub video: VideoScript,
    /// The course of a completion of chat type `deep_research`.
    pub research: ResearchScript,
    /// Lifetimes of upload credentials and links, at `sts` and `sts_v1`.
    pub grant: GrantScript,
    /// Where an upload stops, at `oss_put`.
    pub put: Option<PutScript>,
    /// How a file is parsed, at `file_parse`.
    pub parse: ParseScript,
    /// The course of a device login, at `device_code`.
    pub device: DeviceScript,
    /// Lifetime, rotation and delivery of tokens, at `device_token` and `refresh_token`.
    pub token: TokenScript,
    /// Tool calls, chunk fields, usage and end of the answer, at `portal_chat` and `key_chat`.
    pub chat: ChatScript,
}

/// The failures that can take the place of an ordinary answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScriptedFailure {
    /// An error envelope with HTTP 200; given only to a call that would otherwise have been served.
    Error(ErrorScript),
    /// A real HTTP status, as the edge gives it: before anything of the request is looked at.
    Status(StatusScript),
    /// A page or body of the risk engine.
    Challenge(Challenge),
    /// A 302 to this URL.
    Redirect(String),
    /// The connection is reset before the first byte.
    Reset,
    /// The head of a success, then no byte until the client closes the connection.
    Silence,
    /// An arbitrary status, content type and body.
    Raw(RawScript),
    /// A refusal of the OAuth endpoints; given only to a call that would otherwise have been served.
    #[serde(rename = "oauth")]
    OAuth(OAuthFailure),
    /// An error of the portal or the key endpoint; given only to a call that would otherwise have been served.
    Api(ApiFailure),
}

impl ScriptedFailure {
    /// Whether the edge gives this failure, before the request is read.
    pub(crate) fn is_of_the_edge(&self) -> bool {
        !matches!(self, Self::Error(_) | Self::OAuth(_) | Self::Api(_) | Self::Silence)
    }
}

/// An error envelope of the v2 API: `{"success":false,"request_id":…,"data":{"code":…,"details":…}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorScript {
    /// `code` of the envelope, such as `RateLimited` or `Bad_Request`.
    pub code: String,
    /// `details` of the envelope. Left out: the usual text of the code.
    pub details: Option<String>,
    /// `num`: hours to wait, of `RateLimited`. Left out: the envelope has none.
    pub num: Option<u64>,
    /// `template`: text with `{{num}}`, of `RateLimited`. Left out: the usual one, if there is a `num`.
    pub template: Option<String>,
    /// `x-actual-status-code` of the answer. Left out: the usual one of the code.
    pub effective_status: Option<u16>,
    /// Puts `code` and `details` beside `success`, not inside `data`.
    #[serde(default)]
    pub top_level: bool,
}

/// A real HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusScript {
    /// HTTP status of the answer, such as 401, 403, 429 or 500.
    pub code: u16,
    /// `Retry-After` values, one header each; any text.
    #[serde(default)]
    pub retry_after: Vec<String>,
    /// Form of the body. Left out: [`BodyForm::Json`].
    #[serde(default)]
    pub body: BodyForm,
    /// The text of the body; left out: a short one that fits the form.
    pub text: Option<String>,
}

/// The form of an error's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyForm {
    /// JSON: `{"detail":"…"}` with the reason phrase of the status.
    #[default]
    Json,
    /// One line of text.
    Plain,
    /// An HTML page that names the status.
    Html,
    /// No body at all.
    Empty,
}

/// A challenge of the risk engine in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// Whether the challenge is JSON or an HTML page.
    pub form: ChallengeForm,
    /// HTTP status: the real risk engine uses 200, 403 and 405. Left out: 200.
    #[serde(default = "ok_status")]
    pub status: u16,
}

/// The form of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeForm {
    /// JSON: `{"ret":["FAIL_SYS_USER_VALIDATE",…],"data":{"url":…}}`, the URL leading to a captcha.
    Json,
    /// An HTML page with a slider.
    Html,
}

/// An arbitrary answer, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawScript {
    /// HTTP status of the answer. Left out: 200.
    #[serde(default = "ok_status")]
    pub status: u16,
    /// `Content-Type` of the answer.
    pub content_type: String,
    /// Body of the answer as text, or as base64 if [`Self::base64`].
    pub body: String,
    /// Whether `body` is base64 and sent decoded.
    #[serde(default)]
    pub base64: bool,
}

fn ok_status() -> u16 {
    200
}

impl ScriptedReply {
    /// A stream whose answer is this text, cut into small pieces.
    #[must_use]
    pub fn answer(text: &str) -> Self {
        Self::streaming(|stream| stream.answer = Some(text.to_owned()))
    }

    /// A stream with an answer in exactly these pieces.
    #[must_use]
    pub fn pieces<T: Into<String>>(pieces: impl IntoIterator<Item = T>) -> Self {
        let pieces = pieces.into_iter().map(Into::into).collect();
        Self::streaming(|stream| stream.pieces = Some(pieces))
    }

    /// A stream whose pieces are `⟨attempt:0⟩`, `⟨attempt:1⟩`, …
    #[must_use]
    pub fn numbered(pieces: usize) -> Self {
        Self::streaming(|stream| stream.numbered = Some(pieces))
    }

    /// A stream of many equal frames.
    #[must_use]
    pub fn bench(bench: Bench) -> Self {
        Self::streaming(|stream| stream.bench = Some(bench))
    }

    /// A stream described by hand.
    #[must_use]
    pub fn streaming(describe: impl FnOnce(&mut StreamScript)) -> Self {
        Self::default().with_stream(describe)
    }

    /// This reply with changes to its stream.
    #[must_use]
    pub fn with_stream(mut self, describe: impl FnOnce(&mut StreamScript)) -> Self {
        describe(&mut self.stream);
        self
    }

    /// A completion of chat type `deep_research` with this course.
    #[must_use]
    pub fn researching(research: ResearchScript) -> Self {
        Self { research, ..Self::default() }
    }

    /// An answer that calls tools.
    #[must_use]
    pub fn calling(tools: ToolScript) -> Self {
        Self { tools: Some(tools), ..Self::default() }
    }

    /// An error envelope with the text and effective status that go with the code.
    #[must_use]
    pub fn error(code: &str) -> Self {
        Self::error_with(ErrorScript { code: code.to_owned(), ..ErrorScript::default() })
    }

    /// An error envelope with these fields.
    #[must_use]
    pub fn error_with(error: ErrorScript) -> Self {
        Self::failing(ScriptedFailure::Error(error))
    }

    /// A real HTTP status with a JSON body.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self::failing(ScriptedFailure::Status(StatusScript {
            code,
            retry_after: Vec::new(),
            body: BodyForm::Json,
            text: None,
        }))
    }

    /// A challenge of the risk engine.
    #[must_use]
    pub fn challenge(form: ChallengeForm, status: u16) -> Self {
        Self::failing(ScriptedFailure::Challenge(Challenge { form, status }))
    }

    /// An error of the object storage, at `oss_put` and `oss_get`: XML with this code.
    #[must_use]
    pub fn oss_error(status: u16, code: &str) -> Self {
        Self::failing(ScriptedFailure::Raw(RawScript {
            status,
            content_type: "application/xml".to_owned(),
            body: oss_error_xml(code, "As the script wants it."),
            base64: false,
        }))
    }

    /// An upload that stops after `after_bytes` bytes, at `oss_put`.
    #[must_use]
    pub fn put_stopping(after_bytes: u64, how: PutStop) -> Self {
        Self { put: Some(PutScript { after_bytes, how }), ..Self::default() }
    }

    /// Upload credentials and a signed link with these lifetimes in whole seconds, at `sts`.
    #[must_use]
    pub fn granting(grant: Duration, link: Duration) -> Self {
        let grant = GrantScript { grant_seconds: grant.as_secs(), link_seconds: link.as_secs() };
        Self { grant, ..Self::default() }
    }

    /// A document whose parsing ends in this state, at `file_parse`.
    #[must_use]
    pub fn parsing(end: ParseEnd) -> Self {
        Self { parse: ParseScript { end, ..ParseScript::default() }, ..Self::default() }
    }

    /// This number of pictures, regardless of the prompt.
    #[must_use]
    pub fn pictures(count: usize) -> Self {
        Self::default().with_picture(|picture| picture.count = Some(count))
    }

    /// Pictures carried in this form.
    #[must_use]
    pub fn pictures_as(form: PictureForm) -> Self {
        Self::default().with_picture(|picture| picture.form = form)
    }

    /// This text in place of a picture, as when the model declines.
    #[must_use]
    pub fn no_picture_but(text: &str) -> Self {
        Self::answer(text).with_picture(|picture| picture.form = PictureForm::Text)
    }

    /// This reply with changes to its pictures.
    #[must_use]
    pub fn with_picture(mut self, describe: impl FnOnce(&mut PictureScript)) -> Self {
        describe(&mut self.picture);
        self
    }

    /// A video whose making ends in this state.
    #[must_use]
    pub fn video(end: VideoEnd) -> Self {
        Self::default().with_video(|video| video.end = end)
    }

    /// This reply with changes to its video.
    #[must_use]
    pub fn with_video(mut self, describe: impl FnOnce(&mut VideoScript)) -> Self {
        describe(&mut self.video);
        self
    }

    /// A device login, at `device_code`.
    #[must_use]
    pub fn device(describe: impl FnOnce(&mut DeviceScript)) -> Self {
        let mut reply = Self::default();
        describe(&mut reply.device);
        reply
    }

    /// The token answer described by hand, at `device_token` and `refresh_token`.
    #[must_use]
    pub fn token(describe: impl FnOnce(&mut TokenScript)) -> Self {
        let mut reply = Self::default();
        describe(&mut reply.token);
        reply
    }

    /// A refusal of the OAuth endpoints.
    #[must_use]
    pub fn oauth(failure: OAuthFailure) -> Self {
        Self::failing(ScriptedFailure::OAuth(failure))
    }

    /// An error of the portal or of the key endpoint.
    #[must_use]
    pub fn api(failure: ApiFailure) -> Self {
        Self::failing(ScriptedFailure::Api(failure))
    }

    /// This reply with changes to its [`ChatScript`].
    #[must_use]
    pub fn with_chat(mut self, describe: impl FnOnce(&mut ChatScript)) -> Self {
        describe(&mut self.chat);
        self
    }

    /// A reply that is this failure.
    #[must_use]
    pub fn failing(failure: ScriptedFailure) -> Self {
        Self { fail: Some(failure), ..Self::default() }
    }

    /// This reply with its head delayed by this time.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay_ms = millis(delay);
        self
    }

    /// This reply with this wait between its packets.
    #[must_use]
    pub fn paced(self, pace: Duration) -> Self {
        self.with_stream(|stream| stream.pace_ms = Some(millis(pace)))
    }

    /// This reply with an additional wait after `after` frames.
    #[must_use]
    pub fn pausing(self, after: usize, pause: Duration) -> Self {
        let ms = millis(pause);
        self.with_stream(|stream| stream.pauses.push(Pause { after, ms }))
    }

    /// This reply with these rounds of thought, each a list of (title, thought).
    #[must_use]
    pub fn reasoning(self, rounds: &[&[(&str, &str)]]) -> Self {
        let own = |(title, thought): &(&str, &str)| ((*title).to_owned(), (*thought).to_owned());
        let rounds = rounds.iter().map(|round| round.iter().map(own).collect()).collect();
        self.with_stream(|stream| stream.reasoning = Some(rounds))
    }

    /// This reply, torn after `at_byte` bytes of the body.
    #[must_use]
    pub fn cut_at_byte(self, at_byte: usize, how: CutHow) -> Self {
        self.with_stream(|stream| {
            stream.cut = Some(Cut { at_byte: Some(at_byte), after: None, how });
        })
    }

    /// This reply, torn after this number of frames.
    #[must_use]
    pub fn cut_after(self, frames: usize, how: CutHow) -> Self {
        self.with_stream(|stream| {
            stream.cut = Some(Cut { at_byte: None, after: Some(frames), how });
        })
    }

    /// This reply with another end.
    #[must_use]
    pub fn ending(self, end: End) -> Self {
        self.with_stream(|stream| stream.end = end)
    }

    /// This reply in other packets.
    #[must_use]
    pub fn packets(self, packets: Packets) -> Self {
        self.with_stream(|stream| stream.packets = packets)
    }

    /// This reply with `what` inserted after `after` frames.
    #[must_use]
    pub fn inserting(self, after: usize, what: Inserted) -> Self {
        self.with_stream(|stream| stream.inserts.push(Insert { after, what }))
    }

    /// This reply, broken off by an error frame.
    #[must_use]
    pub fn breaking(self, error: StreamError) -> Self {
        self.with_stream(|stream| stream.error = Some(error))
    }

    /// This reply with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

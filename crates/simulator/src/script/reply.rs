//! What a script can make the simulator answer, at any endpoint.
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
    /// How long to wait before the first byte of the answer's head.
    pub delay_ms: u64,
    /// More headers for the answer; they replace ordinary ones of the same name.
    pub headers: BTreeMap<String, String>,
    /// What happens in place of the ordinary answer.
    pub fail: Option<ScriptedFailure>,
    /// How a completion streams; other endpoints do not look at it.
    pub stream: StreamScript,
    /// The tool calls that a completion of the web chat writes in place of its answer.
    pub tools: Option<ToolScript>,
    /// What a completion that makes pictures makes.
    pub picture: PictureScript,
    /// What a completion that makes a video makes.
    pub video: VideoScript,
    /// How a completion that researches goes.
    pub research: ResearchScript,
    /// What the right to upload is like, at `sts` and `sts_v1`.
    pub grant: GrantScript,
    /// Where an upload stops, at `oss_put`.
    pub put: Option<PutScript>,
    /// How a file is parsed, at `file_parse`.
    pub parse: ParseScript,
    /// What a device login is like, at `device_code`.
    pub device: DeviceScript,
    /// What tokens are given, at `device_token` and `refresh_token`.
    pub token: TokenScript,
    /// What the answer is like beyond its stream, at `portal_chat` and `key_chat`.
    pub chat: ChatScript,
}

/// What happens in place of the ordinary answer.
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
    /// A good head, then nothing, until the client leaves.
    Silence,
    /// Any bytes.
    Raw(RawScript),
    /// What the OAuth endpoints say; given only to a call that would otherwise have been served.
    #[serde(rename = "oauth")]
    OAuth(OAuthFailure),
    /// What the portal and the endpoint with keys say; given only to a call that would otherwise have been served.
    Api(ApiFailure),
}

impl ScriptedFailure {
    /// Whether this comes from the edge, which looks at nothing of the request.
    pub(crate) fn is_of_the_edge(&self) -> bool {
        !matches!(self, Self::Error(_) | Self::OAuth(_) | Self::Api(_) | Self::Silence)
    }
}

/// An error envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorScript {
    /// `RateLimited`, `Bad_Request`, …
    pub code: String,
    /// The text; left out: the text that goes with the code.
    pub details: Option<String>,
    /// Hours to wait, of `RateLimited`.
    pub num: Option<u64>,
    /// The text with a placeholder, of `RateLimited`.
    pub template: Option<String>,
    /// `x-actual-status-code`; left out: the one that goes with the code.
    pub effective_status: Option<u16>,
    /// Puts `code` and `details` beside `success`, not inside `data`.
    #[serde(default)]
    pub top_level: bool,
}

/// A real HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusScript {
    /// 401, 403, 429, 500, …
    pub code: u16,
    /// `Retry-After` values, one header each; any text.
    #[serde(default)]
    pub retry_after: Vec<String>,
    /// The form of the body.
    #[serde(default)]
    pub body: BodyForm,
    /// The text of the body; left out: a short one that fits the form.
    pub text: Option<String>,
}

/// The form of an error's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyForm {
    /// `{"detail":"…"}`.
    #[default]
    Json,
    /// One line of text.
    Plain,
    /// A small page.
    Html,
    /// No bytes.
    Empty,
}

/// What the risk engine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// JSON with `ret`, or a page.
    pub form: ChallengeForm,
    /// 200, 403 or 405.
    #[serde(default = "ok_status")]
    pub status: u16,
}

/// The form of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeForm {
    /// `{"ret":["FAIL_SYS_USER_VALIDATE",…`.
    Json,
    /// A page with a slider.
    Html,
}

/// Any bytes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawScript {
    /// The HTTP status.
    #[serde(default = "ok_status")]
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// The body.
    pub body: String,
    /// The body is base64 of what is to be sent.
    #[serde(default)]
    pub base64: bool,
}

fn ok_status() -> u16 {
    200
}

impl ScriptedReply {
    /// A stream with this answer.
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

    /// A deep research.
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

    /// An error envelope.
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

    /// An upload of which only so many bytes are read, at `oss_put`.
    #[must_use]
    pub fn put_stopping(after_bytes: u64, how: PutStop) -> Self {
        Self { put: Some(PutScript { after_bytes, how }), ..Self::default() }
    }

    /// The right to upload, good for so long, and a link that is good for so long, at `sts`.
    #[must_use]
    pub fn granting(grant: Duration, link: Duration) -> Self {
        let grant = GrantScript { grant_seconds: grant.as_secs(), link_seconds: link.as_secs() };
        Self { grant, ..Self::default() }
    }

    /// A file that comes to this end in the parser, at `file_parse`.
    #[must_use]
    pub fn parsing(end: ParseEnd) -> Self {
        Self { parse: ParseScript { end, ..ParseScript::default() }, ..Self::default() }
    }

    /// So many pictures, whatever the prompt says.
    #[must_use]
    pub fn pictures(count: usize) -> Self {
        Self::default().with_picture(|picture| picture.count = Some(count))
    }

    /// Pictures written in another way.
    #[must_use]
    pub fn pictures_as(form: PictureForm) -> Self {
        Self::default().with_picture(|picture| picture.form = form)
    }

    /// Text where a picture was asked for.
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

    /// A video that comes to this end.
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

    /// What tokens are given, at `device_token` and `refresh_token`.
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

    /// An error of the portal or of the endpoint with keys.
    #[must_use]
    pub fn api(failure: ApiFailure) -> Self {
        Self::failing(ScriptedFailure::Api(failure))
    }

    /// This reply with changes to what an OpenAI-shaped answer is like.
    #[must_use]
    pub fn with_chat(mut self, describe: impl FnOnce(&mut ChatScript)) -> Self {
        describe(&mut self.chat);
        self
    }

    /// Any failure.
    #[must_use]
    pub fn failing(failure: ScriptedFailure) -> Self {
        Self { fail: Some(failure), ..Self::default() }
    }

    /// This reply, but its head comes later.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay_ms = millis(delay);
        self
    }

    /// This reply with another wait between its packets.
    #[must_use]
    pub fn paced(self, pace: Duration) -> Self {
        self.with_stream(|stream| stream.pace_ms = Some(millis(pace)))
    }

    /// This reply with a longer wait after so many frames.
    #[must_use]
    pub fn pausing(self, after: usize, pause: Duration) -> Self {
        let ms = millis(pause);
        self.with_stream(|stream| stream.pauses.push(Pause { after, ms }))
    }

    /// This reply with rounds of thought.
    #[must_use]
    pub fn reasoning(self, rounds: &[&[(&str, &str)]]) -> Self {
        let own = |(title, thought): &(&str, &str)| ((*title).to_owned(), (*thought).to_owned());
        let rounds = rounds.iter().map(|round| round.iter().map(own).collect()).collect();
        self.with_stream(|stream| stream.reasoning = Some(rounds))
    }

    /// This reply, torn after so many bytes of the body.
    #[must_use]
    pub fn cut_at_byte(self, at_byte: usize, how: CutHow) -> Self {
        self.with_stream(|stream| {
            stream.cut = Some(Cut { at_byte: Some(at_byte), after: None, how });
        })
    }

    /// This reply, torn after so many frames.
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

    /// This reply with something put between its frames.
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

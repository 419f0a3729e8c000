//! One view of an answer, whole or streamed, and the rules that every answer must keep.

use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use simulator::RecordedRequest;
use simulator::Simulator;
use simulator::script::{AccountScript, Endpoint, Era, Scenario};

use crate::support::app::{PATIENCE, TestApp, Transcript, question};

/// Whether an answer is asked for as a whole or as a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Stream,
}

pub(crate) const FORMS: [Form; 2] = [Form::Whole, Form::Stream];

/// An answer, in whichever form it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub content: String,
    pub reasoning: String,
    pub finish: Option<String>,
    /// The error object, from the body or from a frame.
    pub error: Option<Value>,
    pub is_done: bool,
    pub raw: String,
    pub took: Duration,
}

impl Answer {
    /// `code` of the error; empty when there is none.
    pub(crate) fn code(&self) -> &str {
        self.error.as_ref().and_then(|error| error["code"].as_str()).unwrap_or_default()
    }

    /// Status, `type` and `code` of a failure.
    pub(crate) fn failure(&self) -> (u16, &str, &str) {
        let error = self.error.as_ref();
        (self.status, error.and_then(|error| error["type"].as_str()).unwrap_or_default(), self.code())
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `Retry-After` in seconds.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.header("retry-after").map(|text| text.parse().unwrap())
    }

    /// Fails unless the answer is a good one with this text.
    #[track_caller]
    pub(crate) fn must_say(&self, text: &str) {
        assert_eq!((self.status, self.content.as_str()), (200, text), "{}", self.raw);
        assert_eq!(self.finish.as_deref(), Some("stop"), "{}", self.raw);
        assert_eq!(self.error, None);
    }

    /// What holds for every answer: it ends in one way and in one way only.
    #[track_caller]
    fn must_be_sound(&self, form: Form) {
        assert_ne!(self.error.is_some(), self.finish.is_some(), "either an end or an error: {}", self.raw);
        assert_eq!(
            self.is_done,
            form == Form::Stream && self.finish.is_some(),
            "[DONE] goes with an end: {}",
            self.raw
        );
        if let Some(error) = &self.error {
            for part in ["message", "type", "code"] {
                assert!(error[part].is_string(), "{part}: {error}");
            }
            assert!(error.get("param").is_some(), "{error}");
            for word in ["x5sec", "punish", "_____tmd_____", "://"] {
                assert!(!self.raw.contains(word), "{word}: {}", self.raw);
            }
        }
    }
}

/// Asks one user message and reads the answer to its end, whatever it is.
pub(crate) async fn ask(app: &TestApp, form: Form, text: &str) -> Answer {
    send(app, form, question(text)).await
}

/// Sends a chat request and reads the answer to its end, whatever it is.
pub(crate) async fn send(app: &TestApp, form: Form, mut body: Value) -> Answer {
    body["stream"] = json!(form == Form::Stream);
    read(app.post("/v1/chat/completions", &body), form).await
}

/// Sends a request and reads the answer to its end.
pub(crate) async fn read(request: reqwest::RequestBuilder, form: Form) -> Answer {
    let started = Instant::now();
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let raw = response.text().await.unwrap();
    let took = started.elapsed();
    let is_stream = headers.get("content-type").is_some_and(|value| value == "text/event-stream");
    let (content, reasoning, finish, error, is_done);
    if is_stream {
        let transcript = Transcript::parse(&raw);
        let reasons = transcript.finish_reasons();
        assert!(reasons.len() <= 1, "{raw}");
        finish = reasons.first().map(|reason| (*reason).to_owned());
        (content, reasoning) = (transcript.content(), transcript.reasoning());
        (error, is_done) = (transcript.error().cloned(), transcript.is_done);
    } else {
        let body: Value = serde_json::from_str(&raw).unwrap_or_else(|error| panic!("{error}: {raw}"));
        let choice = &body["choices"][0];
        let text = |key: &str| choice["message"][key].as_str().unwrap_or_default().to_owned();
        (content, reasoning) = (text("content"), text("reasoning_content"));
        finish = choice["finish_reason"].as_str().map(str::to_owned);
        (error, is_done) = (body.get("error").cloned(), false);
    }
    let answer = Answer { status, headers, content, reasoning, finish, error, is_done, raw, took };
    answer.must_be_sound(form);
    answer
}

/// The answer oracle: the pieces `⟨attempt:seq⟩` are of one attempt and without a gap, and the answer has an end
/// exactly when the upstream sent one. Returns how many pieces there were.
#[track_caller]
pub(crate) fn judge_numbered(answer: &Answer, pieces: usize) -> usize {
    let mut attempts = Vec::new();
    let mut sequence = Vec::new();
    for piece in answer.content.split_terminator('⟩') {
        let (attempt, number) = piece.strip_prefix('⟨').and_then(|piece| piece.split_once(':')).unwrap_or_else(|| {
            panic!("torn piece {piece:?} in {}", answer.raw);
        });
        attempts.push(attempt);
        sequence.push(number.parse::<usize>().unwrap());
    }
    attempts.dedup();
    assert!(attempts.len() <= 1, "several attempts in one answer: {}", answer.raw);
    assert_eq!(sequence, (0..sequence.len()).collect::<Vec<_>>(), "{}", answer.raw);
    if answer.finish.is_some() {
        assert_eq!(sequence.len(), pieces, "finished without all of it: {}", answer.raw);
    }
    sequence.len()
}

/// So many accounts that are ready at once, named `ada`, `bob`, … in the order of their turns.
pub(crate) fn crew(count: usize) -> Scenario {
    let names = ["ada", "bob", "cem", "dua", "eli", "fay", "gus", "hal"];
    Scenario::with_accounts(names.into_iter().take(count).map(|name| AccountScript::new(name, Era::A)))
}

/// Whose accounts were sent completions, in order.
pub(crate) fn asked_accounts(simulator: &Simulator) -> Vec<String> {
    accounts_of(&simulator.record().requests_to(Endpoint::Completions))
}

/// Whose requests these are.
pub(crate) fn accounts_of(requests: &[RecordedRequest]) -> Vec<String> {
    requests.iter().map(|request| request.account.clone().unwrap_or_default()).collect()
}

/// The chats that completions were sent to, in order.
pub(crate) fn asked_chats(simulator: &Simulator) -> Vec<String> {
    let requests = simulator.record().requests_to(Endpoint::Completions);
    let chat = |request: &RecordedRequest| request.body.as_ref().unwrap()["chat_id"].as_str().unwrap().to_owned();
    requests.iter().map(chat).collect()
}

/// (healthy, degraded, down) of `/health`.
pub(crate) async fn counts(app: &TestApp) -> (u64, u64, u64) {
    let health = health(app).await;
    let pool = &health["identityPool"];
    let count = |name: &str| pool[name].as_u64().unwrap();
    assert_eq!(count("healthy") + count("degraded") + count("down"), count("total"), "{health}");
    (count("healthy"), count("degraded"), count("down"))
}

/// The body of `/health`.
pub(crate) async fn health(app: &TestApp) -> Value {
    let response = app.client.get(app.url("/health")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json_value().await
}

/// Polls `/health` until this is true of it.
pub(crate) async fn until_health(app: &TestApp, is_it: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let body = health(app).await;
        if is_it(&body) {
            return body;
        }
        assert!(Instant::now() < deadline, "never came: {body}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until every account is healthy.
pub(crate) async fn until_all_healthy(app: &TestApp) {
    until_health(app, |body| body["identityPool"]["healthy"] == body["identityPool"]["total"]).await;
}

/// Polls anything until it is true.
pub(crate) async fn until(what: &str, mut is_it: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_it() {
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

trait JsonValue {
    async fn json_value(self) -> Value;
}

impl JsonValue for reqwest::Response {
    async fn json_value(self) -> Value {
        serde_json::from_str(&self.text().await.unwrap()).unwrap()
    }
}
